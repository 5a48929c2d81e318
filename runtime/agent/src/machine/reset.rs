//! The RST with which a host answers a segment that is for none of its connections (RFC 9293, section 3.10.7.1),
//! and the one with which it ends a connection.
//!
//! It reads and writes bytes; whether anybody is to be answered is decided elsewhere.

use std::net::IpAddr;

use super::host::own_packet;
use crate::flow::{PacketKind, Tuple};
use crate::packet::{self, View, proto};

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const FIN: u8 = 1;
const HEADER: usize = 20;

/// The IP packet that answers a TCP segment, from the address and port that it was sent to. `None` if the
/// segment is not sound or is itself a RST. `view` is of the frame.
pub(super) fn reset_for(frame: &[u8], view: &View) -> Option<Vec<u8>> {
    let is_whole = view.tuple.proto == proto::TCP && view.kind == PacketKind::Whole;
    let segment = frame.get(view.l4..view.end).filter(|_| is_whole)?;
    let (src, dst) = (view.tuple.src, view.tuple.dst);
    let is_sound = packet::checksum(&[&pseudo(src, dst, segment.len())?, segment]) == 0;
    let offset = usize::from(packet::u8_at(segment, 12)? >> 4) * 4;
    if !is_sound || view.flags & RST != 0 || offset < HEADER {
        return None;
    }
    let (seq, ack, flags) = if view.flags & ACK != 0 {
        (packet::u32_at(segment, 8)?, 0, RST)
    } else {
        // SYN and FIN have a sequence number each.
        let payload = u32::try_from(segment.len().checked_sub(offset)?).ok()?;
        let marks = [SYN, FIN].map(|flag| u32::from(view.flags & flag != 0));
        let next = packet::u32_at(segment, 4)?
            .wrapping_add(payload)
            .wrapping_add(marks.iter().sum());
        (0, next, RST | ACK)
    };
    emit(&view.tuple.reversed(), (seq, ack, flags))
}

/// The IP packet with which the source of a tuple resets a connection, in the number that its peer waits for.
pub(super) fn reset_with(from: &Tuple, seq: u32) -> Option<Vec<u8>> {
    emit(from, (seq, 0, RST))
}

fn emit(from: &Tuple, (seq, ack, flags): (u32, u32, u8)) -> Option<Vec<u8>> {
    let mut tcp = Vec::with_capacity(HEADER);
    tcp.extend_from_slice(&from.sport.to_be_bytes());
    tcp.extend_from_slice(&from.dport.to_be_bytes());
    tcp.extend_from_slice(&seq.to_be_bytes());
    tcp.extend_from_slice(&ack.to_be_bytes());
    tcp.extend_from_slice(&[0x50, flags, 0, 0, 0, 0, 0, 0]);
    let sum = packet::checksum(&[&pseudo(from.src, from.dst, HEADER)?, &tcp]);
    packet::put(&mut tcp, 16, &sum.to_be_bytes());
    own_packet((from.src, from.dst), proto::TCP, 0, &tcp)
}

fn pseudo(src: IpAddr, dst: IpAddr, length: usize) -> Option<Vec<u8>> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let length = u16::try_from(length).ok()?;
            let words = [[0, proto::TCP], length.to_be_bytes()];
            Some([&src.octets()[..], &dst.octets(), words.as_flattened()].concat())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            Some(packet::pseudo_v6(src, dst, proto::TCP, length).to_vec())
        }
        _ => None,
    }
}
