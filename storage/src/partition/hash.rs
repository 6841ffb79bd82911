//! The pinned key hash: xxh3-64, seed 0, over canonical bytes (integers of any width as i64
//! little-endian, −0.0 as 0.0, one NaN, NUMERIC normalised, text as bytes, columns
//! length-prefixed). Changing one byte of it orphans every row on disk; see the golden vectors.

use arrow::array::ArrayRef;

use super::PartitionId;
use crate::{Datum, Result};

/// Hash of each row over `columns`, written to `hashes` (cleared first).
pub fn hash_columns(columns: &[ArrayRef], hashes: &mut Vec<u64>) -> Result<()> {
    let _ = (columns, hashes);
    unimplemented!("owner: storage helper")
}

/// Hash of one key given as datums; equal to [`hash_columns`] of the same values.
pub fn hash_datums(key: &[Datum]) -> u64 {
    let _ = key;
    unimplemented!("owner: storage helper")
}

/// The partition a hash falls into: the high half of `hash × count`, so all bits take part.
pub fn partition_of_hash(hash: u64, partition_count: u16) -> PartitionId {
    PartitionId(((u128::from(hash) * u128::from(partition_count)) >> 64) as u16)
}
