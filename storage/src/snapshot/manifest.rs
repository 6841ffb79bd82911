//! `Manifest`: which chunks a snapshot has, as rows of its job's table and with a digest over them.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray},
    compute::{
        concat_batches, filter_record_batch, kernels::cmp::eq, sort_to_indices, take_record_batch,
    },
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};
use xxhash_rust::xxh3::Xxh3;

use super::{SnapshotChunk, SnapshotSummary, chunks::Written};
use crate::{
    Grid, Result,
    cluster::control::{ObjectId, TableRecord},
    partition::PartitionId,
    table::WriteMode,
};

/// One chunk of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) vertex: String,
    pub(super) tag: u8,
    pub(super) partition: PartitionId,
    /// Number of the chunk.
    pub(super) chunk: u64,
    pub(super) bytes: u64,
    pub(super) checksum: u64,
}

/// The chunks of a snapshot, in the order they are restored in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    entries: Vec<Arc<Entry>>,
}

/// Columns of the table; the first two are its key. All but one are numbers, which Arrow's i64
/// holds bit by bit.
const COLUMNS: [&str; 8] =
    ["snapshot", "number", "tag", "partition", "chunk", "bytes", "checksum", "vertex"];

fn schema() -> SchemaRef {
    let fields = COLUMNS.map(|name| {
        let data_type = if name == "vertex" { DataType::Utf8 } else { DataType::Int64 };
        Field::new(name, data_type, false)
    });
    Arc::new(Schema::new(fields.to_vec()))
}

/// The record of a job's table of manifests; it is in no catalog.
pub(crate) fn table_record(id: ObjectId) -> TableRecord {
    TableRecord { id, ..TableRecord::new(format!("manifests {}", id.0), schema(), &[0, 1]) }
}

impl Entry {
    pub(super) fn new(written: Written, chunk: SnapshotChunk) -> Self {
        let SnapshotChunk { vertex, tag, partition, .. } = chunk;
        let Written { chunk, bytes, checksum } = written;
        Self { vertex, tag, partition, chunk, bytes, checksum }
    }

    pub(super) fn chunk_of(&self, rows: RecordBatch) -> SnapshotChunk {
        let Self { vertex, tag, partition, .. } = self;
        SnapshotChunk { vertex: vertex.clone(), tag: *tag, partition: *partition, rows }
    }

    fn numbers(&self) -> [u64; 5] {
        let (tag, partition) = (u64::from(self.tag), u64::from(self.partition.0));
        [tag, partition, self.chunk, self.bytes, self.checksum]
    }
}

impl Manifest {
    pub(super) fn new(entries: Vec<Arc<Entry>>) -> Self {
        Self { entries }
    }

    pub(super) fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The digest is XXH3-64 over the entries in order: their numbers, then length and bytes of the
    /// vertex name, little endian.
    pub(super) fn summary(&self) -> SnapshotSummary {
        let mut digest = Xxh3::new();
        for entry in &self.entries {
            entry.numbers().iter().for_each(|number| digest.update(&number.to_le_bytes()));
            digest.update(&(entry.vertex.len() as u64).to_le_bytes());
            digest.update(entry.vertex.as_bytes());
        }
        SnapshotSummary {
            chunks: self.entries.len() as u64,
            bytes: self.entries.iter().map(|entry| entry.bytes).sum(),
            digest: digest.digest(),
        }
    }

    /// Writes its rows, all of them or none.
    pub(super) fn write(&self, grid: &Grid, table: ObjectId, id: u64) -> Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let table = grid.table(table)?;
        let mut columns = self.keys(id);
        columns.extend((0..5).map(|position| -> ArrayRef {
            let numbers = self.entries.iter().map(|entry| entry.numbers()[position] as i64);
            Arc::new(Int64Array::from_iter_values(numbers))
        }));
        let vertices = self.entries.iter().map(|entry| entry.vertex.as_str());
        columns.push(Arc::new(StringArray::from_iter_values(vertices)));
        let rows = RecordBatch::try_new(schema(), columns)?;
        let writer = grid.begin();
        table.write_batch(&writer, WriteMode::Insert, &rows)?;
        writer.commit()
    }

    /// The manifest as its rows say; what is missing shows in the summary.
    pub(super) fn read(grid: &Grid, table: ObjectId, id: u64) -> Result<Self> {
        let table = grid.table(table)?;
        let wanted = Int64Array::new_scalar(id as i64);
        let mut batches = Vec::new();
        for batch in table.scan(&grid.read_view(), None, 1)?.into_iter().flatten() {
            let batch = batch?;
            batches.push(filter_record_batch(&batch, &eq(batch.column(0), &wanted)?)?);
        }
        let rows = concat_batches(&schema(), &batches)?;
        let rows = take_record_batch(&rows, &sort_to_indices(rows.column(1), None, None)?)?;
        Ok(Self { entries: (0..rows.num_rows()).map(|row| entry_of(&rows, row)).collect() })
    }

    /// All manifests in a job's table, by snapshot.
    pub(super) fn read_all(grid: &Grid, table: ObjectId) -> Result<BTreeMap<u64, Self>> {
        let table = grid.table(table)?;
        let mut found: BTreeMap<u64, BTreeMap<u64, Arc<Entry>>> = BTreeMap::new();
        for batch in table.scan(&grid.read_view(), None, 1)?.into_iter().flatten() {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                let (id, position) = (number(&batch, 0, row), number(&batch, 1, row));
                found.entry(id).or_default().insert(position, entry_of(&batch, row));
            }
        }
        let manifests = found.into_iter();
        Ok(manifests.map(|(id, rows)| (id, Self::new(rows.into_values().collect()))).collect())
    }

    /// Removes its rows.
    pub(super) fn delete(&self, grid: &Grid, table: ObjectId, id: u64) -> Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let table = grid.table(table)?;
        let writer = grid.begin();
        let view = writer.read_view();
        table.modify_batch(&writer, &view, &self.keys(id), None)?;
        writer.commit()
    }

    fn keys(&self, id: u64) -> Vec<ArrayRef> {
        let count = self.entries.len();
        let snapshots = Int64Array::from_value(id as i64, count);
        vec![Arc::new(snapshots), Arc::new(Int64Array::from_iter_values(0..count as i64))]
    }
}

fn number(rows: &RecordBatch, column: usize, row: usize) -> u64 {
    rows.column(column).as_primitive::<Int64Type>().value(row) as u64
}

fn entry_of(rows: &RecordBatch, row: usize) -> Arc<Entry> {
    Arc::new(Entry {
        vertex: rows.column(7).as_string::<i32>().value(row).to_owned(),
        tag: number(rows, 2, row) as u8,
        partition: PartitionId(number(rows, 3, row) as u16),
        chunk: number(rows, 4, row),
        bytes: number(rows, 5, row),
        checksum: number(rows, 6, row),
    })
}
