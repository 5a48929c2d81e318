//! What must not be, and what becomes of it: each case has an outcome and a counter (docs/gate.md).

use signalbox_agent::packet::checksum;

use super::*;

/// An IPv4 packet with TCP as a frame, its checksums made good.
pub fn summed(ip: &[u8]) -> Bytes {
    let mut ip = ip.to_vec();
    ip[10..12].fill(0);
    let sum = checksum(&[&ip[..20]]).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    ip[36..38].fill(0);
    let length = (ip.len() as u16 - 20).to_be_bytes();
    let pseudo = [&ip[12..20], &[0, 6], &length].concat();
    let sum = checksum(&[&pseudo, &ip[20..]]).to_be_bytes();
    ip[36..38].copy_from_slice(&sum);
    frame([2; 6], [4; 6], 0x0800, &ip).into()
}

// A3.2, A3.3
#[test]
fn a_forged_cookie_opens_nothing_and_gets_a_reset() {
    let mut site = Site::new(plan());
    site.knock();
    for forged in [
        0,
        site.cookie ^ 1 << 8,
        site.cookie ^ 1,
        site.cookie.wrapping_add(1 << 31),
    ] {
        assert!(
            site.hear(&client(ACK, 1, forged.wrapping_add(1)))
                .is_silent()
        );
        let said = site.wait(SECOND);
        assert_eq!(
            (said.client().flags, said.client().seq),
            (RST, forged.wrapping_add(1))
        );
        assert!(said.to_server.is_empty());
    }
    assert_eq!(site.count("strange segment"), 4);
    assert_eq!((site.count("handshakes"), site.gate.proxied()), (0, 0));
}

// A3.3
#[test]
fn an_old_cookie_and_one_of_a_key_before_the_last_open_nothing() {
    let mut site = Site::new(plan());
    site.knock();
    site.wait(SECOND * 70);
    let said = site.hear(&client(ACK, 1, site.next()));
    assert_eq!(said.client().flags, RST);
    assert_eq!(site.count("old cookie"), 1);

    let mut site = Site::new(plan());
    site.knock();
    site.gate.key(site.now, [4; 16]);
    site.gate.key(site.now, [5; 16]);
    assert!(site.hear(&client(ACK, 1, site.next())).is_silent());
    assert_eq!(site.wait(SECOND).client().flags, RST);
    assert_eq!(
        (site.count("strange segment"), site.count("handshakes")),
        (1, 0)
    );
    // One of the last key holds.
    site.knock();
    site.gate.key(site.now, [6; 16]);
    assert_eq!(site.hear(&client(ACK, 1, site.next())).server().flags, SYN);
}

#[test]
fn malformed_options_count_up_to_the_first_that_is() {
    let mut site = Site::new(plan());
    let mut ip = syn().emit().to_vec();
    // The window scale's length becomes one that cannot be.
    assert_eq!(ip[44..48], [1, 3, 3, 3]);
    ip[46] = 0;
    let said = site.frame(summed(&ip), Part::Forward, flow());
    assert_eq!(said.client().options.mss, Some(1460));
    assert_eq!(said.client().options.window_scale, None);
    assert_eq!(site.count("malformed options"), 1);
}

#[test]
fn data_in_a_syn_are_left_to_be_sent_again() {
    let mut site = Site::new(plan());
    let said = site.hear(&with(b"early", syn()));
    assert_eq!(said.client().ack, ISN.wrapping_add(1));
    assert_eq!(site.count("data in a SYN"), 1);
    site.cookie = said.client().seq;
    assert_eq!(site.hear(&client(ACK, 1, site.next())).server().flags, SYN);
}

#[test]
fn what_has_a_wrong_checksum_or_impossible_flags_is_dropped() {
    let mut site = Site::new(plan());
    let mut bad = frame([2; 6], [4; 6], 0x0800, &syn().emit());
    *bad.last_mut().unwrap() ^= 1;
    let said = site.frame(bad.into(), Part::Forward, flow());
    assert!(said.is_silent() && said.decision == Some(Decision::Drop));
    assert_eq!(site.count("checksum"), 1);
    for flags in [SYN | FIN, SYN | RST] {
        let said = site.hear(&client(flags, 0, 0));
        assert!(said.is_silent() && said.decision == Some(Decision::Drop));
    }
    assert_eq!(site.count("malformed flags"), 2);
    let said = site.frame(Bytes::from_static(b"no frame"), Part::Forward, flow());
    assert!(said.is_silent() && said.decision == Some(Decision::Drop));
    assert_eq!(site.count("not a segment"), 1);
}

#[test]
fn a_client_that_answers_with_a_syn_ack_or_a_reset_opens_nothing() {
    let mut site = Site::new(plan());
    let said = site.hear(&client(SYN | ACK, 0, 9));
    assert_eq!((said.client().flags, said.client().seq), (RST, 9));
    assert!(said.to_server.is_empty());
    assert!(site.hear(&client(RST, 0, 0)).is_silent());
    assert_eq!(
        (site.count("strange segment"), site.count("strange reset")),
        (1, 1)
    );
}

