//! `pg_type`: the built-in types that drivers look up, as PostgreSQL 15 has them (`types.txt`).
//! Users' own types do not exist yet.

use std::sync::LazyLock;

use crate::{
    Result, SqlType,
    catalog::system_table::{Record, Scope},
};

use super::objects::{OWNER, PG_CATALOG};

/// One built-in type.
#[derive(Debug, Clone)]
pub struct TypeRow {
    /// Its oid.
    pub oid: i64,
    /// Its short name (`int4`).
    pub name: String,
    /// Bytes of a value; negative for those of varying length.
    pub length: i64,
    /// The element's oid of an array.
    pub element: i64,
    fields: Vec<String>,
}

/// All built-in types.
pub static TYPES: LazyLock<Vec<TypeRow>> = LazyLock::new(|| {
    let lines = include_str!("types.txt").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(type_row).collect()
});

fn type_row(line: &str) -> Option<TypeRow> {
    let fields: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let number = |index: usize| fields.get(index)?.parse().ok();
    Some(TypeRow {
        oid: number(0)?,
        name: fields.get(1)?.clone(),
        length: number(2)?,
        element: number(8)?,
        fields,
    })
}

/// The built-in type of that oid.
pub fn by_oid(oid: i64) -> Option<&'static TypeRow> {
    TYPES.iter().find(|row| row.oid == oid)
}

/// The oid of a type by any of its names; `None` if there is none such.
pub fn oid_by_name(name: &str) -> Option<i64> {
    let name = name.trim().to_lowercase();
    let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
    if let Some(row) = TYPES.iter().find(|row| row.name == name) {
        return Some(row.oid);
    }
    crate::parse::data_type(name).ok().map(|sql_type| i64::from(sql_type.oid()))
}

/// PostgreSQL's `format_type`: the type's SQL name with its modifier.
pub fn format_type(oid: i64, modifier: Option<i64>) -> String {
    let has_no_length = modifier.is_some_and(|modifier| modifier < 0);
    let modifier = modifier.filter(|modifier| *modifier >= 0).map(|modifier| modifier - 4);
    let name = match oid {
        0 => return "-".to_owned(),
        18 => "\"char\"".to_owned(),
        // PostgreSQL tells a type without a modifier from one that has no length.
        1042 if has_no_length => "bpchar".to_owned(),
        1042 => "character".to_owned(),
        _ => match by_oid(oid) {
            Some(row) if row.element != 0 && row.name.starts_with('_') => {
                return format!("{}[]", format_type(row.element, modifier.map(|m| m + 4)));
            }
            Some(row) => match u32::try_from(oid).ok().and_then(SqlType::of_oid) {
                Some(sql_type) if i64::from(sql_type.oid()) == oid => sql_type.name(),
                _ => row.name.clone(),
            },
            None => return "???".to_owned(),
        },
    };
    match (oid, modifier) {
        (1700, Some(modifier)) => format!("{name}({},{})", modifier >> 16, modifier & 0xffff),
        (1042 | 1043, Some(modifier)) => format!("{name}({modifier})"),
        _ => name,
    }
}

/// The modifier of a declared type: `atttypmod`.
pub fn modifier(sql_type: &SqlType) -> i64 {
    match sql_type {
        SqlType::Numeric(precision, scale) => {
            ((i64::from(*precision) << 16) | i64::from(*scale)) + 4
        }
        SqlType::Varchar(Some(length)) | SqlType::Bpchar(Some(length)) => i64::from(*length) + 4,
        _ => -1,
    }
}

pub(super) fn types(_: &Scope<'_>) -> Result<Vec<Record>> {
    Ok(TYPES.iter().map(record).collect())
}

fn record(row: &TypeRow) -> Record {
    let text = |index: usize| row.fields.get(index).cloned().unwrap_or_default();
    let number = |index: usize| text(index).parse::<i64>().unwrap_or_default();
    let flag = |index: usize| text(index) == "t";
    // Functions of types have no rows of their own; their names follow one rule.
    let function = |suffix: &str| match row.name.as_str() {
        name if name.starts_with('_') => format!("array_{suffix}"),
        name => format!("{name}{suffix}"),
    };
    vec![
        ("oid", row.oid.into()),
        ("typname", row.name.clone().into()),
        ("typnamespace", PG_CATALOG.into()),
        ("typowner", OWNER.into()),
        ("typlen", row.length.into()),
        ("typbyval", flag(3).into()),
        ("typtype", text(4).into()),
        ("typcategory", text(5).into()),
        ("typispreferred", flag(6).into()),
        ("typisdefined", true.into()),
        ("typdelim", text(7).into()),
        ("typrelid", 0.into()),
        ("typsubscript", "-".into()),
        ("typelem", row.element.into()),
        ("typarray", number(9).into()),
        ("typinput", function("in").into()),
        ("typoutput", function("out").into()),
        ("typreceive", function("recv").into()),
        ("typsend", function("send").into()),
        ("typmodin", "-".into()),
        ("typmodout", "-".into()),
        ("typanalyze", "-".into()),
        ("typalign", text(10).into()),
        ("typstorage", text(11).into()),
        ("typnotnull", false.into()),
        ("typbasetype", 0.into()),
        ("typtypmod", (-1).into()),
        ("typndims", 0.into()),
        ("typcollation", number(12).into()),
    ]
}
