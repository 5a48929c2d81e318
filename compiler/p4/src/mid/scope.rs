//! Scopes: what a name means at a place of the program. A scope is shared by everything declared in
//! it, because an action is lowered only when a table that lists it is applied, perhaps from a place
//! with other names.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::front::ast;
use crate::ir::{Action, Handle, Table, ValueSet};
use crate::source::Span;

use super::operand::{Object, Operand};
use super::types::{GenericStruct, Ty};

/// What a name means.
#[derive(Clone)]
pub enum Entity<'a> {
    /// A constant, variable or parameter. The second part says why it can't be written, if so.
    Value(Operand<'a>, Option<&'static str>),
    Type(Ty),
    GenericStruct(GenericStruct<'a>),
    /// All functions of one name.
    Functions(Rc<Vec<FunctionDef<'a>>>),
    Extern(&'a ast::Extern),
    Parser(&'a ast::Decl, &'a ast::Parser),
    Control(&'a ast::Decl, &'a ast::Control),
    Package(&'a ast::Decl, &'a ast::Package),
    Action(Rc<ActionDef<'a>>),
    Table(Rc<TableDef<'a>>),
    Object(Object<'a>),
    ValueSet(Handle<ValueSet>),
    MatchKind,
    /// Something wrong, of which the user has been told.
    Poison,
}

impl Entity<'_> {
    /// What it is, for an error message.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Value(..) => "a value",
            Self::Type(_) | Self::GenericStruct(_) | Self::Poison => "a type",
            Self::Functions(_) => "a function",
            Self::Extern(..) => "an extern type",
            Self::Parser(..) => "a parser",
            Self::Control(..) => "a control",
            Self::Package(..) => "a package",
            Self::Action(_) => "an action",
            Self::Table(_) => "a table",
            Self::Object(_) => "an instance",
            Self::ValueSet(_) => "a value set",
            Self::MatchKind => "a match kind",
        }
    }
}

/// A function.
#[derive(Clone, Copy)]
pub struct FunctionDef<'a> {
    pub decl: &'a ast::Decl,
    pub proto: &'a ast::Prototype,
    /// Nothing for an extern function.
    pub body: Option<&'a ast::Block>,
}

/// An action at its place.
pub struct ActionDef<'a> {
    pub decl: &'a ast::Decl,
    pub action: &'a ast::Action,
    /// The scope that its body sees.
    pub scope: Scope<'a>,
    /// The name of the enclosing instance, with a dot at the end; empty at the top level.
    pub prefix: Arc<str>,
    /// Its forms in tables: one for each set of arguments bound by a table.
    pub lowered: RefCell<Vec<(Vec<Operand<'a>>, Handle<Action>)>>,
    /// Whether live code calls it.
    pub used: Cell<bool>,
}

/// A table at its place.
pub struct TableDef<'a> {
    pub decl: &'a ast::Decl,
    pub table: &'a ast::Table,
    /// The scope that its properties see.
    pub scope: Scope<'a>,
    /// The name of the enclosing instance, with a dot at the end.
    pub prefix: Arc<str>,
    /// Once it has been applied.
    pub lowered: Cell<Option<Handle<Table>>>,
    /// Its actions as lowered, by name, in order.
    pub actions: RefCell<Vec<(Arc<str>, Handle<Action>)>>,
    /// The keys that are no fields, with the scalars that take them.
    pub computed: RefCell<Vec<(Operand<'a>, &'a ast::Expr)>>,
}

/// An instance of a parser or control.
pub struct BlockInstance<'a> {
    pub kind: BlockKind<'a>,
    pub arguments: Vec<Operand<'a>>,
    /// Its full name; with a dot at the end.
    pub prefix: Arc<str>,
    pub span: Span,
    /// What its first application bound, and the scope it made.
    pub applied: RefCell<Option<(Vec<Operand<'a>>, Scope<'a>)>>,
    /// What it declares, in order.
    pub declared: RefCell<Vec<Declared<'a>>>,
}

