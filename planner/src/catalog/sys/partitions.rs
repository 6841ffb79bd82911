//! `sys.partitions`: size and owner of every partition of every table.
//! The rows of a table's partitions sum to its row in `sys.tables`.

use storage::cluster::control::state::Relation;

use super::{Columns, Kind};
use crate::{
    Result,
    catalog::system_table::{Record, Scope},
};

pub(super) const COLUMNS: Columns = &[
    ("table_name", Kind::Text),
    ("partition_id", Kind::Int4),
    ("owner", Kind::Int4),
    ("rows", Kind::Int8),
    ("bytes", Kind::Int8),
];

pub(super) fn records(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let owners = &scope.state.assignment.owners;
    let mut records = Vec::new();
    for relation in scope.state.relations.values() {
        let Relation::Table(record) = relation else { continue };
        let Ok(table) = scope.parts.grid.table(record.id) else { continue };
        let partitions = owners.iter().zip(table.partition_stats());
        for (partition, (owner, stats)) in (0i64..).zip(partitions) {
            records.push(vec![
                ("table_name", record.name.name.clone().into()),
                ("partition_id", partition.into()),
                ("owner", i64::from(*owner).into()),
                ("rows", (stats.rows as i64).into()),
                ("bytes", (stats.bytes as i64).into()),
            ]);
        }
    }
    Ok(records)
}
