//! Who may come in, and how a connection begins.

use super::*;

// A3.1
#[test]
fn of_a_client_that_is_not_allowed_the_server_sees_nothing() {
    let stranger = (IpAddr::from([203, 0, 113, 9]), 40_000);
    for (refuse, answered) in [(Refuse::Drop, false), (Refuse::Reset, true)] {
        let mut site = Site::new(GatePlan { refuse, ..plan() });
        for flags in [SYN, ACK, SYN | ACK, FIN | ACK, PSH | ACK] {
            let said = site.hear(&segment(stranger, SERVER, flags, 77, 5));
            assert_eq!(said.decision, Some(Decision::Drop));
            assert!(said.to_server.is_empty() && said.handed.is_none());
            assert_eq!(said.to_client.len(), usize::from(answered));
            assert!(said.to_client.iter().all(|s| s.flags & RST != 0));
        }
        assert_eq!(site.count("not allowed"), 5);
    }
}

// A3.1
#[test]
fn a_client_comes_in_only_at_its_time() {
    let mut plan = plan();
    // It is Thursday, 0:00:01 UTC.
    plan.allow[0].when = Some(WhenPlan {
        from_s: 3600,
        to_s: 7200,
        days: 0b000_1000,
    });
    let mut site = Site::new(plan);
    assert!(site.hear(&syn()).is_silent());
    assert_eq!(site.count("not now"), 1);
    site.wait(SECOND * 3600);
    site.knock();
    site.wait(SECOND * 3600);
    assert!(site.hear(&syn()).is_silent());
    assert_eq!(site.count("not now"), 2);
}

// A3.2, A3.3
#[test]
fn a_syn_is_answered_and_forgotten_and_the_server_hears_nothing_of_it() {
    let mut site = Site::new(plan());
    let answer = site.knock();
    assert_eq!(answer.ack, ISN.wrapping_add(1));
    assert_eq!((answer.src, answer.dst), (SERVER, CLIENT));
    assert_eq!(answer.options.mss, Some(1460));
    assert_eq!(answer.options.window_scale, Some(7));
    assert_eq!((site.gate.proxied(), site.gate.next()), (0, None));
    // The same SYN has the same answer.
    assert_eq!(site.knock(), answer);
}

// A3.4, A3.5
#[test]
fn under_a_flood_nothing_grows_and_an_allowed_client_connects() {
    let mut site = Site::new(plan());
    for n in 0..30_000u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let source = (
            IpAddr::from([192, 0, 2, c]),
            u16::from_be_bytes([a | 0x80, b]),
        );
        let said = site.hear(&segment(source, SERVER, SYN, n, 0));
        assert!(said.to_server.is_empty());
    }
    assert_eq!((site.gate.proxied(), site.gate.next()), (0, None));
    assert_eq!(site.count("syn"), 30_000);
    let said = site.enter();
    assert_eq!(said.server().flags, SYN);
    // Guesses open nothing either, and what waits of them is bounded.
    for n in 0..10_000u32 {
        let source = (IpAddr::from([192, 0, 2, 7]), 1024 + (n % 50_000) as u16);
        let said = site.hear(&segment(source, SERVER, ACK, n, n));
        assert!(said.to_server.is_empty());
    }
    assert_eq!(site.gate.proxied(), 1);
    let said = site.hear(&syn_ack());
    assert!(said.handed.is_some());
}

// A3.6, A3.7
#[test]
fn the_server_is_opened_with_the_clients_address_port_number_and_options() {
    let mut site = Site::new(plan());
    let said = site.enter();
    assert_eq!(said.decision, Some(Decision::Consume));
    let opened = said.server();
    assert_eq!((opened.src, opened.dst), (CLIENT, SERVER));
    assert_eq!((opened.flags, opened.seq), (SYN, ISN));
    assert_eq!(opened.options.mss, Some(1460));
    assert_eq!(opened.options.window_scale, Some(3));
    assert_eq!(opened.window, 8000, "what the client takes");
    let said = site.hear(&syn_ack());
    let answer = said.server();
    assert_eq!(answer.flags, ACK);
    assert_eq!(answer.seq, ISN.wrapping_add(1));
    assert_eq!(answer.ack, SERVER_ISN.wrapping_add(1));
    assert_eq!(answer.window, 1000, "shifted by the client's scale");
}

// A3.7
#[test]
fn what_the_gate_does_not_carry_on_is_in_neither_syn() {
    let mut site = Site::new(plan());
    // MSS, SACK permitted, timestamps, window scale, as Linux has them.
    let options: &[u8] = &[
        2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
    ];
    let plain = client(SYN, 0, 0).emit();
    let mut ip = plain.to_vec();
    ip.extend_from_slice(options);
    ip[3] += options.len() as u8;
    ip[32] = 0xa0;
    let bytes = super::bad_input::summed(&ip);
    let said = site.frame(bytes, Part::Forward, flow());
    let cookie = said.client().seq;
    // With MSS and window scale alone a SYN has 28 bytes.
    assert_eq!(said.client().emit().len(), 20 + 28);
    let said = site.hear(&client(ACK, 1, cookie.wrapping_add(1)));
    assert_eq!(said.server().emit().len(), 20 + 28);
    assert_eq!(said.server().options.window_scale, Some(7));
}

