//! The thread around the switch: it takes packets from ports, steps them, and sends what comes out.
//!
//! One thread owns the [`Switch`], so that no packet takes a lock. Everybody else talks to it
//! through a [`SwitchHandle`], whose closures run between packets. It knows nothing of P4Runtime.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio::sync::oneshot;

use crate::output::Digest;
use crate::ports::{Port, PortCounters};
use crate::trace::Trace;
use crate::{IdleNotice, Micros, Output, Switch};

/// Packets taken from one port, and requests taken from the queue, before the others get their turn.
const BURST: usize = 64;

/// Where the switch's time comes from: microseconds since it started, never going back.
pub trait Clock: Send {
    /// Now.
    fn now(&self) -> Micros;
}

/// The machine's monotonic clock.
#[derive(Debug)]
pub struct RealClock(Instant);

impl RealClock {
    /// A clock that stands at zero now.
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for RealClock {
    fn now(&self) -> Micros {
        self.0.elapsed().as_micros() as Micros
    }
}

/// What has become of a packet, for those who asked to see.
#[derive(Debug)]
pub struct TracedPacket {
    /// When it was taken up.
    pub time: Micros,
    /// The port it arrived at.
    pub port: u16,
    /// Its bytes as they arrived.
    pub bytes: Vec<u8>,
    /// Its way through the pipeline.
    pub trace: Trace,
}

/// Functions that the switch thread calls; they must not wait.
#[derive(Default)]
struct Sinks {
    cpu: Option<Box<dyn FnMut(Vec<u8>) + Send>>,
    idle: Option<Box<dyn FnMut(Vec<IdleNotice>) + Send>>,
    digests: Option<Box<dyn FnMut(Vec<Digest>) + Send>>,
    trace: Option<Box<dyn FnMut(TracedPacket) + Send>>,
}

type Call = Box<dyn FnOnce(&mut Running) + Send>;

enum Event {
    Call(Call),
    Packet {
        port: u16,
        bytes: Vec<u8>,
        counted: Option<u32>,
        /// What the ports it leaves by are told of it.
        tag: u64,
    },
    Stop,
}

/// Packets that no port took, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct RunnerCounters {
    /// Sent to a port that does not exist.
    pub no_such_port: u64,
    /// Sent to the CPU port while nobody was connected.
    pub no_controller: u64,
}

/// The state of the switch thread.
struct Running {
    core: Core,
    ports: BTreeMap<u16, Box<dyn Port>>,
    /// Ports to take away after a round; kept for its memory.
    dead: Vec<u16>,
    counters: RunnerCounters,
}

/// What a step needs, apart from the ports, whose packets are borrowed meanwhile.
struct Core {
    switch: Switch,
    clock: Box<dyn Clock>,
    sinks: Sinks,
    output: Output,
    /// Packets that have arrived together: their bytes, and port and place of each.
    gathered: Vec<u8>,
    arrived: Vec<(u16, Range<usize>)>,
}

/// The switch thread is no longer there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the switch has stopped")]
pub struct Stopped;

#[derive(Debug)]
struct Waker {
    sleeping: AtomicBool,
    event: OwnedFd,
}

impl Waker {
    fn wake(&self) {
        if self.sleeping.swap(false, Ordering::SeqCst) {
            // The counter of an eventfd cannot overflow by ones; a failed write means it is set already.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }
}

/// A way to a running switch. Clones lead to the same switch.
#[derive(Clone, Debug)]
pub struct SwitchHandle {
    events: Sender<Event>,
    waker: Arc<Waker>,
}

impl SwitchHandle {
    fn send(&self, event: Event) -> Result<(), Stopped> {
        self.events.send(event).map_err(|_| Stopped)?;
        self.waker.wake();
        Ok(())
    }

    fn submit<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Running) -> R + Send + 'static,
    ) -> Result<oneshot::Receiver<R>, Stopped> {
        let (reply, result) = oneshot::channel();
        self.send(Event::Call(Box::new(move |running| {
            // The asker may have gone; then nobody wants the result.
            let _ = reply.send(work(running));
        })))?;
        Ok(result)
    }

