//! First packets, answers, hairpins, and what comes in unasked.

use super::*;

// A2.1, A2.3, A2.8
#[test]
fn the_first_packet_leaves_translated_and_so_does_its_answer() {
    let mut net = Net::new(&site(Inbound::Answers), 1);
    for (proto, dport) in [(6, 80), (17, 53), (1, 0)] {
        let flow = flow(proto, A, 4711, REMOTE, dport);
        let out = net.pass(0, &flow, flags::SYN).unwrap();
        assert!(is_outside(&out), "{out}");
        assert_eq!((out.dst, out.dport), (flow.dst, flow.dport));
        let back = net.pass(0, &out.reversed(), flags::SYN | flags::ACK);
        assert_eq!(back, Some(flow.reversed()));
        assert_eq!(net.pass(0, &flow, flags::ACK), Some(out));
    }
    let status = net.status();
    assert_eq!(
        (status.counts.interest_packets, status.counts.decided),
        (3, 3)
    );
    assert_eq!(net.agents[0].agent.counters().held.now, 0);
    assert_eq!(net.tuples(), (3, 0));
}

// A2.1
#[test]
fn all_packets_of_a_flow_that_wait_for_the_decision_leave_translated_in_order() {
    let mut net = Net::new(&site(Inbound::Answers), 1);
    let flow = flow(17, A, 4711, REMOTE, 53);
    net.agents[0].slow = true;
    for _ in 0..5 {
        assert_eq!(net.pass(0, &flow, 0), None);
    }
    net.agents[0].release();
    let left = net.agents[0].take_left();
    assert_eq!(left.len(), 5);
    assert!(left.iter().all(|(_, t)| *t == left[0].1 && is_outside(t)));
}

