//! Counts and reports.

use super::*;

#[test]
fn a1_2_counts_equal_what_passed_to_the_packet_and_the_byte() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    let mut bytes = tcp(1, &flow, flags::SYN, b"").len() as u64;
    for n in 0..10 {
        let p = tcp(1, &flow, flags::ACK, &vec![7; n * 10]);
        bytes += p.len() as u64;
        w.receive(1, &p);
    }
    w.feed(Input::Refresh);
    let totals = w.agent.flows()[0].forward;
    assert_eq!((totals.packets, totals.bytes), (11, bytes));
    assert_eq!(w.agent.counters().hits, 11);
}

// A1.2
#[test]
fn the_packet_out_header_that_bmv2_counts_along_is_taken_off() {
    let mut w = served_on(plan(), Target::simple_switch_grpc());
    let flow = connect(&mut w, 1000);
    w.feed(Input::Refresh);
    let first = tcp(1, &flow, flags::SYN, b"").len() as u64;
    assert_eq!(w.agent.flows()[0].forward.bytes, first);
}

#[test]
fn a1_4_a_final_report_comes_on_delete_after_the_pipeline_has_drained() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    say(
        &mut w,
        LB,
        1,
        ManagerBody::Delete {
            request: 5,
            which: Which::Flow(1000),
        },
    );
    assert!(w.switch.fixed.is_empty());
    // A packet that had met the entry is counted a moment later.
    let cell = *w
        .switch
        .cells
        .keys()
        .find(|c| c.part == Part::Forward)
        .unwrap();
    w.switch.cells.get_mut(&cell).unwrap().packets += 1;
    assert!(reports(&w).is_empty());
    w.advance(20 * MS);
    let report = &reports(&w)[0];
    assert!(report.last);
    let forward = report.forward.unwrap();
    assert_eq!(forward.tuple, flow);
    assert_eq!(
        forward.translated,
        Some(to_server(flow)),
        "post-NAT (A1.12)"
    );
    assert_eq!(forward.totals.packets, 2);
    let deleted = |m: &AgentBody| matches!(m, AgentBody::Deleted(e) if e.request == 5);
    assert!(w.said.iter().any(|(_, m)| deleted(&m.body)));
}

// A1.2
#[test]
fn a_slot_whose_flow_outlived_the_switchs_absence_is_used_again_without_that_flows_counts() {
    let mut w = served();
    let first = connect(&mut w, 1000);
    let reason = "gone".into();
    w.feed(Input::SwitchDown { reason });
    w.switch_up();
    beat(&mut w, 1);
    for _ in 0..5 {
        w.receive(1, &tcp(1, &first, flags::ACK, b"data"));
    }
    w.receive(1, &tcp(1, &first, flags::RST, b""));
    pass(&mut w, 20);
    assert!(w.agent.flows().is_empty());
    let said = reports(&w);
    assert_eq!(said.last().unwrap().forward.unwrap().totals.packets, 7);
    w.said.clear();
    connect(&mut w, 1001);
    w.feed(Input::Refresh);
    assert_eq!(w.agent.flows()[0].forward.packets, 1);
}

// A1.2
#[test]
fn a_reused_slot_starts_from_what_it_holds() {
    let mut p = plan();
    p.services[0].forward.fixed_size = 1;
    let mut w = served_with(p);
    let flow = connect(&mut w, 1000);
    w.receive(1, &tcp(1, &flow, flags::ACK, b"abc"));
    say(
        &mut w,
        LB,
        1,
        ManagerBody::Delete {
            request: 5,
            which: Which::All,
        },
    );
    w.advance(20 * MS);
    connect(&mut w, 2000);
    w.feed(Input::Refresh);
    assert_eq!(w.agent.flows()[0].forward.packets, 1);
}

#[test]
fn a1_8_a1_9_periodic_reports_keep_their_period_and_carry_running_totals() {
    let mut w = served();
    let flow = client(9, 1000);
    let mut list = balanced(flow, 1, SERVER);
    for a in &mut list {
        a.statistics.every_ms = Some(1000);
    }
    say(
        &mut w,
        LB,
        1,
        ManagerBody::Install {
            request: 1,
            affinities: list,
        },
    );
    for _ in 0..5 {
        w.receive(1, &tcp(1, &flow, flags::ACK, b"x"));
        w.advance(S);
    }
    let got: Vec<(u64, u64)> = reports(&w)
        .iter()
        .map(|r| (r.sequence, r.forward.unwrap().totals.packets))
        .collect();
    assert_eq!(got, [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]);
}

#[test]
fn a_takeover_gets_every_affinity_of_its_service_in_pieces() {
    let mut w = served();
    for port in 0..300 {
        connect(&mut w, 1000 + port);
    }
    w.said.clear();
    say(&mut w, LB, 1, ManagerBody::ListAffinities { request: 9 });
    let mut all = Vec::new();
    let mut ends = Vec::new();
    for (_, m) in &w.said {
        if let AgentBody::Affinities { list, last, .. } = &m.body {
            all.extend(list.clone());
            ends.push(*last);
        }
    }
    assert_eq!(all.len(), 600);
    assert_eq!(ends.iter().filter(|l| **l).count(), 1);
    assert_eq!(&all[0].affinity.cookie[..], b"web");
}