    /// Runs `work` on the switch thread between two packets and gives its result.
    ///
    /// # Errors
    /// [`Stopped`] when the switch thread has ended.
    pub async fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Switch, Micros) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        let result = self.submit(move |running| running.with_switch(work))?;
        result.await.map_err(|_| Stopped)
    }

    /// As [`SwitchHandle::call`], for callers outside of an async runtime; waits for the result.
    ///
    /// # Errors
    /// [`Stopped`] when the switch thread has ended.
    pub fn call_blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Switch, Micros) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        let result = self.submit(move |running| running.with_switch(work))?;
        result.blocking_recv().map_err(|_| Stopped)
    }

    /// Lets `bytes` arrive at `port`.
    ///
    /// # Errors
    /// [`Stopped`] when the switch thread has ended.
    pub fn inject(&self, port: u16, bytes: Vec<u8>) -> Result<(), Stopped> {
        self.send(Event::Packet {
            port,
            bytes,
            counted: None,
            tag: 0,
        })
    }

    /// As [`SwitchHandle::inject`]; the ports that what becomes of the packet leaves by are told
    /// `tag` ([`Port::send_tagged`]).
    ///
    /// # Errors
    /// [`Stopped`] when the switch thread has ended.
    pub fn inject_tagged(&self, port: u16, bytes: Vec<u8>, tag: u64) -> Result<(), Stopped> {
        self.send(Event::Packet {
            port,
            bytes,
            counted: None,
            tag,
        })
    }

    /// Lets a packet-out arrive at the CPU port; its header of `header_length` bytes is not counted
    /// unless the quirk says so.
    ///
    /// # Errors
    /// [`Stopped`] when the switch thread has ended.
    pub fn packet_out(
        &self,
        cpu_port: u16,
        bytes: Vec<u8>,
        header_length: usize,
    ) -> Result<(), Stopped> {
        let counted = Some(bytes.len().saturating_sub(header_length) as u32);
        self.send(Event::Packet {
            port: cpu_port,
            bytes,
            counted,
            tag: 0,
        })
    }

    /// Adds a port, replacing one of that number.
    ///
    /// # Errors
    /// [`Stopped`] when the switch thread has ended.
    pub fn add_port(&self, number: u16, port: Box<dyn Port>) -> Result<(), Stopped> {
        self.send(Event::Call(Box::new(move |running| {
            running.ports.insert(number, port);
        })))
    }

    /// Adds several ports at once: no packet is taken from one before all are there.
    ///
    /// # Errors
    /// [`Stopped`] when the switch thread has ended.
    pub fn add_ports(&self, ports: Vec<(u16, Box<dyn Port>)>) -> Result<(), Stopped> {
        self.send(Event::Call(Box::new(move |running| {
            running.ports.extend(ports);
        })))
    }

    /// Sets who gets the packets for the CPU port; it must not wait.
    ///
    /// # Errors
    /// [`Stopped`] when the switch thread has ended.
    pub fn on_cpu_packet(&self, sink: Box<dyn FnMut(Vec<u8>) + Send>) -> Result<(), Stopped> {
        self.send(Event::Call(Box::new(move |running| {
            running.core.sinks.cpu = Some(sink)
        })))
    }

    /// Sets who gets notices of idle entries; it must not wait.
    ///
    /// # Errors
    /// [`Stopped`] when the switch thread has ended.
    pub fn on_idle(&self, sink: Box<dyn FnMut(Vec<IdleNotice>) + Send>) -> Result<(), Stopped> {
        self.send(Event::Call(Box::new(move |running| {
            running.core.sinks.idle = Some(sink)
        })))
    }

    /// Sets who gets digests; it must not wait.
    ///
    /// # Errors
    /// [`Stopped`] when the switch thread has ended.
    pub fn on_digest(&self, sink: Box<dyn FnMut(Vec<Digest>) + Send>) -> Result<(), Stopped> {
        self.send(Event::Call(Box::new(move |running| {
            running.core.sinks.digests = Some(sink)
        })))
    }

    /// Traces every packet from now on into `sink`, or none with `None`. Tracing is slow.
    ///
    /// # Errors
    /// [`Stopped`] when the switch thread has ended.
    pub fn on_trace(
        &self,
        sink: Option<Box<dyn FnMut(TracedPacket) + Send>>,
    ) -> Result<(), Stopped> {
        self.send(Event::Call(Box::new(move |running| {
            running.core.sinks.trace = sink
        })))
    }

    /// What each port has seen, and what went nowhere.
    ///
    /// # Errors
    /// [`Stopped`] when the switch thread has ended.
    pub async fn port_counters(
        &self,
    ) -> Result<(BTreeMap<u16, PortCounters>, RunnerCounters), Stopped> {
        let result = self.submit(|running| {
            let ports = running
                .ports
                .iter()
                .map(|(number, port)| (*number, port.counters()))
                .collect();
            (ports, running.counters)
        })?;
        result.await.map_err(|_| Stopped)
    }
}

