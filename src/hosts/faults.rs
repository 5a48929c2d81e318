//! A wire that loses, doubles and reorders frames, the same ones for the same seed.

/// Chances in a thousand, and the state that draws them.
#[derive(Debug, Clone)]
pub struct Faults {
    state: u64,
    loss: u32,
    double: u32,
    reorder: u32,
    /// The frame that waits until another has passed.
    late: Option<Vec<u8>>,
}

impl Faults {
    /// A wire that loses `loss` frames in a thousand, doubles `double` and lets `reorder` be
    /// overtaken by the next; which ones depends on `seed` alone.
    pub fn new(seed: u64, loss: u32, double: u32, reorder: u32) -> Self {
        Self {
            // Zero is the one state that never changes.
            state: seed | 1,
            loss,
            double,
            reorder,
            late: None,
        }
    }

    /// Appends what becomes of `frame` to `passed`.
    pub fn pass(&mut self, frame: Vec<u8>, passed: &mut Vec<Vec<u8>>) {
        if self.happens(self.loss) {
            return;
        }
        if self.late.is_none() && self.happens(self.reorder) {
            self.late = Some(frame);
            return;
        }
        if self.happens(self.double) {
            passed.push(frame.clone());
        }
        passed.push(frame);
        passed.extend(self.late.take());
    }

    /// Draws once (xorshift64*, Vigna 2016).
    fn happens(&mut self, in_a_thousand: u32) -> bool {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let drawn = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        drawn % 1000 < u64::from(in_a_thousand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_faults_near_the_asked_rates() {
        let run = |seed| {
            let mut faults = Faults::new(seed, 100, 50, 50);
            let mut passed = Vec::new();
            for number in 0..10_000u32 {
                faults.pass(number.to_be_bytes().to_vec(), &mut passed);
            }
            passed
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let passed = run(7);
        assert!((9_200..9_700).contains(&passed.len()), "{}", passed.len());
        let backwards = passed.windows(2).filter(|two| two[0] > two[1]).count();
        assert!((250..700).contains(&backwards), "{backwards} overtaken");
    }
}
