//! Parsers, controls and packages: what a program's packets go through.

use super::{Failed, Parsed, Parser};
use crate::diagnostics::Diagnostic;
use crate::front::ast::{
    Action, Control, ControlBody, Decl, DeclKind, Ident, Package, Param, Parser as ParserDecl,
    ParserBody, Select, SelectCase, State, Transition, ValueSet,
};

struct Head {
    name: Ident,
    type_params: Vec<Ident>,
    params: Vec<Param>,
    ctor_params: Vec<Param>,
}

impl Parser {
    /// `parser` or `control`, the scope of whose parameters stays open.
    fn head(&mut self, what: &str) -> Parsed<Head> {
        self.at += 1;
        let name = self.name(what)?;
        self.scopes.declare_type(&name.name);
        self.scopes.enter();
        let type_params = self.type_params()?;
        let params = self.params()?;
        let ctor_params = if self.at_symbol("(") {
            self.params()?
        } else {
            Vec::new()
        };
        Ok(Head {
            name,
            type_params,
            params,
            ctor_params,
        })
    }

    pub(super) fn parser_decl(&mut self) -> Parsed<DeclKind> {
        let Head {
            name,
            type_params,
            params,
            ctor_params,
        } = self.head("a parser's name")?;
        let body = if self.take_symbol(";") {
            None
        } else {
            Some(self.parser_body()?)
        };
        self.scopes.leave();
        Ok(DeclKind::Parser(ParserDecl {
            name,
            type_params,
            params,
            ctor_params,
            body,
        }))
    }

    fn parser_body(&mut self) -> Parsed<ParserBody> {
        enum Item {
            Local(Decl),
            State(State),
        }
        let items = self.braced(|p| {
            let start = p.peek().span;
            let annotations = p.annotations()?;
            if p.at_word("state") && p.peek_at(1).word().is_some() && !p.peek_at(2).is_symbol(";") {
                let mut state = p.state()?;
                state.annotations = annotations;
                state.span = p.since(start);
                return Ok(Item::State(state));
            }
            if p.at_word("value_set") {
                let kind = p.value_set()?;
                return Ok(Item::Local(Decl {
                    span: p.since(start),
                    annotations,
                    kind,
                }));
            }
            if !p.at_word("const") && !p.declaration_ahead() {
                return Err(p.unexpected("a state or a declaration"));
            }
            Ok(Item::Local(p.local_decl(start, annotations)?))
        })?;
        let mut body = ParserBody {
            locals: Vec::new(),
            states: Vec::new(),
        };
        for item in items {
            match item {
                Item::Local(decl) => {
                    if let Some(state) = body.states.first() {
                        self.diagnostics.push(
                            Diagnostic::error(decl.span, "a declaration behind a state")
                                .with_code("syntax")
                                .with_label(state.name.span, "the first state")
                                .with_help("move it before the states"),
                        );
                    }
                    body.locals.push(decl);
                }
                Item::State(state) => body.states.push(state),
            }
        }
        Ok(body)
    }

    fn state(&mut self) -> Parsed<State> {
        let start = self.next().span;
        let name = self.name("a state's name")?;
        let depth = self.scopes.depth();
        self.scopes.enter();
        let open = self.expect("{")?;
        let mut transition = None;
        let statements = self.items_until_close(open, &mut |p: &mut Self| {
            if !p.at_word("transition") {
                if transition.is_some() {
                    return Err(p.unexpected("`}` behind the transition"));
                }
                return p.stmt().map(Some);
            }
            if transition.is_some() {
                return Err(p.unexpected("`}` behind the transition"));
            }
            transition = Some(p.transition()?);
            Ok(None)
        });
        self.scopes.back_to(depth);
        let statements = statements?.into_iter().flatten().collect();
        Ok(State {
            span: self.since(start),
            annotations: Vec::new(),
            name,
            statements,
            transition,
        })
    }

