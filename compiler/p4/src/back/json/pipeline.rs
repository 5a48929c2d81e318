//! Ingress and egress: a graph of tables and conditions. Statements that apply no table become the
//! action of a table without a key; a `return` is only an edge.

use rustc_hash::FxHashMap;
use serde_json::{Map, Value, json};

use crate::ir::{Action, After, Block, Expr, Handle, Label, Stmt, StmtKind, Table, TableAction};
use crate::source::Span;

use super::Writer;

/// The name of the node that comes next; nothing at the end.
type Next = Option<String>;

/// Where one application of a table goes on.
enum Outcome {
    HitOrMiss {
        hit: Next,
        miss: Next,
    },
    ByAction {
        cases: Vec<(Handle<Action>, Next)>,
        otherwise: Next,
    },
}

impl Outcome {
    fn of(&self, action: Handle<Action>) -> Next {
        match self {
            Self::HitOrMiss { hit, .. } => hit.clone(),
            Self::ByAction { cases, otherwise } => cases
                .iter()
                .find(|(a, _)| *a == action)
                .map_or(otherwise, |(_, next)| next)
                .clone(),
        }
    }
}

/// One control while it is written.
#[derive(Default)]
struct Graph {
    tables: Vec<Value>,
    conditionals: Vec<Value>,
    /// Applications of each table, in the order in which they were met (from the end).
    sites: Vec<(Handle<Table>, Vec<Outcome>)>,
    /// How often each table is applied, and the scalar that says which application it is.
    counts: FxHashMap<Handle<Table>, usize>,
    selectors: FxHashMap<Handle<Table>, (String, u32)>,
    labels: FxHashMap<Label, Next>,
}

