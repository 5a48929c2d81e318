//! What the agent must know of the thing that runs the P4: its bounds and its habits.

use std::time::Duration;

use crate::message::Capability;

/// Properties of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Byte counters include the packet-out header of packets that the agent sent (bmv2 does).
    pub counts_packet_out_header: bool,
    /// Updates in one write. bmv2's clients see RESOURCE_EXHAUSTED when some hundred fail at once.
    pub batch: usize,
    /// Counter cells in one read.
    pub read_batch: usize,
    /// Time from an acknowledged delete until no packet that met the entry is left in the pipeline.
    pub drain: Duration,
    /// Counter cells go over to another program with RECONCILE_AND_COMMIT, so that they need not be read
    /// anew while the switch is shut.
    pub keeps_cells: bool,
    /// What its programs can do to packets.
    pub can: Vec<Capability>,
}

/// What the generated pipeline can do; adjusting only in a gate's stages.
const PIPELINE: [Capability; 5] = [
    Capability::Translate,
    Capability::Adjust,
    Capability::Dispatch,
    Capability::Ipip,
    Capability::Gue,
];

/// Bytes of the packet-out header that `counts_packet_out_header` speaks of.
pub const PACKET_OUT_HEADER: u64 = 17;

impl Target {
    /// The embedded switch.
    #[must_use]
    pub fn switch() -> Self {
        Self {
            counts_packet_out_header: false,
            batch: 1024,
            read_batch: 1024,
            drain: Duration::from_millis(10),
            keeps_cells: true,
            can: PIPELINE.to_vec(),
        }
    }

    /// bmv2's simple_switch_grpc, or the embedded switch with its quirks.
    #[must_use]
    pub fn simple_switch_grpc() -> Self {
        Self {
            counts_packet_out_header: true,
            batch: 100,
            read_batch: 100,
            drain: Duration::from_millis(100),
            keeps_cells: false,
            can: PIPELINE.to_vec(),
        }
    }

    /// Whether affinities may need that of it.
    #[must_use]
    pub fn can(&self, what: Capability) -> bool {
        self.can.contains(&what)
    }

    /// Bytes that counters see beyond the packet's own of each packet that the agent resumed.
    #[must_use]
    pub fn header(&self) -> u64 {
        if self.counts_packet_out_header {
            PACKET_OUT_HEADER
        } else {
            0
        }
    }
}
