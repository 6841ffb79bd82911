//! Functions a query may call: tables in FROM (windows, generators), one file each.

pub mod arguments;
pub mod generate_series;
pub mod generate_stream;
pub mod hop;
pub mod impose_order;
pub mod relation;
pub mod stream;
pub mod tumble;
pub mod window;
pub mod window_exec;

use datafusion::common::DataFusionError;

use crate::Error;

/// An error of ours on its way through DataFusion; the front door takes it out again.
pub fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
