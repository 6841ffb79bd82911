//! The operators, one file each. The planner builds them through the functions re-exported here;
//! each gives a supplier that knows its output schema and how EXPLAIN describes it.

mod accumulators;
mod expression;
mod filter;
mod impose_order;
mod limit;
mod lookup_join;
mod operator;
mod project;
mod sliding_window;
mod table_changes;
mod table_scan;
mod table_sink;
#[cfg(test)]
mod testkit;
#[cfg(test)]
mod tests;
mod union;
mod values;
mod window_rows;

pub use accumulators::{AggregateFunction, AggregateSpec};
pub use expression::NamedExpr;
pub use filter::filter;
pub use impose_order::impose_order;
pub use limit::limit;
pub use lookup_join::{LookupJoinSpec, lookup_join};
pub use project::project;
pub use sliding_window::{SlidingWindowSpec, sliding_window};
pub use table_changes::{ChangesAs, ChangesFrom, TableChangesSpec, table_changes};
pub(crate) use table_changes::{FROM_NOW as CHANGES_FROM_NOW, STATE as CHANGES_STATE};
pub use table_scan::table_scan;
pub use table_sink::{TableSinkSpec, table_sink};
pub use union::union;
pub use values::values;
pub use window_rows::{WindowRows, WindowRowsSpec, window_rows};
