//! ARP, echo, neighbours, and managers' own packets.

use super::*;
use crate::counters::Drop;
use crate::entry::Entry;
use crate::machine::WriteError;
use crate::packet::{self, checksum};
use crate::testing::{port_mac, tcp};

const CLIENT_MAC: [u8; 6] = [4, 0, 0, 0, 113, 9];

fn arp(operation: u8, to: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Bytes {
    let mut b = vec![0, 1, 8, 0, 6, 4, 0, operation];
    b.extend_from_slice(&CLIENT_MAC);
    b.extend_from_slice(&sender);
    b.extend_from_slice(&[0; 6]);
    b.extend_from_slice(&target);
    packet::frame(to, CLIENT_MAC, packet::TYPE_ARP, &b).into()
}

#[test]
fn arp_is_answered_for_the_ports_and_the_services_addresses_and_for_no_others() {
    let mut w = World::new(plan());
    for (target, answered) in [
        ([203, 0, 113, 1], true),
        ([203, 0, 113, 80], true),
        ([203, 0, 113, 7], false),
        ([10, 0, 1, 1], false),
    ] {
        w.receive(1, &arp(1, [0xff; 6], [203, 0, 113, 9], target));
        let left = std::mem::take(&mut w.left);
        assert_eq!(left.len(), usize::from(answered), "{target:?}");
        if let Some((port, frame)) = left.first() {
            assert_eq!(*port, 1);
            assert_eq!(frame[..6], CLIENT_MAC);
            assert_eq!(frame[22..28], port_mac(1), "the answer is the port's MAC");
            assert_eq!(frame[28..32], target);
        }
    }
}

#[test]
fn an_unknown_neighbour_is_asked_for_and_the_packets_that_wait_for_it_go_on() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    assert_eq!(w.take_left(), [(2, to_server(flow))]);
    let host: ipnet::IpNet = "10.0.1.10/32".parse().unwrap();
    assert!(w.switch.routes.contains_key(&host));
    let before = w.switch.log.len();
    w.receive(1, &tcp(1, &flow, flags::ACK, b""));
    assert_eq!(w.switch.log.len(), before, "asked once");
}

#[test]
fn a_neighbour_that_does_not_answer_is_asked_three_times_and_its_packets_dropped() {
    let mut w = served();
    w.hosts.clear();
    connect(&mut w, 1000);
    assert!(w.take_left().is_empty());
    w.advance(4 * S);
    assert_eq!(w.agent.counters().drops[&Drop::Unresolved], 1);
    assert!(w.switch.next_hops.is_empty());
}

#[test]
fn an_answer_that_nobody_asked_for_is_not_believed() {
    let mut w = World::new(plan());
    w.receive(1, &arp(2, port_mac(1), [203, 0, 113, 9], [203, 0, 113, 1]));
    w.receive(1, &arp(2, [0xff; 6], [203, 0, 113, 9], [203, 0, 113, 9]));
    assert!(w.switch.next_hops.is_empty());
}

/// The MAC addresses of what left by port 2, after a packet to the server.
fn goes_to(w: &mut World, flow: &Tuple) -> [u8; 6] {
    w.take_left();
    w.receive(1, &tcp(1, flow, flags::ACK, b""));
    assert_eq!(w.take_left(), [(2, to_server(*flow))]);
    *w.switch
        .next_hops
        .values()
        .map(|(_, mac)| mac)
        .next()
        .unwrap()
}

#[test]
fn a_neighbour_that_announces_a_new_mac_is_followed_at_once() {
    let server = [10, 0, 1, 10];
    let ours = [10, 0, 1, 1];
    for (n, (operation, to, target)) in [
        (1, [0xff; 6], server),
        (1, [0xff; 6], ours),
        (1, [0xff; 6], [10, 0, 1, 77]),
        (2, [0xff; 6], server),
        (2, port_mac(2), ours),
    ]
    .into_iter()
    .enumerate()
    {
        let mut w = served();
        let flow = connect(&mut w, 1000);
        assert_ne!(goes_to(&mut w, &flow), CLIENT_MAC);
        let announcement = arp(operation, to, server, target);
        w.receive(1, &announcement);
        assert_ne!(goes_to(&mut w, &flow), CLIENT_MAC, "{n}: the wrong port");
        w.receive(2, &announcement);
        assert_eq!(goes_to(&mut w, &flow), CLIENT_MAC, "{n}");
    }
}

