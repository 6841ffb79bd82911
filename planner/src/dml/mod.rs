//! Statements that write many rows: a query gives the rows, one writer makes them visible as a
//! whole.
//!
//! ```text
//! INSERT … SELECT   query ─ conform ─→ rows ───────────→ write_batch ─┐
//! UPDATE … WHERE    SELECT key, new values ─→ keys, rows → modify_batch ├─ commit
//! DELETE … WHERE    SELECT key ─────────────→ keys ──────→ modify_batch ┘
//! ```
//! Rows for a mapping go through its connector's sink instead ([`MappingInsert`]).
//! UPDATE and DELETE read under the same view they write by; a row that somebody else changed
//! meanwhile makes the whole statement run again, a bounded number of times, then fail (40001).

pub mod conform;
mod copy_in;
mod delete;
mod emptied;
mod insert;
mod insert_mapping;
mod modify;
mod update;

pub use copy_in::CopyRows;
pub use delete::{prepare as prepare_delete, relation as relation_of_delete, truncated};
pub use emptied::Emptied;
pub use insert::{check_conflict_target, parts as insert_parts, prepare as prepare_insert};
pub use insert_mapping::{
    MappingInsert, PreparedMappingInsert, prepare as prepare_mapping_insert,
    target as mapping_target,
};
pub use modify::{Action, Conflict, Modify, PreparedModify, check_not_null, null_value, row_of};
pub use update::{assignments as update_assignments, prepare as prepare_update};

use std::sync::Arc;

use datafusion::sql::sqlparser::{
    ast::{self, Ident, ObjectName, ObjectNamePart, SelectItem, SetExpr},
    tokenizer::Span,
};
use storage::Table;

use crate::{
    Error, Result, Session, SqlType,
    catalog::{
        provider::visible_schema,
        schema::{RETURNED_SCHEMA, ROWS_SCHEMA},
    },
    context::Context,
    parse,
    query::PreparedQuery,
};

/// `SELECT items FROM schema.table AS alias WHERE selection`, as if it had been written.
pub(crate) fn select_from(
    schema: &str,
    table: &Table,
    alias: &str,
    items: Vec<SelectItem>,
    selection: Option<ast::Expr>,
) -> Result<ast::Query> {
    let mut query = *parse::parse_query("SELECT 1 FROM t AS a")?;
    let name = ObjectName(vec![
        ObjectNamePart::Identifier(Ident::with_quote('"', schema)),
        ObjectNamePart::Identifier(Ident::with_quote('"', &table.record().name.name)),
    ]);
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection = items;
        select.selection = selection;
        if let Some(from) = select.from.first_mut()
            && let ast::TableFactor::Table { name: table, alias: table_alias, .. } =
                &mut from.relation
        {
            *table = name;
            if let Some(table_alias) = table_alias {
                table_alias.name = Ident::with_quote('"', alias);
            }
        }
    }
    Ok(query)
}

/// The rows of a table with their hidden key.
pub(crate) fn select_rows(
    table: &Table,
    alias: &str,
    items: Vec<SelectItem>,
    selection: Option<ast::Expr>,
) -> Result<ast::Query> {
    select_from(ROWS_SCHEMA, table, alias, items, selection)
}

/// Adds the relations of UPDATE … FROM or DELETE … USING to the query for the rows of `table`: each
/// row once, however many of theirs it meets.
pub(crate) fn join_others(
    query: &mut ast::Query,
    table: &Table,
    alias: &str,
    others: &[ast::TableWithJoins],
) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    select.from.extend_from_slice(others);
    let keys = key_items(table, alias).into_iter().filter_map(|item| match item {
        SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    });
    select.distinct = Some(ast::Distinct::On(keys.collect()));
}

/// The query that RETURNING asks of the rows a statement has written.
pub(crate) fn prepare_returning(
    context: &Context,
    session: &Session,
    table: &Table,
    alias: &str,
    returning: Option<&Vec<SelectItem>>,
    parameters: &[SqlType],
) -> Result<Option<PreparedQuery>> {
    let Some(items) = returning else { return Ok(None) };
    let query = select_from(RETURNED_SCHEMA, table, alias, items.clone(), None)?;
    let hints: Vec<_> = parameters.iter().cloned().map(Some).collect();
    Ok(Some(PreparedQuery::new(context, session, &query, &hints)?))
}

/// `alias.column AS "name"`.
pub(crate) fn column_item(alias: &str, column: &str, name: String) -> SelectItem {
    let expr = ast::Expr::CompoundIdentifier(vec![
        Ident::with_quote('"', alias),
        Ident::with_quote('"', column),
    ]);
    SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) }
}

/// Items that give the key of each row, named `k0 …`.
pub(crate) fn key_items(table: &Table, alias: &str) -> Vec<SelectItem> {
    let record = table.record();
    record
        .key
        .iter()
        .enumerate()
        .map(|(n, column)| column_item(alias, record.schema.field(*column).name(), format!("k{n}")))
        .collect()
}

/// The alias of a relation that is written, or its name.
pub(crate) fn alias_of(table: &Table, alias: Option<&Ident>) -> String {
    alias.map_or_else(|| table.record().name.name.clone(), parse::fold)
}

/// The relation of an UPDATE or DELETE and its alias.
pub(crate) fn written_relation(
    context: &Context,
    relation: &ast::TableWithJoins,
) -> Result<(Arc<Table>, String)> {
    if !relation.joins.is_empty() {
        return Err(Error::unsupported("UPDATE and DELETE of a join are not supported"));
    }
    let ast::TableFactor::Table { name, alias, args: None, .. } = &relation.relation else {
        return Err(Error::new("42601", "a table's name was expected"));
    };
    let table = crate::catalog::resolve::table(&context.parts.grid, name)?;
    let alias = alias_of(&table, alias.as_ref().map(|alias| &alias.name));
    Ok((table, alias))
}

/// A parameter that stands alone takes the type of what it is assigned to.
pub(crate) fn hint(
    hints: &mut Vec<Option<SqlType>>,
    expression: &ast::Expr,
    sql_type: impl FnOnce() -> SqlType,
) {
    let Some(number) = placeholder(expression) else { return };
    if hints.len() < number {
        hints.resize(number, None);
    }
    if let Some(hint) = hints.get_mut(number - 1)
        && hint.as_ref().is_none_or(|hint| *hint == SqlType::Unknown)
    {
        *hint = Some(sql_type());
    }
}

/// The number of a `$n`.
pub(crate) fn placeholder(expression: &ast::Expr) -> Option<usize> {
    match expression {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Placeholder(name) => {
                name.strip_prefix('$')?.parse().ok().filter(|number| *number > 0)
            }
            _ => None,
        },
        ast::Expr::Nested(inner) => placeholder(inner),
        _ => None,
    }
}

/// Whether an expression is the word DEFAULT.
pub(crate) fn is_default(expression: &ast::Expr) -> bool {
    matches!(expression, ast::Expr::Identifier(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("default"))
}

/// What DEFAULT stands for in a column.
pub(crate) fn default_expression(table: &Table, column: usize) -> Result<ast::Expr> {
    let record = table.record();
    match record.columns.get(column).and_then(|column| column.default_sql.as_ref()) {
        Some(sql) => parse::parse_expression(sql),
        None => Ok(ast::Expr::Value(ast::ValueWithSpan {
            value: ast::Value::Null,
            span: Span::empty(),
        })),
    }
}

/// The visible columns' SQL type.
pub(crate) fn column_type(table: &Table, column: usize) -> SqlType {
    SqlType::of_field(visible_schema(table.record()).field(column))
}
