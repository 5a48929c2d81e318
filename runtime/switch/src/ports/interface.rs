//! A Linux network interface as a port of the switch.
//!
//! Packets reach the switch as a wire would have carried them, whatever offloads the sender's kernel
//! has; see [`super::offload`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::packet_socket::{MAX_FRAME, PacketSocket, host_addresses};
use super::{Port, PortCounters, offload};

/// Why an interface cannot be a port.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// There is none of that name.
    #[error("there is no network interface `{0}`; `ip link` lists those there are")]
    Missing(String),
    /// The process may not open packet sockets.
    #[error(
        "no permission to open `{0}`, which takes CAP_NET_RAW: run as root, or give the program the capability with `setcap cap_net_raw,cap_net_admin+ep`"
    )]
    Permission(String),
    /// Anything else the system said.
    #[error("cannot open interface `{name}`: {error}")]
    System {
        /// The interface.
        name: String,
        /// The system's error.
        error: io::Error,
    },
}

/// A frame that has waited for longer is dropped. Where more come than the switch takes, the kernel's buffer, which
/// has room for bursts, would else make all of them late by seconds. Whoever has waited for an answer for so long
/// has mostly sent again (RFC 6298 has a second, Linux less).
const STALE: Duration = Duration::from_millis(500);

/// A port on a Linux interface.
pub struct InterfacePort {
    name: String,
    socket: PacketSocket,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    counters: PortCounters,
}

impl InterfacePort {
    /// Opens the interface `name`, in promiscuous mode.
    ///
    /// # Errors
    /// [`InterfaceError`] says what is missing and what to do.
    pub fn open(name: &str) -> Result<Self, InterfaceError> {
        let socket = PacketSocket::open(name).map_err(|error| {
            match (error.kind(), error.raw_os_error()) {
                (io::ErrorKind::PermissionDenied, _) => InterfaceError::Permission(name.to_owned()),
                (_, Some(libc::ENODEV | libc::ENXIO)) => InterfaceError::Missing(name.to_owned()),
                _ => InterfaceError::System {
                    name: name.to_owned(),
                    error,
                },
            }
        })?;
        Ok(Self {
            name: name.to_owned(),
            socket,
            buffer: vec![0; MAX_FRAME],
            scratch: Vec::new(),
            counters: PortCounters::default(),
        })
    }

    /// What a user should know about the interface: the host's own stack would answer packets too.
    pub fn warnings(&self) -> Vec<String> {
        let addresses = host_addresses(&self.name);
        if addresses.is_empty() {
            return Vec::new();
        }
        vec![format!(
            "interface `{0}` has addresses of the host itself ({1}), whose stack will answer packets too; take them away with `ip addr flush dev {0}` and `sysctl net.ipv6.conf.{0}.disable_ipv6=1`",
            self.name,
            addresses.join(", ")
        )]
    }
}

impl Port for InterfacePort {
    fn receive(&mut self, limit: usize, sink: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let mut frames = 0;
        while frames < limit {
            let info = match self.socket.receive(&mut self.buffer) {
                Ok(Some(info)) => info,
                Ok(None) => break,
                // The link is down for now; the socket works again when it is back.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => break,
                Err(error) => return Err(error),
            };
            frames += 1;
            if info.waited() > STALE {
                self.counters.receive_late += 1;
                continue;
            }
            let Some(frame) = self.buffer.get_mut(..info.length) else {
                continue;
            };
            let mut pieces = 0;
            let result = offload::finish(
                frame,
                info.vnet,
                info.vlan,
                &mut self.scratch,
                &mut |packet| {
                    pieces += 1;
                    sink(packet);
                },
            );
            self.counters.received += pieces;
            if let Err(error) = result {
                self.counters.receive_failed += 1;
                if self.counters.receive_failed == 1 {
                    tracing::warn!(
                        "`{0}`: {error}; `ethtool -K {0} tso off gso off ufo off tx off` at the other end",
                        self.name
                    );
                }
            }
        }
        Ok(frames)
    }

    fn send(&mut self, packet: &[u8]) {
        match self.socket.send(packet) {
            Ok(()) => self.counters.sent += 1,
            Err(_) => self.counters.send_failed += 1,
        }
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn counters(&self) -> PortCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interface_is_named_in_the_error() {
        let error = InterfacePort::open("no-such-if0").err().unwrap();
        let text = error.to_string();
        assert!(text.contains("`no-such-if0`"), "{text}");
        assert!(matches!(
            error,
            InterfaceError::Missing(_) | InterfaceError::Permission(_)
        ));
    }
    #[test]
    fn frames_that_nobody_took_for_long_are_dropped_and_later_ones_are_taken() {
        let mut port = match InterfacePort::open("lo") {
            Ok(port) => port,
            Err(error) => return eprintln!("SKIPPED: {error}"),
        };
        let from = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let sends = |text: &str| {
            let text = format!("{text} from {}", std::process::id());
            from.send_to(text.as_bytes(), to.local_addr().unwrap())
                .unwrap();
        };
        let mine = format!("one from {}", std::process::id());
        // A kernel that is asked for times begins to note them a moment later.
        for _ in 0..10 {
            sends("an old one");
            std::thread::sleep(STALE + Duration::from_millis(50));
            sends("a new one");
            let mut came = Vec::new();
            let mut take = |frame: &[u8]| {
                let text = String::from_utf8_lossy(frame).into_owned();
                came.extend(text.contains(&mine).then_some(text));
            };
            // Others may talk there, too.
            while port.receive(64, &mut take).unwrap() > 0 {}
            assert!(came.iter().any(|text| text.contains("a new one")));
            if came.len() == 1 {
                return assert!(port.counters().receive_late >= 1);
            }
        }
        panic!("nothing was dropped");
    }
}
