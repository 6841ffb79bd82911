//! `PartitionId`: one of the fixed slices of the key space. Not Kafka's topic partition.

use serde::{Deserialize, Serialize};

/// One of N fixed slices of the key space, `0..partition_count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionId(pub u16);
