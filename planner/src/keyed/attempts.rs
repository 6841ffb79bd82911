//! `Attempts`: how often a read-compute-write starts again when the row changed meanwhile. Bounded
//! by number and by time: who has waited for a writer in vain does not start to wait again.

use std::time::Duration;

use storage::{Grid, table::may_wait};

/// Attempts of one statement, so many that only a row under constant fire uses them up.
const ATTEMPTS_MAX: usize = 64;

/// The same on a thread that may not wait: enough for a row that was changed meanwhile; a row that a
/// writer holds is the caller's to wait for.
const ATTEMPTS_HERE_MAX: usize = 3;

/// Time after which none begins: as long as an operation waits for another writer.
const ATTEMPTS_FOR: Duration = Duration::from_secs(2);

/// The attempts of one statement; the first always comes.
pub struct Attempts<'a> {
    grid: &'a Grid,
    began_at: u64,
    count: usize,
}

impl<'a> Attempts<'a> {
    /// Begins now.
    pub fn new(grid: &'a Grid) -> Self {
        Self { grid, began_at: grid.env().clock.monotonic_nanos(), count: 0 }
    }
}

impl Iterator for Attempts<'_> {
    type Item = ();

    fn next(&mut self) -> Option<()> {
        let is_late = || {
            let passed = self.grid.env().clock.monotonic_nanos() - self.began_at;
            u128::from(passed) >= ATTEMPTS_FOR.as_nanos()
        };
        let count_max = if may_wait() { ATTEMPTS_MAX } else { ATTEMPTS_HERE_MAX };
        if self.count == count_max || self.count > 0 && is_late() {
            return None;
        }
        self.count += 1;
        Some(())
    }
}
