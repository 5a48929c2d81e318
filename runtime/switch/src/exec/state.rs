//! All that a running pipeline remembers between packets.

use crate::code::program::Program;
use crate::control::{ActionCall, CloneSession, CounterValue, GroupId, MemberId, Replica};
use crate::meter::Meter;
use crate::schema::MatchKind;
use crate::table::TableState;
use crate::{Config, Match};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) call: ActionCall,
    pub(crate) action: u32,
    pub(crate) data: Vec<u64>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) members: Vec<(MemberId, u32)>,
    /// Each member as often as its weight says, by rising number.
    pub(crate) choices: Vec<u32>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ProfileState {
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) groups: BTreeMap<GroupId, Group>,
}

#[derive(Clone, Debug)]
pub(crate) struct SetMember {
    pub(crate) member: Vec<Match>,
    pub(crate) value: Vec<u64>,
    pub(crate) mask: Vec<u64>,
}

#[derive(Clone, Debug)]
struct Register {
    words: usize,
    cells: Vec<u64>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) tables: Vec<TableState>,
    pub(crate) counters: Vec<Vec<CounterValue>>,
    pub(crate) meters: Vec<Vec<Option<Box<Meter>>>>,
    registers: Vec<Register>,
    pub(crate) profiles: Vec<ProfileState>,
    pub(crate) sets: Vec<Vec<SetMember>>,
    pub(crate) multicast: BTreeMap<u16, Vec<Replica>>,
    pub(crate) sessions: BTreeMap<u16, CloneSession>,
    /// Per calculation, for `round_robin`.
    pub(crate) turns: Vec<u64>,
    pub(crate) remembered_turns: Vec<FxHashMap<Vec<u8>, u64>>,
    random: u64,
}

impl State {
    pub(crate) fn new(program: &Program, config: &Config) -> Self {
        let schema = &program.schema;
        let tables = program
            .tables
            .iter()
            .zip(&schema.tables)
            .map(|(table, schema)| {
                let ranges = schema.key.iter().zip(&table.key);
                let ranges = ranges
                    .filter(|(field, _)| field.kind == MatchKind::Range)
                    .map(|(_, part)| (part.word, part.place.words().max(1)))
                    .collect();
                TableState::new(table, config.seed | 1, ranges)
            })
            .collect();
        let cells = |width: usize, size: usize| Register {
            words: width.div_ceil(64),
            cells: vec![0; width.div_ceil(64) * size],
        };
        State {
            tables,
            counters: schema
                .counters
                .iter()
                .map(|c| vec![CounterValue::default(); c.size])
                .collect(),
            meters: schema.meters.iter().map(|m| vec![None; m.size]).collect(),
            registers: schema
                .registers
                .iter()
                .map(|r| cells(r.width, r.size))
                .collect(),
            profiles: vec![ProfileState::default(); program.profiles.len()],
            sets: vec![Vec::new(); schema.value_sets.len()],
            multicast: BTreeMap::new(),
            sessions: BTreeMap::new(),
            turns: vec![0; program.calculations.len()],
            remembered_turns: vec![FxHashMap::default(); program.calculations.len()],
            random: config.seed,
        }
    }

    /// A register's cell, lowest word first.
    pub(crate) fn register(&self, register: usize, index: usize) -> Option<&[u64]> {
        let register = self.registers.get(register)?;
        let first = index.checked_mul(register.words)?;
        register
            .cells
            .get(first..first.checked_add(register.words)?)
    }

    pub(crate) fn register_mut(&mut self, register: usize, index: usize) -> Option<&mut [u64]> {
        let register = self.registers.get_mut(register)?;
        let first = index.checked_mul(register.words)?;
        register
            .cells
            .get_mut(first..first.checked_add(register.words)?)
    }

    pub(crate) fn reset_register(&mut self, register: usize) {
        if let Some(register) = self.registers.get_mut(register) {
            register.cells.fill(0);
        }
    }

    /// A number from `low` to `high`, both included (splitmix64).
    pub(crate) fn random(&mut self, low: u64, high: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        match (high - low).checked_add(1) {
            Some(range) => low + ((u128::from(z) * u128::from(range)) >> 64) as u64,
            None => z,
        }
    }
}
