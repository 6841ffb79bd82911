//! `sys.job_edges`: how full the queues between the vertices of a running job are.
//! A full edge names the vertex behind it as the slow one.

use super::{Columns, Kind};
use crate::{
    Result,
    catalog::system_table::{Record, Scope},
};

pub(super) const COLUMNS: Columns = &[
    ("job_name", Kind::Text),
    ("source", Kind::Text),
    ("target", Kind::Text),
    ("routing", Kind::Text),
    ("queued", Kind::Int8),
    ("capacity", Kind::Int8),
    ("queued_bytes", Kind::Int8),
];

pub(super) fn records(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for job in scope.state.jobs.values() {
        let (_, edges) = scope.parts.jobs.stats(job.id);
        for edge in edges {
            records.push(vec![
                ("job_name", job.name.clone().into()),
                ("source", edge.source.into()),
                ("target", edge.target.into()),
                ("routing", edge.routing.into()),
                ("queued", (edge.queued as i64).into()),
                ("capacity", (edge.capacity as i64).into()),
                ("queued_bytes", (edge.queued_bytes as i64).into()),
            ]);
        }
    }
    Ok(records)
}
