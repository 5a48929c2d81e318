//! Expressions of the JSON, with names resolved and types checked.

use super::Loader;
use super::at::{At, Result};
use crate::code::expr::{BinOp, Bool, Cmp, HeaderRef, Num, Target};
use crate::code::layout::{HeaderId, Place, Slot};
use crate::code::program::{StackRef, Varbit};
use num_bigint::BigInt;
use num_traits::ToPrimitive;

/// A value of any of the types that expressions have.
#[derive(Clone, Debug)]
pub(super) enum Typed {
    Num(Num),
    Bool(Bool),
    Header(HeaderRef),
    Stack(u32),
    Union(u32),
    UnionElement(u32, Num),
    UnionStack(u32),
}

impl Loader {
    /// Reads a "type value object". `locals` are the parameters of the action around it.
    pub(super) fn typed(&self, at: &At, locals: &[Place]) -> Result<Typed> {
        let kind_at = at.get("type")?;
        let value = at.get("value")?;
        Ok(match kind_at.str()? {
            "expression" if value.value.get("op").is_none() => self.typed(&value, locals)?,
            "expression" => self.operation(&value, locals)?,
            "hexstr" => Typed::Num(Num::Const(value.hex()?)),
            "bool" => Typed::Bool(Bool::Const(value.bool()?)),
            "field" => Typed::Num(Num::Load(self.field(&value)?)),
            "local" | "runtime_data" => match locals.get(value.count()?) {
                Some(place) => Typed::Num(Num::Load(*place)),
                None => return Err(value.invalid("the index of a parameter of this action")),
            },
            "header" => Typed::Header(HeaderRef::Fixed(self.header(&value)?)),
            "header_stack" => match self.layout.stack_names.get(value.str()?) {
                Some(stack) => Typed::Stack(*stack),
                None => return Err(value.invalid("the name of a header stack")),
            },
            "header_union" => match self.layout.union_names.get(value.str()?) {
                Some(union) => Typed::Union(*union),
                None => return Err(value.invalid("the name of a header union")),
            },
            "header_union_stack" => match self.layout.union_stack_names.get(value.str()?) {
                Some(stack) => Typed::UnionStack(*stack),
                None => return Err(value.invalid("the name of a header union stack")),
            },
            "stack_field" => {
                let (header, field, _) = self.stack_field(&value)?;
                Typed::Num(Num::FieldOf(Box::new(header), field))
            }
            "union_stack_field" => {
                let (header, field, _) = self.union_stack_field(&value)?;
                Typed::Num(Num::FieldOf(Box::new(header), field))
            }
            "register" => {
                let name = value.at(0)?;
                let Some(register) = self.registers.get(name.str()?) else {
                    return Err(name.invalid("the name of a register array"));
                };
                let index = self.num(&value.at(1)?, locals)?;
                Typed::Num(Num::Register(*register, Box::new(index)))
            }
            other => return Err(kind_at.unsupported(other)),
        })
    }

    pub(super) fn num(&self, at: &At, locals: &[Place]) -> Result<Num> {
        match self.typed(at, locals)? {
            Typed::Num(num) => Ok(num),
            // p4c leaves out conversions between bool and bit<1> in a few places.
            Typed::Bool(value) => Ok(Num::FromBool(Box::new(value))),
            _ => Err(at.invalid("a number")),
        }
    }

    pub(super) fn bool(&self, at: &At, locals: &[Place]) -> Result<Bool> {
        match self.typed(at, locals)? {
            Typed::Bool(value) => Ok(value),
            Typed::Num(num) => Ok(Bool::FromNum(Box::new(num))),
            _ => Err(at.invalid("a condition")),
        }
    }

    pub(super) fn header_ref(&self, at: &At, locals: &[Place]) -> Result<HeaderRef> {
        match self.typed(at, locals)? {
            Typed::Header(header) => Ok(header),
            _ => Err(at.invalid("a header")),
        }
    }

    pub(super) fn stack_ref(&self, at: &At) -> Result<StackRef> {
        match self.typed(at, &[])? {
            Typed::Stack(stack) => Ok(StackRef::Headers(stack)),
            Typed::UnionStack(stack) => Ok(StackRef::Unions(stack)),
            _ => Err(at.invalid("a stack")),
        }
    }

