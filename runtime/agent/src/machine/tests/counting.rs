//! What criteria count, when reports come, and which TCP flags they tell.

use super::*;
use crate::testing::totalled;

fn criterion_reports(w: &World) -> Vec<CriterionReport> {
    w.said
        .iter()
        .filter_map(|(_, m)| match &m.body {
            AgentBody::CriterionReport(r) => Some(r.clone()),
            _ => None,
        })
        .collect()
}

/// The plan's criteria, the forward one counted.
fn counted(version: u64, every_ms: Option<u64>) -> Criteria {
    let mut c = criteria(&plan(), version);
    c.list[0].statistics = Statistics {
        count: true,
        every_ms,
        ..Statistics::default()
    };
    c
}

fn served_counted(every_ms: Option<u64>) -> World {
    let mut w = World::new(plan());
    w.feed(Input::SessionOpened(LB));
    say(&mut w, LB, 1, hello("lb-1", 1));
    let criteria = counted(1, every_ms);
    say(&mut w, LB, 1, ManagerBody::Criteria(criteria));
    assert_eq!(denials(&w), []);
    w
}

/// Packets in a frame of 54 bytes and three more.
fn send(w: &mut World, flow: &Tuple, packets: usize) {
    for _ in 0..packets {
        w.receive(1, &tcp(1, flow, flags::ACK, b"abc"));
    }
}

// A1.3, A1.8
#[test]
fn a_criterions_totals_are_those_of_its_affinities_living_and_ended() {
    let mut w = served_counted(Some(1000));
    let flows: Vec<Tuple> = (1000..1003).map(|port| connect(&mut w, port)).collect();
    send(&mut w, &flows[0], 4);
    send(&mut w, &flows[1], 2);
    let which = Which::Flow(1000);
    say(&mut w, LB, 1, ManagerBody::Delete { request: 5, which });
    w.advance(S);
    // Three SYNs of 54 bytes, six packets of 57.
    let totals = Totals {
        packets: 9,
        bytes: 3 * 54 + 6 * 57,
    };
    let report = criterion_reports(&w).last().cloned().unwrap();
    assert_eq!(
        (report.id, report.part, report.totals),
        (1, Part::Forward, totals)
    );
    assert_eq!((report.sequence, report.last), (1, false));

    send(&mut w, &flows[2], 1);
    beat(&mut w, 1);
    w.advance(S);
    let report = criterion_reports(&w).last().cloned().unwrap();
    assert_eq!((report.totals.packets, report.sequence), (10, 2));
}

// A1.3
#[test]
fn a_criterion_counts_the_packets_that_it_lets_go_on_itself() {
    let mut w = World::new(plan());
    w.feed(Input::SessionOpened(LB));
    say(&mut w, LB, 1, hello("lb-1", 1));
    let mut c = counted(1, Some(1000));
    c.list[0].interest.packet_events = flags::SYN.into();
    say(&mut w, LB, 1, ManagerBody::Criteria(c));
    let flow = connect(&mut w, 1000);
    send(&mut w, &flow, 2);
    // In mid-flow, and nobody knows it: the static action drops it, and it is counted there.
    send(&mut w, &client(9, 2000), 3);
    w.advance(S);
    assert_eq!(criterion_reports(&w)[0].totals.packets, 1 + 2 + 3);
    let cell = w.switch.criteria[0].slot;
    assert_ne!(cell, 0);
}

// A1.4
#[test]
fn a_criterions_last_report_comes_when_it_ends_and_its_cell_is_used_again_from_what_it_holds() {
    let mut w = served_counted(None);
    let flow = connect(&mut w, 1000);
    send(&mut w, &flow, 2);
    let slot = w.switch.criteria.iter().map(|c| c.slot).max().unwrap();
    w.said.clear();
    // Its lease is over.
    w.advance(4 * S);
    let got = criterion_reports(&w);
    assert_eq!(got.len(), 1);
    assert_eq!((got[0].last, got[0].totals.packets), (true, 3));

    say(&mut w, LB, 1, ManagerBody::Criteria(counted(2, Some(1000))));
    let again = w.switch.criteria.iter().map(|c| c.slot).max().unwrap();
    assert_eq!(again, slot);
    w.advance(S);
    assert_eq!(criterion_reports(&w).last().unwrap().totals.packets, 0);
}

