//! Look-up against a linear scan: what managers have installed, in their own words, says what becomes of a
//! packet; the agent's entries on the stand-in switch must do the same (A10.1).

use proptest::prelude::*;
use signalbox_lower::plan::{Cube, Fallback, ManagerPlan, Masked, MaskedAddr, SharePlan};

use super::*;

/// Hosts and ports are few, so that things meet.
fn host(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 1 + n / 4, 10 + n % 4])
}

fn tuple((src, dst, sport, dport): (u8, u8, u8, u8)) -> Tuple {
    Tuple {
        src: host(src),
        dst: host(dst),
        proto: 6,
        sport: 100 + u16::from(sport),
        dport: 200 + u16::from(dport),
    }
}

fn tuples() -> impl Strategy<Value = Tuple> {
    (0..8u8, 0..8u8, 0..2u8, 0..2u8).prop_map(tuple)
}

fn cubes() -> impl Strategy<Value = Cube> {
    let masked = |range: std::ops::Range<u8>| {
        prop::option::of(range.prop_map(host)).prop_map(|a| {
            a.map(|value| MaskedAddr {
                value,
                mask: IpAddr::from([255; 4]),
            })
        })
    };
    let port = |base: u16| {
        prop::option::of((0..2u16).prop_map(move |n| Masked {
            value: base + n,
            mask: 0xffff,
        }))
    };
    (masked(0..8), masked(0..8), port(100), port(200)).prop_map(|(src, dst, sport, dport)| Cube {
        src,
        dst,
        sport,
        dport,
        ..Cube::default()
    })
}

/// A manager's criterion that asks nobody: it drops, or lets pass.
fn static_criteria() -> impl Strategy<Value = Vec<(Cube, i32, bool)>> {
    prop::collection::vec((cubes(), 2..50i32, any::<bool>()), 0..6)
}

#[derive(Debug, Clone)]
struct Wild {
    forward: Vec<(Cube, i32, bool)>,
    reply: Vec<(Cube, i32, bool)>,
    floor_drops: bool,
}

#[derive(Debug, Clone)]
enum Doing {
    Forward,
    Drop,
    /// To another tuple, and back.
    Translate(Tuple),
}

fn fixed() -> impl Strategy<Value = Vec<(usize, Tuple, Doing)>> {
    let doing = prop_oneof![
        Just(Doing::Forward),
        Just(Doing::Drop),
        tuples().prop_map(Doing::Translate),
        tuples().prop_map(Doing::Translate),
    ];
    prop::collection::vec((0..3usize, tuples(), doing), 0..12)
}

fn wild() -> impl Strategy<Value = Wild> {
    (static_criteria(), static_criteria(), any::<bool>()).prop_map(
        |(forward, reply, floor_drops)| Wild {
            forward,
            reply,
            floor_drops,
        },
    )
}

/// A plan of translating services that may do anything with anything.
fn open_plan(services: &[Wild]) -> Plan {
    let mut p = plan();
    let model = p.services.remove(0);
    p.managers.clear();
    for (wild, n) in services.iter().zip(1u8..) {
        let mut s = model.clone();
        s.name = format!("s{n}");
        s.stage = n;
        s.shares = vec![SharePlan::whole(&format!("m{n}"))];
        s.balance = None;
        s.addresses.clear();
        s.fallback = if wild.floor_drops {
            Fallback::Drop
        } else {
            Fallback::Route
        };
        for part in std::iter::once(&mut s.forward).chain(&mut s.reply) {
            part.criteria.truncate(1);
            part.criteria[0].cubes = vec![Cube::default()];
        }
        p.managers.push(ManagerPlan {
            name: format!("m{n}"),
            serves: vec![s.name.clone()],
            backs: Vec::new(),
        });
        p.services.push(s);
    }
    p
}

/// What is installed, as lists.
#[derive(Default)]
struct Oracle {
    fixed: Vec<(usize, Part, Tuple, Option<Tuple>, bool)>,
}

impl Oracle {
    /// Where a packet ends: dropped, or on to the route as this tuple.
    fn fate(&self, services: &[Wild], packet: Tuple) -> Option<Tuple> {
        let count = services.len();
        let (mut t, mut reply) = (packet, false);
        let order = ((0..count).rev().map(|s| (s, Part::Reply)))
            .chain((0..count).map(|s| (s, Part::Forward)));
        for (s, part) in order {
            if part == Part::Forward && reply {
                continue;
            }
            let exact = (self.fixed.iter()).find(|(at, p, m, ..)| (*at, *p, *m) == (s, part, t));
            if let Some((.., to, drops)) = exact {
                if *drops {
                    return None;
                }
                if let Some(to) = to {
                    t = *to;
                    reply |= part == Part::Reply;
                }
                continue;
            }
            let wild = &services[s];
            let list = if part == Part::Forward {
                &wild.forward
            } else {
                &wild.reply
            };
            let has = |c: &Cube| {
                let addr = |m: Option<MaskedAddr>, a| m.is_none_or(|m| m.value == a);
                let port = |m: Option<Masked<u16>>, n| m.is_none_or(|m| m.value == n);
                addr(c.src, t.src)
                    && addr(c.dst, t.dst)
                    && port(c.sport, t.sport)
                    && port(c.dport, t.dport)
            };
            let best = list
                .iter()
                .filter(|(c, ..)| has(c))
                .max_by_key(|(_, priority, _)| *priority);
            let drops = best.map_or(wild.floor_drops, |(.., drops)| *drops);
            if drops {
                return None;
            }
        }
        Some(t)
    }
}

