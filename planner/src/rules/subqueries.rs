//! Correlated scalar subqueries: DataFusion takes them only if they aggregate, PostgreSQL as long
//! as they answer one row. So such a query's column goes through `single_value`, which says 21000
//! for a second row.

use std::sync::Arc;

use datafusion::{
    common::{Column, tree_node::Transformed},
    error::Result,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Subquery, expr::AggregateFunction},
};

use crate::functions::aggregates::single_value;

/// Wraps the query of a correlated scalar subquery.
pub fn single_row(subquery: Subquery) -> Result<Transformed<Expr>> {
    if subquery.outer_ref_columns.is_empty() || aggregates(&subquery.subquery) {
        return Ok(Transformed::no(Expr::ScalarSubquery(subquery)));
    }
    let input = LogicalPlan::clone(&subquery.subquery);
    let (qualifier, field) = input.schema().qualified_field(0);
    let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
    let name = field.name().clone();
    let value =
        AggregateFunction::new_udf(single_value(), vec![column], false, None, Vec::new(), None);
    let value = Expr::AggregateFunction(value).alias(name);
    let plan = LogicalPlanBuilder::from(input).aggregate(Vec::<Expr>::new(), [value])?.build()?;
    let subquery = Subquery { subquery: Arc::new(plan), ..subquery };
    Ok(Transformed::yes(Expr::ScalarSubquery(subquery)))
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
