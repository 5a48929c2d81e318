//! The agent's walk against the evaluator, which is what a policy means.

use proptest::prelude::*;
use signalbox_policy::eval::{DropReason, Evaluator, Message as To, Outcome, Part as EvalPart};
use signalbox_policy::model::{Policy, ServiceIndex};

use super::frames::{Shape, framed, ip_packet};
use super::site::{arrives, flow, ip, put, translate};
use super::*;
use crate::counters::Drop;
use crate::entry::{FixedAction, packet_in};
use crate::machine::translate::{renumber, retarget};
use crate::machine::walk::{End, Met, Walk};
use crate::packet::{self, View};
use crate::testing::World;

const POLICY: &str = "
network {
  port 1 clients { address 203.0.113.1/24; address 2001:db8:1::1/64; mac 02:00:00:00:00:01 }
  port 2 servers { address 10.0.1.1/24; address 2001:db8:2::1/64; mac 02:00:00:00:00:02 }
}
pool web { 10.0.1.10:8080; 10.0.1.11:8080 }
pool names { [2001:db8:2::10]:53 }
service guard : filter {
  deny ip.src in { 203.0.113.66, 2001:db8:1::66 } or udp.dst 666
  deny port servers and tcp.syn and not tcp.ack and ip.dst 203.0.113.9
  deny icmp.type echo-request and ip.dst in 10.0.1.0/24
}
service web-lb : balance {
  match tcp.dst { 203.0.113.80:443, 203.0.113.80:80 } and not ip.src 203.0.113.7
  pick from @web by weighted
}
service dns : balance {
  match udp.dst [2001:db8:1::80]:53
  pick from @names by weighted
  fallback route
}
service late : filter { deny tcp.dst 8080 and ip.src 203.0.113.8 }
cascade guard > web-lb > dns > late
managers { lb-1 serves web-lb, dns }
";

fn policy() -> &'static (Policy, Plan) {
    static ONCE: std::sync::OnceLock<(Policy, Plan)> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| {
        let checked = signalbox_policy::check(POLICY, "walk.policy");
        let policy = (checked.policy).unwrap_or_else(|| panic!("{:#?}", checked.diagnostics));
        let plan = signalbox_lower::lower(&policy).unwrap().plan;
        (policy, plan)
    })
}

/// An agent that carries out the policy, with the manager's criteria of one service or of both.
fn agent(plan: &Plan, managed: &[&str]) -> World {
    let mut w = World::new(plan.clone());
    w.feed(Input::SessionOpened(LB));
    let claims = ["web-lb", "dns"].map(|service| Claim {
        service: service.into(),
        share: 0,
        epoch: 1,
        standby: false,
    });
    let hello = Hello {
        instance: 0,
        version: VERSION,
        manager: "lb-1".into(),
        plan_hash: 0,
        claims: claims.to_vec(),
    };
    say(&mut w, LB, 1, ManagerBody::Hello(hello));
    for name in managed {
        let mut own = plan.clone();
        own.services.retain(|s| s.name == *name);
        let body = ManagerBody::Criteria(criteria(&own, 1));
        let service = (*name).into();
        w.feed(Input::Message(
            LB,
            ToAgent {
                service,
                share: 0,
                epoch: 1,
                body,
            },
        ));
    }
    w
}

