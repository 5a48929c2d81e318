//! A port with somebody looking on: captures and dumps are functions beside a port, not kinds of port.

use std::io;
use std::os::fd::BorrowedFd;

use super::{Port, PortCounters};

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Into the switch.
    In,
    /// Out of it.
    Out,
}

/// A port whose packets are shown to a function as they pass.
pub struct TapPort<F> {
    inner: Box<dyn Port>,
    tap: F,
}

impl<F: FnMut(Direction, &[u8]) + Send> TapPort<F> {
    /// Shows what passes `inner` to `tap`, which must not wait.
    pub fn new(inner: Box<dyn Port>, tap: F) -> Self {
        Self { inner, tap }
    }
}

impl<F: FnMut(Direction, &[u8]) + Send> Port for TapPort<F> {
    fn receive(&mut self, limit: usize, sink: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let Self { inner, tap } = self;
        inner.receive(limit, &mut |packet| {
            tap(Direction::In, packet);
            sink(packet);
        })
    }

    fn send(&mut self, packet: &[u8]) {
        (self.tap)(Direction::Out, packet);
        self.inner.send(packet);
    }

    fn send_tagged(&mut self, packet: &[u8], tag: u64) {
        (self.tap)(Direction::Out, packet);
        self.inner.send_tagged(packet, tag);
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.as_fd()
    }

    fn flush(&mut self) {
        self.inner.flush();
    }

    fn counters(&self) -> PortCounters {
        self.inner.counters()
    }
}
