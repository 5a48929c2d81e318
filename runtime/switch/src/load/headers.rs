//! Header types, headers, stacks and unions: the layout of a packet's words.

use super::at::{At, Result};
use crate::code::layout::{Emission, Field, Header, Layout, Part, Piece, Place, Slot, Stack, mask};
use rustc_hash::FxHashMap;

/// Most bits a field may have.
const MAX_WIDTH: usize = 1 << 16;

struct FieldType {
    name: String,
    /// `None` for a field of variable length.
    width: Option<u32>,
    signed: bool,
}

struct HeaderType {
    fields: Vec<FieldType>,
    max_bytes: u32,
}

/// Reads all that says which values a packet has, and gives each its words.
pub(super) fn layout(root: &At) -> Result<Layout> {
    let types = header_types(root)?;
    let mut layout = Layout::default();
    let headers = root.get("headers")?.list()?;
    // Metadata first, so that resetting it is one range.
    let mut next = 0;
    let mut read = Vec::new();
    for metadata in [true, false] {
        for (place, at) in headers.iter().enumerate() {
            if at.flag("metadata", false)? == metadata {
                read.push((place, header(at, &types, metadata, &mut next)?));
            }
        }
        if metadata {
            layout.metadata_end = next as Slot;
        }
    }
    read.sort_by_key(|(place, _)| *place);
    for ((place, header), at) in read.into_iter().zip(&headers) {
        let id = place as u32;
        if header.metadata {
            layout.always_valid.push(header.valid);
        }
        if layout
            .header_names
            .insert(header.name.clone(), id)
            .is_some()
        {
            return Err(at.invalid("a header with a name of its own"));
        }
        layout.header_ids.insert(at.get("id")?.u64()?, id);
        layout.headers.push(header);
    }
    stacks(root, &mut layout, &mut next)?;
    unions(root, &mut layout, &mut next)?;
    match Slot::try_from(next) {
        Ok(end) => layout.reset_end = end,
        Err(_) => {
            return Err(root.unsupported("more than 65535 words of headers and metadata"));
        }
    }
    Ok(layout)
}

fn header_types(root: &At) -> Result<FxHashMap<String, HeaderType>> {
    let mut types = FxHashMap::default();
    for at in root.get("header_types")?.list()? {
        let mut fields = Vec::new();
        for field in at.get("fields")?.list()? {
            let width_at = field.at(1)?;
            let width = if width_at.value.as_str() == Some("*") {
                None
            } else {
                match width_at.count()? {
                    width if width <= MAX_WIDTH => Some(width as u32),
                    _ => return Err(width_at.invalid("a width of at most 65536 bits")),
                }
            };
            let signed = field
                .value
                .get(2)
                .is_some_and(|v| v.as_bool() == Some(true));
            fields.push(FieldType {
                name: field.at(0)?.str()?.to_owned(),
                width,
                signed,
            });
        }
        if fields.iter().filter(|f| f.width.is_none()).count() > 1 {
            return Err(at.unsupported("more than one field of variable length in a header"));
        }
        let max_bytes = match at.maybe("max_length") {
            Some(max) => max.count()?.min(MAX_WIDTH / 8) as u32,
            None => 0,
        };
        types.insert(
            at.get("name")?.str()?.to_owned(),
            HeaderType { fields, max_bytes },
        );
    }
    Ok(types)
}

fn header(
    at: &At,
    types: &FxHashMap<String, HeaderType>,
    metadata: bool,
    next: &mut u32,
) -> Result<Header> {
    let type_at = at.get("header_type")?;
    let type_name = type_at.str()?.to_owned();
    let Some(header_type) = types.get(&type_name) else {
        return Err(type_at.invalid("the name of a header type"));
    };
    let base = *next;
    let fixed_bits: u32 = header_type.fields.iter().filter_map(|f| f.width).sum();
    if !metadata && !fixed_bits.is_multiple_of(8) {
        return Err(type_at.invalid("a header type that is a whole number of bytes"));
    }
    let mut fields = Vec::new();
    let mut varbit = None;
    let mut offset = 0;
    for (i, field) in header_type.fields.iter().enumerate() {
        let (width, length) = match field.width {
            Some(width) => (width, None),
            None => {
                varbit = Some(i);
                let max = if header_type.max_bytes == 0 {
                    2048
                } else {
                    (header_type.max_bytes * 8).saturating_sub(fixed_bits)
                };
                let length = *next as Slot;
                *next += 1;
                (max, Some(length))
            }
        };
        let place = Place {
            slot: *next as Slot,
            width,
            signed: field.signed,
        };
        *next += place.words();
        fields.push(Field {
            name: field.name.clone(),
            place,
            offset,
            length,
        });
        offset += field.width.unwrap_or(0);
    }
    let valid = *next as Slot;
    *next += 1;
    let layout_fields = fields.clone();
    Ok(Header {
        name: at.get("name")?.str()?.to_owned(),
        type_name,
        metadata,
        fields,
        valid,
        base: base as Slot,
        words: *next - base,
        fixed_bits,
        varbit,
        max_bytes: header_type.max_bytes,
        plan: varbit.is_none().then(|| plan(&layout_fields)).flatten(),
        emission: (varbit.is_none() && !metadata).then(|| emission(&layout_fields, fixed_bits)),
        peers: Vec::new(),
    })
}

