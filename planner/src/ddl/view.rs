//! `CREATE VIEW`: the query is planned once, to be refused now rather than at its first use, and
//! kept as text.

use datafusion::sql::sqlparser::ast;
use storage::cluster::control::{ColumnRecord, Command, ObjectId, ViewRecord};

use crate::{
    Error, Result, Session,
    catalog::resolve,
    context::Context,
    parse::{fold, parameter_count},
    plan::CommandOutcome,
    query::{PreparedQuery, arrow_schema},
};

/// Carries out CREATE VIEW.
pub fn create(
    context: &Context,
    session: &Session,
    create: &ast::CreateView,
) -> Result<CommandOutcome> {
    if create.materialized {
        return Err(Error::unsupported("CREATE MATERIALIZED VIEW is not supported")
            .with_hint("Use CREATE TABLE and CREATE JOB … AS INSERT INTO."));
    }
    if create.temporary
        || create.or_alter
        || create.to.is_some()
        || create.params.is_some()
        || !create.cluster_by.is_empty()
        || create.with_no_schema_binding
        || !matches!(create.options, ast::CreateTableOptions::None)
    {
        return Err(Error::unsupported("this form of CREATE VIEW is not supported"));
    }
    let name = resolve::relation_name(&create.name)?;
    if parameter_count(create.query.as_ref()) > 0 {
        return Err(Error::new("42P02", "there is no parameter $1"));
    }
    let prepared = PreparedQuery::new(context, session, &create.query, &[])?;
    let mut columns = prepared.columns;
    if create.columns.len() > columns.len() {
        return Err(Error::new("42601", "CREATE VIEW specifies more column names than columns"));
    }
    for (column, named) in columns.iter_mut().zip(&create.columns) {
        column.name = fold(&named.name);
    }
    for (n, column) in columns.iter().enumerate() {
        if columns[..n].iter().any(|other| other.name == column.name) {
            return Err(Error::new(
                "42701",
                format!("column \"{}\" specified more than once", column.name),
            ));
        }
    }
    let record = ViewRecord {
        id: ObjectId(0),
        name: name.clone(),
        sql: create.query.to_string(),
        columns: columns
            .iter()
            .map(|column| ColumnRecord {
                name: column.name.clone(),
                sql_type: column.sql_type.name(),
                is_not_null: false,
                default_sql: None,
                external_name: None,
            })
            .collect(),
        schema: arrow_schema(&columns),
    };
    let tag = "CREATE VIEW".to_owned();
    let command = Command::CreateView { record, replace: create.or_replace };
    match context.parts.grid.control().submit(&command) {
        Ok(_) => Ok(CommandOutcome { tag, notices: Vec::new() }),
        Err(storage::Error::AlreadyExists { .. }) if create.if_not_exists => {
            let notice = format!("relation \"{}\" already exists, skipping", name.name);
            Ok(CommandOutcome { tag, notices: vec![("42P07", notice)] })
        }
        Err(error) => Err(error.into()),
    }
}