#[test]
fn a_new_version_that_keeps_a_criterion_keeps_its_count() {
    let mut w = served_counted(Some(1000));
    let flow = connect(&mut w, 1000);
    send(&mut w, &flow, 2);
    w.advance(S);
    say(&mut w, LB, 1, ManagerBody::Criteria(counted(2, Some(1000))));
    send(&mut w, &flow, 2);
    w.advance(S);
    let all: Vec<(u64, u64, bool)> = criterion_reports(&w)
        .iter()
        .map(|r| (r.sequence, r.totals.packets, r.last))
        .collect();
    assert_eq!(all, [(1, 3, false), (2, 5, false)]);

    // One that counts no more says its last words.
    say(&mut w, LB, 1, ManagerBody::Criteria(criteria(&plan(), 3)));
    w.advance(20 * MS);
    assert!(criterion_reports(&w).last().unwrap().last);
    assert!(w.switch.criteria.iter().all(|c| c.slot == 0));
}

#[test]
fn counted_criteria_that_the_switch_refuses_leave_no_cell_in_use() {
    let mut p = plan();
    // The floor's and the plan's cells, and room for two.
    p.services[0].forward.criteria_size = 4;
    let mut w = World::new(p);
    w.feed(Input::SessionOpened(LB));
    say(&mut w, LB, 1, hello("lb-1", 1));
    w.switch.refuses = |u| {
        let criterion = matches!(u.entry, crate::entry::Entry::Criterion(_));
        criterion.then_some(crate::machine::WriteError::Full)
    };
    for version in 1..5 {
        say(&mut w, LB, 1, ManagerBody::Criteria(counted(version, None)));
        w.advance(100 * MS);
    }
    assert_eq!(denials(&w).len(), 4);
    w.switch.refuses = |_| None;
    w.said.clear();
    say(&mut w, LB, 1, ManagerBody::Criteria(counted(5, None)));
    assert_eq!(denials(&w), []);
}

#[test]
fn a_criterions_count_goes_on_when_the_switch_has_started_afresh() {
    let mut w = served_counted(Some(1000));
    let flow = connect(&mut w, 1000);
    send(&mut w, &flow, 2);
    w.advance(S);
    let reason = "restart".to_owned();
    w.feed(Input::SwitchDown { reason });
    w.switch = crate::testing::FakeSwitch::new(plan().into());
    w.switch_up();
    send(&mut w, &flow, 2);
    beat(&mut w, 1);
    w.advance(S);
    assert_eq!(criterion_reports(&w).last().unwrap().totals.packets, 5);
}

#[test]
fn a_criterion_that_ends_while_the_switch_goes_says_its_last_words_once() {
    let mut w = served_counted(None);
    connect(&mut w, 1000);
    w.slow_reads = true;
    w.advance(4 * S);
    assert_eq!(criterion_reports(&w), []);
    let reason = "restart".to_owned();
    w.feed(Input::SwitchDown { reason });
    w.slow_reads = false;
    w.switch_up();
    w.advance(2 * S);
    let last: Vec<bool> = criterion_reports(&w).iter().map(|r| r.last).collect();
    assert_eq!(last, [true]);
}

#[test]
fn what_a_service_counts_without_asking_is_reported_to_whoever_serves_it() {
    for target in [Target::switch(), Target::simple_switch_grpc()] {
        a_total_is_reported_on(target);
    }
}

