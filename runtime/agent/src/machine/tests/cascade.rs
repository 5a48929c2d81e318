//! Several services on one packet, and what a manager sees of it.

use super::*;
use crate::counters::Drop;
use crate::flow::events;

/// Balanced by the first service, and then counted by the second; both flows are in.
fn two_services() -> (World, Tuple) {
    two_services_on(Target::switch())
}

fn two_services_on(target: Target) -> (World, Tuple) {
    let mut w = served_on(observed(), target);
    meter_serves(&mut w);
    let flow = connect(&mut w, 1000);
    answer_meter(&mut w);
    (w, flow)
}

fn answer_meter(w: &mut World) {
    for i in interests(w)
        .into_iter()
        .filter(|i| i.stage == 2 && i.request != 0)
    {
        meter_answers(w, &i);
    }
}

/// The meter has a flow counted.
fn meter_answers(w: &mut World, asked: &Interest) {
    let mut a = balanced(asked.flow, asked.request, SERVER).remove(0);
    a.partner = None;
    a.actions = vec![Action::Forward];
    let body = ManagerBody::Verdict(Verdict {
        request: asked.request,
        decision: Decision::Resume,
        affinities: vec![a],
    });
    say_about(w, METER, "meter", body);
}

// A1.2
#[test]
fn the_packet_out_header_is_taken_off_at_every_stage_that_a_packet_passes() {
    let (mut w, flow) = two_services_on(Target::simple_switch_grpc());
    let back = to_server(flow).reversed();
    w.receive(2, &tcp(2, &back, flags::SYN | flags::ACK, b""));
    answer_meter(&mut w);
    // The manager of the first service speaks as the server; the second one's entry counts it.
    let rst = tcp(2, &back, flags::RST | flags::ACK, b"");
    let inject = Inject {
        request: 8,
        packet: rst.slice(crate::packet::ETHERNET..),
        place: Place::Stage {
            stage: 1,
            part: Part::Reply,
            state: CarriedState {
                ingress_port: 2,
                ..CarriedState::default()
            },
            answered: true,
        },
    };
    say(&mut w, LB, 1, ManagerBody::Inject(inject));
    // The first service forgets the flow: its next packet goes by its manager, past the second's entry.
    let which = Which::Flow(1000);
    say(&mut w, LB, 1, ManagerBody::Delete { request: 9, which });
    w.advance(S);
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    let asked = interests(&mut w)
        .into_iter()
        .find(|i| i.stage == 1)
        .unwrap();
    let again = balanced(flow, 1001, SERVER);
    verdict(&mut w, asked.request, Decision::Resume, again);
    w.feed(Input::Refresh);
    let metered = |tuple: Tuple| {
        let flows = w.agent.flows();
        let of = |f: &&crate::listing::FlowStatus| f.service == "meter" && f.flow == tuple;
        let found = flows.iter().find(of).unwrap().forward;
        (found.packets, found.bytes)
    };
    assert_eq!(metered(flow.reversed()), (2, 2 * 54));
    assert_eq!(metered(to_server(flow)), (2, 2 * 54));
}

// A4.6
#[test]
fn taking_one_service_away_in_mid_flow_leaves_the_others_affinities_intact() {
    let (mut w, flow) = two_services();
    w.take_left();
    let all = || Which::All;
    say_about(&mut w, METER, "meter", ManagerBody::Goodbye);
    say_about(
        &mut w,
        METER,
        "meter",
        ManagerBody::Delete {
            request: 1,
            which: all(),
        },
    );
    w.receive(1, &tcp(1, &flow, flags::ACK, b"x"));
    let back = to_server(flow).reversed();
    w.receive(2, &tcp(2, &back, flags::ACK, b"y"));
    assert_eq!(w.take_left(), [(2, to_server(flow)), (1, flow.reversed())]);
    let services: Vec<String> = w.agent.flows().iter().map(|f| f.service.clone()).collect();
    assert!(services.contains(&"web-lb".to_owned()));
    w.feed(Input::Refresh);
    let web = w
        .agent
        .flows()
        .into_iter()
        .find(|f| f.service == "web-lb")
        .unwrap();
    assert_eq!(
        (web.forward.packets, web.reply.packets),
        (2, 1),
        "A4.6: nothing is lost"
    );

    // The other way round: the meter's flow stays when the balancer goes.
    let (mut w, _) = two_services();
    say(
        &mut w,
        LB,
        1,
        ManagerBody::Delete {
            request: 1,
            which: all(),
        },
    );
    say(&mut w, LB, 1, ManagerBody::Goodbye);
    w.advance(S);
    let services: Vec<String> = w.agent.flows().iter().map(|f| f.service.clone()).collect();
    assert_eq!(services, ["meter"]);
    assert_eq!(
        w.switch.criteria.iter().filter(|c| c.service == 0).count(),
        0
    );
}

