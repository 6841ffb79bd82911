//! `pg_attribute` and `pg_attrdef`: columns and their defaults.
//! The hidden key of a table without one is not a column to anybody.

use super::{
    objects::{Column, Object, objects},
    types::{by_oid, modifier},
};
use crate::{
    Result,
    catalog::system_table::{Record, Scope},
};

/// Collation of texts: the database's.
const DEFAULT_COLLATION: i64 = 100;

pub(super) fn attributes(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for object in objects(&scope.state) {
        for (number, column) in (1..).zip(&object.columns) {
            records.push(attribute(object.oid, number, column));
        }
        if let Some((index, key)) = object.key() {
            for (number, position) in (1..).zip(key) {
                if let Some(column) = object.columns.get(position as usize - 1) {
                    records.push(attribute(index, number, column));
                }
            }
        }
    }
    Ok(records)
}

fn attribute(relation: i64, number: i64, column: &Column) -> Record {
    let oid = i64::from(column.sql_type.oid());
    let row = by_oid(oid);
    let is_text = matches!(oid, 25 | 1042 | 1043);
    vec![
        ("attrelid", relation.into()),
        ("attname", column.name.clone().into()),
        ("atttypid", oid.into()),
        ("attstattarget", (-1).into()),
        ("attlen", row.map_or(-1, |row| row.length).into()),
        ("attnum", number.into()),
        ("attndims", i64::from(row.is_some_and(|row| row.name.starts_with('_'))).into()),
        ("attcacheoff", (-1).into()),
        ("atttypmod", modifier(&column.sql_type).into()),
        ("attbyval", row.is_some_and(|row| (1..=8).contains(&row.length)).into()),
        ("attalign", "i".into()),
        ("attstorage", if row.is_some_and(|row| row.length < 0) { "x" } else { "p" }.into()),
        ("attcompression", "".into()),
        ("attnotnull", column.is_not_null.into()),
        ("atthasdef", column.default_sql.is_some().into()),
        ("atthasmissing", false.into()),
        ("attidentity", "".into()),
        ("attgenerated", "".into()),
        ("attisdropped", false.into()),
        ("attislocal", true.into()),
        ("attinhcount", 0.into()),
        ("attcollation", if is_text { DEFAULT_COLLATION } else { 0 }.into()),
    ]
}

pub(super) fn defaults(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for object in objects(&scope.state) {
        records.extend(defaults_of(&object));
    }
    Ok(records)
}

fn defaults_of(object: &Object) -> Vec<Record> {
    let numbered = (1i64..).zip(&object.columns);
    let with_default = numbered.filter_map(|(number, column)| {
        let sql = column.default_sql.clone()?;
        Some(vec![
            ("oid", (object.oid * 2048 + number).into()),
            ("adrelid", object.oid.into()),
            ("adnum", number.into()),
            ("adbin", sql.into()),
        ])
    });
    with_default.collect()
}
