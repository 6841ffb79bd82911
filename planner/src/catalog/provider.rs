//! The catalog as DataFusion sees it: schemas, and tables of the grid as table providers.
//! A scan takes its rows from the statement's one [`StatementView`], so that every table of a
//! query is read at the same stamp.

use std::{fmt, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session as DataFusionSession, TableProvider},
    common::{DataFusionError, Result, Statistics, stats::Precision, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{Expr, TableType},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        execution_plan::{Boundedness, EmissionType, SchedulingType},
        stream::RecordBatchStreamAdapter,
    },
};
use parking_lot::Mutex;
use storage::{
    Table,
    cluster::control::{ObjectId, TableRecord},
    table::{ReadView, ScanLane},
};

use super::lane_stream::LaneStream;

/// What one execution of a statement sees, put into the session configuration under which its
/// physical plan runs.
#[derive(Debug)]
pub struct StatementView {
    /// One stamp for all tables.
    pub view: ReadView,
    /// Rows that RETURNING reads.
    pub returned: Vec<RecordBatch>,
}

/// A table of the grid as a relation.
#[derive(Debug)]
pub struct GridTable {
    table: Arc<Table>,
    /// The columns that are shown: all, or all but the hidden key.
    schema: SchemaRef,
}

/// Put into the session configuration while a transaction block has written: the committed row
/// count then is not what the block's own statements see.
#[derive(Debug)]
pub struct OpenBlock;

impl GridTable {
    /// The table as `SELECT *` shows it.
    pub fn visible(table: Arc<Table>) -> Self {
        let schema = visible_schema(table.record());
        Self { table, schema }
    }

    /// The table with its hidden key, for UPDATE and DELETE.
    pub fn whole(table: Arc<Table>) -> Self {
        let schema = Arc::clone(table.schema());
        Self { table, schema }
    }

    /// The table behind.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

/// The columns users see.
pub fn visible_schema(record: &TableRecord) -> SchemaRef {
    match record.has_hidden_key {
        false => Arc::clone(&record.schema),
        true => {
            let fields = record.schema.fields();
            Arc::new(Schema::new(fields[..fields.len() - 1].to_vec()))
        }
    }
}

#[async_trait]
impl TableProvider for GridTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn DataFusionSession,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let lane_count = state.config().target_partitions().max(1);
        Ok(Arc::new(GridScan::new(
            Arc::clone(&self.table),
            columns,
            lane_count,
            state.config().get_extension::<OpenBlock>().is_none(),
        )?))
    }
}

/// Reads a table: one DataFusion partition for each lane.
#[derive(Debug)]
struct GridScan {
    table: Arc<Table>,
    columns: Vec<usize>,
    is_count_exact: bool,
    properties: Arc<PlanProperties>,
    /// Lanes not yet taken; captured for all lanes at once by the first that executes.
    lanes: Mutex<Lanes>,
}

/// Lanes of one capture.
#[derive(Default)]
struct Lanes(Vec<Option<ScanLane>>);

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lanes", self.0.len())
    }
}

impl GridScan {
    fn new(
        table: Arc<Table>,
        columns: Vec<usize>,
        lane_count: usize,
        is_count_exact: bool,
    ) -> Result<Self> {
        let schema = Arc::new(table.schema().project(&columns)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(lane_count),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let properties = Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative));
        Ok(Self { table, columns, is_count_exact, properties, lanes: Mutex::default() })
    }

    fn lane_count(&self) -> usize {
        self.properties.partitioning.partition_count()
    }

    fn take_lane(&self, lane: usize, context: &TaskContext) -> Result<Option<ScanLane>> {
        let mut lanes = self.lanes.lock();
        let is_taken = lanes.0.get(lane).is_some_and(Option::is_none);
        if lanes.0.is_empty() || is_taken {
            let statement =
                context.session_config().get_extension::<StatementView>().ok_or_else(|| {
                    DataFusionError::Internal("a table is scanned outside of a statement".into())
                })?;
            let captured = self
                .table
                .scan(&statement.view, Some(&self.columns), self.lane_count())
                .map_err(external)?;
            lanes.0 = captured.into_iter().map(Some).collect();
            lanes.0.resize_with(self.lane_count(), || Some(Box::new(std::iter::empty())));
        }
        Ok(lanes.0.get_mut(lane).and_then(Option::take))
    }
}

/// An error of the grid on its way through DataFusion.
pub fn external(error: storage::Error) -> DataFusionError {
    DataFusionError::External(Box::new(crate::Error::from(error)))
}

impl DisplayAs for GridScan {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.properties.eq_properties.schema();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(
            f,
            "GridScan: table={}, columns=[{}], lanes={}",
            self.table.record().name.name,
            names.join(", "),
            self.lane_count()
        )
    }
}

impl ExecutionPlan for GridScan {
    fn name(&self) -> &str {
        "GridScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(
            Arc::clone(&self.table),
            self.columns.clone(),
            self.lane_count(),
            self.is_count_exact,
        )?))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let lane = self.take_lane(partition, &context)?;
        let lane = lane.unwrap_or_else(|| Box::new(std::iter::empty()));
        let schema = Arc::clone(self.properties.eq_properties.schema());
        Ok(Box::pin(LaneStream::new(schema, lane)))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(self.properties.eq_properties.schema());
        if partition.is_none() {
            let stats = self.table.stats();
            let rows = stats.rows as usize;
            // Provisional and durable readers may see different rows of a job.
            statistics.num_rows = match self.is_count_exact && stats.rows == stats.rows_provisional
            {
                true => Precision::Exact(rows),
                false => Precision::Inexact(rows),
            };
        }
        Ok(Arc::new(statistics))
    }
}

/// The rows that a statement has just written, as RETURNING reads them.
#[derive(Debug)]
pub struct ReturnedRows {
    table: ObjectId,
    schema: SchemaRef,
}

impl ReturnedRows {
    /// Rows of a table's visible columns.
    pub fn new(record: &TableRecord) -> Self {
        Self { table: record.id, schema: visible_schema(record) }
    }

    /// The table they were written to.
    pub fn table(&self) -> ObjectId {
        self.table
    }
}

#[async_trait]
impl TableProvider for ReturnedRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _state: &dyn DataFusionSession,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let schema = Arc::new(self.schema.project(&columns)?);
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Ok(Arc::new(ReturnedScan { columns, properties }))
    }
}

/// Reads the statement's returned rows.
#[derive(Debug)]
struct ReturnedScan {
    columns: Vec<usize>,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for ReturnedScan {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReturnedScan")
    }
}

impl ExecutionPlan for ReturnedScan {
    fn name(&self) -> &str {
        "ReturnedScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(
        &self,
        _partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let statement =
            context.session_config().get_extension::<StatementView>().ok_or_else(|| {
                DataFusionError::Internal("rows are returned outside of a statement".into())
            })?;
        let batches: Vec<_> = statement
            .returned
            .iter()
            .map(|batch| batch.project(&self.columns).map_err(DataFusionError::from))
            .collect();
        let schema = Arc::clone(self.properties.eq_properties.schema());
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches))))
    }
}
