//! One service at two endpoints, and a client that uses one port for both.

use signalbox_lower::plan::Masked;

use super::*;

/// The service at ports 443 and 80; a client always has the same server.
fn two_endpoints() -> Plan {
    let mut plan = plan();
    let service = &mut plan.services[0];
    service.balance.as_mut().unwrap().pick = Pick::MaglevSource;
    let mut other = service.forward.criteria[0].cubes[0].clone();
    other.dport = Some(Masked {
        value: 80,
        mask: 0xffff,
    });
    service.forward.criteria[0].cubes.push(other);
    plan
}

fn to_80(flow: Tuple) -> Tuple {
    Tuple { dport: 80, ..flow }
}

#[test]
fn a_second_connection_from_the_same_port_gets_another_server_and_the_first_lives() {
    let mut net = calm(&two_endpoints(), 1);
    let flow = client(9, 2000);
    let first = net.send(0, &flow, flags::SYN).unwrap();
    let second = net.send(0, &to_80(flow), flags::SYN).unwrap();
    assert_ne!(first, second);
    for _ in 0..3 {
        assert_eq!(net.send(0, &flow, flags::ACK), Some(first));
        assert_eq!(net.send(0, &to_80(flow), flags::ACK), Some(second));
    }
    // Each one's replies come from the endpoint that it spoke to.
    for (server, flow) in [(first, flow), (second, to_80(flow))] {
        let back = Tuple {
            src: server,
            sport: 8080,
            ..flow.reversed()
        };
        net.agents[0].receive(2, &tcp(2, &back, flags::SYN | flags::ACK, b""));
        assert_eq!(net.agents[0].take_left(), [(1, flow.reversed())]);
    }
    assert_eq!(net.live(0), 2);
}

#[test]
fn when_every_server_is_taken_the_connection_takes_the_floor_and_the_others_live() {
    let mut plan = two_endpoints();
    let servers = &mut plan.services[0].balance.as_mut().unwrap().servers;
    servers.truncate(1);
    let mut net = calm(&plan, 1);
    let flow = client(9, 2000);
    let first = net.send(0, &flow, flags::SYN);
    assert!(first.is_some());
    // As often as a spoofed SYN may come.
    for _ in 0..3 {
        assert_eq!(net.send(0, &to_80(flow), flags::SYN), None);
        assert_eq!(net.send(0, &flow, flags::ACK), first);
    }
    assert_eq!((net.live(0), net.counts(0).no_choice), (1, 3));
    // Once the first has closed, its place is free.
    net.send(0, &flow, flags::RST);
    assert_eq!(net.send(0, &to_80(flow), flags::SYN), first);
}