// A4.4, A10.6
#[test]
fn a_packet_that_two_services_ask_about_meets_each_manager_once_and_leaves_in_order() {
    let mut w = served_with(observed());
    meter_serves(&mut w);
    let flow = client(9, 1000);
    for n in 0..4u8 {
        w.receive(1, &tcp(1, &flow, flags::SYN, &[n]));
    }
    let asked = interests(&mut w);
    assert_eq!(asked.iter().map(|i| i.stage).collect::<Vec<_>>(), [1]);
    verdict(
        &mut w,
        asked[0].request,
        Decision::Resume,
        balanced(flow, 1, SERVER),
    );
    let stages: Vec<u8> = w
        .said
        .iter()
        .filter_map(|(_, m)| match &m.body {
            AgentBody::Interest(i) => Some(i.stage),
            _ => None,
        })
        .collect();
    assert_eq!(stages, [2]);
    assert!(w.left.is_empty());
    answer_meter(&mut w);
    let last: Vec<u8> = w.left.iter().map(|(_, f)| *f.last().unwrap()).collect();
    assert_eq!(last, [0, 1, 2, 3]);
}

// A10.2
#[test]
fn with_an_interest_in_syns_only_packets_in_mid_flow_are_not_reported() {
    let mut w = World::new(plan());
    w.feed(Input::SessionOpened(LB));
    say(&mut w, LB, 1, hello("lb-1", 1));
    let mut c = criteria(&plan(), 1);
    c.list[0].interest.packet_events = events::SYN;
    c.list[0].action = StaticAction::Pass;
    say(&mut w, LB, 1, ManagerBody::Criteria(c));
    for flags in [flags::ACK, flags::ACK | flags::FIN, flags::RST] {
        w.receive(1, &tcp(1, &client(9, 1000), flags, b"x"));
    }
    assert!(interests(&mut w).is_empty());
    assert_eq!(w.agent.counters().misses, 0);
    w.receive(1, &tcp(1, &client(9, 1000), flags::SYN, b""));
    assert_eq!(interests(&mut w).len(), 1);
}

// A10.3
#[test]
fn packet_and_notice_masks_are_independent() {
    for (packet_events, notice_events) in [
        (0, 0),
        (events::FIN, 0),
        (0, events::FIN),
        (events::SYN, events::FIN),
        (events::FIN, events::FIN),
    ] {
        let mut w = served();
        let flow = client(9, 1000);
        let mut list = balanced(flow, 1, SERVER);
        list[0].track_close = false;
        list[1].track_close = false;
        list[0].interest = InterestMask {
            packet_events,
            notice_events,
        };
        say(
            &mut w,
            LB,
            1,
            ManagerBody::Install {
                request: 1,
                affinities: list,
            },
        );
        w.receive(1, &tcp(1, &flow, flags::FIN | flags::ACK, b""));
        let asked = interests(&mut w);
        let held = packet_events & events::FIN != 0;
        // A packet that is sent itself sends no notice as well.
        let told = !held && notice_events & events::FIN != 0;
        assert_eq!(asked.len(), usize::from(held || told));
        assert_eq!(asked.iter().any(|i| i.request != 0), held);
        assert_eq!(w.agent.counters().notices, u64::from(told));
        assert_eq!(w.take_left().len(), usize::from(!held));
        w.receive(1, &tcp(1, &flow, flags::ACK, b"x"));
        assert!(interests(&mut w).is_empty());
        assert_eq!(w.take_left().len(), 1);
    }
}

#[test]
fn a_managers_first_data_comes_once_as_a_notice() {
    let mut w = served();
    let flow = client(9, 1000);
    let mut list = balanced(flow, 1, SERVER);
    list[0].interest.notice_events = events::FIRST_DATA;
    say(
        &mut w,
        LB,
        1,
        ManagerBody::Install {
            request: 1,
            affinities: list,
        },
    );
    w.receive(1, &tcp(1, &flow, flags::ACK, b""));
    assert!(interests(&mut w).is_empty());
    for _ in 0..3 {
        w.receive(1, &tcp(1, &flow, flags::ACK, b"data"));
    }
    assert_eq!(interests(&mut w).len(), 1);
    assert_eq!(w.take_left().len(), 4);
}

