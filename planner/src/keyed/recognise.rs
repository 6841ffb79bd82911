//! Which statements are keyed: a full key by equality, and nothing that needs a plan.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Expr, SelectItem, SetExpr};
use storage::{Grid, Table};

use super::{
    compile::{Compiler, columns},
    conflict::ConflictUpdate,
    plan::{Conflict, Given, KeyedPlan, Operation},
    value::Value,
};
use crate::{
    Origin, OutputColumn, SqlType,
    catalog::{pg::objects::oid_of, resolve},
    dml::{
        check_conflict_target, default_expression, insert_parts, is_default, relation_of_delete,
        update_assignments,
    },
    parse::{StatementKind, fold, is_plain_select, parameter_count},
};

/// The keyed plan of a statement, if it is one.
pub fn recognise(
    grid: &Arc<Grid>,
    kind: &StatementKind,
    hints: &[Option<SqlType>],
) -> Option<KeyedPlan> {
    match kind {
        StatementKind::Query(query) => select(grid, query, hints),
        StatementKind::Insert { insert, is_sink } => self::insert(grid, insert, *is_sink, hints),
        StatementKind::Update(update) => self::update(grid, update, hints),
        StatementKind::Delete(delete) => self::delete(grid, delete, hints),
        _ => None,
    }
}

/// Table and alias of a plain `name [AS alias]`.
fn plain_table(grid: &Grid, relation: &ast::TableWithJoins) -> Option<(Arc<Table>, String)> {
    let ast::TableFactor::Table {
        name,
        alias,
        args: None,
        with_hints,
        version: None,
        sample: None,
        index_hints,
        with_ordinality: false,
        partitions,
        ..
    } = &relation.relation
    else {
        return None;
    };
    if !relation.joins.is_empty()
        || !with_hints.is_empty()
        || !index_hints.is_empty()
        || !partitions.is_empty()
        || alias.as_ref().is_some_and(|alias| !alias.columns.is_empty())
    {
        return None;
    }
    let table = resolve::table(grid, name).ok()?;
    let alias = match alias {
        Some(alias) => fold(&alias.name),
        None => table.record().name.name.clone(),
    };
    Some((table, alias))
}

fn finish(
    grid: &Arc<Grid>,
    table: Arc<Table>,
    hints: Vec<Option<SqlType>>,
    operation: Operation,
    returned: Option<(Vec<usize>, Vec<OutputColumn>)>,
) -> Option<KeyedPlan> {
    // A parameter that is nowhere used has no type of ours.
    let parameters = hints.into_iter().collect::<Option<Vec<_>>>()?;
    let (projection, columns) = match returned {
        Some((projection, columns)) => (projection, Some(columns)),
        None => (Vec::new(), None),
    };
    let target = columns_of(&table);
    Some(KeyedPlan {
        columns,
        parameters,
        grid: Arc::clone(grid),
        table,
        target,
        operation,
        projection,
    })
}

fn columns_of(table: &Table) -> Vec<super::value::Column> {
    columns(table)
}

fn select(grid: &Arc<Grid>, query: &ast::Query, hints: &[Option<SqlType>]) -> Option<KeyedPlan> {
    let ast::Query {
        with: None,
        body,
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks,
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators,
    } = query
    else {
        return None;
    };
    let SetExpr::Select(select) = body.as_ref() else { return None };
    let is_plain = locks.is_empty() && pipe_operators.is_empty() && is_plain_select(select);
    let [relation] = select.from.as_slice() else { return None };
    let selection = select.selection.as_ref().filter(|_| is_plain)?;
    let (table, alias) = plain_table(grid, relation)?;
    let mut hints = sized(hints, parameter_count(query));
    let returned = projection(&table, &alias, &select.projection)?;
    let key = key(&table, &alias, selection, &mut hints)?;
    finish(grid, table, hints, Operation::Select { key }, Some(returned))
}

fn sized(hints: &[Option<SqlType>], count: usize) -> Vec<Option<SqlType>> {
    let mut hints = hints.to_vec();
    hints.resize(hints.len().max(count), None);
    hints
}

