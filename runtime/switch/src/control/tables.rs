//! Table entries, default actions, and direct counters and meters.

use super::{
    ActionCall, CounterValue, Entry, EntryAction, EntryHandle, EntryView, Match, MeterRate, Result,
};
use crate::code::layout::mask;
use crate::code::program::{Program, Table};
use crate::control::{GroupId, MemberId};
use crate::exec::state::State;
use crate::meter::Meter;
use crate::schema::{ActionProfileId, TableSchema};
use crate::table::{Cold, CompiledKey, Run, TableState, compile};
use crate::{Bits, ControlError, Micros, Switch, TableId};

/// A table in all its parts.
pub(super) struct Parts<'a> {
    pub program: &'a Program,
    pub table: &'a Table,
    pub schema: &'a TableSchema,
}

impl<'a> Parts<'a> {
    pub(super) fn of(program: &'a Program, id: TableId) -> Result<Self> {
        let (table, schema) = (
            program.tables.get(id.index()),
            program.schema.tables.get(id.index()),
        );
        match (table, schema) {
            (Some(table), Some(schema)) => Ok(Parts {
                program,
                table,
                schema,
            }),
            _ => Err(ControlError::NoSuchTable(id)),
        }
    }

    pub(super) fn key(&self, key: &[Match], priority: i32) -> Result<CompiledKey> {
        let wrong = match self.schema.has_priority {
            true if priority <= 0 => {
                Some("a table with ternary, range or optional keys wants one above 0")
            }
            false if priority != 0 => Some("this table orders its entries by itself and wants 0"),
            _ => None,
        };
        if let Some(expected) = wrong {
            return Err(ControlError::BadPriority {
                given: priority,
                expected,
            });
        }
        compile(self.table, self.schema, key)
    }

    /// The action that an entry runs; `None` if it runs none.
    fn action(&self, run: Run, data: &[u64]) -> Option<EntryAction> {
        match run {
            Run::Nothing => None,
            Run::Member(member) => Some(EntryAction::Member(MemberId(member))),
            Run::Group(group) => Some(EntryAction::Group(GroupId(group))),
            Run::Action(local) => {
                let action = *self.schema.actions.get(local as usize)?;
                let schema = self.program.schema.actions.get(action.index());
                let params = schema.map(|s| s.params.as_slice()).unwrap_or_default();
                let mut at = 0;
                let params = params.iter().map(|param| {
                    let end = at + param.width.div_ceil(64);
                    let words = data.get(at..end).unwrap_or_default();
                    at = end;
                    Bits::from_words(words)
                });
                Some(EntryAction::Call(ActionCall::new(action, params)))
            }
        }
    }

    /// What an action says to run, and its data.
    pub(super) fn run(&self, state: &State, action: &EntryAction) -> Result<(Run, Vec<u64>)> {
        let wrong = |expected| ControlError::WrongEntryKind {
            table: self.schema.name.clone(),
            expected,
        };
        match (action, self.table.profile) {
            (EntryAction::Call(call), None) => {
                let data = pack_call(self.program, call)?;
                let local = self
                    .table
                    .actions
                    .iter()
                    .position(|a| a.action == call.action.0);
                match local {
                    Some(local) => Ok((Run::Action(local as u32), data)),
                    None => Err(foreign(self.program, call, &self.schema.name)),
                }
            }
            (EntryAction::Call(_), Some(_)) => Err(wrong("members or groups, not actions")),
            (_, None) => Err(wrong("actions, not members or groups")),
            (EntryAction::Member(member), Some(profile)) => {
                match state.profiles.get(profile.index()) {
                    Some(known) if known.members.contains_key(member) => {
                        Ok((Run::Member(member.0), Vec::new()))
                    }
                    _ => Err(ControlError::NoSuchMember(*member)),
                }
            }
            (EntryAction::Group(group), Some(profile)) => {
                match state.profiles.get(profile.index()) {
                    Some(known) if known.groups.contains_key(group) => {
                        Ok((Run::Group(group.0), Vec::new()))
                    }
                    _ => Err(ControlError::NoSuchGroup(*group)),
                }
            }
        }
    }
}

/// An entry's key in canonical form.
pub(crate) fn key_of(table: &Table, state: &TableState, at: u32) -> Vec<Match> {
    if let Some(key) = state.cold(at).and_then(|cold| cold.key.as_ref()) {
        return key.key.clone();
    }
    let packed = state.packed(at);
    let fields = table.key.iter().map(|part| {
        let first = part.word as usize;
        let words = packed.get(first..first + part.place.words() as usize);
        let words = words.unwrap_or_default().iter();
        let bits = part.place.width.min(64);
        let words: Vec<u64> = words
            .map(|word| (word >> part.shift) & mask(bits))
            .collect();
        Match::Exact(Bits::from_words(&words))
    });
    fields.collect()
}

