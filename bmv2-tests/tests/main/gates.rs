//! Gates on every target: segments of flows that are let through come out as a host would have sent them that
//! counts from elsewhere, alone, behind a second gate, and with translations before and behind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bmv2_tests::bench::{ALL_EVENTS, Bench, bits, kind};
use bmv2_tests::differential::Draw;
use bmv2_tests::frames::{Numbers, Path, flags, look};
use bmv2_tests::image::{Compiler, Image};
use bmv2_tests::targets::Target;
use bmv2_tests::world::{Neighbour, World, neighbour};
use signalbox_agent::encode::Encoder;
use signalbox_agent::entry::{Entry, FixedAction, FixedEntry};
use signalbox_agent::flow::{FlowKey, PacketKind, Part, Tuple};
use signalbox_agent::message::Adjust;
use signalbox_lower::entries::{Match, PlannedEntry, Value};
use signalbox_p4runtime::Catalog;

/// A balancer between two gates, and a gate alone, whose server's own connections get another address.
const SITE: &str = "
network {
  port 1 clients { address 203.0.113.1/24 address 2001:db8:1::1/64 }
  port 2 rack { address 10.0.1.1/24 address 2001:db8:2::1/64 }
}
pool web { 10.0.1.10:8080 }
service outer : gate { match tcp.dst 203.0.113.80:80  allow ip.src in 203.0.113.0/24 }
service web-lb : balance { match tcp.dst 203.0.113.80:80 pick from @web by round-robin }
service inner : gate { match tcp.dst 10.0.1.10:8080  allow ip.src in 203.0.113.0/24 }
service direct : gate { match tcp.dst [2001:db8:2::10]:22  allow ip.src in 2001:db8:1::/64 }
service egress : nat {
  match ip.src in 2001:db8:2::/64 and not ip.dst in 2001:db8:2::/64
  source 2001:db8:1::100 ports 40000..40007
}
cascade outer > web-lb > inner > direct > egress
managers { all serves outer, web-lb, inner, direct, egress }
";

const TCP: u8 = 6;

/// The ends of a flow, as addresses and ports.
type Ends = (SocketAddr, SocketAddr);

/// Client and server by family: IPv4 is balanced.
struct Site {
    bench: Bench,
    hosts: [(Neighbour, Neighbour); 2],
}

impl Site {
    fn on(target: Target, compiler: Compiler) -> Site {
        let image = Image::of("gates.policy", SITE, compiler);
        let hosts = [
            ("203.0.113.9", "10.0.1.10"),
            ("2001:db8:1::9", "2001:db8:2::10"),
        ];
        let mut ids = 1..;
        let hosts = hosts.map(|(client, server)| {
            let mut host =
                |a: &str| neighbour(&image.plan, a.parse().unwrap(), ids.next().unwrap());
            (host(client), host(server))
        });
        let all: Vec<Neighbour> = hosts.iter().flat_map(|(c, s)| [*c, *s]).collect();
        let world = &World::all(&image)[0];
        let bench = Bench::ready_with(target, &image, world, &all);
        Site { bench, hosts }
    }

    /// A fixed affinity, with these events of interest.
    fn fix(
        &self,
        control: &str,
        (from, to): Ends,
        action: &str,
        mut params: Vec<(&'static str, Value)>,
        packet_events: u16,
    ) {
        params.extend([
            ("packet_events", bits(packet_events, 10)),
            ("notice_events", bits(0u8, 10)),
            ("entry", bits(5u8, 32)),
            ("slot", bits(5000u16, 32)),
        ]);
        self.bench.install(&[PlannedEntry {
            table: format!("Cascade.{control}.fixed"),
            matches: vec![
                ("src", Match::Exact(Value::Addr(from.ip()))),
                ("dst", Match::Exact(Value::Addr(to.ip()))),
                ("proto", Match::Exact(bits(TCP, 8))),
                ("sport", Match::Exact(bits(from.port(), 16))),
                ("dport", Match::Exact(bits(to.port(), 16))),
                ("kind", Match::Exact(bits(0u8, 2))),
            ],
            priority: 0,
            action: format!("Cascade.{control}.{action}"),
            params,
        }]);
    }

    fn adjust(&self, control: &str, flow: Ends, by: Deltas, packet_events: u16) {
        let params = vec![
            ("sequence", bits(by.sequence, 32)),
            ("acknowledgement", bits(by.acknowledgement, 32)),
            ("window_shift", bits(by.window_shift.cast_unsigned(), 8)),
        ];
        self.fix(control, flow, "adjust", params, packet_events);
    }

    fn translate(&self, control: &str, flow: Ends, (from, to): Ends) {
        let params = vec![
            ("src", Value::Addr(from.ip())),
            ("dst", Value::Addr(to.ip())),
            ("sport", bits(from.port(), 16)),
            ("dport", bits(to.port(), 16)),
        ];
        self.fix(control, flow, "translate", params, 0);
    }
}

/// What a gate adds.
#[derive(Debug, Clone, Copy)]
struct Deltas {
    sequence: u32,
    acknowledgement: u32,
    window_shift: i8,
}

impl Deltas {
    fn random(draw: &mut Draw) -> Deltas {
        Deltas {
            sequence: word(draw),
            acknowledgement: word(draw),
            window_shift: draw.below(29) as i8 - 14,
        }
    }
}

fn word(draw: &mut Draw) -> u32 {
    (draw.below(1 << 16) as u32) << 16 | draw.below(1 << 16) as u32
}

/// A segment as a host sends it.
#[derive(Debug, Clone)]
struct Segment {
    flags: u8,
    numbers: Numbers,
    payload: Vec<u8>,
}

impl Segment {
    fn random(draw: &mut Draw) -> Segment {
        // Numbers near the end of their space, where they wrap, every other time.
        let number = |draw: &mut Draw| match draw.once_in(2) {
            true => 0u32.wrapping_sub(word(draw) % 70_000),
            false => word(draw),
        };
        Segment {
            flags: draw.below(64) as u8,
            numbers: Numbers {
                sequence: number(draw),
                acknowledgement: number(draw),
                window: (word(draw) >> (16 + draw.below(16))) as u16,
                options: vec![1; 4 * draw.below(11)],
            },
            payload: (0..draw.below(80)).map(|_| draw.below(256) as u8).collect(),
        }
    }

