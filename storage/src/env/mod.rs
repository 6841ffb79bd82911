//! The only doors to the outside world: clock, randomness, disk, the network between owners, and the
//! places where a test tears things down (sockets follow with their first user). Everything else in
//! the workspace gets time, chance and files from here.

pub mod clock;
pub mod disk;
pub mod failpoints;
pub mod network;
pub mod rng;

pub use clock::{Clock, SimClock, SystemClock};
pub use disk::{Disk, FileLock, ReadFile, RegionFile, SimDisk, SystemDisk, WriteFile};
pub use failpoints::{Failpoints, Killed};
pub use network::Network;
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
    /// Where files are.
    pub disk: Arc<dyn Disk>,
    /// What carries messages between owners.
    pub network: Network,
    /// Where a test has work torn down.
    pub failpoints: Failpoints,
}

impl Env {
    /// The machine's clock, randomness and disk.
    pub fn real() -> Self {
        Self {
            clock: Arc::new(SystemClock::default()),
            rng: Rng::from_machine(),
            disk: Arc::new(SystemDisk),
            network: Network::Reliable,
            failpoints: Failpoints::default(),
        }
    }

    /// A world whose whole future is `seed`'s; the clock is returned so that the test can move it.
    pub fn simulated(seed: u64) -> (Self, Arc<SimClock>) {
        let clock = Arc::new(SimClock::at(1_700_000_000_000_000));
        let env = Self {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            rng: Rng::seeded(seed),
            disk: SimDisk::new(seed, ["/"]),
            network: Network::Reliable,
            failpoints: Failpoints::default(),
        };
        (env, clock)
    }

    /// The same world, in which messages between owners are lost, repeated and delayed as `seed`
    /// says.
    pub fn with_faulty_network(self, seed: u64) -> Self {
        Self { network: Network::faulty(seed), ..self }
    }
}
