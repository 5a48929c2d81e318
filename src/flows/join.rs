//! The join: what stage k makes of a flow is what a later stage matches.

use super::{Connection, Step};

/// Puts flows together that are one connection: a flow that a stage matches in the form that an earlier one
/// has given it; and of services that keep no pair, the flow of the way back. Connections are in the order
/// of their tuples.
#[must_use]
pub fn connections(mut steps: Vec<Step>) -> Vec<Connection> {
    steps.sort_by(|a, b| {
        (a.flow.stage, &a.flow.flow, a.flow.age_ms).cmp(&(
            b.flow.stage,
            &b.flow.flow,
            b.flow.age_ms,
        ))
    });
    let (ways_back, steps): (Vec<Step>, Vec<Step>) =
        steps.into_iter().partition(|step| step.flow.reply_only);
    let mut chains: Vec<Vec<Step>> = Vec::new();
    for step in steps {
        let place = chains.iter().position(|chain| is_next(chain, &step));
        match place.and_then(|at| chains.get_mut(at)) {
            Some(chain) => chain.push(step),
            None => chains.push(vec![step]),
        }
    }
    // Of services that keep no pair, a chain of its own goes the way back: the first tuple of the way out,
    // turned round, for replies meet such services when they have been translated back. The older one of
    // two is the way out.
    let (mut alone, mut whole): (Vec<_>, Vec<_>) = (chains.into_iter())
        .partition(|chain: &Vec<Step>| chain.iter().all(|step| step.flow.back.is_none()));
    alone.sort_by_key(|chain| std::cmp::Reverse(chain.first().map(|step| step.flow.age_ms)));
    for mut chain in alone {
        let back = chain.first().map(|step| step.flow.flow.reversed());
        let place = whole.iter().position(|other| {
            other.first().map(|first| first.flow.flow) == back
                && other.iter().all(|step| !step.way_back)
        });
        match place.and_then(|at| whole.get_mut(at)) {
            Some(other) => {
                chain.iter_mut().for_each(|step| step.way_back = true);
                other.append(&mut chain);
            }
            None => whole.push(chain),
        }
    }
    whole.extend(ways_back.into_iter().map(|step| vec![step]));
    let mut list: Vec<Connection> = whole.into_iter().filter_map(connection).collect();
    list.sort_by(|a, b| (&a.flow, a.age_ms).cmp(&(&b.flow, b.age_ms)));
    list
}

/// Whether a step is the next one of a chain: at a later stage, on the tuple that the chain ends with.
fn is_next(chain: &[Step], step: &Step) -> bool {
    chain
        .last()
        .is_some_and(|last| last.flow.stage < step.flow.stage && last.out() == step.flow.flow)
}

