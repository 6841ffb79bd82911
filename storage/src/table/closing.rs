//! `ClosedTable`: a table that takes no writes for a while, so that its rows can be copied whole.
//! It is closed only at a moment when no writer is open in it; nobody's block is cut in two.
//!
//! ```text
//! open ─ wait for its writers ─→ closed ─ a writer came in between? ─→ open, and once more
//!                                   └───── none ─→ copy the rows ─→ open, or replaced
//! ```
//! Who wants to write meanwhile waits, up to a bound, then fails with Conflict. Reads go on.

use std::sync::Arc;

use super::{op::Op, patience::without_waiting, router::Router};
use crate::{Error, Result, cluster::control::ObjectId};

/// How often a table is closed before its writers are found to come too thick and fast.
const ATTEMPTS_MAX: u32 = 100;

/// A table that takes no writes until this is dropped.
#[derive(Debug)]
pub(crate) struct ClosedTable {
    router: Arc<Router>,
    table: ObjectId,
}

impl ClosedTable {
    /// Waits until no writer is open in the table and closes it. Conflict if that takes too long,
    /// or if somebody else has closed it.
    pub(crate) fn close(router: &Arc<Router>, table: ObjectId) -> Result<Self> {
        for _ in 0..ATTEMPTS_MAX {
            await_writers(router, table)?;
            if !router.close_table(table, true) {
                return Err(Error::Conflict);
            }
            let closed = Self { router: Arc::clone(router), table };
            match without_waiting(|| await_writers(router, table)) {
                Ok(()) => return Ok(closed),
                Err(Error::Conflict) => drop(closed),
                Err(error) => return Err(error),
            }
        }
        Err(Error::Conflict)
    }
}

impl Drop for ClosedTable {
    fn drop(&mut self) {
        self.router.close_table(self.table, false);
    }
}

fn await_writers(router: &Router, table: ObjectId) -> Result<()> {
    let op = |partitions| Op::AwaitWriters { partitions };
    router.call_many(table, router.all_partitions(), op, |_, _| ())
}
