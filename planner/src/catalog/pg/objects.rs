//! Numbers of objects: how PostgreSQL's oids are made from ours, and back.
//! A relation's oid is its id above PostgreSQL's own range and never reused, as the id is not.

use std::sync::Arc;

use arrow::datatypes::Schema;
use storage::cluster::control::{
    ColumnRecord, ControlState, MappingRecord, ObjectId, TableRecord, ViewRecord, state::Relation,
};

use crate::{SqlType, catalog::sys, parse};

/// The first oid that PostgreSQL gives to a user's object.
const FIRST_USER_OID: i64 = 16_384;
/// The first oid of our own system tables.
const FIRST_SYS_OID: i64 = 12_100;
/// The first oid of the tables of `pg_catalog` that clients do not know by heart.
const FIRST_CATALOG_OID: i64 = 11_000;
/// Distance from a table to the index of its key.
const INDEX_OFFSET: i64 = 1 << 30;
/// Distance from a table to the constraint of its key.
const CONSTRAINT_OFFSET: i64 = 1 << 29;

/// `pg_catalog`'s oid.
pub const PG_CATALOG: i64 = 11;
/// `public`'s oid.
pub const PUBLIC: i64 = 2200;
/// `sys`'s oid.
pub const SYS: i64 = 12_000;
/// `information_schema`'s oid.
pub const INFORMATION_SCHEMA: i64 = 13_389;
/// The oid of the only role there is: whoever asks.
pub const OWNER: i64 = 10;
/// The oid of the only database there is.
pub const DATABASE: i64 = 5;

/// The schemas: oid and name.
pub const SCHEMAS: [(i64, &str); 4] = [
    (PG_CATALOG, "pg_catalog"),
    (PUBLIC, "public"),
    (SYS, "sys"),
    (INFORMATION_SCHEMA, "information_schema"),
];

/// A relation as the catalogs list it.
pub struct Object {
    /// Its oid.
    pub oid: i64,
    /// The oid of its schema.
    pub schema: i64,
    /// Its name.
    pub name: String,
    /// Its columns.
    pub columns: Vec<Column>,
    /// What it is.
    pub kind: Kind,
}

/// A column as the catalogs list it.
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub sql_type: SqlType,
    /// NOT NULL, or part of the key.
    pub is_not_null: bool,
    /// DEFAULT.
    pub default_sql: Option<String>,
}

/// What a relation is.
pub enum Kind {
    /// A table.
    Table(Arc<TableRecord>),
    /// A mapping: a foreign table.
    Mapping(Arc<MappingRecord>),
    /// A view.
    View(Arc<ViewRecord>),
    /// A table of `sys`: a view to its readers.
    System,
}

impl Object {
    /// PostgreSQL's letter for its kind.
    pub fn relkind(&self) -> &'static str {
        match self.kind {
            Kind::Table(_) => "r",
            Kind::Mapping(_) => "f",
            Kind::View(_) | Kind::System => "v",
        }
    }

    /// The schema's name.
    pub fn schema_name(&self) -> &'static str {
        SCHEMAS.iter().find(|(oid, _)| *oid == self.schema).map_or("", |(_, name)| name)
    }

    /// The oid of its key's index, and the key's column numbers from 1; `None` without a key.
    pub fn key(&self) -> Option<(i64, Vec<i64>)> {
        let Kind::Table(record) = &self.kind else { return None };
        if record.has_hidden_key {
            return None;
        }
        let numbers = record.key.iter().map(|position| *position as i64 + 1).collect();
        Some((self.oid + INDEX_OFFSET, numbers))
    }

    /// The oid of its key's constraint.
    pub fn constraint_oid(&self) -> i64 {
        self.oid + CONSTRAINT_OFFSET
    }

    /// Name of its key's index and constraint.
    pub fn key_name(&self) -> String {
        format!("{}_pkey", self.name)
    }

    /// The key's columns as they stand in a definition: `k, "Odd"`.
    pub fn key_columns(&self) -> String {
        let names = self.key().into_iter().flat_map(|(_, numbers)| numbers);
        let names: Vec<String> = names
            .filter_map(|number| self.columns.get(number as usize - 1))
            .map(|column| quote_ident(&column.name))
            .collect();
        names.join(", ")
    }
}

/// The oid of a user's object.
pub fn oid_of(id: ObjectId) -> i64 {
    FIRST_USER_OID + id.0 as i64
}

