//! Agent and pipeline must name a packet's flow alike, whatever headers it has: else the agent writes an
//! entry that the packet does not meet. Random packets are read by the agent, an entry is written for
//! what it has read, and the switch must find it, with the events that the agent saw.

use bmv2_tests::bench::{Bench, Carried, bits, kind};
use bmv2_tests::differential::Draw;
use bmv2_tests::image::{Compiler, Image};
use bmv2_tests::targets::Target;
use bmv2_tests::world::World;
use signalbox_agent::packet::{self, View};
use signalbox_lower::entries::{Match, PlannedEntry, Value};
use signalbox_p4runtime::proto::p4::v1::update;

const ENTRY: u32 = 4711;
const EXTENSIONS: [u8; 5] = [0, 43, 44, 51, 60];

fn transport(draw: &mut Draw, proto: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..40).map(|_| draw.below(256) as u8).collect();
    let offset = 5 + draw.below(4);
    match proto {
        6 => {
            bytes[12] = (offset as u8) << 4;
            bytes.truncate(offset * 4 + draw.below(2));
        }
        1 | 58 => bytes[0] = draw.pick(&[0, 1, 2, 3, 4, 5, 8, 11, 12, 128, 129, 140]),
        _ => {}
    }
    bytes
}

fn ipv4(draw: &mut Draw) -> Vec<u8> {
    let proto = draw.pick(&[1, 6, 17, 50, 58]);
    let words = 5 + draw.below(3);
    let fragment = draw.pick(&[0, 0, 0, 0x4000, 0x2000, 0x2003, 7u16]);
    let body = transport(draw, proto);
    let total = (words * 4 + body.len()) as u16;
    let mut ip = vec![0x40 | words as u8, 0];
    ip.extend(total.to_be_bytes());
    ip.extend([0, 1]);
    ip.extend(fragment.to_be_bytes());
    ip.extend([64, proto, 0, 0, 203, 0, 113, 9, 203, 0, 113, 80]);
    ip.resize(words * 4, 1);
    let sum = packet::checksum(&[&ip]).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    ip.extend(body);
    packet::frame([2; 6], [4; 6], packet::TYPE_IPV4, &ip)
}

fn ipv6(draw: &mut Draw) -> Vec<u8> {
    let chain: Vec<u8> = (0..draw.below(7)).map(|_| draw.pick(&EXTENSIONS)).collect();
    let proto = draw.pick(&[1, 6, 17, 50, 58, 59]);
    let mut after = chain.iter().skip(1).chain([&proto]);
    let mut body = Vec::new();
    for number in &chain {
        let length: u8 = draw.pick(&[0, 0, 1, 2, 5, 30, 31, 32, 33, 64]);
        let size = match number {
            44 => 8,
            51 => usize::from(length) * 4 + 8,
            _ => usize::from(length) * 8 + 8,
        };
        let mut header = vec![0; size];
        header[0] = *after.next().unwrap();
        header[1] = if *number == 44 { 0 } else { length };
        if *number == 44 {
            header[3] = draw.pick(&[0, 0, 1, 6, 8, 9]);
        }
        body.extend(header);
    }
    body.extend(transport(draw, proto));
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend((body.len() as u16).to_be_bytes());
    ip.extend([*chain.first().unwrap_or(&proto), 64]);
    ip.extend([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    ip.extend([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80]);
    ip.extend(body);
    packet::frame([2; 6], [4; 6], packet::TYPE_IPV6, &ip)
}

fn entry(table: &str, view: &View, packet_events: u16) -> PlannedEntry {
    let control = table.rsplit_once('.').unwrap().0;
    let t = view.tuple;
    PlannedEntry {
        table: table.to_owned(),
        matches: vec![
            ("src", Match::Exact(Value::Addr(t.src))),
            ("dst", Match::Exact(Value::Addr(t.dst))),
            ("proto", Match::Exact(bits(t.proto, 8))),
            ("sport", Match::Exact(bits(t.sport, 16))),
            ("dport", Match::Exact(bits(t.dport, 16))),
            ("kind", Match::Exact(bits(view.kind as u8, 2))),
        ],
        priority: 0,
        action: format!("{control}.forward"),
        params: vec![
            ("packet_events", bits(packet_events, 10)),
            ("notice_events", bits(0u8, 10)),
            ("entry", bits(ENTRY, 32)),
            ("slot", bits(0u8, 32)),
        ],
    }
}

// A10.8
#[test]
fn agent_and_pipeline_name_the_flows_of_random_packets_alike() {
    let image = Image::example("web6", Compiler::Ours);
    let world = &World::all(&image)[0];
    let bench = Bench::ready(Target::Embedded, &image, world);
    let service = world.balance();
    let table = service.forward.fixed.clone().unwrap();
    let resume = Carried {
        kind: 1,
        part: 2,
        stage: u64::from(service.stage),
        port: 1,
        ..Carried::default()
    };
    let mut compared = 0;
    for seed in 0..600 {
        let draw = &mut Draw::new(seed);
        let frame = if draw.once_in(4) {
            ipv4(draw)
        } else {
            ipv6(draw)
        };
        let mut bytes = resume.bytes().to_vec();
        bytes.extend(&frame);
        let refused = |pass: &bmv2_tests::bench::Pass| pass.drops.contains_key(&2);
        if refused(&bench.pass(510, &bytes)) {
            // The parser has run into the packet's end.
            continue;
        }
        let view = packet::view(&frame)
            .unwrap_or_else(|| panic!("seed {seed}: the agent cannot read {frame:02x?}"));
        compared += 1;
        for bit in 0..10 {
            let how = if bit == 0 {
                update::Type::Insert
            } else {
                update::Type::Modify
            };
            bench.write(how, &[entry(&table, &view, 1 << bit)]).unwrap();
            let pass = bench.pass(510, &bytes);
            let met = pass.out.iter().any(|(_, out)| {
                let (carried, _) = Carried::parse(out);
                carried.kind == kind::INTEREST && carried.entry == u64::from(ENTRY)
            });
            assert_eq!(
                met,
                view.events & (1 << bit) != 0,
                "seed {seed}, event {bit}, {view:?}: {frame:02x?}"
            );
        }
        bench.remove(&[entry(&table, &view, 0)]);
    }
    assert!(compared > 400, "only {compared} could be compared");
}
