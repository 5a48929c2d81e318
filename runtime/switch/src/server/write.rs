//! The Write call: each update tried, its outcome told, and in the atomic modes all undone when one
//! fails. A batch runs between two packets, so that no packet sees half of it.

use signalbox_p4runtime::{
    Code, RpcError,
    proto::p4::v1::{self, Update, WriteRequest, entity::Entity, update, write_request::Atomicity},
};

use super::{
    arrays, digests, direct, entries, profiles,
    refusal::{Outcome, Refusal},
    replication,
    state::{DeviceState, Loaded},
    value_sets,
};
use crate::{ControlError, Micros, Quirks, Switch};

/// A step that takes an update back.
pub(super) type Undo = Box<dyn FnOnce(&mut Switch, Micros) -> Result<(), ControlError>>;

/// What an update works on.
pub(super) struct Target<'a> {
    pub switch: &'a mut Switch,
    pub loaded: &'a mut Loaded,
    pub now: Micros,
    pub quirks: Quirks,
    /// Only kept in the atomic modes.
    pub undo: Option<Vec<Undo>>,
}

/// Notes how to take back what was just done.
pub(super) fn note(
    log: &mut Option<Vec<Undo>>,
    step: impl FnOnce(&mut Switch, Micros) -> Result<(), ControlError> + 'static,
) {
    if let Some(log) = log {
        log.push(Box::new(step));
    }
}

impl DeviceState {
    /// The Write call.
    ///
    /// # Errors
    /// NOT_FOUND, PERMISSION_DENIED, FAILED_PRECONDITION, in this order of checks, for the call as
    /// a whole; UNKNOWN, with one result an update, when updates failed.
    pub fn write(
        &mut self,
        switch: &mut Switch,
        now: Micros,
        request: &WriteRequest,
    ) -> Result<(), RpcError> {
        check_role_id(request)?;
        self.arbiter.check_writer(
            request.device_id,
            &request.role,
            request.election_id.as_ref(),
        )?;
        let quirks = self.quirks();
        // Between a saved pipeline and its commit, writes are for the saved one.
        let (loaded, switch) = match (&mut self.saved, &mut self.running) {
            (Some(saved), _) => (&mut saved.loaded, &mut saved.switch),
            (None, Some(running)) => (running, switch),
            (None, None) => return Err(no_pipeline()),
        };
        let atomic = match request.atomicity() {
            Atomicity::ContinueOnError => false,
            _ if quirks.continue_on_error_only => {
                return Err(RpcError::new(
                    Code::Unimplemented,
                    "only CONTINUE_ON_ERROR is supported with the quirks of simple_switch_grpc",
                ));
            }
            Atomicity::RollbackOnError | Atomicity::DataplaneAtomic => true,
        };
        if Atomicity::try_from(request.atomicity).is_err() {
            return Err(RpcError::new(
                Code::InvalidArgument,
                format!("there is no atomicity {}", request.atomicity),
            ));
        }
        let mut target = Target {
            switch,
            loaded,
            now,
            quirks,
            undo: atomic.then(Vec::new),
        };
        if atomic {
            all_or_none(&mut target, &request.updates)
        } else {
            one_by_one(&mut target, &request.updates)
        }
    }
}

pub(super) fn no_pipeline() -> RpcError {
    RpcError::new(
        Code::FailedPrecondition,
        "no forwarding pipeline config was set",
    )
}

#[allow(deprecated, reason = "to refuse what is deprecated")]
fn check_role_id(request: &WriteRequest) -> Result<(), RpcError> {
    if request.role_id == 0 {
        return Ok(());
    }
    Err(RpcError::new(
        Code::InvalidArgument,
        "roles are known by name, not by id",
    ))
}

fn one_by_one(target: &mut Target<'_>, updates: &[Update]) -> Result<(), RpcError> {
    let mut failed = false;
    let mut results: Vec<v1::Error> = Vec::new();
    for (index, update) in updates.iter().enumerate() {
        match apply(target, update) {
            Ok(()) if failed => results.push(v1::Error::default()),
            Ok(()) => {}
            Err(refusal) => {
                if !failed {
                    failed = true;
                    results.resize_with(index, v1::Error::default);
                }
                results.push(refusal.into_error());
            }
        }
    }
    if failed {
        Err(RpcError::of_updates(results))
    } else {
        Ok(())
    }
}

fn all_or_none(target: &mut Target<'_>, updates: &[Update]) -> Result<(), RpcError> {
    let notes = target.loaded.notes.clone();
    for (index, update) in updates.iter().enumerate() {
        let Err(refusal) = apply(target, update) else {
            continue;
        };
        target.loaded.notes = notes;
        let mut broken = None;
        for step in target.undo.take().unwrap_or_default().into_iter().rev() {
            if let Err(error) = step(target.switch, target.now) {
                broken.get_or_insert(error);
            }
        }
        if let Some(error) = broken {
            return Err(RpcError::new(
                Code::Internal,
                format!(
                    "update {} failed, and undoing failed too: {error}",
                    index + 1
                ),
            ));
        }
        let results = (0..updates.len())
            .map(|other| {
                if other == index {
                    return refusal.clone().into_error();
                }
                Refusal::new(
                    Code::Aborted,
                    format!("no effect, because update {} failed", index + 1),
                )
                .into_error()
            })
            .collect();
        return Err(RpcError::of_updates(results));
    }
    Ok(())
}

pub(super) fn apply(t: &mut Target<'_>, update: &Update) -> Outcome<()> {
    let kind = update::Type::try_from(update.r#type).unwrap_or(update::Type::Unspecified);
    if kind == update::Type::Unspecified {
        return Err(Refusal::invalid(
            "the update is neither INSERT nor MODIFY nor DELETE",
        ));
    }
    let entity = update.entity.as_ref().and_then(|e| e.entity.as_ref());
    // PI has one code for whatever is wrong with a byte string.
    let one_code = t.quirks.no_pi_extensions;
    let of_pi = |refusal: Refusal| match refusal.code {
        Code::OutOfRange if one_code => Refusal::new(Code::InvalidArgument, refusal.message),
        _ => refusal,
    };
    match entity {
        None => Err(Refusal::invalid("the update has no entity")),
        Some(Entity::TableEntry(entry)) => entries::write(t, kind, entry).map_err(of_pi),
        Some(Entity::ActionProfileMember(member)) => {
            profiles::write_member(t, kind, member).map_err(of_pi)
        }
        Some(Entity::ActionProfileGroup(group)) => profiles::write_group(t, kind, group),
        Some(Entity::CounterEntry(entry)) => arrays::write_counter(t, kind, entry),
        Some(Entity::MeterEntry(entry)) => arrays::write_meter(t, kind, entry),
        Some(Entity::RegisterEntry(entry)) => arrays::write_register(t, kind, entry),
        Some(Entity::DirectCounterEntry(entry)) => direct::write_counter(t, kind, entry),
        Some(Entity::DirectMeterEntry(entry)) => direct::write_meter(t, kind, entry),
        Some(Entity::PacketReplicationEngineEntry(entry)) => replication::write(t, kind, entry),
        Some(Entity::ValueSetEntry(entry)) => value_sets::write(t, kind, entry),
        Some(Entity::DigestEntry(entry)) => digests::write(t, kind, entry),
        Some(Entity::ExternEntry(_)) => Err(Refusal::unimplemented(
            "v1model has no externs beyond the standard ones",
        )),
    }
}
