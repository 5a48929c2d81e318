//! How a connection becomes the switch's, or does not.

use super::*;

/// A client whose first data will do, and a server that has answered. The data are acknowledged on the
/// client's leg, and on their way on the server's.
fn halfway() -> Site {
    let mut site = Site::new(looking());
    site.enter();
    let said = site.hear(&with(b"SSH-2.0-x\r\n", client(ACK, 1, site.next())));
    assert_eq!(said.client().ack, ISN.wrapping_add(12));
    assert_eq!(said.server().flags, SYN);
    let said = site.hear(&syn_ack());
    assert!(said.handed.is_none());
    let data: Vec<_> = said
        .to_server
        .iter()
        .filter(|s| !s.payload.is_empty())
        .collect();
    assert_eq!(data[0].payload, &b"SSH-2.0-x\r\n"[..]);
    assert_eq!(data[0].seq, ISN.wrapping_add(1));
    site
}

fn deltas(decided: &Decided) -> (Adjust, Adjust) {
    let adjust = |actions: &[Action]| match actions {
        [Action::Adjust(by)] => *by,
        other => panic!("{other:?}"),
    };
    let (reply, actions) = decided.reply.clone().unwrap();
    assert_eq!((decided.forward.0, reply), (flow(), flow().reversed()));
    (adjust(&decided.forward.1), adjust(&actions))
}

// A3.8
#[test]
fn without_a_look_the_switch_has_it_as_soon_as_the_server_answers() {
    let mut site = Site::new(plan());
    site.enter();
    let said = site.hear(&syn_ack());
    assert_eq!(said.decision, Some(Decision::Consume));
    let (forward, reply) = deltas(said.handed.as_ref().unwrap());
    assert_eq!(SERVER_ISN.wrapping_add(reply.sequence), site.cookie);
    assert_eq!(
        site.cookie.wrapping_add(forward.acknowledgement),
        SERVER_ISN
    );
    assert_eq!((forward.sequence, reply.acknowledgement), (0, 0));
    assert_eq!((forward.window_shift, reply.window_shift), (0, 0));
    assert!(!site.gate.has(&flow()));
    // What is kept for a denial goes, too.
    site.wait(SECOND * 2);
    assert_eq!(site.gate.next(), None);
}

// A3.7, A3.8
#[test]
fn windows_are_shifted_where_the_server_scales_otherwise_than_was_announced() {
    for (scale, forward, reply) in [
        (Some(7), 0, 0),
        (Some(9), 0, 2),
        (Some(0), 0, -7),
        (None, 3, -7),
    ] {
        let mut site = Site::new(plan());
        site.enter();
        let mut answer = syn_ack();
        answer.options.window_scale = scale;
        let (f, r) = deltas(&site.hear(&answer).handed.unwrap());
        assert_eq!(
            (f.window_shift, r.window_shift),
            (forward, reply),
            "{scale:?}"
        );
    }
}

// A3.11
#[test]
fn it_switches_over_when_what_was_acknowledged_is_acknowledged_and_holds_what_is_new() {
    let mut site = halfway();
    // New data of both ends are held, and not acknowledged.
    let said = site.hear(&with(b"more", client(ACK | PSH, 12, site.next())));
    assert!(said.decision.is_none() && said.is_silent(), "{said:?}");
    let first = site.request;
    let said = site.hear(&with(b"SSH-2.0-y\r\n", server(ACK | PSH, 1, 1)));
    assert!(said.decision.is_none() && said.is_silent(), "{said:?}");
    // A part of the data is not all of them.
    let said = site.hear(&server(ACK, 12, 5));
    assert!(said.handed.is_none());
    let said = site.hear(&server(ACK, 12, 12));
    assert!(said.handed.is_some());
    let wanted = [
        (site.request, Decision::Resume),
        (first, Decision::Resume),
        (first + 1, Decision::Resume),
    ];
    assert_eq!(said.answers, wanted);
}

// A3.11
#[test]
fn a_fin_is_left_to_the_switch() {
    let mut site = Site::new(looking());
    site.enter();
    let said = site.hear(&with(b"SSH-2.0-x\r\n", client(ACK | FIN, 1, site.next())));
    assert_eq!(
        said.client().ack,
        ISN.wrapping_add(12),
        "the data, but not the FIN"
    );
    let held = site.request;
    site.hear(&syn_ack());
    let said = site.hear(&server(ACK, 1, 12));
    assert!(said.handed.is_some());
    assert!(said.answers.contains(&(held, Decision::Resume)));
}

// A3.11
#[test]
fn what_the_gate_has_acknowledged_it_sends_until_the_server_has_it() {
    let mut site = halfway();
    let said = site.wait(SECOND * 4);
    assert!(said.to_server.len() >= 2, "{said:?}");
    for again in &said.to_server {
        assert_eq!(again.payload, &b"SSH-2.0-x\r\n"[..]);
        assert_eq!(again.seq, ISN.wrapping_add(1));
    }
}

