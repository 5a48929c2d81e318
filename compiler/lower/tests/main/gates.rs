//! Gates: what becomes of TCP's numbers, over one gate or two, with a translation between them, and on the way
//! to the agent. Whole frames are compared with what a host would have sent.

use std::net::IpAddr;

use etherparse::{PacketBuilder, TcpHeader};

use crate::frames::{HOST, ip, look, mac, tuple};
use crate::rewriting::numbers;
use crate::rig::{Meta, Out, Rig, Tuple, bits, checked, compiled, one_agent, one_port, tail};
use crate::{DUAL, WEB};

const CLIENT: &str = "203.0.113.9";
const SERVICE: &str = "203.0.113.80";
const SERVER: &str = "10.0.1.10";

/// Two gates around a balancer, and one alone.
const SITE: &str = "
network {
  port 1 clients { address 203.0.113.1/24 address 2001:db8:1::1/64 }
  port 2 rack { address 10.0.1.1/24 address 2001:db8:2::1/64 }
}
pool web { 10.0.1.10:8080 }
service outer : gate {
  match tcp.dst 203.0.113.80:80 or tcp.dst [2001:db8:2::10]:22
  allow ip
}
service web-lb : balance { match tcp.dst 203.0.113.80:80 pick from @web by round-robin }
service inner : gate {
  match tcp.dst 10.0.1.10:8080
  allow ip.src in 203.0.113.0/24
}
cascade outer > web-lb > inner
managers { lb-1 serves outer, web-lb, inner }
";

/// The site with ways to both of its ends.
fn site() -> Rig {
    let mut rig = Rig::new(SITE);
    rig.route("10.0.1.10/32", 3, 2);
    rig.route("203.0.113.9/32", 1, 1);
    rig.route("2001:db8:2::10/128", 4, 2);
    rig.route("2001:db8:1::9/128", 5, 1);
    rig
}

/// A segment as a host would send it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Segment {
    sequence: u32,
    acknowledgement: u32,
    window: u16,
    flags: u8,
    ttl: u8,
    options: Vec<u8>,
    payload: Vec<u8>,
}

/// What a gate's entry says.
#[derive(Debug, Clone, Copy, Default)]
struct Deltas {
    sequence: u32,
    acknowledgement: u32,
    window_shift: i8,
}

impl Segment {
    fn random(next: &mut impl FnMut() -> u32, i: usize) -> Self {
        // Numbers near the end of their space, where they wrap, every other time.
        let mut number = |wraps: bool| {
            if wraps {
                0u32.wrapping_sub(next() % 70_000)
            } else {
                next()
            }
        };
        let (sequence, acknowledgement) =
            (number(i.is_multiple_of(2)), number(i.is_multiple_of(3)));
        Self {
            sequence,
            acknowledgement,
            // Small ones, whose shift loses no bit, and large ones.
            window: (next() >> (next() % 16)) as u16,
            flags: (next() % 64) as u8,
            ttl: 2 + (i % 200) as u8,
            options: (0..4 * (i % 11)).map(|_| 1).collect(),
            payload: (0..i % 67).map(|_| next() as u8).collect(),
        }
    }

    fn framed(&self, port: u16, Tuple(src, dst, _, sport, dport): Tuple) -> Vec<u8> {
        let mut tcp = TcpHeader::new(sport, dport, self.sequence, self.window);
        tcp.acknowledgment_number = self.acknowledgement;
        let flag = |bit: u8| self.flags & bit != 0;
        (tcp.fin, tcp.syn, tcp.rst) = (flag(1), flag(2), flag(4));
        (tcp.psh, tcp.ack, tcp.urg) = (flag(8), flag(16), flag(32));
        tcp.set_options_raw(&self.options).unwrap();
        let ethernet = PacketBuilder::ethernet2(HOST, mac(port));
        let step = match (src, dst) {
            (IpAddr::V4(s), IpAddr::V4(d)) => ethernet.ipv4(s.octets(), d.octets(), self.ttl),
            (IpAddr::V6(s), IpAddr::V6(d)) => ethernet.ipv6(s.octets(), d.octets(), self.ttl),
            _ => panic!("families mixed"),
        };
        let mut out = Vec::new();
        step.tcp_header(tcp).write(&mut out, &self.payload).unwrap();
        out
    }

    /// As it is behind gates, and `hops` routers.
    fn behind(&self, gates: &[Deltas], hops: u8) -> Self {
        let sum = |of: fn(&Deltas) -> u32| gates.iter().map(of).fold(0u32, u32::wrapping_add);
        let shift: i32 = gates.iter().map(|d| i32::from(d.window_shift)).sum();
        let window = match (self.flags & 2, u32::try_from(shift)) {
            (0, Ok(left)) => (u64::from(self.window) << left).min(0xffff) as u16,
            (0, Err(_)) => (u64::from(self.window) >> -shift) as u16,
            _ => self.window,
        };
        let has_ack = self.flags & 16 != 0;
        let by = if has_ack {
            sum(|d| d.acknowledgement)
        } else {
            0
        };
        Self {
            sequence: self.sequence.wrapping_add(sum(|d| d.sequence)),
            acknowledgement: self.acknowledgement.wrapping_add(by),
            window,
            ttl: self.ttl - hops,
            ..self.clone()
        }
    }
}

