//! The primitives that are more than arithmetic.

use super::calc;
use super::exact;
use super::machine::{Counted, Machine};
use crate::code::expr::Target;
use crate::code::layout::{HeaderId, Place, Slot};
use crate::code::program::{Effect, StackRef};
use crate::control::MeterColor;
use crate::table::prefetch;
use crate::trace::{Event, Tracer};

impl<T: Tracer> Machine<'_, T> {
    pub(crate) fn effect(&mut self, index: u32) {
        let program = self.program;
        let Some(effect) = program.effects.get(index as usize) else {
            return;
        };
        match effect {
            Effect::Assign { target, value } => {
                let value = self.reader().num(value);
                if let Some(place) = self.resolve(target) {
                    exact::store(self.scratch.words.as_mut_slice(), place, &value);
                }
            }
            Effect::Evaluate { slot, words, value } => {
                let value = self.reader().num(value);
                let place = Place::unsigned(*slot, words * 64);
                exact::store(self.scratch.words.as_mut_slice(), place, &value);
            }
            Effect::Decide { slot, value } => {
                let value = self.reader().bool(value);
                self.set_word(*slot, u64::from(value));
            }
            Effect::AssignVarbit { target, source } => {
                let bits = self.word(source.length).min(u64::from(target.place.width));
                let (from, to) = (source.place.slot as usize, target.place.slot as usize);
                let words = source.place.words().min(target.place.words()) as usize;
                self.scratch.words.copy_within(from..from + words, to);
                self.set_word(target.length, bits);
            }
            Effect::AssignHeader { target, source } => self.assign_header(*target, *source),
            Effect::AssignHeaderDynamic { target, source } => {
                let (target, source) = (self.reader().header(target), self.reader().header(source));
                match (target, source) {
                    (Some(target), Some(source)) => self.assign_header(target, source),
                    (Some(target), None) => self.set_valid(target, false),
                    _ => {}
                }
            }
            Effect::AssignStack { target, source } => self.assign_stack(*target, *source),
            Effect::AddHeader { header } => self.add_header(*header),
            Effect::RemoveHeader { header } => self.remove_header(*header),
            Effect::SetValidDynamic { header, valid } => match self.reader().header(header) {
                Some(header) if *valid => self.add_header(header),
                Some(header) => self.remove_header(header),
                None => {}
            },
            Effect::Push { stack, count } => {
                let count = self.word(*count) as usize;
                self.shift_stack(*stack, count, true);
            }
            Effect::Pop { stack, count } => {
                let count = self.word(*count) as usize;
                self.shift_stack(*stack, count, false);
            }
            Effect::Count { counter, index } => {
                // bmv2 takes the index as 32 bits.
                let cell = self.word(*index) as u32;
                let cells = self.state.counters.get(counter.index());
                if let Some(cell) = cells.and_then(|cells| cells.get(cell as usize)) {
                    prefetch(cell);
                }
                self.scratch.counts.push(Counted {
                    counter: *counter,
                    cell,
                    bytes: self.regs.counted,
                });
            }
            Effect::Meter {
                meter,
                index,
                target,
            } => {
                let at = self.word(*index) as u32 as usize;
                let in_bytes = program
                    .schema
                    .meters
                    .get(meter.index())
                    .is_some_and(|m| m.bytes);
                let units = if in_bytes { self.regs.counted } else { 1 };
                let now = self.now;
                let array = self.state.meters.get_mut(meter.index());
                if let Some(cell) = array.and_then(|array| array.get_mut(at)) {
                    let color = cell
                        .as_mut()
                        .map_or(MeterColor::Green, |m| m.color(now, units));
                    self.set(*target, color as u64);
                }
            }
            Effect::RegisterRead {
                register,
                index,
                target,
            } => {
                let at = self.word(*index) as u32 as usize;
                let width = program
                    .schema
                    .registers
                    .get(register.index())
                    .map_or(0, |r| r.width);
                if let Some(cell) = self.state.register(register.index(), at) {
                    if width <= 64 {
                        let value = cell.first().copied().unwrap_or(0);
                        self.set(*target, value);
                    } else {
                        let value = cell.to_vec();
                        self.set_words(*target, &value);
                    }
                }
            }
            Effect::RegisterWrite {
                register,
                index,
                source,
            } => {
                let at = self.word(*index) as u32 as usize;
                let from = source.slot as usize;
                let words = self.scratch.words.get(from..from + source.words() as usize);
                if let (Some(cell), Some(words)) =
                    (self.state.register_mut(register.index(), at), words)
                {
                    cell.copy_from_slice(words);
                }
            }
            Effect::Hash {
                calculation,
                base,
                max,
                target,
            } => {
                let (base, max) = (self.word(*base), self.word(*max));
                let hash = self.calculate(*calculation, &[]);
                // The usual hash is below its bound, and division is slow.
                let rest = if hash < max { hash } else { hash % max.max(1) };
                self.set(*target, rest.wrapping_add(base));
            }
            Effect::Random { low, high, target } => {
                let (low, high) = (self.word(*low), self.word(*high));
                if low <= high {
                    let value = self.state.random(low, high);
                    self.set(*target, value);
                }
            }
            Effect::Digest { digest } => self.regs.digest = Some(*digest),
            Effect::Clone {
                session,
                field_list,
            } => {
                self.regs.clone = Some((self.word(*session), self.word(*field_list)));
            }
            Effect::Resubmit { field_list } => self.regs.resubmit = self.word(*field_list),
            Effect::Recirculate { field_list } => self.regs.recirculate = self.word(*field_list),
            Effect::Truncate { length } => {
                let length = usize::try_from(self.word(*length)).unwrap_or(usize::MAX);
                self.regs.truncate = self.regs.truncate.min(length);
            }
            Effect::Exit => {
                self.regs.exit = true;
                self.tracer.event(|| Event::Exit);
            }
            Effect::Assert { condition } => {
                if self.word(*condition) == 0 {
                    self.regs.failed = true;
                }
            }
            Effect::Log { format, args } => {
                let words = self.scratch.words.as_slice();
                self.tracer.event(|| Event::Log {
                    text: log_text(format, args, words),
                });
            }
        }
    }

    fn resolve(&self, target: &Target) -> Option<Place> {
        match target {
            Target::Place(place) => Some(*place),
            Target::FieldOf(header, field) => {
                let header = self.reader().header(header)?;
                self.program
                    .layout
                    .header(header)
                    .fields
                    .get(*field)
                    .map(|f| f.place)
            }
        }
    }

    fn set_words(&mut self, place: Place, value: &[u64]) {
        for i in 0..place.words() {
            let mut word = value.get(i as usize).copied().unwrap_or(0);
            if i + 1 == place.words() {
                word &= place.top_mask();
            }
            self.set_word(place.slot + i as Slot, word);
        }
    }

    /// The result of a calculation over the packet as it is now.
    pub(crate) fn calculate(&mut self, calculation: u32, payload: &[u8]) -> u64 {
        let index = calculation as usize;
        let Some(calculation) = self.program.calculations.get(index) else {
            return 0;
        };
        if let Some(sum) = &calculation.sum {
            return u64::from(calc::sum(sum, &self.scratch.words));
        }
        let mut buffer = std::mem::take(&mut self.scratch.bytes);
        let layout = &self.program.layout;
        calc::gather(
            calculation,
            layout,
            &self.scratch.words,
            payload,
            &mut buffer,
        );
        let result = calc::compute(calculation.algorithm, &buffer, self.state, index);
        self.scratch.bytes = buffer;
        result
    }

    fn assign_header(&mut self, target: HeaderId, source: HeaderId) {
        if !self.valid(source) && !self.program.layout.header(source).metadata {
            return self.set_valid(target, false);
        }
        let (to, from) = (
            self.program.layout.header(target),
            self.program.layout.header(source),
        );
        let words = to.words.min(from.words) as usize;
        let (to, from) = (to.base as usize, from.base as usize);
        self.scratch.words.copy_within(from..from + words, to);
        self.set_valid(target, true);
    }

    fn add_header(&mut self, header: HeaderId) {
        if self.valid(header) {
            return;
        }
        let layout = self.program.layout.header(header);
        let (first, words) = (layout.base as usize, layout.words as usize);
        if let Some(words) = self.scratch.words.get_mut(first..first + words) {
            words.fill(0);
        }
        self.set_valid(header, true);
        self.regs.length += u64::from(layout.fixed_bits / 8);
    }

    fn remove_header(&mut self, header: HeaderId) {
        if !self.valid(header) {
            return;
        }
        let bytes = self.header_bytes(header);
        self.regs.length = self.regs.length.saturating_sub(bytes);
        self.set_valid(header, false);
    }

    /// Length of a header as it stands, with its field of variable length.
    pub(crate) fn header_bytes(&self, header: HeaderId) -> u64 {
        let header = self.program.layout.header(header);
        let length = header.varbit.and_then(|i| header.fields.get(i)?.length);
        (u64::from(header.fixed_bits) + length.map_or(0, |slot| self.word(slot))) / 8
    }

    fn assign_stack(&mut self, target: StackRef, source: StackRef) {
        let layout = &self.program.layout;
        let stack = |stack: StackRef| match stack {
            StackRef::Headers(stack) => layout.stacks.get(stack as usize),
            StackRef::Unions(stack) => layout.union_stacks.get(stack as usize),
        };
        let (Some(target), Some(source)) = (stack(target), stack(source)) else {
            return;
        };
        let next = self.word(source.next);
        self.set_word(target.next, next);
        for (target, source) in target.elements.iter().zip(&source.elements) {
            for (target, source) in target.iter().zip(source) {
                // Members of a union one by one: an invalid one must not invalidate a valid peer.
                if self.valid(*source) || !self.valid(*target) {
                    self.assign_header(*target, *source);
                } else {
                    self.set_valid(*target, false);
                }
            }
        }
    }

    /// `push_front` and `pop_front` (P4_16, section 8.18).
    fn shift_stack(&mut self, stack: StackRef, count: usize, push: bool) {
        let layout = &self.program.layout;
        let found = match stack {
            StackRef::Headers(stack) => layout.stacks.get(stack as usize),
            StackRef::Unions(stack) => layout.union_stacks.get(stack as usize),
        };
        let Some(stack) = found else { return };
        let size = stack.elements.len();
        let count = count.min(size);
        if count == 0 {
            return;
        }
        let next = self.word(stack.next) as usize;
        let next = if push {
            (next + count).min(size)
        } else {
            next.saturating_sub(count)
        };
        self.set_word(stack.next, next as u64);
        let moves: &mut dyn Iterator<Item = (usize, Option<usize>)> = if push {
            &mut (0..size).rev().map(|i| (i, i.checked_sub(count)))
        } else {
            &mut (0..size).map(|i| (i, Some(i + count).filter(|from| *from < size)))
        };
        for (to, from) in moves {
            let Some(targets) = stack.elements.get(to) else {
                continue;
            };
            let sources = from.and_then(|from| stack.elements.get(from));
            for (member, target) in targets.iter().enumerate() {
                match sources.and_then(|sources| sources.get(member)) {
                    Some(source) => {
                        let (to, from) = (layout.header(*target), layout.header(*source));
                        let words = to.words.min(from.words) as usize;
                        let (to, from) = (to.base as usize, from.base as usize);
                        self.scratch.words.copy_within(from..from + words, to);
                    }
                    None => self.set_word(layout.header(*target).valid, 0),
                }
            }
        }
    }
}

/// A `log_msg` with its values in place of the braces.
fn log_text(format: &str, args: &[Place], words: &[u64]) -> String {
    let mut text = String::new();
    let mut args = args.iter();
    let mut pieces = format.split("{}");
    text.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        match args.next() {
            Some(place) => text.push_str(&exact::load(words, *place).to_string()),
            None => text.push_str("{}"),
        }
        text.push_str(piece);
    }
    text
}
