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
        // Rows without a key all belong together.
        if self.rows.len() == 1 || self.columns.is_empty() {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::{ZSet, bigint_batch, bigint_schema};

    #[test]
    fn every_row_goes_to_the_instance_that_serves_its_partition_in_order() {
        let schema = bigint_schema(&["key", "position"]);
        let keys: Vec<i64> = (0..8_192).map(|row| row * 7 % 1_000).collect();
        let positions: Vec<i64> = (0..8_192).collect();
        let rows = bigint_batch(&schema, &[&keys, &positions]);
        let weights: Int64Array = (0..8_192).map(|row| row % 5 - 2).collect();
        let batch = DeltaBatch { rows, weight: Weight::Array(weights) };
        let mut parts = BTreeMap::new();
        let mut splitter = Splitter::new(vec![0], 271, 3);
        for _ in 0..2 {
            parts.clear();
            let put = |target, part| assert!(parts.insert(target, part).is_none());
            splitter.split(batch.clone(), put).unwrap();
        }
        assert_eq!(parts.len(), 3);
        assert_eq!(ZSet::of(parts.values()), ZSet::of([&batch]), "no row is lost or doubled");
        for (target, part) in &parts {
            let mut hashes = Vec::new();
            hash_columns(&[ArrayRef::clone(part.rows.column(0))], &mut hashes).unwrap();
            let serves = |hash| instance_of(partition_of_hash(hash, 271), 3) == *target;
            assert!(hashes.into_iter().all(serves));
            let positions = part.rows.column(1).as_any().downcast_ref::<Int64Array>().unwrap();
            assert!(positions.values().windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn a_batch_for_one_target_is_passed_on_as_it_is() {
        let schema = bigint_schema(&["key"]);
        let batch = DeltaBatch::insertions(bigint_batch(&schema, &[&[7, 7, 7]]));
        for columns in [vec![0], vec![]] {
            let mut parts = Vec::new();
            let mut splitter = Splitter::new(columns, 271, 4);
            splitter.split(batch.clone(), |_, part| parts.push(part)).unwrap();
            assert_eq!(parts.len(), 1);
            let same = ArrayRef::clone(batch.rows.column(0)).to_data();
            assert!(parts[0].rows.column(0).to_data().ptr_eq(&same), "not copied");
        }
    }
}
