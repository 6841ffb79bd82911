//! `sys.tables`: size of every table, and how safe its rows are.
//! `backups` counts the copies that exist, not those that were asked for.

use storage::cluster::control::{Durability, state::Relation};

use super::{Columns, Kind};
use crate::{
    Result,
    catalog::system_table::{Record, Scope},
};

pub(super) const COLUMNS: Columns = &[
    ("name", Kind::Text),
    ("rows", Kind::Int8),
    ("bytes", Kind::Int8),
    ("backups", Kind::Int4),
    ("durability", Kind::Text),
];

pub(super) fn records(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for relation in scope.state.relations.values() {
        let Relation::Table(record) = relation else { continue };
        // Dropped between the state and here: not there any more.
        let Ok(table) = scope.parts.grid.table(record.id) else { continue };
        let stats = table.stats();
        let durability = match scope.parts.grid.persistence() {
            Some(_) => table.durability(),
            None => Durability::Memory,
        };
        records.push(vec![
            ("name", record.name.name.clone().into()),
            ("rows", (stats.rows as i64).into()),
            ("bytes", (stats.bytes as i64).into()),
            // One member holds all partitions.
            ("backups", 0.into()),
            ("durability", durability.word().into()),
        ]);
    }
    Ok(records)
}
