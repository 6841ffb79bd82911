//! `CREATE TABLE`: columns, key and options → the record the control state keeps. Whatever a
//! table cannot have yet is refused by name.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::sql::sqlparser::ast;
use storage::{
    Grid,
    cluster::control::{ColumnRecord, Command, ObjectId, TableRecord},
};

use super::table_options::{Notice, options};
use crate::{Error, Result, SqlType, catalog::resolve, parse::fold, plan::CommandOutcome};

/// Name of the hidden key column of a table without PRIMARY KEY.
pub const HIDDEN_KEY: &str = "_row_id";

/// Most columns of a table, as in PostgreSQL.
const COLUMNS_MAX: usize = 1_600;

/// Carries out CREATE TABLE.
pub fn create(grid: &Grid, create: &ast::CreateTable) -> Result<CommandOutcome> {
    refuse_unbuilt(create)?;
    let name = resolve::relation_name(&create.name)?;
    let tag = "CREATE TABLE".to_owned();
    let relation = name.name.clone();
    let (record, notices) = record(grid, create, name)?;
    match grid.control().submit(&Command::CreateTable(record)) {
        Ok(_) => Ok(CommandOutcome { tag, notices }),
        Err(storage::Error::AlreadyExists { .. }) if create.if_not_exists => {
            let notice = format!("relation \"{relation}\" already exists, skipping");
            Ok(CommandOutcome { tag, notices: vec![("42P07", notice)] })
        }
        Err(storage::Error::AlreadyExists { .. }) => {
            Err(Error::new("42P07", format!("relation \"{relation}\" already exists")))
        }
        Err(error) => Err(error.into()),
    }
}

fn refuse_unbuilt(create: &ast::CreateTable) -> Result<()> {
    let refused = [
        (create.or_replace, "CREATE OR REPLACE TABLE"),
        (create.temporary, "CREATE TEMPORARY TABLE"),
        (create.external, "CREATE EXTERNAL TABLE"),
        (create.query.is_some(), "CREATE TABLE AS"),
        (create.like.is_some(), "CREATE TABLE LIKE"),
        (create.clone.is_some(), "CREATE TABLE CLONE"),
        (create.inherits.is_some(), "INHERITS"),
        (create.partition_by.is_some() || create.partition_of.is_some(), "PARTITION"),
        (create.on_commit.is_some(), "ON COMMIT"),
        (create.global.is_some(), "GLOBAL or LOCAL TABLE"),
        (create.transient || create.volatile || create.iceberg || create.dynamic, "this table"),
        (create.order_by.is_some() || create.cluster_by.is_some(), "ORDER BY or CLUSTER BY"),
        (create.file_format.is_some() || create.location.is_some(), "STORED AS or LOCATION"),
    ];
    match refused.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, what)) => Err(Error::unsupported(format!("{what} is not supported"))),
        None => Ok(()),
    }
}

fn record(
    grid: &Grid,
    create: &ast::CreateTable,
    name: storage::cluster::control::ObjectName,
) -> Result<(TableRecord, Vec<Notice>)> {
    if create.columns.is_empty() {
        return Err(Error::unsupported("a table without columns is not supported"));
    }
    if create.columns.len() > COLUMNS_MAX {
        return Err(Error::new("54011", format!("tables can have at most {COLUMNS_MAX} columns")));
    }
    let mut key_names: Option<Vec<String>> = None;
    let mut columns = Vec::with_capacity(create.columns.len());
    let mut types = Vec::with_capacity(create.columns.len());
    for definition in &create.columns {
        let (column, sql_type, is_key) = column(definition)?;
        if columns.iter().any(|other: &ColumnRecord| other.name == column.name) {
            return Err(Error::new(
                "42701",
                format!("column \"{}\" specified more than once", column.name),
            ));
        }
        if is_key {
            set_key(&mut key_names, vec![column.name.clone()], &name.name)?;
        }
        columns.push(column);
        types.push(sql_type);
    }
    for constraint in &create.constraints {
        set_key(&mut key_names, constraint_key(constraint)?, &name.name)?;
    }
    let key = key_positions(&key_names.unwrap_or_default(), &mut columns, &types)?;
    let has_hidden_key = key.is_empty();
    let mut fields = fields(&columns, &types);
    if has_hidden_key {
        if columns.iter().any(|column| column.name == HIDDEN_KEY) {
            return Err(Error::new(
                "42701",
                format!("column name \"{HIDDEN_KEY}\" is taken by the hidden key"),
            )
            .with_hint("Give the table a PRIMARY KEY."));
        }
        fields.push(Field::new(HIDDEN_KEY, DataType::Int64, false));
    }
    let (options, notices) = options(grid, &create.table_options)?;
    let record = TableRecord {
        id: ObjectId(0),
        name,
        key: if has_hidden_key { vec![columns.len()] } else { key },
        schema: Arc::new(Schema::new(fields)),
        has_hidden_key,
        columns,
        options,
    };
    Ok((record, notices))
}

