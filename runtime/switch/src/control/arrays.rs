//! Indirect counters, meters and registers, and parser value sets.

use super::{CounterValue, Match, MeterRate, Result, ValueSetMember};
use crate::exec::state::SetMember;
use crate::meter::Meter;
use crate::schema::MatchKind;
use crate::{Bits, ControlError, CounterId, MeterId, RegisterId, Switch, ValueSetId};

pub(super) fn check_rates(rates: Option<&[MeterRate; 2]>) -> Result<()> {
    let Some([committed, peak]) = rates else {
        return Ok(());
    };
    if !(committed.per_micro >= 0.0 && peak.per_micro.is_finite()) {
        return Err(ControlError::BadMeterConfig("rates are numbers from 0"));
    }
    if committed.per_micro > peak.per_micro {
        return Err(ControlError::BadMeterConfig(
            "the committed rate is above the peak rate",
        ));
    }
    Ok(())
}

impl Switch {
    fn outside(name: &str, index: usize, size: usize) -> ControlError {
        ControlError::IndexOutOfRange {
            name: name.to_owned(),
            index,
            size,
        }
    }

    fn counter_cell(&mut self, counter: CounterId, index: usize) -> Result<&mut CounterValue> {
        let program = self.program.as_deref().ok_or(ControlError::NoPipeline)?;
        let schema = program.schema.counters.get(counter.index());
        let schema = schema.ok_or(ControlError::NoSuchCounter(counter))?;
        let cells = self.state.counters.get_mut(counter.index());
        let cell = cells.and_then(|cells| cells.get_mut(index));
        cell.ok_or_else(|| Self::outside(&schema.name, index, schema.size))
    }

    /// Reads a cell of an indirect counter.
    ///
    /// # Errors
    /// When there is no such counter or cell; direct counters have no cells.
    pub fn counter_read(&self, counter: CounterId, index: usize) -> Result<CounterValue> {
        let schema = self.program()?.schema.counters.get(counter.index());
        let schema = schema.ok_or(ControlError::NoSuchCounter(counter))?;
        let cells = self.state.counters.get(counter.index());
        let cell = cells.and_then(|cells| cells.get(index)).copied();
        cell.ok_or_else(|| Self::outside(&schema.name, index, schema.size))
    }

    /// Writes a cell of an indirect counter.
    ///
    /// # Errors
    /// As [`Switch::counter_read`].
    pub fn counter_write(
        &mut self,
        counter: CounterId,
        index: usize,
        value: CounterValue,
    ) -> Result<()> {
        *self.counter_cell(counter, index)? = value;
        Ok(())
    }

    /// Zeroes a whole array; a direct one in all entries.
    ///
    /// # Errors
    /// When there is no such counter.
    pub fn counter_reset(&mut self, counter: CounterId) -> Result<()> {
        let program = self.program.as_deref().ok_or(ControlError::NoPipeline)?;
        let schema = program.schema.counters.get(counter.index());
        let schema = schema.ok_or(ControlError::NoSuchCounter(counter))?;
        if let Some(cells) = self.state.counters.get_mut(counter.index()) {
            cells.fill(CounterValue::default());
        }
        if let Some(table) = schema.table
            && let Some(state) = self.state.tables.get_mut(table.index())
        {
            state.reset_counters();
        }
        Ok(())
    }

    /// The rates of a meter's cell; `None` if none are set.
    ///
    /// # Errors
    /// When there is no such meter or cell; direct meters have no cells.
    pub fn meter_config(&self, meter: MeterId, index: usize) -> Result<Option<[MeterRate; 2]>> {
        let schema = self.program()?.schema.meters.get(meter.index());
        let schema = schema.ok_or(ControlError::NoSuchMeter(meter))?;
        let cells = self.state.meters.get(meter.index());
        match cells.and_then(|cells| cells.get(index)) {
            Some(cell) => Ok(cell.as_ref().map(|meter| meter.rates())),
            None => Err(Self::outside(&schema.name, index, schema.size)),
        }
    }

    /// Sets the rates of a meter's cell, committed first, and fills its buckets; `None` takes the
    /// rates away: every packet is green.
    ///
    /// # Errors
    /// As [`Switch::meter_config`], and when the rates are not in rising order.
    pub fn meter_set(
        &mut self,
        meter: MeterId,
        index: usize,
        rates: Option<[MeterRate; 2]>,
    ) -> Result<()> {
        self.meter_config(meter, index)?;
        check_rates(rates.as_ref())?;
        let cells = self.state.meters.get_mut(meter.index());
        if let Some(cell) = cells.and_then(|cells| cells.get_mut(index)) {
            *cell = rates.map(|rates| Box::new(Meter::new(rates)));
        }
        Ok(())
    }

    /// Reads a register's cell.
    ///
    /// # Errors
    /// When there is no such register or cell.
    pub fn register_read(&self, register: RegisterId, index: usize) -> Result<Bits> {
        let schema = self.program()?.schema.registers.get(register.index());
        let schema = schema.ok_or(ControlError::NoSuchRegister(register))?;
        match self.state.register(register.index(), index) {
            Some(cell) => Ok(Bits::from_words(cell)),
            None => Err(Self::outside(&schema.name, index, schema.size)),
        }
    }

