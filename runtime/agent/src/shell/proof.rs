//! The proof that packets find their way between switch and agent: one that the switch is told to send
//! out of its port to the agent comes back. A switch without such a port, or with another one, takes
//! pipeline and entries as any other does, and nothing would ever be asked.

use std::time::Duration;

use bytes::Bytes;

use crate::entry::{Packet, PacketMeta, packet_out};

/// Between two tries.
pub(super) const EVERY: Duration = Duration::from_millis(500);

/// A try may be lost: the queue to the agent is short on some switches.
pub(super) const TRIES: u32 = 10;

/// Nobody's address, a local experimental EtherType (IEEE 802), and who it is.
const FRAME: &[u8; 60] = b"\x02\x53\x42\xff\xff\xff\x02\x53\x42\xff\xff\xff\x88\xb5signalbox: does this come back?\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// What is sent.
pub(super) fn packet(cpu_port: u16) -> Packet {
    Packet {
        meta: PacketMeta {
            kind: packet_out::SEND,
            port: cpu_port,
            ..PacketMeta::default()
        },
        bytes: Bytes::from_static(FRAME),
    }
}

/// Whether it has come back: nothing that was diverted is of kind 0.
pub(super) fn is_back(packet: &Packet) -> bool {
    packet.meta.kind == 0 && packet.bytes.starts_with(FRAME)
}
