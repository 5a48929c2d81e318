//! A leg's sending half: acknowledgements, retransmission, probes of a closed window, congestion control.

use super::*;

/// Time-outs in a row after which the peer counts as gone: about five minutes (RFC 9293, section 3.8.3, R2).
const RETRIES: u32 = 10;

impl Leg {
    /// Takes in the acknowledgement and the window of an acceptable segment.
    pub(super) fn acknowledged(&mut self, now: Duration, s: &Segment) {
        let window = u32::from(s.window) << self.peer_shift;
        self.retries = 0;
        let is_new = before(self.una, s.ack);
        if is_new {
            self.advance(now, s.ack);
        } else if s.ack == self.una
            && s.length() == 0
            && window == self.window
            && window > 0
            && self.una != self.nxt
        {
            self.duplicate();
        }
        // An older segment must not bring an older window back (section 3.10.7.4).
        let (wl1, wl2) = self.wl;
        if upto(self.una, s.ack) && (before(wl1, s.seq) || (wl1 == s.seq && upto(wl2, s.ack))) {
            if self.window == 0 && window > 0 && !is_new {
                // What probed the closed window is sent again.
                self.nxt = self.una;
                self.timer = None;
            }
            self.window = window;
            self.widest = self.widest.max(window);
            self.wl = (s.seq, s.ack);
        }
    }

    fn advance(&mut self, now: Duration, ack: u32) {
        let newly = ack.wrapping_sub(self.una);
        let data = (newly as usize).min(self.buffer.len());
        self.buffer.drain(..data);
        self.una = ack;
        self.nxt = later(self.nxt, ack);
        if let Some((seq, at)) = self.timed
            && upto(seq, ack)
        {
            self.rtt.measured(now.saturating_sub(at));
            self.timed = None;
        }
        match self.recover {
            Some(recover) if before(ack, recover) => {
                // A partial acknowledgement: the next one is missing, too (RFC 6582, section 3.2).
                self.nxt = self.una;
                self.cwnd = self.cwnd.saturating_sub(newly).saturating_add(self.mss);
            }
            Some(_) => {
                self.recover = None;
                self.cwnd = self.ssthresh;
            }
            // RFC 5681, section 3.1.
            None if self.cwnd < self.ssthresh => self.cwnd += newly.min(self.mss),
            None => self.cwnd += (self.mss * self.mss / self.cwnd.max(1)).max(1),
        }
        self.cwnd = self.cwnd.clamp(self.mss, 1 << 24);
        self.dups = 0;
        self.timer = (self.una != self.nxt).then(|| now + self.rtt.timeout());
    }

    /// RFC 5681, section 3.2.
    fn duplicate(&mut self) {
        self.dups += 1;
        if self.dups == 3 && self.recover.is_none() {
            self.ssthresh = self.half_flight();
            self.cwnd = self.mss;
            self.recover = Some(self.high);
            self.timed = None;
            self.nxt = self.una;
        }
    }

    fn half_flight(&self) -> u32 {
        (self.high.wrapping_sub(self.una) / 2).max(2 * self.mss)
    }

    /// Whether a FIN is still to be sent.
    pub(super) fn owes_fin(&self) -> bool {
        // After it `nxt` is one beyond the buffer.
        self.fin
            && self.nxt.wrapping_sub(self.una) as usize <= self.buffer.len()
            && !self.fin_acknowledged()
    }

    fn fin_acknowledged(&self) -> bool {
        self.fin
            && self.buffer.is_empty()
            && self.fin_number.is_some_and(|fin| before(fin, self.una))
    }

