//! A port whose other end is a function of the same process; packets come in by the runner's handle.

use std::io;
use std::os::fd::BorrowedFd;

use super::{Port, PortCounters};

/// A port that hands each packet it is to send to a function.
pub struct MemoryPort<F> {
    sink: F,
    counters: PortCounters,
}

impl<F: FnMut(&[u8]) + Send> MemoryPort<F> {
    /// A port that gives what it sends to `sink`, which must not wait.
    pub fn new(sink: F) -> Self {
        Self {
            sink,
            counters: PortCounters::default(),
        }
    }
}

impl<F: FnMut(&[u8]) + Send> Port for MemoryPort<F> {
    fn receive(&mut self, _limit: usize, _sink: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        Ok(0)
    }

    fn send(&mut self, packet: &[u8]) {
        self.counters.sent += 1;
        (self.sink)(packet);
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn counters(&self) -> PortCounters {
        self.counters
    }
}
