//! The rows of the control state: what is remembered of each table, mapping, view and job.
//! Columns carry their declared SQL type as opaque text; storage never reads it.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::snapshots::JobSnapshots;

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

/// Name of the hidden key column of a table without a primary key.
pub const HIDDEN_KEY: &str = "_row_id";

/// A table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TableRecord {
    /// Identity.
    pub id: ObjectId,
    /// Name.
    pub name: ObjectName,
    /// Arrow schema of all columns, the hidden `_row_id` (BIGINT, last) of a keyless table included.
    #[serde(with = "crate::datum::schema")]
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

/// What an acknowledged write to a table survives, where there is a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The process, and the machine.
    #[default]
    Fsync,
    /// The same, after 100 ms.
    Relaxed,
    /// Neither: after a restart the table is there, and empty.
    Memory,
}

/// A mapping: a name bound to an external source or sink.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    #[serde(with = "crate::datum::schema")]
    pub schema: SchemaRef,
    /// Columns as declared.
    pub columns: Vec<ColumnRecord>,
    /// `WATERMARK FOR column AS column - lag`: column position and lag in µs.
    pub watermark: Option<(usize, i64)>,
}

/// A view: a name for a query.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    #[serde(with = "crate::datum::schema")]
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
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    pub last_error: Option<JobError>,
    /// Identity of the table that holds the manifests of its snapshots; of no relation.
    pub snapshot_table: ObjectId,
    /// Its snapshots.
    pub snapshots: JobSnapshots,
}

/// Why a job failed, or what it survives at present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// SQLSTATE, five characters.
    pub code: String,
    /// One line for a reader.
    pub message: String,
}

impl JobError {
    /// An error as a job's record keeps it.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

impl JobRecord {
    /// The first of the jobs that went on from each other, by exported snapshots, up to this one.
    pub fn root(&self) -> ObjectId {
        self.snapshots.root.unwrap_or(self.id)
    }
}

/// Identity of the table of a job's manifests: the id that is drawn right after the job's own.
pub fn snapshot_table(job: ObjectId) -> ObjectId {
    ObjectId(job.0 + 1)
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

    /// Whether the life cycle has an arrow from here to `next`. FAILED is reached from every state
    /// that is not terminal: by an error, or by a cancel.
    ///
    /// ```text
    /// NOT_RUNNING ─→ STARTING ─→ RUNNING ─→ COMPLETING ─→ COMPLETED
    ///      ↑ ↑ ↖────────┘ │      │   │
    ///      │ └────────────┼──────┘   │
    ///      └── SUSPENDED ←┴──────────┘    SUSPENDED ⇄ SUSPENDED_EXPORTING_SNAPSHOT
    /// ```
    pub fn may_become(self, next: JobStatus) -> bool {
        use JobStatus::{
            Completed, Completing, Failed, NotRunning, Running, Starting, Suspended,
            SuspendedExportingSnapshot,
        };
        match self {
            NotRunning => matches!(next, Starting | Suspended | Failed),
            Starting => matches!(next, Running | NotRunning | Suspended | Failed),
            Running => {
                matches!(next, NotRunning | Suspended | Completing | Completed | Failed)
            }
            Suspended => matches!(next, NotRunning | SuspendedExportingSnapshot | Failed),
            SuspendedExportingSnapshot => matches!(next, Suspended | Failed),
            Completing => matches!(next, Completed | Failed),
            Failed | Completed => false,
        }
    }

    /// Whether nothing will ever happen to the job again.
    pub fn is_terminal(self) -> bool {
        matches!(self, JobStatus::Failed | JobStatus::Completed)
    }
}

impl TableRecord {
    /// A record of a table in `public` that the catalog has not seen: all columns as in `schema`,
    /// `key` their positions in key order; without a key the hidden `_row_id` is added.
    pub fn new(name: impl Into<String>, schema: SchemaRef, key: &[usize]) -> Self {
        let columns = schema.fields().iter().enumerate().map(|(position, field)| ColumnRecord {
            name: field.name().clone(),
            sql_type: field.data_type().to_string(),
            is_not_null: !field.is_nullable() || key.contains(&position),
            default_sql: None,
            external_name: None,
        });
        let columns = columns.collect();
        let has_hidden_key = key.is_empty();
        let (schema, key) = if has_hidden_key {
            let hidden = Arc::new(Field::new(HIDDEN_KEY, DataType::Int64, false));
            let fields = schema.fields().iter().cloned().chain([hidden]);
            (Arc::new(Schema::new(fields.collect::<Vec<_>>())), vec![schema.fields().len()])
        } else {
            (schema, key.to_vec())
        };
        Self {
            id: ObjectId(0),
            name: ObjectName::public(name),
            schema,
            key,
            has_hidden_key,
            columns,
            options: BTreeMap::new(),
        }
    }
}

impl TableRecord {
    /// What an acknowledged write to it survives.
    pub fn durability(&self) -> Durability {
        let word = self.options.get(Durability::OPTION).map(String::as_str);
        word.and_then(Durability::of).unwrap_or_default()
    }
}

impl Durability {
    /// The option of a table that says it.
    pub const OPTION: &str = "durability";

    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fsync, Self::Relaxed, Self::Memory];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Durability::Fsync => "fsync",
            Durability::Relaxed => "relaxed",
            Durability::Memory => "memory",
        }
    }

    /// The one of that word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|durability| durability.word() == word)
    }
}

impl ObjectName {
    /// A name in `public`.
    pub fn public(name: impl Into<String>) -> Self {
        Self { schema: "public".to_owned(), name: name.into() }
    }
}
