//! The state of lowering: the program made so far, the statements of the block being made, and what
//! the surrounding construct allows. The work itself is in the sibling modules, one construct each.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::ir::UniqueNames;
use crate::ir::{
    self, Block, Expr, Field, Handle, Header, HeaderRef, HeaderType, Label, Place, Stmt, StmtKind,
    Type,
};
use crate::source::Span;

use super::operand::{Operand, OperandKind};
use super::scope::Scope;
use super::types::{Ty, Types};

/// Which part of the architecture is being lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Parser,
    Verify,
    Ingress,
    Egress,
    Compute,
    Deparser,
}

impl Part {
    pub fn describe(self) -> &'static str {
        match self {
            Self::Parser => "a parser",
            Self::Verify => "the control that verifies checksums",
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Compute => "the control that updates checksums",
            Self::Deparser => "the deparser",
        }
    }
}

/// What may stand where we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    /// The apply block of a control, or a parser's state.
    Body,
    /// An action.
    Action,
    /// A function.
    Function,
}

/// Where a `return` goes.
pub struct ReturnTarget<'a> {
    pub label: Label,
    pub used: bool,
    /// The type of the value; nothing for a control or action.
    pub ty: Option<Ty>,
    /// The variable that takes the value, once there is one.
    pub slot: Option<Operand<'a>>,
}

/// Where `break` and `continue` go.
pub struct LoopTarget {
    pub end: Label,
    pub next: Label,
}

pub struct Lower<'a> {
    pub types: Types,
    pub ir: ir::Program,
    pub diagnostics: Diagnostics,
    pub globals: Scope<'a>,
    /// The statements of the block being made.
    pub block: Block,
    pub part: Part,
    pub inside: Inside,
    /// Innermost last.
    pub returns: Vec<ReturnTarget<'a>>,
    pub loops: Vec<LoopTarget>,
    /// Names of the instances and functions being inlined, outermost first.
    pub prefix: Arc<str>,
    /// How deep calls are nested, to stop recursion.
    pub depth: u32,
    /// Names taken in the scalars' header.
    pub scalar_names: UniqueNames,
    pub header_names: UniqueNames,
    pub state_names: UniqueNames,
    pub names: super::declare::Globals<'a>,
    /// Whether a field list's number is known to be empty.
    pub warned_lists: FxHashSet<u32>,
    /// What the blocks being lowered declare, innermost last; the first is the top level's.
    pub declared: Vec<Vec<super::scope::Declared<'a>>>,
    /// The user's metadata, once it exists.
    pub metadata: Option<Operand<'a>>,
    /// While code that cannot run is only checked.
    pub dead: u32,
    /// How many blocks are being collected.
    pub nesting: u32,
    /// The parser's state being made.
    pub state: Option<super::parser::OpenState>,
    /// Statements, calls and fields made so far.
    work: u32,
    /// What the calls around have still to copy out, innermost last.
    pub pending: Vec<super::bind::CopyOut<'a>>,
    next_label: u32,
    reported: FxHashSet<(Option<Span>, String)>,
}

/// How deep expressions, statements and calls may be nested, counted through calls.
pub const MAX_DEPTH: u32 = 256;
/// How many statements, calls and fields there may be once everything is in its place.
const MAX_WORK: u32 = 1_000_000;

impl<'a> Lower<'a> {
    pub fn new() -> Self {
        let mut header_types = ir::Arena::default();
        let mut headers = ir::Arena::default();
        let scalars_type = header_types.append(HeaderType {
            name: "scalars_t".into(),
            fields: Vec::new(),
        });
        let scalars = headers.append(Header {
            name: "scalars".into(),
            ty: scalars_type,
            metadata: true,
        });
        let ir = ir::Program {
            exprs: ir::Exprs::default(),
            header_types,
            headers,
            stacks: ir::Arena::default(),
            union_types: ir::Arena::default(),
            unions: ir::Arena::default(),
            scalars,
            standard_metadata: scalars,
            errors: Vec::new(),
            enums: Vec::new(),
            parser: ir::Parser::default(),
            value_sets: ir::Arena::default(),
            controls: [ir::Control::default(), ir::Control::default()],
            tables: ir::Arena::default(),
            actions: ir::Arena::default(),
            counters: ir::Arena::default(),
            meters: ir::Arena::default(),
            direct_counters: ir::Arena::default(),
            direct_meters: ir::Arena::default(),
            registers: ir::Arena::default(),
            profiles: ir::Arena::default(),
            calculations: ir::Arena::default(),
            checksums: Vec::new(),
            field_lists: ir::Arena::default(),
            digests: ir::Arena::default(),
            deparser: Vec::new(),
            deparser_span: Span::default(),
            control_plane: Vec::new(),
            calls_externs: false,
            type_definitions: Vec::new(),
            package: ir::PackageInfo::default(),
        };
        let mut header_names = UniqueNames::default();
        header_names.reserve("scalars");
        header_names.reserve("standard_metadata");
        let mut names = super::declare::Globals::default();
        names.header_type_names.reserve("scalars_t");
        names.header_type_names.reserve("standard_metadata");
        Self {
            types: Types::default(),
            ir,
            diagnostics: Diagnostics::new(),
            globals: Scope::top(),
            block: Vec::new(),
            part: Part::Ingress,
            inside: Inside::Body,
            returns: Vec::new(),
            loops: Vec::new(),
            prefix: "".into(),
            depth: 0,
            scalar_names: UniqueNames::default(),
            header_names,
            state_names: UniqueNames::default(),
            names,
            warned_lists: FxHashSet::default(),
            declared: vec![Vec::new()],
            metadata: None,
            dead: 0,
            nesting: 0,
            state: None,
            work: 0,
            pending: Vec::new(),
            next_label: 0,
            reported: FxHashSet::default(),
        }
    }

