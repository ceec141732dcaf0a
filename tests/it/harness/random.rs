//! Reproducible random numbers: `SPANRELAY_SEED` in the environment of the test repeats them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

/// Returns the seed from the environment, or else from the clock. Prints it, so that a failure can be repeated.
#[expect(clippy::print_stderr, reason = "the seed is for whoever runs the tests")]
pub(crate) fn seed() -> u64 {
    let given =
        std::env::var("SPANRELAY_SEED").ok().map(|seed| seed.parse().expect("SPANRELAY_SEED is a number"));
    let seed = given.unwrap_or_else(|| {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        u64::try_from(nanos % 1_000_000_000_000).unwrap()
    });
    eprintln!("SPANRELAY_SEED={seed}");
    seed
}

// === impl Random ===

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }

    pub(crate) fn millis_below(&mut self, end: u64) -> Duration {
        Duration::from_micros(self.below(end * 1000))
    }

    /// Returns hexadecimal digits, which compress badly.
    pub(crate) fn hex(&mut self, digits: usize) -> String {
        let words = digits.div_ceil(16);
        let mut text: String = (0..words).map(|_| format!("{:016x}", self.next())).collect();
        text.truncate(digits);
        text
    }
}
