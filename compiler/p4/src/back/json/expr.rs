//! Expressions. bmv2 computes without a width, so what can leave the range of its type is cut where
//! the rest of the expression would notice; what is stored is cut by the field that takes it.

use num_traits::{One, Zero};
use serde_json::{Value, json};

use crate::ir::{BinaryOp, Expr, Handle, HeaderRef, Place, Type, UnaryOp, mask_of};

use super::{Writer, hex};

/// Whether the user of a value needs it within the range of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Yes.
    Exact,
    /// Only modulo 2^width.
    LowBits,
}

fn operation(op: &str, left: Value, right: Value) -> Value {
    json!({ "type": "expression", "value": { "op": op, "left": left, "right": right } })
}

impl Writer<'_> {
    /// An expression inside of another: a truth value stays one.
    pub(super) fn value(&self, expr: Handle<Expr>) -> Value {
        self.emit(expr, Need::Exact)
    }

    /// A parameter of a primitive: a truth value becomes a number.
    pub(super) fn argument(&self, expr: Handle<Expr>) -> Value {
        self.argument_with(expr, Need::Exact)
    }

    /// What a field of the type takes. An unsigned field cuts the number itself; a signed one takes
    /// numbers between its greatest and the mask of its width as they are, though it can't hold them.
    pub(super) fn stored(&self, expr: Handle<Expr>, ty: Type) -> Value {
        let need = if ty.is_signed() {
            Need::Exact
        } else {
            Need::LowBits
        };
        self.argument_with(expr, need)
    }

    /// A condition of a jump: any number that is zero just when it does not hold.
    pub(super) fn jump_condition(&self, expr: Handle<Expr>) -> Value {
        let exprs = &self.program.exprs;
        match exprs[expr] {
            Expr::IsValid(HeaderRef::Instance(header)) => {
                json!({ "type": "field", "value": [&*self.program.headers[header].name, "$valid$"] })
            }
            Expr::Binary {
                op: BinaryOp::Ne,
                left,
                right,
            } if exprs.constant(right).is_some_and(Zero::is_zero) => self.argument(left),
            Expr::Binary {
                op: BinaryOp::Eq,
                left,
                right,
            } if exprs.ty(left) == Type::bits(1)
                && exprs.constant(right).is_some_and(One::is_one) =>
            {
                self.argument(left)
            }
            _ => self.argument(expr),
        }
    }

    fn argument_with(&self, expr: Handle<Expr>, need: Need) -> Value {
        let exprs = &self.program.exprs;
        match exprs[expr] {
            Expr::Bool(truth) => {
                json!({ "type": "hexstr", "value": if truth { "0x01" } else { "0x00" } })
            }
            Expr::Param(position, ty) if !ty.is_signed() || need == Need::LowBits => {
                json!({ "type": "runtime_data", "value": position })
            }
            Expr::Read(place) => match place.header {
                HeaderRef::Instance(header) => {
                    json!({ "type": "field", "value": self.field_of(header, place.field) })
                }
                _ => json!({ "type": "expression", "value": self.place_value(place) }),
            },
            Expr::Const { .. } => self.emit(expr, need),
            _ => json!({ "type": "expression", "value": self.number_value(expr, need) }),
        }
    }

    /// An expression of type number; a truth value becomes one.
    fn number_value(&self, expr: Handle<Expr>, need: Need) -> Value {
        let value = self.emit(expr, need);
        if self.program.exprs.ty(expr) == Type::Bool {
            operation("b2d", Value::Null, value)
        } else {
            value
        }
    }

    /// The same, as it stands where a format wants an expression without more wrapping.
    pub(super) fn number(&self, expr: Handle<Expr>) -> Value {
        self.number_value(expr, Need::Exact)
    }

    /// The target of a primitive.
    pub(super) fn target(&self, place: Place) -> Value {
        match place.header {
            HeaderRef::Instance(header) => {
                json!({ "type": "field", "value": self.field_of(header, place.field) })
            }
            _ => json!({ "type": "expression", "value": self.place_value(place) }),
        }
    }

    /// A header as the parameter of a primitive.
    pub(super) fn header(&self, header: HeaderRef) -> Value {
        match header {
            HeaderRef::Instance(h) => {
                json!({ "type": "header", "value": &*self.program.headers[h].name })
            }
            _ => json!({ "type": "expression", "value": self.header_value(header) }),
        }
    }

    fn header_value(&self, header: HeaderRef) -> Value {
        let element = |stack: Handle<crate::ir::Stack>, index: Value| {
            operation("dereference_header_stack", self.stack(stack), index)
        };
        match header {
            HeaderRef::Instance(h) => {
                json!({ "type": "header", "value": &*self.program.headers[h].name })
            }
            HeaderRef::Element(stack, index) => element(stack, self.value(index)),
            HeaderRef::Last(stack) | HeaderRef::Next(stack) => element(
                stack,
                operation("last_stack_index", Value::Null, self.stack(stack)),
            ),
        }
    }

    pub(super) fn stack(&self, stack: Handle<crate::ir::Stack>) -> Value {
        json!({ "type": "header_stack", "value": &*self.program.stacks[stack].name })
    }

    /// What a place holds, as a number.
    fn place_value(&self, place: Place) -> Value {
        match place.header {
            HeaderRef::Instance(header) => {
                json!({ "type": "field", "value": self.field_of(header, place.field) })
            }
            HeaderRef::Last(stack) => {
                let stack = &self.program.stacks[stack];
                let fields = &self.program.header_types[stack.ty].fields;
                let field = fields.get(place.field as usize).map_or("", |f| &*f.name);
                json!({ "type": "stack_field", "value": [&*stack.name, field] })
            }
            HeaderRef::Next(_) | HeaderRef::Element(..) => operation(
                "access_field",
                self.header_value(place.header),
                json!(place.field),
            ),
        }
    }

    fn number_literal(&self, value: u64) -> Value {
        json!({ "type": "hexstr", "value": hex(&value.into(), 8) })
    }

    fn masked(&self, value: Value, width: u32) -> Value {
        operation(
            "&",
            value,
            json!({ "type": "hexstr", "value": hex(&mask_of(width), width) }),
        )
    }

    /// A number cut to a type.
    fn cut(&self, value: Value, ty: Type) -> Value {
        if ty.is_signed() {
            operation(
                "two_comp_mod",
                value,
                self.number_literal(u64::from(ty.width())),
            )
        } else {
            self.masked(value, ty.width())
        }
    }

    fn emit(&self, expr: Handle<Expr>, need: Need) -> Value {
        let exprs = &self.program.exprs;
        let ty = exprs.ty(expr);
        let cut = |value: Value| {
            if need == Need::Exact {
                self.cut(value, ty)
            } else {
                value
            }
        };
        match exprs[expr] {
            Expr::Const { ref value, ty } => {
                json!({ "type": "hexstr", "value": hex(value, ty.width()) })
            }
            Expr::Bool(truth) => json!({ "type": "bool", "value": truth }),
            Expr::Read(place) => {
                let value = self.place_value(place);
                if ty == Type::Bool {
                    operation("d2b", Value::Null, value)
                } else {
                    value
                }
            }
            Expr::Param(position, _) => {
                let value = json!({ "type": "local", "value": position });
                if ty == Type::Bool {
                    operation("d2b", Value::Null, value)
                } else if ty.is_signed() {
                    // The data of entries are plain bits to bmv2.
                    cut(value)
                } else {
                    value
                }
            }
            Expr::IsValid(HeaderRef::Instance(header)) => {
                let field = json!({ "type": "field", "value": [&*self.program.headers[header].name, "$valid$"] });
                operation("d2b", Value::Null, field)
            }
            Expr::IsValid(header) => operation("valid", Value::Null, self.header_value(header)),
            Expr::IsUnionValid(union) => {
                let union =
                    json!({ "type": "header_union", "value": &*self.program.unions[union].name });
                operation("valid_union", Value::Null, union)
            }
            Expr::LastIndex(stack) => operation("last_stack_index", Value::Null, self.stack(stack)),
            Expr::Unary {
                op: UnaryOp::Not,
                operand,
            } => operation("not", Value::Null, self.value(operand)),
            Expr::Unary {
                op: UnaryOp::Complement,
                operand,
            } => cut(operation(
                "~",
                Value::Null,
                self.emit(operand, Need::LowBits),
            )),
            Expr::Unary {
                op: UnaryOp::Negate,
                operand,
            } => {
                let zero = self.number_literal(0);
                cut(operation("-", zero, self.emit(operand, Need::LowBits)))
            }
            Expr::Binary { op, left, right } => self.binary(op, left, right, ty, need),
            Expr::Cast(to, operand) => self.cast(to, operand, need),
            Expr::Slice { base, hi, lo } => {
                let whole = exprs.ty(base);
                let mut value = self.emit(base, if lo == 0 { Need::LowBits } else { Need::Exact });
                if lo > 0 {
                    if whole.is_signed() {
                        value = self.masked(value, whole.width());
                    }
                    value = operation(">>", value, self.number_literal(u64::from(lo)));
                }
                if need == Need::LowBits || (lo > 0 && hi + 1 == whole.width()) {
                    value
                } else {
                    self.masked(value, hi - lo + 1)
                }
            }
            Expr::Concat(left, right) => {
                let width = exprs.ty(right).width();
                let mut low = self.value(right);
                if exprs.ty(right).is_signed() {
                    low = self.masked(low, width);
                }
                let high = match exprs.constant(left) {
                    Some(left) if !ty.is_signed() => {
                        json!({ "type": "hexstr", "value": hex(&(left << width), ty.width()) })
                    }
                    _ => {
                        let need = if ty.is_signed() { Need::LowBits } else { need };
                        let shift = self.number_literal(u64::from(width));
                        operation("<<", self.emit(left, need), shift)
                    }
                };
                let value = match exprs.constant(right) {
                    Some(right) if right.is_zero() => high,
                    _ => operation("|", high, low),
                };
                if ty.is_signed() { cut(value) } else { value }
            }
            Expr::Select {
                condition,
                then,
                otherwise,
            } => json!({
                "type": "expression",
                "value": {
                    "op": "?",
                    "left": self.emit(then, need),
                    "right": self.emit(otherwise, need),
                    "cond": self.value(condition),
                },
            }),
        }
    }

    fn binary(
        &self,
        op: BinaryOp,
        left: Handle<Expr>,
        right: Handle<Expr>,
        ty: Type,
        need: Need,
    ) -> Value {
        let exprs = &self.program.exprs;
        let cut = |value: Value| {
            if need == Need::Exact {
                self.cut(value, ty)
            } else {
                value
            }
        };
        let exact = |op: &str| operation(op, self.value(left), self.value(right));
        let low = |op: &str| {
            operation(
                op,
                self.emit(left, Need::LowBits),
                self.emit(right, Need::LowBits),
            )
        };
        match op {
            BinaryOp::Add => cut(low("+")),
            BinaryOp::Sub => cut(low("-")),
            BinaryOp::Mul => cut(low("*")),
            BinaryOp::Div => exact("/"),
            BinaryOp::Mod => exact("%"),
            BinaryOp::AddSat | BinaryOp::SubSat => {
                let value = exact(if op == BinaryOp::AddSat { "+" } else { "-" });
                let cast = if ty.is_signed() {
                    "sat_cast"
                } else {
                    "usat_cast"
                };
                operation(cast, value, self.number_literal(u64::from(ty.width())))
            }
            // One operand within range is enough to bring the result there.
            BinaryOp::And if !ty.is_signed() => {
                let (l, r) = match (
                    exprs.constant(left).is_some(),
                    exprs.constant(right).is_some(),
                ) {
                    (true, _) => (Need::Exact, Need::LowBits),
                    (_, true) => (Need::LowBits, Need::Exact),
                    _ => (need, Need::LowBits),
                };
                operation("&", self.emit(left, l), self.emit(right, r))
            }
            BinaryOp::And => exact("&"),
            BinaryOp::Or => operation("|", self.emit(left, need), self.emit(right, need)),
            BinaryOp::Xor => operation("^", self.emit(left, need), self.emit(right, need)),
            BinaryOp::Shl => self.shift_left(left, right, ty, need),
            BinaryOp::Shr => self.shift_right(left, right, ty),
            BinaryOp::Eq => exact("=="),
            BinaryOp::Ne => exact("!="),
            BinaryOp::Lt => exact("<"),
            BinaryOp::Le => exact("<="),
            BinaryOp::Gt => exact(">"),
            BinaryOp::Ge => exact(">="),
            BinaryOp::LogicalAnd => exact("and"),
            BinaryOp::LogicalOr => exact("or"),
        }
    }

    fn shift_left(&self, left: Handle<Expr>, right: Handle<Expr>, ty: Type, need: Need) -> Value {
        let exprs = &self.program.exprs;
        let shifted = operation("<<", self.emit(left, Need::LowBits), self.value(right));
        let value = if need == Need::Exact {
            self.cut(shifted, ty)
        } else {
            shifted
        };
        if exprs.constant(right).is_some() || exprs.ty(right).width() <= 8 {
            return value;
        }
        // bmv2 would really make so long a number.
        let far = operation(
            ">=",
            self.value(right),
            self.number_literal(u64::from(ty.width())),
        );
        json!({
            "type": "expression",
            "value": { "op": "?", "left": self.number_literal(0), "right": value, "cond": far },
        })
    }

    /// bmv2 takes only the low 32 bits of the amount; shifting by the whole width and by more is the
    /// same.
    fn shift_right(&self, left: Handle<Expr>, right: Handle<Expr>, ty: Type) -> Value {
        let exprs = &self.program.exprs;
        let width = self.number_literal(u64::from(ty.width()));
        let amount = match exprs.constant(right) {
            Some(amount) if *amount >= ty.width().into() => width,
            None if exprs.ty(right).width() > 32 => {
                let far = operation(">=", self.value(right), width.clone());
                json!({
                    "type": "expression",
                    "value": { "op": "?", "left": width, "right": self.value(right), "cond": far },
                })
            }
            _ => self.value(right),
        };
        operation(">>", self.value(left), amount)
    }

    fn cast(&self, to: Type, operand: Handle<Expr>, need: Need) -> Value {
        let from = self.program.exprs.ty(operand);
        match (from, to) {
            (Type::Bool, _) => operation("b2d", Value::Null, self.value(operand)),
            (_, Type::Bool) => operation("d2b", Value::Null, self.value(operand)),
            _ if to.width() <= from.width() => {
                let value = self.emit(operand, Need::LowBits);
                if need == Need::LowBits {
                    value
                } else {
                    self.cut(value, to)
                }
            }
            // A wider type holds it as it is, but for negative numbers in an unsigned one.
            _ => {
                let value = self.value(operand);
                if from.is_signed() && !to.is_signed() && need == Need::Exact {
                    self.cut(value, to)
                } else {
                    value
                }
            }
        }
    }
}
