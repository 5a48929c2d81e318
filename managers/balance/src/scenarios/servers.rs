//! Servers that drain, are loaded, come back, and sources that stay with them, with real checks.

use super::*;

fn checked(kind: CheckKind, pick: Pick) -> Plan {
    let mut plan = plan();
    let balance = plan.services[0].balance.as_mut().unwrap();
    balance.pick = pick;
    balance.check = Some(CheckPlan {
        kind,
        every_ms: 200,
        timeout_ms: 100,
        rise: 2,
        fall: 2,
    });
    plan
}

fn servers() -> [IpAddr; 3] {
    [[10, 0, 1, 10], [10, 0, 2, 10], [10, 0, 2, 11]].map(IpAddr::from)
}

/// How many of so many new flows each server gets.
fn spread(net: &mut Net, from: u16, count: u16) -> [u16; 3] {
    let mut got = [0; 3];
    for n in from..from + count {
        let server = net.send(0, &client(9, n), flags::SYN).unwrap();
        let at = servers().iter().position(|s| *s == server).unwrap();
        got[at] += 1;
    }
    got
}

fn standing(net: &Net) -> Vec<(bool, Option<u8>)> {
    let status = net.managers[0].status();
    (status.services[0].targets.iter())
        .map(|t| (t.up, t.load))
        .collect()
}

#[test]
fn a6_12_a6_13_servers_that_report_their_load_get_what_they_have_room_for() {
    let path = "/load".to_owned();
    let mut net = Net::new(
        &checked(CheckKind::Load { path }, Pick::RoundRobin),
        1,
        Faults::none(),
    );
    let [one, two, three] = servers();
    net.bodies = [(one, "0\n"), (two, "50\n"), (three, "100")].into();
    net.advance(Duration::from_millis(500));
    let up = |load| (true, Some(load));
    assert_eq!(standing(&net), [up(0), up(50), up(100)]);
    assert_eq!(spread(&mut net, 2000, 30), [20, 10, 0], "A6.12");
    // The third has room again; the second says what makes no sense, as often as a check may fail.
    net.bodies = [(one, "0\n"), (two, "overloaded"), (three, "0")].into();
    net.advance(Duration::from_millis(600));
    assert_eq!(standing(&net), [up(0), (false, Some(50)), up(0)], "A6.13");
    assert_eq!(spread(&mut net, 3000, 30), [15, 0, 15]);
    // The first falls silent: it is out after two checks of 100 ms.
    net.alive.retain(|a| *a != one);
    net.advance(Duration::from_millis(600));
    assert!(!standing(&net)[0].0, "A6.13");
    assert_eq!(spread(&mut net, 4000, 30), [0, 0, 30]);
    net.bodies = [(one, "10"), (two, "10"), (three, "10")].into();
    net.alive.push(one);
    net.advance(Duration::from_millis(800));
    assert_eq!(standing(&net), [up(10); 3]);
    assert_eq!(spread(&mut net, 5000, 30), [10, 10, 10]);
}

#[test]
fn a6_11_an_http_check_takes_out_a_server_that_answers_with_an_error() {
    let path = "/health".to_owned();
    let mut net = Net::new(
        &checked(CheckKind::Http { path }, Pick::RoundRobin),
        1,
        Faults::none(),
    );
    let [one, two, three] = servers();
    let up = |net: &Net| -> Vec<bool> { standing(net).iter().map(|s| s.0).collect() };
    let moved = "HTTP/1.0 302 Found\r\nLocation: /alive\r\n\r\n";
    net.bodies = [
        (one, "ok"),
        (two, moved),
        (three, "HTTP/1.0 503 Busy\r\n\r\nok"),
    ]
    .into();
    net.advance(Duration::from_millis(900));
    assert_eq!(up(&net), [true, true, false]);
    assert_eq!(spread(&mut net, 2000, 20), [10, 10, 0]);
    // One that takes the connection and says nothing is no better.
    net.bodies = [(two, moved), (three, "ok")].into();
    net.advance(Duration::from_millis(900));
    assert_eq!(up(&net), [false, true, true]);
    assert_eq!(spread(&mut net, 3000, 20), [0, 10, 10]);
}

// When a pool has no live server
#[test]
fn without_a_live_server_new_connections_take_the_floor_until_one_is_back() {
    let mut net = calm(&checked(CheckKind::Tcp, Pick::Weighted), 1);
    let old = client(9, 2000);
    let server = net.send(0, &old, flags::SYN).unwrap();
    let alive = std::mem::take(&mut net.alive);
    net.advance(Duration::from_millis(700));
    assert!(standing(&net).iter().all(|(up, _)| !up));
    for n in 0..3 {
        assert_eq!(net.send(0, &client(9, 3000 + n), flags::SYN), None);
    }
    let counts = net.managers[0].status().services[0].counts;
    assert_eq!((counts.no_choice, counts.decided), (3, 1));
    let dropped = net.agents[0].agent.counters().drops[&signalbox_agent::counters::Drop::Floor];
    assert_eq!(dropped, 3);
    // Without `on-death` the flows of the dead stay theirs.
    assert_eq!(net.send(0, &old, flags::ACK), Some(server));
    net.alive = alive;
    net.advance(Duration::from_millis(900));
    assert!(net.send(0, &client(9, 4000), flags::SYN).is_some());
}

