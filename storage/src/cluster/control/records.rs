//! The rows of the control state: what is remembered of each table, mapping, view and job.
//! Columns carry their declared SQL type as opaque text; storage never reads it.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

/// Identity of a catalog object or job; never reused, also not after a drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId(pub u64);

/// Schema and name, folded as SQL folds them. Tables, mappings and views share one name space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    /// `public` unless said otherwise.
    pub schema: String,
    /// The name alone.
    pub name: String,
}

/// One column as declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnRecord {
    /// Column name.
    pub name: String,
    /// The declared type in SQL's words (`numeric(10,2)`, `varchar(20)`), for the planner.
    pub sql_type: String,
    /// NOT NULL, or part of the key.
    pub is_not_null: bool,
    /// DEFAULT expression as SQL text.
    pub default_sql: Option<String>,
    /// EXTERNAL NAME of a mapping's column.
    pub external_name: Option<String>,
}

/// A table.
#[derive(Debug, Clone)]
pub struct TableRecord {
    /// Identity.
    pub id: ObjectId,
    /// Name.
    pub name: ObjectName,
    /// Arrow schema of all columns, the hidden `_row_id` (BIGINT, last) of a keyless table included.
    pub schema: SchemaRef,
    /// Positions of the key columns, in key order; the hidden column's for a keyless table.
    pub key: Vec<usize>,
    /// Whether the last column is the hidden `_row_id`.
    pub has_hidden_key: bool,
    /// Columns as declared, parallel to the visible part of `schema`.
    pub columns: Vec<ColumnRecord>,
    /// WITH options as given, validated by the planner.
    pub options: BTreeMap<String, String>,
}

/// A mapping: a name bound to an external source or sink.
#[derive(Debug, Clone)]
pub struct MappingRecord {
    /// Identity.
    pub id: ObjectId,
    /// Name.
    pub name: ObjectName,
    /// EXTERNAL NAME, or the name.
    pub external_name: String,
    /// TYPE, as the connector spells it (`Kafka`).
    pub connector: String,
    /// OPTIONS.
    pub options: BTreeMap<String, String>,
    /// Arrow schema of the columns.
    pub schema: SchemaRef,
    /// Columns as declared.
    pub columns: Vec<ColumnRecord>,
    /// `WATERMARK FOR column AS column - lag`: column position and lag in µs.
    pub watermark: Option<(usize, i64)>,
}

/// A view: a name for a query.
#[derive(Debug, Clone)]
pub struct ViewRecord {
    /// Identity.
    pub id: ObjectId,
    /// Name.
    pub name: ObjectName,
    /// The query's SQL.
    pub sql: String,
    /// Output column names and types when it was created.
    pub columns: Vec<ColumnRecord>,
    /// Arrow schema when it was created.
    pub schema: SchemaRef,
}

/// Where a job is in its life; the eight words users see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JobStatus {
    /// Waits to be started by the coordinator.
    NotRunning,
    /// Its processors are being built; ends by itself.
    Starting,
    /// Running; ends by completion, error, suspend or drop.
    Running,
    /// Stopped with its state kept; waits for RESUME or DROP.
    Suspended,
    /// Suspending with an exported snapshot; ends by itself.
    SuspendedExportingSnapshot,
    /// Its processors are closing; ends by itself.
    Completing,
    /// Ended by an error; terminal.
    Failed,
    /// Ended because its input ended; terminal.
    Completed,
}

/// A job as the control state remembers it; what its execution does now is the runtime's to say.
#[derive(Debug, Clone)]
pub struct JobRecord {
    /// Identity.
    pub id: ObjectId,
    /// Name, unique among jobs.
    pub name: String,
    /// The whole CREATE JOB text; planned again at each start.
    pub sql: String,
    /// OPTIONS.
    pub options: BTreeMap<String, String>,
    /// Session settings the text was written under (`timezone`, `search_path`).
    pub settings: BTreeMap<String, String>,
    /// Status.
    pub status: JobStatus,
    /// When it was created, µs since the epoch.
    pub created_at: i64,
    /// When its present execution started, µs since the epoch.
    pub started_at: Option<i64>,
    /// How often it was started again.
    pub restarts: u64,
    /// The error that ended it, or the last trouble it survived.
    pub last_error: Option<String>,
}

impl JobStatus {
    /// The word in `sys.jobs`.
    pub fn word(self) -> &'static str {
        match self {
            JobStatus::NotRunning => "NOT_RUNNING",
            JobStatus::Starting => "STARTING",
            JobStatus::Running => "RUNNING",
            JobStatus::Suspended => "SUSPENDED",
            JobStatus::SuspendedExportingSnapshot => "SUSPENDED_EXPORTING_SNAPSHOT",
            JobStatus::Completing => "COMPLETING",
            JobStatus::Failed => "FAILED",
            JobStatus::Completed => "COMPLETED",
        }
    }

    /// Whether nothing will ever happen to the job again.
    pub fn is_terminal(self) -> bool {
        matches!(self, JobStatus::Failed | JobStatus::Completed)
    }
}

impl ObjectName {
    /// A name in `public`.
    pub fn public(name: impl Into<String>) -> Self {
        Self { schema: "public".to_owned(), name: name.into() }
    }
}
