//! Who calls the processors: workers, tasklets, queues.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use storage::Grid;

use crate::{Error, Result, dag::Dag, processor::ProcessorSupplier, state::StateChunk};

/// Limits of the engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Cooperative worker threads; at least 1.
    pub worker_count: usize,
    /// Items a queue between two tasklets holds; tests use 1.
    pub queue_capacity: usize,
}

/// The workers of a member; runs executions. Dropping it stops all.
pub struct Engine {
    // owner: engine helper
}

/// What to run.
pub struct ExecutionRequest {
    /// The dag.
    pub dag: Dag,
    /// Job or query id.
    pub job_id: u64,
    /// Job name, or `query`.
    pub job_name: Arc<str>,
    /// State saved by a terminal barrier of an earlier execution of the same SQL, by vertex name.
    pub restore: Vec<(String, Vec<StateChunk>)>,
    /// Called, from a worker, when trouble of a source or sink begins or is over.
    pub trouble: Arc<dyn Fn(Option<String>) + Send + Sync>,
    /// Called once, from a worker, when the execution has ended and freed everything.
    pub finished: Box<dyn FnOnce(ExecutionEnd) + Send>,
}

/// How an execution ended.
#[derive(Debug, Clone)]
pub enum ExecutionEnd {
    /// All sources ended and all rows arrived.
    Completed,
    /// Suspended by a terminal barrier; the state of each vertex that has one.
    Suspended(Vec<(String, Vec<StateChunk>)>),
    /// Cancelled by its owner.
    Cancelled,
    /// A processor failed, or panicked.
    Failed(Error),
}

/// A running execution; dropping it does not stop it.
#[derive(Clone)]
pub struct Execution {
    // owner: engine helper
}

/// Numbers of a vertex instance or edge, for `sys.job_vertices` and `sys.job_edges`.
#[derive(Debug, Clone)]
pub struct VertexStats {
    /// Vertex name.
    pub vertex: String,
    /// `describe()` of its supplier.
    pub description: String,
    /// Instances on this member.
    pub parallelism: usize,
    /// Rows taken from inputs.
    pub rows_in: u64,
    /// Rows emitted.
    pub rows_out: u64,
    /// Newest coalesced watermark, µs; `None` before the first.
    pub watermark: Option<i64>,
}

/// Numbers of an edge.
#[derive(Debug, Clone)]
pub struct EdgeStats {
    /// From.
    pub source: String,
    /// To.
    pub target: String,
    /// `unicast`, `isolated`, `partitioned(1, 2)`, `broadcast`, `to-one`.
    pub routing: String,
    /// Items waiting in all its queues.
    pub queued: u64,
    /// Capacity of all its queues, in items.
    pub capacity: u64,
}

impl Engine {
    /// Starts the workers.
    pub fn start(config: EngineConfig, grid: Arc<Grid>) -> Result<Arc<Self>> {
        let _ = (config, grid);
        unimplemented!("owner: engine helper")
    }

    /// The grid the processors work on.
    pub fn grid(&self) -> &Arc<Grid> {
        unimplemented!("owner: engine helper")
    }

    /// Number of workers.
    pub fn worker_count(&self) -> usize {
        unimplemented!("owner: engine helper")
    }

    /// Validates and starts a dag; the rows flow when this returns.
    pub fn run(&self, request: ExecutionRequest) -> Result<Execution> {
        let _ = request;
        unimplemented!("owner: engine helper")
    }
}

impl Execution {
    /// Stops as soon as every tasklet has returned; `finished` gets `Cancelled`.
    pub fn cancel(&self) {
        unimplemented!("owner: engine helper")
    }

    /// Sends a terminal barrier from all sources; `finished` gets `Suspended`.
    pub fn suspend(&self) {
        unimplemented!("owner: engine helper")
    }

    /// Numbers of its vertices, in dag order.
    pub fn vertex_stats(&self) -> Vec<VertexStats> {
        unimplemented!("owner: engine helper")
    }

    /// Numbers of its edges, in dag order.
    pub fn edge_stats(&self) -> Vec<EdgeStats> {
        unimplemented!("owner: engine helper")
    }
}

/// The receiving end of a client sink: rows of a streaming query on their way to a connection.
/// A full channel pushes back into the dag; dropping this end cancels nothing by itself.
pub struct ClientRows {
    // owner: engine helper
}

impl ClientRows {
    /// The next batch; `None` after the last. Woken through the context's waker.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<RecordBatch>>> {
        let _ = context;
        unimplemented!("owner: engine helper")
    }
}

/// A sink vertex whose rows come out of [`ClientRows`], at most `capacity` batches ahead. Use one
/// instance. Retractions are refused with an internal error: the planner never sends them here.
/// `fail` on the returned closure ends the rows with an error (call it from `finished`).
pub fn client_sink(
    input: SchemaRef,
    capacity: usize,
) -> (Arc<dyn ProcessorSupplier>, ClientRows, ClientEnd) {
    let _ = (input, capacity);
    unimplemented!("owner: engine helper")
}

/// Tells [`ClientRows`] how the execution ended; call from `finished`.
pub struct ClientEnd {
    // owner: engine helper
}

impl ClientEnd {
    /// Ends the rows, with an error if there was one.
    pub fn end(self, end: &ExecutionEnd) {
        let _ = end;
        unimplemented!("owner: engine helper")
    }
}
