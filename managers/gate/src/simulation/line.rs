//! Frames on the wire: the numbers in them shifted, and their checksums made good.

use std::net::IpAddr;

use bytes::Bytes;
use signalbox_agent::adjust::Adjust;
use signalbox_agent::packet::{View, checksum, proto, pseudo_v6, view};

fn word(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(frame[at..at + 4].try_into().unwrap())
}

/// The frame as a switch with this entry passes it on.
pub fn adjusted(frame: &Bytes, by: Adjust) -> Bytes {
    shifted(frame, by.sequence, by.acknowledgement, |window| {
        by.window(window)
    })
}

/// The frame with other numbers.
pub fn shifted(frame: &Bytes, seq: u32, ack: u32, window: impl Fn(u16) -> u16) -> Bytes {
    let View { tuple, l4, end, .. } = view(frame).unwrap();
    let mut f = frame[..end].to_vec();
    let flags = f[l4 + 13];
    let new = word(&f, l4 + 4).wrapping_add(seq);
    f[l4 + 4..l4 + 8].copy_from_slice(&new.to_be_bytes());
    if flags & 0x10 != 0 {
        let new = word(&f, l4 + 8).wrapping_add(ack);
        f[l4 + 8..l4 + 12].copy_from_slice(&new.to_be_bytes());
    }
    if flags & 2 == 0 {
        let new = window(u16::from_be_bytes([f[l4 + 14], f[l4 + 15]]));
        f[l4 + 14..l4 + 16].copy_from_slice(&new.to_be_bytes());
    }
    f[l4 + 16..l4 + 18].fill(0);
    let plain = |a: IpAddr| match a {
        IpAddr::V4(a) => a.to_ipv6_compatible(),
        IpAddr::V6(a) => a,
    };
    let pseudo = pseudo_v6(plain(tuple.src), plain(tuple.dst), proto::TCP, end - l4);
    let sum = checksum(&[&pseudo, &f[l4..]]);
    f[l4 + 16..l4 + 18].copy_from_slice(&sum.to_be_bytes());
    f.into()
}
