//! What the agent keeps of a flow. A million of them must fit: what many flows have alike is shared, what
//! only a flow on its way in or out needs is beside it, and a direction's new tuple is its partner's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::shares::Share;
use super::store::FlowRef;
use crate::adjust::Adjust;
use crate::entry::{Entry, FixedAction, FixedEntry, Packet};
use crate::flow::{FlowKey, PacketKind, Part, Tuple};
use crate::message::{InterestMask, Leases, ReportCause, Statistics, Subject, Totals};
use crate::packet::proto;

/// Where a flow is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its entry of this direction is being written, or waits for its next hop.
    Installing(Part),
    /// Its entries are in.
    Live,
    /// Its entries are being deleted; so many deletions are not acknowledged.
    Ending { cause: ReportCause, pending: u8 },
    /// Its entries are gone; the last packets leave the pipeline.
    Draining { cause: ReportCause },
}

/// How far a connection has come, as far as the agent can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// The other side has not answered.
    HalfOpen,
    /// It has, or the flow has only one direction.
    Established,
    /// Both FINs or a RST were seen; of a flow with one direction its own FIN.
    Closed,
}

/// A time of the agent's clock, in nanoseconds: half as long as a [`Duration`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl From<Duration> for Moment {
    fn from(d: Duration) -> Self {
        Self(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Moment> for Duration {
    fn from(m: Moment) -> Self {
        Self::from_nanos(m.0)
    }
}

/// Whatever a manager needs to rebuild a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cookie {
    /// Its length, and so many bytes.
    Short(u8, [u8; SHORT]),
    /// More than fit.
    Long(Box<[u8]>),
}

const SHORT: usize = 22;

impl From<&[u8]> for Cookie {
    fn from(bytes: &[u8]) -> Self {
        let mut short = [0; SHORT];
        match (short.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(bytes);
                Self::Short(length, short)
            }
            _ => Self::Long(bytes.into()),
        }
    }
}

impl Cookie {
    pub fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(match self {
            Self::Short(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        })
    }
}

/// What the flows of one manager have alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub manager: Arc<str>,
    /// The epoch under which that manager decided; 0 for flows that were found on the switch.
    pub epoch: u64,
    pub leases: Leases,
    pub track_close: bool,
    pub statistics: Statistics,
    /// The agent must know at once when the other side answers: half-open flows are limited.
    pub watch_answer: bool,
}

/// What a direction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    Forward,
    Discard,
    Dispatch {
        next_hop: u16,
        tunnel: u16,
    },
    /// The new tuple is that of the other direction, turned round.
    AsPartner,
    Translate(Box<Tuple>),
    Adjust(Adjust),
}

/// One direction of a flow.
#[derive(Debug, Clone)]
pub(crate) struct Direction {
    pub tuple: Tuple,
    pub act: Act,
    /// What the slot held when it was last read.
    pub holds: Totals,
    /// Running totals less `holds`, modulo 2^64: a slot is not empty when it is given out, and what was
    /// counted on a switch that has started afresh since is in it no more.
    pub offset: Totals,
    /// 0 for none.
    pub slot: u32,
    /// Packets that the agent resumed into this entry.
    pub resumed: u32,
    /// Packets at the last look for activity, modulo 2^32.
    pub watched: u32,
    pub interest: InterestMask,
    pub kind: PacketKind,
    /// A FIN has passed.
    pub fin: bool,
    /// TCP flags of its packets that the agent has seen.
    pub tcp_flags: u8,
}

impl Direction {
    /// A direction that has counted nothing yet, on a cell that holds that much.
    pub fn new(
        tuple: Tuple,
        kind: PacketKind,
        act: Act,
        interest: InterestMask,
        (slot, holds): (u32, Totals),
    ) -> Self {
        Self {
            tuple,
            act,
            holds,
            offset: minus(Totals::default(), holds),
            slot,
            resumed: 0,
            watched: 0,
            interest,
            kind,
            fin: false,
            tcp_flags: 0,
        }
    }

    /// Running totals as last read, less so many bytes for each packet that the agent resumed.
    pub fn totals(&self, header: u64) -> Totals {
        let sum = plus(self.holds, self.offset);
        // A cell that holds less than it did counts as empty rather than as full.
        let sound = |n: u64| if n > u64::MAX / 2 { 0 } else { n };
        Totals {
            packets: sound(sum.packets),
            bytes: sound(sum.bytes).saturating_sub(u64::from(self.resumed) * header),
        }
    }

