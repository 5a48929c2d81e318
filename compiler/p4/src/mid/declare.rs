//! Declarations at the top level, in their order: what is used must be declared before.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use num_bigint::BigInt;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::diagnostics::Diagnostic;
use crate::front::ast::{self, DeclKind, TypedefTarget};
use crate::ir::{self, ControlPlaneItem, Names, PacketHeader, PacketHeaderField};
use crate::source::Span;

use super::annotation::{id_annotation, name_annotation, string_annotation};
use super::lower::Lower;
use super::operand::{Operand, OperandKind};
use super::scope::{ActionDef, BlockKind, Entity, FunctionDef, Scope};
use super::types::{EnumDef, GenericStruct, NewDef, Ty, TyKind};

/// What is known of the top level besides its names.
#[derive(Default)]
pub struct Globals<'a> {
    /// Generic structs with their arguments.
    pub instances: FxHashMap<(Arc<str>, Vec<Ty>), Ty>,
    /// Generic structs whose fields are being resolved.
    pub declaring: Vec<Arc<str>>,
    /// Headers with `@controller_header`, in order.
    pub packet_headers: Vec<Ty>,
    /// The package.
    pub main: Option<(&'a ast::Decl, Rc<super::scope::BlockInstance<'a>>)>,
    /// Parsers and controls with a body, and functions, in order.
    pub blocks: Vec<BlockKind<'a>>,
    pub functions: Vec<FunctionDef<'a>>,
    /// Names of those that were lowered.
    pub reached: FxHashSet<Arc<str>>,
    /// Actions and tables of all controls that were applied.
    pub actions: Vec<Rc<ActionDef<'a>>>,
    pub tables: Vec<Rc<super::scope::TableDef<'a>>>,
    /// Variables for computed parts of hashes' inputs, by type and position.
    pub input_variables: FxHashMap<(ir::Type, usize), ir::Place>,
    /// In which base the program writes the value of a constant, by the constant's place.
    pub bases: FxHashMap<Span, u8>,
    /// Blocks that are applied without an instance, by the instance around and the place.
    pub applied_directly: FxHashMap<(Arc<str>, Span), Rc<super::scope::BlockInstance<'a>>>,
    /// How many digests are lists and so have a number for a name.
    pub unnamed_digests: usize,
    /// The types of registers' cells.
    pub registers: FxHashMap<ir::Handle<ir::Register>, Ty>,
    /// The types of direct meters' results.
    pub meters: FxHashMap<ir::Handle<ir::DirectMeter>, Ty>,
    /// Where direct meters are read first.
    pub meter_reads: Vec<(ir::Handle<ir::DirectMeter>, Span)>,
    /// The flat forms of headers' types, and the types of unions.
    pub flat_types: FxHashMap<Ty, ir::Handle<ir::HeaderType>>,
    pub header_type_names: ir::UniqueNames,
    pub union_types: FxHashMap<Ty, ir::Handle<ir::UnionType>>,
    pub union_type_names: ir::UniqueNames,
    /// The states that end parsing with an error, by their reason.
    pub failing: FxHashMap<&'static str, ir::Handle<ir::State>>,
    /// Actions of tables that end with `exit`, and what is copied out before.
    pub exits: FxHashMap<ir::Handle<ir::Action>, Vec<super::bind::CopyOut<'a>>>,
}

impl<'a> Lower<'a> {
    /// Declares everything of a program.
    pub fn program(&mut self, program: &'a ast::Program) {
        let globals = self.globals.clone();
        for decl in &program.decls {
            self.top_level(&globals, decl);
        }
    }

    /// Gives a name a meaning; an error if it has one in this very scope.
    pub fn declare(&mut self, scope: &Scope<'a>, name: &ast::Ident, entity: Entity<'a>) {
        if let Some((_, first)) = scope.find_here(name.as_str()) {
            let diagnostic = Diagnostic::error(name.span, format!("`{name}` is declared twice"))
                .with_label(first, "first here");
            self.report(diagnostic);
        }
        scope.put(&name.name, entity, name.span);
    }

