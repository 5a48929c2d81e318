//! Questions that agents put a second time, because the answer took long: what was said first holds.

use signalbox_agent::message::AgentBody;

use super::ends::{one_port, udp};
use super::*;

/// A packet comes in, and the question about it reaches the manager twice: before and after this passes.
fn asked_twice(net: &mut Net, flow: &Tuple, between: Duration) {
    let port = port_of(flow.src);
    net.agents[0].receive(port, &tcp(port, flow, flags::SYN, b""));
    let question = net.agents[0].said.iter().find(|(_, message)| {
        matches!(&message.body, AgentBody::Interest(interest) if interest.flow == *flow)
    });
    let (session, question) = question.cloned().unwrap();
    net.settle();
    net.advance(between);
    net.tell(Input::Message(session, question));
    net.settle();
    assert_eq!(net.agents[0].agent.counters().repeated_verdicts, 1);
}

// A2.14, A8.7
#[test]
fn a_question_that_was_turned_down_takes_no_tuple_when_it_comes_again() {
    let mut plan = one_port();
    let nat = plan.services[0].nat.as_mut().unwrap();
    (nat.leases.udp_ms, nat.hold_back_ms) = (2000, 100);
    let mut net = Net::new(&plan, 1);
    assert!(net.pass(0, &udp(A), 0).is_some());
    // The tuple becomes free between the first answer and the second.
    asked_twice(&mut net, &udp(B), 6 * SECOND);
    let counts = net.status().counts;
    assert_eq!((counts.decided, counts.no_choice), (1, 1));
    assert_eq!(net.tuples(), (0, 0), "what nobody carries out takes none");
    // Another question about it is decided.
    assert!(net.pass(0, &udp(B), 0).is_some());
    assert_eq!(net.tuples(), (1, 0));
}

// A2.14, A6.15
#[test]
fn a_connection_anew_that_is_asked_about_twice_gives_its_tuple_back_when_it_ends() {
    let mut net = Net::new(&one_port(), 1);
    let flow = flow(6, A, 4000, REMOTE, 80);
    assert!(net.pass(0, &flow, flags::SYN).is_some());
    net.pass(0, &flow, flags::RST);
    asked_twice(&mut net, &flow, Duration::ZERO);
    let counts = net.status().counts;
    assert_eq!((counts.decided, counts.repeated), (2, 1));
    net.advance(3000 * SECOND);
    assert!(net.agents[0].switch.fixed.is_empty());
    assert_eq!(net.tuples(), (0, 0));
}
