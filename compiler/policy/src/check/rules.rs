//! The rules of one filter against each other: those that contradict, and those that change nothing.
//!
//! Rules of one verdict stand in a tree, each fork with the union of all below it, so that a whole
//! half is passed over where its union shares nothing with what is asked. The work so grows with the
//! number of rules, and not with that of their pairs.

use std::collections::BTreeSet;

use signalbox_proofs::{PacketSets, Set};

use super::Checker;
use super::conflicts::Proofs;
use crate::diagnostic::Diagnostic;
use crate::model::{Filter, FilterVerdict, Rule};

/// Contradictions of one filter that are shown; after so many the next ones help nobody.
const MAX_CONTRADICTIONS: usize = 100;

/// Rules, by place in the filter and in its order, with their packets.
enum Tree {
    Leaf(usize, Set),
    Fork(Box<Tree>, Box<Tree>, Set),
}

impl Tree {
    fn new(proofs: &Proofs<'_>, rules: &[(usize, Set)]) -> Option<Tree> {
        match rules {
            [] => None,
            [(rule, set)] => Some(Tree::Leaf(*rule, set.clone())),
            _ => {
                let (left, right) = rules.split_at(rules.len() / 2);
                let (left, right) = (Tree::new(proofs, left)?, Tree::new(proofs, right)?);
                let union = proofs.sets.union(left.set(), right.set());
                Some(Tree::Fork(Box::new(left), Box::new(right), union))
            }
        }
    }

    /// What any of its rules matches.
    fn set(&self) -> &Set {
        match self {
            Tree::Leaf(_, set) | Tree::Fork(_, _, set) => set,
        }
    }

    /// The pairs of rules, one of each tree, that match a common packet.
    fn overlaps(&self, other: &Tree, proofs: &Proofs<'_>, found: &mut Vec<(usize, usize)>) {
        let common = proofs.sets.intersect(self.set(), other.set());
        if found.len() >= MAX_CONTRADICTIONS || proofs.sets.is_empty(&common) {
            return;
        }
        match (self, other) {
            (Tree::Leaf(a, _), Tree::Leaf(b, _)) => {
                let possible = proofs.sets.intersect(&common, &proofs.possible);
                if !proofs.sets.is_empty(&possible) {
                    found.push((*a, *b));
                }
            }
            (Tree::Fork(left, right, _), Tree::Leaf(..)) => {
                left.overlaps(other, proofs, found);
                right.overlaps(other, proofs, found);
            }
            (Tree::Leaf(..), Tree::Fork(left, right, _)) => {
                self.overlaps(left, proofs, found);
                self.overlaps(right, proofs, found);
            }
            (Tree::Fork(left, right, _), Tree::Fork(first, second, _)) => {
                for half in [left, right] {
                    half.overlaps(first, proofs, found);
                    half.overlaps(second, proofs, found);
                }
            }
        }
    }

    /// The rules of which those before them match all; `outside` is what rules before this tree match
    /// of its packets.
    fn covered_by_earlier(&self, outside: &Set, proofs: &Proofs<'_>, found: &mut BTreeSet<usize>) {
        match self {
            Tree::Leaf(rule, set) => {
                if covers(outside, set, proofs) {
                    found.insert(*rule);
                }
            }
            Tree::Fork(left, right, _) => {
                let sets = &proofs.sets;
                left.covered_by_earlier(&sets.intersect(outside, left.set()), proofs, found);
                let outside = sets.union(
                    &sets.intersect(outside, right.set()),
                    &sets.intersect(left.set(), right.set()),
                );
                right.covered_by_earlier(&outside, proofs, found);
            }
        }
    }

    /// The rules of which the others match all, later ones too, without those already found; `outside`
    /// is what rules outside this tree match of its packets. What the rest of the tree matches comes
    /// back if it has become less.
    fn covered_by_others(
        &self,
        outside: &Set,
        proofs: &Proofs<'_>,
        found: &mut BTreeSet<usize>,
    ) -> Option<Set> {
        match self {
            Tree::Leaf(rule, set) => covers(outside, set, proofs).then(|| {
                found.insert(*rule);
                proofs.sets.empty()
            }),
            Tree::Fork(left, right, _) => {
                let sets = &proofs.sets;
                let around = |inner: &Set, sibling: &Set| {
                    sets.union(
                        &sets.intersect(outside, inner),
                        &sets.intersect(sibling, inner),
                    )
                };
                let less = left.covered_by_others(&around(left.set(), right.set()), proofs, found);
                let first = less.as_ref().unwrap_or(left.set());
                let rest = right.covered_by_others(&around(right.set(), first), proofs, found);
                if less.is_none() && rest.is_none() {
                    return None;
                }
                Some(sets.union(first, rest.as_ref().unwrap_or(right.set())))
            }
        }
    }
}

