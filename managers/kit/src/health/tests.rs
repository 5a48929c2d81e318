//! Checks against servers that a test plays.

use super::*;

fn checker(kind: CheckKind) -> Checker {
    let plan = signalbox_agent::testing::plan();
    let target = Target {
        address: IpAddr::from([10, 0, 1, 10]),
        port: 8080,
        check: CheckPlan {
            kind,
            every_ms: 1000,
            timeout_ms: 300,
            rise: 2,
            fall: 3,
        },
    };
    Checker::new(&plan, &[target], 0)
}

fn http() -> CheckKind {
    CheckKind::Http {
        path: "/health".into(),
    }
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn sent(verdicts: &[Verdict]) -> Vec<Segment> {
    (verdicts.iter())
        .filter_map(|v| match v {
            Verdict::Send(ip) => Segment::parse(ip),
            Verdict::Changed { .. } | Verdict::Loaded { .. } => None,
        })
        .collect()
}

fn changes(verdicts: &[Verdict]) -> Vec<bool> {
    (verdicts.iter())
        .filter_map(|v| match v {
            Verdict::Changed { up, .. } => Some(*up),
            Verdict::Send(_) | Verdict::Loaded { .. } => None,
        })
        .collect()
}

fn answer(to: &Segment, flags: u8, seq: u32, payload: &[u8]) -> Bytes {
    let used = u32::from(to.flags & SYN != 0) + to.payload.len() as u32;
    Segment {
        src: to.dst,
        dst: to.src,
        seq,
        ack: to.seq.wrapping_add(used),
        flags,
        window: u16::MAX,
        options: Options::default(),
        payload: Bytes::copy_from_slice(payload),
    }
    .emit()
}

#[test]
fn a_tcp_check_is_a_handshake_that_ends_with_a_reset() {
    let mut c = checker(CheckKind::Tcp);
    let syn = sent(&c.tick(at(0))).remove(0);
    assert_eq!(syn.flags, SYN);
    assert_eq!(syn.src.0, IpAddr::from([10, 0, 1, 1]), "the port's address");
    assert!(syn.src.1 >= 61_440);
    let out = c.arrived(at(1), &answer(&syn, SYN | ACK, 500, b""));
    let rst = sent(&out).remove(0);
    assert_eq!((rst.flags, rst.seq, rst.ack), (RST | ACK, syn.seq + 1, 501));
    assert_eq!(c.next(), Some(at(1000)), "the next one keeps the period");
    let next = sent(&c.tick(at(1000))).remove(0);
    assert_ne!(next.src.1, syn.src.1);
}

/// Runs one check to its end; a live server answers it.
fn round(c: &mut Checker, alive: bool) -> Vec<bool> {
    let mut changed = Vec::new();
    let start = c.next().unwrap();
    let mut out = c.tick(start);
    loop {
        changed.extend(changes(&out));
        let syn = sent(&out).into_iter().find(|s| s.flags == SYN);
        let now = c.next().unwrap();
        out = match syn {
            Some(syn) if alive => c.arrived(start, &answer(&syn, SYN | ACK, 9, b"")),
            _ if now < start + at(400) && !alive => c.tick(now),
            _ => return changed,
        };
        if alive {
            changed.extend(changes(&out));
            return changed;
        }
    }
}

#[test]
fn fall_failures_in_a_row_take_a_server_out_and_rise_successes_bring_it_back() {
    let mut c = checker(CheckKind::Tcp);
    let rounds = [
        (true, None),
        (false, None),
        (false, None),
        (true, None),
        (false, None),
        (false, None),
        (false, Some(false)),
        (true, None),
        (false, None),
        (true, None),
        (true, Some(true)),
    ];
    for (n, (alive, change)) in rounds.into_iter().enumerate() {
        assert_eq!(round(&mut c, alive).first().copied(), change, "round {n}");
    }
}

#[test]
fn a_silent_server_is_asked_again_within_the_time_out() {
    let mut c = checker(CheckKind::Tcp);
    assert_eq!(sent(&c.tick(at(0))).len(), 1);
    assert!(c.tick(at(50)).is_empty());
    assert_eq!(sent(&c.tick(at(100))).len(), 1);
    assert_eq!(sent(&c.tick(at(200))).len(), 1);
    assert!(sent(&c.tick(at(300))).is_empty(), "the check has failed");
    assert_eq!(c.next(), Some(at(1000)));
}

#[test]
fn a_refused_connection_fails_at_once() {
    let mut c = checker(CheckKind::Tcp);
    for n in 0..3u64 {
        let syn = sent(&c.tick(at(n * 1000))).remove(0);
        let stranger = answer(
            &Segment {
                seq: syn.seq.wrapping_add(9),
                ..syn.clone()
            },
            RST | ACK,
            0,
            b"",
        );
        assert!(c.arrived(at(n * 1000 + 1), &stranger).is_empty());
        let out = c.arrived(at(n * 1000 + 1), &answer(&syn, RST | ACK, 0, b""));
        assert_eq!(changes(&out).is_empty(), n < 2);
    }
}

fn ask_http(c: &mut Checker, start: Duration, pieces: &[&[u8]]) -> Vec<Verdict> {
    let syn = sent(&c.tick(start)).remove(0);
    let get = sent(&c.arrived(start, &answer(&syn, SYN | ACK, 99, b""))).remove(0);
    assert!(
        get.payload
            .starts_with(b"GET /health HTTP/1.1\r\nHost: 10.0.1.10:8080\r\n")
    );
    assert_eq!((get.seq, get.ack), (syn.seq + 1, 100));
    let mut out = Vec::new();
    let mut seq = 100;
    for piece in pieces {
        out.extend(c.arrived(start, &answer(&get, ACK | PSH, seq, piece)));
        // The same piece again must not count twice.
        out.extend(c.arrived(start, &answer(&get, ACK | PSH, seq, piece)));
        seq += piece.len() as u32;
    }
    out
}

#[test]
fn an_http_check_reads_the_status_line_in_any_pieces() {
    for (answer, good) in [
        (&[&b"HTTP/1.0 200 OK\r\n"[..]][..], true),
        (&[b"HT", b"TP/1.1 3", b"02 Found"], true),
        (&[b"HTTP/1.1 404 Not Found"], false),
        (&[b"HTTP/1.1 503 Service Unavailable"], false),
        (&[b"SSH-2.0-OpenSSH_9.2\r\n", &[0; 64]], false),
    ] {
        let mut c = checker(http());
        let mut out = Vec::new();
        for n in 0..3 {
            out.extend(ask_http(&mut c, at(n * 1000), answer));
        }
        assert!(sent(&out).iter().all(|s| s.flags == RST | ACK));
        assert_eq!(sent(&out).len(), 3);
        assert_eq!(changes(&out), if good { vec![] } else { vec![false] });
    }
}

#[test]
fn a_server_without_a_way_to_it_is_not_checked() {
    let plan = signalbox_agent::testing::plan();
    let target = Target {
        address: IpAddr::from([8, 8, 8, 8]),
        port: 80,
        check: CheckPlan {
            kind: CheckKind::Tcp,
            every_ms: 1,
            timeout_ms: 1,
            rise: 1,
            fall: 1,
        },
    };
    assert_eq!(Checker::new(&plan, &[target], 0).next(), None);
}

fn loads(verdicts: &[Verdict]) -> Vec<u8> {
    (verdicts.iter())
        .filter_map(|v| match v {
            Verdict::Loaded { percent, .. } => Some(*percent),
            _ => None,
        })
        .collect()
}

/// One load check, whose answer comes in these pieces.
fn ask_load(c: &mut Checker, start: Duration, pieces: &[(u8, &[u8])]) -> Vec<Verdict> {
    let syn = sent(&c.tick(start)).remove(0);
    let get = sent(&c.arrived(start, &answer(&syn, SYN | ACK, 99, b""))).remove(0);
    assert!(get.payload.starts_with(b"GET /load HTTP/1.0\r\n"));
    let mut seq = 100;
    let mut out = Vec::new();
    for (flags, piece) in pieces {
        out.extend(c.arrived(start, &answer(&get, *flags, seq, piece)));
        seq += piece.len() as u32;
    }
    out
}

// A6.12
#[test]
fn a_load_report_is_told_when_it_changes() {
    let path = "/load".to_owned();
    let mut c = checker(CheckKind::Load { path });
    for (n, (body, told)) in [("20", vec![20]), ("20", vec![]), ("95", vec![95])]
        .into_iter()
        .enumerate()
    {
        let head = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n";
        let pieces = [(ACK, &head[..]), (ACK | PSH, body.as_bytes()), (FIN, b"")];
        let out = ask_load(&mut c, at(n as u64 * 1000), &pieces);
        assert_eq!(loads(&out), told);
        assert!(changes(&out).is_empty());
        let said = sent(&out);
        assert_eq!(said[0].flags, ACK, "what is there is acknowledged");
        assert_eq!(said[0].ack, 100 + head.len() as u32);
        assert_eq!(said.last().unwrap().flags, RST | ACK);
    }
}

#[test]
fn an_answer_that_comes_again_with_more_is_read_on() {
    let path = "/load".to_owned();
    let mut c = checker(CheckKind::Load { path });
    let syn = sent(&c.tick(at(0))).remove(0);
    let get = sent(&c.arrived(at(0), &answer(&syn, SYN | ACK, 99, b""))).remove(0);
    let whole = b"HTTP/1.0 200 OK\r\n\r\n77\n";
    c.arrived(at(1), &answer(&get, ACK, 100, &whole[..14]));
    // What is ahead of a gap does not count.
    let out = c.arrived(
        at(1),
        &answer(&get, ACK, 120, b"HTTP/1.0 200 OK\r\n\r\n5\n"),
    );
    assert!(out.is_empty());
    let out = c.arrived(at(2), &answer(&get, ACK, 100, whole));
    assert_eq!(loads(&out), [77]);
}

// A6.13
#[test]
fn a_server_whose_report_makes_no_sense_or_does_not_end_is_taken_out() {
    let head = &b"HTTP/1.0 200 OK\r\n\r\n"[..];
    for body in [&b"high"[..], b"101", b""] {
        let path = "/load".to_owned();
        let mut c = checker(CheckKind::Load { path });
        let mut out = Vec::new();
        for n in 0..3 {
            let pieces = [(ACK, head), (ACK | FIN, body)];
            out.extend(ask_load(&mut c, at(n * 1000), &pieces));
        }
        assert_eq!(changes(&out), [false], "{body:?}");
        assert!(loads(&out).is_empty());
    }
    // One that begins to answer and falls silent.
    let path = "/load".to_owned();
    let mut c = checker(CheckKind::Load { path });
    let mut out = Vec::new();
    for n in 0..3 {
        out.extend(ask_load(&mut c, at(n * 1000), &[(ACK, head), (ACK, b"5")]));
        out.extend(c.tick(at(n * 1000 + 300)));
    }
    assert_eq!(changes(&out), [false]);
    assert!(loads(&out).is_empty());
}

#[test]
fn changed_targets_keep_their_standing_and_new_ones_start_up() {
    let mut c = checker(CheckKind::Tcp);
    for _ in 0..3 {
        round(&mut c, false);
    }
    let plan = signalbox_agent::testing::plan();
    let check = CheckPlan {
        kind: CheckKind::Tcp,
        every_ms: 1000,
        timeout_ms: 300,
        rise: 1,
        fall: 3,
    };
    let target = |host| Target {
        address: IpAddr::from([10, 0, 1, host]),
        port: 8080,
        check: check.clone(),
    };
    c.update(&plan, &[target(11), target(10)]);
    let start = c.next().unwrap().max(at(5000));
    let syns = sent(&c.tick(start));
    assert_eq!(syns.len(), 2);
    let mut told = Vec::new();
    for syn in &syns {
        told.extend(c.arrived(start, &answer(syn, SYN | ACK, 9, b"")));
    }
    // The old one had been down: one success brings it back, under its new number.
    let changed: Vec<_> = (told.iter())
        .filter(|v| matches!(v, Verdict::Changed { .. }))
        .collect();
    assert_eq!(
        changed,
        [&Verdict::Changed {
            target: 1,
            up: true
        }]
    );
}
