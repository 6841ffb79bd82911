//! Logical expressions over a stage → physical ones. Column positions are those of the plan's
//! schema, which a stage keeps.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::{
    common::{
        DFSchema, ScalarValue,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::Expr,
    physical_expr::{
        PhysicalExpr, create_physical_expr,
        expressions::{Column, Literal},
    },
};

use super::Lowering;
use crate::{Error, Result, functions::sleep};

impl Lowering<'_> {
    /// The physical form of `expr` over rows of `schema`.
    pub(super) fn physical(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        let sleeps = |expr: &Expr| {
            Ok(matches!(expr, Expr::ScalarFunction(call) if call.func.name() == sleep::NAME))
        };
        if expr.exists(sleeps)? {
            let message = "pg_sleep() is not supported in a streaming query or job";
            return Err(Error::unsupported(message));
        }
        Ok(create_physical_expr(expr, schema, &self.props, &self.planning)?)
    }
}

/// The position of the column that `expr` is.
pub fn column_index(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

/// Whether evaluating `expr` twice costs nothing: a column or a constant.
pub fn is_free(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Column>().is_some() || expr.downcast_ref::<Literal>().is_some()
}

/// Whether a logical expression is a constant that is not NULL.
pub fn is_non_null_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if !value.is_null())
}

/// The value of a constant.
pub fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        Expr::Alias(alias) => literal(&alias.expr),
        _ => None,
    }
}

/// `expr` with each column replaced by what `columns` says of its position.
pub fn substitute(
    expr: &Arc<dyn PhysicalExpr>,
    columns: &[Arc<dyn PhysicalExpr>],
) -> Result<Arc<dyn PhysicalExpr>> {
    let replaced = Arc::clone(expr).transform_up(|node| {
        Ok(match column_index(&node) {
            Some(index) => Transformed::yes(Arc::clone(&columns[index])),
            None => Transformed::no(node),
        })
    })?;
    Ok(replaced.data)
}

/// `expr` with the columns named as in `schema`, for EXPLAIN.
pub fn named_by(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Arc<dyn PhysicalExpr> {
    let columns: Vec<Arc<dyn PhysicalExpr>> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(index, field)| Arc::new(Column::new(field.name(), index)) as _)
        .collect();
    substitute(expr, &columns).unwrap_or_else(|_error| Arc::clone(expr))
}
