//! Names and types of the catalogs' columns, as PostgreSQL 15 has them (`columns.txt`).
//! The text is read once; nothing else knows its format.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::types::TYPE_KEY;

/// Schemas of all catalog tables, by schema and table name.
static SCHEMAS: LazyLock<BTreeMap<String, BTreeMap<String, SchemaRef>>> = LazyLock::new(|| {
    let mut schemas: BTreeMap<String, BTreeMap<String, SchemaRef>> = BTreeMap::new();
    for line in include_str!("columns.txt").lines().filter(|line| !line.starts_with('#')) {
        let Some((name, columns)) = line.split_once(' ') else { continue };
        let Some((schema, table)) = name.split_once('.') else { continue };
        let fields: Vec<Field> = columns
            .split(',')
            .filter_map(|column| column.split_once(':'))
            .map(|(name, sql_type)| field(name, sql_type))
            .collect();
        let tables = schemas.entry(schema.to_owned()).or_default();
        tables.insert(table.to_owned(), Arc::new(Schema::new(fields)));
    }
    schemas
});

/// The tables of `pg_catalog` or `information_schema`.
pub fn tables(schema: &str) -> Vec<String> {
    SCHEMAS.get(schema).map(|tables| tables.keys().cloned().collect()).unwrap_or_default()
}

/// The columns of a catalog table.
pub fn table_schema(schema: &str, table: &str) -> Option<SchemaRef> {
    SCHEMAS.get(schema)?.get(table).map(Arc::clone)
}

/// Whether an unqualified name is a table of `pg_catalog`.
pub fn has_table(name: &str) -> bool {
    table_schema("pg_catalog", name).is_some()
}

/// Whether it is a table of `pg_catalog` that never has rows here.
pub fn is_always_empty(name: &str) -> bool {
    has_table(name) && super::FILLED.iter().all(|(filled, _)| *filled != name)
}

fn field(name: &str, sql_type: &str) -> Field {
    if let Some(element) = sql_type.strip_suffix("[]") {
        return Field::new(name, list_of(element), true);
    }
    match sql_type {
        "int2vector" => marked(name, list_of("int2"), sql_type),
        "oidvector" => marked(name, list_of("oid"), sql_type),
        "name" | "char" | "regproc" => marked(name, DataType::Utf8, sql_type),
        _ => Field::new(name, data_type(sql_type), true),
    }
}

fn marked(name: &str, data_type: DataType, sql_type: &str) -> Field {
    let metadata = HashMap::from([(TYPE_KEY.to_owned(), sql_type.to_owned())]);
    Field::new(name, data_type, true).with_metadata(metadata)
}

fn list_of(element: &str) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(data_type(element), true)))
}

fn data_type(sql_type: &str) -> DataType {
    match sql_type {
        "bool" => DataType::Boolean,
        "int2" => DataType::Int16,
        "int4" => DataType::Int32,
        "int8" => DataType::Int64,
        "oid" => DataType::UInt32,
        "float4" => DataType::Float32,
        "float8" => DataType::Float64,
        "numeric" => DataType::Decimal128(38, 0),
        "bytea" => DataType::Binary,
        "interval" => DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano),
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => DataType::Utf8,
    }
}
