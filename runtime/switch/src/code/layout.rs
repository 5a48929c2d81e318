//! Where a packet's values live: fields, headers, stacks and unions as ranges of words.

use rustc_hash::FxHashMap;

/// Index of a word. As many as there can be are always there, so that no access needs a check.
pub(crate) type Slot = u16;
/// All words of a packet.
pub(crate) type Words = [u64; WORDS];
/// One for every [`Slot`]; most of them are never touched.
pub(crate) const WORDS: usize = 1 << 16;
pub(crate) type HeaderId = u32;

/// A value in the words: `width` bits from `slot` on, cut to its width, two's complement if signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) slot: Slot,
    pub(crate) width: u32,
    pub(crate) signed: bool,
}

impl Place {
    pub(crate) fn unsigned(slot: Slot, width: u32) -> Self {
        Place {
            slot,
            width,
            signed: false,
        }
    }

    /// How many words it takes.
    pub(crate) fn words(self) -> u32 {
        self.width.div_ceil(64)
    }

    /// The mask of its topmost word.
    pub(crate) fn top_mask(self) -> u64 {
        mask(if self.width.is_multiple_of(64) {
            64
        } else {
            self.width % 64
        })
    }
}

/// The lowest `bits` bits (0 to 64).
pub(crate) fn mask(bits: u32) -> u64 {
    if bits >= 64 {
        u64::MAX
    } else {
        (1 << bits) - 1
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) place: Place,
    /// Bits from the header's start, when no variable-length field stands before it.
    pub(crate) offset: u32,
    /// The word with the present length in bits, for a field of variable length.
    pub(crate) length: Option<Slot>,
}

/// Up to 64 bits of a header on their way into a word: eight bytes from `byte` on, shifted right,
/// under the mask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) slot: Slot,
    pub(crate) byte: u16,
    pub(crate) shift: u32,
    pub(crate) mask: u64,
}

/// A header as words of eight bytes, each made of pieces of fields.
#[derive(Clone, Debug)]
pub(crate) struct Emission {
    pub(crate) pieces: Vec<Part>,
    /// Where the pieces of each word end in `pieces`.
    pub(crate) ends: Vec<u16>,
    pub(crate) bytes: u32,
}

/// A piece of a field in a word that is emitted: shifted right, then left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) slot: Slot,
    pub(crate) right: u8,
    pub(crate) left: u8,
}

#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) type_name: String,
    pub(crate) metadata: bool,
    pub(crate) fields: Vec<Field>,
    /// The validity word; always 1 for metadata.
    pub(crate) valid: Slot,
    /// The header's words, validity included: same place relative to `base` for headers of a type.
    pub(crate) base: Slot,
    pub(crate) words: u32,
    /// Bits without the field of variable length.
    pub(crate) fixed_bits: u32,
    /// Its field of variable length.
    pub(crate) varbit: Option<usize>,
    /// Greatest length in bytes, with the field of variable length; 0 if unknown.
    pub(crate) max_bytes: u32,
    /// How to extract all fields, if each is a run of bits within eight bytes.
    pub(crate) plan: Option<Vec<Piece>>,
    /// How to emit it, if nothing in it is of variable length.
    pub(crate) emission: Option<Emission>,
    /// Validity words of the other members of its union.
    pub(crate) peers: Vec<Slot>,
}

/// A header stack or a stack of unions: elements are lists of headers, one long for a header stack.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    pub(crate) elements: Vec<Vec<HeaderId>>,
    /// The word with the index of the next free element.
    pub(crate) next: Slot,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) headers: Vec<Header>,
    pub(crate) header_names: FxHashMap<String, HeaderId>,
    pub(crate) header_ids: FxHashMap<u64, HeaderId>,
    pub(crate) stacks: Vec<Stack>,
    pub(crate) stack_names: FxHashMap<String, u32>,
    /// Unions: their members.
    pub(crate) unions: Vec<Vec<HeaderId>>,
    pub(crate) union_names: FxHashMap<String, u32>,
    pub(crate) union_members: Vec<Vec<String>>,
    pub(crate) union_stack_names: FxHashMap<String, u32>,
    pub(crate) union_stacks: Vec<Stack>,
    pub(crate) union_stack_members: Vec<Vec<String>>,
    /// Words below this are metadata.
    pub(crate) metadata_end: Slot,
    /// Words below this are reset for each packet.
    pub(crate) reset_end: Slot,
    /// Validity words of metadata, which a reset sets to 1.
    pub(crate) always_valid: Vec<Slot>,
}

impl Layout {
    pub(crate) fn header(&self, id: HeaderId) -> &Header {
        #[expect(
            clippy::indexing_slicing,
            reason = "the loader makes every HeaderId from this list"
        )]
        &self.headers[id as usize]
    }

    pub(crate) fn field(&self, header: HeaderId, name: &str) -> Option<&Field> {
        self.header(header).fields.iter().find(|f| f.name == name)
    }
}
