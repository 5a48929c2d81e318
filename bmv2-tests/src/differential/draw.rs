//! Random numbers that are the same with the same seed.

/// A source of numbers (xorshift64*, Vigna 2016).
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    /// Numbers that depend on `seed` alone.
    pub fn new(seed: u64) -> Draw {
        // Zero is the one state that never changes; neighbouring seeds should differ soon.
        Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}
