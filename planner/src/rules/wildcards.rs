//! `SELECT *` where DataFusion's own answer is not PostgreSQL's: several wildcards in one list, which
//! it refuses, and joins with USING, whose columns PostgreSQL puts first and merges.
//!
//! The names come from planning `SELECT *` over the same FROM once; then each wildcard is written
//! out. What is not understood here (wildcards with EXCEPT, nested joins) is left as it was.

use datafusion::{
    error::Result,
    execution::SessionState,
    logical_expr::LogicalPlan,
    sql::{
        parser::Statement as DataFusionStatement,
        sqlparser::ast::{
            self, Expr, Ident, JoinConstraint, JoinOperator, Query, Select, SelectItem,
            SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor, TableWithJoins,
        },
    },
};

use super::rewrite_ast::{call, rewrite_ast};
use crate::parse::fold;

/// A column of FROM: what it is called, and what it is.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    expr: Expr,
}

/// Writes out the wildcards of a query that has not been rewritten yet.
pub async fn expand(state: &SessionState, query: &mut Query) -> Result<()> {
    let SetExpr::Select(select) = query.body.as_ref() else { return Ok(()) };
    if !is_needed(select) {
        return Ok(());
    }
    let fields = fields(state, query).await?;
    let SetExpr::Select(select) = query.body.as_mut() else { return Ok(()) };
    let mut columns = Vec::new();
    for from in &select.from {
        let Some(more) = columns_of(from, &fields) else { return Ok(()) };
        columns.extend(more);
    }
    let mut items = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::Wildcard(_) => items.extend(columns.iter().map(Column::item)),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                let Some(alias) = name.0.last().and_then(|part| part.as_ident()).map(fold) else {
                    return Ok(());
                };
                items.extend(of_relation(&alias, &fields).iter().map(Column::item));
            }
            other => items.push(other.clone()),
        }
    }
    select.projection = items;
    Ok(())
}

fn is_needed(select: &Select) -> bool {
    let is_plain = |options: &ast::WildcardAdditionalOptions| {
        *options
            == ast::WildcardAdditionalOptions {
                wildcard_token: options.wildcard_token.clone(),
                ..Default::default()
            }
    };
    let mut count = 0;
    for item in &select.projection {
        match item {
            SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => {
                if !is_plain(options) {
                    return false;
                }
                count += 1;
            }
            _ => {}
        }
    }
    let merges = |join: &ast::Join| {
        constraint(&join.join_operator)
            .is_some_and(|by| matches!(by, JoinConstraint::Using(_) | JoinConstraint::Natural))
    };
    let has_merged = select.from.iter().flat_map(|from| &from.joins).any(merges);
    count > 1 || (count == 1 && has_merged)
}

/// Relation and name of every column of FROM.
async fn fields(state: &SessionState, query: &Query) -> Result<Vec<(String, String)>> {
    let mut probe = query.clone();
    probe.order_by = None;
    probe.limit_clause = None;
    probe.fetch = None;
    if let SetExpr::Select(select) = probe.body.as_mut() {
        let is_wildcard = |item: &&SelectItem| matches!(item, SelectItem::Wildcard(_));
        let wildcard = select.projection.iter().find(is_wildcard).cloned();
        let all = SelectItem::Wildcard(ast::WildcardAdditionalOptions::default());
        select.projection = vec![wildcard.unwrap_or(all)];
        select.distinct = None;
        select.selection = None;
        select.having = None;
        select.qualify = None;
        select.group_by = ast::GroupByExpr::Expressions(Vec::new(), Vec::new());
    }
    let mut statement = Statement::Query(Box::new(probe));
    rewrite_ast(&mut statement);
    let plan = state.statement_to_plan(DataFusionStatement::Statement(Box::new(statement))).await?;
    let LogicalPlan::Projection(projection) = plan else { return Ok(Vec::new()) };
    let schema = projection.input.schema();
    let fields = schema.iter().map(|(relation, field)| {
        let relation = relation.map(|relation| relation.table().to_owned());
        (relation.unwrap_or_default(), field.name().clone())
    });
    Ok(fields.collect())
}

/// The columns of one item of FROM, merged ones first; `None` if it is not understood.
fn columns_of(from: &TableWithJoins, fields: &[(String, String)]) -> Option<Vec<Column>> {
    let mut columns = of_relation(&alias_of(&from.relation)?, fields);
    for join in &from.joins {
        let right = of_relation(&alias_of(&join.relation)?, fields);
        let names: Vec<String> = match constraint(&join.join_operator) {
            Some(JoinConstraint::Using(names)) => {
                let idents = names.iter().map(|name| name.0.last()?.as_ident().map(fold));
                idents.collect::<Option<_>>()?
            }
            Some(JoinConstraint::Natural) => columns
                .iter()
                .map(|column| column.name.clone())
                .filter(|name| right.iter().any(|column| column.name == *name))
                .collect(),
            Some(_) => Vec::new(),
            None => match join.join_operator {
                JoinOperator::CrossJoin(_) => Vec::new(),
                _ => return None,
            },
        };
        columns = merged(columns, right, &names, &join.join_operator)?;
    }
    Some(columns)
}

fn merged(
    left: Vec<Column>,
    right: Vec<Column>,
    names: &[String],
    operator: &JoinOperator,
) -> Option<Vec<Column>> {
    let mut columns = Vec::with_capacity(left.len() + right.len());
    for name in names {
        let of_left = left.iter().find(|column| column.name == *name)?;
        let of_right = right.iter().find(|column| column.name == *name)?;
        let expr = match operator {
            JoinOperator::FullOuter(_) => {
                call("coalesce", vec![of_left.expr.clone(), of_right.expr.clone()])
            }
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) => of_right.expr.clone(),
            _ => of_left.expr.clone(),
        };
        columns.push(Column { name: name.clone(), expr });
    }
    let others = left.into_iter().chain(right).filter(|column| !names.contains(&column.name));
    columns.extend(others);
    Some(columns)
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    match operator {
        JoinOperator::Join(by)
        | JoinOperator::Inner(by)
        | JoinOperator::Left(by)
        | JoinOperator::LeftOuter(by)
        | JoinOperator::Right(by)
        | JoinOperator::RightOuter(by)
        | JoinOperator::FullOuter(by) => Some(by),
        _ => None,
    }
}

/// The name under which the columns of a relation are known.
fn alias_of(factor: &TableFactor) -> Option<String> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. } => Some(fold(&alias.name)),
        TableFactor::Table { name, args: None, .. } => {
            name.0.last().and_then(|part| part.as_ident()).map(fold)
        }
        _ => None,
    }
}

fn of_relation(alias: &str, fields: &[(String, String)]) -> Vec<Column> {
    let own = fields.iter().filter(|(relation, _)| relation == alias);
    own.map(|(relation, name)| {
        let parts = [relation, name].map(|part| Ident::with_quote('"', part.as_str()));
        Column { name: name.clone(), expr: Expr::CompoundIdentifier(parts.to_vec()) }
    })
    .collect()
}

impl Column {
    fn item(&self) -> SelectItem {
        match &self.expr {
            Expr::CompoundIdentifier(_) => SelectItem::UnnamedExpr(self.expr.clone()),
            expr => SelectItem::ExprWithAlias {
                expr: expr.clone(),
                alias: Ident::with_quote('"', self.name.as_str()),
            },
        }
    }
}
