//! Sections: state that is saved piece by piece. A processor cuts its state into sections (a window:
//! one a pane) and says at each save only what has become of them since the save before.
//!
//! ```text
//!   save        1 (full)          2                 3               restored
//!   section 7   Append a,b,c      Append b′         –               a, b′, c   later rows replace
//!   section 8   –                 Append d          Forget          –          earlier ones of a key
//! ```
//! The pieces of a section are immutable and shared by all snapshots that need them; a snapshot is
//! the list of all pieces. When a section has grown to twice its entries it is replaced whole, so
//! both saving and restoring stay in proportion to what has changed and to what there is.
//!
//! The rows of a piece are of any partitions. They are split by who writes them down, not by the
//! processor: its worker has better things to do. A piece of few rows is written as one *mixed* chunk,
//! which is split when it is restored: hundreds of chunks of a few rows each cost more to write than
//! what is in them.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use arrow::{
    array::{RecordBatch, UInt32Array},
    compute::take_record_batch,
    datatypes::Schema,
};
use storage::partition::{PartitionId, hash_columns, partition_of_hash};

use super::StateChunk;
use crate::{Error, Result};

/// In place of a partition: the rows are of many, see [`unmixed`].
pub const MIXED: PartitionId = PartitionId(u16::MAX - 1);

/// Rows that each partition must have, on average, for a piece to be split.
const SPLIT_ROWS_MIN: usize = 64;

/// The schema metadata of a mixed chunk that says which columns are keys: `first..end`.
const KEYS: &str = "keys";

/// Names a section: the tag of the state, and a number within it.
pub type SectionId = (u8, i64);

/// What has become of a section.
#[derive(Debug, Clone, PartialEq)]
pub enum SectionChange {
    /// Rows that are new, or replace those of the same key.
    Append(SectionId, KeyedRows),
    /// These rows are all there are.
    Replace(SectionId, KeyedRows),
    /// It is no more.
    Forget(SectionId),
}

/// Rows, and the positions of the columns that say to which partition each belongs. Without such
/// columns all belong to the first.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyedRows {
    /// The rows.
    pub rows: RecordBatch,
    /// The key columns.
    pub keys: Range<usize>,
}

impl KeyedRows {
    /// As it is written down: split, or as one mixed chunk.
    fn pieces(&self, tag: u8, partition_count: u16) -> Result<Vec<StateChunk>> {
        let row_count = self.rows.num_rows();
        let is_small = row_count < SPLIT_ROWS_MIN * usize::from(partition_count);
        if !is_small || row_count == 0 || self.keys.is_empty() {
            return self.split(tag, partition_count);
        }
        let keys = format!("{}..{}", self.keys.start, self.keys.end);
        let schema = Schema::clone(&self.rows.schema());
        let schema = schema.with_metadata([(KEYS.to_owned(), keys)].into());
        let rows = RecordBatch::try_new(Arc::new(schema), self.rows.columns().to_vec())?;
        Ok(vec![StateChunk { partition: MIXED, tag, rows }])
    }

    /// One chunk for each partition that has rows, by partition; rows stay in order.
    pub fn split(&self, tag: u8, partition_count: u16) -> Result<Vec<StateChunk>> {
        let chunk = |partition, rows| StateChunk { partition, tag, rows };
        if self.rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        if self.keys.is_empty() {
            return Ok(vec![chunk(PartitionId(0), self.rows.clone())]);
        }
        let mut hashes = Vec::new();
        hash_columns(&self.rows.columns()[self.keys.clone()], &mut hashes)?;
        let partitions: Vec<PartitionId> =
            hashes.into_iter().map(|hash| partition_of_hash(hash, partition_count)).collect();
        let mut order: Vec<u32> = (0..partitions.len() as u32).collect();
        order.sort_by_key(|&row| partitions[row as usize]);
        let rows = take_record_batch(&self.rows, &UInt32Array::from(order.clone()))?;
        let mut start = 0;
        let runs = order.chunk_by(|&a, &b| partitions[a as usize] == partitions[b as usize]);
        let chunks = runs.map(|run| {
            let rows = rows.slice(start, run.len());
            start += run.len();
            chunk(partitions[run[0] as usize], rows)
        });
        Ok(chunks.collect())
    }
}

/// The chunks of a mixed one, by partition; any other as it is.
pub fn unmixed(chunk: StateChunk, partition_count: u16) -> Result<Vec<StateChunk>> {
    if chunk.partition != MIXED {
        return Ok(vec![chunk]);
    }
    let StateChunk { tag, rows, .. } = chunk;
    let keys = rows.schema_ref().metadata().get(KEYS).and_then(|keys| {
        let (start, end) = keys.split_once("..")?;
        Some(start.parse().ok()?..end.parse().ok()?)
    });
    let column_count = rows.num_columns();
    let keys = keys.filter(|keys: &Range<usize>| keys.end <= column_count);
    let unknown = || Error::Internal("a mixed chunk does not say its keys".to_owned());
    KeyedRows { keys: keys.ok_or_else(unknown)?, rows }.split(tag, partition_count)
}

