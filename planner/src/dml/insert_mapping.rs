//! `INSERT INTO` and `SINK INTO` a mapping as a statement of its own: the rows of a bounded query go
//! through a small dag into the connector's sink, as those of a job with `exactlyOnce` would. So what
//! a sink lets go with a snapshot, files or a transaction, appears at the end or not at all:
//!
//! ```text
//!   rows … end ─► the sink waits for a snapshot ─► barrier, everything is saved ─► "it is good"
//! ```
//! The one snapshot of a statement is stored nowhere: who would restore it is gone when it fails.

use std::{future::poll_fn, sync::Arc};

use arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::sql::sqlparser::ast;
use futures::{StreamExt, channel::mpsc};
use runtime::{
    dag::{Dag, Parallelism, Routing},
    execution::{Execution, ExecutionEnd, ExecutionRequest, Feed, QUERY, Snapshots, feed},
    job::Guarantee,
};
use storage::{
    Datum,
    cluster::control::{MappingRecord, state::Relation},
};

use super::{
    conform::{Target, conform_insert},
    hint,
    insert::parts,
    is_default,
};
use crate::{
    Error, Result, Session, SqlType, catalog::resolve, context::Context, parse,
    plan::ModifyOutcome, query::PreparedQuery,
};

/// Batches that may wait for the sink before the query does.
const FEED_BATCHES_MAX: usize = 4;

/// An INSERT into a mapping whose names and types are known.
#[derive(Debug)]
pub struct PreparedMappingInsert {
    /// Where rows go.
    pub mapping: Arc<MappingRecord>,
    /// Gives them, in the mapping's columns.
    pub source: PreparedQuery,
}

/// What the dag tells the statement.
enum News {
    /// Nothing is left to do but a snapshot.
    Awaited,
    /// It was taken.
    Taken(runtime::Result<()>),
    /// It has ended.
    Ended(ExecutionEnd),
}

/// Number of the only snapshot of a statement.
const SNAPSHOT: u64 = 1;

/// One with its values, ready to run.
pub struct MappingInsert {
    /// What plans it.
    pub context: Arc<Context>,
    /// What it does.
    pub prepared: Arc<PreparedMappingInsert>,
    /// Values of `$1 …`.
    pub values: Vec<Datum>,
}

/// The mapping that an INSERT names, if it is one.
pub fn target(context: &Context, insert: &ast::Insert) -> Option<Arc<MappingRecord>> {
    let ast::TableObject::TableName(name) = &insert.table else { return None };
    let name = resolve::relation_name(name).ok()?;
    match resolve::relation(&context.parts.grid, &name).ok()? {
        Relation::Mapping(record) => Some(record),
        Relation::Table(_) | Relation::View(_) => None,
    }
}

/// Resolves an INSERT into `mapping`.
pub fn prepare(
    context: &Context,
    session: &Session,
    insert: &ast::Insert,
    mapping: Arc<MappingRecord>,
    hints: &[Option<SqlType>],
) -> Result<PreparedMappingInsert> {
    let parts = parts(insert)?;
    if insert.on.is_some() {
        let message = "ON CONFLICT of a mapping is not supported: it has no key";
        return Err(Error::unsupported(message));
    }
    if insert.returning.is_some() {
        return Err(Error::unsupported("RETURNING of a mapping is not supported"));
    }
    let Some(source) = parts.source else {
        return Err(Error::unsupported("DEFAULT VALUES into a mapping is not supported"));
    };
    let target = Target::of_mapping(&mapping);
    let positions = target.positions(&parts.columns)?;
    let mut hints = hints.to_vec();
    hints.resize(hints.len().max(parse::parameter_count(insert)), None);
    let mut query = source.clone();
    prepare_values(&mut query, &target, &positions, &mut hints);
    let source = PreparedQuery::with_step(context, session, &query, &hints, |state, plan| {
        // A sink declared without columns (Discard) takes rows as they come.
        match target.columns.is_empty() {
            true => Ok(plan),
            false => conform_insert(state, &target, &positions, plan),
        }
    })?;
    Ok(PreparedMappingInsert { mapping, source })
}

/// DEFAULT in VALUES is NULL; a parameter that stands alone there has its column's type.
fn prepare_values(
    query: &mut ast::Query,
    target: &Target,
    positions: &[usize],
    hints: &mut Vec<Option<SqlType>>,
) {
    let ast::SetExpr::Values(values) = query.body.as_mut() else { return };
    for row in &mut values.rows {
        for (value, position) in row.content.iter_mut().zip(positions) {
            if is_default(value) {
                *value = ast::Expr::Value(ast::Value::Null.into());
            }
            hint(hints, value, || target.sql_type(*position));
        }
    }
}

