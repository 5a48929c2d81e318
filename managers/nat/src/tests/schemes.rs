//! Source, destination, one-to-one and twice; IPv4 and IPv6; what cannot be translated.

use super::*;

// A2.3
#[test]
fn a_source_gets_an_outside_address_and_port_and_its_replies_are_led_back() {
    let mut nat = egress();
    for proto in [6, 17] {
        let flow = flow(proto, "10.0.1.10", 40_000, "198.51.100.7", 53);
        let to = to(&mut nat, flow);
        assert!([ip("203.0.113.100"), ip("203.0.113.101")].contains(&to.src));
        assert!(to.sport >= 1024);
        assert_eq!((to.dst, to.dport, to.proto), (flow.dst, flow.dport, proto));
    }
}

// A2.3
#[test]
fn an_ipv6_source_gets_an_outside_address_and_port_too() {
    let mut nat = nat(nat_plan(
        ports("2001:db8::1:0", "2001:db8::1:3", 1024, 65_535),
        None,
    ));
    let flow = flow(6, "fd00::10", 40_001, "2001:db8:f::7", 443);
    let to = to(&mut nat, flow);
    assert!(to.src >= ip("2001:db8::1:0") && to.src <= ip("2001:db8::1:3"));
    assert_eq!(to.sport % 2, 1);
    let echo = Tuple {
        proto: 58,
        sport: 77,
        dport: 0,
        ..flow
    };
    let pinged = self::to(&mut nat, echo);
    assert_eq!(pinged.src, to.src, "A2.11");
    assert_eq!(nat.counted(), BTreeMap::new());
}

// A2.4
#[test]
fn a_destination_becomes_the_new_address_and_port_or_keeps_its_port() {
    let server = ip("10.0.1.5");
    for (port, dport) in [(Some(22), 22), (None, 2222)] {
        let destination = Some(NatDestination {
            address: server,
            port,
        });
        let mut nat = nat(nat_plan(None, destination));
        let flow = flow(6, "198.51.100.7", 50_000, "203.0.113.100", 2222);
        let to = to(&mut nat, flow);
        assert_eq!((to.src, to.sport), (flow.src, flow.sport));
        assert_eq!((to.dst, to.dport), (server, dport));
        assert!(!nat.opens_inbound(), "the server's own flows are its own");
        assert_eq!(nat.hold_back(), None);
    }
}

// A2.5
#[test]
fn one_to_one_keeps_ports_and_takes_any_protocol() {
    let mut nat = nat(nat_plan(
        Some(NatSource::OneToOne {
            pairs: vec![
                Pair {
                    inside: "10.0.1.0/24".parse().unwrap(),
                    outside: "198.51.100.0/24".parse().unwrap(),
                },
                Pair {
                    inside: "fd00:1::/64".parse().unwrap(),
                    outside: "2001:db8:1::/64".parse().unwrap(),
                },
            ],
        }),
        None,
    ));
    for (proto, sport) in [(6, 80), (17, 53), (1, 99), (47, 0)] {
        let flow = flow(proto, "10.0.1.10", sport, "192.0.2.1", 0);
        let to = to(&mut nat, flow);
        assert_eq!((to.src, to.sport), (ip("198.51.100.10"), sport));
    }
    let six = flow(17, "fd00:1::abc", 5, "2001:db8:f::1", 6);
    assert_eq!(to(&mut nat, six).src, ip("2001:db8:1::abc"));
    // Whoever is in no prefix takes the floor.
    let other = flow(6, "10.0.2.10", 80, "192.0.2.1", 80);
    assert_eq!(ask(&mut nat, other), Choice::Fallback);
    assert_eq!(nat.counted()["no_pair"], 1);
}