    /// As a host sends it whose numbers are all those gates' ahead.
    fn behind(&self, gates: &[Deltas]) -> Segment {
        let mut there = self.clone();
        let shift: i32 = gates.iter().map(|by| i32::from(by.window_shift)).sum();
        for by in gates {
            let n = &mut there.numbers;
            n.sequence = n.sequence.wrapping_add(by.sequence);
            if self.flags & flags::ACK != 0 {
                n.acknowledgement = n.acknowledgement.wrapping_add(by.acknowledgement);
            }
        }
        if self.flags & flags::SYN == 0 {
            let window = u64::from(self.numbers.window);
            there.numbers.window = match u32::try_from(shift) {
                Ok(left) => (window << left).min(65_535) as u16,
                Err(_) => (window >> -shift) as u16,
            };
        }
        there
    }

    fn frame(&self, path: &Path) -> Vec<u8> {
        path.segment(self.flags, &self.numbers, &self.payload)
    }
}

fn back((from, to): Ends) -> Ends {
    (to, from)
}

fn end(host: &Neighbour, port: u16) -> SocketAddr {
    SocketAddr::new(host.address, port)
}

/// From a host to the switch.
fn leaves(host: &Neighbour, (from, to): Ends) -> Path {
    Path {
        from_mac: host.mac,
        to_mac: host.router_mac,
        from,
        to,
        ttl: 64,
    }
}

/// From the switch to a host.
fn arrives(host: &Neighbour, (from, to): Ends) -> Path {
    Path {
        from_mac: host.router_mac,
        to_mac: host.mac,
        from,
        to,
        ttl: 63,
    }
}

/// The flow of a client's port to the balanced address, and as the server sees it.
fn balanced(site: &Site, port: u16) -> (Ends, Ends) {
    let (client, server) = &site.hosts[0];
    let client = end(client, port);
    (
        (client, "203.0.113.80:80".parse().unwrap()),
        (client, end(server, 8080)),
    )
}

/// Random segments in both directions of random flows.
fn numbers_are_adjusted(target: Target, compiler: Compiler) {
    let site = Site::on(target, compiler);
    let mut draw = Draw::new(1);
    for port in 1000..1060 {
        let (outside, inside) = balanced(&site, port);
        let by: [Deltas; 4] = std::array::from_fn(|_| Deltas::random(&mut draw));
        site.adjust("inner_reply", back(inside), by[2], 0);
        site.translate("web_lb_reply", back(inside), back(outside));
        site.adjust("outer_reply", back(outside), by[3], 0);
        site.adjust("outer", outside, by[0], 0);
        site.translate("web_lb", outside, inside);
        site.adjust("inner", inside, by[1], 0);
        let (client, server) = &site.hosts[1];
        let alone = (end(client, port), end(server, 22));
        let one: [Deltas; 2] = std::array::from_fn(|_| Deltas::random(&mut draw));
        site.adjust("direct_reply", back(alone), one[1], 0);
        site.adjust("direct", alone, one[0], 0);
        let ways = [
            (0, outside, inside, &by[..2]),
            (0, back(inside), back(outside), &by[2..]),
            (1, alone, alone, &one[..1]),
            // Not the nat service's, though it comes from its inside: it is a reply.
            (1, back(alone), back(alone), &one[1..]),
        ];
        for (family, came, goes, by) in ways {
            let (client, server) = &site.hosts[family];
            let from_client = came.0.ip() == client.address;
            let (from, to) = if from_client {
                (client, server)
            } else {
                (server, client)
            };
            let sent = Segment::random(&mut draw);
            site.bench.send(from.port, &sent.frame(&leaves(from, came)));
            let got = site.bench.expect(to.port);
            look(&got);
            let expected = sent.behind(by).frame(&arrives(to, goes));
            assert_eq!(got, expected, "{sent:?} {by:?}");
        }
    }
}

/// A packet at the manager of the inner gate has the outer one's numbers, and gets its own when it goes on.
fn a_diverted_packet_has_its_numbers_and_resumes_without_deltas(
    target: Target,
    compiler: Compiler,
) {
    let site = Site::on(target, compiler);
    let mut draw = Draw::new(2);
    for port in 1000..1020 {
        let (outside, inside) = balanced(&site, port);
        let by: [Deltas; 2] = std::array::from_fn(|_| Deltas::random(&mut draw));
        site.adjust("outer", outside, by[0], 0);
        site.translate("web_lb", outside, inside);
        site.adjust("inner", inside, by[1], ALL_EVENTS);
        let (client, server) = &site.hosts[0];
        let sent = Segment::random(&mut draw);
        site.bench
            .send(client.port, &sent.frame(&leaves(client, outside)));
        let (carried, packet) = site.bench.expect_to_agent();
        assert_eq!(
            (carried.kind, carried.stage, carried.part),
            (kind::INTEREST, 3, 2)
        );
        let seen = sent.behind(&by[..1]);
        assert_eq!(packet, seen.frame(&leaves(client, inside)));
        site.bench.packet_out(&carried.resumed(), &packet);
        let got = site.bench.expect(server.port);
        assert_eq!(got, seen.behind(&by[1..]).frame(&arrives(server, inside)));
    }
}

macro_rules! on_every_target {
    ($($test:ident: $run:ident, $target:ident, $compiler:ident;)*) => {$(
        // A3.8, A3.9
        #[test]
        fn $test() {
            if crate::can_run(stringify!($test), Target::$target, Compiler::$compiler) {
                $run(Target::$target, Compiler::$compiler);
            }
        }
    )*};
}

on_every_target! {
    gated_segments_are_adjusted_by_the_embedded_switch: numbers_are_adjusted, Embedded, Ours;
    gated_segments_are_adjusted_with_the_limits_of_simple_switch_grpc: numbers_are_adjusted, Quirks, Ours;
    gated_segments_are_adjusted_over_grpc: numbers_are_adjusted, Grpc, Ours;
    gated_segments_are_adjusted_by_bmv2: numbers_are_adjusted, Bmv2, Ours;
    gated_segments_are_adjusted_by_p4cs_image: numbers_are_adjusted, Embedded, P4c;
    gated_segments_are_adjusted_by_p4cs_image_on_bmv2: numbers_are_adjusted, Bmv2, P4c;
    gated_packets_come_back_from_the_agent_on_the_embedded_switch: a_diverted_packet_has_its_numbers_and_resumes_without_deltas, Embedded, Ours;
    gated_packets_come_back_from_the_agent_with_the_limits_of_simple_switch_grpc: a_diverted_packet_has_its_numbers_and_resumes_without_deltas, Quirks, Ours;
    gated_packets_come_back_from_the_agent_on_bmv2: a_diverted_packet_has_its_numbers_and_resumes_without_deltas, Bmv2, Ours;
}

// A3.9
#[test]
fn p4c_compiles_gates_without_a_warning_to_the_same_p4info() {
    let test = "p4c_compiles_gates_without_a_warning_to_the_same_p4info";
    if crate::can_run(test, Target::Embedded, Compiler::P4c) {
        let theirs = Image::of("gates.policy", SITE, Compiler::P4c);
        assert_eq!(theirs.warnings, "");
        let ours = Image::of("gates.policy", SITE, Compiler::Ours);
        assert_eq!(ours.p4info, theirs.p4info);
    }
}

// A3.13
#[test]
fn what_the_agent_writes_of_a_gated_flow_it_reads_back_when_it_starts_again() {
    let image = Image::of("gates.policy", SITE, Compiler::Ours);
    let catalog = Catalog::shared(image.p4info.clone()).unwrap();
    let encoder = Encoder::new(catalog, Arc::new(image.plan.clone()));
    let mut draw = Draw::new(3);
    let services = image.plan.services.iter().zip(0u8..);
    let gates: Vec<u8> = services
        .filter(|(s, _)| s.gate.is_some())
        .map(|(_, at)| at)
        .collect();
    assert_eq!(gates, [0, 2, 3]);
    for window_shift in -14..=14 {
        for part in [Part::Forward, Part::Reply] {
            let entry = FixedEntry {
                key: FlowKey {
                    service: draw.pick(&gates),
                    part,
                    tuple: Tuple {
                        src: "203.0.113.9".parse().unwrap(),
                        dst: "10.0.1.10".parse().unwrap(),
                        proto: TCP,
                        sport: 1000,
                        dport: 8080,
                    },
                    kind: PacketKind::Whole,
                },
                action: FixedAction::Adjust(Adjust {
                    sequence: word(&mut draw),
                    acknowledgement: word(&mut draw),
                    window_shift,
                }),
                packet_events: 2,
                notice_events: 5,
                entry: word(&mut draw),
                slot: 5000,
                idle: Some(Duration::from_secs(60)),
            };
            let written = encoder.entry(&Entry::Fixed(entry)).unwrap();
            assert_eq!(encoder.decode_fixed(&written), Some(entry));
        }
    }
}