fn connection(mut steps: Vec<Step>) -> Option<Connection> {
    steps.sort_by_key(|step| (step.way_back, step.flow.stage));
    let first = &steps.first()?.flow;
    // A service that keeps no pair counts the way back in another flow.
    let of_back = steps.iter().find(|step| step.way_back);
    let reply = match of_back {
        Some(back) if first.back.is_none() => back.flow.forward,
        _ => first.reply,
    };
    Some(Connection {
        flow: first.flow,
        text: first.text.clone(),
        state: first.state,
        age_ms: first.age_ms,
        forward: first.forward,
        reply,
        server: steps.iter().find_map(|step| step.server.clone()),
        steps,
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use signalbox_agent::flow::Tuple;
    use signalbox_agent::listing::{FlowState, FlowStatus};
    use signalbox_agent::message::Totals;

    use super::*;

    fn tuple(src: ([u8; 4], u16), dst: ([u8; 4], u16)) -> Tuple {
        Tuple {
            src: IpAddr::from(src.0),
            dst: IpAddr::from(dst.0),
            proto: 6,
            sport: src.1,
            dport: dst.1,
        }
    }

    fn step(stage: u8, flow: Tuple, to: Option<Tuple>, pair: bool) -> Step {
        let totals = |packets| Totals {
            packets,
            bytes: 60 * packets,
        };
        Step {
            flow: FlowStatus {
                service: format!("s{stage}"),
                stage,
                flow,
                text: flow.to_string(),
                decision: String::new(),
                translated: to,
                next_hop: None,
                back: pair.then(|| to.unwrap_or(flow).reversed()),
                reply_only: false,
                forward: totals(3),
                reply: totals(if pair { 2 } else { 0 }),
                manager: "m".into(),
                epoch: 1,
                state: FlowState::Established,
                age_ms: 5,
            },
            server: None,
            way_back: false,
        }
    }

    const CLIENT: ([u8; 4], u16) = ([203, 0, 113, 9], 40_000);
    const SERVICE: ([u8; 4], u16) = ([203, 0, 113, 80], 443);
    const SERVER: ([u8; 4], u16) = ([10, 0, 1, 10], 8080);
    const OUTSIDE: ([u8; 4], u16) = ([10, 9, 0, 1], 1024);

    fn shape(list: &[Connection]) -> Vec<Vec<(&str, bool)>> {
        (list.iter())
            .map(|c| {
                (c.steps.iter())
                    .map(|s| (s.flow.service.as_str(), s.way_back))
                    .collect()
            })
            .collect()
    }

    #[test]
    fn a_flow_through_a_cascade_is_one_whatever_the_order_of_the_list() {
        let steps = vec![
            step(3, tuple(OUTSIDE, SERVER), None, true),
            step(1, tuple(CLIENT, SERVICE), Some(tuple(CLIENT, SERVER)), true),
            step(2, tuple(CLIENT, SERVER), Some(tuple(OUTSIDE, SERVER)), true),
        ];
        for turn in 0..3 {
            let mut steps = steps.clone();
            steps.rotate_left(turn);
            let list = connections(steps);
            assert_eq!(
                shape(&list),
                [[("s1", false), ("s2", false), ("s3", false)]]
            );
            assert_eq!(list[0].flow, tuple(CLIENT, SERVICE));
            assert_eq!((list[0].forward.packets, list[0].reply.packets), (3, 2));
        }
    }

    #[test]
    fn flows_that_only_look_alike_stay_apart() {
        let other = ([203, 0, 113, 9], 40_001);
        let list = connections(vec![
            // The same stage never follows on itself, nor an earlier one on a later one.
            step(2, tuple(CLIENT, SERVICE), Some(tuple(CLIENT, SERVER)), true),
            step(1, tuple(CLIENT, SERVER), None, true),
            step(2, tuple(other, SERVICE), Some(tuple(other, SERVER)), true),
        ]);
        assert_eq!(
            shape(&list),
            [[("s1", false)], [("s2", false)], [("s2", false)]]
        );
    }

    #[test]
    fn a_flow_on_its_way_out_and_its_successor_are_two() {
        let flow = tuple(CLIENT, SERVICE);
        let to = Some(tuple(CLIENT, SERVER));
        let mut old = step(1, flow, to, true);
        old.flow.state = FlowState::Ending;
        old.flow.age_ms = 900;
        let mut old_next = step(2, tuple(CLIENT, SERVER), None, true);
        old_next.flow.age_ms = 900;
        let list = connections(vec![
            old,
            old_next,
            step(1, flow, to, true),
            step(2, tuple(CLIENT, SERVER), None, true),
        ]);
        assert_eq!(shape(&list), [[("s1", false), ("s2", false)]; 2]);
        for connection in &list {
            let ages: Vec<u64> = connection.steps.iter().map(|s| s.flow.age_ms).collect();
            assert_eq!(ages[0], ages[1]);
        }
    }

    #[test]
    fn the_way_back_of_a_service_without_pairs_belongs_to_its_connection() {
        let (there, back) = (tuple(CLIENT, SERVICE), tuple(SERVICE, CLIENT));
        // Balanced at stage 1; an observer above, at stage 2 and 3, sees what it has become.
        let list = connections(vec![
            step(1, there, None, false),
            step(1, back, None, false),
            step(2, there, Some(tuple(CLIENT, SERVER)), true),
        ]);
        assert_eq!(shape(&list), [[("s1", false), ("s2", false), ("s1", true)]]);
        // Alone, the two are one connection with both counts, and the older one is the way out.
        let mut older = step(1, back, None, false);
        older.flow.age_ms = 6;
        let list = connections(vec![step(1, there, None, false), older]);
        assert_eq!(shape(&list), [[("s1", false), ("s1", true)]]);
        assert_eq!(list[0].flow, back);
        assert_eq!((list[0].forward.packets, list[0].reply.packets), (3, 3));
    }
}
