//! A switch that runs a policy, without an agent: the tests say what the agent would.

use std::net::IpAddr;

use ipnet::IpNet;
use signalbox_lower::Lowered;
use signalbox_lower::entries::{Match as Planned, PlannedEntry, Value, prefix_number};
use signalbox_lower::plan::{CriterionAction, Plan};
use signalbox_p4::{Image, Options, source::MapSources};
use signalbox_policy::model::Policy;
use signalbox_switch::{
    ActionCall, Bits, CloneSession, Config, Entry, Match, Output, Replica, Switch,
};

const CPU_PORT: u16 = 510;

/// The fields of packet-in and packet-out with their widths, in their order.
const FIELDS: [u32; 12] = [7, 2, 1, 1, 1, 6, 6, 16, 16, 16, 32, 32];

/// A packet-in or packet-out header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meta {
    pub kind: u64,
    pub part: u64,
    pub reply: u64,
    pub answered: u64,
    pub mark_set: u64,
    pub mark: u64,
    pub stage: u64,
    pub port: u64,
    pub next_hop: u64,
    pub tunnel: u64,
    pub notices: u64,
    pub entry: u64,
}

impl Meta {
    fn values(self) -> [u64; 12] {
        [
            self.kind,
            self.part,
            self.reply,
            self.answered,
            self.mark_set,
            self.mark,
            self.stage,
            self.port,
            self.next_hop,
            self.tunnel,
            self.notices,
            self.entry,
        ]
    }

    fn to_bytes(self) -> [u8; 17] {
        let bits = self
            .values()
            .iter()
            .zip(FIELDS)
            .fold(0u128, |n, (v, w)| n << w | u128::from(*v));
        // 136 bits are more than a u128 has: the first field's upper bits are zero in every test.
        let mut bytes = [0; 17];
        bytes[1..].copy_from_slice(&bits.to_be_bytes());
        bytes[0] = u8::try_from(self.kind << 1 | self.part >> 1).unwrap();
        bytes
    }

    fn of(bytes: &[u8]) -> Meta {
        let mut at = 0;
        let mut next = |width: u32| {
            let value = (at..at + width).fold(0u64, |n, i| {
                n << 1 | u64::from(bytes[i as usize / 8] >> (7 - i % 8) & 1)
            });
            at += width;
            value
        };
        let [
            kind,
            part,
            reply,
            answered,
            mark_set,
            mark,
            stage,
            port,
            next_hop,
            tunnel,
            notices,
            entry,
        ] = FIELDS.map(&mut next);
        Meta {
            kind,
            part,
            reply,
            answered,
            mark_set,
            mark,
            stage,
            port,
            next_hop,
            tunnel,
            notices,
            entry,
        }
    }
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    Port(u16, Vec<u8>),
    Agent(Meta, Vec<u8>),
}

/// One direction of a flow.
#[derive(Debug, Clone, Copy)]
pub struct Tuple(pub IpAddr, pub IpAddr, pub u8, pub u16, pub u16);

/// The policy of a text.
pub fn checked(text: &str) -> Policy {
    let checked = signalbox_policy::check(text, "test.policy");
    checked
        .policy
        .unwrap_or_else(|| panic!("{:#?}", checked.diagnostics))
}

/// What our compiler makes of a program, without a word.
pub fn compiled(lowered: &Lowered) -> Image {
    let mut sources = MapSources::new().with("test.p4", lowered.p4.as_str());
    for (name, text) in &lowered.sources {
        sources.insert(name.as_str(), text.as_str());
    }
    let compiled = signalbox_p4::compile(&sources, "test.p4", &Options::default())
        .unwrap_or_else(|e| panic!("{}", e.diagnostics.render(&e.sources, false)));
    let warnings = compiled.diagnostics.render(&compiled.sources, false);
    assert!(compiled.diagnostics.is_empty(), "{warnings}");
    compiled.image
}

/// The switch and its plan.
pub struct Rig {
    pub plan: Plan,
    pub image: Image,
    switch: Switch,
    out: Output,
}

