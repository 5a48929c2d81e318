//! The cascade as the agent knows it: the plan's static entries, the managers' criteria and its own fixed
//! affinities, in the order of the generated pipeline.
//!
//! The switch walks whole packets; the agent walks what it cannot leave to the switch: first fragments, and
//! the flows that ICMP errors quote. Nothing here changes anything; nothing here knows how a packet looks.

use std::net::IpAddr;

use signalbox_lower::plan::{CriterionAction, Fallback, Kind, PartPlan, ServicePlan};
use signalbox_lower::planning::FLOOR_PRIORITY;

use super::Agent;
use super::flow_record::Phase;
use super::store::FlowRef;
use super::tallies::TallyId;
use crate::adjust::Adjust;
use crate::cover::{Aspect, cube_has_packet};
use crate::entry::{CriterionAct, Entry, FixedAction, PacketMeta};
use crate::flow::{FlowKey, PacketKind, Part, Tuple};
use crate::packet::View;

/// The place between the two parts of the cascade: stage s of the reply part is before it by s, stage s of
/// the forward part behind it (p4/lib/types.p4).
const MIDDLE: i32 = 64;

/// What is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Traveller {
    /// A packet, or the first fragment of one: exact entries see it as the whole packet it is a part of.
    Packet {
        /// What criteria may ask of it.
        aspect: Aspect,
        /// Its events.
        events: u16,
    },
    /// An ICMP error about a flow; the walk's tuple is that of the flow's other direction.
    Error {
        /// What filters may ask of it.
        aspect: Aspect,
        /// ICMP or ICMPv6.
        proto: u8,
        /// Its own addresses: they change along with the tuple's.
        src: IpAddr,
        /// See `src`.
        dst: IpAddr,
        /// Whether it quotes a flow at all; else only filters act.
        quotes: bool,
    },
    /// Nothing: only the tuple is wanted.
    Tuple,
}

/// A walk under way, or at its end.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    /// Who walks.
    pub traveller: Traveller,
    /// The flow as the stages so far have left it.
    pub tuple: Tuple,
    /// What becomes of TCP's numbers; of what an error quotes, and of a bare tuple's packet, the way back.
    pub adjust: Adjust,
    /// What else crosses the stages; `port` is where it came in.
    pub meta: PacketMeta,
    /// The entries that have acted on it, and so count it.
    pub met: Vec<Met>,
    /// The stage to begin at, and whether its manager has answered.
    from: Option<(Part, u8, bool)>,
}

/// What counts a packet that it has acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// A fixed affinity.
    Flow(FlowRef, Part),
    /// A criterion.
    Criterion(TallyId),
}

/// Where a walk ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Past every stage.
    Route,
    /// At a stage that wants it, or whose entry is on its way in; the walk's `meta` says which.
    Asks,
    /// A service drops it.
    Drops,
}

impl Walk {
    /// A packet on its way in, at the first stage.
    pub fn of_packet(view: &View, in_port: u16) -> Self {
        let traveller = Traveller::Packet {
            aspect: aspect(view, in_port),
            events: view.events,
        };
        Self::new(traveller, view.tuple, in_port)
    }

    /// An ICMP error, and the tuple of the packet that it quotes.
    pub fn of_error(view: &View, in_port: u16, quoted: Option<Tuple>) -> Self {
        let traveller = Traveller::Error {
            aspect: aspect(view, in_port),
            proto: view.tuple.proto,
            src: view.tuple.src,
            dst: view.tuple.dst,
            quotes: quoted.is_some(),
        };
        Self::new(
            traveller,
            quoted.map_or(view.tuple, |q| q.reversed()),
            in_port,
        )
    }

    fn new(traveller: Traveller, tuple: Tuple, in_port: u16) -> Self {
        Self {
            traveller,
            tuple,
            adjust: Adjust::default(),
            meta: PacketMeta {
                port: in_port,
                ..PacketMeta::default()
            },
            met: Vec::new(),
            from: None,
        }
    }

    /// The manager of the stage that it ended at has answered: it goes on there.
    pub fn answered(mut self) -> Self {
        self.from = Part::from_number(self.meta.part).map(|part| (part, self.meta.stage, true));
        self
    }

    /// The stage's fixed entry or criterion has these events: whether they divert it; notes a notice.
    fn asked(
        &mut self,
        (part, stage, answered): (Part, u8, bool),
        (packet_events, notice_events): (u16, u16),
        entry: u32,
    ) -> bool {
        let Traveller::Packet { events, .. } = self.traveller else {
            return false;
        };
        let diverts = events & packet_events != 0 && !answered;
        let notices = events & notice_events != 0;
        if diverts || notices {
            self.meta.part = part as u8;
            self.meta.stage = stage;
            self.meta.entry = entry;
        }
        if !diverts && notices {
            self.meta.notices |= 1u32.checked_shl(u32::from(stage) - 1).unwrap_or(0);
        }
        diverts
    }

