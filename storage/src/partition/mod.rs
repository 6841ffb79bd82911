//! Key → partition → owner. The hash is pinned with golden vectors: rows, edges and operator state
//! of one key live together only because they all use it.

mod canonical;
pub mod hash;
pub mod id;

pub use hash::{hash_columns, hash_datums, partition_of_hash};
pub use id::PartitionId;
