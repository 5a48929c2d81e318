//! Types as written become types as meant.

use std::sync::Arc;

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use crate::diagnostics::Diagnostic;
use crate::front::ast::{self, TypeKind};
use crate::source::Span;

use super::annotation::name_annotation;
use super::lower::Lower;
use super::operand::OperandKind;
use super::scope::{Entity, Scope};
use super::types::{StructDef, Ty, TyKind};

/// The widest number that a program may use, in bits.
pub const MAX_WIDTH: u32 = 2048;

/// The widest field of variable width, in bits.
const MAX_VARBIT: u32 = 65_536;

/// How many scalars a type may consist of.
const MAX_LEAVES: u64 = 65_536;

impl<'a> Lower<'a> {
    /// The type that a text stands for; [`TyKind::Unknown`] after an error.
    pub fn resolve_type(&mut self, scope: &Scope<'a>, ty: &'a ast::Type) -> Ty {
        let kind = match &ty.kind {
            TypeKind::Bool => TyKind::Bool,
            TypeKind::Error => TyKind::Error,
            TypeKind::MatchKind => TyKind::MatchKind,
            TypeKind::String => TyKind::String,
            TypeKind::Void => TyKind::Void,
            TypeKind::DontCare => TyKind::Unknown,
            TypeKind::Int => TyKind::Int,
            TypeKind::Bit(width) => match self.width(scope, width, MAX_WIDTH) {
                Some(width) => TyKind::Bits {
                    width,
                    signed: false,
                },
                None => TyKind::Unknown,
            },
            TypeKind::SignedInt(width) => match self.width(scope, width, MAX_WIDTH) {
                Some(0) => {
                    self.error(ty.span, "a signed number needs at least one bit");
                    TyKind::Unknown
                }
                Some(width) => TyKind::Bits {
                    width,
                    signed: true,
                },
                None => TyKind::Unknown,
            },
            TypeKind::Varbit(width) => match self.width(scope, width, MAX_VARBIT) {
                Some(width) => TyKind::Varbit(width),
                None => TyKind::Unknown,
            },
            TypeKind::Named { path, args } => return self.named_type(scope, path, args, ty.span),
            TypeKind::Stack { element, size } => {
                let element_ty = self.resolve_type(scope, element);
                let size = self.constant_u32(scope, size, "the size of a stack");
                match (&self.types[element_ty], size) {
                    (_, None) | (TyKind::Unknown, _) => TyKind::Unknown,
                    (TyKind::Header(_) | TyKind::Union(_), Some(0)) => {
                        self.error(ty.span, "a stack needs at least one element");
                        TyKind::Unknown
                    }
                    (TyKind::Header(_) | TyKind::Union(_), Some(size))
                        if self
                            .types
                            .leaves(element_ty)
                            .saturating_mul(u64::from(size))
                            > MAX_LEAVES =>
                    {
                        self.error(ty.span, format!("a stack of {size} elements is too large"));
                        TyKind::Unknown
                    }
                    (TyKind::Header(_) | TyKind::Union(_), Some(size)) => {
                        TyKind::Stack(element_ty, size)
                    }
                    _ => {
                        let name = self.types.name(element_ty);
                        self.report(
                            Diagnostic::error(element.span, format!("a stack can't hold `{name}`"))
                                .with_note_here("expected a header or a header union"),
                        );
                        TyKind::Unknown
                    }
                }
            }
            TypeKind::Tuple(parts) => TyKind::Tuple(
                parts
                    .iter()
                    .map(|part| self.resolve_type(scope, part))
                    .collect(),
            ),
            TypeKind::List(element) => TyKind::List(self.resolve_type(scope, element)),
        };
        self.types.make(kind)
    }

    fn width(&mut self, scope: &Scope<'a>, expr: &'a ast::Expr, most: u32) -> Option<u32> {
        let width = self.constant_u32(scope, expr, "a width")?;
        if width > most {
            self.error(
                expr.span,
                format!("a width of {width} bits is more than the {most} that are supported"),
            );
            return None;
        }
        Some(width)
    }

