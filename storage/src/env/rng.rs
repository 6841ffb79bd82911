//! Randomness as a value: a seeded generator, and the one place that asks the machine for a seed.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::{RngCore, SeedableRng, rngs::SmallRng};

/// A shared seeded generator. Not for hot loops: draw a seed and build your own.
#[derive(Clone, Debug)]
pub struct Rng(Arc<Mutex<SmallRng>>);

impl Rng {
    /// A generator whose whole future is `seed`'s.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))))
    }

    /// A generator seeded by the machine.
    pub fn from_machine() -> Self {
        Self(Arc::new(Mutex::new(SmallRng::from_os_rng())))
    }

    /// The next 64 bits.
    pub fn next_u64(&self) -> u64 {
        self.0.lock().next_u64()
    }
}
