//! Expressions over batches: `NamedExpr` and how operators evaluate it.
//! Evaluation errors are the user's data and carry a SQLSTATE.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion_physical_expr_common::physical_expr::{PhysicalExpr, fmt_sql};

use crate::{Error, Result};

/// An expression over the rows of the input, and the name of the column it becomes.
#[derive(Debug, Clone)]
pub struct NamedExpr {
    /// The expression; its column indices are positions in the input's schema.
    pub expr: Arc<dyn PhysicalExpr>,
    /// Output column name.
    pub name: String,
}

/// The expression's value for each row of `rows`.
pub(crate) fn evaluate(expr: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<ArrayRef> {
    Ok(expr.evaluate(rows)?.into_array(rows.num_rows())?)
}

/// The rows for which `predicate` is true: null counts as false, the result has no nulls.
pub(crate) fn evaluate_predicate(
    predicate: &Arc<dyn PhysicalExpr>,
    rows: &RecordBatch,
) -> Result<BooleanArray> {
    let value = evaluate(predicate, rows)?;
    let mask = value.as_boolean_opt().ok_or_else(|| {
        Error::Internal(format!("condition is of type {} instead of boolean", value.data_type()))
    })?;
    match mask.nulls() {
        None => Ok(mask.clone()),
        Some(nulls) => Ok(BooleanArray::new(mask.values() & nulls.inner(), None)),
    }
}

/// The expression as EXPLAIN shows it.
pub(crate) fn text(expr: &Arc<dyn PhysicalExpr>) -> String {
    fmt_sql(expr.as_ref()).to_string()
}