// When an observe manager does not answer
// A10.5
#[test]
fn an_interest_without_a_timely_answer_is_counted_and_the_packet_takes_a_floor_that_lets_it_pass() {
    let mut w = served_with(observed());
    meter_serves(&mut w);
    let flow = connect(&mut w, 1000);
    assert!(w.take_left().is_empty(), "the meter is asked");
    w.advance(201 * MS);
    assert_eq!(w.take_left(), [(2, to_server(flow))]);
    let c = w.agent.counters();
    assert_eq!((c.unanswered, c.floor_passed), (1, 1));
    assert_eq!(c.drops.get(&Drop::Floor), None);
}

// A1.2
#[test]
fn a_packet_whose_flow_a_late_answer_to_another_has_let_in_meets_the_entry_and_not_the_floor() {
    let mut w = served_with(observed());
    meter_serves(&mut w);
    let flow = connect(&mut w, 1000);
    let first = interests(&mut w).remove(0);
    w.advance(201 * MS);
    interests(&mut w);
    w.receive(1, &tcp(1, &flow, flags::ACK, b"GET /"));
    let second = interests(&mut w).remove(0);
    assert_ne!(second.request, first.request);
    meter_answers(&mut w, &first);
    assert_eq!(denials(&w), []);
    w.advance(201 * MS);
    assert_eq!(w.take_left(), [(2, to_server(flow)); 2]);
    w.feed(Input::Refresh);
    let c = w.agent.counters();
    assert_eq!((c.unanswered, c.late_verdicts), (2, 1));
    let flows = w.agent.flows();
    let metered = flows.iter().find(|f| f.service == "meter").unwrap();
    assert_eq!(
        (c.floor_passed, metered.forward.packets),
        (1, 1),
        "each packet is counted once"
    );
}

// A1.2
#[test]
fn a_packet_that_times_out_while_its_flow_goes_in_waits_for_the_entry() {
    let mut w = served_with(observed());
    meter_serves(&mut w);
    let flow = connect(&mut w, 1000);
    let first = interests(&mut w).remove(0);
    w.advance(201 * MS);
    w.take_left();
    w.receive(1, &tcp(1, &flow, flags::ACK, b"GET /"));
    w.slow = true;
    meter_answers(&mut w, &first);
    w.advance(201 * MS);
    assert_eq!(w.take_left(), [], "nobody knows what it would meet");
    assert_eq!(w.agent.counters().unanswered, 2);
    w.release();
    assert_eq!(w.take_left(), [(2, to_server(flow))]);
    w.feed(Input::Refresh);
    let flows = w.agent.flows();
    let metered = flows.iter().find(|f| f.service == "meter").unwrap();
    let c = w.agent.counters();
    assert_eq!(
        (c.floor_passed, metered.forward.packets, c.held.now),
        (1, 1, 0),
        "each packet is counted once"
    );
}

/// Turns a flow's entries into ones that show its manager every packet.
fn showing_all(flow: Tuple) -> Vec<FixedAffinity> {
    let mut list = balanced(flow, 1000, SERVER);
    for a in &mut list {
        a.interest.packet_events = events::ALL;
    }
    list
}

// A6.16
#[test]
fn a_manager_answers_a_dead_servers_flow_with_a_rst_on_its_next_packet() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    w.take_left();
    let affinities = showing_all(flow);
    say(
        &mut w,
        LB,
        1,
        ManagerBody::Install {
            request: 7,
            affinities,
        },
    );
    assert_eq!(denials(&w), []);
    assert_eq!(w.agent.flows().len(), 1);
    w.receive(1, &tcp(1, &flow, flags::ACK, b"data"));
    let asked = interests(&mut w);
    assert_eq!(asked.len(), 1);
    assert!(w.take_left().is_empty(), "the server is dead");
    // The manager speaks as the server, where the reply part brings its packets back.
    let rst = tcp(2, &to_server(flow).reversed(), flags::RST | flags::ACK, b"");
    let inject = Inject {
        request: 8,
        packet: rst.slice(crate::packet::ETHERNET..),
        place: Place::Stage {
            stage: 1,
            part: Part::Reply,
            state: CarriedState {
                ingress_port: 2,
                ..CarriedState::default()
            },
            answered: true,
        },
    };
    say(&mut w, LB, 1, ManagerBody::Inject(inject));
    assert_eq!(w.take_left(), [(1, flow.reversed())]);
    verdict(&mut w, asked[0].request, Decision::Drop, Vec::new());
    let which = Which::Flow(1000);
    say(&mut w, LB, 1, ManagerBody::Delete { request: 9, which });
    w.advance(S);
    assert!(w.switch.fixed.is_empty());
    assert_eq!(w.agent.counters().held.now, 0);
}

