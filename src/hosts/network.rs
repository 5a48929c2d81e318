//! Hosts joined to the ports of a switch: frames to it go by a function, frames from it come by a
//! queue.
//!
//! Several hosts on one port share a wire, as on an Ethernet hub: each sees what is for its address or
//! for all. A wire can have faults and a capture of its own.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::{Capture, Faults, Host};

/// A host of one network: its place in the order of [`Network::attach`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostIndex(usize);

/// A frame that the switch has sent.
#[derive(Debug)]
pub struct Arrival {
    /// The port that it left by.
    pub port: u16,
    /// When it left.
    pub at: Instant,
    /// Its bytes.
    pub frame: Vec<u8>,
}

/// Where the switch's ports put what they send; clones lead to the same network.
#[derive(Debug, Clone)]
pub struct Arrivals(Sender<Arrival>);

impl Arrivals {
    /// What a port of the switch does with a frame that it sends.
    pub fn sink(&self, port: u16) -> impl FnMut(&[u8]) + Send + use<> {
        let sender = self.0.clone();
        move |frame| {
            // Without a network nobody is there to receive.
            let _ = sender.send(Arrival {
                port,
                at: Instant::now(),
                frame: frame.to_vec(),
            });
        }
    }
}

#[derive(Default)]
struct Wire {
    to_switch: Option<Faults>,
    from_switch: Option<Faults>,
    capture: Option<Capture>,
}

/// Watches the frames at the switch's ports.
type Watch = Box<dyn FnMut(Watched<'_>) + Send>;

/// A frame at the border between hosts and switch.
#[derive(Debug, Clone, Copy)]
pub struct Watched<'a> {
    /// The switch's port.
    pub port: u16,
    /// True when the frame goes into the switch.
    pub to_switch: bool,
    /// When it went in or came out.
    pub at: Instant,
    /// Its bytes.
    pub frame: &'a [u8],
}

/// Hosts and the wires between them and a switch.
pub struct Network {
    hosts: Vec<(u16, Host)>,
    wires: BTreeMap<u16, Wire>,
    deliver: Box<dyn FnMut(u16, Vec<u8>) + Send>,
    arrivals: Receiver<Arrival>,
    watch: Option<Watch>,
    start: Instant,
}

impl Network {
    /// A network without hosts. `deliver` lets a frame arrive at a port of the switch; what the
    /// switch sends is put into the other value.
    pub fn new(deliver: impl FnMut(u16, Vec<u8>) + Send + 'static) -> (Self, Arrivals) {
        let (sender, arrivals) = channel();
        let network = Self {
            hosts: Vec::new(),
            wires: BTreeMap::new(),
            deliver: Box::new(deliver),
            arrivals,
            watch: None,
            start: Instant::now(),
        };
        (network, Arrivals(sender))
    }

    /// Joins a host to a port of the switch.
    pub fn attach(&mut self, port: u16, host: Host) -> HostIndex {
        self.hosts.push((port, host));
        HostIndex(self.hosts.len() - 1)
    }

    /// A host; `None` only for an index of another network.
    pub fn host(&mut self, index: HostIndex) -> Option<&mut Host> {
        self.hosts.get_mut(index.0).map(|(_, host)| host)
    }

    /// Gives the wire at `port` faults in both directions.
    pub fn set_faults(&mut self, port: u16, to_switch: Faults, from_switch: Faults) {
        let wire = self.wires.entry(port).or_default();
        wire.to_switch = Some(to_switch);
        wire.from_switch = Some(from_switch);
    }

    /// Captures the wire at `port`, as the switch's side sees it.
    pub fn set_capture(&mut self, port: u16, capture: Capture) {
        self.wires.entry(port).or_default().capture = Some(capture);
    }

    /// Lets `watch` see every frame that goes into the switch or comes out of it.
    pub fn set_watch(&mut self, watch: impl FnMut(Watched<'_>) + Send + 'static) {
        self.watch = Some(Box::new(watch));
    }

    /// The time since the network was made, as its hosts see it.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Handles what has arrived and what is due at `now`; true when something was done.
    pub fn poll(&mut self, now: Duration) -> bool {
        let mut busy = false;
        while let Ok(arrival) = self.arrivals.try_recv() {
            self.arrive(now, arrival);
            busy = true;
        }
        busy | self.poll_hosts(now)
    }

    /// Runs by the machine's clock until `done` says so or `limit` is over; true when it said so.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = Instant::now() + limit;
        loop {
            let now = self.now();
            let busy = self.poll(now);
            if done(self) {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            if !busy {
                self.wait(now);
            }
        }
    }

    /// Waits for a frame or until a host has something to do, at most 20 ms.
    fn wait(&mut self, now: Duration) {
        let next = self
            .hosts
            .iter_mut()
            .filter_map(|(_, host)| host.poll_at())
            .min()
            .map_or(Duration::from_millis(20), |at| at.saturating_sub(now))
            .clamp(Duration::from_micros(50), Duration::from_millis(20));
        match self.arrivals.recv_timeout(next) {
            Ok(arrival) => {
                let now = self.now();
                self.arrive(now, arrival);
            }
            // With the switch gone there is still time to pass for the hosts.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(next),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }

    fn arrive(&mut self, now: Duration, arrival: Arrival) {
        if let Some(watch) = &mut self.watch {
            watch(Watched {
                port: arrival.port,
                to_switch: false,
                at: arrival.at,
                frame: &arrival.frame,
            });
        }
        let mut passed = Vec::new();
        match self.wires.get_mut(&arrival.port) {
            Some(wire) => {
                if let Some(capture) = &mut wire.capture {
                    capture.frame(now, &arrival.frame);
                }
                match &mut wire.from_switch {
                    Some(faults) => faults.pass(arrival.frame, &mut passed),
                    None => passed.push(arrival.frame),
                }
            }
            None => passed.push(arrival.frame),
        }
        for frame in passed {
            self.hand_out(arrival.port, None, &frame);
        }
    }

    /// Gives a frame to the hosts on `port` that it is for, but not to `sender`; true when it was for
    /// one of them alone.
    fn hand_out(&mut self, port: u16, sender: Option<usize>, frame: &[u8]) -> bool {
        let Some(to) = frame.first_chunk::<6>() else {
            return false;
        };
        let to_many = to[0] & 1 == 1;
        let mut taken = false;
        for (index, (at, host)) in self.hosts.iter_mut().enumerate() {
            if *at == port && sender != Some(index) && (to_many || host.mac() == *to) {
                host.receive(frame.to_vec());
                taken = true;
            }
        }
        taken && !to_many
    }

    fn poll_hosts(&mut self, now: Duration) -> bool {
        let mut busy = false;
        let mut frames = Vec::new();
        for (index, (port, host)) in self.hosts.iter_mut().enumerate() {
            busy |= host.poll(now);
            while let Some(frame) = host.transmit() {
                frames.push((index, *port, frame));
            }
        }
        for (index, port, frame) in frames {
            if self.hand_out(port, Some(index), &frame) {
                continue;
            }
            let mut passed = Vec::new();
            let wire = self.wires.entry(port).or_default();
            match &mut wire.to_switch {
                Some(faults) => faults.pass(frame, &mut passed),
                None => passed.push(frame),
            }
            for frame in passed {
                if let Some(capture) = &mut wire.capture {
                    capture.frame(now, &frame);
                }
                if let Some(watch) = &mut self.watch {
                    watch(Watched {
                        port,
                        to_switch: true,
                        at: Instant::now(),
                        frame: &frame,
                    });
                }
                (self.deliver)(port, frame);
            }
        }
        busy
    }
}
