//! What becomes of a gate's packets: who is asked about, what the numbers are once a flow is handed over,
//! and what policy tests show of it.

use etherparse::{SlicedPacket, TcpSlice, TransportSlice};
use signalbox_policy::eval::{Adjust, DropReason, Evaluator, Message, Outcome, Part};
use signalbox_policy::model::{Mac, Policy, ServiceIndex, ServiceKind};
use signalbox_policy::testing::run;

use crate::frames::{mac, sound, tcp};
use crate::texts::{DUAL_NETWORK, NETWORK, policy};

const GATE: &str = "
service admin : gate {
  match tcp.dst 10.0.1.5:22
  allow ip.src in 192.0.2.0/24
  allow ip.src in 198.51.100.0/25 from 08:00 to 18:00 on mon..fri
}
managers { m serves admin }
";
const FIRST: ServiceIndex = ServiceIndex(0);
const SERVER: &str = "10.0.1.5:22";
const CLIENT: &str = "192.0.2.9:4000";

fn gate() -> Policy {
    policy(&format!("{NETWORK}{GATE}"))
}

fn known(policy: &Policy) -> Evaluator<'_> {
    let mut e = Evaluator::new(policy);
    e.learn("10.0.1.5".parse().unwrap(), 2, Mac([2, 0, 0, 0, 1, 5]));
    let router = "203.0.113.254".parse().unwrap();
    e.learn(router, 1, Mac([2, 0, 0, 0, 0, 9]));
    e
}

fn asked(outcome: &Outcome) -> Option<(ServiceIndex, Part)> {
    match outcome {
        Outcome::ToAgent {
            message: Message::Interest,
            stage,
            ..
        } => *stage,
        _ => None,
    }
}

fn header(frame: &[u8]) -> TcpSlice<'_> {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    match packet.transport {
        Some(TransportSlice::Tcp(tcp)) => tcp,
        other => panic!("{other:?}"),
    }
}

fn sent(outcome: Outcome, by: u16) -> Vec<u8> {
    match outcome {
        Outcome::Forward { port, packet } if port == by => packet,
        other => panic!("{other:?}"),
    }
}

// A3.1
#[test]
fn only_those_whom_some_clause_allows_are_asked_about_whatever_the_time() {
    let policy = gate();
    let e = known(&policy);
    let shut = Outcome::Drop {
        reason: DropReason::Service,
        service: Some(FIRST),
    };
    let from = |client: &str, syn| {
        let frame = tcp(mac(&policy, 1), client, SERVER, syn, b"");
        e.receive(1, &frame)
    };
    for syn in [true, false] {
        assert_eq!(asked(&from(CLIENT, syn)), Some((FIRST, Part::Forward)));
        let other = from("198.51.100.7:4000", syn);
        assert_eq!(asked(&other), Some((FIRST, Part::Forward)));
        assert_eq!(from("198.51.100.200:4000", syn), shut);
    }
    // The server's packets are asked about on the same terms.
    let back = |client: &str| e.receive(2, &tcp(mac(&policy, 2), SERVER, client, false, b""));
    assert_eq!(asked(&back(CLIENT)), Some((FIRST, Part::Reply)));
    assert_eq!(back("198.51.100.200:4000"), shut);
    // Other ports of the server are none of the gate's.
    let other = tcp(mac(&policy, 1), CLIENT, "10.0.1.5:80", true, b"");
    sent(e.receive(1, &other), 2);
}

// A9.10
#[test]
fn without_its_manager_a_gate_is_shut() {
    let policy = gate();
    let mut e = known(&policy);
    e.set_manager(FIRST, false);
    let frame = tcp(mac(&policy, 1), CLIENT, SERVER, true, b"");
    assert!(matches!(
        e.receive(1, &frame),
        Outcome::Drop {
            service: Some(FIRST),
            ..
        }
    ));
}

// A3.8, A3.9
#[test]
fn a_flow_that_is_handed_over_goes_on_with_other_numbers_both_ways() {
    let policy = gate();
    let mut e = known(&policy);
    let frame = tcp(mac(&policy, 1), CLIENT, SERVER, false, b"data");
    let (flow, _) = e.flow(&frame).unwrap();
    let forward = Adjust {
        acknowledgement: 0xffff_fff0,
        ..Adjust::default()
    };
    let reply = Adjust {
        sequence: 0xffff_ff00,
        window_shift: 5,
        ..Adjust::default()
    };
    e.hand_over(FIRST, flow, forward, reply);
    let got = sent(e.receive(1, &frame), 2);
    sound(&got);
    let seen = header(&got);
    assert_eq!(seen.sequence_number(), 1_000);
    // It wraps.
    assert_eq!(seen.acknowledgment_number(), 7u32.wrapping_sub(16));
    assert_eq!((seen.window_size(), seen.payload()), (4_096, &b"data"[..]));
    let back = tcp(mac(&policy, 2), SERVER, CLIENT, false, b"more");
    let got = sent(e.receive(2, &back), 1);
    sound(&got);
    let seen = header(&got);
    assert_eq!(seen.sequence_number(), 1_000 - 256);
    assert_eq!(seen.acknowledgment_number(), 7);
    assert_eq!(seen.window_size(), u16::MAX, "as much as the field holds");
    // A SYN's window is never scaled, and without ACK there is no number to change.
    let syn = tcp(mac(&policy, 1), CLIENT, SERVER, true, b"");
    let got = sent(e.receive(1, &syn), 2);
    sound(&got);
    assert_eq!(header(&got).acknowledgment_number(), 0);
}

