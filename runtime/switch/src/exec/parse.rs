//! The parser at work.

use super::bitio;
use super::exact;
use super::machine::Machine;
use crate::Bits;
use crate::code::layout::{HeaderId, Piece, Place, Slot};
use crate::code::program::{CaseTest, Entry, ParseOp, ParseState, SelectSource};
use crate::trace::{Event, Tracer};

/// States that one packet may pass, so that a parser that goes round without eating ends.
const MAX_STATES: u32 = 4096;

impl<T: Tracer> Machine<'_, T> {
    /// Parses `packet`, sets `parser_error` and gives how many bytes were eaten. Whatever was
    /// parsed before an error stays.
    pub(crate) fn parse(&mut self, packet: &[u8]) -> usize {
        let program = self.program;
        let mut offset = 0;
        let mut error = program.errors.no_error;
        let mut next = program.start;
        let mut left = MAX_STATES;
        while let Some(state) = next.and_then(|state| program.states.get(state as usize)) {
            self.tracer.event(|| Event::State {
                name: state.name.clone(),
            });
            let result = match left.checked_sub(1) {
                Some(rest) => {
                    left = rest;
                    self.state(state, packet, &mut offset)
                }
                None => Err(program.errors.parser_timeout),
            };
            match result {
                Ok(state) => next = state,
                Err(code) => {
                    error = code;
                    self.out.drops.parser_errors += 1;
                    self.total.parser_errors += 1;
                    self.tracer.event(|| Event::ParserError {
                        error: error_name(program, code),
                        offset,
                    });
                    break;
                }
            }
        }
        self.set(program.standard.parser_error, error);
        offset.min(packet.len())
    }

    fn state(
        &mut self,
        state: &ParseState,
        packet: &[u8],
        offset: &mut usize,
    ) -> Result<Option<u32>, u64> {
        for op in &state.ops {
            self.parse_op(op, packet, offset)?;
            if self.regs.failed {
                return Ok(None);
            }
        }
        if state.cases.is_empty() {
            return Ok(state.default);
        }
        if state.key_words == 1 {
            let mut key = 0;
            for part in &state.key {
                let value = match &part.source {
                    SelectSource::Place(place) => self.word(place.slot),
                    SelectSource::Computed { entry, place } => {
                        self.run(*entry);
                        self.word(place.slot)
                    }
                    SelectSource::Lookahead { offset: at, bits } => {
                        bitio::read(packet, *offset * 8 + *at as usize, *bits)
                    }
                };
                key |= value << part.shift;
            }
            if let Some(narrow) = &state.narrow {
                let hit = narrow.iter().find(|(value, mask, _)| key & mask == *value);
                return Ok(hit.map_or(state.default, |(_, _, next)| *next));
            }
            for case in &state.cases {
                let hit = match &case.test {
                    CaseTest::Value { value, mask } => match (value.as_slice(), mask.as_slice()) {
                        ([value], [mask]) => key & mask == *value,
                        _ => false,
                    },
                    CaseTest::Set { set, mask } => self.in_set(*set, &[key], mask),
                };
                if hit {
                    return Ok(case.next);
                }
            }
            return Ok(state.default);
        }
        self.wide_key(state, packet, *offset);
        let key = std::mem::take(&mut self.scratch.select);
        let next = state.cases.iter().find(|case| match &case.test {
            CaseTest::Value { value, mask } => key
                .iter()
                .zip(mask)
                .zip(value)
                .all(|((k, m), v)| k & m == *v),
            CaseTest::Set { set, mask } => self.in_set(*set, &key, mask),
        });
        let next = next.map_or(state.default, |case| case.next);
        self.scratch.select = key;
        Ok(next)
    }

    fn in_set(&self, set: u32, key: &[u64], mask: &[u64]) -> bool {
        self.state.sets.get(set as usize).is_some_and(|members| {
            members.iter().any(|member| {
                key.iter()
                    .zip(mask)
                    .zip(member.value.iter().zip(&member.mask))
                    .all(|((k, m), (v, member_mask))| (k ^ v) & m & member_mask == 0)
            })
        })
    }

    /// A select key of more than 64 bits, into the scratch key.
    fn wide_key(&mut self, state: &ParseState, packet: &[u8], offset: usize) {
        let mut key = std::mem::take(&mut self.scratch.select);
        key.clear();
        key.resize(state.key_words as usize, 0);
        for part in &state.key {
            let mut put = |i: u32, word: u64| {
                let at = part.shift + i * 64;
                let (index, shift) = ((at / 64) as usize, at % 64);
                if let Some(target) = key.get_mut(index) {
                    *target |= word << shift;
                }
                if shift > 0
                    && let Some(target) = key.get_mut(index + 1)
                {
                    *target |= word >> (64 - shift);
                }
            };
            match &part.source {
                SelectSource::Place(place) | SelectSource::Computed { place, .. } => {
                    if let SelectSource::Computed { entry, .. } = &part.source {
                        self.run(*entry);
                    }
                    for i in 0..place.words() {
                        put(i, self.word(place.slot + i as Slot));
                    }
                }
                SelectSource::Lookahead { offset: at, bits } => {
                    let start = offset * 8 + *at as usize;
                    for i in 0..bits.div_ceil(64) {
                        let width = (bits - i * 64).min(64);
                        let first = start + (bits - i * 64 - width) as usize;
                        put(i, bitio::read(packet, first, width));
                    }
                }
            }
        }
        self.scratch.select = key;
    }

    fn parse_op(&mut self, op: &ParseOp, packet: &[u8], offset: &mut usize) -> Result<(), u64> {
        let errors = self.program.errors;
        match op {
            ParseOp::Extract(header) => self.extract(*header, None, packet, offset)?,
            ParseOp::ExtractVarbit {
                header,
                entry,
                bits,
            } => {
                self.extract(*header, Some((*entry, *bits)), packet, offset)?;
            }
            ParseOp::ExtractStack { stack, varbit } => {
                let stack = self.program.layout.stacks.get(*stack as usize);
                let Some(stack) = stack else { return Ok(()) };
                let next = self.word(stack.next);
                let element = stack.elements.get(next as usize).and_then(|e| e.first());
                let Some(header) = element else {
                    return Err(errors.stack_out_of_bounds);
                };
                self.extract(*header, *varbit, packet, offset)?;
                self.set_word(stack.next, next + 1);
            }
            ParseOp::ExtractUnionStack {
                stack,
                member,
                varbit,
            } => {
                let stack = self.program.layout.union_stacks.get(*stack as usize);
                let Some(stack) = stack else { return Ok(()) };
                let next = self.word(stack.next);
                let element = stack
                    .elements
                    .get(next as usize)
                    .and_then(|e| e.get(*member));
                let Some(header) = element else {
                    return Err(errors.stack_out_of_bounds);
                };
                self.extract(*header, *varbit, packet, offset)?;
                self.set_word(stack.next, next + 1);
            }
            ParseOp::Run(entry) => self.run(*entry),
            ParseOp::SetLookahead {
                target,
                offset: at,
                bits,
            } => {
                let start = *offset * 8 + *at as usize;
                if start + *bits as usize > packet.len() * 8 {
                    return Err(errors.packet_too_short);
                }
                self.set_from_packet(*target, packet, start, *bits);
            }
            ParseOp::Verify {
                entry,
                condition,
                error,
            } => {
                self.run(*entry);
                if self.word(*condition) == 0 {
                    return Err(self.word(*error));
                }
            }
            ParseOp::Advance { entry, bits } => {
                self.run(*entry);
                let bits = self.word(*bits) as usize;
                if !bits.is_multiple_of(8) {
                    return Err(errors.parser_invalid_argument);
                }
                if packet.len() - *offset < bits / 8 {
                    return Err(errors.packet_too_short);
                }
                *offset += bits / 8;
            }
        }
        Ok(())
    }

    fn set_from_packet(&mut self, target: Place, packet: &[u8], start: usize, bits: u32) {
        if bits <= 64 {
            let value = bitio::read(packet, start, bits);
            return self.set(target, value);
        }
        let mut words = vec![0; bits.div_ceil(64) as usize];
        bitio::read_wide(packet, start, bits, &mut words);
        for i in 0..target.words() {
            let mut word = words.get(i as usize).copied().unwrap_or(0);
            if i + 1 == target.words() {
                word &= target.top_mask();
            }
            self.set_word(target.slot + i as Slot, word);
        }
    }

    fn extract(
        &mut self,
        id: HeaderId,
        varbit: Option<(Entry, Slot)>,
        packet: &[u8],
        offset: &mut usize,
    ) -> Result<(), u64> {
        let program = self.program;
        let errors = program.errors;
        let header = program.layout.header(id);
        let mut variable = 0;
        if let Some((entry, slot)) = varbit {
            self.run(entry);
            variable = self.word(slot) as usize;
            if !variable.is_multiple_of(8) {
                return Err(errors.parser_invalid_argument);
            }
        }
        let bytes = header.fixed_bits as usize / 8 + variable / 8;
        let Some(data) = packet.get(*offset..).and_then(|rest| rest.get(..bytes)) else {
            return Err(errors.packet_too_short);
        };
        let room = header
            .varbit
            .and_then(|i| header.fields.get(i))
            .map_or(0, |f| f.place.width);
        let too_long = header.max_bytes != 0 && bytes > header.max_bytes as usize;
        if variable > room as usize || (variable > 0 && too_long) {
            return Err(errors.header_too_short);
        }
        if let Some(plan) = &header.plan
            && let Some(padded) = packet.get(*offset..*offset + bytes + 7)
        {
            self.extract_plan(plan, padded);
        } else if let Some(plan) = &header.plan
            && bytes <= Window::FIXED
        {
            self.extract_plan(plan, &Window::new(data).bytes);
        } else {
            let mut shift = 0;
            for field in &header.fields {
                let at = field.offset as usize + shift;
                match field.length {
                    None if field.place.width <= 64 => {
                        let value = bitio::read(data, at, field.place.width);
                        self.set_word(field.place.slot, value);
                    }
                    None => self.extract_wide(field.place, data, at, field.place.width),
                    Some(length) => {
                        self.extract_wide(field.place, data, at, variable as u32);
                        self.set_word(length, variable as u64);
                        shift = variable;
                    }
                }
            }
        }
        self.set_valid(id, true);
        *offset += bytes;
        self.trace_extract(id);
        Ok(())
    }

    /// Extracts by plan from bytes with seven more behind the header.
    #[inline]
    fn extract_plan(&mut self, plan: &[Piece], data: &[u8]) {
        for piece in plan {
            let first = usize::from(piece.byte);
            let Some(Ok(bytes)) = data.get(first..first + 8).map(<[u8; 8]>::try_from) else {
                continue;
            };
            let value = (u64::from_be_bytes(bytes) >> (piece.shift & 63)) & piece.mask;
            self.set_word(piece.slot, value);
        }
    }

    fn extract_wide(&mut self, place: Place, data: &[u8], at: usize, bits: u32) {
        let first = place.slot as usize;
        if let Some(words) = self
            .scratch
            .words
            .get_mut(first..first + place.words() as usize)
        {
            words.fill(0);
            bitio::read_wide(data, at, bits, words);
        }
    }

    fn trace_extract(&mut self, id: HeaderId) {
        let program = self.program;
        let words = self.scratch.words.as_slice();
        self.tracer.event(|| {
            let header = program.layout.header(id);
            let value = |place| Bits::from_be_bytes(&exact::load(words, place).to_bytes_be().1);
            let fields = header
                .fields
                .iter()
                .map(|f| (f.name.clone(), value(f.place)))
                .collect();
            Event::Extract {
                header: header.name.clone(),
                fields,
            }
        });
    }
}

/// A header's bytes with room behind them, so that eight bytes can be read anywhere.
struct Window {
    bytes: [u8; Window::FIXED + 9],
}

impl Window {
    const FIXED: usize = 64;

    #[inline]
    fn new(data: &[u8]) -> Self {
        let mut bytes = [0; Window::FIXED + 9];
        if let Some(place) = bytes.get_mut(..data.len()) {
            place.copy_from_slice(data);
        }
        Window { bytes }
    }
}

/// The name of a parser error, or its number.
pub(crate) fn error_name(program: &crate::code::program::Program, code: u64) -> String {
    let known = program
        .schema
        .errors
        .iter()
        .find(|(_, value)| **value == code);
    known.map_or_else(|| code.to_string(), |(name, _)| name.clone())
}
