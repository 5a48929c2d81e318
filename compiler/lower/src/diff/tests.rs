//! Diffs of lists and of plans.

use proptest::prelude::*;

use super::*;
use crate::lower;

fn plan(text: &str) -> Plan {
    let checked = signalbox_policy::check(text, "web.policy");
    let policy = checked
        .policy
        .unwrap_or_else(|| panic!("{:#?}\n{text}", checked.diagnostics));
    lower(&policy).unwrap().plan
}

/// A policy with parts that may differ.
#[derive(Debug, Clone)]
struct Variant {
    route: bool,
    neighbour: Option<u8>,
    servers: Vec<(u8, u8)>,
    rules: Vec<(bool, u8)>,
    guard: bool,
    last: bool,
    port: u16,
    ordered: bool,
    deny: bool,
}

impl Variant {
    fn text(&self) -> String {
        let mut text = String::from(
            "network {\n  port 1 clients { address 203.0.113.1/24 }\n  port 2 rack { address 10.0.1.1/24 }\n",
        );
        if self.route {
            text += "  route 10.9.0.0/16 via 10.0.1.99\n";
        }
        if let Some(mac) = self.neighbour {
            text += &format!("  neighbour 10.0.1.10 at 02:00:00:00:01:{mac:02x} on rack\n");
        }
        text += "}\npool web {\n";
        let mut servers = self.servers.clone();
        servers.sort_unstable();
        servers.dedup_by_key(|s| s.0);
        if !self.ordered {
            servers.reverse();
        }
        for (host, weight) in servers {
            text += &format!("  10.0.1.{host}:8080 weight {weight}\n");
        }
        text += "}\n";
        if self.guard {
            text += "service guard : filter {\n";
            let mut rules = self.rules.clone();
            rules.sort_unstable_by_key(|r| r.1);
            rules.dedup_by_key(|r| r.1);
            for (deny, net) in rules {
                let word = if deny { "deny" } else { "allow" };
                text += &format!("  {word} ip.src 198.51.{net}.0/24\n");
            }
            text += if self.deny {
                "  default deny\n}\n"
            } else {
                "}\n"
            };
        }
        text += &format!(
            "service web-lb : balance {{\n  match tcp.dst 203.0.113.80:{}\n  pick from @web by weighted\n}}\n",
            self.port
        );
        text += match (self.guard, self.last) {
            (true, true) => "cascade web-lb > guard\n",
            (true, false) => "cascade guard > web-lb\n",
            (false, _) => "cascade web-lb\n",
        };
        text + "managers {\n  lb-1 serves web-lb\n}\n"
    }
}

