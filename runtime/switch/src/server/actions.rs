//! P4Runtime's actions ↔ the core's: every parameter once, every value in its width.

use signalbox_p4runtime::{
    catalog::Scope,
    proto::p4::v1::{self, action::Param},
};

use super::{
    binding::{BoundAction, BoundTable},
    keys::checked,
    refusal::{Outcome, Refusal},
};
use crate::ActionCall;

/// Where an action is to stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Entry,
    Default,
}

/// The action of a table's entry, default or profile member.
pub(super) fn to_core(table: &BoundTable, action: &v1::Action, place: Use) -> Outcome<ActionCall> {
    let Some(bound) = table.actions.get(&action.action_id) else {
        return Err(Refusal::invalid(format!(
            "action id {:#010x} is none of the actions of `{}`",
            action.action_id, table.info.alias
        )));
    };
    match (table.info.action_scope(action.action_id), place) {
        (Some(Scope::Default), Use::Entry) => {
            return Err(Refusal::denied(format!(
                "action {:#010x} of `{}` may only be the default action",
                action.action_id, table.info.alias
            )));
        }
        (Some(Scope::Entries), Use::Default) => {
            return Err(Refusal::denied(format!(
                "action {:#010x} of `{}` may not be the default action",
                action.action_id, table.info.alias
            )));
        }
        (Some(Scope::Group), _) => {
            return Err(Refusal::denied(format!(
                "action {:#010x} of `{}` is only for groups",
                action.action_id, table.info.alias
            )));
        }
        _ => {}
    }
    call(bound, action)
}

fn call(bound: &BoundAction, action: &v1::Action) -> Outcome<ActionCall> {
    let id = action.action_id;
    if let Some(stranger) = action
        .params
        .iter()
        .find(|p| !bound.params.iter().any(|b| b.id == p.param_id))
    {
        return Err(Refusal::invalid(format!(
            "action {id:#010x} has no parameter with id {}",
            stranger.param_id
        )));
    }
    if action.params.len() > bound.params.len() {
        return Err(Refusal::invalid(format!(
            "action {id:#010x} has a parameter twice"
        )));
    }
    let mut params = Vec::with_capacity(bound.params.len());
    for param in &bound.params {
        let Some(given) = action.params.iter().find(|p| p.param_id == param.id) else {
            return Err(Refusal::invalid(format!(
                "action {id:#010x} lacks its parameter `{}`",
                param.name
            )));
        };
        let value = checked(&given.value, param.width)
            .map_err(|refusal| refusal.at(&format!("parameter `{}`", param.name)))?;
        params.push(value);
    }
    Ok(ActionCall {
        action: bound.core,
        params,
    })
}

/// The message for a call; `None` for an action that P4Info does not give the table.
pub(super) fn from_core(table: &BoundTable, call: &ActionCall) -> Option<v1::Action> {
    let action_id = *table.action_ids.get(&call.action)?;
    let bound = table.actions.get(&action_id)?;
    let mut params: Vec<Param> = bound
        .params
        .iter()
        .zip(&call.params)
        .map(|(param, value)| Param {
            param_id: param.id,
            value: value.as_bytes().to_vec(),
        })
        .collect();
    params.sort_by_key(|param| param.param_id);
    Some(v1::Action { action_id, params })
}
