//! Counters, meters, registers, profiles, calculations, checksums, and lists of fields.

use serde_json::{Value, json};

use crate::ir::{Calculation, Expr, Handle, Input, KeyValue, MatchKind, Place, Profile, Unit};

use super::{Writer, hex, table::DEFAULT_SIZE};

impl Writer<'_> {
    pub(super) fn counters(&self) -> Value {
        let program = self.program;
        let mut out = Vec::new();
        for (_, counter) in program.counters.iter() {
            out.push(json!({
                "name": &*counter.names.name,
                "id": out.len(),
                "source_info": self.source_info(counter.span),
                "size": counter.size,
                "is_direct": false,
            }));
        }
        for (_, counter) in program.direct_counters.iter() {
            let Some(table) = counter.table else { continue };
            out.push(json!({
                "name": &*counter.names.name,
                "id": out.len(),
                "is_direct": true,
                "binding": self.table_name(table),
                "source_info": self.source_info(counter.span),
            }));
        }
        Value::Array(out)
    }

    pub(super) fn meters(&self) -> Value {
        let program = self.program;
        let unit = |unit: Unit| {
            if unit == Unit::Packets {
                "packets"
            } else {
                "bytes"
            }
        };
        let mut out = Vec::new();
        for (_, meter) in program.meters.iter() {
            out.push(json!({
                "name": &*meter.names.name,
                "id": out.len(),
                "source_info": self.source_info(meter.span),
                "is_direct": false,
                "size": meter.size,
                "rate_count": 2,
                "type": unit(meter.unit),
            }));
        }
        for (_, meter) in program.direct_meters.iter() {
            let (Some(table), Some(target)) = (meter.table, meter.target) else {
                continue;
            };
            out.push(json!({
                "name": &*meter.names.name,
                "id": out.len(),
                "source_info": self.source_info(meter.span),
                "is_direct": true,
                "rate_count": 2,
                "type": unit(meter.unit),
                "size": program.tables[table].size.unwrap_or(DEFAULT_SIZE),
                "binding": self.table_name(table),
                "result_target": self.plain(target),
            }));
        }
        Value::Array(out)
    }

    fn plain(&self, place: Place) -> Value {
        match place.header {
            crate::ir::HeaderRef::Instance(header) => self.field_of(header, place.field),
            _ => Value::Null,
        }
    }

    pub(super) fn registers(&self) -> Value {
        let registers = self.program.registers.iter().map(|(handle, register)| {
            json!({
                "name": &*register.names.name,
                "id": handle.index(),
                "source_info": self.source_info(register.span),
                "size": register.size,
                "bitwidth": register.ty.width(),
            })
        });
        Value::Array(registers.collect())
    }

    pub(super) fn profile(&mut self, handle: Handle<Profile>) -> Value {
        let program = self.program;
        let profile = &program.profiles[handle];
        let mut out = json!({
            "name": &*profile.names.name,
            "id": self.profiles,
            "source_info": self.source_info(profile.span),
            "max_size": profile.size,
        });
        self.profiles += 1;
        if let Some(algorithm) = profile.selector {
            let mut inputs: Vec<Vec<Value>> = Vec::new();
            for table in &profile.tables {
                let keys = program.tables[*table]
                    .keys
                    .iter()
                    .filter(|k| k.kind == MatchKind::Selector);
                let input: Vec<Value> = keys
                    .map(|key| match key.value {
                        KeyValue::Field(place) => json!({ "type": "field", "value": self.plain(place) }),
                        KeyValue::Valid(header) => {
                            json!({ "type": "field", "value": [&*program.headers[header].name, "$valid$"] })
                        }
                    })
                    .collect();
                if !inputs.contains(&input) {
                    inputs.push(input);
                }
            }
            if inputs.len() > 1 {
                self.unsupported(profile.span, "tables that share an action selector must have the same keys of kind `selector`");
            }
            let input = inputs.into_iter().next().unwrap_or_default();
            if let Some(object) = out.as_object_mut() {
                object.insert(
                    "selector".into(),
                    json!({ "algo": algorithm.name(), "input": input }),
                );
            }
        }
        out
    }

    pub(super) fn calculation_name(calculation: Handle<Calculation>) -> String {
        format!("calc_{}", calculation.index())
    }

    pub(super) fn calculations(&self) -> Value {
        let calculations = self
            .program
            .calculations
            .iter()
            .map(|(handle, calculation)| {
                let mut input: Vec<Value> = calculation
                    .input
                    .iter()
                    .map(|part| self.input(part))
                    .collect();
                if calculation.payload {
                    input.push(json!({ "type": "payload", "value": null }));
                }
                json!({
                    "name": Self::calculation_name(handle),
                    "id": handle.index(),
                    "source_info": self.source_info(calculation.span),
                    "algo": calculation.algorithm.name(),
                    "input": input,
                })
            });
        Value::Array(calculations.collect())
    }

    fn input(&self, input: &Input) -> Value {
        match input {
            Input::Field(place) => json!({ "type": "field", "value": self.plain(*place) }),
            Input::Number(value, width) => {
                json!({ "type": "hexstr", "value": hex(value, *width), "bitwidth": width })
            }
        }
    }

    pub(super) fn checksums(&self) -> Value {
        let checksums = self
            .program
            .checksums
            .iter()
            .enumerate()
            .map(|(id, checksum)| {
                let condition = match self.program.exprs[checksum.condition] {
                    Expr::Bool(true) => Value::Null,
                    _ => self.value(checksum.condition),
                };
                json!({
                    "name": format!("cksum_{id}"),
                    "id": id,
                    "source_info": self.source_info(checksum.span),
                    "target": self.plain(checksum.target),
                    "type": "generic",
                    "calculation": Self::calculation_name(checksum.calculation),
                    "verify": checksum.verify,
                    "update": !checksum.verify,
                    "if_cond": condition,
                })
            });
        Value::Array(checksums.collect())
    }

    pub(super) fn field_lists(&self) -> Value {
        let lists = self.program.field_lists.iter().map(|(handle, list)| {
            let name = list.number.map_or_else(|| "empty".to_string(), |n| format!("field_list{n}"));
            json!({ "id": handle.index() + 1, "name": name, "elements": self.elements(&list.fields) })
        });
        Value::Array(lists.collect())
    }

    pub(super) fn learn_lists(&self) -> Value {
        let lists = self.program.digests.iter().map(|(handle, list)| {
            json!({ "id": handle.index() + 1, "name": &*list.name, "elements": self.elements(&list.fields) })
        });
        Value::Array(lists.collect())
    }

    fn elements(&self, fields: &[Place]) -> Vec<Value> {
        fields
            .iter()
            .map(|place| json!({ "type": "field", "value": self.plain(*place) }))
            .collect()
    }
}
