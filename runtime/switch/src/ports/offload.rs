//! Finishes what a network card would have done: checksums left to the hardware, segments of up to
//! 64 KiB left to be cut, VLAN tags taken out of the frame.
//!
//! Pure functions over bytes. The offload state comes in the form of virtio's network header
//! (virtio 1.2, section 5.1.6), which PACKET_VNET_HDR puts in front of each frame.

/// Length of the virtio network header without the buffer count.
pub const VNET_HEADER: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// The offload state of one frame, in host byte order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// Bit 0: the checksum is unfinished.
    pub flags: u8,
    /// What kind of oversized segment this is; 0 for none.
    pub gso_type: u8,
    /// Bytes of L2 to L4 headers, as a hint.
    pub header_length: u16,
    /// Payload bytes of each piece.
    pub gso_size: u16,
    /// Where the checksum begins to count.
    pub checksum_start: u16,
    /// Where the checksum stands, from `checksum_start`.
    pub checksum_offset: u16,
}

impl VnetHeader {
    /// Reads the header as Linux writes it on this machine.
    pub fn parse(bytes: &[u8; VNET_HEADER]) -> Self {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = *bytes;
        Self {
            flags,
            gso_type,
            header_length: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            checksum_start: u16::from_ne_bytes([s0, s1]),
            checksum_offset: u16::from_ne_bytes([o0, o1]),
        }
    }
}

/// The ones' complement sum of `bytes` (RFC 1071) added to `start`, not folded.
fn sum(start: u64, bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(2);
    let mut total = start;
    for pair in &mut chunks {
        if let [high, low] = pair {
            total += u64::from(u16::from_be_bytes([*high, *low]));
        }
    }
    if let [last] = chunks.remainder() {
        total += u64::from(*last) << 8;
    }
    total
}

fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

fn read_u16(frame: &[u8], at: usize) -> Option<u16> {
    match frame.get(at..at + 2)? {
        [high, low] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

fn write_u16(frame: &mut [u8], at: usize, value: u16) -> Option<()> {
    frame
        .get_mut(at..at + 2)?
        .copy_from_slice(&value.to_be_bytes());
    Some(())
}

fn read_u32(frame: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(read_u16(frame, at)?) << 16 | u32::from(read_u16(frame, at + 2)?))
}

/// Why a frame could not be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OffloadError {
    /// An offload that this port cannot undo.
    #[error("an oversized segment of kind {0} cannot be cut; turn its offload off at the sender")]
    Kind(u8),
    /// Offsets that lie outside the frame.
    #[error("offload offsets lie outside the frame")]
    Offsets,
}

/// Gives `sink` the frames that a wire would have carried: with finished checksums, none longer than
/// its headers and `gso_size` bytes, VLAN tag in place. `scratch` is reused between calls.
///
/// # Errors
/// [`OffloadError`]; the frame is then to be counted and dropped.
pub fn finish(
    frame: &mut [u8],
    vnet: VnetHeader,
    vlan: Option<(u16, u16)>,
    scratch: &mut Vec<u8>,
    sink: &mut dyn FnMut(&[u8]),
) -> Result<(), OffloadError> {
    match vnet.gso_type & !GSO_ECN {
        GSO_NONE => {
            if vnet.flags & NEEDS_CHECKSUM != 0 {
                finish_checksum(
                    frame,
                    usize::from(vnet.checksum_start),
                    usize::from(vnet.checksum_offset),
                )
                .ok_or(OffloadError::Offsets)?;
            }
            tagged(frame, vlan, scratch, sink);
            Ok(())
        }
        kind @ (GSO_TCP4 | GSO_TCP6 | GSO_UDP_L4) => {
            segment(frame, kind, vnet, vlan, scratch, sink).ok_or(OffloadError::Offsets)
        }
        other => Err(OffloadError::Kind(other)),
    }
}

/// The checksum field holds the pseudo-header's sum; what is missing is the rest from `start` on.
fn finish_checksum(frame: &mut [u8], start: usize, offset: usize) -> Option<()> {
    let value = !fold(sum(0, frame.get(start..)?));
    // UDP sends a computed zero as all ones (RFC 768); for TCP both mean the same to a receiver.
    write_u16(
        frame,
        start + offset,
        if value == 0 { 0xffff } else { value },
    )
}