/// The sections of one processor as they stand after some saves; a piece is whatever stands for one
/// chunk where they are kept.
#[derive(Debug, Clone)]
pub struct Sections<T> {
    pieces: BTreeMap<SectionId, Vec<T>>,
}

impl<T> Default for Sections<T> {
    fn default() -> Self {
        Self { pieces: BTreeMap::new() }
    }
}

impl<T> Sections<T> {
    /// Takes a change in; `keep` makes a piece of each chunk.
    pub fn apply<E: From<Error>>(
        &mut self,
        change: &SectionChange,
        partition_count: u16,
        keep: impl FnMut(StateChunk) -> Result<T, E>,
    ) -> Result<(), E> {
        let (id, rows) = match change {
            SectionChange::Forget(id) => {
                self.pieces.remove(id);
                return Ok(());
            }
            SectionChange::Append(id, rows) => (id, rows),
            SectionChange::Replace(id, rows) => {
                self.pieces.remove(id);
                (id, rows)
            }
        };
        let chunks = rows.pieces(id.0, partition_count)?;
        let made = chunks.into_iter().map(keep).collect::<Result<Vec<T>, E>>()?;
        self.pieces.entry(*id).or_default().extend(made);
        Ok(())
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.pieces.clear();
    }

    /// All pieces, in the order they are to be restored in.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use storage::partition::hash_datums;

    use super::*;
    use crate::testing::{bigint_batch, bigint_schema};

    fn rows(keys: &[i64], values: &[i64]) -> KeyedRows {
        let rows = bigint_batch(&bigint_schema(&["value", "k"]), &[values, keys]);
        KeyedRows { rows, keys: 1..2 }
    }

    #[test]
    fn rows_are_split_by_the_partition_of_their_key_and_stay_in_order() {
        let keys: Vec<i64> = (0..600).map(|n| n % 300).collect();
        let values: Vec<i64> = (0..600).collect();
        let chunks = rows(&keys, &values).split(3, 271).unwrap();
        assert!(chunks.windows(2).all(|pair| pair[0].partition < pair[1].partition));
        assert_eq!(chunks.iter().map(|chunk| chunk.rows.num_rows()).sum::<usize>(), 600);
        for chunk in &chunks {
            let column = |position: usize| -> Vec<i64> {
                use arrow::{array::AsArray, datatypes::Int64Type};
                chunk.rows.column(position).as_primitive::<Int64Type>().values().to_vec()
            };
            let types = [arrow::datatypes::DataType::Int64];
            for key in column(1) {
                let hash = hash_datums(&[storage::Datum::Int(key)], &types).unwrap();
                assert_eq!(partition_of_hash(hash, 271), chunk.partition);
            }
            let values = column(0);
            assert!(values.is_sorted(), "{values:?}");
        }
    }

    #[test]
    fn few_rows_are_one_chunk_until_they_are_restored() {
        let few = rows(&[1, 2, 3, 4], &[5, 6, 7, 8]);
        let [mixed] = few.pieces(3, 271).unwrap().try_into().unwrap();
        assert_eq!(mixed.partition, MIXED);
        let restored = unmixed(mixed, 271).unwrap();
        let columns = |chunks: Vec<StateChunk>| -> Vec<_> {
            let parts = chunks.into_iter();
            parts.map(|chunk| (chunk.partition, chunk.rows.columns().to_vec())).collect()
        };
        assert_eq!(columns(restored), columns(few.split(3, 271).unwrap()));
        let keys: Vec<i64> = (0..271 * 64).collect();
        assert_eq!(rows(&keys, &keys).pieces(3, 271).unwrap().len(), 271);
    }

    #[test]
    fn a_section_is_appended_to_replaced_and_forgotten() {
        let mut sections: Sections<usize> = Sections::default();
        let mut apply = |change| {
            let keep = |chunk: StateChunk| Ok::<_, Error>(chunk.rows.num_rows());
            sections.apply(&change, 1, keep).unwrap();
            sections.iter().copied().collect::<Vec<_>>()
        };
        assert_eq!(apply(SectionChange::Append((1, 7), rows(&[1, 2, 3], &[0; 3]))), [3]);
        assert_eq!(apply(SectionChange::Append((1, 9), rows(&[1, 2], &[0; 2]))), [3, 2]);
        assert_eq!(apply(SectionChange::Append((1, 7), rows(&[1], &[0]))), [3, 1, 2]);
        assert_eq!(apply(SectionChange::Replace((1, 7), rows(&[1, 2, 3, 4], &[0; 4]))), [4, 2]);
        assert_eq!(apply(SectionChange::Forget((1, 9))), [4]);
    }
}
