//! The thin shell around a manager: one task that feeds it from its agents' channels and the clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use signalbox_agent::channel::{Channel, ManagerChannel, Sender};
use signalbox_agent::message::{Reason, ToAgent, ToManager};
use signalbox_lower::plan::Plan;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::manager::{Input, Manager, Output, Served, Status};
use crate::peer::{PeerChannel, PeerId, PeerMessage, PeerReason};
use crate::record::Record;
use crate::session::SessionId;
use crate::state::{self, Found, StateError, StateStore};

/// How long a goodbye to the store may take.
const LEAVE: Duration = Duration::from_millis(500);

/// How a session has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The way to the agent is gone.
    Gone,
    /// The agent would not have the manager.
    Refused(Reason, String),
    /// The manager has another plan, and wants the session anew.
    Replanned,
}

/// How a way to another manager has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEnd {
    /// The way is gone.
    Gone,
    /// The other would not have this one.
    Refused(PeerReason, String),
    /// This one would not have the other, or has another plan now.
    Closed,
}

/// The decisions of a manager's services, with their epochs.
type Services = Vec<Served>;

enum Event {
    Attach(ManagerChannel, Option<oneshot::Sender<End>>),
    Replan(Arc<Plan>, Services, oneshot::Sender<()>),
    Message(SessionId, ToManager),
    Gone(SessionId),
    Peer(PeerChannel, Option<oneshot::Sender<PeerEnd>>),
    PeerMessage(PeerId, PeerMessage),
    PeerGone(PeerId),
    Farewell(oneshot::Sender<()>),
    Drain {
        pool: String,
        server: String,
        drained: bool,
        reply: oneshot::Sender<Result<usize, String>>,
    },
    Status(oneshot::Sender<Status>),
    Store(u64, Result<Found, StateError>),
}

/// What can be asked of a running manager. Clones share it; when the last one is dropped, the manager stops.
#[derive(Debug, Clone)]
pub struct Handle {
    events: mpsc::UnboundedSender<Event>,
    _alive: Arc<watch::Sender<()>>,
}

/// The manager has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the manager has stopped")]
pub struct Stopped;

impl Handle {
    /// Gives the manager a way to an agent.
    pub fn attach(&self, channel: ManagerChannel) {
        let _ = self.events.send(Event::Attach(channel, None));
    }

    /// The same, and waits until the session has ended.
    ///
    /// # Errors
    /// The manager has stopped.
    pub async fn session(&self, channel: ManagerChannel) -> Result<End, Stopped> {
        let (tx, rx) = oneshot::channel();
        (self.events.send(Event::Attach(channel, Some(tx)))).map_err(|_| Stopped)?;
        rx.await.map_err(|_| Stopped)
    }

    /// Gives the manager a way to another one, whichever that is.
    pub fn link(&self, channel: PeerChannel) {
        let _ = self.events.send(Event::Peer(channel, None));
    }

    /// The same, and waits until the way has ended.
    ///
    /// # Errors
    /// The manager has stopped.
    pub async fn linked(&self, channel: PeerChannel) -> Result<PeerEnd, Stopped> {
        let (tx, rx) = oneshot::channel();
        (self.events.send(Event::Peer(channel, Some(tx)))).map_err(|_| Stopped)?;
        rx.await.map_err(|_| Stopped)
    }

    /// Gives it another plan (see [`Manager::replan`]).
    ///
    /// # Errors
    /// It has stopped.
    pub async fn replan(&self, plan: Arc<Plan>, services: Services) -> Result<(), Stopped> {
        let (tx, rx) = oneshot::channel();
        (self.events.send(Event::Replan(plan, services, tx))).map_err(|_| Stopped)?;
        rx.await.map_err(|_| Stopped)
    }

    /// Has it say goodbye to its agents (see [`Manager::farewell`]); what it has said is on its way afterwards.
    ///
    /// # Errors
    /// It has stopped.
    pub async fn farewell(&self) -> Result<(), Stopped> {
        let (tx, rx) = oneshot::channel();
        self.events.send(Event::Farewell(tx)).map_err(|_| Stopped)?;
        rx.await.map_err(|_| Stopped)
    }

