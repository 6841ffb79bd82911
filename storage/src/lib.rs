//! The data grid: who is alive, who owns which partition, and what the rows are.
//! Knows Arrow schemas and bytes; never SQL and never DataFusion.
//!
//! Suggested reading order: [`env`] (the doors to the outside world), [`partition`] (key →
//! partition → owner), [`table`] (rows of a partition, writers, stamps), [`cluster`] (what all
//! members agree on), [`snapshot`] (what jobs saved), [`log`] (records in one order, durable by
//! groups), [`data_log`] (what happened to the rows, told again after a crash), [`checkpoint`] (the
//! rows of a table in files), [`data_dir`] (the folder in which all of it is kept), [`grid`] (one
//! member's handle on all of it).

pub mod checkpoint;
pub mod cluster;
pub mod config;
pub mod data_dir;
pub mod data_log;
pub mod datum;
pub mod env;
pub mod error;
pub mod grid;
pub mod log;
pub mod metrics;
pub mod partition;
mod persistence;
pub mod snapshot;
pub mod table;
mod value;

pub use config::GridConfig;
pub use data_dir::DataDir;
pub use datum::{Datum, Row};
pub use error::{Error, ErrorKind, Result};
pub use grid::Grid;
pub use persistence::{Persistence, RecoverySummary};
pub use table::Table;
