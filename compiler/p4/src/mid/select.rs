//! `select`: what is looked at, and what its cases match.

use std::sync::Arc;

use num_bigint::BigInt;
use num_traits::Zero;
use rustc_hash::FxHashMap;

use crate::front::ast::{self, ExprKind, KeysetKind};
use crate::ir::{
    Case, CaseMatch, Handle, HeaderRef, Place, State, StmtKind, Transition, Type, mask_of,
};
use crate::source::Span;

use super::lower::Lower;
use super::operand::{Operand, OperandKind};
use super::scope::{Entity, Scope};
use super::types::{Ty, TyKind};

/// Cases may be multiplied by ranges; no more than this.
const MAX_CASES: usize = 10_000;

impl<'a> Lower<'a> {
    pub fn select(
        &mut self,
        scope: &Scope<'a>,
        select: &'a ast::Select,
        states: &FxHashMap<Arc<str>, Handle<State>>,
        accept: Handle<State>,
    ) -> Transition {
        let mut keys: Vec<(Place, Ty, u32)> = Vec::new();
        for expr in &select.exprs {
            let operand = self.expr(scope, expr);
            self.select_keys(&operand, expr.span, &mut keys);
        }
        let mut cases: Vec<Case> = Vec::new();
        let mut complete = false;
        for case in &select.cases {
            let target = self.target(&case.target, states, accept);
            if let [
                ast::Keyset {
                    kind: KeysetKind::Value(value),
                    ..
                },
            ] = case.keys.as_slice()
                && let ExprKind::Path(path) = &value.kind
                && let Some(Entity::ValueSet(set)) = scope.find(path.name.as_str())
            {
                let widths: Vec<u32> = self.ir.value_sets[set]
                    .fields
                    .iter()
                    .map(|f| f.width)
                    .collect();
                if widths != keys.iter().map(|(_, _, width)| *width).collect::<Vec<_>>() {
                    self.error(
                        value.span,
                        format!(
                            "the members of `{}` do not fit what is selected on",
                            path.name
                        ),
                    );
                }
                cases.push(Case {
                    matches: CaseMatch::Set(set),
                    target,
                });
                continue;
            }
            let Some(all) = self.case_values(scope, case, &keys) else {
                continue;
            };
            for values in all {
                let matches = if values.iter().all(|(_, mask)| mask.is_zero()) {
                    complete = true;
                    CaseMatch::Default
                } else {
                    CaseMatch::Values(values)
                };
                cases.push(Case { matches, target });
            }
            if complete {
                break;
            }
            if cases.len() > MAX_CASES {
                self.unsupported(case.span, "the ranges of this `select` make too many cases");
                break;
            }
        }
        if !complete {
            let target = self.failing("no_match", "NoMatch", select.span);
            cases.push(Case {
                matches: CaseMatch::Default,
                target,
            });
        }
        if let [
            Case {
                matches: CaseMatch::Default,
                target,
            },
        ] = cases.as_slice()
        {
            return Transition::Direct(*target);
        }
        Transition::Select {
            keys: keys.into_iter().map(|(key, ..)| key).collect(),
            cases,
        }
    }

    pub fn select_keys(
        &mut self,
        operand: &Operand<'a>,
        span: Span,
        out: &mut Vec<(Place, Ty, u32)>,
    ) {
        if let (OperandKind::Parts(parts), false) = (&operand.kind, operand.is_poison()) {
            for part in parts {
                self.select_keys(part, span, out);
            }
            return;
        }
        if operand.is_poison() {
            return;
        }
        let Some(scalar @ (Type::Bool | Type::Bits { .. })) = self.types.scalar(operand.ty) else {
            let name = self.types.name(operand.ty);
            self.error(span, format!("`select` can't look at `{name}`"));
            return;
        };
        if let OperandKind::Place(place) = operand.kind
            && !matches!(place.header, HeaderRef::Element(..) | HeaderRef::Next(_))
        {
            out.push((place, operand.ty, scalar.width()));
            return;
        }
        let value = self.value_of(operand, span);
        let place: Place = self.scalar("select", scalar);
        self.emit(span, StmtKind::Assign { to: place, value });
        out.push((place, operand.ty, scalar.width()));
    }