fn end_of(outcome: &Outcome) -> Option<(End, Option<(u8, Part)>)> {
    Some(match outcome {
        Outcome::Drop {
            reason: DropReason::Service,
            ..
        } => (End::Drops, None),
        Outcome::Drop {
            reason: DropReason::NoRoute | DropReason::NotServed,
            ..
        } => (End::Route, None),
        Outcome::Forward { .. } => (End::Route, None),
        Outcome::ToAgent {
            message: To::Interest,
            stage: Some((service, part)),
            ..
        } => {
            let part = match part {
                EvalPart::Reply => Part::Reply,
                EvalPart::Forward => Part::Forward,
            };
            (End::Asks, Some((service.0 as u8 + 1, part)))
        }
        Outcome::ToAgent {
            message: To::Glean | To::Unresolved,
            ..
        } => (End::Route, None),
        _ => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    // A10.1, A10.7
    #[test]
    fn a_first_fragment_takes_the_way_that_the_evaluator_says_its_whole_packet_takes(
        v6 in any::<bool>(),
        port in 1u16..=2,
        proto in prop::sample::select(vec![1u8, 6, 6, 17]),
        src in 0usize..7,
        dst in 0usize..7,
        sport in prop::sample::select(vec![53u16, 443, 1000, 8080]),
        dport in prop::sample::select(vec![53u16, 80, 443, 666, 1000, 8080]),
        tcp_flags in prop::sample::select(vec![2u8, 16, 18, 1]),
        managed in 0usize..4,
        decided in prop::collection::vec((0usize..7, any::<bool>()), 0..3),
    ) {
        let hosts = if v6 {
            ["2001:db8:1::7", "2001:db8:1::8", "2001:db8:1::9", "2001:db8:1::66", "2001:db8:1::80", "2001:db8:2::10", "2001:db8:2::11"]
        } else {
            ["203.0.113.7", "203.0.113.8", "203.0.113.9", "203.0.113.66", "203.0.113.80", "10.0.1.10", "10.0.1.11"]
        };
        let (policy, plan) = policy();
        let names: &[&str] = [&[][..], &["web-lb"], &["dns"], &["web-lb", "dns"]][managed];
        let mut w = agent(plan, names);
        let mut oracle = Evaluator::new(policy);
        for (index, name) in [(1, "web-lb"), (2, "dns")] {
            oracle.set_manager(ServiceIndex(index), names.contains(&name));
        }
        let (service, address, server) = if v6 {
            (2, ip("2001:db8:1::80"), (ip("2001:db8:2::10"), 53))
        } else {
            (1, ip("203.0.113.80"), (ip("10.0.1.10"), 8080))
        };
        for (client, _) in decided {
            let proto = if v6 { 17 } else { 6 };
            let came = flow(proto, (ip(hosts[client]), sport), (address, if v6 { 53 } else { 443 }));
            let key = signalbox_policy::eval::FlowKey {
                src: came.src,
                dst: came.dst,
                proto,
                sport: came.sport,
                dport: came.dport,
            };
            if oracle.balance(ServiceIndex(usize::from(service)), key, server.0, server.1) {
                let to = Tuple { dst: server.0, dport: server.1, ..came };
                translate(&mut w, service, came, to);
            }
        }
        let tuple = flow(proto, (ip(hosts[src]), sport), (ip(hosts[dst]), dport));
        let shape = Shape { tcp_flags, ..super::frames::PLAIN };
        let frame = framed(port, &ip_packet(&tuple, &shape, b"x"));
        let outcome = oracle.receive(port, &frame);
        let Some((end, stage)) = end_of(&outcome) else { return Ok(()) };
        let whole = packet::view(&frame).unwrap();
        let first = View { kind: PacketKind::FirstFragment, ..whole };
        for view in [whole, first] {
            let mut walk = Walk::of_packet(&view, port);
            let got = w.agent.walk(&mut walk);
            prop_assert_eq!(got, end, "{:?} {:?}", outcome, view);
            if let Some((number, part)) = stage {
                prop_assert_eq!((walk.meta.stage, walk.meta.part), (number, part as u8));
            }
            if let Outcome::Forward { packet, .. } | Outcome::ToAgent { packet, .. } = &outcome {
                prop_assert_eq!(walk.tuple, packet::view(packet).unwrap().tuple);
            }
            if end == End::Route {
                // What left leads back to what came, where the flow is decided.
                let (origin, _) = w.agent.origin(walk.tuple);
                let decided = walk.met.iter().any(|m| matches!(m, Met::Flow(..)));
                prop_assert!(!decided || origin == tuple, "{:?} {:?}", origin, tuple);
            }
        }
    }
}

#[test]
fn an_own_fragment_kind_of_criterion_still_counts_for_filters() {
    // ICMP errors in fragments are errors to a filter, and nobody could translate what they quote.
    let mut w = agent(&policy().1, &[]);
    let error = super::frames::icmp_error(
        (3, 1, 0),
        ip("203.0.113.9"),
        ip("10.0.1.10"),
        &[0; 200],
        200,
    );
    let pieces = super::frames::cut(&error, 4, &[64]);
    for piece in &pieces {
        arrives(&mut w, packet_in::FRAGMENT, 1, &framed(1, piece));
    }
    assert!(w.left.is_empty());
    assert_eq!(
        w.agent.counters().drops[&Drop::IcmpError],
        pieces.len() as u64
    );
}

/// A balancer between two gates.
const GATED: &str = "
network {
  port 1 clients { address 203.0.113.1/24; mac 02:00:00:00:00:01 }
  port 2 servers { address 10.0.1.1/24; mac 02:00:00:00:00:02 }
}
pool web { 10.0.1.10:8080 }
service outer : gate { match tcp.dst 203.0.113.80:443  allow ip.src in 203.0.113.0/24 }
service web-lb : balance { match tcp.dst 203.0.113.80:443  pick from @web by weighted }
service inner : gate { match tcp.dst 10.0.1.10:8080  allow ip.src in 203.0.113.8/29 }
cascade outer > web-lb > inner
managers { lb-1 serves outer, web-lb, inner }
";

fn gated() -> &'static (Policy, Plan) {
    static ONCE: std::sync::OnceLock<(Policy, Plan)> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| {
        let checked = signalbox_policy::check(GATED, "gated.policy");
        let policy = (checked.policy).unwrap_or_else(|| panic!("{:#?}", checked.diagnostics));
        let plan = signalbox_lower::lower(&policy).unwrap().plan;
        (policy, plan)
    })
}

