//! From the syntax tree to the program of [`crate::ir`]: names, types, constants, and everything put
//! in its place. A body is lowered once for each place where it is used, with what is known there.
//!
//! Code that can't run, because a constant says so, is checked but leaves nothing behind.

mod annotation;
mod apply;
mod arith;
mod bind;
mod call;
mod check;
mod coerce;
mod control;
mod control_plane;
mod declare;
mod effects;
mod entries;
mod expr;
mod externs;
mod inline;
mod key_name;
mod lower;
mod member;
mod methods;
mod operand;
mod optimise;
mod package;
mod packet;
mod parser;
mod resolve;
mod scope;
mod select;
mod stmt;
mod storage;
mod table;
mod table_action;
mod typeinfo;
mod types;

use crate::diagnostics::Diagnostics;
use crate::front::ast;
use crate::ir;

/// Checks a program and lowers it; nothing comes out when there are errors.
#[must_use]
pub fn lower(program: &ast::Program) -> (Option<ir::Program>, Diagnostics) {
    let mut lower = lower::Lower::new();
    lower.program(program);
    if !lower.diagnostics.has_errors() || lower.names.main.is_some() {
        lower.package();
        lower.check_meters();
    }
    let made = lower.ir.clone();
    let kept = lower.metadata_scalars();
    lower.check_rest();
    let diagnostics = lower.diagnostics;
    if diagnostics.has_errors() {
        return (None, diagnostics);
    }
    let mut made = made;
    optimise::optimise(&mut made, &kept);
    (Some(made), diagnostics)
}
