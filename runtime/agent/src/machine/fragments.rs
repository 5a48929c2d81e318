//! Fragments (SEMANTICS A10.7): the first one of a datagram takes the stages as the whole packet would, and
//! the later ones, which have no ports, follow it. Later ones that come before it are held.
//!
//! Datagrams are bounded in number, bytes and time; the oldest goes for a new one. What overlaps, or is too
//! short to be judged, is dropped with all of its datagram (RFC 1858, RFC 5722).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use super::Agent;
use super::flow_record::plus;
use super::icmp::{Problem, is_icmp_error};
use super::store::FlowRef;
use super::timers::Timer;
use super::translate::{renumber, retarget};
use super::walk::{End, Met, Walk};
use crate::adjust::Adjust;
use crate::counters::Drop;
use crate::entry::{Packet, PacketMeta, packet_in, packet_out};
use crate::flow::{FlowKey, PacketKind, Part, Tuple};
use crate::message::Totals;
use crate::packet::{self, ETHERNET, TYPE_IPV4, View, proto};

/// Datagrams that are followed at once.
const DATAGRAMS: usize = 256;
/// Bytes of all fragments that are held.
const BYTES: usize = 1 << 20;
/// Fragments of one datagram.
const PIECES: usize = 256;
/// How long a datagram is followed, from its first fragment to arrive on.
const HOLD: Duration = Duration::from_secs(5);
/// No IP packet is longer.
const LONGEST: u32 = 65_535;

/// What makes fragments those of one datagram: addresses and identification, of IPv4 also the protocol
/// (RFC 791; RFC 8200, section 4.5), and the port that they come in by, of which rules may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    identification: u32,
    in_port: u16,
}

/// A fragment's place in its datagram, in bytes of the fragmentable part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    from: u32,
    to: u32,
    more: bool,
}

/// What becomes of a datagram.
#[derive(Debug)]
enum Fate {
    /// The first fragment has not come.
    Unknown,
    /// It waits for a manager's answer. It came as this tuple, and waits as that of the walk.
    Asked(Tuple, Box<Walk>),
    /// It has gone on, and how.
    Goes {
        to: Tuple,
        meta: PacketMeta,
    },
    Dropped(Drop),
}

#[derive(Debug)]
struct Datagram {
    key: Key,
    until: Duration,
    pieces: Vec<Piece>,
    fate: Fate,
    /// Later fragments that came before the first one's fate was known.
    held: Vec<Packet>,
    /// Whose statistics they belong to.
    met: Vec<Met>,
}

impl Datagram {
    /// Whether all of its fragments have been here.
    fn is_complete(&self) -> bool {
        let there: u32 = self.pieces.iter().map(|p| p.to - p.from).sum();
        self.pieces.iter().any(|p| !p.more && p.to == there)
    }

    /// Takes note of a piece, if it fits the others.
    fn take(&mut self, piece: Piece) -> Result<(), Drop> {
        if self.pieces.contains(&piece) {
            return Err(Drop::FragmentDuplicate);
        }
        let end = self.pieces.iter().find(|p| !p.more).map(|p| p.to);
        let top = self.pieces.iter().map(|p| p.to).max().unwrap_or(0);
        let overlaps = self
            .pieces
            .iter()
            .any(|p| piece.from < p.to && p.from < piece.to);
        let beyond = match end {
            Some(end) => piece.to > end || !piece.more,
            None => !piece.more && piece.to < top,
        };
        if overlaps || beyond {
            return Err(Drop::FragmentOverlap);
        }
        if self.pieces.len() >= PIECES {
            return Err(Drop::FragmentsFull);
        }
        self.pieces.push(piece);
        Ok(())
    }
}

/// The datagrams that are followed, oldest first.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    list: VecDeque<Datagram>,
    /// Bytes held.
    bytes: usize,
    /// A timer is set.
    timed: bool,
}

impl Fragments {
    fn find(&mut self, key: &Key) -> Option<&mut Datagram> {
        self.list.iter_mut().find(|d| d.key == *key)
    }

    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        self.bytes
    }

    fn at(&self, key: &Key) -> Option<usize> {
        self.list.iter().position(|d| d.key == *key)
    }
}

impl Agent {
    /// A fragment, as it came in.
    pub(super) fn fragment(&mut self, packet: Packet) {
        let Some((view, key, piece)) = parse(&packet) else {
            return self.counters.drop(Drop::Malformed, 1);
        };
        if !self.fragments.list.iter().any(|d| d.key == key) {
            self.follow(key);
        }
        let Some(datagram) = self.fragments.find(&key) else {
            return;
        };
        if let Err(why) = datagram.take(piece) {
            if why != Drop::FragmentDuplicate {
                self.refuse_datagram(&key, why);
            }
            return self.counters.drop(why, 1);
        }
        match &datagram.fate {
            Fate::Dropped(why) => {
                let why = *why;
                if why == Drop::Service {
                    let met = datagram.met.clone();
                    self.count_fragment(&met, packet.bytes.len());
                }
                self.counters.drop(why, 1);
            }
            _ if view.kind == PacketKind::FirstFragment => self.first(packet, &view, key),
            Fate::Unknown | Fate::Asked(..) => return self.hold(packet, &key),
            Fate::Goes { to, meta } => {
                let (to, meta) = (*to, *meta);
                let met = datagram.met.clone();
                self.pass_on(packet, &view, &to, meta, &met);
            }
        }
        self.forget_complete(&key);
    }