/// The oid of a table of `sys`.
pub fn system_oid(name: &str) -> Option<i64> {
    let position = sys::table_schemas().position(|(table, _)| table == name)?;
    Some(FIRST_SYS_OID + position as i64)
}

/// All relations: users' first, then `sys`.
pub fn objects(state: &ControlState) -> Vec<Object> {
    let users = state.relations.values().map(|relation| match relation {
        Relation::Table(record) => Object {
            oid: oid_of(record.id),
            schema: PUBLIC,
            name: record.name.name.clone(),
            columns: key_not_null(declared(&record.columns), record),
            kind: Kind::Table(Arc::clone(record)),
        },
        Relation::Mapping(record) => Object {
            oid: oid_of(record.id),
            schema: PUBLIC,
            name: record.name.name.clone(),
            columns: declared(&record.columns),
            kind: Kind::Mapping(Arc::clone(record)),
        },
        Relation::View(record) => Object {
            oid: oid_of(record.id),
            schema: PUBLIC,
            name: record.name.name.clone(),
            columns: declared(&record.columns),
            kind: Kind::View(Arc::clone(record)),
        },
    });
    let system = sys::table_schemas().zip(FIRST_SYS_OID..).map(|((name, schema), oid)| Object {
        oid,
        schema: SYS,
        name: name.to_owned(),
        columns: of_schema(&schema),
        kind: Kind::System,
    });
    users.chain(system).collect()
}

/// The oid of a table of `pg_catalog` by its name; PostgreSQL's own where clients know it by heart.
pub fn catalog_table_oid(name: &str) -> Option<i64> {
    let name = name.strip_prefix("pg_catalog.").unwrap_or(name);
    let known = match name {
        "pg_type" => Some(1247),
        "pg_attribute" => Some(1249),
        "pg_proc" => Some(1255),
        "pg_class" => Some(1259),
        "pg_database" => Some(1262),
        "pg_namespace" => Some(2615),
        _ => None,
    };
    let position = || super::columns::tables("pg_catalog").iter().position(|table| table == name);
    known.or_else(|| position().map(|position| FIRST_CATALOG_OID + position as i64))
}

/// The relation a client means by a name, `schema.name` or through the search path.
pub fn find<'a>(objects: &'a [Object], name: &str) -> Option<&'a Object> {
    let parts = split_name(name);
    match parts.as_slice() {
        [name] => objects.iter().find(|object| object.name == *name && object.schema == PUBLIC),
        [schema, name] => {
            objects.iter().find(|object| object.name == *name && object.schema_name() == schema)
        }
        _ => None,
    }
}

/// The oid of the index a client means by a name.
pub fn find_index(objects: &[Object], name: &str) -> Option<i64> {
    let parts = split_name(name);
    let name = match parts.as_slice() {
        [name] => name,
        [schema, name] if schema == "public" => name,
        _ => return None,
    };
    objects.iter().find_map(|object| {
        object.key().filter(|_| object.key_name() == *name).map(|(index, _)| index)
    })
}

/// `"A b".c` as its parts, folded unless quoted.
pub fn split_name(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut is_quoted = false;
    for character in name.trim().chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            '.' if !is_quoted => parts.push(String::new()),
            _ => {
                let last = parts.last_mut().expect("there is always a part");
                match is_quoted {
                    true => last.push(character),
                    false => last.extend(character.to_lowercase()),
                }
            }
        }
    }
    parts
}

/// A name as SQL must write it.
pub fn quote_ident(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn declared(columns: &[ColumnRecord]) -> Vec<Column> {
    columns
        .iter()
        .map(|column| Column {
            name: column.name.clone(),
            sql_type: parse::data_type(&column.sql_type).unwrap_or(SqlType::Text),
            is_not_null: column.is_not_null,
            default_sql: column.default_sql.clone(),
        })
        .collect()
}

fn key_not_null(mut columns: Vec<Column>, record: &TableRecord) -> Vec<Column> {
    for position in &record.key {
        if let Some(column) = columns.get_mut(*position) {
            column.is_not_null = true;
        }
    }
    columns
}

fn of_schema(schema: &Schema) -> Vec<Column> {
    schema
        .fields()
        .iter()
        .map(|field| Column {
            name: field.name().clone(),
            sql_type: SqlType::of_field(field),
            is_not_null: false,
            default_sql: None,
        })
        .collect()
}
