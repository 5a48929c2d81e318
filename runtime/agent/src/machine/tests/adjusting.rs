//! Flows that a gate has let through: what their manager may ask for, and what becomes of the numbers of
//! packets that the switch leaves to the agent.

use proptest::prelude::*;
use signalbox_lower::plan::{Kind, Masked};

use super::frames::{PLAIN, Shape, cut, framed, icmp_error, ip_packet, joined, sound_error};
use super::site::*;
use super::*;
use crate::counters::Drop;
use crate::entry::{Change, FixedAction, Packet, PacketMeta, packet_in};
use crate::listing::FlowState;
use crate::machine::WriteError;
use crate::target::Target;

/// The server behind the gate of [`gate`].
const BEHIND: [u8; 4] = [10, 0, 1, 10];

/// [`plan`] with a gate in the balancer's place, before one server.
pub(super) fn gate() -> Plan {
    let mut plan = plan();
    let service = &mut plan.services[0];
    service.kind = Kind::Gate;
    service.balance = None;
    service.addresses.clear();
    let reply = service.reply.as_mut().unwrap();
    reply.criteria.truncate(1);
    let mut forward = reply.criteria[0].cubes[0].clone();
    (forward.dst, forward.src) = (forward.src, None);
    (forward.dport, forward.sport) = (forward.sport, None);
    service.forward.criteria[0].cubes = vec![forward];
    plan
}

pub(super) fn to_server(port: u16) -> Tuple {
    Tuple {
        dst: BEHIND.into(),
        dport: 8080,
        ..client(9, port)
    }
}

const THERE: Adjust = Adjust {
    sequence: 0,
    acknowledgement: 0xffff_ff00,
    window_shift: 0,
};
const BACK: Adjust = Adjust {
    sequence: 0x100,
    acknowledgement: 0,
    window_shift: -7,
};

/// Both directions of a flow that is let through.
pub(super) fn joined_flow(flow: Tuple) -> Vec<FixedAffinity> {
    let mut list = balanced(flow, 1, (BEHIND, 8080));
    for (a, by) in list.iter_mut().zip([THERE, BACK]) {
        a.actions = vec![Action::Adjust(by), Action::Count];
    }
    list
}

fn install(w: &mut World, affinities: Vec<FixedAffinity>) {
    let body = ManagerBody::Install {
        request: 77,
        affinities,
    };
    say(w, LB, 1, body);
}

/// What fixed entries do, replies first.
fn on_switch(w: &World) -> Vec<(Part, FixedAction)> {
    let entries = w.switch.fixed.values();
    entries.map(|e| (e.key.part, e.action)).collect()
}

fn served_gate() -> World {
    let mut plan = gate();
    // A protocol that has no numbers, too.
    let cube = &mut plan.services[0].forward.criteria[0].cubes[0];
    cube.proto = Some(Masked { value: 0, mask: 0 });
    served_with(plan)
}

#[test]
fn a_gates_manager_has_the_numbers_of_a_flow_adjusted_in_both_directions() {
    let mut w = served_gate();
    let flow = to_server(1000);
    install(&mut w, joined_flow(flow));
    assert_eq!(denials(&w), []);
    assert_eq!(
        on_switch(&w),
        [
            (Part::Reply, FixedAction::Adjust(BACK)),
            (Part::Forward, FixedAction::Adjust(THERE))
        ]
    );
    let listed = w.agent.flows();
    assert_eq!(
        (listed[0].decision.as_str(), listed[0].translated),
        ("adjust ack +4294967040, back seq +256 window >>7", None)
    );
    assert_eq!(listed[0].back, Some(flow.reversed()));
}

#[test]
fn going_on_to_the_next_stage_is_what_an_adjusted_packet_does_anyhow() {
    for actions in [
        vec![Action::Forward, Action::Adjust(THERE)],
        vec![Action::Adjust(THERE), Action::Count, Action::Forward],
    ] {
        let mut w = served_gate();
        let mut list = joined_flow(to_server(1000));
        list[0].actions = actions;
        install(&mut w, list);
        assert_eq!(denials(&w), []);
        assert!(
            (w.switch.fixed.values()).any(|e| e.action == FixedAction::Adjust(THERE)),
            "{:?}",
            w.switch.fixed
        );
    }
}

