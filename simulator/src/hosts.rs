//! The hosts: clients of the balance service, and hosts inside whose flows the nat service translates.
//!
//! They see only packets. A flow's server, or outside tuple, is where its SYN was last seen to go; what leaves a
//! switch and contradicts that is a broken promise.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use signalbox_agent::flow::Tuple;
use signalbox_agent::testing::{SERVICE, flags};

use crate::site::HALF_OPEN;

mod ends;

use ends::{CLIENT_PORTS, REMOTE, REMOTE_PORTS, tuple};

/// Where a flow is in its life, as its ends see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its opener has not been answered.
    Opening,
    /// It has.
    Established,
    /// It is over.
    Over,
}

/// A flow of a host.
#[derive(Debug, Clone)]
pub struct Flow {
    /// From inside.
    pub nat: bool,
    /// As its opener sends it.
    pub tuple: Tuple,
    /// The agent that its packets come to.
    pub agent: usize,
    /// Where it is in its life.
    pub phase: Phase,
    /// How often its opener's packets have got there.
    pub arrived: usize,
    /// Whether its opener has been answered since it opened it.
    pub is_answered: bool,
    /// When its SYN first got there.
    pub since: Option<Duration>,
    /// Whether it goes to no other agent.
    pub stays: bool,
    /// Its server, or its outside address and port.
    pub to: Option<(IpAddr, u16)>,
    /// Its server before, when it was opened before.
    pub former: Option<(IpAddr, u16)>,
}

/// A packet that a host sends.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    /// The agent that it comes to.
    pub agent: usize,
    /// The port that it comes in on.
    pub port: u16,
    /// Its tuple.
    pub tuple: Tuple,
    /// Its TCP flags.
    pub flags: u8,
}

/// A promise that a packet has broken: the statement, and how.
pub type Broken = (&'static str, String);

/// All hosts' flows, by number.
#[derive(Debug)]
pub struct Hosts {
    /// Nothing has gone wrong yet.
    pub calm: bool,
    /// A manager and its backup were cut off from each other: what the backup was told may be old.
    pub parted: bool,
    /// Clients have several addresses.
    pub clients: bool,
    /// The flows.
    pub flows: BTreeMap<usize, Flow>,
}

fn is_inside(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(a) if a.octets()[0] == 10)
}

impl Hosts {
    /// The address that the flow of a number comes from.
    #[must_use]
    pub fn from(&self, number: usize, nat: bool) -> IpAddr {
        tuple(number, nat, self.clients).src
    }

    /// A new flow, or the same ends again after one that is over.
    pub fn open(&mut self, number: usize, agent: usize, nat: bool) -> Packet {
        let flow = self.flows.entry(number).or_insert(Flow {
            nat,
            tuple: tuple(number, nat, self.clients),
            agent,
            phase: Phase::Opening,
            arrived: 0,
            is_answered: false,
            since: None,
            stays: false,
            to: None,
            former: None,
        });
        flow.opener(flags::SYN)
    }

    /// A client opens a flow once more that is over.
    pub fn again(&mut self, number: usize) -> Option<Packet> {
        let flow = self.flows.get_mut(&number)?;
        if flow.phase != Phase::Over || flow.nat {
            return None;
        }
        flow.phase = Phase::Opening;
        flow.is_answered = false;
        flow.since = None;
        Some(flow.opener(flags::SYN))
    }

    /// A flow's SYN at another agent, while nothing has gone wrong.
    #[must_use]
    pub fn elsewhere(&self, number: usize, agent: usize) -> Option<Packet> {
        let flow = self.flows.get(&number)?;
        let opening = self.calm && flow.phase == Phase::Opening && !flow.nat;
        opening.then_some(Packet {
            agent,
            ..flow.opener(flags::SYN)
        })
    }

    /// Whether an established flow is opened so.
    #[must_use]
    pub fn has(&self, tuple: &Tuple) -> bool {
        let flows = self.flows.values();
        flows
            .filter(|f| f.phase == Phase::Established)
            .any(|f| f.tuple == *tuple)
    }

    /// The opener's next packet.
    #[must_use]
    pub fn send(&self, number: usize) -> Option<Packet> {
        let flow = self.flows.get(&number)?;
        match flow.phase {
            Phase::Opening => Some(flow.opener(flags::SYN)),
            Phase::Established => Some(flow.opener(flags::ACK)),
            Phase::Over => None,
        }
    }

    /// The other end's next packet.
    #[must_use]
    pub fn answer(&self, number: usize) -> Option<Packet> {
        let flow = self.flows.get(&number)?;
        match flow.phase {
            // Only who has had the SYN answers it.
            Phase::Opening if flow.nat || flow.since.is_some() => {
                flow.other(flags::SYN | flags::ACK)
            }
            Phase::Opening => None,
            Phase::Established => flow.other(flags::ACK),
            Phase::Over => None,
        }
    }

