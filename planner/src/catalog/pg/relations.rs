//! `pg_class`, `pg_index`, `pg_constraint` and what lists the same relations in other words:
//! tables are `r`, mappings are foreign tables of a server named after their connector, views `v`.

use std::collections::BTreeSet;

use super::objects::{Kind, OWNER, Object, PUBLIC, objects};
use crate::{
    Result,
    catalog::system_table::{Cell, Record, Scope},
};

/// The access method of indexes: what they answer like, whatever they are made of.
const BTREE: i64 = 403;
/// The access method of tables.
const HEAP: i64 = 2;
/// The first oid of the servers that stand for connectors.
const FIRST_SERVER_OID: i64 = 14_000;

pub(super) fn classes(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for object in objects(&scope.state) {
        let rows = match &object.kind {
            Kind::Table(record) => scope.parts.grid.table(record.id).map_or(0, |t| t.stats().rows),
            _ => 0,
        };
        let kind = object.relkind();
        let shape = Shape {
            oid: object.oid,
            name: object.name.clone(),
            schema: object.schema,
            kind,
            access_method: if kind == "r" { HEAP } else { 0 },
            column_count: object.columns.len(),
            has_index: object.key().is_some(),
            rows,
        };
        records.push(class(shape));
        if let Some((index, key)) = object.key() {
            records.push(class(Shape {
                oid: index,
                name: object.key_name(),
                schema: object.schema,
                kind: "i",
                access_method: BTREE,
                column_count: key.len(),
                has_index: false,
                rows,
            }));
        }
    }
    Ok(records)
}

struct Shape {
    oid: i64,
    name: String,
    schema: i64,
    kind: &'static str,
    access_method: i64,
    column_count: usize,
    has_index: bool,
    rows: u64,
}

fn class(shape: Shape) -> Record {
    vec![
        ("oid", shape.oid.into()),
        ("relname", shape.name.into()),
        ("relnamespace", shape.schema.into()),
        ("reltype", 0.into()),
        ("reloftype", 0.into()),
        ("relowner", OWNER.into()),
        ("relam", shape.access_method.into()),
        ("relfilenode", 0.into()),
        ("reltablespace", 0.into()),
        ("relpages", 0.into()),
        ("reltuples", Cell::Float(shape.rows as f64)),
        ("relallvisible", 0.into()),
        ("reltoastrelid", 0.into()),
        ("relhasindex", shape.has_index.into()),
        ("relisshared", false.into()),
        ("relpersistence", "p".into()),
        ("relkind", shape.kind.into()),
        ("relnatts", (shape.column_count as i64).into()),
        ("relchecks", 0.into()),
        ("relhasrules", false.into()),
        ("relhastriggers", false.into()),
        ("relhassubclass", false.into()),
        ("relrowsecurity", false.into()),
        ("relforcerowsecurity", false.into()),
        ("relispopulated", true.into()),
        ("relreplident", "d".into()),
        ("relispartition", false.into()),
        ("relrewrite", 0.into()),
        ("relfrozenxid", 0.into()),
        ("relminmxid", 0.into()),
    ]
}

pub(super) fn indexes(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let record = |object: &Object| -> Option<Record> {
        let (index, key) = object.key()?;
        let count = key.len() as i64;
        let zeros = vec![0i64; key.len()];
        Some(vec![
            ("indexrelid", index.into()),
            ("indrelid", object.oid.into()),
            ("indnatts", count.into()),
            ("indnkeyatts", count.into()),
            ("indisunique", true.into()),
            ("indnullsnotdistinct", false.into()),
            ("indisprimary", true.into()),
            ("indisexclusion", false.into()),
            ("indimmediate", true.into()),
            ("indisclustered", false.into()),
            ("indisvalid", true.into()),
            ("indcheckxmin", false.into()),
            ("indisready", true.into()),
            ("indislive", true.into()),
            ("indisreplident", false.into()),
            ("indkey", key.into()),
            ("indcollation", zeros.clone().into()),
            ("indclass", zeros.clone().into()),
            ("indoption", zeros.into()),
        ])
    };
    Ok(objects(&scope.state).iter().filter_map(record).collect())
}

