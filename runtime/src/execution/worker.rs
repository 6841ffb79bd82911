//! The cooperative loop: one thread calls its tasklets and parks when none of them wants a call.
//! There is no spinning: a worker without tasklets sleeps until it gets one, a worker with idle
//! tasklets until a signal, the earliest time asked for, or the tick.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossbeam_utils::sync::{Parker, Unparker};
use parking_lot::Mutex;
use storage::env::Clock;

use super::{progress::Progress, signal::Signal, tasklet::Tasklet};
use crate::processor::TICK;

/// A worker that waits for a timer only sleeps at least this long: a source of 200,000 events a
/// second asks for a call every 5 µs, and gets its events in hundreds instead of one at a time.
const TIMER_GRANULARITY_NANOS: u64 = 500_000;

/// A tasklet and its bell.
pub(super) struct Slot {
    pub(super) tasklet: Box<dyn Tasklet>,
    pub(super) signal: Arc<Signal>,
    /// `vertex#index`, for traces.
    pub(super) name: String,
}

/// Where a worker gets its tasklets from.
pub(super) struct Intake {
    /// Written by `Engine::run`, emptied by the worker.
    pub(super) slots: Mutex<Vec<Slot>>,
    pub(super) unparker: Unparker,
    /// Whether the worker ends with its last tasklet.
    is_closing: AtomicBool,
}

/// One worker thread's loop.
pub(super) struct Worker {
    intake: Arc<Intake>,
    parker: Parker,
    clock: Arc<dyn Clock>,
    slots: Vec<Slot>,
    tick_at: u64,
}

impl Intake {
    pub(super) fn new(unparker: Unparker) -> Self {
        Self { slots: Mutex::default(), unparker, is_closing: AtomicBool::new(false) }
    }

    /// Hands tasklets over.
    pub(super) fn add(&self, slots: Vec<Slot>) {
        self.slots.lock().extend(slots);
        self.unparker.unpark();
    }

    /// Has the worker end when its last tasklet has.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.unparker.unpark();
    }
}

impl Worker {
    pub(super) fn new(intake: Arc<Intake>, parker: Parker, clock: Arc<dyn Clock>) -> Self {
        Self { intake, parker, clock, slots: Vec::new(), tick_at: 0 }
    }

    /// Runs until the intake is closed and the last tasklet has ended.
    pub(super) fn run(mut self) {
        loop {
            self.slots.append(&mut self.intake.slots.lock());
            if self.slots.is_empty() {
                if self.intake.is_closing.load(Ordering::Acquire) {
                    return;
                }
                self.parker.park();
                continue;
            }
            if !self.round() {
                self.park();
            }
        }
    }

    /// Calls every tasklet that wants it; whether any of them made progress.
    fn round(&mut self) -> bool {
        let now = self.clock.monotonic_nanos();
        let is_tick = now >= self.tick_at;
        if is_tick {
            self.tick_at = now + TICK.as_nanos() as u64;
        }
        let mut has_progressed = false;
        let mut index = 0;
        while index < self.slots.len() {
            let Slot { tasklet, signal, .. } = &mut self.slots[index];
            // Taken also at a tick, so that one call answers both.
            let is_wanted = signal.take(now) || is_tick;
            let progress = if is_wanted { tasklet.call() } else { Progress::None };
            match progress {
                Progress::Made => {
                    signal.keep();
                    has_progressed = true;
                }
                Progress::None => (),
                Progress::Ended => {
                    self.slots.swap_remove(index);
                    has_progressed = true;
                    continue;
                }
            }
            index += 1;
        }
        has_progressed
    }

    fn park(&self) {
        let due = self.slots.iter().map(|slot| slot.signal.due_nanos()).min().unwrap_or(u64::MAX);
        let now = self.clock.monotonic_nanos();
        if due.min(self.tick_at) > now {
            let until = due.max(now + TIMER_GRANULARITY_NANOS).min(self.tick_at);
            self.parker.park_timeout(Duration::from_nanos(until - now));
        }
    }
}
