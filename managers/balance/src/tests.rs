//! Shares, determinism, health, load, stickiness, ways and changed plans, by single decisions.

use signalbox_agent::flow::PacketKind;
use signalbox_agent::testing::plan;
use signalbox_lower::plan::{CheckPlan, Pick, ServerPlan};

use super::*;

const PICKS: [Pick; 5] = [
    Pick::RoundRobin,
    Pick::Weighted,
    Pick::LeastConnections,
    Pick::MaglevFlow,
    Pick::MaglevSource,
];

fn service(pick: Pick, weights: &[u32]) -> ServicePlan {
    let mut service = plan().services.remove(0);
    let balance = service.balance.as_mut().unwrap();
    balance.pick = pick;
    balance.servers = (weights.iter().enumerate())
        .map(|(i, weight)| ServerPlan {
            name: format!("s{i}"),
            address: IpAddr::from([10, 0, i as u8, 10]),
            port: 8080,
            weight: *weight,
        })
        .collect();
    service
}

fn with(
    pick: Pick,
    weights: &[u32],
    change: impl FnOnce(&mut BalancePlan),
) -> (Balance, ServicePlan) {
    let mut service = service(pick, weights);
    change(service.balance.as_mut().unwrap());
    (Balance::new(&service).unwrap(), service)
}

fn balance(pick: Pick, weights: &[u32]) -> Balance {
    with(pick, weights, |_| {}).0
}

/// A flow is decided, now.
fn decide(b: &mut Balance, flow: Tuple) -> Option<Decided> {
    let packet = Bytes::new();
    let opening = Opening {
        flow,
        kind: PacketKind::Whole,
        ingress_port: 1,
        packet: &packet,
    };
    match b.decide(b.now, &opening, &|_| false) {
        Choice::Install(decided) => Some(decided),
        Choice::Drop | Choice::Fallback => None,
    }
}