    fn top_level(&mut self, scope: &Scope<'a>, decl: &'a ast::Decl) {
        match &decl.kind {
            DeclKind::Parser(p) => {
                self.declare(scope, &p.name, Entity::Parser(decl, p));
                if p.body.is_some() {
                    self.refuse_type_params(&p.type_params);
                    self.names.blocks.push(BlockKind::Parser(decl, p));
                }
            }
            DeclKind::Control(c) => {
                self.declare(scope, &c.name, Entity::Control(decl, c));
                if c.body.is_some() {
                    self.refuse_type_params(&c.type_params);
                    self.names.blocks.push(BlockKind::Control(decl, c));
                }
            }
            DeclKind::Package(p) => self.declare(scope, &p.name, Entity::Package(decl, p)),
            DeclKind::Function(f) => {
                let def = FunctionDef {
                    decl,
                    proto: &f.proto,
                    body: Some(&f.body),
                };
                self.declare_function(scope, def);
                self.names.functions.push(def);
            }
            DeclKind::ExternFunction(proto) => {
                self.declare_function(
                    scope,
                    FunctionDef {
                        decl,
                        proto,
                        body: None,
                    },
                );
            }
            DeclKind::Extern(ext) => self.declare(scope, &ext.name, Entity::Extern(ext)),
            DeclKind::Action(action) => self.declare_action(scope, decl, action, "".into()),
            DeclKind::Instance(instance) => {
                if let Some(object) = self.instantiate_decl(scope, decl, instance) {
                    if let super::operand::Object::Block(block) = &object
                        && matches!(block.kind, BlockKind::Package(..))
                        && instance.name.as_str() == "main"
                    {
                        self.names.main = Some((decl, Rc::clone(block)));
                    }
                    self.declare(scope, &instance.name, Entity::Object(object));
                } else {
                    self.declare(scope, &instance.name, Entity::Poison);
                }
            }
            DeclKind::Var(var) => {
                self.error(
                    decl.span,
                    format!("`{}`: variables can't stand at the top level", var.name),
                );
            }
            DeclKind::Table(table) => {
                self.error(
                    decl.span,
                    format!("`{}`: tables can't stand at the top level", table.name),
                );
            }
            DeclKind::ValueSet(set) => {
                self.error(
                    decl.span,
                    format!("`{}`: value sets can't stand at the top level", set.name),
                );
            }
            _ => self.declare_type_or_constant(scope, decl),
        }
    }

    fn refuse_type_params(&mut self, params: &[ast::Ident]) {
        if let Some(first) = params.first() {
            self.error(
                first.span,
                "a parser or control with a body can't have type parameters",
            );
        }
    }

    fn declare_function(&mut self, scope: &Scope<'a>, def: FunctionDef<'a>) {
        let name = &def.proto.name;
        let mut all = match scope.find_here(name.as_str()) {
            Some((Entity::Functions(known), first)) => {
                if known
                    .iter()
                    .any(|f| f.proto.params.len() == def.proto.params.len())
                {
                    let diagnostic = Diagnostic::error(
                        name.span,
                        format!(
                            "`{name}` with {} parameters is declared twice",
                            def.proto.params.len()
                        ),
                    )
                    .with_label(first, "first here");
                    self.report(diagnostic);
                }
                known.as_ref().clone()
            }
            Some(_) => {
                self.declare(scope, name, Entity::Poison);
                return;
            }
            None => Vec::new(),
        };
        all.push(def);
        scope.put(&name.name, Entity::Functions(Rc::new(all)), name.span);
    }

