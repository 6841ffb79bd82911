//! Whether the present thread has committed something that is not yet on disk: what a statement does
//! is seen at once, and its client is told when it is durable.

use std::cell::Cell;

thread_local! {
    static UNSYNCED: Cell<bool> = const { Cell::new(false) };
}

/// Whether what the present thread has committed since this was last asked must be on disk before
/// anybody is told of it: [`crate::data_log::DataLog::poll_synced`] of its newest record says when.
pub fn take_unsynced() -> bool {
    UNSYNCED.replace(false)
}

/// The present thread has committed something of the kind.
pub(crate) fn note_unsynced() {
    UNSYNCED.set(true);
}
