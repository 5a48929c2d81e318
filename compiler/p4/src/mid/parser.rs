//! Parsers: their states become states of one graph, in which parsers applied by others are put in
//! place and states that branch inside are cut in pieces.

use std::sync::Arc;

use num_bigint::BigInt;
use rustc_hash::FxHashMap;

use crate::diagnostics::Diagnostic;
use crate::front::ast::{self, DeclKind};
use crate::ir::MatchKind;
use crate::ir::{
    Block, Case, CaseMatch, Handle, Label, State, Stmt, StmtKind, Target, Transition, Type,
    ValueSet, ValueSetField,
};
use crate::source::Span;

use super::annotation::{id_annotation, name_annotation};
use super::lower::Lower;
use super::scope::{Declared, Entity, Scope};

/// The state whose statements are being made.
#[derive(Debug, Clone, Copy)]
pub struct OpenState {
    pub state: Handle<State>,
    /// How many blocks were being collected when it was opened: a parser can be applied only there.
    pub nesting: u32,
}

impl<'a> Lower<'a> {
    pub fn new_state(&mut self, name: &str, span: Span) -> Handle<State> {
        let name = self.state_names.give(name);
        self.ir.parser.states.append(State {
            name,
            body: Block::new(),
            transition: Transition::Direct(Target::Accept),
            span,
        })
    }

    pub fn open(&mut self, state: Handle<State>) {
        self.block.clear();
        self.state = Some(OpenState {
            state,
            nesting: self.nesting,
        });
    }

    /// Ends the open state, cut in pieces where it branches.
    pub fn close(&mut self, transition: Transition) {
        let Some(open) = self.state.take() else {
            return;
        };
        let block = std::mem::take(&mut self.block);
        let mut labels = FxHashMap::default();
        self.split(open.state, block, transition, &mut labels);
    }

    /// Gives a state its statements and transition, with more states for what branches.
    pub fn split(
        &mut self,
        mut state: Handle<State>,
        block: Block,
        transition: Transition,
        labels: &mut FxHashMap<Label, Handle<State>>,
    ) {
        let mut body = Block::new();
        let name = Arc::clone(&self.ir.parser.states[state].name);
        for stmt in block {
            let span = stmt.span;
            match stmt.kind {
                StmtKind::If {
                    condition,
                    then,
                    otherwise,
                } => {
                    let after = self.new_state(&format!("{name}.after"), span);
                    let yes = self.new_state(&format!("{name}.then"), span);
                    let no = if otherwise.is_empty() {
                        after
                    } else {
                        self.new_state(&format!("{name}.else"), span)
                    };
                    let flag = self.temporary(Type::Bool);
                    body.push(Stmt {
                        span,
                        kind: StmtKind::Assign {
                            to: flag,
                            value: condition,
                        },
                    });
                    let one = CaseMatch::Values(vec![(BigInt::from(1), BigInt::from(1))]);
                    let select = Transition::Select {
                        keys: vec![flag],
                        cases: vec![
                            Case {
                                matches: one,
                                target: Target::State(yes),
                            },
                            Case {
                                matches: CaseMatch::Default,
                                target: Target::State(no),
                            },
                        ],
                    };
                    self.finish_state(state, std::mem::take(&mut body), select);
                    self.split(yes, then, Transition::Direct(Target::State(after)), labels);
                    if no != after {
                        self.split(
                            no,
                            otherwise,
                            Transition::Direct(Target::State(after)),
                            labels,
                        );
                    }
                    state = after;
                }
                StmtKind::Labelled(label, inner) => {
                    let after = self.new_state(&format!("{name}.after"), span);
                    let start = self.new_state(&format!("{name}.block"), span);
                    labels.insert(label, after);
                    let to_start = Transition::Direct(Target::State(start));
                    self.finish_state(state, std::mem::take(&mut body), to_start);
                    self.split(
                        start,
                        inner,
                        Transition::Direct(Target::State(after)),
                        labels,
                    );
                    state = after;
                }
                StmtKind::Break(label) => {
                    let target = labels
                        .get(&label)
                        .map_or(Target::Accept, |s| Target::State(*s));
                    self.finish_state(state, body, Transition::Direct(target));
                    return;
                }
                StmtKind::Exit => {
                    self.error(span, "`exit` can't stand in a parser");
                    return;
                }
                _ => body.push(stmt),
            }
        }
        self.finish_state(state, body, transition);
    }

    pub fn finish_state(&mut self, state: Handle<State>, body: Block, transition: Transition) {
        let state = &mut self.ir.parser.states[state];
        state.body = body;
        state.transition = transition;
    }

