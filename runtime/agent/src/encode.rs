//! The agent's words as P4Runtime messages and back: the one place that knows names of tables, keys,
//! actions and parameters.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use signalbox_lower::entries::{Match, PlannedEntry, Value as Planned, prefix_number};
use signalbox_lower::plan::{PartPlan, Plan};
use signalbox_p4runtime::catalog::ActionInfo;
use signalbox_p4runtime::entry::{EntryBuilder, update_of};
use signalbox_p4runtime::proto::p4::v1::{
    self, CloneSessionEntry, CounterEntry, Entity, Index, PacketIn, PacketOut,
    PacketReplicationEngineEntry, Replica, TableEntry, entity,
    packet_replication_engine_entry as pre, replica, table_action, update,
};
use signalbox_p4runtime::{Catalog, CatalogError, Value};

use crate::adjust::Adjust;
use crate::entry::{
    Cell, Change, CriterionAct, Entry, FixedAction, FixedEntry, Packet, PacketMeta, Update, Wrap,
};
use crate::flow::{FlowKey, PacketKind, Part, Tuple};

/// The table of tunnels.
const TUNNELS: &str = "Ingress.tunnel";

/// Speaks one program's P4Runtime for one plan.
#[derive(Debug, Clone)]
pub struct Encoder {
    catalog: Arc<Catalog>,
    plan: Arc<Plan>,
    /// The counter of each service's part, by its id: reports read very many cells.
    counters: Vec<(u32, u8, Part)>,
}

impl Encoder {
    /// An encoder; the catalogue must be that of the plan's program.
    #[must_use]
    pub fn new(catalog: Arc<Catalog>, plan: Arc<Plan>) -> Self {
        let mut encoder = Self {
            catalog,
            plan,
            counters: Vec::new(),
        };
        encoder.counters = (encoder.parts())
            .filter_map(|(service, part)| {
                let name = &encoder.part(service, part)?.stats;
                let counter = encoder.catalog.counters.named(name).ok()?;
                Some((counter.id, service, part))
            })
            .collect();
        encoder
    }

    fn part(&self, service: u8, part: Part) -> Option<&PartPlan> {
        let s = self.plan.services.get(usize::from(service))?;
        match part {
            Part::Forward => Some(&s.forward),
            Part::Reply => s.reply.as_ref(),
        }
    }

    fn address(&self, address: IpAddr) -> Value {
        let (number, _) = Planned::Addr(address).number(self.plan.address_bits);
        Value::from(number)
    }

    /// One update.
    ///
    /// # Errors
    /// The program has no such table, key, action or parameter: it is not the plan's.
    pub fn update(&self, update: &Update) -> Result<v1::Update, CatalogError> {
        let kind = match update.change {
            Change::Insert => update::Type::Insert,
            Change::Modify => update::Type::Modify,
            Change::Delete => update::Type::Delete,
        };
        Ok(update_of(kind, self.entry(&update.entry)?))
    }

