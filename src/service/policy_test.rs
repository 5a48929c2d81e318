//! A policy's own tests on the embedded switch, with agent and managers behind it: the frame goes in
//! by a port, and its end is read off the ports, the traces and the pipeline's drop counter.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use signalbox_agent::flow::PacketKind;
use signalbox_agent::packet;
use signalbox_policy::eval::{DropReason, Message};
use signalbox_policy::model::{Policy, ServiceIndex};
use signalbox_policy::testing::{DroppedBy, End, Fate, Target};
use signalbox_switch::ports::MemoryPort;
use signalbox_switch::runner::SwitchHandle;
use signalbox_switch::trace::{Event, Trace};
use tokio::runtime::Runtime;

use super::{RunningTarget, Service};
use crate::failure::Failure;
use crate::image::{self, Compiled};

/// How long agent and manager may take with a packet before it counts as kept; far above the time
/// that packets are held for an answer.
const PATIENCE: Duration = Duration::from_millis(1_000);

/// What the switch thread tells of.
enum Seen {
    /// A packet was stepped.
    Step { port: u16, trace: Trace },
    /// A frame left.
    Left { port: u16, frame: Vec<u8> },
}

/// The embedded switch as a target of policy tests.
pub struct OnSwitch {
    runtime: Runtime,
    compiled: Compiled,
    running: Option<Running>,
    problem: Option<Failure>,
}

struct Running {
    switch: SwitchHandle,
    seen: Receiver<Seen>,
    /// Stops everything when dropped.
    service: Service,
}

impl OnSwitch {
    /// Compiles `prepared`, the policy with every neighbour known.
    ///
    /// # Errors
    /// As [`image::compile`].
    pub fn new(prepared: Policy) -> Result<Self, Failure> {
        Ok(Self {
            runtime: Runtime::new().map_err(Failure::failed)?,
            compiled: image::compile(prepared)?,
            running: None,
            problem: None,
        })
    }

    /// Why tests could not be run at all, if so.
    pub fn problem(self) -> Option<Failure> {
        self.problem
    }

    fn start(&self) -> Result<Running, Failure> {
        // Nobody answers health checks here; every server counts as alive.
        let mut plan = self.compiled.lowered.plan.clone();
        for balance in plan
            .services
            .iter_mut()
            .filter_map(|service| service.balance.as_mut())
        {
            balance.check = None;
        }
        let numbers: Vec<u16> = plan.ports.iter().map(|port| port.number).collect();
        let service = self.runtime.block_on(async {
            let target = RunningTarget::of_plan(&plan).await?;
            let pipeline = self.compiled.pipeline();
            Service::start_plan(Arc::new(plan), &self.compiled, target, pipeline).await
        })?;
        let view = service.view();
        let switch = view
            .switch()
            .cloned()
            .ok_or_else(|| Failure::Failed("there is no switch".to_owned()))?;
        let (tell, seen) = channel();
        for number in numbers {
            let tell = tell.clone();
            let port = MemoryPort::new(move |frame: &[u8]| {
                let _ = tell.send(Seen::Left {
                    port: number,
                    frame: frame.to_vec(),
                });
            });
            switch
                .add_port(number, Box::new(port))
                .map_err(Failure::failed)?;
        }
        watch(&switch, tell)?;
        Ok(Running {
            switch,
            seen,
            service,
        })
    }

    /// The questions that each manager has answered, in the policy's order.
    fn answered(&self, running: &Running) -> Vec<u64> {
        let statuses = self
            .runtime
            .block_on(running.service.view().manager_statuses());
        let of = |name: &str| {
            let manager = statuses.iter().find(|status| status.manager == name);
            let services = manager.into_iter().flat_map(|status| &status.services);
            services.map(|s| s.counts.interest_packets).sum()
        };
        let managers = &self.compiled.lowered.plan.managers;
        managers.iter().map(|m| of(&m.name)).collect()
    }

    fn try_send(&self, port: u16, frame: &[u8]) -> Result<Fate, Failure> {
        let running = self
            .running
            .as_ref()
            .ok_or_else(|| Failure::Failed("the switch did not start".to_owned()))?;
        let before = self.answered(running);
        let fate = self.follow(running, port, frame)?;
        let after = self.answered(running);
        let managers = (before.iter().zip(&after).enumerate())
            .filter(|(_, (before, after))| after > before)
            .map(|(place, _)| place)
            .collect();
        Ok(Fate { managers, ..fate })
    }

