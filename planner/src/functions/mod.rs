//! Functions of ours: tables in FROM (windows, generators), and what PostgreSQL's users call and
//! DataFusion lacks or answers differently. One family a file; a scalar function is a name, a rule
//! for its types and a body over arrays.

pub mod aggregates;
pub mod arguments;
pub mod arithmetic;
pub mod arrays;
pub mod cast;
pub mod catalog;
pub mod declared_text;
pub mod error;
pub mod format;
pub mod function;
pub mod generate_series;
pub mod generate_stream;
pub mod hop;
pub mod impose_order;
pub mod interval;
pub mod keywords;
pub mod limited;
pub mod math;
pub mod missing;
pub mod pattern;
pub mod relation;
pub mod session;
pub mod sleep;
pub mod stream;
pub mod system;
#[cfg(test)]
pub mod testing;
pub mod text;
pub mod time;
pub mod tumble;
pub mod window;
pub mod window_exec;

pub use session::{SessionFacts, bind_session};

use std::sync::Arc;

use datafusion::{
    common::DataFusionError,
    error::Result,
    execution::{FunctionRegistry, SessionState},
    logical_expr::{AggregateUDF, ScalarUDF},
};

use crate::Error;

/// An error of ours on its way through DataFusion; the front door takes it out again.
pub fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// All scalar functions.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let families = [
        arithmetic::all(),
        arrays::all(),
        session::all(),
        catalog::all(),
        text::all(),
        time::all(),
        system::all(),
        format::all(),
        interval::all(),
        math::all(),
        missing::refusals(),
        pattern::all(),
        vec![sleep::sleep()],
    ];
    families.into_iter().flatten().collect()
}

/// All aggregate functions.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    aggregates::all()
}

/// Makes the functions and operators known to a session, in place of DataFusion's of the same name.
pub fn register(state: &mut SessionState) -> Result<()> {
    for function in scalar_functions() {
        state.register_udf(function)?;
    }
    for function in aggregate_functions() {
        state.register_udaf(function)?;
    }
    state.register_expr_planner(Arc::new(crate::rules::PostgresOperators))
}
