//! Counters, meters, registers, value sets, field lists and learn lists.

use super::Loader;
use super::at::{At, Result};
use crate::code::layout::Place;
use crate::code::program::{Digest, FieldList, MeterTarget, SetShape};
use crate::schema::{
    CounterSchema, DigestSchema, MeterSchema, RegisterSchema, TableId, ValueSetSchema,
};
use crate::{CounterId, MeterId};

impl Loader {
    pub(super) fn read_arrays(&mut self, root: &At) -> Result<()> {
        for at in root.list_of("counter_arrays")? {
            let direct = at.flag("is_direct", false)?;
            self.schema.counters.push(CounterSchema {
                name: at.get("name")?.str()?.to_owned(),
                size: if direct { 0 } else { at.get("size")?.count()? },
                table: None,
            });
        }
        for at in root.list_of("meter_arrays")? {
            let direct = at.flag("is_direct", false)?;
            if let Some(rates) = at.maybe("rate_count")
                && rates.u64()? != 2
            {
                return Err(rates.unsupported("meters with other than two rates"));
            }
            let kind = at.get("type")?;
            self.schema.meters.push(MeterSchema {
                name: at.get("name")?.str()?.to_owned(),
                size: if direct { 0 } else { at.get("size")?.count()? },
                bytes: match kind.str()? {
                    "bytes" => true,
                    "packets" => false,
                    _ => return Err(kind.invalid("`bytes` or `packets`")),
                },
                table: None,
            });
        }
        for at in root.list_of("register_arrays")? {
            let name = at.get("name")?.str()?.to_owned();
            let (size, width) = (at.get("size")?.count()?, at.get("bitwidth")?.count()?);
            if width == 0 || width > 65536 || width.div_ceil(64) * size > 1 << 26 {
                return Err(at.invalid("a register array of at most 512 MiB and 65536 bits a cell"));
            }
            self.registers
                .insert(name.clone(), self.schema.registers.len() as u32);
            self.schema
                .registers
                .push(RegisterSchema { name, size, width });
        }
        Ok(())
    }

    /// Ties direct counters and meters to their tables, once these are known.
    pub(super) fn bind_direct(&mut self, root: &At) -> Result<()> {
        for (i, at) in root.list_of("counter_arrays")?.iter().enumerate() {
            if !at.flag("is_direct", false)? {
                continue;
            }
            let binding = at.get("binding")?;
            let Some(table) = self.schema.table(binding.str()?) else {
                return Err(binding.invalid("the name of a table"));
            };
            if let Some(counter) = self.schema.counters.get_mut(i) {
                counter.table = Some(table);
            }
            if let Some(schema) = self.schema.tables.get_mut(table.index()) {
                schema.direct_counter = Some(CounterId(i as u32));
            }
            if let Some(table) = self.tables.get_mut(table.index()) {
                table.count = true;
                table.fixed = None;
            }
        }
        for (i, at) in root.list_of("meter_arrays")?.iter().enumerate() {
            if !at.flag("is_direct", false)? {
                continue;
            }
            let name = self
                .schema
                .meters
                .get(i)
                .map(|m| m.name.clone())
                .unwrap_or_default();
            // p4c leaves the binding out and names the meter in the table instead.
            let table = match at.maybe("binding") {
                Some(binding) => self.schema.table(binding.str()?),
                None => self.table_with_meter(root, &name)?,
            };
            let Some(TableId(table)) = table else {
                continue;
            };
            let target = at.get("result_target")?;
            let target = MeterTarget {
                meter: MeterId(i as u32),
                target: self.field(&target)?,
            };
            if let Some(meter) = self.schema.meters.get_mut(i) {
                meter.table = Some(TableId(table));
            }
            if let Some(schema) = self.schema.tables.get_mut(table as usize) {
                schema.direct_meter = Some(MeterId(i as u32));
            }
            if let Some(table) = self.tables.get_mut(table as usize) {
                table.meter = Some(target);
            }
        }
        Ok(())
    }

    fn table_with_meter(&self, root: &At, meter: &str) -> Result<Option<TableId>> {
        for pipeline in root.list_of("pipelines")? {
            for table in pipeline.list_of("tables")? {
                if let Some(name) = table.maybe("direct_meters")
                    && name.str()? == meter
                {
                    return Ok(self.schema.table(table.get("name")?.str()?));
                }
            }
        }
        Ok(None)
    }

    pub(super) fn read_value_sets(&mut self, root: &At) -> Result<()> {
        for at in root.list_of("parse_vsets")? {
            let width = at.get("compressed_bitwidth")?.count()?;
            let size = match at.maybe("max_size") {
                Some(size) => size.count()?,
                None => 0,
            };
            self.schema.value_sets.push(ValueSetSchema {
                name: at.get("name")?.str()?.to_owned(),
                size,
                // A parser state that uses the set says how it is divided.
                widths: vec![width],
            });
            self.set_shapes.push(SetShape::default());
        }
        Ok(())
    }

    pub(super) fn read_field_lists(&mut self, root: &At) -> Result<()> {
        for at in root.list_of("field_lists")? {
            let mut list = FieldList::default();
            for element in at.list_of("elements")? {
                let kind = element.get("type")?;
                match kind.str()? {
                    "field" => list.places.push(self.field(&element.get("value")?)?),
                    // A constant has nothing to copy.
                    "hexstr" => {}
                    other => return Err(kind.unsupported(other)),
                }
            }
            self.field_lists.push((at.get("id")?.u64()?, list));
        }
        for at in root.list_of("learn_lists")? {
            let mut places: Vec<Place> = Vec::new();
            for element in at.list_of("elements")? {
                let kind = element.get("type")?;
                match kind.str()? {
                    "field" => places.push(self.field(&element.get("value")?)?),
                    other => return Err(kind.unsupported(other)),
                }
            }
            self.schema.digests.push(DigestSchema {
                name: at.get("name")?.str()?.to_owned(),
                widths: places.iter().map(|place| place.width as usize).collect(),
            });
            self.digests.push(Digest {
                id: at.get("id")?.u64()?,
                places,
            });
        }
        Ok(())
    }
}
