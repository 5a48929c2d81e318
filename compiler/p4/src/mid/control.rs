//! Parsers and controls: their instances, and what an application of one puts in its place.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use num_traits::ToPrimitive;

use crate::diagnostics::Diagnostic;
use crate::front::ast::{self, DeclKind};
use crate::ir::{
    Annotation, Counter, DirectCounter, DirectMeter, HashAlgorithm, Meter, Names, Profile,
    Register, Unit,
};
use crate::source::Span;

use super::annotation::{id_annotation, name_annotation};
use super::lower::{Inside, Lower};
use super::operand::{Object, Operand, OperandKind};
use super::scope::{BlockInstance, BlockKind, Declared, Entity, Scope, TableDef};
use super::types::{Ty, TyKind};

impl<'a> Lower<'a> {
    /// The object that a declaration makes.
    pub fn instantiate_decl(
        &mut self,
        scope: &Scope<'a>,
        decl: &'a ast::Decl,
        instance: &'a ast::Instance,
    ) -> Option<Object<'a>> {
        let ast::TypeKind::Named {
            path,
            args: type_args,
        } = &instance.ty.kind
        else {
            self.error(
                instance.ty.span,
                "only externs, parsers, controls and packages can be instantiated",
            );
            return None;
        };
        if let Some(body) = &instance.body
            && !body.is_empty()
        {
            self.unsupported(decl.span, "instances with a body are not supported");
        }
        let annotations = self.annotations(scope, &decl.annotations);
        let name = self.full_name(&annotations, instance.name.as_str());
        self.construct(
            scope,
            path,
            type_args,
            &instance.args,
            &name,
            annotations,
            decl.span,
        )
    }

    /// The name of a thing declared here, as the control plane sees it.
    pub fn full_name(&self, annotations: &[Annotation], name: &str) -> String {
        match name_annotation(annotations) {
            Some(given) => match given.strip_prefix('.') {
                Some(absolute) => absolute.to_string(),
                None => self.qualified(&given),
            },
            None => self.qualified(name),
        }
    }

    /// Names and annotations of a thing.
    pub fn names_of(&self, name: &str, annotations: Vec<Annotation>) -> Names {
        Names {
            name: name.into(),
            id: id_annotation(&annotations),
            annotations,
        }
    }

    /// `Type(args)`
    #[expect(
        clippy::too_many_arguments,
        reason = "an instantiation consists of that many parts"
    )]
    pub fn construct(
        &mut self,
        scope: &Scope<'a>,
        path: &'a ast::Path,
        type_args: &'a [ast::Type],
        args: &'a [ast::Argument],
        name: &str,
        annotations: Vec<Annotation>,
        span: Span,
    ) -> Option<Object<'a>> {
        let entity = self.lookup(scope, path)?;
        let globals = self.globals.clone();
        let (kind, params) = match entity {
            Entity::Extern(ext) => {
                return self.construct_extern(scope, ext, type_args, args, name, annotations, span);
            }
            Entity::Parser(decl, parser) => (BlockKind::Parser(decl, parser), &parser.ctor_params),
            Entity::Control(decl, control) => {
                (BlockKind::Control(decl, control), &control.ctor_params)
            }
            Entity::Package(decl, package) => (BlockKind::Package(decl, package), &package.params),
            Entity::Poison => return None,
            other => {
                self.error(
                    path.span,
                    format!(
                        "`{}` is {} and can't be instantiated",
                        path.name,
                        other.describe()
                    ),
                );
                return None;
            }
        };
        let has_body = match kind {
            BlockKind::Parser(_, p) => p.body.is_some(),
            BlockKind::Control(_, c) => c.body.is_some(),
            BlockKind::Package(..) => true,
        };
        if !has_body {
            self.error(
                path.span,
                format!("`{}` is only a type; it has no body", path.name),
            );
            return None;
        }
        let bound = if let BlockKind::Package(_, package) = kind {
            let what = format!("the package `{}`", path.name);
            let outer = std::mem::replace(&mut self.prefix, "".into());
            let bound = self.bind(
                scope,
                &globals,
                &what,
                params,
                &package.type_params,
                type_args,
                args,
                span,
            );
            self.prefix = outer;
            bound?
        } else {
            let what = format!("the constructor of `{}`", path.name);
            let bound = self.bind(scope, &globals, &what, params, &[], &[], args, span)?;
            for (value, at) in bound.values.iter().zip(&bound.spans) {
                if !self.is_constant(value) {
                    self.error(
                        *at,
                        "the argument of a constructor must be known at compile time",
                    );
                }
            }
            bound
        };
        Some(Object::Block(Rc::new(BlockInstance {
            kind,
            arguments: bound.values,
            prefix: format!("{name}.").into(),
            span,
            applied: RefCell::default(),
            declared: RefCell::default(),
        })))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "an instantiation consists of that many parts"
    )]
    fn construct_extern(
        &mut self,
        scope: &Scope<'a>,
        ext: &'a ast::Extern,
        type_args: &'a [ast::Type],
        args: &'a [ast::Argument],
        name: &str,
        annotations: Vec<Annotation>,
        span: Span,
    ) -> Option<Object<'a>> {
        let constructor = ext
            .methods
            .iter()
            .filter(|m| m.proto.ret.is_none() && m.proto.name.name == ext.name.name)
            .min_by_key(|m| m.proto.params.len().abs_diff(args.len()));
        let Some(constructor) = constructor else {
            self.error(span, format!("`{}` can't be instantiated", ext.name));
            return None;
        };
        let globals = self.globals.clone();
        let what = format!("the constructor of `{}`", ext.name);
        let bound = self.bind(
            scope,
            &globals,
            &what,
            &constructor.proto.params,
            &ext.type_params,
            type_args,
            args,
            span,
        )?;
        let types: Vec<Ty> = ext
            .type_params
            .iter()
            .map(|param| match bound.types.find(param.as_str()) {
                Some(Entity::Type(ty)) => ty,
                _ => self.types.unknown(),
            })
            .collect();
        let names = self.names_of(name, annotations);
        let object = self.extern_object(ext.name.as_str(), names, &types, &bound.values, span);
        if let Some(object) = &object {
            self.note(Declared::Object(object.clone()));
        }
        object
    }

    fn extern_object(
        &mut self,
        kind: &str,
        names: Names,
        types: &[Ty],
        args: &[Operand<'a>],
        span: Span,
    ) -> Option<Object<'a>> {
        let size = args
            .iter()
            .find_map(|arg| self.constant_of(arg).filter(|_| !self.is_enum(arg)));
        let size = size.and_then(|size| size.to_u64()).unwrap_or(0);
        let unit = args
            .iter()
            .find_map(|arg| self.enum_member(arg))
            .unwrap_or_default();
        let counter_unit = match &*unit {
            "bytes" => Unit::Bytes,
            "packets" => Unit::Packets,
            _ => Unit::Both,
        };
        Some(match kind {
            "counter" => Object::Counter(self.ir.counters.append(Counter {
                names,
                size,
                unit: counter_unit,
                span,
            })),
            "direct_counter" => {
                Object::DirectCounter(self.ir.direct_counters.append(DirectCounter {
                    names,
                    unit: counter_unit,
                    table: None,
                    span,
                }))
            }
            "meter" => Object::Meter(self.ir.meters.append(Meter {
                names,
                size,
                unit: counter_unit,
                span,
            })),
            "direct_meter" => {
                let meter = self.ir.direct_meters.append(DirectMeter {
                    names,
                    unit: counter_unit,
                    table: None,
                    target: None,
                    span,
                });
                if let Some(ty) = types.first() {
                    self.names.meters.insert(meter, *ty);
                }
                Object::DirectMeter(meter)
            }
            "register" => {
                let ty = types.first().copied()?;
                let Some(scalar) = self.types.scalar(ty) else {
                    let name = self.types.name(ty);
                    self.unsupported(
                        span,
                        format!("registers of `{name}` are not supported; use numbers"),
                    );
                    return None;
                };
                if size == 0 {
                    self.error(span, "a register needs at least one cell");
                    return None;
                }
                let data_type = self.data_type(ty);
                let register = self.ir.registers.append(Register {
                    names,
                    size,
                    ty: scalar,
                    data_type,
                    span,
                });
                self.names.registers.insert(register, ty);
                Object::Register(register)
            }
            "action_profile" => Object::Profile(self.ir.profiles.append(Profile {
                names,
                size,
                selector: None,
                tables: Vec::new(),
                span,
            })),
            "action_selector" => {
                let Some(algorithm) = HashAlgorithm::named(&unit) else {
                    self.error(span, "the hash algorithm must be known at compile time");
                    return None;
                };
                Object::Profile(self.ir.profiles.append(Profile {
                    names,
                    size,
                    selector: Some(algorithm),
                    tables: Vec::new(),
                    span,
                }))
            }
            other => {
                self.unsupported(span, format!("the extern `{other}` is not supported"));
                return None;
            }
        })
    }

    fn is_enum(&self, operand: &Operand<'a>) -> bool {
        matches!(self.types[operand.ty], TyKind::Enum(_))
    }

    /// The name of the member of an enumeration without representation that a constant is.
    pub fn enum_member(&self, operand: &Operand<'a>) -> Option<Arc<str>> {
        let TyKind::Enum(def) = self.types[operand.ty] else {
            return None;
        };
        let value = self.constant_of(operand)?;
        self.types.enums[def]
            .members
            .iter()
            .find(|(_, v)| *v == value)
            .map(|(name, _)| Arc::clone(name))
    }

    /// Remembers something declared in the block being lowered.
    pub fn note(&mut self, declared: Declared<'a>) {
        if let Some(list) = self.declared.last_mut() {
            list.push(declared);
        }
    }

    pub fn note_instance(&mut self, block: &Rc<BlockInstance<'a>>) {
        self.note(Declared::Object(Object::Block(Rc::clone(block))));
    }

    /// The body of a parser or control with its parameters bound.
    pub fn enter_block(
        &mut self,
        block: &Rc<BlockInstance<'a>>,
        values: Vec<Operand<'a>>,
        span: Span,
    ) {
        self.names.reached.insert(block.kind.name().into());
        let first = block.applied.borrow().clone();
        // Applied with other arguments than before, all but the objects in it is made anew.
        let elsewhere = first
            .as_ref()
            .filter(|(known, _)| *known != values)
            .map(|(_, scope)| scope.clone());
        if elsewhere.is_some() && has_tables(block.kind) {
            let report = Diagnostic::error(
                span,
                format!(
                    "`{}`, which has tables, is applied twice with different arguments",
                    block.prefix.trim_end_matches('.')
                ),
            )
            .with_code("unsupported")
            .with_label(block.span, "this instance")
            .with_help("instantiate it once for each place");
            self.report(report);
            return;
        }
        let (ctor_params, params) = match block.kind {
            BlockKind::Parser(_, p) => (&p.ctor_params, &p.params),
            BlockKind::Control(_, c) => (&c.ctor_params, &c.params),
            BlockKind::Package(..) => return,
        };
        let again = first.is_some() && elsewhere.is_none();
        let scope = match &first {
            Some((_, scope)) if again => scope.clone(),
            _ => {
                let scope = self.globals.inside();
                for (param, value) in ctor_params.iter().zip(&block.arguments) {
                    let entity = match &value.kind {
                        OperandKind::Object(object) => Entity::Object(object.clone()),
                        _ => Entity::Value(value.clone(), Some("a constructor's parameter")),
                    };
                    self.declare(&scope, &param.name, entity);
                }
                for (param, value) in params.iter().zip(&values) {
                    self.put_param(&scope, param, value.clone());
                }
                scope.inside()
            }
        };
        let outer = std::mem::replace(&mut self.inside, Inside::Body);
        self.declared.push(Vec::new());
        match block.kind {
            BlockKind::Control(_, control) => {
                if let Some(body) = &control.body {
                    for decl in &body.locals {
                        match &elsewhere {
                            Some(known) => self.local_elsewhere(&scope, known, decl),
                            None => self.control_local(&scope, decl, again),
                        }
                    }
                    if first.is_none() {
                        *block.applied.borrow_mut() = Some((values, scope.clone()));
                    }
                    self.body(&scope, &body.apply, None, span);
                }
            }
            BlockKind::Parser(_, parser) => {
                if let Some(body) = &parser.body {
                    for decl in &body.locals {
                        match &elsewhere {
                            Some(known) => self.local_elsewhere(&scope, known, decl),
                            None => self.parser_local(&scope, decl, again),
                        }
                    }
                    if first.is_none() {
                        *block.applied.borrow_mut() = Some((values, scope.clone()));
                    }
                    self.parser_body(&scope, parser, body, span);
                }
            }
            BlockKind::Package(..) => {}
        }
        self.inside = outer;
        let declared = self.declared.pop().unwrap_or_default();
        if elsewhere.is_none() {
            block.declared.borrow_mut().extend(declared);
        }
    }

    /// A declaration of a block that is applied with other arguments: objects are those of the first
    /// application.
    fn local_elsewhere(&mut self, scope: &Scope<'a>, known: &Scope<'a>, decl: &'a ast::Decl) {
        match &decl.kind {
            DeclKind::Var(var) => self.block_variable(scope, decl, var, true),
            DeclKind::Action(action) => {
                self.declare_action(scope, decl, action, Arc::clone(&self.prefix));
            }
            DeclKind::Instance(_) | DeclKind::ValueSet(_) => {
                let name = decl.name();
                if let Some((name, (entity, at))) =
                    name.and_then(|name| Some((name, known.find_here(name.as_str())?)))
                {
                    scope.put(&name.name, entity, at);
                }
            }
            _ => self.declare_type_or_constant(scope, decl),
        }
    }

    /// One declaration of a control; when the control is applied again, only variables start anew.
    fn control_local(&mut self, scope: &Scope<'a>, decl: &'a ast::Decl, again: bool) {
        match &decl.kind {
            DeclKind::Var(var) => self.block_variable(scope, decl, var, again),
            _ if again => {}
            DeclKind::Action(action) => {
                self.declare_action(scope, decl, action, Arc::clone(&self.prefix));
                if let Some((Entity::Action(def), _)) = scope.find_here(action.name.as_str()) {
                    self.names.actions.push(Rc::clone(&def));
                    self.note(Declared::Action(def));
                }
            }
            DeclKind::Table(table) => {
                let def = Rc::new(TableDef {
                    decl,
                    table,
                    scope: scope.clone(),
                    prefix: Arc::clone(&self.prefix),
                    lowered: Cell::new(None),
                    actions: RefCell::default(),
                    computed: RefCell::default(),
                });
                self.names.tables.push(Rc::clone(&def));
                self.note(Declared::Table(Rc::clone(&def)));
                self.declare(scope, &table.name, Entity::Table(def));
            }
            DeclKind::Instance(instance) => self.block_instance(scope, decl, instance),
            _ => self.declare_type_or_constant(scope, decl),
        }
    }

    /// A variable of a parser or control.
    pub fn block_variable(
        &mut self,
        scope: &Scope<'a>,
        decl: &'a ast::Decl,
        var: &'a ast::VarDecl,
        again: bool,
    ) {
        let operand = match scope.find_here(var.name.as_str()) {
            Some((Entity::Value(operand, _), _)) if again => operand,
            _ => {
                let operand = self.declare_variable(scope, var);
                self.declare(scope, &var.name, Entity::Value(operand.clone(), None));
                operand
            }
        };
        match &var.init {
            Some(init) => {
                let value = self.expr(scope, init);
                let value = self.coerce(value, operand.ty, init.span);
                self.assign(&operand, value, decl.span);
            }
            // Headers are invalid when a packet comes.
            None if again => self.invalidate(&operand, decl.span),
            None => {}
        }
    }

    /// An instance in a parser or control.
    pub fn block_instance(
        &mut self,
        scope: &Scope<'a>,
        decl: &'a ast::Decl,
        instance: &'a ast::Instance,
    ) {
        let entity = match self.instantiate_decl(scope, decl, instance) {
            Some(object) => {
                if let Object::Block(block) = &object {
                    self.note_instance(block);
                }
                Entity::Object(object)
            }
            None => Entity::Poison,
        };
        self.declare(scope, &instance.name, entity);
    }
}

/// Whether a block declares tables itself. An instance in it has its own say.
fn has_tables(kind: BlockKind<'_>) -> bool {
    match kind {
        BlockKind::Control(_, control) => control.body.as_ref().is_some_and(|body| {
            body.locals
                .iter()
                .any(|decl| matches!(decl.kind, DeclKind::Table(_)))
        }),
        BlockKind::Parser(..) | BlockKind::Package(..) => false,
    }
}
