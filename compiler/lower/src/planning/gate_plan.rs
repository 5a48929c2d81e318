//! What a gate's manager goes by: who may come in and when, bounds, times, the largest segments.

use signalbox_policy::model::{self, Family, Policy, ServiceKind, Way};

use super::{cubes, millis};
use crate::plan::{AllowPlan, GateBounds, GatePlan, HostPattern, LookPlan, Refuse, WhenPlan};

/// Headers of IP and TCP without options, in bytes (RFC 9293, section 3.7.1; RFC 8200).
const HEADERS: [(Family, u16); 2] = [(Family::V4, 40), (Family::V6, 60)];
/// The least that is told: the default of RFC 9293, section 3.7.1, for each family.
const LEAST_MSS: [(Family, u16); 2] = [(Family::V4, 536), (Family::V6, 1_220)];

pub(super) fn gate_plan(policy: &Policy, gate: &model::Gate) -> GatePlan {
    GatePlan {
        allow: gate
            .allow
            .iter()
            .map(|allow| AllowPlan {
                label: allow.text(),
                cubes: cubes::entries(&allow.criteria.cubes, policy.families),
                when: allow.when.map(|when| WhenPlan {
                    from_s: when.from,
                    to_s: when.to,
                    days: when.days,
                }),
            })
            .collect(),
        refuse: match gate.refuse {
            model::Refuse::Drop => Refuse::Drop,
            model::Refuse::Reset => Refuse::Reset,
        },
        look: gate.look.iter().map(look).collect(),
        bounds: GateBounds {
            connections: gate.bounds.connections,
            connections_per_source: gate.bounds.connections_per_source,
            new_per_second: gate.bounds.new_per_second,
            new_per_second_per_source: gate.bounds.new_per_second_per_source,
            proxied: gate.bounds.proxied,
        },
        mss_v4: gate.mss.unwrap_or_else(|| mss(policy, Family::V4)),
        mss_v6: gate.mss.unwrap_or_else(|| mss(policy, Family::V6)),
        window_scale: gate.window_scale,
        buffer: gate.buffer,
        connect_ms: millis(gate.times.connect),
        speak_ms: millis(gate.times.speak),
        hand_over_ms: millis(gate.times.hand_over),
        proxied_idle_ms: millis(gate.times.proxied),
    }
}

fn look(look: &model::Look) -> LookPlan {
    let names = |patterns: &[model::HostPattern]| {
        let all = patterns.iter().map(|p| HostPattern {
            name: p.name.clone(),
            below: p.below,
        });
        all.collect()
    };
    match look {
        model::Look::TlsName(patterns) => LookPlan::TlsName(names(patterns)),
        model::Look::HttpHost(patterns) => LookPlan::HttpHost(names(patterns)),
        model::Look::Bytes {
            offset,
            value,
            mask,
        } => LookPlan::Bytes {
            offset: *offset,
            value: value.clone(),
            mask: mask.clone(),
        },
    }
}

/// What fits into every port's packets, also in the tunnel of a balance service.
fn mss(policy: &Policy, family: Family) -> u16 {
    let of = |table: [(Family, u16); 2]| {
        let found = table.iter().find(|(f, _)| *f == family);
        found.map_or(0, |(_, bytes)| *bytes)
    };
    let ports = policy.network.ports.iter().map(|p| p.mtu);
    let mtu = ports.min().unwrap_or(1_500);
    let tunnels = policy.services.iter().map(|s| match &s.kind {
        ServiceKind::Balance(balance) => tunnel(policy, balance),
        _ => 0,
    });
    let around = tunnels.max().unwrap_or(0);
    mtu.saturating_sub(around)
        .saturating_sub(of(HEADERS))
        .max(of(LEAST_MSS))
}

/// What a service's tunnel puts around a packet: IP, and of GUE a UDP header and four bytes.
fn tunnel(policy: &Policy, balance: &model::Balance) -> u16 {
    let pool = policy.pool(balance.pool);
    let server = pool.and_then(|p| p.servers.first()).map(|s| s.address);
    let ip = if server.is_some_and(|a| a.is_ipv6()) {
        40
    } else {
        20
    };
    match balance.way {
        Way::Translate | Way::Mac => 0,
        Way::Ipip => ip,
        Way::Gue => ip + 12,
    }
}