    fn translate(&mut self, to: Tuple) {
        if let Traveller::Error { src, dst, .. } = &mut self.traveller {
            if *src == self.tuple.src {
                *src = to.src;
            }
            *dst = to.dst;
        }
        self.tuple = to;
    }
}

fn aspect(view: &View, in_port: u16) -> Aspect {
    Aspect {
        in_port,
        flags: view.flags,
        icmp: view.icmp,
        kind: view.kind,
    }
}

impl Agent {
    /// Walks on from where `walk` stands.
    pub(super) fn walk(&self, walk: &mut Walk) -> End {
        let from = walk.from.map_or(0, |(part, stage, _)| place(part, stage));
        let plan = self.plan.clone();
        let stages = || plan.services.iter().zip(0..u8::MAX);
        let replies = stages().rev().map(|(s, at)| (Part::Reply, s, at));
        let forwards = stages().map(|(s, at)| (Part::Forward, s, at));
        for (part, service, at) in replies.chain(forwards) {
            let here = place(part, service.stage);
            let translates = !matches!(service.kind, Kind::Filter | Kind::Observe);
            let tables = match part {
                Part::Forward => Some(&service.forward),
                Part::Reply => service.reply.as_ref(),
            };
            let (Some(tables), false) = (tables, here < from) else {
                continue;
            };
            if part == Part::Forward && translates && walk.meta.reply {
                continue;
            }
            let answered = walk.from.is_some_and(|(.., answered)| answered) && here == from;
            let stage = Stage {
                part,
                service,
                at,
                answered,
                translates,
                tables,
            };
            if let Some(end) = self.stage(&stage, walk) {
                return end;
            }
        }
        End::Route
    }

    fn stage(&self, stage: &Stage<'_>, walk: &mut Walk) -> Option<End> {
        // Errors and bare tuples meet exact entries only where these translate.
        let exact = match walk.traveller {
            Traveller::Packet { .. } => true,
            Traveller::Error { quotes, .. } => quotes && stage.translates,
            Traveller::Tuple => stage.translates,
        };
        let key = FlowKey {
            service: stage.at,
            part: stage.part,
            tuple: walk.tuple,
            kind: PacketKind::Whole,
        };
        if let Some(at) = self.store.find(&key).filter(|_| exact) {
            return self.fixed(stage, walk, at);
        }
        match walk.traveller {
            Traveller::Packet { aspect, .. } => {
                // A filter looks at the packet before it; a manager is asked about whole flows.
                let kind = if stage.service.kind == Kind::Filter {
                    aspect.kind
                } else {
                    PacketKind::Whole
                };
                let (act, tally) =
                    self.criterion(stage, &walk.tuple, &Aspect { kind, ..aspect })?;
                // Static ones ask nobody.
                let entry = match tally {
                    TallyId::Manager(entry) => entry,
                    TallyId::Static(..) => 0,
                };
                let place = (stage.part, stage.service.stage, stage.answered);
                let end = match act {
                    CriterionAct::Pass => None,
                    CriterionAct::Discard => Some(End::Drops),
                    CriterionAct::Dispatch {
                        hop,
                        packet_events,
                        notice_events,
                    } => {
                        if walk.asked(place, (packet_events, notice_events), entry) {
                            return Some(End::Asks);
                        }
                        (walk.meta.next_hop, walk.meta.tunnel) = hop;
                        None
                    }
                    CriterionAct::Ask {
                        packet_events,
                        notice_events,
                        else_drop,
                    } => {
                        if walk.asked(place, (packet_events, notice_events), entry) {
                            return Some(End::Asks);
                        }
                        else_drop.then_some(End::Drops)
                    }
                };
                walk.met.push(Met::Criterion(tally));
                end
            }
            Traveller::Error {
                aspect,
                proto,
                src,
                dst,
                ..
            } if stage.service.kind == Kind::Filter => {
                let own = Tuple {
                    src,
                    dst,
                    proto,
                    sport: 0,
                    dport: 0,
                };
                let (act, _) = self.criterion(stage, &own, &aspect)?;
                (act == CriterionAct::Discard).then_some(End::Drops)
            }
            Traveller::Error { .. } | Traveller::Tuple => None,
        }
    }