/// The Arrow fields of columns of these types.
pub fn fields(columns: &[ColumnRecord], types: &[SqlType]) -> Vec<Field> {
    let columns = columns.iter().zip(types);
    columns.map(|(column, t)| t.field(&column.name, !column.is_not_null)).collect()
}

/// A column, its type, and whether PRIMARY KEY stands behind it.
fn column(definition: &ast::ColumnDef) -> Result<(ColumnRecord, SqlType, bool)> {
    let name = fold(&definition.name);
    let sql_type = SqlType::of_ast(&definition.data_type)?;
    let mut column = ColumnRecord {
        name,
        sql_type: sql_type.name(),
        is_not_null: false,
        default_sql: None,
        external_name: None,
    };
    let mut is_key = false;
    for option in &definition.options {
        match &option.option {
            ast::ColumnOption::Null => {}
            ast::ColumnOption::NotNull => column.is_not_null = true,
            ast::ColumnOption::Default(value) => column.default_sql = Some(value.to_string()),
            ast::ColumnOption::PrimaryKey(_) => is_key = true,
            other => {
                return Err(Error::unsupported(format!(
                    "column option {other} of \"{}\" is not supported",
                    column.name
                )));
            }
        }
    }
    Ok((column, sql_type, is_key))
}

/// The columns of a PRIMARY KEY; other constraints are refused.
pub fn constraint_key(constraint: &ast::TableConstraint) -> Result<Vec<String>> {
    match constraint {
        ast::TableConstraint::PrimaryKey(key) => key
            .columns
            .iter()
            .map(|column| match &column.column.expr {
                ast::Expr::Identifier(name) => Ok(fold(name)),
                other => Err(Error::unsupported(format!("a key over {other} is not supported"))),
            })
            .collect(),
        other => Err(Error::unsupported(format!("constraint {other} is not supported"))),
    }
}

fn set_key(key: &mut Option<Vec<String>>, names: Vec<String>, table: &str) -> Result<()> {
    match key.replace(names) {
        None => Ok(()),
        Some(_) => Err(Error::new(
            "42P16",
            format!("multiple primary keys for table \"{table}\" are not allowed"),
        )),
    }
}

/// Positions of the key columns, which become NOT NULL.
pub fn key_positions(
    names: &[String],
    columns: &mut [ColumnRecord],
    types: &[SqlType],
) -> Result<Vec<usize>> {
    let mut key = Vec::with_capacity(names.len());
    for name in names {
        let position = columns.iter().position(|column| column.name == *name).ok_or_else(|| {
            Error::new("42703", format!("column \"{name}\" named in key does not exist"))
        })?;
        if key.contains(&position) {
            return Err(Error::new(
                "42701",
                format!("column \"{name}\" appears twice in primary key constraint"),
            ));
        }
        if matches!(types[position], SqlType::Array(_) | SqlType::Struct(_) | SqlType::Json) {
            return Err(Error::unsupported(format!(
                "a key column of type {} is not supported",
                types[position].name()
            )));
        }
        columns[position].is_not_null = true;
        key.push(position);
    }
    Ok(key)
}