    /// Has it drain a server, or put it back (see [`Manager::drain`]).
    ///
    /// # Errors
    /// One line: the pool has no such server, or the manager has stopped.
    pub async fn drain(&self, pool: &str, server: &str, drained: bool) -> Result<usize, String> {
        let (reply, rx) = oneshot::channel();
        let event = Event::Drain {
            pool: pool.to_owned(),
            server: server.to_owned(),
            drained,
            reply,
        };
        self.events.send(event).map_err(|_| Stopped.to_string())?;
        rx.await.map_err(|_| Stopped.to_string())?
    }

    /// Its state.
    ///
    /// # Errors
    /// It has stopped.
    pub async fn status(&self) -> Result<Status, Stopped> {
        let (tx, rx) = oneshot::channel();
        self.events.send(Event::Status(tx)).map_err(|_| Stopped)?;
        rx.await.map_err(|_| Stopped)
    }
}

/// Takes what a manager was told of counts. It must not wait: what it cannot take at once it counts as lost.
pub type Tap = Box<dyn FnMut(Record) + Send>;

/// Starts a manager on a tokio runtime. Aborting the task is a manager's sudden death: it says no goodbye.
#[must_use]
pub fn start(manager: Manager) -> (Handle, tokio::task::JoinHandle<()>) {
    start_tapped(manager, Box::new(drop), None)
}

/// The store that a manager shares with others, and where it says that another process has taken its place.
pub struct Sharing {
    /// The store.
    pub store: Arc<dyn StateStore>,
    /// Told why, once.
    pub ends: Box<dyn Fn(String) + Send>,
}

/// The same for a manager whose records somebody wants, and that may share a store.
#[must_use]
pub fn start_tapped(
    manager: Manager,
    tap: Tap,
    sharing: Option<Sharing>,
) -> (Handle, tokio::task::JoinHandle<()>) {
    let manager = match &sharing {
        Some(sharing) => manager.with_store(&sharing.store.place()),
        None => manager,
    };
    let (events_tx, events) = mpsc::unbounded_channel();
    let (alive, gone) = watch::channel(());
    let handle = Handle {
        events: events_tx.clone(),
        _alive: Arc::new(alive),
    };
    let shell = Shell {
        manager,
        tap,
        sharing,
        start: Instant::now(),
        events_tx,
        agents: Ways(BTreeMap::new()),
        peers: Ways(BTreeMap::new()),
        last: 0,
    };
    (handle, tokio::spawn(shell.run(events, gone)))
}

struct Shell {
    manager: Manager,
    tap: Tap,
    sharing: Option<Sharing>,
    start: Instant,
    events_tx: mpsc::UnboundedSender<Event>,
    agents: Ways<ToAgent, End>,
    peers: Ways<PeerMessage, PeerEnd>,
    /// The last number of a way, to agents and to other managers alike.
    last: u64,
}

/// A way on which `S` is sent; who has opened it may wait for its `E`nd.
struct Way<S, E> {
    tx: Box<dyn Sender<S>>,
    listener: tokio::task::JoinHandle<()>,
    end: Option<oneshot::Sender<E>>,
}

impl<S, E> Drop for Way<S, E> {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

struct Ways<S, E>(BTreeMap<u64, Way<S, E>>);

impl<S, E> Ways<S, E> {
    /// Opens a way: what comes in by it, and that it is gone, are events from now on.
    fn open<R: 'static>(
        &mut self,
        id: u64,
        (channel, end): (Box<dyn Channel<S, R>>, Option<oneshot::Sender<E>>),
        events: mpsc::UnboundedSender<Event>,
        message: fn(u64, R) -> Event,
        gone: fn(u64) -> Event,
    ) {
        let (tx, mut rx) = channel.split();
        let listener = tokio::spawn(async move {
            while let Some(received) = rx.recv().await {
                if events.send(message(id, received)).is_err() {
                    return;
                }
            }
            let _ = events.send(gone(id));
        });
        self.0.insert(id, Way { tx, listener, end });
    }

    /// A way that is gone is noticed by the end of what comes in by it.
    fn send(&self, id: u64, message: S) {
        if let Some(way) = self.0.get(&id) {
            let _ = way.tx.send(message);
        }
    }

    fn end(&mut self, id: u64, how: E) {
        if let Some(end) = self.0.remove(&id).and_then(|mut way| way.end.take()) {
            let _ = end.send(how);
        }
    }
}

