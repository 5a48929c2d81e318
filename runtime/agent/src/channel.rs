//! The way between an agent and a manager: in memory, or by gRPC (see `grpc`), and with faults if wanted.
//!
//! The messages are the same on every way. [`FaultLine`] is the pure part of faults: it takes messages
//! with the time and gives them back late, twice or never, as its seed says; tests drive it by hand, and
//! [`Faulty`] puts it around any channel.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::message::{ToAgent, ToManager};

/// The other end is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other end of the channel is gone")]
pub struct Closed;

/// Where messages go.
pub trait Sender<T>: Send + Sync {
    /// Sends without waiting. What a way holds is bounded by the protocol: questions by held packets,
    /// everything else by their number.
    ///
    /// # Errors
    /// The other end is gone.
    fn send(&self, message: T) -> Result<(), Closed>;
}

/// Where messages come from.
#[async_trait]
pub trait Receiver<T>: Send {
    /// The next message; `None` when the other end is gone.
    async fn recv(&mut self) -> Option<T>;
}

/// One end of a session: sends `S`, receives `R`.
pub trait Channel<S, R>: Send {
    /// Its two directions.
    fn split(self: Box<Self>) -> (Box<dyn Sender<S>>, Box<dyn Receiver<R>>);
}

/// An agent's end.
pub type AgentChannel = Box<dyn Channel<ToManager, ToAgent>>;
/// A manager's end.
pub type ManagerChannel = Box<dyn Channel<ToAgent, ToManager>>;

/// One end of a channel in memory.
#[derive(Debug)]
pub struct Memory<S, R> {
    tx: mpsc::UnboundedSender<S>,
    rx: mpsc::UnboundedReceiver<R>,
}

impl<S, R> Memory<S, R> {
    /// An end from its halves.
    #[must_use]
    pub fn new(tx: mpsc::UnboundedSender<S>, rx: mpsc::UnboundedReceiver<R>) -> Self {
        Self { tx, rx }
    }
}

/// Both ends of a session in memory: the agent's and the manager's.
#[must_use]
pub fn memory() -> (Memory<ToManager, ToAgent>, Memory<ToAgent, ToManager>) {
    let (to_manager, from_agent) = mpsc::unbounded_channel();
    let (to_agent, from_manager) = mpsc::unbounded_channel();
    (
        Memory::new(to_manager, from_manager),
        Memory::new(to_agent, from_agent),
    )
}

impl<T: Send> Sender<T> for mpsc::UnboundedSender<T> {
    fn send(&self, message: T) -> Result<(), Closed> {
        mpsc::UnboundedSender::send(self, message).map_err(|_| Closed)
    }
}

#[async_trait]
impl<T: Send> Receiver<T> for mpsc::UnboundedReceiver<T> {
    async fn recv(&mut self) -> Option<T> {
        mpsc::UnboundedReceiver::recv(self).await
    }
}

impl<S: Send + 'static, R: Send + 'static> Channel<S, R> for Memory<S, R> {
    fn split(self: Box<Self>) -> (Box<dyn Sender<S>>, Box<dyn Receiver<R>>) {
        (Box::new(self.tx), Box::new(self.rx))
    }
}

/// What may happen to a message on its way; chances in 1,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// The same seed does the same.
    pub seed: u64,
    /// Lost.
    pub lose: u16,
    /// Sent twice.
    pub double: u16,
    /// Late by up to `by`; others may so overtake it.
    pub delay: u16,
    /// The longest delay.
    pub by: Duration,
}

impl Faults {
    /// A way that does nothing wrong.
    #[must_use]
    pub fn none() -> Self {
        Self {
            seed: 0,
            lose: 0,
            double: 0,
            delay: 0,
            by: Duration::ZERO,
        }
    }
}

/// One direction of a way with faults.
#[derive(Debug)]
pub struct FaultLine<T> {
    faults: Faults,
    state: u64,
    sequence: u64,
    on_the_way: BTreeMap<(Duration, u64), T>,
}

impl<T: Clone> FaultLine<T> {
    /// An empty line.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        Self {
            faults,
            state: faults.seed,
            sequence: 0,
            on_the_way: BTreeMap::new(),
        }
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn happens(&mut self, chance: u16) -> bool {
        self.random() % 1000 < u64::from(chance)
    }

    /// A message sets out.
    pub fn push(&mut self, now: Duration, message: T) {
        let copies = if self.happens(self.faults.double) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            if self.happens(self.faults.lose) {
                continue;
            }
            let mut at = now;
            if self.happens(self.faults.delay) {
                let most = u64::try_from(self.faults.by.as_micros()).unwrap_or(u64::MAX - 1);
                at += Duration::from_micros(self.random() % (most + 1));
            }
            self.sequence += 1;
            self.on_the_way.insert((at, self.sequence), message.clone());
        }
    }

    /// The next message that has arrived.
    pub fn pop(&mut self, now: Duration) -> Option<T> {
        let first = self.on_the_way.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the next one arrives.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.on_the_way.keys().next().map(|(at, _)| *at)
    }
}

/// A channel with faults in what its owner sends.
#[derive(Debug)]
pub struct Faulty<C> {
    inner: C,
    faults: Faults,
}

impl<C> Faulty<C> {
    /// Puts faults on a channel.
    #[must_use]
    pub fn new(inner: C, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

impl<C, S, R> Channel<S, R> for Faulty<C>
where
    C: Channel<S, R> + 'static,
    S: Clone + Send + Sync + 'static,
    R: 'static,
{
    fn split(self: Box<Self>) -> (Box<dyn Sender<S>>, Box<dyn Receiver<R>>) {
        let (inner, receiver) = Box::new(self.inner).split();
        let (tx, rx) = mpsc::unbounded_channel();
        tokio::spawn(carry(FaultLine::new(self.faults), rx, inner));
        (Box::new(tx), receiver)
    }
}

async fn carry<T: Clone + Send>(
    mut line: FaultLine<T>,
    mut rx: mpsc::UnboundedReceiver<T>,
    to: Box<dyn Sender<T>>,
) {
    let start = tokio::time::Instant::now();
    loop {
        while let Some(message) = line.pop(start.elapsed()) {
            if to.send(message).is_err() {
                return;
            }
        }
        let wake = line.next().map(|at| start + at);
        let message = match wake {
            Some(at) => tokio::select! {
                m = rx.recv() => m,
                () = tokio::time::sleep_until(at) => continue,
            },
            None => rx.recv().await,
        };
        match message {
            Some(message) => line.push(start.elapsed(), message),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_loses_doubles_and_delays_alike() {
        let faults = Faults {
            seed: 7,
            lose: 200,
            double: 200,
            delay: 500,
            by: Duration::from_millis(20),
        };
        let run = || {
            let mut line = FaultLine::new(faults);
            for n in 0..200 {
                line.push(Duration::from_millis(n), n);
            }
            let mut out = Vec::new();
            while let Some(n) = line.pop(Duration::from_secs(9)) {
                out.push(n);
            }
            out
        };
        let out = run();
        assert_eq!(out, run());
        assert!(out.windows(2).any(|w| w[0] > w[1]), "some were overtaken");
        assert!(out.len() > 150 && out.len() < 250);
    }
}
