//! Declarations: the top level, types, constants, variables, instances, functions and externs.

use super::{Failed, Parsed, Parser};
use crate::diagnostics::Diagnostic;
use crate::front::ast::{
    Annotation, Block, ConstDecl, Decl, DeclKind, Direction, Enum, EnumMember, Extern, Field,
    Function, Ident, Instance, Method, Param, Prototype, StructLike, Type, Typedef, TypedefTarget,
    VarDecl,
};
use crate::source::Span;

impl Parser {
    /// One declaration of the top level; nothing for `extern Name;`, which says nothing.
    pub(super) fn top_level(&mut self) -> Parsed<Option<Decl>> {
        let start = self.peek().span;
        let annotations = self.annotations()?;
        let kind = match self.peek().word() {
            Some("const") => return self.local_decl(start, annotations).map(Some),
            Some("extern") => match self.external()? {
                Some(kind) => kind,
                None => return Ok(None),
            },
            Some("action") => self.action()?,
            Some("parser") => self.parser_decl()?,
            Some("control") => self.control_decl()?,
            Some("package") => self.package()?,
            Some("header" | "header_union" | "struct" | "enum") => self.derived_type()?,
            Some("error") if self.peek_at(1).is_symbol("{") => {
                self.at += 1;
                DeclKind::Error(self.name_list("an error's name")?)
            }
            Some("match_kind") if self.peek_at(1).is_symbol("{") => {
                self.at += 1;
                DeclKind::MatchKind(self.name_list("a match kind's name")?)
            }
            Some("typedef") => self.typedef()?,
            Some("type") if self.type_declaration_ahead() => {
                self.at += 1;
                let target = TypedefTarget::Type(self.ty()?);
                DeclKind::Newtype(self.typedef_name(target)?)
            }
            Some("table") => {
                let span = self.peek().span;
                self.report(
                    Diagnostic::error(span, "a table cannot stand at the top level")
                        .with_help("move it into a `control`"),
                );
                return Err(Failed);
            }
            _ => return self.function_or_instance(start, annotations).map(Some),
        };
        Ok(Some(Decl {
            span: self.since(start),
            annotations,
            kind,
        }))
    }

    /// Whether `type` here is the keyword: a type follows, and a name.
    fn type_declaration_ahead(&self) -> bool {
        self.look_past_type(self.at + 1)
            .is_some_and(|end| self.name_at(end - self.at))
    }

    fn function_or_instance(&mut self, start: Span, annotations: Vec<Annotation>) -> Parsed<Decl> {
        if !self.name_at(0)
            && !self.at_symbol(".")
            && !self.at_word("void")
            && !self.base_type_at(self.at)
        {
            return Err(self.unexpected("a declaration"));
        }
        if matches!(
            self.peek().word(),
            Some("header_type" | "blackbox_type" | "field_list" | "metadata")
        ) && self.name_at(1)
            && !self.peek_at(2).is_symbol("(")
        {
            let token = self.peek().clone();
            self.report(
                Diagnostic::error(
                    token.span,
                    format!("expected a declaration, found {}", token.describe()),
                )
                .with_help("this looks like P4_14, which is another language"),
            );
            return Err(Failed);
        }
        let ty = self.return_type()?;
        let kind = if self.at_symbol("(") {
            self.instance(ty)?
        } else {
            let name = self.name("a name")?;
            if self.at_symbol("(") || self.at_symbol("<") {
                self.function(ty, name)?
            } else if self.at_symbol("=") || self.at_symbol(";") {
                self.report(
                    Diagnostic::error(
                        name.span,
                        format!("variable `{name}` cannot stand at the top level"),
                    )
                    .with_help(
                        "make it a `const`, or move it into a `control`, `parser` or `action`",
                    ),
                );
                return Err(Failed);
            } else {
                return Err(self.unexpected("`(`"));
            }
        };
        Ok(Decl {
            span: self.since(start),
            annotations,
            kind,
        })
    }

    fn function(&mut self, ret: Type, name: Ident) -> Parsed<DeclKind> {
        self.scopes.declare_value(&name.name);
        let depth = self.scopes.depth();
        self.scopes.enter();
        let rest = self
            .prototype_rest(Some(ret), name)
            .and_then(|proto| Ok((proto, self.block()?)));
        self.scopes.back_to(depth);
        let (proto, body): (Prototype, Block) = rest?;
        Ok(DeclKind::Function(Function { proto, body }))
    }

    /// Type parameters and parameters behind a function's name.
    fn prototype_rest(&mut self, ret: Option<Type>, name: Ident) -> Parsed<Prototype> {
        let type_params = self.type_params()?;
        let params = self.params()?;
        Ok(Prototype {
            ret,
            name,
            type_params,
            params,
        })
    }

