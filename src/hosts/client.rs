//! TCP connections that a host opens. Each stays open until one of its ends closes it.

use std::net::SocketAddr;
use std::time::Duration;

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, State};

/// A connection of one host, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(super) u64);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Both sides closed it in order.
    Completed,
    /// The other side refused or reset it.
    Reset,
    /// It was not over in time.
    TimedOut,
}

/// What a connection was when it had ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Which one.
    pub id: ConnectionId,
    /// Its port at the host.
    pub local_port: u16,
    /// Where it was meant to go.
    pub remote: SocketAddr,
    /// How it ended.
    pub ending: Ending,
    /// All that was received.
    pub received: Vec<u8>,
    /// Bytes that were sent, counted when they are handed to TCP.
    pub sent: u64,
    /// From the first SYN to the end.
    pub took: Duration,
}

impl Finished {
    /// The status code of an HTTP answer.
    pub fn status(&self) -> Option<u16> {
        let head = std::str::from_utf8(self.received.get(..12)?).ok()?;
        head.strip_prefix("HTTP/1.0 ")?.parse().ok()
    }

    /// The body of an HTTP answer.
    pub fn body(&self) -> Option<&[u8]> {
        let end = self
            .received
            .windows(4)
            .position(|four| four == b"\r\n\r\n")?;
        self.received.get(end + 4..)
    }

    /// The name that the server gave in its `Server:` line.
    pub fn server(&self) -> Option<&str> {
        let end = self
            .received
            .windows(4)
            .position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(self.received.get(..end)?).ok()?;
        head.lines().find_map(|line| line.strip_prefix("Server: "))
    }

    /// True when it ended in order with a 200 and the body that was announced.
    pub fn is_good_http(&self) -> bool {
        let announced = std::str::from_utf8(&self.received)
            .ok()
            .and_then(|text| text.split_once("\r\n\r\n"))
            .and_then(|(head, _)| {
                head.lines()
                    .find_map(|line| line.strip_prefix("Content-Length: "))
            })
            .and_then(|length| length.parse::<usize>().ok());
        self.ending == Ending::Completed
            && self.status() == Some(200)
            && announced.is_some()
            && announced == self.body().map(<[u8]>::len)
    }
}

/// A connection of which the end has not been reported.
pub(super) struct Connection {
    pub id: ConnectionId,
    pub handle: SocketHandle,
    pub local_port: u16,
    pub remote: SocketAddr,
    pub to_send: Vec<u8>,
    pub received: Vec<u8>,
    pub sent: u64,
    pub started: Duration,
    pub deadline: Duration,
    pub established: bool,
    /// The other side has closed in order, or answered our close.
    pub over: bool,
}

impl Connection {
    /// Does what the socket's state asks for: whether something was done, and how it ended.
    pub fn step(&mut self, set: &mut SocketSet<'static>, now: Duration) -> (bool, Option<Ending>) {
        let socket = set.get_mut::<Socket<'_>>(self.handle);
        let mut busy = false;
        if !self.established && socket.may_send() {
            self.established = true;
            busy = true;
        }
        if !self.to_send.is_empty() && socket.can_send() {
            let sent = socket.send_slice(&self.to_send).unwrap_or(0);
            self.to_send.drain(..sent.min(self.to_send.len()));
            self.sent += sent as u64;
            busy |= sent > 0;
        }
        while socket.can_recv() {
            let received = &mut self.received;
            let taken = socket.recv(|bytes| {
                received.extend_from_slice(bytes);
                (bytes.len(), bytes.len())
            });
            if !taken.is_ok_and(|length| length > 0) {
                break;
            }
            busy = true;
        }
        match socket.state() {
            State::CloseWait => {
                self.over = true;
                socket.close();
                busy = true;
            }
            State::TimeWait => return (true, Some(Ending::Completed)),
            State::Closed if self.over => return (true, Some(Ending::Completed)),
            State::Closed => return (true, Some(Ending::Reset)),
            _ => {}
        }
        if now >= self.deadline {
            socket.abort();
            return (true, Some(Ending::TimedOut));
        }
        (busy, None)
    }
}
