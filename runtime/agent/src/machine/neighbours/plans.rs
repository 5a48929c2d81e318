//! Another plan's neighbours: which of the known ones stay, which come in, and what the switch holds of them.

use std::net::IpAddr;

use signalbox_lower::plan::Plan;

use super::{Entries, Neighbour, State, next_hop_by};
use crate::counters::Drop;
use crate::entry::Entry;
use crate::machine::Agent;
use crate::machine::timers::Timer;

impl Agent {
    /// What the switch holds of neighbours and routes to them, or is about to.
    pub(in crate::machine) fn neighbours_standing(&self) -> Vec<Entry> {
        let there = |n: &Neighbour| matches!(n.entries, Entries::In { .. } | Entries::Going { .. });
        let addresses = (self.neighbours.by_address.iter()).filter(|(_, n)| there(n));
        let mut entries: Vec<Entry> = addresses
            .filter_map(|(address, _)| self.neighbour_entries(*address))
            .flatten()
            .collect();
        entries.extend(self.static_routes());
        entries
    }

    pub(super) fn static_routes(&self) -> impl Iterator<Item = Entry> {
        (self.plan.routes.iter()).filter_map(|route| {
            let neighbour = self.neighbours.by_address.get(&route.via)?;
            Some(Entry::Route {
                prefix: route.prefix.trunc(),
                next_hop: neighbour.id,
            })
        })
    }

    /// Whether the neighbour with that id is one by another plan, too.
    pub(in crate::machine) fn neighbour_stays(&self, plan: &Plan, id: u16) -> bool {
        let neighbours = &self.neighbours;
        (neighbours.address_of(id))
            .and_then(|address| Some((address, neighbours.by_address.get(&address)?)))
            .is_some_and(|(address, n)| is_at(plan, address, n.port))
    }

    /// Takes the neighbours over to another plan: those that are none by it go, its static ones and its
    /// routers come in. Who was stated to be somewhere, and is not any more, is asked.
    pub(in crate::machine) fn retarget_neighbours(&mut self, plan: &Plan) {
        let now = self.now;
        let gone: Vec<IpAddr> = (self.neighbours.by_address.iter())
            .filter(|(address, n)| !is_at(plan, **address, n.port))
            .map(|(address, _)| *address)
            .collect();
        for address in gone {
            let Some(neighbour) = self.neighbours.by_address.remove(&address) else {
                continue;
            };
            // Its id is not given out again while answers about it may be under way. Flows that are
            // dispatched to it have ended.
            self.neighbours.by_id.remove(&neighbour.id);
            let waiting = neighbour.waiting.len();
            self.neighbours.waiting -= waiting.min(self.neighbours.waiting);
            self.counters.drop(Drop::Unresolved, waiting as u64);
        }
        let stated = |address: &IpAddr| plan.neighbours.iter().any(|n| n.address == *address);
        for (address, n) in &mut self.neighbours.by_address {
            if n.state == State::Static && !stated(address) {
                n.state = State::Known { until: now };
                n.due = now;
                self.timers.at(now, Timer::Neighbour(*address));
            }
        }
        for stated in &plan.neighbours {
            if let Some(n) = self.neighbours.add(stated.address, stated.port) {
                n.mac = Some(stated.mac);
                n.state = State::Static;
                n.named = true;
            }
        }
        for route in &plan.routes {
            if let Some(n) = self.neighbours.add(route.via, route.port) {
                n.named = true;
            }
        }
    }

    /// Writes the entries of static neighbours that are not on the switch yet.
    pub(in crate::machine) fn write_static_neighbours(&mut self) {
        let missing: Vec<IpAddr> = (self.neighbours.by_address.iter())
            .filter(|(_, n)| n.state == State::Static)
            .filter(|(_, n)| matches!(n.entries, Entries::Out | Entries::Refused))
            .map(|(address, _)| *address)
            .collect();
        for address in missing {
            self.write_entries(address);
        }
    }
}

/// Whether a plan has such a neighbour on that port: on a connected network, or stated or named there.
fn is_at(plan: &Plan, address: IpAddr, port: u16) -> bool {
    next_hop_by(plan, address) == Some((port, address))
        || (plan.neighbours.iter()).any(|n| (n.address, n.port) == (address, port))
        || (plan.routes.iter()).any(|r| (r.via, r.port) == (address, port))
}