    /// The whole parser of the package: from its first statement to its last state.
    pub fn top_parser(&mut self, apply: impl FnOnce(&mut Self), span: Span) {
        let init = self.new_state("init", span);
        self.ir.parser.span = span;
        self.open(init);
        self.ir.parser.start = Some(init);
        apply(self);
        // The state that is open now is the one behind the parser's `accept`.
        self.close(Transition::Direct(Target::Accept));
        self.drop_empty_states();
    }

    /// Removes states that do nothing and go on always.
    pub fn drop_empty_states(&mut self) {
        let states = &self.ir.parser.states;
        let skip = |mut target: Target| {
            for _ in 0..states.len() {
                match target {
                    Target::State(s) if states[s].body.is_empty() => match states[s].transition {
                        Transition::Direct(next) => target = next,
                        Transition::Select { .. } => break,
                    },
                    _ => break,
                }
            }
            target
        };
        let mut changed: Vec<(Handle<State>, Transition)> = Vec::new();
        for (handle, state) in states.iter() {
            let transition = match &state.transition {
                Transition::Direct(target) => Transition::Direct(skip(*target)),
                Transition::Select { keys, cases } => Transition::Select {
                    keys: keys.clone(),
                    cases: cases
                        .iter()
                        .map(|c| Case {
                            matches: c.matches.clone(),
                            target: skip(c.target),
                        })
                        .collect(),
                },
            };
            changed.push((handle, transition));
        }
        let start = self.ir.parser.start.map(Target::State).map(skip);
        for (handle, transition) in changed {
            self.ir.parser.states[handle].transition = transition;
        }
        if let Some(Target::State(start)) = start {
            self.ir.parser.start = Some(start);
        }
    }

    /// The body of a parser at the end of the open state.
    pub fn parser_body(
        &mut self,
        scope: &Scope<'a>,
        parser: &'a ast::Parser,
        body: &'a ast::ParserBody,
        span: Span,
    ) {
        let Some(open) = self.state else { return };
        if open.nesting != self.nesting {
            self.unsupported(
                span,
                "a parser can't be applied under a condition or in a function",
            );
            return;
        }
        let prefix = self
            .prefix
            .strip_prefix(&*format!("{}.", parser.name))
            .unwrap_or(&self.prefix)
            .to_string();
        let is_top = self.ir.parser.states.len() == 1;
        let prefix = if is_top { String::new() } else { prefix };
        let after = self.new_state(&format!("{prefix}accept"), span);
        let mut states: FxHashMap<Arc<str>, Handle<State>> = FxHashMap::default();
        for state in &body.states {
            let handle = self.new_state(&format!("{prefix}{}", state.name), state.span);
            if states
                .insert(Arc::clone(&state.name.name), handle)
                .is_some()
            {
                self.error(
                    state.name.span,
                    format!("the state `{}` is declared twice", state.name),
                );
            }
            if matches!(state.name.as_str(), "accept" | "reject") {
                self.error(
                    state.name.span,
                    format!("the state `{}` can't be declared", state.name),
                );
            }
        }
        let Some(start) = states.get("start").copied() else {
            self.error(
                parser.name.span,
                format!("the parser `{}` has no state `start`", parser.name),
            );
            return;
        };
        self.close(Transition::Direct(Target::State(start)));
        for state in &body.states {
            let Some(handle) = states.get(&state.name.name).copied() else {
                continue;
            };
            self.open(handle);
            let inner = scope.inside();
            self.statements(&inner, &state.statements);
            let transition = self.transition(&inner, state, &states, after);
            self.close(transition);
        }
        self.open(after);
    }

    pub fn parser_local(&mut self, scope: &Scope<'a>, decl: &'a ast::Decl, again: bool) {
        match &decl.kind {
            DeclKind::Var(var) => self.block_variable(scope, decl, var, again),
            _ if again => {}
            DeclKind::Instance(instance) => self.block_instance(scope, decl, instance),
            DeclKind::ValueSet(set) => self.value_set(scope, decl, set),
            _ => self.declare_type_or_constant(scope, decl),
        }
    }

