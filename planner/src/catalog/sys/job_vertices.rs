//! `sys.job_vertices`: what each vertex of a running job has done, and which one is slow: the one
//! with full queues before it (`queue_fill` near 1) that is `busy` (share of the last second that
//! its busiest instance worked; the rates are
//! of that second, too); one that is not busy waits, for a table or for what is behind it.
//! `longest_call_ms` is the longest one of its instances held up the others of its worker,
//! `longest_save_ms` the longest that a snapshot held one up at a stretch.
//! A job that does not run has no rows here.

use super::{Columns, Kind};
use crate::{
    Result,
    catalog::system_table::{Record, Scope},
};

pub(super) const COLUMNS: Columns = &[
    ("job_name", Kind::Text),
    ("vertex", Kind::Text),
    ("description", Kind::Text),
    ("parallelism", Kind::Int4),
    ("rows_in", Kind::Int8),
    ("rows_out", Kind::Int8),
    ("rows_in_per_s", Kind::Int8),
    ("rows_out_per_s", Kind::Int8),
    ("watermark", Kind::Instant),
    ("queue_fill", Kind::Float8),
    ("busy", Kind::Float8),
    ("longest_call_ms", Kind::Float8),
    ("longest_save_ms", Kind::Float8),
    ("state_bytes", Kind::Int8),
];

pub(super) fn records(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for job in scope.state.jobs.values() {
        let (vertices, _) = scope.parts.jobs.stats(job.id);
        for vertex in vertices {
            records.push(vec![
                ("job_name", job.name.clone().into()),
                ("vertex", vertex.vertex.into()),
                ("description", vertex.description.into()),
                ("parallelism", (vertex.parallelism as i64).into()),
                ("rows_in", (vertex.rows_in as i64).into()),
                ("rows_out", (vertex.rows_out as i64).into()),
                ("rows_in_per_s", (vertex.rows_in_per_s as i64).into()),
                ("rows_out_per_s", (vertex.rows_out_per_s as i64).into()),
                ("watermark", vertex.watermark.into()),
                ("queue_fill", (f64::from(vertex.queue_fill) / 1000.0).into()),
                ("busy", (f64::from(vertex.busy) / 1000.0).into()),
                ("longest_call_ms", (vertex.longest_call_nanos as f64 / 1e6).into()),
                ("longest_save_ms", (vertex.longest_save_nanos as f64 / 1e6).into()),
                ("state_bytes", (vertex.state_bytes as i64).into()),
            ]);
        }
    }
    Ok(records)
}
