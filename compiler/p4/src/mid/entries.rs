//! Entries of tables that are written in the program.

use std::rc::Rc;

use num_bigint::BigInt;
use num_traits::Zero;

use crate::diagnostics::Diagnostic;
use crate::front::ast::{self, KeysetKind};
use crate::ir::{
    ActionScope, Entries, Entry, EntryKey, Key, MatchKind, TableAction, Type, mask_of,
};

use super::lower::Lower;
use super::scope::{Scope, TableDef};
use super::types::Ty;

impl<'a> Lower<'a> {
    pub fn entries(
        &mut self,
        def: &Rc<TableDef<'a>>,
        property: &ast::TableProperty,
        list: &'a [ast::Entry],
        keys: &[Key],
        types: &[Ty],
        actions: &[TableAction],
    ) -> Entries {
        let matched: Vec<(&Key, Ty)> = keys
            .iter()
            .zip(types.iter().copied())
            .filter(|(key, _)| key.kind != MatchKind::Selector)
            .collect();
        let (largest_wins, delta) = self.priority_rules(def);
        let mut out: Vec<Entry> = Vec::new();
        for entry in list {
            let scope = def.scope.clone();
            let mut entry_keys = Vec::new();
            let all = matches!(
                entry.keys.as_slice(),
                [ast::Keyset {
                    kind: KeysetKind::Default | KeysetKind::DontCare,
                    ..
                }]
            );
            if all && matched.len() != 1 {
                entry_keys = vec![EntryKey::Any; matched.len()];
            } else if entry.keys.len() != matched.len() {
                self.error(
                    entry.span,
                    format!(
                        "the key has {} parts, this entry gives {}",
                        matched.len(),
                        entry.keys.len()
                    ),
                );
                continue;
            } else {
                for (keyset, (key, ty)) in entry.keys.iter().zip(&matched) {
                    if let Some(value) = self.entry_key(&scope, keyset, key, *ty) {
                        entry_keys.push(value);
                    }
                }
                if entry_keys.len() != matched.len() {
                    continue;
                }
            }
            let args = entry.action.args.as_deref();
            let Some((action, arguments)) = self.action_with_data(
                def,
                &entry.action.path,
                args.unwrap_or_default(),
                args.is_some(),
                entry.action.span,
                &[],
            ) else {
                continue;
            };
            if actions
                .iter()
                .any(|a| a.action == action && a.scope == ActionScope::DefaultOnly)
            {
                self.error(
                    entry.action.span,
                    format!("`{}` is listed with `@defaultonly`", entry.action.path.name),
                );
            }
            if let Some(priority) = &entry.priority
                && property.is_const
            {
                let report = Diagnostic::error(
                    priority.span,
                    "an entry of a constant list can't have a priority",
                )
                .with_help("their order is their priority; or leave `const` out");
                self.report(report);
            }
            let written = entry
                .priority
                .as_ref()
                .and_then(|p| self.constant_int(&scope, p, "the priority of an entry"));
            let priority = match (written, out.last().and_then(|e| e.priority.clone())) {
                _ if property.is_const => None,
                (Some(written), _) => Some(written),
                (None, Some(before)) if largest_wins => Some(before - &delta),
                (None, Some(before)) => Some(before + &delta),
                (None, None) if largest_wins => Some((list.len() - 1) * &delta + 1u32),
                (None, None) => Some(BigInt::from(1)),
            };
            let annotations = self.annotations(&scope, &entry.action.annotations);
            let target_priority = super::annotation::number_annotation(&annotations, "priority")
                .and_then(|p| p.first().cloned());
            out.push(Entry {
                keys: entry_keys,
                action,
                arguments,
                priority,
                target_priority,
                constant: entry.is_const || property.is_const,
                span: entry.span,
            });
        }
        Entries {
            constant: property.is_const,
            largest_wins,
            list: out,
        }
    }

    /// Whether larger priorities win, and by how much entries without one differ (section 14.2.1.4).
    fn priority_rules(&mut self, def: &Rc<TableDef<'a>>) -> (bool, BigInt) {
        let (mut largest_wins, mut delta) = (true, BigInt::from(1));
        for property in &def.table.properties {
            let ast::PropertyValue::Expr(expr) = &property.value else {
                continue;
            };
            match property.name.as_str() {
                "largest_priority_wins" => {
                    let condition = self.condition(&def.scope, expr);
                    largest_wins = self.ir.exprs.constant_bool(condition).unwrap_or(true);
                }
                "priority_delta" => {
                    let value = self.constant_int(&def.scope, expr, "`priority_delta`");
                    delta = value.unwrap_or(delta);
                }
                _ => {}
            }
        }
        (largest_wins, delta)
    }

    fn entry_key(
        &mut self,
        scope: &Scope<'a>,
        keyset: &'a ast::Keyset,
        key: &Key,
        ty: Ty,
    ) -> Option<EntryKey> {
        let width = self.types.scalar(ty).map_or(0, Type::width);
        let value = match &keyset.kind {
            KeysetKind::Default | KeysetKind::DontCare => EntryKey::Any,
            KeysetKind::Value(value) => EntryKey::Exact(self.entry_value(scope, value, ty)?),
            KeysetKind::Mask(value, mask) => {
                let (value, mask) = (
                    self.entry_value(scope, value, ty)?,
                    self.entry_value(scope, mask, ty)?,
                );
                EntryKey::Masked(value & &mask, mask)
            }
            KeysetKind::Range(low, high) => {
                let (low, high) = (
                    self.entry_value(scope, low, ty)?,
                    self.entry_value(scope, high, ty)?,
                );
                if low > high {
                    self.error(
                        keyset.span,
                        format!("the range from {low} to {high} is empty"),
                    );
                    return None;
                }
                EntryKey::Range(low, high)
            }
        };
        let fits = match (&value, key.kind) {
            (EntryKey::Exact(_), _) => true,
            (EntryKey::Any, MatchKind::Exact) => false,
            (EntryKey::Any, _)
            | (EntryKey::Masked(..), MatchKind::Ternary)
            | (EntryKey::Range(..), MatchKind::Range) => true,
            (EntryKey::Masked(_, mask), MatchKind::Lpm) => is_prefix(mask, width),
            _ => false,
        };
        if !fits {
            let kind = format!("{:?}", key.kind).to_lowercase();
            self.error(
                keyset.span,
                format!(
                    "this can't stand for the key `{}`, which is matched by `{kind}`",
                    key.name
                ),
            );
            return None;
        }
        Some(value)
    }

    fn entry_value(&mut self, scope: &Scope<'a>, expr: &'a ast::Expr, ty: Ty) -> Option<BigInt> {
        let value = self.expr(scope, expr);
        let value = self.coerce(value, ty, expr.span);
        let number = self.constant_of(&value);
        if number.is_none() && !value.is_poison() {
            self.error(
                expr.span,
                "the key of an entry must be known at compile time",
            );
        }
        let width = self.types.scalar(ty).map_or(0, Type::width);
        number.map(|number| Type::bits(width).wrap(&number))
    }
}

/// Whether the mask is a number of ones followed by zeros.
pub fn is_prefix(mask: &BigInt, width: u32) -> bool {
    let holes = mask_of(width) - mask;
    let above: BigInt = &holes + 1u32;
    (holes & above).is_zero()
}
