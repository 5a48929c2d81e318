//! What the fuzz targets do with their bytes: nothing here may panic, hang, or take much memory.
//!
//! The same functions run over the checked-in corpus in the tests of `bmv2-tests`.

use std::sync::{Mutex, OnceLock, PoisonError};

use signalbox_lower::entries::{Match as Planned, PlannedEntry, prefix_number};
use signalbox_p4::source::MapSources;
use signalbox_switch::{ActionCall, Bits, Config, Entry, Match, Output, Pipeline, Switch};

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

/// Loads a bmv2 JSON and runs a packet through what was loaded.
pub fn json_loader(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(pipeline) = Pipeline::parse(text) {
        let mut switch = Switch::new(Config::default());
        switch.swap(pipeline);
        switch.step(0, 1, &[0x5a; 64], &mut Output::new());
    }
}

/// Sends a packet through the web example's pipeline: the first byte is the port, 255 the CPU's.
pub fn packet_path(data: &[u8]) {
    static SWITCH: OnceLock<Mutex<Switch>> = OnceLock::new();
    let Some((port, packet)) = data.split_first() else {
        return;
    };
    let switch = SWITCH.get_or_init(|| Mutex::new(web_switch()));
    let mut switch = switch.lock().unwrap_or_else(PoisonError::into_inner);
    let port = if *port == 255 { 510 } else { u16::from(*port) };
    let mut output = Output::new();
    switch.step(0, port, packet, &mut output);
    let _ = switch.step_traced(0, port, packet, None, &mut output);
}

/// The web example's pipeline in a switch, open, with the policy's static entries and its floors.
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
    entries.push(lowered.plan.ready_entry());
    for entry in &entries {
        let installed = install(&mut switch, entry, width);
        assert!(installed.is_some(), "not installed: {entry:?}");
    }
    switch
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