/// Whether every packet of `set` that can come in is of `outside`.
fn covers(outside: &Set, set: &Set, proofs: &Proofs<'_>) -> bool {
    let sets = &proofs.sets;
    !sets.is_empty(outside) && sets.is_subset(&sets.intersect(set, &proofs.possible), outside)
}

fn verb(verdict: FilterVerdict) -> &'static str {
    match verdict {
        FilterVerdict::Allow => "allow",
        FilterVerdict::Deny => "deny",
    }
}

impl Checker<'_> {
    pub(super) fn filter_rules(&mut self, proofs: &Proofs<'_>, filter: &Filter) {
        let (mut allow, mut deny) = (Vec::new(), Vec::new());
        for (i, rule) in filter.rules.iter().enumerate() {
            let set = proofs.sets.union_of(&rule.criteria.cubes);
            if proofs
                .sets
                .is_empty(&proofs.sets.intersect(&set, &proofs.possible))
            {
                self.report(
                    Diagnostic::error(
                        "matches-nothing",
                        rule.criteria.span,
                        "no packet can match this",
                    )
                    .help("its parts exclude each other"),
                );
                continue;
            }
            match rule.verdict {
                FilterVerdict::Allow => allow.push((i, set)),
                FilterVerdict::Deny => deny.push((i, set)),
            }
        }
        let trees = [Tree::new(proofs, &allow), Tree::new(proofs, &deny)];
        let mut overlaps = Vec::new();
        if let [Some(allow), Some(deny)] = &trees {
            allow.overlaps(deny, proofs, &mut overlaps);
        }
        let set_of = |i: usize| allow.iter().chain(&deny).find(|(n, _)| *n == i);
        let mut contradicted = BTreeSet::new();
        for (a, b) in overlaps {
            let (earlier, later) = (a.min(b), a.max(b));
            contradicted.insert(later);
            let sets = set_of(earlier).zip(set_of(later));
            let rules = filter.rules.get(earlier).zip(filter.rules.get(later));
            if let Some(((other, rule), ((_, one), (_, two)))) = rules.zip(sets)
                && let Some(packet) = proofs.in_both(one, two)
            {
                self.contradiction(rule, other, &packet);
            }
        }
        for (tree, rules) in trees.iter().zip([&allow, &deny]) {
            if let Some(tree) = tree {
                self.useless_rules(proofs, filter, tree, rules, &contradicted);
            }
        }
    }

    fn contradiction(&mut self, rule: &Rule, other: &Rule, packet: &str) {
        let word = |v| match v {
            FilterVerdict::Allow => "allows",
            FilterVerdict::Deny => "denies",
        };
        self.report(
            Diagnostic::error(
                "contradiction",
                rule.span,
                format!(
                    "this rule {} packets that another {}",
                    word(rule.verdict),
                    word(other.verdict)
                ),
            )
            .label("overlaps")
            .related(other.span, "with this one, which says the opposite")
            .note(format!("both match {packet}"))
            .help(
                "the order of rules means nothing: take the overlap out of one, with `and not …`",
            ),
        );
    }

    /// Warns of rules of one verdict that change nothing.
    fn useless_rules(
        &mut self,
        proofs: &Proofs<'_>,
        filter: &Filter,
        tree: &Tree,
        rules: &[(usize, Set)],
        contradicted: &BTreeSet<usize>,
    ) {
        let nothing = proofs.sets.empty();
        let mut above = BTreeSet::new();
        tree.covered_by_earlier(&nothing, proofs, &mut above);
        let mut others = BTreeSet::new();
        let rest: Vec<(usize, Set)> = rules
            .iter()
            .filter(|(i, _)| !above.contains(i))
            .cloned()
            .collect();
        if let Some(tree) = Tree::new(proofs, &rest) {
            tree.covered_by_others(&nothing, proofs, &mut others);
        }
        for (i, _) in rules.iter().filter(|(i, _)| !contradicted.contains(i)) {
            let Some(rule) = filter.rules.get(*i) else {
                continue;
            };
            let verb = verb(rule.verdict);
            let (label, help) = if above.contains(i) {
                (
                    "the rules above it match all of these packets, with the same verdict"
                        .to_owned(),
                    "leave it out",
                )
            } else if rule.verdict == filter.default {
                (
                    format!("what no rule matches meets `default {verb}` anyway"),
                    match rule.verdict {
                        FilterVerdict::Allow => {
                            "leave it out, or add `default deny` to drop everything else"
                        }
                        FilterVerdict::Deny => "leave it out",
                    },
                )
            } else if others.contains(i) {
                (
                    "other rules match all of these packets, with the same verdict".to_owned(),
                    "leave it out",
                )
            } else {
                continue;
            };
            self.report(
                Diagnostic::warning("redundant", rule.span, "this rule changes nothing")
                    .label(label)
                    .help(help),
            );
        }
    }
}
