//! Dispatch and direct return: flows of one direction, next hops that must be there, and tunnels.

use signalbox_lower::plan::Way;

use super::*;
use crate::entry::{Change, Entry, Wrap};
use crate::listing::FlowState;
use crate::machine::WriteError;
use crate::testing::direct;

/// A flow that goes to a server as it is.
fn dispatched(flow: Tuple, number: u64, server: [u8; 4], tunnel: Tunnel) -> Vec<FixedAffinity> {
    let mut list = balanced(flow, number, SERVER);
    list.truncate(1);
    list[0].partner = None;
    list[0].actions = vec![
        Action::Dispatch {
            next_hop: server.into(),
            tunnel,
        },
        Action::Count,
    ];
    list
}

fn install(w: &mut World, affinities: Vec<FixedAffinity>) {
    let request = 77;
    let body = ManagerBody::Install {
        request,
        affinities,
    };
    say(w, LB, 1, body);
}

fn denied(w: &mut World, affinities: Vec<FixedAffinity>) -> Vec<Reason> {
    w.said.clear();
    install(w, affinities);
    denials(w).into_iter().map(|(_, reason)| reason).collect()
}

/// A client's SYN is answered with the first server, directly.
fn connect_direct(w: &mut World, port: u16, tunnel: Tunnel) -> Tuple {
    let flow = client(9, port);
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    let asked = interests(w);
    assert_eq!(asked.len(), 1);
    let affinities = dispatched(flow, port.into(), SERVER.0, tunnel);
    verdict(w, asked[0].request, Decision::Resume, affinities);
    flow
}

// A6.18, A6.21
#[test]
fn a_dispatched_packet_leaves_unchanged_by_the_servers_port_and_counts() {
    let mut w = served_with(direct(Way::Mac));
    let flow = connect_direct(&mut w, 1000, Tunnel::None);
    w.receive(1, &tcp(1, &flow, flags::ACK, b"GET"));
    assert_eq!(w.take_left(), [(2, flow), (2, flow)]);
    w.feed(Input::Refresh);
    let listed = &w.agent.flows()[0];
    assert_eq!(
        (listed.forward.packets, listed.state),
        (2, FlowState::Established)
    );
    assert_eq!(
        w.agent.counters().half_open.now,
        0,
        "nobody awaits an answer"
    );
    assert_eq!(w.switch.fixed.len(), 1);
}

#[test]
fn a_flow_of_one_direction_ends_when_that_direction_is_idle_and_not_with_the_half_open_lease() {
    let mut w = served_with(direct(Way::Mac));
    let flow = connect_direct(&mut w, 1000, Tunnel::None);
    for _ in 0..6 {
        w.advance(40 * S);
        w.receive(1, &tcp(1, &flow, flags::ACK, b"x"));
    }
    assert_eq!(w.agent.flows().len(), 1);
    w.advance(92 * S);
    assert!(w.agent.flows().is_empty());
    let last = reports(&w).last().cloned().unwrap();
    // A1.5
    assert_eq!((last.cause, last.last), (ReportCause::Expired, true));
    assert_eq!(last.forward.unwrap().totals.packets, 7);
    assert!(last.reply.is_none());
}

// A6.15
#[test]
fn with_direct_return_a_syn_after_the_clients_fin_keeps_its_server_until_the_flow_is_idle() {
    let mut w = served_with(direct(Way::Mac));
    let flow = connect_direct(&mut w, 1000, Tunnel::None);
    w.receive(1, &tcp(1, &flow, flags::FIN | flags::ACK, b""));
    assert_eq!(w.agent.flows()[0].state, FlowState::Closed);
    assert_eq!(reports(&w).last().unwrap().cause, ReportCause::Closed);
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    assert!(interests(&mut w).is_empty(), "the server may yet send");
    pass(&mut w, 9);
    assert!(w.agent.flows().is_empty());
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    assert_eq!(
        interests(&mut w).len(),
        1,
        "closed and idle: decided afresh"
    );
}

