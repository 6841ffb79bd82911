//! `Failpoints`: named places between two steps of a protocol where a test can have the work torn
//! down, or the whole process end as if it were killed. Not armed, a place costs one relaxed load.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

/// The failpoints of one member. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Failpoints(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_watched: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// One after the other.
    armed: VecDeque<Armed>,
    /// How often each place was passed since it is watched.
    passed: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Armed {
    place: String,
    /// How often it is still passed unharmed.
    passes: u64,
    fall: Fall,
}

/// What becomes of who is there.
#[derive(Debug, Clone, Copy)]
enum Fall {
    /// It is told so.
    Told,
    /// It unwinds, and nothing after the place happens.
    Killed,
}

/// What a thread unwinds with at a place where the process was to be killed.
#[derive(Debug)]
pub struct Killed(pub &'static str);

impl Failpoints {
    /// Whether the caller shall be torn down here. A place fails once.
    #[inline]
    pub fn hit(&self, name: &'static str) -> bool {
        self.0.is_watched.load(Ordering::Relaxed) && self.hit_watched(name)
    }

    #[cold]
    fn hit_watched(&self, name: &'static str) -> bool {
        let mut state = self.0.state.lock();
        *state.passed.entry(name).or_insert(0) += 1;
        let Some(armed) = state.armed.front_mut().filter(|armed| armed.place == name) else {
            return false;
        };
        if armed.passes > 0 {
            armed.passes -= 1;
            return false;
        }
        let fall = armed.fall;
        state.armed.pop_front();
        drop(state);
        tracing::warn!(place = name, ?fall, "failpoint hit");
        match fall {
            Fall::Told => true,
            Fall::Killed => resume_unwind(Box::new(Killed(name))),
        }
    }

    /// Has the place fail when it has been passed so often, counted from the failure of the one that
    /// was armed before.
    pub fn arm(&self, name: &str, passes: u64) {
        self.arm_with(name, passes, Fall::Told);
    }

    /// As [`Failpoints::arm`], but nothing after the place happens: the thread unwinds with [`Killed`],
    /// and the test is to let go of everything that would be gone with the process.
    pub fn arm_kill(&self, name: &str, passes: u64) {
        self.arm_with(name, passes, Fall::Killed);
    }

    fn arm_with(&self, name: &str, passes: u64, fall: Fall) {
        let place = name.to_owned();
        self.0.state.lock().armed.push_back(Armed { place, passes, fall });
        self.0.is_watched.store(true, Ordering::Relaxed);
    }

    /// Whether an armed place has not failed yet.
    pub fn is_armed(&self) -> bool {
        !self.0.state.lock().armed.is_empty()
    }

    /// Counts who passes from now on.
    pub fn watch(&self) {
        self.0.is_watched.store(true, Ordering::Relaxed);
    }

    /// The places that were passed while watched, and how often.
    pub fn passed(&self) -> BTreeMap<&'static str, u64> {
        self.0.state.lock().passed.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn armed_places_fail_once_each_in_their_turn() {
        let failpoints = Failpoints::default();
        assert!(!failpoints.hit("a"));
        assert!(failpoints.passed().is_empty(), "nobody watches");
        failpoints.arm("a", 1);
        failpoints.arm("b", 0);
        let hits = ["b", "a", "a", "a", "b", "b"].map(|name| failpoints.hit(name));
        assert_eq!(hits, [false, false, true, false, true, false]);
        assert!(!failpoints.is_armed());
        assert_eq!(failpoints.passed(), BTreeMap::from([("a", 3), ("b", 3)]));
    }

    #[test]
    fn who_is_killed_at_a_place_does_nothing_after_it() {
        let failpoints = Failpoints::default();
        failpoints.arm_kill("a", 0);
        let killed = catch_unwind(AssertUnwindSafe(|| failpoints.hit("a"))).unwrap_err();
        assert_eq!(killed.downcast_ref::<Killed>().map(|killed| killed.0), Some("a"));
        assert!(!failpoints.is_armed() && !failpoints.hit("a"));
    }
}