#[test]
fn what_cannot_be_adjusted_is_denied_whole() {
    let by = |window_shift| {
        Action::Adjust(Adjust {
            window_shift,
            ..THERE
        })
    };
    let udp = |list: &mut Vec<FixedAffinity>| {
        list.truncate(1);
        list[0].tuple.proto = 17;
        list[0].partner = None;
    };
    type Change<'a> = Box<dyn Fn(&mut Vec<FixedAffinity>) + 'a>;
    let changes: [(&str, Change<'_>); 6] = [
        ("no tcp", Box::new(udp)),
        ("too far", Box::new(|l| l[1].actions = vec![by(15)])),
        ("too far back", Box::new(|l| l[1].actions = vec![by(-15)])),
        ("and dropped", Box::new(|l| l[0].actions.push(Action::Drop))),
        ("twice", Box::new(|l| l[0].actions.push(by(0)))),
        (
            "and translated",
            Box::new(|l| {
                let to = Action::Translate(l[0].tuple);
                l[0].actions.push(to);
            }),
        ),
    ];
    for (what, change) in changes {
        let mut w = served_gate();
        let mut list = joined_flow(to_server(1000));
        change(&mut list);
        install(&mut w, list);
        assert_eq!(
            denials(&w),
            [(Subject::Install(77), Reason::Malformed)],
            "{what}"
        );
        assert!(w.switch.fixed.is_empty(), "{what}");
    }
}

// A2.2
#[test]
fn only_a_gate_whose_target_can_do_it_may_say_that_it_will_adjust() {
    let ask = |plan: Plan, target: Target| {
        let mut w = World::down(plan.clone(), target);
        w.switch_up();
        w.feed(Input::SessionOpened(LB));
        say(&mut w, LB, 1, hello("lb-1", 1));
        let mut list = criteria(&plan, 1);
        list.list[0].needs = vec![Capability::Adjust];
        say(&mut w, LB, 1, ManagerBody::Criteria(list));
        denials(&w)
    };
    assert_eq!(ask(gate(), Target::switch()), []);
    assert_eq!(ask(gate(), Target::simple_switch_grpc()), []);
    let denied = [(Subject::Criteria(1), Reason::Unsupported)];
    assert_eq!(ask(plan(), Target::switch()), denied);
    let mut poor = Target::switch();
    poor.can.retain(|c| *c != Capability::Adjust);
    assert_eq!(ask(gate(), poor), denied);
}

// A3.13
#[test]
fn a_flow_that_is_let_through_is_not_half_open_and_lives_as_long_as_its_lease() {
    let mut w = served_gate();
    install(&mut w, joined_flow(to_server(1000)));
    assert_eq!(w.agent.flows()[0].state, FlowState::Established);
    assert_eq!(w.agent.counters().half_open.now, 0);
    pass(&mut w, 30);
    assert_eq!(w.agent.flows().len(), 1, "its half-open lease is 10 s");
    pass(&mut w, 120);
    assert_eq!(w.agent.flows(), []);
}

#[test]
fn a_clients_new_syn_is_asked_about_though_the_servers_packet_was_what_let_the_flow_through() {
    let mut w = served_gate();
    let flow = to_server(1000);
    w.receive(2, &tcp(2, &flow.reversed(), flags::ACK, b"hello"));
    let asked = interests(&mut w);
    verdict(
        &mut w,
        asked[0].request,
        Decision::Resume,
        joined_flow(flow),
    );
    assert_eq!(w.agent.flows().len(), 1);
    w.receive(1, &tcp(1, &flow, flags::FIN | flags::ACK, b""));
    w.receive(2, &tcp(2, &flow.reversed(), flags::FIN | flags::ACK, b""));
    assert_eq!(w.agent.flows()[0].state, FlowState::Closed);
    interests(&mut w);
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    let asked = interests(&mut w);
    assert_eq!((asked.len(), asked[0].flow), (1, flow));
    assert_ne!(asked[0].request, 0, "a question, not a notice");
}

/// A gate's flow that both ends have closed, on a switch that does nothing more yet.
fn closed() -> (World, Tuple) {
    let mut w = served_gate();
    let flow = to_server(1000);
    install(&mut w, joined_flow(flow));
    w.receive(1, &tcp(1, &flow, flags::FIN | flags::ACK, b""));
    w.receive(2, &tcp(2, &flow.reversed(), flags::FIN | flags::ACK, b""));
    assert_eq!(w.agent.flows()[0].state, FlowState::Closed);
    interests(&mut w);
    w.slow = true;
    (w, flow)
}

// A3.9, A6.15
#[test]
fn a_gate_hears_of_a_new_connection_when_nothing_of_the_old_one_can_carry_its_packets_away() {
    let (mut w, flow) = closed();
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    assert_eq!(interests(&mut w).len(), 0);
    assert_eq!((w.agent.counters().held.now, on_switch(&w).len()), (1, 2));
    w.release();
    assert_eq!(on_switch(&w), []);
    let asked = interests(&mut w);
    assert_eq!((asked.len(), asked[0].flow), (1, flow));
    assert_ne!(asked[0].state.entry & 0x8000_0000, 0, "it reopens a flow");
    verdict(&mut w, asked[0].request, Decision::Consume, Vec::new());
    assert_eq!(w.agent.counters().held.now, 0);
    w.advance(2 * S);
    let in_use = w.agent.in_use();
    assert_eq!((in_use.flows, in_use.questions), (0, 0));
}

#[test]
fn a_new_connection_does_not_wait_for_entries_that_will_not_go() {
    let (mut w, flow) = closed();
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    w.switch.refuses = |u| (u.change == Change::Delete).then(|| WriteError::Refused("no".into()));
    w.release();
    let c = w.agent.counters();
    assert_eq!((c.held.now, c.drops[&Drop::Floor]), (0, 1));
    assert_eq!(interests(&mut w).len(), 0);
}

#[test]
fn what_waits_for_the_end_of_a_flow_goes_with_the_switch() {
    let (mut w, flow) = closed();
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    let reason = "test".to_owned();
    w.feed(Input::SwitchDown { reason });
    let c = w.agent.counters();
    assert_eq!((c.held.now, c.drops[&Drop::NoSwitch]), (0, 1));
}

// When an agent returns
// A3.13
#[test]
fn an_agent_that_starts_again_adopts_the_deltas_and_what_has_lost_its_partner_goes() {
    let mut w = served_gate();
    let flow = to_server(1000);
    install(&mut w, joined_flow(flow));
    let mut again = World::down(gate(), Target::switch());
    again.switch = w.switch.clone();
    again.switch_up();
    assert_eq!(on_switch(&again), on_switch(&w));
    assert_eq!(again.switch.fixed.len(), 2);
    let before = w.agent.flows();
    let after = again.agent.flows();
    assert_eq!(
        (&after[0].decision, after[0].back),
        (&before[0].decision, before[0].back)
    );

    for part in [Part::Forward, Part::Reply] {
        let mut again = World::down(gate(), Target::switch());
        again.switch = w.switch.clone();
        again.switch.fixed.retain(|k, _| k.part == part);
        again.switch_up();
        assert!(again.switch.fixed.is_empty());
    }
}

#[test]
fn a_service_that_is_a_gate_no_more_does_not_keep_flows_with_deltas() {
    let mut w = served_gate();
    install(&mut w, joined_flow(to_server(1000)));
    let mut other = gate();
    other.services[0].kind = Kind::Balance;
    other.services[0].balance = plan().services[0].balance.clone();
    w.apply(other);
    w.advance(S);
    assert_eq!(w.agent.flows(), []);
}

/// The numbers of a segment after deltas: what the pipeline does, said another way.
fn after(shape: &Shape, by: &[Adjust]) -> Shape {
    let (mut sequence, mut acknowledgement, mut window) = shape.numbers;
    let shift: i32 = by.iter().map(|a| i32::from(a.window_shift)).sum();
    for a in by {
        sequence = sequence.wrapping_add(a.sequence);
        if shape.tcp_flags & 16 != 0 {
            acknowledgement = acknowledgement.wrapping_add(a.acknowledgement);
        }
    }
    if shape.tcp_flags & 2 == 0 {
        let scaled = f64::from(window) * 2f64.powi(shift);
        window = scaled.min(65_535.0).floor() as u16;
    }
    Shape {
        numbers: (sequence, acknowledgement, window),
        ..*shape
    }
}

const GATES: [u8; 2] = [3, 4];

/// The site with two gates behind the balancer, before its server.
fn guarded() -> World {
    let mut plan = site_plan();
    for stage in [4, 5] {
        let mut gate = plan.services[usize::from(BALANCED)].clone();
        gate.name = format!("gate-{stage}");
        (gate.kind, gate.stage, gate.balance) = (Kind::Gate, stage, None);
        gate.addresses.clear();
        let reply = gate.reply.as_ref().unwrap();
        for (to, from) in (gate.forward.criteria[0].cubes.iter_mut()).zip(&reply.criteria[0].cubes)
        {
            to.dst = from.src;
        }
        plan.services.push(gate);
    }
    World::new(plan)
}

#[derive(Debug, Clone)]
struct Case {
    v6: bool,
    shape: Shape,
    ports: (u16, u16, u16),
    payload: Vec<u8>,
    there: [Adjust; 2],
    back: [Adjust; 2],
}

fn adjusts() -> impl Strategy<Value = [Adjust; 2]> {
    let one = (any::<u32>(), any::<u32>(), -14i8..=14);
    prop::array::uniform2(
        one.prop_map(|(sequence, acknowledgement, window_shift)| Adjust {
            sequence,
            acknowledgement,
            window_shift,
        }),
    )
}

fn cases() -> impl Strategy<Value = Case> {
    (
        any::<bool>(),
        (
            prop::sample::select(vec![0x10u8, 0x02, 0x12, 0x04, 0x14, 0x11, 0]),
            any::<(u32, u32, u16)>(),
            0u8..=4,
        ),
        (1u16.., 1u16.., 1u16..),
        prop::collection::vec(any::<u8>(), 0..90),
        adjusts(),
        adjusts(),
    )
        .prop_map(
            |(v6, (tcp_flags, numbers, options), ports, payload, there, back)| Case {
                v6,
                shape: Shape {
                    tcp_flags,
                    numbers,
                    options,
                    ..PLAIN
                },
                ports,
                payload,
                there,
                back,
            },
        )
}

/// A client's flow to the balanced address, and as it reaches the server; it is let through by both gates.
fn let_through(w: &mut World, case: &Case) -> (Tuple, Tuple) {
    let a = addresses(case.v6);
    let (sport, dport, server_port) = case.ports;
    let sent = flow(6, (a.remote, sport), (a.service, dport));
    let left_as = flow(6, (a.remote, sport), (a.server, server_port));
    translate(w, BALANCED, sent, left_as);
    for (gate, (there, back)) in GATES.into_iter().zip(case.there.into_iter().zip(case.back)) {
        put(
            &mut w.agent,
            gate,
            (left_as, FixedAction::Adjust(there)),
            Some((left_as.reversed(), FixedAction::Adjust(back))),
        );
    }
    (sent, left_as)
}

/// The one error that has left, and its port.
#[track_caller]
fn left(w: &mut World) -> (u16, super::frames::Error) {
    let left = std::mem::take(&mut w.left);
    assert_eq!(left.len(), 1, "{:?}", w.agent.counters());
    (left[0].0, sound_error(&left[0].1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    // A3.14
    #[test]
    fn an_error_about_a_gated_packet_quotes_the_numbers_that_its_sender_knows(
        case in cases(),
        // With the sequence number alone, with the checksum, and all of it.
        room in prop::sample::select(vec![8usize, 18, 200]),
    ) {
        let a = addresses(case.v6);
        let mut w = guarded();
        let (sent, left_as) = let_through(&mut w, &case);
        let options = usize::from(case.shape.options) * if case.v6 { 8 } else { 4 };
        let room = room + options + if case.v6 { 40 } else { 20 };
        for (seen, original, by, from, to, ends) in [
            (left_as, sent, case.there, (a.server, SERVERS), a.remote, (a.remote, OUTSIDE)),
            (sent.reversed(), left_as.reversed(), case.back, (a.remote, OUTSIDE), a.service, (a.server, SERVERS)),
        ] {
            let as_seen = after(&case.shape, &by);
            // The window stays as it was seen.
            let (sequence, acknowledgement, _) = case.shape.numbers;
            let numbers = (sequence, acknowledgement, as_seen.numbers.2);
            let expected = ip_packet(&original, &Shape { numbers, ..case.shape }, &case.payload);
            let seen = ip_packet(&seen, &as_seen, &case.payload);
            let error = icmp_error(if case.v6 { (1, 4, 0) } else { (3, 3, 0) }, from.0, to, &seen, room);
            w.receive(from.1, &framed(from.1, &error));
            let (port, got) = left(&mut w);
            prop_assert_eq!((got.dst, port), ends);
            prop_assert_eq!(&got.quote[..], &expected[..room.min(expected.len())]);
        }
    }

    // A3.14
    #[test]
    fn a_sender_whose_gated_packet_goes_no_further_finds_it_quoted_as_it_sent_it(case in cases()) {
        let mut w = guarded();
        let (sent, left_as) = let_through(&mut w, &case);
        for (seen, original, by, from, hop, back_to) in [
            (left_as, sent, case.there, OUTSIDE, left_as.dst, OUTSIDE),
            (sent.reversed(), left_as.reversed(), case.back, SERVERS, sent.src, SERVERS),
        ] {
            let as_seen = after(&case.shape, &by);
            let (sequence, acknowledgement, _) = case.shape.numbers;
            let numbers = (sequence, acknowledgement, as_seen.numbers.2);
            let expected = ip_packet(&original, &Shape { numbers, ..case.shape }, &case.payload);
            let next_hop = w.agent.take_next_hop(hop).unwrap();
            w.feed(Input::PacketIn(Packet {
                meta: PacketMeta { kind: packet_in::TOO_BIG, port: from, next_hop, ..PacketMeta::default() },
                bytes: framed(from, &ip_packet(&seen, &as_seen, &case.payload)),
            }));
            let (port, got) = left(&mut w);
            prop_assert_eq!((got.dst, port), (original.src, back_to));
            prop_assert_eq!(&got.quote[..], &expected[..]);
        }
    }

    // A10.7, A3.9
    #[test]
    fn a_gated_segment_in_fragments_is_adjusted_as_if_it_had_come_in_one_piece(
        case in cases(),
        sizes in prop::collection::vec(3usize..9, 1..6),
        backwards in any::<bool>(),
    ) {
        let mut w = guarded();
        let (sent, left_as) = let_through(&mut w, &case);
        let shape = Shape { options: 0, ..case.shape };
        let payload = [&case.payload[..], &[0x5a; 60]].concat();
        let sizes: Vec<usize> = sizes.iter().map(|s| s * 8).collect();
        for (came, goes, by, from, to) in [
            (sent, left_as, case.there, OUTSIDE, SERVERS),
            (left_as.reversed(), sent.reversed(), case.back, SERVERS, OUTSIDE),
        ] {
            let mut pieces = cut(&ip_packet(&came, &shape, &payload), u32::from(shape.identification), &sizes);
            if backwards {
                pieces.reverse();
            }
            for piece in &pieces {
                w.receive(from, &framed(from, piece));
            }
            let left = std::mem::take(&mut w.left);
            prop_assert!(left.iter().all(|(port, _)| *port == to));
            let frames: Vec<Bytes> = left.into_iter().map(|(_, frame)| frame).collect();
            prop_assert_eq!(joined(&frames), ip_packet(&goes, &after(&shape, &by), &payload));
        }
    }
}

// A10.7, A4.4
#[test]
fn a_first_fragment_that_a_gate_asks_about_comes_back_and_is_adjusted_once() {
    let mut plan = gate();
    let mut first = plan.services[0].clone();
    first.name = "first".into();
    plan.services.insert(0, first);
    plan.services[1].stage = 2;
    let mut w = World::new(plan.clone());
    w.feed(Input::SessionOpened(LB));
    say(&mut w, LB, 1, hello("lb-1", 1));
    let own = criteria_of(&plan.services[1], 1);
    say(&mut w, LB, 1, ManagerBody::Criteria(own));
    let flow = to_server(1000);
    let by = |n| Adjust {
        sequence: n,
        ..Adjust::default()
    };
    put(
        &mut w.agent,
        0,
        (flow, FixedAction::Adjust(by(10))),
        Some((flow.reversed(), FixedAction::Adjust(by(20)))),
    );
    let shape = |sequence| Shape {
        numbers: (sequence, 0, 512),
        ..PLAIN
    };
    let whole = ip_packet(&flow, &shape(1), &[7; 100]);
    let pieces = cut(&whole, u32::from(PLAIN.identification), &[64]);
    for piece in &pieces {
        w.receive(1, &framed(1, piece));
    }
    let asked = interests(&mut w);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].packet[14 + 24..14 + 28], 11u32.to_be_bytes());
    let mut list = joined_flow(flow);
    list[0].actions = vec![Action::Adjust(by(100))];
    verdict(&mut w, asked[0].request, Decision::Resume, list);
    let frames: Vec<Bytes> = std::mem::take(&mut w.left)
        .into_iter()
        .map(|(_, frame)| frame)
        .collect();
    assert_eq!(joined(&frames), ip_packet(&flow, &shape(111), &[7; 100]));
}
