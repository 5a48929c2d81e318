//! Tree to model: names resolved, ranges checked, defaults filled in, contradictions found.
//!
//! Every error of a file is collected; nothing stops at the first. Each file beside this one checks
//! one part of a policy.

mod backups;
mod balance;
mod clauses;
mod conflicts;
mod criteria;
mod division;
mod filter;
mod formula;
mod gate;
mod gate_place;
mod look;
mod managers;
mod nat;
mod nat_conflicts;
mod network;
mod observe;
mod pools;
mod predicate;
mod rules;
mod services;
mod sets;
mod tests_blocks;
mod witness;

use std::collections::BTreeSet;

use self::criteria::Scope;
use crate::Checked;
use crate::diagnostic::{Diagnostic, Severity, did_you_mean, has_errors};
use crate::lex::TokenKind;
use crate::model::{Families, Policy, Span};
use crate::parse::{ITEM_WORDS, Parse, parse};
use crate::tree::{Item, Name};

/// Checks a policy's text. `file_name` gives the policy its name.
pub fn check(text: &str, file_name: &str) -> Checked {
    let parse = parse(text);
    let mut checker = Checker::new(text, &parse);
    let policy = checker.policy(policy_name(file_name));
    let mut diagnostics = checker.diagnostics;
    if has_errors(&parse.errors) {
        // With part of the text unread, what seems missing or unused may well be there.
        diagnostics.retain(|d| d.severity == Severity::Error);
    }
    diagnostics.extend(parse.errors.iter().cloned());
    diagnostics.sort_by_key(|d| (d.span.start, d.span.end, d.severity));
    let policy = if has_errors(&diagnostics) {
        None
    } else {
        policy
    };
    Checked {
        policy,
        diagnostics,
    }
}

/// What every program includes; a program of that name would stand in its way.
const INCLUDED: [&str; 2] = ["core", "v1model"];

/// The file's stem, made an identifier; it becomes the name of a P4 file.
fn policy_name(file_name: &str) -> String {
    let base = file_name.rsplit(['/', '\\']).next().unwrap_or(file_name);
    let stem = base.strip_suffix(".policy").unwrap_or(base);
    let mut name: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.insert(0, 'p');
    }
    if INCLUDED.iter().any(|i| i.eq_ignore_ascii_case(&name)) {
        name.push_str("_policy");
    }
    name
}

/// What every part of the checker shares.
pub(super) struct Checker<'a> {
    text: &'a str,
    parse: &'a Parse,
    families: Families,
    diagnostics: Vec<Diagnostic>,
    /// Names that stand after an item's keyword, whether or not the item parsed.
    mentioned: BTreeSet<&'a str>,
    used_sets: BTreeSet<String>,
    /// Sets of which an element was refused.
    broken_sets: BTreeSet<String>,
    used_pools: BTreeSet<String>,
    /// Part of what is connected was refused or not read: that an address is out of reach may not be so.
    subnets_unknown: bool,
}

impl<'a> Checker<'a> {
    fn new(text: &'a str, parse: &'a Parse) -> Checker<'a> {
        let families = families(text, parse);
        let mut mentioned = BTreeSet::new();
        for pair in parse.tokens.windows(2) {
            if let [keyword, name] = pair {
                let read = |s: Span| text.get(s.start..s.end).unwrap_or("");
                let declares = ITEM_WORDS.contains(&read(keyword.span))
                    || matches!(keyword.kind, TokenKind::Number(_));
                if declares && name.kind == TokenKind::Word {
                    mentioned.insert(read(name.span));
                }
            }
        }
        Checker {
            text,
            parse,
            families,
            diagnostics: Vec::new(),
            mentioned,
            used_sets: BTreeSet::new(),
            broken_sets: BTreeSet::new(),
            used_pools: BTreeSet::new(),
            subnets_unknown: false,
        }
    }

    fn policy(&mut self, name: String) -> Option<Policy> {
        let network = self.network();
        let sets = self.sets();
        let pools = self.pools(&network);
        let services = self.services(&network, &sets, &pools);
        let scope = Scope {
            network: &network,
            sets: &sets,
        };
        let mut managers = self.managers(scope, &pools, &services);
        self.backups(&mut managers);
        let mut policy = Policy {
            name,
            families: self.families,
            network,
            sets,
            pools,
            services,
            managers,
            tests: Vec::new(),
        };
        policy.tests = self.tests(&policy);
        self.conflicts(&policy);
        self.unused(&policy);
        Some(policy)
    }

    /// Everything the file declares.
    fn items(&self) -> &'a [Item] {
        &self.parse.file.items
    }

    /// Whether something of the item that begins there could not be read.
    fn misread(&self, item: Span) -> bool {
        let starts = self.parse.layout.items.iter();
        let next = starts
            .filter_map(|i| self.parse.tokens.get(*i))
            .map(|token| token.span.start)
            .find(|start| *start > item.start)
            .unwrap_or(usize::MAX);
        let errors = self.parse.errors.iter();
        errors
            .map(|e| e.span.start)
            .any(|at| item.start <= at && at < next)
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    fn error(&mut self, code: &'static str, span: Span, message: impl Into<String>) {
        self.report(Diagnostic::error(code, span, message));
    }

    /// Reports a name that nothing has.
    fn unknown<'n>(
        &mut self,
        what: &str,
        name: &Name,
        known: impl IntoIterator<Item = &'n str> + Clone,
    ) {
        if has_errors(&self.parse.errors) && self.mentioned.contains(name.value.as_str()) {
            return;
        }
        let mut d = Diagnostic::error(
            "unknown-name",
            name.span,
            format!("there is no {what} `{}`", name.value),
        );
        d = match did_you_mean(&name.value, known.clone()) {
            Some(meant) => d.help(format!("did you mean `{meant}`?")),
            None => {
                let names: Vec<String> = known.into_iter().map(|n| format!("`{n}`")).collect();
                match names.as_slice() {
                    [] if has_errors(&self.parse.errors) => d,
                    [] => d.help(format!("the policy declares no {what}")),
                    _ => d.help(format!("declared: {}", names.join(", "))),
                }
            }
        };
        self.report(d);
    }

    /// Reports a name that is taken.
    fn duplicate(&mut self, what: &str, name: &Name, first: Span) {
        self.report(
            Diagnostic::error(
                "duplicate-name",
                name.span,
                format!("there is already a {what} `{}`", name.value),
            )
            .related(first, "first declared here")
            .help("give one of them another name"),
        );
    }

    /// Reports a clause that may stand once and stands again.
    fn repeated(&mut self, what: &str, span: Span, first: Span) {
        self.report(
            Diagnostic::error(
                "repeated-clause",
                span,
                format!("`{what}` may be said only once"),
            )
            .related(first, "first said here"),
        );
    }
}

/// Both families if an IPv6 address stands anywhere but in a test.
fn families(text: &str, parse: &Parse) -> Families {
    let mut in_test = false;
    for (i, token) in parse.tokens.iter().enumerate() {
        if parse.layout.items.binary_search(&i).is_ok() {
            in_test = text.get(token.span.start..token.span.end) == Some("test");
        }
        let v6 = match token.kind {
            TokenKind::Address(a) | TokenKind::Prefix(a, _) | TokenKind::Endpoint(a, _) => {
                a.is_ipv6()
            }
            _ => false,
        };
        if v6 && !in_test {
            return Families::Dual;
        }
    }
    Families::V4
}