    /// Writes a register's cell.
    ///
    /// # Errors
    /// When there is no such register or cell, or the value is too wide for it.
    pub fn register_write(
        &mut self,
        register: RegisterId,
        index: usize,
        value: Bits,
    ) -> Result<()> {
        let schema = self.program()?.schema.registers.get(register.index());
        let schema = schema.ok_or(ControlError::NoSuchRegister(register))?;
        let (width, name, size) = (schema.width, schema.name.clone(), schema.size);
        if !value.fits(width) {
            return Err(ControlError::ValueTooWide { value, width });
        }
        match self.state.register_mut(register.index(), index) {
            Some(cell) => {
                cell.copy_from_slice(&value.to_words(width));
                Ok(())
            }
            None => Err(Self::outside(&name, index, size)),
        }
    }

    /// Zeroes a whole register array.
    ///
    /// # Errors
    /// When there is no such register.
    pub fn register_reset(&mut self, register: RegisterId) -> Result<()> {
        let schema = self.program()?.schema.registers.get(register.index());
        schema.ok_or(ControlError::NoSuchRegister(register))?;
        self.state.reset_register(register.index());
        Ok(())
    }

    fn set_member(&self, set: ValueSetId, member: &ValueSetMember) -> Result<SetMember> {
        let program = self.program()?;
        let schema = program.schema.value_sets.get(set.index());
        let schema = schema.ok_or(ControlError::NoSuchValueSet(set))?;
        if member.len() != schema.widths.len() {
            return Err(ControlError::BadKeyLength {
                expected: schema.widths.len(),
                found: member.len(),
            });
        }
        let shape = program
            .set_shapes
            .get(set.index())
            .cloned()
            .unwrap_or_default();
        let words = shape.words as usize;
        let mut compiled = SetMember {
            member: member.clone(),
            value: vec![0; words],
            mask: vec![0; words],
        };
        for (i, (given, width)) in member.iter().zip(&schema.widths).enumerate() {
            let bad = |why| ControlError::BadKey {
                field: format!("field {}", i + 1),
                why,
            };
            let all = || vec![u64::MAX; width.div_ceil(64)];
            let (value, mask) = match given {
                Match::Exact(value) => (value.clone(), all()),
                Match::Ternary { value, mask } => (value.clone(), mask.to_words(*width)),
                Match::Lpm { value, prefix_len } => {
                    let free = width.saturating_sub(*prefix_len);
                    let mask = (0..width.div_ceil(64)).map(|i| {
                        !crate::code::layout::mask(free.saturating_sub(i * 64).min(64) as u32)
                    });
                    (value.clone(), mask.collect())
                }
                Match::Any => (Bits::from(0u64), vec![0; width.div_ceil(64)]),
                Match::Range { .. } => {
                    return Err(bad(crate::error::BadField::Kind {
                        expected: MatchKind::Ternary,
                    }));
                }
            };
            if !value.fits(*width) {
                return Err(bad(crate::error::BadField::TooWide {
                    value,
                    width: *width,
                }));
            }
            let Some((_, shift)) = shape.fields.get(i).copied() else {
                continue;
            };
            let field = value.to_words(*width);
            for (word, bits) in field.iter().zip(&mask).enumerate() {
                let left = width - word * 64;
                let ones = crate::code::layout::mask(left.min(64) as u32);
                let (value, mask) = (bits.0 & bits.1, bits.1 & ones);
                let at = shift as usize + word * 64;
                for (target, source) in [(&mut compiled.value, value), (&mut compiled.mask, mask)] {
                    if let Some(target) = target.get_mut(at / 64) {
                        *target |= source << (at % 64);
                    }
                    if !at.is_multiple_of(64)
                        && let Some(target) = target.get_mut(at / 64 + 1)
                    {
                        *target |= source >> (64 - at % 64);
                    }
                }
            }
        }
        Ok(compiled)
    }

    /// Adds a member to a parser value set: one match a field.
    ///
    /// # Errors
    /// When it is there already, does not fit, or the set is full.
    pub fn value_set_insert(&mut self, set: ValueSetId, member: ValueSetMember) -> Result<()> {
        let compiled = self.set_member(set, &member)?;
        let schema = self.program()?.schema.value_sets.get(set.index());
        let (size, name) = schema.map(|s| (s.size, s.name.clone())).unwrap_or_default();
        let Some(members) = self.state.sets.get_mut(set.index()) else {
            return Err(ControlError::NoSuchValueSet(set));
        };
        let same = |m: &SetMember| m.value == compiled.value && m.mask == compiled.mask;
        if members.iter().any(same) {
            return Err(ControlError::AlreadyExists);
        }
        if size > 0 && members.len() >= size {
            return Err(ControlError::TableFull { name, size });
        }
        members.push(compiled);
        Ok(())
    }

    /// Takes a member away.
    ///
    /// # Errors
    /// When it is not there.
    pub fn value_set_delete(&mut self, set: ValueSetId, member: &ValueSetMember) -> Result<()> {
        let compiled = self.set_member(set, member)?;
        let Some(members) = self.state.sets.get_mut(set.index()) else {
            return Err(ControlError::NoSuchValueSet(set));
        };
        let same = |m: &SetMember| m.value == compiled.value && m.mask == compiled.mask;
        match members.iter().position(same) {
            Some(at) => {
                members.remove(at);
                Ok(())
            }
            None => Err(ControlError::NotFound),
        }
    }

    /// The members in order of insertion.
    ///
    /// # Errors
    /// When there is no such set.
    pub fn value_set_members(&self, set: ValueSetId) -> Result<Vec<ValueSetMember>> {
        self.program()?;
        let members = self
            .state
            .sets
            .get(set.index())
            .ok_or(ControlError::NoSuchValueSet(set))?;
        Ok(members.iter().map(|m| m.member.clone()).collect())
    }
}