    /// Sends what the peer's window and the network take now; acknowledgements offer `room` bytes.
    pub fn speak(&mut self, now: Duration, room: u32, out: &mut Vec<Words>) {
        loop {
            let flight = self.nxt.wrapping_sub(self.una);
            let left = self.unsent();
            if left == 0 && !self.owes_fin() {
                break;
            }
            let open = self.window.min(self.cwnd).saturating_sub(flight);
            let n = left.min(self.mss).min(open);
            // Short of a segment, of all there is, and of half the window, it waits (section 3.8.6.2.1).
            let worth = n == self.mss || n == left || n >= (self.widest / 2).max(1);
            if (n == 0 && left > 0) || !worth {
                break;
            }
            self.send(now, n, room, out);
        }
        let waits = self.una != self.nxt || self.unsent() > 0 || self.owes_fin();
        if waits {
            // With nothing under way it is the window that is waited for (section 3.8.6.1).
            self.timer.get_or_insert(now + self.rtt.timeout());
        } else {
            self.timer = None;
        }
    }

    fn unsent(&self) -> u32 {
        let sent = (self.nxt.wrapping_sub(self.una) as usize).min(self.buffer.len());
        u32::try_from(self.buffer.len() - sent).unwrap_or(u32::MAX)
    }

    /// Sends the next `n` bytes, with the FIN if it comes next.
    fn send(&mut self, now: Duration, n: u32, room: u32, out: &mut Vec<Words>) {
        let from = self.nxt.wrapping_sub(self.una) as usize;
        let to = from + n as usize;
        let payload: Bytes = self
            .buffer
            .range(from..to.min(self.buffer.len()))
            .copied()
            .collect();
        let last = to >= self.buffer.len();
        let mut flags = ACK;
        if n > 0 && last {
            flags |= PSH;
        }
        let mut next = self.nxt.wrapping_add(n);
        if last && self.fin {
            flags |= FIN;
            self.fin_number = Some(next);
            next = next.wrapping_add(1);
        }
        out.push(Words {
            seq: self.nxt,
            flags,
            payload,
            ..self.ack(room)
        });
        if self.timed.is_none() && !before(next, self.high) && self.nxt == self.high {
            self.timed = Some((next, now));
        }
        self.nxt = next;
        self.high = later(self.high, next);
    }

    /// What is due is sent again (RFC 6298, section 5.4). False if the peer counts as gone.
    pub fn timeout(&mut self, now: Duration, room: u32, out: &mut Vec<Words>) -> bool {
        if self.timer.is_none_or(|at| at > now) {
            return true;
        }
        self.retries += 1;
        if self.retries > RETRIES {
            return false;
        }
        if self.una != self.nxt && self.window > 0 {
            self.ssthresh = self.half_flight();
            self.cwnd = self.mss;
        }
        self.recover = None;
        self.dups = 0;
        self.timed = None;
        self.nxt = self.una;
        self.rtt.backed_off();
        // A closed window is probed with one byte.
        let n = self.unsent().min(self.mss).min(self.window.max(1));
        if n > 0 || self.owes_fin() {
            self.send(now, n, room, out);
            self.timed = None;
        }
        self.timer = (self.una != self.nxt).then(|| now + self.rtt.timeout());
        true
    }
}

impl Leg {
    /// The SYN that opens this leg, for the first time or again, with a window that is not scaled.
    pub fn syn(&mut self, now: Duration, window: u32) -> Words {
        if self.timer.is_some() {
            self.rtt.backed_off();
        } else {
            self.timed = Some((self.una.wrapping_add(1), now));
        }
        if self.high != self.una {
            // Sent twice: which one is answered nobody can tell.
            self.timed = None;
        }
        self.high = self.una.wrapping_add(1);
        self.nxt = self.high;
        self.timer = Some(now + self.rtt.timeout());
        Words {
            seq: self.una,
            ack: 0,
            flags: SYN,
            window,
            payload: Bytes::new(),
        }
    }

    /// The SYN is acknowledged.
    pub fn syn_acknowledged(&mut self, now: Duration) {
        if let Some((_, at)) = self.timed.take() {
            self.rtt.measured(now.saturating_sub(at));
        }
        self.una = self.high;
        self.nxt = self.high;
        self.timer = None;
    }
}
