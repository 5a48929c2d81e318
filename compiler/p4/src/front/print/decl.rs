//! Declarations.

use super::Printer;
use crate::front::ast::{
    ActionRef, Control, Decl, DeclKind, Direction, Entry, Enum, Extern, Ident, Param, Parser,
    PropertyValue, Prototype, State, StructLike, Table, TableProperty, Transition, Typedef,
    TypedefTarget,
};

impl Printer {
    /// A declaration on lines of its own.
    pub(super) fn decl(&mut self, decl: &Decl) {
        self.line(|p| p.decl_inline(decl, true));
    }

    /// A declaration without indentation before it or a line feed behind it. `semicolon` is false only
    /// for a variable in the head of a `for`.
    pub(super) fn decl_inline(&mut self, decl: &Decl, semicolon: bool) {
        self.annotations(&decl.annotations);
        let block_like = match &decl.kind {
            DeclKind::Const(d) => {
                self.put("const ");
                self.ty(&d.ty);
                self.put(" ");
                self.put(d.name.as_str());
                self.put(" = ");
                self.expr(&d.value);
                false
            }
            DeclKind::Var(d) => {
                self.ty(&d.ty);
                self.put(" ");
                self.put(d.name.as_str());
                if let Some(init) = &d.init {
                    self.put(" = ");
                    self.expr(init);
                }
                false
            }
            DeclKind::Instance(d) => {
                self.ty(&d.ty);
                self.arguments(&d.args);
                self.put(" ");
                self.put(d.name.as_str());
                if let Some(body) = &d.body {
                    self.put(" = ");
                    self.braces(|p| body.iter().for_each(|decl| p.decl(decl)));
                }
                false
            }
            DeclKind::Action(d) => {
                self.put("action ");
                self.put(d.name.as_str());
                self.params(&d.params);
                self.put(" ");
                self.block(&d.body);
                true
            }
            DeclKind::Table(table) => self.table(table),
            DeclKind::Function(d) => {
                self.prototype(&d.proto);
                self.put(" ");
                self.block(&d.body);
                true
            }
            DeclKind::ValueSet(d) => {
                self.put("value_set<");
                self.ty(&d.ty);
                self.put(">(");
                self.expr(&d.size);
                self.put(") ");
                self.put(d.name.as_str());
                false
            }
            DeclKind::Header(d) => self.struct_like("header", d),
            DeclKind::HeaderUnion(d) => self.struct_like("header_union", d),
            DeclKind::Struct(d) => self.struct_like("struct", d),
            DeclKind::Enum(d) => self.enumeration(d),
            DeclKind::Error(names) => self.names("error ", names),
            DeclKind::MatchKind(names) => self.names("match_kind ", names),
            DeclKind::Typedef(d) => self.typedef("typedef ", d),
            DeclKind::Newtype(d) => self.typedef("type ", d),
            DeclKind::Extern(d) => self.external(d),
            DeclKind::ExternFunction(proto) => {
                self.put("extern ");
                self.prototype(proto);
                false
            }
            DeclKind::Parser(d) => self.parser(d),
            DeclKind::Control(d) => self.control(d),
            DeclKind::Package(d) => {
                self.put("package ");
                self.put(d.name.as_str());
                self.type_params(&d.type_params);
                self.params(&d.params);
                false
            }
        };
        if semicolon && !block_like {
            self.put(";");
        }
    }

    fn params(&mut self, params: &[Param]) {
        self.put("(");
        self.list(params, |p, param| {
            p.annotations(&param.annotations);
            p.put(match param.direction {
                Direction::None => "",
                Direction::In => "in ",
                Direction::Out => "out ",
                Direction::InOut => "inout ",
            });
            p.ty(&param.ty);
            p.put(" ");
            p.put(param.name.as_str());
            if let Some(default) = &param.default {
                p.put(" = ");
                p.expr(default);
            }
        });
        self.put(")");
    }

    fn prototype(&mut self, proto: &Prototype) {
        if let Some(ret) = &proto.ret {
            self.ty(ret);
            self.put(" ");
        }
        self.put(proto.name.as_str());
        self.type_params(&proto.type_params);
        self.params(&proto.params);
    }

    fn struct_like(&mut self, word: &str, d: &StructLike) -> bool {
        self.put(word);
        self.put(" ");
        self.put(d.name.as_str());
        self.type_params(&d.type_params);
        self.put(" ");
        self.braces(|p| {
            for field in &d.fields {
                p.line(|p| {
                    p.annotations(&field.annotations);
                    p.ty(&field.ty);
                    p.put(" ");
                    p.put(field.name.as_str());
                    p.put(";");
                });
            }
        });
        true
    }

    fn enumeration(&mut self, d: &Enum) -> bool {
        self.put("enum ");
        if let Some(ty) = &d.underlying {
            self.ty(ty);
            self.put(" ");
        }
        self.put(d.name.as_str());
        self.put(" ");
        let last = d.members.len();
        self.braces(|p| {
            for (index, member) in d.members.iter().enumerate() {
                p.line(|p| {
                    p.put(member.name.as_str());
                    if let Some(value) = &member.value {
                        p.put(" = ");
                        p.expr(value);
                    }
                    p.put(if index + 1 < last { "," } else { "" });
                });
            }
        });
        true
    }

