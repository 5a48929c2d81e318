//! A host with one TCP connection, and what its application sends, expects and does.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use signalbox_agent::packet::{TYPE_ARP, ether_type, frame};
use signalbox_manager::segment::{ACK, FIN, RST, SYN, Segment};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

use super::line::shifted;
use super::story::Part;

const PORT: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// Idle connections ask whether the other side is there.
const KEEP_ALIVE: u64 = 20;
/// How long a host may owe something and not send it, see [`Host::wake`].
const PATIENCE: Duration = Duration::from_secs(70);

struct Queues {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
    mtu: usize,
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

struct Sending<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.push_back(frame);
        result
    }
}

/// A host and its application.
pub struct Host {
    interface: Interface,
    device: Queues,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    part: Part,
    stream: Vec<u8>,
    /// Bytes given to TCP, and received.
    pub sent: usize,
    pub received: Vec<u8>,
    /// It has closed its side, or given up.
    pub closed: bool,
    pub aborted: bool,
    /// It has read the other side's end.
    pub saw_end: bool,
    /// It was connected once.
    pub was_open: bool,
    opened: bool,
    ended: bool,
    read: Duration,
    /// What is added to its sequence numbers on the wire.
    shift: Option<u32>,
    /// The peer's last acknowledgement and window, and the last of this host.
    heard: Option<Segment>,
    said: Option<Segment>,
    /// When this host has last sent what it owes.
    busy: Duration,
    /// Its TCP had stopped by itself.
    pub slept: bool,
}

fn instant(now: Duration) -> Instant {
    Instant::from_micros(now.as_micros() as i64)
}

