//! Randomness that needs no order: the n-th number of a stream is computed, not reached. It is
//! SplitMix64 with its state jumped to n; nothing here keeps state between events.

/// The odd constant by which SplitMix64 steps: 2⁶⁴ / golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// An endless sequence of random 64-bit numbers, addressed by position.
#[derive(Debug, Clone, Copy)]
pub struct Stream(u64);

impl Stream {
    /// The stream number `field` of a seed; streams of different fields are independent.
    pub fn new(seed: u64, field: u64) -> Self {
        Self(mix(seed ^ mix(field.wrapping_mul(STEP).wrapping_add(STEP))))
    }

    /// The number at position `n`.
    #[inline]
    pub fn at(self, n: u64) -> u64 {
        mix(self.0.wrapping_add(n.wrapping_mul(STEP)))
    }

    /// A number in `0..bound` at position `n`, uniform but for one part in 2⁶⁴ / bound.
    #[inline]
    pub fn below(self, n: u64, bound: u64) -> u64 {
        scale(self.at(n), bound)
    }
}

/// Maps 64 random bits to `0..bound`.
#[inline]
pub fn scale(bits: u64, bound: u64) -> u64 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}

/// SplitMix64's finaliser: every input bit changes half of the output bits.
#[inline]
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Random numbers one after the other, for the letters of one text.
#[derive(Debug, Clone)]
pub struct Sequence(u64);

impl Sequence {
    /// Begins at 64 random bits.
    #[inline]
    pub fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// The next 64 bits.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// The next number in `0..bound`.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        scale(self.draw(), bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_is_uniform_and_in_range() {
        let stream = Stream::new(7, 1);
        let mut counts = [0_u32; 10];
        for n in 0..100_000 {
            counts[stream.below(n, 10) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn seeds_and_fields_give_other_numbers() {
        let first = Stream::new(1, 1).at(0);
        assert_ne!(first, Stream::new(2, 1).at(0));
        assert_ne!(first, Stream::new(1, 2).at(0));
        assert_ne!(first, Stream::new(1, 1).at(1));
    }
}