    /// One entry.
    ///
    /// # Errors
    /// As [`Encoder::update`].
    pub fn entry(&self, entry: &Entry) -> Result<TableEntry, CatalogError> {
        match entry {
            Entry::Fixed(e) => self.fixed(e),
            Entry::Criterion(e) => {
                let table = (self.part(e.service, e.part)).map_or("", |p| &p.criteria_table);
                let mut b = self.matches(self.catalog.entry(table), &e.cube.matches());
                b = b.priority(e.priority);
                let ids = [
                    ("entry", Value::from(e.entry)),
                    ("slot", Value::from(e.slot)),
                ];
                match e.action {
                    CriterionAct::Pass => b.action("pass", ids),
                    CriterionAct::Discard => b.action("discard", ids),
                    CriterionAct::Ask {
                        packet_events,
                        notice_events,
                        else_drop,
                    } => {
                        let [entry, slot] = ids;
                        b.action(
                            "ask",
                            [
                                ("packet_events", Value::from(packet_events)),
                                ("notice_events", Value::from(notice_events)),
                                ("else_drop", Value::from(else_drop)),
                                entry,
                                slot,
                            ],
                        )
                    }
                    CriterionAct::Dispatch {
                        hop: (next_hop, tunnel),
                        packet_events,
                        notice_events,
                    } => {
                        let [entry, slot] = ids;
                        b.action(
                            "dispatch",
                            [
                                ("next_hop", Value::from(next_hop)),
                                ("tunnel", Value::from(tunnel)),
                                ("packet_events", Value::from(packet_events)),
                                ("notice_events", Value::from(notice_events)),
                                entry,
                                slot,
                            ],
                        )
                    }
                }
                .build()
            }
            Entry::Route { prefix, next_hop } => {
                let (number, len) = prefix_number(*prefix, self.plan.address_bits);
                self.catalog
                    .entry("Ingress.route")
                    .lpm("dst", number, usize::from(len))
                    .action("to_next_hop", [("id", Value::from(*next_hop))])
                    .build()
            }
            Entry::NextHop {
                id,
                port,
                src_mac,
                dst_mac,
            } => self
                .catalog
                .entry("Ingress.next_hop")
                .exact("next_hop", *id)
                .action(
                    "send",
                    [
                        ("port", Value::from(*port)),
                        ("src", Value::from(*src_mac)),
                        ("dst", Value::from(*dst_mac)),
                        ("mtu", Value::from(self.mtu(*port))),
                    ],
                )
                .build(),
            Entry::Static(planned) => self.planned(planned),
            Entry::Tunnel { id, wrap, src, dst } => {
                // Outer addresses are as wide as their own family's, in dual-stack programs too.
                let (action, src, dst) = match (wrap, src, dst) {
                    (Wrap::Ipip, IpAddr::V4(s), IpAddr::V4(d)) => ("ipip4", v4(*s), v4(*d)),
                    (Wrap::Gue, IpAddr::V4(s), IpAddr::V4(d)) => ("gue4", v4(*s), v4(*d)),
                    (Wrap::Ipip, s, d) => ("ipip6", self.address(*s), self.address(*d)),
                    (Wrap::Gue, s, d) => ("gue6", self.address(*s), self.address(*d)),
                };
                (self.catalog.entry(TUNNELS).exact("tunnel", *id))
                    .action(action, [("src", src), ("dst", dst)])
                    .build()
            }
            Entry::Ready => self.planned(&self.plan.ready_entry()),
        }
    }

    /// Longest IP packet that leaves by a port; a port that the plan does not know has no bound.
    fn mtu(&self, port: u16) -> u16 {
        let port = self.plan.ports.iter().find(|p| p.number == port);
        port.map_or(u16::MAX, |p| p.mtu)
    }

    fn fixed(&self, e: &FixedEntry) -> Result<TableEntry, CatalogError> {
        let table = (self.part(e.key.service, e.key.part))
            .and_then(|p| p.fixed.as_deref())
            .unwrap_or("");
        let t = &e.key.tuple;
        let mut b = self
            .catalog
            .entry(table)
            .exact("src", self.address(t.src))
            .exact("dst", self.address(t.dst))
            .exact("proto", t.proto)
            .exact("sport", t.sport)
            .exact("dport", t.dport)
            .exact("kind", e.key.kind as u8);
        if let Some(idle) = e.idle {
            b = b.idle_timeout(idle);
        }
        let entry = ("entry", Value::from(e.entry));
        let slot = ("slot", Value::from(e.slot));
        let packet_events = ("packet_events", Value::from(e.packet_events));
        let notice_events = ("notice_events", Value::from(e.notice_events));
        match e.action {
            // Who wants to know of a packet that is dropped asks for it.
            FixedAction::Discard if (e.packet_events | e.notice_events) != 0 => {
                let else_drop = ("else_drop", Value::from(true));
                b.action(
                    "ask",
                    [packet_events, notice_events, else_drop, entry, slot],
                )
            }
            FixedAction::Discard => b.action("discard", [entry, slot]),
            FixedAction::Forward => {
                b.action("forward", [packet_events, notice_events, entry, slot])
            }
            FixedAction::Dispatch { next_hop, tunnel } => b.action(
                "dispatch",
                [
                    ("next_hop", Value::from(next_hop)),
                    ("tunnel", Value::from(tunnel)),
                    packet_events,
                    notice_events,
                    entry,
                    slot,
                ],
            ),
            FixedAction::Adjust(by) => b.action(
                "adjust",
                [
                    ("sequence", Value::from(by.sequence)),
                    ("acknowledgement", Value::from(by.acknowledgement)),
                    // Two's complement.
                    ("window_shift", Value::from(by.window_shift.cast_unsigned())),
                    packet_events,
                    notice_events,
                    entry,
                    slot,
                ],
            ),
            FixedAction::Translate(to) => b.action(
                "translate",
                [
                    ("src", self.address(to.src)),
                    ("dst", self.address(to.dst)),
                    ("sport", Value::from(to.sport)),
                    ("dport", Value::from(to.dport)),
                    packet_events,
                    notice_events,
                    entry,
                    slot,
                ],
            ),
        }
        .build()
    }

