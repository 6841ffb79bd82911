//! Whether the present thread may wait for another writer. A thread that serves many clients may
//! not: the client it would wait for could be one of its own.

use std::cell::Cell;

thread_local! {
    static MAY_WAIT: Cell<bool> = const { Cell::new(true) };
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
    work()
}

/// Whether the present thread may wait.
pub(crate) fn may_wait() -> bool {
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