    /// The value of a constant that must be a small number.
    pub fn constant_u32(
        &mut self,
        scope: &Scope<'a>,
        expr: &'a ast::Expr,
        what: &str,
    ) -> Option<u32> {
        let value = self.constant_int(scope, expr, what)?;
        let small = value.to_u32();
        if small.is_none() {
            self.error(expr.span, format!("{what} can't be {value}"));
        }
        small
    }

    /// The value of a constant that must be a number.
    pub fn constant_int(
        &mut self,
        scope: &Scope<'a>,
        expr: &'a ast::Expr,
        what: &str,
    ) -> Option<BigInt> {
        let operand = self.expr(scope, expr);
        let value = match &operand.kind {
            OperandKind::Int(value) => Some(value.clone()),
            OperandKind::Value(value) => self.ir.exprs.constant(*value).cloned(),
            OperandKind::Poison => return None,
            _ => None,
        };
        if value.is_none() {
            self.error(
                expr.span,
                format!("{what} must be a number known at compile time"),
            );
        }
        value
    }

    fn named_type(
        &mut self,
        scope: &Scope<'a>,
        path: &'a ast::Path,
        args: &'a [ast::Type],
        span: Span,
    ) -> Ty {
        let Some(entity) = self.lookup(scope, path) else {
            return self.types.unknown();
        };
        match entity {
            Entity::Type(ty) => {
                if !args.is_empty() {
                    self.error(span, format!("`{}` has no type parameters", path.name));
                }
                ty
            }
            Entity::GenericStruct(generic) => {
                let params = &generic.body.type_params;
                if params.len() != args.len() {
                    self.error(
                        span,
                        format!(
                            "`{}` needs {} type arguments, {} are given",
                            path.name,
                            params.len(),
                            args.len()
                        ),
                    );
                    return self.types.unknown();
                }
                let written = args;
                let args: Vec<Ty> = written
                    .iter()
                    .map(|arg| self.resolve_type(scope, arg))
                    .collect();
                if let Some(ty) = self
                    .names
                    .instances
                    .get(&(Arc::clone(&path.name.name), args.clone()))
                {
                    return *ty;
                }
                let inner = self.globals.inside();
                for (param, ty) in params.iter().zip(&args) {
                    inner.put(&param.name, Entity::Type(*ty), param.span);
                }
                // Declared before it is used, only a type that contains itself comes here again.
                if self.names.declaring.contains(&path.name.name) {
                    self.error(span, format!("`{}` can't contain itself", path.name));
                    return self.types.unknown();
                }
                self.names.declaring.push(Arc::clone(&path.name.name));
                let ty = self.declare_struct(&inner, generic.decl, generic.body);
                self.names.declaring.pop();
                self.name_instance(ty, written, &args);
                self.names
                    .instances
                    .insert((Arc::clone(&path.name.name), args), ty);
                ty
            }
            Entity::Extern(ext) => {
                let args = args
                    .iter()
                    .map(|arg| self.resolve_type(scope, arg))
                    .collect();
                self.types
                    .make(TyKind::Extern(Arc::clone(&ext.name.name), args))
            }
            Entity::Parser(..) | Entity::Control(..) | Entity::Package(..) => {
                for arg in args {
                    self.resolve_type(scope, arg);
                }
                self.types.make(TyKind::Block(Arc::clone(&path.name.name)))
            }
            Entity::Poison => self.types.unknown(),
            other => {
                self.report(
                    Diagnostic::error(
                        path.span,
                        format!("`{}` is {}", path.name, other.describe()),
                    )
                    .with_note_here("expected a type"),
                );
                self.types.unknown()
            }
        }
    }

    /// Tells the control plane the instances of a generic struct apart: `s<bit<8>>` is `s_bit8` there.
    fn name_instance(&mut self, ty: Ty, written: &[ast::Type], args: &[Ty]) {
        let (TyKind::Struct(def) | TyKind::Header(def) | TyKind::Union(def)) = self.types[ty]
        else {
            return;
        };
        let mut name = self.types.structs[def].control_plane_name.to_string();
        for (written, arg) in written.iter().zip(args) {
            let text = match &written.kind {
                TypeKind::Named { path, .. } => path.name.to_string(),
                _ => self.types.name(*arg),
            };
            name.push('_');
            name.extend(text.chars().filter(|c| c.is_alphanumeric() || *c == '_'));
        }
        self.types.structs[def].control_plane_name = name.into();
    }

