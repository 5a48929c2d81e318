//! A switch that holds entries and moves tuples, in the order of the generated pipeline.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;
use signalbox_lower::entries::PlannedEntry;
use signalbox_lower::plan::{CriterionAction, Cube, Kind, Plan};

use crate::adjust::Adjust;
use crate::cover::cube_has_flow;
use crate::entry::{
    Cell, Change, CriterionAct, CriterionEntry, Entry, FixedAction, FixedEntry, Packet, PacketMeta,
    Update, Wrap, packet_in, packet_out,
};
use crate::flow::{FlowKey, PacketKind, Part, Tuple};
use crate::machine::{Found, WriteError, renumber};
use crate::message::Totals;
use crate::packet::{self, View};

/// Where a packet has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// To the agent.
    ToAgent(Packet),
    /// Out of a port, as this tuple.
    Out {
        /// The port.
        port: u16,
        /// The frame.
        frame: Bytes,
    },
    /// Nowhere, and why.
    Dropped(&'static str),
}

/// Entries, counters, and a pipeline over them.
#[derive(Debug, Clone)]
pub struct FakeSwitch {
    plan: Arc<Plan>,
    /// Fixed entries.
    pub fixed: BTreeMap<FlowKey, FixedEntry>,
    /// Managers' criteria.
    pub criteria: Vec<CriterionEntry>,
    /// Routes to neighbours.
    pub routes: BTreeMap<IpNet, u16>,
    /// Neighbours: port and MAC address.
    pub next_hops: BTreeMap<u16, (u16, [u8; 6])>,
    /// The plan's own entries.
    pub statics: BTreeMap<(String, String, i32), PlannedEntry>,
    /// Tunnels: how they wrap, outer source and destination.
    pub tunnels: BTreeMap<u16, (Wrap, IpAddr, IpAddr)>,
    /// The tunnels of the packets that left by one, in order.
    pub wrapped: Vec<u16>,
    /// Counters.
    pub cells: BTreeMap<Cell, Totals>,
    /// Whether the pipeline is open.
    pub ready: bool,
    /// The fixed tables' true size, all together.
    pub fixed_size: usize,
    /// What it refuses, and how; for tests of what happens then.
    pub refuses: fn(&Update) -> Option<WriteError>,
    /// Updates applied, in order.
    pub log: Vec<Update>,
    /// Byte counters include packet-out headers.
    pub counts_packet_out_header: bool,
}

struct Pass {
    meta: PacketMeta,
    frame: Bytes,
    view: View,
    /// What gates have added up.
    adjust: Adjust,
    /// Bytes that counters see beyond the frame's.
    extra: u64,
}

impl FakeSwitch {
    /// An empty, shut switch.
    #[must_use]
    pub fn new(plan: Arc<Plan>) -> Self {
        let statics = plan.static_entries().into_iter();
        Self {
            statics: statics.map(|e| (e.key(), e)).collect(),
            plan,
            fixed: BTreeMap::new(),
            criteria: Vec::new(),
            routes: BTreeMap::new(),
            next_hops: BTreeMap::new(),
            tunnels: BTreeMap::new(),
            wrapped: Vec::new(),
            cells: BTreeMap::new(),
            ready: false,
            fixed_size: 1 << 20,
            refuses: |_| None,
            log: Vec::new(),
            counts_packet_out_header: false,
        }
    }

    /// Runs this plan's program from now on, shut. What it holds stays where the new program has the same
    /// table, as with RECONCILE_AND_COMMIT; with `empty` nothing does, as with VERIFY_AND_COMMIT.
    pub fn load(&mut self, plan: &Arc<Plan>, empty: bool) {
        let old = std::mem::replace(self, Self::new(plan.clone()));
        if empty {
            return;
        }
        let place = |at: u8| {
            let name = &old.plan.services.get(usize::from(at))?.name;
            let at = plan.services.iter().position(|s| s.name == *name)?;
            u8::try_from(at).ok()
        };
        for (key, entry) in old.fixed {
            if let Some(service) = place(key.service) {
                let key = FlowKey { service, ..key };
                self.fixed.insert(key, FixedEntry { key, ..entry });
            }
        }
        for (cell, totals) in old.cells {
            if let Some(service) = place(cell.service) {
                self.cells.insert(Cell { service, ..cell }, totals);
            }
        }
        self.routes = old.routes;
        self.next_hops = old.next_hops;
        self.tunnels = old.tunnels;
    }