    /// Declares an action in a control or at the top level.
    pub fn declare_action(
        &mut self,
        scope: &Scope<'a>,
        decl: &'a ast::Decl,
        action: &'a ast::Action,
        prefix: Arc<str>,
    ) {
        let def = ActionDef {
            decl,
            action,
            scope: scope.clone(),
            prefix,
            lowered: RefCell::default(),
            used: Cell::new(false),
        };
        self.declare(scope, &action.name, Entity::Action(Rc::new(def)));
    }

    /// Declares a type or a constant, anywhere.
    pub fn declare_type_or_constant(&mut self, scope: &Scope<'a>, decl: &'a ast::Decl) {
        match &decl.kind {
            DeclKind::Const(constant) => {
                let ty = self.resolve_type(scope, &constant.ty);
                let value = self.expr(scope, &constant.value);
                let mut value = self.coerce(value, ty, constant.value.span);
                if !self.is_constant(&value) {
                    self.error(
                        constant.value.span,
                        format!(
                            "the value of the constant `{}` is not known at compile time",
                            constant.name
                        ),
                    );
                    value = self.poison();
                }
                let base = self.base_of(scope, &constant.value);
                self.names.bases.insert(constant.name.span, base);
                self.declare(
                    scope,
                    &constant.name,
                    Entity::Value(value, Some("a constant")),
                );
            }
            DeclKind::Header(s) | DeclKind::HeaderUnion(s) | DeclKind::Struct(s) => {
                if s.type_params.is_empty() {
                    let ty = self.declare_struct(scope, decl, s);
                    self.declare(scope, &s.name, Entity::Type(ty));
                } else {
                    self.declare(
                        scope,
                        &s.name,
                        Entity::GenericStruct(GenericStruct { decl, body: s }),
                    );
                }
            }
            DeclKind::Enum(e) => self.declare_enum(scope, e),
            DeclKind::Error(members) => {
                for member in members {
                    if self.ir.errors.contains(&member.name) {
                        self.error(
                            member.span,
                            format!("the error `{member}` is declared twice"),
                        );
                    } else {
                        self.ir.errors.push(Arc::clone(&member.name));
                    }
                }
            }
            DeclKind::MatchKind(members) => {
                for member in members {
                    self.declare(scope, member, Entity::MatchKind);
                }
            }
            DeclKind::Typedef(typedef) => {
                let ty = match &typedef.target {
                    TypedefTarget::Type(ty) => self.resolve_type(scope, ty),
                    TypedefTarget::Declared(inner) => self.declared_on_the_spot(scope, inner),
                };
                self.declare(scope, &typedef.name, Entity::Type(ty));
            }
            DeclKind::Newtype(typedef) => {
                let underlying = match &typedef.target {
                    TypedefTarget::Type(ty) => self.resolve_type(scope, ty),
                    TypedefTarget::Declared(inner) => self.declared_on_the_spot(scope, inner),
                };
                if self.types.scalar(underlying).is_none()
                    && self.types[underlying] != TyKind::Unknown
                {
                    let name = self.types.name(underlying);
                    self.error(
                        decl.span,
                        format!("`type` can't make a new type of `{name}`"),
                    );
                }
                let annotations = self.annotations(scope, &decl.annotations);
                let translation = self.translation(decl);
                let def = self.types.news.append(NewDef {
                    name: Arc::clone(&typedef.name.name),
                    underlying,
                    annotations,
                    translation,
                });
                let ty = self.types.make(TyKind::New(def));
                self.declare(scope, &typedef.name, Entity::Type(ty));
            }
            _ => self.error(decl.span, "this can't be declared here"),
        }
    }

    fn declared_on_the_spot(&mut self, scope: &Scope<'a>, decl: &'a ast::Decl) -> Ty {
        self.declare_type_or_constant(scope, decl);
        match decl.name().and_then(|name| scope.find(name.as_str())) {
            Some(Entity::Type(ty)) => ty,
            _ => self.types.unknown(),
        }
    }

