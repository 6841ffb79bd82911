//! `Planner`: the front door: parse, prepare, bind. Cheap to share; called by the server on a
//! big-stack thread of the query pool, except for [`Planner::keyed`], which is for the
//! connection's own thread.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use runtime::{connector::Connectors, execution::Engine, job::Jobs};
use storage::{
    Datum, Grid,
    cluster::control::{ObjectId, ObjectName},
    table::{Turn, blocker},
};

use crate::{
    Error, OutputColumn, Plan, Result, Session, SqlType,
    cache::{PlanCache, Shaped},
    context::Context,
    ddl,
    error::placed,
    keyed::{self, KeyedPlan, Shape},
    parse::{self, StatementKind},
    plan::SessionStatement,
    prepare::{self, Prepare},
};

/// What the server can tell about its connections, for `sys.sessions` and `sys.queries`.
pub trait SessionDirectory: Send + Sync {
    /// All connections.
    fn sessions(&self) -> Vec<SessionInfo>;
    /// All statements that run now.
    fn queries(&self) -> Vec<QueryInfo>;
    /// Cancels the running statement of a session (`pg_cancel_backend`); false if there is none.
    fn cancel(&self, session_id: i32) -> bool;
    /// Ends when so much time has passed (`pg_sleep`); dropping it ends the wait.
    fn sleep(&self, duration: std::time::Duration) -> futures::future::BoxFuture<'static, ()>;
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
    /// Lanes a bounded query is spread over.
    pub lane_count: usize,
    /// Connections.
    pub directory: Arc<dyn SessionDirectory>,
    /// Memory that all running queries together may take for hash tables and sorts, in bytes. A
    /// query that asks for more fails with 53200; nothing spills to disk.
    pub query_memory_max: usize,
}

/// One parsed statement.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Its own text, without the semicolon.
    pub sql: String,
    /// Characters before it in the query string it came in.
    pub(crate) start: usize,
    pub(crate) kind: Arc<StatementKind>,
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
    pub(crate) work: Prepare,
    pub(crate) objects: Objects,
}

/// Whether a client that was told of the one may be sent the other: by name and type. Which table a
/// column is of may change: one made anew, or given a key, has another oid.
fn is_same_shape(one: Option<&[OutputColumn]>, two: Option<&[OutputColumn]>) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => OutputColumn::are_alike(one, two),
        (one, two) => one.is_none() && two.is_none(),
    }
}

impl Prepared {
    /// BEGIN, COMMIT or ROLLBACK, which need no plan.
    pub fn block_statement(&self) -> Option<SessionStatement> {
        match self.statement.kind.as_ref() {
            StatementKind::Session(
                statement @ (SessionStatement::Begin
                | SessionStatement::Commit
                | SessionStatement::Rollback),
            ) => Some(statement.clone()),
            _ => None,
        }
    }
}

/// The objects a plan was made from: it is valid while the names still stand for the same ids.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// Names and ids.
    pub named: Vec<(ObjectName, ObjectId)>,
    /// The newest catalog version at which that was so.
    pub checked_at: AtomicU64,
}

impl Objects {
    /// Whether the names still stand for these objects.
    pub fn are_current(&self, grid: &Grid) -> bool {
        let state = grid.control().state();
        if self.checked_at.load(Ordering::Relaxed) == state.catalog_version {
            return true;
        }
        // A statement that names nothing of ours may name something once it exists.
        let is_current = !self.named.is_empty()
            && self.named.iter().all(|(name, id)| {
                state.relations.get(name).is_some_and(|relation| relation.id() == *id)
            });
        if is_current {
            self.checked_at.store(state.catalog_version, Ordering::Relaxed);
        }
        is_current
    }
}

/// The front door.
pub struct Planner {
    context: Arc<Context>,
    cache: PlanCache,
}

impl Planner {
    /// A planner over a grid; also gives the jobs their way from SQL to a dag.
    pub fn new(parts: PlannerParts) -> Arc<Self> {
        let jobs = Arc::clone(&parts.jobs);
        let context = Context::new(parts)
            .expect("the base state is made of constants, tested at every start");
        // Weakly: the jobs are among the context's own parts.
        let weak = Arc::downgrade(&context);
        jobs.set_planner(Arc::new(move |record| {
            let context = weak.upgrade().ok_or(runtime::Error::Cancelled)?;
            ddl::plan_again(&context, record).map_err(|error| runtime::Error::Invalid {
                code: error.code,
                message: error.message,
            })
        }));
        Arc::new(Self { context, cache: PlanCache::default() })
    }

