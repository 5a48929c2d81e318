//! What a step gives back: packets, digests, and what was dropped for which reason.

use crate::{Bits, DigestId};

/// Reusable buffers for what steps emit. A step appends; the caller clears when it has sent all.
#[derive(Debug, Default)]
pub struct Output {
    pub(crate) bytes: Vec<u8>,
    pub(crate) packets: Vec<PacketSpan>,
    /// Digests in the order in which they were generated, one sample each.
    pub digests: Vec<Digest>,
    /// Packets dropped since the last [`Output::clear`].
    pub drops: Drops,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct PacketSpan {
    pub(crate) port: u16,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// One packet that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputPacket<'a> {
    /// The port it leaves by; the CPU port is one as any other.
    pub port: u16,
    /// Its bytes, without frame check sequence.
    pub bytes: &'a [u8],
}

impl Output {
    /// Empty buffers.
    pub fn new() -> Self {
        Output::default()
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
        self.digests.clear();
        self.drops = Drops::default();
    }

    /// The packets in the order in which they leave.
    pub fn packets(&self) -> impl ExactSizeIterator<Item = OutputPacket<'_>> {
        self.packets.iter().map(|span| OutputPacket {
            port: span.port,
            bytes: self.bytes.get(span.start..span.end).unwrap_or_default(),
        })
    }
}

/// One sample that `digest` generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The learn list.
    pub digest: DigestId,
    /// The values, one a field of the list.
    pub values: Vec<Bits>,
}

/// Why a packet did not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// No pipeline is loaded.
    NoPipeline,
    /// `egress_spec` was the drop port at the end of ingress.
    Ingress,
    /// `egress_spec` was the drop port at the end of egress.
    Egress,
    /// The multicast group has no replicas, or does not exist.
    EmptyMulticastGroup,
    /// The clone session does not exist or has no replicas; the original packet goes on.
    NoCloneSession,
    /// Resubmit, recirculate and clones passed `Config::max_passes`.
    PassLimit,
    /// The parser stopped in a `reject` that drops.
    ParserReject,
    /// An `assert` or `assume` of the program did not hold.
    Assertion,
    /// The packet is longer than the switch takes (65,535 bytes).
    TooLong,
    /// Its `priority` is that of no queue ([`crate::Quirks::drop_high_priorities`]).
    NoQueue,
}

impl DropReason {
    /// All reasons, in a fixed order.
    pub const ALL: [DropReason; 10] = [
        DropReason::NoPipeline,
        DropReason::Ingress,
        DropReason::Egress,
        DropReason::EmptyMulticastGroup,
        DropReason::NoCloneSession,
        DropReason::PassLimit,
        DropReason::ParserReject,
        DropReason::Assertion,
        DropReason::TooLong,
        DropReason::NoQueue,
    ];

    /// The reason's name in `snake_case`, as metrics and JSON have it.
    pub fn name(self) -> &'static str {
        match self {
            DropReason::NoPipeline => "no_pipeline",
            DropReason::Ingress => "ingress",
            DropReason::Egress => "egress",
            DropReason::EmptyMulticastGroup => "empty_multicast_group",
            DropReason::NoCloneSession => "no_clone_session",
            DropReason::PassLimit => "pass_limit",
            DropReason::ParserReject => "parser_reject",
            DropReason::Assertion => "assertion",
            DropReason::TooLong => "too_long",
            DropReason::NoQueue => "no_queue",
        }
    }
}

/// How many packets were dropped, by reason; and parser errors, which by themselves drop nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    counts: [u64; DropReason::ALL.len()],
    /// Packets whose parser ended in an error (a truncated header and the like).
    pub parser_errors: u64,
    /// Packets whose checksum verification failed.
    pub checksum_errors: u64,
}

impl Drops {
    /// How many were dropped for `reason`.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.counts.get(reason as usize).copied().unwrap_or(0)
    }

    /// How many were dropped for any reason.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .zip(self.counts)
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| (*reason, count))
    }

    pub(crate) fn count(&mut self, reason: DropReason) {
        if let Some(count) = self.counts.get_mut(reason as usize) {
            *count += 1;
        }
    }
}
