//! The control flow: conditions, tables, actions.

use super::alu::{self, Stop};
use super::machine::{MAX_KEY, Machine};
use crate::code::layout::Words;
use crate::code::program::{Action, Node, Table};
use crate::control::{EntryHandle, MeterColor};
use crate::table::{Run, halves};
use crate::trace::{Event, TableEntry, Tracer};
use crate::{ActionId, Bits, GroupId, MemberId};

impl<T: Tracer> Machine<'_, T> {
    /// Runs a pipeline from `node` until its end, an exit or a failed assertion.
    pub(crate) fn pipeline(&mut self, node: Node) {
        let _ = self.walk::<false>(node);
    }

    /// Goes on at a table that a walk has stopped at, with what was found for it since.
    pub(crate) fn walk_on(&mut self, index: u32) -> Option<u32> {
        let table = self.program.tables.get(index as usize)?;
        let hit = self.scratch.ahead.found(index as usize);
        let next = self.outcome(table, index as usize, hit);
        self.walk::<true>(next)
    }

    /// Runs a pipeline. With `WAIT` it stops at a table whose memory it would wait for, and names it.
    pub(crate) fn walk<const WAIT: bool>(&mut self, mut node: Node) -> Option<u32> {
        let program = self.program;
        // A control flow graph has no circles in P4; a JSON may.
        let mut left = 1 << 16;
        while !self.regs.exit && !self.regs.failed && left > 0 {
            left -= 1;
            node = match node {
                Node::End => return None,
                Node::Condition(index) => {
                    let branch = program.branches.get(index as usize)?;
                    let result = self.check(branch.check);
                    if T::ON {
                        self.trace_condition(index as usize, result);
                    }
                    if result {
                        branch.then
                    } else {
                        branch.otherwise
                    }
                }
                Node::Call(index) => {
                    let call = program.calls.get(index as usize)?;
                    self.action(call.action);
                    call.next
                }
                Node::Table(index) => {
                    let table = program.tables.get(index as usize)?;
                    match self.table::<WAIT>(table, index as usize) {
                        Some(next) => next,
                        None => return Some(index),
                    }
                }
            };
        }
        None
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "there is one table state per table of the program"
    )]
    fn table<const WAIT: bool>(&mut self, table: &Table, index: usize) -> Option<Node> {
        if !T::ON
            && let Some((action, next)) = table.fixed
        {
            self.action(action);
            return Some(next);
        }
        let words = &mut *self.scratch.words;
        let key = &mut *self.scratch.key;
        let mut hit = None;
        let tables = &self.state.tables;
        if T::ON || tables[index].len() > 0 {
            let needed = if T::ON {
                u64::MAX
            } else {
                tables[index].needed()
            };
            pack_key(table, needed, words, key);
            let key = &key[..table.key_words as usize];
            if WAIT && self.scratch.ahead.waits(tables, index, key) {
                return None;
            }
            hit = self.scratch.ahead.lookup(tables, index, key);
        }
        Some(self.outcome(table, index, hit))
    }

    /// What a table does once it is known which entry the packet hits.
    #[expect(
        clippy::indexing_slicing,
        reason = "there is one table state per table of the program"
    )]
    #[inline]
    fn outcome(&mut self, table: &Table, index: usize, hit: Option<u32>) -> Node {
        let program = self.program;
        let words = &mut *self.scratch.words;
        let state = &mut self.state.tables[index];
        let params = program.param_base as usize;
        let run = match hit {
            Some(at) => {
                let data = table.data_words as usize;
                let record = state.record(at);
                if table.support_timeout {
                    record[1] = self.now;
                }
                if table.count {
                    record[2 + data] += 1;
                    record[3 + data] += self.regs.counted;
                }
                let data = &record[2..2 + data];
                if table.narrow {
                    let (places, _) = words[params..].as_chunks_mut::<2>();
                    for (place, pair) in places.iter_mut().zip(data) {
                        *place = halves(*pair);
                    }
                } else {
                    for (word, value) in words[params..].iter_mut().zip(data) {
                        *word = *value;
                    }
                }
                Run::from_word(record[0])
            }
            None => {
                if table.count && state.default != Run::Nothing {
                    state.default_counter.packets += 1;
                    state.default_counter.bytes += self.regs.counted;
                }
                for (word, value) in words[params..].iter_mut().zip(&state.default_data) {
                    *word = *value;
                }
                state.default
            }
        };
        if let Some(meter) = table.meter
            && (hit.is_some() || state.default_meter.is_some())
        {
            let in_bytes = program.schema.meters[meter.meter.index()].bytes;
            let units = if in_bytes { self.regs.counted } else { 1 };
            // A miss without a meter of the default entry leaves the field alone, as bmv2 does.
            let cell = match hit {
                Some(at) => state.meter_mut(at),
                None => state.default_meter.as_deref_mut(),
            };
            let color = cell.map_or(MeterColor::Green, |m| m.color(self.now, units));
            self.set(meter.target, color as u64);
        }
        let by_outcome = if hit.is_some() {
            table.next_hit
        } else {
            table.next_miss
        };
        let local = match run {
            Run::Action(local) => Some(local),
            Run::Member(member) => self.member(table, index, member),
            Run::Group(group) => self.group_member(table, index, group),
            Run::Nothing => None,
        };
        let action = local.and_then(|local| table.actions.get(local as usize));
        if T::ON {
            self.trace_table(table, index, hit, action.map(|a| a.action));
        }
        let Some(action) = action else {
            return by_outcome.unwrap_or(table.base_default_next);
        };
        self.action(action.action);
        by_outcome.unwrap_or(action.next)
    }

    fn member(&mut self, table: &Table, index: usize, member: u32) -> Option<u32> {
        let profile = self.state.profiles.get(table.profile?.index())?;
        let member = profile.members.get(&MemberId(member))?;
        let base = self.program.param_base as usize;
        let params = self.scratch.words.get_mut(base..base + member.data.len())?;
        params.copy_from_slice(&member.data);
        let local = *self
            .program
            .local_actions
            .get(index)?
            .get(member.action as usize)?;
        (local != u32::MAX).then_some(local)
    }

    /// Chooses a member of the group by the selector's hash.
    fn group_member(&mut self, table: &Table, index: usize, group: u32) -> Option<u32> {
        let profile = table.profile?.index();
        let selector = self.program.profiles.get(profile)?.selector?;
        let hash = self.calculate(selector, &[]);
        let group = self
            .state
            .profiles
            .get(profile)?
            .groups
            .get(&GroupId(group))?;
        let count = group.choices.len() as u64;
        let choice = *group.choices.get(hash.checked_rem(count)? as usize)?;
        self.member(table, index, choice)
    }

    /// Runs an action whose parameters are in place.
    pub(crate) fn action(&mut self, action: u32) {
        let program = self.program;
        let Some(action) = program.actions.get(action as usize) else {
            return;
        };
        if T::ON {
            self.trace_action(action.id);
            return self.run_traced(action);
        }
        if !action.empty {
            self.run(action.entry);
        }
    }

    /// Runs an action one instruction at a time and tells of each primitive that it comes to.
    fn run_traced(&mut self, action: &Action) {
        let mut pc = action.entry as usize;
        let mut left = 1 << 20;
        loop {
            for (start, source, op) in &action.primitives {
                if *start as usize == pc {
                    self.tracer.event(|| Event::Primitive {
                        op: op.clone(),
                        source: source.clone(),
                    });
                }
            }
            left -= 1;
            pc = match alu::run::<true>(&self.program.code, pc, &mut self.scratch.words) {
                Stop::End => return,
                Stop::Effect { index, next } => {
                    self.effect(index);
                    next
                }
                Stop::Next { next } if left > 0 => next,
                Stop::Next { .. } | Stop::Endless => {
                    self.regs.failed = true;
                    return;
                }
            };
        }
    }

    fn trace_condition(&mut self, index: usize, result: bool) {
        if let Some(condition) = self.program.conditions.get(index) {
            self.tracer.event(|| Event::Condition {
                name: condition.name.clone(),
                result,
                source: condition.source.clone(),
            });
        }
    }

    fn trace_action(&mut self, id: ActionId) {
        let program = self.program;
        let words = &self.scratch.words;
        self.tracer.event(|| {
            let schema = program.schema.actions.get(id.index());
            let mut at = program.param_base as usize;
            let params = schema.map(|s| s.params.as_slice()).unwrap_or_default();
            let params = params
                .iter()
                .map(|param| {
                    let end = at + param.width.div_ceil(64);
                    let value = Bits::from_words(words.get(at..end).unwrap_or_default());
                    at = end;
                    (param.name.clone(), value)
                })
                .collect();
            Event::Action {
                name: schema.map(|s| s.name.clone()).unwrap_or_default(),
                params,
                source: program
                    .actions
                    .get(id.index())
                    .and_then(|a| a.source.clone()),
            }
        });
    }

    fn trace_table(&mut self, table: &Table, index: usize, hit: Option<u32>, action: Option<u32>) {
        let program = self.program;
        let state = self.state.tables.get(index);
        let key = self.scratch.key.as_slice();
        self.tracer.event(|| {
            let schema = program.schema.tables.get(index);
            let fields = schema.map(|s| s.key.as_slice()).unwrap_or_default();
            let key = fields.iter().zip(&table.key).map(|(field, part)| {
                let first = part.word as usize;
                let words = key.get(first..first + part.place.words() as usize);
                let mut words: Vec<u64> = words.unwrap_or_default().to_vec();
                for word in &mut words {
                    *word = (*word >> part.shift) & crate::code::layout::mask(part.place.width);
                }
                (field.name.clone(), Bits::from_words(&words))
            });
            let entry = hit.and_then(|at| {
                let state = state?;
                let cold = state.cold(at)?;
                Some(TableEntry {
                    handle: EntryHandle {
                        index: at,
                        generation: state.generation(at),
                    }
                    .to_string(),
                    key: crate::control::key_of(table, state, at),
                    priority: cold.priority,
                })
            });
            let name = |a: u32| {
                program
                    .schema
                    .actions
                    .get(a as usize)
                    .map(|a| a.name.clone())
            };
            Event::Table {
                name: schema.map(|s| s.name.clone()).unwrap_or_default(),
                key: key.collect(),
                hit: hit.is_some(),
                entry,
                action: action.and_then(name),
                source: table.source.clone(),
            }
        });
    }
}

