//! Splits a batch by the instance that serves each row's key: the exchange of a partitioned edge.
//! By instance, never by partition, so a batch becomes at most as many batches as there are targets.

use arrow::{
    array::{Array, ArrayRef, Int64Array, UInt32Array},
    compute::{take, take_record_batch},
};
use storage::partition::{PartitionId, hash_columns, partition_of_hash};

use crate::{
    Result,
    delta::{DeltaBatch, Weight},
    state::instance_of,
};

/// Splits batches of one edge. Keeps its scratch memory between batches.
pub struct Splitter {
    columns: Vec<usize>,
    partition_count: u16,
    /// Target instance by partition.
    instances: Vec<u32>,
    keys: Vec<ArrayRef>,
    hashes: Vec<u64>,
    /// Rows of each target, in order.
    rows: Vec<Vec<u32>>,
}

impl Splitter {
    /// By the table hash of `columns`, to `target_count` instances.
    pub fn new(columns: Vec<usize>, partition_count: u16, target_count: usize) -> Self {
        let instance = |id| instance_of(PartitionId(id), target_count) as u32;
        Self {
            columns,
            partition_count,
            instances: (0..partition_count).map(instance).collect(),
            keys: Vec::new(),
            hashes: Vec::new(),
            rows: vec![Vec::new(); target_count],
        }
    }

    /// Gives each target its rows, in order; nothing to a target without any. A batch that goes to
    /// one target whole is not copied.
    pub fn split(
        &mut self,
        batch: DeltaBatch,
        mut emit: impl FnMut(usize, DeltaBatch),
    ) -> Result<()> {
        if self.rows.len() == 1 {
            emit(0, batch);
            return Ok(());
        }
        self.route(&batch)?;
        let batch_len = batch.len();
        if let Some(all) = self.rows.iter().position(|rows| rows.len() == batch_len) {
            emit(all, batch);
            return Ok(());
        }
        for (target, rows) in self.rows.iter_mut().enumerate() {
            if rows.is_empty() {
                continue;
            }
            let picked = UInt32Array::from(std::mem::take(rows));
            emit(target, pick(&batch, &picked)?);
        }
        Ok(())
    }

    /// Fills `rows`.
    fn route(&mut self, batch: &DeltaBatch) -> Result<()> {
        self.keys.clear();
        self.keys.extend(self.columns.iter().map(|c| ArrayRef::clone(batch.rows.column(*c))));
        hash_columns(&self.keys, &mut self.hashes)?;
        let expected = batch.len() / self.rows.len() * 5 / 4;
        for rows in &mut self.rows {
            rows.clear();
            rows.reserve(expected);
        }
        for (row, hash) in (0_u32..).zip(&self.hashes) {
            let partition = partition_of_hash(*hash, self.partition_count);
            self.rows[self.instances[usize::from(partition.0)] as usize].push(row);
        }
        Ok(())
    }
}

fn pick(batch: &DeltaBatch, picked: &UInt32Array) -> Result<DeltaBatch> {
    let weight = match &batch.weight {
        Weight::Array(weights) => {
            let weights = take(weights, picked, None)?;
            let weights = weights.as_any().downcast_ref::<Int64Array>();
            Weight::Array(weights.expect("take keeps the type").clone())
        }
        constant => constant.clone(),
    };
    Ok(DeltaBatch { rows: take_record_batch(&batch.rows, picked)?, weight })
}