    /// The plan whose program it runs has changed only in entries.
    pub fn use_plan(&mut self, plan: &Arc<Plan>) {
        self.plan = plan.clone();
    }

    /// What an agent finds on it.
    #[must_use]
    pub fn found(&self) -> Found {
        let next_hops = (self.next_hops.iter()).map(|(id, (port, mac))| Entry::NextHop {
            id: *id,
            port: *port,
            src_mac: [0; 6],
            dst_mac: *mac,
        });
        let routes = (self.routes.iter()).map(|(prefix, id)| Entry::Route {
            prefix: *prefix,
            next_hop: *id,
        });
        let tunnels = (self.tunnels.iter()).map(|(id, (wrap, src, dst))| Entry::Tunnel {
            id: *id,
            wrap: *wrap,
            src: *src,
            dst: *dst,
        });
        Found {
            fixed: self.fixed.values().copied().collect(),
            neighbours: next_hops.chain(routes).chain(tunnels).collect(),
            cells: self.cells.iter().map(|(c, t)| (*c, *t)).collect(),
        }
    }

    /// Holds exactly these entries, and whether it is open as before.
    pub fn reconcile(&mut self, desired: &[Entry]) {
        self.fixed.clear();
        self.criteria.clear();
        self.routes.clear();
        self.next_hops.clear();
        self.tunnels.clear();
        for entry in desired {
            let update = Update {
                change: Change::Insert,
                entry: entry.clone(),
            };
            let _ = self.apply(&update);
        }
    }

    /// Applies one update.
    ///
    /// # Errors
    /// As a switch would say.
    pub fn apply(&mut self, update: &Update) -> Result<(), WriteError> {
        fn put<K: Ord, V>(
            map: &mut BTreeMap<K, V>,
            change: Change,
            key: K,
            value: V,
        ) -> Result<(), WriteError> {
            match (change, map.contains_key(&key)) {
                (Change::Insert, true) => return Err(WriteError::AlreadyExists),
                (Change::Modify | Change::Delete, false) => return Err(WriteError::NotFound),
                (Change::Delete, true) => {
                    map.remove(&key);
                }
                _ => {
                    map.insert(key, value);
                }
            }
            Ok(())
        }
        self.log.push(update.clone());
        if let Some(error) = (self.refuses)(update) {
            return Err(error);
        }
        match &update.entry {
            Entry::Fixed(e) => {
                if update.change == Change::Insert && self.fixed.len() >= self.fixed_size {
                    return Err(WriteError::Full);
                }
                put(&mut self.fixed, update.change, e.key, *e)
            }
            Entry::Criterion(e) => {
                let at = self.criteria.iter().position(|c| {
                    c.service == e.service
                        && c.part == e.part
                        && c.priority == e.priority
                        && c.cube == e.cube
                });
                match (update.change, at) {
                    (Change::Insert, Some(_)) => return Err(WriteError::AlreadyExists),
                    (Change::Insert, None) => self.criteria.push(e.clone()),
                    (_, None) => return Err(WriteError::NotFound),
                    (Change::Modify, Some(at)) => {
                        if let Some(c) = self.criteria.get_mut(at) {
                            *c = e.clone();
                        }
                    }
                    (Change::Delete, Some(at)) => {
                        self.criteria.remove(at);
                    }
                }
                Ok(())
            }
            Entry::Route { prefix, next_hop } => {
                put(&mut self.routes, update.change, *prefix, *next_hop)
            }
            Entry::NextHop {
                id, port, dst_mac, ..
            } => put(&mut self.next_hops, update.change, *id, (*port, *dst_mac)),
            Entry::Static(e) => put(&mut self.statics, update.change, e.key(), e.clone()),
            Entry::Tunnel { id, wrap, src, dst } => {
                put(&mut self.tunnels, update.change, *id, (*wrap, *src, *dst))
            }
            Entry::Ready => {
                self.ready = update.change != Change::Delete;
                Ok(())
            }
        }
    }

