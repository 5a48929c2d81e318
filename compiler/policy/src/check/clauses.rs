//! What clauses of several kinds of service have in common: that they stand once, choices of words,
//! times, bounds of new flows.

use std::time::Duration;

use super::Checker;
use crate::diagnostic::Diagnostic;
use crate::model::{Bounds, Fallback, Span};
use crate::tree::{ClauseBody, Limit, Name, ServiceClause, Spanned};

/// The longest time that anything is kept.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3_600);
/// The shortest.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);
/// The highest bound of new flows.
pub(super) const MOST_FLOWS: u32 = 1_000_000_000;
/// The largest table of a service: a switch reserves memory for it.
pub(super) const LARGEST_TABLE: u32 = 1 << 22;

/// The clauses of a service that may stand once and have been seen.
#[derive(Default)]
pub(super) struct Seen<'c>(Vec<(&'c str, Span)>);

impl Seen<'_> {
    /// Where the clause stands, if it does.
    pub fn get(&self, keyword: &str) -> Option<Span> {
        let found = self.0.iter().find(|(word, _)| *word == keyword);
        found.map(|(_, span)| *span)
    }
}

/// What of a service's flows can be bounded, besides their rate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bounded {
    /// All of them: an observe service's, none of which is half open.
    Flows,
    /// Half-open ones, too.
    HalfOpen,
    /// The outside tuples of one source, too: of nat.
    Tuples,
}

impl Bounded {
    /// The words of a `limit`.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Flows => &["flows"],
            Self::HalfOpen => &["flows", "half-open"],
            Self::Tuples => &["flows", "half-open", "tuples"],
        }
    }
}

/// The bounds of a service so far, each with its place.
#[derive(Default)]
pub(super) struct Limits {
    pub bounds: Bounds,
    /// Outside tuples of one source; of nat only.
    pub tuples: Option<u32>,
    seen: Vec<(&'static str, Span)>,
}

impl Limits {
    /// Where a bound of half-open flows stands, if one does.
    pub fn half_open(&self) -> Option<Span> {
        let found = self.seen.iter().find(|(what, _)| what.contains("half"));
        found.map(|(_, span)| *span)
    }

    /// Where the first bound stands, if one does.
    pub fn first(&self) -> Option<Span> {
        self.seen.first().map(|(_, span)| *span)
    }