#[test]
fn nobody_takes_an_address_of_ours_or_a_group_address_for_its_mac() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    let mut group = arp(1, [0xff; 6], [10, 0, 1, 10], [10, 0, 1, 10]).to_vec();
    group[22] |= 1;
    w.receive(2, &group.into());
    w.receive(2, &arp(1, [0xff; 6], [10, 0, 1, 1], [10, 0, 1, 1]));
    w.receive(2, &arp(1, [0xff; 6], [203, 0, 113, 80], [10, 0, 1, 99]));
    assert_eq!(goes_to(&mut w, &flow)[0], 4);
    assert_eq!(w.switch.next_hops.len(), 1);
}

#[test]
fn a_neighbour_whose_entry_the_switch_refuses_sends_no_packet_in_circles() {
    for refused in [true, false] {
        let mut w = served();
        w.switch.refuses = if refused {
            |u| matches!(u.entry, Entry::NextHop { .. }).then_some(WriteError::Full)
        } else {
            |u| matches!(u.entry, Entry::Route { .. }).then_some(WriteError::Full)
        };
        let flow = connect(&mut w, 1000);
        let told = w.take_left();
        assert!(
            matches!(&told[..], [(1, t)] if t.proto == 1 && t.dst == flow.src),
            "the client is told, and nothing else leaves: {told:?}"
        );
        assert!(
            w.switch.next_hops.is_empty() && w.switch.routes.keys().all(|r| r.prefix_len() < 32)
        );
        assert_eq!(w.agent.counters().drops[&Drop::Unresolved], 1);
        let log = w.switch.log.len();
        for _ in 0..100 {
            w.receive(1, &tcp(1, &flow, flags::ACK, b""));
        }
        assert_eq!(
            w.switch.log.len(),
            log,
            "the switch is left in peace for a while"
        );
        assert_eq!(w.agent.counters().drops[&Drop::Unresolved], 101);

        w.switch.refuses = |_| None;
        let back = to_server(flow).reversed();
        w.receive(2, &tcp(2, &back, flags::SYN | flags::ACK, b""));
        w.advance(9 * S);
        beat(&mut w, 1);
        w.advance(2 * S);
        w.receive(1, &tcp(1, &flow, flags::ACK, b""));
        let left = w.take_left();
        assert_eq!(
            left.last(),
            Some(&(2, to_server(flow))),
            "later it may take it"
        );
    }
}

#[test]
fn entries_that_somebody_took_away_are_written_again_and_no_packet_circles() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    w.take_left();
    w.switch.next_hops.clear();
    w.receive(1, &tcp(1, &flow, flags::ACK, b""));
    assert_eq!(w.agent.counters().drops[&Drop::Unresolved], 1);
    w.receive(1, &tcp(1, &flow, flags::ACK, b""));
    assert_eq!(w.take_left(), [(2, to_server(flow))]);
}

#[test]
fn an_address_for_which_no_packet_could_wait_is_not_remembered() {
    let mut w = World::new(plan());
    let to = |n: u16| Tuple {
        dst: IpAddr::from([10, 0, 2, 20 + (n % 200) as u8]),
        ..client(9, n)
    };
    let [a, b] = [Tuple { dport: 1, ..to(0) }, Tuple { dport: 2, ..to(0) }];
    // 64 neighbours with 32 packets each fill the queue.
    for n in 0..64 {
        for _ in 0..32 {
            w.receive(1, &tcp(1, &to(n), flags::ACK, b""));
        }
    }
    let late = to(150);
    w.receive(1, &tcp(1, &late, flags::ACK, b""));
    w.receive(1, &tcp(1, &a, flags::ACK, b""));
    w.receive(1, &tcp(1, &b, flags::ACK, b""));
    assert_eq!(w.agent.counters().drops[&Drop::NeighbourQueueFull], 3);
    w.advance(5 * S);
    assert_eq!(
        w.agent.neighbours_known(),
        2,
        "the router of the plan, and the client, who was told"
    );
}

#[test]
fn a_silent_neighbour_ages_and_goes() {
    let mut w = served();
    connect(&mut w, 1000);
    assert_eq!(w.switch.next_hops.len(), 1);
    w.advance(299 * S);
    w.hosts.clear();
    w.advance(10 * S);
    assert!(w.switch.next_hops.is_empty());
    assert!(w.switch.routes.keys().all(|net| net.prefix_len() < 32));
}

