//! Annotations, in all four shapes, and `@pragma` lines.

use std::sync::Arc;

use super::{Failed, Parsed, Parser};
use crate::front::ast::{
    Annotation, AnnotationBody, AnnotationToken, AnnotationTokenKind, Ident, NamedExpr,
};
use crate::front::token::{Token, TokenKind};

impl Parser {
    /// Zero or more annotations.
    pub(super) fn annotations(&mut self) -> Parsed<Vec<Annotation>> {
        let mut list = Vec::new();
        while self.at_symbol("@") {
            list.push(self.annotation()?);
        }
        Ok(list)
    }

    fn annotation(&mut self) -> Parsed<Annotation> {
        let start = self.expect("@")?;
        let mut name = self.annotation_name()?;
        // `@pragma name …` is an annotation up to the end of its line.
        if name.as_str() == "pragma" && self.peek().word().is_some() && !self.peek().line_start {
            name = self.annotation_name()?;
            let mut tokens = Vec::new();
            while !self.peek().line_start && !self.at_end() {
                let token = self.next();
                tokens.push(annotation_token(&token).ok_or(Failed)?);
            }
            let body = AnnotationBody::Unstructured(tokens);
            return Ok(Annotation {
                span: self.since(start),
                name,
                body,
            });
        }
        let body = if self.at_symbol("(") {
            AnnotationBody::Unstructured(self.unstructured_body()?)
        } else if self.take_symbol("[") {
            self.enclosed(Self::structured_body)?
        } else {
            AnnotationBody::None
        };
        Ok(Annotation {
            span: self.since(start),
            name,
            body,
        })
    }

    fn annotation_name(&mut self) -> Parsed<Ident> {
        match &self.peek().kind {
            TokenKind::Word(word) => {
                let ident = Ident {
                    name: Arc::clone(word),
                    span: self.peek().span,
                };
                self.at += 1;
                Ok(ident)
            }
            _ => Err(self.unexpected("an annotation's name")),
        }
    }

    fn unstructured_body(&mut self) -> Parsed<Vec<AnnotationToken>> {
        let open = self.expect("(")?;
        let mut depth = 1_usize;
        let mut tokens = Vec::new();
        loop {
            match &self.peek().kind {
                TokenKind::Symbol("(") => depth += 1,
                TokenKind::Symbol(")") => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Ok(tokens);
                    }
                }
                TokenKind::End => return Err(self.unclosed(")", open)),
                TokenKind::Malformed(_) => return Err(self.unexpected("a token or `)`")),
                _ => {}
            }
            let token = self.next();
            tokens.push(annotation_token(&token).ok_or(Failed)?);
        }
    }

    fn structured_body(&mut self) -> Parsed<AnnotationBody> {
        if self.name_at(0) && self.peek_at(1).is_symbol("=") {
            let list = self.separated("]", true, Self::named_expr)?;
            return Ok(AnnotationBody::KeyValues(list));
        }
        Ok(AnnotationBody::Expressions(self.separated(
            "]",
            true,
            Self::expr,
        )?))
    }

    /// `name = expression`
    pub(super) fn named_expr(&mut self) -> Parsed<NamedExpr> {
        let name = self.name("a name")?;
        self.expect("=")?;
        let value = self.expr()?;
        Ok(NamedExpr {
            span: self.since(name.span),
            name,
            value,
        })
    }
}

fn annotation_token(token: &Token) -> Option<AnnotationToken> {
    let kind = match &token.kind {
        TokenKind::Word(word) => AnnotationTokenKind::Word(Arc::clone(word)),
        TokenKind::Int(lit) => AnnotationTokenKind::Int(lit.clone()),
        TokenKind::Str(text) => AnnotationTokenKind::String(Arc::clone(text)),
        TokenKind::Symbol(symbol) => AnnotationTokenKind::Symbol((*symbol).into()),
        TokenKind::Stray(c) => AnnotationTokenKind::Symbol(c.to_string().into()),
        TokenKind::Malformed(_) | TokenKind::End => return None,
    };
    Some(AnnotationToken {
        span: token.span,
        kind,
    })
}
