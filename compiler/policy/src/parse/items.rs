//! Items: `network`, `set`, `pool`, `service`, `cascade`, `managers`, `test`.

use super::clauses::{MANAGER_WORDS, NETWORK_WORDS, POOL_WORDS, TEST_WORDS};
use super::services::{SERVICE_WORDS, clauses_of};
use super::{ITEM_WORDS, Parsed, Parser, Recover};
use crate::diagnostic::Diagnostic;
use crate::lex::{Punct, TokenKind};
use crate::tree::*;

impl Parser<'_> {
    pub(super) fn file(&mut self) -> File {
        let mut file = File::default();
        while *self.kind() != TokenKind::End {
            if self.eat(Punct::Semicolon) {
                continue;
            }
            let before = self.at;
            self.clause = before;
            self.layout.starts.push(before);
            self.layout.items.push(before);
            match self.item() {
                Ok(item) => file.items.push(item),
                Err(Recover) => self.skip_item(before),
            }
        }
        file
    }

    /// Skips to the next word that begins an item: in the first column, or outside all braces.
    fn skip_item(&mut self, start: usize) {
        if self.at == start {
            self.bump();
        }
        loop {
            let (open, item) = self.nesting.get(self.at).copied().unwrap_or((0, true));
            let word = self.word().is_some_and(|w| ITEM_WORDS.contains(&w));
            if *self.kind() == TokenKind::End || item || (open == 0 && word) {
                return;
            }
            self.bump();
        }
    }

    fn item(&mut self) -> Parsed<Item> {
        let span = self.span();
        match self.word() {
            Some("network") => {
                self.bump();
                let clauses = self.block(&NETWORK_WORDS, Self::network_clause)?;
                Ok(Item::Network(NetworkItem { clauses, span }))
            }
            Some("set") => {
                self.bump();
                let name = self.name("the set's name")?;
                self.expect(Punct::Assign)?;
                let list = self.list()?;
                Ok(Item::Set(SetItem {
                    name,
                    elements: list,
                }))
            }
            Some("pool") => {
                self.bump();
                let name = self.name("the pool's name")?;
                let clauses = self.block(&POOL_WORDS, Self::pool_clause)?;
                Ok(Item::Pool(PoolItem { name, clauses }))
            }
            Some("service") => {
                self.bump();
                self.service()
            }
            Some("cascade") => {
                self.bump();
                let mut names = vec![self.name("a service's name")?];
                while self.eat(Punct::Greater) {
                    names.push(self.name("a service's name")?);
                }
                Ok(Item::Cascade(CascadeItem { names, span }))
            }
            Some("managers") => {
                self.bump();
                let clauses = self.block(&MANAGER_WORDS, Self::manager_clause)?;
                Ok(Item::Managers(ManagersItem { clauses, span }))
            }
            Some("test") => {
                self.bump();
                let name = self.literal("what the test shows, in double quotes", |k| match k {
                    TokenKind::Text(text) => Some(text.clone()),
                    _ => None,
                })?;
                let clauses = self.block(&TEST_WORDS, Self::test_clause)?;
                Ok(Item::Test(TestItem { name, clauses }))
            }
            _ => self.expected_word("a declaration", &ITEM_WORDS),
        }
    }

    fn service(&mut self) -> Parsed<Item> {
        let name = self.name("the service's name")?;
        self.expect(Punct::Colon)?;
        let kind = self.name("the service's kind")?;
        if let Some(words) = clauses_of(&kind.value) {
            let clauses = self.block(&SERVICE_WORDS, |p| p.service_clause(words))?;
            return Ok(Item::Service(ServiceItem {
                name,
                kind,
                clauses,
            }));
        }
        // The checker says what is wrong with the kind; its clauses are not read.
        self.skip_block()?;
        Ok(Item::Service(ServiceItem {
            name,
            kind,
            clauses: Vec::new(),
        }))
    }

    fn skip_block(&mut self) -> Parsed<()> {
        let open = self.span();
        let outside = self.nesting.get(self.at).map_or(0, |n| n.0);
        self.expect(Punct::OpenBrace)?;
        loop {
            let (depth, item) = self.nesting.get(self.at).copied().unwrap_or((0, true));
            if *self.kind() == TokenKind::End || item {
                self.errors.push(
                    Diagnostic::error("unclosed", open, "this block is not closed")
                        .label("no `}` belongs to this"),
                );
                return Ok(());
            }
            let last = self.is(Punct::CloseBrace) && depth <= outside + 1;
            self.bump();
            if last {
                return Ok(());
            }
        }
    }
}
