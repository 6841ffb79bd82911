//! `sys.snapshots`: the good snapshots of every job: those it can go on from.
//! A snapshot shares what has not changed with the one before, so `bytes` do not add up.

use super::{Columns, Kind};
use crate::{
    Result,
    catalog::system_table::{Record, Scope},
};

pub(super) const COLUMNS: Columns = &[
    ("job", Kind::Text),
    ("id", Kind::Int8),
    ("execution", Kind::Int8),
    ("started_at", Kind::Instant),
    ("committed_at", Kind::Instant),
    ("chunks", Kind::Int8),
    ("bytes", Kind::Int8),
];

pub(super) fn records(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let of_job = scope.state.jobs.values().flat_map(|job| {
        job.snapshots.good.iter().map(|snapshot| -> Record {
            vec![
                ("job", job.name.clone().into()),
                ("id", (snapshot.id as i64).into()),
                ("execution", (snapshot.execution as i64).into()),
                ("started_at", Some(snapshot.started_at).into()),
                ("committed_at", Some(snapshot.committed_at).into()),
                ("chunks", (snapshot.chunks as i64).into()),
                ("bytes", (snapshot.bytes as i64).into()),
            ]
        })
    });
    Ok(of_job.collect())
}
