//! What is told arrives once and in order, whatever the way does; and what waits is bounded.

use signalbox_agent::channel::{FaultLine, Faults};

use super::*;
use crate::peer::Told;

const MS: Duration = Duration::from_millis(1);

/// A telling that stands for the change of this flow.
fn of(number: u64) -> Telling {
    Telling {
        stream: 0,
        sequence: 0,
        service: "web-lb".into(),
        share: 0,
        epoch: number,
        leads: true,
        body: Told::Begin,
    }
}

/// Tells all that may be told now.
fn tell(out: &mut Outgoing, now: Duration) -> Vec<Telling> {
    let mut said = Vec::new();
    while let Some(due) = out.next() {
        let number = match &due.item {
            Item::Change(Change::Of(number)) => *number,
            Item::Change(Change::Gone(_) | Change::Refused(_)) => 0,
            Item::Begin => 1_000_000,
            Item::Whole(request) => 2_000_000 + request,
        };
        said.push(out.sent(now, &due, of(number)));
    }
    said
}

fn opened() -> Outgoing {
    let mut out = Outgoing::default();
    assert!(out.opened(Duration::ZERO, (0, 0)).is_none(), "a new stream");
    out
}

/// Takes these in, and returns what they stand for.
fn hear(heard: &mut Incoming, said: Vec<Telling>) -> Vec<u64> {
    (said.into_iter())
        .filter(|t| heard.takes(Duration::ZERO, t, true))
        .map(|t| t.epoch)
        .collect()
}

#[test]
fn over_a_way_that_loses_doubles_and_delays_every_change_arrives_once_and_in_order() {
    for seed in 1..20 {
        let faults = Faults {
            seed,
            lose: 200,
            double: 200,
            delay: 300,
            by: 50 * MS,
        };
        let (mut there, mut back) = (FaultLine::new(faults), FaultLine::new(faults));
        let (mut out, mut heard) = (opened(), Incoming::default());
        let mut arrived = Vec::new();
        let mut now = Duration::ZERO;
        let mut pushed = 0;
        while arrived.len() < 100 || out.behind() > 0 {
            now += MS;
            assert!(now < Duration::from_secs(600), "seed {seed}: {arrived:?}");
            if pushed < 100 {
                pushed += 1;
                out.push(now, 0, Change::Of(pushed));
            }
            for telling in out.again(now).into_iter().chain(tell(&mut out, now)) {
                there.push(now, telling);
            }
            while let Some(telling) = there.pop(now) {
                if heard.takes(now, &telling, false) {
                    arrived.push(telling.epoch);
                }
            }
            if let Some(ack) = heard.acks(now) {
                back.push(now, ack);
            }
            while let Some(ack) = back.pop(now) {
                for telling in out.ack(now, ack).again {
                    there.push(now, telling);
                }
            }
        }
        assert_eq!(arrived, (1..=100).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(out.next_again(), None, "nothing is told again for ever");
    }
}

#[test]
fn changes_go_before_what_is_left_of_a_walk() {
    let mut out = opened();
    out.walk(0, (1..=2000).collect(), 0);
    let first = tell(&mut out, MS);
    assert_eq!(first.len(), 1024, "so many may be on their way");
    out.push(MS, 0, Change::Of(7));
    out.ack(MS, (1, 1));
    assert_eq!(tell(&mut out, MS)[0].epoch, 7);
    assert_eq!(out.behind(), 1);
    out.ack(MS, (1, 1025));
    assert_eq!(out.behind(), 0);
    let last = tell(&mut out, MS);
    assert_eq!(last.last().unwrap().epoch, 2_000_000);
    assert_eq!(out.ack(MS, (1, 2003)).whole, [0]);
}

#[test]
fn a_way_that_comes_back_goes_on_where_the_other_one_is() {
    let mut out = opened();
    let mut heard = Incoming::default();
    for n in 1..=4 {
        out.push(MS, 0, Change::Of(n));
    }
    let mut said = tell(&mut out, MS);
    said.truncate(2);
    assert_eq!(hear(&mut heard, said), [1, 2]);
    out.closed();
    out.push(MS, 0, Change::Of(5));
    let acked = out.opened(MS, heard.have()).expect("it can go on");
    assert_eq!(hear(&mut heard, acked.again), [3, 4]);
    assert_eq!(hear(&mut heard, tell(&mut out, MS)), [5]);

    // Another process has nothing of it.
    out.closed();
    assert!(out.opened(MS, (0, 0)).is_none());
    // Nor has one that speaks of what was never told.
    assert!(out.opened(MS, (2, 9)).is_none());
    out.push(MS, 0, Change::Of(6));
    assert_eq!(hear(&mut heard, tell(&mut out, MS)), [6], "a later stream");
    assert_eq!(heard.have(), (3, 1));
    // Whatever it says that it has.
    assert!(out.opened(MS, (u64::MAX, u64::MAX)).is_none());
    assert!(out.ack(MS, (7, u64::MAX)).again.is_empty());
}

#[test]
fn a_backlog_beyond_its_bound_is_forgotten_and_everything_told() {
    let mut out = opened();
    for n in 0..=BACKLOG as u64 {
        out.push(MS, 0, Change::Of(n));
    }
    assert_eq!(out.queue.len(), 0);
    assert_eq!(out.behind(), BACKLOG as u64 + 1);
    assert!(out.overflown());
    assert!(!out.overflown(), "it is said once");
    out.walk(0, vec![1, 2], 0);
    let said = tell(&mut out, MS);
    assert_eq!(said.len(), 4);
    assert_eq!(out.ack(MS, (1, 4)).whole, [0]);
    assert_eq!(out.behind(), 0, "the walk has told all of them");
}

#[test]
fn who_does_not_answer_is_told_one_message_ever_more_seldom() {
    let mut out = opened();
    for n in 0..10 {
        out.push(MS, 0, Change::Of(n));
    }
    tell(&mut out, Duration::ZERO);
    let mut times = Vec::new();
    let mut now = Duration::ZERO;
    while times.len() < 8 {
        now += 100 * MS;
        if let Some(telling) = out.again(now) {
            assert_eq!(telling.sequence, 1);
            times.push(now.as_millis());
        }
    }
    assert_eq!(times, [200, 600, 1400, 3000, 6200, 11200, 16200, 21200]);
    // It has lost the others.
    assert_eq!(out.ack(now, (1, 1)).again.len(), 9);
}

#[test]
fn the_end_of_a_walk_that_another_has_taken_the_place_of_makes_nothing_whole() {
    let mut out = opened();
    out.walk(0, vec![1], 0);
    assert_eq!(tell(&mut out, MS).len(), 3);
    // It is told anew, as under another epoch, while that is on its way.
    out.walk(0, vec![1, 2], 0);
    assert_eq!(tell(&mut out, MS).len(), 4);
    let acked = out.ack(MS, (1, 3));
    assert!(acked.any && acked.whole.is_empty(), "{:?}", acked.whole);
    assert_eq!(out.ack(MS, (1, 7)).whole, [0]);
}
