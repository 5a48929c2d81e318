//! What the control plane calls a key without `@name`: its text in one form of writing, the one that
//! p4c uses, so that a controller finds the fields under the same names.

use num_bigint::{BigInt, Sign};

use crate::front::ast::{self, ExprKind};

use super::annotation::name_annotation;
use super::lower::Lower;
use super::scope::Scope;

impl<'a> Lower<'a> {
    /// The name; nothing if the key has a form that gives none.
    pub fn key_name(&mut self, scope: &Scope<'a>, expr: &'a ast::Expr) -> Option<String> {
        if let Some(number) = self.key_number(scope, expr) {
            return Some(number);
        }
        Some(match &expr.kind {
            ExprKind::Path(path) if path.absolute => format!(".{}", path.name),
            ExprKind::Path(path) => path.name.to_string(),
            ExprKind::Member { base, member } => {
                let field = self.field_name(scope, base, member);
                match field.strip_prefix('.') {
                    Some(absolute) => absolute.to_string(),
                    None => format!("{}.{field}", self.key_name(scope, base)?),
                }
            }
            ExprKind::Index { base, index } => format!(
                "{}[{}]",
                self.key_name(scope, base)?,
                self.key_name(scope, index)?
            ),
            ExprKind::Slice { base, hi, lo } => format!(
                "{}[{}:{}]",
                self.key_name(scope, base)?,
                self.key_name(scope, hi)?,
                self.key_name(scope, lo)?
            ),
            ExprKind::Binary {
                op: ast::BinaryOp::BitAnd,
                left,
                right,
            } => format!(
                "{} & {}",
                self.key_name(scope, left)?,
                self.key_name(scope, right)?
            ),
            ExprKind::Call { callee, args, .. } => match &callee.kind {
                ExprKind::Member { base, member }
                    if member.as_str() == "isValid" && args.is_empty() =>
                {
                    format!("{}.$valid$", self.key_name(scope, base)?)
                }
                _ => return None,
            },
            _ => return None,
        })
    }

    /// What the control plane calls a field of `base`.
    fn field_name(&mut self, scope: &Scope<'a>, base: &'a ast::Expr, field: &ast::Ident) -> String {
        let (operand, _) = self.collect(|this| this.expr(scope, base));
        let defs = self.types.fields(operand.ty).unwrap_or_default();
        defs.iter()
            .find(|def| def.name == field.name)
            .and_then(|def| name_annotation(&def.annotations))
            .map_or_else(|| field.name.to_string(), |name| name.to_string())
    }

    /// A number that is known, in the base in which the program writes it.
    fn key_number(&mut self, scope: &Scope<'a>, expr: &'a ast::Expr) -> Option<String> {
        match &expr.kind {
            ExprKind::Int(lit) => return Some(number_text(&lit.value, lit.base)),
            // The parameter of a constructor keeps its name even if its value is known.
            ExprKind::Path(path) => {
                let place = scope.find_place(path.name.as_str())?;
                if !self.names.bases.contains_key(&place) {
                    return None;
                }
            }
            ExprKind::Unary { .. } | ExprKind::Binary { .. } | ExprKind::Cast { .. } => {}
            _ => return None,
        }
        let (operand, _) = self.collect(|this| this.expr(scope, expr));
        let value = self.constant_of(&operand)?;
        Some(number_text(&value, self.base_of(scope, expr)))
    }

    /// The base of a constant: that of its leftmost literal.
    pub fn base_of(&self, scope: &Scope<'a>, expr: &ast::Expr) -> u8 {
        match &expr.kind {
            ExprKind::Int(lit) => lit.base,
            ExprKind::Path(path) => scope
                .find_place(path.name.as_str())
                .and_then(|place| self.names.bases.get(&place))
                .copied()
                .unwrap_or(10),
            ExprKind::Unary { operand, .. } | ExprKind::Cast { operand, .. } => {
                self.base_of(scope, operand)
            }
            ExprKind::Binary { left, .. } => self.base_of(scope, left),
            _ => 10,
        }
    }
}

fn number_text(value: &BigInt, base: u8) -> String {
    let (prefix, base) = match base {
        2 => ("0b", 2),
        8 => ("0o", 8),
        16 => ("0x", 16),
        _ => ("", 10),
    };
    let sign = if value.sign() == Sign::Minus { "-" } else { "" };
    format!("{sign}{prefix}{}", value.magnitude().to_str_radix(base))
}
