//! One packet's run through a program: the words, the registers beside them, and what is reused.

use super::alu::{self, Stop};
use super::exact::Reader;
use super::state::State;
use crate::code::layout::{HeaderId, Place, Slot, WORDS, Words};
use crate::code::program::{Check, Entry, Program};
use crate::table::Ahead;
use crate::trace::Tracer;
use crate::{CounterId, Drops, Output};

/// Most words of a table's packed key.
pub(crate) const MAX_KEY: usize = 64;

/// `instance_type`, as simple_switch counts them.
pub(crate) mod instance {
    pub(crate) const NORMAL: u64 = 0;
    pub(crate) const INGRESS_CLONE: u64 = 1;
    pub(crate) const EGRESS_CLONE: u64 = 2;
    pub(crate) const RECIRCULATED: u64 = 4;
    pub(crate) const REPLICATED: u64 = 5;
    pub(crate) const RESUBMITTED: u64 = 6;
}

/// What primitives leave for the traffic manager, beside the words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    /// What counters and meters count.
    pub(crate) counted: u64,
    /// The packet's length, kept up to date when headers come and go.
    pub(crate) length: u64,
    pub(crate) clone: Option<(u64, u64)>,
    pub(crate) digest: Option<u32>,
    pub(crate) resubmit: u64,
    pub(crate) recirculate: u64,
    pub(crate) truncate: usize,
    pub(crate) exit: bool,
    /// An assertion failed: the packet goes no further.
    pub(crate) failed: bool,
}

impl Registers {
    pub(crate) fn new(counted: u64, length: u64) -> Self {
        Registers {
            counted,
            length,
            clone: None,
            digest: None,
            resubmit: 0,
            recirculate: 0,
            truncate: usize::MAX,
            exit: false,
            failed: false,
        }
    }
}

/// A packet on its way through egress while another one runs, or one that enters again.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Metadata and headers.
    pub(crate) words: Vec<u64>,
    /// Payload for egress, the whole packet for ingress.
    pub(crate) bytes: Vec<u8>,
    pub(crate) port: u16,
    pub(crate) counted: u64,
    pub(crate) length: u64,
    pub(crate) truncate: usize,
    pub(crate) ingress: bool,
}

/// A packet that an indirect counter is to count. It does at the end of the step: then the cells of all
/// counters are fetched together, and no P4 can read one before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) counter: CounterId,
    pub(crate) cell: u32,
    pub(crate) bytes: u64,
}

/// Buffers that outlive a packet, so that the next one allocates nothing.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) words: Box<Words>,
    pub(crate) key: Box<[u64; MAX_KEY]>,
    pub(crate) select: Vec<u64>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) waiting: std::collections::VecDeque<Waiting>,
    pub(crate) spare: Vec<Waiting>,
    pub(crate) saved: Vec<u64>,
    pub(crate) ahead: Ahead,
    pub(crate) counts: Vec<Counted>,
}

/// Words of which none is set.
pub(crate) fn new_words() -> Box<Words> {
    let words = vec![0; WORDS].into_boxed_slice();
    words.try_into().unwrap_or_else(|_| Box::new([0; WORDS]))
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch {
            words: new_words(),
            key: Box::new([0; MAX_KEY]),
            select: Vec::new(),
            bytes: Vec::new(),
            waiting: std::collections::VecDeque::new(),
            spare: Vec::new(),
            saved: Vec::new(),
            ahead: Ahead::default(),
            counts: Vec::new(),
        }
    }
}

pub(crate) struct Machine<'a, T: Tracer> {
    pub(crate) program: &'a Program,
    pub(crate) state: &'a mut State,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) out: &'a mut Output,
    /// Drops since the start; those of `out` are since it was cleared.
    pub(crate) total: &'a mut Drops,
    pub(crate) tracer: &'a mut T,
    pub(crate) regs: Registers,
    pub(crate) now: u64,
    pub(crate) drop_port: u64,
    pub(crate) priority_queues: u64,
    pub(crate) drop_high_priorities: bool,
    pub(crate) passes: u32,
}