#[test]
fn a6_14_a_server_that_comes_back_is_brought_up_slowly() {
    let mut plan = checked(CheckKind::Tcp, Pick::Weighted);
    let balance = plan.services[0].balance.as_mut().unwrap();
    balance.slow_start_ms = 8000;
    balance.servers.iter_mut().for_each(|s| s.weight = 1);
    let mut net = calm(&plan, 1);
    assert_eq!(spread(&mut net, 2000, 30), [10, 10, 10], "not at the start");
    let [one, ..] = servers();
    net.alive.retain(|a| *a != one);
    net.advance(Duration::from_millis(700));
    net.alive.push(one);
    while !standing(&net)[0].0 {
        net.advance(Duration::from_millis(10));
    }
    // 1 : 8 : 8 in the first second, then a little more each second, by the clock alone.
    let mut from = 3000;
    let mut shares = Vec::new();
    for _ in 0..9 {
        shares.push(spread(&mut net, from, 170)[0]);
        from += 170;
        net.advance(Duration::from_millis(1000));
    }
    assert_eq!(shares[0], 10);
    assert!(shares.windows(2).all(|w| w[0] < w[1] + 2), "{shares:?}");
    assert!((50..=60).contains(&shares[8]), "{shares:?}");
}

#[test]
fn a6_10_weight_0_takes_no_new_flow_and_old_ones_live_on() {
    for stick_ms in [None, Some(60_000)] {
        for pick in [Pick::RoundRobin, Pick::LeastConnections, Pick::MaglevSource] {
            let mut plan = plan();
            let balance = plan.services[0].balance.as_mut().unwrap();
            balance.pick = pick;
            balance.stick_ms = stick_ms;
            let mut net = calm(&plan, 1);
            let flows: Vec<(Tuple, IpAddr)> = (1..20)
                .map(|host| {
                    let flow = client(100 + host, 2000);
                    (flow, net.send(0, &flow, flags::SYN).unwrap())
                })
                .collect();
            let (_, home) = flows[0];
            // A manager that has the weight as the policy has it now.
            let mut now = plan.services[0].clone();
            for s in &mut now.balance.as_mut().unwrap().servers {
                if s.address == home {
                    s.weight = 0;
                }
            }
            let balance = Box::new(Balance::new(&now).unwrap());
            net.stop(0);
            net.start(
                Manager::new("lb-1", &plan, vec![("web-lb".into(), 0, 2, balance)]),
                Faults::none(),
            );
            net.advance(Duration::from_millis(50));
            for (flow, server) in &flows {
                assert_eq!(net.send(0, flow, flags::ACK), Some(*server));
                // The same source again, stickiness or not.
                let again = Tuple {
                    sport: 3000,
                    ..*flow
                };
                let new = net.send(0, &again, flags::SYN).unwrap();
                assert_ne!(new, home, "{pick:?}");
                if stick_ms.is_some() && *server != home {
                    assert_eq!(new, *server, "A6.8, {pick:?}");
                }
            }
        }
    }
}

#[test]
fn a6_8_a_source_keeps_its_server_through_an_agents_leases() {
    let mut plan = plan();
    plan.services[0].limits.half_open_ms = 500;
    plan.services[0].balance.as_mut().unwrap().stick_ms = Some(3000);
    let mut net = calm(&plan, 1);
    let home = net.send(0, &client(9, 2000), flags::SYN).unwrap();
    // Others take their turns, so that it would not come out so by chance.
    net.send(0, &client(10, 2000), flags::SYN).unwrap();
    net.advance(Duration::from_millis(1000));
    assert_eq!(net.live(0), 0, "half open, they have ended");
    net.advance(Duration::from_millis(1500));
    assert_eq!(net.send(0, &client(9, 2001), flags::SYN), Some(home));
    net.advance(Duration::from_millis(5000));
    let after: Vec<_> = (0..3)
        .map(|n| {
            let flow = client(9, 2002 + n);
            let server = net.send(0, &flow, flags::SYN).unwrap();
            net.advance(Duration::from_millis(5000));
            server
        })
        .collect();
    assert!(after.iter().any(|s| *s != home), "and not for ever");
}

#[test]
fn a6_6_least_connections_counts_flows_as_they_begin_and_end() {
    let mut plan = plan();
    plan.services[0].limits.closed_ms = 500;
    let balance = plan.services[0].balance.as_mut().unwrap();
    balance.pick = Pick::LeastConnections;
    let mut net = calm(&plan, 1);
    assert_eq!(spread(&mut net, 2000, 40), [20, 10, 10]);
    // All flows of the second end; the next ones go there.
    for n in 2000..2040 {
        if net.send(0, &client(9, n), flags::ACK) == Some(servers()[1]) {
            net.send(0, &client(9, n), flags::RST);
        }
    }
    net.advance(Duration::from_millis(2000));
    assert_eq!(spread(&mut net, 3000, 9), [0, 9, 0]);
    // A manager that starts again counts what it finds.
    net.stop(0);
    net.start(manager(&plan, 2), Faults::none());
    net.advance(Duration::from_millis(50));
    assert_eq!(net.live(1), 39);
    assert_eq!(spread(&mut net, 4000, 1), [0, 1, 0]);
}

#[test]
fn a6_2_every_scheme_gives_a_flow_one_server_at_every_agent_of_a_manager() {
    for pick in [
        Pick::RoundRobin,
        Pick::Weighted,
        Pick::LeastConnections,
        Pick::MaglevFlow,
        Pick::MaglevSource,
    ] {
        let mut plan = plan();
        plan.services[0].balance.as_mut().unwrap().pick = pick;
        let mut net = calm(&plan, 4);
        for n in 0..40u16 {
            let flow = client(9, 2000 + n);
            let first = usize::from(n) % 4;
            let server = net.send(first, &flow, flags::SYN);
            assert!(server.is_some());
            for agent in 0..4 {
                assert_eq!(net.send(agent, &flow, flags::ACK), server, "{pick:?}");
            }
        }
        assert_eq!(net.counts(0).decided, 40, "A6.1");
        assert_eq!(net.live(0), 40);
    }
}