// A3.6, A3.11
#[test]
fn a_connection_that_is_not_ready_in_time_stays_and_is_carried_to_its_end() {
    let mut site = halfway();
    let said = site.hear(&with(b"more", client(ACK | PSH, 12, site.next())));
    assert_eq!(said.decision, None);
    let held = site.request;
    let said = site.wait(SECOND * 10);
    assert_eq!(site.count("not in time"), 1);
    assert!(said.answers.contains(&(held, Decision::Consume)));
    // From now on everything passes through.
    let said = site.hear(&with(b"more", client(ACK | PSH, 12, site.next())));
    assert_eq!(said.decision, Some(Decision::Consume));
    assert_eq!(said.client().ack, ISN.wrapping_add(16));
    let more = said
        .to_server
        .iter()
        .find(|s| s.payload == b"more"[..])
        .unwrap();
    assert_eq!(
        (more.seq, more.ack),
        (ISN.wrapping_add(12), SERVER_ISN.wrapping_add(1))
    );
    let said = site.hear(&with(b"answer", server(ACK | PSH, 1, 12)));
    assert_eq!(said.client().payload, &b"answer"[..]);
    assert_eq!(said.client().seq, site.next());
    assert!(said.handed.is_none());
    // Both ends close.
    let said = site.hear(&client(ACK | FIN, 16, site.next().wrapping_add(6)));
    assert_eq!(said.client().ack, ISN.wrapping_add(17));
    assert!(
        site.hear(&server(ACK, 7, 16))
            .to_server
            .iter()
            .all(|s| s.flags & RST == 0)
    );
    let said = site.hear(&server(ACK | FIN, 7, 17));
    assert_eq!(said.client().flags & FIN, FIN);
    site.hear(&client(ACK, 17, site.next().wrapping_add(7)));
    assert_eq!(site.count("closed"), 1);
    assert_eq!((site.gate.proxied(), site.gate.next()), (0, None));
}

#[test]
fn a_server_of_smaller_segments_keeps_its_first_connection_from_the_switch() {
    let mut site = Site::new(plan());
    site.enter();
    let mut answer = syn_ack();
    answer.options.mss = Some(536);
    let said = site.hear(&answer);
    assert!(said.handed.is_none());
    assert_eq!(site.count("smaller segments"), 1);
    static LONG: [u8; 1000] = [7; 1000];
    let said = site.hear(&with(&LONG, client(ACK, 1, site.next())));
    let sizes: Vec<_> = said.to_server.iter().map(|s| s.payload.len()).collect();
    assert_eq!(sizes, [536, 464]);
    // The next client knows.
    let mut another = syn();
    another.src.1 += 1;
    assert_eq!(site.hear(&another).client().options.mss, Some(536));
}

#[test]
fn a_denied_flow_stays_with_the_gate() {
    let mut site = Site::new(plan());
    site.enter();
    assert!(site.hear(&syn_ack()).handed.is_some());
    site.gate.denied(&flow());
    assert!(site.gate.has(&flow()));
    assert_eq!(site.count("denied"), 1);
    let said = site.hear(&with(b"hello", client(ACK, 1, site.next())));
    assert_eq!(said.server().payload, &b"hello"[..]);
    // What the switch may have carried before it took its entries back nobody knows.
    let said = site.hear(&client(ACK, 6, site.next().wrapping_add(1)));
    assert_eq!(site.count("torn"), 1);
    assert_eq!(said.client().flags & RST, RST);
    assert_eq!(said.server().flags & RST, RST);
}

// A3.13
#[test]
fn of_the_manager_before_it_a_gate_ends_what_was_half_way_at_both_ends() {
    let mut site = Site::new(plan());
    site.gate.follows(site.now);
    // A client in mid-flow: it may be early, and is heard a moment later.
    assert!(site.hear(&with(b"data", client(ACK, 100, 7))).is_silent());
    let said = site.wait(SECOND);
    assert_eq!((said.client().flags, said.client().seq), (RST, 7));
    assert_eq!(
        (said.server().flags, said.server().seq),
        (RST, ISN.wrapping_add(100))
    );
    // A server in mid-flow: it is reset, and its client is brought to tell its numbers.
    let said = site.hear(&server(ACK, 50, 100));
    assert_eq!(
        (said.server().flags, said.server().seq),
        (RST, ISN.wrapping_add(100))
    );
    assert_eq!(said.client().flags, ACK);
}

// A3.2
#[test]
fn without_a_manager_before_it_a_strangers_segment_never_reaches_the_server() {
    let mut site = Site::new(plan());
    site.hear(&with(b"data", client(ACK, 100, 7)));
    let said = site.wait(SECOND);
    assert_eq!(said.client().flags, RST);
    assert!(said.to_server.is_empty());
    assert_eq!(site.count("strange segment"), 1);
}

#[test]
fn an_end_that_is_gone_is_found_though_the_other_keeps_asking() {
    let mut site = Site::new(plan());
    site.enter();
    let mut answer = syn_ack();
    answer.options.mss = Some(536);
    site.hear(&answer);
    let mut asked = 0;
    for _ in 0..40 {
        asked += site.wait(SECOND * 10).to_client.len();
        // The server's own question; the gate answers in the client's name.
        site.hear(&server(ACK, 0, 1));
        if site.gate.proxied() == 0 {
            break;
        }
    }
    assert!(asked >= 1);
    assert_eq!(site.count("idle"), 1);
    assert_eq!(site.gate.proxied(), 0);
}
