//! Who depends on a neighbour: what dispatches to it keeps its id, flows wait until it is known, and senders are
//! told when it is not there.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::{Entries, State, Waiting};
use crate::WriteError;
use crate::machine::Agent;
use crate::machine::icmp::Problem;
use crate::machine::store::FlowRef;
use crate::machine::tunnels::Way;

impl Agent {
    /// Takes a use of the neighbour that packets for `to` go to, by its id; asks for it if nobody has.
    pub(in crate::machine) fn take_next_hop(&mut self, to: IpAddr) -> Option<u16> {
        let (port, via) = self.next_hop(to)?;
        let neighbour = self.neighbours.add(via, port)?;
        neighbour.users += 1;
        let id = neighbour.id;
        if neighbour.state == State::Unknown {
            self.ask(via);
        }
        Some(id)
    }

    /// Takes another use of a neighbour that somebody uses.
    pub(in crate::machine) fn keep_next_hop(&mut self, id: u16) {
        if let Some(neighbour) = self.neighbours.by_id_mut(id) {
            neighbour.users += 1;
        }
    }

    /// Gives a use back. A neighbour that nobody uses or knows goes.
    pub(in crate::machine) fn leave_next_hop(&mut self, id: u16) {
        let Some(neighbour) = self.neighbours.by_id_mut(id) else {
            return;
        };
        neighbour.users = neighbour.users.saturating_sub(1);
        let idle = neighbour.state == State::Unknown && neighbour.entries == Entries::Out;
        let unused = neighbour.users == 0 && !neighbour.named && neighbour.waiting.is_empty();
        if idle && unused {
            self.neighbours.forget(id);
        }
    }

    /// Whether a neighbour's entries are in; if not, the flow waits for it.
    pub(in crate::machine) fn await_next_hop(&mut self, at: FlowRef, id: u16) -> Way {
        let Some(address) = self.neighbours.address_of(id) else {
            return Way::Never(WriteError::Refused("its next hop is gone".into()));
        };
        let Some(neighbour) = self.neighbours.by_address.get_mut(&address) else {
            return Way::Never(WriteError::Refused("its next hop is gone".into()));
        };
        match neighbour.entries {
            Entries::In { .. } => return Way::There,
            Entries::Refused => {
                let text = format!("next hop {address} has no entry");
                return Way::Never(WriteError::Refused(text));
            }
            Entries::Out | Entries::Going { .. } => neighbour.flows.push(at),
        }
        if neighbour.state == State::Unknown {
            self.ask(address);
        }
        Way::Awaited
    }

    /// Tells the flows that waited for a neighbour.
    pub(super) fn tell_flows(&mut self, flows: Vec<FlowRef>, error: Option<&WriteError>) {
        for at in flows {
            match error {
                None => self.start_writing(at),
                Some(error) => self.no_way(at, error),
            }
        }
    }

    /// The neighbour that these waited for cannot be reached.
    pub(super) fn tell_senders(&mut self, waited: VecDeque<Waiting>) {
        for what in waited {
            if let Waiting::Pipeline(packet) = what {
                self.tell_sender(Problem::HostUnreachable, &packet);
            }
        }
    }

    /// The longest IP packet for the neighbour with that id, in bytes.
    pub(in crate::machine) fn mtu_of(&self, id: u16) -> Option<u16> {
        let address = self.neighbours.by_id.get(&id)?;
        let port = self.neighbours.by_address.get(address)?.port;
        let mut ports = self.plan.ports.iter();
        ports.find(|p| p.number == port).map(|p| p.mtu)
    }

    /// Whether a port leads to an address.
    pub(in crate::machine) fn reaches(&self, to: IpAddr) -> bool {
        self.next_hop(to).is_some()
    }
}