fn say_as(w: &mut World, s: usize, body: ManagerBody) {
    let session = s as u64 + 1;
    say_about(w, session, &format!("s{}", s + 1), body);
}

fn criteria_list(wild: &Wild) -> Vec<Criterion> {
    let of = |part, list: &[(Cube, i32, bool)]| -> Vec<Criterion> {
        (list.iter().zip(1..))
            .map(|((cube, priority, drops), id)| Criterion {
                id,
                part,
                priority: *priority,
                interest: InterestMask::default(),
                asking: Asking::OnceAFlow,
                action: if *drops {
                    StaticAction::Drop
                } else {
                    StaticAction::Pass
                },
                statistics: Statistics::default(),
                cubes: vec![cube.clone()],
                needs: Vec::new(),
            })
            .collect()
    };
    let mut all = of(Part::Forward, &wild.forward);
    all.extend(of(Part::Reply, &wild.reply));
    all
}

/// Installs everything through the agent; what it has accepted is the oracle's too.
fn build(services: &[Wild], fixed: &[(usize, Tuple, Doing)]) -> (World, Oracle) {
    let mut w = World::new(open_plan(services));
    let mut oracle = Oracle::default();
    for (s, wild) in services.iter().enumerate() {
        let session = s as u64 + 1;
        w.feed(Input::SessionOpened(session));
        let hello = Hello {
            instance: 0,
            version: VERSION,
            manager: format!("m{}", s + 1).into(),
            plan_hash: 0,
            claims: Vec::new(),
        };
        say_as(&mut w, s, ManagerBody::Hello(hello));
        let list = criteria_list(wild);
        say_as(
            &mut w,
            s,
            ManagerBody::Criteria(Criteria { version: 1, list }),
        );
    }
    for (n, (s, match_, doing)) in fixed.iter().enumerate() {
        let s = s % services.len();
        let mut list = balanced(*match_, n as u64 + 1, SERVER);
        for a in &mut list {
            a.track_close = false;
        }
        match doing {
            Doing::Translate(to) => {
                list[0].actions = vec![Action::Translate(*to)];
                list[0].partner = Some(to.reversed());
                list[1].tuple = to.reversed();
            }
            Doing::Forward | Doing::Drop => {
                list.truncate(1);
                list[0].partner = None;
                let drops = matches!(doing, Doing::Drop);
                list[0].actions = vec![if drops { Action::Drop } else { Action::Forward }];
            }
        }
        w.said.clear();
        let affinities = list.clone();
        let request = n as u64;
        say_as(
            &mut w,
            s,
            ManagerBody::Install {
                request,
                affinities,
            },
        );
        if !denials(&w).is_empty() {
            // Another live flow has one of the tuples.
            continue;
        }
        // A decision for a tuple that was decided before takes its place, partner and all.
        let tuples: Vec<(Part, Tuple)> = list.iter().map(|a| (a.part, a.tuple)).collect();
        let same =
            |(at, p, m, ..): &&(usize, Part, Tuple, _, _)| *at == s && tuples.contains(&(*p, *m));
        let gone: Vec<Tuple> = oracle
            .fixed
            .iter()
            .filter(same)
            .map(|(_, p, m, to, _)| match (p, to) {
                (Part::Reply, Some(to)) => to.reversed(),
                _ => *m,
            })
            .collect();
        oracle.fixed.retain(|(at, p, m, to, _)| {
            let forward = match (p, to) {
                (Part::Reply, Some(to)) => to.reversed(),
                _ => *m,
            };
            *at != s || !gone.contains(&forward)
        });
        let drops = matches!(doing, Doing::Drop);
        for a in &list {
            let to = match a.actions[..] {
                [Action::Translate(to)] => Some(to),
                _ => None,
            };
            oracle.fixed.push((s, a.part, a.tuple, to, drops));
        }
    }
    (w, oracle)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    // A10.1, A4.1, A4.2, A4.3, A4.5, A4.8
    #[test]
    fn exact_entries_come_before_criteria_and_criteria_by_priority_as_in_a_linear_scan(
        services in prop::collection::vec(wild(), 2..4),
        fixed in fixed(),
        packets in prop::collection::vec(tuples(), 1..40),
    ) {
        // Two criteria of one priority that both match are an error of the policy, not of the look-up.
        let distinct = |list: &[(Cube, i32, bool)]| {
            let mut seen: Vec<i32> = list.iter().map(|(_, p, _)| *p).collect();
            seen.sort_unstable();
            seen.windows(2).all(|p| p[0] != p[1])
        };
        prop_assume!(services.iter().all(|w| distinct(&w.forward) && distinct(&w.reply)));
        let (mut w, oracle) = build(&services, &fixed);
        prop_assert_eq!(w.switch.fixed.len(), oracle.fixed.len());
        let mut met = fixed.iter().map(|(_, t, _)| *t).collect::<Vec<_>>();
        met.extend(oracle.fixed.iter().map(|(_, _, t, ..)| *t));
        met.extend(packets);
        for packet in met {
            let expected = oracle.fate(&services, packet);
            // Before neighbours: nothing of this is about them.
            let way = w.switch.fate(1, &tcp(1, &packet, flags::ACK, b""));
            prop_assert_eq!(way, expected, "{}", packet);
        }
    }
}
