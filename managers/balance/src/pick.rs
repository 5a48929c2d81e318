//! The schemes: each in turn, in proportion to weights, and by Maglev. Each is a function of its own
//! state and the flow.

use std::net::IpAddr;

use signalbox_agent::flow::Tuple;
use signalbox_lower::plan::Pick;

use crate::maglev::{Maglev, TABLE_SIZE};

/// A scheme with its state.
#[derive(Debug)]
pub(crate) enum Picker {
    /// The next server's number.
    RoundRobin { next: usize, open: Vec<bool> },
    /// Smooth weighted round robin: every turn each server gains its weight, the richest is chosen and
    /// pays the sum. So no server gets its whole share in a row.
    Weighted { weights: Vec<i64>, credit: Vec<i64> },
    /// By the 5-tuple or by the source.
    Maglev { by_source: bool, table: Maglev },
}

impl Picker {
    pub fn new(pick: Pick, names: &[String], weights: &[u32]) -> Self {
        let mut picker = match pick {
            Pick::RoundRobin => Self::RoundRobin {
                next: 0,
                open: Vec::new(),
            },
            Pick::Weighted | Pick::LeastConnections => Self::Weighted {
                weights: Vec::new(),
                credit: vec![0; weights.len()],
            },
            Pick::MaglevFlow | Pick::MaglevSource => Self::Maglev {
                by_source: pick == Pick::MaglevSource,
                table: Maglev::new(&[], &[], TABLE_SIZE),
            },
        };
        picker.set_weights(names, weights);
        picker
    }

    /// Servers with weight 0 get no new flows.
    pub fn set_weights(&mut self, names: &[String], new: &[u32]) {
        match self {
            Self::RoundRobin { open, .. } => *open = new.iter().map(|w| *w > 0).collect(),
            Self::Weighted { weights, credit } => {
                *weights = new.iter().map(|w| i64::from(*w)).collect();
                // Old debts would give a server that comes back a burst or a pause.
                credit.iter_mut().for_each(|c| *c = 0);
            }
            Self::Maglev { table, .. } => *table = Maglev::new(names, new, TABLE_SIZE),
        }
    }

    pub fn pick(&mut self, flow: &Tuple) -> Option<usize> {
        match self {
            Self::RoundRobin { next, open } => {
                let n = open.len();
                let chosen = (0..n)
                    .map(|i| (*next + i) % n)
                    .find(|i| open.get(*i) == Some(&true))?;
                *next = (chosen + 1) % n;
                Some(chosen)
            }
            Self::Weighted { weights, credit } => {
                let total: i64 = weights.iter().sum();
                for (c, w) in credit.iter_mut().zip(weights.iter()) {
                    *c += w;
                }
                // The first of the richest, so that the order is the policy's.
                let mut chosen: Option<(usize, i64)> = None;
                for (i, (c, w)) in credit.iter().zip(weights.iter()).enumerate() {
                    if *w > 0 && chosen.is_none_or(|(_, most)| *c > most) {
                        chosen = Some((i, *c));
                    }
                }
                let (chosen, _) = chosen?;
                if let Some(c) = credit.get_mut(chosen) {
                    *c -= total;
                }
                Some(chosen)
            }
            Self::Maglev { by_source, table } => table.pick(&key(flow, *by_source)),
        }
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
