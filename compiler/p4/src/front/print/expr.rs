//! Types and expressions, with parentheses only where the tree needs them.

use super::Printer;
use crate::front::ast::{
    Argument, BinaryOp, Expr, ExprKind, Ident, Keyset, KeysetKind, NamedExpr, Path, Type, TypeKind,
    UnaryOp,
};

/// How tightly an expression binds: below every binary operator, and above them all.
const TERNARY: u8 = 0;
const PREFIX: u8 = 11;
const POSTFIX: u8 = 12;

fn binding(expr: &Expr) -> u8 {
    match &expr.kind {
        ExprKind::Ternary { .. } => TERNARY,
        ExprKind::Binary { op, .. } => op.precedence(),
        ExprKind::Unary { .. } | ExprKind::Cast { .. } => PREFIX,
        _ => POSTFIX,
    }
}

impl Printer {
    pub(super) fn expr(&mut self, expr: &Expr) {
        match &expr.kind {
            ExprKind::Bool(value) => self.put(if *value { "true" } else { "false" }),
            ExprKind::Int(lit) => self.put(&lit.text),
            ExprKind::String(text) => self.string(text),
            ExprKind::Path(path) => self.path(path),
            ExprKind::This => self.put("this"),
            ExprKind::Type(ty) => self.ty(ty),
            ExprKind::Dots => self.put("..."),
            ExprKind::InvalidHeader => self.put("{#}"),
            ExprKind::List(items) => {
                self.put("{");
                self.list(items, |p, e| p.expr(e));
                self.put("}");
            }
            ExprKind::Record { fields, dots } => {
                self.put("{");
                self.list(fields, |p, e| p.named_expr(e));
                if *dots {
                    self.put(", ...");
                }
                self.put("}");
            }
            ExprKind::Index { base, index } => {
                self.operand(base, POSTFIX);
                self.put("[");
                self.expr(index);
                self.put("]");
            }
            ExprKind::Slice { base, hi, lo } => self.slice(base, hi, ":", lo),
            ExprKind::PlusSlice { base, lo, width } => self.slice(base, lo, "+:", width),
            ExprKind::Member { base, member } => {
                self.operand(base, POSTFIX);
                self.put(".");
                self.put(member.as_str());
            }
            ExprKind::Unary { op, operand } => {
                self.put(op.symbol());
                // `- -x` must not become one token.
                if matches!(op, UnaryOp::Plus)
                    && matches!(
                        operand.kind,
                        ExprKind::Unary {
                            op: UnaryOp::Plus,
                            ..
                        }
                    )
                {
                    self.put(" ");
                }
                self.operand(operand, PREFIX);
            }
            ExprKind::Binary { op, left, right } => {
                // `a < b > (c)` would be a call with a type argument.
                let keep = u8::from(matches!(op, BinaryOp::Gt));
                self.operand(left, op.precedence() + keep);
                self.put(" ");
                self.put(op.symbol());
                self.put(" ");
                self.operand(right, op.precedence() + 1);
            }
            ExprKind::Ternary {
                condition,
                then,
                otherwise,
            } => {
                self.operand(condition, TERNARY + 1);
                self.put(" ? ");
                self.expr(then);
                self.put(" : ");
                self.expr(otherwise);
            }
            ExprKind::Cast { ty, operand } => {
                self.put("(");
                self.ty(ty);
                self.put(") ");
                self.operand(operand, PREFIX);
            }
            ExprKind::Call {
                callee,
                type_args,
                args,
            } => {
                self.operand(callee, POSTFIX);
                self.type_list(type_args);
                self.arguments(args);
            }
        }
    }

    fn slice(&mut self, base: &Expr, first: &Expr, between: &str, second: &Expr) {
        self.operand(base, POSTFIX);
        self.put("[");
        self.expr(first);
        self.put(between);
        self.expr(second);
        self.put("]");
    }

    fn operand(&mut self, expr: &Expr, least: u8) {
        if binding(expr) >= least {
            self.expr(expr);
        } else {
            self.put("(");
            self.expr(expr);
            self.put(")");
        }
    }

    pub(super) fn named_expr(&mut self, named: &NamedExpr) {
        self.put(named.name.as_str());
        self.put(" = ");
        self.expr(&named.value);
    }

    pub(super) fn path(&mut self, path: &Path) {
        if path.absolute {
            self.put(".");
        }
        self.put(path.name.as_str());
    }

    pub(super) fn arguments(&mut self, args: &[Argument]) {
        self.put("(");
        self.list(args, |p, arg| {
            if let Some(name) = &arg.name {
                p.put(name.as_str());
                p.put(" = ");
            }
            match &arg.value {
                Some(value) => p.expr(value),
                None => p.put("_"),
            }
        });
        self.put(")");
    }

    pub(super) fn ty(&mut self, ty: &Type) {
        match &ty.kind {
            TypeKind::Bool => self.put("bool"),
            TypeKind::Error => self.put("error"),
            TypeKind::MatchKind => self.put("match_kind"),
            TypeKind::String => self.put("string"),
            TypeKind::Void => self.put("void"),
            TypeKind::DontCare => self.put("_"),
            TypeKind::Int => self.put("int"),
            TypeKind::Bit(width) => self.width("bit", width),
            TypeKind::SignedInt(width) => self.width("int", width),
            TypeKind::Varbit(width) => self.width("varbit", width),
            TypeKind::Named { path, args } => {
                self.path(path);
                self.type_list(args);
            }
            TypeKind::Stack { element, size } => {
                self.ty(element);
                self.put("[");
                self.expr(size);
                self.put("]");
            }
            TypeKind::Tuple(elements) => {
                self.put("tuple<");
                self.list(elements, |p, t| p.ty(t));
                self.put(">");
            }
            TypeKind::List(element) => {
                self.put("list<");
                self.ty(element);
                self.put(">");
            }
        }
    }

    fn width(&mut self, word: &str, width: &Expr) {
        self.put(word);
        self.put("<");
        if matches!(width.kind, ExprKind::Int(_)) {
            self.expr(width);
        } else {
            self.put("(");
            self.expr(width);
            self.put(")");
        }
        self.put(">");
    }

    pub(super) fn type_list(&mut self, types: &[Type]) {
        if !types.is_empty() {
            self.put("<");
            self.list(types, |p, t| p.ty(t));
            self.put(">");
        }
    }

    pub(super) fn type_params(&mut self, names: &[Ident]) {
        if !names.is_empty() {
            self.put("<");
            self.list(names, |p, n| p.put(n.as_str()));
            self.put(">");
        }
    }

    pub(super) fn keysets(&mut self, keys: &[Keyset]) {
        match keys {
            [one] => self.keyset(one),
            several => {
                self.put("(");
                self.list(several, |p, k| p.keyset(k));
                self.put(")");
            }
        }
    }

    fn keyset(&mut self, keyset: &Keyset) {
        match &keyset.kind {
            KeysetKind::Default => self.put("default"),
            KeysetKind::DontCare => self.put("_"),
            KeysetKind::Value(value) => self.expr(value),
            KeysetKind::Mask(value, mask) => {
                self.expr(value);
                self.put(" &&& ");
                self.expr(mask);
            }
            KeysetKind::Range(low, high) => {
                self.expr(low);
                self.put(" .. ");
                self.expr(high);
            }
        }
    }
}
