//! Exported snapshots: good snapshots of a job that were given a name, and are owned by it.
//! One command exports a snapshot that is good already, so that an export is never half there; it
//! lives until it is dropped, whatever becomes of the job and of the job's own snapshots.
//!
//! ```text
//!   job 5    good: 6, 7          exports  s ─► snapshot 4 of job 5
//!            │                            │    number of chunks, bytes, digest; state of operators
//!   table 6  manifests 4, 6, 7 ◄──────────┘
//! ```
//! Manifest and chunks stay where they were written: in the table and the store of the job it was
//! taken of, which stay for as long as an export needs them, also when the job is gone.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    records::ObjectId,
    snapshots::{OperatorState, SnapshotRecord},
    state::ControlState,
};
use crate::{Error, Result};

/// A snapshot with a name of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportRecord {
    /// Identity.
    pub id: ObjectId,
    /// Name, unique among exported snapshots.
    pub name: String,
    /// The job it was taken of.
    pub job: ObjectId,
    /// That job's name.
    pub job_name: String,
    /// The first of the jobs that went on from each other up to that one.
    pub root: ObjectId,
    /// What was committed.
    pub snapshot: SnapshotRecord,
    /// What its states mean, by operator.
    pub operators: Vec<OperatorState>,
    /// When it was exported, µs since the epoch.
    pub exported_at: i64,
}

/// What `CREATE SNAPSHOT` asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportRequest {
    /// Name.
    pub name: String,
    /// OR REPLACE.
    pub replace: bool,
    /// The job.
    pub job: ObjectId,
    /// Which of its good snapshots.
    pub snapshot: u64,
    /// Now, µs since the epoch.
    pub at: i64,
}

impl ControlState {
    /// Ids of the snapshots of a job, gone or not, that are exported.
    pub fn exported_of(&self, job: ObjectId) -> Vec<u64> {
        let of_job = self.exports.values().filter(|export| export.job == job);
        of_job.map(|export| export.snapshot.id).collect()
    }

    /// A snapshot of a job that is exported, whatever its name.
    pub fn exported(&self, job: ObjectId, snapshot: u64) -> Option<&SnapshotRecord> {
        let of_job = self.exports.values().filter(|export| export.job == job);
        of_job.map(|export| &export.snapshot).find(|record| record.id == snapshot)
    }

    /// The exported snapshot of that id.
    pub fn export(&self, id: ObjectId) -> Option<&Arc<ExportRecord>> {
        self.exports.values().find(|export| export.id == id)
    }

    pub(super) fn export_snapshot(&mut self, request: &ExportRequest) -> Result<ObjectId> {
        let ExportRequest { name, replace, job, snapshot, at } = request;
        let missing = || Error::NotFound { kind: "job", name: job.0.to_string() };
        let of_job = self.jobs.get(job).ok_or_else(missing)?;
        let good = of_job.snapshots.good.iter().find(|good| good.id == *snapshot);
        let good = good.or_else(|| self.exported(*job, *snapshot)).cloned().ok_or_else(|| {
            let name = &of_job.name;
            Error::WrongState(format!("snapshot {snapshot} of job \"{name}\" is not kept any more"))
        })?;
        let id = ObjectId(self.object_id_last + 1);
        let export = ExportRecord {
            id,
            name: name.clone(),
            job: *job,
            job_name: of_job.name.clone(),
            root: of_job.root(),
            snapshot: good,
            operators: of_job.snapshots.operators.clone(),
            exported_at: *at,
        };
        if self.exports.contains_key(name) {
            if !replace {
                return Err(Error::AlreadyExists { kind: "snapshot", name: name.clone() });
            }
            self.check_unneeded(name)?;
        }
        self.object_id_last = id.0;
        self.exports.insert(name.clone(), Arc::new(export));
        let snapshots = &mut self.job_mut(*job)?.snapshots;
        if snapshots.is_for_export {
            snapshots.good.retain(|good| good.id != *snapshot);
        }
        Ok(id)
    }

    pub(super) fn drop_export(&mut self, name: &str) -> Result<ObjectId> {
        self.check_unneeded(name)?;
        let missing = || Error::NotFound { kind: "snapshot", name: name.to_owned() };
        Ok(self.exports.remove(name).ok_or_else(missing)?.id)
    }

    /// WrongState while a job that starts from it has no snapshot of its own to go on from.
    fn check_unneeded(&self, name: &str) -> Result<()> {
        let Some(export) = self.exports.get(name) else { return Ok(()) };
        match self.jobs.values().find(|job| job.snapshots.initial == Some(export.id)) {
            None => Ok(()),
            Some(job) => Err(Error::WrongState(format!(
                "snapshot \"{name}\" is needed by job \"{}\" until that {}",
                job.name,
                if job.snapshots.is_for_export { "is dropped" } else { "has one of its own" }
            ))),
        }
    }
}
