//! What the packet path needs of an entry, side by side: key, what it runs, its last hit, data and
//! counter, from the start of a cache line on, so that a hit touches as few lines as can be.

use super::memory::{prefer_huge, prefetch};
use super::{Hot, Run};
use crate::control::CounterValue;

/// Words of a cache line.
const LINE: usize = 8;

/// The two data that share a word.
#[inline]
pub(crate) fn halves(pair: u64) -> [u64; 2] {
    [pair & 0xffff_ffff, pair >> 32]
}

#[derive(Debug)]
pub(crate) struct Records {
    words: Vec<u64>,
    /// Words before the first record, to bring it to the start of a line.
    start: usize,
    stride: usize,
    len: usize,
    key_words: usize,
    data_words: usize,
    /// Data are 32 bits wide, and two share a word.
    narrow: bool,
    counting: bool,
}

impl Clone for Records {
    fn clone(&self) -> Self {
        // A copy lies elsewhere, and has another start.
        let mut copy = Records {
            words: Vec::new(),
            start: 0,
            len: 0,
            ..*self
        };
        copy.reserve(self.len);
        copy.len = self.len;
        let from = self
            .words
            .get(self.start..self.start + self.len * self.stride);
        let to = copy
            .words
            .get_mut(copy.start..copy.start + self.len * self.stride);
        if let (Some(from), Some(to)) = (from, to) {
            to.copy_from_slice(from);
        }
        copy
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "callers name records that they have pushed"
)]
impl Records {
    pub(crate) fn new(key_words: usize, data_words: usize, narrow: bool, counting: bool) -> Self {
        let used = key_words + 2 + data_words + if counting { 2 } else { 0 };
        let stride = used.next_multiple_of(LINE);
        Records {
            words: Vec::new(),
            start: 0,
            stride,
            len: 0,
            key_words,
            data_words,
            narrow,
            counting,
        }
    }

    /// The records, for whoever looks for keys: each starts with its key.
    #[inline]
    pub(crate) fn keys(&self) -> &[u64] {
        &self.words[self.start..]
    }

    /// From one key to the next, in words.
    #[inline]
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Has a record fetched.
    #[inline]
    pub(crate) fn fetch(&self, at: u32) {
        let first = self.start + at as usize * self.stride;
        let record = self.words.get(first..first + self.stride);
        for line in record.unwrap_or_default().chunks(LINE) {
            if let Some(word) = line.first() {
                prefetch(word);
            }
        }
    }

    fn reserve(&mut self, records: usize) {
        let mut words = vec![0; records * self.stride + LINE];
        prefer_huge(&mut words);
        let start = words.as_ptr().align_offset(LINE * size_of::<u64>());
        let start = if start < LINE { start } else { 0 };
        let used = self.len * self.stride;
        words[start..start + used].copy_from_slice(&self.words[self.start..self.start + used]);
        self.words = words;
        self.start = start;
    }

    /// Adds an empty record.
    pub(crate) fn push(&mut self) {
        if self.start + (self.len + 1) * self.stride > self.words.len() {
            self.reserve((self.len * 2).max(8));
        }
        self.len += 1;
    }

    #[inline]
    fn at(&self, at: u32) -> usize {
        self.start + at as usize * self.stride
    }

    pub(crate) fn key(&self, at: u32) -> &[u64] {
        let first = self.at(at);
        &self.words[first..first + self.key_words]
    }

    /// The action data, one word or more for each parameter; of shorter actions, zeros follow.
    pub(crate) fn data(&self, at: u32) -> Vec<u64> {
        let first = self.at(at) + self.key_words + 2;
        let data = &self.words[first..first + self.data_words];
        if self.narrow {
            data.iter().flat_map(|pair| halves(*pair)).collect()
        } else {
            data.to_vec()
        }
    }

    pub(crate) fn set_key(&mut self, at: u32, key: &[u64]) {
        let first = self.at(at);
        self.words[first..first + self.key_words].copy_from_slice(key);
    }

    pub(crate) fn hot(&self, at: u32) -> Hot {
        let first = self.at(at) + self.key_words;
        Hot {
            run: Run::from_word(self.words[first]),
            last_hit: self.words[first + 1],
        }
    }

    /// All of a record but the key: what it runs, its last hit, data and counter.
    #[inline]
    pub(crate) fn record(&mut self, at: u32) -> &mut [u64] {
        let first = self.at(at);
        &mut self.words[first + self.key_words..first + self.stride]
    }

    pub(crate) fn set_run(&mut self, at: u32, run: Run) {
        let first = self.at(at) + self.key_words;
        self.words[first] = run.to_word();
    }

    pub(crate) fn touch(&mut self, at: u32, now: u64) {
        let first = self.at(at) + self.key_words;
        self.words[first + 1] = now;
    }

    pub(crate) fn set_data(&mut self, at: u32, data: &[u64]) {
        let first = self.at(at) + self.key_words + 2;
        let place = &mut self.words[first..first + self.data_words];
        place.fill(0);
        if self.narrow {
            for (word, pair) in place.iter_mut().zip(data.chunks(2)) {
                let high = pair.get(1).copied().unwrap_or(0);
                *word = (pair[0] & 0xffff_ffff) | high << 32;
            }
        } else {
            for (word, value) in place.iter_mut().zip(data) {
                *word = *value;
            }
        }
    }

    pub(crate) fn counter(&self, at: u32) -> CounterValue {
        if !self.counting {
            return CounterValue::default();
        }
        let first = self.at(at) + self.key_words + 2 + self.data_words;
        CounterValue {
            packets: self.words[first],
            bytes: self.words[first + 1],
        }
    }

    pub(crate) fn set_counter(&mut self, at: u32, value: CounterValue) {
        if self.counting {
            let first = self.at(at) + self.key_words + 2 + self.data_words;
            self.words[first] = value.packets;
            self.words[first + 1] = value.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn action_data_are_read_back_as_they_were_stored() {
        for (narrow, words, rest) in [(true, 3, vec![0]), (false, 5, vec![])] {
            let mut records = Records::new(2, words, narrow, true);
            for at in 0..9 {
                records.push();
                records.set_key(at, &[u64::MAX; 2]);
                records.set_data(at, &[7, 7, 7, 7, 7]);
            }
            let data = [1, 0xffff_ffff, 3, 0, u64::from(u32::MAX)];
            records.set_data(4, &data);
            assert_eq!(records.data(4), [&data[..], &rest].concat());
            let same = [&[7; 5][..], &rest].concat();
            assert_eq!((records.data(3), records.data(5)), (same.clone(), same));
            assert_eq!(records.key(5), [u64::MAX; 2]);
            assert_eq!(records.counter(4), CounterValue::default());
            // A shorter action leaves nothing of the longer one behind.
            records.set_data(4, &[9]);
            assert_eq!(records.data(4)[..2], [9, 0]);
        }
    }
}
