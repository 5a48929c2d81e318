//! Indirect counters, meters and registers: cells of arrays, one by one or all together.

use signalbox_p4runtime::{
    Code,
    catalog::ArrayInfo,
    proto::p4::v1::{
        CounterData, CounterEntry, Index, MeterConfig, MeterEntry, RegisterEntry, update,
    },
};

use super::{
    p4data,
    refusal::{Outcome, Refusal},
    state::Loaded,
    write::{Target, note},
};
use crate::{CounterValue, MeterRate, Switch};

/// A counter's value as the protocol has it; beyond 63 bits it stands still.
pub(super) fn counter_message(value: CounterValue) -> CounterData {
    CounterData {
        byte_count: i64::try_from(value.bytes).unwrap_or(i64::MAX),
        packet_count: i64::try_from(value.packets).unwrap_or(i64::MAX),
    }
}

pub(super) fn counter_value(data: &CounterData) -> Outcome<CounterValue> {
    match (
        u64::try_from(data.packet_count),
        u64::try_from(data.byte_count),
    ) {
        (Ok(packets), Ok(bytes)) => Ok(CounterValue { packets, bytes }),
        _ => Err(Refusal::invalid("a count is negative")),
    }
}

/// Rates a second → rates a microsecond, as the core has them.
pub(super) fn meter_rates(config: &MeterConfig) -> Outcome<[MeterRate; 2]> {
    if config.eburst != 0 {
        return Err(Refusal::invalid(
            "`eburst` is for single-rate meters, and the meters of v1model have two rates",
        ));
    }
    let rate = |per_second: i64, burst: i64| match (u64::try_from(burst), per_second) {
        (Ok(burst), 0..) => Ok(MeterRate {
            // Exact up to 2^53 units a second.
            per_micro: per_second as f64 / 1e6,
            burst,
        }),
        _ => Err(Refusal::invalid("a rate or burst is negative")),
    };
    if config.pir < config.cir {
        return Err(Refusal::invalid(format!(
            "the peak rate {} is below the committed rate {}",
            config.pir, config.cir
        )));
    }
    Ok([
        rate(config.cir, config.cburst)?,
        rate(config.pir, config.pburst)?,
    ])
}

pub(super) fn meter_message(rates: &[MeterRate; 2]) -> MeterConfig {
    let [committed, peak] = rates;
    let per_second = |rate: &MeterRate| (rate.per_micro * 1e6).round() as i64;
    let burst = |rate: &MeterRate| i64::try_from(rate.burst).unwrap_or(i64::MAX);
    MeterConfig {
        cir: per_second(committed),
        cburst: burst(committed),
        pir: per_second(peak),
        pburst: burst(peak),
        eburst: 0,
    }
}

/// The cells that an index names: one, or all.
fn cells(
    kind: &str,
    name: &str,
    size: i64,
    index: Option<&Index>,
) -> Outcome<std::ops::Range<usize>> {
    let Some(Index { index }) = index else {
        return Ok(0..usize::try_from(size).unwrap_or(0));
    };
    if *index < 0 {
        return Err(Refusal::invalid(format!(
            "{kind} `{name}`: index {index} is negative"
        )));
    }
    if *index >= size {
        return Err(Refusal::new(
            Code::OutOfRange,
            format!("{kind} `{name}`: index {index} is beyond its {size} cells"),
        ));
    }
    let index = usize::try_from(*index).unwrap_or(usize::MAX);
    Ok(index..index.saturating_add(1))
}

fn index_message(index: usize) -> Option<Index> {
    Some(Index {
        index: i64::try_from(index).unwrap_or(i64::MAX),
    })
}

fn only_modify(kind: update::Type, what: &str) -> Outcome<()> {
    if kind == update::Type::Modify {
        Ok(())
    } else {
        Err(Refusal::invalid(format!("a {what} can only be modified")))
    }
}

fn known<T>(found: Option<T>, kind: &str, id: u32) -> Outcome<T> {
    found.ok_or_else(|| Refusal::invalid(format!("there is no {kind} with id {id:#010x}")))
}

fn no_wildcard(t: &Target<'_>, index: Option<&Index>) -> Outcome<()> {
    if t.quirks.no_pi_extensions && index.is_none() {
        return Err(Refusal::unimplemented(
            "simple_switch_grpc writes no whole arrays",
        ));
    }
    Ok(())
}

pub(super) fn write_counter(
    t: &mut Target<'_>,
    kind: update::Type,
    entry: &CounterEntry,
) -> Outcome<()> {
    only_modify(kind, "counter")?;
    let id = entry.counter_id;
    let core = *known(t.loaded.binding.counters.get(&id), "counter", id)?;
    let info = known(t.loaded.catalog.counters.get(id), "counter", id)?;
    no_wildcard(t, entry.index.as_ref())?;
    let cells = cells("counter", &info.alias, info.size, entry.index.as_ref())?;
    let Some(data) = &entry.data else {
        return Ok(());
    };
    let value = counter_value(data)?;
    for index in cells {
        let old = t.switch.counter_read(core, index)?;
        t.switch.counter_write(core, index, value)?;
        note(&mut t.undo, move |switch, _| {
            switch.counter_write(core, index, old)
        });
    }
    Ok(())
}

