//! What the package does not reach is checked all the same: functions that nobody calls, parsers and
//! controls that nobody instantiates, and tables and actions that nobody applies.

use std::cell::RefCell;
use std::rc::Rc;

use num_bigint::BigInt;

use crate::front::ast;
use crate::ir::Type;

use super::bind::Bound;
use super::lower::{Inside, Lower, Part};
use super::operand::{Object, Operand, OperandKind};
use super::scope::{BlockInstance, BlockKind, Scope};
use super::types::{Ty, TyKind};

impl<'a> Lower<'a> {
    /// Checks all of it. Spoils the program made so far, of which the caller keeps a copy.
    pub fn check_rest(&mut self) {
        for def in self.names.functions.clone() {
            let Some(body) = def.body else { continue };
            if self.names.reached.contains(&def.proto.name.name)
                || !def.proto.type_params.is_empty()
            {
                continue;
            }
            self.part = Part::Ingress;
            let types = self.globals.inside();
            let values = self.stand_ins(&types, &def.proto.params);
            let spans = def.proto.params.iter().map(|p| p.span).collect();
            self.collect(|this| {
                this.inline_function(
                    &def,
                    body,
                    &Bound {
                        values,
                        spans,
                        types,
                    },
                    def.decl.span,
                )
            });
        }
        for kind in self.names.blocks.clone() {
            if self.names.reached.contains(kind.name()) {
                continue;
            }
            self.check_block(kind);
        }
        for table in self.names.tables.clone() {
            if table.lowered.get().is_none() {
                self.part = Part::Ingress;
                self.inside = Inside::Body;
                self.collect(|this| this.lower_table(&table));
            }
        }
        for action in self.names.actions.clone() {
            if action.lowered.borrow().is_empty() && !action.used.get() {
                self.part = Part::Ingress;
                self.inside = Inside::Body;
                let directional = action
                    .action
                    .params
                    .iter()
                    .take_while(|p| p.direction != ast::Direction::None);
                let params: Vec<&ast::Param> = directional.collect();
                let bound = self.stand_ins(
                    &action.scope,
                    action.action.params.get(..params.len()).unwrap_or_default(),
                );
                self.collect(|this| this.lower_action(&action, bound, action.decl.span));
            }
        }
    }

    fn check_block(&mut self, kind: BlockKind<'a>) {
        let (decl, params, ctor_params) = match kind {
            BlockKind::Parser(decl, p) => (decl, &p.params, &p.ctor_params),
            BlockKind::Control(decl, c) => (decl, &c.params, &c.ctor_params),
            BlockKind::Package(..) => return,
        };
        let globals = self.globals.clone();
        let values = self.stand_ins(&globals, params);
        let arguments = self.constants(&globals, ctor_params);
        self.part = match kind {
            BlockKind::Parser(..) => Part::Parser,
            // A control that takes a packet can only be a deparser.
            _ if values
                .iter()
                .any(|v| v.kind == OperandKind::Object(Object::PacketOut)) =>
            {
                Part::Deparser
            }
            _ => Part::Ingress,
        };
        let block = Rc::new(BlockInstance {
            kind,
            arguments,
            prefix: format!("{}.", kind.name()).into(),
            span: decl.span,
            applied: RefCell::default(),
            declared: RefCell::default(),
        });
        let outer = std::mem::replace(&mut self.prefix, std::sync::Arc::clone(&block.prefix));
        if self.part == Part::Parser {
            self.top_parser(
                |this| this.enter_block(&block, values, decl.span),
                decl.span,
            );
        } else {
            self.collect(|this| this.enter_block(&block, values, decl.span));
        }
        self.prefix = outer;
    }

    fn stand_ins(&mut self, scope: &Scope<'a>, params: &'a [ast::Param]) -> Vec<Operand<'a>> {
        params
            .iter()
            .map(|param| {
                let ty = self.resolve_type(scope, &param.ty);
                self.object_of(ty)
                    .unwrap_or_else(|| self.variable(ty, param.name.as_str(), param.span))
            })
            .collect()
    }

    fn object_of(&mut self, ty: Ty) -> Option<Operand<'a>> {
        let object = match &self.types[ty] {
            TyKind::Extern(name, _) if &**name == "packet_in" => Object::PacketIn,
            TyKind::Extern(name, _) if &**name == "packet_out" => Object::PacketOut,
            TyKind::Extern(..) | TyKind::Block(_) | TyKind::Unknown => return Some(self.poison()),
            _ => return None,
        };
        Some(Operand::new(ty, OperandKind::Object(object)))
    }

    /// Values for the parameters of a constructor.
    fn constants(&mut self, scope: &Scope<'a>, params: &'a [ast::Param]) -> Vec<Operand<'a>> {
        params
            .iter()
            .map(|param| {
                let ty = self.resolve_type(scope, &param.ty);
                match self.types.scalar(ty) {
                    Some(Type::Bool) => {
                        let value = self.ir.exprs.bool(true);
                        Operand::value(ty, value)
                    }
                    Some(scalar @ Type::Bits { .. }) => {
                        let value = self.ir.exprs.number(&BigInt::from(1), scalar);
                        Operand::value(ty, value)
                    }
                    _ => self.poison(),
                }
            })
            .collect()
    }
}