impl Rig {
    /// Compiled and loaded, with no entry at all.
    pub fn bare(policy: &str) -> Rig {
        Rig::load(&checked(policy))
    }

    /// The same for a policy that no text says.
    pub fn load(policy: &Policy) -> Rig {
        let lowered = signalbox_lower::lower(policy).unwrap();
        let image = compiled(&lowered);
        let mut switch = Switch::new(Config {
            cpu_port: Some(CPU_PORT),
            ..Config::default()
        });
        switch.load(&image.json).unwrap();
        let replicas = vec![Replica {
            port: CPU_PORT,
            instance: 1,
        }];
        let session = CloneSession {
            replicas,
            ..CloneSession::default()
        };
        switch
            .clone_session_create(u16::try_from(lowered.plan.notice_session).unwrap(), session)
            .unwrap();
        Rig {
            plan: lowered.plan,
            image,
            switch,
            out: Output::new(),
        }
    }

    /// With the static entries, the managers' criteria (entry 77), and ready.
    pub fn new(policy: &str) -> Rig {
        Rig::bare(policy).started()
    }

    /// Loaded and ready, with no manager: only what the agent installs itself.
    pub fn unmanaged(policy: &Policy) -> Rig {
        let mut rig = Rig::load(policy);
        rig.install_static();
        rig.insert(&rig.plan.ready_entry());
        rig
    }

    /// The same for one that is loaded.
    pub fn started(mut self) -> Rig {
        let rig = &mut self;
        rig.install_static();
        let mut criteria = Vec::new();
        for part in rig
            .plan
            .services
            .iter()
            .flat_map(|s| std::iter::once(&s.forward).chain(&s.reply))
        {
            for criterion in &part.criteria {
                let CriterionAction::Ask {
                    packet_events,
                    notice_events,
                } = criterion.action
                else {
                    continue;
                };
                criteria.extend(criterion.cubes.iter().map(|cube| PlannedEntry {
                    table: part.criteria_table.clone(),
                    matches: cube.matches(),
                    priority: criterion.priority,
                    action: format!("{}.ask", part.stats.strip_suffix(".stats").unwrap()),
                    params: vec![
                        ("packet_events", bits(packet_events, 10)),
                        ("notice_events", bits(notice_events, 10)),
                        ("else_drop", bits(0u8, 1)),
                        ("entry", bits(77u8, 32)),
                        ("slot", bits(1u8, 32)),
                    ],
                }));
            }
        }
        for entry in criteria {
            rig.insert(&entry);
        }
        rig.insert(&rig.plan.ready_entry());
        self
    }

    /// The static entries, without `ready`.
    pub fn install_static(&mut self) {
        for entry in self.plan.static_entries() {
            self.insert(&entry);
        }
    }

    /// Writes an entry.
    pub fn insert(&mut self, entry: &PlannedEntry) {
        let width = self.plan.address_bits;
        let schema = self.switch.schema();
        let table = schema
            .table(&entry.table)
            .unwrap_or_else(|| panic!("no table {}", entry.table));
        let keys = &schema
            .tables
            .iter()
            .find(|t| t.name == entry.table)
            .unwrap()
            .key;
        assert!(
            entry
                .matches
                .iter()
                .all(|(name, _)| keys.iter().any(|k| k.name == *name)),
            "{entry:?}"
        );
        let key = keys
            .iter()
            .map(|key| {
                let found = entry.matches.iter().find(|(name, _)| *name == key.name);
                let (value, wide) = match found {
                    None => return Match::Any,
                    Some((_, Planned::Exact(v) | Planned::Ternary { value: v, .. })) => {
                        v.number(width)
                    }
                    Some((_, Planned::Lpm(prefix))) => (prefix_number(*prefix, width).0, width),
                };
                assert_eq!(usize::from(wide), key.width, "{} of {entry:?}", key.name);
                let value = number(value);
                match found.unwrap().1 {
                    Planned::Exact(_) => Match::Exact(value),
                    Planned::Ternary { mask, .. } => Match::Ternary {
                        value,
                        mask: number(mask.mask_number(width).0),
                    },
                    Planned::Lpm(prefix) => Match::Lpm {
                        value,
                        prefix_len: prefix_number(prefix, width).1.into(),
                    },
                }
            })
            .collect();
        let action = schema
            .table_action(table, &entry.action)
            .unwrap_or_else(|| panic!("{} has no action {}", entry.table, entry.action));
        let declared = &schema
            .actions
            .iter()
            .find(|a| a.name == entry.action)
            .unwrap()
            .params;
        assert_eq!(declared.len(), entry.params.len(), "{entry:?}");
        let params = declared.iter().map(|param| {
            let (value, wide) = entry
                .params
                .iter()
                .find(|(name, _)| *name == param.name)
                .unwrap()
                .1
                .number(width);
            assert_eq!(
                usize::from(wide),
                param.width,
                "{} of {entry:?}",
                param.name
            );
            number(value)
        });
        let call = ActionCall::new(action, params.collect::<Vec<_>>());
        self.switch
            .table_insert(1, table, Entry::new(key, entry.priority, call))
            .unwrap();
    }

