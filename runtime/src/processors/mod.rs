//! The operators, one file each. The planner builds them through the functions re-exported here;
//! each gives a supplier that knows its output schema and how EXPLAIN describes it.

mod window_rows;

pub use window_rows::{WindowRows, WindowRowsSpec, window_rows};

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion_physical_expr_common::physical_expr::PhysicalExpr;

mod expression;
mod filter;
mod impose_order;
mod limit;
mod lookup_join;
mod operator;
mod project;
mod table_scan;
mod table_sink;
#[cfg(test)]
mod testkit;
mod union;
mod values;

pub use expression::NamedExpr;
pub use filter::filter;
pub use impose_order::impose_order;
pub use limit::limit;
pub use lookup_join::{LookupJoinSpec, lookup_join};
pub use project::project;
pub use table_scan::table_scan;
pub use table_sink::{TableSinkSpec, table_sink};
pub use union::union;
pub use values::values;

use crate::time::EventTime;

/// The aggregates whose accumulators are our own columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateFunction {
    /// `count(*)`: BIGINT.
    CountStar,
    /// `count(x)`: BIGINT.
    Count,
    /// `sum(x)`: BIGINT of smaller integers, NUMERIC(38,0) of BIGINT, NUMERIC of NUMERIC, DOUBLE.
    Sum,
    /// `avg(x)`: NUMERIC(38,16) of integers and NUMERIC, DOUBLE of floats.
    Avg,
    /// `min(x)`: the type of x.
    Min,
    /// `max(x)`.
    Max,
    /// `var_samp`, `variance`: DOUBLE here.
    VarSamp,
    /// `var_pop`.
    VarPop,
    /// `stddev_samp`, `stddev`.
    StddevSamp,
    /// `stddev_pop`.
    StddevPop,
}

/// One aggregate of a window or group.
#[derive(Debug, Clone)]
pub struct AggregateSpec {
    /// Which.
    pub function: AggregateFunction,
    /// Its argument; `None` for `count(*)`.
    pub argument: Option<Arc<dyn PhysicalExpr>>,
    /// `FILTER (WHERE …)`.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// `DISTINCT`.
    pub is_distinct: bool,
    /// Type of the result.
    pub result_type: DataType,
    /// Output column name.
    pub name: String,
}

/// A tumbling (`slide == size`) or hopping window, aggregated by key, final at the watermark.
/// Output: keys, `window_start`, `window_end` (Timestamp µs of the time column's zone),
/// aggregates, in this order.
#[derive(Debug, Clone)]
pub struct SlidingWindowSpec {
    /// Input schema.
    pub input: SchemaRef,
    /// Position of the time column in the input; µs timestamps, with or without zone.
    pub time_column: usize,
    /// Window length, µs, > 0.
    pub size: EventTime,
    /// Distance of window starts, µs, > 0; any slide, not only divisors of `size`.
    pub slide: EventTime,
    /// Added to the alignment at the epoch, µs.
    pub offset: EventTime,
    /// Key columns; the input edge is partitioned by them.
    pub keys: Vec<usize>,
    /// Output names of the key columns.
    pub key_names: Vec<String>,
    /// Aggregates; may be empty (DISTINCT keys).
    pub aggregates: Vec<AggregateSpec>,
    /// Whether the input never retracts a row. Then min and max keep one value for a key and pane
    /// and refuse a weight below zero; else they keep a multiset.
    pub is_append_only: bool,
}

use crate::processor::ProcessorSupplier;

/// Windowed aggregation; see [`SlidingWindowSpec`].
pub fn sliding_window(spec: SlidingWindowSpec) -> Arc<dyn ProcessorSupplier> {
    let _ = spec;
    unimplemented!("owner: processors helper")
}