impl Host {
    pub fn new(address: Ipv4Addr, seed: u64, part: Part, stream: Vec<u8>) -> Self {
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(MAC)));
        config.random_seed = seed;
        let mut device = Queues {
            received: VecDeque::new(),
            sent: VecDeque::new(),
            mtu: part.mtu,
        };
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|list| {
            list.push(IpCidr::new(IpAddress::from(IpAddr::from(address)), 8))
                .unwrap();
        });
        let mut sockets = SocketSet::new(Vec::new());
        let mut socket = Socket::new(
            SocketBuffer::new(vec![0; part.receive]),
            SocketBuffer::new(vec![0; part.send]),
        );
        socket.set_keep_alive(Some(smoltcp::time::Duration::from_secs(KEEP_ALIVE)));
        let handle = sockets.add(socket);
        Self {
            interface,
            device,
            sockets,
            handle,
            part,
            stream,
            sent: 0,
            received: Vec::new(),
            closed: false,
            aborted: false,
            saw_end: false,
            was_open: false,
            opened: false,
            ended: false,
            read: Duration::ZERO,
            shift: None,
            heard: None,
            said: None,
            slept: false,
            busy: Duration::ZERO,
        }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    pub fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }

    pub fn listen(&mut self, port: u16) {
        self.opened = true;
        self.socket().listen(port).unwrap();
    }

    pub fn connect(&mut self, to: (Ipv4Addr, u16), port: u16) {
        self.opened = true;
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        let context = self.interface.context();
        socket
            .connect(context, (IpAddr::from(to.0), to.1), port)
            .unwrap();
    }

    /// Nothing is left of its connection.
    pub fn is_over(&self) -> bool {
        let socket = self.sockets.get::<Socket<'_>>(self.handle);
        matches!(socket.state(), State::Closed | State::TimeWait) && !socket.can_recv()
    }

    /// A frame from the wire.
    pub fn receive(&mut self, frame: &Bytes) {
        let shift = self.shift.unwrap_or(0);
        let mut frame = shifted(frame, 0, shift.wrapping_neg(), |w| w).to_vec();
        frame[..6].copy_from_slice(&MAC);
        let frame = Bytes::from(frame);
        if let Some((s, _)) = Segment::parse_frame(&frame)
            && s.flags & (SYN | RST | ACK) == ACK
        {
            self.heard = Some(s);
        }
        self.device.received.push_back(frame.to_vec());
    }

    /// smoltcp 0.14 loses its retransmission timer when a window closes over data that are under way and opens
    /// again (`set_for_idle` after a zero-window probe), and may lose that of a FIN: then it never sends again
    /// what it owes. What the peer has said last, said again, wakes it: from the third time on that is a loss
    /// (RFC 5681, section 3.2).
    fn wake(&mut self, now: Duration) {
        let (Some(heard), Some(said)) = (&self.heard, &self.said) else {
            return;
        };
        if self.wakes().is_none_or(|at| now < at) {
            return;
        }
        self.slept = true;
        self.busy = now;
        // Another window first, so that it counts from one.
        for window in [
            heard.window - 1,
            heard.window,
            heard.window,
            heard.window,
            heard.window,
        ] {
            let again = Segment {
                seq: said.ack,
                flags: ACK,
                window,
                payload: Bytes::new(),
                ..heard.clone()
            };
            let frame = frame(MAC, PORT, 0x0800, &again.emit());
            self.device.received.push_back(frame);
        }
    }

    /// When it is taken for asleep.
    fn wakes(&self) -> Option<Duration> {
        let may_send = self.heard.as_ref().is_some_and(|s| s.window > 1);
        (may_send && self.said.is_some() && self.owes()).then_some(self.busy + PATIENCE)
    }

    /// Whether it has sent, or has to send, what is not acknowledged.
    fn owes(&self) -> bool {
        let socket = self.sockets.get::<Socket<'_>>(self.handle);
        let state = socket.state();
        let closing = matches!(state, State::FinWait1 | State::Closing | State::LastAck);
        !matches!(state, State::Closed | State::SynSent | State::Listen)
            && (socket.send_queue() > 0 || closing)
    }

    /// Lets TCP and the application act; what goes onto the wire.
    pub fn step(&mut self, now: Duration) -> Vec<Bytes> {
        let mut out = Vec::new();
        self.wake(now);
        for _ in 0..64 {
            self.interface
                .poll(instant(now), &mut self.device, &mut self.sockets);
            let busy = self.application(now);
            let frames: Vec<_> = self.device.sent.drain(..).collect();
            let quiet = frames.is_empty() && !busy;
            for frame in frames {
                out.extend(self.leaves(now, frame));
            }
            if quiet && self.device.received.is_empty() {
                break;
            }
        }
        out
    }

    fn leaves(&mut self, now: Duration, frame: Vec<u8>) -> Option<Bytes> {
        if ether_type(&frame) == Some(TYPE_ARP) {
            // Every address is behind the switch (RFC 826).
            let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 2];
            arp.extend(PORT);
            arp.extend(&frame[38..42]);
            arp.extend(&frame[22..32]);
            self.device
                .received
                .push_back(self::frame(MAC, PORT, TYPE_ARP, &arp));
            return None;
        }
        let frame = Bytes::from(frame);
        let (segment, _) = Segment::parse_frame(&frame)?;
        if segment.flags & SYN != 0 && self.shift.is_none() {
            self.shift = Some(self.part.isn.wrapping_sub(segment.seq));
        }
        let frame = self.without_garbage(frame, &segment);
        if segment.flags & ACK != 0 {
            self.said = Some(segment);
        }
        let last = self.socket().send_queue() <= 1;
        let owed = |s: &Segment| s.length() > 1 || s.flags & FIN != 0 || (last && s.length() > 0);
        if Segment::parse_frame(&frame).is_some_and(|(s, _)| owed(&s)) {
            self.busy = now;
        }
        Some(shifted(&frame, self.shift.unwrap_or(0), 0, |w| w))
    }

    /// smoltcp asks whether the peer is there with a byte of garbage (RFC 9293, section 3.8.4), also where it
    /// believes that the peer has not had the byte before: what is no byte of the stream goes without.
    fn without_garbage(&self, frame: Bytes, s: &Segment) -> Bytes {
        if s.payload.len() != 1 {
            return frame;
        }
        let isn = self.part.isn.wrapping_sub(self.shift.unwrap_or(0));
        let at = s.seq.wrapping_sub(isn).wrapping_sub(1) as usize;
        if self.stream.get(at) == s.payload.first() {
            return frame;
        }
        let plain = Segment {
            payload: Bytes::new(),
            ..s.clone()
        };
        self::frame(PORT, MAC, 0x0800, &plain.emit()).into()
    }

    fn application(&mut self, now: Duration) -> bool {
        let mut busy = false;
        let (closes, aborts, after) = (self.part.closes, self.part.aborts, self.part.after);
        let may_read = now >= self.read;
        let reads = self.part.reads;
        if !self.opened {
            return false;
        }
        let handle = self.handle;
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        if socket.may_send() {
            self.was_open = true;
        }
        if aborts.is_some_and(|at| at <= now)
            && !self.aborted
            && !matches!(socket.state(), State::Closed)
        {
            self.aborted = true;
            if socket.state() == State::Listen {
                socket.close();
            } else {
                socket.abort();
            }
            return true;
        }
        let received = &mut self.received;
        let mut took = false;
        while may_read && socket.can_recv() {
            let n = socket.recv(|bytes| {
                received.extend_from_slice(bytes);
                (bytes.len(), bytes.len())
            });
            took = true;
            busy |= n.is_ok_and(|n| n > 0);
        }
        if took && !reads.is_zero() {
            self.read = now + reads;
        }
        let ended = matches!(
            socket.state(),
            State::CloseWait | State::Closing | State::LastAck | State::TimeWait
        );
        self.ended |= ended;
        if self.ended && !socket.can_recv() {
            self.saw_end = true;
        }
        if !self.closed
            && self.received.len() >= after
            && socket.can_send()
            && self.sent < self.stream.len()
        {
            let n = socket.send_slice(&self.stream[self.sent..]).unwrap_or(0);
            self.sent += n;
            busy |= n > 0;
        }
        let early = closes.is_some_and(|at| at <= now) && self.was_open;
        let waits = self.received.len() < after && !self.saw_end;
        let done = self.sent == self.stream.len() && !waits;
        // In LAST-ACK smoltcp takes no news of a window with what it has acknowledged before.
        let deaf = socket.state() == State::CloseWait && socket.send_queue() > 0;
        if !self.closed
            && !deaf
            && socket.may_send()
            && (early || done || (self.saw_end && self.received.len() < after))
        {
            self.closed = true;
            socket.close();
            busy = true;
        }
        busy
    }

    /// When it wants to act even if nothing happens.
    pub fn next(&mut self, now: Duration) -> Option<Duration> {
        let poll = self.interface.poll_at(instant(now), &self.sockets);
        let poll = poll.map(|at| Duration::from_micros(at.total_micros() as u64));
        let live = !self.is_over();
        let own = [self.part.closes, self.part.aborts]
            .into_iter()
            .flatten()
            .filter(|at| *at > now);
        let read = (self.socket().can_recv() && self.read > now).then_some(self.read);
        (poll
            .into_iter()
            .chain(own.filter(|_| live))
            .chain(read)
            .chain(self.wakes()))
        .min()
    }

    pub fn has_wrapped(&self) -> bool {
        let length = u32::try_from(self.sent).unwrap();
        self.shift.is_some() && self.part.isn.checked_add(length + 2).is_none()
    }
}
