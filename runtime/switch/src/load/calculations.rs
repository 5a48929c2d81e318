//! Calculations, checksums and the deparser.

use super::Loader;
use super::at::{At, Result};
use crate::code::emit::low_words;
use crate::code::layout::{HeaderId, Slot};
use crate::code::program::{Algorithm, CalcInput, Calculation, Checksum, Entry, Sum};

impl Loader {
    pub(super) fn read_calculations(&mut self, root: &At) -> Result<()> {
        for at in root.list_of("calculations")? {
            let name = at.get("name")?.str()?.to_owned();
            let algorithm = algorithm(&at.get("algo")?)?;
            let inputs = self.calc_inputs(&at.get("input")?)?;
            self.calculation_names
                .insert(name.clone(), self.calculations.len() as u32);
            let sum = (algorithm == Algorithm::Csum16)
                .then(|| sum(&inputs))
                .flatten();
            self.calculations.push(Calculation {
                algorithm,
                inputs,
                sum,
            });
        }
        Ok(())
    }

    pub(super) fn calc_inputs(&self, at: &At) -> Result<Vec<CalcInput>> {
        let mut inputs = Vec::new();
        for input in at.list()? {
            let kind = input.get("type")?;
            inputs.push(match kind.str()? {
                "field" => {
                    let value = input.get("value")?;
                    let header = self.header(&value.at(0)?)?;
                    let name = value.at(1)?.str()?;
                    let length = self.layout.field(header, name).and_then(|f| f.length);
                    CalcInput::Field {
                        place: self.field(&value)?,
                        valid: self.guard(&value)?,
                        length,
                    }
                }
                "hexstr" => {
                    let bits = input.get("bitwidth")?.count()? as u32;
                    let words = low_words(&input.get("value")?.hex()?, bits.div_ceil(64));
                    CalcInput::Constant { words, bits }
                }
                "header" => CalcInput::Header(self.header(&input.get("value")?)?),
                "payload" => CalcInput::Payload,
                other => return Err(kind.unsupported(other)),
            });
        }
        Ok(inputs)
    }

    pub(super) fn read_checksums(&mut self, root: &At) -> Result<()> {
        for at in root.list_of("checksums")? {
            let kind = at.get("type")?;
            if kind.str()? != "generic" {
                return Err(kind.unsupported(kind.str()?));
            }
            let target_at = at.get("target")?;
            let name = at.get("calculation")?;
            let Some(calculation) = self.calculation_names.get(name.str()?).copied() else {
                return Err(name.invalid("the name of a calculation"));
            };
            let condition = match at.maybe("if_cond") {
                None => None,
                Some(condition) if condition.maybe("value").is_some_and(|v| v.value == true) => {
                    None
                }
                Some(condition) => {
                    let condition = self.bool(&condition, &[])?;
                    Some(self.check(&condition))
                }
            };
            let checksum = Checksum {
                name: at.get("name")?.str()?.to_owned(),
                target: self.field(&target_at)?,
                target_valid: self.guard(&target_at)?,
                calculation,
                condition,
            };
            if at.flag("verify", true)? {
                self.verify.push(checksum.clone());
            }
            if at.flag("update", true)? {
                self.update.push(checksum);
            }
        }
        Ok(())
    }

    pub(super) fn read_deparser(&mut self, root: &At) -> Result<(Vec<HeaderId>, Vec<Entry>)> {
        let deparsers = root.get("deparsers")?;
        let at = deparsers.at(0)?;
        if deparsers.list()?.len() > 1 {
            return Err(deparsers.unsupported("more than one deparser"));
        }
        let mut order = Vec::new();
        for name in at.get("order")?.list()? {
            order.push(self.header(&name)?);
        }
        let mut code = Vec::new();
        let primitives = at.list_of("primitives")?;
        if !primitives.is_empty() {
            code.push(self.code_of(&primitives, &[])?);
        }
        Ok((order, code))
    }
}

/// A checksum's input as words with known places, if nothing in it depends on the packet.
fn sum(inputs: &[CalcInput]) -> Option<Sum> {
    let mut guard = None;
    let mut bits: u32 = 0;
    let mut at = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        match input {
            CalcInput::Field {
                place,
                valid,
                length: None,
            } if i == 0 || *valid == guard => {
                guard = *valid;
                bits += place.width;
            }
            CalcInput::Constant { bits: width, .. } if i == 0 || guard.is_none() => bits += width,
            _ => return None,
        }
        at.push(bits);
    }
    let mut sum = Sum {
        guard,
        small: Vec::new(),
        parts: Vec::new(),
        constant: 0,
    };
    for (input, end) in inputs.iter().zip(at) {
        // A word that ends at bit `end` stands so far from the right end of its column.
        let shift = |i: u32| (16 - (end - i * 64) % 16) % 16;
        match input {
            CalcInput::Field { place, .. } => {
                for i in 0..place.words() {
                    let part = (place.slot + i as Slot, shift(i));
                    if place.width <= 32 && sum.small.len() < 1 << 15 {
                        sum.small.push(part);
                    } else {
                        sum.parts.push(part);
                    }
                }
            }
            CalcInput::Constant { words, .. } => {
                for (i, word) in words.iter().enumerate() {
                    sum.constant += u128::from(*word) << shift(i as u32);
                }
            }
            CalcInput::Header(_) | CalcInput::Payload => return None,
        }
    }
    Some(sum)
}

pub(super) fn algorithm(at: &At) -> Result<Algorithm> {
    Ok(match at.str()? {
        "crc8_custom" => Algorithm::Crc8Custom,
        "crc16" => Algorithm::Crc16,
        "crc16_custom" => Algorithm::Crc16Custom,
        "crcCCITT" => Algorithm::CrcCcitt,
        "crc32" => Algorithm::Crc32,
        "crc32_custom" => Algorithm::Crc32Custom,
        "crc64_custom" => Algorithm::Crc64Custom,
        "csum16" | "cksum16" => Algorithm::Csum16,
        "xor16" => Algorithm::Xor16,
        "xor32" => Algorithm::Xor32,
        "identity" => Algorithm::Identity,
        "toeplitz" => Algorithm::Toeplitz,
        // p4c writes `random` for HashAlgorithm.random; bmv2 knows no such calculation.
        "random" | "round_robin" => Algorithm::RoundRobin,
        "round_robin_consistent" => Algorithm::RoundRobinConsistent,
        other => return Err(at.unsupported(other)),
    })
}
