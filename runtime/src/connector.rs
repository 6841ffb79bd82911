//! The connector seam: what a `CREATE MAPPING … TYPE x` can do. Absence is `None`.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::SchemaRef;
use storage::{Grid, cluster::control::MappingRecord};

use crate::{Result, processor::ProcessorSupplier, time::EventTimePolicy};

/// Code that makes sources and sinks for one kind of external system.
pub trait Connector: Send + Sync {
    /// TYPE as users write it; compared without case.
    fn name(&self) -> &'static str;

    /// Checks options and columns of a mapping without contacting the system, and infers the
    /// columns where the kind of system fixes them (`Generator`; Kafka with `raw` or `json`).
    fn resolve(&self, request: &MappingRequest) -> Result<SchemaRef>;

    /// A source over the mapping; `None` if it cannot be read.
    fn source(&self, request: &SourceRequest) -> Result<Option<Source>>;

    /// A sink into the mapping; `None` if it cannot be written. `input` is the schema of the rows.
    fn sink(
        &self,
        mapping: &MappingRecord,
        input: &SchemaRef,
    ) -> Result<Option<Arc<dyn ProcessorSupplier>>>;
}

/// A mapping about to be created.
#[derive(Debug, Clone)]
pub struct MappingRequest {
    /// EXTERNAL NAME, or the mapping's name.
    pub external_name: String,
    /// OPTIONS.
    pub options: BTreeMap<String, String>,
    /// Declared columns, or `None` to infer them.
    pub schema: Option<SchemaRef>,
    /// EXTERNAL NAME of each declared column.
    pub external_columns: Vec<Option<String>>,
}

/// A source about to be made.
#[derive(Clone)]
pub struct SourceRequest {
    /// The mapping.
    pub mapping: Arc<MappingRecord>,
    /// Columns to emit, positions in the mapping's schema, in this order.
    pub projection: Vec<usize>,
    /// For an emitted STRUCT column (its position in `projection`): positions of the children the
    /// query reads. Others may come out as NULL. A column without an entry is wanted whole.
    pub struct_fields: BTreeMap<usize, Vec<usize>>,
    /// Event time of the emitted rows, if the query needs it (column position is that of the
    /// emitted rows).
    pub event_time: Option<EventTimePolicy>,
    /// The grid.
    pub grid: Arc<Grid>,
}

/// A source.
#[derive(Clone)]
pub struct Source {
    /// Makes its processors; emits exactly the projected columns.
    pub supplier: Arc<dyn ProcessorSupplier>,
    /// Whether it ends by itself.
    pub is_bounded: bool,
    /// Instances worth having; `None`: one for each worker.
    pub parallelism: Option<usize>,
}

/// All connectors by name.
#[derive(Clone, Default)]
pub struct Connectors(Vec<Arc<dyn Connector>>);

impl Connectors {
    /// Adds one.
    pub fn register(&mut self, connector: Arc<dyn Connector>) {
        self.0.push(connector);
    }

    /// The one of that name, whatever its case.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Connector>> {
        self.0.iter().find(|connector| connector.name().eq_ignore_ascii_case(name))
    }

    /// Names of all, in order of registration.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|connector| connector.name()).collect()
    }
}
