//! Headers brought in line with a tuple, by the agent: fragments, and what ICMP errors quote.
//!
//! As the pipeline's one rewrite, checksums are updated by the difference (RFC 1624), so that a packet whose
//! payload is elsewhere, or cut off, keeps a checksum that holds. What is not there stays untouched.

use std::net::IpAddr;

use crate::adjust::Adjust;
use crate::flow::{PacketKind, Tuple, events};
use crate::packet::{self, ETHERNET, View, proto};

/// The difference that changed fields make to a ones' complement sum.
#[derive(Debug, Clone, Copy, Default)]
struct Difference(u32);

impl Difference {
    fn word(mut self, old: u16, new: u16) -> Self {
        self.0 += u32::from(!old) + u32::from(new);
        self
    }

    fn number(self, old: u32, new: u32) -> Self {
        let halves = |n: u32| {
            let [a, b, c, d] = n.to_be_bytes();
            [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
        };
        let ([old_high, old_low], [new_high, new_low]) = (halves(old), halves(new));
        self.word(old_high, new_high).word(old_low, new_low)
    }

    fn addresses(self, old: &Tuple, new: &Tuple) -> Self {
        [(old.src, new.src), (old.dst, new.dst)]
            .into_iter()
            .flat_map(|(old, new)| words(old).into_iter().zip(words(new)))
            .fold(self, |sum, (old, new)| sum.word(old, new))
    }

    /// The checksum after the change: equation 3 of RFC 1624.
    fn apply(self, checksum: u16) -> u16 {
        let mut sum = u32::from(!checksum) + self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap_or(0)
    }
}

/// An address as words; the rest of an IPv4 one is zero, which sums to nothing.
fn words(address: IpAddr) -> [u16; 8] {
    match address {
        IpAddr::V4(a) => {
            let [a, b, c, d] = a.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            [high, low, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(a) => a.segments(),
    }
}

fn put_word(bytes: &mut [u8], at: usize, word: u16) {
    packet::put(bytes, at, &word.to_be_bytes());
}

/// Gives the IP packet that begins at `ip` another tuple: addresses, ports or echo identifier, and the
/// checksums over them as far as they are there. `view` is the packet as it is. A later fragment has
/// addresses only. Nothing happens between families.
pub(super) fn retarget(bytes: &mut [u8], ip: usize, view: &View, to: &Tuple) {
    let from = &view.tuple;
    if from.src.is_ipv4() != to.src.is_ipv4() || from.dst.is_ipv4() != to.dst.is_ipv4() {
        return;
    }
    // What lies behind the packet's end is not its own.
    let end = view.end.min(bytes.len());
    let Some(bytes) = bytes.get_mut(..end) else {
        return;
    };
    if view.kind != PacketKind::LaterFragment {
        transport(bytes, view, to);
    }
    addresses(bytes, ip, from, to);
}

/// Addresses and the IPv4 header's checksum.
fn addresses(bytes: &mut [u8], ip: usize, from: &Tuple, to: &Tuple) {
    match (to.src, to.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            if let Some(sum) = packet::u16_at(bytes, ip + 10) {
                let sum = Difference::default().addresses(from, to).apply(sum);
                put_word(bytes, ip + 10, sum);
            }
            packet::put(bytes, ip + 12, &src.octets());
            packet::put(bytes, ip + 16, &dst.octets());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            packet::put(bytes, ip + 8, &src.octets());
            packet::put(bytes, ip + 24, &dst.octets());
        }
        _ => {}
    }
}

/// Adjusts the numbers of a packet's TCP header, as far as it is there: the acknowledgement number only where
/// the header is known to have one, the window only outside of SYNs. A later fragment has no header.
pub(crate) fn renumber(bytes: &mut [u8], view: &View, by: Adjust) {
    let is_tcp = view.tuple.proto == proto::TCP && view.kind != PacketKind::LaterFragment;
    let end = view.end.min(bytes.len());
    let Some(bytes) = bytes.get_mut(..end).filter(|_| is_tcp) else {
        return;
    };
    let (l4, mut sum) = (view.l4, Difference::default());
    let mut number = |at: usize, delta: u32| {
        if let Some(old) = packet::u32_at(bytes, at) {
            let new = old.wrapping_add(delta);
            sum = sum.number(old, new);
            packet::put(bytes, at, &new.to_be_bytes());
        }
    };
    number(l4 + 4, by.sequence);
    if view.events & events::ACK != 0 {
        number(l4 + 8, by.acknowledgement);
    }
    let window = packet::u16_at(bytes, l4 + 14).filter(|_| view.events & events::SYN == 0);
    if let Some(old) = window {
        let new = by.window(old);
        sum = sum.word(old, new);
        put_word(bytes, l4 + 14, new);
    }
    if let Some(old) = packet::u16_at(bytes, l4 + 16) {
        put_word(bytes, l4 + 16, sum.apply(old));
    }
}

fn transport(bytes: &mut [u8], view: &View, to: &Tuple) {
    let (from, l4) = (&view.tuple, view.l4);
    let pseudo = Difference::default().addresses(from, to);
    match (from.proto, view.icmp) {
        (proto::TCP | proto::UDP, _) => {
            let udp = from.proto == proto::UDP;
            let at = l4 + if udp { 6 } else { 16 };
            let sum = packet::u16_at(bytes, at);
            // Zero means that the sender computed none; a sum that comes to zero is sent as its other form.
            if let Some(sum) = sum.filter(|sum| !udp || *sum != 0) {
                let sum = pseudo
                    .word(from.sport, to.sport)
                    .word(from.dport, to.dport)
                    .apply(sum);
                put_word(bytes, at, if udp && sum == 0 { 0xffff } else { sum });
            }
            put_word(bytes, l4, to.sport);
            put_word(bytes, l4 + 2, to.dport);
        }
        (proto::ICMP, 0 | 8) if from.src.is_ipv4() => {
            identifier(bytes, view, to, Difference::default());
        }
        (proto::ICMPV6, 128 | 129) if from.src.is_ipv6() => identifier(bytes, view, to, pseudo),
        (proto::ICMPV6, _) if from.src.is_ipv6() => {
            if let Some(sum) = packet::u16_at(bytes, l4 + 2) {
                put_word(bytes, l4 + 2, pseudo.apply(sum));
            }
        }
        _ => {}
    }
}

/// An echo's identifier is one of the tuple's ports; the other one is zero.
fn identifier(bytes: &mut [u8], view: &View, to: &Tuple, sum_of_addresses: Difference) {
    let (old, new) = (view.tuple.sport | view.tuple.dport, to.sport | to.dport);
    if let Some(sum) = packet::u16_at(bytes, view.l4 + 2) {
        let sum = sum_of_addresses.word(old, new).apply(sum);
        put_word(bytes, view.l4 + 2, sum);
    }
    put_word(bytes, view.l4 + 4, new);
}

/// Gives the ICMP message of a frame other addresses, and the right checksum for what it holds now.
pub(super) fn readdress(frame: &mut [u8], view: &View, src: IpAddr, dst: IpAddr) {
    let to = Tuple {
        src,
        dst,
        ..view.tuple
    };
    addresses(frame, ETHERNET, &view.tuple, &to);
    put_word(frame, view.l4 + 2, 0);
    let Some(message) = frame.get(view.l4..view.end) else {
        return;
    };
    let sum = match (src, dst) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let pseudo = packet::pseudo_v6(src, dst, proto::ICMPV6, message.len());
            packet::checksum(&[&pseudo, message])
        }
        _ => packet::checksum(&[message]),
    };
    put_word(frame, view.l4 + 2, sum);
}

/// Whether the checksum of the ICMP message of a frame holds.
pub(super) fn icmp_is_sound(frame: &[u8], view: &View) -> bool {
    let Some(message) = frame.get(view.l4..view.end) else {
        return false;
    };
    let sum = match (view.tuple.src, view.tuple.dst) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let pseudo = packet::pseudo_v6(src, dst, proto::ICMPV6, message.len());
            packet::checksum(&[&pseudo, message])
        }
        _ => packet::checksum(&[message]),
    };
    sum == 0
}
