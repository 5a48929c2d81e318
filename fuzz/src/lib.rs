//! What the fuzz targets do with their bytes: nothing here may panic, hang, or take much memory.
//!
//! The same functions run over the checked-in corpus in the tests of `bmv2-tests`.

mod peers;

use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};

use signalbox_lower::entries::{Match as Planned, PlannedEntry, Value, prefix_number};
use signalbox_lower::plan::{Criterion, CriterionAction, PartPlan};
use signalbox_p4::source::MapSources;
use signalbox_switch::{
    ActionCall, Bits, Config, Entry, Match, MatchKind, Output, Pipeline, Switch, TableId,
};

pub use peers::{peer_messages, remembers};

/// The policy whose pipeline the packet path is fuzzed on.
const WEB: &str = include_str!("../../examples/web.policy");

/// Checks and formats a policy; formatting twice must be formatting once.
pub fn policy_parser(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let checked = signalbox_policy::check(text, "fuzz.policy");
    let formed = signalbox_policy::fmt(text);
    assert_eq!(signalbox_policy::fmt(&formed), formed);
    if let Some(policy) = checked.policy {
        // A policy that checks can be lowered, or says why not.
        let _ = signalbox_lower::lower(&policy);
    }
}

/// Compiles a P4 program.
pub fn p4_front(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let sources = MapSources::new().with("fuzz.p4", text);
    let _ = signalbox_p4::compile(&sources, "fuzz.p4", &signalbox_p4::Options::default());
}

/// Loads a bmv2 JSON, writes an entry into every table, and runs packets through what was loaded.
pub fn json_loader(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = loads_and_runs(text);
}

/// Whether a bmv2 JSON loads; what does has also carried packets.
pub fn loads_and_runs(text: &str) -> bool {
    let Ok(pipeline) = Pipeline::parse(text) else {
        return false;
    };
    let mut switch = Switch::new(Config {
        cpu_port: Some(510),
        // What a changed image asks for must not take the machine's memory.
        default_table_size: 16,
        ..Config::default()
    });
    switch.swap(pipeline);
    fill(&mut switch);
    let mut output = Output::new();
    let frames: [&[u8]; 4] = [&[], &[0x5a; 64], ESTABLISHED, &[0; 1500]];
    for frame in frames {
        for port in [1, 510] {
            switch.step(0, port, frame, &mut output);
        }
    }
    let _ = switch.step_traced(0, 1, ESTABLISHED, None, &mut output);
    true
}

/// A TCP segment of a client of the web example; the first byte is the port.
const ESTABLISHED: &[u8] = include_bytes!("../corpus/packet_path/established");

/// Inserts an entry with every action of every table that takes one: keys of zeros, parameters of ones.
fn fill(switch: &mut Switch) {
    let schema = switch.schema().clone();
    for (number, table) in (0..).zip(&schema.tables) {
        for action in &table.actions {
            let key = table.key.iter().map(|field| match field.kind {
                MatchKind::Exact => Match::exact(0),
                _ => Match::Any,
            });
            let params = schema.actions.get(action.0 as usize).into_iter();
            let params = params.flat_map(|one| &one.params).map(|_| Bits::from(1u64));
            let entry = Entry::new(key.collect(), 1, ActionCall::new(*action, params));
            // Some tables take no entries, or none like this.
            let _ = switch.table_insert(0, TableId(number), entry);
        }
    }
}

/// Sends a packet through the web example's pipeline: the first byte is the port, 255 the CPU's.
pub fn packet_path(data: &[u8]) {
    let _ = goes_to(data);
}

/// The same, and where the packet leaves.
pub fn goes_to(data: &[u8]) -> Vec<u16> {
    static SWITCH: OnceLock<Mutex<Switch>> = OnceLock::new();
    let Some((port, packet)) = data.split_first() else {
        return Vec::new();
    };
    let switch = SWITCH.get_or_init(|| Mutex::new(web_switch()));
    let mut switch = switch.lock().unwrap_or_else(PoisonError::into_inner);
    let port = if *port == 255 { 510 } else { u16::from(*port) };
    let mut output = Output::new();
    switch.step(0, port, packet, &mut output);
    let ports = output.packets().map(|one| one.port).collect();
    let _ = switch.step_traced(0, port, packet, None, &mut output);
    ports
}

/// The web example's pipeline in a switch, open, with all that it holds when one connection is under way:
/// the policy's static entries and floors, what the manager asks for, and one decided flow.
fn web_switch() -> Switch {
    let mut switch = Switch::new(Config {
        cpu_port: Some(510),
        ..Config::default()
    });
    let checked = signalbox_policy::check(WEB, "web.policy");
    let lowered = checked
        .policy
        .and_then(|policy| signalbox_lower::lower(&policy).ok());
    let Some(lowered) = lowered else {
        return switch;
    };
    let mut sources = MapSources::new().with("web.p4", lowered.p4.as_str());
    for (name, text) in &lowered.sources {
        sources.insert(name.as_str(), text.as_str());
    }
    let compiled = signalbox_p4::compile(&sources, "web.p4", &signalbox_p4::Options::default());
    if let Some(pipeline) = compiled
        .ok()
        .and_then(|compiled| Pipeline::parse(&compiled.image.json).ok())
    {
        switch.swap(pipeline);
    }
    let width = lowered.plan.address_bits;
    let mut entries = lowered.plan.static_entries();
    for service in &lowered.plan.services {
        for part in std::iter::once(&service.forward).chain(&service.reply) {
            entries.extend(part.criteria.iter().flat_map(|one| asked(part, one)));
        }
    }
    entries.extend(one_flow());
    entries.push(lowered.plan.ready_entry());
    for entry in &entries {
        let installed = install(&mut switch, entry, width);
        assert!(installed.is_some(), "not installed: {entry:?}");
    }
    switch
}

