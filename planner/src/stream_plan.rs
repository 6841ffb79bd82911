//! `StreamPlan`: an unbounded query ready to run: a dag that ends in a client sink. Its rows are
//! pulled by the connection; dropping them cancels the dag, so a stream ends with its session.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arrow::array::RecordBatch;
use futures::Stream;
use runtime::{
    dag::{Dag, Parallelism, Routing, VertexId},
    execution::{ClientRows, Execution, ExecutionRequest, QUERY, client_sink},
};

use crate::{OutputColumn, Result, explain, lower::StreamParts, plan::RowStream};

/// Batches that may wait for the client before the sink pushes back: enough to keep a connection
/// busy, few enough that rows are not old when they are sent.
const CLIENT_BATCHES_MAX: usize = 16;

/// An unbounded query: a dag that ends in a client sink.
#[derive(Clone)]
pub struct StreamPlan {
    /// Result columns.
    pub columns: Vec<OutputColumn>,
    dag: Dag,
    last: VertexId,
    parts: StreamParts,
}

/// Rows of a running dag; dropping them cancels it.
struct ClientStream {
    rows: ClientRows,
    execution: Execution,
}

impl StreamPlan {
    /// A plan whose rows come out of vertex `last`.
    pub fn new(columns: Vec<OutputColumn>, dag: Dag, last: VertexId, parts: StreamParts) -> Self {
        Self { columns, dag, last, parts }
    }

    /// Starts the dag under the given query id; dropping the stream cancels it.
    pub fn start(self, query_id: u64) -> Result<RowStream> {
        run(self.dag, self.last, &self.parts, query_id)
    }

    /// The dag as EXPLAIN shows it, one line a row.
    pub fn explain(&self) -> Vec<String> {
        let mut dag = self.dag.clone();
        let schema = dag.vertices[self.last.0].supplier.schema();
        let (sink, _, _) = client_sink(schema, CLIENT_BATCHES_MAX);
        let sink = dag.vertex("client", Parallelism::Exactly(1), sink);
        dag.edge(self.last, sink, 0, Routing::ToOne);
        explain::dag_text(&dag)
    }
}

/// Runs `dag` with a client sink behind `last`.
pub fn run(mut dag: Dag, last: VertexId, parts: &StreamParts, query_id: u64) -> Result<RowStream> {
    let schema = dag.vertices[last.0].supplier.schema();
    let (sink, rows, end) = client_sink(schema, CLIENT_BATCHES_MAX);
    let sink = dag.vertex("client", Parallelism::Exactly(1), sink);
    dag.edge(last, sink, 0, Routing::ToOne);
    let execution = parts.engine.run(ExecutionRequest {
        dag,
        job_id: query_id,
        job_name: Arc::from(QUERY),
        restore: vec![],
        trouble: Arc::new(move |trouble| {
            if let Some(trouble) = trouble {
                let message = trouble.message;
                tracing::warn!(query_id, message, "streaming query survives trouble");
            }
        }),
        finished: Box::new(move |ended| end.end(&ended)),
        epoch_interval: None,
        memory_max: None,
        snapshots: None,
    })?;
    Ok(Box::pin(ClientStream { rows, execution }))
}

impl Stream for ClientStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.rows.poll_next(context).map(|next| next.map(|rows| rows.map_err(Into::into)))
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        self.execution.cancel();
    }
}
