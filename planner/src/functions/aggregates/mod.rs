//! `sum` and `avg` with PostgreSQL's result types and without wrapping around, and the aggregate
//! that makes a scalar subquery refuse a second row. Used by bounded plans; the engine's windows
//! have columns of their own with the same types.

mod single_value;
mod sum;
mod totals;

use std::sync::Arc;

use datafusion::logical_expr::AggregateUDF;

pub use single_value::single_value;

/// All aggregates of ours.
pub fn all() -> Vec<Arc<AggregateUDF>> {
    vec![sum::sum(), sum::avg(), single_value()]
}
