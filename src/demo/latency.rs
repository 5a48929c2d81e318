//! From the moment when a SYN enters the switch to the moment when it leaves to a server; and which
//! servers have answered one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hdrhistogram::Histogram;

use super::report::FirstPacket;
use super::segment::Segment;
use crate::hosts::Watched;

/// Three digits of every value count.
const DIGITS: u8 = 3;

/// First packets under way, and how long the others took, in nanoseconds.
#[derive(Debug, Default)]
struct Inner {
    entered: BTreeMap<SocketAddr, Instant>,
    took: Option<Histogram<u64>>,
    /// Who has answered a SYN.
    answered: BTreeSet<SocketAddr>,
}

/// Watches a network's frames; clones share what they have seen.
#[derive(Debug, Clone, Default)]
pub(super) struct FirstPackets(Arc<Mutex<Inner>>);

impl FirstPackets {
    /// Takes note of a frame to the service's address, or of one that leaves to a server. A SYN that is
    /// sent again counts from its first sending.
    pub fn see(&self, service: SocketAddr, watched: Watched<'_>) {
        let Some(segment) = Segment::of(watched.frame).filter(|segment| segment.syn) else {
            return;
        };
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if segment.ack {
            if watched.to_switch {
                inner.answered.insert(segment.source);
            }
        } else if watched.to_switch {
            if segment.destination == service {
                inner.entered.entry(segment.source).or_insert(watched.at);
            }
        } else if let Some(entered) = inner.entered.remove(&segment.source) {
            let took = watched.at.saturating_duration_since(entered).as_nanos();
            if inner.took.is_none() {
                inner.took = Histogram::new(DIGITS).ok();
            }
            if let Some(histogram) = &mut inner.took {
                // The histogram grows with its values; a saturating record would cut them instead.
                let _ = histogram.record(u64::try_from(took).unwrap_or(u64::MAX));
            }
        }
    }

    /// Whether each of these has answered a SYN.
    pub fn have_answered(&self, all: &BTreeSet<SocketAddr>) -> bool {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.is_subset(&inner.answered)
    }

    /// The median and the 99th percentile so far.
    pub fn percentiles(&self) -> FirstPacket {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = |quantile| {
            let nanos = inner
                .took
                .as_ref()
                .map_or(0, |histogram| histogram.value_at_quantile(quantile));
            (nanos as f64 / 100.0).round() / 10.0
        };
        FirstPacket {
            p50: micros(0.5),
            p99: micros(0.99),
        }
    }
}