    /// A packet comes in on a port.
    pub fn receive(&mut self, port: u16, frame: &Bytes) -> Vec<Fate> {
        if !self.ready {
            return vec![Fate::Dropped("not ready")];
        }
        let meta = PacketMeta {
            port,
            ..PacketMeta::default()
        };
        let divert = |kind| {
            vec![Fate::ToAgent(Packet {
                meta: PacketMeta { kind, ..meta },
                bytes: frame.clone(),
            })]
        };
        if packet::ether_type(frame) == Some(packet::TYPE_ARP) {
            return divert(packet_in::ARP);
        }
        let Some(view) = packet::view(frame) else {
            return vec![Fate::Dropped("not ip")];
        };
        let own = (self.plan.ports.iter())
            .any(|p| p.addresses.iter().any(|a| a.addr() == view.tuple.dst));
        let service = (self.plan.services.iter()).any(|s| s.addresses.contains(&view.tuple.dst));
        if view.icmp == 8 && (own || service) || own && view.tuple.dport >= 61_440 {
            return divert(packet_in::LOCAL);
        }
        let ttl = packet::ETHERNET + if view.tuple.src.is_ipv4() { 8 } else { 7 };
        match view.kind {
            _ if packet::u8_at(frame, ttl).is_none_or(|ttl| ttl <= 1) => {
                return divert(packet_in::TTL);
            }
            PacketKind::IcmpError => return divert(packet_in::ICMP_ERROR),
            PacketKind::FirstFragment | PacketKind::LaterFragment => {
                return divert(packet_in::FRAGMENT);
            }
            PacketKind::Whole => {}
        }
        self.run(
            Pass {
                meta,
                frame: frame.clone(),
                view,
                adjust: Adjust::default(),
                extra: 0,
            },
            0,
            None,
        )
    }

    /// As which flow a packet would come to the route; `None` if it would be dropped or diverted before.
    pub fn fate(&mut self, port: u16, frame: &Bytes) -> Option<Tuple> {
        let meta = PacketMeta {
            port,
            ..PacketMeta::default()
        };
        let mut pass = Pass {
            meta,
            frame: frame.clone(),
            view: packet::view(frame)?,
            adjust: Adjust::default(),
            extra: 0,
        };
        self.stages(&mut pass, 0, None)
            .is_none()
            .then_some(pass.view.tuple)
    }

    /// The agent sends a packet.
    pub fn packet_out(&mut self, packet: Packet) -> Vec<Fate> {
        let meta = packet.meta;
        if meta.kind == packet_out::SEND {
            return vec![Fate::Out {
                port: meta.port,
                frame: packet.bytes,
            }];
        }
        let at = match (meta.kind, Part::from_number(meta.part)) {
            (packet_out::ROUTE, _) => Some(ROUTING),
            (packet_out::RESUME, Some(part)) => Some(place(part, meta.stage)),
            _ => None,
        };
        let (Some(at), Some(view)) = (at, packet::view(&packet.bytes)) else {
            return vec![Fate::Dropped("bad packet-out")];
        };
        let extra = if self.counts_packet_out_header {
            crate::target::PACKET_OUT_HEADER
        } else {
            0
        };
        self.run(
            Pass {
                meta,
                frame: packet.bytes,
                view,
                adjust: Adjust::default(),
                extra,
            },
            at,
            meta.answered.then_some(at),
        )
    }

    fn run(&mut self, mut pass: Pass, from: i32, answered_at: Option<i32>) -> Vec<Fate> {
        if let Some(fate) = self.stages(&mut pass, from, answered_at) {
            return vec![fate];
        }
        let fate = self.route(&pass);
        let mut out = Vec::new();
        // A diverted packet carries its notices with it.
        if pass.meta.notices != 0 && !matches!(fate, Fate::ToAgent(_)) {
            let mut meta = pass.meta;
            meta.kind = packet_in::NOTICE;
            out.push(Fate::ToAgent(Packet {
                meta,
                bytes: pass.frame.clone(),
            }));
        }
        // What the agent is shown then has been dropped all the same.
        if matches!(&fate, Fate::ToAgent(p) if p.meta.kind == packet_in::UNDELIVERED) {
            out.push(Fate::Dropped("undelivered"));
        }
        out.push(fate);
        out
    }

    /// Where a packet ends before the route.
    fn stages(&mut self, pass: &mut Pass, from: i32, answered_at: Option<i32>) -> Option<Fate> {
        let plan = self.plan.clone();
        let stages = plan.services.len();
        let replies = (0..stages).rev().map(|i| (Part::Reply, i));
        let forwards = (0..stages).map(|i| (Part::Forward, i));
        for (part, index) in replies.chain(forwards) {
            let stage = plan.services.get(index).map_or(0, |s| s.stage);
            let at = place(part, stage);
            let always = (plan.services.get(index))
                .is_some_and(|s| matches!(s.kind, Kind::Filter | Kind::Observe));
            if at < from || (part == Part::Forward && pass.meta.reply && !always) {
                continue;
            }
            let service = u8::try_from(index).unwrap_or(0);
            let fate = self.stage(service, part, stage, pass, answered_at == Some(at));
            if fate.is_some() {
                return fate;
            }
        }
        None
    }