fn foreign(program: &Program, call: &ActionCall, table: &str) -> ControlError {
    let action = program.schema.actions.get(call.action.index());
    ControlError::ForeignAction {
        action: action.map(|a| a.name.clone()).unwrap_or_default(),
        table: table.to_owned(),
    }
}

/// Checks a call and packs its arguments as the executor wants them.
pub(super) fn pack_call(program: &Program, call: &ActionCall) -> Result<Vec<u64>> {
    let Some(schema) = program.schema.actions.get(call.action.index()) else {
        return Err(ControlError::NoSuchAction(call.action));
    };
    if schema.params.len() != call.params.len() {
        return Err(ControlError::BadParameterCount {
            action: schema.name.clone(),
            expected: schema.params.len(),
            found: call.params.len(),
        });
    }
    let mut data = Vec::new();
    for (param, value) in schema.params.iter().zip(&call.params) {
        if !value.fits(param.width) {
            return Err(ControlError::ParameterTooWide {
                action: schema.name.clone(),
                parameter: param.name.clone(),
                value: value.clone(),
                width: param.width,
            });
        }
        data.extend(value.to_words(param.width));
    }
    Ok(data)
}

pub(super) fn reset_default(parts: &Parts, state: &mut TableState) {
    state.default = Run::Nothing;
    state.default_data.clear();
    if let Some(initial) = &parts.table.default {
        let call = ActionCall {
            action: initial.action,
            params: initial.params.clone(),
        };
        let local = parts
            .table
            .actions
            .iter()
            .position(|a| a.action == call.action.0);
        if let (Some(local), Ok(data)) = (local, pack_call(parts.program, &call)) {
            state.default = Run::Action(local as u32);
            state.default_data = data;
        }
    }
}

impl Switch {
    pub(super) fn program(&self) -> Result<&Program> {
        self.program.as_deref().ok_or(ControlError::NoPipeline)
    }

    fn table_state(&self, table: TableId) -> Result<&TableState> {
        self.program()?;
        self.state
            .tables
            .get(table.index())
            .ok_or(ControlError::NoSuchTable(table))
    }

    fn table_state_mut(&mut self, table: TableId) -> Result<&mut TableState> {
        self.program()?;
        self.state
            .tables
            .get_mut(table.index())
            .ok_or(ControlError::NoSuchTable(table))
    }

    /// Checks that `entry` still names an entry, and gives its place.
    fn place(&self, table: TableId, entry: EntryHandle) -> Result<u32> {
        let state = self.table_state(table)?;
        match state.cold(entry.index) {
            Some(_) if state.generation(entry.index) == entry.generation => Ok(entry.index),
            _ => Err(ControlError::NotFound),
        }
    }

    /// How many entries the table may hold.
    fn capacity(&self, table: TableId, schema: &TableSchema) -> usize {
        let given = self.state.tables.get(table.index());
        if let Some(size) = given.and_then(|state| state.capacity) {
            size
        } else if schema.size == 0 {
            self.config.default_table_size
        } else {
            schema.size
        }
    }

    /// Adds an entry; `now` starts its idle timer.
    ///
    /// # Errors
    /// When the key, priority, action or timeout is not one for this table, the entry exists, or
    /// the table is full or constant.
    pub fn table_insert(
        &mut self,
        now: Micros,
        table: TableId,
        entry: Entry,
    ) -> Result<EntryHandle> {
        let program = self.program.as_deref().ok_or(ControlError::NoPipeline)?;
        let parts = Parts::of(program, table)?;
        let key = parts.key(&entry.key, entry.priority)?;
        let (run, data) = parts.run(&self.state, &entry.action)?;
        check_timeout(parts.schema, entry.idle_timeout)?;
        let size = self.capacity(table, parts.schema);
        let name = &parts.schema.name;
        let Some(state) = self.state.tables.get_mut(table.index()) else {
            return Err(ControlError::NoSuchTable(table));
        };
        if state.const_entries {
            return Err(ControlError::ConstTable(name.clone()));
        }
        if state.find(&key, entry.priority).is_some() {
            return Err(ControlError::AlreadyExists);
        }
        if state.len() >= size {
            return Err(ControlError::TableFull {
                name: name.clone(),
                size,
            });
        }
        let cold = Cold {
            key: None,
            priority: entry.priority,
            idle_timeout: entry.idle_timeout,
            metadata: entry.metadata.into(),
            initial: false,
            next_look: 0,
        };
        let index = state.insert(run, &data, key, cold, now);
        Ok(EntryHandle {
            index,
            generation: state.generation(index),
        })
    }