impl Shell {
    async fn run(
        mut self,
        mut events: mpsc::UnboundedReceiver<Event>,
        mut gone: watch::Receiver<()>,
    ) {
        let mut gathered = Vec::with_capacity(256);
        loop {
            let at = self.manager.next_deadline().map_or_else(
                || Instant::now() + Duration::from_secs(3600),
                |d| self.start + d,
            );
            tokio::select! {
                n = events.recv_many(&mut gathered, 256) => {
                    if n == 0 {
                        return;
                    }
                    for event in gathered.drain(..) {
                        self.event(event);
                    }
                }
                () = tokio::time::sleep_until(at) => self.feed(Input::Tick),
                changed = gone.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Attach(channel, end) => {
                self.last += 1;
                let (id, events) = (self.last, self.events_tx.clone());
                let way = (channel, end);
                (self.agents).open(id, way, events, Event::Message, Event::Gone);
                self.feed(Input::Connected(id));
            }
            Event::Message(id, message) => self.feed(Input::Message(id, message)),
            Event::Gone(id) => {
                self.agents.end(id, End::Gone);
                self.feed(Input::Disconnected(id));
            }
            Event::Peer(channel, end) => {
                self.last += 1;
                let (id, events) = (self.last, self.events_tx.clone());
                let way = (channel, end);
                (self.peers).open(id, way, events, Event::PeerMessage, Event::PeerGone);
                self.feed(Input::PeerConnected(id));
            }
            Event::PeerMessage(id, message) => self.feed(Input::Peer(id, message)),
            Event::PeerGone(id) => {
                self.peers.end(id, PeerEnd::Gone);
                self.feed(Input::PeerDisconnected(id));
            }
            Event::Replan(plan, services, done) => {
                let outputs = self.manager.replan(self.start.elapsed(), &plan, services);
                self.carry_out(outputs);
                let _ = done.send(());
            }
            Event::Farewell(done) => {
                let outputs = self.manager.farewell(self.start.elapsed());
                self.carry_out(outputs);
                match &self.sharing {
                    Some(sharing) => {
                        let store = Arc::clone(&sharing.store);
                        tokio::spawn(async move {
                            // What cannot be said now ends by itself.
                            let _ = tokio::time::timeout(LEAVE, store.leave()).await;
                            let _ = done.send(());
                        });
                    }
                    None => {
                        let _ = done.send(());
                    }
                }
            }
            Event::Store(number, result) => self.feed(Input::Store(number, result)),
            Event::Drain {
                pool,
                server,
                drained,
                reply,
            } => {
                let now = self.start.elapsed();
                let _ = reply.send(self.manager.drain(now, &pool, &server, drained));
            }
            Event::Status(reply) => {
                let _ = reply.send(self.manager.status());
            }
        }
    }

    fn feed(&mut self, input: Input) {
        let outputs = self.manager.handle(self.start.elapsed(), input);
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Message(id, message) => self.agents.send(id, message),
                Output::Refused {
                    session,
                    reason,
                    text,
                } => self.agents.end(session, End::Refused(reason, text)),
                Output::Opened { agent, .. } => {
                    tracing::info!("{}: agent `{agent}` is there", self.manager.name());
                }
                Output::Close(id) => self.agents.end(id, End::Replanned),
                Output::Peer(id, message) => self.peers.send(id, message),
                Output::PeerRefused { peer, reason, text } => {
                    self.peers.end(peer, PeerEnd::Refused(reason, text));
                }
                Output::PeerClose(id) => self.peers.end(id, PeerEnd::Closed),
                Output::Log(line) => tracing::info!("{line}"),
                Output::Record(record) => (self.tap)(record),
                Output::Store(round) => {
                    if let Some(sharing) = &self.sharing {
                        let (store, events) = (Arc::clone(&sharing.store), self.events_tx.clone());
                        tokio::spawn(async move {
                            let result = state::carry_out(&*store, &round).await;
                            let _ = events.send(Event::Store(round.number, result));
                        });
                    }
                }
                Output::End(text) => {
                    if let Some(sharing) = &self.sharing {
                        (sharing.ends)(text);
                    }
                }
            }
        }
    }
}
