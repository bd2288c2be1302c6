//! Numbers that the same seed gives again, for tests that act at random.

/// xorshift64*.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Begins at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Seeds that are close together would begin alike, and none may be zero.
        let mut random = Self((seed ^ 0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.number();
        }
        random
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() >> 16).unwrap_or(0) % end
    }

    /// Whether it happens, once in `turns`.
    pub fn once_in(&mut self, turns: usize) -> bool {
        self.below(turns) == 0
    }

    /// One of them.
    ///
    /// # Panics
    /// Where there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Another sequence, which this one decides.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self::new(self.number())
    }
}
