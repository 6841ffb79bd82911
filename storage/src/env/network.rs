//! The network between owners as a value: what becomes of a message. The real one hands each over
//! once; the twin loses, repeats and delays them as its seed says, never forging one.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng, rngs::SmallRng};

/// What carries messages.
#[derive(Clone, Debug, Default)]
pub enum Network {
    /// Every message arrives once and in order.
    #[default]
    Reliable,
    /// Driven by a seed; see [`Delivery`].
    Faulty(Arc<Mutex<SmallRng>>),
}

/// What becomes of one request and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Both arrive.
    Once,
    /// The request never arrives; its sender waits in vain.
    RequestLost,
    /// The request is executed, its sender waits in vain.
    AnswerLost,
    /// The request arrives twice, one right after the other.
    Twice,
    /// The request arrives, and once more at some later time.
    AgainLater,
}

impl Network {
    /// A network whose every mishap is `seed`'s.
    pub fn faulty(seed: u64) -> Self {
        Self::Faulty(Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))))
    }

    /// What becomes of the next message: half of them meet with something.
    pub fn delivery(&self) -> Delivery {
        let Self::Faulty(random) = self else { return Delivery::Once };
        match random.lock().random_range(0..8) {
            0 => Delivery::RequestLost,
            1 => Delivery::AnswerLost,
            2 => Delivery::Twice,
            3 => Delivery::AgainLater,
            _ => Delivery::Once,
        }
    }

    /// Which of `count` delayed messages arrives now, if any.
    pub fn late_arrival(&self, count: usize) -> Option<usize> {
        let Self::Faulty(random) = self else { return None };
        let chosen = random.lock().random_range(0..count.max(1) * 3);
        (chosen < count).then_some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_fate() {
        let fates = |network: Network| (0..100).map(|_| network.delivery()).collect::<Vec<_>>();
        assert_eq!(fates(Network::faulty(1)), fates(Network::faulty(1)));
        assert_ne!(fates(Network::faulty(1)), fates(Network::faulty(2)));
        assert!(fates(Network::Reliable).iter().all(|fate| *fate == Delivery::Once));
    }
}