/// A switch on its thread. Dropping it stops the switch and waits for the thread.
#[derive(Debug)]
pub struct Runner {
    handle: SwitchHandle,
    thread: Option<JoinHandle<()>>,
}

impl Runner {
    /// Starts the thread of `switch`.
    ///
    /// # Errors
    /// The system's error when it gives no thread or event descriptor.
    pub fn start(switch: Switch, clock: Box<dyn Clock>) -> io::Result<Self> {
        let (events, queue) = channel();
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let waker = Arc::new(Waker {
            sleeping: AtomicBool::new(false),
            event,
        });
        let running = Running {
            core: Core {
                switch,
                clock,
                sinks: Sinks::default(),
                output: Output::new(),
                gathered: Vec::new(),
                arrived: Vec::new(),
            },
            ports: BTreeMap::new(),
            dead: Vec::new(),
            counters: RunnerCounters::default(),
        };
        let thread_waker = Arc::clone(&waker);
        let thread = std::thread::Builder::new()
            .name("switch".to_owned())
            .spawn(move || running.run(&queue, &thread_waker))?;
        Ok(Self {
            handle: SwitchHandle { events, waker },
            thread: Some(thread),
        })
    }

    /// A way to the switch.
    pub fn handle(&self) -> SwitchHandle {
        self.handle.clone()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // An error means that the thread has ended already.
        let _ = self.handle.send(Event::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Running {
    fn run(mut self, queue: &Receiver<Event>, waker: &Waker) {
        let quirks = self.core.switch.config().quirks;
        let sweep_every = if quirks.idle_sweep_each_second {
            1_000_000
        } else {
            100_000
        };
        let mut next_sweep = self.core.clock.now() + sweep_every;
        let mut notices = Vec::new();
        loop {
            let mut busy = false;
            for _ in 0..BURST {
                match queue.try_recv() {
                    Ok(event) => {
                        busy = true;
                        if !self.take(event) {
                            return;
                        }
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return self.flush(),
                }
            }
            busy |= self.poll_ports();
            let now = self.core.clock.now();
            if now >= next_sweep {
                next_sweep = now + sweep_every;
                self.core.switch.idle_sweep(now, &mut notices);
                if let Some(sink) = self
                    .core
                    .sinks
                    .idle
                    .as_mut()
                    .filter(|_| !notices.is_empty())
                {
                    sink(std::mem::take(&mut notices));
                }
                notices.clear();
            }
            if !busy {
                self.flush();
                waker.sleeping.store(true, Ordering::SeqCst);
                // A sender that looked before the store did not wake us: look once more.
                match queue.try_recv() {
                    Ok(event) => {
                        waker.sleeping.store(false, Ordering::SeqCst);
                        if !self.take(event) {
                            return;
                        }
                    }
                    Err(TryRecvError::Disconnected) => return,
                    Err(TryRecvError::Empty) => {
                        self.sleep(waker, next_sweep.saturating_sub(now).clamp(1, 100_000))
                    }
                }
            }
        }
    }

    fn with_switch<R>(&mut self, work: impl FnOnce(&mut Switch, Micros) -> R) -> R {
        let now = self.core.clock.now();
        work(&mut self.core.switch, now)
    }

    /// Takes one event; false says stop.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Call(work) => work(self),
            Event::Packet {
                port,
                bytes,
                counted,
                tag,
            } => {
                self.core.step(port, &bytes, counted);
                self.deliver(tag);
            }
            Event::Stop => {
                self.flush();
                return false;
            }
        }
        true
    }

    fn flush(&mut self) {
        for port in self.ports.values_mut() {
            port.flush();
        }
    }

    /// Takes what has arrived at the ports; false when there was nothing.
    fn poll_ports(&mut self) -> bool {
        let Self {
            core, ports, dead, ..
        } = self;
        let mut taken = 0;
        for (number, port) in ports.iter_mut() {
            match port.receive(BURST, &mut |packet| core.gather(*number, packet)) {
                Ok(count) => taken += count,
                Err(error) => {
                    tracing::error!("port {number} receives nothing more: {error}");
                    dead.push(*number);
                }
            }
        }
        for number in dead.drain(..) {
            if let Some(mut port) = ports.remove(&number) {
                port.flush();
            }
        }
        if taken > 0 {
            self.core.burst();
            self.deliver(0);
        }
        taken > 0
    }

    /// Sends what the last steps gave to its ports.
    fn deliver(&mut self, tag: u64) {
        let cpu_port = self.core.switch.config().cpu_port;
        for packet in self.core.output.packets() {
            if Some(packet.port) == cpu_port {
                match &mut self.core.sinks.cpu {
                    Some(sink) => sink(packet.bytes.to_vec()),
                    None => self.counters.no_controller += 1,
                }
            } else if let Some(port) = self.ports.get_mut(&packet.port) {
                port.send_tagged(packet.bytes, tag);
            } else {
                self.counters.no_such_port += 1;
            }
        }
        if !self.core.output.digests.is_empty()
            && let Some(sink) = &mut self.core.sinks.digests
        {
            sink(std::mem::take(&mut self.core.output.digests));
        }
        self.core.output.clear();
    }

    /// Waits for a packet, an event, or `timeout` microseconds.
    fn sleep(&self, waker: &Waker, timeout: Micros) {
        let mut fds = vec![PollFd::new(&waker.event, PollFlags::IN)];
        fds.extend(
            self.ports
                .values()
                .filter_map(|port| Some(PollFd::from_borrowed_fd(port.as_fd()?, PollFlags::IN))),
        );
        let timeout = Timespec {
            tv_sec: (timeout / 1_000_000) as i64,
            tv_nsec: (timeout % 1_000_000 * 1_000) as i64,
        };
        // Whatever ends the wait, a signal included, the loop looks at everything anew.
        let _ = poll(&mut fds, Some(&timeout));
        waker.sleeping.store(false, Ordering::SeqCst);
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&waker.event, &mut count);
    }
}

impl Core {
    /// Keeps a packet for the next [`Core::burst`].
    fn gather(&mut self, port: u16, packet: &[u8]) {
        if self.sinks.trace.is_some() {
            return self.step(port, packet, None);
        }
        let start = self.gathered.len();
        self.gathered.extend_from_slice(packet);
        self.arrived.push((port, start..self.gathered.len()));
    }