    fn matches<'a>(
        &self,
        mut b: EntryBuilder<'a>,
        matches: &[(&'static str, Match)],
    ) -> EntryBuilder<'a> {
        let bits = self.plan.address_bits;
        for (name, wanted) in matches {
            b = match *wanted {
                Match::Exact(value) => b.exact(name, value.number(bits).0),
                Match::Ternary { value, mask } => {
                    b.ternary(name, value.number(bits).0, mask.mask_number(bits).0)
                }
                Match::Lpm(prefix) => {
                    let (number, len) = prefix_number(prefix, bits);
                    b.lpm(name, number, usize::from(len))
                }
            };
        }
        b
    }

    /// One of the plan's static entries.
    ///
    /// # Errors
    /// As [`Encoder::update`].
    pub fn planned(&self, e: &PlannedEntry) -> Result<TableEntry, CatalogError> {
        let bits = self.plan.address_bits;
        let params = (e.params.iter()).map(|(name, v)| (*name, Value::from(v.number(bits).0)));
        self.matches(self.catalog.entry(&e.table), &e.matches)
            .priority(e.priority)
            .action(&e.action, params)
            .build()
    }

    /// Everything that the plan itself wants on the switch, but the ready entry.
    ///
    /// # Errors
    /// As [`Encoder::update`].
    pub fn statics(&self) -> Result<Vec<Entity>, CatalogError> {
        (self.plan.static_entries().iter())
            .map(|e| self.planned(e).map(of_table))
            .collect()
    }

