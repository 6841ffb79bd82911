//! `INSERT INTO` and `SINK INTO`, of VALUES or of a query.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast;
use storage::Table;

use super::{
    Action, Conflict, PreparedModify, alias_of, column_type,
    conform::{Target, conform_insert},
    default_expression, hint, is_default, prepare_returning,
};
use crate::{
    Error, Result, Session, SqlType,
    catalog::resolve,
    context::Context,
    keyed::{self, ConflictUpdate},
    parse::{self, fold},
    query::PreparedQuery,
};

/// The parts of an INSERT that is built; the rest is refused.
pub struct InsertParts<'a> {
    /// Name of the target.
    pub name: &'a ast::ObjectName,
    /// Its columns as listed.
    pub columns: Vec<String>,
    /// Rows; `None` for DEFAULT VALUES.
    pub source: Option<&'a ast::Query>,
}

/// Takes an INSERT apart.
pub fn parts(insert: &ast::Insert) -> Result<InsertParts<'_>> {
    let ast::TableObject::TableName(name) = &insert.table else {
        return Err(Error::new("42601", "a table's name was expected"));
    };
    if insert.or.is_some()
        || insert.ignore
        || insert.overwrite
        || insert.partitioned.is_some()
        || !insert.assignments.is_empty()
        || insert.replace_into
        || insert.output.is_some()
    {
        return Err(Error::unsupported("this form of INSERT is not supported"));
    }
    let columns = insert
        .columns
        .iter()
        .map(|name| parse::object_name(name).map(|(_, name)| name))
        .collect::<Result<_>>()?;
    Ok(InsertParts { name, columns, source: insert.source.as_deref() })
}

/// Resolves an INSERT.
pub fn prepare(
    context: &Context,
    session: &Session,
    insert: &ast::Insert,
    is_sink: bool,
    hints: &[Option<SqlType>],
) -> Result<PreparedModify> {
    let parts = parts(insert)?;
    let table = resolve::table(&context.parts.grid, parts.name)?;
    let alias = alias_of(&table, insert.table_alias.as_ref().map(|alias| &alias.alias));
    let target = Target::of_table(table.record());
    let positions = target.positions(&parts.columns)?;
    let mut hints = hints.to_vec();
    hints.resize(hints.len().max(parse::parameter_count(insert)), None);
    let conflict = conflict(&table, &alias, insert, is_sink, &mut hints)?;
    let mut query = match parts.source {
        Some(source) => source.clone(),
        None => default_values(&table, &positions)?,
    };
    prepare_values(&mut query, &table, &positions, &mut hints)?;
    let source = PreparedQuery::with_step(context, session, &query, &hints, |state, plan| {
        conform_insert(state, &target, &positions, plan)
    })?;
    let returning = prepare_returning(
        context,
        session,
        &table,
        &alias,
        insert.returning.as_ref(),
        &source.parameters,
    )?;
    Ok(PreparedModify { table, action: Action::Insert { source, conflict }, returning })
}

/// `DEFAULT VALUES`: one row of nothing but DEFAULT.
fn default_values(table: &Table, positions: &[usize]) -> Result<ast::Query> {
    let mut query = *parse::parse_query("VALUES (NULL)")?;
    let defaults = positions.iter().map(|position| default_expression(table, *position));
    let defaults = defaults.collect::<Result<Vec<_>>>()?;
    if let ast::SetExpr::Values(values) = query.body.as_mut()
        && let Some(row) = values.rows.first_mut()
    {
        row.content = defaults;
    }
    Ok(query)
}

/// DEFAULT in VALUES, and the types of parameters that stand alone there.
pub fn prepare_values(
    query: &mut ast::Query,
    table: &Table,
    positions: &[usize],
    hints: &mut Vec<Option<SqlType>>,
) -> Result<()> {
    let ast::SetExpr::Values(values) = query.body.as_mut() else { return Ok(()) };
    for row in &mut values.rows {
        for (value, position) in row.content.iter_mut().zip(positions) {
            if is_default(value) {
                *value = default_expression(table, *position)?;
            }
            hint(hints, value, || column_type(table, *position));
        }
    }
    Ok(())
}

/// What happens to a row whose key is there.
fn conflict(
    table: &Arc<Table>,
    alias: &str,
    insert: &ast::Insert,
    is_sink: bool,
    hints: &mut Vec<Option<SqlType>>,
) -> Result<Conflict> {
    let on = match &insert.on {
        None if is_sink => return Ok(Conflict::Replace),
        None => return Ok(Conflict::Fail),
        Some(ast::OnInsert::OnConflict(on)) => on,
        Some(_) => return Err(Error::new("42601", "syntax error at or near \"ON DUPLICATE\"")),
    };
    check_conflict_target(table, on)?;
    match &on.action {
        ast::OnConflictAction::DoNothing => Ok(Conflict::Skip),
        ast::OnConflictAction::DoUpdate(update) => {
            let update = ConflictUpdate::compile(table, alias, update, hints)?;
            Ok(Conflict::Update(Arc::new(update)))
        }
    }
}

/// ON CONFLICT may name the key's columns, in any order, or nothing with DO NOTHING.
pub fn check_conflict_target(table: &Table, on: &ast::OnConflict) -> Result<()> {
    let record = table.record();
    let no_match = || {
        Error::new(
            "42P10",
            "there is no unique or exclusion constraint matching the ON CONFLICT specification",
        )
    };
    match &on.conflict_target {
        None if matches!(on.action, ast::OnConflictAction::DoNothing) => Ok(()),
        None => Err(Error::new(
            "42601",
            "ON CONFLICT DO UPDATE requires inference specification or constraint name",
        )),
        Some(ast::ConflictTarget::Columns(columns)) => {
            let mut positions = columns
                .iter()
                .map(|column| resolve::column(record, &fold(column)))
                .collect::<Result<Vec<_>>>()?;
            let mut key = record.key.clone();
            positions.sort_unstable();
            key.sort_unstable();
            if record.has_hidden_key || positions != key { Err(no_match()) } else { Ok(()) }
        }
        Some(ast::ConflictTarget::OnConstraint(name)) => {
            let (_, name) = parse::object_name(name)?;
            match name == keyed::constraint_name(record) {
                true => Ok(()),
                false => Err(Error::new(
                    "42704",
                    format!(
                        "constraint \"{name}\" for table \"{}\" does not exist",
                        record.name.name
                    ),
                )),
            }
        }
    }
}