// A6.15
#[test]
fn with_direct_return_a_syn_after_the_clients_rst_is_decided_afresh_at_once() {
    for closing in [&[flags::RST][..], &[flags::FIN | flags::ACK, flags::RST]] {
        let mut w = served_with(direct(Way::Mac));
        let flow = connect_direct(&mut w, 1000, Tunnel::None);
        for flags in closing {
            w.receive(1, &tcp(1, &flow, *flags, b""));
        }
        w.receive(1, &tcp(1, &flow, flags::SYN, b""));
        assert_eq!(interests(&mut w).len(), 1);
    }
}

#[test]
fn a_flow_to_a_server_that_is_not_resolved_yet_goes_in_when_it_is_and_its_packets_with_it() {
    let mut w = served_with(direct(Way::Mac));
    let mac = w.hosts.remove(&IpAddr::from(SERVER.0)).unwrap();
    let flow = connect_direct(&mut w, 1000, Tunnel::None);
    assert!(w.switch.fixed.is_empty());
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    assert!(interests(&mut w).is_empty(), "decided already");
    w.hosts.insert(IpAddr::from(SERVER.0), mac);
    w.advance(S);
    assert_eq!(w.take_left(), [(2, flow), (2, flow)]);
    assert_eq!(w.switch.fixed.len(), 1);
    assert!(w.dropped.is_empty());
    assert_eq!(w.agent.counters().held.now, 0);
}

#[test]
fn a_flow_to_a_server_that_does_not_answer_is_denied_and_leaves_nothing_behind() {
    let mut w = served_with(direct(Way::Ipip));
    w.hosts.clear();
    let known = w.agent.neighbours_known();
    connect_direct(&mut w, 1000, Tunnel::Ipip);
    w.advance(5 * S);
    let [(Subject::Verdict(_), Reason::TargetRefused)] = denials(&w)[..] else {
        panic!("{:?}", denials(&w))
    };
    assert!(w.agent.flows().is_empty());
    assert!(w.switch.fixed.is_empty() && w.switch.tunnels.is_empty());
    assert_eq!(w.agent.neighbours_known(), known);
    let c = w.agent.counters();
    assert_eq!((c.held.now, c.fixed.now, c.half_open.now), (0, 0, 0));
}

// A10.4
#[test]
fn dispatch_to_a_next_hop_that_has_gone_drops_and_works_again_when_it_is_back() {
    let mut w = served_with(direct(Way::Mac));
    let flow = client(9, 1000);
    let mut list = dispatched(flow, 1, SERVER.0, Tunnel::None);
    list[0].leases.idle_ms = Some(3_600_000);
    install(&mut w, list);
    let hosts = std::mem::take(&mut w.hosts);
    w.advance(310 * S);
    assert!(w.switch.next_hops.is_empty(), "it answers no more");
    w.take_left();
    w.receive(1, &tcp(1, &flow, flags::ACK, b"x"));
    assert_eq!(
        (w.take_left(), w.dropped.clone()),
        (vec![], vec!["no next hop"])
    );
    w.hosts = hosts;
    w.advance(6 * S);
    w.receive(1, &tcp(1, &flow, flags::ACK, b"x"));
    assert_eq!(w.take_left(), [(2, flow)]);
}

// A10.4
#[test]
fn dispatch_to_where_no_port_leads_or_to_a_stranger_is_denied_with_a_reason() {
    let mut plan = direct(Way::Mac);
    let servers = &mut plan.services[0].balance.as_mut().unwrap().servers;
    servers[1].address = IpAddr::from([198, 51, 100, 7]);
    servers[2].address = IpAddr::from([192, 0, 2, 7]);
    let mut w = served_with(plan);
    let flow = client(9, 1000);
    for (to, tunnel) in [
        // Nowhere; behind a router, which would send it back; no server of the pool.
        ([198, 51, 100, 7], Tunnel::Ipip),
        ([192, 0, 2, 7], Tunnel::None),
        ([10, 0, 1, 77], Tunnel::None),
    ] {
        let got = denied(&mut w, dispatched(flow, 1, to, tunnel));
        assert_eq!(got, [Reason::NotCovered], "{to:?}");
        assert!(w.switch.fixed.is_empty());
    }
    let through = dispatched(flow, 1, [192, 0, 2, 7], Tunnel::Gue);
    assert_eq!(
        denied(&mut w, through),
        [],
        "a tunnel leads past the router"
    );
}

