//! What planning and running a statement needs to know of the connection: its settings and its
//! open transaction block. Owned by the server's session; the planner only reads it.

use std::{collections::BTreeMap, sync::Arc};

use storage::table::Writer;

/// Settings and transaction of one connection.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// Settings by lower-case name (`timezone`, `search_path`, `read_mode`, `statement_timeout`,
    /// `application_name` …); validated by `Session::set`.
    pub settings: BTreeMap<String, String>,
    /// The writer of the open block, once a statement of it has written.
    pub writer: Option<Arc<Writer>>,
    /// Whether BEGIN is in force.
    pub in_transaction: bool,
    /// User name as given at start-up.
    pub user: String,
    /// Database name as given at start-up.
    pub database: String,
    /// The session's id in `sys.sessions`; what `pg_backend_pid()` answers.
    pub id: i32,
}