    /// Where an assignment goes, and how wide that is.
    pub(super) fn target(&self, at: &At, locals: &[Place]) -> Result<(Target, u32)> {
        match self.typed(at, locals)? {
            Typed::Num(Num::Load(place)) => Ok((Target::Place(place), place.width)),
            Typed::Num(Num::FieldOf(header, field)) => {
                let width = self.field_of(&header, field).map_or(0, |place| place.width);
                Ok((Target::FieldOf(*header, field), width))
            }
            _ => Err(at.invalid("a field")),
        }
    }

    pub(super) fn varbit(&self, at: &At) -> Result<Varbit> {
        let value = at.get("value")?;
        let (header, name) = (self.header(&value.at(0)?)?, value.at(1)?);
        match self.layout.field(header, name.str()?) {
            Some(field) => match field.length {
                Some(length) => Ok(Varbit {
                    place: field.place,
                    length,
                }),
                None => Err(name.invalid("a field of variable length")),
            },
            None => Err(name.invalid("the name of a field")),
        }
    }

    /// A field by `[header, field]`.
    pub(super) fn field(&self, at: &At) -> Result<Place> {
        let header_at = at.at(0)?;
        let name_at = at.at(1)?;
        let (header, name) = (header_at.str()?, name_at.str()?);
        // An alias wins over a field of the same name.
        let full = format!("{header}.{name}");
        let alias = self
            .aliases
            .iter()
            .find(|(from, _)| *from == full)
            .map(|(_, to)| to);
        let (header, name) = match alias {
            Some((header, name)) if self.layout.header_names.contains_key(header.as_str()) => {
                (header.as_str(), name.as_str())
            }
            _ => (header, name),
        };
        let Some(id) = self.layout.header_names.get(header) else {
            return Err(header_at.invalid("the name of a header"));
        };
        if name == "$valid$" {
            return Ok(Place::unsigned(self.layout.header(*id).valid, 1));
        }
        match self.layout.field(*id, name) {
            Some(field) => Ok(field.place),
            None => Err(name_at.invalid(&format!("the name of a field of `{header}`"))),
        }
    }

    /// The validity word that guards a field: none for metadata and validity itself.
    pub(super) fn guard(&self, at: &At) -> Result<Option<Slot>> {
        let header = self.header(&at.at(0)?)?;
        let header = self.layout.header(header);
        let hidden = at.at(1)?.str()? == "$valid$";
        Ok((!header.metadata && !hidden).then_some(header.valid))
    }

    pub(super) fn header(&self, at: &At) -> Result<HeaderId> {
        match self.layout.header_names.get(at.str()?) {
            Some(header) => Ok(*header),
            None => Err(at.invalid("the name of a header")),
        }
    }

    /// A field of the last element of a stack, by `[stack, field]`.
    pub(super) fn stack_field(&self, at: &At) -> Result<(HeaderRef, usize, Place)> {
        let name_at = at.at(0)?;
        let Some(stack) = self.layout.stack_names.get(name_at.str()?) else {
            return Err(name_at.invalid("the name of a header stack"));
        };
        let header = HeaderRef::Last(*stack);
        self.named_field(&at.at(1)?, header)
    }

    /// A field of the last element of a stack of unions, by `[stack, member, field]`.
    pub(super) fn union_stack_field(&self, at: &At) -> Result<(HeaderRef, usize, Place)> {
        let (stack, member) = self.union_member(at)?;
        self.named_field(&at.at(2)?, HeaderRef::UnionLast(stack, member))
    }

    /// A member of a stack of unions, by `[stack, member]`.
    pub(super) fn union_member(&self, at: &At) -> Result<(u32, usize)> {
        let (name_at, member_at) = (at.at(0)?, at.at(1)?);
        let Some(stack) = self.layout.union_stack_names.get(name_at.str()?) else {
            return Err(name_at.invalid("the name of a header union stack"));
        };
        let member = member_at.str()?;
        let names = self.layout.union_stack_members.get(*stack as usize);
        match names.and_then(|names| names.iter().position(|name| name == member)) {
            Some(index) => Ok((*stack, index)),
            None => Err(member_at.invalid("the name of a member of the union")),
        }
    }

    fn named_field(&self, at: &At, header: HeaderRef) -> Result<(HeaderRef, usize, Place)> {
        let name = at.str()?;
        let found = self.representative(&header).and_then(|id| {
            let fields = &self.layout.header(id).fields;
            let index = fields.iter().position(|f| f.name == name)?;
            Some((index, fields.get(index)?.place))
        });
        match found {
            Some((index, place)) => Ok((header, index, place)),
            None => Err(at.invalid("the name of a field")),
        }
    }