fn a_total_is_reported_on(target: Target) {
    let mut w = served_on(totalled(), target);
    meter_comes(&mut w);
    let flow = connect(&mut w, 1000);
    send(&mut w, &flow, 2);
    let back = to_server(flow).reversed();
    w.receive(2, &tcp(2, &back, flags::SYN | flags::ACK, b""));
    w.advance(10 * S);
    let report = criterion_reports(&w).last().cloned().unwrap();
    assert_eq!(
        (report.id, report.totals.packets, report.sequence),
        (1, 4, 1)
    );
    // One of them came from the agent.
    assert_eq!(report.totals.bytes, 2 * 54 + 2 * 57);
    let to_meter = |(session, m): &(SessionId, ToManager)| {
        *session == METER
            && &*m.service == "meter"
            && matches!(m.body, AgentBody::CriterionReport(_))
    };
    assert!(w.said.iter().any(to_meter));
    assert_eq!(
        w.agent.flows().len(),
        1,
        "only the balanced flow has an affinity"
    );
}

#[test]
fn packets_that_took_a_floor_on_the_switch_are_counted() {
    let mut w = World::new(plan());
    for port in 1000..1003 {
        w.receive(1, &tcp(1, &client(9, port), flags::SYN, b""));
    }
    w.feed(Input::Refresh);
    let c = w.agent.counters();
    assert_eq!((c.floor_hits, c.misses, w.dropped.len()), (3, 0, 3));
}

/// Flows that report every 10 s, all installed at once.
fn reporting(flows: u16) -> World {
    let mut w = served();
    let mut affinities = Vec::new();
    for n in 0..flows {
        affinities.extend(balanced(client(9, 1000 + n), n.into(), SERVER));
    }
    for a in &mut affinities {
        a.statistics.every_ms = Some(10_000);
    }
    let request = 1;
    say(
        &mut w,
        LB,
        1,
        ManagerBody::Install {
            request,
            affinities,
        },
    );
    w
}

// A1.9
#[test]
fn reports_of_flows_that_came_together_are_spread_over_the_period_and_keep_it() {
    let flows: u16 = 2000;
    let mut w = reporting(flows);
    let mut at: Vec<Vec<Duration>> = vec![Vec::new(); flows.into()];
    let mut reads = 0;
    for _ in 0..450 {
        // Nobody but the reports, and no flow ends half open.
        w.advance(100 * MS);
        for (_, m) in std::mem::take(&mut w.said) {
            match m.body {
                AgentBody::Report(r) if r.cause == ReportCause::Period => {
                    at[usize::try_from(r.flow).unwrap()].push(w.now);
                }
                _ => {}
            }
        }
        reads += 1;
        if reads % 50 == 0 {
            for n in 0..flows {
                let back = to_server(client(9, 1000 + n)).reversed();
                w.receive(2, &tcp(2, &back, flags::ACK, b""));
            }
        }
    }
    let mut by_second = [0; 10];
    for times in &at {
        assert!(times.len() >= 4, "{times:?}");
        assert!(times[0] <= 10 * S + 100 * MS);
        for pair in times.windows(2) {
            let gap = (pair[1] - pair[0]).as_millis();
            assert!((9_000..=11_000).contains(&gap), "{gap} ms");
        }
        by_second[usize::try_from(times[1].as_millis() / 1000 % 10).unwrap()] += 1;
    }
    let even = i32::from(flows) / 10;
    for n in by_second {
        assert!((n - even).abs() < even / 2, "{by_second:?}");
    }
}

#[test]
fn reports_that_are_due_together_are_read_together() {
    let mut w = reporting(2000);
    w.advance(S);
    let mut reads = 0;
    let mut cells = 0;
    // Three seconds, deadline by deadline, as the shell drives it.
    let end = w.now + 3 * S;
    while let Some(next) = w.agent.next_deadline().filter(|d| *d <= end) {
        let mut outputs = w.agent.handle(next, Input::Tick);
        while let Some(output) = outputs.pop() {
            if let crate::Output::Read {
                read,
                cells: wanted,
            } = output
            {
                reads += 1;
                cells += wanted.len();
                let totals = vec![Some(Totals::default()); wanted.len()];
                outputs.extend(w.agent.handle(next, Input::ReadDone { read, totals }));
            }
        }
    }
    assert!(cells >= 2 * 500, "{cells} cells");
    assert!(reads <= 40, "{reads} reads of {cells} cells");
}

/// A world of `observed` with both managers, each with its criteria.
fn metered() -> World {
    let mut w = served_with(observed());
    meter_serves(&mut w);
    assert_eq!(denials(&w), []);
    w
}

