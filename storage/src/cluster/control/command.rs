//! The commands that change the control state; nothing else does.
//! Ids are drawn by `apply` from the state's own counter, never by the caller.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::partition::PartitionId;

use super::{
    exports::ExportRequest,
    records::{
        JobError, JobRecord, JobStatus, MappingRecord, ObjectId, ObjectName, TableRecord,
        ViewRecord,
    },
    snapshots::SnapshotCommand,
};

/// `table`, `mapping` or `view`.
pub type RelationKind = &'static str;

/// One change of the control state. Records come with `id` 0, and `apply` gives them theirs, unless
/// it was drawn before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Command {
    /// Adds a table. AlreadyExists if any relation of that name exists.
    CreateTable(TableRecord),
    /// Adds a mapping, or replaces one of the same name.
    CreateMapping {
        /// The mapping.
        record: MappingRecord,
        /// OR REPLACE.
        replace: bool,
    },
    /// Adds a view, or replaces one of the same name.
    CreateView {
        /// The view.
        record: ViewRecord,
        /// OR REPLACE.
        replace: bool,
    },
    /// Drops a table, mapping or view; NotFound if it is of another kind.
    DropRelation {
        /// `table`, `mapping` or `view`.
        #[serde(with = "relation_kind")]
        kind: RelationKind,
        /// Its name.
        name: ObjectName,
    },
    /// Draws an id for a table whose rows are made before anybody may see them.
    ReserveId,
    /// Puts a table whose rows are there already, under an id that was drawn for it, in the place
    /// of the one of its name. NotFound if that is not `replaced` any more.
    ReplaceTable {
        /// The table that goes.
        replaced: ObjectId,
        /// The table that comes, with its id.
        record: TableRecord,
    },
    /// Puts other options in the place of a table's.
    SetTableOptions {
        /// The table.
        id: ObjectId,
        /// All of them.
        options: BTreeMap<String, String>,
    },
    /// Adds a job.
    CreateJob(JobRecord),
    /// Changes a job's status; refused (WrongState) if the transition is not one of the life cycle.
    SetJobStatus {
        /// The job.
        id: ObjectId,
        /// Its new status.
        status: JobStatus,
        /// Time of the change, µs since the epoch.
        at: i64,
        /// The error behind it, if any.
        error: Option<JobError>,
    },
    /// Remembers trouble that a running job survived, or that it is over.
    SetJobError {
        /// The job.
        id: ObjectId,
        /// The trouble, or `None` when it is over.
        error: Option<JobError>,
    },
    /// Puts other options in the place of a job's.
    SetJobOptions {
        /// The job.
        id: ObjectId,
        /// All of them.
        options: BTreeMap<String, String>,
    },
    /// Gives a good snapshot a name, under which it stays until it is dropped. AlreadyExists if
    /// the name is taken and not to be replaced; WrongState if what it names is needed.
    ExportSnapshot(ExportRequest),
    /// Drops an exported snapshot; WrongState while a job needs it.
    DropSnapshot(String),
    /// Changes a job's snapshots; refused (WrongState) if it comes too late.
    Snapshot(ObjectId, SnapshotCommand),
    /// Removes a job.
    DropJob(ObjectId),
    /// Gives every partition its first owner, by position.
    Assign(Vec<u16>),
    /// Gives a partition, whose rows are there already, to another owner. Invalid for a partition
    /// that does not exist.
    Reassign {
        /// The partition.
        partition: PartitionId,
        /// Its new owner.
        owner: u16,
    },
}

/// A kind of relation, by its word (`#[serde(with)]`).
mod relation_kind {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    const KINDS: [&str; 3] = ["table", "mapping", "view"];

    pub(super) fn serialize<S: Serializer>(kind: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(kind)
    }

    pub(super) fn deserialize<'de, D>(deserializer: D) -> Result<&'static str, D::Error>
    where
        D: Deserializer<'de>,
    {
        let word = String::deserialize(deserializer)?;
        let kind = KINDS.into_iter().find(|kind| **kind == *word);
        kind.ok_or_else(|| D::Error::custom(format!("\"{word}\" is no kind of relation")))
    }
}
