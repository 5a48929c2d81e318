//! Filter services.

use super::Checker;
use super::criteria::Scope;
use crate::diagnostic::Diagnostic;
use crate::model::{Filter, FilterVerdict, Rule, ServiceKind, Span};
use crate::tree::{ClauseBody, Name, ServiceClause, ServiceItem};

impl Checker<'_> {
    pub(super) fn filter(&mut self, scope: Scope<'_>, item: &ServiceItem) -> Option<ServiceKind> {
        let mut filter = Filter {
            rules: Vec::new(),
            default: FilterVerdict::Allow,
        };
        let mut default: Option<Span> = None;
        let mut complete = true;
        for clause in &item.clauses {
            match &clause.body {
                ClauseBody::Rule(expr) => {
                    let verdict = match clause.keyword.value.as_str() {
                        "deny" => FilterVerdict::Deny,
                        _ => FilterVerdict::Allow,
                    };
                    match self.criteria(scope, &[expr]) {
                        Some(criteria) => {
                            filter.rules.push(Rule {
                                verdict,
                                criteria,
                                span: clause.span,
                            });
                        }
                        None => complete = false,
                    }
                }
                ClauseBody::Default(word) => {
                    if let Some(first) = default {
                        self.repeated("default", clause.span, first);
                    }
                    default = Some(clause.span);
                    filter.default = match word.value.as_str() {
                        "allow" => FilterVerdict::Allow,
                        "deny" => FilterVerdict::Deny,
                        _ => {
                            self.unknown_word("a verdict", word, &["allow", "deny"]);
                            FilterVerdict::Deny
                        }
                    };
                }
                _ => self.misplaced(clause, "filter", "`allow`, `deny` or `default`"),
            }
        }
        if filter.rules.is_empty() && complete && default.is_none() && self.parse.errors.is_empty()
        {
            self.report(
                Diagnostic::warning(
                    "empty-filter",
                    item.name.span,
                    format!(
                        "filter `{}` says nothing and lets everything through",
                        item.name.value
                    ),
                )
                .help("write rules as `deny ip.src in 198.51.100.0/24`"),
            );
        }
        Some(ServiceKind::Filter(filter))
    }

    /// Reports a clause that belongs to another kind of service.
    pub(super) fn misplaced(&mut self, clause: &ServiceClause, kind: &str, expected: &str) {
        let Name { value, span } = &clause.keyword;
        self.report(
            Diagnostic::error(
                "misplaced-clause",
                *span,
                format!("`{value}` does not belong in a {kind} service"),
            )
            .label(format!("expected {expected}")),
        );
    }
}
