//! What better targets than bmv2 give an agent: writes that hold as a whole, and room for bursts.

use super::balance::flow;
use super::scenarios;
use crate::bench::{Bench, kind};
use crate::frames::flags;

scenarios! {
    a_batch_with_one_refused_write_changes_nothing in Balance needs AtomicWrites;
    a_burst_of_new_connections_reaches_the_agent_whole in Balance needs DeepCpuQueue;
}

fn a_batch_with_one_refused_write_changes_nothing(bench: &Bench) {
    let world = &bench.world;
    let known = flow(bench, 47_000, 0, 6);
    bench.install(&known);
    let new = flow(bench, 47_001, 0, 6);
    let refused = bench.install_as_one(&[&new[..], &known].concat());
    assert!(refused.is_err(), "an entry was inserted twice");
    let frame = world.to_service(47_001).tcp(flags::SYN, b"");
    bench.send(world.client.port, &frame);
    let (carried, _) = bench.expect_to_agent();
    assert_eq!(carried.kind, kind::INTEREST, "the new flow is not in");
    bench.install_as_one(&new).unwrap();
    bench.send(world.client.port, &frame);
    bench.expect(world.servers[0].port);
}

fn a_burst_of_new_connections_reaches_the_agent_whole(bench: &Bench) {
    let world = &bench.world;
    let frames: Vec<Vec<u8>> = (48_000..48_300)
        .map(|port| world.to_service(port).tcp(flags::SYN, b""))
        .collect();
    for frame in &frames {
        bench.send(world.client.port, frame);
    }
    for frame in &frames {
        assert_eq!(&bench.expect_to_agent().1, frame, "in the order of arrival");
    }
}