/// Positions and columns of a list of plain columns.
fn projection(
    table: &Table,
    alias: &str,
    items: &[SelectItem],
) -> Option<(Vec<usize>, Vec<OutputColumn>)> {
    let all = columns(table);
    let oid = oid_of(table.record().id);
    let mut positions = Vec::new();
    let mut output = Vec::new();
    for item in items {
        let (expr, name) = match item {
            SelectItem::Wildcard(options)
                if *options
                    == ast::WildcardAdditionalOptions {
                        wildcard_token: options.wildcard_token.clone(),
                        ..Default::default()
                    } =>
            {
                for (n, column) in all.iter().enumerate() {
                    positions.push(n);
                    output.push(OutputColumn {
                        name: column.name.clone(),
                        sql_type: column.sql_type.clone(),
                        origin: Origin::new(oid, n),
                    });
                }
                continue;
            }
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(fold(alias))),
            _ => return None,
        };
        let column = column_name(expr, alias)?;
        let position = all.iter().position(|known| known.name == column)?;
        positions.push(position);
        output.push(OutputColumn {
            name: name.unwrap_or(column),
            sql_type: all[position].sql_type.clone(),
            origin: Origin::new(oid, position),
        });
    }
    (!positions.is_empty()).then_some((positions, output))
}

fn column_name(expr: &Expr, alias: &str) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(fold(name)),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [table, column] if fold(table) == alias => Some(fold(column)),
            _ => None,
        },
        Expr::Nested(inner) => column_name(inner, alias),
        _ => None,
    }
}

/// The key's values, in key order, if the condition is exactly one equality a key column.
fn key(
    table: &Table,
    alias: &str,
    selection: &Expr,
    hints: &mut Vec<Option<SqlType>>,
) -> Option<Vec<Value>> {
    let record = table.record();
    if record.has_hidden_key {
        return None;
    }
    let mut equalities = Vec::with_capacity(record.key.len());
    conjuncts(selection, record.key.len(), &mut equalities)?;
    if equalities.len() != record.key.len() {
        return None;
    }
    let columns = columns(table);
    let mut compiler = Compiler { columns, alias, has_excluded: false, hints };
    let mut key = Vec::with_capacity(record.key.len());
    for position in &record.key {
        let (name, sql_type) = {
            let column = &compiler.columns[*position];
            (column.name.clone(), column.sql_type.clone())
        };
        let value = equalities.iter().find_map(|(left, right)| {
            let left_name = column_name(left, alias);
            if left_name.as_ref() == Some(&name) {
                return Some(*right);
            }
            (column_name(right, alias).as_ref() == Some(&name)).then_some(*left)
        })?;
        key.push(compiler.constant(value, &sql_type)?);
    }
    Some(key)
}

fn conjuncts<'a>(
    expr: &'a Expr,
    most: usize,
    equalities: &mut Vec<(&'a Expr, &'a Expr)>,
) -> Option<()> {
    match expr {
        Expr::Nested(inner) => conjuncts(inner, most, equalities),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(left, most, equalities)?;
            conjuncts(right, most, equalities)
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } if equalities.len() < most => {
            equalities.push((left, right));
            Some(())
        }
        _ => None,
    }
}

