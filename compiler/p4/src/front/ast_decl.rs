//! Declarations and statements of the syntax tree. Everything here is also visible through
//! [`super::ast`], which holds names, annotations, types and expressions.

use super::ast::{Annotation, Argument, BinaryOp, Expr, Ident, Path, Span, Type};

/// A declaration, at the top level, in a parser, control or block.
#[derive(Debug, Clone, PartialEq)]
pub struct Decl {
    /// All of it, annotations included.
    pub span: Span,
    /// The annotations before it.
    pub annotations: Vec<Annotation>,
    /// What is declared.
    pub kind: DeclKind,
}

/// What a declaration declares.
#[derive(Debug, Clone, PartialEq)]
pub enum DeclKind {
    /// `const T name = value;`
    Const(ConstDecl),
    /// `T name [= value];`
    Var(VarDecl),
    /// `T(arguments) name [= { … }];`
    Instance(Instance),
    /// `action`
    Action(Action),
    /// `table`
    Table(Table),
    /// A function with a body.
    Function(Function),
    /// `value_set<T>(size) name;`
    ValueSet(ValueSet),
    /// `header`
    Header(StructLike),
    /// `header_union`
    HeaderUnion(StructLike),
    /// `struct`
    Struct(StructLike),
    /// `enum`, with or without an underlying type.
    Enum(Enum),
    /// `error { … }`
    Error(Vec<Ident>),
    /// `match_kind { … }`
    MatchKind(Vec<Ident>),
    /// `typedef T name;`
    Typedef(Typedef),
    /// `type T name;`
    Newtype(Typedef),
    /// `extern Name { … }`
    Extern(Extern),
    /// `extern T name(…);`
    ExternFunction(Prototype),
    /// `parser`: a type when it has no body.
    Parser(Parser),
    /// `control`: a type when it has no body.
    Control(Control),
    /// `package`
    Package(Package),
}

impl Decl {
    /// The declared name; nothing for `error` and `match_kind`.
    #[must_use]
    pub fn name(&self) -> Option<&Ident> {
        Some(match &self.kind {
            DeclKind::Const(d) => &d.name,
            DeclKind::Var(d) => &d.name,
            DeclKind::Instance(d) => &d.name,
            DeclKind::Action(d) => &d.name,
            DeclKind::Table(d) => &d.name,
            DeclKind::Function(d) => &d.proto.name,
            DeclKind::ValueSet(d) => &d.name,
            DeclKind::Header(d) | DeclKind::HeaderUnion(d) | DeclKind::Struct(d) => &d.name,
            DeclKind::Enum(d) => &d.name,
            DeclKind::Error(_) | DeclKind::MatchKind(_) => return None,
            DeclKind::Typedef(d) | DeclKind::Newtype(d) => &d.name,
            DeclKind::Extern(d) => &d.name,
            DeclKind::ExternFunction(d) => &d.name,
            DeclKind::Parser(d) => &d.name,
            DeclKind::Control(d) => &d.name,
            DeclKind::Package(d) => &d.name,
        })
    }
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub struct ConstDecl {
    /// Its type.
    pub ty: Type,
    /// Its name.
    pub name: Ident,
    /// Its value.
    pub value: Expr,
}

/// A variable.
#[derive(Debug, Clone, PartialEq)]
pub struct VarDecl {
    /// Its type.
    pub ty: Type,
    /// Its name.
    pub name: Ident,
    /// Its first value, if one is written.
    pub init: Option<Expr>,
}

/// An instance of an extern, parser, control or package.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// What is instantiated.
    pub ty: Type,
    /// The constructor's arguments.
    pub args: Vec<Argument>,
    /// The instance's name.
    pub name: Ident,
    /// `= { … }`: functions (for abstract methods) and instances.
    pub body: Option<Vec<Decl>>,
}

/// Where a parameter's value flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// No direction is written.
    None,
    /// `in`
    In,
    /// `out`
    Out,
    /// `inout`
    InOut,
}

