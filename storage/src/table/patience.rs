//! Whether the present thread may wait for another writer. A thread that serves many clients may
//! not: the client it would wait for could be one of its own. And whether it must stop waiting,
//! because nobody wants its answer any more.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{Error, Result};

thread_local! {
    static MAY_WAIT: Cell<bool> = const { Cell::new(true) };
    static BLOCKER: Cell<Option<u64>> = const { Cell::new(None) };
    static STOP: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Runs `work` without waiting for pending writers or moving partitions: where it would wait, it
/// fails with Conflict at once, and the caller runs it again on a thread that may.
pub fn without_waiting<T>(work: impl FnOnce() -> T) -> T {
    /// Puts the old answer back, also after a panic.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            MAY_WAIT.set(self.0);
        }
    }
    let _restore = Restore(MAY_WAIT.replace(false));
    BLOCKER.set(None);
    work()
}

/// The writer that was in the way of what the present thread last ran [`without_waiting`].
pub fn blocker() -> Option<u64> {
    BLOCKER.get()
}

/// Remembers the writer that is in the way.
pub(crate) fn blocked_by(writer: Option<u64>) {
    BLOCKER.set(writer);
}

/// Runs `work`, whose waits end with Conflict soon after `stop` is set: by whoever cancels the
/// statement that the present thread runs.
pub fn stoppable<T>(stop: &Arc<AtomicBool>, work: impl FnOnce() -> T) -> T {
    /// Forgets the flag, also after a panic.
    struct Forget(Option<Arc<AtomicBool>>);
    impl Drop for Forget {
        fn drop(&mut self) {
            STOP.set(self.0.take());
        }
    }
    let _forget = Forget(STOP.replace(Some(Arc::clone(stop))));
    work()
}

/// Whether the present thread was told to stop waiting.
pub(crate) fn is_stopped() -> bool {
    STOP.with_borrow(|stop| stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)))
}

/// Conflict if the present thread was told to stop.
pub(crate) fn check_stopped() -> Result<()> {
    if is_stopped() { Err(Error::Conflict) } else { Ok(()) }
}

/// Whether the present thread may wait.
pub fn may_wait() -> bool {
    MAY_WAIT.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_forbidden_only_inside() {
        assert!(may_wait());
        without_waiting(|| without_waiting(|| assert!(!may_wait())));
        assert!(may_wait());
    }
}