/// The entries by which a manager asks for all packets of a criterion; none for a static rule.
fn asked(part: &PartPlan, criterion: &Criterion) -> Vec<PlannedEntry> {
    if !matches!(criterion.action, CriterionAction::Ask { .. }) {
        return Vec::new();
    }
    let control = part.criteria_table.trim_end_matches(|c| c != '.');
    let cubes = criterion.cubes.iter().map(|cube| PlannedEntry {
        table: part.criteria_table.clone(),
        matches: cube.matches(),
        priority: 1000,
        action: format!("{control}ask"),
        params: vec![
            ("packet_events", bits(512, 10)),
            ("notice_events", bits(1, 10)),
            ("else_drop", bits(0, 1)),
            ("entry", bits(criterion.id.into(), 32)),
            ("slot", bits(criterion.id.into(), 32)),
        ],
    });
    cubes.collect()
}

/// A client's connection from port 40000 to the first server: both directions, and the way to both ends.
fn one_flow() -> Vec<PlannedEntry> {
    let (client, server) = ([203, 0, 113, 9], [10, 0, 1, 10]);
    let service = [203, 0, 113, 80];
    let ends = [(client, 1u16, 1u16), (server, 10, 2)];
    let ways = ends.into_iter().flat_map(|(host, id, port)| {
        let matches = vec![("dst", Planned::Lpm(IpAddr::from(host).into()))];
        let route = entry(
            "Ingress.route",
            matches,
            "to_next_hop",
            vec![("id", bits(id.into(), 16))],
        );
        let params = vec![
            ("port", bits(port.into(), 9)),
            ("src", bits(0x0253_4200_0000 + u64::from(port), 48)),
            ("dst", bits(0x020d_0000_0000 + u64::from(id), 48)),
            ("mtu", bits(1500, 16)),
        ];
        let matches = vec![("next_hop", Planned::Exact(bits(id.into(), 16)))];
        [route, entry("Ingress.next_hop", matches, "send", params)]
    });
    let there = ((client, 40_000), (service, 80));
    let behind = ((client, 40_000), (server, 8080));
    let back = ((server, 8080), (client, 40_000));
    let home = ((service, 80), (client, 40_000));
    let fixed = |table: &str, key: Tuple, to: Tuple| {
        let mut matches = vec![
            ("proto", Planned::Exact(bits(6, 8))),
            ("kind", Planned::Exact(bits(0, 2))),
        ];
        matches.extend(tuple(key).map(|(name, value)| (name, Planned::Exact(value))));
        let mut params = tuple(to).to_vec();
        params.extend([
            ("packet_events", bits(0, 10)),
            // The notice of a FIN is the pipeline's one clone.
            ("notice_events", bits(1, 10)),
            ("entry", bits(0x8000_0001, 32)),
            ("slot", bits(4100, 32)),
        ]);
        entry(table, matches, "translate", params)
    };
    ways.chain([
        fixed("Cascade.web_lb_reply.fixed", back, home),
        fixed("Cascade.web_lb.fixed", there, behind),
    ])
    .collect()
}

/// Source and destination, each an IPv4 address and a port.
type Tuple = (([u8; 4], u64), ([u8; 4], u64));

fn tuple((from, to): Tuple) -> [(&'static str, Value); 4] {
    [
        ("src", Value::Addr(from.0.into())),
        ("dst", Value::Addr(to.0.into())),
        ("sport", bits(from.1, 16)),
        ("dport", bits(to.1, 16)),
    ]
}

fn bits(value: u64, width: u16) -> Value {
    Value::Bits { value, width }
}

fn entry(
    table: &str,
    matches: Vec<(&'static str, Planned)>,
    action: &str,
    params: Vec<(&'static str, Value)>,
) -> PlannedEntry {
    let control = table.trim_end_matches(|c| c != '.');
    PlannedEntry {
        table: table.to_owned(),
        matches,
        priority: 0,
        action: format!("{control}{action}"),
        params,
    }
}

/// Writes a planned entry; nothing when it does not fit the pipeline.
fn install(switch: &mut Switch, entry: &PlannedEntry, width: u16) -> Option<()> {
    let bits = |(value, _): (u128, u16)| Bits::from_be_bytes(&value.to_be_bytes());
    let schema = switch.schema();
    let id = schema.table(&entry.table)?;
    let table = schema
        .tables
        .iter()
        .find(|table| table.name == entry.table)?;
    let key = table.key.iter().map(|key| {
        match entry
            .matches
            .iter()
            .find(|(name, _)| *name == key.name)
            .map(|(_, one)| one)
        {
            None => Match::Any,
            Some(Planned::Exact(value)) => Match::Exact(bits(value.number(width))),
            Some(Planned::Ternary { value, mask }) => Match::Ternary {
                value: bits(value.number(width)),
                mask: bits(mask.mask_number(width)),
            },
            Some(Planned::Lpm(prefix)) => Match::Lpm {
                value: bits(prefix_number(*prefix, width)),
                prefix_len: prefix_number(*prefix, width).1.into(),
            },
        }
    });
    let key: Vec<Match> = key.collect();
    let action = ActionCall::new(
        schema.table_action(id, &entry.action)?,
        entry
            .params
            .iter()
            .map(|(_, value)| bits(value.number(width))),
    );
    switch
        .table_insert(0, id, Entry::new(key, entry.priority, action))
        .ok()
        .map(|_| ())
}