#[test]
fn both_ends_that_open_at_once_are_both_reset() {
    let mut site = Site::new(plan());
    site.enter();
    let said = site.hear(&server(SYN, 0, 0));
    assert_eq!(site.count("simultaneous open"), 1);
    assert_eq!(said.client().flags & RST, RST);
    assert_eq!(
        (said.server().flags, said.server().seq),
        (RST, ISN.wrapping_add(1))
    );
    assert_eq!(site.gate.proxied(), 0);
}

#[test]
fn a_server_that_opens_by_itself_is_not_let_through() {
    let mut site = Site::new(plan());
    let said = site.hear(&server(SYN, 0, 0));
    assert!(said.is_silent() && said.decision == Some(Decision::Drop));
    assert_eq!(site.count("server opens"), 1);
}

// A3.12
#[test]
fn a_server_that_refuses_gives_the_client_a_reset() {
    let mut site = Site::new(plan());
    site.enter();
    // One that does not mean our SYN is none.
    assert!(site.hear(&server(RST | ACK, 0, 9)).to_client.is_empty());
    assert!(site.hear(&server(RST, 0, 0)).is_silent());
    let said = site.hear(&server(RST | ACK, 0, 1));
    assert_eq!(
        (said.client().flags & RST, said.client().seq),
        (RST, site.next())
    );
    assert_eq!(site.count("server refused"), 1);
    assert_eq!(site.gate.proxied(), 0);
}

#[test]
fn a_server_that_closes_at_once_closes_through_the_switch() {
    let mut site = Site::new(plan());
    site.enter();
    assert!(site.hear(&syn_ack()).handed.is_some());
    // With data on their way, its FIN waits for the switch.
    let mut site = Site::new(looking());
    site.enter();
    site.hear(&with(b"SSH-", client(ACK, 1, site.next())));
    site.hear(&syn_ack());
    let said = site.hear(&server(ACK | FIN, 1, 1));
    assert!(said.decision.is_none() && said.is_silent());
    let held = site.request;
    let said = site.hear(&server(ACK, 2, 5));
    assert!(said.handed.is_some());
    assert!(said.answers.contains(&(held, Decision::Resume)));
}

#[test]
fn a_client_that_says_nothing_where_its_data_are_looked_at_is_reset() {
    let mut site = Site::new(looking());
    site.enter();
    let said = site.wait(SECOND * 10);
    assert_eq!(said.client().flags & RST, RST);
    assert!(said.to_server.is_empty(), "the server was never touched");
    assert_eq!((site.count("silent"), site.gate.proxied()), (1, 0));
}

// A3.2
#[test]
fn a_client_whose_first_data_will_not_do_is_reset_and_the_server_not_touched() {
    let mut site = Site::new(looking());
    site.enter();
    let said = site.hear(&with(b"SS", client(ACK, 1, site.next())));
    assert!(said.to_server.is_empty() && said.client().flags == ACK);
    let said = site.hear(&with(b"L-", client(ACK, 3, site.next())));
    assert!(said.to_server.is_empty());
    assert!(said.to_client.iter().any(|s| s.flags & RST != 0));
    assert_eq!((site.count("look refused"), site.gate.proxied()), (1, 0));
}

#[test]
fn a_reset_of_either_end_reaches_the_other_and_a_blind_one_does_not() {
    let halfway = || {
        let mut site = Site::new(looking());
        site.enter();
        site.hear(&with(b"SSH-", client(ACK, 1, site.next())));
        site.hear(&syn_ack());
        site
    };
    let mut site = halfway();
    // In the window, but not the next number (RFC 5961).
    let said = site.hear(&client(RST, 50, 0));
    assert_eq!(said.client().flags, ACK);
    let said = site.hear(&client(RST, 5, 0));
    assert_eq!(said.server().flags & RST, RST);
    assert!(said.to_client.is_empty());
    assert_eq!((site.count("client reset"), site.gate.proxied()), (1, 0));
    let mut site = halfway();
    let said = site.hear(&server(RST, 1, 0));
    assert_eq!(said.client().flags & RST, RST);
    assert!(said.to_server.is_empty());
    assert_eq!((site.count("server reset"), site.gate.proxied()), (1, 0));
}

#[test]
fn answers_to_strangers_are_bounded() {
    let mut site = Site::new(plan());
    let mut answered = 0;
    for n in 0..5000u32 {
        answered += site.hear(&server(ACK, n, n)).to_server.len();
    }
    assert!(answered <= 1000, "{answered}");
    assert!(site.count("unanswered") > 0);
    site.wait(SECOND);
    assert_eq!(site.hear(&server(ACK, 1, 1)).to_server.len(), 1);
}