    fn declare_enum(&mut self, scope: &Scope<'a>, e: &'a ast::Enum) {
        let underlying = e
            .underlying
            .as_ref()
            .map(|ty| (self.resolve_type(scope, ty), ty.span));
        if let Some((ty, span)) = underlying
            && !matches!(
                self.types[self.types.representation(ty)],
                TyKind::Bits { .. } | TyKind::Unknown
            )
        {
            let name = self.types.name(ty);
            self.error(
                span,
                format!("an enumeration can't be represented by `{name}`"),
            );
        }
        let mut members: Vec<(Arc<str>, BigInt)> = Vec::new();
        // The value of a member may be made of those before it.
        let earlier = scope.inside();
        for (number, member) in e.members.iter().enumerate() {
            if members.iter().any(|(name, _)| *name == member.name.name) {
                self.error(
                    member.name.span,
                    format!("the member `{}` is declared twice", member.name),
                );
                continue;
            }
            let value = match (&member.value, underlying) {
                (Some(value), Some((ty, _))) => {
                    let operand = self.expr(&earlier, value);
                    let operand = self.coerce(operand, ty, value.span);
                    match self.constant_of(&operand) {
                        Some(value) => {
                            let entity = Entity::Value(operand, Some("a constant"));
                            earlier.put(&member.name.name, entity, member.name.span);
                            value
                        }
                        None => {
                            if !operand.is_poison() {
                                self.error(
                                    value.span,
                                    "the value of a member must be known at compile time",
                                );
                            }
                            BigInt::from(0)
                        }
                    }
                }
                (None, Some(_)) => {
                    self.error(
                        member.span,
                        format!("the member `{}` needs a value", member.name),
                    );
                    BigInt::from(0)
                }
                (Some(value), None) => {
                    self.report(
                        Diagnostic::error(
                            value.span,
                            "a member of an enumeration without a representation has no value",
                        )
                        .with_help(format!(
                            "write `enum bit<…> {}` to give its members values",
                            e.name
                        )),
                    );
                    BigInt::from(number)
                }
                (None, None) => BigInt::from(number),
            };
            members.push((Arc::clone(&member.name.name), value));
        }
        let names = members.iter().map(|(name, _)| Arc::clone(name)).collect();
        let def = self.types.enums.append(EnumDef {
            name: Arc::clone(&e.name.name),
            members,
            underlying: underlying.map(|(ty, _)| ty),
        });
        let ty = self.types.make(if underlying.is_some() {
            TyKind::SerEnum(def)
        } else {
            TyKind::Enum(def)
        });
        if underlying.is_none() {
            self.ir.enums.push((Arc::clone(&e.name.name), names));
        }
        self.declare(scope, &e.name, Entity::Type(ty));
    }

    fn translation(&mut self, decl: &ast::Decl) -> Option<(Arc<str>, Option<u32>)> {
        let annotation = decl
            .annotations
            .iter()
            .find(|a| a.name.as_str() == "p4runtime_translation")?;
        let ast::AnnotationBody::Unstructured(tokens) = &annotation.body else {
            self.error(
                annotation.span,
                "`@p4runtime_translation` needs an address and a type",
            );
            return None;
        };
        use ast::AnnotationTokenKind::{Int, String, Symbol, Word};
        let words: Vec<_> = tokens.iter().map(|token| &token.kind).collect();
        let result = match words.as_slice() {
            [String(uri), Symbol(comma), Word(word)] if &**comma == "," && &**word == "string" => {
                Some((Arc::clone(uri), None))
            }
            [String(uri), Symbol(comma), Int(width)] if &**comma == "," => {
                u32::try_from(&width.value)
                    .ok()
                    .map(|width| (Arc::clone(uri), Some(width)))
            }
            [
                String(uri),
                Symbol(comma),
                Word(bit),
                Symbol(open),
                Int(width),
                Symbol(close),
            ] if &**comma == "," && &**bit == "bit" && &**open == "<" && &**close == ">" => {
                u32::try_from(&width.value)
                    .ok()
                    .map(|width| (Arc::clone(uri), Some(width)))
            }
            _ => None,
        };
        if result.is_none() {
            self.error(
                annotation.span,
                "`@p4runtime_translation` needs an address and `string`, `bit<…>` or a width",
            );
        }
        result
    }