    fn stage(
        &mut self,
        service: u8,
        part: Part,
        stage: u8,
        pass: &mut Pass,
        answered: bool,
    ) -> Option<Fate> {
        let key = FlowKey {
            service,
            part,
            tuple: pass.view.tuple,
            kind: pass.view.kind,
        };
        let fixed = self.fixed.get(&key).copied();
        let criterion = match fixed {
            Some(_) => None,
            None => self.criterion(service, part, pass),
        };
        let (packet_events, notice_events, entry, slot) = match (&fixed, &criterion) {
            (Some(e), _) => (e.packet_events, e.notice_events, e.entry, e.slot),
            (None, Some(c)) => match c.action {
                CriterionAct::Ask {
                    packet_events,
                    notice_events,
                    ..
                }
                | CriterionAct::Dispatch {
                    packet_events,
                    notice_events,
                    ..
                } => (packet_events, notice_events, c.entry, c.slot),
                CriterionAct::Pass | CriterionAct::Discard => (0, 0, c.entry, c.slot),
            },
            (None, None) => return None,
        };
        if pass.view.events & packet_events != 0 && !answered {
            let meta = PacketMeta {
                kind: packet_in::INTEREST,
                part: part as u8,
                stage,
                entry,
                ..pass.meta
            };
            let bytes = rewritten(pass);
            return Some(Fate::ToAgent(Packet { meta, bytes }));
        }
        if pass.view.events & notice_events != 0 {
            pass.meta.notices |= 1 << (stage - 1);
            pass.meta.entry = entry;
            pass.meta.part = part as u8;
            pass.meta.stage = stage;
        }
        if slot != 0 {
            let cell = self.cells.entry(Cell {
                service,
                part,
                slot,
            });
            let totals = cell.or_default();
            totals.packets += 1;
            totals.bytes += pass.frame.len() as u64 + pass.extra;
        }
        match fixed.map(|e| e.action) {
            Some(FixedAction::Translate(to)) => {
                pass.view.tuple = to;
                pass.meta.reply |= part == Part::Reply;
                None
            }
            Some(FixedAction::Discard) => Some(Fate::Dropped("service")),
            Some(FixedAction::Dispatch { next_hop, tunnel }) => {
                (pass.meta.next_hop, pass.meta.tunnel) = (next_hop, tunnel);
                None
            }
            Some(FixedAction::Adjust(by)) => {
                pass.adjust = pass.adjust.then(by);
                pass.meta.reply |= part == Part::Reply;
                None
            }
            Some(FixedAction::Forward) => None,
            None if criterion.as_ref().is_some_and(is_shut_floor) => Some(Fate::Dropped("floor")),
            None => match criterion.map(|c| c.action) {
                Some(
                    CriterionAct::Discard
                    | CriterionAct::Ask {
                        else_drop: true, ..
                    },
                ) => Some(Fate::Dropped("service")),
                Some(CriterionAct::Dispatch { hop, .. }) => {
                    (pass.meta.next_hop, pass.meta.tunnel) = hop;
                    None
                }
                _ => None,
            },
        }
    }

    /// The best of managers' criteria, the plan's own and the floors beneath.
    fn criterion(&self, service: u8, part: Part, pass: &Pass) -> Option<CriterionEntry> {
        let s = self.plan.services.get(usize::from(service))?;
        let plan = match part {
            Part::Forward => &s.forward,
            Part::Reply => s.reply.as_ref()?,
        };
        let floors = plan.floors(s.fallback);
        let of_plan = (plan.criteria.iter().chain(&floors)).filter_map(|c| {
            let action = match c.action {
                CriterionAction::Pass => CriterionAct::Pass,
                CriterionAction::Discard => CriterionAct::Discard,
                CriterionAction::Ask { .. } => return None,
            };
            let cube = c.cubes.iter().find(|cube| has_packet(cube, pass))?;
            Some(CriterionEntry {
                service,
                part,
                cube: cube.clone(),
                priority: c.priority,
                action,
                entry: c.id,
                slot: c.id,
            })
        });
        (self.criteria.iter())
            .filter(|c| c.service == service && c.part == part)
            .filter(|c| has_packet(&c.cube, pass))
            .cloned()
            .chain(of_plan)
            .max_by_key(|c| c.priority)
    }

