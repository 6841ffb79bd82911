//! `sys.snapshots`: the good snapshots of every job, those it can go on from, and the exported ones.
//! `name` and `exported_at` are NULL for a job's own. A snapshot shares what has not changed with the
//! one before, so `bytes` do not add up.

use storage::cluster::control::SnapshotRecord;

use super::{Columns, Kind};
use crate::{
    Result,
    catalog::system_table::{Record, Scope},
};

pub(super) const COLUMNS: Columns = &[
    ("name", Kind::Text),
    ("job", Kind::Text),
    ("id", Kind::Int8),
    ("execution", Kind::Int8),
    ("started_at", Kind::Instant),
    ("committed_at", Kind::Instant),
    ("exported_at", Kind::Instant),
    ("chunks", Kind::Int8),
    ("bytes", Kind::Int8),
];

pub(super) fn records(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let of_job = scope
        .state
        .jobs
        .values()
        .flat_map(|job| job.snapshots.good.iter().map(|snapshot| record(&job.name, snapshot)));
    let exported = scope.state.exports.values().map(|export| {
        let mut record = record(&export.job_name, &export.snapshot);
        record.push(("name", export.name.clone().into()));
        record.push(("exported_at", Some(export.exported_at).into()));
        record
    });
    Ok(of_job.chain(exported).collect())
}

fn record(job: &str, snapshot: &SnapshotRecord) -> Record {
    vec![
        ("job", job.to_owned().into()),
        ("id", (snapshot.id as i64).into()),
        ("execution", (snapshot.execution as i64).into()),
        ("started_at", Some(snapshot.started_at).into()),
        ("committed_at", Some(snapshot.committed_at).into()),
        ("chunks", (snapshot.chunks as i64).into()),
        ("bytes", (snapshot.bytes as i64).into()),
    ]
}
