//! Stickiness by source: which server a source had last, while it has flows and for a while after.
//!
//! Bounded: with [`ROOM`] sources, a new one takes the place of the one of which nothing has been heard for
//! longest. It knows addresses of servers and nothing of their health.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Sources remembered at once: at most about 32 MB.
pub(crate) const ROOM: usize = 131_072;

type Endpoint = (IpAddr, u16);

#[derive(Debug)]
struct Source {
    server: Endpoint,
    live: u32,
    /// When a flow of it last began or ended.
    last: Duration,
    /// Its place in `order`.
    stamp: u64,
}

/// Servers by source.
#[derive(Debug)]
pub(crate) struct Sticky {
    keep: Duration,
    room: usize,
    sources: BTreeMap<IpAddr, Source>,
    /// By the time of `last`; a stamp that is not its source's is void.
    order: VecDeque<(u64, IpAddr)>,
    stamp: u64,
}

impl Sticky {
    pub fn new(keep: Duration, room: usize) -> Self {
        Self {
            keep,
            room: room.max(1),
            sources: BTreeMap::new(),
            order: VecDeque::new(),
            stamp: 0,
        }
    }

    /// From now on a source without flows is remembered for so long.
    pub fn set_keep(&mut self, keep: Duration) {
        self.keep = keep;
    }

    /// The server that a source had last, if that still counts.
    pub fn server(&self, now: Duration, source: IpAddr) -> Option<Endpoint> {
        let s = self.sources.get(&source)?;
        s.counts(now, self.keep).then_some(s.server)
    }

    /// A flow of the source goes to this server. `chosen` when the source is to stay with it; else it
    /// only counts, unless nothing is known of the source.
    pub fn begun(&mut self, now: Duration, source: IpAddr, server: Endpoint, chosen: bool) {
        let keep = self.keep;
        let s = self.sources.entry(source).or_insert(Source {
            server,
            live: 0,
            last: now,
            stamp: 0,
        });
        if chosen || !s.counts(now, keep) {
            s.server = server;
        }
        s.live = s.live.saturating_add(1);
        self.touch(now, source);
        while self.sources.len() > self.room {
            if let Some((stamp, source)) = self.order.pop_front() {
                if self.is_valid(stamp, source) {
                    self.sources.remove(&source);
                }
            } else {
                return;
            }
        }
    }

    /// A flow of the source has ended.
    pub fn ended(&mut self, now: Duration, source: IpAddr) {
        if let Some(s) = self.sources.get_mut(&source) {
            s.live = s.live.saturating_sub(1);
            self.touch(now, source);
        }
    }

    fn is_valid(&self, stamp: u64, source: IpAddr) -> bool {
        self.sources.get(&source).is_some_and(|s| s.stamp == stamp)
    }

    fn touch(&mut self, now: Duration, source: IpAddr) {
        self.stamp += 1;
        if let Some(s) = self.sources.get_mut(&source) {
            s.last = now;
            s.stamp = self.stamp;
            self.order.push_back((self.stamp, source));
        }
        // What is over goes when it is the oldest, and void places when they are the most.
        while let Some((stamp, source)) = self.order.front().copied() {
            if self.is_valid(stamp, source) {
                let over = (self.sources.get(&source)).is_some_and(|s| !s.counts(now, self.keep));
                if !over {
                    break;
                }
                self.sources.remove(&source);
            }
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.sources.len() + 64 {
            let sources = &self.sources;
            self.order
                .retain(|(stamp, source)| sources.get(source).is_some_and(|s| s.stamp == *stamp));
        }
    }
}

impl Source {
    fn counts(&self, now: Duration, keep: Duration) -> bool {
        self.live > 0 || now < self.last.saturating_add(keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn ip(n: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + n).to_be_bytes())
    }

    // A6.8
    #[test]
    fn memory_of_sources_is_bounded_and_the_oldest_goes_first() {
        let mut sticky = Sticky::new(at(60), 100);
        let server = (ip(1), 80);
        for n in 0..1000 {
            sticky.begun(at(1), ip(n), server, true);
            // The first one keeps coming.
            sticky.begun(at(1), ip(0), server, true);
            assert!(sticky.sources.len() <= 100 && sticky.order.len() <= 266);
        }
        assert_eq!(sticky.server(at(1), ip(0)), Some(server));
        assert_eq!(sticky.server(at(1), ip(900)), None);
        assert_eq!(sticky.server(at(1), ip(901)), Some(server));
        // An end that nobody waits for does no harm.
        sticky.ended(at(1), ip(5));
        assert_eq!(sticky.server(at(1), ip(5)), None);
    }

    #[test]
    fn what_is_over_gives_its_memory_back() {
        let mut sticky = Sticky::new(at(10), 1 << 20);
        for n in 0..1000 {
            sticky.begun(at(0), ip(n), (ip(1), 80), true);
            sticky.ended(at(0), ip(n));
        }
        sticky.begun(at(10), ip(5000), (ip(1), 80), true);
        assert_eq!((sticky.sources.len(), sticky.order.len()), (1, 1));
    }
}
