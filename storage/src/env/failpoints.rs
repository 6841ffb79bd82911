//! `Failpoints`: named places between two steps of a protocol where a test can have the work torn
//! down. Not armed, a place costs one relaxed load.

use std::{
    collections::{BTreeMap, VecDeque},
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
    /// Places, and how often each is still passed unharmed; one after the other.
    armed: VecDeque<(String, u64)>,
    /// How often each place was passed since it is watched.
    passed: BTreeMap<&'static str, u64>,
}

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
        match state.armed.front_mut() {
            Some((armed, 0)) if armed == name => {
                state.armed.pop_front();
                tracing::warn!(place = name, "failpoint hit");
                true
            }
            Some((armed, left)) if armed == name => {
                *left -= 1;
                false
            }
            _ => false,
        }
    }

    /// Has the place fail when it has been passed so often, counted from the failure of the one that
    /// was armed before.
    pub fn arm(&self, name: &str, passes: u64) {
        self.0.state.lock().armed.push_back((name.to_owned(), passes));
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
}