    /// Remembers a header with `@controller_header`.
    pub fn note_packet_header(&mut self, ty: Ty) {
        let Some(def) = self.types.structure(ty) else {
            return;
        };
        if def
            .annotations
            .iter()
            .any(|a| a.name() == "controller_header")
        {
            self.names.packet_headers.push(ty);
        }
    }

    /// Tells the control plane of the headers with `@controller_header`.
    pub fn packet_headers(&mut self) {
        for ty in self.names.packet_headers.clone() {
            let Some(def) = self.types.structure(ty).cloned() else {
                continue;
            };
            if def.annotations.iter().any(|a| a.name() == "hidden") {
                continue;
            }
            let Some(controller_name) = string_annotation(&def.annotations, "controller_header")
            else {
                self.error(def.span, "`@controller_header` needs one string");
                continue;
            };
            let mut fields = Vec::new();
            let mut ids = Vec::new();
            for field in &def.fields {
                self.packet_header_field(field, "", &mut fields);
                ids.push((id_annotation(&field.annotations), field.span));
            }
            self.distinct_ids(&ids);
            self.ir
                .control_plane
                .push(ControlPlaneItem::PacketHeader(PacketHeader {
                    controller_name,
                    names: Names {
                        name: Arc::clone(&def.control_plane_name),
                        id: id_annotation(&def.annotations),
                        annotations: def.annotations.clone(),
                    },
                    fields,
                }));
        }
    }

    fn packet_header_field(
        &mut self,
        field: &super::types::FieldDef,
        prefix: &str,
        out: &mut Vec<PacketHeaderField>,
    ) {
        let own = name_annotation(&field.annotations).unwrap_or_else(|| Arc::clone(&field.name));
        let name = format!("{prefix}{own}");
        if let TyKind::Struct(_) = self.types[field.ty] {
            for inner in self
                .types
                .fields(field.ty)
                .map(<[_]>::to_vec)
                .unwrap_or_default()
            {
                self.packet_header_field(&inner, &format!("{name}."), out);
            }
            return;
        }
        let (width, type_name) = self.control_plane_type(field.ty);
        out.push(PacketHeaderField {
            hidden: field.annotations.iter().any(|a| a.name() == "hidden"),
            name: name.into(),
            width,
            type_name,
            id: id_annotation(&field.annotations),
            annotations: field.annotations.clone(),
        });
    }

    /// A constant `int` as an operand.
    pub fn int(&mut self, value: BigInt) -> Operand<'a> {
        let ty = self.types.make(TyKind::Int);
        Operand::new(ty, OperandKind::Int(value))
    }

    /// Whether the operand is known at compile time.
    pub fn is_constant(&self, operand: &Operand<'a>) -> bool {
        let mut constant = true;
        operand.leaves(&mut |leaf| {
            constant &= match &leaf.kind {
                OperandKind::Value(value) => self.ir.exprs.is_constant(*value),
                OperandKind::Place(_)
                | OperandKind::Slice(..)
                | OperandKind::Header(_)
                | OperandKind::Stack(_)
                | OperandKind::Union(_) => false,
                _ => true,
            };
        });
        constant
    }

    /// The number or truth value of a constant operand.
    pub fn constant_of(&self, operand: &Operand<'a>) -> Option<BigInt> {
        match &operand.kind {
            OperandKind::Int(value) => Some(value.clone()),
            OperandKind::Value(value) => self.ir.exprs.constant(*value).cloned().or_else(|| {
                self.ir
                    .exprs
                    .constant_bool(*value)
                    .map(|b| BigInt::from(u8::from(b)))
            }),
            _ => None,
        }
    }
}
