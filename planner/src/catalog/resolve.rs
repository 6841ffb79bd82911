//! Names as a statement writes them → objects of the control state. Nothing is cached: whoever
//! keeps a result keeps its id too, and ids are never reused.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast;
use storage::{
    Grid, Table,
    cluster::control::{ObjectName, TableRecord, state::Relation},
};

use super::changes::ChangesSpec;
use crate::{Error, Result, error::no_such_relation, parse};

/// Schemas whose relations are the system's: nothing in them is created, dropped or written.
pub const SYSTEM_SCHEMAS: [&str; 3] = ["pg_catalog", "information_schema", "sys"];

/// The full name of a relation that a statement creates, drops or writes.
pub fn relation_name(name: &ast::ObjectName) -> Result<ObjectName> {
    let (schema, name) = parse::object_name(name)?;
    match schema.as_deref() {
        None | Some("public") => Ok(ObjectName::public(name)),
        Some(schema) if SYSTEM_SCHEMAS.contains(&schema) => Err(Error::new(
            "42501",
            format!("permission denied: \"{schema}.{name}\" is a system catalog"),
        )),
        Some(schema) => Err(Error::new("3F000", format!("schema \"{schema}\" does not exist"))),
    }
}

/// The full name of a relation that a statement reads, by its own name or by that of its changes.
pub fn read_name(name: &ast::ObjectName) -> Result<ObjectName> {
    let (schema, table) = parse::object_name(name)?;
    match schema.is_some_and(|schema| ChangesSpec::is_schema(&schema)) {
        true => Ok(ObjectName::public(table)),
        false => relation_name(name),
    }
}

/// The relation of that name.
pub fn relation(grid: &Grid, name: &ObjectName) -> Result<Relation> {
    let state = grid.control().state();
    state.relations.get(name).cloned().ok_or_else(|| no_such_relation(&name.name))
}

/// The table of that name, to be written.
pub fn table(grid: &Grid, name: &ast::ObjectName) -> Result<Arc<Table>> {
    let name = relation_name(name)?;
    match relation(grid, &name)? {
        Relation::Table(record) => Ok(grid.table(record.id)?),
        Relation::View(_) => {
            Err(Error::new("55000", format!("cannot write to view \"{}\"", name.name)))
        }
        Relation::Mapping(_) => {
            Err(Error::unsupported(format!("\"{}\" is a mapping, not a table", name.name))
                .with_hint("Rows are written into a mapping by INSERT INTO and by CREATE JOB."))
        }
    }
}

/// Position of a visible column of a table; 42703 if it has none such.
pub fn column(record: &TableRecord, name: &str) -> Result<usize> {
    record.columns.iter().position(|column| column.name == name).ok_or_else(|| {
        Error::new(
            "42703",
            format!("column \"{name}\" of relation \"{}\" does not exist", record.name.name),
        )
    })
}
