//! Announces barriers to the sources of one execution, one at a time, and counts who has let them
//! pass. What a barrier cuts is aligned in `inbound`; what is saved at it is collected in `shared`.
//!
//! ```text
//!   request ─► announced ─► every source emits it ─► … ─► every tasklet passed it ─► next request
//! ```
//! One barrier is under way at a time, so a tasklet never meets a newer one while aligning.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::item::{Barrier, BarrierKind};

/// The barriers of one execution.
#[derive(Debug)]
pub struct Barriers {
    /// Epoch of the newest announced barrier, 0 for none; written under `state`, read by sources.
    announced: AtomicU64,
    /// Distance of light epochs in ns, if any are wanted.
    interval: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The barrier under way.
    current: Option<Barrier>,
    epoch_last: u64,
    /// Tasklets that have not ended.
    live: usize,
    /// Live tasklets that have not passed `current`.
    remaining: usize,
    is_terminal_wanted: bool,
    has_terminal_passed: bool,
    /// When the next light epoch is due, monotonic ns.
    next_at: u64,
}

impl Barriers {
    /// For so many tasklets; light epochs every `interval` ns.
    pub fn new(tasklet_count: usize, interval: Option<u64>) -> Self {
        let state = State {
            current: None,
            epoch_last: 0,
            live: tasklet_count,
            remaining: 0,
            is_terminal_wanted: false,
            has_terminal_passed: false,
            next_at: 0,
        };
        Self { announced: AtomicU64::new(0), interval, state: Mutex::new(state) }
    }

    /// Asks for the terminal barrier; `true` if it was announced now and sources must be woken. It
    /// waits for a light epoch under way.
    #[must_use]
    pub fn request_terminal(&self) -> bool {
        let mut state = self.state.lock();
        state.is_terminal_wanted = true;
        state.current.is_none() && self.announce(&mut state, BarrierKind::Terminal)
    }

    /// The barrier a source that has emitted `epoch_seen` must emit next.
    pub fn after(&self, epoch_seen: u64) -> Option<Barrier> {
        if self.announced.load(Ordering::Acquire) <= epoch_seen {
            return None;
        }
        self.state.lock().current.filter(|barrier| barrier.epoch > epoch_seen)
    }

    /// Announces a light epoch if one is due; when to ask again, if ever; and whether sources must
    /// be woken.
    pub fn poll_interval(&self, now: u64) -> Option<(u64, bool)> {
        let interval = self.interval?;
        let mut state = self.state.lock();
        if state.current.is_some() || state.is_terminal_wanted || now < state.next_at {
            return Some((state.next_at.max(now + interval), false));
        }
        state.next_at = now + interval;
        let is_new = self.announce(&mut state, BarrierKind::Epoch);
        Some((state.next_at, is_new))
    }

    /// A tasklet let `barrier` pass; `true` if another was announced and sources must be woken.
    #[must_use]
    pub fn pass(&self, barrier: Barrier) -> bool {
        let mut state = self.state.lock();
        state.has_terminal_passed |= barrier.kind == BarrierKind::Terminal;
        self.count_down(&mut state)
    }

    /// A tasklet that had passed `epoch_seen` ended; `true` as in [`Barriers::pass`].
    #[must_use]
    pub fn end(&self, epoch_seen: u64) -> bool {
        let mut state = self.state.lock();
        state.live -= 1;
        let is_awaited = state.current.is_some_and(|barrier| barrier.epoch > epoch_seen);
        is_awaited && self.count_down(&mut state)
    }

    /// Whether a tasklet ended at a terminal barrier: the execution was suspended.
    pub fn has_terminal_passed(&self) -> bool {
        self.state.lock().has_terminal_passed
    }

    fn count_down(&self, state: &mut State) -> bool {
        assert!(state.remaining > 0, "a barrier is passed once by each tasklet");
        state.remaining -= 1;
        if state.remaining > 0 {
            return false;
        }
        state.current = None;
        let is_terminal_due = state.is_terminal_wanted && !state.has_terminal_passed;
        is_terminal_due && self.announce(state, BarrierKind::Terminal)
    }

    fn announce(&self, state: &mut State, kind: BarrierKind) -> bool {
        if state.live == 0 {
            return false;
        }
        state.epoch_last += 1;
        state.current = Some(Barrier { epoch: state.epoch_last, kind });
        state.remaining = state.live;
        self.announced.store(state.epoch_last, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_barrier_waits_for_the_epoch_under_way() {
        let barriers = Barriers::new(2, Some(10));
        assert_eq!(barriers.poll_interval(0), Some((10, true)));
        let epoch = barriers.after(0).unwrap();
        assert_eq!(epoch.kind, BarrierKind::Epoch);
        assert!(!barriers.request_terminal());
        assert!(!barriers.pass(epoch), "one of two");
        assert!(barriers.end(0), "the other ended without it, so the terminal one is announced");
        let terminal = barriers.after(epoch.epoch).unwrap();
        assert_eq!(terminal.kind, BarrierKind::Terminal);
        assert!(!barriers.pass(terminal));
        assert!(barriers.has_terminal_passed());
        assert_eq!(barriers.after(terminal.epoch), None, "nothing follows a terminal barrier");
    }

    #[test]
    fn only_one_epoch_is_under_way() {
        let barriers = Barriers::new(1, Some(10));
        assert_eq!(barriers.poll_interval(5), Some((15, true)));
        assert_eq!(barriers.poll_interval(40), Some((50, false)), "the first has not passed");
        let epoch = barriers.after(0).unwrap();
        assert!(!barriers.pass(epoch));
        assert_eq!(barriers.poll_interval(41), Some((51, true)));
    }
}
