//! The ways between managers that share decisions: which of a plan do, in one process or in several. What goes
//! over such a way is the managers' own business.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use signalbox_lower::plan::Plan;
use signalbox_manager::peer::{self, PeerChannel, PeerReason, grpc};
use signalbox_manager::shell::{Handle, PeerEnd};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::managers::States;
use super::tries::{DIAL, OTHER_PLAN, Tries, dialled};
use crate::failure::Failure;

/// Between two tries at most: a manager that is back does not claim its share before it has learned from the other
/// one, and waits for that as long as its policy's `after`.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The pairs of managers of which one tells the other of its decisions, each in order of names.
pub fn pairs(plan: &Plan) -> BTreeSet<(&str, &str)> {
    let shares = plan.services.iter().flat_map(|service| &service.shares);
    shares
        .filter_map(|share| {
            let backup = share.backup.as_ref().filter(|b| b.replicate.is_some())?;
            let (one, other) = (share.manager.as_str(), backup.manager.as_str());
            Some((one.min(other), one.max(other)))
        })
        .collect()
}

/// The managers with which one shares decisions.
fn peers_of<'a>(plan: &'a Plan, name: &str) -> Vec<&'a str> {
    (pairs(plan).into_iter())
        .filter_map(|(one, other)| match (one == name, other == name) {
            (true, _) => Some(other),
            (_, true) => Some(one),
            _ => None,
        })
        .collect()
}

/// Leads a way between two managers of this process.
pub fn join(one: &Handle, other: &Handle) {
    let (this_end, that_end) = peer::memory();
    one.link(Box::new(this_end));
    other.link(Box::new(that_end));
}

/// Where a manager meets others: where it listens for them, and where it looks for them.
#[derive(Debug, Clone, Default)]
pub struct Meeting {
    /// An address of loopback.
    pub listen: Option<SocketAddr>,
    /// Names of managers, and HOST:PORT.
    pub peers: Vec<(String, String)>,
}

