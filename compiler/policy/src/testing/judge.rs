//! Whether what became of a packet is what was expected, and words for both.

use std::net::{IpAddr, SocketAddr};

use super::frames::{Seen, read};
use super::{DroppedBy, End, Fate, neighbour_mac};
use crate::eval::{DropReason, Message};
use crate::model::{
    Ends, Expect, Mac, Policy, PoolIndex, Server, ServiceIndex, ServiceKind, Step, Way,
    address_bits,
};

/// What of a step's expectations a fate does not meet.
pub fn judge(policy: &Policy, step: &Step, fate: &Fate) -> Vec<String> {
    let from = |e: &Expect| matches!(e, Expect::Forward { from: Some(_), .. });
    let with_source = step.expect.iter().any(from);
    step.expect
        .iter()
        .filter(|expect| !holds(policy, expect, fate))
        .map(|expect| {
            format!(
                "expected {}, but {}",
                expected(policy, expect),
                describe(policy, fate, with_source)
            )
        })
        .collect()
}

fn holds(policy: &Policy, expect: &Expect, fate: &Fate) -> bool {
    match (expect, &fate.end) {
        // A spent TTL ends here, and so does what is none of the agent's own connections'; that their
        // senders are told so by ICMP is no answer.
        (Expect::Drop { by: None }, end) => matches!(
            end,
            End::Dropped(_) | End::AtAgent(Message::Ttl | Message::Local)
        ),
        (Expect::Drop { by: Some(service) }, End::Dropped(by)) => match by {
            DroppedBy::Service(s) => s == service,
            DroppedBy::Pipeline(_) | DroppedBy::Unknown => false,
        },
        (Expect::Interest { service }, _) => fate.asked.contains(service),
        (Expect::Manager { manager }, _) => fate.managers.contains(manager),
        (Expect::Reply, end) => *end == End::Replied,
        (Expect::Count { service }, _) => fate.counted.contains(service),
        (Expect::Forward { port, from, to }, End::Forwarded { port: by, frame }) => {
            let Some(seen) = read(policy, frame) else {
                return false;
            };
            let to_fits = |(ip, p): &(IpAddr, Option<u16>)| {
                seen.dst == *ip && p.is_none_or(|p| seen.dport == Some(p))
            };
            let from_fits = |ends: &Ends| {
                seen.src.is_ipv4() == ends.first.is_ipv4()
                    && (address_bits(ends.first)..=address_bits(ends.last))
                        .contains(&address_bits(seen.src))
                    && ends.port.is_none_or(|p| seen.sport == Some(p))
            };
            port == by && to.as_ref().is_none_or(to_fits) && from.as_ref().is_none_or(from_fits)
        }
        (Expect::Server { pool, server }, End::Forwarded { frame, .. }) => {
            let Some(seen) = read(policy, frame) else {
                return false;
            };
            let servers = policy.pool(*pool).map_or(&[][..], |p| &p.servers);
            servers.iter().enumerate().any(|(i, s)| {
                server.is_none_or(|wanted| wanted == i)
                    && ways(policy, *pool).any(|way| is_at(policy, &seen, s, way))
            })
        }
        _ => false,
    }
}

/// The ways by which services send to a pool's servers.
fn ways(policy: &Policy, pool: PoolIndex) -> impl Iterator<Item = Way> {
    policy.services.iter().filter_map(move |s| match &s.kind {
        ServiceKind::Balance(b) if b.pool == pool => Some(b.way),
        _ => None,
    })
}

/// Whether a packet that left goes to the server by that way.
fn is_at(policy: &Policy, seen: &Seen, server: &Server, way: Way) -> bool {
    match way {
        Way::Translate => {
            seen.tunnel.is_none() && (seen.dst, seen.dport) == (server.address, Some(server.port))
        }
        Way::Mac => seen.tunnel.is_none() && seen.mac == mac_of(policy, server.address),
        Way::Ipip | Way::Gue => seen.tunnel == Some(server.address),
    }
}

fn mac_of(policy: &Policy, address: IpAddr) -> Mac {
    let mut known = policy.network.neighbours.iter();
    let stated = known.find(|n| n.address == address).map(|n| n.mac);
    stated.unwrap_or_else(|| neighbour_mac(address))
}

fn service_name(policy: &Policy, service: ServiceIndex) -> &str {
    policy.service(service).map_or("?", |s| &s.name)
}

fn port_name(policy: &Policy, number: u16) -> String {
    policy
        .network
        .port(number)
        .map_or_else(|| number.to_string(), |p| p.name.clone())
}

fn endpoint(ip: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| ip.to_string(), |p| SocketAddr::new(ip, p).to_string())
}

