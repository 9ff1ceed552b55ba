//! The one source of chance of a world: the same seed gives the same world on every machine.

use std::time::Duration;

/// SplitMix64 (G. Steele and others, "Fast splittable pseudorandom number generators", 2014): small, fast, and any seed
/// is a good one, so that seeds can count from one.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// A generator of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in [0, 1).
    #[expect(clippy::cast_precision_loss, reason = "53 bits, as many as a float holds")]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something of this probability happens.
    pub fn hits(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform in 0..count.
    pub fn below(&mut self, count: u64) -> u64 {
        self.bits() % count.max(1)
    }

    /// Uniform in from..=to.
    pub fn count(&mut self, from: u32, to: u32) -> u32 {
        from + u32::try_from(self.below(u64::from(to.saturating_sub(from)) + 1)).unwrap_or(0)
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = usize::try_from(self.below(from.len() as u64)).unwrap_or(0);
        from[index]
    }

    /// A time between two, in seconds, whole microseconds.
    pub fn seconds(&mut self, from: f64, to: f64) -> Duration {
        micros(from + (to - from) * self.unit())
    }

    /// A time that spreads evenly over orders of magnitude, as latencies do.
    pub fn spread(&mut self, from: f64, to: f64) -> Duration {
        micros(from * (to / from).powf(self.unit()))
    }

    /// The time until something that happens once in `mean` seconds.
    pub fn wait(&mut self, mean: f64) -> Duration {
        micros(-mean * (1.0 - self.unit()).ln())
    }
}

/// Whole microseconds: what floats make of a time beyond that differs between machines.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
fn micros(seconds: f64) -> Duration {
    Duration::from_micros((seconds.max(0.0) * 1e6) as u64)
}
