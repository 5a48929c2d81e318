//! The balance manager: chooses a server for each connection.
//!
//! [`Balance`] is a service's decisions as pure functions of its pool, its servers' health and load, the time
//! and the flow. A manager of the kit asks it once a flow; what is asked twice is answered from the kit's
//! memory. So a flow never moves to another server in mid-stream.

mod maglev;
mod pick;
mod server;
mod sticky;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use signalbox_agent::flow::Tuple;
use signalbox_agent::message::{Action, Capability, Tunnel};
use signalbox_lower::plan::{BalancePlan, CheckKind, OnDeath, Pick, ServicePlan, Way};
use signalbox_manager::{Choice, Decide, Decided, Opening, Reaction, Target, TargetStatus};

use pick::Picker;
use server::Server;
use sticky::Sticky;

pub use maglev::{Maglev, TABLE_SIZE};

/// From one Maglev table to the next, where only loads and slow starts have changed.
const REBUILD: Duration = Duration::from_secs(1);

/// The decisions of one balance service.
#[derive(Debug)]
pub struct Balance {
    plan: BalancePlan,
    /// In the plan's order; behind them those that it names no more and that still have flows.
    servers: Vec<Server>,
    by_endpoint: BTreeMap<(IpAddr, u16), usize>,
    picker: Picker,
    sticky: Option<Sticky>,
    now: Duration,
    /// When shares were last computed.
    weighed: Duration,
    /// When they are to be computed again.
    due: Option<Duration>,
}

impl Balance {
    /// The decisions for a service of the plan; `None` if it is of another kind.
    #[must_use]
    pub fn new(service: &ServicePlan) -> Option<Self> {
        let plan = service.balance.clone()?;
        let mut balance = Self {
            servers: plan.servers.iter().map(Server::new).collect(),
            by_endpoint: BTreeMap::new(),
            picker: Picker::new(plan.pick),
            sticky: None,
            now: Duration::ZERO,
            weighed: Duration::ZERO,
            due: None,
            plan,
        };
        balance.replanned();
        Some(balance)
    }

    /// Takes over a changed plan. A server is the same if its address and port are: its health, load, flows
    /// and slow start stay. One that the plan names no more gets no new flows; its old ones live on. One
    /// that is new, or had weight 0, begins with a slow start.
    pub fn update(&mut self, service: &ServicePlan) {
        let Some(plan) = service.balance.clone() else {
            return;
        };
        let mut former = std::mem::take(&mut self.servers);
        for s in &plan.servers {
            let at = former
                .iter()
                .position(|f| f.endpoint() == (s.address, s.port));
            let before = at.map(|at| former.remove(at));
            let drained = before.as_ref().is_none_or(|b| b.weight == 0);
            let mut server = before.unwrap_or_else(|| Server::new(s));
            server.name.clone_from(&s.name);
            server.weight = s.weight;
            server.listed = true;
            server.up |= plan.check.is_none();
            if !matches!(&plan.check, Some(c) if matches!(c.kind, CheckKind::Load { .. })) {
                server.load = None;
            }
            if drained {
                server.start = Some(self.now);
            }
            self.servers.push(server);
        }
        for mut server in former.into_iter().filter(|s| s.flows > 0) {
            server.weight = 0;
            server.listed = false;
            self.servers.push(server);
        }
        self.picker = Picker::new(plan.pick);
        self.plan = plan;
        self.replanned();
    }

    /// What follows from plan and servers.
    fn replanned(&mut self) {
        self.by_endpoint = (self.servers.iter().enumerate())
            .map(|(n, s)| (s.endpoint(), n))
            .collect();
        let keep = self.plan.stick_ms.map(Duration::from_millis);
        match (keep, &mut self.sticky) {
            (Some(keep), Some(sticky)) => sticky.set_keep(keep),
            (keep, sticky) => *sticky = keep.map(|keep| Sticky::new(keep, sticky::ROOM)),
        }
        self.weigh();
    }

    /// The number of the server for a flow by the scheme; `None` when none takes new flows.
    pub fn choose(&mut self, flow: &Tuple) -> Option<usize> {
        let servers = &self.servers;
        (self.picker).pick(flow, |n| servers.get(n).map_or(0, |s| s.flows))
    }

