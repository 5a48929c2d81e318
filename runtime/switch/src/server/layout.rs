//! The headers `packet_in` and `packet_out` as bits: P4Info's fields, one after the other. A translated
//! field has the controller's width in P4Info; how wide it is in a packet, only the device config says.

use signalbox_p4runtime::{
    catalog::HeaderInfo,
    proto::p4::v1::PacketMetadata,
    value::{self, Width},
};

use super::refusal::{Outcome, Refusal};
use crate::schema::HeaderSchema;

#[derive(Debug, Clone)]
struct Field {
    id: u32,
    name: String,
    /// In the packet, in bits.
    width: usize,
    /// The widest value that a controller may send, in bits.
    most: usize,
}

/// A header's fields with their widths.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    fields: Vec<Field>,
    /// In bytes; a header is a whole number of them.
    pub length: usize,
}

impl Layout {
    /// The layout of a header, or of none. P4Info's name for it is an annotation, which the device
    /// config does not have: there it is known by its fields.
    pub fn of(header: Option<&HeaderInfo>, real: &[HeaderSchema]) -> Result<Layout, String> {
        let Some(header) = header else {
            return Ok(Layout::default());
        };
        let real = real.iter().find(|real| is_of(header, real));
        let fields = header
            .fields
            .iter()
            .enumerate()
            .map(|(index, field)| match field.width {
                Width::Bits(most) => {
                    let real = real.and_then(|real| real.fields.get(index));
                    let width = real.map_or(most, |(_, width)| *width);
                    Ok(Field {
                        id: field.id,
                        name: field.name.clone(),
                        width,
                        // A number of the controller's that no packet can carry is refused.
                        most: most.min(width),
                    })
                }
                Width::String => Err(format!(
                    "field `{}` of `{}` is translated to a string, which is not supported",
                    field.name, header.name
                )),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let bits: usize = fields.iter().map(|field| field.width).sum();
        if !bits.is_multiple_of(8) {
            return Err(format!(
                "header `{}` has {bits} bits, which is no whole number of bytes",
                header.name
            ));
        }
        Ok(Layout {
            fields,
            length: bits / 8,
        })
    }

    /// Writes the header's bytes before a packet's.
    pub fn pack(&self, metadata: &[PacketMetadata], out: &mut Vec<u8>) -> Outcome<()> {
        let mut bits = BitWriter::new(out);
        for (index, field) in self.fields.iter().enumerate() {
            // Controllers send the fields in order, as a rule.
            let given = metadata
                .get(index)
                .filter(|m| m.metadata_id == field.id)
                .or_else(|| metadata.iter().find(|m| m.metadata_id == field.id));
            let Some(given) = given else {
                return Err(Refusal::invalid(format!(
                    "metadata `{}` (id {}) is missing",
                    field.name, field.id
                )));
            };
            value::check(&given.value, Width::Bits(field.most))
                .map_err(|error| Refusal::invalid(format!("metadata `{}`: {error}", field.name)))?;
            bits.put(&given.value, field.width);
        }
        if metadata.len() > self.fields.len() {
            let stranger = metadata
                .iter()
                .find(|m| !self.fields.iter().any(|field| field.id == m.metadata_id));
            return Err(Refusal::invalid(match stranger {
                Some(stranger) => format!("there is no metadata with id {}", stranger.metadata_id),
                None => "a metadata field is given twice".to_owned(),
            }));
        }
        Ok(())
    }

    /// The fields at the front of a packet; `None` if it is shorter than the header.
    pub fn unpack(&self, packet: &[u8]) -> Option<Vec<PacketMetadata>> {
        let header = packet.get(..self.length)?;
        let mut place = 0;
        Some(
            self.fields
                .iter()
                .map(|field| {
                    let value = take(header, place, field.width);
                    place += field.width;
                    PacketMetadata {
                        metadata_id: field.id,
                        value,
                    }
                })
                .collect(),
        )
    }
}

/// Whether P4Info and the device config speak of the same header: no field is wider in a packet
/// than for the controller.
fn is_of(header: &HeaderInfo, real: &HeaderSchema) -> bool {
    header.fields.len() == real.fields.len()
        && header
            .fields
            .iter()
            .zip(&real.fields)
            .all(|(field, (name, width))| {
                field.name == *name && matches!(field.width, Width::Bits(most) if *width <= most)
            })
}

/// Canonical bytes of `width` bits from bit `place` on.
fn take(bytes: &[u8], place: usize, width: usize) -> Vec<u8> {
    let len = width.div_ceil(8).max(1);
    let mut value = vec![0u8; len];
    // The last bit of the field is the last bit of the value.
    let end = place + width;
    for (index, slot) in value.iter_mut().rev().enumerate() {
        let high = end.saturating_sub(index * 8);
        let low = high.saturating_sub(8).max(place);
        if high <= place {
            break;
        }
        let mut byte = 0u16;
        for part in low / 8..=(high - 1) / 8 {
            byte = (byte << 8) | u16::from(bytes.get(part).copied().unwrap_or(0));
        }
        let shift = (8 - high % 8) % 8;
        let kept = high - low;
        *slot = ((byte >> shift) & (0xffu16 >> (8 - kept))) as u8;
    }
    value::canonicalise(&mut value);
    value
}

/// Appends fields of any width, without gaps.
struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Bits of the last byte that are taken; 0 for a whole one.
    used: usize,
}

impl<'a> BitWriter<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        BitWriter { out, used: 0 }
    }

    fn put(&mut self, value: &[u8], width: usize) {
        let len = width.div_ceil(8);
        let skip = value.len().saturating_sub(len);
        let pad = len.saturating_sub(value.len());
        let bytes = std::iter::repeat_n(0u8, pad).chain(value.iter().skip(skip).copied());
        let mut bits = match width % 8 {
            0 => 8,
            bits => bits,
        };
        for byte in bytes {
            self.put_bits(byte, bits);
            bits = 8;
        }
    }

    /// The low `count` bits of a byte, 1 to 8 of them.
    fn put_bits(&mut self, byte: u8, count: usize) {
        let byte = u16::from(byte) & (0xffu16 >> (8 - count));
        if self.used == 0 {
            self.out.push((byte << (8 - count)) as u8);
            self.used = count % 8;
            return;
        }
        let room = 8 - self.used;
        if let Some(last) = self.out.last_mut() {
            *last |= if count <= room {
                (byte << (room - count)) as u8
            } else {
                (byte >> (count - room)) as u8
            };
        }
        if count > room {
            self.out.push((byte << (8 - (count - room))) as u8);
        }
        self.used = (self.used + count) % 8;
    }
}