pub(super) fn constraints(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let record = |object: &Object| -> Option<Record> {
        let (index, key) = object.key()?;
        Some(vec![
            ("oid", object.constraint_oid().into()),
            ("conname", object.key_name().into()),
            ("connamespace", object.schema.into()),
            ("contype", "p".into()),
            ("condeferrable", false.into()),
            ("condeferred", false.into()),
            ("convalidated", true.into()),
            ("conrelid", object.oid.into()),
            ("contypid", 0.into()),
            ("conindid", index.into()),
            ("conparentid", 0.into()),
            ("confrelid", 0.into()),
            ("confupdtype", " ".into()),
            ("confdeltype", " ".into()),
            ("confmatchtype", " ".into()),
            ("conislocal", true.into()),
            ("coninhcount", 0.into()),
            ("connoinherit", true.into()),
            ("conkey", key.into()),
        ])
    };
    Ok(objects(&scope.state).iter().filter_map(record).collect())
}

pub(super) fn table_list(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let owner = scope.user();
    let record = |object: Object| -> Record {
        vec![
            ("schemaname", object.schema_name().into()),
            ("hasindexes", object.key().is_some().into()),
            ("tablename", object.name.into()),
            ("tableowner", owner.clone().into()),
            ("hasrules", false.into()),
            ("hastriggers", false.into()),
            ("rowsecurity", false.into()),
        ]
    };
    let tables = objects(&scope.state).into_iter().filter(|object| object.relkind() == "r");
    Ok(tables.map(record).collect())
}

pub(super) fn view_list(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let owner = scope.user();
    let record = |object: Object| -> Option<Record> {
        let Kind::View(view) = &object.kind else { return None };
        Some(vec![
            ("schemaname", object.schema_name().into()),
            ("viewname", object.name.clone().into()),
            ("viewowner", owner.clone().into()),
            ("definition", view.sql.clone().into()),
        ])
    };
    Ok(objects(&scope.state).into_iter().filter_map(record).collect())
}

pub(super) fn index_list(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let record = |object: &Object| -> Option<Record> {
        object.key()?;
        Some(vec![
            ("schemaname", object.schema_name().into()),
            ("tablename", object.name.clone().into()),
            ("indexname", object.key_name().into()),
            ("indexdef", index_definition(object).into()),
        ])
    };
    Ok(objects(&scope.state).iter().filter_map(record).collect())
}

/// The statement that would make a key's index.
pub fn index_definition(object: &Object) -> String {
    use super::objects::quote_ident;
    format!(
        "CREATE UNIQUE INDEX {} ON {}.{} USING btree ({})",
        quote_ident(&object.key_name()),
        object.schema_name(),
        quote_ident(&object.name),
        object.key_columns()
    )
}

/// Connectors in use, sorted; each stands as a foreign server.
fn connectors(scope: &Scope<'_>) -> Vec<String> {
    let names = objects(&scope.state).into_iter().filter_map(|object| match object.kind {
        Kind::Mapping(record) => Some(record.connector.clone()),
        _ => None,
    });
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

fn server_oid(connectors: &[String], connector: &str) -> i64 {
    let position = connectors.iter().position(|name| name == connector).unwrap_or_default();
    FIRST_SERVER_OID + position as i64
}

pub(super) fn servers(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let connectors = connectors(scope);
    let record = |connector: &String| -> Record {
        vec![
            ("oid", server_oid(&connectors, connector).into()),
            ("srvname", connector.clone().into()),
            ("srvowner", OWNER.into()),
            ("srvfdw", FIRST_SERVER_OID.into()),
        ]
    };
    Ok(connectors.iter().map(record).collect())
}

pub(super) fn wrappers(_: &Scope<'_>) -> Result<Vec<Record>> {
    Ok(vec![vec![
        ("oid", FIRST_SERVER_OID.into()),
        ("fdwname", "tidewater".into()),
        ("fdwowner", OWNER.into()),
        ("fdwhandler", 0.into()),
        ("fdwvalidator", 0.into()),
    ]])
}

pub(super) fn foreign_tables(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let connectors = connectors(scope);
    let record = |object: &Object| -> Option<Record> {
        let Kind::Mapping(mapping) = &object.kind else { return None };
        debug_assert_eq!(object.schema, PUBLIC);
        let options = mapping.options.iter().map(|(key, value)| format!("{key}={value}"));
        Some(vec![
            ("ftrelid", object.oid.into()),
            ("ftserver", server_oid(&connectors, &mapping.connector).into()),
            ("ftoptions", options.collect::<Vec<_>>().into()),
        ])
    };
    Ok(objects(&scope.state).iter().filter_map(record).collect())
}