    fn transition(&mut self) -> Parsed<Transition> {
        self.at += 1;
        let start = self.peek().span;
        if !self.take_word("select") {
            let target = self.name("a state's name or `select`")?;
            self.expect_semicolon()?;
            return Ok(Transition::Direct(target));
        }
        self.expect("(")?;
        let exprs = self.separated(")", false, Self::expr)?;
        if exprs.is_empty() {
            let span = self.previous();
            self.report(Diagnostic::error(span, "expected an expression, found `)`"));
        }
        let cases = self.braced(|p| {
            let start = p.peek().span;
            let keys = p.keysets()?;
            p.expect(":")?;
            let target = p.name("a state's name")?;
            p.expect_semicolon()?;
            Ok(SelectCase {
                span: p.since(start),
                keys,
                target,
            })
        })?;
        Ok(Transition::Select(Select {
            span: self.since(start),
            exprs,
            cases,
        }))
    }

    fn value_set(&mut self) -> Parsed<DeclKind> {
        self.at += 1;
        self.expect("<")?;
        let ty = self.ty()?;
        self.expect(">")?;
        self.expect("(")?;
        let size = self.expr()?;
        self.expect(")")?;
        let name = self.name("a value set's name")?;
        self.expect_semicolon()?;
        self.scopes.declare_value(&name.name);
        Ok(DeclKind::ValueSet(ValueSet { ty, size, name }))
    }

    pub(super) fn control_decl(&mut self) -> Parsed<DeclKind> {
        let Head {
            name,
            type_params,
            params,
            ctor_params,
        } = self.head("a control's name")?;
        let body = if self.take_symbol(";") {
            None
        } else {
            Some(self.control_body(&name)?)
        };
        self.scopes.leave();
        Ok(DeclKind::Control(Control {
            name,
            type_params,
            params,
            ctor_params,
            body,
        }))
    }

    fn control_body(&mut self, name: &Ident) -> Parsed<ControlBody> {
        let open = self.expect("{")?;
        let mut apply = None;
        let items = self.items_until_close(open, &mut |p: &mut Self| {
            let start = p.peek().span;
            let annotations = p.annotations()?;
            if p.at_word("apply") && (p.peek_at(1).is_symbol("{") || p.peek_at(1).is_symbol("@")) {
                if apply.is_some() {
                    return Err(p.unexpected("`}` behind the `apply` block"));
                }
                p.at += 1;
                let mut block = p.block()?;
                if block.annotations.is_empty() {
                    block.annotations = annotations;
                }
                apply = Some(block);
                return Ok(None);
            }
            if apply.is_some() {
                return Err(p.unexpected("`}` behind the `apply` block"));
            }
            let decl = match p.peek().word() {
                Some("action") => {
                    let kind = p.action()?;
                    Decl {
                        span: p.since(start),
                        annotations,
                        kind,
                    }
                }
                Some("table") => {
                    let kind = p.table()?;
                    Decl {
                        span: p.since(start),
                        annotations,
                        kind,
                    }
                }
                Some("const") => p.local_decl(start, annotations)?,
                _ if p.declaration_ahead() => p.local_decl(start, annotations)?,
                _ => return Err(p.unexpected("a declaration or `apply`")),
            };
            Ok(Some(decl))
        })?;
        let locals = items.into_iter().flatten().collect();
        if let Some(apply) = apply {
            return Ok(ControlBody { locals, apply });
        }
        if !self.diagnostics.has_errors() {
            let span = self.previous();
            self.report(
                Diagnostic::error(span, format!("control `{name}` has no `apply` block"))
                    .with_note_here("expected `apply { … }` before this"),
            );
        }
        Err(Failed)
    }

    pub(super) fn action(&mut self) -> Parsed<DeclKind> {
        self.expect_word("action")?;
        let name = self.name("an action's name")?;
        self.scopes.declare_value(&name.name);
        let depth = self.scopes.depth();
        self.scopes.enter();
        let rest = self.params().and_then(|params| Ok((params, self.block()?)));
        self.scopes.back_to(depth);
        let (params, body) = rest?;
        Ok(DeclKind::Action(Action { name, params, body }))
    }

    pub(super) fn package(&mut self) -> Parsed<DeclKind> {
        self.at += 1;
        let name = self.name("a package's name")?;
        self.scopes.declare_type(&name.name);
        self.scopes.enter();
        let type_params = self.type_params()?;
        let params = self.params()?;
        self.scopes.leave();
        self.expect_semicolon()?;
        Ok(DeclKind::Package(Package {
            name,
            type_params,
            params,
        }))
    }
}