// A4.2, A4.8
#[test]
fn the_deltas_of_two_gates_add_up_and_each_is_asked_by_itself() {
    let two = "
service outer : gate { match tcp.dst 10.0.1.5:22
 allow ip.src in 192.0.2.0/24 }
service inner : gate { match tcp.dst 10.0.1.0/24:22
 allow ip }
cascade outer > inner
managers { m serves outer, inner }
"
    .replace("10.0.1.0/24:22", "22 and ip.dst in 10.0.1.0/24");
    let policy = policy(&format!("{NETWORK}{two}"));
    let mut e = known(&policy);
    let frame = tcp(mac(&policy, 1), CLIENT, SERVER, false, b"");
    let (flow, _) = e.flow(&frame).unwrap();
    let by = |n| Adjust {
        sequence: n,
        acknowledgement: n,
        window_shift: 1,
    };
    e.hand_over(FIRST, flow, by(10), by(0));
    assert_eq!(
        asked(&e.receive(1, &frame)),
        Some((ServiceIndex(1), Part::Forward))
    );
    let Outcome::ToAgent { packet, .. } = e.receive(1, &frame) else {
        panic!("not asked")
    };
    sound(&packet);
    assert_eq!(
        header(&packet).sequence_number(),
        1_010,
        "as the outer one left it"
    );
    e.hand_over(ServiceIndex(1), flow, by(100), by(0));
    let got = sent(e.receive(1, &frame), 2);
    sound(&got);
    let seen = header(&got);
    assert_eq!(
        (
            seen.sequence_number(),
            seen.acknowledgment_number(),
            seen.window_size()
        ),
        (1_110, 117, 16_384)
    );
}

#[test]
fn ipv6_numbers_are_adjusted_too() {
    let policy = policy(&format!(
        "{DUAL_NETWORK}service admin : gate {{ match tcp.dst [2001:db8:2::5]:22 allow ip }}\nmanagers {{ m serves admin }}\n"
    ));
    let mut e = Evaluator::new(&policy);
    e.learn("2001:db8:2::5".parse().unwrap(), 2, Mac([2, 0, 0, 0, 1, 5]));
    let frame = tcp(
        mac(&policy, 1),
        "[2001:db8:1::7]:4000",
        "[2001:db8:2::5]:22",
        false,
        b"x",
    );
    let (flow, _) = e.flow(&frame).unwrap();
    let by = Adjust {
        sequence: 1 << 31,
        acknowledgement: 3,
        window_shift: -14,
    };
    e.hand_over(FIRST, flow, by, Adjust::default());
    let got = sent(e.receive(1, &frame), 2);
    sound(&got);
    let seen = header(&got);
    assert_eq!(seen.sequence_number(), 1_000 + (1 << 31));
    assert_eq!((seen.acknowledgment_number(), seen.window_size()), (10, 0));
}

/// What does not hold of the steps, in a policy of these services.
#[track_caller]
fn holds(services: &str, steps: &str) {
    let text = format!("{NETWORK}{services}\ntest \"t\" {{\n{steps}\n}}\n");
    let tests = run(&policy(&text)).into_iter().flat_map(|t| t.failures);
    let failures: Vec<String> = tests.map(|f| f.message).collect();
    assert_eq!(failures, [""; 0], "{steps}");
}

// A3.1, A3.2, A3.8
#[test]
fn in_a_policy_test_a_gate_lets_in_whom_it_may_and_nobody_in_mid_flow() {
    holds(
        GATE,
        "send tcp syn 192.0.2.9:4000 -> 10.0.1.5:22 on clients\nexpect interest of admin\n\
         expect forward on rack-a to 10.0.1.5:22\n\
         send answer syn+ack on rack-a\nexpect forward on clients from 10.0.1.5:22 to 192.0.2.9:4000\n\
         send tcp ack 192.0.2.9:4000 -> 10.0.1.5:22 on clients payload 50\nexpect forward on rack-a to 10.0.1.5:22\n\
         send tcp syn 198.51.100.200:4000 -> 10.0.1.5:22 on clients\nexpect drop by admin\n\
         send tcp ack 192.0.2.9:4001 -> 10.0.1.5:22 on clients\nexpect drop by admin\n\
         send tcp syn 10.0.1.5:22 -> 192.0.2.9:4002 on rack-a\nexpect drop by admin",
    );
}

// A4.2, A4.8
#[test]
fn behind_a_gate_a_balance_service_sees_a_new_flow() {
    holds(
        "pool web { 10.0.1.10:8080 }\n\
         service door : gate { match tcp.dst 203.0.113.80:443 allow ip.src in 192.0.2.0/24 }\n\
         service web-lb : balance { match tcp.dst 203.0.113.80:443 pick from @web by round-robin }\n\
         cascade door > web-lb\nmanagers { m serves door, web-lb }",
        "send tcp syn 192.0.2.9:4000 -> 203.0.113.80:443 on clients\nexpect interest of door\n\
         expect interest of web-lb\nexpect server in @web\n\
         send answer syn+ack on rack-a\nexpect forward on clients from 203.0.113.80:443 to 192.0.2.9:4000\n\
         send tcp syn 203.0.113.9:4000 -> 203.0.113.80:443 on clients\nexpect drop by door",
    );
}

#[test]
fn what_is_allowed_lies_within_what_is_matched() {
    let policy = gate();
    let Some(ServiceKind::Gate(gate)) = policy.services.first().map(|s| &s.kind) else {
        panic!("no gate")
    };
    for allow in &gate.allow {
        for cube in &allow.criteria.cubes {
            let (_, port, _) = (cube.dst, cube.dst_port, cube.proto);
            assert_eq!((port.value, port.mask), (22, 0xffff));
        }
    }
    assert_eq!(
        gate.allow[1].text(),
        "allow ip.src in 198.51.100.0/25 from 08:00 to 18:00 on mon, tue, wed, thu, fri"
    );
}