    /// What becomes of a frame, but for who was asked about it.
    fn follow(&self, running: &Running, port: u16, frame: &[u8]) -> Result<Fate, Failure> {
        while running.seen.try_recv().is_ok() {}
        let cpu_port = self.compiled.lowered.plan.cpu_port;
        let before = drops(&running.switch)?;
        let reason = || {
            let after = drops(&running.switch)?;
            let counted = REASONS.into_iter().find(|reason| {
                let cell = *reason as usize;
                after.get(cell) > before.get(cell)
            });
            Ok(counted.map_or(DroppedBy::Unknown, DroppedBy::Pipeline))
        };
        running
            .switch
            .inject(port, frame.to_vec())
            .map_err(Failure::failed)?;
        let mut asked = Vec::new();
        let mut counted = Vec::new();
        let mut last = None;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match running.seen.recv_timeout(left) {
                Ok(Seen::Left { port, frame }) => {
                    let end = match last {
                        // What the agent tells a sender of a packet that ends here is no answer to it.
                        Some(Way::Agent(Message::Ttl)) => End::AtAgent(Message::Ttl),
                        Some(Way::Local) if says_no(&frame) => End::AtAgent(Message::Local),
                        Some(Way::Undelivered) => End::Dropped(reason()?),
                        Some(Way::Local) => End::Replied,
                        _ => End::Forwarded { port, frame },
                    };
                    return Ok(Fate {
                        asked,
                        managers: Vec::new(),
                        counted,
                        end,
                    });
                }
                // A switch that steps something else than our packet: the agent's own.
                Ok(Seen::Step { port: from, .. }) if from != port && from != cpu_port => {}
                Ok(Seen::Step { trace, .. }) => {
                    counted.extend(self.counted(&trace, cpu_port));
                    match self.way(&trace, cpu_port) {
                        Some(Way::Asked(service)) => {
                            asked.push(service);
                            last = Some(Way::Asked(service));
                        }
                        Some(Way::DroppedBy(service)) => {
                            return Ok(Fate {
                                asked,
                                managers: Vec::new(),
                                counted,
                                end: End::Dropped(DroppedBy::Service(service)),
                            });
                        }
                        Some(Way::Dropped) => {
                            return Ok(Fate {
                                asked,
                                managers: Vec::new(),
                                counted,
                                end: End::Dropped(reason()?),
                            });
                        }
                        Some(other) => last = Some(other),
                        None => {}
                    }
                }
                Err(_) => {
                    let end = match last {
                        Some(Way::Asked(service)) => End::Dropped(DroppedBy::Service(service)),
                        Some(Way::Agent(message)) => End::AtAgent(message),
                        Some(Way::Undelivered) => End::Dropped(reason()?),
                        Some(Way::Local) => End::AtAgent(Message::Local),
                        _ => End::Dropped(DroppedBy::Unknown),
                    };
                    return Ok(Fate {
                        asked,
                        managers: Vec::new(),
                        counted,
                        end,
                    });
                }
            }
        }
    }

    /// What became of a packet in one pass through the pipeline; `None` when it left.
    fn way(&self, trace: &Trace, cpu_port: u16) -> Option<Way> {
        let some = |of: fn(&Event) -> bool| trace.events.iter().any(of);
        let to = |ours: bool| {
            let mut events = trace.events.iter();
            events.any(|e| matches!(e, Event::Output { port, .. } if (*port == cpu_port) == ours))
        };
        // A copy for the agent is a notice, and the packet itself went another way.
        // Dropped, whatever its sender is told.
        let undelivered = some(|e| matches!(e, Event::Action { name, .. } if is_undelivered(name)));
        if undelivered {
            return Some(Way::Undelivered);
        }
        let to_agent = to(true) && !some(|e| matches!(e, Event::Clone { .. }));
        let dropped = some(|e| matches!(e, Event::Drop { .. })) && !to(false);
        // The table that decided is the last one that was looked up, hit or not: after a drop no stage
        // looks up its own, nor does the route.
        let table = trace.events.iter().rev().find_map(|event| match event {
            Event::Table { name, hit, .. } if self.decides(name) => Some((name.as_str(), *hit)),
            _ => None,
        });
        let service = table.and_then(|(name, _)| self.service_of(name));
        match (to_agent, dropped, service) {
            (true, _, Some(service)) => Some(Way::Asked(service)),
            (true, _, None) => Some(match table {
                Some(("Ingress.host", true)) => Way::Local,
                Some(("Ingress.route", _)) => Way::Agent(Message::Glean),
                Some(("Ingress.next_hop", _)) => Way::Agent(Message::Unresolved),
                _ => Way::Agent(Message::Ttl),
            }),
            (false, true, Some(service)) => Some(Way::DroppedBy(service)),
            (false, true, None) => Some(Way::Dropped),
            (false, false, _) => None,
        }
    }

    /// The observe services whose counters a pass moved: those whose flow's entry it met and, where
    /// flows are not counted by themselves, whose criteria.
    fn counted(&self, trace: &Trace, cpu_port: u16) -> Vec<ServiceIndex> {
        let asking = match self.way(trace, cpu_port) {
            Some(Way::Asked(service)) => Some(service),
            _ => None,
        };
        let services = &self.compiled.lowered.plan.services;
        let met = trace.events.iter().filter_map(|event| match event {
            Event::Table {
                name, hit: true, ..
            } => Some((self.service_of(name)?, name)),
            _ => None,
        });
        met.filter(|(service, table)| {
            services.get(service.0).is_some_and(|plan| {
                let own = plan.forward.fixed.as_ref() == Some(*table);
                let counts = plan.observe.as_ref().is_some_and(|o| own || !o.per_flow);
                counts && Some(*service) != asking
            })
        })
        .map(|(service, _)| service)
        .collect()
    }

    /// Whether a packet's way can end in that table; a compiler adds others for single actions.
    fn decides(&self, table: &str) -> bool {
        const AROUND: [&str; 5] = [
            "Ingress.ready",
            "Ingress.port",
            "Ingress.host",
            "Ingress.route",
            "Ingress.next_hop",
        ];
        AROUND.contains(&table) || self.service_of(table).is_some()
    }

    /// The service whose table that is.
    fn service_of(&self, table: &str) -> Option<ServiceIndex> {
        self.compiled
            .lowered
            .plan
            .services
            .iter()
            .position(|service| {
                [Some(&service.forward), service.reply.as_ref()]
                    .into_iter()
                    .flatten()
                    .any(|part| {
                        part.criteria_table == table || part.fixed.as_deref() == Some(table)
                    })
            })
            .map(ServiceIndex)
    }
}

