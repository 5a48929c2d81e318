//! Where packets come from and go to: Linux interfaces, pcap files, memory.
//!
//! A port moves bytes. It knows nothing of pipelines or of what the packets mean; the runner stands
//! between ports and switch.

mod interface;
mod link;
mod memory;
mod offload;
mod packet_socket;
mod pcap;
mod tap;

use std::io;
use std::os::fd::BorrowedFd;

pub use interface::{InterfaceError, InterfacePort};
pub use link::{Link, LinkState};
pub use memory::MemoryPort;
pub use pcap::{CaptureFile, PcapError, PcapInput, PcapPort};
pub use tap::{Direction, TapPort};

/// What a port has seen, since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct PortCounters {
    /// Packets handed to the switch.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that could not be sent: queue full, interface down, too long.
    pub send_failed: u64,
    /// Frames that could not be received whole or whose offloads could not be undone.
    pub receive_failed: u64,
    /// Frames that had waited for so long when the switch came to them that they were dropped.
    pub receive_late: u64,
}

/// One port of a switch.
pub trait Port: Send {
    /// Hands at most `limit` packets that have arrived to `sink`, without waiting.
    ///
    /// # Errors
    /// The port is gone and will hand over nothing more.
    fn receive(&mut self, limit: usize, sink: &mut dyn FnMut(&[u8])) -> io::Result<usize>;

    /// Sends one packet, or counts it as failed; never waits.
    fn send(&mut self, packet: &[u8]);

    /// As [`Port::send`], with the tag of the packet that caused it
    /// ([`crate::runner::SwitchHandle::inject_tagged`]); 0 is none. Most ports have no use for it.
    fn send_tagged(&mut self, packet: &[u8], tag: u64) {
        let _ = tag;
        self.send(packet);
    }

    /// What to wait on for more packets; `None` where packets arrive by other means.
    fn as_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Writes out what is buffered; called when the switch is idle and when it stops.
    fn flush(&mut self) {}

    /// What the port has seen.
    fn counters(&self) -> PortCounters;
}
