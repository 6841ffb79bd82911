//! `information_schema`: the SQL standard's words for the same relations.
//! Its catalog is the session's database.

use super::objects::{Kind, Object, SCHEMAS, objects};
use crate::{
    Result, SqlType,
    catalog::system_table::{Cell, Record, Scope},
};

fn yes(is_so: bool) -> &'static str {
    if is_so { "YES" } else { "NO" }
}

fn table_type(object: &Object) -> &'static str {
    match object.relkind() {
        "r" => "BASE TABLE",
        "f" => "FOREIGN",
        _ => "VIEW",
    }
}

pub(super) fn tables(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let catalog = scope.database();
    let record = |object: Object| -> Record {
        let is_table = object.relkind() == "r";
        vec![
            ("table_catalog", catalog.clone().into()),
            ("table_schema", object.schema_name().into()),
            ("table_type", table_type(&object).into()),
            ("table_name", object.name.into()),
            ("is_insertable_into", yes(is_table).into()),
            ("is_typed", "NO".into()),
        ]
    };
    Ok(objects(&scope.state).into_iter().map(record).collect())
}

pub(super) fn views(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let catalog = scope.database();
    let record = |object: Object| -> Option<Record> {
        let Kind::View(view) = &object.kind else { return None };
        Some(vec![
            ("table_catalog", catalog.clone().into()),
            ("table_schema", object.schema_name().into()),
            ("table_name", object.name.clone().into()),
            ("view_definition", view.sql.clone().into()),
            ("check_option", "NONE".into()),
            ("is_updatable", "NO".into()),
            ("is_insertable_into", "NO".into()),
        ])
    };
    Ok(objects(&scope.state).into_iter().filter_map(record).collect())
}

pub(super) fn schemata(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let record = |(_, name): &(i64, &str)| -> Record {
        vec![
            ("catalog_name", scope.database().into()),
            ("schema_name", (*name).into()),
            ("schema_owner", scope.user().into()),
        ]
    };
    Ok(SCHEMAS.iter().map(record).collect())
}

pub(super) fn columns(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let catalog = scope.database();
    let mut records = Vec::new();
    for object in objects(&scope.state) {
        for (number, column) in (1i64..).zip(&object.columns) {
            let mut record: Record = vec![
                ("table_catalog", catalog.clone().into()),
                ("table_schema", object.schema_name().into()),
                ("table_name", object.name.clone().into()),
                ("column_name", column.name.clone().into()),
                ("ordinal_position", number.into()),
                ("column_default", column.default_sql.clone().into()),
                ("is_nullable", yes(!column.is_not_null).into()),
                ("udt_catalog", catalog.clone().into()),
                ("udt_schema", "pg_catalog".into()),
                ("dtd_identifier", number.to_string().into()),
                ("is_identity", "NO".into()),
                ("is_generated", "NEVER".into()),
                ("is_updatable", yes(object.relkind() == "r").into()),
            ];
            record.extend(type_columns(&column.sql_type));
            records.push(record);
        }
    }
    Ok(records)
}

fn type_columns(sql_type: &SqlType) -> Record {
    let oid = i64::from(sql_type.oid());
    let udt = super::types::by_oid(oid).map(|row| row.name.clone());
    let data_type = match sql_type {
        SqlType::Array(_) => "ARRAY".to_owned(),
        _ => super::types::format_type(oid, None),
    };
    let precision = match sql_type {
        SqlType::Int2 => Some((16, 2, 0)),
        SqlType::Int4 => Some((32, 2, 0)),
        SqlType::Int8 => Some((64, 2, 0)),
        SqlType::Numeric(precision, scale) => Some((i64::from(*precision), 10, i64::from(*scale))),
        _ => None,
    };
    let length = match sql_type {
        SqlType::Varchar(length) | SqlType::Bpchar(length) => length.map(i64::from),
        _ => None,
    };
    let is_time = matches!(sql_type, SqlType::Timestamp | SqlType::Timestamptz | SqlType::Time);
    vec![
        ("data_type", data_type.into()),
        ("udt_name", udt.into()),
        ("character_maximum_length", length.into()),
        ("numeric_precision", precision.map(|(precision, _, _)| precision).into()),
        ("numeric_precision_radix", precision.map(|(_, radix, _)| radix).into()),
        ("numeric_scale", precision.map(|(_, _, scale)| scale).into()),
        ("datetime_precision", if is_time { Cell::Int(6) } else { Cell::Null }),
    ]
}

pub(super) fn constraints(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let catalog = scope.database();
    let record = |object: &Object| -> Option<Record> {
        object.key()?;
        Some(vec![
            ("constraint_catalog", catalog.clone().into()),
            ("constraint_schema", object.schema_name().into()),
            ("constraint_name", object.key_name().into()),
            ("table_catalog", catalog.clone().into()),
            ("table_schema", object.schema_name().into()),
            ("table_name", object.name.clone().into()),
            ("constraint_type", "PRIMARY KEY".into()),
            ("is_deferrable", "NO".into()),
            ("initially_deferred", "NO".into()),
            ("enforced", "YES".into()),
        ])
    };
    Ok(objects(&scope.state).iter().filter_map(record).collect())
}

pub(super) fn key_columns(scope: &Scope<'_>) -> Result<Vec<Record>> {
    let catalog = scope.database();
    let mut records = Vec::new();
    for object in objects(&scope.state) {
        let key = object.key().map(|(_, numbers)| numbers).unwrap_or_default();
        for (ordinal, number) in (1i64..).zip(key) {
            let Some(column) = object.columns.get(number as usize - 1) else { continue };
            records.push(vec![
                ("constraint_catalog", catalog.clone().into()),
                ("constraint_schema", object.schema_name().into()),
                ("constraint_name", object.key_name().into()),
                ("table_catalog", catalog.clone().into()),
                ("table_schema", object.schema_name().into()),
                ("table_name", object.name.clone().into()),
                ("column_name", column.name.clone().into()),
                ("ordinal_position", ordinal.into()),
            ]);
        }
    }
    Ok(records)
}