/// Answers what the meter is asked about, with an affinity that counts.
fn meter(w: &mut World) -> Vec<Tuple> {
    let asked: Vec<Interest> = interests(w).into_iter().filter(|i| i.stage == 2).collect();
    for i in &asked {
        let mut a = balanced(i.flow, i.request, SERVER).remove(0);
        a.tuple = i.flow;
        a.partner = None;
        a.actions = vec![Action::Forward, Action::Count];
        a.leases.half_open_ms = None;
        a.statistics.flags = true;
        let body = ManagerBody::Verdict(Verdict {
            request: i.request,
            decision: Decision::Resume,
            affinities: vec![a],
        });
        say_about(w, METER, "meter", body);
    }
    asked.into_iter().map(|i| i.flow).collect()
}

// A1.6, A1.12
#[test]
fn an_observed_connection_is_two_flows_that_close_by_their_own_fins_and_tell_their_flags() {
    let mut w = metered();
    let flow = client(9, 1000);
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    let asked = interests(&mut w);
    let affinities = balanced(flow, 1, SERVER);
    verdict(&mut w, asked[0].request, Decision::Resume, affinities);
    assert_eq!(
        meter(&mut w),
        [to_server(flow)],
        "as the balancer has left it"
    );
    let back = to_server(flow).reversed();
    w.receive(2, &tcp(2, &back, flags::SYN | flags::ACK, b""));
    assert_eq!(
        meter(&mut w),
        [flow.reversed()],
        "as the client will see it"
    );
    assert_eq!(w.take_left(), [(2, to_server(flow)), (1, flow.reversed())]);
    w.receive(1, &tcp(1, &flow, flags::ACK, b"GET"));
    w.receive(1, &tcp(1, &flow, flags::FIN | flags::ACK, b""));
    let closed: Vec<Report> = reports(&w)
        .into_iter()
        .filter(|r| r.reply.is_none())
        .collect();
    assert_eq!(closed.len(), 1, "the other direction is open yet");
    let forward = closed[0].forward.unwrap();
    assert_eq!(
        (closed[0].cause, forward.totals.packets),
        (ReportCause::Closed, 3)
    );
    assert_eq!(forward.tcp_flags, flags::SYN | flags::FIN | flags::ACK);

    w.receive(2, &tcp(2, &back, flags::RST, b""));
    let last = reports(&w)
        .into_iter()
        .rfind(|r| r.reply.is_none())
        .unwrap();
    let forward = last.forward.unwrap();
    assert_eq!(forward.tuple, flow.reversed());
    assert_eq!(forward.tcp_flags, flags::SYN | flags::ACK | flags::RST);

    // Its next connection is another flow, and asked about anew.
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    let stages: Vec<u8> = interests(&mut w).iter().map(|i| i.stage).collect();
    assert_eq!(stages, [1]);
}

#[test]
fn flags_are_told_only_if_they_are_asked_for() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    w.receive(1, &tcp(1, &flow, flags::RST, b""));
    assert_eq!(reports(&w)[0].forward.unwrap().tcp_flags, 0);
}

#[test]
fn deadlines_of_flows_that_have_gone_do_not_pile_up() {
    let mut w = served();
    for round in 0..60u16 {
        let mut affinities = Vec::new();
        for n in 0..200u16 {
            let number = u64::from(round) * 200 + u64::from(n);
            affinities.extend(balanced(client(9, 1000 + n), number, SERVER));
        }
        for a in &mut affinities {
            a.leases.idle_ms = Some(7_440_000);
            a.leases.hard_ms = Some(86_400_000);
        }
        let request = 1;
        say(
            &mut w,
            LB,
            1,
            ManagerBody::Install {
                request,
                affinities,
            },
        );
        say(
            &mut w,
            LB,
            1,
            ManagerBody::Delete {
                request,
                which: Which::All,
            },
        );
        w.advance(S);
    }
    assert!(w.agent.flows().is_empty());
    assert!(
        w.agent.timers.of_flows() < 6000,
        "{}",
        w.agent.timers.of_flows()
    );
}
