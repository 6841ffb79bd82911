//! The schema `sys`: everything an operator or a test wants to see, as views over the grid, the
//! jobs and the connections. One table a file; each scan looks anew.

mod job_edges;
mod job_vertices;
mod jobs;
mod members;
mod metrics;
mod partitions;
mod queries;
mod sessions;
mod snapshots;
mod tables;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::catalog::SchemaProvider;

pub use super::system_table::SystemParts;
use super::system_table::{Records, SystemSchema, SystemTable};

/// Columns of a table: name and type.
type Columns = &'static [(&'static str, Kind)];

/// Types that these tables use.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Bool,
    Int4,
    Int8,
    Float8,
    Text,
    Instant,
}

/// All tables of the schema.
const TABLES: [(&str, Columns, Records); 10] = [
    ("job_edges", job_edges::COLUMNS, job_edges::records),
    ("job_vertices", job_vertices::COLUMNS, job_vertices::records),
    ("jobs", jobs::COLUMNS, jobs::records),
    ("members", members::COLUMNS, members::records),
    ("metrics", metrics::COLUMNS, metrics::records),
    ("partitions", partitions::COLUMNS, partitions::records),
    ("queries", queries::COLUMNS, queries::records),
    ("sessions", sessions::COLUMNS, sessions::records),
    ("snapshots", snapshots::COLUMNS, snapshots::records),
    ("tables", tables::COLUMNS, tables::records),
];

/// The schema over a system.
pub fn schema(parts: SystemParts) -> Arc<dyn SchemaProvider> {
    SystemSchema::new(TABLES.map(|(name, columns, records)| {
        let schema = Arc::new(arrow_schema(columns));
        (name.to_owned(), SystemTable::new(parts.clone(), schema, records))
    }))
}

/// Names and Arrow schemas of the tables, for the catalogs that list them.
pub fn table_schemas() -> impl Iterator<Item = (&'static str, Schema)> {
    TABLES.into_iter().map(|(name, columns, _)| (name, arrow_schema(columns)))
}

fn arrow_schema(columns: Columns) -> Schema {
    let field = |(name, kind): &(&str, Kind)| {
        let data_type = match kind {
            Kind::Bool => DataType::Boolean,
            Kind::Int4 => DataType::Int32,
            Kind::Int8 => DataType::Int64,
            Kind::Float8 => DataType::Float64,
            Kind::Text => DataType::Utf8,
            Kind::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        };
        Field::new(*name, data_type, true)
    };
    Schema::new(columns.iter().map(field).collect::<Vec<_>>())
}