    /// The values and masks of a case: several, where ranges are taken apart.
    pub fn case_values(
        &mut self,
        scope: &Scope<'a>,
        case: &'a ast::SelectCase,
        keys: &[(Place, Ty, u32)],
    ) -> Option<Vec<Vec<(BigInt, BigInt)>>> {
        let any = (BigInt::zero(), BigInt::zero());
        if let [
            ast::Keyset {
                kind: KeysetKind::Default | KeysetKind::DontCare,
                ..
            },
        ] = case.keys.as_slice()
        {
            return Some(vec![vec![any; keys.len()]]);
        }
        if case.keys.len() != keys.len() {
            self.error(
                case.span,
                format!(
                    "{} values are selected on, this case gives {}",
                    keys.len(),
                    case.keys.len()
                ),
            );
            return None;
        }
        let mut all: Vec<Vec<(BigInt, BigInt)>> = vec![Vec::new()];
        for (keyset, (_, ty, width)) in case.keys.iter().zip(keys) {
            let full = mask_of(*width);
            let options = match &keyset.kind {
                KeysetKind::Default | KeysetKind::DontCare => vec![any.clone()],
                KeysetKind::Value(value) => vec![(self.case_value(scope, value, *ty)?, full)],
                KeysetKind::Mask(value, mask) => {
                    let (value, mask) = (
                        self.case_value(scope, value, *ty)?,
                        self.case_value(scope, mask, *ty)?,
                    );
                    vec![(value & &mask, mask)]
                }
                KeysetKind::Range(low, high) => {
                    let (low, high) = (
                        self.case_value(scope, low, *ty)?,
                        self.case_value(scope, high, *ty)?,
                    );
                    if low > high {
                        self.error(
                            keyset.span,
                            format!("the range from {low} to {high} is empty"),
                        );
                        return None;
                    }
                    range_masks(low, &high, *width)
                }
            };
            all = all
                .into_iter()
                .flat_map(|values| {
                    options.iter().map(move |option| {
                        let mut values = values.clone();
                        values.push(option.clone());
                        values
                    })
                })
                .collect();
            if all.len() > MAX_CASES {
                self.unsupported(case.span, "the ranges of this case make too many cases");
                return None;
            }
        }
        Some(all)
    }

    pub fn case_value(&mut self, scope: &Scope<'a>, expr: &'a ast::Expr, ty: Ty) -> Option<BigInt> {
        let value = self.expr(scope, expr);
        let value = self.coerce(value, ty, expr.span);
        let number = self.constant_of(&value);
        if number.is_none() && !value.is_poison() {
            if let TyKind::Unknown = self.types[ty] {
                return None;
            }
            self.error(
                expr.span,
                "the value of a case must be known at compile time",
            );
        }
        let width = self.types.scalar(ty).map_or(0, Type::width);
        number.map(|n| Type::bits(width).wrap(&n))
    }
}

/// Values and masks that together match just the range.
fn range_masks(low: BigInt, high: &BigInt, width: u32) -> Vec<(BigInt, BigInt)> {
    let full = mask_of(width);
    let mut out = Vec::new();
    let mut from = low;
    while from <= *high {
        // The largest block that begins here and does not pass the end.
        let mut bits = if from.is_zero() {
            width
        } else {
            u32::try_from(from.trailing_zeros().unwrap_or(0))
                .unwrap_or(0)
                .min(width)
        };
        while bits > 0 && &from + mask_of(bits) > *high {
            bits -= 1;
        }
        out.push((from.clone(), &full - mask_of(bits)));
        from += mask_of(bits) + 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_matched_by_its_masks_and_nothing_else_is() {
        for (low, high) in [(0u32, 15u32), (3, 12), (5, 5), (0, 6), (7, 15), (1, 14)] {
            let masks = range_masks(low.into(), &high.into(), 4);
            for value in 0..16u32 {
                let matches = masks.iter().any(|(v, m)| BigInt::from(value) & m == *v);
                assert_eq!(
                    matches,
                    (low..=high).contains(&value),
                    "{value} in {low}..{high}"
                );
            }
        }
    }
}
