//! The only doors to the outside world: clock, randomness and threads (sockets and files follow
//! with their first user). Everything else in the workspace gets time and chance from here.

pub mod clock;
pub mod rng;

pub use clock::{Clock, SimClock, SystemClock};
pub use rng::Rng;

use std::sync::Arc;

/// The outside world as one value, handed down at construction. [`Env::real`] is the machine's,
/// [`Env::simulated`] is driven by a seed and by the test.
#[derive(Clone, Debug)]
pub struct Env {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where seeds come from; draw a seed once and keep your own [`Rng`].
    pub rng: Rng,
}

impl Env {
    /// The machine's clock and randomness.
    pub fn real() -> Self {
        Self { clock: Arc::new(SystemClock::default()), rng: Rng::from_machine() }
    }

    /// A world whose whole future is `seed`'s; the clock is returned so that the test can move it.
    pub fn simulated(seed: u64) -> (Self, Arc<SimClock>) {
        let clock = Arc::new(SimClock::at(1_700_000_000_000_000));
        (Self { clock: Arc::clone(&clock) as Arc<dyn Clock>, rng: Rng::seeded(seed) }, clock)
    }
}