// A6.16, A6.21
#[test]
fn with_direct_return_a_manager_resets_a_flow_in_the_services_own_name() {
    let p = crate::testing::direct(signalbox_lower::plan::Way::Mac);
    let mut w = served_with(p);
    let flow = client(9, 1000);
    let mut list = balanced(flow, 1, SERVER);
    list.truncate(1);
    list[0].partner = None;
    let next_hop = IpAddr::from(SERVER.0);
    let tunnel = Tunnel::None;
    list[0].actions = vec![Action::Dispatch { next_hop, tunnel }];
    say(
        &mut w,
        LB,
        1,
        ManagerBody::Install {
            request: 6,
            affinities: list.clone(),
        },
    );
    list[0].interest.packet_events = events::ALL;
    say(
        &mut w,
        LB,
        1,
        ManagerBody::Install {
            request: 7,
            affinities: list,
        },
    );
    w.take_left();
    w.receive(1, &tcp(1, &flow, flags::ACK, b"data"));
    assert_eq!((interests(&mut w).len(), w.take_left().len()), (1, 0));
    let rst = tcp(1, &flow.reversed(), flags::RST | flags::ACK, b"");
    let inject = Inject {
        request: 8,
        packet: rst.slice(crate::packet::ETHERNET..),
        place: Place::Stage {
            stage: 1,
            part: Part::Forward,
            state: CarriedState {
                ingress_port: 2,
                ..CarriedState::default()
            },
            answered: true,
        },
    };
    say(&mut w, LB, 1, ManagerBody::Inject(inject));
    assert_eq!(w.take_left(), [(1, flow.reversed())]);
}

// A6.16
#[test]
fn a_manager_drops_the_flows_of_a_dead_server_by_a_drop_or_a_deletion() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    w.take_left();
    let mut drop = balanced(flow, 1000, SERVER);
    for a in &mut drop {
        a.actions = vec![Action::Drop];
    }
    say(
        &mut w,
        LB,
        1,
        ManagerBody::Install {
            request: 7,
            affinities: drop,
        },
    );
    assert_eq!(denials(&w), []);
    w.receive(1, &tcp(1, &flow, flags::ACK, b"data"));
    w.receive(2, &tcp(2, &to_server(flow).reversed(), flags::ACK, b"data"));
    assert!(w.take_left().is_empty());
    assert_eq!(w.dropped, ["service", "service"]);
    assert!(interests(&mut w).is_empty());
    // A forward drop alone takes the pair's place.
    let flow = connect(&mut w, 2000);
    let mut drop = balanced(flow, 2000, SERVER);
    drop.truncate(1);
    drop[0].actions = vec![Action::Drop];
    say(
        &mut w,
        LB,
        1,
        ManagerBody::Install {
            request: 8,
            affinities: drop,
        },
    );
    w.advance(S);
    assert_eq!(w.switch.fixed.len(), 3);
    let which = Which::Flow(2000);
    say(&mut w, LB, 1, ManagerBody::Delete { request: 9, which });
    w.advance(S);
    assert_eq!(w.switch.fixed.len(), 2);
}

#[test]
fn a_close_is_seen_at_every_stage_that_watches_for_it() {
    let (mut w, flow) = two_services();
    w.receive(1, &tcp(1, &flow, flags::RST, b""));
    let states: Vec<_> = w.agent.flows().iter().map(|f| f.state).collect();
    assert_eq!(states, [crate::listing::FlowState::Closed; 2]);
    assert!(interests(&mut w).is_empty(), "no manager asked for it");
}

#[test]
fn every_counter_is_in_the_status_by_its_name() {
    let json = serde_json::to_value(World::new(plan()).agent.counters()).unwrap();
    for name in [
        "criteria",
        "fixed",
        "half_open",
        "held",
        "hits",
        "misses",
        "floor_hits",
        "interests",
        "notices",
        "overtaken",
        "unanswered",
        "denials",
        "drops",
        "refused_logins",
        "leases_expired",
    ] {
        assert!(json.get(name).is_some(), "{name}");
    }
    for gauge in ["criteria", "fixed", "half_open", "held"] {
        assert!(json[gauge].get("now").is_some() && json[gauge].get("most").is_some());
    }
}