#[test]
fn a_routes_router_is_resolved_when_the_first_packet_wants_it() {
    let mut w = World::new(plan());
    let router = IpAddr::from([10, 0, 2, 254]);
    w.hosts.insert(router, [6; 6]);
    let outward = Tuple {
        src: IpAddr::from([203, 0, 113, 9]),
        dst: IpAddr::from([192, 0, 2, 5]),
        proto: 17,
        sport: 5,
        dport: 53,
    };
    w.receive(1, &tcp(1, &outward, 0, b""));
    assert_eq!(w.take_left(), [(3, outward)]);
}

#[test]
fn echo_to_the_services_address_is_answered() {
    let mut w = World::new(plan());
    let mut ip = vec![0x45, 0, 0, 33, 0, 1, 0, 0, 64, 1, 0, 0];
    ip.extend_from_slice(&[203, 0, 113, 9, 203, 0, 113, 80]);
    ip.extend_from_slice(&[8, 0, 0, 0, 0x12, 0x34, 0, 1]);
    ip.extend_from_slice(b"hello");
    let mut f = packet::frame(port_mac(1), CLIENT_MAC, packet::TYPE_IPV4, &ip);
    f.resize(60, 0); // Ethernet's padding is not the packet's
    w.receive(1, &f.into());
    let (port, answer) = w.left.pop().unwrap();
    assert_eq!(port, 1);
    let view = packet::view(&answer).unwrap();
    assert_eq!(view.icmp, 0);
    assert_eq!(view.tuple.dport, 0x1234);
    assert_eq!(view.tuple.dst, IpAddr::from([203, 0, 113, 9]));
    assert_eq!(answer[..6], CLIENT_MAC);
    assert_eq!(checksum(&[&answer[14..34]]), 0);
    assert_eq!(checksum(&[&answer[34..]]), 0);
    assert!(answer.ends_with(b"hello"));
}

#[test]
fn the_first_fragment_of_a_big_ping_gets_no_broken_answer() {
    let mut w = World::new(plan());
    let mut ip = vec![0x45, 0, 0, 33, 0, 1, 0x20, 0, 64, 1, 0, 0];
    ip.extend_from_slice(&[203, 0, 113, 9, 203, 0, 113, 80]);
    ip.extend_from_slice(&[8, 0, 0, 0, 0x12, 0x34, 0, 1]);
    ip.extend_from_slice(b"hello");
    let f = packet::frame(port_mac(1), CLIENT_MAC, packet::TYPE_IPV4, &ip);
    w.receive(1, &f.into());
    assert!(w.left.is_empty());
    assert_eq!(w.agent.counters().drops[&Drop::Fragment], 1);
}

#[test]
fn a_packet_that_cannot_be_injected_is_denied_with_a_reason() {
    let mut w = served();
    let out = Tuple {
        src: IpAddr::from([10, 0, 1, 1]),
        dst: IpAddr::from([10, 0, 1, 10]),
        proto: 6,
        sport: 61_441,
        dport: 8080,
    };
    let low = Tuple { sport: 1024, ..out };
    let stage = |stage, part, ingress_port| Place::Stage {
        stage,
        part,
        state: CarriedState {
            ingress_port,
            ..CarriedState::default()
        },
        answered: false,
    };
    for (tuple, place, reason) in [
        (out, Place::Port(9), Reason::Malformed),
        (low, Place::Port(2), Reason::NotCovered),
        (low, Place::Route, Reason::NotCovered),
        (out, stage(2, Part::Forward, 1), Reason::Malformed),
        (out, stage(1, Part::Forward, 9), Reason::Malformed),
    ] {
        w.said.clear();
        let packet = tcp(2, &tuple, flags::SYN, b"").slice(packet::ETHERNET..);
        say(
            &mut w,
            LB,
            1,
            ManagerBody::Inject(Inject {
                request: 4,
                packet,
                place,
            }),
        );
        assert_eq!(denials(&w), [(Subject::Inject(4), reason)], "{place:?}");
        assert!(w.take_left().is_empty());
    }
}

#[test]
fn a_manager_injects_only_into_a_stage_that_it_serves() {
    let mut p = plan();
    let mut other = p.services[0].clone();
    other.name = "other".into();
    other.stage = 2;
    other.shares.clear();
    p.services.push(other);
    let mut w = served_with(p);
    let packet = tcp(1, &client(9, 1000), flags::SYN, b"").slice(packet::ETHERNET..);
    let place = Place::Stage {
        stage: 2,
        part: Part::Forward,
        state: CarriedState {
            ingress_port: 1,
            ..CarriedState::default()
        },
        answered: false,
    };
    say(
        &mut w,
        LB,
        1,
        ManagerBody::Inject(Inject {
            request: 4,
            packet,
            place,
        }),
    );
    assert_eq!(denials(&w), [(Subject::Inject(4), Reason::NotServing)]);
}

