//! Tunnels to servers: one entry of the switch for each server and kind, as long as something uses it.
//!
//! What goes by a tunnel or to a neighbour goes in when both are: until then the flow, and its packets with
//! it, wait.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::store::FlowRef;
use super::writer::Token;
use super::{Agent, WriteError};
use crate::entry::{Change, Entry, Wrap};
use crate::message::Tunnel;

/// Tunnels at once.
pub(super) const MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Written {
    Going,
    In,
    /// The switch would not take it.
    Refused(WriteError),
}

#[derive(Debug)]
struct State {
    server: IpAddr,
    wrap: Wrap,
    source: IpAddr,
    users: u32,
    written: Written,
    /// Flows that go in when it is in.
    waiting: Vec<FlowRef>,
}

/// All tunnels.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    by_id: BTreeMap<u16, State>,
}

/// What wraps packets for a tunnel; `None` for no tunnel.
fn wrap_of(tunnel: Tunnel) -> Option<Wrap> {
    match tunnel {
        Tunnel::None => None,
        Tunnel::Ipip => Some(Wrap::Ipip),
        Tunnel::Gue => Some(Wrap::Gue),
    }
}

impl Tunnels {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn has(&self, server: IpAddr, tunnel: Tunnel) -> bool {
        wrap_of(tunnel).is_none_or(|wrap| self.find(server, wrap).is_some())
    }

    fn find(&self, server: IpAddr, wrap: Wrap) -> Option<u16> {
        (self.by_id.iter())
            .find(|(_, t)| t.server == server && t.wrap == wrap)
            .map(|(id, _)| *id)
    }

    /// Where a tunnel leads and how.
    pub fn of(&self, id: u16) -> Option<(IpAddr, Tunnel)> {
        let t = self.by_id.get(&id)?;
        let tunnel = match t.wrap {
            Wrap::Ipip => Tunnel::Ipip,
            Wrap::Gue => Tunnel::Gue,
        };
        Some((t.server, tunnel))
    }

    fn entry(&self, id: u16) -> Option<Entry> {
        self.by_id.get(&id).map(|t| Entry::Tunnel {
            id,
            wrap: t.wrap,
            src: t.source,
            dst: t.server,
        })
    }
}

/// Where a dispatched packet goes: a neighbour's id, and a tunnel's or 0.
pub(super) type Hop = (u16, u16);

impl Agent {
    /// The switch's own address that packets in a tunnel to a server come from.
    pub(super) fn tunnel_source(&self, server: IpAddr) -> Option<IpAddr> {
        let (port, _) = self.next_hop(server)?;
        self.source_for(port, server)
    }

    /// Takes a use of the way to a server; what is not there yet is asked for and written.
    pub(super) fn take_hop(&mut self, server: IpAddr, tunnel: Tunnel) -> Option<Hop> {
        let id = match wrap_of(tunnel) {
            None => 0,
            Some(wrap) => self.take_tunnel(server, wrap)?,
        };
        match self.take_next_hop(server) {
            Some(next_hop) => Some((next_hop, id)),
            None => {
                self.leave_tunnel(id);
                None
            }
        }
    }

    /// Gives a use back.
    pub(super) fn leave_hop(&mut self, (next_hop, tunnel): Hop) {
        self.leave_next_hop(next_hop);
        self.leave_tunnel(tunnel);
    }

    /// Takes another use of a way that somebody uses.
    pub(super) fn keep_hop(&mut self, (next_hop, tunnel): Hop) {
        self.keep_next_hop(next_hop);
        if let Some(t) = self.tunnels.by_id.get_mut(&tunnel) {
            t.users += 1;
        }
    }

    fn take_tunnel(&mut self, server: IpAddr, wrap: Wrap) -> Option<u16> {
        if let Some(id) = self.tunnels.find(server, wrap) {
            let refused = self.tunnels.by_id.get_mut(&id).is_some_and(|t| {
                t.users += 1;
                matches!(t.written, Written::Refused(_))
            });
            if refused {
                self.write_tunnel(id);
            }
            return Some(id);
        }
        let source = self.tunnel_source(server)?;
        if self.tunnels.len() >= MAX {
            return None;
        }
        let id = (1..=u16::MAX).find(|id| !self.tunnels.by_id.contains_key(id))?;
        self.tunnels.by_id.insert(
            id,
            State {
                server,
                wrap,
                source,
                users: 1,
                written: Written::Going,
                waiting: Vec::new(),
            },
        );
        self.write_tunnel(id);
        Some(id)
    }