fn expected(policy: &Policy, expect: &Expect) -> String {
    match expect {
        Expect::Drop { by: None } => "a drop".to_owned(),
        Expect::Drop { by: Some(s) } => format!("a drop by `{}`", service_name(policy, *s)),
        Expect::Server { pool, server } => {
            let pool = policy.pool(*pool);
            let name = pool.map_or("?", |p| &p.name);
            let server = server.and_then(|i| pool?.servers.get(i));
            server.map_or_else(
                || format!("a server in @{name}"),
                |s| format!("server `{}`", s.name),
            )
        }
        Expect::Count { service } => {
            format!("`{}` to count it", service_name(policy, *service))
        }
        Expect::Forward { port, from, to } => {
            let from = from.map_or(String::new(), |ends| {
                let first = endpoint(ends.first, ends.port);
                if ends.first == ends.last {
                    format!(" from {first}")
                } else {
                    format!(" from {first}..{}", ends.last)
                }
            });
            let to = to.map_or(String::new(), |(ip, p)| format!(" to {}", endpoint(ip, p)));
            format!("it on port `{}`{from}{to}", port_name(policy, *port))
        }
        Expect::Manager { manager } => {
            format!(
                "manager `{}` to be asked",
                policy.managers.get(*manager).map_or("?", |m| &m.name)
            )
        }
        Expect::Interest { service } => {
            format!(
                "the manager of `{}` to be asked",
                service_name(policy, *service)
            )
        }
        Expect::Reply => "an answer".to_owned(),
    }
}

fn describe(policy: &Policy, fate: &Fate, with_source: bool) -> String {
    let end = match &fate.end {
        End::Forwarded { port, frame } => {
            let ends = read(policy, frame).map_or(String::new(), |seen| {
                let from = if with_source {
                    format!(" from {}", endpoint(seen.src, seen.sport))
                } else {
                    String::new()
                };
                let to = endpoint(seen.dst, seen.dport);
                format!("{from} to {to}{}", dispatched(policy, &seen))
            });
            format!("it left on port `{}`{ends}", port_name(policy, *port))
        }
        End::Dropped(DroppedBy::Service(s)) => {
            format!("it was dropped by `{}`", service_name(policy, *s))
        }
        End::Dropped(DroppedBy::Pipeline(reason)) => format!("it was dropped: {}", why(*reason)),
        End::Dropped(DroppedBy::Unknown) => "nothing more was seen of it".to_owned(),
        End::Replied => "it was answered".to_owned(),
        End::AtAgent(message) => format!("it stayed with the agent ({message:?})").to_lowercase(),
    };
    match fate.asked.as_slice() {
        [] => format!("{end}, and no manager was asked"),
        asked => {
            let names: Vec<String> = asked
                .iter()
                .map(|s| format!("`{}`", service_name(policy, *s)))
                .collect();
            let divided = asked.iter().any(|s| policy.shares_of(*s).count() > 1);
            let who: Vec<String> = (fate.managers.iter())
                .filter_map(|place| policy.managers.get(*place))
                .map(|m| format!("`{}`", m.name))
                .collect();
            let who = if divided {
                format!(": {}", who.join(" and "))
            } else {
                String::new()
            };
            format!(
                "{end}, after the manager of {} was asked{who}",
                names.join(" and ")
            )
        }
    }
}

/// How a packet that is dispatched gets to its server.
fn dispatched(policy: &Policy, seen: &Seen) -> String {
    if let Some(server) = seen.tunnel {
        return format!(" in a tunnel to {server}");
    }
    let by_mac = policy.services.iter().filter_map(|s| match &s.kind {
        ServiceKind::Balance(b) if b.way == Way::Mac => Some((b, policy.pool(b.pool)?)),
        _ => None,
    });
    let mut servers = by_mac
        .filter(|(b, _)| b.destinations.iter().any(|d| d.address == seen.dst))
        .flat_map(|(_, pool)| &pool.servers);
    let server = servers.find(|s| is_at(policy, seen, s, Way::Mac));
    server.map_or_else(String::new, |s| format!(" at server `{}`", s.name))
}

fn why(reason: DropReason) -> &'static str {
    match reason {
        DropReason::BadPacketOut => "the agent handed it back wrongly",
        DropReason::UnknownPort => "it came by an unknown port",
        DropReason::NotIp => "it is not of a family that the policy speaks",
        DropReason::Malformed => "it is malformed",
        DropReason::WrongMac => "it was not addressed to the switch",
        DropReason::NoRoute => "no route leads to its destination",
        DropReason::NoNextHop => "its next hop is not there",
        DropReason::NotServed => "it is for an address of the policy, and no service took it",
        DropReason::Service => "a service dropped it",
    }
}