    /// Replaces action, idle timeout and metadata; keeps counter and meter, restarts the idle timer.
    ///
    /// # Errors
    /// When the entry is gone, the action or timeout is not one for this table, or it is constant.
    pub fn table_modify(
        &mut self,
        now: Micros,
        table: TableId,
        entry: EntryHandle,
        action: EntryAction,
        idle_timeout: Micros,
        metadata: Vec<u8>,
    ) -> Result<()> {
        let at = self.place(table, entry)?;
        let program = self.program.as_deref().ok_or(ControlError::NoPipeline)?;
        let parts = Parts::of(program, table)?;
        let (run, data) = parts.run(&self.state, &action)?;
        check_timeout(parts.schema, idle_timeout)?;
        let Some(state) = self.state.tables.get_mut(table.index()) else {
            return Err(ControlError::NoSuchTable(table));
        };
        if state.const_entries {
            return Err(ControlError::ConstTable(parts.schema.name.clone()));
        }
        state.set_run(at, run, &data);
        state.set_timeout(at, idle_timeout, now);
        if let Some(cold) = state.cold_mut(at) {
            cold.metadata = metadata.into();
        }
        Ok(())
    }

    /// Takes an entry away.
    ///
    /// # Errors
    /// When the entry is gone or the table is constant.
    pub fn table_delete(&mut self, table: TableId, entry: EntryHandle) -> Result<()> {
        let at = self.place(table, entry)?;
        let name = Parts::of(self.program()?, table)?.schema.name.clone();
        let state = self.table_state_mut(table)?;
        if state.const_entries {
            return Err(ControlError::ConstTable(name));
        }
        match state.remove(at) {
            Some(_) => Ok(()),
            None => Err(ControlError::NotFound),
        }
    }

    /// The entry of exactly this key and priority.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] if there is none; others if the key is not one for this table.
    pub fn table_find(&self, table: TableId, key: &[Match], priority: i32) -> Result<EntryHandle> {
        let key = Parts::of(self.program()?, table)?.key(key, priority)?;
        let state = self.table_state(table)?;
        match state.find(&key, priority) {
            Some(index) => Ok(EntryHandle {
                index,
                generation: state.generation(index),
            }),
            None => Err(ControlError::NotFound),
        }
    }

    /// An entry with its counter, meter and time of last hit.
    ///
    /// # Errors
    /// When the entry is gone.
    pub fn table_get(&self, table: TableId, entry: EntryHandle) -> Result<EntryView> {
        let at = self.place(table, entry)?;
        let parts = Parts::of(self.program()?, table)?;
        let schema = parts.schema;
        let state = self.table_state(table)?;
        let Some(cold) = state.cold(at) else {
            return Err(ControlError::NotFound);
        };
        let hot = state.hot(at);
        let action = parts.action(hot.run, &state.data(at));
        Ok(EntryView {
            handle: entry,
            entry: Entry {
                key: key_of(parts.table, state, at),
                priority: cold.priority,
                action: action.ok_or(ControlError::NotFound)?,
                idle_timeout: cold.idle_timeout,
                metadata: cold.metadata.to_vec(),
            },
            initial: cold.initial,
            last_hit: hot.last_hit,
            counter: schema.direct_counter.map(|_| state.counter(at)),
            meter: schema.direct_meter.and_then(|_| state.meter_rates(at)),
        })
    }

