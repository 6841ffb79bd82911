//! Rows: partitioned, columnar, versioned by writer and stamp. Reached only by operations.

pub mod handle;
pub mod writer;

pub use handle::{KeyedWrite, RowVersion, ScanLane, Table, TableStats, WriteMode, WriteSummary};
pub use writer::{ReadView, Writer};