/// The extraction of fields of fixed lengths; `None` if one lies across nine bytes.
fn plan(fields: &[Field]) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    for field in fields {
        for i in 0..field.place.words() {
            let width = (field.place.width - i * 64).min(64);
            let first = field.offset + field.place.width - i * 64 - width;
            let skip = first % 8;
            pieces.push(Piece {
                slot: field.place.slot + i as Slot,
                byte: u16::try_from(first / 8).ok()?,
                shift: 64u32.checked_sub(skip + width)?,
                mask: mask(width),
            });
        }
    }
    Some(pieces)
}

/// The emission of fields of fixed lengths.
fn emission(fields: &[Field], bits: u32) -> Emission {
    let mut words: Vec<Vec<Part>> = vec![Vec::new(); bits.div_ceil(64) as usize];
    let mut put = |word: u32, slot: Slot, right: u32, left: u32| {
        if let Some(parts) = words.get_mut(word as usize) {
            parts.push(Part {
                slot,
                right: right as u8,
                left: left as u8,
            });
        }
    };
    for field in fields {
        for i in 0..field.place.words() {
            let slot = field.place.slot + i as Slot;
            let width = (field.place.width - i * 64).min(64);
            let first = field.offset + field.place.width - i * 64 - width;
            let (word, at) = (first / 64, first % 64);
            match (at + width).checked_sub(64) {
                None | Some(0) => put(word, slot, 0, 64 - at - width),
                // It goes on in the next word.
                Some(rest) => {
                    put(word, slot, rest, 0);
                    put(word + 1, slot, 0, 64 - rest);
                }
            }
        }
    }
    let mut emission = Emission {
        pieces: Vec::new(),
        ends: Vec::new(),
        bytes: bits / 8,
    };
    for parts in words {
        emission.pieces.extend(parts);
        emission.ends.push(emission.pieces.len() as u16);
    }
    emission
}

fn header_list(at: &At, layout: &Layout) -> Result<Vec<u32>> {
    at.get("header_ids")?
        .list()?
        .iter()
        .map(|id| match layout.header_ids.get(&id.u64()?) {
            Some(header) => Ok(*header),
            None => Err(id.invalid("the id of a header")),
        })
        .collect()
}

fn same_type(at: &At, layout: &Layout, elements: &[Vec<u32>]) -> Result<()> {
    let name = |h: u32| &layout.header(h).type_name;
    let Some(first) = elements.first() else {
        return Err(at.invalid("a stack with at least one element"));
    };
    for element in elements {
        let same = element.len() == first.len()
            && element.iter().zip(first).all(|(a, b)| name(*a) == name(*b));
        if !same {
            return Err(at.invalid("a stack whose elements have one type"));
        }
    }
    Ok(())
}

fn stacks(root: &At, layout: &mut Layout, next: &mut u32) -> Result<()> {
    for at in root.list_of("header_stacks")? {
        let name = at.get("name")?.str()?.to_owned();
        let elements: Vec<Vec<u32>> = header_list(&at, layout)?
            .into_iter()
            .map(|h| vec![h])
            .collect();
        same_type(&at, layout, &elements)?;
        layout.stack_names.insert(name, layout.stacks.len() as u32);
        layout.stacks.push(Stack {
            elements,
            next: *next as Slot,
        });
        *next += 1;
    }
    Ok(())
}

fn unions(root: &At, layout: &mut Layout, next: &mut u32) -> Result<()> {
    let mut members: FxHashMap<String, Vec<String>> = FxHashMap::default();
    for at in root.list_of("header_union_types")? {
        let names = at.get("headers")?.list()?;
        let names = names
            .iter()
            .map(|h| Ok(h.at(0)?.str()?.to_owned()))
            .collect::<Result<_>>()?;
        members.insert(at.get("name")?.str()?.to_owned(), names);
    }
    let mut ids = FxHashMap::default();
    for at in root.list_of("header_unions")? {
        let type_at = at.get("union_type")?;
        let Some(names) = members.get(type_at.str()?) else {
            return Err(type_at.invalid("the name of a header union type"));
        };
        let headers = header_list(&at, layout)?;
        if headers.len() != names.len() {
            return Err(at.invalid("as many headers as the union type has"));
        }
        let valid: Vec<Slot> = headers.iter().map(|h| layout.header(*h).valid).collect();
        for header in &headers {
            if let Some(header) = layout.headers.get_mut(*header as usize) {
                header.peers = valid
                    .iter()
                    .copied()
                    .filter(|slot| *slot != header.valid)
                    .collect();
            }
        }
        ids.insert(at.get("id")?.u64()?, layout.unions.len() as u32);
        layout.union_names.insert(
            at.get("name")?.str()?.to_owned(),
            layout.unions.len() as u32,
        );
        layout.union_members.push(names.clone());
        layout.unions.push(headers);
    }
    for at in root.list_of("header_union_stacks")? {
        let name = at.get("name")?.str()?.to_owned();
        let mut elements = Vec::new();
        for id in at.get("header_union_ids")?.list()? {
            let union = ids
                .get(&id.u64()?)
                .and_then(|u| layout.unions.get(*u as usize));
            match union {
                Some(headers) => elements.push(headers.clone()),
                None => return Err(id.invalid("the id of a header union")),
            }
        }
        same_type(&at, layout, &elements)?;
        let type_at = at.get("union_type")?;
        let Some(names) = members.get(type_at.str()?) else {
            return Err(type_at.invalid("the name of a header union type"));
        };
        layout
            .union_stack_names
            .insert(name, layout.union_stacks.len() as u32);
        layout.union_stack_members.push(names.clone());
        layout.union_stacks.push(Stack {
            elements,
            next: *next as Slot,
        });
        *next += 1;
    }
    Ok(())
}
