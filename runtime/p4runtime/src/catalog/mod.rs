//! Names ↔ ids: what P4Info says of a program, laid out for look-up by either. A name may be
//! given in full, as its alias, or as any suffix that only one object of its kind has.

mod error;
mod load;
mod names;
mod objects;

use std::sync::Arc;

pub use error::{CatalogError, Kind};
pub use names::{Named, Section};
pub use objects::{
    ActionInfo, ActionUse, ArrayInfo, DirectInfo, FieldInfo, HeaderInfo, MatchKind, ParamInfo,
    PlainInfo, ProfileInfo, RegisterInfo, Scope, TableInfo, ValueSetInfo,
};

use crate::proto::p4::config::v1::P4Info;

/// The objects of one program, by name and by id.
#[derive(Debug)]
pub struct Catalog {
    info: P4Info,
    /// Tables.
    pub tables: Section<TableInfo>,
    /// Actions.
    pub actions: Section<ActionInfo>,
    /// Action profiles and selectors.
    pub profiles: Section<ProfileInfo>,
    /// Indirect counters.
    pub counters: Section<ArrayInfo>,
    /// Direct counters.
    pub direct_counters: Section<DirectInfo>,
    /// Indirect meters.
    pub meters: Section<ArrayInfo>,
    /// Direct meters.
    pub direct_meters: Section<DirectInfo>,
    /// Registers.
    pub registers: Section<RegisterInfo>,
    /// Parser value sets.
    pub value_sets: Section<ValueSetInfo>,
    /// Digests.
    pub digests: Section<PlainInfo>,
    /// `packet_in` and `packet_out`.
    pub headers: Section<HeaderInfo>,
}

impl Catalog {
    /// Lays P4Info out for look-up.
    ///
    /// # Errors
    /// The P4Info contradicts itself: an id given twice, a reference to nothing.
    pub fn new(info: P4Info) -> Result<Catalog, CatalogError> {
        load::load(info)
    }

    /// As [`Catalog::new`], to be shared.
    ///
    /// # Errors
    /// As [`Catalog::new`].
    pub fn shared(info: P4Info) -> Result<Arc<Catalog>, CatalogError> {
        Catalog::new(info).map(Arc::new)
    }

    /// What it was made from.
    pub fn p4info(&self) -> &P4Info {
        &self.info
    }

    /// A table by name.
    ///
    /// # Errors
    /// No table, or several, have that name; with names that are near.
    pub fn table(&self, name: &str) -> Result<&TableInfo, CatalogError> {
        self.tables.named(name)
    }

    /// The header that carries packets to (`packet_in`) or from (`packet_out`) the controller.
    ///
    /// # Errors
    /// The program has no such header.
    pub fn header(&self, name: &str) -> Result<&HeaderInfo, CatalogError> {
        self.headers.named(name)
    }

    /// The action of a table, by name: a short name need be unique only in the table.
    ///
    /// # Errors
    /// The table has no such action; with those that it has.
    pub fn table_action(
        &self,
        table: &TableInfo,
        name: &str,
    ) -> Result<(&ActionInfo, Scope), CatalogError> {
        let mut found = None;
        let mut several = Vec::new();
        for used in &table.actions {
            let Some(action) = self.actions.get(used.action) else {
                continue;
            };
            if action.name == name || action.alias == name {
                return Ok((action, used.scope));
            }
            if names::is_suffix(&action.name, name) {
                several.push(action.name.clone());
                found = Some((action, used.scope));
            }
        }
        if several.len() > 1 {
            return Err(CatalogError::Ambiguous {
                kind: Kind::Action,
                name: name.to_owned(),
                candidates: several,
            });
        }
        found.ok_or_else(|| CatalogError::NotInTable {
            table: table.alias.clone(),
            action: name.to_owned(),
            actions: table
                .actions
                .iter()
                .filter_map(|used| self.actions.get(used.action))
                .map(|action| action.alias.clone())
                .collect(),
        })
    }
}
