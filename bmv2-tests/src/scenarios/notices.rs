//! Notices: a copy, cut short, while the packet itself goes on.

use super::balance::{assert_routed, flow};
use super::{scenarios, slot};
use crate::bench::{Bench, bits, kind};
use crate::frames::flags;

scenarios! {
    a_notice_is_a_short_copy_and_the_packet_goes_on in Balance;
    an_event_outside_the_masks_stays_quiet in Balance;
}

const FIN: u16 = 1;
/// A notice shows at most so much of a packet.
const NOTICE: usize = 128;

/// Installs a flow whose FINs are noticed, and gives the frames of a packet with and without one.
fn noticed(bench: &Bench) -> (Vec<u8>, Vec<u8>) {
    let [reply, mut forward] = flow(bench, 45_000, 0, 6);
    for (name, value) in &mut forward.params {
        match *name {
            "notice_events" => *value = bits(FIN, 10),
            "entry" => *value = bits(0x1234_5678_u32, 32),
            _ => {}
        }
    }
    bench.install(&[reply, forward]);
    let path = bench.world.to_service(45_000);
    (
        path.tcp(flags::FIN | flags::ACK, &[5; 400]),
        path.tcp(flags::ACK, &[5; 400]),
    )
}

fn a_notice_is_a_short_copy_and_the_packet_goes_on(bench: &Bench) {
    let world = &bench.world;
    let (with_fin, _) = noticed(bench);
    bench.send(world.client.port, &with_fin);
    let sent = bench.expect(world.servers[0].port);
    let path = world.to_service(45_000);
    let server = world.from_server(0, 45_000).from;
    assert_routed(&sent, &world.servers[0], path.from, server);
    let (carried, packet) = bench.expect_to_agent();
    assert_eq!(carried.kind, kind::NOTICE);
    assert_eq!(carried.entry, 0x1234_5678);
    assert_eq!(carried.port, u64::from(world.client.port));
    let stage = u32::from(world.balance().stage);
    assert_eq!(carried.notices, u64::from(1u32 << (stage - 1)));
    assert_eq!(packet.len(), NOTICE);
    assert_eq!(
        packet,
        with_fin[..NOTICE],
        "a notice shows the packet as it arrived"
    );
    let stats = &world.balance().forward.stats;
    assert_eq!(
        bench.counter(stats, slot(bench).into()).0,
        1,
        "counted once"
    );
}

fn an_event_outside_the_masks_stays_quiet(bench: &Bench) {
    let world = &bench.world;
    let (_, without_fin) = noticed(bench);
    bench.send(world.client.port, &without_fin);
    bench.expect(world.servers[0].port);
    bench.expect_nothing();
}