    /// The switch has started afresh: the totals go on from where they were.
    pub fn rebase(&mut self, holds: Totals, header: u64) {
        if holds.packets < self.holds.packets {
            self.offset = self.totals(header);
            self.resumed = 0;
        }
        self.holds = holds;
    }

    /// Whether more packets have passed than at the last look; looks.
    pub fn has_moved(&mut self) -> bool {
        let now = self.packets_modulo();
        let moved = now.wrapping_sub(self.watched).cast_signed() > 0;
        if moved {
            self.watched = now;
        }
        moved
    }

    /// Takes what was counted so far for looked at.
    pub fn look(&mut self) {
        self.watched = self.packets_modulo();
    }

    #[allow(clippy::cast_possible_truncation, reason = "modulo 2^32 is meant")]
    fn packets_modulo(&self) -> u32 {
        self.totals(0).packets as u32
    }
}

/// The sum, modulo 2^64.
pub(crate) fn plus(a: Totals, b: Totals) -> Totals {
    Totals {
        packets: a.packets.wrapping_add(b.packets),
        bytes: a.bytes.wrapping_add(b.bytes),
    }
}

/// The difference, modulo 2^64.
pub(crate) fn minus(a: Totals, b: Totals) -> Totals {
    Totals {
        packets: a.packets.wrapping_sub(b.packets),
        bytes: a.bytes.wrapping_sub(b.bytes),
    }
}

/// What only a flow on its way in or out needs.
#[derive(Debug, Default)]
pub(crate) struct Transit {
    /// Packets that wait for its entries.
    pub held: Vec<Packet>,
    /// What installs it, named in a denial; `None` if it was found on the switch.
    pub subject: Option<Subject>,
    /// Other flows came in the same request: they go if the switch refuses this one.
    pub batch: Option<u64>,
    /// The switch has refused it, or one of its request: its manager knows, and hears no more of it.
    pub refused: bool,
    /// Attempts in vain to delete its entries or to read its cells for the last time.
    pub retries: u8,
    /// The deletion that it answers, 0 if none.
    pub request: u64,
}

/// A flow.
#[derive(Debug)]
pub(crate) struct Flow {
    pub number: u64,
    pub terms: Arc<Terms>,
    pub forward: Option<Box<Direction>>,
    pub reply: Option<Box<Direction>>,
    pub cookie: Cookie,
    pub transit: Option<Box<Transit>>,
    pub created: Moment,
    /// The latest time at which it may have been active.
    pub active: Moment,
    /// When it is looked at next.
    pub look: Moment,
    /// When its next periodic report is due.
    pub report: Moment,
    /// The share of the service under which it was decided.
    pub share: u32,
    /// The entry id of the counted criterion under which it was made, 0 for none.
    pub criterion: u32,
    pub report_sequence: u32,
    pub service: u8,
    pub phase: Phase,
    pub progress: Progress,
    /// The direction of its first packet.
    pub opener: Part,
    /// A look is under way.
    pub looking: bool,
    /// A RST has closed it.
    pub reset: bool,
    /// Its source's half-open flows are counted together with others'.
    pub in_rest: bool,
}

impl Flow {
    pub fn share(&self) -> Share {
        Share {
            service: self.service,
            number: self.share,
        }
    }

    pub fn direction(&self, part: Part) -> Option<&Direction> {
        match part {
            Part::Forward => self.forward.as_deref(),
            Part::Reply => self.reply.as_deref(),
        }
    }

    pub fn direction_mut(&mut self, part: Part) -> Option<&mut Direction> {
        match part {
            Part::Forward => self.forward.as_deref_mut(),
            Part::Reply => self.reply.as_deref_mut(),
        }
    }

    /// Its directions, forward first.
    pub fn directions(&self) -> impl Iterator<Item = &Direction> {
        self.forward
            .as_deref()
            .into_iter()
            .chain(self.reply.as_deref())
    }

    /// The same, to change.
    pub fn directions_mut(&mut self) -> impl Iterator<Item = &mut Direction> {
        (self.forward.as_deref_mut().into_iter()).chain(self.reply.as_deref_mut())
    }

