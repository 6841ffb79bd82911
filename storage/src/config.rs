//! What the grid needs to know to open; validated, no optional fields.

use std::path::PathBuf;

/// Configuration of one member's grid.
#[derive(Debug, Clone)]
pub struct GridConfig {
    /// Number of partitions, fixed when the cluster is founded.
    pub partition_count: u16,
    /// 1, or the number of owners simulated inside this process: every operation is then encoded
    /// and decoded on its way, as it will be between members.
    pub simulated_owners: u16,
    /// Memory that all tables together may take, in bytes; writes above it fail with a limit error.
    pub table_memory_max: usize,
    /// Folder in which everything is kept; `None` keeps it in memory alone.
    pub data_dir: Option<PathBuf>,
    /// Memory that the changes of a table may take that are kept for one reader of a job, in bytes.
    pub pinned_bytes_max: usize,
}

/// Default of [`GridConfig::pinned_bytes_max`]: some seconds of the fastest writes while a job's two
/// snapshots are kept, and minutes of ordinary ones while it is suspended.
const PINNED_BYTES_MAX: usize = 256 << 20;

impl Default for GridConfig {
    fn default() -> Self {
        Self {
            partition_count: 271,
            simulated_owners: 1,
            table_memory_max: usize::MAX,
            data_dir: None,
            pinned_bytes_max: PINNED_BYTES_MAX,
        }
    }
}