#[test]
fn a_managers_own_packet_goes_out_and_the_answer_comes_back_to_it() {
    let mut w = served();
    let out = Tuple {
        src: IpAddr::from([10, 0, 1, 1]),
        dst: IpAddr::from([10, 0, 1, 10]),
        proto: 6,
        sport: 61_441,
        dport: 8080,
    };
    let inject = |tuple: &Tuple| {
        ManagerBody::Inject(Inject {
            request: 31,
            packet: tcp(2, tuple, flags::SYN, b"").slice(packet::ETHERNET..),
            place: Place::Route,
        })
    };
    say(&mut w, LB, 1, inject(&out));
    assert_eq!(w.take_left(), [(2, out)]);
    w.receive(2, &tcp(2, &out.reversed(), flags::SYN | flags::ACK, b""));
    let arrived = |m: &AgentBody| matches!(m, AgentBody::Arrived { port: 2, .. });
    assert!(w.said.iter().any(|(id, m)| *id == LB && arrived(&m.body)));

    let spoofed = Tuple {
        src: IpAddr::from([10, 0, 1, 99]),
        ..out
    };
    say(&mut w, LB, 1, inject(&spoofed));
    assert!(w.take_left().is_empty());
    assert_eq!(denials(&w), [(Subject::Inject(31), Reason::NotCovered)]);
}

#[test]
fn a4_4_a_consumed_packet_comes_back_to_its_stage_with_all_that_it_had_carried() {
    let mut w = served();
    let state = CarriedState {
        ingress_port: 1,
        reply: false,
        next_hop: 7,
        tunnel: 3,
        mark: Some(46),
        notices: 0b1000,
        entry: 9,
    };
    let body = ManagerBody::Inject(Inject {
        request: 1,
        packet: tcp(1, &client(9, 1000), flags::SYN, b"").slice(packet::ETHERNET..),
        place: Place::Stage {
            stage: 1,
            part: Part::Forward,
            state,
            answered: true,
        },
    });
    let message = ToAgent {
        service: "web-lb".into(),
        share: 0,
        epoch: 1,
        body,
    };
    let out = w.agent.handle(w.now, Input::Message(LB, message));
    let [crate::Output::PacketOut(packet)] = out.as_slice() else {
        panic!("one packet out: {out:?}");
    };
    let meta = packet.meta;
    assert_eq!((meta.port, meta.next_hop, meta.tunnel), (1, 7, 3));
    assert_eq!((meta.mark_set, meta.mark, meta.answered), (true, 46, true));
    assert_eq!((meta.notices, meta.entry), (0b1000, 9));
}

#[test]
fn ndp_is_answered_and_neighbours_are_found_by_it() {
    let mut p = plan();
    p.address_bits = 128;
    p.ports[0].addresses.push("fd00::1/64".parse().unwrap());
    let mut w = World::new(p);
    let own: std::net::Ipv6Addr = "fd00::1".parse().unwrap();
    let theirs: std::net::Ipv6Addr = "fd00::9".parse().unwrap();
    let ask = crate::machine::ndp::solicitation(CLIENT_MAC, theirs, own);
    let meta = crate::entry::PacketMeta {
        kind: crate::entry::packet_in::NDP,
        port: 1,
        ..Default::default()
    };
    w.feed(Input::PacketIn(crate::entry::Packet {
        meta,
        bytes: ask.into(),
    }));
    let (port, answer) = w.left.pop().unwrap();
    assert_eq!(port, 1);
    let view = packet::view(&answer).unwrap();
    assert_eq!((view.icmp, view.tuple.dst), (136, IpAddr::from(theirs)));
    let body = &answer[view.l4..];
    let pseudo = packet::pseudo_v6(own, theirs, 58, body.len());
    assert_eq!(checksum(&[&pseudo, body]), 0);
    assert!(answer.ends_with(&port_mac(1)));
}

#[test]
fn garbage_is_counted_and_harmless() {
    let mut w = served();
    for kind in 0..12 {
        for n in 0..70 {
            w.feed(Input::PacketIn(crate::entry::Packet {
                meta: crate::entry::PacketMeta {
                    kind,
                    part: (n % 4) as u8,
                    stage: (n % 3) as u8,
                    port: 1,
                    ..Default::default()
                },
                bytes: vec![0x45; n].into(),
            }));
        }
    }
    assert!(w.agent.counters().drops.values().sum::<u64>() > 500);
    assert!(w.left.is_empty());
}