impl Writer<'_> {
    pub(super) fn pipeline(&mut self, index: usize) -> Value {
        let program = self.program;
        let name = if index == 0 { "ingress" } else { "egress" };
        let Some(control) = program.controls.get(index) else {
            return Value::Null;
        };
        let mut graph = Graph::default();
        count_applications(&control.body, &mut graph.counts);
        let first = self.block(&control.body, None, &mut graph);
        let profiles = self.profiles_of(&graph);
        for (table, outcomes) in std::mem::take(&mut graph.sites) {
            let (next_tables, base) = self.next_tables(table, &outcomes, &mut graph);
            let value = self.table(table, next_tables, base);
            graph.tables.push(value);
        }
        // Nodes were made from the end; readers want them from the start.
        graph.tables.reverse();
        graph.conditionals.reverse();
        json!({
            "name": name,
            "id": index,
            "source_info": self.source_info(control.span),
            "init_table": first,
            "tables": graph.tables,
            "action_profiles": profiles,
            "conditionals": graph.conditionals,
        })
    }

    fn profiles_of(&mut self, graph: &Graph) -> Vec<Value> {
        let mut seen = Vec::new();
        for (table, _) in &graph.sites {
            if let Some(profile) = self.program.tables[*table].profile
                && !seen.contains(&profile)
            {
                seen.push(profile);
            }
        }
        seen.sort_unstable();
        seen.into_iter()
            .map(|profile| self.profile(profile))
            .collect()
    }

    /// Makes the nodes of a block that goes on at `next`; the node where it begins.
    fn block(&mut self, block: &[Stmt], next: Next, graph: &mut Graph) -> Next {
        let mut next = next;
        let mut end = block.len();
        while end > 0 {
            // The longest run of statements up to here that one action can do.
            let start = block.get(..end).map_or(0, |b| {
                b.len() - b.iter().rev().take_while(|s| is_straight(s)).count()
            });
            let run = block.get(start..end).unwrap_or_default();
            match run {
                [] => {
                    let Some(stmt) = block.get(end - 1) else {
                        break;
                    };
                    next = self.node(stmt, next, graph);
                    end -= 1;
                }
                // A choice alone is a condition, which costs less than an action that jumps.
                [
                    stmt @ Stmt {
                        kind: StmtKind::If { .. },
                        ..
                    },
                ] => {
                    next = self.node(stmt, next, graph);
                    end = start;
                }
                run => {
                    next = self.hidden_table(run, next, graph);
                    end = start;
                }
            }
        }
        next
    }

    fn node(&mut self, stmt: &Stmt, next: Next, graph: &mut Graph) -> Next {
        match &stmt.kind {
            StmtKind::If {
                condition,
                then,
                otherwise,
            } => {
                let yes = self.block(then, next.clone(), graph);
                let no = self.block(otherwise, next, graph);
                if yes == no {
                    return yes;
                }
                Some(self.conditional(*condition, yes, no, stmt.span, graph))
            }
            StmtKind::Apply { table, after } => {
                self.application(*table, after, next, stmt.span, graph)
            }
            StmtKind::Labelled(label, inner) => {
                graph.labels.insert(*label, next.clone());
                self.block(inner, next, graph)
            }
            StmtKind::Break(label) => graph.labels.get(label).cloned().unwrap_or(next),
            StmtKind::Exit => None,
            _ => self.hidden_table(std::slice::from_ref(stmt), next, graph),
        }
    }

    fn conditional(
        &mut self,
        condition: Handle<Expr>,
        yes: Next,
        no: Next,
        span: Span,
        graph: &mut Graph,
    ) -> String {
        let expression = self.value(condition);
        self.raw_conditional(expression, yes, no, span, graph)
    }

    fn raw_conditional(
        &mut self,
        expression: Value,
        yes: Next,
        no: Next,
        span: Span,
        graph: &mut Graph,
    ) -> String {
        let wanted = format!("if_{}", self.place_name(span));
        let name = self.fresh(&wanted);
        graph.conditionals.push(json!({
            "name": name,
            "id": self.conditionals,
            "source_info": self.source_info(span),
            "expression": expression,
            "true_next": yes,
            "false_next": no,
        }));
        self.conditionals += 1;
        name
    }

    /// A table without a key, whose action is these statements.
    fn hidden_table(&mut self, run: &[Stmt], next: Next, graph: &mut Graph) -> Next {
        let Some(first) = run.first() else {
            return next;
        };
        let span = first.span;
        let wanted = self.place_name(span);
        let action = self.fresh(&wanted);
        let id = self.hidden_action(&action, run, span);
        Some(self.keyless(&action, id, next, span, graph))
    }

    fn keyless(
        &mut self,
        action: &str,
        id: usize,
        next: Next,
        span: Span,
        graph: &mut Graph,
    ) -> String {
        let name = self.fresh(&format!("tbl_{action}"));
        let mut next_tables = Map::new();
        next_tables.insert(action.to_string(), json!(next));
        graph.tables.push(json!({
            "name": name,
            "id": self.tables,
            "source_info": self.source_info(span),
            "key": [],
            "match_type": "exact",
            "type": "simple",
            "max_size": 1024,
            "with_counters": false,
            "support_timeout": false,
            "direct_meters": null,
            "action_ids": [id],
            "actions": [action],
            "base_default_next": next,
            "next_tables": next_tables,
            "default_entry": {
                "action_id": id,
                "action_const": true,
                "action_data": [],
                "action_entry_const": true,
            },
        }));
        self.tables += 1;
        name
    }

    fn application(
        &mut self,
        table: Handle<Table>,
        after: &After,
        next: Next,
        span: Span,
        graph: &mut Graph,
    ) -> Next {
        let outcome = match after {
            After::Nothing => Outcome::ByAction {
                cases: Vec::new(),
                otherwise: next,
            },
            After::HitOrMiss { hit, miss } => {
                let hit = self.block(hit, next.clone(), graph);
                let miss = self.block(miss, next, graph);
                Outcome::HitOrMiss { hit, miss }
            }
            After::ByAction { cases, otherwise } => {
                let mut by_action = Vec::new();
                for (actions, block) in cases {
                    let first = self.block(block, next.clone(), graph);
                    by_action.extend(actions.iter().map(|action| (*action, first.clone())));
                }
                let otherwise = self.block(otherwise, next, graph);
                Outcome::ByAction {
                    cases: by_action,
                    otherwise,
                }
            }
        };
        let number = match graph.sites.iter_mut().find(|(known, _)| *known == table) {
            Some((_, outcomes)) => {
                outcomes.push(outcome);
                outcomes.len() - 1
            }
            None => {
                graph.sites.push((table, vec![outcome]));
                0
            }
        };
        let name = self.table_name(table).to_string();
        let count = graph.counts.get(&table).copied().unwrap_or(1);
        if count < 2 {
            return Some(name);
        }
        // Applied in several places: note which one this is, so that the way back is found.
        let (scalar, width) = match graph.selectors.get(&table) {
            Some(known) => known.clone(),
            None => {
                let width = usize::BITS - (count - 1).leading_zeros();
                let scalar = format!("{name}.applied");
                self.extra_scalars.push((scalar.clone().into(), width));
                graph.selectors.insert(table, (scalar.clone(), width));
                (scalar, width)
            }
        };
        let scalars = &self.program.headers[self.program.scalars].name;
        let wanted = self.place_name(span);
        let action = self.fresh(&wanted);
        let id = self.actions.len();
        let info = self.source_info(span);
        self.actions.push(json!({
            "name": action,
            "id": id,
            "runtime_data": [],
            "primitives": [{
                "op": "assign",
                "parameters": [
                    { "type": "field", "value": [&**scalars, scalar] },
                    { "type": "hexstr", "value": super::hex(&number.into(), width) },
                ],
                "source_info": info,
            }],
            "source_info": info,
        }));
        Some(self.keyless(&action, id, Some(name), span, graph))
    }

    /// The edges of a table, and where it goes when it has no action at all.
    fn next_tables(
        &mut self,
        table: Handle<Table>,
        outcomes: &[Outcome],
        graph: &mut Graph,
    ) -> (Value, Next) {
        let program = self.program;
        let span = program.tables[table].span;
        let mut out = Map::new();
        let hit_or_miss = outcomes
            .iter()
            .any(|o| matches!(o, Outcome::HitOrMiss { .. }));
        if hit_or_miss {
            let mut hits = Vec::new();
            let mut misses = Vec::new();
            for outcome in outcomes {
                match outcome {
                    Outcome::HitOrMiss { hit, miss } => {
                        hits.push(hit.clone());
                        misses.push(miss.clone());
                    }
                    Outcome::ByAction { cases, otherwise } if cases.is_empty() => {
                        hits.push(otherwise.clone());
                        misses.push(otherwise.clone());
                    }
                    Outcome::ByAction { .. } => {
                        self.unsupported(span, "one table can't be asked for its hit in one place and for its action in another");
                    }
                }
            }
            let hit = self.dispatch(table, hits, span, graph);
            let miss = self.dispatch(table, misses, span, graph);
            out.insert("__HIT__".into(), json!(hit));
            out.insert("__MISS__".into(), json!(miss));
            return (Value::Object(out), None);
        }
        let mut known: Vec<(Vec<Next>, Next)> = Vec::new();
        let actions: Vec<TableAction> = program.tables[table].actions.clone();
        let mut go = |this: &mut Self, graph: &mut Graph, all: Vec<Next>| {
            if let Some((_, next)) = known.iter().find(|(k, _)| *k == all) {
                return next.clone();
            }
            let next = this.dispatch(table, all.clone(), span, graph);
            known.push((all, next.clone()));
            next
        };
        for action in &actions {
            let all: Vec<Next> = outcomes.iter().map(|o| o.of(action.action)).collect();
            let next = go(self, graph, all);
            out.insert(
                program.actions[action.action].names.name.to_string(),
                json!(next),
            );
        }
        let all: Vec<Next> = outcomes
            .iter()
            .map(|o| match o {
                Outcome::ByAction { otherwise, .. } => otherwise.clone(),
                Outcome::HitOrMiss { miss, .. } => miss.clone(),
            })
            .collect();
        let base = go(self, graph, all);
        (Value::Object(out), base)
    }

    /// The way back from a table to where it was applied.
    fn dispatch(
        &mut self,
        table: Handle<Table>,
        ways: Vec<Next>,
        span: Span,
        graph: &mut Graph,
    ) -> Next {
        let mut ways = ways.into_iter().enumerate().rev();
        let (_, mut next) = ways.next()?;
        let Some((scalar, width)) = graph.selectors.get(&table).cloned() else {
            return next;
        };
        let scalars = self.program.headers[self.program.scalars].name.to_string();
        for (number, way) in ways {
            if way == next {
                continue;
            }
            let expression = json!({
                "type": "expression",
                "value": {
                    "op": "==",
                    "left": { "type": "field", "value": [scalars, scalar] },
                    "right": { "type": "hexstr", "value": super::hex(&number.into(), width) },
                },
            });
            next = Some(self.raw_conditional(expression, way, next, span, graph));
        }
        next
    }
}

