//! Observe services: what they count and when they report.

use std::time::Duration;

use super::Checker;
use super::clauses::{Bounded, LONGEST, Limits, SHORTEST, Seen};
use super::criteria::Scope;
use crate::diagnostic::Diagnostic;
use crate::model::{Fallback, Keep, Observe, ServiceKind};
use crate::tree::{ClauseBody, Expr, Name, ServiceClause, ServiceItem, Spanned};

const COUNTED: [&str; 3] = ["packets", "bytes", "flags"];

impl Checker<'_> {
    pub(super) fn observe(&mut self, scope: Scope<'_>, item: &ServiceItem) -> Option<ServiceKind> {
        let mut matches: Vec<&Expr> = Vec::new();
        let mut keep = Keep::default();
        let mut fallback = Fallback::Route;
        let (mut per_flow, mut flags) = (true, false);
        let mut report: Option<(Option<Duration>, bool)> = None;
        let mut limits = Limits::default();
        let mut seen = Seen::default();
        for clause in &item.clauses {
            self.once(&mut seen, clause);
            match &clause.body {
                ClauseBody::Match(expr) => matches.push(expr),
                ClauseBody::Count {
                    what,
                    per_flow: each,
                } => {
                    per_flow = *each;
                    flags = self.counted(clause, what, *each);
                }
                ClauseBody::Report { every, on } => report = Some(self.reports(every, on)),
                ClauseBody::Keep(times) => {
                    let [idle, closed] = self.times(times, ["idle", "closed"]);
                    keep.idle = idle.unwrap_or(keep.idle);
                    keep.closed = closed.unwrap_or(keep.closed);
                }
                ClauseBody::Fallback(word) => fallback = self.fallback(word),
                ClauseBody::Limits(list) => self.limits(list, Bounded::Flows, &mut limits),
                _ => self.misplaced(
                    clause,
                    "observe",
                    "`match`, `count`, `report`, `keep`, `limit` or `fallback`",
                ),
            }
        }
        let unread = !self.parse.errors.is_empty();
        if matches.is_empty() && !unread {
            self.missing("observe", &item.name, "`match`", "match ip");
        }
        let (every, on_close) = report.unwrap_or((None, per_flow));
        if !per_flow {
            self.without_flows(item, &seen, &limits, every.is_some(), on_close);
        }
        let criteria = self.criteria(scope, &matches)?;
        if per_flow && criteria.cubes.iter().any(|c| !c.tcp_flags.is_any()) {
            self.flags_in_match(criteria.span, "an observe");
            return None;
        }
        Some(ServiceKind::Observe(Observe {
            criteria,
            per_flow,
            flags,
            every,
            on_close: on_close && per_flow,
            keep,
            bounds: limits.bounds,
            fallback,
        }))
    }

    /// Whether flags are told; reports what cannot be counted.
    fn counted(&mut self, clause: &ServiceClause, what: &[Name], per_flow: bool) -> bool {
        let mut seen: Vec<&Name> = Vec::new();
        for word in what {
            if let Some(first) = seen.iter().find(|w| w.value == word.value) {
                self.repeated(&word.value, word.span, first.span);
            } else if !COUNTED.contains(&word.value.as_str()) {
                self.unknown_word("what can be counted", word, &COUNTED);
            }
            seen.push(word);
        }
        let has = |name: &str| seen.iter().find(|w| w.value == name);
        let known = seen.iter().all(|w| COUNTED.contains(&w.value.as_str()));
        if known && (has("packets").is_none() || has("bytes").is_none()) {
            self.report(
                Diagnostic::error(
                    "incomplete-count",
                    clause.span,
                    "packets and bytes are counted together",
                )
                .help("write `count packets, bytes`, with `per flow` after it for each flow's own"),
            );
        }
        if let (Some(flags), false) = (has("flags"), per_flow) {
            self.report(
                Diagnostic::error("no-flows", flags.span, "flags are told of flows")
                    .help("add `per flow`, or leave them out"),
            );
        }
        has("flags").is_some()
    }

    /// The period, and whether a flow's end is reported.
    fn reports(
        &mut self,
        every: &[(Name, Spanned<Duration>)],
        on: &[Name],
    ) -> (Option<Duration>, bool) {
        let mut period = None;
        for (name, time) in every {
            if let Some((first, _)) = every
                .first()
                .filter(|(n, _)| n.span.start < name.span.start)
            {
                self.repeated("every", name.span, first.span);
            }
            period = Some(self.time(time.span, time.value, SHORTEST, LONGEST));
        }
        for word in on {
            if let Some(first) = on.first().filter(|n| n.span.start < word.span.start) {
                self.repeated("on close", word.span, first.span);
            }
            self.choice("when reports are made", word, &[("close", ())]);
        }
        (period, !on.is_empty())
    }

    /// Reports what is only of flows where none is counted by itself.
    fn without_flows(
        &mut self,
        item: &ServiceItem,
        seen: &Seen<'_>,
        limits: &Limits,
        every: bool,
        on_close: bool,
    ) {
        let flows = [
            ("keep", "flows are kept"),
            ("fallback", "a manager is asked about flows"),
        ];
        let found = flows.map(|(keyword, what)| (seen.get(keyword), what));
        let bounded = [(limits.first(), "flows are bounded")];
        for (span, what) in found.into_iter().chain(bounded) {
            if let Some(span) = span {
                self.report(
                    Diagnostic::error("no-flows", span, format!("{what}, and none is counted"))
                        .help("leave it out, or write `per flow` after `count`"),
                );
            }
        }
        match seen.get("report") {
            Some(span) if on_close => self.report(
                Diagnostic::error("no-flows", span, "flows close, and none is counted")
                    .help("write `report every 10s`, or `per flow` after `count`"),
            ),
            _ if !every && self.parse.errors.is_empty() => {
                self.missing("observe", &item.name, "`report`", "report every 10s");
            }
            _ => {}
        }
    }
}
