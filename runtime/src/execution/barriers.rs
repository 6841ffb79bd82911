//! Announces barriers to the sources of one execution, one at a time, and counts who has let them
//! pass. What a barrier cuts is aligned in `inbound`; what is saved at it is collected in `shared`.
//!
//! ```text
//!   request ─► announced ─► every source emits it ─► … ─► every tasklet passed it ─► next request
//! ```
//! One barrier is under way at a time, so a tasklet never meets a newer one while aligning.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;

use crate::item::{Barrier, BarrierKind};

/// What follows when a tasklet has let a barrier pass, or has ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Passed {
    /// The barrier that every tasklet has let pass now.
    pub complete: Option<Barrier>,
    /// Whether another was announced and sources must be woken.
    pub is_new: bool,
}

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
    /// Durable barriers that were asked for while another was under way, the oldest first.
    wanted: VecDeque<BarrierKind>,
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
            wanted: VecDeque::new(),
            has_terminal_passed: false,
            next_at: 0,
        };
        Self { announced: AtomicU64::new(0), interval, state: Mutex::new(state) }
    }

    /// Asks for a durable barrier; `true` if it was announced now and sources must be woken. It
    /// waits for one under way. Nothing follows a terminal one.
    #[must_use]
    pub fn request(&self, kind: BarrierKind) -> bool {
        let mut state = self.state.lock();
        if !state.is_terminal_due() {
            state.wanted.push_back(kind);
        }
        state.current.is_none() && self.announce_wanted(&mut state)
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
        if state.current.is_some() || state.is_terminal_due() || now < state.next_at {
            return Some((state.next_at.max(now + interval), false));
        }
        state.next_at = now + interval;
        let is_new = self.announce(&mut state, BarrierKind::Epoch);
        Some((state.next_at, is_new))
    }

    /// A tasklet let `barrier` pass.
    pub fn pass(&self, barrier: Barrier) -> Passed {
        let mut state = self.state.lock();
        state.has_terminal_passed |= barrier.kind.is_terminal();
        self.count_down(&mut state)
    }

    /// A tasklet that had passed `epoch_seen` ended.
    pub fn end(&self, epoch_seen: u64) -> Passed {
        let mut state = self.state.lock();
        state.live -= 1;
        let is_awaited = state.current.is_some_and(|barrier| barrier.epoch > epoch_seen);
        if is_awaited { self.count_down(&mut state) } else { Passed::default() }
    }

    /// Whether a tasklet ended at a terminal barrier: the execution was suspended.
    pub fn has_terminal_passed(&self) -> bool {
        self.state.lock().has_terminal_passed
    }

    fn count_down(&self, state: &mut State) -> Passed {
        assert!(state.remaining > 0, "a barrier is passed once by each tasklet");
        state.remaining -= 1;
        if state.remaining > 0 {
            return Passed::default();
        }
        let complete = state.current.take();
        Passed { complete, is_new: self.announce_wanted(state) }
    }

    fn announce_wanted(&self, state: &mut State) -> bool {
        if state.has_terminal_passed {
            return false;
        }
        let Some(kind) = state.wanted.pop_front() else { return false };
        if kind.is_terminal() {
            // Stays, so that nothing follows.
            state.wanted.push_front(kind);
        }
        self.announce(state, kind)
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

impl State {
    /// Whether a terminal barrier was asked for.
    fn is_terminal_due(&self) -> bool {
        self.wanted.iter().any(|kind| kind.is_terminal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Passed = Passed { complete: None, is_new: false };

    #[test]
    fn a_terminal_barrier_waits_for_the_epoch_under_way() {
        let barriers = Barriers::new(2, Some(10));
        assert_eq!(barriers.poll_interval(0), Some((10, true)));
        let epoch = barriers.after(0).unwrap();
        assert_eq!(epoch.kind, BarrierKind::Epoch);
        assert!(!barriers.request(BarrierKind::Terminal(7)));
        assert_eq!(barriers.pass(epoch), NOTHING, "one of two");
        let passed = Passed { complete: Some(epoch), is_new: true };
        assert_eq!(barriers.end(0), passed, "the other ended without it: the terminal one");
        let terminal = barriers.after(epoch.epoch).unwrap();
        assert_eq!(terminal.kind, BarrierKind::Terminal(7));
        assert!(!barriers.request(BarrierKind::Snapshot(8)));
        assert_eq!(barriers.pass(terminal), Passed { complete: Some(terminal), is_new: false });
        assert!(barriers.has_terminal_passed());
        assert_eq!(barriers.after(terminal.epoch), None, "nothing follows a terminal barrier");
    }

    #[test]
    fn only_one_epoch_is_under_way() {
        let barriers = Barriers::new(1, Some(10));
        assert_eq!(barriers.poll_interval(5), Some((15, true)));
        assert_eq!(barriers.poll_interval(40), Some((50, false)), "the first has not passed");
        let epoch = barriers.after(0).unwrap();
        assert_eq!(barriers.pass(epoch), Passed { complete: Some(epoch), is_new: false });
        assert_eq!(barriers.poll_interval(41), Some((51, true)));
    }

    #[test]
    fn a_snapshot_is_complete_when_the_last_has_passed_it_and_then_the_next_begins() {
        let barriers = Barriers::new(2, None);
        assert!(barriers.request(BarrierKind::Snapshot(1)));
        assert!(!barriers.request(BarrierKind::Snapshot(2)), "one at a time");
        let first = barriers.after(0).unwrap();
        assert_eq!(barriers.pass(first), NOTHING);
        assert_eq!(barriers.pass(first), Passed { complete: Some(first), is_new: true });
        assert_eq!(barriers.after(first.epoch).unwrap().kind, BarrierKind::Snapshot(2));
    }
}
