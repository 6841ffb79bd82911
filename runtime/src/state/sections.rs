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
    array::{AsArray, RecordBatch, UInt32Array},
    compute::take_record_batch,
    datatypes::{Int64Type, Schema},
};
use storage::partition::{PartitionId, hash_columns, partition_of_hash};

use super::StateChunk;
use crate::{Error, Result};

/// In place of a partition: the rows are of many, see [`unmixed`].
pub const MIXED: PartitionId = PartitionId(u16::MAX - 1);

/// Rows that each partition must have, on average, for a piece to be split: a chunk of fewer costs
/// more than half of what it holds.
const SPLIT_ROWS_MIN: usize = 1024;

/// The schema metadata of a mixed chunk that says how its rows are placed: key columns as
/// `first..end`, or the column that is the partition's number.
const KEYS: &str = "keys";
const NUMBER: &str = "number";

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

/// Rows, and to which partition each belongs.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyedRows {
    /// The rows.
    pub rows: RecordBatch,
    /// What says it.
    pub placed_by: PlacedBy,
}

/// What says to which partition a row belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlacedBy {
    /// The hash of these columns; without any, all rows belong to the first.
    Keys(Range<usize>),
    /// This BIGINT column is the partition's number.
    Number(usize),
}

impl PlacedBy {
    /// As a mixed chunk says it.
    fn metadata(&self) -> (String, String) {
        match self {
            Self::Keys(keys) => (KEYS.to_owned(), format!("{}..{}", keys.start, keys.end)),
            Self::Number(column) => (NUMBER.to_owned(), column.to_string()),
        }
    }

    /// What a mixed chunk says; XX000 if it does not.
    fn of(rows: &RecordBatch) -> Result<Self> {
        let schema = rows.schema_ref();
        let keys = schema.metadata().get(KEYS).and_then(|keys| {
            let (start, end) = keys.split_once("..")?;
            Some(Self::Keys(start.parse().ok()?..end.parse().ok()?))
        });
        let number = || Some(Self::Number(schema.metadata().get(NUMBER)?.parse().ok()?));
        let is_there = |placed_by: &Self| match placed_by {
            Self::Keys(keys) => keys.end <= rows.num_columns(),
            Self::Number(column) => {
                *column < rows.num_columns() && rows.column(*column).data_type().is_integer()
            }
        };
        let unknown = || Error::Internal("a mixed chunk does not say its keys".to_owned());
        keys.or_else(number).filter(is_there).ok_or_else(unknown)
    }

    /// The partition of each row.
    fn partitions(&self, rows: &RecordBatch, partition_count: u16) -> Result<Vec<u16>> {
        let keys = match self {
            Self::Keys(keys) => &rows.columns()[keys.clone()],
            Self::Number(column) => {
                let numbers = rows.column(*column).as_primitive::<Int64Type>().values();
                return Ok(numbers.iter().map(|&number| number as u16).collect());
            }
        };
        let mut hashes = Vec::new();
        hash_columns(keys, &mut hashes)?;
        Ok(hashes.into_iter().map(|hash| partition_of_hash(hash, partition_count).0).collect())
    }
}

impl KeyedRows {
    /// As it is written down: split, or as one mixed chunk.
    fn pieces(&self, tag: u8, partition_count: u16) -> Result<Vec<StateChunk>> {
        let row_count = self.rows.num_rows();
        let is_small = row_count < SPLIT_ROWS_MIN * usize::from(partition_count);
        if !is_small || row_count == 0 || self.has_no_key() {
            return self.split(tag, partition_count);
        }
        let schema = Schema::clone(&self.rows.schema());
        let schema = schema.with_metadata([self.placed_by.metadata()].into());
        let rows = RecordBatch::try_new(Arc::new(schema), self.rows.columns().to_vec())?;
        Ok(vec![StateChunk { partition: MIXED, tag, rows }])
    }

    /// One chunk for each partition that has rows, by partition; rows stay in order.
    pub fn split(&self, tag: u8, partition_count: u16) -> Result<Vec<StateChunk>> {
        let chunk = |partition, rows| StateChunk { partition, tag, rows };
        if self.rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        if self.has_no_key() {
            return Ok(vec![chunk(PartitionId(0), self.rows.clone())]);
        }
        let partitions = self.placed_by.partitions(&self.rows, partition_count)?;
        let (order, ends) = by_partition(&partitions);
        let rows = take_record_batch(&self.rows, &UInt32Array::from(order))?;
        let mut start = 0;
        let chunks = (0..).zip(ends).filter_map(|(partition, end)| {
            let rows = (end > start).then(|| rows.slice(start, end - start));
            start = end;
            rows.map(|rows| chunk(PartitionId(partition), rows))
        });
        Ok(chunks.collect())
    }

    fn has_no_key(&self) -> bool {
        matches!(&self.placed_by, PlacedBy::Keys(keys) if keys.is_empty())
    }
}

/// The rows in the order of their partitions, otherwise as they were, and where each partition ends:
/// a counting sort.
fn by_partition(partitions: &[u16]) -> (Vec<u32>, Vec<usize>) {
    let count = partitions.iter().max().map_or(0, |&last| usize::from(last) + 1);
    let mut ends = vec![0; count];
    partitions.iter().for_each(|&partition| ends[usize::from(partition)] += 1);
    let mut start = 0;
    for end in &mut ends {
        start += std::mem::replace(end, start);
    }
    let mut order = vec![0; partitions.len()];
    for (row, &partition) in (0..).zip(partitions) {
        let end = &mut ends[usize::from(partition)];
        order[*end] = row;
        *end += 1;
    }
    (order, ends)
}

/// The chunks of a mixed one, by partition; any other as it is.
pub fn unmixed(chunk: StateChunk, partition_count: u16) -> Result<Vec<StateChunk>> {
    if chunk.partition != MIXED {
        return Ok(vec![chunk]);
    }
    let StateChunk { tag, rows, .. } = chunk;
    KeyedRows { placed_by: PlacedBy::of(&rows)?, rows }.split(tag, partition_count)
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
        KeyedRows { rows, placed_by: PlacedBy::Keys(1..2) }
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
        let keys: Vec<i64> = (0..271 * SPLIT_ROWS_MIN as i64).collect();
        assert_eq!(rows(&keys, &keys).pieces(3, 271).unwrap().len(), 271);
    }

    #[test]
    fn a_column_may_say_the_partition() {
        let schema = bigint_schema(&["partition", "value"]);
        let rows = bigint_batch(&schema, &[&[7, 2, 7], &[1, 2, 3]]);
        let keyed = KeyedRows { rows, placed_by: PlacedBy::Number(0) };
        let [mixed] = keyed.pieces(3, 271).unwrap().try_into().unwrap();
        let restored = unmixed(mixed, 271).unwrap();
        let placed: Vec<_> = restored.iter().map(|c| (c.partition.0, c.rows.num_rows())).collect();
        assert_eq!(placed, [(2, 1), (7, 2)]);
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