impl Meeting {
    /// Whether that is where a manager of a plan meets all with which it shares decisions, and nobody else.
    ///
    /// # Errors
    /// One line: what is missing, or too much.
    pub fn check(&self, plan: &Plan, name: &str) -> Result<(), String> {
        let wanted = peers_of(plan, name);
        let nobody = || {
            format!(
                "policy `{}` has no `replicate` between `{name}` and another manager",
                plan.policy
            )
        };
        let mut seen = BTreeSet::new();
        for (peer, address) in &self.peers {
            if !wanted.contains(&peer.as_str()) {
                let with = match wanted.as_slice() {
                    [] => nobody(),
                    wanted => format!("`{name}` shares decisions with {}", quoted(wanted)),
                };
                return Err(format!("`--peer {peer}={address}`: {with}"));
            }
            if !seen.insert(peer.as_str()) {
                return Err(format!("`--peer {peer}=…` is given twice"));
            }
        }
        if let Some(address) = self.listen {
            if wanted.is_empty() {
                return Err(format!("`--listen {address}`: {}; leave it out", nobody()));
            }
            return Ok(());
        }
        let missing: Vec<&str> = (wanted.into_iter())
            .filter(|peer| !seen.contains(peer))
            .collect();
        match missing.as_slice() {
            [] => Ok(()),
            missing => Err(format!(
                "policy `{}` has `{name}` share decisions with {}, and it is not said where they meet; give \
                 one of the two `--listen ADDR:PORT`, and the other `--peer NAME=HOST:PORT`",
                plan.policy,
                quoted(missing)
            )),
        }
    }
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// A manager's meeting with others. Dropping it ends what is open of it.
pub struct Running {
    tasks: Vec<JoinHandle<()>>,
    /// Where it listens.
    pub listen: Option<SocketAddr>,
    /// What the ways that it opens are like, by the others' names.
    pub states: States,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A port at which other managers come in.
pub struct PeerDoor {
    address: SocketAddr,
    ways: mpsc::UnboundedReceiver<PeerChannel>,
    server: JoinHandle<()>,
}

impl PeerDoor {
    /// Listens on an address of loopback. Who comes before the manager is there waits.
    ///
    /// # Errors
    /// The address is not one of loopback, or cannot be had.
    pub async fn open(address: SocketAddr) -> Result<Self, Failure> {
        if !address.ip().is_loopback() {
            return Err(Failure::Usage(format!(
                "`--listen {address}`: expected an address of loopback, 127.0.0.1 or [::1]: whoever reaches a manager tells it of decisions, and there are no keys yet to tell who may"
            )));
        }
        let (tx, ways) = mpsc::unbounded_channel();
        let (address, server) = grpc::serve(address, tx).await.map_err(Failure::failed)?;
        Ok(Self {
            address,
            ways,
            server,
        })
    }
}

impl Running {
    /// Has a manager meet others.
    pub fn start(
        name: &str,
        handle: &Handle,
        door: Option<PeerDoor>,
        peers: &[(String, String)],
    ) -> Self {
        let states = States::default();
        let mut tasks = Vec::new();
        let listen = door.as_ref().map(|door| door.address);
        if let Some(mut door) = door {
            let handle = handle.clone();
            tasks.push(door.server);
            tasks.push(tokio::spawn(async move {
                while let Some(way) = door.ways.recv().await {
                    handle.link(way);
                }
            }));
        }
        for (peer, address) in peers {
            let way = Way {
                manager: name.to_owned(),
                peer: peer.clone(),
                address: address.clone(),
                handle: handle.clone(),
                states: states.clone(),
            };
            tasks.push(tokio::spawn(way.keep()));
        }
        Self {
            tasks,
            listen,
            states,
        }
    }
}

/// A way to another manager, kept open.
struct Way {
    manager: String,
    peer: String,
    address: String,
    handle: Handle,
    states: States,
}

impl Way {
    async fn keep(self) {
        let mut tries = Tries::new(LONGEST_PAUSE);
        loop {
            tries.begin();
            let url = format!("http://{}", self.address);
            let connection = tokio::time::timeout(DIAL, grpc::connect(&url)).await;
            let problem = match dialled("manager", connection) {
                Err(problem) => problem,
                Ok(channel) => {
                    self.states.set(&self.peer, "connected");
                    match self.handle.linked(Box::new(channel)).await {
                        Ok(PeerEnd::Gone) => "the link has ended".to_owned(),
                        Ok(PeerEnd::Closed) => "the link was closed on this side".to_owned(),
                        Ok(PeerEnd::Refused(PeerReason::Plan, _)) => OTHER_PLAN.to_owned(),
                        Ok(PeerEnd::Refused(_, text)) => format!("it refuses this one: {text}"),
                        // The manager has stopped.
                        Err(_) => return,
                    }
                }
            };
            self.states.set(&self.peer, &problem);
            tries.end();
            if tries.is_news(&problem) {
                tracing::warn!(
                    "{}: manager `{}` at {}: {problem}; trying again",
                    self.manager,
                    self.peer,
                    self.address
                );
            }
            tries.pause().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use signalbox_agent::testing::{self, with_backup};
    use signalbox_lower::plan::Replicate;

    use super::*;

    /// web-lb is lb-1's, and lb-2 is told of its decisions if `replicate`.
    fn plan(replicate: Option<Replicate>) -> Plan {
        with_backup(testing::plan(), "lb-2", 1_000, replicate)
    }

    fn meeting(listen: Option<&str>, peers: &[(&str, &str)]) -> Meeting {
        Meeting {
            listen: listen.map(|at| at.parse().unwrap()),
            peers: (peers.iter())
                .map(|(name, at)| ((*name).to_owned(), (*at).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn managers_that_share_decisions_must_meet_and_others_must_not() {
        let alone = meeting(None, &[]);
        let listens = meeting(Some("127.0.0.1:9580"), &[]);
        let looks = meeting(None, &[("lb-1", "127.0.0.1:9580")]);
        let none = plan(None);
        let sync = plan(Some(Replicate::Sync));
        assert_eq!(pairs(&none).len(), 0);
        assert_eq!(pairs(&sync).into_iter().next(), Some(("lb-1", "lb-2")));
        assert_eq!(alone.check(&none, "lb-1"), Ok(()));
        assert_eq!(listens.check(&sync, "lb-1"), Ok(()));
        assert_eq!(looks.check(&sync, "lb-2"), Ok(()));
        let error = |meeting: &Meeting, plan, name| meeting.check(plan, name).unwrap_err();
        assert_eq!(
            error(&alone, &sync, "lb-1"),
            "policy `web` has `lb-1` share decisions with `lb-2`, and it is not said where they meet; give one \
             of the two `--listen ADDR:PORT`, and the other `--peer NAME=HOST:PORT`"
        );
        assert_eq!(
            error(&listens, &none, "lb-1"),
            "`--listen 127.0.0.1:9580`: policy `web` has no `replicate` between `lb-1` and another manager; leave \
             it out"
        );
        assert_eq!(
            error(&looks, &none, "lb-2"),
            "`--peer lb-1=127.0.0.1:9580`: policy `web` has no `replicate` between `lb-2` and another manager"
        );
        let wrong = meeting(None, &[("lb-3", "127.0.0.1:1")]);
        assert_eq!(
            error(&wrong, &sync, "lb-2"),
            "`--peer lb-3=127.0.0.1:1`: `lb-2` shares decisions with `lb-1`"
        );
        let twice = meeting(None, &[("lb-1", "127.0.0.1:1"), ("lb-1", "127.0.0.1:2")]);
        assert_eq!(
            error(&twice, &sync, "lb-2"),
            "`--peer lb-1=…` is given twice"
        );
    }

    #[tokio::test]
    async fn nobody_listens_beyond_loopback() {
        let error = PeerDoor::open(([192, 0, 2, 1], 9580).into()).await;
        let Some(Failure::Usage(text)) = error.err() else {
            panic!("expected a wrong use");
        };
        assert!(text.contains("expected an address of loopback"), "{text}");
    }
}