fn insert(
    grid: &Arc<Grid>,
    insert: &ast::Insert,
    is_sink: bool,
    hints: &[Option<SqlType>],
) -> Option<KeyedPlan> {
    let parts = insert_parts(insert).ok()?;
    let source = parts.source?;
    let SetExpr::Values(values) = source.body.as_ref() else { return None };
    let [row] = values.rows.as_slice() else { return None };
    let is_plain = source.with.is_none()
        && source.order_by.is_none()
        && source.limit_clause.is_none()
        && source.fetch.is_none();
    let table = resolve::table(grid, parts.name).ok().filter(|_| is_plain)?;
    let record = table.record();
    // What does not ask for the key needs none.
    if record.has_hidden_key && (is_sink || insert.on.is_some()) {
        return None;
    }
    let target = crate::dml::conform::Target::of_table(record);
    let positions = target.positions(&parts.columns).ok()?;
    if row.content.len() != positions.len() {
        return None;
    }
    let alias = match &insert.table_alias {
        Some(alias) => fold(&alias.alias),
        None => record.name.name.clone(),
    };
    let mut hints = sized(hints, parameter_count(insert));
    let conflict = match &insert.on {
        None if is_sink => Conflict::Replace,
        None => Conflict::Fail,
        Some(ast::OnInsert::OnConflict(on)) => {
            check_conflict_target(&table, on).ok()?;
            match &on.action {
                ast::OnConflictAction::DoNothing => Conflict::Skip,
                ast::OnConflictAction::DoUpdate(update) => Conflict::Update(
                    ConflictUpdate::compile(&table, &alias, update, &mut hints).ok()?,
                ),
            }
        }
        Some(_) => return None,
    };
    let columns = columns(&table);
    let mut compiler = Compiler {
        columns: columns.clone(),
        alias: &alias,
        has_excluded: false,
        hints: &mut hints,
    };
    let mut compiled = Vec::with_capacity(columns.len());
    for (n, column) in columns.iter().enumerate() {
        let given = positions.iter().position(|position| *position == n);
        let given = given.map(|index| &row.content[index]).filter(|value| !is_default(value));
        let default = default_expression(&table, n).ok()?;
        let value = given.unwrap_or(&default);
        compiled.push(match is_moment(value, &column.sql_type) {
            true => Given::Now,
            false => Given::Value(compiler.constant(value, &column.sql_type)?),
        });
    }
    let returned = match &insert.returning {
        Some(items) => Some(projection(&table, &alias, items)?),
        None => None,
    };
    finish(grid, table, hints, Operation::Insert { row: compiled, conflict }, returned)
}

/// Whether an expression is `now()` by any of its names, for a column that holds what it is.
fn is_moment(expression: &Expr, sql_type: &SqlType) -> bool {
    let Expr::Function(call) = expression else { return false };
    let is_bare = match &call.args {
        ast::FunctionArguments::None => true,
        ast::FunctionArguments::List(list) => list.args.is_empty() && list.clauses.is_empty(),
        ast::FunctionArguments::Subquery(_) => false,
    };
    let is_plain = is_bare
        && call.over.is_none()
        && call.filter.is_none()
        && call.within_group.is_empty()
        && call.parameters == ast::FunctionArguments::None;
    let [ast::ObjectNamePart::Identifier(name)] = call.name.0.as_slice() else { return false };
    is_plain
        && matches!(sql_type, SqlType::Timestamp | SqlType::Timestamptz)
        && matches!(fold(name).as_str(), "current_timestamp" | "now" | "transaction_timestamp")
}

fn update(grid: &Arc<Grid>, update: &ast::Update, hints: &[Option<SqlType>]) -> Option<KeyedPlan> {
    if update.from.is_some()
        || update.or.is_some()
        || update.limit.is_some()
        || !update.order_by.is_empty()
    {
        return None;
    }
    let (table, alias) = plain_table(grid, &update.table)?;
    let mut hints = sized(hints, parameter_count(update));
    let key = key(&table, &alias, update.selection.as_ref()?, &mut hints)?;
    let columns = columns(&table);
    let mut compiler = Compiler {
        columns: columns.clone(),
        alias: &alias,
        has_excluded: false,
        hints: &mut hints,
    };
    let mut assignments = Vec::new();
    for (position, value) in update_assignments(&table, &update.assignments).ok()? {
        if table.record().key.contains(&position) {
            return None;
        }
        assignments.push((position, compiler.assigned(&value, &columns[position].sql_type)?));
    }
    let returned = match &update.returning {
        Some(items) => Some(projection(&table, &alias, items)?),
        None => None,
    };
    finish(grid, table, hints, Operation::Update { key, assignments }, returned)
}

fn delete(grid: &Arc<Grid>, delete: &ast::Delete, hints: &[Option<SqlType>]) -> Option<KeyedPlan> {
    // The row that DELETE … RETURNING answers must be read under the same lock: not keyed.
    if delete.limit.is_some()
        || !delete.order_by.is_empty()
        || delete.returning.is_some()
        || delete.using.is_some()
    {
        return None;
    }
    let (table, alias) = plain_table(grid, relation_of_delete(delete).ok()?)?;
    let mut hints = sized(hints, parameter_count(delete));
    let key = key(&table, &alias, delete.selection.as_ref()?, &mut hints)?;
    finish(grid, table, hints, Operation::Delete { key }, None)
}
