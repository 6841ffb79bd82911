//! `MappingProvider`: a mapping, or a generating function, as DataFusion sees it: a schema, and
//! whether it ever ends. A dag gets a source vertex from it; a bounded query gets a plan node that
//! runs such a source on the engine. It contacts no external system by itself.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::Result as DfResult,
    logical_expr::{Expr, TableType},
    physical_plan::ExecutionPlan,
};
use runtime::{
    connector::{Source, SourceRequest},
    connectors::{
        generator::{series_source, stream_source},
        options::parse_duration,
    },
    time::{EventTimePolicy, IDLE_TIMEOUT_DEFAULT},
};
use storage::cluster::control::{MappingRecord, ObjectId};

use super::dag_exec::DagExec;
use crate::{Error, Result, functions::external, lower::StreamParts};

/// Where the rows come from.
#[derive(Debug, Clone)]
pub enum SourceKind {
    /// A mapping.
    Mapping(Arc<MappingRecord>),
    /// `generate_stream(rate)`.
    Stream {
        /// Rows a second.
        rate: i64,
    },
    /// `generate_series(start, stop, step)` of integers.
    Series {
        /// First value.
        start: i64,
        /// Bound, included.
        stop: i64,
        /// Distance, not zero.
        step: i64,
    },
}

/// A mapping or generating function as DataFusion sees it.
#[derive(Debug)]
pub struct MappingProvider {
    kind: SourceKind,
    schema: SchemaRef,
    parts: StreamParts,
}

/// Columns a source is asked for.
#[derive(Debug, Clone, Default)]
pub struct SourceColumns {
    /// Positions in the mapping's schema.
    pub projection: Vec<usize>,
    /// Children wanted of a STRUCT column, by its position in `projection`; without an entry all.
    pub struct_fields: BTreeMap<usize, Vec<usize>>,
    /// Whether the query needs event time.
    pub wants_event_time: bool,
}

impl MappingProvider {
    /// The provider of a mapping.
    #[expect(clippy::new_ret_no_self, reason = "callers only need it as a relation")]
    pub fn new(record: Arc<MappingRecord>, parts: StreamParts) -> Arc<dyn TableProvider> {
        Self::of(SourceKind::Mapping(record), parts)
    }

    /// The provider of any source.
    pub fn of(kind: SourceKind, parts: StreamParts) -> Arc<dyn TableProvider> {
        let schema = match &kind {
            SourceKind::Mapping(record) => Arc::clone(&record.schema),
            SourceKind::Stream { .. } | SourceKind::Series { .. } => {
                Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]))
            }
        };
        Arc::new(Self { kind, schema, parts })
    }

    /// Its mapping's id; `None` for a generating function.
    pub fn mapping(&self) -> Option<ObjectId> {
        match &self.kind {
            SourceKind::Mapping(record) => Some(record.id),
            SourceKind::Stream { .. } | SourceKind::Series { .. } => None,
        }
    }

    /// What it is in a plan: `trades`, `generate_stream(10)`.
    pub fn name(&self) -> String {
        match &self.kind {
            SourceKind::Mapping(record) => record.name.name.clone(),
            SourceKind::Stream { .. } => "generate_stream".to_owned(),
            SourceKind::Series { .. } => "generate_series".to_owned(),
        }
    }

    /// Position of the time column its mapping declares, with the policy for it at column 0.
    pub fn event_time(&self) -> Result<Option<EventTimePolicy>> {
        let SourceKind::Mapping(record) = &self.kind else { return Ok(None) };
        let Some((time_column, lag)) = record.watermark else { return Ok(None) };
        let (idle_timeout, max_future) = time_options(&record.options)?;
        Ok(Some(EventTimePolicy { time_column, lag, idle_timeout, max_future }))
    }

    /// A source of these columns, and the position of the time column in what it emits.
    pub fn source(&self, columns: &SourceColumns) -> Result<(Source, Option<usize>)> {
        let record = match &self.kind {
            SourceKind::Stream { rate } => return Ok((stream_source(*rate)?, None)),
            SourceKind::Series { start, stop, step } => {
                return Ok((series_source(*start, *stop, *step)?, None));
            }
            SourceKind::Mapping(record) => record,
        };
        let event_time =
            self.event_time()?.filter(|_| columns.wants_event_time).and_then(|policy| {
                let position = columns.projection.iter().position(|c| *c == policy.time_column)?;
                Some(EventTimePolicy { time_column: position, ..policy })
            });
        let time_column = event_time.as_ref().map(|policy| policy.time_column);
        let Some(connector) = self.parts.connectors.get(&record.connector) else {
            let message = format!("connector \"{}\" does not exist", record.connector);
            return Err(Error::new("42704", message));
        };
        let source = connector.source(&SourceRequest {
            mapping: Arc::clone(record),
            projection: columns.projection.clone(),
            struct_fields: columns.struct_fields.clone(),
            event_time,
            grid: Arc::clone(&self.parts.grid),
        })?;
        match source {
            Some(source) => Ok((source, time_column)),
            None => {
                let name = &record.name.name;
                let message = format!("cannot read from mapping \"{name}\"");
                let detail = format!("Mappings of type {} can only be written.", connector.name());
                Err(Error::new("42809", message).with_detail(detail))
            }
        }
    }

    /// Whether reading it never ends.
    pub fn is_unbounded(&self) -> Result<bool> {
        match self.kind {
            SourceKind::Stream { .. } => return Ok(true),
            SourceKind::Series { .. } => return Ok(false),
            SourceKind::Mapping(_) => {}
        }
        let columns = SourceColumns { projection: vec![0], ..SourceColumns::default() };
        Ok(!self.source(&columns)?.0.is_bounded)
    }
}

/// Checks the options of a mapping that are about time: `idle_timeout`, `max_future`, `late_rows`.
pub fn check_time_options(options: &BTreeMap<String, String>) -> Result<()> {
    time_options(options)?;
    match options.get("late_rows").map(String::as_str) {
        None | Some("drop") => Ok(()),
        Some(other) => {
            let message = format!("late_rows = '{other}' is not supported");
            Err(Error::unsupported(message).with_hint("Late rows can only be dropped: 'drop'."))
        }
    }
}

/// `(idle_timeout, max_future)`, µs.
fn time_options(options: &BTreeMap<String, String>) -> Result<(i64, Option<i64>)> {
    let duration = |name: &str| match options.get(name) {
        None => Ok(None),
        Some(text) => match parse_duration(text) {
            Some(micros) if micros > 0 => Ok(Some(micros)),
            _ => {
                let message = format!("invalid value for option \"{name}\": \"{text}\"");
                let hint = "Give a length of time, as in '5 s' or '10 ms'.";
                Err(Error::new("22023", message).with_hint(hint))
            }
        },
    };
    Ok((duration("idle_timeout")?.unwrap_or(IDLE_TIMEOUT_DEFAULT), duration("max_future")?))
}

#[async_trait]
impl TableProvider for MappingProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.schema.fields().len()).collect();
        let projection: Vec<usize> = projection.cloned().unwrap_or_else(all);
        let output = Arc::new(self.schema.project(&projection)?);
        let scan = DagExec::scan(self, projection, output, self.parts.clone());
        Ok(Arc::new(scan.map_err(external)?))
    }
}

impl fmt::Display for MappingProvider {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.name())
    }
}
