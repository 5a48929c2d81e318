//! Maglev's look-up table (Eisenbud and others, NSDI 2016, section 3.4), with weights.
//!
//! Every manager that knows the same servers builds the same table, whatever their order: that is how any
//! agent in front of an address gives a flow the same server (A6.2). When a server goes, few flows of
//! the others would move; those that live do not, because nobody asks about them again.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

/// Cells of the table: a prime far above 100 times the number of servers of any sensible pool.
pub const TABLE_SIZE: u32 = 65_537;

/// Keys of the hashes; part of the protocol between managers of one service, so never changed.
const OFFSET_KEY: (u64, u64) = (0x5349_474e_414c, 1);
const SKIP_KEY: (u64, u64) = (0x5349_474e_414c, 2);
const FLOW_KEY: (u64, u64) = (0x5349_474e_414c, 3);

/// SipHash-2-4 under one of the keys.
fn hash(key: (u64, u64), bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(key.0, key.1);
    hasher.write(bytes);
    hasher.finish()
}

/// A table of servers' numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maglev {
    /// One server a cell; empty when no server takes flows.
    cells: Vec<u16>,
}

impl Maglev {
    /// A table of `size` cells (a prime above 2) for servers with these names and weights. Weight 0 gets
    /// nothing.
    #[must_use]
    pub fn new(names: &[String], weights: &[u32], size: u32) -> Self {
        struct Row {
            server: u16,
            position: u64,
            skip: u64,
            weight: u64,
            credit: u64,
        }
        let size = u64::from(size.max(3));
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by_key(|i| names.get(*i));
        let heaviest = u64::from(weights.iter().copied().max().unwrap_or(0));
        let mut rows: Vec<Row> = (order.into_iter())
            .filter_map(|i| {
                let name = names.get(i)?.as_bytes();
                let weight = u64::from(*weights.get(i)?);
                (weight > 0).then(|| Row {
                    server: u16::try_from(i).unwrap_or(u16::MAX),
                    position: hash(OFFSET_KEY, name) % size,
                    skip: hash(SKIP_KEY, name) % (size - 1) + 1,
                    weight,
                    credit: 0,
                })
            })
            .collect();
        if rows.is_empty() {
            return Self { cells: Vec::new() };
        }
        let mut cells: Vec<Option<u16>> = vec![None; usize::try_from(size).unwrap_or(0)];
        let mut left = cells.len();
        'fill: loop {
            for row in &mut rows {
                // The heaviest server takes a turn every round, others as often as their share says.
                row.credit += row.weight;
                if row.credit < heaviest {
                    continue;
                }
                row.credit -= heaviest;
                while let Some(cell) = usize::try_from(row.position)
                    .ok()
                    .and_then(|at| cells.get_mut(at))
                {
                    row.position = (row.position + row.skip) % size;
                    if cell.is_none() {
                        *cell = Some(row.server);
                        left -= 1;
                        break;
                    }
                }
                if left == 0 {
                    break 'fill;
                }
            }
        }
        Self {
            cells: cells.into_iter().flatten().collect(),
        }
    }

    /// The server's number for a key's bytes.
    #[must_use]
    pub fn pick(&self, key: &[u8]) -> Option<usize> {
        let size = u64::try_from(self.cells.len()).ok().filter(|n| *n > 0)?;
        let at = usize::try_from(hash(FLOW_KEY, key) % size).ok()?;
        self.cells.get(at).map(|n| usize::from(*n))
    }

    /// How many cells each of `servers` servers has.
    #[must_use]
    pub fn shares(&self, servers: usize) -> Vec<usize> {
        let mut shares = vec![0; servers];
        for cell in &self.cells {
            if let Some(n) = shares.get_mut(usize::from(*cell)) {
                *n += 1;
            }
        }
        shares
    }
}
