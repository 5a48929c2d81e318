//! Filters: what they deny, what they let pass, and that they agree with the policy's meaning.

use super::balance::assert_routed;
use super::{Scenario, scenarios};
use crate::bench::{Bench, drop};
use crate::differential::{Draw, Pair};
use crate::frames::flags;
use crate::image::Image;
use crate::targets::Target;
use crate::world::World;

pub(super) const OWN: &[Scenario] = &[Scenario {
    name: "random_packets_fare_as_the_policy_says",
    settings: &[],
    needs: &[],
    run: random_packets_fare_as_the_policy_says,
}];

scenarios! {
    a_denied_source_is_dropped_and_counted in DeniedSource;
    what_is_not_allowed_is_dropped_and_its_answer_passes in OneWay;
}

fn a_denied_source_is_dropped_and_counted(bench: &Bench) {
    let source = bench.world.denied_source().unwrap();
    let mut path = bench.world.to_service(40_000);
    path.from.set_ip(source);
    let frame = path.tcp(flags::SYN, b"");
    bench.expect_drop(bench.world.client.port, &frame, drop::SERVICE);
    let filter = bench.world.filter().unwrap();
    let length = frame.len() as i64;
    let counted = filter
        .forward
        .criteria
        .iter()
        .map(|one| bench.counter(&filter.forward.stats, i64::from(one.id)))
        .collect::<Vec<_>>();
    assert_eq!(
        counted.iter().filter(|one| **one == (1, length)).count(),
        1,
        "{counted:?}"
    );
    assert_eq!(counted.iter().map(|one| one.0).sum::<i64>(), 1);
}

/// Every rule at once: what the evaluator says becomes of a packet, the target does.
fn random_packets_fare_as_the_policy_says(target: Target, image: &Image, world: &World) {
    let packets = match target {
        Target::Embedded | Target::Quirks => 300,
        Target::Grpc => 150,
        Target::Bmv2 => 60,
    };
    let mut draw = Draw::new(world.service.port().into());
    let pair = Pair::on(target, image, &mut draw);
    for _ in 0..packets {
        let (port, frame) = pair.frame(&mut draw);
        // A wire carries no empty frame.
        if frame.is_empty() {
            continue;
        }
        if let Err(difference) = pair.compare(port, &frame) {
            panic!("{difference}");
        }
    }
}

fn what_is_not_allowed_is_dropped_and_its_answer_passes(bench: &Bench) {
    let world = &bench.world;
    let (client, server) = (&world.client, &world.servers[0]);
    let (there, back) = (world.to_service(40_000), world.from_server(0, 40_000));
    bench.send(client.port, &there.tcp(flags::SYN, b""));
    assert_routed(&bench.expect(server.port), server, there.from, there.to);
    bench.send(server.port, &back.tcp(flags::SYN | flags::ACK, b""));
    assert_routed(&bench.expect(client.port), client, back.from, back.to);
    bench.expect_drop(server.port, &back.tcp(flags::SYN, b""), drop::SERVICE);
    bench.expect_drop(server.port, &back.udp(b"unasked"), drop::SERVICE);
}
