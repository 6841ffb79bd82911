//! `sys.queries`: every statement that runs now, streams included.
//! `rows` counts what was sent so far; `last_error` is the trouble that a stream survives at
//! present, such as a broker that is away.

use super::{Columns, Kind};
use crate::{
    Result,
    catalog::system_table::{Record, Scope},
    planner::QueryInfo,
};

pub(super) const COLUMNS: Columns = &[
    ("id", Kind::Int8),
    ("session_id", Kind::Int4),
    ("status", Kind::Text),
    ("started_at", Kind::Instant),
    ("rows", Kind::Int8),
    ("query", Kind::Text),
    ("last_error", Kind::Text),
    ("error_code", Kind::Text),
];

pub(super) fn records(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let record = |query: QueryInfo| -> Record {
        let trouble = scope.parts.jobs.query_trouble(query.id);
        vec![
            ("id", (query.id as i64).into()),
            ("session_id", i64::from(query.session_id).into()),
            ("status", query.status.into()),
            ("started_at", query.started_at.into()),
            ("rows", (query.rows as i64).into()),
            ("query", query.query.into()),
            ("last_error", trouble.as_ref().map(|trouble| trouble.message.clone()).into()),
            ("error_code", trouble.map(|trouble| trouble.code).into()),
        ]
    };
    Ok(scope.parts.directory.queries().into_iter().map(record).collect())
}
