//! One of the two TCP connections that a gate stands between: the sequence checks, the retransmission and the
//! flow control of one end (RFC 9293), with congestion control (RFC 5681). It knows its peer's numbers and
//! nothing of the other leg, nor of packets.
//!
//! What it receives in order goes straight into the other leg's buffer, so that its window is what is free
//! there. It may be told to take nothing new: then it acknowledges nothing that it has not acknowledged before.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use signalbox_manager::segment::{ACK, FIN, PSH, RST, SYN, Segment};

use crate::rtt::Rtt;
use crate::seq::{before, later, upto};

mod send;

/// Pieces that are kept though something before them is missing.
const ISLANDS: usize = 64;
/// From one answer to what is out of place to the next.
const CHALLENGE: Duration = Duration::from_millis(500);

/// What a segment says, in this leg's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// The window, in bytes.
    pub window: u32,
    /// Payload.
    pub payload: Bytes,
}

/// What of a segment's content is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// Nothing that is new.
    Nothing,
    /// Data, but no FIN.
    Data,
    /// Everything.
    All,
}

/// What a segment was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It ends the connection.
    Reset,
    /// It is answered with an acknowledgement and means nothing else.
    Answer,
    /// It acknowledges what this leg has never sent.
    Beyond,
    /// It means nothing.
    Nothing,
    /// It belongs to the connection.
    Fine {
        /// Something new in it was not taken.
        left: bool,
        /// It is to be acknowledged.
        answer: bool,
    },
}

/// One leg's state; RFC 9293, section 3.3.1, has the names of its variables.
#[derive(Debug)]
pub struct Leg {
    /// SND.UNA.
    una: u32,
    /// SND.NXT; after a time-out it goes back to `una`.
    nxt: u32,
    /// One past the highest number that was ever sent.
    high: u32,
    /// SND.WND, in bytes, and the greatest that there was.
    window: u32,
    widest: u32,
    /// SND.WL1 and SND.WL2.
    wl: (u32, u32),
    /// The peer's windows are shifted so far.
    peer_shift: u8,
    mss: u32,
    /// From `una` on.
    buffer: VecDeque<u8>,
    /// A FIN follows the buffer, or has.
    fin: bool,
    /// Its number, once it has been sent.
    fin_number: Option<u32>,
    /// RCV.NXT.
    rcv: u32,
    /// Up to where the peer has been told that it may send.
    edge: u32,
    islands: Vec<(u32, Bytes)>,
    island_fin: Option<u32>,
    /// The peer's FIN has been taken.
    fin_taken: bool,
    rtt: Rtt,
    /// The number whose acknowledgement is timed, and since when.
    timed: Option<(u32, Duration)>,
    timer: Option<Duration>,
    retries: u32,
    cwnd: u32,
    ssthresh: u32,
    dups: u32,
    /// In fast recovery, up to here.
    recover: Option<u32>,
    /// When something out of place was last answered.
    challenged: Option<Duration>,
}

impl Leg {
    /// A leg whose next numbers, to send and to receive, are these.
    #[must_use]
    pub fn new(nxt: u32, rcv: u32, mss: u16) -> Self {
        let mut leg = Self {
            una: nxt,
            nxt,
            high: nxt,
            window: 0,
            widest: 0,
            wl: (rcv.wrapping_sub(1), nxt),
            peer_shift: 0,
            mss: 0,
            buffer: VecDeque::new(),
            fin: false,
            fin_number: None,
            rcv,
            edge: rcv,
            islands: Vec::new(),
            island_fin: None,
            fin_taken: false,
            rtt: Rtt::default(),
            timed: None,
            timer: None,
            retries: 0,
            cwnd: 0,
            ssthresh: u32::MAX,
            dups: 0,
            recover: None,
            challenged: None,
        };
        leg.set_mss(mss);
        leg
    }

    /// Segments to the peer carry at most so much from now on.
    pub fn set_mss(&mut self, mss: u16) {
        self.mss = u32::from(mss).max(1);
        // RFC 6928, section 2.
        self.cwnd = (10 * self.mss).min((2 * self.mss).max(14_600));
    }

    /// The peer's answer to our SYN: its next number, its window, how far it shifts those that follow.
    pub fn opened(&mut self, rcv: u32, window: u32, shift: u8) {
        self.rcv = rcv;
        self.edge = rcv;
        self.peer_shift = shift;
        self.window = window;
        self.widest = window;
        self.wl = (rcv.wrapping_sub(1), self.una);
    }