// A3.7
#[test]
fn a_client_without_options_is_offered_none_that_it_did_not_ask_for() {
    let mut site = Site::new(plan());
    let said = site.hear(&client(SYN, 0, 0));
    assert_eq!(said.client().options.window_scale, None);
    site.cookie = said.client().seq;
    let said = site.hear(&client(ACK, 1, site.next()));
    let wanted = Options {
        mss: Some(536),
        window_scale: None,
    };
    assert_eq!(said.server().options, wanted);
}

// A3.7
#[test]
fn later_clients_are_told_what_the_server_is_like() {
    let mut site = Site::new(plan());
    site.enter();
    let mut answer = syn_ack();
    answer.options.mss = Some(1400);
    answer.options.window_scale = Some(2);
    answer.window = 5000;
    site.hear(&answer);
    let mut another = syn();
    another.src.1 = 50_000;
    let said = site.hear(&another);
    assert_eq!(said.client().options.mss, Some(1400));
    assert_eq!(said.client().options.window_scale, Some(2));
    assert_eq!(said.client().window, 5000);
}

#[test]
fn limits_count_completed_handshakes_and_let_others_in_again_when_connections_end() {
    let mut plan = plan();
    plan.bounds.connections_per_source = Some(1);
    let mut site = Site::new(plan);
    site.enter();
    let mut second = syn();
    second.src.1 += 1;
    assert!(site.hear(&second).is_silent());
    assert_eq!(site.count("too many connections of a source"), 1);
    // It is the switch's now, and counts all the same.
    assert!(site.hear(&syn_ack()).handed.is_some());
    assert!(site.hear(&second).is_silent());
    site.gate.ended(&flow());
    assert_eq!(site.hear(&second).client().flags, SYN | ACK);
    // What the switch had before this manager counts, too.
    site.gate.adopted(&flow());
    assert!(site.hear(&second).is_silent());
}

#[test]
fn who_has_shaken_hands_and_is_beyond_a_limit_is_reset_whatever_the_policy_says_of_refusals() {
    let mut plan = plan();
    assert_eq!(plan.refuse, Refuse::Drop);
    plan.bounds.connections_per_source = Some(1);
    let mut site = Site::new(plan);
    // Both are answered while there is room.
    let mut other = syn();
    other.src.1 += 1;
    let cookie = site.hear(&other).client().seq;
    site.enter();
    let mut ack = client(ACK, 1, cookie.wrapping_add(1));
    ack.src.1 += 1;
    let said = site.hear(&ack);
    assert_eq!(said.decision, Some(Decision::Drop));
    let reset = said.client();
    assert_eq!((reset.flags, reset.seq), (RST, cookie.wrapping_add(1)));
    assert!(said.to_server.is_empty());
    assert_eq!(site.count("too many connections of a source"), 1);
    // Without a good cookie nothing is said to it at all.
    other.src.1 += 1;
    assert!(site.hear(&other).is_silent());
}

#[test]
fn without_room_for_one_more_a_client_waits_and_comes_in_later() {
    let mut plan = plan();
    plan.bounds.proxied = 1;
    let mut site = Site::new(plan);
    site.enter();
    let mut other = syn();
    other.src.1 += 1;
    let cookie = site.hear(&other).client().seq;
    let mut ack = client(ACK, 1, cookie.wrapping_add(1));
    ack.src.1 += 1;
    let said = site.hear(&ack);
    assert!(said.is_silent());
    assert_eq!(site.count("no room"), 1);
    assert!(site.hear(&syn_ack()).handed.is_some());
    // Its data bring the cookie back.
    let said = site.hear(&with(b"hello", ack));
    assert_eq!(said.server().flags, SYN);
}

// A3.10
#[test]
fn data_that_overtake_the_acknowledgement_wait_for_it() {
    let mut site = Site::new(plan());
    site.knock();
    let early = site.hear(&with(b"second", client(ACK, 6, site.next())));
    assert!(early.is_silent() && early.answers.is_empty());
    let early = site.request;
    let said = site.hear(&with(b"first", client(ACK, 1, site.next())));
    assert_eq!(said.server().flags, SYN);
    let said = site.hear(&syn_ack());
    let goes_on = |request| said.answers.contains(&(request, Decision::Resume));
    assert!(goes_on(early) && goes_on(early + 1), "{said:?}");
}

// A3.10
#[test]
fn a_syn_is_sent_again_until_the_server_has_had_its_time() {
    let mut site = Site::new(plan());
    site.enter();
    let said = site.wait(SECOND * 4);
    let again: Vec<_> = said.to_server.iter().map(|s| (s.flags, s.seq)).collect();
    assert_eq!(again, [(SYN, ISN), (SYN, ISN)], "after 1 s and 2 s more");
    let said = site.wait(SECOND * 2);
    assert_eq!(site.count("server silent"), 1);
    assert_eq!(said.client().flags & RST, RST);
    assert_eq!(said.client().seq, site.next());
    assert_eq!(site.gate.proxied(), 0);
}