/// Whether one action can do the statement and everything in it.
fn is_straight(stmt: &Stmt) -> bool {
    straight(stmt, &mut Vec::new())
}

fn straight(stmt: &Stmt, labels: &mut Vec<Label>) -> bool {
    match &stmt.kind {
        StmtKind::Apply { .. } | StmtKind::Exit => false,
        StmtKind::Break(label) => labels.contains(label),
        StmtKind::If {
            then, otherwise, ..
        } => {
            then.iter().all(|s| straight(s, labels))
                && otherwise.iter().all(|s| straight(s, labels))
        }
        StmtKind::Labelled(label, inner) => {
            labels.push(*label);
            let all = inner.iter().all(|s| straight(s, labels));
            labels.pop();
            all
        }
        _ => true,
    }
}

fn count_applications(block: &Block, counts: &mut FxHashMap<Handle<Table>, usize>) {
    for stmt in block {
        match &stmt.kind {
            StmtKind::Apply { table, after } => {
                *counts.entry(*table).or_default() += 1;
                match after {
                    After::Nothing => {}
                    After::HitOrMiss { hit, miss } => {
                        count_applications(hit, counts);
                        count_applications(miss, counts);
                    }
                    After::ByAction { cases, otherwise } => {
                        for (_, block) in cases {
                            count_applications(block, counts);
                        }
                        count_applications(otherwise, counts);
                    }
                }
            }
            StmtKind::If {
                then, otherwise, ..
            } => {
                count_applications(then, counts);
                count_applications(otherwise, counts);
            }
            StmtKind::Labelled(_, inner) => count_applications(inner, counts),
            _ => {}
        }
    }
}