/// A parameter; an optional one carries the annotation `@optional`.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// All of it.
    pub span: Span,
    /// Its annotations.
    pub annotations: Vec<Annotation>,
    /// Its direction.
    pub direction: Direction,
    /// Its type.
    pub ty: Type,
    /// Its name.
    pub name: Ident,
    /// Its default value, if one is written.
    pub default: Option<Expr>,
}

/// What functions, methods and extern functions have before a body.
#[derive(Debug, Clone, PartialEq)]
pub struct Prototype {
    /// The type of the result; nothing for a constructor.
    pub ret: Option<Type>,
    /// The name.
    pub name: Ident,
    /// The type parameters.
    pub type_params: Vec<Ident>,
    /// The parameters.
    pub params: Vec<Param>,
}

/// A function with a body.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its head.
    pub proto: Prototype,
    /// Its body.
    pub body: Block,
}

/// An action.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Its name.
    pub name: Ident,
    /// Its parameters.
    pub params: Vec<Param>,
    /// Its body.
    pub body: Block,
}

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Its name.
    pub name: Ident,
    /// Its properties, in source order.
    pub properties: Vec<TableProperty>,
}

/// One property of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableProperty {
    /// All of it.
    pub span: Span,
    /// Its annotations.
    pub annotations: Vec<Annotation>,
    /// Whether `const` stands before it.
    pub is_const: bool,
    /// Its name: `key`, `actions`, `entries`, `default_action`, `size`, or the architecture's.
    pub name: Ident,
    /// Its value.
    pub value: PropertyValue,
}

/// The value of a table's property.
#[derive(Debug, Clone, PartialEq)]
pub enum PropertyValue {
    /// `key = { … }`
    Key(Vec<KeyElement>),
    /// `actions = { … }`
    Actions(Vec<ActionRef>),
    /// `entries = { … }`
    Entries(Vec<Entry>),
    /// Any other: `default_action = f(1);`, `size = 1024;`, `counters = c;` …
    Expr(Expr),
}

/// One element of a table's key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyElement {
    /// All of it.
    pub span: Span,
    /// What is matched.
    pub expr: Expr,
    /// How it is matched: `exact`, `lpm` …
    pub match_kind: Ident,
    /// The annotations behind the match kind.
    pub annotations: Vec<Annotation>,
}

/// An action named in `actions` or in an entry.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionRef {
    /// All of it.
    pub span: Span,
    /// In `actions`: the annotations before it. In an entry: those behind it.
    pub annotations: Vec<Annotation>,
    /// The action.
    pub path: Path,
    /// The arguments; nothing when no parentheses are written.
    pub args: Option<Vec<Argument>>,
}

/// One entry of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// All of it.
    pub span: Span,
    /// Whether `const` stands before it.
    pub is_const: bool,
    /// The value of `priority = …`, if written.
    pub priority: Option<Expr>,
    /// One keyset for each element of the key.
    pub keys: Vec<Keyset>,
    /// The action with its arguments.
    pub action: ActionRef,
}

/// A set of values, in a `select` or a table's entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Keyset {
    /// Where it is written.
    pub span: Span,
    /// What it is.
    pub kind: KeysetKind,
}

/// The forms of a [`Keyset`].
#[derive(Debug, Clone, PartialEq)]
pub enum KeysetKind {
    /// `default`
    Default,
    /// `_`
    DontCare,
    /// One value, or the name of a value set.
    Value(Expr),
    /// `value &&& mask`
    Mask(Expr, Expr),
    /// `low .. high`
    Range(Expr, Expr),
}

/// A value set of a parser.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueSet {
    /// The type of its elements.
    pub ty: Type,
    /// How many it can hold.
    pub size: Expr,
    /// Its name.
    pub name: Ident,
}

/// A header, header union or struct.
#[derive(Debug, Clone, PartialEq)]
pub struct StructLike {
    /// Its name.
    pub name: Ident,
    /// Its type parameters.
    pub type_params: Vec<Ident>,
    /// Its fields.
    pub fields: Vec<Field>,
}

