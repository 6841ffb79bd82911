//! `Parked`: rows of a table sink that are not written yet, in their order. State of the sink: each
//! row is saved in the partition of its key, so that another number of instances keeps the order.

use std::{collections::VecDeque, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array},
    compute::{concat, concat_batches, take_record_batch},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};
use storage::partition::{PartitionId, hash_columns, partition_of_hash};

use crate::{
    Result,
    delta::{DeltaBatch, Weight},
    execution::memory::batch_bytes,
    processor::ProcessorContext,
    state::{StateChunk, StateWriter},
};

/// Fewer rows than that are joined with those before them: a batch costs about a kilobyte beside
/// its rows.
const SMALL_BATCH_ROWS: usize = 512;

/// Name of the column that holds the weights of saved rows.
const WEIGHT: &str = "weight";

pub(super) struct Parked {
    schema: SchemaRef,
    /// Positions of the key columns; empty for a table without a key.
    key: Vec<usize>,
    batches: VecDeque<DeltaBatch>,
    row_count: usize,
    bytes: usize,
}

impl Parked {
    pub(super) fn new(schema: SchemaRef, key: &[usize]) -> Self {
        Self { schema, key: key.to_vec(), batches: VecDeque::new(), row_count: 0, bytes: 0 }
    }

    /// Appends rows, under the table's names.
    pub(super) fn push(&mut self, batch: DeltaBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), batch.rows.columns().to_vec())?;
        let mut batch = batch.with_rows(rows);
        if batch.len() < SMALL_BATCH_ROWS
            && let Some(last) = self.batches.pop_back_if(|last| last.len() < SMALL_BATCH_ROWS)
        {
            self.row_count -= last.len();
            self.bytes -= batch_bytes(&last.rows);
            batch = self.joined(&[&last, &batch])?;
        }
        self.row_count += batch.len();
        self.bytes += batch_bytes(&batch.rows);
        self.batches.push_back(batch);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn row_count(&self) -> usize {
        self.row_count
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many of the first batches make up `row_count` rows, at least one.
    pub(super) fn batches_of(&self, row_count: usize) -> usize {
        let mut rows = 0;
        let is_within = |batch: &&DeltaBatch| {
            let is_first = rows == 0;
            rows += batch.len();
            is_first || rows <= row_count
        };
        self.batches.iter().take_while(is_within).count()
    }

    /// The first batches as one.
    pub(super) fn first(&self, batch_count: usize) -> Result<DeltaBatch> {
        let batches: Vec<_> = self.batches.iter().take(batch_count).collect();
        self.joined(&batches)
    }

    /// Batches as one.
    fn joined(&self, batches: &[&DeltaBatch]) -> Result<DeltaBatch> {
        if let [one] = batches {
            return Ok((*one).clone());
        }
        let rows: Vec<&RecordBatch> = batches.iter().map(|batch| &batch.rows).collect();
        let is_plain = batches.iter().all(|batch| batch.weight == Weight::One);
        if is_plain {
            return Ok(DeltaBatch::insertions(concat_batches(&self.schema, rows)?));
        }
        let weights: Vec<ArrayRef> = batches.iter().map(|batch| weights_of(batch)).collect();
        let weights: Vec<&dyn Array> = weights.iter().map(AsRef::as_ref).collect();
        let weights = concat(&weights)?.as_primitive::<Int64Type>().clone();
        Ok(DeltaBatch { rows: concat_batches(&self.schema, rows)?, weight: Weight::Array(weights) })
    }

    /// Lets the first batches go.
    pub(super) fn forget(&mut self, batch_count: usize) {
        for batch in self.batches.drain(..batch_count) {
            self.row_count -= batch.len();
            self.bytes -= batch_bytes(&batch.rows);
        }
    }

    pub(super) fn save(&self, context: &ProcessorContext, state: &mut StateWriter) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let all = self.first(self.batches.len())?;
        let mut columns = all.rows.columns().to_vec();
        columns.push(weights_of(&all));
        let weight = Arc::new(Field::new(WEIGHT, DataType::Int64, false));
        let fields = self.schema.fields().iter().map(Arc::clone).chain([weight]);
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let rows = RecordBatch::try_new(schema, columns)?;
        let partitions = self.partitions(&all.rows, context)?;
        // Stable, so that the rows of a partition stay in their order.
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
        order.sort_by_key(|&row| partitions[row as usize]);
        let rows = take_record_batch(&rows, &UInt32Array::from(order.clone()))?;
        let mut start = 0;
        let partition_of = |row: u32| partitions[row as usize];
        for run in order.chunk_by(|&a, &b| partition_of(a) == partition_of(b)) {
            let partition = partition_of(run[0]);
            state.put(StateChunk { partition, tag: 0, rows: rows.slice(start, run.len()) });
            start += run.len();
        }
        Ok(())
    }

    pub(super) fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        let (weights, rows) = match chunk.rows.columns() {
            [rows @ .., weights] => (weights.as_primitive::<Int64Type>().clone(), rows.to_vec()),
            [] => return Ok(()),
        };
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), rows)?;
        self.push(DeltaBatch { rows, weight: Weight::Array(weights) })
    }

    /// The partition of each row's key; of rows without a key, one of this instance's.
    fn partitions(
        &self,
        rows: &RecordBatch,
        context: &ProcessorContext,
    ) -> Result<Vec<PartitionId>> {
        if self.key.is_empty() {
            return Ok(vec![PartitionId(context.index as u16); rows.num_rows()]);
        }
        let key: Vec<ArrayRef> =
            self.key.iter().map(|&column| Arc::clone(rows.column(column))).collect();
        let mut hashes = Vec::new();
        hash_columns(&key, &mut hashes)?;
        let partition_count = context.grid.config().partition_count;
        Ok(hashes.into_iter().map(|hash| partition_of_hash(hash, partition_count)).collect())
    }
}

fn weights_of(batch: &DeltaBatch) -> ArrayRef {
    match &batch.weight {
        Weight::Array(weights) => Arc::new(weights.clone()),
        constant => Arc::new(Int64Array::from_value(constant.at(0), batch.len())),
    }
}