/// A fixed affinity of a gate.
fn adjust(rig: &mut Rig, control: &str, flow: Tuple, by: Deltas, events: (u16, u16)) {
    let mut params = vec![
        ("sequence", bits(by.sequence, 32)),
        ("acknowledgement", bits(by.acknowledgement, 32)),
        ("window_shift", bits(by.window_shift.cast_unsigned(), 8)),
    ];
    params.extend(tail(events, 5000));
    rig.fix(control, flow, "adjust", &params);
}

fn random_deltas(next: &mut impl FnMut() -> u32) -> Deltas {
    Deltas {
        sequence: next(),
        acknowledgement: next(),
        window_shift: (next() % 29) as i8 - 14,
    }
}

fn back(Tuple(src, dst, proto, sport, dport): Tuple) -> Tuple {
    Tuple(dst, src, proto, dport, sport)
}

/// The client's flow to the service, and behind the balancer.
fn flow(sport: u16) -> (Tuple, Tuple) {
    (
        tuple(CLIENT, sport, SERVICE, 80, 6),
        tuple(CLIENT, sport, SERVER, 8080, 6),
    )
}

/// Everything but the link-layer header.
fn packet(frame: &[u8]) -> &[u8] {
    look(frame);
    &frame[14..]
}

// A3.8, A3.9
#[test]
fn numbers_and_checksums_behind_a_gate_are_those_of_a_host_that_counts_otherwise() {
    let mut rig = site();
    let mut n = numbers();
    let mut next = || n.next().unwrap();
    for i in 0..400 {
        let sport = 1000 + i as u16;
        let flow = tuple("2001:db8:1::9", sport, "2001:db8:2::10", 22, 6);
        let (there, back_by) = (random_deltas(&mut next), random_deltas(&mut next));
        adjust(&mut rig, "outer", flow, there, (0, 0));
        adjust(&mut rig, "outer_reply", back(flow), back_by, (0, 0));
        for (port, flow, by) in [(1, flow, there), (2, back(flow), back_by)] {
            let sent = Segment::random(&mut next, i);
            let got = rig.forwarded(port, &sent.framed(port, flow), 3 - port);
            let expected = sent.behind(&[by], 1).framed(port, flow);
            assert_eq!(packet(&got), packet(&expected), "{sent:?} {by:?}");
        }
    }
}

// A3.8, A3.9, A4.2, A4.8
#[test]
fn the_deltas_of_two_gates_with_a_balancer_between_them_add_up() {
    let mut rig = site();
    let mut n = numbers();
    let mut next = || n.next().unwrap();
    for i in 0..400 {
        let (outside, inside) = flow(1000 + i as u16);
        let by: [Deltas; 4] = std::array::from_fn(|_| random_deltas(&mut next));
        adjust(&mut rig, "outer", outside, by[0], (0, 0));
        rig.translate("web_lb", outside, inside, (0, 0));
        adjust(&mut rig, "inner", inside, by[1], (0, 0));
        adjust(&mut rig, "inner_reply", back(inside), by[2], (0, 0));
        rig.translate("web_lb_reply", back(inside), back(outside), (0, 0));
        adjust(&mut rig, "outer_reply", back(outside), by[3], (0, 0));
        for (port, came, goes, by) in [
            (1, outside, inside, &by[..2]),
            (2, back(inside), back(outside), &by[2..]),
        ] {
            let sent = Segment::random(&mut next, i);
            let got = rig.forwarded(port, &sent.framed(port, came), 3 - port);
            let expected = sent.behind(by, 1).framed(port, goes);
            assert_eq!(packet(&got), packet(&expected), "{sent:?} {by:?}");
        }
    }
    for control in ["outer", "inner", "inner_reply", "outer_reply"] {
        assert_eq!(rig.counted(&format!("Cascade.{control}.stats"), 5000), 400);
    }
}

// A4.4, A4.5
#[test]
fn a_manager_sees_the_numbers_that_gates_before_it_have_made_and_none_is_made_twice() {
    let mut rig = site();
    let (outside, inside) = flow(1000);
    let outer = Deltas {
        sequence: 7,
        acknowledgement: 70,
        window_shift: 2,
    };
    let inner = Deltas {
        sequence: 100,
        acknowledgement: 1000,
        window_shift: -1,
    };
    adjust(&mut rig, "outer", outside, outer, (0, 0));
    rig.translate("web_lb", outside, inside, (0, 0));
    // The inner gate wants every packet.
    adjust(&mut rig, "inner", inside, inner, (512, 0));
    let sent = Segment {
        sequence: 1,
        acknowledgement: 2,
        window: 12,
        flags: 16,
        ttl: 64,
        payload: b"abc".to_vec(),
        ..Segment::default()
    };
    let (meta, bytes) = rig.diverted(1, &sent.framed(1, outside));
    assert_eq!((meta.kind, meta.part, meta.stage, meta.entry), (1, 2, 3, 5));
    let seen = sent.behind(&[outer], 0);
    assert_eq!(packet(&bytes), packet(&seen.framed(1, inside)));
    let answer = Meta {
        answered: 1,
        ..meta
    };
    let out = one_port(rig.packet_out(answer, &bytes), 2);
    let expected = seen.behind(&[inner], 1).framed(1, inside);
    assert_eq!(packet(&out), packet(&expected));
    assert_eq!(rig.counted("Cascade.outer.stats", 5000), 1);
}