    fn first(&mut self, packet: Packet, view: &View, key: Key) {
        if !is_long_enough(view) {
            self.refuse_datagram(&key, Drop::FragmentTiny);
            return self.counters.drop(Drop::FragmentTiny, 1);
        }
        if is_icmp_error(view) {
            // What it quotes is in several pieces: nobody could translate it.
            self.refuse_datagram(&key, Drop::IcmpError);
            return self.counters.drop(Drop::IcmpError, 1);
        }
        let walk = Walk::of_packet(view, key.in_port);
        self.walk_first(packet, view, key, view.tuple, walk);
    }

    /// Leads a first fragment on through the stages; it is as the stages before have left it.
    fn walk_first(
        &mut self,
        mut packet: Packet,
        view: &View,
        key: Key,
        came: Tuple,
        mut walk: Walk,
    ) {
        let bytes = packet.bytes.len();
        let end = self.walk(&mut walk);
        self.count_fragment(&walk.met, bytes);
        for met in &walk.met {
            if let Met::Flow(at, part) = met {
                self.note_flags(*at, *part, view.flags);
            }
        }
        if let Some(datagram) = self.fragments.find(&key) {
            datagram.met.append(&mut walk.met);
        }
        if end == End::Asks {
            let meta = PacketMeta {
                kind: packet_in::FRAGMENT,
                ..walk.meta
            };
            let flow = FlowKey {
                service: meta.stage.wrapping_sub(1),
                part: Part::from_number(meta.part).unwrap_or(Part::Forward),
                tuple: walk.tuple,
                kind: PacketKind::Whole,
            };
            let asks = View {
                tuple: walk.tuple,
                kind: PacketKind::Whole,
                ..*view
            };
            packet = Packet {
                meta,
                bytes: rewritten(&packet, view, &walk.tuple, walk.adjust),
            };
            // What the stages so far have added is in its header now.
            walk.adjust = Adjust::default();
            if let Some(datagram) = self.fragments.find(&key) {
                datagram.fate = Fate::Asked(came, Box::new(walk));
            }
            return self.divert(packet, flow, &asks);
        }
        if walk.meta.notices != 0 {
            let meta = PacketMeta {
                kind: packet_in::NOTICE,
                ..walk.meta
            };
            let bytes = rewritten(&packet, view, &came, Adjust::default());
            self.noticed(&Packet { meta, bytes });
            walk.meta.notices = 0;
        }
        if end == End::Drops {
            self.refuse_datagram(&key, Drop::Service);
            return self.counters.drop(Drop::Service, 1);
        }
        let to = walk.tuple;
        if walk.meta.next_hop == 0 && !self.reaches(to.dst) {
            self.refuse_datagram(&key, Drop::NoRoute);
            self.counters.drop(Drop::NoRoute, 1);
            // It has been through the stages: its sender is to find it as it was before them.
            packet.meta.kind = packet_in::UNRESOLVED;
            packet.bytes = rewritten(&packet, view, &to, walk.adjust);
            return self.tell_sender(Problem::NetUnreachable, &packet);
        }
        let meta = walk.meta;
        packet.bytes = rewritten(&packet, view, &to, walk.adjust);
        self.send_on(packet.bytes, meta);
        self.release_held(&key, to, meta);
    }

    /// A manager has answered for a first fragment, or it takes the floor that lets it pass.
    pub(super) fn fragment_answered(&mut self, packet: Packet) {
        let Some((view, key)) = self.asked_datagram(&packet) else {
            return self.counters.drop(Drop::FragmentTimeout, 1);
        };
        let Some(datagram) = self.fragments.find(&key) else {
            return;
        };
        let Fate::Asked(came, walk) = std::mem::replace(&mut datagram.fate, Fate::Unknown) else {
            return;
        };
        self.counters.resumed += 1;
        self.walk_first(packet, &view, key, came, walk.answered());
        self.forget_complete(&key);
    }

    /// A first fragment will not go on: nor will the rest of its datagram. It is counted by who drops it.
    pub(super) fn fragment_refused(&mut self, packet: &Packet, why: Drop) {
        if packet.meta.kind != packet_in::FRAGMENT {
            return;
        }
        if let Some((_, key)) = self.asked_datagram(packet) {
            self.refuse_datagram(&key, why);
            self.forget_complete(&key);
        }
    }