    /// The clone session that brings notices to the agent.
    #[must_use]
    pub fn clone_session(&self) -> Entity {
        let port = u32::from(self.plan.cpu_port);
        #[allow(deprecated, reason = "the older field is the one that devices know")]
        let replica = Replica {
            instance: 1,
            port_kind: Some(replica::PortKind::EgressPort(port)),
            ..Replica::default()
        };
        Entity {
            entity: Some(entity::Entity::PacketReplicationEngineEntry(
                PacketReplicationEngineEntry {
                    r#type: Some(pre::Type::CloneSessionEntry(CloneSessionEntry {
                        session_id: self.plan.notice_session,
                        replicas: vec![replica],
                        ..CloneSessionEntry::default()
                    })),
                },
            )),
        }
    }

    /// The counter of a service's part.
    fn counter(&self, service: u8, part: Part) -> Option<u32> {
        (self.counters.iter())
            .find(|(_, s, p)| (*s, *p) == (service, part))
            .map(|(id, ..)| *id)
    }

    /// A read of one cell.
    #[must_use]
    pub fn cell(&self, cell: Cell) -> Entity {
        counter_entity(
            self.counter(cell.service, cell.part).unwrap_or(0),
            Some(cell.slot),
        )
    }

    /// Reads of every cell there is.
    #[must_use]
    pub fn all_cells(&self) -> Vec<Entity> {
        (self.counters.iter())
            .map(|(id, ..)| counter_entity(*id, None))
            .collect()
    }

    fn parts(&self) -> impl Iterator<Item = (u8, Part)> {
        (0..self.plan.services.len())
            .filter_map(|i| u8::try_from(i).ok())
            .flat_map(|i| [(i, Part::Forward), (i, Part::Reply)])
    }

    /// A cell's value as read.
    #[must_use]
    pub fn decode_cell(&self, c: &CounterEntry) -> Option<(Cell, crate::message::Totals)> {
        let (_, service, part) = (self.counters.iter())
            .copied()
            .find(|(id, ..)| *id == c.counter_id)?;
        let slot = u32::try_from(c.index.as_ref()?.index).ok()?;
        Some((
            Cell {
                service,
                part,
                slot,
            },
            totals(c),
        ))
    }

    /// The key of a fixed entry, as idle notices have it.
    #[must_use]
    pub fn decode_key(&self, e: &TableEntry) -> Option<FlowKey> {
        let table = self.catalog.tables.get(e.table_id)?;
        let (service, part) = self.parts().find(|(s, p)| {
            self.part(*s, *p)
                .is_some_and(|plan| plan.fixed.as_deref() == Some(&table.name))
        })?;
        let field = |name: &str| {
            let id = table.field(name)?.id;
            let field = e.r#match.iter().find(|m| m.field_id == id)?;
            match field.field_match_type.as_ref()? {
                v1::field_match::FieldMatchType::Exact(m) => {
                    Value::from_be_bytes(&m.value).to_u128()
                }
                _ => None,
            }
        };
        Some(FlowKey {
            service,
            part,
            tuple: Tuple {
                src: self.to_address(field("src")?)?,
                dst: self.to_address(field("dst")?)?,
                proto: u8::try_from(field("proto")?).ok()?,
                sport: u16::try_from(field("sport")?).ok()?,
                dport: u16::try_from(field("dport")?).ok()?,
            },
            kind: PacketKind::from_number(u8::try_from(field("kind")?).ok()?)?,
        })
    }

    /// A fixed entry as found on the switch.
    #[must_use]
    pub fn decode_fixed(&self, e: &TableEntry) -> Option<FixedEntry> {
        let key = self.decode_key(e)?;
        let Some(table_action::Type::Action(call)) = e.action.as_ref()?.r#type.as_ref() else {
            return None;
        };
        let action = self.catalog.actions.get(call.action_id)?;
        let param = |name: &str| param(action, call, name);
        let u16_of = |name: &str| param(name).and_then(|n| u16::try_from(n).ok());
        let u32_of = |name: &str| param(name).and_then(|n| u32::try_from(n).ok());
        let kind = action.name.rsplit('.').next()?;
        let decoded = match kind {
            "forward" => FixedAction::Forward,
            "discard" => FixedAction::Discard,
            "ask" if param("else_drop")? == 1 => FixedAction::Discard,
            "dispatch" => FixedAction::Dispatch {
                next_hop: u16_of("next_hop")?,
                tunnel: u16_of("tunnel")?,
            },
            "adjust" => FixedAction::Adjust(Adjust {
                sequence: u32_of("sequence")?,
                acknowledgement: u32_of("acknowledgement")?,
                window_shift: u8::try_from(param("window_shift")?).ok()?.cast_signed(),
            }),
            "translate" => FixedAction::Translate(Tuple {
                src: self.to_address(param("src")?)?,
                dst: self.to_address(param("dst")?)?,
                proto: key.tuple.proto,
                sport: u16_of("sport")?,
                dport: u16_of("dport")?,
            }),
            _ => return None,
        };
        let idle = u64::try_from(e.idle_timeout_ns).unwrap_or(0);
        Some(FixedEntry {
            key,
            action: decoded,
            packet_events: u16_of("packet_events").unwrap_or(0),
            notice_events: u16_of("notice_events").unwrap_or(0),
            entry: u32_of("entry")?,
            slot: u32_of("slot")?,
            idle: (idle != 0).then(|| Duration::from_nanos(idle)),
        })
    }

    /// A next hop, a route to one, or a tunnel, as found on the switch.
    #[must_use]
    pub fn decode_neighbour(&self, e: &TableEntry) -> Option<Entry> {
        use v1::field_match::FieldMatchType;
        let table = self.catalog.tables.get(e.table_id)?;
        let Some(table_action::Type::Action(call)) = e.action.as_ref()?.r#type.as_ref() else {
            return None;
        };
        let action = self.catalog.actions.get(call.action_id)?;
        let param = |name: &str| param(action, call, name);
        let matched = e.r#match.first()?.field_match_type.as_ref()?;
        match (table.name.as_str(), matched) {
            ("Ingress.route", FieldMatchType::Lpm(m)) => {
                let address = self.to_address(Value::from_be_bytes(&m.value).to_u128()?)?;
                let length = u16::try_from(m.prefix_len).ok()?;
                // A mapped IPv4 prefix is 96 bits longer in a dual-stack program.
                let mapped = self.plan.address_bits == 128 && address.is_ipv4();
                let length = length.checked_sub(if mapped { 96 } else { 0 })?;
                Some(Entry::Route {
                    prefix: ipnet::IpNet::new(address, u8::try_from(length).ok()?).ok()?,
                    next_hop: u16::try_from(param("id")?).ok()?,
                })
            }
            ("Ingress.next_hop", FieldMatchType::Exact(m)) => {
                let mac = |name: &str| {
                    let [_, _, bytes @ ..] = u64::try_from(param(name)?).ok()?.to_be_bytes();
                    Some(bytes)
                };
                Some(Entry::NextHop {
                    id: u16::try_from(Value::from_be_bytes(&m.value).to_u128()?).ok()?,
                    port: u16::try_from(param("port")?).ok()?,
                    src_mac: mac("src")?,
                    dst_mac: mac("dst")?,
                })
            }
            (TUNNELS, FieldMatchType::Exact(m)) => {
                let (wrap, is_v4) = match action.name.rsplit('.').next()? {
                    "ipip4" => (Wrap::Ipip, true),
                    "ipip6" => (Wrap::Ipip, false),
                    "gue4" => (Wrap::Gue, true),
                    "gue6" => (Wrap::Gue, false),
                    _ => return None,
                };
                let address = |name: &str| {
                    let n = param(name)?;
                    if is_v4 {
                        return u32::try_from(n).ok().map(|n| Ipv4Addr::from(n).into());
                    }
                    Some(IpAddr::V6(Ipv6Addr::from(n)))
                };
                Some(Entry::Tunnel {
                    id: u16::try_from(Value::from_be_bytes(&m.value).to_u128()?).ok()?,
                    wrap,
                    src: address("src")?,
                    dst: address("dst")?,
                })
            }
            _ => None,
        }
    }

    fn to_address(&self, n: u128) -> Option<IpAddr> {
        if self.plan.address_bits == 32 {
            return u32::try_from(n).ok().map(|n| Ipv4Addr::from(n).into());
        }
        let a = Ipv6Addr::from(n);
        Some(a.to_ipv4_mapped().map_or(IpAddr::V6(a), IpAddr::V4))
    }

    /// A packet from the switch.
    ///
    /// # Errors
    /// Its metadata are not those of the program.
    pub fn packet_in(&self, p: PacketIn) -> Result<Packet, CatalogError> {
        let header = self.catalog.header("packet_in")?;
        let v = header.unpack_in_order(&p.metadata)?;
        let mut fields = v.into_iter();
        let mut next = || fields.next().unwrap_or(0);
        let narrow = |n: u128| u8::try_from(n).unwrap_or(u8::MAX);
        let short = |n: u128| u16::try_from(n).unwrap_or(u16::MAX);
        let word = |n: u128| u32::try_from(n).unwrap_or(u32::MAX);
        let meta = PacketMeta {
            kind: narrow(next()),
            part: narrow(next()),
            reply: next() != 0,
            answered: next() != 0,
            mark_set: next() != 0,
            mark: narrow(next()),
            stage: narrow(next()),
            port: short(next()),
            next_hop: short(next()),
            tunnel: short(next()),
            notices: word(next()),
            entry: word(next()),
        };
        Ok(Packet {
            meta,
            bytes: p.payload,
        })
    }

    /// A packet for the switch.
    ///
    /// # Errors
    /// The program's packet-out header is not the plan's.
    pub fn packet_out(&self, p: Packet) -> Result<PacketOut, CatalogError> {
        let m = p.meta;
        let metadata = self.catalog.header("packet_out")?.pack_in_order(&[
            m.kind.into(),
            m.part.into(),
            m.reply.into(),
            m.answered.into(),
            m.mark_set.into(),
            m.mark.into(),
            m.stage.into(),
            m.port.into(),
            m.next_hop.into(),
            m.tunnel.into(),
            m.notices.into(),
            m.entry.into(),
        ])?;
        Ok(signalbox_p4runtime::packet_out(p.bytes, metadata))
    }
}

fn v4(address: Ipv4Addr) -> Value {
    Value::from(u32::from(address))
}

/// What a counter entry counts.
#[must_use]
pub fn totals(c: &CounterEntry) -> crate::message::Totals {
    let data = c.data.unwrap_or_default();
    crate::message::Totals {
        packets: u64::try_from(data.packet_count).unwrap_or(0),
        bytes: u64::try_from(data.byte_count).unwrap_or(0),
    }
}

/// A table entry as an entity.
#[must_use]
pub fn of_table(e: TableEntry) -> Entity {
    Entity {
        entity: Some(entity::Entity::TableEntry(e)),
    }
}

fn counter_entity(counter_id: u32, slot: Option<u32>) -> Entity {
    Entity {
        entity: Some(entity::Entity::CounterEntry(CounterEntry {
            counter_id,
            index: slot.map(|s| Index {
                index: i64::from(s),
            }),
            data: None,
        })),
    }
}

fn param(action: &ActionInfo, call: &v1::Action, name: &str) -> Option<u128> {
    let id = action.param(name)?.id;
    let p = call.params.iter().find(|p| p.param_id == id)?;
    Value::from_be_bytes(&p.value).to_u128()
}