    /// Some header that `header` may mean; all of them have one type.
    fn representative(&self, header: &HeaderRef) -> Option<HeaderId> {
        let (stacks, stack, member) = match header {
            HeaderRef::Fixed(header) => return Some(*header),
            HeaderRef::Element(stack, _) | HeaderRef::Last(stack) => {
                (&self.layout.stacks, stack, &0)
            }
            HeaderRef::UnionElement(stack, _, member) | HeaderRef::UnionLast(stack, member) => {
                (&self.layout.union_stacks, stack, member)
            }
        };
        stacks
            .get(*stack as usize)?
            .elements
            .first()?
            .get(*member)
            .copied()
    }

    pub(super) fn field_of(&self, header: &HeaderRef, field: usize) -> Option<Place> {
        let id = self.representative(header)?;
        self.layout.header(id).fields.get(field).map(|f| f.place)
    }

    fn operation(&self, at: &At, locals: &[Place]) -> Result<Typed> {
        let op_at = at.get("op")?;
        let op = op_at.str()?;
        let left = || at.get("left");
        let right = || at.get("right");
        let num = |side: At| self.num(&side, locals).map(Box::new);
        let bool = |side: At| self.bool(&side, locals).map(Box::new);
        let width = |side: At| match self.num(&side, locals)? {
            Num::Const(n) => match n.to_u32() {
                Some(width) if (1..=65536).contains(&width) => Ok(width),
                _ => Err(side.invalid("a width from 1 to 65536")),
            },
            _ => Err(side.unsupported("a cast to a width that is not constant")),
        };
        if let Some(op) = binary(op) {
            // A sign is an operation with nothing on its left.
            let a = match at.maybe("left") {
                None if matches!(op, BinOp::Add | BinOp::Sub) => Box::new(Num::Const(BigInt::ZERO)),
                _ => num(left()?)?,
            };
            return Ok(Typed::Num(Num::Binary(op, a, num(right()?)?)));
        }
        if let Some(cmp) = comparison(op) {
            return self.compare(cmp, &left()?, &right()?, locals);
        }
        Ok(match op {
            "~" => Typed::Num(Num::Complement(num(right()?)?)),
            "and" => Typed::Bool(Bool::And(bool(left()?)?, bool(right()?)?)),
            "or" => Typed::Bool(Bool::Or(bool(left()?)?, bool(right()?)?)),
            "not" => Typed::Bool(Bool::Not(bool(right()?)?)),
            "d2b" => Typed::Bool(Bool::FromNum(num(right()?)?)),
            "b2d" => Typed::Num(Num::FromBool(bool(right()?)?)),
            "two_comp_mod" => Typed::Num(Num::TwoComplement(num(left()?)?, width(right()?)?)),
            "usat_cast" => Typed::Num(Num::SaturateUnsigned(num(left()?)?, width(right()?)?)),
            "sat_cast" => Typed::Num(Num::SaturateSigned(num(left()?)?, width(right()?)?)),
            "valid" => Typed::Bool(Bool::Valid(self.header_ref(&right()?, locals)?)),
            "valid_union" => match self.typed(&right()?, locals)? {
                Typed::Union(union) => Typed::Bool(Bool::ValidUnion(union)),
                _ => return Err(right()?.invalid("a header union")),
            },
            "?" => {
                let condition = bool(at.get("cond")?)?;
                match (
                    self.typed(&left()?, locals)?,
                    self.typed(&right()?, locals)?,
                ) {
                    (Typed::Num(a), Typed::Num(b)) => {
                        Typed::Num(Num::Choose(condition, Box::new(a), Box::new(b)))
                    }
                    (Typed::Bool(a), Typed::Bool(b)) => {
                        Typed::Bool(Bool::Choose(condition, Box::new(a), Box::new(b)))
                    }
                    _ => return Err(at.unsupported("a choice between headers")),
                }
            }
            "dereference_stack" | "dereference_header_stack" => {
                match self.typed(&left()?, locals)? {
                    Typed::Stack(stack) => Typed::Header(self.element(stack, *num(right()?)?)),
                    _ => return Err(left()?.invalid("a header stack")),
                }
            }
            "dereference_union_stack" => match self.typed(&left()?, locals)? {
                Typed::UnionStack(stack) => Typed::UnionElement(stack, *num(right()?)?),
                _ => return Err(left()?.invalid("a header union stack")),
            },
            "last_stack_index" | "size_stack" => {
                let next = match self.typed(&right()?, locals)? {
                    Typed::Stack(stack) => self.layout.stacks.get(stack as usize),
                    Typed::UnionStack(stack) => self.layout.union_stacks.get(stack as usize),
                    _ => None,
                };
                match (next, op) {
                    (Some(stack), "size_stack") => Typed::Num(Num::StackCount(stack.next)),
                    (Some(stack), _) => Typed::Num(Num::LastIndex(stack.next)),
                    (None, _) => return Err(right()?.invalid("a stack")),
                }
            }
            "access_field" => {
                let header = self.header_ref(&left()?, locals)?;
                let index = right()?.count()?;
                let Some(place) = self.field_of(&header, index) else {
                    return Err(right()?.invalid("the index of a field"));
                };
                match header {
                    HeaderRef::Fixed(_) => Typed::Num(Num::Load(place)),
                    header => Typed::Num(Num::FieldOf(Box::new(header), index)),
                }
            }
            "access_union_header" => {
                let member = right()?.count()?;
                match self.typed(&left()?, locals)? {
                    Typed::Union(union) => {
                        let headers = self.layout.unions.get(union as usize);
                        match headers.and_then(|h| h.get(member)) {
                            Some(header) => Typed::Header(HeaderRef::Fixed(*header)),
                            None => return Err(right()?.invalid("the index of a member")),
                        }
                    }
                    Typed::UnionElement(stack, index) => {
                        let header = HeaderRef::UnionElement(stack, Box::new(index), member);
                        match self.representative(&header) {
                            Some(_) => Typed::Header(header),
                            None => return Err(right()?.invalid("the index of a member")),
                        }
                    }
                    _ => return Err(left()?.invalid("a header union")),
                }
            }
            _ => return Err(op_at.unsupported(op)),
        })
    }