// A2.2
#[test]
fn what_a_target_cannot_do_is_denied_for_criteria_and_for_affinities() {
    let mut target = Target::switch();
    target.can = vec![Capability::Dispatch];
    let p = direct(Way::Ipip);
    let mut w = World::down(p.clone(), target);
    w.switch_up();
    w.feed(Input::SessionOpened(LB));
    say(&mut w, LB, 1, hello("lb-1", 1));
    say(&mut w, LB, 1, ManagerBody::Criteria(criteria(&p, 1)));
    // They need translation.
    assert_eq!(denials(&w), [(Subject::Criteria(1), Reason::Unsupported)]);
    let flow = client(9, 1000);
    for (tunnel, expected) in [
        (Tunnel::Ipip, vec![Reason::Unsupported]),
        (Tunnel::Gue, vec![Reason::Unsupported]),
        (Tunnel::None, vec![]),
    ] {
        let got = denied(&mut w, dispatched(flow, 1, SERVER.0, tunnel));
        assert_eq!(got, expected);
    }
}

// A6.19, A6.20
#[test]
fn a_server_has_one_tunnel_of_a_kind_as_long_as_a_flow_uses_it() {
    let mut w = served_with(direct(Way::Ipip));
    let own = IpAddr::from([10, 0, 1, 1]);
    let server = IpAddr::from(SERVER.0);
    for port in [1000, 1001] {
        connect_direct(&mut w, port, Tunnel::Ipip);
    }
    connect_direct(&mut w, 1002, Tunnel::Gue);
    let tunnels: Vec<_> = w.switch.tunnels.values().copied().collect();
    assert_eq!(
        tunnels,
        [(Wrap::Ipip, own, server), (Wrap::Gue, own, server)]
    );
    assert_eq!(w.switch.wrapped, [1, 1, 2]);
    let delete = |w: &mut World, number| {
        let which = Which::Flow(number);
        say(w, LB, 1, ManagerBody::Delete { request: 5, which });
        w.advance(S);
    };
    delete(&mut w, 1000);
    assert_eq!(w.switch.tunnels.len(), 2, "one flow still uses it");
    delete(&mut w, 1001);
    assert_eq!(w.switch.tunnels.keys().collect::<Vec<_>>(), [&2]);
    delete(&mut w, 1002);
    assert!(w.switch.tunnels.is_empty());
    assert_eq!(w.lines, Vec::<String>::new());
}

#[test]
fn a_tunnel_is_written_before_the_flows_that_use_it_and_goes_after_them() {
    let mut w = served_with(direct(Way::Gue));
    w.slow = true;
    connect_direct(&mut w, 1000, Tunnel::Gue);
    w.release();
    say(
        &mut w,
        LB,
        1,
        ManagerBody::Delete {
            request: 5,
            which: Which::All,
        },
    );
    w.advance(S);
    let order: Vec<_> = (w.switch.log.iter())
        .filter_map(|u| match u.entry {
            Entry::Tunnel { .. } => Some((u.change, "tunnel")),
            Entry::Fixed(_) => Some((u.change, "flow")),
            _ => None,
        })
        .collect();
    let expected = [
        (Change::Insert, "tunnel"),
        (Change::Insert, "flow"),
        (Change::Delete, "flow"),
        (Change::Delete, "tunnel"),
    ];
    assert_eq!(order, expected);
}

#[test]
fn a_flow_whose_tunnel_the_switch_refuses_is_denied_and_the_next_one_tries_again() {
    let mut w = served_with(direct(Way::Gue));
    w.switch.refuses = |u| matches!(u.entry, Entry::Tunnel { .. }).then_some(WriteError::Full);
    let flow = client(9, 1000);
    let got = denied(&mut w, dispatched(flow, 1, SERVER.0, Tunnel::Gue));
    assert_eq!(got, [Reason::TableFull]);
    assert!(w.switch.fixed.is_empty() && w.agent.flows().is_empty());
    w.switch.refuses = |_| None;
    let got = denied(&mut w, dispatched(flow, 1, SERVER.0, Tunnel::Gue));
    assert_eq!((got, w.switch.fixed.len()), (vec![], 1));
}