/// Whether a frame of the agent's says that a packet ended here.
fn says_no(frame: &[u8]) -> bool {
    const RST: u8 = 4;
    packet::view(frame)
        .is_some_and(|view| view.kind == PacketKind::IcmpError || view.flags & RST != 0)
}

/// Whether a route's action drops a packet and shows it to the agent.
fn is_undelivered(action: &str) -> bool {
    matches!(action, "Ingress.closed" | "Ingress.unreachable")
}

/// Where one pass took a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Asked(ServiceIndex),
    DroppedBy(ServiceIndex),
    Dropped,
    /// Dropped, and the agent may tell its sender.
    Undelivered,
    Local,
    Agent(Message),
}

/// The reasons that the pipeline counts apart from services.
const REASONS: [DropReason; 8] = [
    DropReason::BadPacketOut,
    DropReason::UnknownPort,
    DropReason::NotIp,
    DropReason::Malformed,
    DropReason::WrongMac,
    DropReason::NoRoute,
    DropReason::NoNextHop,
    DropReason::NotServed,
];

fn watch(switch: &SwitchHandle, tell: Sender<Seen>) -> Result<(), Failure> {
    switch
        .on_trace(Some(Box::new(move |packet| {
            let _ = tell.send(Seen::Step {
                port: packet.port,
                trace: packet.trace,
            });
        })))
        .map_err(Failure::failed)
}

/// The pipeline's drop counter, a cell a reason.
fn drops(switch: &SwitchHandle) -> Result<Vec<u64>, Failure> {
    switch
        .call_blocking(|switch, _| {
            let Some(counter) = switch.schema().counter("Ingress.drops") else {
                return Vec::new();
            };
            (0..16)
                .map_while(|cell| switch.counter_read(counter, cell).ok())
                .map(|value| value.packets)
                .collect()
        })
        .map_err(Failure::failed)
}

impl Target for OnSwitch {
    fn reset(&mut self) {
        self.running = None;
        match self.start() {
            Ok(running) => self.running = Some(running),
            Err(problem) => self.problem = Some(problem),
        }
    }

    fn send(&mut self, port: u16, frame: &[u8]) -> Fate {
        self.try_send(port, frame).unwrap_or_else(|problem| {
            self.problem = Some(problem);
            Fate {
                asked: Vec::new(),
                managers: Vec::new(),
                counted: Vec::new(),
                end: End::Dropped(DroppedBy::Unknown),
            }
        })
    }
}

#[cfg(test)]
mod tests;