    /// An element of a stack; a constant index names its header at once.
    fn element(&self, stack: u32, index: Num) -> HeaderRef {
        if let Num::Const(n) = &index
            && let Some(header) = n.to_usize().and_then(|n| {
                self.layout
                    .stacks
                    .get(stack as usize)?
                    .elements
                    .get(n)?
                    .first()
                    .copied()
            })
        {
            return HeaderRef::Fixed(header);
        }
        HeaderRef::Element(stack, Box::new(index))
    }

    fn compare(&self, cmp: Cmp, left: &At, right: &At, locals: &[Place]) -> Result<Typed> {
        let equal = cmp == Cmp::Eq;
        let is_equality = matches!(cmp, Cmp::Eq | Cmp::Ne);
        Ok(Typed::Bool(
            match (self.typed(left, locals)?, self.typed(right, locals)?) {
                (Typed::Num(a), Typed::Num(b)) => Bool::Compare(cmp, Box::new(a), Box::new(b)),
                (Typed::Bool(a), Typed::Bool(b)) if is_equality => {
                    Bool::Same(equal, Box::new(a), Box::new(b))
                }
                (Typed::Header(a), Typed::Header(b)) if is_equality => {
                    Bool::HeadersEqual(equal, a, b)
                }
                (Typed::Union(a), Typed::Union(b)) if is_equality => Bool::UnionsEqual(equal, a, b),
                _ => return Err(right.invalid("two sides of one type")),
            },
        ))
    }
}

fn binary(op: &str) -> Option<BinOp> {
    Some(match op {
        "+" => BinOp::Add,
        "-" => BinOp::Sub,
        "*" => BinOp::Mul,
        "/" => BinOp::Div,
        "%" => BinOp::Rem,
        "<<" => BinOp::Shl,
        ">>" => BinOp::Shr,
        "&" => BinOp::And,
        "|" => BinOp::Or,
        "^" => BinOp::Xor,
        _ => return None,
    })
}

fn comparison(op: &str) -> Option<Cmp> {
    Some(match op {
        "==" => Cmp::Eq,
        "!=" => Cmp::Ne,
        "<" => Cmp::Lt,
        "<=" => Cmp::Le,
        ">" => Cmp::Gt,
        ">=" => Cmp::Ge,
        _ => return None,
    })
}