    pub fn value_set(&mut self, scope: &Scope<'a>, decl: &'a ast::Decl, set: &'a ast::ValueSet) {
        let ty = self.resolve_type(scope, &set.ty);
        let size = self
            .constant_u32(scope, &set.size, "the size of a value set")
            .unwrap_or(0);
        let annotations = self.annotations(scope, &decl.annotations);
        let name = self.full_name(&annotations, set.name.as_str());
        let names = self.names_of(&name, annotations);
        let mut fields = Vec::new();
        if let Some(defs) = self.types.fields(ty).map(<[_]>::to_vec) {
            let ids: Vec<_> = defs
                .iter()
                .map(|def| (id_annotation(&def.annotations), def.span))
                .collect();
            self.distinct_ids(&ids);
            for def in defs {
                let Some(scalar) = self.types.scalar(def.ty) else {
                    self.unsupported(
                        set.ty.span,
                        "the parts of a value set's members must be numbers",
                    );
                    continue;
                };
                let match_kind = match &def.annotations.iter().find(|a| a.name() == "match") {
                    Some(crate::ir::Annotation::Unstructured {
                        body: Some(body), ..
                    }) => match &**body {
                        "ternary" => MatchKind::Ternary,
                        "lpm" => MatchKind::Lpm,
                        "range" => MatchKind::Range,
                        "optional" => MatchKind::Optional,
                        _ => MatchKind::Exact,
                    },
                    _ => MatchKind::Exact,
                };
                if match_kind != MatchKind::Exact {
                    let report = Diagnostic::warning(
                        def.span,
                        "the target matches value sets exactly; `@match` has no effect there",
                    )
                    .with_code("unsupported");
                    self.report(report);
                }
                fields.push(ValueSetField {
                    name: name_annotation(&def.annotations)
                        .unwrap_or_else(|| Arc::clone(&def.name)),
                    width: scalar.width(),
                    match_kind,
                    id: id_annotation(&def.annotations),
                    annotations: def.annotations.clone(),
                });
            }
        } else if let Some(scalar) = self.types.scalar(ty) {
            fields.push(ValueSetField {
                name: "".into(),
                width: scalar.width(),
                match_kind: MatchKind::Exact,
                id: None,
                annotations: Vec::new(),
            });
        } else {
            let name = self.types.name(ty);
            self.unsupported(
                set.ty.span,
                format!("a value set of `{name}` is not supported"),
            );
        }
        let handle = self.ir.value_sets.append(ValueSet {
            names,
            size: u64::from(size),
            fields,
            span: decl.span,
        });
        self.note(Declared::ValueSet(handle));
        self.declare(scope, &set.name, Entity::ValueSet(handle));
    }

    pub fn transition(
        &mut self,
        scope: &Scope<'a>,
        state: &'a ast::State,
        states: &FxHashMap<Arc<str>, Handle<State>>,
        accept: Handle<State>,
    ) -> Transition {
        match &state.transition {
            None => Transition::Direct(self.reject(state.span)),
            Some(ast::Transition::Direct(name)) => {
                Transition::Direct(self.target(name, states, accept))
            }
            Some(ast::Transition::Select(select)) => self.select(scope, select, states, accept),
        }
    }

    pub fn target(
        &mut self,
        name: &ast::Ident,
        states: &FxHashMap<Arc<str>, Handle<State>>,
        accept: Handle<State>,
    ) -> Target {
        match name.as_str() {
            "accept" => Target::State(accept),
            "reject" => self.reject(name.span),
            other => match states.get(other) {
                Some(state) => Target::State(*state),
                None => {
                    let mut report =
                        Diagnostic::error(name.span, format!("there is no state `{name}`"));
                    if let Some(near) = states
                        .keys()
                        .filter(|s| super::scope::edit_distance(s, other) <= 2)
                        .min()
                    {
                        report = report.with_help(format!("is `{near}` meant?"));
                    }
                    self.report(report);
                    Target::Accept
                }
            },
        }
    }

    /// `reject`: parsing ends, without an error of its own.
    pub fn reject(&mut self, span: Span) -> Target {
        self.failing("reject", "NoError", span)
    }

    pub fn failing(&mut self, name: &'static str, error: &str, span: Span) -> Target {
        if let Some(known) = self.names.failing.get(name) {
            return Target::State(*known);
        }
        let number = self
            .ir
            .errors
            .iter()
            .position(|e| &**e == error)
            .unwrap_or(0);
        let error = self.ir.exprs.bits(number as u64, 32);
        let condition = self.ir.exprs.bool(false);
        let state = self.new_state(name, span);
        self.names.failing.insert(name, state);
        self.finish_state(
            state,
            vec![Stmt {
                span,
                kind: StmtKind::Verify { condition, error },
            }],
            Transition::Direct(Target::Accept),
        );
        Target::State(state)
    }
}
