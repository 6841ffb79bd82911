//! `SeededScheduler`: the deterministic twin of the workers. It calls one tasklet at a time, picked
//! by a seed, on the caller's thread: one seed, one order of calls, one trace.

use std::sync::Arc;

use storage::env::{Clock, Rng};

use super::{
    progress::Progress,
    worker::{Intake, Slot},
};

/// Calls the tasklets of an engine made by [`super::Engine::simulated`].
pub struct SeededScheduler {
    intake: Arc<Intake>,
    slots: Vec<Slot>,
    rng: Rng,
    clock: Arc<dyn Clock>,
    trace: Vec<String>,
}

impl SeededScheduler {
    pub(super) fn new(intake: Arc<Intake>, rng: Rng, clock: Arc<dyn Clock>) -> Self {
        Self { intake, slots: Vec::new(), rng, clock, trace: Vec::new() }
    }

    /// Calls one tasklet, picked by the seed; what came of it, or `None` if there is none.
    pub fn step(&mut self) -> Option<Progress> {
        self.slots.append(&mut self.intake.slots.lock());
        if self.slots.is_empty() {
            return None;
        }
        let index = (self.rng.next_u64() % self.slots.len() as u64) as usize;
        let slot = &mut self.slots[index];
        slot.signal.take(self.clock.monotonic_nanos());
        let progress = slot.tasklet.call();
        self.trace.push(format!("{} {progress:?}", slot.name));
        if progress == Progress::Ended {
            self.slots.remove(index);
        }
        Some(progress)
    }

    /// Steps until no tasklet is left, or none has made progress for so long that it is all but
    /// certain that none can, or `steps_max` steps were made. Answers how many tasklets are left.
    pub fn run_until_still(&mut self, steps_max: usize) -> usize {
        let mut fruitless = 0;
        for _ in 0..steps_max {
            match self.step() {
                None => break,
                Some(Progress::None) => fruitless += 1,
                Some(Progress::Made | Progress::Ended) => fruitless = 0,
            }
            // Each of n tasklets was passed over 20·n times in a row with probability e⁻²⁰.
            if fruitless > 20 * self.slots.len() {
                break;
            }
        }
        self.slots.len()
    }

    /// Every call so far: `vertex#index Progress`.
    pub fn trace(&self) -> &[String] {
        &self.trace
    }
}
