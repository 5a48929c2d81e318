//! Services may be called what they like: a name is taken as it is, changed, or refused with an error.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use signalbox_lower::lower;
use signalbox_policy::model::MAX_SERVICES;

use crate::rig::{checked, compiled};

/// Services that, with one that translates, take in all of p4/lib.
const OTHERS: [&str; 3] = ["the-filter", "the-meter", "the-tunnel"];

/// Every word of p4/lib outside comments: names of controls, tables, actions, fields and macros among them.
/// Those of the include files are in a test of `src/names.rs`.
fn words() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../p4/lib");
    let mut words = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines() {
            let code = line.split_once("//").map_or(line, |(code, _)| code);
            let all = code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let named =
                all.filter(|w| w.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'));
            words.extend(named.map(str::to_owned));
        }
    }
    words
}

/// A policy with a service of each of these names, beside [`OTHERS`].
fn policy(names: &[&String]) -> String {
    let mut text = "
network {
  port 1 clients { address 203.0.113.1/24 }
  port 2 rack { address 10.0.1.1/24 }
}
pool tunnelled { 10.0.1.250:80 }
service the-filter : filter { deny ip.src in 198.51.100.0/24 }
service the-meter : observe { match ip }
service the-tunnel : balance { match tcp.dst 203.0.113.250:80; pick from @tunnelled by weighted; way gue }
"
    .to_owned();
    for (name, host) in names.iter().zip(10..) {
        let _ = writeln!(
            text,
            "pool for-{name} {{ 10.0.1.{host}:80 }}\n\
             service {name} : balance {{ match tcp.dst 203.0.113.{host}:80; pick from @for-{name} by weighted }}"
        );
    }
    let names = names.iter().map(|name| name.as_str());
    let all: Vec<&str> = OTHERS.into_iter().chain(names).collect();
    let _ = writeln!(text, "cascade {}", all.join(" > "));
    let _ = writeln!(text, "managers {{ all serves {} }}", all[1..].join(", "));
    text
}

#[test]
fn a_service_named_like_anything_in_the_library_compiles_or_is_refused_by_its_name() {
    let (mut free, mut refused) = (Vec::new(), 0);
    for word in words() {
        let checked = signalbox_policy::check(&policy(&[&word]), "test.policy");
        if checked.policy.is_some() {
            free.push(word);
            continue;
        }
        let errors: Vec<_> = checked
            .diagnostics
            .iter()
            .map(|d| (d.code, d.message.as_str()))
            .collect();
        let expected = format!("a service cannot be called `{word}`");
        assert_eq!(errors, [("reserved-name", expected.as_str())]);
        refused += 1;
    }
    assert!(
        refused > 20 && free.len() > 250,
        "{refused}, {}",
        free.len()
    );
    // A service and its reply part's name cannot stand in one policy.
    let (replies, others): (Vec<_>, Vec<_>) = free.iter().partition(|w| w.ends_with("_reply"));
    let room = MAX_SERVICES - OTHERS.len();
    for names in replies.chunks(room).chain(others.chunks(room)) {
        // Without an error, and without a warning.
        compiled(&lower(&checked(&policy(names))).unwrap());
    }
}