    /// The last packets of a flow.
    pub fn end(&mut self, number: usize, reset: bool) -> Vec<Packet> {
        let Some(flow) = self.flows.get_mut(&number) else {
            return Vec::new();
        };
        if flow.phase == Phase::Over {
            return Vec::new();
        }
        flow.phase = Phase::Over;
        if reset {
            return vec![flow.opener(flags::RST)];
        }
        let fin = flags::FIN | flags::ACK;
        (flow.other(fin).into_iter())
            .chain([flow.opener(fin)])
            .collect()
    }

    /// An established flow's packets come to another agent from now on.
    pub fn go(&mut self, number: usize, agent: usize) -> bool {
        let flow =
            (self.flows.get_mut(&number)).filter(|f| f.phase == Phase::Established && !f.stays);
        flow.map(|f| f.agent = agent).is_some()
    }

    /// A client's packet in mid-flow that nobody knows.
    #[must_use]
    pub fn stranger(&self, agent: usize, port: u16) -> Packet {
        let flow = Tuple {
            sport: port,
            ..tuple(0, false, self.clients)
        };
        Packet {
            agent,
            port: 1,
            tuple: flow,
            flags: flags::ACK,
        }
    }

    /// A packet has left an agent's switch.
    ///
    /// # Errors
    /// It should not have, or not so.
    pub fn arrives(&mut self, now: Duration, port: u16, t: &Tuple, seen: u8) -> Result<(), Broken> {
        if port == 1 && is_inside(t.src) {
            return Err(("A9.10", format!("{t} left untranslated")));
        }
        let number = |port: u16, from: u16| usize::from(port.wrapping_sub(from));
        if t.src == IpAddr::from(SERVICE) {
            if let Some(flow) = self.flows.get_mut(&number(t.dport, CLIENT_PORTS)) {
                if t.dst != flow.tuple.src {
                    let text = format!("{t} is an answer to {}", flow.tuple);
                    return Err(("A6.1", text));
                }
                flow.answered();
            }
            return Ok(());
        }
        if t.dst == REMOTE && t.dport >= REMOTE_PORTS {
            if let Some(flow) = self.flows.get_mut(&number(t.dport, REMOTE_PORTS)) {
                flow.to = Some((t.src, t.sport));
                flow.arrived += 1;
            }
            return Ok(());
        }
        if is_inside(t.dst) && t.sport < CLIENT_PORTS {
            if let Some(flow) = self.flows.get_mut(&number(t.sport, REMOTE_PORTS)) {
                if (t.dst, t.dport) != (flow.tuple.src, flow.tuple.sport) {
                    let text = format!("{t} is an answer to {}", flow.tuple);
                    return Err(("A2.3", text));
                }
                flow.answered();
            }
            return Ok(());
        }
        if !is_inside(t.dst) {
            return Ok(());
        }
        let Some(flow) = self.flows.get_mut(&number(t.sport, CLIENT_PORTS)) else {
            return Err(("A8.4", format!("{t} is of no flow, and got a server")));
        };
        flow.arrived += 1;
        let to = (t.dst, t.dport);
        if seen == flags::SYN && flow.phase != Phase::Established {
            let other = flow.to.filter(|former| *former != to);
            let soon = flow.since.is_some_and(|since| now < since + HALF_OPEN);
            if let (true, true, Some((server, _))) = (self.calm, soon, other) {
                let text = format!("{} has {server}, and a SYN went to {}", flow.tuple, t.dst);
                return Err(("A6.2", text));
            }
            if other.is_some() || flow.since.is_none() {
                flow.since = Some(now);
            }
            // Other agents may hold what was decided before, and with faults a manager may not know.
            flow.stays |= !self.calm && other.is_some();
            flow.former = other.or(flow.former);
            flow.to = Some(to);
            return Ok(());
        }
        match flow.to {
            Some(_) if self.parted && flow.former == Some(to) => Ok(()),
            Some(server) if server == to => Ok(()),
            // A SYN was decided about, for the first time or anew, and was lost on its way: the manager knows
            // the flow.
            _ if !flow.is_answered && flow.since.is_none_or(|since| now >= since + HALF_OPEN) => {
                flow.to = Some(to);
                Ok(())
            }
            None => Ok(()),
            Some((server, _)) => Err((
                "A6.1",
                format!(
                    "{} has {server}, and a packet went to {}",
                    flow.tuple, t.dst
                ),
            )),
        }
    }
}

impl Flow {
    fn answered(&mut self) {
        self.is_answered = true;
        if self.phase == Phase::Opening {
            self.phase = Phase::Established;
        }
    }
}