    /// All entries, by place: in order of insertion as far as deletions left it.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn table_entries(&self, table: TableId) -> Result<Vec<EntryHandle>> {
        let state = self.table_state(table)?;
        let handle = |index| EntryHandle {
            index,
            generation: state.generation(index),
        };
        Ok(state.places().map(handle).collect())
    }

    /// How many entries there are.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn table_len(&self, table: TableId) -> Result<usize> {
        Ok(self.table_state(table)?.len())
    }

    /// How many entries there may be.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn table_capacity(&self, table: TableId) -> Result<usize> {
        Ok(self.capacity(table, Parts::of(self.program()?, table)?.schema))
    }

    /// Says how many entries there may be. The JSON gives a table with entries of the program no
    /// room for others; whoever has P4Info knows better and says so here.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn table_set_capacity(&mut self, table: TableId, size: usize) -> Result<()> {
        self.table_state_mut(table)?.capacity = Some(size);
        Ok(())
    }

    /// Whether entries can be changed. The JSON makes every table with entries of the program
    /// constant; whoever has P4Info knows better and says so here.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn table_set_const(&mut self, table: TableId, const_entries: bool) -> Result<()> {
        self.table_state_mut(table)?.const_entries = const_entries;
        Ok(())
    }

    /// The default action, if there is one.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn table_default(&self, table: TableId) -> Result<Option<EntryAction>> {
        let parts = Parts::of(self.program()?, table)?;
        let state = self.table_state(table)?;
        Ok(parts.action(state.default, &state.default_data))
    }

    /// Sets the default action; `None` goes back to the program's own.
    ///
    /// # Errors
    /// When the action is not one of the table's, or the default is constant.
    pub fn table_set_default(&mut self, table: TableId, action: Option<EntryAction>) -> Result<()> {
        let program = self.program.as_deref().ok_or(ControlError::NoPipeline)?;
        let parts = Parts::of(program, table)?;
        if parts.schema.const_default_action {
            return Err(ControlError::ConstDefaultAction(parts.schema.name.clone()));
        }
        let run = action
            .map(|action| parts.run(&self.state, &action))
            .transpose()?;
        let Some(state) = self.state.tables.get_mut(table.index()) else {
            return Err(ControlError::NoSuchTable(table));
        };
        match run {
            None => reset_default(&parts, state),
            Some((run, data)) => {
                state.default = run;
                state.default_data = data;
            }
        }
        Ok(())
    }

    fn with_direct(&self, table: TableId, what: &'static str) -> Result<()> {
        let schema = Parts::of(self.program()?, table)?.schema;
        let there = match what {
            "counter" => schema.direct_counter.is_some(),
            _ => schema.direct_meter.is_some(),
        };
        match there {
            true => Ok(()),
            false => Err(ControlError::NoDirectResource {
                table: schema.name.clone(),
                what,
            }),
        }
    }

    /// Sets an entry's direct counter.
    ///
    /// # Errors
    /// When the entry is gone or the table has no direct counter.
    pub fn entry_counter_set(
        &mut self,
        table: TableId,
        entry: EntryHandle,
        value: CounterValue,
    ) -> Result<()> {
        self.with_direct(table, "counter")?;
        let at = self.place(table, entry)?;
        self.table_state_mut(table)?.set_counter(at, value);
        Ok(())
    }

    /// Misses that ran the default action.
    ///
    /// # Errors
    /// When the table has no direct counter.
    pub fn default_counter(&self, table: TableId) -> Result<CounterValue> {
        self.with_direct(table, "counter")?;
        Ok(self.table_state(table)?.default_counter)
    }

    /// Sets what [`Switch::default_counter`] reads.
    ///
    /// # Errors
    /// When the table has no direct counter.
    pub fn default_counter_set(&mut self, table: TableId, value: CounterValue) -> Result<()> {
        self.with_direct(table, "counter")?;
        self.table_state_mut(table)?.default_counter = value;
        Ok(())
    }

    /// Sets an entry's direct meter; `None` takes the rates away: every packet is green.
    ///
    /// # Errors
    /// When the entry is gone, the table has no direct meter, or the rates are not in order.
    pub fn entry_meter_set(
        &mut self,
        table: TableId,
        entry: EntryHandle,
        rates: Option<[MeterRate; 2]>,
    ) -> Result<()> {
        self.with_direct(table, "meter")?;
        super::arrays::check_rates(rates.as_ref())?;
        let at = self.place(table, entry)?;
        self.table_state_mut(table)?.set_meter(at, rates);
        Ok(())
    }

    /// The rates of the meter that packets pass which run the default action on a miss.
    ///
    /// # Errors
    /// When the table has no direct meter.
    pub fn default_meter(&self, table: TableId) -> Result<Option<[MeterRate; 2]>> {
        self.with_direct(table, "meter")?;
        let meter = self.table_state(table)?.default_meter.as_ref();
        Ok(meter.map(|meter| meter.rates()))
    }

    /// Sets what [`Switch::default_meter`] reads; `None` takes the rates away.
    ///
    /// # Errors
    /// When the table has no direct meter, or the rates are not in order.
    pub fn default_meter_set(
        &mut self,
        table: TableId,
        rates: Option<[MeterRate; 2]>,
    ) -> Result<()> {
        self.with_direct(table, "meter")?;
        super::arrays::check_rates(rates.as_ref())?;
        self.table_state_mut(table)?.default_meter = rates.map(|rates| Box::new(Meter::new(rates)));
        Ok(())
    }

    /// Whether an entry or default action of a table with this profile names what `is` accepts.
    pub(super) fn profile_used(&self, profile: ActionProfileId, is: impl Fn(Run) -> bool) -> bool {
        let Ok(program) = self.program() else {
            return false;
        };
        let tables = program.tables.iter().zip(&self.state.tables);
        tables
            .filter(|(table, _)| table.profile == Some(profile))
            .any(|(_, state)| is(state.default) || state.places().any(|at| is(state.hot(at).run)))
    }
}

fn check_timeout(schema: &TableSchema, idle_timeout: Micros) -> Result<()> {
    match idle_timeout != 0 && !schema.support_timeout {
        true => Err(ControlError::NoTimeout(schema.name.clone())),
        false => Ok(()),
    }
}
