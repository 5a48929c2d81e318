//! The syntax tree of P4_16 (version 1.2.5 of the language), with a source position on every node.
//! It says what was written and nothing more: names are not resolved, types are not checked, and
//! whether an identifier in an expression names a type is left to the reader of the tree.

use std::fmt;
use std::sync::Arc;

use num_bigint::BigInt;

pub use super::ast_decl::*;
pub use crate::source::Span;

/// A whole program: what is left after the preprocessor, in source order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Program {
    /// The declarations of the main file and of everything that it includes.
    pub decls: Vec<Decl>,
}

/// One name as written, at its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Ident {
    /// The text of the name.
    pub name: Arc<str>,
    /// Where it is written.
    pub span: Span,
}

impl Ident {
    /// A name at a place.
    #[must_use]
    pub fn new(name: &str, span: Span) -> Self {
        Self {
            name: name.into(),
            span,
        }
    }

    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A name that may start with a dot (which then means the top level).
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// From the dot, if any, to the end of the name.
    pub span: Span,
    /// Whether a dot stands before the name.
    pub absolute: bool,
    /// The name.
    pub name: Ident,
}

/// One annotation (P4_16 section 20).
#[derive(Debug, Clone, PartialEq)]
pub struct Annotation {
    /// From `@` to the end of the body.
    pub span: Span,
    /// The name behind `@`.
    pub name: Ident,
    /// What stands behind the name.
    pub body: AnnotationBody,
}

/// The body of an annotation.
#[derive(Debug, Clone, PartialEq)]
pub enum AnnotationBody {
    /// `@name`
    None,
    /// `@name( … )`: any tokens with balanced parentheses.
    Unstructured(Vec<AnnotationToken>),
    /// `@name[ expression, … ]`; also `@name[]`.
    Expressions(Vec<Expr>),
    /// `@name[ key = expression, … ]`
    KeyValues(Vec<NamedExpr>),
}

/// One token of an unstructured annotation body.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnotationToken {
    /// Where it is written.
    pub span: Span,
    /// What it is.
    pub kind: AnnotationTokenKind,
}

/// What a token of an unstructured annotation is.
#[derive(Debug, Clone, PartialEq)]
pub enum AnnotationTokenKind {
    /// A string literal, escapes resolved, without its quotes.
    String(Arc<str>),
    /// An integer literal.
    Int(IntLit),
    /// An identifier or a keyword.
    Word(Arc<str>),
    /// An operator or a delimiter.
    Symbol(Arc<str>),
}