    fn names(&mut self, word: &str, names: &[Ident]) -> bool {
        self.put(word);
        self.braces(|p| {
            for (index, name) in names.iter().enumerate() {
                p.line(|p| {
                    p.put(name.as_str());
                    p.put(if index + 1 < names.len() { "," } else { "" });
                });
            }
        });
        true
    }

    fn typedef(&mut self, word: &str, d: &Typedef) -> bool {
        self.put(word);
        match &d.target {
            TypedefTarget::Type(ty) => self.ty(ty),
            TypedefTarget::Declared(decl) => self.decl_inline(decl, false),
        }
        self.put(" ");
        self.put(d.name.as_str());
        false
    }

    fn external(&mut self, d: &Extern) -> bool {
        self.put("extern ");
        self.put(d.name.as_str());
        self.type_params(&d.type_params);
        self.put(" ");
        self.braces(|p| {
            for method in &d.methods {
                p.line(|p| {
                    p.annotations(&method.annotations);
                    p.put(if method.is_abstract { "abstract " } else { "" });
                    p.prototype(&method.proto);
                    p.put(";");
                });
            }
        });
        true
    }

    fn head(
        &mut self,
        word: &str,
        name: &Ident,
        types: &[Ident],
        params: &[Param],
        ctor: &[Param],
    ) {
        self.put(word);
        self.put(name.as_str());
        self.type_params(types);
        self.params(params);
        if !ctor.is_empty() {
            self.params(ctor);
        }
    }

    fn parser(&mut self, d: &Parser) -> bool {
        self.head(
            "parser ",
            &d.name,
            &d.type_params,
            &d.params,
            &d.ctor_params,
        );
        let Some(body) = &d.body else { return false };
        self.put(" ");
        self.braces(|p| {
            body.locals.iter().for_each(|decl| p.decl(decl));
            body.states
                .iter()
                .for_each(|state| p.line(|p| p.state(state)));
        });
        true
    }

    fn state(&mut self, state: &State) {
        self.annotations(&state.annotations);
        self.put("state ");
        self.put(state.name.as_str());
        self.put(" ");
        self.braces(|p| {
            state.statements.iter().for_each(|s| p.stmt(s));
            match &state.transition {
                None => {}
                Some(Transition::Direct(target)) => p.line(|p| {
                    p.put("transition ");
                    p.put(target.as_str());
                    p.put(";");
                }),
                Some(Transition::Select(select)) => p.line(|p| {
                    p.put("transition select(");
                    p.list(&select.exprs, |p, e| p.expr(e));
                    p.put(") ");
                    p.braces(|p| {
                        for case in &select.cases {
                            p.line(|p| {
                                p.keysets(&case.keys);
                                p.put(": ");
                                p.put(case.target.as_str());
                                p.put(";");
                            });
                        }
                    });
                }),
            }
        });
    }

    fn control(&mut self, d: &Control) -> bool {
        self.head(
            "control ",
            &d.name,
            &d.type_params,
            &d.params,
            &d.ctor_params,
        );
        let Some(body) = &d.body else { return false };
        self.put(" ");
        self.braces(|p| {
            body.locals.iter().for_each(|decl| p.decl(decl));
            p.line(|p| {
                p.put("apply ");
                p.block(&body.apply);
            });
        });
        true
    }

    fn table(&mut self, d: &Table) -> bool {
        self.put("table ");
        self.put(d.name.as_str());
        self.put(" ");
        self.braces(|p| {
            d.properties
                .iter()
                .for_each(|property| p.line(|p| p.property(property)))
        });
        true
    }

    fn property(&mut self, property: &TableProperty) {
        self.annotations(&property.annotations);
        self.put(if property.is_const { "const " } else { "" });
        self.put(property.name.as_str());
        self.put(" = ");
        match &property.value {
            PropertyValue::Key(elements) => self.braces(|p| {
                for element in elements {
                    p.line(|p| {
                        p.expr(&element.expr);
                        p.put(": ");
                        p.put(element.match_kind.as_str());
                        p.annotations_behind(&element.annotations);
                        p.put(";");
                    });
                }
            }),
            PropertyValue::Actions(actions) => self.braces(|p| {
                for action in actions {
                    p.line(|p| {
                        p.annotations(&action.annotations);
                        p.action_ref(action);
                        p.put(";");
                    });
                }
            }),
            PropertyValue::Entries(entries) => {
                self.braces(|p| entries.iter().for_each(|entry| p.line(|p| p.entry(entry))));
            }
            PropertyValue::Expr(value) => {
                self.expr(value);
                self.put(";");
            }
        }
    }

    fn action_ref(&mut self, action: &ActionRef) {
        self.path(&action.path);
        if let Some(args) = &action.args {
            self.arguments(args);
        }
    }

    fn entry(&mut self, entry: &Entry) {
        self.put(if entry.is_const { "const " } else { "" });
        if let Some(priority) = &entry.priority {
            self.put("priority = ");
            self.expr(priority);
            self.put(": ");
        }
        self.keysets(&entry.keys);
        self.put(": ");
        self.action_ref(&entry.action);
        self.annotations_behind(&entry.action.annotations);
        self.put(";");
    }
}
