//! Clients to whom their gate has said nothing yet, when its manager dies: each that waits is reset in its number,
//! and what anybody can send leaves nothing.

use super::adjusting::{joined_flow, to_server};
use super::legs::{AFTER, BEFORE, comes, inject, resets, world};
use super::*;
use crate::message::Decision;

/// What a client waits for.
const NEXT: u32 = 700;

/// A segment of the client at this port comes, and acknowledges all before a number; the question about it.
fn says(w: &mut World, port: u16, flags: u8, ack: u32, payload: &[u8]) -> Option<u64> {
    let mut frame = tcp(1, &to_server(port), flags, payload).to_vec();
    frame[42..46].copy_from_slice(&ack.to_be_bytes());
    w.receive(1, &frame.into());
    interests(w).first().map(|i| i.request)
}

/// The manager decides about it.
fn decided(w: &mut World, question: Option<u64>, decision: Decision) {
    verdict(w, question.unwrap(), decision, Vec::new());
}

fn acknowledges(w: &mut World) {
    let question = says(w, 1000, flags::ACK, NEXT, b"");
    decided(w, question, Decision::Consume);
}

fn client() -> (u16, IpAddr, u32) {
    (1, to_server(1000).src, NEXT)
}

fn server() -> (u16, IpAddr, u32) {
    (2, to_server(1000).dst, 100)
}

/// The manager is killed; what is reset when another process comes, or else when its criteria end.
fn killed(mut w: World, next: bool) -> Vec<(u16, IpAddr, u32)> {
    w.feed(Input::SessionClosed(BEFORE));
    if next {
        comes(&mut w, AFTER, 2);
    } else {
        w.advance(4 * S);
    }
    let found = resets(&mut w);
    // Nobody is told twice.
    w.advance(S);
    comes(&mut w, AFTER + 1, 3);
    assert_eq!((resets(&mut w), w.agent.in_use().legs), (vec![], 0));
    found
}

// A3.13
#[test]
fn a_client_that_waits_is_reset_in_its_number_wherever_its_manager_was() {
    type At = (&'static str, fn(&mut World), Vec<(u16, IpAddr, u32)>);
    let at: [At; 6] = [
        (
            "its first data are waited for",
            acknowledges,
            vec![client()],
        ),
        (
            "the server is called",
            |w| {
                acknowledges(w);
                inject(w, Part::Forward, flags::SYN, 99, b"");
            },
            vec![server(), client()],
        ),
        (
            "both are there",
            |w| {
                acknowledges(w);
                inject(w, Part::Forward, flags::SYN, 99, b"");
                inject(w, Part::Forward, flags::ACK, 100, b"");
            },
            vec![server(), client()],
        ),
        (
            "its data have opened it, and are held",
            |w| {
                says(w, 1000, flags::ACK, NEXT, b"hello");
                inject(w, Part::Forward, flags::SYN, 99, b"");
            },
            vec![server(), client()],
        ),
        (
            "they have been held for too long",
            |w| {
                says(w, 1000, flags::ACK, NEXT, b"hello");
                inject(w, Part::Forward, flags::SYN, 99, b"");
                w.advance(S / 2);
            },
            vec![server(), client()],
        ),
        (
            "the manager was slow",
            |w| {
                let question = says(w, 1000, flags::ACK, NEXT, b"");
                w.advance(S / 2);
                decided(w, question, Decision::Consume);
            },
            vec![client()],
        ),
    ];
    for (place, get_there, expected) in at {
        for next in [true, false] {
            let mut w = world();
            let question = says(&mut w, 1000, flags::SYN, 0, b"");
            decided(&mut w, question, Decision::Consume);
            get_there(&mut w);
            assert_eq!(killed(w, next), expected, "{place}");
        }
    }
}

// A3.13
#[test]
fn a_client_of_whom_no_manager_has_heard_is_reset_too() {
    for next in [true, false] {
        // The last that the manager did not answer.
        let mut w = world();
        says(&mut w, 1000, flags::ACK, NEXT, b"");
        assert_eq!(killed(w, next), [client()]);
        // The first after its death.
        let mut w = world();
        w.feed(Input::SessionClosed(BEFORE));
        assert_eq!(says(&mut w, 1000, flags::ACK, NEXT, b""), None);
        w.advance(S);
        assert_eq!(killed(w, next), [client()]);
    }
}

// A3.3, A3.4
#[test]
fn what_anybody_can_send_leaves_nothing() {
    let mut w = world();
    for port in 0..500 {
        let question = says(&mut w, 2000 + port, flags::SYN, 0, b"");
        decided(&mut w, question, Decision::Consume);
        let question = says(&mut w, 2000 + port, flags::ACK, NEXT, b"");
        decided(&mut w, question, Decision::Drop);
    }
    let in_use = w.agent.in_use();
    assert_eq!((in_use.legs, in_use.questions), (0, 0));
    // Of those that nobody answers few are kept, and not for long.
    w.feed(Input::SessionClosed(BEFORE));
    for port in 0..3000 {
        says(&mut w, 2000 + port, flags::ACK, NEXT, b"");
    }
    comes(&mut w, AFTER, 2);
    assert_eq!(resets(&mut w).len(), 1024);
    says(&mut w, 1000, flags::ACK, NEXT, b"");
    pass(&mut w, 60);
    let in_use = w.agent.in_use();
    assert_eq!((in_use.legs, in_use.questions), (0, 0));
}

#[test]
fn a_manager_that_comes_back_for_its_own_goes_on_with_them() {
    let mut w = world();
    acknowledges(&mut w);
    w.feed(Input::SessionClosed(BEFORE));
    says(&mut w, 1001, flags::ACK, NEXT, b"");
    w.advance(S);
    comes(&mut w, AFTER, 1);
    assert_eq!((resets(&mut w), w.agent.in_use().legs), (vec![], 1));
}

// A3.13
#[test]
fn a_client_that_the_switch_has_or_that_has_ended_is_left_alone() {
    let mut w = world();
    acknowledges(&mut w);
    let question = says(&mut w, 1000, flags::RST, 0, b"");
    decided(&mut w, question, Decision::Consume);
    assert_eq!(w.agent.in_use().legs, 0);
    // Its last acknowledgement was on its way when its entries went in.
    let mut w = world();
    says(&mut w, 1000, flags::ACK, NEXT, b"");
    w.advance(S);
    let body = ManagerBody::Install {
        request: 7,
        affinities: joined_flow(to_server(1000)),
    };
    say(&mut w, BEFORE, 1, body);
    assert_eq!(killed(w, true), []);
}

// A3.13
#[test]
fn who_guesses_a_connection_does_not_change_the_number() {
    let mut w = world();
    acknowledges(&mut w);
    // Segments that are out of place are answered, too.
    for (flags, ack) in [(flags::ACK, 5), (flags::ACK, NEXT + 1_000_000)] {
        let question = says(&mut w, 1000, flags, ack, b"");
        decided(&mut w, question, Decision::Consume);
    }
    inject(&mut w, Part::Forward, flags::SYN, 99, b"");
    let question = says(&mut w, 1000, flags::RST, 0, b"");
    decided(&mut w, question, Decision::Consume);
    assert_eq!(killed(w, true), [server(), client()]);
}
