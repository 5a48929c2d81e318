//! The balance manager: chooses a server for each connection.
//!
//! [`Balance`] is a service's decisions as pure functions of its pool, its servers' health and the flow. A
//! manager of the kit asks it once a flow; what is asked twice is answered from the kit's memory. So a flow
//! never moves to another server in mid-stream.

mod maglev;
mod pick;

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use signalbox_agent::flow::Tuple;
use signalbox_agent::message::{Action, Capability};
use signalbox_lower::plan::{BalancePlan, ServicePlan};
use signalbox_manager::{Choice, Decide, Decided, Opening, Target, TargetStatus};

use pick::Picker;

pub use maglev::{Maglev, TABLE_SIZE};

/// One server's standing.
#[derive(Debug, Clone)]
struct Server {
    name: String,
    address: IpAddr,
    port: u16,
    weight: u32,
    up: bool,
    chosen: u64,
    flows: u64,
}

/// The decisions of one balance service.
#[derive(Debug)]
pub struct Balance {
    plan: BalancePlan,
    servers: Vec<Server>,
    picker: Picker,
}

impl Balance {
    /// The decisions for a service of the plan; `None` if it is of another kind.
    #[must_use]
    pub fn new(service: &ServicePlan) -> Option<Self> {
        let plan = service.balance.clone()?;
        let servers: Vec<Server> = (plan.servers.iter())
            .map(|s| Server {
                name: s.name.clone(),
                address: s.address,
                port: s.port,
                weight: s.weight,
                up: true,
                chosen: 0,
                flows: 0,
            })
            .collect();
        let picker = Picker::new(plan.pick, &identities(&servers), &weights(&servers));
        Some(Self {
            plan,
            servers,
            picker,
        })
    }

    /// The number of the server for a flow; `None` when none takes new flows.
    pub fn choose(&mut self, flow: &Tuple) -> Option<usize> {
        self.picker.pick(flow)
    }

    fn server_of(&self, decided: &Decided) -> Option<usize> {
        let to = decided.forward.1.iter().find_map(|a| match a {
            Action::Translate(to) => Some((to.dst, to.dport)),
            _ => None,
        })?;
        self.servers.iter().position(|s| (s.address, s.port) == to)
    }
}

/// What a server is told apart by, wherever its place in the pool.
fn identities(servers: &[Server]) -> Vec<String> {
    (servers.iter())
        .map(|s| format!("{}/{}", s.address, s.port))
        .collect()
}

/// Weights as far as health lets them count.
fn weights(servers: &[Server]) -> Vec<u32> {
    (servers.iter())
        .map(|s| if s.up { s.weight } else { 0 })
        .collect()
}

impl Decide for Balance {
    fn decide(
        &mut self,
        _now: Duration,
        opening: &Opening<'_>,
        taken: &dyn Fn(&Tuple) -> bool,
    ) -> Choice {
        let flow = opening.flow;
        let to = |server: &Server| Tuple {
            dst: server.address,
            dport: server.port,
            ..flow
        };
        let Some(first) = self.choose(&flow) else {
            return Choice::Fallback;
        };
        // A client that uses one port for two of the service's endpoints cannot have the same server
        // for both: its replies could not be told apart. The next one in the pool takes it.
        let count = self.servers.len();
        let free = (0..count).map(|i| (first + i) % count).find(|number| {
            (self.servers.get(*number))
                .is_some_and(|s| s.up && s.weight > 0 && !taken(&to(s).reversed()))
        });
        let Some(server) = free.and_then(|number| self.servers.get_mut(number)) else {
            return Choice::Fallback;
        };
        server.chosen += 1;
        server.flows += 1;
        let to = to(server);
        Choice::Install(Decided {
            forward: (flow, vec![Action::Translate(to)]),
            reply: Some((to.reversed(), vec![Action::Translate(flow.reversed())])),
            leases: None,
            statistics: None,
            cookie: Bytes::copy_from_slice(server.name.as_bytes()),
        })
    }

    fn stands(&self, decided: &Decided) -> bool {
        let server = self.server_of(decided);
        server
            .and_then(|n| self.servers.get(n))
            .is_some_and(|s| s.up)
    }

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::Translate]
    }

    fn ended(&mut self, decided: &Decided) {
        let server = self.server_of(decided);
        if let Some(server) = server.and_then(|n| self.servers.get_mut(n)) {
            server.flows = server.flows.saturating_sub(1);
        }
    }

    fn adopted(&mut self, decided: &Decided) {
        let server = self.server_of(decided);
        if let Some(server) = server.and_then(|n| self.servers.get_mut(n)) {
            server.flows += 1;
        }
    }

    fn targets(&self) -> Vec<Target> {
        let Some(check) = &self.plan.check else {
            return Vec::new();
        };
        (self.servers.iter())
            .map(|s| Target {
                address: s.address,
                port: s.port,
                check: check.clone(),
            })
            .collect()
    }

    fn health(&mut self, target: usize, up: bool) {
        if let Some(server) = self.servers.get_mut(target) {
            server.up = up;
            self.picker
                .set_weights(&identities(&self.servers), &weights(&self.servers));
        }
    }

    fn status(&self) -> Vec<TargetStatus> {
        (self.servers.iter())
            .map(|s| TargetStatus {
                name: s.name.clone(),
                weight: s.weight,
                up: s.up,
                chosen: s.chosen,
                flows: s.flows,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod scenarios;
