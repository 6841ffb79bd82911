//! Rows on their way to the disk and back: what a view sees of a partition, in batches that may
//! become chunks, and a partition made of such chunks. Neither passes through writers or versions.

use std::{sync::Arc, vec::IntoIter};

use arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch},
    compute::{concat_batches, filter_record_batch},
    datatypes::SchemaRef,
};

use super::{
    capture::Piece,
    chunk::Dead,
    compaction::CHUNK_BYTES_MAX,
    handle::Table,
    index::{CHUNK_ROWS_MAX, KeyIndex, slot_of},
    rows::{Context, Rows},
    schema::TableSchema,
    view::ReadView,
};
use crate::{
    Result,
    partition::{PartitionId, hash_columns, partition_of_hash},
};

/// What a view sees of a partition, captured: batches of all columns, each of which may be a chunk.
pub(crate) struct StoredBatches {
    /// Rows of all batches.
    pub(crate) row_count: usize,
    schema: SchemaRef,
    pieces: IntoIter<Piece>,
    /// The piece that did not fit the batch before.
    left: Option<RecordBatch>,
}

/// The rows of a partition while they are loaded; nobody sees them before
/// [`LoadedPartition::install`].
#[derive(Debug)]
pub(crate) struct LoadedPartition {
    partition: PartitionId,
    partition_count: u16,
    rows: Box<Rows>,
    row_count: usize,
}

impl Table {
    /// What a view sees of a partition. Takes its lock once, as a scan does; the batches are put
    /// together while they are asked for.
    pub(crate) fn stored_batches(
        &self,
        view: &ReadView,
        partition: PartitionId,
    ) -> Result<StoredBatches> {
        let pieces = self.capture_partition(view, partition)?;
        Ok(StoredBatches {
            row_count: pieces.iter().map(Piece::len).sum(),
            schema: Arc::clone(self.schema()),
            pieces: pieces.into_iter(),
            left: None,
        })
    }
}

impl StoredBatches {
    /// The next piece, without the rows that are not seen.
    fn piece(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(left) = self.left.take() {
            return Ok(Some(left));
        }
        Ok(match self.pieces.next() {
            Some(Piece { batch, mask: None }) => Some(batch),
            Some(Piece { batch, mask: Some(mask) }) => {
                Some(filter_record_batch(&batch, &BooleanArray::new(mask, None))?)
            }
            None => None,
        })
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        let (mut rows, mut bytes, mut batches) = (0, 0, Vec::new());
        while let Some(piece) = self.piece()? {
            rows += piece.num_rows();
            bytes += piece.get_array_memory_size();
            let is_too_much = rows > CHUNK_ROWS_MAX || bytes > CHUNK_BYTES_MAX;
            if is_too_much && !batches.is_empty() {
                self.left = Some(piece);
                break;
            }
            batches.push(piece);
        }
        Ok(match batches.len() {
            0 => None,
            1 => batches.pop(),
            _ => Some(concat_batches(&self.schema, &batches)?),
        })
    }
}

impl Iterator for StoredBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batch().transpose()
    }
}

impl LoadedPartition {
    /// An empty one, with room for the keys of so many rows.
    pub(crate) fn new(table: &Table, partition: PartitionId, row_count: usize) -> Result<Self> {
        let router = table.router();
        let context = Context { schema: table.table_schema(), writers: router.writers() };
        let mut rows = Box::new(Rows::new(context)?);
        rows.index = KeyIndex::with_capacity(row_count);
        Ok(Self { partition, partition_count: router.partition_count(), rows, row_count: 0 })
    }

    /// Adds a chunk of at most [`CHUNK_ROWS_MAX`] rows, none of whose keys is there; `hashes` is
    /// room for their hashes. Answers whether all of them belong to the partition; if not, it is of
    /// no use any more.
    pub(crate) fn add(
        &mut self,
        schema: &TableSchema,
        batch: RecordBatch,
        hashes: &mut Vec<u64>,
    ) -> Result<bool> {
        assert!(batch.num_rows() <= CHUNK_ROWS_MAX, "a slot names no row beyond these");
        let keys = schema.key().iter();
        let keys: Vec<ArrayRef> = keys.map(|key| Arc::clone(batch.column(*key))).collect();
        hash_columns(&keys, hashes)?;
        let is_here = |hash: &u64| partition_of_hash(*hash, self.partition_count) == self.partition;
        if !hashes.iter().all(is_here) {
            return Ok(false);
        }
        self.row_count += batch.num_rows();
        let Rows { store, index, .. } = &mut *self.rows;
        let (number, _) = store.add(schema, batch, Dead::default());
        for (row, hash) in hashes.iter().enumerate() {
            index.insert(*hash, slot_of(number, row), |slot| store.key_hash(schema, slot));
        }
        Ok(true)
    }

    /// Which partition.
    pub(crate) fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Rows so far.
    pub(crate) fn row_count(&self) -> usize {
        self.row_count
    }

    /// Makes them the rows of the partition. WrongState if it has rows.
    pub(crate) fn install(self, table: &Table) -> Result<()> {
        table.router().install(table.record().id, self.partition, self.rows)
    }
}
