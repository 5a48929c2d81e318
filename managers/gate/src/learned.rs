//! What servers have said of themselves: the MSS and window scale that a gate announces to later clients in
//! their name, before it has asked them.
//!
//! A cookie does not tell what was announced with it, only whether it was this or that. So what is announced
//! for a server changes at most once in the life of a cookie.

use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::cookie::{Announced, OVERLAP};

/// Servers that are remembered; others are announced by the policy's values.
const SERVERS: usize = 4096;

#[derive(Debug)]
struct Known {
    now: Announced,
    before: Announced,
    since: Duration,
    /// What it takes at first, in bytes.
    window: u16,
}

/// Servers by address and port.
#[derive(Debug)]
pub struct Learned {
    v4: Announced,
    v6: Announced,
    servers: FxHashMap<(IpAddr, u16), Known>,
}

impl Learned {
    /// Announces these of servers that are not known.
    #[must_use]
    pub fn new(v4: Announced, v6: Announced) -> Self {
        Self {
            v4,
            v6,
            servers: FxHashMap::default(),
        }
    }

    /// What is announced of servers that are not known, over IPv4 and IPv6.
    #[must_use]
    pub fn policy(&self) -> (Announced, Announced) {
        (self.v4, self.v6)
    }

    fn unknown(&self, server: IpAddr) -> Announced {
        if server.is_ipv4() { self.v4 } else { self.v6 }
    }

    /// What is announced for a server now.
    #[must_use]
    pub fn announce(&self, server: (IpAddr, u16)) -> Announced {
        (self.servers.get(&server)).map_or(self.unknown(server.0), |known| known.now)
    }

    /// What may have been announced with a cookie that still holds.
    pub fn candidates(
        &self,
        now: Duration,
        server: (IpAddr, u16),
    ) -> impl Iterator<Item = Announced> + Clone + use<> {
        let known = self.servers.get(&server);
        let before = known
            .filter(|k| now < k.since + OVERLAP && k.before != k.now)
            .map(|k| k.before);
        std::iter::once(self.announce(server)).chain(before)
    }

    /// The window of a server's SYN-ACK, if it is known: a client that was offered more would send in vain.
    #[must_use]
    pub fn window(&self, server: (IpAddr, u16)) -> Option<u16> {
        self.servers.get(&server).map(|known| known.window)
    }

    /// A server's own SYN-ACK has told this.
    pub fn learn(&mut self, now: Duration, server: (IpAddr, u16), said: Announced, window: u16) {
        let policy = self.unknown(server.0);
        let said = Announced {
            mss: said.mss.min(policy.mss),
            ..said
        };
        let before = self.announce(server);
        let room = self.servers.len() < SERVERS;
        match self.servers.get_mut(&server) {
            Some(known) => {
                known.window = window;
                if known.now != said && now >= known.since + OVERLAP {
                    (known.before, known.now, known.since) = (before, said, now);
                }
            }
            None if room => {
                let known = Known {
                    now: said,
                    before,
                    since: now,
                    window,
                };
                self.servers.insert(server, known);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(mss: u16, scale: Option<u8>) -> Announced {
        Announced { mss, scale }
    }

    // A3.7
    #[test]
    fn a_server_is_announced_as_it_was_heard_and_cookies_of_before_hold_on() {
        let server = (IpAddr::from([10, 0, 1, 5]), 22);
        let mut l = Learned::new(said(1460, Some(7)), said(1440, Some(7)));
        assert_eq!(l.announce(server), said(1460, Some(7)));
        let at = Duration::from_secs;
        l.learn(at(0), server, said(8960, Some(2)), 5000);
        assert_eq!(
            l.announce(server),
            said(1460, Some(2)),
            "no more than the ports take"
        );
        let candidates = |l: &Learned, t| l.candidates(at(t), server).collect::<Vec<_>>();
        assert_eq!(
            candidates(&l, 1),
            [said(1460, Some(2)), said(1460, Some(7))]
        );
        // A second change must wait, or a cookie of the first would be forgotten.
        l.learn(at(10), server, said(1400, None), 6000);
        assert_eq!(l.window(server), Some(6000));
        assert_eq!(l.announce(server), said(1460, Some(2)));
        l.learn(at(64), server, said(1400, None), 6000);
        assert_eq!(candidates(&l, 64), [said(1400, None), said(1460, Some(2))]);
        assert_eq!(candidates(&l, 128), [said(1400, None)]);
    }
}
