//! The data grid: who is alive, who owns which partition, and what the rows are.
//! Knows Arrow schemas and bytes; never SQL and never DataFusion.
//!
//! Suggested reading order: [`env`] (the doors to the outside world), [`partition`] (key →
//! partition → owner), [`table`] (rows of a partition, writers, stamps), [`cluster`] (what all
//! members agree on), [`snapshot`] (what jobs saved), [`log`] (records in one order, durable by
//! groups; no rows go through it so far), [`checkpoint`] (the rows of a table in files),
//! [`data_dir`] (the folder in which all of it is kept), [`grid`] (one member's handle on all of it).

pub mod checkpoint;
pub mod cluster;
pub mod config;
pub mod data_dir;
pub mod datum;
pub mod env;
pub mod error;
pub mod grid;
pub mod log;
pub mod metrics;
pub mod partition;
pub mod snapshot;
pub mod table;
mod value;

pub use config::GridConfig;
pub use data_dir::DataDir;
pub use datum::{Datum, Row};
pub use error::{Error, ErrorKind, Result};
pub use grid::Grid;
pub use table::Table;