fn server(b: &Balance, decided: &Decided) -> usize {
    b.server_of(decided).unwrap()
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn flow(n: u32) -> Tuple {
    Tuple {
        src: IpAddr::from((0x0a09_0000 + n / 20_000).to_be_bytes()),
        dst: IpAddr::from([203, 0, 113, 80]),
        proto: 6,
        sport: 20_000 + (n % 20_000) as u16,
        dport: 443,
    }
}

fn shares(b: &mut Balance, n: u32) -> Vec<u32> {
    let mut shares = vec![0; b.servers.len()];
    for i in 0..n {
        let decided = decide(b, flow(i)).unwrap();
        shares[server(b, &decided)] += 1;
    }
    shares
}

#[test]
fn a6_4_round_robin_takes_each_server_in_turn() {
    assert_eq!(
        shares(&mut balance(Pick::RoundRobin, &[2, 1, 1]), 300),
        [100, 100, 100]
    );
}

#[test]
fn a6_5_weighted_shares_are_exact_and_interleaved() {
    let mut b = balance(Pick::Weighted, &[2, 1, 1]);
    let first: Vec<usize> = (0..8).map(|i| b.choose(&flow(i)).unwrap()).collect();
    assert_eq!(first, [0, 1, 2, 0, 0, 1, 2, 0]);
    assert_eq!(
        shares(&mut balance(Pick::Weighted, &[2, 1, 1]), 400),
        [200, 100, 100]
    );
}

/// How far each server's share of `n` flows, arriving and ending at random, is from its weight's, at most.
fn spread(pick: Pick, weights: &[u32], n: u32, seed: u64) -> f64 {
    let mut b = balance(pick, weights);
    let mut state = seed;
    let mut random = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut live: Vec<Decided> = Vec::new();
    let mut got = vec![0u32; weights.len()];
    for _ in 0..n {
        let r = random();
        let flow = Tuple {
            src: IpAddr::from((r as u32).to_be_bytes()),
            sport: (r >> 32) as u16,
            ..flow(0)
        };
        let decided = decide(&mut b, flow).unwrap();
        got[server(&b, &decided)] += 1;
        live.push(decided);
        // About 1,000 live at once.
        if live.len() > 1000 {
            let at = random() as usize % live.len();
            let gone = live.swap_remove(at);
            b.ended(&gone);
        }
    }
    let total: u32 = weights.iter().sum();
    (got.iter().zip(weights))
        .map(|(got, w)| {
            let wanted = f64::from(n) * f64::from(*w) / f64::from(total);
            (f64::from(*got) - wanted).abs() / wanted
        })
        .fold(0.0, f64::max)
}

#[test]
fn a6_9_shares_converge_on_the_weights_within_the_bounds_of_the_documentation() {
    for seed in 1..6 {
        for (pick, bound) in [
            (Pick::Weighted, 0.001),
            (Pick::LeastConnections, 0.05),
            (Pick::MaglevFlow, 0.05),
            (Pick::MaglevSource, 0.05),
        ] {
            let off = spread(pick, &[4, 2, 1, 1], 40_000, seed);
            assert!(off < bound, "{pick:?}, seed {seed}: {off}");
        }
        let off = spread(Pick::RoundRobin, &[1, 1, 1, 1], 40_000, seed);
        assert!(off < 0.001, "seed {seed}: {off}");
    }
}

#[test]
fn a6_2_any_manager_gives_a_flow_the_same_server_whatever_the_order_of_its_pool() {
    let names: Vec<String> = (0..5).map(|i| format!("10.0.{i}.10/80")).collect();
    let weights = [3, 1, 2, 1, 1];
    let one = Maglev::new(&names, &weights, TABLE_SIZE);
    let mut turned = names.clone();
    turned.rotate_left(2);
    let mut turned_weights = weights;
    turned_weights.rotate_left(2);
    let two = Maglev::new(&turned, &turned_weights, TABLE_SIZE);
    for n in 0..1000u32 {
        let key = n.to_be_bytes();
        assert_eq!(
            names[one.pick(&key).unwrap()],
            turned[two.pick(&key).unwrap()]
        );
    }
}

#[test]
fn a6_7_a_lost_server_of_a_hundred_moves_few_flows_of_the_others() {
    let names: Vec<String> = (0..100).map(|i| format!("10.0.{i}.10/80")).collect();
    let before = Maglev::new(&names, &[1; 100], TABLE_SIZE);
    let even = TABLE_SIZE as usize / 100;
    for cells in before.shares(100) {
        assert!(cells.abs_diff(even) <= even / 50, "{cells} of {even} cells");
    }
    for lost in [0, 41, 99] {
        let mut weights = [1; 100];
        weights[lost] = 0;
        let after = Maglev::new(&names, &weights, TABLE_SIZE);
        assert_eq!(after.shares(100)[lost], 0);
        let others: Vec<_> = (0..100_000u32)
            .map(u32::to_be_bytes)
            .filter(|k| before.pick(k) != Some(lost))
            .collect();
        let moved = (others.iter())
            .filter(|k| before.pick(&k[..]) != after.pick(&k[..]))
            .count();
        let percent = moved as f64 * 100.0 / others.len() as f64;
        println!("server {lost} lost: {percent:.2} % of the others' flows would move");
        assert!(percent < 5.0, "{percent} %");
        // The same server back: the same table.
        assert_eq!(Maglev::new(&names, &[1; 100], TABLE_SIZE), before);
    }
}

#[test]
fn a6_7_maglev_by_source_sends_a_client_to_one_server() {
    let mut b = balance(Pick::MaglevSource, &[1, 1, 1]);
    let first = b.choose(&flow(0));
    for n in 1..1000 {
        assert_eq!(b.choose(&flow(n)), first);
    }
}

#[test]
fn a6_7_maglev_by_flow_sends_a_flow_to_one_server_and_spreads_a_clients_flows() {
    let mut b = balance(Pick::MaglevFlow, &[1, 1, 1]);
    let of_a_client: Vec<usize> = (0..300).map(|n| b.choose(&flow(n)).unwrap()).collect();
    // Whatever came in between, and at whichever manager.
    let mut other = balance(Pick::MaglevFlow, &[1, 1, 1]);
    for n in (0..300).rev() {
        assert_eq!(other.choose(&flow(n)), Some(of_a_client[n as usize]));
    }
    for server in 0..3 {
        let got = of_a_client.iter().filter(|s| **s == server).count();
        assert!(got > 60, "server {server} has {got} of 300");
    }
    // Each end and the protocol are part of the flow.
    let differs = |change: fn(&mut Tuple)| {
        let moved = (0..300).filter(|n| {
            let mut changed = flow(*n);
            change(&mut changed);
            b.choose(&changed) != Some(of_a_client[*n as usize])
        });
        moved.count() > 60
    };
    let changes: [fn(&mut Tuple); 5] = [
        |t| t.src = IpAddr::from([10, 9, 9, 9]),
        |t| t.dst = IpAddr::from([203, 0, 113, 81]),
        |t| t.sport += 7,
        |t| t.dport = 80,
        |t| t.proto = 17,
    ];
    assert_eq!(changes.map(differs), [true; 5]);
}

#[test]
fn a6_10_weight_zero_gets_no_new_flows() {
    for pick in PICKS {
        assert_eq!(shares(&mut balance(pick, &[0, 1, 1]), 100)[0], 0);
    }
}

#[test]
fn a6_10_a_server_that_an_operator_drains_gets_no_new_flows_until_it_is_put_back() {
    for pick in PICKS {
        let (mut b, plan) = with(pick, &[1, 1, 1], |_| {});
        let old = decide(&mut b, flow(0)).unwrap();
        let drained = server(&b, &old);
        assert_eq!(b.drain("other", "s0", true), Ok(false));
        let names = ["s0", "s1", "s2"].map(str::to_owned).to_vec();
        assert_eq!(b.drain("web", "s3", true), Err(names));
        let name = format!("s{drained}");
        assert_eq!(b.drain("web", &name, true), Ok(true));
        assert_eq!(shares(&mut b, 300)[drained], 0, "{pick:?}");
        // Its old flow lives on, and another policy with the same weight does not put it back.
        assert!(b.stands(&old));
        b.update(&plan);
        assert_eq!(shares(&mut b, 300)[drained], 0, "{pick:?}");
        let endpoint = format!("10.0.{drained}.10:8080");
        assert_eq!(b.drain("web", &endpoint, false), Ok(true));
        assert!(shares(&mut b, 300)[drained] > 0, "{pick:?}");
    }
}

#[test]
fn a6_13_a_server_that_is_down_gets_no_new_flows_and_comes_back() {
    for pick in PICKS {
        let mut b = balance(pick, &[1, 1]);
        b.health(0, false);
        assert_eq!(shares(&mut b, 100)[0], 0);
        b.health(0, true);
        let back = (0..100).map(|n| flow(n * 20_000)).filter(|f| {
            let decided = decide(&mut b, *f).unwrap();
            server(&b, &decided) == 0
        });
        assert!(back.count() > 20, "{pick:?}");
    }
}

#[test]
fn with_every_server_down_a_flow_takes_the_floor() {
    for pick in PICKS {
        let mut b = balance(pick, &[1, 1]);
        b.health(0, false);
        b.health(1, false);
        assert_eq!(b.choose(&flow(1)), None);
    }
}

#[test]
fn a_server_whose_replies_could_not_be_told_apart_is_passed_over() {
    for pick in [Pick::RoundRobin, Pick::Weighted, Pick::MaglevSource] {
        let mut b = balance(pick, &[1, 0, 1, 1]);
        b.health(2, false);
        let packet = Bytes::new();
        let opening = Opening {
            flow: flow(1),
            kind: PacketKind::Whole,
            ingress_port: 1,
            packet: &packet,
        };
        let busy = b.servers[0].address;
        let Choice::Install(decided) =
            b.decide(Duration::ZERO, &opening, &|reply| reply.src == busy)
        else {
            panic!("the last server is free, alive and has a weight");
        };
        assert_eq!(b.server_of(&decided), Some(3));
        assert_eq!(
            b.decide(Duration::ZERO, &opening, &|_| true),
            Choice::Fallback
        );
        assert_eq!(b.status().iter().map(|t| t.flows).sum::<u64>(), 1);
    }
}

#[test]
fn a6_6_the_server_with_the_fewest_flows_for_its_weight_is_next() {
    let mut b = balance(Pick::LeastConnections, &[2, 1, 1]);
    let mut flows = Vec::new();
    let order: Vec<usize> = (0..8)
        .map(|n| {
            flows.push(decide(&mut b, flow(n)).unwrap());
            server(&b, &flows[n as usize])
        })
        .collect();
    // Of equal ones the first of the pool.
    assert_eq!(order, [0, 1, 2, 0, 0, 1, 2, 0]);
    // Two of the third's end: it gets the next two.
    for n in [2, 6] {
        b.ended(&flows[n]);
    }
    for n in 8..10 {
        let decided = decide(&mut b, flow(n)).unwrap();
        assert_eq!(server(&b, &decided), 2);
    }
    // Flows that an agent tells of count, too.
    let mut other = balance(Pick::LeastConnections, &[1, 1]);
    let told = decide(&mut balance(Pick::LeastConnections, &[1, 1]), flow(50)).unwrap();
    other.adopted(&told);
    let decided = decide(&mut other, flow(51)).unwrap();
    assert_eq!(server(&other, &decided), 1);
}

#[test]
fn a6_14_least_connections_does_not_flood_a_server_that_comes_back() {
    let (mut b, _) = with(Pick::LeastConnections, &[1, 1], |p| p.slow_start_ms = 8000);
    b.health(0, false);
    for n in 0..400 {
        decide(&mut b, flow(n)).unwrap();
    }
    b.tick(at(1000));
    b.health(0, true);
    let mut first = 0;
    for n in 1000..1100 {
        let decided = decide(&mut b, flow(n)).unwrap();
        first += usize::from(server(&b, &decided) == 0);
    }
    // An eighth of what the other one has, not all.
    assert!((45..65).contains(&first), "{first}");
}

/// The share of new flows, of a thousand, that server 0 gets now.
fn part(b: &mut Balance, from: &mut u32) -> u32 {
    let mut got = 0;
    for _ in 0..1000 {
        *from += 1;
        let decided = decide(b, flow(*from)).unwrap();
        got += u32::from(server(b, &decided) == 0);
        b.ended(&decided);
    }
    got
}

#[test]
fn a6_14_a_server_that_comes_back_starts_slowly() {
    for pick in [Pick::RoundRobin, Pick::Weighted, Pick::MaglevFlow] {
        let (mut b, _) = with(pick, &[1, 1], |p| p.slow_start_ms = 16_000);
        let mut n = 0;
        b.tick(at(1000));
        assert!((450..550).contains(&part(&mut b, &mut n)), "at full weight");
        b.health(0, false);
        assert_eq!(part(&mut b, &mut n), 0);
        b.tick(at(5000));
        b.health(0, true);
        let mut last = 0;
        let mut steps = Vec::new();
        loop {
            let got = part(&mut b, &mut n);
            assert!(got + 30 > last, "{pick:?}: it rises: {got} after {last}");
            last = got;
            steps.push(got);
            let Some(next) = b.next() else { break };
            b.tick(next);
        }
        assert_eq!(steps.len(), 8, "{pick:?}: a table a step");
        // 1:8 at first, 1:1 in the end.
        assert!((80..145).contains(&steps[0]), "{pick:?}: {steps:?}");
        assert!((450..550).contains(&last), "{pick:?}: {steps:?}");
        assert!(b.now >= at(5000 + 14_000) && b.now < at(5000 + 16_001));
    }
}

#[test]
fn a6_12_a_loaded_server_gets_less_and_a_full_one_nothing() {
    for pick in [Pick::RoundRobin, Pick::Weighted, Pick::MaglevFlow] {
        let mut b = balance(pick, &[1, 1]);
        let mut n = 0;
        b.tick(at(2000));
        b.load(0, 75);
        b.load(1, 0);
        for _ in 0..3 {
            if let Some(next) = b.next() {
                b.tick(next);
            }
        }
        // 25 : 100.
        let got = part(&mut b, &mut n);
        assert!((150..250).contains(&got), "{pick:?}: {got}");
        b.load(0, 100);
        assert_eq!(part(&mut b, &mut n), 0, "{pick:?}, at once");
        assert!(b.status()[0].up, "but not dead");
        b.load(1, 100);
        assert_eq!(decide(&mut b, flow(1)), None);
        b.load(0, 20);
        b.load(1, 20);
        while let Some(next) = b.next() {
            b.tick(next);
        }
        let got = part(&mut b, &mut n);
        assert!((450..550).contains(&got), "{pick:?}: {got}");
    }
    // Least connections holds as many as the load leaves.
    let mut b = balance(Pick::LeastConnections, &[1, 1]);
    b.load(0, 75);
    assert_eq!(shares(&mut b, 1000), [200, 800]);
}

#[test]
fn loads_that_keep_changing_build_at_most_one_table_a_second_and_give_no_server_a_streak() {
    let mut b = balance(Pick::MaglevFlow, &[1; 10]);
    let mut tables = 0;
    for ms in 0..10_000u64 {
        let before = b.weighed;
        b.tick(at(ms));
        b.load((ms % 10) as usize, (ms % 90) as u8);
        tables += u32::from(b.weighed != before);
    }
    assert!((5..=10).contains(&tables), "{tables}");
    // In turn means in turn although shares change with every flow.
    let mut b = balance(Pick::RoundRobin, &[1; 4]);
    let mut got = [0; 4];
    for n in 0..400u32 {
        b.load((n % 4) as usize, (n % 3) as u8);
        got[b.choose(&flow(n)).unwrap()] += 1;
    }
    for share in got {
        assert!((95..=105).contains(&share), "{got:?}");
    }
}

fn source(host: u8, port: u16) -> Tuple {
    Tuple {
        src: IpAddr::from([198, 51, 100, host]),
        sport: port,
        ..flow(0)
    }
}

#[test]
fn a6_8_a_source_keeps_its_server_while_it_has_flows_and_for_a_while_after() {
    for pick in PICKS {
        let (mut b, _) = with(pick, &[1, 1, 1], |p| p.stick_ms = Some(60_000));
        let first = decide(&mut b, source(1, 1)).unwrap();
        let home = server(&b, &first);
        for n in 2..20 {
            // Others come between.
            decide(&mut b, source(100, n)).unwrap();
            let decided = decide(&mut b, source(1, n)).unwrap();
            assert_eq!(server(&b, &decided), home, "{pick:?}");
            b.ended(&decided);
        }
        // A live flow keeps it, however long.
        b.tick(at(3_600_000));
        let decided = decide(&mut b, source(1, 30)).unwrap();
        assert_eq!(server(&b, &decided), home, "{pick:?}");
        b.ended(&decided);
        b.ended(&first);
        b.tick(at(3_659_999));
        assert_eq!(b.stuck(source(1, 31).src), Some(home));
        b.tick(at(3_660_000));
        assert_eq!(b.stuck(source(1, 31).src), None, "it is over");
    }
    let mut b = balance(Pick::RoundRobin, &[1, 1]);
    let servers: Vec<_> = (1..5)
        .map(|n| decide(&mut b, source(1, n)).map(|d| server(&b, &d)))
        .collect();
    assert_eq!(
        servers,
        [0, 1, 0, 1].map(Some),
        "only where it is asked for"
    );
}

#[test]
fn a6_8_a_source_leaves_a_server_that_is_dead_full_or_draining_and_stays_with_the_next() {
    type Change = fn(&mut Balance, usize, &mut ServicePlan);
    let changes: [(&str, Change); 3] = [
        ("dead", |b, home, _| b.health(home, false)),
        ("full", |b, home, _| b.load(home, 100)),
        ("A6.10: draining", |b, home, service| {
            service.balance.as_mut().unwrap().servers[home].weight = 0;
            b.update(service);
        }),
    ];
    for pick in PICKS {
        for (what, change) in changes {
            let (mut b, mut service) = with(pick, &[1, 1, 1], |p| p.stick_ms = Some(60_000));
            let first = decide(&mut b, source(1, 1)).unwrap();
            let home = server(&b, &first);
            change(&mut b, home, &mut service);
            let second = decide(&mut b, source(1, 2)).unwrap();
            let other = server(&b, &second);
            assert_ne!(other, home, "{pick:?}, {what}");
            for n in 3..10 {
                let decided = decide(&mut b, source(1, n)).unwrap();
                assert_eq!(server(&b, &decided), other, "{pick:?}, {what}");
            }
            assert_eq!(b.status()[home].flows, 1, "{what}: the old flow lives on");
        }
    }
}

#[test]
fn a6_8_a_manager_that_starts_again_learns_of_sources_from_their_live_flows() {
    let (mut before, service) = with(Pick::Weighted, &[1, 1, 1], |p| p.stick_ms = Some(60_000));
    let flows: Vec<Decided> = (1..9)
        .map(|host| decide(&mut before, source(host, 1)).unwrap())
        .collect();
    let mut after = Balance::new(&service).unwrap();
    for decided in &flows {
        after.adopted(decided);
    }
    for (host, decided) in (1..9).zip(&flows) {
        let again = decide(&mut after, source(host, 2)).unwrap();
        assert_eq!(server(&after, &again), server(&before, decided));
    }
}

#[test]
fn a6_10_a_changed_plan_keeps_what_is_known_of_its_servers() {
    for pick in PICKS {
        let (mut b, mut service) = with(pick, &[1, 1, 1, 1], |_| {});
        let flows: Vec<Decided> = (0..40)
            .map(|n| decide(&mut b, flow(n * 20_000)).unwrap())
            .collect();
        b.health(2, false);
        let before = b.status();
        // The pool turned round, one server draining, one gone, one new.
        let new = service.balance.as_mut().unwrap();
        new.servers.reverse();
        new.servers[0].weight = 0;
        let gone = new.servers.pop().unwrap();
        new.servers.push(ServerPlan {
            name: "new".into(),
            address: IpAddr::from([10, 0, 9, 10]),
            port: 8080,
            weight: 1,
        });
        new.check = Some(CheckPlan {
            kind: CheckKind::Tcp,
            every_ms: 1000,
            timeout_ms: 500,
            rise: 1,
            fall: 1,
        });
        b.update(&service);
        let after = b.status();
        let of = |status: &[TargetStatus], name: &str| {
            (status.iter().find(|t| t.name == name)).map(|t| (t.weight, t.up, t.flows, t.chosen))
        };
        for name in ["s1", "s2"] {
            assert_eq!(of(&after, name), of(&before, name), "{pick:?}");
        }
        let (_, up, flows_of, chosen) = of(&before, "s3").unwrap();
        assert_eq!(of(&after, "s3"), Some((0, up, flows_of, chosen)));
        assert_eq!(of(&after, "new"), Some((1, true, 0, 0)));
        let gone = of(&after, &gone.name).unwrap();
        assert_eq!(gone.0, 0, "it drains until its flows have ended");
        assert_eq!(b.targets().len(), 4, "and is checked no more");
        for n in 0..60 {
            let decided = decide(&mut b, flow(n * 20_000 + 7)).unwrap();
            let to = &b.servers[server(&b, &decided)].name;
            assert!(to == "s1" || to == "new", "{pick:?}: {to}");
            b.ended(&decided);
        }
        for decided in &flows {
            b.ended(decided);
        }
        assert!(b.status().iter().all(|t| t.flows == 0));
        b.update(&service);
        assert_eq!(b.status().len(), 4);
        // Without checks nobody can say that a server is down.
        service.balance.as_mut().unwrap().check = None;
        b.update(&service);
        assert!(b.status().iter().all(|t| t.up));
    }
}

#[test]
fn a6_17_a6_21_each_way_is_an_action_and_only_translation_has_a_way_back() {
    let to = IpAddr::from([10, 0, 0, 10]);
    for (way, tunnel, needs) in [
        (Way::Mac, Tunnel::None, &[Capability::Dispatch][..]), // A6.18
        (
            Way::Ipip,
            Tunnel::Ipip,
            &[Capability::Dispatch, Capability::Ipip],
        ), // A6.19
        (
            Way::Gue,
            Tunnel::Gue,
            &[Capability::Dispatch, Capability::Gue],
        ), // A6.20
    ] {
        let (mut b, _) = with(Pick::Weighted, &[1], |p| p.way = way);
        let decided = decide(&mut b, flow(1)).unwrap();
        let dispatch = Action::Dispatch {
            next_hop: to,
            tunnel,
        };
        assert_eq!(decided.forward, (flow(1), vec![dispatch]));
        assert_eq!(decided.reply, None);
        assert_eq!(b.needs(), needs);
        assert_eq!(b.status()[0].flows, 1);
        b.ended(&decided);
        assert_eq!(b.status()[0].flows, 0);
    }
    let mut b = balance(Pick::Weighted, &[1]);
    let decided = decide(&mut b, flow(1)).unwrap();
    let translated = Tuple {
        dst: to,
        dport: 8080,
        ..flow(1)
    };
    assert_eq!(
        decided.forward,
        (flow(1), vec![Action::Translate(translated)])
    );
    let back = vec![Action::Translate(flow(1).reversed())];
    assert_eq!(decided.reply, Some((translated.reversed(), back)));
    assert_eq!(b.needs(), [Capability::Translate]);
}

#[test]
fn two_dispatched_servers_of_one_address_are_told_apart() {
    let (mut b, _) = with(Pick::RoundRobin, &[1, 1], |p| {
        p.way = Way::Mac;
        p.servers[1].address = p.servers[0].address;
        p.servers[1].port = 9090;
    });
    let flows: Vec<Decided> = (0..4).map(|n| decide(&mut b, flow(n)).unwrap()).collect();
    assert_eq!(
        b.status().iter().map(|t| t.flows).collect::<Vec<_>>(),
        [2, 2]
    );
    b.ended(&flows[1]);
    assert_eq!(
        b.status().iter().map(|t| t.flows).collect::<Vec<_>>(),
        [2, 1]
    );
}