    /// Computes the shares of all servers as they are now.
    fn weigh(&mut self) {
        let (now, slow) = (self.now, Duration::from_millis(self.plan.slow_start_ms));
        let by_weight = self.plan.pick != Pick::RoundRobin;
        let shares: Vec<u32> = (self.servers.iter())
            .map(|s| s.share(now, slow, by_weight))
            .collect();
        let servers = &self.servers;
        let names = || servers.iter().map(Server::identity).collect();
        self.picker.set_shares(names, &shares);
        self.weighed = now;
        let step = (self.servers.iter_mut())
            .filter_map(|s| s.next_step(now, slow))
            .min();
        self.due = step.map(|at| at.max(self.soonest()));
    }

    /// When shares may be computed again for something that can wait.
    fn soonest(&self) -> Duration {
        if self.picker.has_table() {
            self.weighed + REBUILD
        } else {
            self.now
        }
    }

    fn server_of(&self, decided: &Decided) -> Option<usize> {
        decided.forward.1.iter().find_map(|action| match action {
            Action::Translate(to) => self.by_endpoint.get(&(to.dst, to.dport)).copied(),
            Action::Dispatch { next_hop, .. } => {
                // The server's port is not in the packet; the cookie tells two of one address apart.
                let all = (*next_hop, 0)..=(*next_hop, u16::MAX);
                let mut there = self.by_endpoint.range(all).map(|(_, n)| *n);
                let first = there.clone().next();
                let named = |n: &usize| {
                    (self.servers.get(*n)).is_some_and(|s| s.name.as_bytes() == &*decided.cookie)
                };
                there.find(named).or(first)
            }
            _ => None,
        })
    }

    /// The server that a source is to stay with, if it takes new flows.
    fn stuck(&self, source: IpAddr) -> Option<usize> {
        let endpoint = self.sticky.as_ref()?.server(self.now, source)?;
        let number = *self.by_endpoint.get(&endpoint)?;
        (self.servers.get(number)?.is_open()).then_some(number)
    }

    /// A flow and where it goes, by the policy's way.
    fn decision(&self, flow: Tuple, server: &Server) -> Decided {
        let cookie = Bytes::copy_from_slice(server.name.as_bytes());
        let dispatch = |tunnel| Decided {
            forward: (
                flow,
                vec![Action::Dispatch {
                    next_hop: server.address,
                    tunnel,
                }],
            ),
            reply: None,
            leases: None,
            statistics: None,
            cookie: cookie.clone(),
        };
        match self.plan.way {
            Way::Translate => {
                let to = Tuple {
                    dst: server.address,
                    dport: server.port,
                    ..flow
                };
                Decided {
                    forward: (flow, vec![Action::Translate(to)]),
                    reply: Some((to.reversed(), vec![Action::Translate(flow.reversed())])),
                    leases: None,
                    statistics: None,
                    cookie,
                }
            }
            Way::Mac => dispatch(Tunnel::None),
            Way::Ipip => dispatch(Tunnel::Ipip),
            Way::Gue => dispatch(Tunnel::Gue),
        }
    }
}

impl Decide for Balance {
    fn tick(&mut self, now: Duration) {
        self.now = self.now.max(now);
        if self.due.is_some_and(|at| at <= self.now) {
            self.weigh();
        }
    }

    fn next(&self) -> Option<Duration> {
        self.due
    }

    fn update(&mut self, service: &ServicePlan) -> bool {
        Balance::update(self, service);
        true
    }

    fn decide(
        &mut self,
        now: Duration,
        opening: &Opening<'_>,
        taken: &dyn Fn(&Tuple) -> bool,
    ) -> Choice {
        self.now = self.now.max(now);
        let flow = opening.flow;
        let stuck = self.stuck(flow.src);
        let Some(first) = stuck.or_else(|| self.choose(&flow)) else {
            return Choice::Fallback;
        };
        // A client that uses one port for two of the service's endpoints cannot have the same server
        // for both: its replies could not be told apart. The next one in the pool takes it.
        let count = self.servers.len();
        let decision = (0..count).map(|i| (first + i) % count).find_map(|number| {
            let server = self.servers.get(number).filter(|s| s.is_open())?;
            let decided = self.decision(flow, server);
            let free = !(decided.reply.as_ref()).is_some_and(|(reply, _)| taken(reply));
            free.then_some((number, decided))
        });
        let Some((number, decided)) = decision else {
            return Choice::Fallback;
        };
        if let Some(server) = self.servers.get_mut(number) {
            server.chosen += 1;
            server.flows += 1;
            if let Some(sticky) = &mut self.sticky {
                sticky.begun(self.now, flow.src, server.endpoint(), stuck.is_none());
            }
        }
        Choice::Install(decided)
    }