// A2.2
#[test]
fn every_criterion_says_that_its_flows_are_translated() {
    let net = Net::new(&site(Inbound::Mapped), 1);
    let criteria: Vec<_> = (net.said.iter())
        .filter_map(|body| match body {
            ManagerBody::Criteria(criteria) => Some(&criteria.list),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(criteria.len(), 2);
    assert!(criteria.iter().all(|c| c.needs == [Capability::Translate]));
}

// A2.13
#[test]
fn two_inside_hosts_talk_by_outside_addresses() {
    for inbound in [Inbound::Answers, Inbound::Mapped] {
        for proto in [6, 17] {
            let mut net = Net::new(&site(inbound), 1);
            let x_b = net
                .pass(0, &flow(proto, B, 9000, REMOTE, 1), flags::SYN)
                .unwrap();
            let to_b = Tuple {
                dst: x_b.src,
                dport: x_b.sport,
                ..flow(proto, A, 4000, REMOTE, 0)
            };
            let at_b = net.pass(0, &to_b, flags::SYN).unwrap();
            assert_eq!((at_b.dst, at_b.dport), (ip(B), 9000));
            assert!(is_outside(&at_b), "B sees an outside address");
            let at_a = net.pass(0, &at_b.reversed(), flags::SYN | flags::ACK);
            assert_eq!(at_a, Some(to_b.reversed()));
            assert_eq!(net.pass(0, &to_b, flags::ACK), Some(at_b));
            // The tuple that B saw is A's towards everybody.
            let out = net
                .pass(0, &flow(proto, A, 4000, REMOTE, 7), flags::SYN)
                .unwrap();
            assert_eq!((out.src, out.sport), (at_b.src, at_b.sport), "A2.10");
            assert_eq!(net.status().counts.denied, 0);
        }
    }
}

// A2.13
#[test]
fn a_hairpin_to_a_tuple_that_stands_for_nobody_is_dropped() {
    let mut net = Net::new(&site(Inbound::Answers), 1);
    for n in 0..3 {
        let flow = flow(17, A, 4000, "203.0.113.100", 5000 + n);
        assert_eq!(net.pass(0, &flow, 0), None);
    }
    assert_eq!(net.counted()["unmapped"], 3);
    assert_eq!(net.tuples(), (0, 0));
}

// When a packet from outside that nobody asked for
#[test]
fn a_stranger_gets_in_only_where_the_policy_says_so() {
    for (inbound, gets_in) in [(Inbound::Answers, false), (Inbound::Mapped, true)] {
        for proto in [6, 17] {
            let mut net = Net::new(&site(inbound), 1);
            let own = flow(proto, B, 9000, REMOTE, 1);
            let x = net.pass(0, &own, flags::SYN).unwrap();
            let stranger = Tuple {
                dst: x.src,
                dport: x.sport,
                ..flow(proto, REMOTE, 777, B, 0)
            };
            let at_b = net.pass(0, &stranger, flags::SYN);
            if !gets_in {
                assert_eq!(at_b, None);
                assert_eq!(net.status().counts.interest_packets, 1, "nobody is asked");
                continue;
            }
            let inside = flow(proto, REMOTE, 777, B, 9000);
            assert_eq!(at_b, Some(inside));
            let answer = net.pass(0, &inside.reversed(), flags::SYN | flags::ACK);
            assert_eq!(answer, Some(stranger.reversed()));
            assert_eq!(net.status().counts.decided, 2);
            // Mid-flow, of a flow that nobody knows, is not let in.
            let late = Tuple {
                sport: 778,
                ..stranger
            };
            assert_eq!(net.pass(0, &late, flags::ACK).is_some(), proto == 17);
            // To a port that stands for nobody neither.
            let other = Tuple {
                dport: x.sport ^ 2,
                ..stranger
            };
            assert_eq!(net.pass(0, &other, flags::SYN), None);
            assert_eq!(net.counted()["unmapped"], 1);
        }
    }
}

#[test]
fn an_icmp_error_or_a_fragment_opens_nothing() {
    let mut net = Net::new(&site(Inbound::Mapped), 1);
    let flow = flow(17, A, 4000, REMOTE, 53);
    for (request, kind) in [
        (1, PacketKind::FirstFragment),
        (2, PacketKind::LaterFragment),
        (3, PacketKind::IcmpError),
    ] {
        let interest = signalbox_agent::message::Interest {
            request,
            stage: 1,
            part: signalbox_agent::flow::Part::Forward,
            flow,
            kind,
            events: events::ALL,
            packet: bytes::Bytes::new(),
            state: Default::default(),
        };
        let session = net.sessions[0].unwrap();
        net.tell(Input::Message(
            session,
            signalbox_agent::message::ToManager {
                service: "egress".into(),
                share: 0,
                epoch: 1,
                body: signalbox_agent::message::AgentBody::Interest(interest),
            },
        ));
    }
    assert_eq!(net.status().counts.mid_flow_unknown, 3);
    assert_eq!(net.tuples(), (0, 0));
}

// A2.17
#[test]
fn with_no_tuple_left_packets_take_the_floor_and_status_says_why() {
    let mut plan = site(Inbound::Answers);
    let nat = plan.services[0].nat.as_mut().unwrap();
    nat.source = ports("203.0.113.100", "203.0.113.100", 5000, 5003);
    let mut net = Net::new(&plan, 1);
    for n in 0..10 {
        let out = net.pass(0, &flow(17, A, 4000 + n, REMOTE, 53), 0);
        assert_eq!(out.is_some(), n < 4, "flow {n}");
    }
    let status = net.status();
    assert_eq!(status.counted["exhausted"], 6);
    assert_eq!(status.counts.no_choice, 6);
    let udp = status.outside.iter().find(|o| o.protocol == "udp").unwrap();
    assert_eq!((udp.mappings, udp.free), (4, 0));
    assert_eq!(
        net.pass(0, &flow(17, A, 4001, REMOTE, 99), 0)
            .map(|t| t.dport),
        Some(99)
    );
}
