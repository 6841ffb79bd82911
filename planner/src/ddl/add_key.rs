//! `ALTER TABLE … ADD PRIMARY KEY`: the rows of a table without a key go into a new one that has it
//! and that takes the name with all rows at once. `ALTER TABLE … SET (…)` changes options. Every other
//! ALTER TABLE is refused by name.
//!
//! The new table has an id of its own, so whatever was planned for the old one is planned again.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::sql::sqlparser::ast;
use storage::cluster::control::{ObjectName, TableRecord, state::Relation};

use super::{
    drop::jobs_using,
    table::{constraint_key, fields, key_positions},
    table_options,
};
use crate::{
    Error, Result, Session, SqlType,
    catalog::{provider::visible_schema, resolve},
    context::Context,
    parse::fold,
    plan::CommandOutcome,
};

/// Carries out ALTER TABLE.
pub fn alter(
    context: &Context,
    session: &Session,
    alter: &ast::AlterTable,
) -> Result<CommandOutcome> {
    let set = match alter.operations.as_slice() {
        [ast::AlterTableOperation::SetOptionsParens { options }] => Some(options),
        _ => None,
    };
    let key = match set {
        None => Some(added_key(alter)?),
        Some(_) => None,
    };
    let name = resolve::relation_name(&alter.name)?;
    let grid = &context.parts.grid;
    let mut outcome = CommandOutcome { tag: "ALTER TABLE".to_owned(), notices: Vec::new() };
    let record = match resolve::relation(grid, &name) {
        Ok(Relation::Table(record)) => record,
        Ok(other) => return Err(no_table(&name, other.kind())),
        Err(error) if alter.if_exists && error.code == "42P01" => {
            let notice = format!("relation \"{}\" does not exist, skipping", name.name);
            outcome.notices.push(("00000", notice));
            return Ok(outcome);
        }
        Err(error) => return Err(error),
    };
    let Some(key) = key else {
        check_idle(session)?;
        if table_options::ends_keeping(set.map_or(&[], Vec::as_slice)) {
            check_users(context, session, &name)?;
        }
        outcome.notices = table_options::set(context, &record, set.map_or(&[], Vec::as_slice))?;
        return Ok(outcome);
    };
    check_name(key, &name)?;
    let keyed =
        with_key(&record, &constraint_key(&ast::TableConstraint::PrimaryKey(key.clone()))?)?;
    check_users(context, session, &name)?;
    let table = grid.table(record.id)?;
    let visible: Vec<usize> = (0..record.columns.len()).collect();
    match grid.replace_table(&table, keyed, &visible) {
        Ok(_) => Ok(outcome),
        Err(error) => Err(refusal(error, &name)),
    }
}

/// The key that the statement adds; everything else it could ask for is not built.
fn added_key(alter: &ast::AlterTable) -> Result<&ast::PrimaryKeyConstraint> {
    use ast::{AlterTableOperation as Operation, TableConstraint as Constraint};
    let unbuilt = |what: &str| Err(Error::unsupported(format!("{what} is not supported")));
    match alter.operations.as_slice() {
        [
            Operation::AddConstraint { constraint: Constraint::PrimaryKey(key), not_valid: false },
        ] => {
            let is_plain = key.index_name.is_none()
                && key.index_type.is_none()
                && key.index_options.is_empty()
                && key.characteristics.is_none();
            match is_plain && alter.on_cluster.is_none() && alter.location.is_none() {
                true => Ok(key),
                false => unbuilt("this form of ADD PRIMARY KEY"),
            }
        }
        [Operation::AddConstraint { constraint: Constraint::ForeignKey(_), .. }] => {
            unbuilt("FOREIGN KEY")
        }
        [operation] => unbuilt(&format!("ALTER TABLE … {operation}")),
        _ => unbuilt("ALTER TABLE with several actions"),
    }
}

/// A key has the name that every catalog query finds it by.
fn check_name(key: &ast::PrimaryKeyConstraint, table: &ObjectName) -> Result<()> {
    let expected = format!("{}_pkey", table.name);
    match &key.name {
        Some(name) if fold(name) != expected => {
            Err(Error::unsupported("a name of its own for a primary key is not supported")
                .with_hint(format!("It is called \"{expected}\".")))
        }
        _ => Ok(()),
    }
}

/// The record of the same table with a key over these columns.
fn with_key(record: &TableRecord, names: &[String]) -> Result<TableRecord> {
    let table = &record.name.name;
    if !record.has_hidden_key {
        let message = format!("multiple primary keys for table \"{table}\" are not allowed");
        return Err(Error::new("42P16", message));
    }
    for name in names {
        resolve::column(record, name)?;
    }
    let schema = visible_schema(record);
    let types: Vec<SqlType> =
        schema.fields().iter().map(|field| SqlType::of_field(field)).collect();
    let mut columns = record.columns.clone();
    let key = key_positions(names, &mut columns, &types)?;
    let schema = Arc::new(Schema::new(fields(&columns, &types)));
    Ok(TableRecord { schema, key, columns, has_hidden_key: false, ..record.clone() })
}

/// Nobody may stand in the middle of something with the table.
fn check_users(context: &Context, session: &Session, table: &ObjectName) -> Result<()> {
    check_idle(session)?;
    match jobs_using(&context.parts.grid.control().state(), table)?.first() {
        Some(job) => {
            let table = &table.name;
            let message =
                format!("cannot ALTER TABLE \"{table}\" because it is being used by job \"{job}\"");
            Err(Error::new("55006", message).with_hint("Drop the job first."))
        }
        None => Ok(()),
    }
}

/// A block's own writer would be waited for.
fn check_idle(session: &Session) -> Result<()> {
    match &session.writer {
        None => Ok(()),
        Some(_) => {
            let message = "ALTER TABLE cannot run in a transaction block that has written";
            Err(Error::new("25001", message).with_hint("Commit first."))
        }
    }
}

fn no_table(name: &ObjectName, kind: &str) -> Error {
    let message =
        format!("ALTER action ADD CONSTRAINT cannot be performed on relation \"{}\"", name.name);
    Error::new("42809", message)
        .with_detail(format!("This operation is not supported for {kind}s."))
}

/// Why the rows could not be given the key, in PostgreSQL's words.
fn refusal(error: storage::Error, table: &ObjectName) -> Error {
    let table = &table.name;
    let message = match &error {
        storage::Error::DuplicateKey { .. } => {
            format!("could not create unique index \"{table}_pkey\"")
        }
        storage::Error::NullValue { column, .. } => {
            format!("column \"{column}\" of relation \"{table}\" contains null values")
        }
        storage::Error::Conflict => {
            let message = format!("could not obtain lock on relation \"{table}\"");
            return Error::new("55P03", message)
                .with_detail("Transactions that have written to it did not end in time.");
        }
        _ => return error.into(),
    };
    let error = Error::from(error);
    let detail = error.detail.map(|detail| detail.replace(" already exists.", " is duplicated."));
    Error { message, detail, ..error }
}