/// Packs the key of `table`: at least the words that are needed.
#[allow(
    clippy::indexing_slicing,
    reason = "the loader sizes the key by its parts"
)]
#[inline]
fn pack_key(table: &Table, needed: u64, words: &Words, key: &mut [u64; MAX_KEY]) {
    if !table.pack_others.is_empty() {
        key[..table.key_words as usize].fill(0);
    }
    for run in &table.pack_words {
        if needed >> (run.word & 63) & 1 == 0 {
            continue;
        }
        let mut word = 0;
        let parts = &table.pack[usize::from(run.first)..usize::from(run.end)];
        if table.guarded {
            for part in parts {
                let value = words[part.slot as usize] & words[part.guard as usize].wrapping_neg();
                word |= value << (part.shift & 63);
            }
        } else {
            for part in parts {
                word |= words[part.slot as usize] << (part.shift & 63);
            }
        }
        key[run.word as usize & (MAX_KEY - 1)] = word;
    }
    for other in &table.pack_others {
        let part = &table.key[*other as usize];
        let absent = part.valid.is_some_and(|valid| words[valid as usize] == 0);
        for i in 0..part.place.words() as usize {
            let bits = part.mask.as_ref().map_or(u64::MAX, |mask| mask[i]);
            let bits = if absent { 0 } else { bits };
            let value = words[part.place.slot as usize + i] & bits;
            let word = &mut key[part.word as usize + i];
            *word |= value << part.shift;
        }
    }
}
