//! What psql's `\d` family and the drivers ask for: `pg_catalog` and `information_schema`, computed
//! from the control state at each scan. Column lists are PostgreSQL 15's own (`columns.txt`); a
//! table of which we have nothing to say is there and empty.

mod attributes;
pub mod columns;
mod information;
pub mod objects;
pub mod relations;
mod server;
pub mod types;

use std::sync::Arc;

use datafusion::catalog::SchemaProvider;

pub use columns::{has_table, is_always_empty};

use super::system_table::{Records, SystemParts, SystemSchema, SystemTable};

/// The tables of `pg_catalog` that have rows.
pub(crate) const FILLED: [(&str, Records); 24] = [
    ("pg_am", server::access_methods),
    ("pg_attrdef", attributes::defaults),
    ("pg_attribute", attributes::attributes),
    ("pg_authid", server::roles),
    ("pg_class", relations::classes),
    ("pg_collation", server::collations),
    ("pg_constraint", relations::constraints),
    ("pg_database", server::databases),
    ("pg_foreign_data_wrapper", relations::wrappers),
    ("pg_foreign_server", relations::servers),
    ("pg_foreign_table", relations::foreign_tables),
    ("pg_index", relations::indexes),
    ("pg_indexes", relations::index_list),
    ("pg_language", server::languages),
    ("pg_namespace", server::namespaces),
    ("pg_range", server::nothing),
    ("pg_roles", server::roles),
    ("pg_settings", server::settings),
    ("pg_stat_activity", server::activity),
    ("pg_tables", relations::table_list),
    ("pg_tablespace", server::tablespaces),
    ("pg_type", types::types),
    ("pg_user", server::users),
    ("pg_views", relations::view_list),
];

/// The tables of `information_schema` that have rows.
const INFORMATION: [(&str, Records); 6] = [
    ("columns", information::columns),
    ("key_column_usage", information::key_columns),
    ("schemata", information::schemata),
    ("table_constraints", information::constraints),
    ("tables", information::tables),
    ("views", information::views),
];

/// The schema `pg_catalog` over a system.
pub fn pg_catalog(parts: SystemParts) -> Arc<dyn SchemaProvider> {
    schema("pg_catalog", parts, &FILLED)
}

/// The schema `information_schema` over a system.
pub fn information_schema(parts: SystemParts) -> Arc<dyn SchemaProvider> {
    schema("information_schema", parts, &INFORMATION)
}

fn schema(
    name: &'static str,
    parts: SystemParts,
    filled: &[(&str, Records)],
) -> Arc<dyn SchemaProvider> {
    let tables = columns::tables(name).into_iter().filter_map(|table| {
        let schema = columns::table_schema(name, &table)?;
        let found = filled.iter().find(|(filled, _)| *filled == table);
        let records = found.map_or(server::nothing as Records, |(_, records)| *records);
        Some((table, SystemTable::new(parts.clone(), schema, records)))
    });
    SystemSchema::new(tables)
}

#[cfg(test)]
mod tests;