/// Something that the control plane may see, where it is declared.
#[derive(Clone)]
pub enum Declared<'a> {
    Table(Rc<TableDef<'a>>),
    Action(Rc<ActionDef<'a>>),
    Object(Object<'a>),
    ValueSet(Handle<ValueSet>),
}

impl fmt::Debug for BlockInstance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instance {}", self.prefix)
    }
}

/// What a [`BlockInstance`] is of.
#[derive(Clone, Copy)]
pub enum BlockKind<'a> {
    Parser(&'a ast::Decl, &'a ast::Parser),
    Control(&'a ast::Decl, &'a ast::Control),
    Package(&'a ast::Decl, &'a ast::Package),
}

impl<'a> BlockKind<'a> {
    pub fn name(self) -> &'a str {
        match self {
            Self::Parser(_, p) => p.name.as_str(),
            Self::Control(_, c) => c.name.as_str(),
            Self::Package(_, p) => p.name.as_str(),
        }
    }
}

/// A scope.
#[derive(Clone)]
pub struct Scope<'a> {
    inner: Rc<ScopeInner<'a>>,
}

struct ScopeInner<'a> {
    parent: Option<Scope<'a>>,
    names: RefCell<FxHashMap<Arc<str>, (Entity<'a>, Span)>>,
}

impl<'a> Scope<'a> {
    /// The outermost scope.
    pub fn top() -> Self {
        Self {
            inner: Rc::new(ScopeInner {
                parent: None,
                names: RefCell::default(),
            }),
        }
    }

    /// A scope inside this one.
    pub fn inside(&self) -> Self {
        Self {
            inner: Rc::new(ScopeInner {
                parent: Some(self.clone()),
                names: RefCell::default(),
            }),
        }
    }

    /// What the name means here.
    pub fn find(&self, name: &str) -> Option<Entity<'a>> {
        let mut scope = self;
        loop {
            if let Some((entity, _)) = scope.inner.names.borrow().get(name) {
                return Some(entity.clone());
            }
            scope = scope.inner.parent.as_ref()?;
        }
    }

    /// Where what the name means here was declared.
    pub fn find_place(&self, name: &str) -> Option<Span> {
        let mut scope = self;
        loop {
            if let Some((_, place)) = scope.inner.names.borrow().get(name) {
                return Some(*place);
            }
            scope = scope.inner.parent.as_ref()?;
        }
    }

    /// What the name means in this very scope, and where it was declared.
    pub fn find_here(&self, name: &str) -> Option<(Entity<'a>, Span)> {
        self.inner.names.borrow().get(name).cloned()
    }

    /// Gives a name a meaning, in place of one it had in this very scope.
    pub fn put(&self, name: &Arc<str>, entity: Entity<'a>, span: Span) {
        self.inner
            .names
            .borrow_mut()
            .insert(Arc::clone(name), (entity, span));
    }

    /// A name in reach that differs from this one by little, for advice.
    pub fn similar(&self, name: &str) -> Option<Arc<str>> {
        let mut best: Option<(usize, Arc<str>)> = None;
        let mut scope = Some(self);
        while let Some(here) = scope {
            for known in here.inner.names.borrow().keys() {
                let distance = edit_distance(name, known);
                let better = best
                    .as_ref()
                    .is_none_or(|(d, n)| (distance, known) < (*d, n));
                if distance <= 1 + name.len() / 5 && better {
                    best = Some((distance, Arc::clone(known)));
                }
            }
            scope = here.inner.parent.as_ref();
        }
        best.map(|(_, name)| name)
    }
}

/// How many characters must change to turn one text into the other.
pub fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        let mut left = i + 1;
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let cost = diagonal + usize::from(x != *y);
            diagonal = *cell;
            *cell = cost.min(left + 1).min(diagonal + 1);
            left = *cell;
        }
    }
    row.last().copied().unwrap_or(0)
}