    /// What a name means; says so if it means nothing.
    pub fn lookup(&mut self, scope: &Scope<'a>, path: &ast::Path) -> Option<Entity<'a>> {
        let found = if path.absolute {
            self.globals.find(path.name.as_str())
        } else {
            scope.find(path.name.as_str())
        };
        if found.is_none() {
            let mut diagnostic =
                Diagnostic::error(path.span, format!("`{}` is not declared here", path.name));
            if let Some(similar) = scope.similar(path.name.as_str()) {
                diagnostic = diagnostic.with_help(format!("is `{similar}` meant?"));
            }
            self.report(diagnostic);
        }
        found
    }

    /// Declares a struct, header or header union with what its type parameters stand for in `scope`.
    pub fn declare_struct(
        &mut self,
        scope: &Scope<'a>,
        decl: &'a ast::Decl,
        body: &'a ast::StructLike,
    ) -> Ty {
        let mut fields: Vec<super::types::FieldDef> = Vec::new();
        let what = match decl.kind {
            ast::DeclKind::Header(_) => "header",
            ast::DeclKind::HeaderUnion(_) => "header union",
            _ => "struct",
        };
        for field in &body.fields {
            let ty = self.resolve_type(scope, &field.ty);
            if let Some(first) = fields.iter().find(|f| f.name == field.name.name) {
                let diagnostic = Diagnostic::error(
                    field.name.span,
                    format!("`{}` is declared twice", field.name),
                )
                .with_label(first.span, "first here");
                self.report(diagnostic);
                continue;
            }
            self.check_field(what, field, ty);
            let annotations = self.annotations(scope, &field.annotations);
            fields.push(super::types::FieldDef {
                name: Arc::clone(&field.name.name),
                ty,
                annotations,
                span: field.name.span,
            });
        }
        let annotations = self.annotations(scope, &decl.annotations);
        let leaves = fields
            .iter()
            .map(|f| self.types.leaves(f.ty))
            .fold(1, u64::saturating_add);
        if leaves > MAX_LEAVES {
            self.error(
                body.name.span,
                format!("`{}` has more than {MAX_LEAVES} fields", body.name),
            );
            return self.types.unknown();
        }
        let control_plane_name =
            name_annotation(&annotations).unwrap_or_else(|| Arc::clone(&body.name.name));
        let def = self.types.structs.append(StructDef {
            name: Arc::clone(&body.name.name),
            control_plane_name,
            fields,
            annotations,
            leaves,
            span: body.name.span,
        });
        let ty = self.types.make(match decl.kind {
            ast::DeclKind::Header(_) => TyKind::Header(def),
            ast::DeclKind::HeaderUnion(_) => TyKind::Union(def),
            _ => TyKind::Struct(def),
        });
        if let ast::DeclKind::Header(_) = decl.kind {
            self.note_packet_header(ty);
        }
        ty
    }

    fn check_field(&mut self, what: &str, field: &ast::Field, ty: Ty) {
        let fits = match &self.types[ty] {
            TyKind::Unknown => true,
            TyKind::Header(_) => what != "header",
            TyKind::Void
            | TyKind::Int
            | TyKind::String
            | TyKind::Extern(..)
            | TyKind::Block(_)
            | TyKind::MatchKind => false,
            TyKind::Stack(..) | TyKind::Union(_) | TyKind::Tuple(_) | TyKind::List(_) => {
                what == "struct"
            }
            TyKind::Error | TyKind::Enum(_) => what == "struct",
            _ => what != "header union",
        };
        if !fits {
            let name = self.types.name(ty);
            self.error(
                field.ty.span,
                format!("a {what} can't have a field of type `{name}`"),
            );
        }
    }
}
