//! Policies far larger than anybody writes by hand: they are checked, or refused with a message; and what
//! is written in many words costs no more entries than what is written in few.

use signalbox_policy::{check, fmt};

use crate::texts::NETWORK;

fn codes(clauses: &str) -> Vec<&'static str> {
    let text = format!("{NETWORK}service f : filter {{ {clauses} }}\n");
    let checked = check(&text, "t.policy");
    checked.diagnostics.iter().map(|d| d.code).collect()
}

fn address(i: u32) -> std::net::Ipv4Addr {
    // Spread, so that no two are neighbours.
    std::net::Ipv4Addr::from(0x0a00_0000 | i.wrapping_mul(0x9e37_79b9) >> 8)
}

fn joined(word: &str, count: u32, term: impl Fn(u32) -> String) -> String {
    let terms: Vec<String> = (0..count).map(term).collect();
    format!("deny {}", terms.join(word))
}

#[test]
fn a_condition_of_many_terms_is_read_and_does_not_overflow_the_stack() {
    let same = |_| "ip.src 192.0.2.1".to_owned();
    assert_eq!(codes(&joined(" or ", 20_000, same)), [""; 0]);
    assert_eq!(codes(&joined(" and ", 20_000, same)), [""; 0]);
    let pair = |_| "(ip.src 192.0.2.1 or udp)".to_owned();
    assert_eq!(codes(&joined(" and ", 5_000, pair)), [""; 0]);
    let flags = |_| "tcp.syn and port clients".to_owned();
    assert_eq!(codes(&joined(" or ", 5_000, flags)), [""; 0]);
    let apart = |i| format!("ip.src {}", address(i));
    assert_eq!(codes(&joined(" or ", 20_000, apart)), ["too-many-entries"]);
    assert_eq!(codes(&joined(" and ", 20_000, apart)), ["matches-nothing"]);
    let nots = format!("deny {}tcp", "not ".repeat(100_000));
    assert_eq!(codes(&nots), ["too-deep"]);
    let open = format!("deny {}tcp", "(".repeat(100_000));
    assert_eq!(codes(&open)[0], "too-deep");
    let long = format!(
        "{NETWORK}service f : filter {{ {} }}\n",
        joined(" or ", 20_000, apart)
    );
    let formed = fmt(&long);
    assert_eq!(fmt(&formed), formed);
}

#[test]
fn a_list_costs_the_same_however_it_is_written() {
    let cubes = |condition: &str| {
        let text = format!("{NETWORK}service f : filter {{ {condition} }}\n");
        match &crate::texts::policy(&text).services[0].kind {
            signalbox_policy::model::ServiceKind::Filter(f) => f.rules[0].criteria.cubes.clone(),
            _ => Vec::new(),
        }
    };
    let term = |i| format!("ip.src {}", address(i));
    let list: Vec<String> = (0..900).map(|i| address(i).to_string()).collect();
    let as_list = format!("deny ip.src in {{ {} }}", list.join(", "));
    assert_eq!(cubes(&joined(" or ", 900, term)), cubes(&as_list));
    let term = |i| format!("not ip.src {}", address(i));
    let few = list[..20].join(", ");
    assert_eq!(
        cubes(&joined(" and ", 20, term)),
        cubes(&format!("deny not ip.src in {{ {few} }}"))
    );
    // The opposite of 30 endpoints is little more than that of 30 addresses.
    let endpoints: Vec<String> = (0..30).map(|i| format!("{}:443", address(i))).collect();
    let not = cubes(&format!(
        "deny not tcp.dst in {{ {} }}",
        endpoints.join(", ")
    ))
    .len();
    let addresses = cubes(&format!(
        "deny not ip.dst in {{ {} }}",
        list[..30].join(", ")
    ))
    .len();
    assert!(not <= addresses + 9 + 16, "{not} entries, and {addresses}");
}

#[test]
fn a_large_set_is_read_and_what_it_has_twice_is_told() {
    let mut list: Vec<String> = (0..20_000).map(|i| address(i).to_string()).collect();
    list.push(address(7).to_string());
    let text = format!(
        "{NETWORK}set s = {{ {} }}\nservice f : filter {{ deny ip.src in @s and ip.src {} }}\n",
        list.join(", "),
        address(9)
    );
    let found = check(&text, "t.policy").diagnostics;
    assert_eq!(
        found.iter().map(|d| d.code).collect::<Vec<_>>(),
        ["redundant"]
    );
    assert_eq!(found[0].label, format!("covered by `{}/32`", address(7)));
}
