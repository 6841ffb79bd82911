//! `Logged`: how much of a table's changes was written down, so that it can be told whether a
//! checkpoint still shows all of them.
//!
//! A change counts as begun before it is appended to the data log and as done afterwards. So if as
//! many have begun by now as were done before a checkpoint was taken, there was no other one since.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one table at one owner; they only rise.
#[derive(Debug, Default)]
pub(crate) struct Logged {
    begun: AtomicU64,
    done: AtomicU64,
    bytes: AtomicU64,
}

/// What was counted by some moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LoggedMark {
    begun: u64,
    done: u64,
    /// Bytes of the records.
    pub(crate) bytes: u64,
}

impl Logged {
    /// Counts what `append` writes down, which answers its bytes.
    pub(crate) fn count<E>(&self, append: impl FnOnce() -> Result<u64, E>) -> Result<(), E> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let appended = append();
        self.done.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(appended?, Ordering::Relaxed);
        Ok(())
    }

    /// The counts now.
    pub(crate) fn mark(&self) -> LoggedMark {
        // Done first: what is done has begun.
        let done = self.done.load(Ordering::SeqCst);
        let begun = self.begun.load(Ordering::SeqCst);
        LoggedMark { begun, done, bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

impl LoggedMark {
    /// Of a table that nothing was written down of since the process began; if changes came back from
    /// the log, they count as one after the mark.
    pub(crate) fn before_replay(is_changed: bool) -> Self {
        Self { done: if is_changed { u64::MAX } else { 0 }, ..Self::default() }
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            begun: self.begun + other.begun,
            done: self.done + other.done,
            bytes: self.bytes + other.bytes,
        }
    }

    /// Whether nothing was, or is being, appended since `before` that was not done then.
    pub(crate) fn is_unchanged_since(&self, before: &Self) -> bool {
        self.begun == before.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_under_way_at_a_mark_counts_as_a_change() {
        let logged = Logged::default();
        let before = logged.mark();
        assert!(logged.mark().is_unchanged_since(&before));
        let mut during = None;
        logged
            .count(|| {
                during = Some(logged.mark());
                Ok::<_, ()>(10)
            })
            .unwrap();
        let (during, after) = (during.unwrap(), logged.mark());
        assert!(!during.is_unchanged_since(&before), "it may be in the log");
        assert!(!after.is_unchanged_since(&during), "it may have come after that");
        assert!(logged.mark().is_unchanged_since(&after));
        assert_eq!(after.bytes, 10);
    }
}
