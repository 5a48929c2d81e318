//! TCP servers of a host: a bit of HTTP/1.0, or lines, and what they have served.
//!
//! Every answer says the server's name, so that a client can tell who it was.

use std::sync::Arc;
use std::time::Duration;

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};

/// Sockets that wait for a connection; more connection requests at one moment are refused.
const BACKLOG: usize = 128;
/// How long a closed connection's socket stays to answer a repeated FIN.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes of a request that are kept; a longer one gets its answer from what there is.
const REQUEST_LIMIT: usize = 16 * 1024;
const RECEIVE_BUFFER: usize = 4 * 1024;
const SEND_BUFFER: usize = 16 * 1024;

/// A server of one host: its place in the order of [`super::Host::serve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerId(pub(super) usize);

/// What an HTTP server answers with.
#[derive(Debug, Clone)]
pub enum Page {
    /// The server's name and a line feed, then filler up to this many bytes.
    Named(usize),
    /// These bytes.
    Bytes(Arc<[u8]>),
}

/// The protocol of a server.
#[derive(Debug, Clone)]
pub enum Speaks {
    /// HTTP/1.0: one request, one answer (200, `Server:` its name), then it closes.
    Http(Page),
    /// Each line is answered with the server's name, `: ` and the line; the client closes.
    Lines,
}

/// What a server has done since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerCounters {
    /// Connections whose handshake was completed.
    pub connections: u64,
    /// Payload bytes received.
    pub received: u64,
    /// Payload bytes sent, counted when they are handed to TCP.
    pub sent: u64,
}

/// One socket of a server, waiting or connected.
struct Accepted {
    handle: SocketHandle,
    established: bool,
    request: Vec<u8>,
    /// Bytes still to be sent, and how many of them have been.
    answer: Vec<u8>,
    answered: usize,
    /// The request has been answered; HTTP closes when all is sent.
    closing: bool,
    closed_at: Option<Duration>,
}

/// A listening server.
pub(super) struct Server {
    name: String,
    port: u16,
    speaks: Speaks,
    pub counters: ServerCounters,
    sockets: Vec<Accepted>,
    stopped: bool,
}

impl Server {
    pub fn new(name: &str, port: u16, speaks: Speaks) -> Self {
        Self {
            name: name.to_owned(),
            port,
            speaks,
            counters: ServerCounters::default(),
            sockets: Vec::new(),
            stopped: false,
        }
    }

    /// Ends at once: every connection is reset, and new ones are refused.
    pub fn stop(&mut self, set: &mut SocketSet<'static>) {
        self.stopped = true;
        for accepted in &self.sockets {
            set.get_mut::<Socket<'_>>(accepted.handle).abort();
        }
    }

    /// Does what the sockets' states ask for; true when something was done.
    pub fn step(&mut self, set: &mut SocketSet<'static>, now: Duration) -> bool {
        let mut busy = false;
        for accepted in &mut self.sockets {
            let socket = set.get_mut::<Socket<'_>>(accepted.handle);
            busy |= accepted.step(socket, &self.name, &self.speaks, &mut self.counters, now);
        }
        self.sockets.retain(|accepted| {
            let gone = accepted.closed_at.is_some_and(|at| now >= at + LINGER);
            if gone {
                set.remove(accepted.handle);
            }
            !gone
        });
        if !self.stopped {
            self.refill(set);
        }
        busy
    }

    /// Keeps [`BACKLOG`] sockets waiting.
    fn refill(&mut self, set: &mut SocketSet<'static>) {
        let waiting = self
            .sockets
            .iter()
            .filter(|accepted| set.get::<Socket<'_>>(accepted.handle).is_listening())
            .count();
        for _ in waiting..BACKLOG {
            let mut socket = Socket::new(
                SocketBuffer::new(vec![0; RECEIVE_BUFFER]),
                SocketBuffer::new(vec![0; SEND_BUFFER]),
            );
            if socket.listen(self.port).is_err() {
                // Only port 0 cannot be listened at.
                return;
            }
            self.sockets.push(Accepted {
                handle: set.add(socket),
                established: false,
                request: Vec::new(),
                answer: Vec::new(),
                answered: 0,
                closing: false,
                closed_at: None,
            });
        }
    }
}

impl Accepted {
    fn step(
        &mut self,
        socket: &mut Socket<'static>,
        name: &str,
        speaks: &Speaks,
        counters: &mut ServerCounters,
        now: Duration,
    ) -> bool {
        if matches!(socket.state(), State::Listen | State::SynReceived) {
            return false;
        }
        let mut busy = false;
        if !self.established && socket.state() != State::Closed {
            self.established = true;
            counters.connections += 1;
            busy = true;
        }
        while socket.can_recv() {
            let request = &mut self.request;
            let taken = socket.recv(|bytes| {
                let room = REQUEST_LIMIT.saturating_sub(request.len());
                request.extend(bytes.iter().take(room));
                (bytes.len(), bytes.len())
            });
            match taken {
                Ok(length) if length > 0 => counters.received += length as u64,
                _ => break,
            }
            busy = true;
        }
        if !self.closing {
            self.answer(name, speaks);
        }
        if self.answered < self.answer.len() && socket.can_send() {
            let rest = self.answer.get(self.answered..).unwrap_or_default();
            let sent = socket.send_slice(rest).unwrap_or(0);
            self.answered += sent;
            counters.sent += sent as u64;
            busy |= sent > 0;
        }
        let all_sent = self.answered == self.answer.len();
        let client_is_done = socket.state() == State::CloseWait;
        if socket.may_send() && all_sent && (self.closing || client_is_done) {
            socket.close();
            busy = true;
        }
        if self.closed_at.is_none() && matches!(socket.state(), State::Closed | State::TimeWait) {
            self.closed_at = Some(now);
        }
        busy
    }

    /// Puts the answer to what has been asked so far where it is sent from.
    fn answer(&mut self, name: &str, speaks: &Speaks) {
        match speaks {
            Speaks::Http(page) => {
                if !self.request.windows(4).any(|end| end == b"\r\n\r\n") {
                    return;
                }
                let mut filled;
                let body: &[u8] = match page {
                    Page::Bytes(bytes) => bytes,
                    Page::Named(size) => {
                        filled = format!("{name}\n").into_bytes();
                        let length = filled.len().max(*size);
                        filled.resize(length, b'.');
                        &filled
                    }
                };
                self.answer = format!(
                    "HTTP/1.0 200 OK\r\nServer: {name}\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                )
                .into_bytes();
                self.answer.extend_from_slice(body);
                self.closing = true;
            }
            Speaks::Lines => {
                while let Some(end) = self.request.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.request.drain(..=end).collect();
                    self.answer.extend_from_slice(name.as_bytes());
                    self.answer.extend_from_slice(b": ");
                    self.answer.extend_from_slice(&line);
                }
                if self.answered == self.answer.len() {
                    self.answer.clear();
                    self.answered = 0;
                }
            }
        }
    }
}