/// Cancels what still runs when the statement is given up.
struct Running(Execution);

impl Running {
    /// Lets go what is held back, once everything is written; how it ended.
    async fn settle(self, mut news: mpsc::UnboundedReceiver<News>) -> ExecutionEnd {
        let mut is_asked = false;
        while let Some(news) = news.next().await {
            match news {
                News::Awaited if is_asked => {}
                News::Awaited => {
                    is_asked = true;
                    self.0.snapshot(SNAPSHOT, false);
                }
                News::Taken(Ok(())) => self.0.committed(SNAPSHOT),
                News::Taken(Err(error)) => self.0.fail(error),
                News::Ended(end) => return end,
            }
        }
        ExecutionEnd::Cancelled
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl MappingInsert {
    /// Runs it to its end.
    pub async fn execute(self, session: &Session) -> Result<ModifyOutcome> {
        let mapping = &self.prepared.mapping;
        if session.in_transaction {
            let message = "INSERT into a mapping cannot run inside a transaction block";
            let detail = "What a mapping has written could not be rolled back.";
            return Err(Error::new("25001", message).with_detail(detail));
        }
        let bound = self.prepared.source.bind(&self.context, session, &self.values)?;
        let mut rows = bound.execute(session)?;
        let (mut feed, running, news) = self.start()?;
        let schema = self.schema();
        let mut count = 0;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let columns = batch.columns().to_vec();
            let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
            if !poll_fn(|context| feed.poll_send(&batch, context)).await {
                // Its end says why.
                break;
            }
            count += batch.num_rows();
        }
        feed.finish();
        match running.settle(news).await {
            ExecutionEnd::Completed => {
                Ok(ModifyOutcome { tag: format!("INSERT 0 {count}"), batches: Vec::new() })
            }
            ExecutionEnd::Failed(error) => Err(error.into()),
            ExecutionEnd::Cancelled | ExecutionEnd::Suspended(_) => {
                let name = &mapping.name.name;
                Err(Error::new("57014", format!("INSERT into \"{name}\" was cancelled")))
            }
        }
    }

    /// The plan as text: what is written, and below it the query that gives the rows.
    pub fn explain(&self, session: &Session, is_verbose: bool) -> Result<Vec<String>> {
        let bound = self.prepared.source.bind(&self.context, session, &self.values)?;
        let mut lines = vec![format!("Insert: mapping={}", self.prepared.mapping.name.name)];
        lines.extend(bound.explain(is_verbose).into_iter().map(|line| format!("  {line}")));
        Ok(lines)
    }

    /// The mapping's columns, or the query's where it declares none.
    fn schema(&self) -> arrow::datatypes::SchemaRef {
        let schema = &self.prepared.mapping.schema;
        match schema.fields().is_empty() {
            true => crate::query::arrow_schema(&self.prepared.source.columns),
            false => Arc::clone(schema),
        }
    }

    /// Starts the dag: rows → sink.
    fn start(&self) -> Result<(Feed, Running, mpsc::UnboundedReceiver<News>)> {
        let (parts, mapping) = (&self.context.stream, &self.prepared.mapping);
        let schema = self.schema();
        let sink = crate::lower::sink_of(parts, mapping, &schema)?;
        let (source, feed) = feed(schema, FEED_BATCHES_MAX);
        let mut dag = Dag::default();
        let source = dag.vertex("rows", Parallelism::Exactly(1), source);
        let sink =
            dag.vertex(&format!("sink({})", mapping.name.name), Parallelism::Exactly(1), sink);
        dag.edge(source, sink, 0, Routing::ToOne);
        // A handful of messages in all.
        let (told, news) = mpsc::unbounded();
        let (awaited, ended) = (told.clone(), told.clone());
        let execution = parts.engine.run(ExecutionRequest {
            dag,
            job_id: 0,
            job_name: Arc::from(QUERY),
            restore: vec![],
            trouble: Arc::new(|_| ()),
            finished: Box::new(move |end| drop(ended.unbounded_send(News::Ended(end)))),
            epoch_interval: None,
            memory_max: None,
            snapshots: Some(Snapshots {
                guarantee: Guarantee::ExactlyOnce,
                forsaken: 0,
                taken: Arc::new(move |_, states| {
                    drop(told.unbounded_send(News::Taken(states.map(drop))));
                }),
                awaited: Arc::new(move || drop(awaited.unbounded_send(News::Awaited))),
                writers: None,
            }),
        })?;
        Ok((feed, Running(execution), news))
    }
}
