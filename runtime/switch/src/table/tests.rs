//! Every kind of table against a linear scan.

use crate::sample::{Sample, once, param, send};
use crate::{ActionCall, Bits, ControlError, Entry, EntryHandle, Match, Switch, TableId};
use proptest::prelude::*;
use serde_json::json;

/// A switch with one table over three fields of an 11-byte header; entries set the egress port.
fn switch(match_type: &str, kinds: [&str; 3]) -> Switch {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 12), ("b", 4), ("c", 72)]);
    sample.action("to", &[("port", 9)], json!([send(param(0))]));
    let key = [
        (kinds[0], ["h", "a"]),
        (kinds[1], ["h", "b"]),
        (kinds[2], ["h", "c"]),
    ];
    sample.table(0, "t", match_type, &key, &["to"]);
    sample.switch()
}

const TABLE: TableId = TableId(0);
const WIDTHS: [usize; 3] = [12, 4, 72];

fn packet(key: [u128; 3]) -> Vec<u8> {
    let all = key[0] << 76 | key[1] << 72 | key[2];
    all.to_be_bytes()[5..].to_vec()
}

fn matches(pattern: &Match, value: u128, width: usize) -> bool {
    let number = |bits: &Bits| bits.to_u128().expect("a small value");
    match pattern {
        Match::Exact(bits) => number(bits) == value,
        Match::Ternary { value: v, mask } => number(v) == value & number(mask),
        Match::Lpm {
            value: v,
            prefix_len,
        } => number(v) >> (width - prefix_len) == value >> (width - prefix_len),
        Match::Range { low, high } => (number(low)..=number(high)).contains(&value),
        Match::Any => true,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert {
        key: Vec<Match>,
        priority: i32,
        port: u64,
    },
    Delete(usize),
    Packet([u128; 3]),
}

/// Values close together, so that packets hit and entries overlap.
fn value(width: usize) -> impl Strategy<Value = u128> {
    prop_oneof![
        0u128..4,
        Just((1u128 << width) - 1),
        any::<u128>().prop_map(|v| v & 3 | v & 8)
    ]
    .prop_map(move |v| v & ((1 << width) - 1))
}

fn pattern(kind: &'static str, width: usize) -> BoxedStrategy<Match> {
    let bits = |v: u128| Bits::from(v);
    match kind {
        "exact" => value(width)
            .prop_map(move |v| Match::Exact(bits(v)))
            .boxed(),
        "ternary" => (value(width), value(width))
            .prop_map(move |(v, m)| match m {
                0 => Match::Any,
                m => Match::Ternary {
                    value: bits(v & m),
                    mask: bits(m),
                },
            })
            .boxed(),
        "lpm" => (value(width), 0..=width)
            .prop_map(move |(v, prefix_len)| {
                let free = width - prefix_len;
                Match::Lpm {
                    value: bits(v >> free << free),
                    prefix_len,
                }
            })
            .boxed(),
        _ => (value(width), value(width))
            .prop_map(move |(a, b)| Match::Range {
                low: bits(a.min(b)),
                high: bits(a.max(b)),
            })
            .boxed(),
    }
}

fn steps(kinds: [&'static str; 3], priorities: bool) -> impl Strategy<Value = Vec<Step>> {
    let key = (
        pattern(kinds[0], 12),
        pattern(kinds[1], 4),
        pattern(kinds[2], 72),
    )
        .prop_map(|(a, b, c)| vec![a, b, c]);
    let priority = if priorities {
        (1..6i32).boxed()
    } else {
        Just(0).boxed()
    };
    let insert = (key, priority, 1..500u64).prop_map(|(key, priority, port)| Step::Insert {
        key,
        priority,
        port,
    });
    let delete = any::<prop::sample::Index>().prop_map(|i| Step::Delete(i.index(1 << 20)));
    let packet = (value(12), value(4), value(72)).prop_map(|(a, b, c)| Step::Packet([a, b, c]));
    prop::collection::vec(prop_oneof![4 => insert, 1 => delete, 5 => packet], 1..120)
}

struct Known {
    handle: EntryHandle,
    key: Vec<Match>,
    rank: i32,
    port: u64,
}

fn check(mut switch: Switch, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let action = switch
        .schema()
        .table_action(TABLE, "to")
        .expect("the action");
    let mut known: Vec<Known> = Vec::new();
    for step in steps {
        match step {
            Step::Insert {
                key,
                priority,
                port,
            } => {
                let call = ActionCall::new(action, [Bits::from(port)]);
                let entry = Entry::new(key.clone(), priority, call);
                let inserted = switch.table_insert(0, TABLE, entry);
                let found = switch.table_find(TABLE, &key, priority);
                match inserted {
                    Ok(handle) => {
                        prop_assert_eq!(found, Ok(handle));
                        let prefix = key.iter().find_map(|m| match m {
                            Match::Lpm { prefix_len, .. } if priority == 0 => Some(*prefix_len),
                            Match::Any if priority == 0 => Some(0),
                            _ => None,
                        });
                        let rank = prefix.map_or(priority, |n| n as i32);
                        known.push(Known {
                            handle,
                            key,
                            rank,
                            port,
                        });
                    }
                    Err(error) => {
                        prop_assert_eq!(error, ControlError::AlreadyExists);
                        prop_assert!(known.iter().any(|k| Ok(k.handle) == found));
                    }
                }
            }
            Step::Delete(index) if !known.is_empty() => {
                let gone = known.remove(index % known.len());
                prop_assert_eq!(switch.table_delete(TABLE, gone.handle), Ok(()));
                let again = switch.table_delete(TABLE, gone.handle);
                prop_assert_eq!(again, Err(ControlError::NotFound));
            }
            Step::Delete(_) => {}
            Step::Packet(key) => {
                let hit = known
                    .iter()
                    .filter(|k| {
                        k.key
                            .iter()
                            .zip(key)
                            .zip(WIDTHS)
                            .all(|((m, v), w)| matches(m, v, w))
                    })
                    .max_by_key(|k| (k.rank, std::cmp::Reverse(k.handle)));
                let out = once(&mut switch, 1, &packet(key));
                let port = hit.map_or(0, |hit| hit.port);
                prop_assert_eq!(u64::from(out[0].0), port, "key {:x?}", key);
            }
        }
        prop_assert_eq!(switch.table_len(TABLE), Ok(known.len()));
    }
    Ok(())
}

proptest! {
    // A10.1
    #[test]
    fn exact_tables_agree_with_a_scan(steps in steps(["exact", "exact", "exact"], false)) {
        check(switch("exact", ["exact"; 3]), steps)?;
    }

    // A10.1
    #[test]
    fn lpm_tables_agree_with_a_scan(steps in steps(["exact", "exact", "lpm"], false)) {
        check(switch("lpm", ["exact", "exact", "lpm"]), steps)?;
    }

    // A10.1
    #[test]
    fn ternary_tables_agree_with_a_scan(steps in steps(["ternary", "exact", "lpm"], true)) {
        check(switch("ternary", ["ternary", "exact", "lpm"]), steps)?;
    }

    #[test]
    fn wide_ternary_tables_agree_with_a_scan(steps in steps(["ternary", "ternary", "ternary"], true)) {
        check(switch("ternary", ["ternary"; 3]), steps)?;
    }

    #[test]
    fn range_tables_agree_with_a_scan(steps in steps(["range", "ternary", "range"], true)) {
        check(switch("range", ["range", "ternary", "range"]), steps)?;
    }
}

#[test]
fn a_tie_goes_to_the_lowest_place_and_a_freed_place_is_used_again() {
    let mut switch = switch("ternary", ["ternary", "ternary", "ternary"]);
    let action = switch.schema().table_action(TABLE, "to").unwrap();
    let add = |switch: &mut Switch, a: Match, port: u64| {
        let call = ActionCall::new(action, [Bits::from(port)]);
        switch
            .table_insert(
                0,
                TABLE,
                Entry::new(vec![a, Match::Any, Match::Any], 1, call),
            )
            .unwrap()
    };
    let bit = |n: u64| Match::Ternary {
        value: Bits::from(n),
        mask: Bits::from(n),
    };
    let first = add(&mut switch, bit(1), 1);
    add(&mut switch, bit(2), 2);
    assert_eq!(once(&mut switch, 0, &packet([3, 0, 0]))[0].0, 1);
    switch.table_delete(TABLE, first).unwrap();
    assert_eq!(once(&mut switch, 0, &packet([7, 0, 0]))[0].0, 2);
    add(&mut switch, bit(4), 4);
    assert_eq!(once(&mut switch, 0, &packet([7, 0, 0]))[0].0, 4);
}
