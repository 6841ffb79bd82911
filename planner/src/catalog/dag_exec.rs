//! A dag in an ordinary query: a plan node that runs a bounded mapping's source, or a stream that
//! LIMIT ends, on the engine and hands its batches to DataFusion. Dropping the rows cancels it.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef, record_batch::RecordBatchOptions};
use datafusion::{
    common::{Result as DfResult, tree_node::TreeNodeRecursion},
    execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
    },
};
use futures::{Stream, StreamExt};
use runtime::dag::{Dag, Parallelism};

use super::mapping::{MappingProvider, SourceColumns};
use crate::{
    Error, Result, functions::external, lower::StreamParts, plan::RowStream,
    stream_plan::StreamPlan,
};

/// A dag that ends, read as one lane.
pub struct DagExec {
    stream: StreamPlan,
    /// Columns of the answer; the dag may emit one where none is asked for.
    output: SchemaRef,
    properties: Arc<PlanProperties>,
}

struct DagStream {
    rows: RowStream,
    output: SchemaRef,
}

impl DagExec {
    /// Runs `stream` at each execution; `output` are the first of its columns.
    pub fn new(stream: StreamPlan, output: SchemaRef) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&output)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Self { stream, output, properties }
    }

    /// A scan of `projection` of a mapping; refused if it would never end.
    pub fn scan(
        provider: &MappingProvider,
        mut projection: Vec<usize>,
        output: SchemaRef,
        parts: StreamParts,
    ) -> Result<Self> {
        if projection.is_empty() {
            projection.push(0);
        }
        let columns = SourceColumns { projection, ..SourceColumns::default() };
        let (source, _) = provider.source(&columns)?;
        let name = provider.name();
        if !source.is_bounded {
            let message = format!("\"{name}\" never ends and cannot be read as a whole here");
            return Err(Error::unsupported(message));
        }
        let mut dag = Dag::default();
        let parallelism = source.parallelism.map_or(Parallelism::Workers, Parallelism::Exactly);
        let vertex = dag.vertex(&format!("scan({name})"), parallelism, source.supplier);
        Ok(Self::new(StreamPlan::new(vec![], dag, vertex, parts), output))
    }
}

impl fmt::Debug for DagExec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "DagExec({})", self.stream.explain().join("; "))
    }
}

impl DisplayAs for DagExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "DagExec: {}", self.stream.explain().join("; "))
    }
}

impl ExecutionPlan for DagExec {
    fn name(&self) -> &str {
        "DagExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(
        &self,
        _lane: usize,
        _context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let rows = self.stream.clone().start(0).map_err(external)?;
        Ok(Box::pin(DagStream { rows, output: Arc::clone(&self.output) }))
    }
}

impl Stream for DagStream {
    type Item = DfResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let output = Arc::clone(&self.output);
        self.rows.poll_next_unpin(context).map(|next| {
            next.map(|rows| {
                let rows = rows.map_err(external)?;
                let columns = rows.columns()[..output.fields().len()].to_vec();
                let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
                Ok(RecordBatch::try_new_with_options(output, columns, &options)?)
            })
        })
    }
}

impl RecordBatchStream for DagStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }
}
