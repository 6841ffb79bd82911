//! `Signal`: tells one tasklet's worker that there is something to do. Raising it is lock-free and
//! never lost: the flag is set before the worker is unparked, and taken before the tasklet is called.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_utils::sync::Unparker;

/// No time was asked for.
const NEVER: u64 = u64::MAX;

/// One tasklet's bell. Raised by queues, timers and I/O halves; taken by its worker.
#[derive(Debug)]
pub struct Signal {
    /// Whether the tasklet wants a call.
    is_raised: AtomicBool,
    /// `monotonic_nanos` of the earliest call asked for, or [`NEVER`]; written by the tasklet's own
    /// calls, read by its worker.
    due_nanos: AtomicU64,
    unparker: Unparker,
}

impl Signal {
    /// A raised signal: every tasklet is called once at the start.
    pub fn new(unparker: Unparker) -> Self {
        Self { is_raised: AtomicBool::new(true), due_nanos: AtomicU64::new(NEVER), unparker }
    }

    /// Has the tasklet called soon. Any thread.
    pub fn raise(&self) {
        if !self.is_raised.swap(true, Ordering::AcqRel) {
            self.unparker.unpark();
        }
    }

    /// Has the tasklet called at that time, or earlier. The tasklet's own calls.
    pub fn raise_at(&self, nanos: u64) {
        self.due_nanos.fetch_min(nanos, Ordering::Relaxed);
    }

    /// The earliest time asked for, if any. The worker's side.
    pub(super) fn due_nanos(&self) -> u64 {
        self.due_nanos.load(Ordering::Relaxed)
    }

    /// Whether a call is wanted at `now`; uses the wish up. The worker's side.
    pub(super) fn take(&self, now: u64) -> bool {
        let is_due = self.due_nanos.load(Ordering::Relaxed) <= now;
        if is_due {
            self.due_nanos.store(NEVER, Ordering::Relaxed);
        }
        let is_raised =
            self.is_raised.load(Ordering::Relaxed) && self.is_raised.swap(false, Ordering::AcqRel);
        is_due || is_raised
    }

    /// Keeps the wish up after a call that made progress. The worker's side: it does not park
    /// after such a call, so nobody needs waking.
    pub(super) fn keep(&self) {
        self.is_raised.store(true, Ordering::Release);
    }
}