    fn stands(&self, decided: &Decided) -> bool {
        let server = self.server_of(decided);
        server
            .and_then(|n| self.servers.get(n))
            .is_some_and(|s| s.up && s.listed)
    }

    fn needs(&self) -> Vec<Capability> {
        match self.plan.way {
            Way::Translate => vec![Capability::Translate],
            Way::Mac => vec![Capability::Dispatch],
            Way::Ipip => vec![Capability::Dispatch, Capability::Ipip],
            Way::Gue => vec![Capability::Dispatch, Capability::Gue],
        }
    }

    fn ended(&mut self, decided: &Decided) {
        let server = self.server_of(decided);
        if let Some(server) = server.and_then(|n| self.servers.get_mut(n)) {
            server.flows = server.flows.saturating_sub(1);
            if let Some(sticky) = &mut self.sticky {
                sticky.ended(self.now, decided.forward.0.src);
            }
        }
    }

    fn adopted(&mut self, decided: &Decided) {
        let server = self.server_of(decided);
        if let Some(server) = server.and_then(|n| self.servers.get_mut(n)) {
            server.flows += 1;
            if let Some(sticky) = &mut self.sticky {
                sticky.begun(self.now, decided.forward.0.src, server.endpoint(), false);
            }
        }
    }

    fn targets(&self) -> Vec<Target> {
        let Some(check) = &self.plan.check else {
            return Vec::new();
        };
        (self.servers.iter().filter(|s| s.listed))
            .map(|s| Target {
                address: s.address,
                port: s.port,
                check: check.clone(),
            })
            .collect()
    }

    fn health(&mut self, target: usize, up: bool) {
        let now = self.now;
        if let Some(server) = self.servers.get_mut(target) {
            server.start = (up && !server.up).then_some(now);
            server.up = up;
            self.weigh();
        }
    }

    fn load(&mut self, target: usize, percent: u8) {
        let Some(server) = self.servers.get_mut(target) else {
            return;
        };
        server.load = Some(percent.min(100));
        let soonest = self.soonest();
        let at = self.due.map_or(soonest, |due| due.min(soonest));
        self.due = Some(at);
        if at <= self.now {
            self.weigh();
        }
    }

    fn drain(&mut self, pool: &str, server: &str, drained: bool) -> Result<bool, Vec<String>> {
        if self.plan.pool != pool {
            return Ok(false);
        }
        let now = self.now;
        let of_it = |s: &&mut Server| {
            s.listed && (s.name == server || server.parse() == Ok(SocketAddr::from(s.endpoint())))
        };
        let Some(server) = self.servers.iter_mut().find(of_it) else {
            let listed = self.servers.iter().filter(|s| s.listed);
            return Err(listed.map(|s| s.name.clone()).collect());
        };
        if server.drained && !drained {
            server.start = Some(now);
        }
        server.drained = drained;
        self.weigh();
        Ok(true)
    }

    fn reaction(&self) -> Option<Reaction> {
        match self.plan.on_death {
            OnDeath::Keep => None,
            OnDeath::Drop => Some(Reaction::Drop),
            OnDeath::Reset => Some(Reaction::Reset),
        }
    }

    fn is_dead(&self, decided: &Decided) -> bool {
        let server = self.server_of(decided);
        server
            .and_then(|n| self.servers.get(n))
            .is_some_and(|s| !s.up)
    }

    fn status(&self) -> Vec<TargetStatus> {
        (self.servers.iter())
            .map(|s| TargetStatus {
                name: s.name.clone(),
                weight: if s.drained { 0 } else { s.weight },
                up: s.up,
                load: s.load,
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