fn variants() -> impl Strategy<Value = Variant> {
    (
        any::<bool>(),
        proptest::option::of(1u8..9),
        proptest::collection::vec((10u8..16, 1u8..5), 1..5),
        proptest::collection::vec((any::<bool>(), 0u8..6), 0..5),
        any::<bool>(),
        any::<bool>(),
        prop_oneof![Just(80u16), Just(443)],
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(route, neighbour, servers, rules, guard, last, port, ordered, deny)| Variant {
                route,
                neighbour,
                servers,
                rules,
                guard,
                last,
                port,
                ordered,
                deny,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn applying_what_changes_from_one_list_to_another_gives_the_other(
        before in proptest::collection::vec((0u8..6, 0u8..3), 0..12),
        after in proptest::collection::vec((0u8..6, 0u8..3), 0..12),
    ) {
        let key = |e: &(u8, u8)| e.0;
        let edits = Edits::between(&before, &after, key);
        prop_assert_eq!(edits.apply(&before, key), after.clone());
        prop_assert_eq!(edits.is_empty(), before == after);
    }

    #[test]
    fn applying_what_changes_from_one_plan_to_another_gives_the_other(
        before in variants(),
        after in variants(),
    ) {
        let (before, after) = (plan(&before.text()), plan(&after.text()));
        let found = diff(&before, &after);
        prop_assert_eq!(&found.apply(&before), &after);
        prop_assert_eq!(found.is_empty(), before == after);
        // Nothing changes without a word to the operator.
        prop_assert!(
            found.is_empty() || !found.changes().is_empty() || found.services.is_reordered() || found.program,
            "{:?}", found
        );
        // Whether the program is another one is a matter of the tables and their order alone.
        let tables = |plan: &Plan| -> Vec<(String, u8)> {
            plan.services.iter().map(service_key).collect()
        };
        prop_assert_eq!(found.program, tables(&before) != tables(&after));
    }
}

const WEB: &str = "\
network {
  port 1 clients { address 203.0.113.1/24 }
  port 2 rack    { address 10.0.1.1/24 }
}
pool web {
  10.0.1.10:8080 weight 1
  10.0.1.11:8080 weight 1
}
service guard : filter {
  deny ip.src 198.51.100.0/24
}
service web-lb : balance {
  match tcp.dst 203.0.113.80:80
  pick from @web by weighted
}
cascade guard > web-lb
managers {
  lb-1 serves web-lb
}
";

fn lines(after: &str) -> Vec<String> {
    let found = diff(&plan(WEB), &plan(after));
    (found.changes().iter())
        .map(|c| {
            let service = c
                .service
                .as_deref()
                .map_or(String::new(), |s| format!("{s}: "));
            let text = format!("{:?} {service}{} {}", c.change, c.what, c.name);
            match (&c.from, &c.to) {
                (Some(from), Some(to)) => format!("{text}: {from} -> {to}"),
                _ => text,
            }
        })
        .collect()
}

#[test]
fn a_rule_a_server_and_a_route_are_each_a_line_and_no_other_program() {
    let after = WEB
        .replace("weight 1\n  10.0.1.11", "weight 3\n  10.0.1.12")
        .replace("198.51.100.0/24", "198.51.100.0/25")
        .replace(
            "1.1/24 }\n}",
            "1.1/24 }\n  route 10.9.0.0/16 via 10.0.1.9\n}",
        );
    assert!(!diff(&plan(WEB), &plan(&after)).program);
    assert_eq!(
        lines(&after),
        [
            "Added route 10.9.0.0/16 via 10.0.1.9 on port 2",
            "Removed guard: criterion deny ip.src 198.51.100.0/24",
            "Added guard: criterion deny ip.src 198.51.100.0/25",
            "Changed web-lb: reply criterion replies of @web: 2 entries -> 2 entries",
            "Removed web-lb: server 10.0.1.11:8080 weight 1",
            "Added web-lb: server 10.0.1.12:8080 weight 1",
            "Changed web-lb: server 10.0.1.10:8080: weight 1 -> weight 3",
        ]
    );
}

#[test]
fn a_service_more_is_another_program() {
    let after = WEB
        .replace(
            "cascade guard",
            "service late : filter {\n  deny udp\n}\ncascade guard",
        )
        .replace("guard > web-lb", "guard > web-lb > late");
    assert!(diff(&plan(WEB), &plan(&after)).program);
    assert_eq!(lines(&after), ["Added service late"]);
}

#[test]
fn what_stays_denied_or_allowed_is_so_at_every_step_of_a_change() {
    // The order of the switch's updates: what is new goes in first, what is old goes last. A packet
    // that both plans treat alike is treated so throughout.
    let net = |n: u8| format!("198.51.{n}.0/24");
    let filter = |rules: &str, default: &str| {
        WEB.replace("  deny ip.src 198.51.100.0/24\n", rules)
            .replace("}\nservice web-lb", &format!("{default}}}\nservice web-lb"))
    };
    let allow = |n: u8| format!("  allow ip.src {}\n", net(n));
    let deny = |n: u8| format!("  deny ip.src {}\n", net(n));
    let texts = [
        filter(&(allow(1) + &allow(2)), "  default deny\n"),
        filter(&deny(3), ""),
        filter(&(allow(2) + &deny(1)), "  default deny\n"),
        filter(&(deny(1) + &deny(4)), ""),
    ];
    for before in &texts {
        for after in &texts {
            let (a, b) = (plan(before), plan(after));
            let entries = |p: &Plan| -> Vec<_> {
                (p.static_entries().into_iter())
                    .filter(|e| e.table.contains("guard"))
                    .collect()
            };
            let key = |e: &crate::entries::PlannedEntry| e.key();
            let (old, new) = (entries(&a), entries(&b));
            let edits = Edits::between(&old, &new, key);
            let mut table = old.clone();
            let mut steps = vec![table.clone()];
            for entry in &edits.added {
                table.push(entry.clone());
                steps.push(table.clone());
            }
            for (from, to) in &edits.changed {
                table.retain(|e| e != from);
                table.push(to.clone());
                steps.push(table.clone());
            }
            for entry in &edits.removed {
                table.retain(|e| e != entry);
                steps.push(table.clone());
            }
            let sorted = |mut list: Vec<crate::entries::PlannedEntry>| {
                list.sort_by_key(key);
                list
            };
            assert_eq!(sorted(table), sorted(new.clone()));
            for source in 1..=5 {
                let verdicts: Vec<Vec<String>> = steps.iter().map(|t| verdict(t, source)).collect();
                let (first, last) = (&verdicts[0], &verdicts[verdicts.len() - 1]);
                if first == last {
                    assert!(
                        verdicts.iter().all(|v| v == first),
                        "source {source}: {verdicts:?}"
                    );
                }
            }
        }
    }
}

/// What the best entries say of a packet from 198.51.SOURCE.1; more than one when they disagree.
fn verdict(table: &[crate::entries::PlannedEntry], source: u8) -> Vec<String> {
    use crate::entries::{Match, Value};
    let packet = IpAddr::from([198, 51, source, 1]);
    let bits = |a: IpAddr| match a {
        IpAddr::V4(a) => u32::from(a),
        IpAddr::V6(_) => 0,
    };
    let hits = |e: &crate::entries::PlannedEntry| {
        e.matches.iter().all(|(name, m)| match (*name, m) {
            (
                "src",
                Match::Ternary {
                    value: Value::Addr(value),
                    mask: Value::Addr(mask),
                },
            ) => bits(packet) & bits(*mask) == bits(*value),
            _ => true,
        })
    };
    let best = (table.iter().filter(|e| hits(e))).map(|e| e.priority).max();
    let mut says: Vec<String> = (table.iter())
        .filter(|e| hits(e) && Some(e.priority) == best)
        .map(|e| e.action.clone())
        .collect();
    says.sort();
    says.dedup();
    says
}
