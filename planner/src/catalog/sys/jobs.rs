//! `sys.jobs`: every job and how it fares.
//! `error_code` is the SQLSTATE of `last_error`: of the failure that ended it, or of the trouble it survives.
//! The snapshot columns are NULL and the guarantee is `none` until snapshots exist.

use super::{Columns, Kind};
use crate::{
    Result,
    catalog::system_table::{Cell, Record, Scope},
};

pub(super) const COLUMNS: Columns = &[
    ("name", Kind::Text),
    ("id", Kind::Int8),
    ("status", Kind::Text),
    ("guarantee", Kind::Text),
    ("snapshot_interval_ms", Kind::Int8),
    ("started_at", Kind::Instant),
    ("restarts", Kind::Int8),
    ("last_snapshot_id", Kind::Int8),
    ("last_snapshot_at", Kind::Instant),
    ("last_error", Kind::Text),
    ("error_code", Kind::Text),
    ("sql", Kind::Text),
];

pub(super) fn records(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let record = |job: &std::sync::Arc<storage::cluster::control::JobRecord>| -> Record {
        let error = job.last_error.as_ref();
        vec![
            ("name", job.name.clone().into()),
            ("id", (job.id.0 as i64).into()),
            ("status", job.status.word().into()),
            ("guarantee", "none".into()),
            ("snapshot_interval_ms", Cell::Null),
            ("started_at", job.started_at.into()),
            ("restarts", (job.restarts as i64).into()),
            ("last_snapshot_id", Cell::Null),
            ("last_snapshot_at", Cell::Null),
            ("last_error", error.map(|error| error.message.clone()).into()),
            ("error_code", error.map(|error| error.code.clone()).into()),
            ("sql", job.sql.clone().into()),
        ]
    };
    Ok(scope.state.jobs.values().map(record).collect())
}
