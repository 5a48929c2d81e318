//! Idle entries: the wake-up call for an agent whose timers then decide.

use std::time::Duration;

use super::balance::flow;
use super::scenarios;
use crate::bench::Bench;
use crate::frames::flags;

scenarios! {
    an_idle_affinity_is_reported_and_stays in Balance;
}

fn an_idle_affinity_is_reported_and_stays(bench: &Bench) {
    let world = &bench.world;
    let entries = flow(bench, 46_000, 0, 6);
    bench.install_ageing(&entries, Duration::from_millis(300));
    bench.expect_idle(&entries);
    bench.send(
        world.client.port,
        &world.to_service(46_000).tcp(flags::ACK, b"still here"),
    );
    bench.expect(world.servers[0].port);
}
