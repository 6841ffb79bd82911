//! `Planner`: the front door: parse, prepare, bind. Cheap to share; called by the server on a
//! big-stack thread of the query pool, except for [`Planner::keyed`], which is for the
//! connection's own thread.

use std::sync::Arc;

use runtime::{connector::Connectors, execution::Engine, job::Jobs};
use storage::{Datum, Grid};

use crate::{OutputColumn, Plan, Result, Session, SqlType, plan::KeyedPlan};

/// What the server can tell about its connections, for `sys.sessions` and `sys.queries`.
pub trait SessionDirectory: Send + Sync {
    /// All connections.
    fn sessions(&self) -> Vec<SessionInfo>;
    /// All statements that run now.
    fn queries(&self) -> Vec<QueryInfo>;
    /// Cancels the running statement of a session (`pg_cancel_backend`); false if there is none.
    fn cancel(&self, session_id: i32) -> bool;
}

/// A row of `sys.sessions`.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    /// Id.
    pub id: i32,
    /// User.
    pub user: String,
    /// Database.
    pub database: String,
    /// `application_name`.
    pub application: String,
    /// Client's address.
    pub client: String,
    /// µs since the epoch.
    pub connected_at: i64,
}

/// A row of `sys.queries`.
#[derive(Debug, Clone)]
pub struct QueryInfo {
    /// Id.
    pub id: u64,
    /// Session it runs in.
    pub session_id: i32,
    /// `RUNNING` or `STREAMING`.
    pub status: &'static str,
    /// µs since the epoch.
    pub started_at: i64,
    /// Rows sent so far.
    pub rows: u64,
    /// Its text.
    pub query: String,
}

/// Everything the planner plans over.
pub struct PlannerParts {
    /// Tables and catalog.
    pub grid: Arc<Grid>,
    /// Runs dags.
    pub engine: Arc<Engine>,
    /// Jobs.
    pub jobs: Arc<Jobs>,
    /// Connectors.
    pub connectors: Connectors,
    /// Connections.
    pub directory: Arc<dyn SessionDirectory>,
}

/// One parsed statement.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Its own text, without the semicolon.
    pub sql: String,
    // owner: planner-core helper
}

/// A statement with its names resolved and its parameter and result types known.
#[derive(Debug)]
pub struct Prepared {
    /// The statement.
    pub statement: Statement,
    /// Types of `$1 …`.
    pub parameters: Vec<SqlType>,
    /// Result columns; `None` for statements that return no rows.
    pub columns: Option<Vec<OutputColumn>>,
    // owner: planner-core helper
}

/// The front door.
pub struct Planner {
    // owner: planner-core helper
}

impl Planner {
    /// A planner over a grid; also gives the jobs their way from SQL to a dag.
    pub fn new(parts: PlannerParts) -> Arc<Self> {
        let _ = parts;
        unimplemented!("owner: planner-core helper")
    }

    /// Splits and parses a query string. An empty string has no statements.
    pub fn parse(&self, sql: &str) -> Result<Vec<Statement>> {
        let _ = sql;
        unimplemented!("owner: planner-core helper")
    }

    /// Resolves names and types. `hints` are the parameter types the client declared.
    pub fn prepare(
        &self,
        session: &Session,
        statement: &Statement,
        hints: &[Option<SqlType>],
    ) -> Result<Arc<Prepared>> {
        let _ = (session, statement, hints);
        unimplemented!("owner: planner-core helper")
    }

    /// Puts values in and plans: what comes back can be run once.
    pub fn bind(
        &self,
        session: &Session,
        prepared: &Arc<Prepared>,
        values: &[Datum],
    ) -> Result<Plan> {
        let _ = (session, prepared, values);
        unimplemented!("owner: planner-core helper")
    }

    /// The fast path of the simple protocol: if `sql` with its literals taken out is a keyed shape
    /// that is already in the plan cache and still valid, the plan and the literals' values.
    /// Microseconds; never parses.
    pub fn keyed(&self, session: &Session, sql: &str) -> Option<(Arc<KeyedPlan>, Vec<Datum>)> {
        let _ = (session, sql);
        unimplemented!("owner: planner-core helper")
    }

    /// The keyed plan of a prepared statement, if it is one and still valid. Cheap: for the
    /// connection's own thread.
    pub fn keyed_plan(
        &self,
        session: &Session,
        prepared: &Arc<Prepared>,
    ) -> Option<Arc<KeyedPlan>> {
        let _ = (session, prepared);
        unimplemented!("owner: planner-core helper")
    }

    /// Whether the objects a prepared statement names are what they were. Cheap.
    pub fn is_current(&self, session: &Session, prepared: &Prepared) -> bool {
        let _ = (session, prepared);
        unimplemented!("owner: planner-core helper")
    }
}
