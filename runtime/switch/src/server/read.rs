//! The Read call: each filter answered, and its outcome told when one of them was wrong. A filter is answered
//! between two writes and sees either all of a batch or nothing; but a whole array of counters is read a piece
//! at a time, since packets wait meanwhile and count on in any case.

use signalbox_p4runtime::{
    Code, RpcError,
    proto::p4::v1::{
        self, Entity as Message, PacketReplicationEngineEntry, ReadRequest, entity::Entity,
    },
};

use super::{
    arrays, digests, direct, entry_messages, profiles,
    refusal::{Outcome, Refusal},
    replication,
    state::{DeviceState, Loaded},
    value_sets,
    write::no_pipeline,
};
use crate::{Micros, Quirks, Switch};

/// Cells of counters that are read in one turn at most; few in tests, so that their arrays take several.
const CELLS: usize = if cfg!(test) { 5 } else { 4096 };

/// A read that goes on: what was found, each filter's outcome so far, and where in the next one it is.
#[derive(Debug, Default)]
pub(super) struct Reading {
    found: Vec<Message>,
    results: Vec<v1::Error>,
    /// What the next filter has found begins here.
    before: usize,
    /// The next cell of the array that it names.
    cell: usize,
}

impl DeviceState {
    /// One turn of the Read call; says whether it was the last.
    ///
    /// # Errors
    /// NOT_FOUND for another device or role, FAILED_PRECONDITION without pipeline: nothing is read.
    pub(super) fn read(
        &self,
        switch: &Switch,
        now: Micros,
        request: &ReadRequest,
        reading: &mut Reading,
    ) -> Result<bool, RpcError> {
        self.arbiter.check_device(request.device_id)?;
        let (loaded, switch) = match (&self.saved, &self.running) {
            (Some(saved), _) => (&saved.loaded, &saved.switch),
            (None, Some(running)) => (running, switch),
            (None, None) => return Err(no_pipeline()),
        };
        let quirks = self.quirks();
        let mut room = CELLS;
        while let Some(filter) = request.entities.get(reading.results.len()) {
            let found = &mut reading.found;
            let outcome = match filter.entity.as_ref() {
                Some(Entity::CounterEntry(filter)) if filter.index.is_none() => {
                    if room == 0 {
                        return Ok(false);
                    }
                    let from = reading.cell;
                    let piece = from..from.saturating_add(room);
                    let push = |entry| {
                        found.push(Message {
                            entity: Some(Entity::CounterEntry(entry)),
                        });
                    };
                    match arrays::read_counters(switch, loaded, filter, piece, push) {
                        Ok(read) if read == room => {
                            reading.cell = from.saturating_add(read);
                            return Ok(false);
                        }
                        Ok(read) => {
                            room = room.saturating_sub(read);
                            Ok(())
                        }
                        Err(refusal) => Err(refusal),
                    }
                }
                entity => one(switch, loaded, now, quirks, entity, found),
            };
            reading.results.push(match outcome {
                Ok(()) => v1::Error::default(),
                Err(refusal) => {
                    reading.found.truncate(reading.before);
                    refusal.into_error()
                }
            });
            reading.before = reading.found.len();
            reading.cell = 0;
        }
        Ok(true)
    }
}

impl Reading {
    /// What was found, and an error after it when a filter was wrong.
    pub(super) fn end(self, quirks: Quirks) -> (Vec<Message>, Option<RpcError>) {
        let results = self.results;
        let first = results.iter().find(|r| r.canonical_code != 0).cloned();
        let error = first.map(|first| {
            let message = format!("a filter of the read is wrong: {}", first.message);
            if quirks.no_pi_extensions {
                // simple_switch_grpc gives the plain status.
                return RpcError::new(
                    signalbox_p4runtime::rpc::code_of(first.canonical_code),
                    message,
                );
            }
            RpcError {
                code: Code::Unknown,
                message,
                updates: results,
            }
        });
        (self.found, error)
    }
}

pub(super) fn one(
    switch: &Switch,
    loaded: &Loaded,
    now: Micros,
    quirks: Quirks,
    filter: Option<&Entity>,
    found: &mut Vec<Message>,
) -> Outcome<()> {
    let mut push = |entity: Entity| {
        found.push(Message {
            entity: Some(entity),
        })
    };
    match filter {
        None => Err(Refusal::invalid("the entity to read is empty")),
        Some(Entity::TableEntry(filter))
            if filter.is_default_action
                && filter.time_since_last_hit.is_some()
                && !quirks.no_pi_extensions =>
        {
            Err(Refusal::invalid("the default entry does not age"))
        }
        Some(Entity::TableEntry(filter)) => {
            entry_messages::read(switch, loaded, now, filter, |entry| {
                push(Entity::TableEntry(entry))
            })
        }
        Some(Entity::ActionProfileMember(filter)) => {
            profiles::read_members(switch, loaded, filter, |member| {
                push(Entity::ActionProfileMember(member))
            })
        }
        Some(Entity::ActionProfileGroup(filter)) => {
            profiles::read_groups(loaded, filter, |group| {
                push(Entity::ActionProfileGroup(group))
            })
        }
        Some(Entity::CounterEntry(filter)) => {
            let all = 0..usize::MAX;
            arrays::read_counters(switch, loaded, filter, all, |entry| {
                push(Entity::CounterEntry(entry))
            })
            .map(drop)
        }
        Some(Entity::MeterEntry(filter)) => arrays::read_meters(switch, loaded, filter, |entry| {
            push(Entity::MeterEntry(entry))
        }),
        Some(Entity::RegisterEntry(_)) if quirks.no_pi_extensions => Err(Refusal::unimplemented(
            "Register reads are not supported yet",
        )),
        Some(Entity::RegisterEntry(filter)) => {
            arrays::read_registers(switch, loaded, filter, |entry| {
                push(Entity::RegisterEntry(entry))
            })
        }
        Some(Entity::DirectCounterEntry(filter)) => {
            direct::read_counters(switch, loaded, filter.table_entry.as_ref(), |entry| {
                push(Entity::DirectCounterEntry(entry))
            })
        }
        Some(Entity::DirectMeterEntry(filter)) => {
            if filter.counter_data.is_some() {
                return Err(Refusal::unimplemented("meters do not count by colour here"));
            }
            direct::read_meters(switch, loaded, filter.table_entry.as_ref(), |entry| {
                push(Entity::DirectMeterEntry(entry))
            })
        }
        Some(Entity::PacketReplicationEngineEntry(filter)) => {
            replication::read(loaded, filter, quirks.no_pi_extensions, |entry| {
                push(Entity::PacketReplicationEngineEntry(
                    PacketReplicationEngineEntry {
                        r#type: Some(entry),
                    },
                ))
            })
        }
        Some(Entity::ValueSetEntry(_)) if quirks.no_pi_extensions => Err(Refusal::unimplemented(
            "ValueSet reads are not supported yet",
        )),
        Some(Entity::ValueSetEntry(filter)) => value_sets::read(switch, loaded, filter, |entry| {
            push(Entity::ValueSetEntry(entry))
        }),
        Some(Entity::DigestEntry(filter)) => {
            digests::read(loaded, filter, |entry| push(Entity::DigestEntry(entry)))
        }
        // There are none, so all of them are nothing.
        Some(Entity::ExternEntry(filter)) if filter.extern_type_id == 0 => Ok(()),
        Some(Entity::ExternEntry(_)) => Err(Refusal::invalid(
            "v1model has no externs beyond the standard ones",
        )),
    }
}