    /// Splits and parses a query string. An empty string has no statements.
    pub fn parse(&self, sql: &str) -> Result<Vec<Statement>> {
        parse::parse(sql)
    }

    /// Resolves names and types. `hints` are the parameter types the client declared.
    pub fn prepare(
        &self,
        session: &Session,
        statement: &Statement,
        hints: &[Option<SqlType>],
    ) -> Result<Arc<Prepared>> {
        if let Some(found) = self.cache.prepared(session, statement, hints)
            && self.is_current(session, &found)
        {
            return Ok(found);
        }
        let prepared = prepare::prepare(&self.context, session, statement, hints);
        let prepared = Arc::new(prepared.map_err(|error| placed(error, statement))?);
        self.cache.keep(session, statement, hints, &prepared);
        Ok(prepared)
    }

    /// Puts values in and plans: what comes back can be run once.
    pub fn bind(
        &self,
        session: &Session,
        prepared: &Arc<Prepared>,
        values: &[Datum],
    ) -> Result<Plan> {
        if values.len() != prepared.parameters.len() {
            return Err(Error::new(
                "08P01",
                format!(
                    "bind message supplies {} parameters, but the statement requires {}",
                    values.len(),
                    prepared.parameters.len()
                ),
            ));
        }
        if prepared.objects.are_current(&self.context.parts.grid) {
            return prepare::bind(&self.context, session, prepared, values);
        }
        // A table was made anew under the name since: plan again, but answer the same columns.
        let hints: Vec<_> = prepared.parameters.iter().cloned().map(Some).collect();
        let again = self.prepare(session, &prepared.statement, &hints)?;
        if !is_same_shape(again.columns.as_deref(), prepared.columns.as_deref()) {
            return Err(Error::unsupported("cached plan must not change result type"));
        }
        prepare::bind(&self.context, session, &again, values)
    }

    /// The keyed plan of a prepared statement, if it is one and still valid. Cheap enough for the
    /// connection's own thread.
    pub fn keyed_plan(
        &self,
        _session: &Session,
        prepared: &Arc<Prepared>,
    ) -> Option<Arc<KeyedPlan>> {
        match &prepared.work {
            Prepare::Keyed(plan) if prepared.objects.are_current(&self.context.parts.grid) => {
                Some(Arc::clone(plan))
            }
            _ => None,
        }
    }

    /// Whether the objects a prepared statement names are unchanged.
    pub fn is_current(&self, _session: &Session, prepared: &Prepared) -> bool {
        prepared.objects.are_current(&self.context.parts.grid)
    }

    /// What the keyed statement waits for that has just met another writer on this thread; `None`
    /// where something else was in its way. 40P01 if that writer waits for the session's.
    pub fn turn(&self, session: &Session) -> Result<Option<Turn>> {
        let turn = |writer| self.context.parts.grid.turn(writer, session.writer.as_deref());
        Ok(blocker().map(turn).transpose()?)
    }

    /// The fast path of the simple protocol: if `sql` with its literals taken out is a keyed shape
    /// that is valid now, the plan and the literals' values. Microseconds; a shape is parsed only
    /// when it is met for the first time.
    pub fn keyed(&self, session: &Session, sql: &str) -> Option<(Arc<KeyedPlan>, Vec<Datum>)> {
        let shape = Shape::of(sql)?;
        let shaped = match self.cache.shape(&shape.text) {
            Some(shaped) if shaped.objects.are_current(&self.context.parts.grid) => shaped,
            _ => self.learn(session, &shape),
        };
        let plan = shaped.plan.as_ref()?;
        let values = keyed::literals(&shape, plan.parameters())?;
        Some((Arc::clone(plan), values))
    }

    /// Parses a shape for the first time and remembers whether it is keyed.
    fn learn(&self, session: &Session, shape: &Shape) -> Arc<Shaped> {
        let statements = parse::parse(&shape.text).unwrap_or_default();
        let shaped = match statements.as_slice() {
            [statement] => prepare::shaped(&self.context, session, statement),
            _ => Shaped::default(),
        };
        self.cache.keep_shape(&shape.text, shaped)
    }
}
