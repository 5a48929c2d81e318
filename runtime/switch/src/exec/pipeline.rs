//! The control flow: conditions, tables, actions.

use super::machine::{MAX_KEY, Machine};
use crate::code::program::{Node, Table};
use crate::control::{EntryHandle, MeterColor};
use crate::table::Run;
use crate::trace::{Event, TableEntry, Tracer};
use crate::{ActionId, Bits, GroupId, MemberId};

impl<T: Tracer> Machine<'_, T> {
    /// Runs a pipeline from `node` until its end, an exit or a failed assertion.
    pub(crate) fn pipeline(&mut self, mut node: Node) {
        let program = self.program;
        // A control flow graph has no circles in P4; a JSON may.
        let mut left = 1 << 16;
        while !self.regs.exit && !self.regs.failed && left > 0 {
            left -= 1;
            node = match node {
                Node::End => return,
                Node::Condition(index) => {
                    let Some(condition) = program.conditions.get(index as usize) else {
                        return;
                    };
                    let result = self.check(condition.check);
                    self.tracer.event(|| Event::Condition {
                        name: condition.name.clone(),
                        result,
                        source: condition.source.clone(),
                    });
                    if result {
                        condition.then
                    } else {
                        condition.otherwise
                    }
                }
                Node::Call(index) => {
                    let Some(call) = program.calls.get(index as usize) else {
                        return;
                    };
                    self.action(call.action);
                    call.next
                }
                Node::Table(index) => {
                    let Some(table) = program.tables.get(index as usize) else {
                        return;
                    };
                    self.table(table, index as usize)
                }
            };
        }
    }

    /// Packs the key of `table` into the scratch key.
    #[allow(
        clippy::indexing_slicing,
        reason = "the loader sizes the key by its parts"
    )]
    #[inline]
    fn pack_key(&mut self, table: &Table) {
        let words = &self.scratch.words;
        let key = &mut self.scratch.key;
        if !table.pack_others.is_empty() {
            key[..table.key_words as usize].fill(0);
        }
        for part in &table.pack {
            let value = words[part.slot as usize] & words[part.guard as usize].wrapping_neg();
            let word = &mut key[part.word as usize & (MAX_KEY - 1)];
            *word = *word & part.keep | value << (part.shift & 63);
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

    #[expect(
        clippy::indexing_slicing,
        reason = "there is one table state per table of the program"
    )]
    fn table(&mut self, table: &Table, index: usize) -> Node {
        if !T::ON
            && let Some((action, next)) = table.fixed
        {
            self.action(action);
            return next;
        }
        let hit = if table.key.is_empty() || self.state.tables[index].len() == 0 {
            if T::ON {
                self.pack_key(table);
            }
            None
        } else {
            self.pack_key(table);
            self.state.tables[index].lookup(&self.scratch.key[..table.key_words as usize])
        };
        let run = match hit {
            Some(at) => {
                let (now, bytes) = (self.now, self.regs.counted);
                let state = &mut self.state.tables[index];
                if table.support_timeout {
                    state.touch(at, now);
                }
                if table.count {
                    state.count(at, bytes);
                }
                if let Some(meter) = table.meter {
                    let in_bytes = self.program.schema.meters[meter.meter.index()].bytes;
                    let units = if in_bytes { bytes } else { 1 };
                    let cell = state.meter_mut(at);
                    let color = cell.map_or(MeterColor::Green, |m| m.color(now, units));
                    self.set(meter.target, color as u64);
                }
                self.state.tables[index].hot(at).run
            }
            None => {
                let bytes = self.regs.counted;
                let state = &mut self.state.tables[index];
                if table.count && state.default != Run::Nothing {
                    state.default_counter.packets += 1;
                    state.default_counter.bytes += bytes;
                }
                state.default
            }
        };
        let by_outcome = if hit.is_some() {
            table.next_hit
        } else {
            table.next_miss
        };
        let local = match run {
            Run::Action(local) => {
                self.load_data(hit, index);
                Some(local)
            }
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

    /// Puts an entry's or the default's data where the action's parameters are.
    #[expect(
        clippy::indexing_slicing,
        reason = "data and parameters were sized by the loader"
    )]
    #[inline]
    fn load_data(&mut self, hit: Option<u32>, index: usize) {
        let state = &self.state.tables[index];
        let data = match hit {
            Some(at) => state.data(at),
            None => &state.default_data,
        };
        let base = self.program.param_base as usize;
        for (word, value) in self.scratch.words[base..].iter_mut().zip(data) {
            *word = *value;
        }
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
            for (_, source, op) in &action.primitives {
                self.tracer.event(|| Event::Primitive {
                    op: op.clone(),
                    source: source.clone(),
                });
            }
        }
        if !action.empty {
            self.run(action.entry);
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
                    key: cold.key.key.clone(),
                    priority: cold.entry.priority,
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
