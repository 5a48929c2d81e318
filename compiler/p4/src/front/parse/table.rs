//! Tables: properties, key elements, action lists and entries.

use super::{Parsed, Parser};
use crate::diagnostics::Diagnostic;
use crate::front::ast::{
    ActionRef, Annotation, DeclKind, Entry, KeyElement, PropertyValue, Table, TableProperty,
};

impl Parser {
    pub(super) fn table(&mut self) -> Parsed<DeclKind> {
        self.expect_word("table")?;
        let name = self.name("a table's name")?;
        self.scopes.declare_value(&name.name);
        let properties = self.braced(Self::table_property)?;
        Ok(DeclKind::Table(Table { name, properties }))
    }

    fn table_property(&mut self) -> Parsed<TableProperty> {
        let start = self.peek().span;
        let annotations = self.annotations()?;
        let is_const = self.take_word("const");
        let name = self.name("a table's property")?;
        self.expect("=")?;
        let value = match name.as_str() {
            "key" => PropertyValue::Key(self.braced(Self::key_element)?),
            "actions" => PropertyValue::Actions(self.braced(Self::listed_action)?),
            "entries" => PropertyValue::Entries(self.braced(Self::entry)?),
            _ => {
                let value = self.expr()?;
                self.expect_semicolon()?;
                PropertyValue::Expr(value)
            }
        };
        if is_const && matches!(value, PropertyValue::Key(_) | PropertyValue::Actions(_)) {
            self.report(Diagnostic::error(
                name.span,
                format!("`{name}` cannot be `const`"),
            ));
        }
        // A semicolon behind a list is a common slip that means nothing.
        if !matches!(value, PropertyValue::Expr(_)) {
            self.take_symbol(";");
        }
        Ok(TableProperty {
            span: self.since(start),
            annotations,
            is_const,
            name,
            value,
        })
    }

    fn key_element(&mut self) -> Parsed<KeyElement> {
        let expr = self.expr()?;
        self.expect(":")?;
        let match_kind = self.name("a match kind")?;
        let annotations = self.annotations()?;
        self.expect_semicolon()?;
        Ok(KeyElement {
            span: self.since(expr.span),
            expr,
            match_kind,
            annotations,
        })
    }

    fn listed_action(&mut self) -> Parsed<ActionRef> {
        let start = self.peek().span;
        let annotations = self.annotations()?;
        let mut action = self.action_ref(annotations)?;
        self.expect_semicolon()?;
        action.span = self.since(start);
        Ok(action)
    }

    fn action_ref(&mut self, annotations: Vec<Annotation>) -> Parsed<ActionRef> {
        let path = self.path("an action's name")?;
        let args = if self.at_symbol("(") {
            Some(self.arguments()?)
        } else {
            None
        };
        Ok(ActionRef {
            span: self.since(path.span),
            annotations,
            path,
            args,
        })
    }

    fn entry(&mut self) -> Parsed<Entry> {
        let start = self.peek().span;
        let is_const = self.take_word("const");
        let mut priority = None;
        if self.at_word("priority") && self.peek_at(1).is_symbol("=") {
            self.at += 2;
            priority = Some(self.expr()?);
            self.expect(":")?;
        }
        let keys = self.keysets()?;
        self.expect(":")?;
        let mut action = self.action_ref(Vec::new())?;
        action.annotations = self.annotations()?;
        self.expect_semicolon()?;
        Ok(Entry {
            span: self.since(start),
            is_const,
            priority,
            keys,
            action,
        })
    }
}