impl Annotation {
    /// The text, if the body is one string literal: `@name("x")` or `@name["x"]`. Adjacent string
    /// literals are not joined.
    #[must_use]
    pub fn single_string(&self) -> Option<&str> {
        match &self.body {
            AnnotationBody::Unstructured(tokens) => match tokens.as_slice() {
                [
                    AnnotationToken {
                        kind: AnnotationTokenKind::String(text),
                        ..
                    },
                ] => Some(text),
                _ => None,
            },
            AnnotationBody::Expressions(exprs) => match exprs.as_slice() {
                [
                    Expr {
                        kind: ExprKind::String(text),
                        ..
                    },
                ] => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// The numbers, if the body is a list of integer literals separated by commas.
    #[must_use]
    pub fn int_list(&self) -> Option<Vec<BigInt>> {
        match &self.body {
            AnnotationBody::Unstructured(tokens) => {
                let mut out = Vec::new();
                for (index, token) in tokens.iter().enumerate() {
                    match &token.kind {
                        AnnotationTokenKind::Int(lit) if index % 2 == 0 => {
                            out.push(lit.value.clone())
                        }
                        AnnotationTokenKind::Symbol(s) if index % 2 == 1 && &**s == "," => {}
                        _ => return None,
                    }
                }
                Some(out)
            }
            AnnotationBody::Expressions(exprs) => exprs
                .iter()
                .map(|e| match &e.kind {
                    ExprKind::Int(lit) => Some(lit.value.clone()),
                    _ => None,
                })
                .collect(),
            _ => None,
        }
    }
}

/// A type as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Type {
    /// Where it is written.
    pub span: Span,
    /// What it is.
    pub kind: TypeKind,
}

/// The forms a type can have.
#[derive(Debug, Clone, PartialEq)]
pub enum TypeKind {
    /// `bool`
    Bool,
    /// `error`
    Error,
    /// `match_kind`
    MatchKind,
    /// `string`
    String,
    /// `void`, as a return type only.
    Void,
    /// `_`, as a type argument only.
    DontCare,
    /// `int`: integers of any size, known at compile time.
    Int,
    /// `bit<w>`; `bit` alone is read as `bit<1>`. The width is a literal or a parenthesised expression.
    Bit(Box<Expr>),
    /// `int<w>`
    SignedInt(Box<Expr>),
    /// `varbit<w>`
    Varbit(Box<Expr>),
    /// A name, with type arguments if any were written.
    Named {
        /// The name.
        path: Path,
        /// The arguments between `<` and `>`; empty when there are none.
        args: Vec<Type>,
    },
    /// `element[size]`
    Stack {
        /// The type of one element.
        element: Box<Type>,
        /// The number of elements.
        size: Box<Expr>,
    },
    /// `tuple<…>`
    Tuple(Vec<Type>),
    /// `list<T>`
    List(Box<Type>),
}

/// An integer literal.
#[derive(Debug, Clone, PartialEq)]
pub struct IntLit {
    /// The digits' value. Never negative; not cut to the width.
    pub value: BigInt,
    /// The width in bits, if one was written (`8w…`, `8s…`).
    pub width: Option<u32>,
    /// Whether the width was written with `s`.
    pub signed: bool,
    /// 2, 8, 10 or 16: how it was written.
    pub base: u8,
    /// All of it as it was written.
    pub text: Arc<str>,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// Where it is written (parentheses around it included).
    pub span: Span,
    /// What it is.
    pub kind: ExprKind,
}

/// The forms an expression can have. Parentheses leave no node.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// `true`, `false`
    Bool(bool),
    /// An integer literal.
    Int(IntLit),
    /// A string literal, escapes resolved.
    String(Arc<str>),
    /// A name: a variable, parameter, function, instance, and also a type's name (in `E.member`,
    /// `T.minSizeInBits()`, and as the callee of a constructor call).
    Path(Path),
    /// `this`
    This,
    /// A type that is not just a name, where an expression stands: the `error` of `error.NoError`,
    /// `bit<8>.minSizeInBits()`, `S<bit<8>>.maxSizeInBytes()`.
    Type(Box<Type>),
    /// `...`: the default value, alone or as the last element of a list.
    Dots,
    /// `{#}`: an invalid header or header union.
    InvalidHeader,
    /// `{ a, b }`; the last may be [`ExprKind::Dots`].
    List(Vec<Expr>),
    /// `{ a = x, b = y }`
    Record {
        /// The fields, in source order.
        fields: Vec<NamedExpr>,
        /// Whether `...` stands at the end.
        dots: bool,
    },
    /// `base[index]`
    Index {
        /// The stack or tuple.
        base: Box<Expr>,
        /// The index.
        index: Box<Expr>,
    },
    /// `base[hi:lo]`
    Slice {
        /// What is cut.
        base: Box<Expr>,
        /// Its highest bit taken.
        hi: Box<Expr>,
        /// Its lowest bit taken.
        lo: Box<Expr>,
    },
    /// `base[lo+:width]`
    PlusSlice {
        /// What is cut.
        base: Box<Expr>,
        /// Its lowest bit taken.
        lo: Box<Expr>,
        /// How many bits are taken.
        width: Box<Expr>,
    },
    /// `base.member`
    Member {
        /// The left side.
        base: Box<Expr>,
        /// The name behind the dot.
        member: Ident,
    },
    /// `op operand`
    Unary {
        /// The operator.
        op: UnaryOp,
        /// Its operand.
        operand: Box<Expr>,
    },
    /// `left op right`
    Binary {
        /// The operator.
        op: BinaryOp,
        /// The left operand.
        left: Box<Expr>,
        /// The right operand.
        right: Box<Expr>,
    },
    /// `condition ? then : otherwise`
    Ternary {
        /// The condition.
        condition: Box<Expr>,
        /// The value when it holds.
        then: Box<Expr>,
        /// The value when it does not.
        otherwise: Box<Expr>,
    },
    /// `(type) operand`
    Cast {
        /// The type between the parentheses.
        ty: Box<Type>,
        /// What is cast; a list or record for `(S) { … }`.
        operand: Box<Expr>,
    },
    /// `callee<types>(arguments)`: a function, method, action, `apply`, or a constructor.
    Call {
        /// What is called: a path or a member.
        callee: Box<Expr>,
        /// The type arguments; empty when none are written.
        type_args: Vec<Type>,
        /// The arguments.
        args: Vec<Argument>,
    },
}

/// `name = value` in a record or a structured annotation.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedExpr {
    /// From the name to the end of the value.
    pub span: Span,
    /// The name.
    pub name: Ident,
    /// The value.
    pub value: Expr,
}

/// One argument of a call or an instantiation.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// Where it is written.
    pub span: Span,
    /// The parameter's name in `name = value`.
    pub name: Option<Ident>,
    /// The value; nothing for `_`.
    pub value: Option<Expr>,
}

/// Operators with one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnaryOp {
    /// `!`
    Not,
    /// `~`
    Complement,
    /// `-`
    Minus,
    /// `+`
    Plus,
}

impl UnaryOp {
    /// The operator as it is written.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Not => "!",
            Self::Complement => "~",
            Self::Minus => "-",
            Self::Plus => "+",
        }
    }
}

/// Operators with two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BinaryOp {
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `|+|`
    AddSat,
    /// `|-|`
    SubSat,
    /// `++`
    Concat,
    /// `<<`
    Shl,
    /// `>>`
    Shr,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `&`
    BitAnd,
    /// `^`
    BitXor,
    /// `|`
    BitOr,
    /// `&&`
    And,
    /// `||`
    Or,
}

impl BinaryOp {
    /// The operator as it is written.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Add => "+",
            Self::Sub => "-",
            Self::AddSat => "|+|",
            Self::SubSat => "|-|",
            Self::Concat => "++",
            Self::Shl => "<<",
            Self::Shr => ">>",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::BitAnd => "&",
            Self::BitXor => "^",
            Self::BitOr => "|",
            Self::And => "&&",
            Self::Or => "||",
        }
    }

    /// How tightly it binds, 1 (`||`) to 10 (`*`); all are left-associative.
    #[must_use]
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Eq | Self::Ne => 3,
            Self::Lt | Self::Le | Self::Gt | Self::Ge => 4,
            Self::BitOr => 5,
            Self::BitXor => 6,
            Self::BitAnd => 7,
            Self::Shl | Self::Shr => 8,
            Self::Concat | Self::Add | Self::Sub | Self::AddSat | Self::SubSat => 9,
            Self::Mul | Self::Div | Self::Mod => 10,
        }
    }
}