    /// A first fragment was for the agent itself: so is the rest, and nobody wants it.
    pub(super) fn fragment_local(&mut self, packet: &Packet) {
        self.counters.drop(Drop::Fragment, 1);
        let Some((_, key, piece)) = parse(packet) else {
            return;
        };
        if self.fragments.at(&key).is_none() {
            self.follow(key);
        }
        if let Some(datagram) = self.fragments.find(&key) {
            let _ = datagram.take(piece);
        }
        self.refuse_datagram(&key, Drop::Fragment);
        self.forget_complete(&key);
    }

    /// The datagram whose first fragment a manager was asked about. The stages before may have changed its
    /// addresses, so it is found by what it is now.
    fn asked_datagram(&self, packet: &Packet) -> Option<(View, Key)> {
        let (view, key, _) = parse(packet)?;
        let is_it = |d: &&Datagram| {
            d.key.identification == key.identification
                && d.key.in_port == key.in_port
                && matches!(&d.fate, Fate::Asked(_, walk) if walk.tuple == view.tuple)
        };
        let datagram = self.fragments.list.iter().find(is_it)?;
        Some((view, datagram.key))
    }

    /// Follows another datagram; the oldest makes room for it.
    fn follow(&mut self, key: Key) {
        if self.fragments.list.len() >= DATAGRAMS {
            self.evict();
        }
        let until = self.now + HOLD;
        if !self.fragments.timed {
            self.fragments.timed = true;
            self.timers.at(until, Timer::Fragments);
        }
        self.fragments.list.push_back(Datagram {
            key,
            until,
            pieces: Vec::new(),
            fate: Fate::Unknown,
            held: Vec::new(),
            met: Vec::new(),
        });
        self.counters.datagrams.set(self.fragments.list.len());
    }

    fn evict(&mut self) {
        self.counters.datagrams_evicted += 1;
        self.remove(0, Drop::FragmentsFull);
    }

    /// Lets go of a datagram; what is held of it is dropped.
    fn remove(&mut self, at: usize, why: Drop) {
        let Some(datagram) = self.fragments.list.remove(at) else {
            return;
        };
        let bytes: usize = datagram.held.iter().map(|p| p.bytes.len()).sum();
        self.fragments.bytes -= bytes.min(self.fragments.bytes);
        self.counters.drop(why, datagram.held.len() as u64);
        self.counters.datagrams.set(self.fragments.list.len());
    }

    fn hold(&mut self, packet: Packet, key: &Key) {
        let size = packet.bytes.len();
        while self.fragments.bytes + size > BYTES && self.fragments.list.len() > 1 {
            // Its own datagram may be the oldest, and then it goes with it.
            let own = self.fragments.at(key) == Some(0);
            self.evict();
            if own {
                return self.counters.drop(Drop::FragmentsFull, 1);
            }
        }
        match self.fragments.find(key) {
            Some(datagram) => {
                datagram.held.push(packet);
                self.fragments.bytes += size;
            }
            None => self.counters.drop(Drop::FragmentsFull, 1),
        }
    }

    fn take_held(&mut self, key: &Key) -> Vec<Packet> {
        let held = self
            .fragments
            .find(key)
            .map_or_else(Vec::new, |d| std::mem::take(&mut d.held));
        let bytes: usize = held.iter().map(|p| p.bytes.len()).sum();
        self.fragments.bytes -= bytes.min(self.fragments.bytes);
        held
    }

    /// Drops what is held of a datagram, and all that is still to come.
    fn refuse_datagram(&mut self, key: &Key, why: Drop) {
        let held = self.take_held(key);
        self.counters.drop(why, held.len() as u64);
        let Some(datagram) = self.fragments.find(key) else {
            return;
        };
        datagram.fate = Fate::Dropped(why);
        if why == Drop::Service {
            // What a service drops it counts, fragment by fragment.
            let met = datagram.met.clone();
            for packet in held {
                self.count_fragment(&met, packet.bytes.len());
            }
        }
    }

    /// The first fragment has gone on: those that were held follow it.
    fn release_held(&mut self, key: &Key, to: Tuple, meta: PacketMeta) {
        let held = self.take_held(key);
        let Some(datagram) = self.fragments.find(key) else {
            return;
        };
        datagram.fate = Fate::Goes { to, meta };
        let met = datagram.met.clone();
        for packet in held {
            if let Some(view) = packet::view(&packet.bytes) {
                self.pass_on(packet, &view, &to, meta, &met);
            }
        }
    }

    /// Sends a later fragment, which has no transport header, on with its datagram's tuple.
    fn pass_on(&mut self, packet: Packet, view: &View, to: &Tuple, meta: PacketMeta, met: &[Met]) {
        self.count_fragment(met, packet.bytes.len());
        self.send_on(rewritten(&packet, view, to, Adjust::default()), meta);
    }

