//! Window functions over bounded input: the plan nodes of `window` as DataFusion runs them.
//! The rows come from the same code as in a dag, so the two ways cannot disagree.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    common::{Result as DfResult, internal_err, tree_node::TreeNodeRecursion},
    execution::{
        RecordBatchStream, SendableRecordBatchStream, SessionState, TaskContext,
        context::QueryPlanner,
    },
    logical_expr::{
        LogicalPlan, UserDefinedLogicalNode, physical_planning_context::PhysicalPlanningContext,
    },
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
        PlanProperties, execution_plan::EmissionType,
    },
    physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner},
};
use futures::{Stream, StreamExt, ready};
use runtime::processors::{WindowRows, WindowRowsSpec};

use super::{
    limited::LimitedStream,
    window::{ImposeOrderNode, WindowNode},
};
use crate::{catalog::dag_exec::DagExec, lower::StreamParts};

/// DataFusion's physical planner, extended by the window functions.
#[derive(Debug)]
pub struct WindowQueryPlanner {
    parts: StreamParts,
}

/// Plans the nodes of `window` and `limited`.
struct WindowExtensionPlanner {
    parts: StreamParts,
}

/// Repeats the rows of its input by window.
#[derive(Debug)]
struct WindowRowsExec {
    input: Arc<dyn ExecutionPlan>,
    spec: WindowRowsSpec,
    properties: Arc<PlanProperties>,
}

struct WindowRowsStream {
    spec: WindowRowsSpec,
    schema: SchemaRef,
    input: SendableRecordBatchStream,
    /// The batch being repeated and the first row still to do.
    current: Option<(RecordBatch, usize)>,
}

#[async_trait]
impl QueryPlanner for WindowQueryPlanner {
    async fn create_physical_plan(
        &self,
        logical_plan: &LogicalPlan,
        session: &dyn Session,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let logical_plan = LimitedStream::detach(logical_plan.clone())?;
        let extension = WindowExtensionPlanner { parts: self.parts.clone() };
        DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(extension)])
            .create_physical_plan(&logical_plan, session)
            .await
    }
}

#[async_trait]
impl ExtensionPlanner for WindowExtensionPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        _planning_ctx: &PhysicalPlanningContext,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        if let Some(limited) = node.as_any().downcast_ref::<LimitedStream>() {
            let Some(state) = session.as_any().downcast_ref::<SessionState>() else {
                return internal_err!("a stream is planned outside of a session");
            };
            let stream = limited.stream(state, &self.parts)?;
            return Ok(Some(Arc::new(DagExec::new(stream, limited.arrow_schema()))));
        }
        let [input] = physical_inputs else { return Ok(None) };
        // The rows of a bounded relation have no order of arrival: none of them is late.
        if node.as_any().is::<ImposeOrderNode>() {
            return Ok(Some(Arc::clone(input)));
        }
        let Some(window) = node.as_any().downcast_ref::<WindowNode>() else { return Ok(None) };
        let spec = WindowRowsSpec {
            input: input.schema(),
            time_column: window.time_index()?,
            size: window.shape.size,
            slide: window.shape.slide,
            offset: window.shape.offset,
        };
        Ok(Some(Arc::new(WindowRowsExec::new(Arc::clone(input), spec))))
    }
}

impl WindowQueryPlanner {
    /// A planner whose streams run on `parts`.
    pub fn new(parts: StreamParts) -> Self {
        Self { parts }
    }
}

impl WindowRowsExec {
    fn new(input: Arc<dyn ExecutionPlan>, spec: WindowRowsSpec) -> Self {
        let lane_count = input.output_partitioning().partition_count();
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(spec.output()),
            Partitioning::UnknownPartitioning(lane_count),
            EmissionType::Incremental,
            input.boundedness(),
        ));
        Self { input, spec, properties }
    }
}

impl DisplayAs for WindowRowsExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let WindowRowsSpec { size, slide, offset, .. } = &self.spec;
        write!(f, "WindowRowsExec: size={size}µs, slide={slide}µs, offset={offset}µs")
    }
}

impl ExecutionPlan for WindowRowsExec {
    fn name(&self) -> &str {
        "WindowRowsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(input) => Ok(Arc::new(Self::new(input, self.spec.clone()))),
            None => internal_err!("WindowRowsExec has one input"),
        }
    }

    fn execute(
        &self,
        lane: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        Ok(Box::pin(WindowRowsStream {
            spec: self.spec.clone(),
            schema: self.schema(),
            input: self.input.execute(lane, context)?,
            current: None,
        }))
    }
}

impl Stream for WindowRowsStream {
    type Item = DfResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some((batch, first_row)) = self.current.take() {
                match self.repeat(batch, first_row) {
                    Ok(Some(rows)) => return Poll::Ready(Some(Ok(rows))),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Some(Err(super::external(error.into())))),
                }
            }
            match ready!(self.input.poll_next_unpin(context)) {
                Some(Ok(batch)) => self.current = Some((batch, 0)),
                end => return Poll::Ready(end),
            }
        }
    }
}

impl WindowRowsStream {
    /// The next rows of `batch`, which stays current unless it is done.
    fn repeat(
        &mut self,
        batch: RecordBatch,
        first_row: usize,
    ) -> Result<Option<RecordBatch>, runtime::Error> {
        let mut rows = WindowRows::new(&self.spec, &batch, first_row)?;
        let Some((output, _)) = rows.next_batch()? else { return Ok(None) };
        let next_row = rows.next_row();
        self.current = Some((batch, next_row));
        Ok(Some(output))
    }
}

impl RecordBatchStream for WindowRowsStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
