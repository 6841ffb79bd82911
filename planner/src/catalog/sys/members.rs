//! `sys.members`: the processes that make up the cluster; one, until they can find each other.
//! It owns every partition and coordinates itself.

use super::{Columns, Kind};
use crate::{
    Result,
    catalog::system_table::{Record, Scope},
};

pub(super) const COLUMNS: Columns = &[
    ("id", Kind::Int4),
    ("status", Kind::Text),
    ("is_coordinator", Kind::Bool),
    ("partitions", Kind::Int4),
    ("version", Kind::Text),
];

pub(super) fn records(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let partition_count = i64::from(scope.parts.grid.config().partition_count);
    Ok(vec![vec![
        ("id", 0.into()),
        ("status", "ACTIVE".into()),
        ("is_coordinator", true.into()),
        ("partitions", partition_count.into()),
        ("version", env!("CARGO_PKG_VERSION").into()),
    ]])
}