#[cfg(test)]
mod tests {
    use signalbox_p4runtime::catalog::ParamInfo;

    use super::*;

    fn layout(widths: &[usize]) -> Layout {
        Layout::of(Some(&header(widths)), &[]).unwrap()
    }

    fn header(widths: &[usize]) -> HeaderInfo {
        HeaderInfo {
            id: 1,
            name: "packet_in".to_owned(),
            alias: "packet_in".to_owned(),
            fields: widths
                .iter()
                .enumerate()
                .map(|(index, width)| ParamInfo {
                    id: index as u32 + 1,
                    name: format!("f{index}"),
                    width: Width::Bits(*width),
                })
                .collect(),
        }
    }

    #[test]
    fn a_translated_field_has_its_own_width_in_the_packet() {
        let real = HeaderSchema {
            name: "hdr.from_controller".to_owned(),
            fields: vec![("f0".to_owned(), 9), ("f1".to_owned(), 7)],
        };
        let layout = Layout::of(Some(&header(&[32, 7])), &[real]).unwrap();
        assert_eq!(layout.length, 2);
        let metadata = [(1, vec![1, 2]), (2, vec![3])]
            .map(|(metadata_id, value)| PacketMetadata { metadata_id, value });
        let mut bytes = Vec::new();
        layout.pack(&metadata, &mut bytes).unwrap();
        assert_eq!(bytes, [0x81, 0x03]);
        assert_eq!(layout.unpack(&bytes).unwrap(), metadata);
        let too_wide = PacketMetadata {
            metadata_id: 1,
            value: vec![2, 0],
        };
        let out = layout.pack(&[too_wide, metadata[1].clone()], &mut bytes);
        assert!(out.is_err());
    }

    #[test]
    fn fields_of_odd_widths_survive_packing() {
        let widths = [7, 2, 1, 1, 1, 6, 6, 16, 16, 16, 32, 32];
        let layout = layout(&widths);
        assert_eq!(layout.length, 17);
        for seed in 0u64..50 {
            let metadata: Vec<PacketMetadata> = widths
                .iter()
                .enumerate()
                .map(|(index, width)| {
                    let n = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> index;
                    let n = n & ((1u64 << width) - 1);
                    PacketMetadata {
                        metadata_id: index as u32 + 1,
                        value: value::canonical(&n.to_be_bytes()).to_vec(),
                    }
                })
                .collect();
            let mut bytes = Vec::new();
            layout.pack(&metadata, &mut bytes).unwrap();
            assert_eq!(bytes.len(), 17);
            assert_eq!(layout.unpack(&bytes).unwrap(), metadata);
        }
    }

    #[test]
    fn the_first_field_has_the_highest_bits() {
        let layout = layout(&[9, 7]);
        let metadata = [(1, vec![1, 0x02]), (2, vec![3])]
            .map(|(metadata_id, value)| PacketMetadata { metadata_id, value });
        let mut bytes = Vec::new();
        layout.pack(&metadata, &mut bytes).unwrap();
        assert_eq!(bytes, [0x81, 0x03]);
    }

    #[test]
    fn metadata_must_be_complete_and_fit() {
        let layout = layout(&[9, 7]);
        let one = |metadata_id, value: &[u8]| PacketMetadata {
            metadata_id,
            value: value.to_vec(),
        };
        let mut out = Vec::new();
        assert!(layout.pack(&[one(1, &[1])], &mut out).is_err());
        assert!(
            layout
                .pack(&[one(1, &[2, 0]), one(2, &[1])], &mut out)
                .is_err()
        );
        assert!(layout.pack(&[one(1, &[1]), one(2, &[])], &mut out).is_err());
        let three = [one(1, &[1]), one(2, &[1]), one(3, &[1])];
        assert!(layout.pack(&three, &mut out).is_err());
        assert_eq!(layout.unpack(&[0]), None);
    }
}
