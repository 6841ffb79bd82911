//! `UPDATE … SET … [FROM …] WHERE`: a query for the keys and the new values of the rows. A row that
//! meets several of FROM is changed once, by whichever comes first, as in PostgreSQL.

use datafusion::{
    logical_expr::{Expr, LogicalPlanBuilder},
    sql::sqlparser::ast::{self, Ident, SelectItem},
};
use storage::Table;

use super::{
    Action, PreparedModify, column_item, column_type,
    conform::{Target, assign},
    default_expression, hint, is_default, join_others, key_items, prepare_returning, select_rows,
    written_relation,
};
use crate::{
    Error, Result, Session, SqlType, catalog::resolve, context::Context, parse,
    query::PreparedQuery,
};

/// Resolves an UPDATE.
pub fn prepare(
    context: &Context,
    session: &Session,
    update: &ast::Update,
    hints: &[Option<SqlType>],
) -> Result<PreparedModify> {
    if update.or.is_some() || update.limit.is_some() || !update.order_by.is_empty() {
        return Err(Error::unsupported("this form of UPDATE is not supported"));
    }
    let (table, alias) = written_relation(context, &update.table)?;
    let record = table.record();
    let assignments = assignments(&table, &update.assignments)?;
    let mut hints = hints.to_vec();
    hints.resize(hints.len().max(parse::parameter_count(update)), None);
    let key_count = record.key.len();
    let mut items = key_items(&table, &alias);
    for (n, column) in record.columns.iter().enumerate() {
        let value = assignments.iter().find(|(position, _)| *position == n);
        items.push(match value {
            Some((_, value)) => {
                hint(&mut hints, value, || column_type(&table, n));
                SelectItem::ExprWithAlias {
                    expr: value.clone(),
                    alias: Ident::with_quote('"', format!("v{n}")),
                }
            }
            None => column_item(&alias, &column.name, format!("v{n}")),
        });
    }
    let mut query = select_rows(&table, &alias, items, update.selection.clone())?;
    match &update.from {
        None => {}
        Some(ast::UpdateTableFromKind::AfterSet(others)) => {
            join_others(&mut query, &table, &alias, others);
        }
        Some(ast::UpdateTableFromKind::BeforeSet(_)) => {
            return Err(Error::new("42601", "syntax error at or near \"FROM\""));
        }
    }
    let target = Target::of_table(record);
    let source = PreparedQuery::with_step(context, session, &query, &hints, |_, plan| {
        let keys = plan.schema().columns().into_iter().take(key_count).map(Expr::Column);
        let mut expressions: Vec<Expr> = keys.collect();
        for (n, column) in target.columns.iter().enumerate() {
            let value = assign(&plan, key_count + n, &target.sql_type(n), &column.name)?;
            expressions.push(value.alias(format!("v{n}")));
        }
        Ok(LogicalPlanBuilder::from(plan).project(expressions)?.build()?)
    })?;
    let returning = prepare_returning(
        context,
        session,
        &table,
        &alias,
        update.returning.as_ref(),
        &source.parameters,
    )?;
    let changes_key = assignments.iter().any(|(position, _)| record.key.contains(position));
    Ok(PreparedModify { table, action: Action::Update { source, changes_key }, returning })
}

/// `SET` as positions and expressions, DEFAULT resolved.
pub fn assignments(table: &Table, written: &[ast::Assignment]) -> Result<Vec<(usize, ast::Expr)>> {
    let mut assignments: Vec<(usize, ast::Expr)> = Vec::new();
    for assignment in written {
        let pairs: Vec<(&ast::ObjectName, &ast::Expr)> =
            match (&assignment.target, &assignment.value) {
                (ast::AssignmentTarget::ColumnName(name), value) => vec![(name, value)],
                (ast::AssignmentTarget::Tuple(names), ast::Expr::Tuple(values))
                    if names.len() == values.len() =>
                {
                    names.iter().zip(values).collect()
                }
                _ => {
                    return Err(Error::unsupported(
                        "UPDATE of several columns from one value is not supported",
                    ));
                }
            };
        for (name, value) in pairs {
            let (_, name) = parse::object_name(name)?;
            let position = resolve::column(table.record(), &name)?;
            if assignments.iter().any(|(other, _)| *other == position) {
                return Err(Error::new(
                    "42601",
                    format!("multiple assignments to same column \"{name}\""),
                ));
            }
            let value = match is_default(value) {
                true => default_expression(table, position)?,
                false => value.clone(),
            };
            assignments.push((position, value));
        }
    }
    Ok(assignments)
}
