//! Table entries in names and typed values: a builder that ends in the protocol's message. The
//! first mistake is kept and comes out of [`EntryBuilder::build`].

use std::time::Duration;

use crate::{
    catalog::{Catalog, CatalogError, FieldInfo, Kind, MatchKind, Scope, TableInfo},
    proto::p4::v1::{
        self, Entity, FieldMatch, TableAction, TableEntry, Update,
        action::Param,
        entity,
        field_match::{self, FieldMatchType},
        table_action, update,
    },
    value::{Value, Width},
};

/// An entry in the making.
#[derive(Debug)]
#[must_use = "an entry does nothing until it is built and written"]
pub struct EntryBuilder<'a> {
    catalog: &'a Catalog,
    table: Option<&'a TableInfo>,
    entry: TableEntry,
    problem: Option<CatalogError>,
}

impl Catalog {
    /// Begins an entry of a table.
    pub fn entry(&self, table: &str) -> EntryBuilder<'_> {
        match self.table(table) {
            Ok(table) => self.entry_of(table),
            Err(problem) => EntryBuilder {
                catalog: self,
                table: None,
                entry: TableEntry::default(),
                problem: Some(problem),
            },
        }
    }

    /// Begins an entry of a table that was looked up before.
    pub fn entry_of<'a>(&'a self, table: &'a TableInfo) -> EntryBuilder<'a> {
        EntryBuilder {
            catalog: self,
            entry: TableEntry {
                table_id: table.id,
                r#match: Vec::with_capacity(table.fields.len()),
                ..TableEntry::default()
            },
            table: Some(table),
            problem: None,
        }
    }

    /// An action with its arguments by name, as action profile members have it.
    ///
    /// # Errors
    /// The action, or one of its parameters, is not there, or a value does not fit.
    pub fn action_call<'n>(
        &self,
        action: &str,
        arguments: impl IntoIterator<Item = (&'n str, Value)>,
    ) -> Result<v1::Action, CatalogError> {
        call(self.actions.named(action)?, arguments)
    }
}

impl<'a> EntryBuilder<'a> {
    /// The key equals the value. Keys of other kinds take it as the narrowest match they have.
    pub fn exact(self, field: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.field(field, |table, field| {
            let value = fit(table, field, value)?;
            Ok(Some(match (field.kind, field.width) {
                (MatchKind::Exact, _) => exact(value),
                (MatchKind::Optional, _) => FieldMatchType::Optional(field_match::Optional {
                    value: value.into_bytes(),
                }),
                (MatchKind::Lpm, Width::Bits(width)) => FieldMatchType::Lpm(field_match::Lpm {
                    value: value.into_bytes(),
                    prefix_len: i32::try_from(width).unwrap_or(i32::MAX),
                }),
                (MatchKind::Ternary, Width::Bits(width)) => {
                    FieldMatchType::Ternary(field_match::Ternary {
                        value: value.into_bytes(),
                        mask: Value::ones(width).into_bytes(),
                    })
                }
                (MatchKind::Range, _) => FieldMatchType::Range(field_match::Range {
                    low: value.as_bytes().to_vec(),
                    high: value.into_bytes(),
                }),
                (_, Width::String) => exact(value),
            }))
        })
    }

    /// The key equals the value where the mask has ones. The value's other bits do not matter;
    /// a mask of zeros matches everything.
    pub fn ternary(self, field: &str, value: impl Into<Value>, mask: impl Into<Value>) -> Self {
        let (value, mask) = (value.into(), mask.into());
        self.field(field, |table, field| {
            want(table, field, MatchKind::Ternary)?;
            let mask = fit(table, field, mask)?;
            let value = fit(table, field, value)?.and(&mask);
            Ok((!mask.is_zero()).then(|| {
                FieldMatchType::Ternary(field_match::Ternary {
                    value: value.into_bytes(),
                    mask: mask.into_bytes(),
                })
            }))
        })
    }

    /// The key begins with the value's first `len` bits. A ternary key takes a prefix too.
    pub fn lpm(self, field: &str, value: impl Into<Value>, len: usize) -> Self {
        let value = value.into();
        self.field(field, |table, field| {
            if field.kind != MatchKind::Ternary {
                want(table, field, MatchKind::Lpm)?;
            }
            let value = fit(table, field, value)?;
            let Width::Bits(width) = field.width else {
                return Ok(Some(exact(value)));
            };
            if len > width {
                return Err(CatalogError::Field {
                    table: table.alias.clone(),
                    field: field.name.clone(),
                    problem: format!("a prefix of {len} bits in a field of {width}"),
                });
            }
            let mask = Value::prefix_mask(width, len);
            let value = value.and(&mask).into_bytes();
            Ok((len > 0).then(|| match field.kind {
                MatchKind::Ternary => FieldMatchType::Ternary(field_match::Ternary {
                    value,
                    mask: mask.into_bytes(),
                }),
                _ => FieldMatchType::Lpm(field_match::Lpm {
                    value,
                    prefix_len: i32::try_from(len).unwrap_or(i32::MAX),
                }),
            }))
        })
    }