    /// The parts that it has an entry in, forward first.
    pub fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        let forward = self.forward.is_some().then_some(Part::Forward);
        forward
            .into_iter()
            .chain(self.reply.is_some().then_some(Part::Reply))
    }

    pub fn transit_mut(&mut self) -> &mut Transit {
        self.transit.get_or_insert_default()
    }

    /// Takes the packets that wait for its entries.
    pub fn take_held(&mut self) -> Vec<Packet> {
        (self.transit.as_mut()).map_or_else(Vec::new, |t| std::mem::take(&mut t.held))
    }

    pub fn is_refused(&self) -> bool {
        self.transit.as_ref().is_some_and(|t| t.refused)
    }

    pub fn key(&self, part: Part) -> Option<FlowKey> {
        self.direction(part).map(|d| FlowKey {
            service: self.service,
            part,
            tuple: d.tuple,
            kind: d.kind,
        })
    }

    /// What a direction does, as the switch knows it.
    pub fn action(&self, part: Part) -> Option<FixedAction> {
        Some(match &self.direction(part)?.act {
            Act::Forward => FixedAction::Forward,
            Act::Discard => FixedAction::Discard,
            Act::Dispatch { next_hop, tunnel } => FixedAction::Dispatch {
                next_hop: *next_hop,
                tunnel: *tunnel,
            },
            Act::Translate(to) => FixedAction::Translate(**to),
            Act::Adjust(by) => FixedAction::Adjust(*by),
            Act::AsPartner => {
                FixedAction::Translate(self.direction(part.other())?.tuple.reversed())
            }
        })
    }

    /// The lease that counts now.
    pub fn lease(&self) -> Option<Duration> {
        let leases = &self.terms.leases;
        let ms = match self.progress {
            Progress::HalfOpen => leases.half_open_ms.or(leases.idle_ms),
            Progress::Established => leases.idle_ms,
            Progress::Closed => leases.closed_ms.or(leases.idle_ms),
        };
        ms.map(Duration::from_millis)
    }

    fn is_tcp(&self) -> bool {
        self.directions().any(|d| d.tuple.proto == proto::TCP)
    }

    /// From when its lease counts. The asker's own packets do not keep a TCP flow half open: without an
    /// answer it ends, however often they are repeated.
    pub fn resting_since(&self) -> Duration {
        let unanswered =
            self.progress == Progress::HalfOpen && self.terms.leases.half_open_ms.is_some();
        if unanswered && self.is_tcp() {
            self.created.into()
        } else {
            self.active.into()
        }
    }

    /// Whether the other side has answered, as far as counters tell.
    pub fn has_answer(&self) -> bool {
        self.direction(self.opener.other())
            .is_some_and(|d| d.totals(0).packets > 0)
    }

    /// Whether numbers are added: its manager has answered packets itself, and will again.
    pub fn is_adjusted(&self) -> bool {
        (self.directions()).any(|d| matches!(d.act, Act::Adjust(_)))
    }

    /// Whether a SYN on its tuple opens a new connection that must be decided afresh (A6.15). A server
    /// that answers directly may yet send when the client's FIN has passed, so such a flow must also have
    /// been idle: it is then gone.
    fn is_over(&self) -> bool {
        let direct = self.reply.is_none()
            && (self.forward.as_ref()).is_some_and(|d| matches!(d.act, Act::Dispatch { .. }));
        self.progress == Progress::Closed && (self.reset || !direct)
    }

    /// The entry of one direction as it should be on the switch now.
    pub fn entry(&self, at: FlowRef, part: Part) -> Option<Entry> {
        use crate::flow::events::{ALL, FIN, RST, SYN};
        let d = self.direction(part)?;
        let mut packet_events = d.interest.packet_events;
        let mut notice_events = d.interest.notice_events;
        if self.terms.track_close {
            if self.is_over() {
                // Only the side that opened it opens the next.
                if part == self.opener {
                    packet_events |= SYN;
                }
            } else {
                notice_events |= FIN | RST;
                if self.terms.statistics.flags {
                    notice_events |= SYN;
                }
            }
        }
        let awaited = self.progress == Progress::HalfOpen && part != self.opener;
        if awaited && self.terms.watch_answer {
            notice_events |= if self.is_tcp() { SYN } else { ALL };
        }
        Some(Entry::Fixed(FixedEntry {
            key: self.key(part)?,
            action: self.action(part)?,
            packet_events,
            notice_events,
            entry: at.entry_id(part),
            slot: d.slot,
            idle: self.terms.leases.idle_ms.map(Duration::from_millis),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_comes_back_as_it_was_whatever_its_length() {
        for length in [0, 1, 22, 23, 256] {
            let bytes: Vec<u8> = (0..length)
                .map(|n| u8::try_from(n % 251).unwrap())
                .collect();
            assert_eq!(Cookie::from(bytes.as_slice()).bytes(), bytes);
        }
    }

    #[test]
    fn a_flow_and_its_directions_are_small() {
        assert!(size_of::<Flow>() <= 128, "{}", size_of::<Flow>());
        assert!(size_of::<Direction>() <= 112, "{}", size_of::<Direction>());
    }
}