    fn fixed(&self, stage: &Stage<'_>, walk: &mut Walk, at: FlowRef) -> Option<End> {
        let flow = self.store.get(at)?;
        let Some(Entry::Fixed(entry)) = flow.entry(at, stage.part) else {
            return None;
        };
        let is_packet = matches!(walk.traveller, Traveller::Packet { .. });
        if is_packet && matches!(flow.phase, Phase::Installing(_)) {
            walk.meta.part = stage.part as u8;
            walk.meta.stage = stage.service.stage;
            walk.meta.entry = 0;
            return Some(End::Asks);
        }
        let place = (stage.part, stage.service.stage, stage.answered);
        let events = (entry.packet_events, entry.notice_events);
        if entry.action != FixedAction::Discard && walk.asked(place, events, entry.entry) {
            return Some(End::Asks);
        }
        walk.met.push(Met::Flow(at, stage.part));
        if !is_packet && let Some(FixedAction::Adjust(by)) = flow.action(stage.part.other()) {
            // The packet in question took the other direction.
            walk.adjust = walk.adjust.then(by.undone());
        }
        match entry.action {
            FixedAction::Forward => None,
            FixedAction::Adjust(by) => {
                if is_packet {
                    walk.adjust = walk.adjust.then(by);
                }
                walk.meta.reply |= stage.part == Part::Reply;
                None
            }
            FixedAction::Discard if walk.traveller == Traveller::Tuple => None,
            FixedAction::Discard => Some(End::Drops),
            FixedAction::Dispatch { next_hop, tunnel } => {
                (walk.meta.next_hop, walk.meta.tunnel) = (next_hop, tunnel);
                None
            }
            FixedAction::Translate(to) => {
                walk.translate(to);
                walk.meta.reply |= stage.part == Part::Reply;
                None
            }
        }
    }

    /// The criterion of highest priority that a packet meets, and what counts it.
    fn criterion(
        &self,
        stage: &Stage<'_>,
        tuple: &Tuple,
        of: &Aspect,
    ) -> Option<(CriterionAct, TallyId)> {
        let sets = self.services.get(usize::from(stage.at))?.criteria.values();
        let managers = (sets.flat_map(|set| &set.entries))
            .filter(|e| e.part == stage.part && cube_has_packet(&e.cube, tuple, of))
            .map(|e| (e.priority, e.action, TallyId::Manager(e.entry)));
        let first_floor = u32::try_from(stage.tables.criteria.len()).unwrap_or(u32::MAX);
        let statics = (stage.tables.criteria.iter())
            .map(|c| {
                let (priority, action, id) = match (&c.action, stage.service.fallback) {
                    (CriterionAction::Pass, _) => (c.priority, CriterionAct::Pass, c.id),
                    (CriterionAction::Discard, _) => (c.priority, CriterionAct::Discard, c.id),
                    // The floor beneath a question.
                    (CriterionAction::Ask { .. }, Fallback::Drop) => {
                        (FLOOR_PRIORITY, CriterionAct::Discard, first_floor + c.id)
                    }
                    (CriterionAction::Ask { .. }, Fallback::Route) => {
                        (FLOOR_PRIORITY, CriterionAct::Pass, first_floor + c.id)
                    }
                };
                let tally = TallyId::Static(stage.at, stage.part, id);
                (priority, action, tally, &c.cubes)
            })
            .filter(|(.., cubes)| cubes.iter().any(|cube| cube_has_packet(cube, tuple, of)))
            .map(|(priority, action, tally, _)| (priority, action, tally));
        let (_, action, tally) = managers
            .chain(statics)
            .max_by_key(|(priority, ..)| *priority)?;
        Some((action, tally))
    }

    /// The entries that a packet will meet that goes back to its stage on the switch.
    pub(super) fn walk_on(&self, view: &View, meta: PacketMeta) -> Vec<Met> {
        let mut walk = Walk::of_packet(view, meta.port);
        walk.meta = meta;
        walk.from = Part::from_number(meta.part).map(|part| (part, meta.stage, meta.answered));
        self.walk(&mut walk);
        walk.met
    }

    /// The tuple that a packet had when it came in, by that with which it leaves; and what leads its numbers
    /// back.
    pub(super) fn origin(&self, left: Tuple) -> (Tuple, Adjust) {
        let mut walk = Walk::new(Traveller::Tuple, left.reversed(), 0);
        self.walk(&mut walk);
        (walk.tuple.reversed(), walk.adjust)
    }
}

/// One stage of one part.
struct Stage<'a> {
    part: Part,
    service: &'a ServicePlan,
    at: u8,
    answered: bool,
    translates: bool,
    tables: &'a PartPlan,
}

fn place(part: Part, stage: u8) -> i32 {
    match part {
        Part::Reply => MIDDLE - i32::from(stage),
        Part::Forward => MIDDLE + i32::from(stage),
    }
}