/// One field.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// All of it.
    pub span: Span,
    /// Its annotations.
    pub annotations: Vec<Annotation>,
    /// Its type.
    pub ty: Type,
    /// Its name.
    pub name: Ident,
}

/// An enumeration.
#[derive(Debug, Clone, PartialEq)]
pub struct Enum {
    /// The type between `enum` and the name, which makes it serializable.
    pub underlying: Option<Type>,
    /// Its name.
    pub name: Ident,
    /// Its members.
    pub members: Vec<EnumMember>,
}

/// One member of an enumeration.
#[derive(Debug, Clone, PartialEq)]
pub struct EnumMember {
    /// All of it.
    pub span: Span,
    /// Its name.
    pub name: Ident,
    /// Its value, in a serializable enumeration.
    pub value: Option<Expr>,
}

/// `typedef` or `type`.
#[derive(Debug, Clone, PartialEq)]
pub struct Typedef {
    /// What the name stands for.
    pub target: TypedefTarget,
    /// The new name.
    pub name: Ident,
}

/// What a `typedef` names.
#[derive(Debug, Clone, PartialEq)]
pub enum TypedefTarget {
    /// A type.
    Type(Type),
    /// A header, header union, struct or enum declared on the spot.
    Declared(Box<Decl>),
}

/// An extern object.
#[derive(Debug, Clone, PartialEq)]
pub struct Extern {
    /// Its name.
    pub name: Ident,
    /// Its type parameters.
    pub type_params: Vec<Ident>,
    /// Its constructors and methods.
    pub methods: Vec<Method>,
}

/// A constructor or method of an extern.
#[derive(Debug, Clone, PartialEq)]
pub struct Method {
    /// All of it.
    pub span: Span,
    /// Its annotations.
    pub annotations: Vec<Annotation>,
    /// Whether the user must supply it.
    pub is_abstract: bool,
    /// Its head; a constructor has no result type.
    pub proto: Prototype,
}

/// A parser or a parser type.
#[derive(Debug, Clone, PartialEq)]
pub struct Parser {
    /// Its name.
    pub name: Ident,
    /// Its type parameters.
    pub type_params: Vec<Ident>,
    /// Its parameters at run time.
    pub params: Vec<Param>,
    /// Its constructor's parameters.
    pub ctor_params: Vec<Param>,
    /// Its body; nothing for a parser type.
    pub body: Option<ParserBody>,
}

/// The body of a parser.
#[derive(Debug, Clone, PartialEq)]
pub struct ParserBody {
    /// Constants, variables, instances and value sets.
    pub locals: Vec<Decl>,
    /// The states, in source order.
    pub states: Vec<State>,
}

/// A state of a parser.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// All of it.
    pub span: Span,
    /// Its annotations.
    pub annotations: Vec<Annotation>,
    /// Its name.
    pub name: Ident,
    /// What it does.
    pub statements: Vec<Stmt>,
    /// Where it goes; when none is written, to `reject`.
    pub transition: Option<Transition>,
}

/// Where a state goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Transition {
    /// `transition name;`
    Direct(Ident),
    /// `transition select( … ) { … }`
    Select(Select),
}

/// A `select` expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    /// From `select` to the closing brace.
    pub span: Span,
    /// What is looked at.
    pub exprs: Vec<Expr>,
    /// The cases, in order.
    pub cases: Vec<SelectCase>,
}

/// One case of a `select`.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectCase {
    /// All of it.
    pub span: Span,
    /// One keyset for each expression, or a single `default` or `_` for all.
    pub keys: Vec<Keyset>,
    /// The next state.
    pub target: Ident,
}

/// A control or a control type.
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    /// Its name.
    pub name: Ident,
    /// Its type parameters.
    pub type_params: Vec<Ident>,
    /// Its parameters at run time.
    pub params: Vec<Param>,
    /// Its constructor's parameters.
    pub ctor_params: Vec<Param>,
    /// Its body; nothing for a control type.
    pub body: Option<ControlBody>,
}

