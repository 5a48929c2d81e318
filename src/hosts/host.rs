//! One host: an Ethernet interface with addresses, its servers, and the connections it opens.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::{icmp, tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use super::client::{Connection, ConnectionId, Ending, Finished};
use super::device::Queues;
use super::echo::{Datagram, Pong, reply, request};
use super::server::{Server, ServerCounters, ServerId, Speaks};

/// A connection that is not over by then has failed.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);
const RECEIVE_BUFFER: usize = 32 * 1024;
const SEND_BUFFER: usize = 4 * 1024;
const DATAGRAMS: usize = 64;
const DATAGRAM_BYTES: usize = 64 * 1024;

/// Why a host could not be made, or not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// More addresses or routes than a host has room for: one IPv4, one IPv6, and a router of each.
    #[error("a host has room for two addresses and two routers")]
    TooManyAddresses,
    /// The port is 0, in use, or the remote address is none to connect to.
    #[error("cannot use these ports or addresses for a connection")]
    Unusable,
    /// There is no address of the family of the destination.
    #[error("the host has no address of that family")]
    NoAddress,
}

struct UdpPort {
    handle: SocketHandle,
    port: u16,
    /// A server answers; a client collects.
    answers: bool,
}

/// A host in memory.
pub struct Host {
    name: String,
    mac: [u8; 6],
    addresses: Vec<IpAddr>,
    interface: Interface,
    device: Queues,
    sockets: SocketSet<'static>,
    now: Duration,
    servers: Vec<Server>,
    connections: Vec<Connection>,
    next_connection: u64,
    finished: Vec<Finished>,
    /// Sockets of given up connections, which still have a RST to send.
    aborted: Vec<SocketHandle>,
    pingers: Vec<(SocketHandle, u16)>,
    pongs: Vec<Pong>,
    udp_ports: Vec<UdpPort>,
    datagrams: Vec<Datagram>,
}

impl Host {
    /// A host with `addresses` (each with its prefix length) that sends what is not on its subnets to
    /// `routers`. Its sequence numbers follow from its name, so that a run can be repeated.
    ///
    /// # Errors
    /// [`HostError::TooManyAddresses`] with more than two addresses or routers.
    pub fn new(
        name: &str,
        mac: [u8; 6],
        addresses: &[(IpAddr, u8)],
        routers: &[IpAddr],
    ) -> Result<Self, HostError> {
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        config.random_seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut device = Queues::default();
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        let mut fits = true;
        interface.update_ip_addrs(|list| {
            for (address, length) in addresses {
                let cidr = IpCidr::new(IpAddress::from(*address), *length);
                fits &= list.push(cidr).is_ok();
            }
        });
        for router in routers {
            let routes = interface.routes_mut();
            fits &= match *router {
                IpAddr::V4(router) => routes.add_default_ipv4_route(router).is_ok(),
                IpAddr::V6(router) => routes.add_default_ipv6_route(router).is_ok(),
            };
        }
        if !fits {
            return Err(HostError::TooManyAddresses);
        }
        Ok(Self {
            name: name.to_owned(),
            mac,
            addresses: addresses.iter().map(|(address, _)| *address).collect(),
            interface,
            device,
            sockets: SocketSet::new(Vec::new()),
            now: Duration::ZERO,
            servers: Vec::new(),
            connections: Vec::new(),
            next_connection: 0,
            finished: Vec::new(),
            aborted: Vec::new(),
            pingers: Vec::new(),
            pongs: Vec::new(),
            udp_ports: Vec::new(),
            datagrams: Vec::new(),
        })
    }

    /// The host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host's Ethernet address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The host's IP addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Starts a TCP server of this name at `port`.
    pub fn serve(&mut self, name: &str, port: u16, speaks: Speaks) -> ServerId {
        let mut server = Server::new(name, port, speaks);
        server.step(&mut self.sockets, self.now);
        self.servers.push(server);
        ServerId(self.servers.len() - 1)
    }

    /// Stops a server as a killed process stops: connections are reset, new ones refused.
    pub fn stop(&mut self, server: ServerId) {
        if let Some(server) = self.servers.get_mut(server.0) {
            server.stop(&mut self.sockets);
        }
    }

    /// What a server has done.
    pub fn counters(&self, server: ServerId) -> ServerCounters {
        self.servers
            .get(server.0)
            .map(|server| server.counters)
            .unwrap_or_default()
    }

