//! What the fuzz targets do with their bytes: nothing here may panic, hang, or take much memory.
//!
//! The same functions run over the checked-in corpus in the tests of `bmv2-tests`.

use std::sync::{Mutex, OnceLock, PoisonError};

use signalbox_p4::source::MapSources;
use signalbox_switch::{Config, Output, Pipeline, Switch};

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

/// The web example's pipeline in a switch, without entries.
fn web_switch() -> Switch {
    let mut switch = Switch::new(Config {
        cpu_port: Some(510),
        ..Config::default()
    });
    let checked = signalbox_policy::check(WEB, "web.policy");
    let Some(lowered) = checked.policy.and_then(|policy| signalbox_lower::lower(&policy).ok()) else {
        return switch;
    };
    let mut sources = MapSources::new().with("web.p4", lowered.p4.as_str());
    for (name, text) in &lowered.sources {
        sources.insert(name.as_str(), text.as_str());
    }
    let image = signalbox_p4::compile(&sources, "web.p4", &signalbox_p4::Options::default());
    if let Some(pipeline) = image.ok().and_then(|compiled| Pipeline::parse(&compiled.image.json).ok()) {
        switch.swap(pipeline);
    }
    switch
}