    /// The key lies between the two, which are included. The whole range matches everything.
    pub fn range(self, field: &str, low: impl Into<Value>, high: impl Into<Value>) -> Self {
        let (low, high) = (low.into(), high.into());
        self.field(field, |table, field| {
            want(table, field, MatchKind::Range)?;
            let low = fit(table, field, low)?;
            let high = fit(table, field, high)?;
            let number = |v: &Value| (v.as_bytes().len(), v.clone());
            if number(&low) > number(&high) {
                return Err(CatalogError::Field {
                    table: table.alias.clone(),
                    field: field.name.clone(),
                    problem: format!("the range {low}..{high} is empty"),
                });
            }
            let whole =
                low.is_zero() && matches!(field.width, Width::Bits(w) if high == Value::ones(w));
            Ok((!whole).then(|| {
                FieldMatchType::Range(field_match::Range {
                    low: low.into_bytes(),
                    high: high.into_bytes(),
                })
            }))
        })
    }

    /// The key equals the value, if there is one.
    pub fn optional<V: Into<Value>>(self, field: &str, value: Option<V>) -> Self {
        match value {
            Some(value) => self.exact(field, value),
            None => self.field(field, |table, field| {
                want(table, field, MatchKind::Optional)?;
                Ok(None)
            }),
        }
    }

    /// The action, with its arguments by name.
    pub fn action<'n>(
        self,
        name: &str,
        arguments: impl IntoIterator<Item = (&'n str, Value)>,
    ) -> Self {
        self.with(|this, table| {
            let (action, scope) = this.catalog.table_action(table, name)?;
            let misplaced = match (this.entry.is_default_action, scope) {
                (false, Scope::Default) => Some("only for the default action"),
                (true, Scope::Entries) => Some("not for the default action"),
                (_, Scope::Group) => Some("only for groups"),
                _ => None,
            };
            if let Some(scope) = misplaced {
                return Err(CatalogError::Scope {
                    table: table.alias.clone(),
                    action: action.alias.clone(),
                    scope,
                });
            }
            this.entry.action = Some(TableAction {
                r#type: Some(table_action::Type::Action(call(action, arguments)?)),
            });
            Ok(())
        })
    }

    /// A member of the table's action profile.
    pub fn member(self, id: u32) -> Self {
        self.indirect(table_action::Type::ActionProfileMemberId(id))
    }

    /// A group of the table's action selector.
    pub fn group(self, id: u32) -> Self {
        self.indirect(table_action::Type::ActionProfileGroupId(id))
    }

    fn indirect(self, action: table_action::Type) -> Self {
        self.with(|this, _| {
            this.entry.action = Some(TableAction {
                r#type: Some(action),
            });
            Ok(())
        })
    }

    /// The higher number wins; above 0 for tables with ternary, range or optional keys.
    pub fn priority(mut self, priority: i32) -> Self {
        self.entry.priority = priority;
        self
    }

    /// Makes this the table's default action. Call it before [`EntryBuilder::action`].
    pub fn default_action(mut self) -> Self {
        self.entry.is_default_action = true;
        self
    }

