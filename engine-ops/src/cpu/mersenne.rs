//! The stream of random numbers: MT19937, in the order and precision of NumPy's `RandomState`, which ONNX's reference
//! implementation draws from. A node with a seed so gives the reference's own numbers, and the same on every device,
//! because it is drawn in one order on the host.
//!
//! A draw without a seed takes its stream from the run's [`Draws`].
//!
//! Matsumoto and Nishimura, *Mersenne Twister: a 623-dimensionally equidistributed uniform pseudo-random number generator*,
//! ACM Transactions on Modeling and Computer Simulation 8 (1998).

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

const LENGTH: usize = 624;
/// Distance of the word that a new one is made with.
const MIDDLE: usize = 397;

/// Where the draws of one run that have no seed of their own begin.
#[derive(Debug, Default)]
pub struct Draws {
    seed: Option<u64>,
    /// Streams begun so far.
    begun: AtomicU64,
}

impl Draws {
    /// Streams that differ with every call.
    pub fn fresh() -> &'static Self {
        static FRESH: Draws = Draws::new(None);
        &FRESH
    }

    /// Streams that follow from `seed`, each node's its own; without one they differ from run to run.
    pub const fn new(seed: Option<u64>) -> Self {
        Self { seed, begun: AtomicU64::new(0) }
    }

    /// The stream of the next draw.
    pub(crate) fn stream(&self) -> Mersenne {
        match self.seed {
            Some(seed) => {
                let begun = self.begun.fetch_add(1, Ordering::Relaxed);
                Mersenne::new((mixed(mixed(seed).wrapping_add(begun)) >> 32) as u32)
            }
            None => Mersenne::fresh(),
        }
    }
}

/// A number that has little to do with its neighbours': the finaliser of SplitMix64 (Steele, Lea, Flood, *Fast splittable
/// pseudorandom number generators*, OOPSLA 2014).
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// A generator.
pub(crate) struct Mersenne {
    words: [u32; LENGTH],
    used: usize,
    /// The second of a pair of normal numbers, kept for the next call.
    spare: Option<f64>,
}

impl Mersenne {
    /// The stream of a seed.
    pub fn new(seed: u32) -> Self {
        let mut words = [0; LENGTH];
        let mut word = seed;
        for (i, slot) in words.iter_mut().enumerate() {
            *slot = word;
            word = 1_812_433_253u32.wrapping_mul(word ^ (word >> 30)).wrapping_add(i as u32 + 1);
        }
        Self { words, used: LENGTH, spare: None }
    }

    /// A stream of its own, different with every call: the keys of the standard library's hash maps come from the system.
    pub fn fresh() -> Self {
        Self::new(RandomState::new().hash_one("a fresh stream") as u32)
    }

    fn refill(&mut self) {
        for i in 0..LENGTH {
            let (next, far) = (self.words[(i + 1) % LENGTH], self.words[(i + MIDDLE) % LENGTH]);
            let joined = (self.words[i] & 0x8000_0000) | (next & 0x7fff_ffff);
            let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.words[i] = far ^ (joined >> 1) ^ twist;
        }
        self.used = 0;
    }

    fn word(&mut self) -> u32 {
        if self.used == LENGTH {
            self.refill();
        }
        let mut y = self.words[self.used];
        self.used += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number in `0.0..1.0`, of 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let (high, low) = (f64::from(self.word() >> 5), f64::from(self.word() >> 6));
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// A number of the standard normal distribution, by Marsaglia's polar method, which makes two at a time.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (a, b) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = a * a + b * b;
            if square < 1.0 && square != 0.0 {
                let stretch = (-2.0 * libm::log(square) / square).sqrt();
                self.spare = Some(stretch * a);
                return stretch * b;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first words for the seed 5489 and the ten-thousandth, which the C++ standard ([rand.predef]) requires.
    #[test]
    fn the_stream_is_that_of_the_standard() {
        let mut stream = Mersenne::new(5489);
        let words: Vec<u32> = (0..10_000).map(|_| stream.word()).collect();
        assert_eq!((words[0], words[1], words[9_999]), (3_499_211_612, 581_869_302, 4_123_659_995));
    }

    #[test]
    fn streams_without_a_seed_differ() {
        let first: Vec<u32> = (0..8).map(|_| Mersenne::fresh().word()).collect();
        assert!(first.windows(2).any(|pair| pair[0] != pair[1]), "{first:?}");
    }

    #[test]
    fn normal_numbers_have_the_moments_of_their_distribution() {
        let mut stream = Mersenne::new(1);
        let numbers: Vec<f64> = (0..100_000).map(|_| stream.normal()).collect();
        let mean = |power: i32| numbers.iter().map(|x| x.powi(power)).sum::<f64>() / 1e5;
        for (power, expected) in [(1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)] {
            assert!((mean(power) - expected).abs() < 0.1, "moment {power} is {}", mean(power));
        }
    }
}