/// The body of a control.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlBody {
    /// Constants, variables, instances, actions and tables.
    pub locals: Vec<Decl>,
    /// `apply { … }`
    pub apply: Block,
}

/// A package type.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    /// Its name.
    pub name: Ident,
    /// Its type parameters.
    pub type_params: Vec<Ident>,
    /// Its constructor's parameters.
    pub params: Vec<Param>,
}

/// `{ … }`
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// From the first annotation or `{` to `}`.
    pub span: Span,
    /// The annotations before `{`.
    pub annotations: Vec<Annotation>,
    /// What it does.
    pub stmts: Vec<Stmt>,
}

/// A statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Stmt {
    /// All of it.
    pub span: Span,
    /// What it is.
    pub kind: StmtKind,
}

/// The forms a statement can have.
#[derive(Debug, Clone, PartialEq)]
pub enum StmtKind {
    /// `;`
    Empty,
    /// `{ … }`
    Block(Block),
    /// A constant, variable or instance.
    Decl(Box<Decl>),
    /// `target = value;` or, with an operator, `target op= value;`
    Assign {
        /// The operator of a compound assignment.
        op: Option<BinaryOp>,
        /// The left side: a path, member, index or slice.
        target: Expr,
        /// The right side.
        value: Expr,
    },
    /// A call: the expression is always [`super::ast::ExprKind::Call`]. Direct application
    /// (`Type.apply(…)`) is a call of the member `apply` of a path.
    Call(Expr),
    /// `if (condition) then [else otherwise]`
    If {
        /// The condition.
        condition: Expr,
        /// What is done when it holds.
        then: Box<Stmt>,
        /// What is done when it does not.
        otherwise: Option<Box<Stmt>>,
    },
    /// `switch (subject) { … }`
    Switch {
        /// An expression, or `table.apply().action_run`.
        subject: Expr,
        /// The cases, in order.
        cases: Vec<SwitchCase>,
    },
    /// `return [value];`
    Return(Option<Expr>),
    /// `exit;`
    Exit,
    /// `break;`
    Break,
    /// `continue;`
    Continue,
    /// `for (init; condition; update) body`
    For(Box<ForLoop>),
    /// `for (T name in collection) body`
    ForIn(Box<ForIn>),
}

/// `for (init; condition; update) body`
#[derive(Debug, Clone, PartialEq)]
pub struct ForLoop {
    /// The annotations before `for`.
    pub annotations: Vec<Annotation>,
    /// Declarations, assignments and calls before the first round.
    pub init: Vec<Stmt>,
    /// The condition of each round.
    pub condition: Expr,
    /// Assignments and calls after each round.
    pub update: Vec<Stmt>,
    /// The body.
    pub body: Stmt,
}

/// `for (T name in collection) body`
#[derive(Debug, Clone, PartialEq)]
pub struct ForIn {
    /// The annotations before `for`.
    pub annotations: Vec<Annotation>,
    /// The annotations before the variable.
    pub var_annotations: Vec<Annotation>,
    /// The variable's type; nothing when a variable declared outside is named.
    pub ty: Option<Type>,
    /// The variable.
    pub name: Ident,
    /// What it runs over.
    pub collection: ForCollection,
    /// The body.
    pub body: Stmt,
}

/// What a `for … in` runs over.
#[derive(Debug, Clone, PartialEq)]
pub enum ForCollection {
    /// A list or header stack.
    Expr(Expr),
    /// `low .. high`, both included.
    Range(Expr, Expr),
}

/// One case of a `switch`.
#[derive(Debug, Clone, PartialEq)]
pub struct SwitchCase {
    /// All of it.
    pub span: Span,
    /// The value or action; nothing for `default`.
    pub label: Option<Expr>,
    /// The block; nothing when it falls through to the next case's.
    pub body: Option<Block>,
}
