//! Relations of the system: rows computed at each scan, nothing stored. A table is a name, a
//! schema and a function from what the system knows to records; a column that a record does not
//! mention is NULL.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int16Array,
        Int32Array, Int64Array, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray,
        UInt32Array, new_null_array,
    },
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{SchemaProvider, Session, TableProvider},
    datasource::memory::MemorySourceConfig,
    error::{DataFusionError, Result},
    logical_expr::{Expr, TableType},
    physical_plan::ExecutionPlan,
};
use runtime::job::Jobs;
use storage::{Grid, cluster::control::ControlState};

use crate::{functions::SessionFacts, planner::SessionDirectory};

/// What the system tables tell of.
#[derive(Clone)]
pub struct SystemParts {
    /// Tables, catalog, metrics.
    pub grid: Arc<Grid>,
    /// Jobs and their executions.
    pub jobs: Arc<Jobs>,
    /// Connections.
    pub directory: Arc<dyn SessionDirectory>,
}

/// What one scan looks at.
pub struct Scope<'a> {
    /// The system.
    pub parts: &'a SystemParts,
    /// The control state when the scan began.
    pub state: Arc<ControlState>,
    /// The session that asks, if one does.
    pub facts: Option<&'a SessionFacts>,
}

impl Scope<'_> {
    /// The asking session's user; `tidewater` without one.
    pub fn user(&self) -> String {
        self.facts.map_or_else(|| "tidewater".to_owned(), |facts| facts.user.clone())
    }

    /// The asking session's database; `tidewater` without one.
    pub fn database(&self) -> String {
        self.facts.map_or_else(|| "tidewater".to_owned(), |facts| facts.database.clone())
    }
}

/// One value of a record.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Cell {
    /// NULL.
    #[default]
    Null,
    /// BOOLEAN.
    Bool(bool),
    /// Every whole number, and TIMESTAMPTZ as µs since the epoch.
    Int(i64),
    /// Every float.
    Float(f64),
    /// Every text.
    Text(String),
    /// A list.
    List(Vec<Cell>),
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Cell::Bool(value)
    }
}

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Cell::Int(value)
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Cell::Float(value)
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Cell::Text(value.to_owned())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Cell::Text(value)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Cell::Null, Into::into)
    }
}

impl<T: Into<Cell>> From<Vec<T>> for Cell {
    fn from(values: Vec<T>) -> Self {
        Cell::List(values.into_iter().map(Into::into).collect())
    }
}

/// A row by column name.
pub type Record = Vec<(&'static str, Cell)>;

/// Computes the records of a table.
pub type Records = fn(&Scope<'_>) -> crate::Result<Vec<Record>>;

/// A relation whose rows are computed when it is scanned.
pub struct SystemTable {
    parts: SystemParts,
    schema: SchemaRef,
    records: Records,
}

impl SystemTable {
    /// A table of that schema.
    pub fn new(parts: SystemParts, schema: SchemaRef, records: Records) -> Arc<Self> {
        Arc::new(Self { parts, schema, records })
    }

    fn batch(&self, facts: Option<&SessionFacts>) -> Result<RecordBatch> {
        let state = self.parts.grid.control().state();
        let scope = Scope { parts: &self.parts, state, facts };
        let records =
            (self.records)(&scope).map_err(|error| DataFusionError::External(Box::new(error)))?;
        batch_of(&records, &self.schema)
    }
}

impl fmt::Debug for SystemTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SystemTable").finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let facts = session.config_options().extensions.get::<SessionFacts>();
        let batch = self.batch(facts)?;
        let schema = Arc::clone(&self.schema);
        let source = MemorySourceConfig::try_new_exec(&[vec![batch]], schema, projection.cloned())?;
        Ok(source)
    }
}

/// A schema of system tables.
#[derive(Debug)]
pub struct SystemSchema {
    tables: BTreeMap<String, Arc<SystemTable>>,
}

impl SystemSchema {
    /// A schema of these tables.
    pub fn new(tables: impl IntoIterator<Item = (String, Arc<SystemTable>)>) -> Arc<Self> {
        Arc::new(Self { tables: tables.into_iter().collect() })
    }
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let table = self.tables.get(name).map(Arc::clone);
        Ok(table.map(|table| table as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}

fn batch_of(records: &[Record], schema: &SchemaRef) -> Result<RecordBatch> {
    let columns: Result<Vec<ArrayRef>> = schema
        .fields()
        .iter()
        .map(|field| {
            let cell_of = |record: &Record| {
                let found = record.iter().find(|(name, _)| name == field.name());
                found.map_or(Cell::Null, |(_, cell)| cell.clone())
            };
            let cells: Vec<Cell> = records.iter().map(cell_of).collect();
            array_of(&cells, field)
        })
        .collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(records.len()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns?, &options)?)
}

fn array_of(cells: &[Cell], field: &Field) -> Result<ArrayRef> {
    let ints = || cells.iter().map(int);
    Ok(match field.data_type() {
        DataType::Boolean => Arc::new(
            cells
                .iter()
                .map(|cell| if let Cell::Bool(value) = cell { Some(*value) } else { None })
                .collect::<BooleanArray>(),
        ),
        DataType::Int16 => Arc::new(ints().map(|v| v.map(|v| v as i16)).collect::<Int16Array>()),
        DataType::Int32 => Arc::new(ints().map(|v| v.map(|v| v as i32)).collect::<Int32Array>()),
        DataType::Int64 => Arc::new(ints().collect::<Int64Array>()),
        DataType::UInt32 => Arc::new(ints().map(|v| v.map(|v| v as u32)).collect::<UInt32Array>()),
        DataType::Float32 => Arc::new(
            cells.iter().map(|cell| float(cell).map(|v| v as f32)).collect::<Float32Array>(),
        ),
        DataType::Float64 => Arc::new(cells.iter().map(float).collect::<Float64Array>()),
        DataType::Decimal128(..) => Arc::new(
            ints()
                .map(|value| value.map(i128::from))
                .collect::<Decimal128Array>()
                .with_data_type(field.data_type().clone()),
        ),
        DataType::Timestamp(..) => Arc::new(
            ints().collect::<TimestampMicrosecondArray>().with_data_type(field.data_type().clone()),
        ),
        DataType::Utf8 => Arc::new(
            cells
                .iter()
                .map(|cell| if let Cell::Text(text) = cell { Some(text.as_str()) } else { None })
                .collect::<StringArray>(),
        ),
        DataType::List(element) => list_of(cells, element)?,
        other => new_null_array(other, cells.len()),
    })
}

fn list_of(cells: &[Cell], element: &Arc<Field>) -> Result<ArrayRef> {
    let items = |cell: &Cell| if let Cell::List(items) = cell { items.clone() } else { Vec::new() };
    let lists: Vec<Vec<Cell>> = cells.iter().map(items).collect();
    let lengths = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
    let values = array_of(&lists.concat(), element)?;
    let is_valid = cells.iter().map(|cell| matches!(cell, Cell::List(_))).collect::<Vec<_>>();
    Ok(Arc::new(ListArray::new(Arc::clone(element), lengths, values, Some(is_valid.into()))))
}

fn int(cell: &Cell) -> Option<i64> {
    if let Cell::Int(value) = cell { Some(*value) } else { None }
}

fn float(cell: &Cell) -> Option<f64> {
    if let Cell::Float(value) = cell { Some(*value) } else { None }
}