    fn write_tunnel(&mut self, id: u16) {
        if let Some(entry) = self.tunnels.entry(id) {
            self.insert(entry, Token::Tunnel(id));
        }
        if let Some(t) = self.tunnels.by_id.get_mut(&id) {
            t.written = Written::Going;
        }
    }

    fn leave_tunnel(&mut self, id: u16) {
        let Some(t) = self.tunnels.by_id.get_mut(&id) else {
            return;
        };
        t.users = t.users.saturating_sub(1);
        if t.users == 0
            && let Some(entry) = self.tunnels.entry(id)
        {
            self.tunnels.by_id.remove(&id);
            self.writer.push(Change::Delete, entry, Token::None);
        }
    }

    /// The switch has answered for a tunnel's entry.
    pub(super) fn tunnel_written(&mut self, id: u16, result: Result<(), WriteError>) {
        let Some(t) = self.tunnels.by_id.get_mut(&id) else {
            return;
        };
        let waiting = std::mem::take(&mut t.waiting);
        t.written = match &result {
            Ok(()) => Written::In,
            Err(error) => Written::Refused(error.clone()),
        };
        for at in waiting {
            match &result {
                Ok(()) => self.start_writing(at),
                Err(error) => self.no_way(at, error),
            }
        }
    }

    /// Whether the way is there; if not, the flow waits for it.
    pub(super) fn await_hop(&mut self, at: FlowRef, (next_hop, tunnel): Hop) -> Way {
        if let Some(t) = self.tunnels.by_id.get_mut(&tunnel) {
            match &t.written {
                Written::In => {}
                Written::Going => {
                    t.waiting.push(at);
                    return Way::Awaited;
                }
                Written::Refused(error) => return Way::Never(error.clone()),
            }
        }
        self.await_next_hop(at, next_hop)
    }

    /// What the switch should hold of tunnels; all of it is in when it is reconciled.
    pub(super) fn tunnel_entries(&mut self) -> Vec<Entry> {
        for t in self.tunnels.by_id.values_mut() {
            t.written = Written::In;
            t.waiting.clear();
        }
        let ids = self.tunnels.by_id.keys();
        ids.filter_map(|id| self.tunnels.entry(*id)).collect()
    }

    /// What the switch holds of tunnels, or is about to.
    pub(super) fn tunnels_standing(&self) -> Vec<Entry> {
        let there = |t: &State| !matches!(t.written, Written::Refused(_));
        let ids = (self.tunnels.by_id.iter()).filter(|(_, t)| there(t));
        ids.filter_map(|(id, _)| self.tunnels.entry(*id)).collect()
    }

    /// Another plan has come into force: packets in tunnels come from the addresses that it says.
    pub(super) fn retarget_tunnels(&mut self) {
        let sources: Vec<(u16, IpAddr)> = (self.tunnels.by_id.iter())
            .filter_map(|(id, t)| Some((*id, self.tunnel_source(t.server)?)))
            .collect();
        for (id, source) in sources {
            if let Some(t) = self.tunnels.by_id.get_mut(&id) {
                t.source = source;
            }
        }
    }

    /// Takes over the tunnels of an agent before this one that lead where they should; nobody uses them yet.
    pub(super) fn adopt_tunnels(&mut self, found: &[Entry]) {
        for entry in found {
            let Entry::Tunnel { id, wrap, src, dst } = entry else {
                continue;
            };
            if *id == 0 || self.tunnel_source(*dst) != Some(*src) {
                continue;
            }
            self.tunnels.by_id.entry(*id).or_insert_with(|| State {
                server: *dst,
                wrap: *wrap,
                source: *src,
                users: 0,
                written: Written::In,
                waiting: Vec::new(),
            });
        }
    }

    /// Forgets adopted tunnels that no flow has turned out to use.
    pub(super) fn drop_unused_tunnels(&mut self) {
        self.tunnels.by_id.retain(|_, t| t.users > 0);
    }
}

/// Whether a flow's entries can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    There,
    /// The flow is told when it is.
    Awaited,
    Never(WriteError),
}
