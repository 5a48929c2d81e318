//! The interfaces of a service's ports: whether they carry packets, and who is told when they do not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use signalbox_switch::ports::{Link, LinkState};

/// How often the interfaces are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// The interfaces by port. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Links(Arc<BTreeMap<u16, Link>>);

impl Links {
    /// These ones.
    pub fn new(by_port: BTreeMap<u16, Link>) -> Self {
        Self(Arc::new(by_port))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The interface of a port.
    pub fn of(&self, port: u16) -> Option<&Link> {
        self.0.get(&port)
    }

    /// A line for each interface that carries no packets now.
    pub fn warnings(&self) -> Vec<String> {
        self.0
            .iter()
            .filter_map(|(port, link)| problem(*port, link, link.state()))
            .collect()
    }

    /// Logs what becomes of the interfaces, for ever.
    pub async fn watch(self) {
        let mut states: BTreeMap<u16, LinkState> = self.states();
        loop {
            tokio::time::sleep(EVERY).await;
            let now = self.states();
            for (port, link) in self.0.iter() {
                let Some(state) = now.get(port).copied() else {
                    continue;
                };
                if states.get(port) == Some(&state) {
                    continue;
                }
                match problem(*port, link, state) {
                    Some(problem) => tracing::warn!("{problem}"),
                    None => tracing::warn!("port {port}: interface `{}` is back", link.name()),
                }
            }
            states = now;
        }
    }

    fn states(&self) -> BTreeMap<u16, LinkState> {
        let states = self.0.iter().map(|(port, link)| (*port, link.state()));
        states.collect()
    }
}

fn problem(port: u16, link: &Link, state: LinkState) -> Option<String> {
    let name = link.name();
    match state {
        LinkState::Up => None,
        LinkState::NoCarrier => Some(format!(
            "port {port}: interface `{name}` has no carrier: its other end is down or not there"
        )),
        LinkState::Down => Some(format!(
            "port {port}: interface `{name}` is down; `ip link set {name} up` brings it up"
        )),
        LinkState::Gone => Some(format!(
            "port {port}: interface `{name}` is gone; the port stays down until `run` is started again"
        )),
    }
}
