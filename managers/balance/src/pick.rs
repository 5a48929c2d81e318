//! The schemes: in turn by shares, the fewest flows for its share, and Maglev. Each is a function of its own
//! state, the servers' shares and the flow.

use std::net::IpAddr;

use signalbox_agent::flow::Tuple;
use signalbox_lower::plan::Pick;

use crate::maglev::{Maglev, TABLE_SIZE};

/// A scheme with its state.
#[derive(Debug)]
pub(crate) enum Picker {
    /// Smooth weighted round robin: every turn each server gains its share, the richest is chosen and
    /// pays the sum. So no server gets its whole share in a row. With equal shares it is each in turn.
    Turns { shares: Vec<i64>, credit: Vec<i64> },
    /// The fewest flows for its share; of equal ones the first of the pool.
    Fewest { shares: Vec<u32> },
    /// By the 5-tuple or by the source.
    Maglev {
        by_source: bool,
        shares: Vec<u32>,
        table: Maglev,
    },
}

impl Picker {
    /// A scheme without servers.
    pub fn new(pick: Pick) -> Self {
        match pick {
            Pick::RoundRobin | Pick::Weighted => Self::Turns {
                shares: Vec::new(),
                credit: Vec::new(),
            },
            Pick::LeastConnections => Self::Fewest { shares: Vec::new() },
            Pick::MaglevFlow | Pick::MaglevSource => Self::Maglev {
                by_source: pick == Pick::MaglevSource,
                shares: Vec::new(),
                table: Maglev::new(&[], &[], TABLE_SIZE),
            },
        }
    }

    /// Whether new shares cost a table.
    pub fn has_table(&self) -> bool {
        matches!(self, Self::Maglev { .. })
    }

    /// Servers with share 0 get no new flows. `names` tell servers apart for Maglev.
    pub fn set_shares(&mut self, names: impl Fn() -> Vec<String>, new: &[u32]) {
        match self {
            Self::Turns { shares, credit } => {
                credit.resize(new.len(), 0);
                for (n, (credit, share)) in credit.iter_mut().zip(new).enumerate() {
                    // Old debts would give a server that comes back a burst or a pause.
                    if *share == 0 || shares.get(n).is_none_or(|old| *old == 0) {
                        *credit = 0;
                    }
                }
                *shares = new.iter().map(|s| i64::from(*s)).collect();
                settle(shares, credit);
            }
            Self::Fewest { shares } => *shares = new.to_vec(),
            Self::Maglev { shares, table, .. } => {
                if *shares != new {
                    *table = Maglev::new(&names(), new, TABLE_SIZE);
                    *shares = new.to_vec();
                }
            }
        }
    }

    /// The server for a flow. `flows` says how many a server has.
    pub fn pick(&mut self, flow: &Tuple, flows: impl Fn(usize) -> u64) -> Option<usize> {
        match self {
            Self::Turns { shares, credit } => {
                let total: i64 = shares.iter().sum();
                for (c, s) in credit.iter_mut().zip(shares.iter()) {
                    *c += s;
                }
                // The first of the richest, so that the order is the policy's.
                let mut chosen: Option<(usize, i64)> = None;
                for (i, (c, s)) in credit.iter().zip(shares.iter()).enumerate() {
                    if *s > 0 && chosen.is_none_or(|(_, most)| *c > most) {
                        chosen = Some((i, *c));
                    }
                }
                let (chosen, _) = chosen?;
                if let Some(c) = credit.get_mut(chosen) {
                    *c -= total;
                }
                Some(chosen)
            }
            Self::Fewest { shares } => {
                let mut best: Option<(usize, u128, u128)> = None;
                for (n, share) in shares.iter().enumerate().filter(|(_, s)| **s > 0) {
                    let (has, share) = (u128::from(flows(n)), u128::from(*share));
                    // has / share < fewest / its share
                    let fewer = |(_, fewest, its)| has * its < fewest * share;
                    if best.is_none_or(fewer) {
                        best = Some((n, has, share));
                    }
                }
                best.map(|(n, ..)| n)
            }
            Self::Maglev {
                by_source, table, ..
            } => table.pick(&key(flow, *by_source)),
        }
    }
}

/// Brings the credits of servers that take flows back to a sum near zero, and each within one round.
fn settle(shares: &[i64], credit: &mut [i64]) {
    let total: i64 = shares.iter().sum();
    let open = shares.iter().filter(|s| **s > 0).count();
    let Some(open) = i64::try_from(open).ok().filter(|n| *n > 0) else {
        return;
    };
    let mean = credit.iter().sum::<i64>() / open;
    for (credit, _) in credit.iter_mut().zip(shares).filter(|(_, s)| **s > 0) {
        *credit = (*credit - mean).clamp(-total, total);
    }
}

/// The bytes that a flow is hashed by; an IPv4 address counts in its mapped form.
fn key(flow: &Tuple, by_source: bool) -> Vec<u8> {
    let octets = |a: IpAddr| match a {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    };
    let mut key = octets(flow.src).to_vec();
    if !by_source {
        key.extend_from_slice(&octets(flow.dst));
        key.push(flow.proto);
        key.extend_from_slice(&flow.sport.to_be_bytes());
        key.extend_from_slice(&flow.dport.to_be_bytes());
    }
    key
}