    /// Takes what was gathered through the switch, in order.
    fn burst(&mut self) {
        let now = self.clock.now();
        let gathered = &self.gathered;
        let packets = self.arrived.drain(..);
        let packets = packets.map(|(port, range)| (port, gathered.get(range).unwrap_or_default()));
        self.switch.burst(now, packets, &mut self.output);
        self.gathered.clear();
    }

    fn step(&mut self, port: u16, packet: &[u8], counted: Option<u32>) {
        let now = self.clock.now();
        if let Some(sink) = &mut self.sinks.trace {
            let trace = self
                .switch
                .step_traced(now, port, packet, counted, &mut self.output);
            sink(TracedPacket {
                time: now,
                port,
                bytes: packet.to_vec(),
                trace,
            });
            return;
        }
        match counted {
            Some(length) => self
                .switch
                .step_counted(now, port, packet, length, &mut self.output),
            None => self.switch.step(now, port, packet, &mut self.output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::ports::MemoryPort;

    #[test]
    fn a_call_runs_on_the_switch_thread_and_gives_its_result() {
        let runner =
            Runner::start(Switch::new(Config::default()), Box::new(RealClock::start())).unwrap();
        let handle = runner.handle();
        let name = handle
            .call_blocking(|_, _| std::thread::current().name().map(str::to_owned))
            .unwrap();
        assert_eq!(name.as_deref(), Some("switch"));
        drop(runner);
        assert_eq!(handle.call_blocking(|_, _| ()), Err(Stopped));
    }

    #[test]
    fn a_switch_without_pipeline_counts_what_it_drops() {
        let runner =
            Runner::start(Switch::new(Config::default()), Box::new(RealClock::start())).unwrap();
        let handle = runner.handle();
        handle
            .add_port(1, Box::new(MemoryPort::new(|_| {})))
            .unwrap();
        for _ in 0..3 {
            handle.inject(1, vec![0; 60]).unwrap();
        }
        let dropped = handle
            .call_blocking(|switch, _| switch.drops().total())
            .unwrap();
        assert_eq!(dropped, 3);
    }
}
