//! A keyed statement that met another client's writer: it stands in line until that has ended, then
//! tries again. Only its task waits, no thread; the client can cancel it or leave meanwhile.
//!
//! ```text
//! try ─ 40001 ─→ wait for the turn ─→ try … until it is out of time, or a deadlock is found
//! ```

use std::time::Duration;

use planner::Error;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::connection::{Connection, Failure, deadline_after};

/// How long a statement waits for other writers altogether: as long as one on the query pool waits
/// for one of them.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// How long one wait for a turn lasts at most: who moved up in the line may wait for another key
/// than the one that holds up the line.
const TURN_MAX: Duration = Duration::from_millis(100);

/// How long one wait lasts where no writer is in the way: a partition is on the move, or a table takes
/// no writes for a while.
const PAUSE: Duration = Duration::from_millis(10);

/// How long one statement waits; begins with its first wait.
#[derive(Debug, Default)]
pub struct Patience {
    until: Option<Instant>,
    is_over: bool,
}

impl Patience {
    /// Whether the statement has waited.
    pub fn has_begun(&self) -> bool {
        self.until.is_some()
    }
}

impl Connection {
    /// Waits for the writer that a statement has just met on this thread, which failed with `error`:
    /// that error if it has waited long enough.
    pub async fn wait_for_turn(
        &mut self,
        patience: &mut Patience,
        error: Error,
    ) -> Result<(), Failure> {
        if patience.is_over {
            return Err(error.into());
        }
        let turn = self.shared.planner.turn(&self.session.planner)?;
        let until = match patience.until {
            Some(until) => until,
            None => {
                self.begin_statement();
                let Some(until) = deadline_after(WAIT_MAX) else { return Err(error.into()) };
                *patience.until.insert(until)
            }
        };
        // However a wait ends, the statement is tried once more.
        let wait = async {
            match turn {
                Some(turn) => drop(timeout(TURN_MAX, turn).await),
                None => sleep(PAUSE).await,
            }
        };
        let Self { inbound, guard, shared, .. } = self;
        let wait = timeout_at(until, wait);
        patience.is_over = Self::guarded(inbound, guard, &shared.shutdown, wait).await?.is_err();
        Ok(())
    }
}