    /// Opens a connection from `local_port` to `remote` and sends `bytes` on it.
    ///
    /// # Errors
    /// [`HostError`] when a port is 0, the address is none to connect to, or of a family that the
    /// host has no address of.
    pub fn connect(
        &mut self,
        local_port: u16,
        remote: SocketAddr,
        bytes: &[u8],
    ) -> Result<ConnectionId, HostError> {
        self.source_for(remote.ip())?;
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; RECEIVE_BUFFER]),
            tcp::SocketBuffer::new(vec![0; SEND_BUFFER]),
        );
        socket.set_nagle_enabled(false);
        socket
            .connect(
                self.interface.context(),
                IpEndpoint::from(remote),
                local_port,
            )
            .map_err(|_| HostError::Unusable)?;
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.connections.push(Connection {
            id,
            handle: self.sockets.add(socket),
            local_port,
            remote,
            to_send: bytes.to_vec(),
            received: Vec::new(),
            sent: 0,
            started: self.now,
            deadline: self.now + CONNECTION_LIMIT,
            established: false,
            over: false,
        });
        Ok(id)
    }

    /// Opens a connection that asks for `/` by HTTP/1.0.
    ///
    /// # Errors
    /// As [`Host::connect`].
    pub fn get(&mut self, local_port: u16, remote: SocketAddr) -> Result<ConnectionId, HostError> {
        let request = format!("GET / HTTP/1.0\r\nHost: {remote}\r\n\r\n");
        self.connect(local_port, remote, request.as_bytes())
    }

    /// Sends more on a connection; nothing happens when it has ended.
    pub fn send(&mut self, id: ConnectionId, bytes: &[u8]) {
        if let Some(connection) = self.connections.iter_mut().find(|one| one.id == id) {
            connection.to_send.extend_from_slice(bytes);
        }
    }

    /// Closes our direction of a connection.
    pub fn close(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.iter_mut().find(|one| one.id == id) {
            connection.over = true;
            self.sockets
                .get_mut::<tcp::Socket<'_>>(connection.handle)
                .close();
        }
    }

    /// What a connection has received so far; `None` when it has ended.
    pub fn received(&self, id: ConnectionId) -> Option<&[u8]> {
        let connection = self.connections.iter().find(|one| one.id == id)?;
        Some(&connection.received)
    }

    /// Whether the handshake of a connection is complete; false when it has ended.
    pub fn is_established(&self, id: ConnectionId) -> bool {
        self.connections
            .iter()
            .any(|one| one.id == id && one.established)
    }

    /// Connections that have not ended.
    pub fn open_connections(&self) -> usize {
        self.connections.len()
    }

    /// The connections that have ended since the last call.
    pub fn take_finished(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.finished)
    }

    /// Sends an echo request.
    ///
    /// # Errors
    /// [`HostError::NoAddress`] without an address of that family, [`HostError::Unusable`] when too
    /// many wait to be sent.
    pub fn ping(
        &mut self,
        to: IpAddr,
        identifier: u16,
        sequence: u16,
        data: &[u8],
    ) -> Result<(), HostError> {
        let source = self.source_for(to)?;
        let known = self.pingers.iter().find(|(_, one)| *one == identifier);
        let handle = match known {
            Some((handle, _)) => *handle,
            None => {
                let buffer = || {
                    icmp::PacketBuffer::new(
                        vec![icmp::PacketMetadata::EMPTY; DATAGRAMS],
                        vec![0; DATAGRAM_BYTES],
                    )
                };
                let mut socket = icmp::Socket::new(buffer(), buffer());
                socket
                    .bind(icmp::Endpoint::Ident(identifier))
                    .map_err(|_| HostError::Unusable)?;
                let handle = self.sockets.add(socket);
                self.pingers.push((handle, identifier));
                handle
            }
        };
        let message = request(source, to, identifier, sequence, data);
        self.sockets
            .get_mut::<icmp::Socket<'_>>(handle)
            .send_slice(&message, IpAddress::from(to))
            .map_err(|_| HostError::Unusable)
    }

    /// The echo replies that have come since the last call.
    pub fn take_pongs(&mut self) -> Vec<Pong> {
        std::mem::take(&mut self.pongs)
    }

    /// Answers datagrams to `port` with the host's name, `: ` and their data.
    ///
    /// # Errors
    /// [`HostError::Unusable`] when the port is 0.
    pub fn serve_udp(&mut self, port: u16) -> Result<(), HostError> {
        self.udp_port(port, true).map(|_| ())
    }

    /// Sends a datagram; answers to `local_port` are collected.
    ///
    /// # Errors
    /// [`HostError::Unusable`] when a port is 0 or too many wait to be sent.
    pub fn send_datagram(
        &mut self,
        local_port: u16,
        remote: SocketAddr,
        data: &[u8],
    ) -> Result<(), HostError> {
        self.source_for(remote.ip())?;
        let handle = self.udp_port(local_port, false)?;
        self.sockets
            .get_mut::<udp::Socket<'_>>(handle)
            .send_slice(data, IpEndpoint::from(remote))
            .map_err(|_| HostError::Unusable)
    }

    /// The datagrams that have come to clients' ports since the last call.
    pub fn take_datagrams(&mut self) -> Vec<Datagram> {
        std::mem::take(&mut self.datagrams)
    }

    /// Lets a frame arrive.
    pub fn receive(&mut self, frame: Vec<u8>) {
        self.device.received.push_back(frame);
    }

    /// Takes a frame that the host has sent.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        self.device.sent.pop_front()
    }

    /// Handles what has arrived and what is due. `now` is the time since the run's start and never
    /// goes back. True when something was done.
    pub fn poll(&mut self, now: Duration) -> bool {
        self.now = now;
        let mut ever_busy = !self.device.received.is_empty();
        loop {
            self.interface
                .poll(instant(now), &mut self.device, &mut self.sockets);
            for handle in self.aborted.drain(..) {
                self.sockets.remove(handle);
            }
            let mut busy = false;
            for server in &mut self.servers {
                busy |= server.step(&mut self.sockets, now);
            }
            busy |= self.step_connections();
            busy |= self.step_udp();
            busy |= self.step_pingers();
            if !busy {
                return ever_busy || !self.device.sent.is_empty();
            }
            ever_busy = true;
        }
    }

    /// When [`Host::poll`] has something to do next even if no frame arrives.
    pub fn poll_at(&mut self) -> Option<Duration> {
        let at = self.interface.poll_at(instant(self.now), &self.sockets)?;
        Some(Duration::from_micros(
            u64::try_from(at.total_micros()).unwrap_or(0),
        ))
    }

    fn source_for(&self, to: IpAddr) -> Result<IpAddr, HostError> {
        self.addresses
            .iter()
            .copied()
            .find(|address| address.is_ipv4() == to.is_ipv4())
            .ok_or(HostError::NoAddress)
    }

    fn udp_port(&mut self, port: u16, answers: bool) -> Result<SocketHandle, HostError> {
        if let Some(known) = self.udp_ports.iter().find(|known| known.port == port) {
            return Ok(known.handle);
        }
        let buffer = || {
            udp::PacketBuffer::new(
                vec![udp::PacketMetadata::EMPTY; DATAGRAMS],
                vec![0; DATAGRAM_BYTES],
            )
        };
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).map_err(|_| HostError::Unusable)?;
        let handle = self.sockets.add(socket);
        self.udp_ports.push(UdpPort {
            handle,
            port,
            answers,
        });
        Ok(handle)
    }

    fn step_connections(&mut self) -> bool {
        let (sockets, now) = (&mut self.sockets, self.now);
        let (finished, aborted) = (&mut self.finished, &mut self.aborted);
        let mut any = false;
        self.connections.retain_mut(|connection| {
            let (busy, ending) = connection.step(sockets, now);
            any |= busy;
            let Some(ending) = ending else { return true };
            // A RST goes with the next poll; a socket in TIME-WAIT is needed by nobody here.
            match ending {
                Ending::TimedOut => aborted.push(connection.handle),
                Ending::Completed | Ending::Reset => drop(sockets.remove(connection.handle)),
            }
            finished.push(Finished {
                id: connection.id,
                local_port: connection.local_port,
                remote: connection.remote,
                ending,
                received: std::mem::take(&mut connection.received),
                sent: connection.sent,
                took: now.saturating_sub(connection.started),
            });
            false
        });
        any
    }

    fn step_udp(&mut self) -> bool {
        let mut busy = false;
        for udp_port in &self.udp_ports {
            let socket = self.sockets.get_mut::<udp::Socket<'_>>(udp_port.handle);
            while let Ok((data, from)) = socket.recv() {
                busy = true;
                let data = data.to_vec();
                if udp_port.answers {
                    let mut answer = format!("{}: ", self.name).into_bytes();
                    answer.extend_from_slice(&data);
                    // A full queue loses the answer, as UDP may.
                    let _ = socket.send_slice(&answer, from.endpoint);
                } else {
                    self.datagrams.push(Datagram {
                        from: SocketAddr::new(from.endpoint.addr.into(), from.endpoint.port),
                        local_port: udp_port.port,
                        data,
                    });
                }
            }
        }
        busy
    }

    fn step_pingers(&mut self) -> bool {
        let own_v6 = self.addresses.iter().copied().find(IpAddr::is_ipv6);
        let mut busy = false;
        for (handle, _) in &self.pingers {
            let socket = self.sockets.get_mut::<icmp::Socket<'_>>(*handle);
            while let Ok((bytes, from)) = socket.recv() {
                busy = true;
                self.pongs.extend(reply(from, own_v6, bytes));
            }
        }
        busy
    }
}

fn instant(now: Duration) -> Instant {
    Instant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}
