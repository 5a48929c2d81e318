//! The main program's text: head, includes, one instance of a stage control a service and part, and the
//! order in which they apply. All that is more than that stands in p4/lib.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use signalbox_policy::model::{NatSource, Policy, ServiceKind, Way};

use crate::library;
use crate::plan::{Kind, PartPlan, Plan, ServicePlan};

/// The program's text and its id: the FNV-1a hash of what the text does, without the id and the comments
/// at its head, and of what it includes. The comments say what rules and criteria the policy has; those are
/// entries, and a policy that changes nothing else has the same program.
#[must_use]
pub fn write(policy: &Policy, plan: &Plan, sources: &BTreeMap<String, String>) -> (String, u32) {
    let comments = comments(policy, plan);
    let head = head(plan);
    let body = body(plan);
    let texts = [head.as_str(), body.as_str()];
    let id = fnv1a(
        texts
            .into_iter()
            .chain(sources.values().map(String::as_str)),
    );
    (
        format!("{comments}{head}const bit<32> PROGRAM_ID = 0x{id:08x};\n\n{body}"),
        id,
    )
}

fn comments(policy: &Policy, plan: &Plan) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "// The pipeline of the policy {}, for any P4_16 compiler with v1model.",
        plan.policy
    );
    let _ = writeln!(
        out,
        "// Made by `signalbox compile`: change the policy, not this file. Rules and criteria are table entries."
    );
    if plan.services.is_empty() {
        let _ = writeln!(out, "// It has no services: a router.");
    }
    for (service, model) in plan.services.iter().zip(&policy.services) {
        let _ = writeln!(out, "//");
        let _ = writeln!(
            out,
            "// {}. {}: {}",
            service.stage,
            service.name,
            kind(service.kind)
        );
        for clause in clauses(&model.kind, policy) {
            let _ = writeln!(out, "//      {}", comment(&clause));
        }
    }
    out
}

fn head(plan: &Plan) -> String {
    let mut out = String::new();
    let dual = plan.address_bits == 128;
    let _ = writeln!(out, "\n#include <core.p4>\n#include <v1model.p4>\n");
    if dual {
        let _ = writeln!(out, "#define DUAL_STACK");
    }
    if library::tunnels(plan) {
        let _ = writeln!(out, "#define TUNNELS");
    }
    if library::gates(plan) {
        let _ = writeln!(out, "#define GATES");
    }
    let _ = writeln!(
        out,
        "const bit<9> CPU_PORT = {}; // leads to the agent",
        plan.cpu_port
    );
    out
}

fn body(plan: &Plan) -> String {
    let mut out = String::new();
    for file in library::included(plan) {
        let _ = writeln!(out, "#include \"{}/{file}\"", library::FOLDER);
    }
    out.push_str(
        "\ncontrol Cascade(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {\n    Admission() admission;\n",
    );
    for service in &plan.services {
        let _ = writeln!(out, "\n    // {}. {}", service.stage, service.name);
        instance(&mut out, service, &service.forward, false);
        if let Some(reply) = &service.reply {
            instance(&mut out, service, reply, true);
        }
    }
    out.push('\n');
    if library::tunnels(plan) {
        out.push_str("    Tunnels() tunnels;\n");
    }
    out.push_str("    Routing() routing;\n    Finish() finish;\n\n    apply {\n        admission.apply(hdr, meta, std);\n");
    let replies: Vec<_> = plan
        .services
        .iter()
        .rev()
        .filter_map(|s| s.reply.as_ref())
        .collect();
    if !replies.is_empty() {
        out.push_str("\n        // Replies: the last service first.\n");
        for part in replies {
            let _ = writeln!(out, "        {}.apply(meta, std);", instance_name(part));
        }
    }
    if !plan.services.is_empty() {
        out.push_str("\n        // Forward: the first service first.\n");
    }
    for service in &plan.services {
        let arguments = match service.kind {
            Kind::Filter => "meta",
            Kind::Balance | Kind::Nat | Kind::Gate | Kind::Observe => "meta, std",
        };
        let _ = writeln!(
            out,
            "        {}.apply({arguments});",
            instance_name(&service.forward)
        );
    }
    out.push('\n');
    if library::tunnels(plan) {
        out.push_str("        tunnels.apply(hdr, meta);\n");
    }
    out.push_str(
        "        routing.apply(hdr, meta, std);\n        finish.apply(meta, std);\n    }\n}\n\nV1Switch(PacketParser(), VerifyHeaders(), Cascade(), Departure(), NoUpdate(), PacketDeparser()) main;\n",
    );
    out
}