    /// Where the bound of tuples stands, if it does.
    pub fn tuples_span(&self) -> Option<Span> {
        let found = self.seen.iter().find(|(what, _)| what.contains("tuples"));
        found.map(|(_, span)| *span)
    }
}

impl Checker<'_> {
    /// Reports a clause that may stand once and stands again.
    pub(super) fn once<'c>(&mut self, seen: &mut Seen<'c>, clause: &'c ServiceClause) {
        if matches!(
            clause.body,
            ClauseBody::Match(_)
                | ClauseBody::Rule(_)
                | ClauseBody::Allow(..)
                | ClauseBody::Look(_)
                | ClauseBody::Limits(_)
                | ClauseBody::OneToOne { .. }
        ) {
            return;
        }
        let keyword = clause.keyword.value.as_str();
        match seen.get(keyword) {
            Some(first) => self.repeated(keyword, clause.span, first),
            None => seen.0.push((keyword, clause.span)),
        }
    }

    /// One of several words; reports another.
    pub(super) fn choice<T: Copy>(
        &mut self,
        what: &str,
        word: &Name,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let found = choices.iter().find(|(name, _)| *name == word.value);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.unknown_word(what, word, &names);
        }
        found.map(|(_, value)| *value)
    }

    pub(super) fn fallback(&mut self, word: &Name) -> Fallback {
        let choices = [("drop", Fallback::Drop), ("route", Fallback::Route)];
        self.choice("a fallback", word, &choices)
            .unwrap_or(Fallback::Drop)
    }

    /// The times of a `keep`: for each of the known words the time that was said.
    pub(super) fn times<const N: usize>(
        &mut self,
        times: &[(Name, Spanned<Duration>)],
        known: [&str; N],
    ) -> [Option<Duration>; N] {
        let mut out = [None; N];
        let mut seen: Vec<&Name> = Vec::new();
        for (name, time) in times {
            if let Some(first) = seen.iter().find(|n| n.value == name.value) {
                self.repeated(&name.value, name.span, first.span);
            }
            seen.push(name);
            let value = self.time(time.span, time.value, SHORTEST, LONGEST);
            let place = known.iter().zip(&mut out).find(|(k, _)| **k == name.value);
            match place {
                Some((_, place)) => *place = Some(value),
                None => self.unknown_word("a time to keep", name, &known),
            }
        }
        out
    }

    /// Adds the bounds of one `limit` clause.
    pub(super) fn limits(&mut self, limits: &[Limit], bounded: Bounded, into: &mut Limits) {
        for limit in limits {
            let what = limit.what.as_ref().map(|w| w.value.as_str());
            let known = what.is_none_or(|word| bounded.words().contains(&word));
            let name = match (limit.rate, what, limit.per_source) {
                (true, None, false) => "the rate of new flows",
                (true, None, true) => "the rate of new flows per source",
                (false, Some("flows"), false) => "flows",
                (false, Some("half-open"), false) if known => "half-open flows",
                (false, Some("half-open"), true) if known => "half-open flows per source",
                (false, Some("tuples"), true) if known => "tuples per source",
                _ => {
                    self.bad_limit(limit, bounded);
                    continue;
                }
            };
            if !self.first_limit(limit, name, into) {
                continue;
            }
            let most = if what == Some("flows") {
                LARGEST_TABLE
            } else {
                MOST_FLOWS
            };
            let count = Some(self.count(limit.count.span, limit.count.value, most));
            let bounds = &mut into.bounds;
            match (limit.rate, what, limit.per_source) {
                (true, _, false) => bounds.new_per_second = count,
                (true, _, true) => bounds.new_per_second_per_source = count,
                (false, Some("flows"), _) => bounds.flows = count,
                (false, Some("tuples"), _) => into.tuples = count,
                (false, _, false) => bounds.half_open = count,
                (false, _, true) => bounds.half_open_per_source = count,
            }
        }
    }

    /// Notes a limit; reports that it has been said before.
    pub(super) fn first_limit(
        &mut self,
        limit: &Limit,
        name: &'static str,
        into: &mut Limits,
    ) -> bool {
        let first = into.seen.iter().find(|(n, _)| *n == name);
        let Some((_, first)) = first else {
            into.seen.push((name, limit.span));
            return true;
        };
        self.report(
            Diagnostic::error(
                "repeated-clause",
                limit.span,
                format!("there are two limits of {name}"),
            )
            .related(*first, "first here"),
        );
        false
    }

    fn bad_limit(&mut self, limit: &Limit, bounded: Bounded) {
        let known = bounded.words();
        let n = limit.count.value;
        let d = match &limit.what {
            Some(what) if !known.contains(&what.value.as_str()) => {
                return self.unknown_word("what can be limited", what, known);
            }
            Some(what) if limit.rate => Diagnostic::error(
                "bad-limit",
                what.span,
                format!("`{n}/s` limits new flows, not what is there"),
            )
            .help(format!(
                "write `limit {n}/s`, or `limit {n} {}`",
                what.value
            )),
            Some(what) if what.value == "flows" => Diagnostic::error(
                "bad-limit",
                limit.span,
                "all flows of a service share its tables",
            )
            .help(format!(
                "write `limit {n} flows`; bound a source's new flows, as `limit 50/s per source`"
            )),
            Some(what) => Diagnostic::error(
                "bad-limit",
                what.span,
                "all of a service's tuples are what `source` says",
            )
            .help(format!(
                "bound those of one inside address: `limit {n} tuples per source`"
            )),
            None => {
                let mut more = String::new();
                if bounded != Bounded::Flows {
                    more += &format!(
                        ", `limit {n} half-open` for flows that the other side has not answered"
                    );
                }
                if bounded == Bounded::Tuples {
                    more += &format!(", or `limit {n} tuples per source`");
                }
                Diagnostic::error("bad-limit", limit.span, "it is not said what is limited").help(
                    format!(
                        "write `limit {n}/s` for new flows in a second, `limit {n} flows` for all flows at \
                         once{more}"
                    ),
                )
            }
        };
        self.report(d);
    }

    /// Reports a clause that a service must have and has not.
    pub(super) fn missing(&mut self, kind: &str, service: &Name, clause: &str, example: &str) {
        self.report(
            Diagnostic::error(
                "missing-clause",
                service.span,
                format!("{kind} service `{}` has no {clause}", service.value),
            )
            .help(format!("add one, such as `{example}`")),
        );
    }

    /// Reports flags in a condition that stands for whole flows.
    pub(super) fn flags_in_match(&mut self, span: Span, kind: &str) {
        self.report(
            Diagnostic::error(
                "flags-in-match",
                span,
                format!("{kind} service matches whole connections, not single packets"),
            )
            .help("leave the TCP flags out"),
        );
    }
}
