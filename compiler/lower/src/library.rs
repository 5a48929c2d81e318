//! The P4 that every program is composed of, and which files a plan needs.

use std::collections::BTreeMap;

use crate::plan::{Kind, Plan, Way};

/// The folder, beside the program, that the files of p4/lib stand in: a policy may have the name of one.
pub const FOLDER: &str = "signalbox";

/// Which programs a file of p4/lib is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Always,
    /// Those with a stage that a manager decides for; other files of the library include it.
    Managed,
    Filter,
    Translate,
    Reply,
    Observe,
    Gate,
    /// As `Managed`, those with a stage that adjusts TCP's numbers.
    Adjusting,
    Tunnels,
}

impl Need {
    fn of(self, plan: &Plan) -> bool {
        let any = |kinds: &[Kind]| plan.services.iter().any(|s| kinds.contains(&s.kind));
        match self {
            Self::Always => true,
            Self::Managed => any(&[Kind::Balance, Kind::Nat, Kind::Gate, Kind::Observe]),
            Self::Filter => any(&[Kind::Filter]),
            Self::Translate => any(&[Kind::Balance, Kind::Nat]),
            Self::Reply => plan
                .services
                .iter()
                .any(|s| s.reply.is_some() && s.kind != Kind::Gate),
            Self::Observe => any(&[Kind::Observe]),
            Self::Gate | Self::Adjusting => gates(plan),
            Self::Tunnels => tunnels(plan),
        }
    }
}

/// Whether some service's packets leave in a tunnel.
#[must_use]
pub fn tunnels(plan: &Plan) -> bool {
    let ways = plan.services.iter().filter_map(|s| s.balance.as_ref());
    ways.into_iter()
        .any(|b| matches!(b.way, Way::Ipip | Way::Gue))
}

/// Whether some service adjusts TCP's numbers.
#[must_use]
pub fn gates(plan: &Plan) -> bool {
    plan.services.iter().any(|s| s.kind == Kind::Gate)
}

/// A file's name and text, and whose it is.
macro_rules! file {
    ($name:literal, $need:ident) => {
        (
            $name,
            include_str!(concat!("../../../p4/lib/", $name)),
            Need::$need,
        )
    };
}

/// Files of p4/lib in the order in which they are included.
const FILES: &[(&str, &str, Need)] = &[
    file!("types.p4", Always),
    file!("headers.p4", Always),
    file!("parser.p4", Always),
    file!("checksum.p4", Always),
    file!("admission.p4", Always),
    file!("keys.p4", Always),
    file!("filter.p4", Filter),
    file!("stage.p4", Managed),
    file!("translate.p4", Translate),
    file!("translate_reply.p4", Reply),
    file!("observe.p4", Observe),
    file!("adjust.p4", Adjusting),
    file!("gate.p4", Gate),
    file!("tunnel.p4", Tunnels),
    file!("routing.p4", Always),
    file!("finish.p4", Always),
    file!("rewrite.p4", Always),
    file!("deltas.p4", Gate),
    file!("departure.p4", Always),
];

/// The files that a plan's program includes itself, in the order of inclusion.
pub fn included(plan: &Plan) -> impl Iterator<Item = &'static str> + '_ {
    FILES
        .iter()
        .filter(|(_, _, need)| need.of(plan) && !matches!(need, Need::Managed | Need::Adjusting))
        .map(|(name, _, _)| *name)
}

/// All files of a plan's program as a map from path, as the program includes it, to text.
#[must_use]
pub fn sources(plan: &Plan) -> BTreeMap<String, String> {
    FILES
        .iter()
        .filter(|(_, _, need)| need.of(plan))
        .map(|(name, text, _)| (format!("{FOLDER}/{name}"), (*text).to_owned()))
        .collect()
}

/// The names that p4/lib declares at the top level, and those that it gives to macros.
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
                "define" => words.next(),
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
            "Translate",
            "FLOW_KEY",
            "Cascade",
        ] {
            assert_eq!(names.contains(&name), name != "Cascade", "{name}");
        }
        assert!(names.iter().all(|n| !n.contains('<')), "{names:?}");
    }
}
