//! `DELETE FROM … [USING …] WHERE` and `TRUNCATE`.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast;
use storage::Table;

use super::{
    Action, PreparedModify, column_item, join_others, key_items, prepare_returning, select_rows,
    written_relation,
};
use crate::{
    Error, Result, Session, SqlType, catalog::resolve, context::Context, parse,
    query::PreparedQuery,
};

/// The one relation a DELETE names.
pub fn relation(delete: &ast::Delete) -> Result<&ast::TableWithJoins> {
    let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) =
        &delete.from;
    match from.as_slice() {
        [relation] if delete.tables.is_empty() => Ok(relation),
        _ => Err(Error::unsupported("DELETE from several tables is not supported")),
    }
}

/// Resolves a DELETE.
pub fn prepare(
    context: &Context,
    session: &Session,
    delete: &ast::Delete,
    hints: &[Option<SqlType>],
) -> Result<PreparedModify> {
    if delete.limit.is_some() || !delete.order_by.is_empty() {
        return Err(Error::unsupported("DELETE … LIMIT is not supported"));
    }
    let (table, alias) = written_relation(context, relation(delete)?)?;
    let mut hints = hints.to_vec();
    hints.resize(hints.len().max(parse::parameter_count(delete)), None);
    let mut items = key_items(&table, &alias);
    if delete.returning.is_some() {
        let columns = table.record().columns.iter().enumerate();
        items.extend(columns.map(|(n, column)| column_item(&alias, &column.name, format!("v{n}"))));
    }
    let mut query = select_rows(&table, &alias, items, delete.selection.clone())?;
    if let Some(others) = &delete.using {
        join_others(&mut query, &table, &alias, others);
    }
    let source = PreparedQuery::new(context, session, &query, &hints)?;
    let returning = prepare_returning(
        context,
        session,
        &table,
        &alias,
        delete.returning.as_ref(),
        &source.parameters,
    )?;
    Ok(PreparedModify { table, action: Action::Delete { source }, returning })
}

/// The tables of a TRUNCATE.
pub fn truncated(context: &Context, truncate: &ast::Truncate) -> Result<Vec<Arc<Table>>> {
    if truncate.partitions.is_some()
        || matches!(truncate.cascade, Some(ast::CascadeOption::Cascade))
        || matches!(truncate.identity, Some(ast::TruncateIdentityOption::Restart))
    {
        return Err(Error::unsupported("this form of TRUNCATE is not supported"));
    }
    let mut tables = Vec::with_capacity(truncate.table_names.len());
    for target in &truncate.table_names {
        match resolve::table(&context.parts.grid, &target.name) {
            Ok(table) => tables.push(table),
            Err(error) if truncate.if_exists && error.code == "42P01" => {}
            Err(error) => return Err(error),
        }
    }
    Ok(tables)
}