pub(super) fn write_meter(
    t: &mut Target<'_>,
    kind: update::Type,
    entry: &MeterEntry,
) -> Outcome<()> {
    only_modify(kind, "meter")?;
    if entry.counter_data.is_some() {
        return Err(Refusal::unimplemented("meters do not count by colour here"));
    }
    let id = entry.meter_id;
    let core = *known(t.loaded.binding.meters.get(&id), "meter", id)?;
    let info = known(t.loaded.catalog.meters.get(id), "meter", id)?;
    no_wildcard(t, entry.index.as_ref())?;
    let cells = cells("meter", &info.alias, info.size, entry.index.as_ref())?;
    let rates = entry.config.as_ref().map(meter_rates).transpose()?;
    for index in cells {
        let old = t.switch.meter_config(core, index)?;
        t.switch.meter_set(core, index, rates)?;
        note(&mut t.undo, move |switch, _| {
            switch.meter_set(core, index, old)
        });
    }
    Ok(())
}

pub(super) fn write_register(
    t: &mut Target<'_>,
    kind: update::Type,
    entry: &RegisterEntry,
) -> Outcome<()> {
    if t.quirks.no_pi_extensions {
        return Err(Refusal::unimplemented(
            "simple_switch_grpc has no registers over P4Runtime",
        ));
    }
    only_modify(kind, "register")?;
    let id = entry.register_id;
    let core = *known(t.loaded.binding.registers.get(&id), "register", id)?;
    let info = known(t.loaded.catalog.registers.get(id), "register", id)?;
    let cells = cells("register", &info.alias, info.size, entry.index.as_ref())?;
    let data = entry
        .data
        .as_ref()
        .ok_or_else(|| Refusal::invalid(format!("register `{}`: no data", info.alias)))?;
    let place = format!("register `{}`", info.alias);
    let spec = p4data::register_spec(&t.loaded.catalog, id);
    let value = p4data::cell_to_core(&t.loaded.catalog, spec, data)
        .map_err(|refusal| refusal.at(&place))?;
    for index in cells {
        let old = t.switch.register_read(core, index)?;
        t.switch
            .register_write(core, index, value.clone())
            .map_err(|error| Refusal::from(error).at(&place))?;
        note(&mut t.undo, move |switch, _| {
            switch.register_write(core, index, old)
        });
    }
    Ok(())
}

/// The arrays that an id names: one, or all.
fn arrays<'a, T: signalbox_p4runtime::catalog::Named>(
    section: &'a signalbox_p4runtime::catalog::Section<T>,
    kind: &str,
    id: u32,
    index: Option<&Index>,
) -> Outcome<Vec<&'a T>> {
    if id != 0 {
        return Ok(vec![known(section.get(id), kind, id)?]);
    }
    if index.is_some() {
        return Err(Refusal::invalid(format!(
            "a read of all {kind}s takes no index"
        )));
    }
    Ok(section.iter().collect())
}

/// Gives those of the cells that a filter names which are `piece` of them, in order, and says how many there were.
pub(super) fn read_counters(
    switch: &Switch,
    loaded: &Loaded,
    filter: &CounterEntry,
    piece: std::ops::Range<usize>,
    mut give: impl FnMut(CounterEntry),
) -> Outcome<usize> {
    let index = filter.index.as_ref();
    let section = &loaded.catalog.counters;
    let (mut skip, mut left) = (piece.start, piece.len());
    for info in arrays::<ArrayInfo>(section, "counter", filter.counter_id, index)? {
        let core = *known(loaded.binding.counters.get(&info.id), "counter", info.id)?;
        let all = cells("counter", &info.alias, info.size, index)?;
        let skipped = skip.min(all.len());
        skip = skip.saturating_sub(skipped);
        for index in all.skip(skipped).take(left) {
            left = left.saturating_sub(1);
            give(CounterEntry {
                counter_id: info.id,
                index: index_message(index),
                data: Some(counter_message(switch.counter_read(core, index)?)),
            });
        }
    }
    Ok(piece.len().saturating_sub(left))
}

pub(super) fn read_meters(
    switch: &Switch,
    loaded: &Loaded,
    filter: &MeterEntry,
    mut give: impl FnMut(MeterEntry),
) -> Outcome<()> {
    if filter.counter_data.is_some() {
        return Err(Refusal::unimplemented("meters do not count by colour here"));
    }
    let index = filter.index.as_ref();
    let section = &loaded.catalog.meters;
    for info in arrays::<ArrayInfo>(section, "meter", filter.meter_id, index)? {
        let core = *known(loaded.binding.meters.get(&info.id), "meter", info.id)?;
        for index in cells("meter", &info.alias, info.size, index)? {
            give(MeterEntry {
                meter_id: info.id,
                index: index_message(index),
                config: switch
                    .meter_config(core, index)?
                    .map(|rates| meter_message(&rates)),
                counter_data: None,
            });
        }
    }
    Ok(())
}

pub(super) fn read_registers(
    switch: &Switch,
    loaded: &Loaded,
    filter: &RegisterEntry,
    mut give: impl FnMut(RegisterEntry),
) -> Outcome<()> {
    let index = filter.index.as_ref();
    let section = &loaded.catalog.registers;
    for info in arrays(section, "register", filter.register_id, index)? {
        let core = *known(loaded.binding.registers.get(&info.id), "register", info.id)?;
        let spec = p4data::register_spec(&loaded.catalog, info.id);
        for index in cells("register", &info.alias, info.size, index)? {
            let value = switch.register_read(core, index)?;
            give(RegisterEntry {
                register_id: info.id,
                index: index_message(index),
                data: Some(p4data::cell_from_core(&loaded.catalog, spec, &value)?),
            });
        }
    }
    Ok(())
}