    /// `(…) name [= {…}];` behind a type.
    fn instance(&mut self, ty: Type) -> Parsed<DeclKind> {
        let args = self.arguments()?;
        let name = self.name("an instance's name")?;
        let mut body = None;
        if self.take_symbol("=") {
            let depth = self.scopes.depth();
            self.scopes.enter();
            let list = self.nested(|p| {
                p.braced(|p| {
                    let start = p.peek().span;
                    let annotations = p.annotations()?;
                    p.function_or_instance(start, annotations)
                })
            });
            self.scopes.back_to(depth);
            body = Some(list?);
        }
        self.expect_semicolon()?;
        self.scopes.declare_value(&name.name);
        Ok(DeclKind::Instance(Instance {
            ty,
            args,
            name,
            body,
        }))
    }

    /// A constant, variable or instance.
    pub(super) fn local_decl(&mut self, start: Span, annotations: Vec<Annotation>) -> Parsed<Decl> {
        if self.take_word("const") {
            let ty = self.ty()?;
            let name = self.name("a constant's name")?;
            let ty = self.dimensions(ty)?;
            self.expect("=")?;
            let value = self.expr()?;
            self.expect_semicolon()?;
            self.scopes.declare_value(&name.name);
            let kind = DeclKind::Const(ConstDecl { ty, name, value });
            return Ok(Decl {
                span: self.since(start),
                annotations,
                kind,
            });
        }
        if self
            .look_past_type(self.at)
            .is_some_and(|end| self.token_at(end).is_symbol("("))
        {
            let ty = self.ty()?;
            let kind = self.instance(ty)?;
            return Ok(Decl {
                span: self.since(start),
                annotations,
                kind,
            });
        }
        let mut decl = self.variable(start, annotations)?;
        self.expect_semicolon()?;
        decl.span = self.since(start);
        Ok(decl)
    }

    /// A variable without the semicolon.
    pub(super) fn variable(&mut self, start: Span, annotations: Vec<Annotation>) -> Parsed<Decl> {
        let ty = self.ty()?;
        let name = self.name("a variable's name")?;
        let ty = self.dimensions(ty)?;
        let init = if self.take_symbol("=") {
            Some(self.expr()?)
        } else {
            None
        };
        self.scopes.declare_value(&name.name);
        let kind = DeclKind::Var(VarDecl { ty, name, init });
        Ok(Decl {
            span: self.since(start),
            annotations,
            kind,
        })
    }

    /// `(…)` of a declaration. The names become values of the current scope.
    pub(super) fn params(&mut self) -> Parsed<Vec<Param>> {
        self.expect("(")?;
        let params = self.separated(")", false, Self::param)?;
        for param in &params {
            self.scopes.declare_value(&param.name.name);
        }
        Ok(params)
    }

    fn param(&mut self) -> Parsed<Param> {
        let start = self.peek().span;
        let annotations = self.annotations()?;
        let direction = match self.peek().word() {
            Some("in") => Direction::In,
            Some("out") => Direction::Out,
            Some("inout") => Direction::InOut,
            _ => Direction::None,
        };
        if direction != Direction::None {
            self.at += 1;
        }
        let ty = self.ty()?;
        let name = self.name("a parameter's name")?;
        let ty = self.dimensions(ty)?;
        let default = if self.take_symbol("=") {
            Some(self.expr()?)
        } else {
            None
        };
        Ok(Param {
            span: self.since(start),
            annotations,
            direction,
            ty,
            name,
            default,
        })
    }

    fn derived_type(&mut self) -> Parsed<DeclKind> {
        let word = self.peek().word().unwrap_or("").to_owned();
        self.at += 1;
        if word == "enum" {
            return self.enumeration();
        }
        let name = self.name("a name")?;
        self.scopes.declare_type(&name.name);
        let depth = self.scopes.depth();
        self.scopes.enter();
        let rest = self
            .type_params()
            .and_then(|types| Ok((types, self.braced(Self::field)?)));
        self.scopes.back_to(depth);
        let (type_params, fields) = rest?;
        let made = StructLike {
            name,
            type_params,
            fields,
        };
        Ok(match word.as_str() {
            "header" => DeclKind::Header(made),
            "header_union" => DeclKind::HeaderUnion(made),
            _ => DeclKind::Struct(made),
        })
    }

    fn field(&mut self) -> Parsed<Field> {
        let start = self.peek().span;
        let annotations = self.annotations()?;
        let ty = self.ty()?;
        let name = self.name("a field's name")?;
        let ty = self.dimensions(ty)?;
        self.expect_semicolon()?;
        Ok(Field {
            span: self.since(start),
            annotations,
            ty,
            name,
        })
    }

