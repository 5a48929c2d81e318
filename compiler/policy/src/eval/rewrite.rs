//! From a changed flow back to bytes: addresses, ports and TTL, checksums by their difference.
//!
//! RFC 1624, equation 3: the new checksum is the complement of the sum of the old checksum's and the
//! old fields' complements and the new fields. A UDP checksum of zero stays zero, and one that comes
//! to zero is sent as 0xffff (RFC 768). RFC 1141 for the TTL.

use super::Adjust;
use super::packet::{Flow, Layer4, Parsed, fold};

const IP: usize = 14;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// Brings headers and checksums in line with the flow. `dual` programs sum IPv4 addresses in their
/// mapped form.
pub(super) fn rewrite(frame: &mut [u8], parsed: &Parsed, to: &Flow, dual: bool) {
    let from = &parsed.flow;
    let addresses = |flow: &Flow| -> Vec<u16> {
        let both = [flow.src, flow.dst];
        both.iter()
            .flat_map(|a| address_words(*a, parsed.v6, dual))
            .collect()
    };
    let (old_addresses, new_addresses) = (addresses(from), addresses(to));
    let with_ports = |words: &[u16], flow: &Flow| [words, &[flow.sport, flow.dport]].concat();
    match parsed.layer4 {
        Layer4::None => {}
        Layer4::Tcp(at) => {
            let (old, new) = (
                with_ports(&old_addresses, from),
                with_ports(&new_addresses, to),
            );
            update(frame, at + 16, &old, &new);
            ports(frame, at, to);
        }
        Layer4::Udp(at) => {
            if read(frame, at + 6) != 0 {
                let (old, new) = (
                    with_ports(&old_addresses, from),
                    with_ports(&new_addresses, to),
                );
                update(frame, at + 6, &old, &new);
                if read(frame, at + 6) == 0 {
                    write(frame, at + 6, 0xffff);
                }
            }
            ports(frame, at, to);
        }
        Layer4::Icmp { at, echo } => {
            // ICMPv6 sums a pseudo header; ICMP does not.
            let mut old = if parsed.v6 {
                old_addresses.clone()
            } else {
                Vec::new()
            };
            let mut new = if parsed.v6 {
                new_addresses.clone()
            } else {
                Vec::new()
            };
            if echo {
                let identifier = to.sport | to.dport;
                old.push(read(frame, at + 4));
                new.push(identifier);
                update(frame, at + 2, &old, &new);
                write(frame, at + 4, identifier);
            } else if parsed.v6 {
                update(frame, at + 2, &old, &new);
            }
        }
    }
    if parsed.v6 {
        put(frame, IP + 8, &to.src.to_be_bytes());
        put(frame, IP + 24, &to.dst.to_be_bytes());
    } else {
        update(frame, IP + 10, &old_addresses, &new_addresses);
        put(frame, IP + 12, &(to.src as u32).to_be_bytes());
        put(frame, IP + 16, &(to.dst as u32).to_be_bytes());
    }
}

/// Brings TCP's numbers and window in line with what gates have made of them.
pub(super) fn adjust(frame: &mut [u8], parsed: &Parsed, by: Adjust) {
    let Layer4::Tcp(at) = parsed.layer4 else {
        return;
    };
    let places = [at + 4, at + 6, at + 8, at + 10, at + 14];
    let old = places.map(|place| read(frame, place));
    let [seq_high, seq_low, ack_high, ack_low, window] = old;
    let joined = |high: u16, low: u16| u32::from(high) << 16 | u32::from(low);
    let halves = |n: u32| [(n >> 16) as u16, n as u16];
    let sequence = halves(joined(seq_high, seq_low).wrapping_add(by.sequence));
    let flags = parsed.flow.flags;
    let acknowledgement = joined(ack_high, ack_low);
    let acknowledgement = halves(match flags & ACK {
        0 => acknowledgement,
        _ => acknowledgement.wrapping_add(by.acknowledgement),
    });
    let window = match flags & SYN {
        0 => shifted(window, by.window_shift),
        _ => window,
    };
    let new: Vec<u16> = sequence
        .into_iter()
        .chain(acknowledgement)
        .chain([window])
        .collect();
    update(frame, at + 16, &old, &new);
    for (place, word) in places.into_iter().zip(new) {
        write(frame, place, word);
    }
}

/// A window to the left, up to what its field holds, or to the right.
fn shifted(window: u16, by: i8) -> u16 {
    let distance = u32::from(by.unsigned_abs());
    if by < 0 {
        window.checked_shr(distance).unwrap_or(0)
    } else if window > u16::MAX.checked_shr(distance).unwrap_or(0) {
        u16::MAX
    } else {
        window.checked_shl(distance).unwrap_or(0)
    }
}

/// Takes one from the TTL or the hop limit.
pub(super) fn spend_ttl(frame: &mut [u8], v6: bool) {
    let at = if v6 { IP + 7 } else { IP + 8 };
    if let Some(ttl) = frame.get_mut(at) {
        *ttl = ttl.wrapping_sub(1);
    }
    if !v6 {
        let checksum = read(frame, IP + 10);
        let more = if checksum >= 0xfeff { 0x101 } else { 0x100 };
        write(frame, IP + 10, checksum.wrapping_add(more));
    }
}

/// Writes the Ethernet addresses.
pub(super) fn ethernet(frame: &mut [u8], dst: [u8; 6], src: [u8; 6]) {
    put(frame, 0, &dst);
    put(frame, 6, &src);
}

fn address_words(address: u128, v6: bool, dual: bool) -> Vec<u16> {
    let bytes = match (v6, dual) {
        (false, false) => (address as u32).to_be_bytes().to_vec(),
        (false, true) => (address | 0xffff << 32).to_be_bytes().to_vec(),
        (true, _) => address.to_be_bytes().to_vec(),
    };
    bytes
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |n, b| n << 8 | u16::from(*b)))
        .collect()
}

fn update(frame: &mut [u8], at: usize, old: &[u16], new: &[u16]) {
    let checksum = read(frame, at);
    let mut total = u64::from(!checksum);
    total += old.iter().map(|w| u64::from(!*w)).sum::<u64>();
    total += new.iter().map(|w| u64::from(*w)).sum::<u64>();
    write(frame, at, !fold(total));
}

fn ports(frame: &mut [u8], at: usize, flow: &Flow) {
    write(frame, at, flow.sport);
    write(frame, at + 2, flow.dport);
}

fn read(frame: &[u8], at: usize) -> u16 {
    frame
        .get(at..at + 2)
        .map_or(0, |pair| pair.iter().fold(0, |n, b| n << 8 | u16::from(*b)))
}

fn write(frame: &mut [u8], at: usize, value: u16) {
    put(frame, at, &value.to_be_bytes());
}

/// Overwrites bytes; the parser has seen that the header is there.
fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}