// A2.6
#[test]
fn twice_translates_both_ends_and_one_client_port_has_one_outside_tuple() {
    let mut plan = nat_plan(
        ports("10.0.9.1", "10.0.9.1", 1024, 65_535),
        Some(NatDestination {
            address: ip("10.0.1.5"),
            port: Some(8080),
        }),
    );
    plan.inbound = Inbound::Mapped;
    let mut nat = nat(plan);
    let first = flow(6, "198.51.100.7", 50_000, "203.0.113.80", 80);
    let to = to(&mut nat, first);
    assert_eq!(
        (to.src, to.dst, to.dport),
        (ip("10.0.9.1"), ip("10.0.1.5"), 8080)
    );
    assert!(
        !nat.opens_inbound(),
        "nobody could say whom the server means"
    );
    // To another address of the service its replies could not be told apart.
    let second = Tuple {
        dst: ip("203.0.113.81"),
        ..first
    };
    let reply = to.reversed();
    let choice = ask_with(&mut nat, second, &Bytes::new(), &|r| *r == reply);
    assert_eq!(choice, Choice::Fallback);
    assert_eq!(nat.counted()["reply_taken"], 1);
    assert_eq!(nat.outside()[0].mappings, 1);
}

// A2.8
#[test]
fn an_echo_is_known_by_its_identifier_and_only_a_request_opens_one() {
    let mut nat = egress();
    let request = flow(1, "10.0.1.10", 4711, "198.51.100.7", 0);
    let out = to(&mut nat, request);
    assert_eq!((out.dport, out.sport % 2), (0, 1));
    // The same identifier of another host is another outside one.
    let other = Tuple {
        src: ip("10.0.1.11"),
        ..request
    };
    let out2 = to(&mut nat, other);
    assert_ne!((out.src, out.sport), (out2.src, out2.sport));
    for kind in [0, 13, 15, 17, 40] {
        let packet = icmp(&request, kind);
        let choice = ask_with(&mut nat, request, &packet, &|_| false);
        assert_eq!(choice, Choice::Fallback, "type {kind}");
    }
    assert_eq!(nat.counted()["unsupported"], 5);
}

// When a nat service cannot translate the packet
#[test]
fn what_has_no_ports_and_what_is_of_another_family_takes_the_floor() {
    let mut nat = egress();
    for flow in [
        flow(47, "10.0.1.10", 0, "198.51.100.7", 0),
        flow(50, "10.0.1.10", 0, "198.51.100.7", 0),
        flow(6, "fd00::1", 1, "2001:db8::1", 2),
        flow(58, "10.0.1.10", 1, "198.51.100.7", 0),
    ] {
        assert_eq!(ask(&mut nat, flow), Choice::Fallback, "{flow}");
    }
    assert_eq!(nat.counted()["unsupported"], 4);
}

// A2.18
#[test]
fn leases_are_those_of_the_plan_by_protocol() {
    let mut plan = nat_plan(ports("203.0.113.100", "203.0.113.100", 1024, 65_535), None);
    for scale in [1, 10] {
        plan.leases = NatLeases {
            tcp_established_ms: 7_440_000 / scale,
            tcp_transitory_ms: 240_000 / scale,
            udp_ms: 300_000 / scale,
            icmp_ms: 60_000 / scale,
        };
        let mut nat = nat(plan.clone());
        let mut leases = |proto| {
            let flow = flow(proto, "10.0.1.10", 5000, "198.51.100.7", 0);
            decided(ask(&mut nat, flow)).leases.unwrap()
        };
        let of = plan.leases;
        let tcp = leases(6);
        assert_eq!(tcp.half_open_ms, Some(of.tcp_transitory_ms));
        assert_eq!(tcp.idle_ms, Some(of.tcp_established_ms));
        assert_eq!(tcp.closed_ms, Some(of.tcp_transitory_ms), "A2.19");
        for (proto, ms) in [(17, of.udp_ms), (1, of.icmp_ms)] {
            let leases = leases(proto);
            assert_eq!((leases.idle_ms, leases.half_open_ms), (Some(ms), None));
        }
    }
}

#[test]
fn a_service_of_another_kind_is_no_nat() {
    assert!(Nat::new(&plan().services[0]).is_none());
}