fn tagged(
    frame: &[u8],
    vlan: Option<(u16, u16)>,
    scratch: &mut Vec<u8>,
    sink: &mut dyn FnMut(&[u8]),
) {
    let (Some((tpid, tci)), Some((addresses, rest))) = (vlan, frame.split_at_checked(12)) else {
        sink(frame);
        return;
    };
    scratch.clear();
    scratch.extend_from_slice(addresses);
    scratch.extend_from_slice(&tpid.to_be_bytes());
    scratch.extend_from_slice(&tci.to_be_bytes());
    scratch.extend_from_slice(rest);
    sink(scratch);
}

/// Cuts an oversized TCP or UDP segment as a card would: sequence numbers, IPv4 identification and
/// lengths counted on, FIN and PSH only in the last piece, CWR only in the first.
fn segment(
    frame: &[u8],
    kind: u8,
    vnet: VnetHeader,
    vlan: Option<(u16, u16)>,
    scratch: &mut Vec<u8>,
    sink: &mut dyn FnMut(&[u8]),
) -> Option<()> {
    let l4 = usize::from(vnet.checksum_start);
    let size = usize::from(vnet.gso_size);
    if size == 0 {
        return None;
    }
    let mut l3 = 14;
    while matches!(read_u16(frame, l3 - 2)?, 0x8100 | 0x88a8) {
        l3 += 4;
    }
    let ip_length = l4.checked_sub(l3)?;
    let is_v4 = frame.get(l3)? >> 4 == 4;
    let is_tcp = kind != GSO_UDP_L4;
    let l4_length = if is_tcp {
        usize::from(frame.get(l4 + 12)? >> 4) * 4
    } else {
        8
    };
    let headers = l4.checked_add(l4_length)?;
    let (head, payload) = frame.split_at_checked(headers)?;
    let first_sequence = if is_tcp { read_u32(frame, l4 + 4)? } else { 0 };
    let flags = if is_tcp { *frame.get(l4 + 13)? } else { 0 };
    let first_id = if is_v4 { read_u16(frame, l3 + 4)? } else { 0 };
    let pieces = payload.chunks(size).len();
    let mut piece_frame = Vec::with_capacity(headers + size);
    for (index, piece) in payload.chunks(size).enumerate() {
        piece_frame.clear();
        piece_frame.extend_from_slice(head);
        piece_frame.extend_from_slice(piece);
        let l4_total = l4_length + piece.len();
        if is_v4 {
            write_u16(&mut piece_frame, l3 + 2, (ip_length + l4_total) as u16)?;
            write_u16(
                &mut piece_frame,
                l3 + 4,
                first_id.wrapping_add(index as u16),
            )?;
            write_u16(&mut piece_frame, l3 + 10, 0)?;
            let header_sum = !fold(sum(0, piece_frame.get(l3..l4)?));
            write_u16(&mut piece_frame, l3 + 10, header_sum)?;
        } else {
            write_u16(
                &mut piece_frame,
                l3 + 4,
                (ip_length.checked_sub(40)? + l4_total) as u16,
            )?;
        }
        let checksum_at = if is_tcp {
            let sequence = first_sequence.wrapping_add((index * size) as u32);
            piece_frame
                .get_mut(l4 + 4..l4 + 8)?
                .copy_from_slice(&sequence.to_be_bytes());
            let mut piece_flags = flags;
            if index + 1 != pieces {
                piece_flags &= !0x09;
            }
            if index != 0 {
                piece_flags &= !0x80;
            }
            *piece_frame.get_mut(l4 + 13)? = piece_flags;
            l4 + 16
        } else {
            write_u16(&mut piece_frame, l4 + 4, l4_total as u16)?;
            l4 + 6
        };
        write_u16(&mut piece_frame, checksum_at, 0)?;
        let addresses = if is_v4 {
            piece_frame.get(l3 + 12..l3 + 20)?
        } else {
            piece_frame.get(l3 + 8..l3 + 40)?
        };
        let pseudo = sum(if is_tcp { 6 } else { 17 } + l4_total as u64, addresses);
        let value = !fold(sum(pseudo, piece_frame.get(l4..)?));
        write_u16(
            &mut piece_frame,
            checksum_at,
            if value == 0 && !is_tcp { 0xffff } else { value },
        )?;
        tagged(&piece_frame, vlan, scratch, sink);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_frame(payload: usize) -> Vec<u8> {
        let mut frame = vec![0u8; 14];
        frame[12] = 0x08;
        let total = (40 + payload) as u16;
        frame.extend_from_slice(&[
            0x45,
            0,
            (total >> 8) as u8,
            total as u8,
            0xff,
            0xff,
            0x40,
            0,
            64,
            6,
            0,
            0,
            10,
            0,
            0,
            1,
            10,
            0,
            0,
            2,
        ]);
        frame.extend_from_slice(&[
            0x1f, 0x90, 0x9c, 0x40, 0xff, 0xff, 0xff, 0x00, 0, 0, 0, 1, 0x50, 0x99, 0xff, 0xff, 0,
            0, 0, 0,
        ]);
        frame.extend((0..payload).map(|i| (i * 7) as u8));
        frame
    }

    fn checksums_hold(frame: &[u8]) -> bool {
        let pseudo = sum(6 + (frame.len() - 34) as u64, &frame[26..34]);
        fold(sum(0, &frame[14..34])) == 0xffff && fold(sum(pseudo, &frame[34..])) == 0xffff
    }

    #[test]
    fn a_large_segment_is_cut_into_what_a_wire_would_carry() {
        let mut frame = tcp_frame(3000);
        let vnet = VnetHeader {
            flags: 1,
            gso_type: 1,
            gso_size: 1448,
            checksum_start: 34,
            checksum_offset: 16,
            ..Default::default()
        };
        let mut pieces = Vec::new();
        let whole = frame.clone();
        finish(&mut frame, vnet, None, &mut Vec::new(), &mut |p| {
            pieces.push(p.to_vec())
        })
        .unwrap();
        assert_eq!(
            pieces.iter().map(|p| p.len() - 54).collect::<Vec<_>>(),
            [1448, 1448, 104]
        );
        assert!(pieces.iter().all(|p| checksums_hold(p)));
        let joined: Vec<u8> = pieces.iter().flat_map(|p| p[54..].to_vec()).collect();
        assert_eq!(joined, whole[54..]);
        // Sequence numbers wrap, identification wraps, PSH and FIN stand in the last piece only, CWR in the first.
        assert_eq!(
            read_u32(&pieces[1], 38),
            Some(0xffff_ff00u32.wrapping_add(1448))
        );
        assert_eq!(
            pieces
                .iter()
                .map(|p| read_u16(p, 18).unwrap())
                .collect::<Vec<_>>(),
            [0xffff, 0, 1]
        );
        assert_eq!(
            pieces.iter().map(|p| p[47]).collect::<Vec<_>>(),
            [0x90, 0x10, 0x19]
        );
    }

    #[test]
    fn an_unfinished_checksum_is_finished_and_a_tag_is_put_back() {
        let mut frame = tcp_frame(5);
        let header = !fold(sum(0, &frame[14..34]));
        write_u16(&mut frame, 24, header).unwrap();
        let pseudo = fold(sum(6 + 25, &frame[26..34]));
        write_u16(&mut frame, 50, pseudo).unwrap();
        let vnet = VnetHeader {
            flags: 1,
            checksum_start: 34,
            checksum_offset: 16,
            ..Default::default()
        };
        let mut seen = Vec::new();
        finish(
            &mut frame,
            vnet,
            Some((0x8100, 7)),
            &mut Vec::new(),
            &mut |p| seen = p.to_vec(),
        )
        .unwrap();
        assert_eq!(&seen[12..18], [0x81, 0, 0, 7, 8, 0]);
        seen.drain(12..16);
        assert!(checksums_hold(&seen));
    }

    #[test]
    fn offsets_outside_the_frame_are_an_error_and_not_a_panic() {
        for gso_type in [0, 1, 4, 5] {
            let vnet = VnetHeader {
                flags: 1,
                gso_type,
                gso_size: 100,
                checksum_start: 60_000,
                checksum_offset: 65_535,
                ..Default::default()
            };
            let mut frame = tcp_frame(10);
            assert_eq!(
                finish(&mut frame, vnet, None, &mut Vec::new(), &mut |_| {}),
                Err(OffloadError::Offsets)
            );
        }
        let vnet = VnetHeader {
            gso_type: 3,
            ..Default::default()
        };
        assert_eq!(
            finish(&mut tcp_frame(1), vnet, None, &mut Vec::new(), &mut |_| {}),
            Err(OffloadError::Kind(3))
        );
    }
}
