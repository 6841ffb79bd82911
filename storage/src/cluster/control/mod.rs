//! `ControlState`: catalog and job records, one small state machine changed only by commands.
//! `apply` is pure: a command carries the time and randomness it needs.

pub mod command;
pub mod exports;
mod raft;
pub mod records;
pub mod snapshots;
pub mod state;

pub use command::Command;
pub use exports::{ExportRecord, ExportRequest};
pub use records::{
    ColumnRecord, Durability, JobError, JobRecord, JobStatus, MappingRecord, ObjectId, ObjectName,
    TableRecord, ViewRecord,
};
pub use snapshots::{JobSnapshots, OperatorState, SnapshotCommand, SnapshotRecord};
pub use state::{Control, ControlState};