fn key(t: Tuple) -> signalbox_policy::eval::FlowKey {
    signalbox_policy::eval::FlowKey {
        src: t.src,
        dst: t.dst,
        proto: t.proto,
        sport: t.sport,
        dport: t.dport,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    // A3.9, A10.7
    #[test]
    fn a_first_fragment_gets_the_numbers_that_the_evaluator_says_its_whole_packet_gets(
        by in prop::array::uniform4((any::<u32>(), any::<u32>(), -14i8..=14)),
        through in prop::array::uniform3(prop::bool::weighted(0.8)),
        numbers in any::<(u32, u32, u16)>(),
        tcp_flags in prop::sample::select(vec![2u8, 16, 18, 1, 4]),
        back in any::<bool>(),
        client in prop::sample::select(vec!["203.0.113.7", "203.0.113.9"]),
    ) {
        let (policy, plan) = gated();
        let mut w = World::new(plan.clone());
        let mut oracle = Evaluator::new(policy);
        for index in 0..3 {
            oracle.set_manager(ServiceIndex(index), false);
        }
        let outside = flow(6, (ip(client), 1000), (ip("203.0.113.80"), 443));
        let inside = Tuple { dst: ip("10.0.1.10"), dport: 8080, ..outside };
        let adjust = by.map(|(sequence, acknowledgement, window_shift)| Adjust {
            sequence,
            acknowledgement,
            window_shift,
        });
        if through[1] && oracle.balance(ServiceIndex(1), key(outside), inside.dst, inside.dport) {
            translate(&mut w, 1, outside, inside);
        }
        for (index, tuple, [there, home]) in
            [(0u8, outside, [adjust[0], adjust[1]]), (2, inside, [adjust[2], adjust[3]])]
        {
            if !through[usize::from(index)] {
                continue;
            }
            let said = [there, home].map(|a| signalbox_policy::eval::Adjust {
                sequence: a.sequence,
                acknowledgement: a.acknowledgement,
                window_shift: a.window_shift,
            });
            oracle.hand_over(ServiceIndex(index.into()), key(tuple), said[0], said[1]);
            let reply = Some((tuple.reversed(), FixedAction::Adjust(home)));
            put(&mut w.agent, index, (tuple, FixedAction::Adjust(there)), reply);
        }
        let (port, tuple) = if back { (2, inside.reversed()) } else { (1, outside) };
        let shape = Shape { tcp_flags, numbers, ..super::frames::PLAIN };
        let frame = framed(port, &ip_packet(&tuple, &shape, b"x"));
        let outcome = oracle.receive(port, &frame);
        let Some((end, _)) = end_of(&outcome) else { return Ok(()) };
        let view = packet::view(&frame).unwrap();
        let first = View { kind: PacketKind::FirstFragment, ..view };
        let mut walk = Walk::of_packet(&first, port);
        prop_assert_eq!(w.agent.walk(&mut walk), end, "{:?}", outcome);
        if let Outcome::Forward { packet, .. } | Outcome::ToAgent { packet, .. } = &outcome {
            let mut went = frame.to_vec();
            retarget(&mut went, packet::ETHERNET, &view, &walk.tuple);
            renumber(&mut went, &view, walk.adjust);
            prop_assert_eq!(&went[34..], &packet[34..]);
            prop_assert_eq!(walk.meta.reply, back && (through[1] || through[2]));
        }
    }
}