    /// The peer's windows are shifted so far.
    pub fn set_shift(&mut self, shift: u8) {
        self.peer_shift = shift;
    }

    /// What is still to be acknowledged, or to be sent.
    pub fn buffer_mut(&mut self) -> &mut VecDeque<u8> {
        &mut self.buffer
    }

    /// Bytes that are not acknowledged, or not sent yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// SND.UNA.
    #[must_use]
    pub fn una(&self) -> u32 {
        self.una
    }

    /// RCV.NXT.
    #[must_use]
    pub fn rcv(&self) -> u32 {
        self.rcv
    }

    /// The peer's window, in bytes.
    #[must_use]
    pub fn window(&self) -> u32 {
        self.window
    }

    /// Everything that was given to this leg is acknowledged.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.una == self.high && self.buffer.is_empty()
    }

    /// The peer has sent its FIN, and it was taken.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.fin_taken
    }

    /// Our FIN follows what is in the buffer.
    pub fn finish(&mut self) {
        self.fin = true;
    }

    /// Our FIN is acknowledged, and the peer's is taken.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.fin
            && self.fin_taken
            && self.una == self.high
            && self.buffer.is_empty()
            && !self.owes_fin()
    }

    /// When something is to be sent again.
    #[must_use]
    pub fn timer(&self) -> Option<Duration> {
        self.timer
    }

    /// An acknowledgement that offers a window of `room` bytes.
    pub fn ack(&mut self, room: u32) -> Words {
        self.edge = later(self.edge, self.rcv.wrapping_add(room));
        Words {
            seq: self.nxt,
            ack: self.rcv,
            flags: ACK,
            window: room,
            payload: Bytes::new(),
        }
    }

    /// A question whether the peer is there: it answers a number that it has acknowledged (section 3.8.4).
    #[must_use]
    pub fn probe(&mut self, room: u32) -> Words {
        let ack = self.ack(room);
        Words {
            seq: self.una.wrapping_sub(1),
            ..ack
        }
    }

    /// A RST as the peer expects it, as far as is known (section 3.5.2).
    #[must_use]
    pub fn reset(&self) -> Words {
        Words {
            seq: self.nxt,
            ack: self.rcv,
            flags: RST | ACK,
            window: 0,
            payload: Bytes::new(),
        }
    }

    /// Whether so much more may be received than the peer has been told that it is to be told now: half the
    /// buffer or two segments (section 3.8.6.2.2).
    #[must_use]
    pub fn should_open(&self, room: u32, buffer: u32) -> bool {
        let more = self.rcv.wrapping_add(room).wrapping_sub(self.edge);
        let worth = (buffer / 2).min(2 * self.mss).max(1);
        more < 1 << 31 && more >= worth && !self.fin_taken
    }

    /// Takes in a segment of a connection that is open (section 3.10.7.4). `room` is how many bytes may be
    /// received; they go into `sink`.
    pub fn hear(
        &mut self,
        now: Duration,
        s: &Segment,
        room: u32,
        taking: Taking,
        sink: &mut VecDeque<u8>,
    ) -> Heard {
        // What has been offered stays so, also while nothing new is taken.
        let offered = self.edge.wrapping_sub(self.rcv);
        let window = room.max(if offered < 1 << 31 { offered } else { 0 });
        // First, the sequence number.
        if !self.is_acceptable(s, window) {
            return if s.flags & RST != 0 {
                Heard::Nothing
            } else {
                self.challenge(now, s)
            };
        }
        // Second, the RST bit: only one with the very next number counts (RFC 5961, section 3.2).
        if s.flags & RST != 0 {
            return if s.seq == self.rcv {
                Heard::Reset
            } else {
                self.challenge(now, s)
            };
        }
        // Fourth, a SYN: its sender shows whether it means it (RFC 5961, section 4.2).
        if s.flags & SYN != 0 {
            return self.challenge(now, s);
        }
        // Fifth, the acknowledgement.
        if s.flags & ACK == 0 {
            return Heard::Nothing;
        }
        if before(self.high, s.ack) {
            return Heard::Beyond;
        }
        // One that is older than any window was (RFC 5961, section 5.2).
        if before(s.ack, self.una.wrapping_sub(self.widest.max(1 << 16))) {
            return self.challenge(now, s);
        }
        self.acknowledged(now, s);
        // Seventh and eighth, the payload and the FIN.
        self.take(s, room, taking, sink)
    }

    /// An acknowledgement tells where we are. What carries no data gets one twice a second at most, so that two
    /// ends which misunderstand each other do not go on for ever (RFC 5961, section 7).
    fn challenge(&mut self, now: Duration, s: &Segment) -> Heard {
        if s.length() > 0 || self.challenged.is_none_or(|at| now >= at + CHALLENGE) {
            self.challenged = Some(now);
            return Heard::Answer;
        }
        Heard::Nothing
    }

    fn is_acceptable(&self, s: &Segment, window: u32) -> bool {
        let end = self.rcv.wrapping_add(window);
        let within = |seq| upto(self.rcv, seq) && before(seq, end);
        match (s.length(), window) {
            // An acknowledgement may stand at the very end of the window: its sender has filled it.
            (0, _) => within(s.seq) || s.seq == end,
            // What no window has room for may still acknowledge, or reset.
            (_, 0) => s.seq == self.rcv,
            (length, _) => within(s.seq) || within(s.seq.wrapping_add(length - 1)),
        }
    }

    fn take(&mut self, s: &Segment, room: u32, taking: Taking, sink: &mut VecDeque<u8>) -> Heard {
        let fine = |left, answer| Heard::Fine { left, answer };
        let length = s.length();
        if length == 0 {
            return fine(false, false);
        }
        let end = s.seq.wrapping_add(length);
        if upto(end, self.rcv) || self.fin_taken {
            // All of it is known: our acknowledgement was lost.
            return fine(false, true);
        }
        if taking == Taking::Nothing {
            return fine(true, false);
        }
        let start = self.rcv;
        // What was offered once is taken, also where a window as its scale can say it has gone back since (RFC
        // 7323, section 2.4).
        let limit = later(self.rcv.wrapping_add(room), self.edge);
        let data_end = s
            .seq
            .wrapping_add(u32::try_from(s.payload.len()).unwrap_or(u32::MAX));
        let has_fin = s.flags & FIN != 0;
        if has_fin && taking == Taking::All && upto(data_end, limit) {
            self.island_fin = Some(data_end);
        }
        self.land(s.seq, &s.payload, limit);
        self.join(sink);
        if self.island_fin == Some(self.rcv) {
            self.rcv = self.rcv.wrapping_add(1);
            self.fin_taken = true;
            self.islands.clear();
        }
        // Out of order is answered at once (RFC 5681, section 4.2), and so is everything else: the peer is near.
        let left = has_fin && taking == Taking::Data;
        fine(left, self.rcv != start || !s.payload.is_empty())
    }

    /// Keeps a piece, cut to what may be received and is not there.
    fn land(&mut self, seq: u32, payload: &Bytes, limit: u32) {
        let skip = if before(seq, self.rcv) {
            self.rcv.wrapping_sub(seq) as usize
        } else {
            0
        };
        let seq = later(seq, self.rcv);
        let most = if before(seq, limit) {
            limit.wrapping_sub(seq) as usize
        } else {
            0
        };
        let piece = payload.slice(skip.min(payload.len())..);
        let piece = piece.slice(..piece.len().min(most));
        if piece.is_empty() {
            return;
        }
        let at = self.islands.partition_point(|(s, _)| before(*s, seq));
        let known =
            (self.islands.get(at)).is_some_and(|(s, p)| *s == seq && p.len() >= piece.len());
        if known || (self.islands.len() >= ISLANDS && seq != self.rcv) {
            return;
        }
        self.islands.insert(at, (seq, piece));
    }

    /// Passes on what has no gap before it any more.
    fn join(&mut self, sink: &mut VecDeque<u8>) {
        while let Some((seq, piece)) = self.islands.first()
            && upto(*seq, self.rcv)
        {
            let skip = self.rcv.wrapping_sub(*seq) as usize;
            if let Some(new) = piece.get(skip..) {
                sink.extend(new);
                self.rcv = self.rcv.wrapping_add(u32::try_from(new.len()).unwrap_or(0));
            }
            self.islands.remove(0);
        }
    }

    /// Forgets what has come out of order: nobody was told that it has.
    pub fn forget_islands(&mut self) {
        self.islands = Vec::new();
        self.island_fin = None;
    }
}

#[cfg(test)]
mod tests;