    /// Reports, unless the same was said of the same place: a body is lowered once an instance.
    pub fn report(&mut self, diagnostic: Diagnostic) {
        if self
            .reported
            .insert((diagnostic.span, diagnostic.message.clone()))
        {
            self.diagnostics.push(diagnostic);
        }
    }

    pub fn error(&mut self, span: Span, message: impl Into<String>) {
        self.report(Diagnostic::error(span, message));
    }

    /// Something correct that this compiler or its target can't do.
    pub fn unsupported(&mut self, span: Span, what: impl Into<String>) {
        self.report(Diagnostic::error(span, what).with_code("unsupported"));
    }

    pub fn poison(&mut self) -> Operand<'a> {
        let ty = self.types.unknown();
        Operand::new(ty, OperandKind::Poison)
    }

    /// Reports an error and stands for what is wrong.
    pub fn bad(&mut self, span: Span, message: impl Into<String>) -> Operand<'a> {
        self.error(span, message);
        self.poison()
    }

    pub fn emit(&mut self, span: Span, kind: StmtKind) {
        self.block.push(Stmt { span, kind });
    }

    /// The statements that `make` emits.
    pub fn collect<R>(&mut self, make: impl FnOnce(&mut Self) -> R) -> (R, Block) {
        let outer = std::mem::take(&mut self.block);
        self.nesting += 1;
        let result = make(self);
        self.nesting -= 1;
        (result, std::mem::replace(&mut self.block, outer))
    }

    pub fn label(&mut self) -> Label {
        self.next_label += 1;
        Label(self.next_label)
    }

    /// A new scalar variable.
    pub fn scalar(&mut self, name: &str, ty: Type) -> Place {
        let name = self.scalar_names.give(name);
        let header = self.ir.scalars;
        let fields = &mut self.ir.header_types[self.ir.headers[header].ty].fields;
        fields.push(Field {
            name,
            ty,
            alias: None,
        });
        let field = u32::try_from(fields.len() - 1).unwrap_or(u32::MAX);
        Place {
            header: HeaderRef::Instance(header),
            field,
        }
    }

    /// A new scalar variable that the user has not named.
    pub fn temporary(&mut self, ty: Type) -> Place {
        self.scalar("tmp", ty)
    }

    /// The type of a header.
    pub fn header_type(&self, header: HeaderRef) -> Handle<HeaderType> {
        match header {
            HeaderRef::Instance(h) => self.ir.headers[h].ty,
            HeaderRef::Last(s) | HeaderRef::Next(s) | HeaderRef::Element(s, _) => {
                self.ir.stacks[s].ty
            }
        }
    }

    /// The type of a field.
    pub fn place_type(&self, place: Place) -> Type {
        let fields = &self.ir.header_types[self.header_type(place.header)].fields;
        fields
            .get(place.field as usize)
            .map_or(Type::Bool, |field| field.ty)
    }

    pub fn read(&mut self, place: Place) -> Handle<Expr> {
        let ty = self.place_type(place);
        self.ir.exprs.read(place, ty)
    }

    /// Counts one more statement, call or field; false, with an error, when there are too many.
    pub fn goes_on(&mut self, span: Span) -> bool {
        self.work = self.work.saturating_add(1);
        if self.work == MAX_WORK {
            self.error(
                span,
                "the program becomes too large when calls, instances and loops are put in their places",
            );
        }
        self.work < MAX_WORK
    }

    /// Runs `make` one level deeper; refuses when that is too deep.
    pub fn deeper<R>(&mut self, span: Span, make: impl FnOnce(&mut Self) -> R) -> Option<R> {
        if !self.goes_on(span) {
            return None;
        }
        if self.depth >= MAX_DEPTH {
            self.error(
                span,
                "calls are nested too deeply; recursion is not possible in P4",
            );
            return None;
        }
        self.depth += 1;
        let result = make(self);
        self.depth -= 1;
        Some(result)
    }

    /// The name with the prefix of the instance being lowered.
    pub fn qualified(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}
