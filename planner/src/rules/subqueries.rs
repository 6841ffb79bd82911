//! Correlated scalar subqueries: DataFusion takes them only if they aggregate, PostgreSQL as long
//! as they answer one row. So such a query's column goes through `single_value`, which says 21000
//! for a second row.

use std::sync::Arc;

use datafusion::{
    common::{
        Column,
        tree_node::{Transformed, TreeNode},
    },
    error::Result,
    logical_expr::{
        Case, Expr, LogicalPlan, LogicalPlanBuilder, Subquery,
        expr::AggregateFunction,
        utils::{conjunction, split_conjunction_owned},
    },
};

use crate::functions::aggregates::single_value;

/// Wraps the query of a correlated scalar subquery. Conditions on nothing but the outer row, which
/// DataFusion cannot take out of a subquery, go into a CASE around it.
pub fn single_row(subquery: Subquery) -> Result<Transformed<Expr>> {
    if subquery.outer_ref_columns.is_empty() || aggregates(&subquery.subquery) {
        return Ok(Transformed::no(Expr::ScalarSubquery(subquery)));
    }
    let (input, outer_conditions) = without_outer_conditions(&subquery.subquery)?;
    let (qualifier, field) = input.schema().qualified_field(0);
    let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
    let name = field.name().clone();
    let value =
        AggregateFunction::new_udf(single_value(), vec![column], false, None, Vec::new(), None);
    let value = Expr::AggregateFunction(value).alias(name);
    let plan = LogicalPlanBuilder::from(input).aggregate(Vec::<Expr>::new(), [value])?.build()?;
    let outer_ref_columns = plan.all_out_ref_exprs();
    let subquery = Subquery { subquery: Arc::new(plan), outer_ref_columns, ..subquery };
    let value = Expr::ScalarSubquery(subquery);
    let Some(condition) = conjunction(outer_conditions) else { return Ok(Transformed::yes(value)) };
    let guarded = Case::new(None, vec![(Box::new(condition), Box::new(value))], None);
    Ok(Transformed::yes(Expr::Case(guarded)))
}

/// The query without its conditions on the outer row alone, and those, as the outer row sees them.
fn without_outer_conditions(query: &LogicalPlan) -> Result<(LogicalPlan, Vec<Expr>)> {
    let mut moved = Vec::new();
    let stays = query.clone().transform_up(|node| {
        let LogicalPlan::Filter(filter) = node else { return Ok(Transformed::no(node)) };
        let conjuncts = split_conjunction_owned(filter.predicate.clone());
        let (outer, inner): (Vec<_>, Vec<_>) = conjuncts
            .into_iter()
            .partition(|expr| expr.contains_outer() && expr.column_refs().is_empty());
        if outer.is_empty() {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        }
        for expr in outer {
            moved.push(expr.transform_up(outer_to_column)?.data);
        }
        let input = LogicalPlan::clone(&filter.input);
        let plan = match conjunction(inner) {
            Some(predicate) => LogicalPlanBuilder::from(input).filter(predicate)?.build()?,
            None => input,
        };
        Ok(Transformed::yes(plan))
    })?;
    Ok((stays.data, moved))
}

fn outer_to_column(expr: Expr) -> Result<Transformed<Expr>> {
    match expr {
        Expr::OuterReferenceColumn(_, column) => Ok(Transformed::yes(Expr::Column(column))),
        other => Ok(Transformed::no(other)),
    }
}

/// Whether the query is an aggregate without groups, whatever is computed on top of it.
fn aggregates(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => aggregates(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => aggregates(&alias.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        _ => false,
    }
}
