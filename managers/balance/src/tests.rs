//! Shares, determinism, health.

use super::*;
use signalbox_lower::plan::{OnDeath, Pick, ServerPlan, Way};

fn servers(weights: &[u32]) -> Vec<Server> {
    (weights.iter().enumerate())
        .map(|(i, w)| Server {
            name: format!("s{i}"),
            address: IpAddr::from([10, 0, i as u8, 10]),
            port: 8080,
            weight: *w,
            up: true,
            chosen: 0,
            flows: 0,
        })
        .collect()
}

fn balance(pick: Pick, weights: &[u32]) -> Balance {
    let servers = servers(weights);
    let plan = BalancePlan {
        pool: "web".into(),
        pick,
        servers: (servers.iter())
            .map(|s| ServerPlan {
                name: s.name.clone(),
                address: s.address,
                port: s.port,
                weight: s.weight,
            })
            .collect(),
        check: None,
        stick_ms: None,
        slow_start_ms: 0,
        way: Way::default(),
        on_death: OnDeath::default(),
    };
    let picker = Picker::new(pick, &identities(&servers), &self::weights(&servers));
    Balance {
        plan,
        servers,
        picker,
    }
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
        shares[b.choose(&flow(i)).unwrap()] += 1;
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

#[test]
fn a6_9_maglev_shares_converge_on_the_weights() {
    let mut b = balance(Pick::MaglevFlow, &[2, 1, 1]);
    let got = shares(&mut b, 40_000);
    for (got, want) in got.iter().zip([20_000, 10_000, 10_000]) {
        assert!(got.abs_diff(want) < 600, "{got} of {want}");
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
fn a6_7_a_lost_server_moves_few_flows_of_the_others() {
    let names: Vec<String> = (0..10).map(|i| format!("s{i}")).collect();
    let before = Maglev::new(&names, &[1; 10], TABLE_SIZE);
    let mut weights = [1; 10];
    weights[3] = 0;
    let after = Maglev::new(&names, &weights, TABLE_SIZE);
    let moved = (0..10_000u32)
        .map(u32::to_be_bytes)
        .filter(|k| before.pick(k) != Some(3) && before.pick(k) != after.pick(k))
        .count();
    assert!(moved < 500, "{moved} of 9,000 flows would move");
    assert_eq!(after.shares(10)[3], 0);
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
fn a6_10_weight_zero_gets_no_new_flows() {
    for pick in [Pick::RoundRobin, Pick::Weighted, Pick::MaglevFlow] {
        assert_eq!(shares(&mut balance(pick, &[0, 1, 1]), 100)[0], 0);
    }
}

#[test]
fn a6_13_a_server_that_is_down_gets_no_new_flows_and_comes_back() {
    for pick in [Pick::RoundRobin, Pick::Weighted, Pick::MaglevFlow] {
        let mut b = balance(pick, &[1, 1]);
        b.health(0, false);
        assert_eq!(shares(&mut b, 100)[0], 0);
        b.health(0, true);
        assert!(shares(&mut b, 100)[0] > 20);
    }
}

#[test]
fn with_every_server_down_a_flow_takes_the_floor() {
    for pick in [Pick::RoundRobin, Pick::Weighted, Pick::MaglevFlow] {
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
            kind: signalbox_agent::flow::PacketKind::Whole,
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