    /// A fixed affinity: `action` of `control` (`web_lb` or `web_lb_reply`).
    pub fn fix(
        &mut self,
        control: &str,
        flow: Tuple,
        action: &str,
        params: &[(&'static str, Value)],
    ) {
        let Tuple(src, dst, proto, sport, dport) = flow;
        self.insert(&PlannedEntry {
            table: format!("Cascade.{control}.fixed"),
            matches: vec![
                ("src", Planned::Exact(Value::Addr(src))),
                ("dst", Planned::Exact(Value::Addr(dst))),
                ("proto", Planned::Exact(bits(proto, 8))),
                ("sport", Planned::Exact(bits(sport, 16))),
                ("dport", Planned::Exact(bits(dport, 16))),
                ("kind", Planned::Exact(bits(0u8, 2))),
            ],
            priority: 0,
            action: format!("Cascade.{control}.{action}"),
            params: params.to_vec(),
        });
    }

    /// A fixed affinity that translates `from` to `to`, with entry 5 and slot 5000.
    pub fn translate(&mut self, control: &str, from: Tuple, to: Tuple, events: (u16, u16)) {
        let Tuple(src, dst, _, sport, dport) = to;
        let mut params = vec![
            ("src", Value::Addr(src)),
            ("dst", Value::Addr(dst)),
            ("sport", bits(sport, 16)),
            ("dport", bits(dport, 16)),
        ];
        params.extend(tail(events, 5000));
        self.fix(control, from, "translate", &params);
    }

    /// A route, and the neighbour it leads to.
    pub fn route(&mut self, prefix: &str, id: u16, port: u16) {
        self.route_only(prefix, id);
        self.next_hop(id, port, 1500);
    }

    /// A neighbour on a port whose link takes IP packets so long.
    pub fn next_hop(&mut self, id: u16, port: u16, mtu: u16) {
        self.insert(&PlannedEntry {
            table: "Ingress.next_hop".into(),
            matches: vec![("next_hop", Planned::Exact(bits(id, 16)))],
            priority: 0,
            action: "Ingress.send".into(),
            params: vec![
                ("port", bits(port, 9)),
                ("src", bits(0x0253_4200_0000_u64 + u64::from(port), 48)),
                ("dst", bits(0x02aa_0000_0000_u64 + u64::from(id), 48)),
                ("mtu", bits(mtu, 16)),
            ],
        });
    }

    /// A route whose neighbour is not known.
    pub fn route_only(&mut self, prefix: &str, id: u16) {
        let prefix: IpNet = prefix.parse().unwrap();
        self.insert(&PlannedEntry {
            table: "Ingress.route".into(),
            matches: vec![("dst", Planned::Lpm(prefix))],
            priority: 0,
            action: "Ingress.to_next_hop".into(),
            params: vec![("id", bits(id, 16))],
        });
    }

    /// What a frame on a port comes to.
    pub fn send(&mut self, port: u16, frame: &[u8]) -> Vec<Out> {
        self.out.clear();
        self.switch.step(2, port, frame, &mut self.out);
        self.out
            .packets()
            .map(|p| match p.port {
                CPU_PORT => Out::Agent(Meta::of(&p.bytes[..17]), p.bytes[17..].to_vec()),
                port => Out::Port(port, p.bytes.to_vec()),
            })
            .collect()
    }

    /// What a packet-out comes to.
    pub fn packet_out(&mut self, meta: Meta, frame: &[u8]) -> Vec<Out> {
        self.send(CPU_PORT, &[&meta.to_bytes(), frame].concat())
    }

    /// The one packet that the frame becomes, by this port.
    pub fn forwarded(&mut self, port: u16, frame: &[u8], egress: u16) -> Vec<u8> {
        one_port(self.send(port, frame), egress)
    }

    /// The one packet that the agent gets for the frame.
    pub fn diverted(&mut self, port: u16, frame: &[u8]) -> (Meta, Vec<u8>) {
        one_agent(self.send(port, frame))
    }

    /// Packets dropped for a reason so far.
    pub fn drops(&self, reason: usize) -> u64 {
        self.counted("Ingress.drops", reason)
    }

    /// Packets in a counter's cell.
    pub fn counted(&self, counter: &str, cell: usize) -> u64 {
        self.totals(counter, cell).0
    }

    /// Packets and bytes in a counter's cell.
    pub fn totals(&self, counter: &str, cell: usize) -> (u64, u64) {
        let id = self.switch.schema().counter(counter).unwrap();
        let cell = self.switch.counter_read(id, cell).unwrap();
        (cell.packets, cell.bytes)
    }

    /// The frame is dropped, and counted for this reason only.
    pub fn dropped(&mut self, port: u16, frame: &[u8], reason: usize, what: &str) {
        assert_eq!(self.counted_drop(port, frame, reason, what), [], "{what}");
    }

    /// The frame is dropped, counted for this reason only, and shown to the agent as it is.
    pub fn undelivered(&mut self, port: u16, frame: &[u8], reason: usize, what: &str) {
        let meta = Meta {
            kind: 12,
            port: u64::from(port),
            ..Meta::default()
        };
        let shown = [Out::Agent(meta, frame.to_vec())];
        assert_eq!(
            self.counted_drop(port, frame, reason, what),
            shown,
            "{what}"
        );
    }

    fn counted_drop(&mut self, port: u16, frame: &[u8], reason: usize, what: &str) -> Vec<Out> {
        let before: Vec<_> = (0..16).map(|r| self.drops(r)).collect();
        let out = self.send(port, frame);
        let after: Vec<_> = (0..16).map(|r| self.drops(r) - before[r]).collect();
        let expected: Vec<_> = (0..16).map(|r| u64::from(r == reason)).collect();
        assert_eq!(after, expected, "{what}");
        out
    }
}

/// Events, entry 5 and a slot.
pub fn tail((packet, notice): (u16, u16), slot: u32) -> Vec<(&'static str, Value)> {
    vec![
        ("packet_events", bits(packet, 10)),
        ("notice_events", bits(notice, 10)),
        ("entry", bits(5u8, 32)),
        ("slot", bits(slot, 32)),
    ]
}

pub fn bits(value: impl Into<u64>, width: u16) -> Value {
    Value::Bits {
        value: value.into(),
        width,
    }
}

fn number(value: u128) -> Bits {
    Bits::from_be_bytes(&value.to_be_bytes())
}

pub fn one_port(out: Vec<Out>, egress: u16) -> Vec<u8> {
    match <[Out; 1]>::try_from(out) {
        Ok([Out::Port(port, bytes)]) if port == egress => bytes,
        other => panic!("not one packet by port {egress}: {other:?}"),
    }
}

pub fn one_agent(out: Vec<Out>) -> (Meta, Vec<u8>) {
    match <[Out; 1]>::try_from(out) {
        Ok([Out::Agent(meta, bytes)]) => (meta, bytes),
        other => panic!("not one packet to the agent: {other:?}"),
    }
}