    fn send_on(&mut self, bytes: bytes::Bytes, meta: PacketMeta) {
        self.counters.fragments += 1;
        let meta = PacketMeta {
            kind: packet_out::ROUTE,
            ..meta
        };
        self.packet_out(Packet { meta, bytes });
    }

    /// The switch counts nothing that goes past its stages: the agent does (A1.2).
    fn count_fragment(&mut self, met: &[Met], bytes: usize) {
        let more = Totals {
            packets: 1,
            bytes: bytes as u64,
        };
        for met in met {
            match met {
                Met::Criterion(id) => self.tally_fragment(*id, more),
                Met::Flow(at, part) => self.count_into(*at, *part, more),
            }
        }
    }

    fn count_into(&mut self, at: FlowRef, part: Part, more: Totals) {
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        let criterion = flow.criterion;
        if let Some(d) = flow.direction_mut(part).filter(|d| d.slot != 0) {
            d.offset = plus(d.offset, more);
            self.tally_fixed(criterion, more);
        }
    }

    fn forget_complete(&mut self, key: &Key) {
        let done = |d: &Datagram| {
            d.is_complete() && matches!(d.fate, Fate::Goes { .. } | Fate::Dropped(_))
        };
        if let Some(at) = self.fragments.at(key)
            && self.fragments.list.get(at).is_some_and(done)
        {
            self.remove(at, Drop::FragmentTimeout);
        }
    }

    /// Time is over for datagrams that are still not complete.
    pub(super) fn fragments_due(&mut self) {
        self.fragments.timed = false;
        while let Some(oldest) = self.fragments.list.front() {
            if oldest.until > self.now {
                self.fragments.timed = true;
                return self.timers.at(oldest.until, Timer::Fragments);
            }
            self.remove(0, Drop::FragmentTimeout);
        }
    }

    /// The switch is gone.
    pub(super) fn drop_fragments(&mut self) {
        while !self.fragments.list.is_empty() {
            self.remove(0, Drop::NoSwitch);
        }
    }
}

/// The packet with the tuple in its headers and its numbers adjusted; its link-layer padding goes.
fn rewritten(packet: &Packet, view: &View, to: &Tuple, by: Adjust) -> bytes::Bytes {
    let mut frame = packet.bytes.to_vec();
    frame.truncate(view.end);
    retarget(&mut frame, ETHERNET, view, to);
    renumber(&mut frame, view, by);
    frame.into()
}

/// A fragment's datagram and its place in it; `None` for what is none, or makes no sense.
fn parse(packet: &Packet) -> Option<(View, Key, Piece)> {
    let frame = &packet.bytes;
    let view = packet::view(frame)?;
    if view.end > frame.len() {
        return None;
    }
    let v4 = packet::ether_type(frame)? == TYPE_IPV4;
    let (word, identification, data) = if v4 {
        let word = packet::u16_at(frame, ETHERNET + 6)?;
        let from = u32::from(word & 0x1fff) * 8;
        let header = usize::from(packet::u8_at(frame, ETHERNET)? & 0x0f) * 4;
        (
            (from, word & 0x2000 != 0),
            u32::from(packet::u16_at(frame, ETHERNET + 4)?),
            ETHERNET + header,
        )
    } else {
        let at = view.fragment_header;
        if at == 0 {
            return None;
        }
        let word = packet::u16_at(frame, at + 2)?;
        (
            (u32::from(word & 0xfff8), word & 1 != 0),
            packet::u32_at(frame, at + 4)?,
            at + 8,
        )
    };
    let (from, more) = word;
    let kind = match (from, more) {
        (0, false) => PacketKind::Whole,
        (0, true) => PacketKind::FirstFragment,
        _ => PacketKind::LaterFragment,
    };
    let length = u32::try_from(view.end.checked_sub(data)?).ok()?;
    let to = from + length;
    // All but the last are whole units of eight bytes (RFC 791; RFC 8200, section 4.5).
    let sane = kind == view.kind
        && kind != PacketKind::Whole
        && length > 0
        && to <= LONGEST
        && (!more || length % 8 == 0);
    let key = Key {
        src: view.tuple.src,
        dst: view.tuple.dst,
        proto: if v4 { view.tuple.proto } else { 0 },
        identification,
        in_port: packet.meta.port,
    };
    sane.then_some((view, key, Piece { from, to, more }))
}

/// Whether a first fragment holds all that the stages look at (RFC 1858, RFC 7112).
fn is_long_enough(view: &View) -> bool {
    let needed = match view.tuple.proto {
        proto::TCP => 20,
        proto::UDP | proto::ICMP | proto::ICMPV6 => 8,
        _ => 0,
    };
    view.l4 + needed <= view.end
}
