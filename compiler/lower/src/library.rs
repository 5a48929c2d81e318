//! The P4 that every program is composed of, and which files a plan needs.

use std::collections::BTreeMap;

use crate::plan::{Kind, Plan};

/// The folder, beside the program, that the files of p4/lib stand in: a policy may have the name of one.
pub const FOLDER: &str = "signalbox";

/// Files of p4/lib: name, text, and the kind of service that needs it (none: every program).
/// They are included in this order.
const FILES: &[(&str, &str, &[Kind])] = &[
    ("types.p4", include_str!("../../../p4/lib/types.p4"), &[]),
    (
        "headers.p4",
        include_str!("../../../p4/lib/headers.p4"),
        &[],
    ),
    ("parser.p4", include_str!("../../../p4/lib/parser.p4"), &[]),
    (
        "checksum.p4",
        include_str!("../../../p4/lib/checksum.p4"),
        &[],
    ),
    (
        "admission.p4",
        include_str!("../../../p4/lib/admission.p4"),
        &[],
    ),
    (
        "filter.p4",
        include_str!("../../../p4/lib/filter.p4"),
        &[Kind::Filter],
    ),
    (
        "balance.p4",
        include_str!("../../../p4/lib/balance.p4"),
        &[Kind::Balance, Kind::Nat, Kind::Observe],
    ),
    (
        "routing.p4",
        include_str!("../../../p4/lib/routing.p4"),
        &[],
    ),
    ("finish.p4", include_str!("../../../p4/lib/finish.p4"), &[]),
    (
        "rewrite.p4",
        include_str!("../../../p4/lib/rewrite.p4"),
        &[],
    ),
    (
        "departure.p4",
        include_str!("../../../p4/lib/departure.p4"),
        &[],
    ),
];

/// The files that a plan's program includes, in the order of inclusion.
pub fn included(plan: &Plan) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
    FILES
        .iter()
        .filter(|(_, _, kinds)| {
            kinds.is_empty() || plan.services.iter().any(|s| kinds.contains(&s.kind))
        })
        .map(|(name, text, _)| (*name, *text))
}

/// The same as a map from path, as the program includes it, to text.
#[must_use]
pub fn sources(plan: &Plan) -> BTreeMap<String, String> {
    included(plan)
        .map(|(name, text)| (format!("{FOLDER}/{name}"), text.to_owned()))
        .collect()
}

/// The names that p4/lib declares at the top level.
pub fn declared() -> impl Iterator<Item = &'static str> {
    FILES
        .iter()
        .flat_map(|(_, text, _)| text.lines())
        .filter_map(|line| {
            let mut words = line
                .split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '<' | '>')))
                .filter(|w| !w.is_empty());
            match words.next()? {
                // `const TYPE NAME`, `typedef TYPE NAME`
                "const" | "typedef" if !line.starts_with(' ') => words.nth(1),
                "struct" | "header" | "control" | "parser" if !line.starts_with(' ') => {
                    words.next()
                }
                _ => None,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_librarys_top_level_names_are_found() {
        let names: Vec<_> = declared().collect();
        for name in [
            "NOTICE_SESSION",
            "addr_t",
            "flow_t",
            "ethernet_t",
            "PacketParser",
            "Balance",
            "Cascade",
        ] {
            assert_eq!(names.contains(&name), name != "Cascade", "{name}");
        }
        assert!(names.iter().all(|n| !n.contains('<')), "{names:?}");
    }
}