/// Constructor arguments: the stage, then the sizes of the fixed and of the ternary table.
fn instance(out: &mut String, service: &ServicePlan, part: &PartPlan, reply: bool) {
    let name = instance_name(part);
    let _ = match service.kind {
        Kind::Filter => writeln!(
            out,
            "    Filter({}, {}) {name};",
            service.stage, part.criteria_size
        ),
        Kind::Balance | Kind::Nat | Kind::Gate | Kind::Observe => {
            let control = match (service.kind, reply) {
                (Kind::Observe, _) => "Observe",
                (Kind::Gate, true) => "GateReply",
                (Kind::Gate, false) => "Gate",
                (_, true) => "TranslateReply",
                (_, false) => "Translate",
            };
            let (stage, fixed, criteria) = (service.stage, part.fixed_size, part.criteria_size);
            writeln!(out, "    {control}({stage}, {fixed}, {criteria}) {name};")
        }
    };
}

/// `web_lb` of `Cascade.web_lb.wildcard`.
fn instance_name(part: &PartPlan) -> &str {
    part.criteria_table.split('.').nth(1).unwrap_or_default()
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Filter => "filter",
        Kind::Balance => "balance",
        Kind::Nat => "nat",
        Kind::Gate => "gate",
        Kind::Observe => "observe",
    }
}

/// What the policy says of the service.
fn clauses(kind: &ServiceKind, policy: &Policy) -> Vec<String> {
    use signalbox_policy::model::FilterVerdict::{Allow, Deny};
    let word = |v| match v {
        Allow => "allow",
        Deny => "deny",
    };
    match kind {
        ServiceKind::Filter(filter) => filter
            .rules
            .iter()
            .map(|r| format!("{} {}", word(r.verdict), r.criteria.text))
            .chain([format!("default {}", word(filter.default))])
            .collect(),
        ServiceKind::Nat(nat) => std::iter::once(format!("match {}", nat.criteria.text))
            .chain(nat.source.iter().flat_map(sources_of))
            .chain(nat.destination.map(|to| match to.port {
                Some(port) => format!("destination {}", SocketAddr::new(to.address, port)),
                None => format!("destination {}", to.address),
            }))
            .collect(),
        ServiceKind::Gate(gate) => std::iter::once(format!("match {}", gate.criteria.text))
            .chain(gate.allow.iter().map(|a| a.text()))
            .collect(),
        ServiceKind::Observe(observe) => {
            let count = if observe.per_flow {
                "count per flow"
            } else {
                "count"
            };
            vec![format!("match {}", observe.criteria.text), count.into()]
        }
        ServiceKind::Balance(balance) => {
            let pool = policy.pool(balance.pool).map(|p| format!("to @{}", p.name));
            let way = match balance.way {
                Way::Translate => None,
                Way::Mac => Some("way mac".to_owned()),
                Way::Ipip => Some("way ipip".to_owned()),
                Way::Gue => Some("way gue".to_owned()),
            };
            std::iter::once(format!("match {}", balance.criteria.text))
                .chain(pool)
                .chain(way)
                .collect()
        }
    }
}

/// What a nat service makes of the source, a line a clause.
fn sources_of(source: &NatSource) -> Vec<String> {
    match source {
        NatSource::Ports {
            addresses,
            first_port,
            last_port,
        } => {
            let ranges: Vec<_> = addresses
                .iter()
                .map(|(first, last)| match first == last {
                    true => first.to_string(),
                    false => format!("{first}..{last}"),
                })
                .collect();
            let ranges = ranges.join(", ");
            vec![format!("source {ranges} ports {first_port}..{last_port}")]
        }
        NatSource::OneToOne { pairs } => pairs
            .iter()
            .map(|(inside, outside)| format!("one-to-one {inside} = {outside}"))
            .collect(),
    }
}

/// Text that a line comment can hold: on one line, and without a backslash that would join the next.
fn comment(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || c == '\\' { ' ' } else { c })
        .collect()
}

/// 32-bit FNV-1a of the texts, one after the other.
fn fnv1a<'a>(texts: impl Iterator<Item = &'a str>) -> u32 {
    texts.flat_map(str::bytes).fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(fnv1a([""].into_iter()), 0x811c_9dc5);
        assert_eq!(fnv1a(["foo", "bar"].into_iter()), 0xbf9c_f968);
    }

    #[test]
    fn a_comment_ends_with_its_line() {
        assert_eq!(comment("a\nb\\"), "a b ");
    }
}