#[test]
fn a_decision_that_changes_its_server_lets_the_old_tunnel_go() {
    let mut w = served_with(direct(Way::Ipip));
    let flow = connect_direct(&mut w, 1000, Tunnel::Ipip);
    install(&mut w, dispatched(flow, 1000, [10, 0, 2, 10], Tunnel::Ipip));
    let left: Vec<IpAddr> = w.switch.tunnels.values().map(|(.., to)| *to).collect();
    assert_eq!(left, [IpAddr::from([10, 0, 2, 10])]);
    w.take_left();
    w.receive(1, &tcp(1, &flow, flags::ACK, b"x"));
    assert_eq!(w.take_left(), [(3, flow)]);
}

#[test]
fn an_agent_that_starts_again_takes_over_dispatched_flows_and_their_tunnels() {
    let mut w = served_with(direct(Way::Ipip));
    let flow = connect_direct(&mut w, 1000, Tunnel::Ipip);
    connect_direct(&mut w, 1001, Tunnel::None);
    let mut again = World::down(direct(Way::Ipip), Target::switch());
    again.switch = w.switch.clone();
    // One that nothing uses any more.
    let stray = (
        Wrap::Gue,
        IpAddr::from([10, 0, 2, 1]),
        IpAddr::from([10, 0, 2, 10]),
    );
    again.switch.tunnels.insert(9, stray);
    again.switch_up();
    assert_eq!(again.switch.fixed.len(), 2);
    assert_eq!(again.switch.tunnels.len(), 1);
    again.receive(1, &tcp(1, &flow, flags::ACK, b""));
    assert_eq!(again.take_left(), [(2, flow)]);
    // Known again as what they are, and gone in the end.
    again.feed(Input::SessionOpened(LB));
    say(&mut again, LB, 1, hello("lb-1", 1));
    say(
        &mut again,
        LB,
        1,
        ManagerBody::ListAffinities { request: 9 },
    );
    let actions: Vec<Action> = (again.said.iter())
        .filter_map(|(_, m)| match &m.body {
            AgentBody::Affinities { list, .. } => Some(list.clone()),
            _ => None,
        })
        .flatten()
        .flat_map(|a| a.affinity.actions)
        .collect();
    let to = |tunnel| Action::Dispatch {
        next_hop: SERVER.0.into(),
        tunnel,
    };
    assert!(actions.contains(&to(Tunnel::Ipip)) && actions.contains(&to(Tunnel::None)));
    again.advance(500 * S);
    assert!(again.switch.fixed.is_empty() && again.switch.tunnels.is_empty());
}

#[test]
fn a_criterion_can_dispatch_what_no_manager_wants_to_see() {
    let p = direct(Way::Gue);
    let mut w = World::new(p.clone());
    w.feed(Input::SessionOpened(LB));
    say(&mut w, LB, 1, hello("lb-1", 1));
    let mut list = criteria(&p, 1);
    list.list[0].interest = InterestMask {
        packet_events: flags::SYN.into(),
        notice_events: 0,
    };
    list.list[0].action = StaticAction::Dispatch {
        next_hop: SERVER.0.into(),
        tunnel: Tunnel::Gue,
    };
    say(&mut w, LB, 1, ManagerBody::Criteria(list.clone()));
    assert_eq!(denials(&w), []);
    let flow = client(9, 1000);
    w.receive(1, &tcp(1, &flow, flags::ACK, b"x"));
    assert_eq!(
        (w.take_left(), w.switch.wrapped.len()),
        (vec![(2, flow)], 1)
    );
    assert!(interests(&mut w).is_empty());
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    assert_eq!(interests(&mut w).len(), 1, "its interest comes first");
    list.version = 2;
    say(&mut w, LB, 1, ManagerBody::Criteria(list));
    assert_eq!(w.switch.tunnels.len(), 1);
    w.advance(4 * S);
    assert!(w.switch.criteria.is_empty() && w.switch.tunnels.is_empty());
}