    /// Asks for a notice when nothing has hit the entry for so long.
    pub fn idle_timeout(self, timeout: Duration) -> Self {
        self.with(|this, table| {
            if !timeout.is_zero() && !table.ages {
                return Err(CatalogError::NoTimeout(table.alias.clone()));
            }
            this.entry.idle_timeout_ns = i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX);
            Ok(())
        })
    }

    /// Bytes that the device keeps with the entry and does not look at.
    pub fn metadata(mut self, metadata: impl Into<Vec<u8>>) -> Self {
        self.entry.metadata = metadata.into();
        self
    }

    /// The entry, checked.
    ///
    /// # Errors
    /// The first mistake that was made, or what is missing.
    pub fn build(self) -> Result<TableEntry, CatalogError> {
        let (Some(table), None) = (self.table, &self.problem) else {
            return Err(self.problem.unwrap_or(CatalogError::UnknownId {
                kind: Kind::Table,
                id: 0,
            }));
        };
        if self.entry.action.is_none() {
            return Err(CatalogError::NoAction(table.alias.clone()));
        }
        self.build_key()
    }

    /// The entry without action, as deletes and reads want it.
    ///
    /// # Errors
    /// As [`EntryBuilder::build`].
    pub fn build_key(self) -> Result<TableEntry, CatalogError> {
        let (Some(table), None) = (self.table, &self.problem) else {
            return Err(self.problem.unwrap_or(CatalogError::UnknownId {
                kind: Kind::Table,
                id: 0,
            }));
        };
        let mut entry = self.entry;
        if entry.is_default_action {
            return Ok(entry);
        }
        for field in &table.fields {
            if field.kind == MatchKind::Exact
                && !entry.r#match.iter().any(|m| m.field_id == field.id)
            {
                return Err(CatalogError::FieldMissing {
                    table: table.alias.clone(),
                    field: field.name.clone(),
                });
            }
        }
        let problem = match (table.has_priority, entry.priority) {
            (true, ..=0) => {
                Some("its keys are not all exact or lpm, so an entry needs a priority above 0")
            }
            (false, 1.. | ..=-1) => Some("its keys are exact or lpm, so an entry has no priority"),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(CatalogError::Priority {
                table: table.alias.clone(),
                problem,
            });
        }
        entry.r#match.sort_by_key(|m| m.field_id);
        Ok(entry)
    }

    /// Builds an INSERT.
    ///
    /// # Errors
    /// As [`EntryBuilder::build`].
    pub fn insert(self) -> Result<Update, CatalogError> {
        Ok(update_of(update::Type::Insert, self.build()?))
    }

    /// Builds a MODIFY.
    ///
    /// # Errors
    /// As [`EntryBuilder::build`].
    pub fn modify(self) -> Result<Update, CatalogError> {
        Ok(update_of(update::Type::Modify, self.build()?))
    }

    /// Builds a DELETE; the action does not matter.
    ///
    /// # Errors
    /// As [`EntryBuilder::build_key`].
    pub fn delete(self) -> Result<Update, CatalogError> {
        Ok(update_of(update::Type::Delete, self.build_key()?))
    }

    fn with(
        mut self,
        step: impl FnOnce(&mut Self, &'a TableInfo) -> Result<(), CatalogError>,
    ) -> Self {
        if let (Some(table), None) = (self.table, &self.problem)
            && let Err(problem) = step(&mut self, table)
        {
            self.problem = Some(problem);
        }
        self
    }

    fn field(
        self,
        name: &str,
        make: impl FnOnce(&TableInfo, &FieldInfo) -> Result<Option<FieldMatchType>, CatalogError>,
    ) -> Self {
        self.with(|this, table| {
            let field = table
                .field(name)
                .ok_or_else(|| CatalogError::UnknownField {
                    table: table.alias.clone(),
                    field: name.to_owned(),
                    fields: table.fields.iter().map(|f| f.name.clone()).collect(),
                })?;
            if this.entry.r#match.iter().any(|m| m.field_id == field.id) {
                return Err(CatalogError::FieldTwice {
                    table: table.alias.clone(),
                    field: field.name.clone(),
                });
            }
            if let Some(kind) = make(table, field)? {
                this.entry.r#match.push(FieldMatch {
                    field_id: field.id,
                    field_match_type: Some(kind),
                });
            }
            Ok(())
        })
    }
}

/// An update of a table entry.
pub fn update_of(kind: update::Type, entry: TableEntry) -> Update {
    Update {
        r#type: kind as i32,
        entity: Some(Entity {
            entity: Some(entity::Entity::TableEntry(entry)),
        }),
    }
}

fn exact(value: Value) -> FieldMatchType {
    FieldMatchType::Exact(field_match::Exact {
        value: value.into_bytes(),
    })
}

fn want(table: &TableInfo, field: &FieldInfo, found: MatchKind) -> Result<(), CatalogError> {
    if field.kind == found {
        return Ok(());
    }
    Err(CatalogError::FieldKind {
        table: table.alias.clone(),
        field: field.name.clone(),
        expected: field.kind,
        found,
    })
}

fn fit(table: &TableInfo, field: &FieldInfo, value: Value) -> Result<Value, CatalogError> {
    match value.check(field.width) {
        Ok(()) => Ok(value),
        Err(error) => Err(CatalogError::Value {
            owner: table.alias.clone(),
            name: field.name.clone(),
            width: field.width,
            error,
        }),
    }
}

fn call<'n>(
    action: &crate::catalog::ActionInfo,
    arguments: impl IntoIterator<Item = (&'n str, Value)>,
) -> Result<v1::Action, CatalogError> {
    let mut params: Vec<Param> = Vec::with_capacity(action.params.len());
    for (name, value) in arguments {
        let param = action
            .param(name)
            .ok_or_else(|| CatalogError::UnknownParam {
                action: action.alias.clone(),
                param: name.to_owned(),
                params: action.params.iter().map(|p| p.name.clone()).collect(),
            })?;
        value
            .check(param.width)
            .map_err(|error| CatalogError::Value {
                owner: action.alias.clone(),
                name: param.name.clone(),
                width: param.width,
                error,
            })?;
        params.push(Param {
            param_id: param.id,
            value: value.into_bytes(),
        });
    }
    for param in &action.params {
        let found = params.iter().filter(|p| p.param_id == param.id).count();
        if found != 1 {
            return Err(CatalogError::ParamCount {
                action: action.alias.clone(),
                param: param.name.clone(),
                found,
            });
        }
    }
    params.sort_by_key(|p| p.param_id);
    Ok(v1::Action {
        action_id: action.id,
        params,
    })
}
