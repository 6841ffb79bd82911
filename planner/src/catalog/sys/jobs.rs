//! `sys.jobs`: every job and how it fares.
//! `error_code` is the SQLSTATE of `last_error`: of the failure that ended it, or of the trouble it survives.
//! `options` are those in force, also those that ALTER JOB changed since the text in `sql`.
//! The snapshot columns are NULL for a job without a guarantee, and before its first good snapshot.

use std::{collections::BTreeMap, sync::Arc};

use runtime::job::{Guarantee, JobOptions};
use storage::cluster::control::JobRecord;

use super::{Columns, Kind};
use crate::{
    Result,
    catalog::system_table::{Record, Scope},
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
    ("options", Kind::Text),
    ("sql", Kind::Text),
];

pub(super) fn records(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let record = |job: &Arc<JobRecord>| -> Result<Record> {
        let error = job.last_error.as_ref();
        let options = JobOptions::read(&job.options)?;
        let interval = match options.guarantee {
            Guarantee::None => None,
            _ => Some(options.snapshot_interval.as_millis() as i64),
        };
        let newest = job.snapshots.newest();
        Ok(vec![
            ("name", job.name.clone().into()),
            ("id", (job.id.0 as i64).into()),
            ("status", job.status.word().into()),
            ("guarantee", options.guarantee.word().into()),
            ("snapshot_interval_ms", interval.into()),
            ("started_at", job.started_at.into()),
            ("restarts", (job.restarts as i64).into()),
            ("last_snapshot_id", newest.map(|newest| newest.id as i64).into()),
            ("last_snapshot_at", newest.map(|newest| newest.committed_at).into()),
            ("last_error", error.map(|error| error.message.clone()).into()),
            ("error_code", error.map(|error| error.code.clone()).into()),
            ("options", options_text(&job.options).into()),
            ("sql", job.sql.clone().into()),
        ])
    };
    scope.state.jobs.values().map(record).collect()
}

/// As they stand in OPTIONS (…).
fn options_text(options: &BTreeMap<String, String>) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let option =
        |(name, value): (&String, &String)| format!("{} = {}", quoted(name), quoted(value));
    options.iter().map(option).collect::<Vec<_>>().join(", ")
}
