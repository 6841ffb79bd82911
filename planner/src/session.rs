//! What planning and running a statement needs to know of the connection: its settings and its
//! open transaction block. Owned by the server's session; the planner only reads it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use storage::{
    Grid,
    table::{ReadMode, ReadView, Writer},
};

use crate::{Error, Result};

/// Tells whether the statement that is being planned was cancelled meanwhile, or its client left.
/// The planner asks between its steps.
#[derive(Clone, Default)]
pub struct Interrupt(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Interrupt {
    /// Asks `is_cancelled`.
    pub fn new(is_cancelled: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(is_cancelled)))
    }

    /// 57014 if the statement was cancelled.
    pub fn check(&self) -> Result<()> {
        match &self.0 {
            Some(is_cancelled) if is_cancelled() => {
                Err(Error::new("57014", "canceling statement due to user request"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Interrupt({})", self.check().is_err())
    }
}

/// Settings and transaction of one connection.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// Settings by lower-case name (`timezone`, `search_path`, `read_mode`, `statement_timeout`,
    /// `application_name` …); validated by `Session::set`.
    pub settings: BTreeMap<String, String>,
    /// The setting `read_mode`: what SELECT sees of jobs; statements that write read durable rows.
    pub read_mode: ReadMode,
    /// The writer of the open block, once a statement of it has written.
    pub writer: Option<Arc<Writer>>,
    /// Whether BEGIN is in force.
    pub in_transaction: bool,
    /// When the open block began, µs since the epoch: what `now()` answers in it.
    pub block_began_at: Option<i64>,
    /// User name as given at start-up.
    pub user: String,
    /// Database name as given at start-up.
    pub database: String,
    /// The session's id in `sys.sessions`; what `pg_backend_pid()` answers.
    pub id: i32,
    /// What stops planning.
    pub interrupt: Interrupt,
}

impl Session {
    /// What a SELECT sees now: in its read mode, with the open block's own changes.
    pub fn read_view(&self, grid: &Grid) -> ReadView {
        let view = match &self.writer {
            Some(writer) => writer.read_view(),
            None => grid.read_view(),
        };
        view.in_mode(self.read_mode)
    }
}

#[cfg(test)]
mod tests;