    fn route(&mut self, pass: &Pass) -> Fate {
        let frame = rewritten(pass);
        let divert = |kind, next_hop| {
            let meta = PacketMeta {
                kind,
                next_hop,
                ..pass.meta
            };
            Fate::ToAgent(Packet {
                meta,
                bytes: frame.clone(),
            })
        };
        let id = if pass.meta.next_hop != 0 {
            pass.meta.next_hop
        } else {
            let dst = pass.view.tuple.dst;
            let served = (self.plan.services.iter()).any(|s| s.addresses.contains(&dst));
            let own = (self.plan.ports.iter()).any(|p| p.addresses.iter().any(|a| a.addr() == dst));
            match (served, own) {
                (true, _) => return Fate::Dropped("not served"),
                (false, true) => return divert(packet_in::UNDELIVERED, 0),
                (false, false) => {}
            }
            let connected = (self.plan.ports.iter())
                .flat_map(|p| p.addresses.iter().map(|a| (a.trunc(), Err(p.number))));
            let routes = self.routes.iter().map(|(net, id)| (*net, Ok(*id)));
            let best = (connected.chain(routes))
                .filter(|(net, _)| net.contains(&dst))
                .max_by_key(|(net, _)| net.prefix_len());
            match best {
                Some((_, Ok(id))) => id,
                Some((_, Err(port))) => return divert(packet_in::GLEAN, port),
                None => return divert(packet_in::UNDELIVERED, 0),
            }
        };
        let tunnel = pass.meta.tunnel;
        if tunnel != 0 {
            if !self.tunnels.contains_key(&tunnel) {
                return Fate::Dropped("no tunnel");
            }
            self.wrapped.push(tunnel);
        }
        match self.next_hops.get(&id) {
            Some((port, _)) => Fate::Out { port: *port, frame },
            None if pass.meta.next_hop != 0 => Fate::Dropped("no next hop"),
            None => divert(packet_in::UNRESOLVED, id),
        }
    }
}

fn is_shut_floor(c: &CriterionEntry) -> bool {
    c.priority == FLOOR && c.action == CriterionAct::Discard
}

/// The priority of floors.
const FLOOR: i32 = 1;

/// Whether a packet is in a cube.
fn has_packet(cube: &Cube, pass: &Pass) -> bool {
    let view = &pass.view;
    cube_has_flow(cube, &view.tuple, view.kind)
        && cube.in_port.is_none_or(|p| p == pass.meta.port)
        && cube.flags.is_none_or(|m| view.flags & m.mask == m.value)
        && cube.icmp.is_none_or(|m| view.icmp & m.mask == m.value)
}

/// Past every stage.
const ROUTING: i32 = 128;

fn place(part: Part, stage: u8) -> i32 {
    match part {
        Part::Reply => 64 - i32::from(stage),
        Part::Forward => 64 + i32::from(stage),
    }
}

/// The frame with the view's tuple in its headers.
fn rewritten(pass: &Pass) -> Bytes {
    let (mut f, view) = (pass.frame.to_vec(), &pass.view);
    renumber(&mut f, view, pass.adjust);
    let Tuple {
        src,
        dst,
        sport,
        dport,
        ..
    } = view.tuple;
    if let (IpAddr::V4(src), IpAddr::V4(dst)) = (src, dst) {
        packet::put(&mut f, packet::ETHERNET + 12, &src.octets());
        packet::put(&mut f, packet::ETHERNET + 16, &dst.octets());
    }
    if view.kind == PacketKind::LaterFragment {
        return f.into();
    }
    if matches!(view.tuple.proto, packet::proto::TCP | packet::proto::UDP) {
        packet::put(&mut f, view.l4, &sport.to_be_bytes());
        packet::put(&mut f, view.l4 + 2, &dport.to_be_bytes());
    }
    if matches!((view.tuple.proto, view.icmp), (packet::proto::ICMP, 0 | 8)) {
        let identifier = if view.icmp == 8 { sport } else { dport };
        packet::put(&mut f, view.l4 + 4, &identifier.to_be_bytes());
    }
    f.into()
}