// A4.8
#[test]
fn an_adjusted_reply_is_a_reply_to_every_later_stage_and_stays_one_at_the_agent() {
    let mut rig = site();
    let flow = tuple("2001:db8:1::9", 1000, "2001:db8:2::10", 22, 6);
    let far = Tuple(ip("2001:db8:9::9"), flow.1, 6, flow.3, flow.4);
    let by = Deltas {
        sequence: 5,
        ..Deltas::default()
    };
    adjust(&mut rig, "outer_reply", back(far), by, (0, 0));
    rig.route_only("2001:db8:9::/64", 77);
    let sent = Segment {
        flags: 16,
        ttl: 64,
        ..Segment::default()
    };
    let (meta, bytes) = rig.diverted(2, &sent.framed(2, back(far)));
    assert_eq!((meta.kind, meta.reply, meta.next_hop), (10, 1, 77));
    let seen = sent.behind(&[by], 0).framed(2, back(far));
    assert_eq!(packet(&bytes), packet(&seen));
    // Its neighbour is known by then: it goes on as it is.
    rig.next_hop(77, 1, 1500);
    let out = one_port(rig.packet_out(Meta { kind: 3, ..meta }, &bytes), 1);
    let expected = sent.behind(&[by], 1).framed(2, back(far));
    assert_eq!(packet(&out), packet(&expected));
}

#[test]
fn a_notice_carries_the_numbers_that_the_packet_came_with() {
    let mut rig = site();
    let flow = tuple("2001:db8:1::9", 1000, "2001:db8:2::10", 22, 6);
    let by = Deltas {
        sequence: 5,
        ..Deltas::default()
    };
    adjust(&mut rig, "outer", flow, by, (0, 1));
    let fin = Segment {
        flags: 17,
        ttl: 64,
        ..Segment::default()
    };
    let mut out = rig.send(1, &fin.framed(1, flow));
    out.sort_by_key(|o| matches!(o, Out::Agent(..)));
    let [Out::Port(2, went), Out::Agent(meta, notice)] = &out[..] else {
        panic!("{out:?}")
    };
    let expected = fin.behind(&[by], 1).framed(1, flow);
    assert_eq!(packet(went), packet(&expected));
    assert_eq!((meta.kind, meta.entry, meta.notices), (2, 5, 1));
    assert_eq!(packet(notice), packet(&fin.framed(1, flow)));
}

// A3.1
#[test]
fn a_gate_asks_about_every_packet_of_either_side_without_an_affinity() {
    let mut rig = site();
    let sent = Segment {
        flags: 2,
        ttl: 64,
        ..Segment::default()
    };
    let (outside, _) = flow(1000);
    let (meta, bytes) = one_agent(rig.send(1, &sent.framed(1, outside)));
    assert_eq!((meta.kind, meta.part, meta.stage), (1, 2, 1));
    // The gate's answer to the client goes in behind the reply part's question.
    let answer = Meta {
        kind: 1,
        part: 1,
        reply: 1,
        answered: 1,
        stage: 1,
        port: 1,
        ..Meta::default()
    };
    let synack = Segment {
        flags: 18,
        ttl: 64,
        ..Segment::default()
    };
    let out = one_port(rig.packet_out(answer, &synack.framed(1, back(outside))), 1);
    assert_eq!(look(&out).from, (ip(SERVICE), 80));
    // Its own connection to the server goes in behind the forward part's, and is the balancer's to decide.
    let second = Meta {
        answered: 1,
        ..meta
    };
    let (meta, _) = one_agent(rig.packet_out(second, &bytes));
    assert_eq!((meta.part, meta.stage), (2, 2));
}

#[test]
fn a_program_without_a_gate_has_nothing_of_one() {
    for text in [WEB, DUAL] {
        let lowered = signalbox_lower::lower(&checked(text)).unwrap();
        assert!(!lowered.p4.contains("GATES") && !lowered.p4.contains("gate"));
        assert!(lowered.sources.keys().all(|name| {
            ["gate", "adjust", "deltas"]
                .iter()
                .all(|part| !name.contains(part))
        }));
        let json = compiled(&lowered).json;
        assert!(!json.contains("deltas") && !json.contains("adjust"));
    }
}
