//! The connections of the demo: started, counted, and one of them traced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use signalbox_lower::plan::Plan;
use signalbox_switch::ports::MemoryPort;
use signalbox_switch::runner::{SwitchHandle, TracedPacket};

use super::cast::Cast;
use super::latency::FirstPackets;
use super::report::{Report, ServerShare, TracedStep};
use super::segment::Segment;
use super::steps;
use super::{DemoError, Options, ServiceView};
use crate::hosts::{Finished, HostIndex, Network};

/// Source ports of clients: these, one after the other, without using one twice.
const FIRST_PORT: u16 = 20_000;
/// Bytes before the Ethernet header in what the agent sends: `packet_out` of p4/lib.
const PACKET_OUT_HEADER: usize = 17;

/// Makes the connections and reports what came of them. `progress` is called with the number of
/// connections that are over.
///
/// # Errors
/// [`DemoError`] when the plan has nothing to connect to, the service does not get ready, or the
/// switch ends. Connections that fail are not errors; the report counts them.
pub fn run(
    switch: &SwitchHandle,
    plan: &Plan,
    view: &dyn ServiceView,
    options: &Options,
    mut progress: impl FnMut(u64),
) -> Result<Report, DemoError> {
    let cast = Cast::of(plan, options.clients, options.page)?;
    let service = cast.service;
    let into_switch = switch.clone();
    let (mut network, arrivals) = Network::new(move |port, frame| {
        // A switch that has ended takes no frames; the connections then fail.
        let _ = into_switch.inject(port, frame);
    });
    for port in &plan.ports {
        let sink = arrivals.sink(port.number);
        switch.add_port(port.number, Box::new(MemoryPort::new(sink)))?;
    }
    for (port, host) in cast.server_hosts {
        network.attach(port, host);
    }
    let clients: Vec<HostIndex> = cast
        .client_hosts
        .into_iter()
        .map(|(port, host)| network.attach(port, host))
        .collect();
    let first_packets = FirstPackets::default();
    let watcher = first_packets.clone();
    network.set_watch(move |watched| watcher.see(service, watched));

    // A server counts as up until a check fails: so wait until each has answered its first.
    let must_answer = if cast.checked {
        cast.listening
    } else {
        BTreeSet::new()
    };
    if !network.run_until(options.limit, |_| {
        first_packets.have_answered(&must_answer) && view.is_ready()
    }) {
        return Err(DemoError::NotReady(options.limit.as_secs()));
    }
    let before = view.manager_traffic();
    let start = Instant::now();
    let mut run = Run {
        network,
        clients,
        service,
        started: 0,
        finished: Vec::new(),
    };
    let untraced = options.connections.saturating_sub(1);
    run.make(untraced, options, &mut progress)?;
    let traced = Traced::start(switch, plan.cpu_port)?;
    run.make(options.connections, options, &mut progress)?;
    let seconds = start.elapsed().as_secs_f64();
    let trace = traced.stop(switch, service)?;
    let after = view.manager_traffic();
    Ok(Report {
        connections: u64::from(options.connections),
        completed: run.finished.iter().filter(|one| one.is_good_http()).count() as u64,
        interest_packets: after
            .interest_packets
            .saturating_sub(before.interest_packets),
        repeated_interest_packets: after
            .repeated_interest_packets
            .saturating_sub(before.repeated_interest_packets),
        established_packets_at_manager: after
            .established_packets
            .saturating_sub(before.established_packets),
        servers: shares(&cast.servers, &run.finished),
        first_packet_us: first_packets.percentiles(),
        seconds: (seconds * 1000.0).round() / 1000.0,
        trace,
    })
}

/// Connections under way.
struct Run {
    network: Network,
    clients: Vec<HostIndex>,
    service: SocketAddr,
    started: u32,
    finished: Vec<Finished>,
}

impl Run {
    /// Goes on until `all` connections have been made and are over, or the time is.
    fn make(
        &mut self,
        all: u32,
        options: &Options,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), DemoError> {
        let Self {
            network,
            clients,
            service,
            started,
            finished,
        } = self;
        let mut problem = None;
        network.run_until(options.limit, |network| {
            let before = finished.len();
            for client in clients.iter() {
                if let Some(host) = network.host(*client) {
                    finished.extend(host.take_finished());
                }
            }
            if finished.len() > before {
                progress(finished.len() as u64);
            }
            let over = u32::try_from(finished.len()).unwrap_or(u32::MAX);
            while *started < all && started.saturating_sub(over) < options.at_once {
                let number = *started as usize;
                let turn = clients.len().max(1);
                let client = clients.get(number % turn);
                let Some(host) = client.and_then(|client| network.host(*client)) else {
                    break;
                };
                let port =
                    FIRST_PORT.saturating_add(u16::try_from(number / turn).unwrap_or(u16::MAX));
                if let Err(error) = host.get(port, *service) {
                    problem = Some(error);
                    return true;
                }
                *started += 1;
            }
            over >= all
        });
        problem.map_or(Ok(()), |problem| Err(problem.into()))
    }
}

fn shares(servers: &[(String, u32)], finished: &[Finished]) -> Vec<ServerShare> {
    let mut got: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for one in finished {
        if let Some(server) = one.server() {
            let (connections, bytes) = got.entry(server).or_default();
            *connections += 1;
            *bytes += one.received.len() as u64 + one.sent;
        }
    }
    servers
        .iter()
        .map(|(name, weight)| {
            let (connections, bytes) = got.get(name.as_str()).copied().unwrap_or_default();
            ServerShare {
                name: name.clone(),
                weight: *weight,
                connections,
                bytes,
            }
        })
        .collect()
}

/// Collects traces while they are on.
struct Traced {
    cpu_port: u16,
    packets: Arc<Mutex<Vec<TracedPacket>>>,
}

impl Traced {
    fn start(switch: &SwitchHandle, cpu_port: u16) -> Result<Self, DemoError> {
        let packets: Arc<Mutex<Vec<TracedPacket>>> = Arc::default();
        let sink = Arc::clone(&packets);
        switch.on_trace(Some(Box::new(move |packet| {
            sink.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(packet);
        })))?;
        Ok(Self { cpu_port, packets })
    }

    /// Ends tracing and gives the passes of the last connection's first packet.
    fn stop(
        self,
        switch: &SwitchHandle,
        service: SocketAddr,
    ) -> Result<Vec<TracedStep>, DemoError> {
        switch.on_trace(None)?;
        let packets = self.packets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut client = None;
        let mut steps = Vec::new();
        for packet in packets.iter() {
            let from_agent = packet.port == self.cpu_port;
            let header = if from_agent { PACKET_OUT_HEADER } else { 0 };
            let Some(segment) = packet.bytes.get(header..).and_then(Segment::of) else {
                continue;
            };
            if segment.destination != service || !segment.opens() {
                continue;
            }
            let first = *client.get_or_insert(segment.source);
            if segment.source != first {
                continue;
            }
            let title = if from_agent {
                format!(
                    "the SYN of {first} comes back from the agent, with the manager's decision installed"
                )
            } else {
                format!("the SYN of {first} enters by port {}", packet.port)
            };
            steps.push(TracedStep {
                title,
                text: steps::describe(&packet.trace),
            });
        }
        Ok(steps)
    }
}