impl<T: Tracer> Machine<'_, T> {
    /// Runs code from `entry` to its end.
    #[inline]
    pub(crate) fn run(&mut self, entry: Entry) {
        let mut pc = entry as usize;
        loop {
            match alu::run::<false>(&self.program.code, pc, &mut self.scratch.words) {
                Stop::End => return,
                Stop::Next { next } => pc = next,
                Stop::Effect { index, next } => {
                    self.effect(index);
                    pc = next;
                }
                Stop::Endless => {
                    self.regs.failed = true;
                    return;
                }
            }
        }
    }

    #[allow(clippy::indexing_slicing, reason = "every slot indexes a word")]
    #[inline]
    pub(crate) fn word(&self, slot: Slot) -> u64 {
        self.scratch.words[slot as usize]
    }

    #[allow(clippy::indexing_slicing, reason = "every slot indexes a word")]
    #[inline]
    pub(crate) fn set_word(&mut self, slot: Slot, value: u64) {
        self.scratch.words[slot as usize] = value;
    }

    /// Whether a condition holds.
    #[inline(always)]
    pub(crate) fn check(&mut self, check: Check) -> bool {
        match check {
            Check::Every(..) | Check::Some(..) | Check::Code(..) => self.check_list(check),
            test => self.test(test),
        }
    }

    fn check_list(&mut self, check: Check) -> bool {
        let list = |first: u32, count: u32| {
            let checks = &self.program.checks;
            let list = checks.get(first as usize..(first + count) as usize);
            list.unwrap_or_default().iter()
        };
        match check {
            Check::Every(first, count) => list(first, count).all(|check| self.test(*check)),
            Check::Some(first, count) => list(first, count).any(|check| self.test(*check)),
            Check::Code(entry, slot) => {
                self.run(entry);
                self.word(slot) != 0
            }
            test => self.test(test),
        }
    }

    /// A check that needs no code.
    #[inline(always)]
    fn test(&self, check: Check) -> bool {
        match check {
            Check::Word(slot) => self.word(slot) != 0,
            Check::NotWord(slot) => self.word(slot) == 0,
            Check::Equal(a, b) => self.word(a) == self.word(b),
            Check::Unequal(a, b) => self.word(a) != self.word(b),
            Check::Test(op, a, b) => alu::test(op, self.word(a), self.word(b)),
            Check::Every(..) | Check::Some(..) | Check::Code(..) => false,
        }
    }

    /// Stores a number of 64 bits, cut to the place's width.
    #[inline]
    pub(crate) fn set(&mut self, place: Place, value: u64) {
        if place.width <= 64 {
            if place.width > 0 {
                self.set_word(place.slot, value & (u64::MAX >> (64 - place.width)));
            }
        } else {
            self.set_word(place.slot, value);
            for i in 1..place.words() {
                self.set_word(place.slot + i as Slot, 0);
            }
        }
    }

    #[inline]
    pub(crate) fn get(&self, place: Place) -> u64 {
        self.word(place.slot)
    }

    pub(crate) fn valid(&self, header: HeaderId) -> bool {
        self.word(self.program.layout.header(header).valid) != 0
    }

    /// Sets a header's validity; in a union, a header that becomes valid makes its peers invalid.
    pub(crate) fn set_valid(&mut self, header: HeaderId, valid: bool) {
        let program = self.program;
        let header = program.layout.header(header);
        self.set_word(header.valid, u64::from(valid));
        if valid {
            for peer in &header.peers {
                self.set_word(*peer, 0);
            }
        }
    }

    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader {
            layout: &self.program.layout,
            words: self.scratch.words.as_slice(),
            state: self.state,
        }
    }

    /// All words of a new packet.
    pub(crate) fn reset(&mut self) {
        let layout = &self.program.layout;
        let end = layout.reset_end as usize;
        if let Some(words) = self.scratch.words.get_mut(..end) {
            words.fill(0);
        }
        for slot in &layout.always_valid {
            self.set_word(*slot, 1);
        }
    }

    /// Metadata as it is when a packet arrives.
    pub(crate) fn reset_metadata(&mut self) {
        let layout = &self.program.layout;
        if let Some(words) = self.scratch.words.get_mut(..layout.metadata_end as usize) {
            words.fill(0);
        }
        for slot in &layout.always_valid {
            self.set_word(*slot, 1);
        }
    }
}