    fn enumeration(&mut self) -> Parsed<DeclKind> {
        let plain = self.name_at(0) && self.peek_at(1).is_symbol("{");
        let underlying = if plain { None } else { Some(self.ty()?) };
        let name = self.name("an enumeration's name")?;
        self.scopes.declare_type(&name.name);
        self.expect("{")?;
        let members = self.separated("}", true, |p| {
            let start = p.peek().span;
            let name = p.name("a member's name")?;
            let value = if p.take_symbol("=") {
                Some(p.expr()?)
            } else {
                None
            };
            Ok(EnumMember {
                span: p.since(start),
                name,
                value,
            })
        })?;
        if let (Some(_), Some(bare)) = (&underlying, members.iter().find(|m| m.value.is_none())) {
            self.diagnostics.push(
                Diagnostic::error(bare.span, format!("member `{}` has no value", bare.name))
                    .with_code("syntax")
                    .with_help("every member of an enumeration with an underlying type needs one"),
            );
        }
        if let (None, Some(valued)) = (&underlying, members.iter().find(|m| m.value.is_some())) {
            self.diagnostics.push(
                Diagnostic::error(valued.span, format!("member `{}` has a value", valued.name))
                    .with_code("syntax")
                    .with_help(format!(
                        "give the enumeration a type, as in `enum bit<8> {name}`"
                    )),
            );
        }
        Ok(DeclKind::Enum(Enum {
            underlying,
            name,
            members,
        }))
    }

    fn name_list(&mut self, what: &str) -> Parsed<Vec<Ident>> {
        self.expect("{")?;
        self.separated("}", true, |p| p.name(what))
    }

    fn typedef(&mut self) -> Parsed<DeclKind> {
        self.at += 1;
        let start = self.peek().span;
        let annotations = self.annotations()?;
        let target = match self.peek().word() {
            Some("header" | "header_union" | "struct" | "enum") => {
                let kind = self.derived_type()?;
                TypedefTarget::Declared(Box::new(Decl {
                    span: self.since(start),
                    annotations,
                    kind,
                }))
            }
            _ => TypedefTarget::Type(self.ty()?),
        };
        Ok(DeclKind::Typedef(self.typedef_name(target)?))
    }

    fn typedef_name(&mut self, target: TypedefTarget) -> Parsed<Typedef> {
        let name = self.name("the new type's name")?;
        let target = match target {
            TypedefTarget::Type(ty) => TypedefTarget::Type(self.dimensions(ty)?),
            declared @ TypedefTarget::Declared(_) => declared,
        };
        self.expect_semicolon()?;
        self.scopes.declare_type(&name.name);
        Ok(Typedef { target, name })
    }

    fn external(&mut self) -> Parsed<Option<DeclKind>> {
        self.at += 1;
        if self.name_at(0) && self.peek_at(1).is_symbol(";") {
            let name = self.name("an extern's name")?;
            self.scopes.declare_type(&name.name);
            self.at += 1;
            return Ok(None);
        }
        let after = if self.name_at(0) && self.peek_at(1).is_symbol("<") {
            self.look_past_type_args(self.at + 1)
        } else {
            Some(self.at + 1)
        };
        let object = self.name_at(0) && after.is_some_and(|at| self.token_at(at).is_symbol("{"));
        let depth = self.scopes.depth();
        let result = if object {
            self.extern_object()
        } else {
            self.extern_function()
        };
        self.scopes.back_to(depth);
        result.map(Some)
    }

    fn extern_object(&mut self) -> Parsed<DeclKind> {
        let name = self.name("an extern's name")?;
        self.scopes.declare_type(&name.name);
        self.scopes.enter();
        let type_params = self.type_params()?;
        let methods = self.braced(|p| p.method(&name))?;
        Ok(DeclKind::Extern(Extern {
            name,
            type_params,
            methods,
        }))
    }

    fn method(&mut self, owner: &Ident) -> Parsed<Method> {
        let start = self.peek().span;
        let annotations = self.annotations()?;
        let is_abstract = self.take_word("abstract");
        let depth = self.scopes.depth();
        let constructor = self.name_at(0) && self.peek_at(1).is_symbol("(");
        let proto = if constructor {
            let name = self.name("a constructor's name")?;
            if name.name != owner.name {
                self.report(
                    Diagnostic::error(name.span, format!("method `{name}` has no result type"))
                        .with_help(format!(
                            "write `void {name}(…)`; a constructor would be called `{owner}`"
                        )),
                );
            }
            self.scopes.enter();
            self.prototype_rest(None, name)
        } else {
            self.signature()
        };
        self.scopes.back_to(depth);
        let proto = proto?;
        self.expect_semicolon()?;
        Ok(Method {
            span: self.since(start),
            annotations,
            is_abstract,
            proto,
        })
    }

    /// `T name<…>(…)`, where `T` may be one of the type parameters that follow it.
    fn signature(&mut self) -> Parsed<Prototype> {
        let ret = self.return_type()?;
        let name = self.name("a method's name")?;
        self.scopes.enter();
        self.prototype_rest(Some(ret), name)
    }

    fn extern_function(&mut self) -> Parsed<DeclKind> {
        let ret = self.return_type()?;
        let name = self.name("a function's name")?;
        self.scopes.declare_value(&name.name);
        self.scopes.enter();
        let proto = self.prototype_rest(Some(ret), name)?;
        self.expect_semicolon()?;
        Ok(DeclKind::ExternFunction(proto))
    }
}
