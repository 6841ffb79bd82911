//! The state of a window processor as chunks, and back.
//!
//! | tag | one row is | columns |
//! | --- | --- | --- |
//! | 0 | the first window that is not closed | `first_open` |
//! | 1 | a key in a pane | `pane, live`, keys, one column for each number or extreme |
//! | 2 + n | a value of a key in a pane, for the n-th multiset | `pane`, keys, `value, weight` |
//!
//! Keys lie in their partition, whatever the number of instances before and after. What is closed
//! has no key and all instances must know it: it is written once for each partition an instance
//! serves. The total is not saved; it is added up again.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array},
    compute::{concat, take_record_batch},
    datatypes::{Field, Int64Type, Schema},
};
use storage::partition::{PartitionId, hash_columns, partition_of_hash};

use super::{groups::Groups, window::SlidingWindow};
use crate::{
    Error, Result,
    processors::accumulators::{Entries, StateColumn},
    state::{StateChunk, StateWriter, instance_of},
};

const TAG_CLOSED: u8 = 0;
const TAG_PANES: u8 = 1;
/// Tag of the first multiset.
const TAG_MULTISETS: u8 = 2;

impl SlidingWindow {
    pub(super) fn save_chunks(&self, state: &mut StateWriter) -> Result<()> {
        self.save_closed(state)?;
        let partitions = self.partitions()?;
        self.save_panes(&partitions, state)?;
        for position in 0..self.plan.multiset_positions().len() {
            self.save_multiset(position, &partitions, state)?;
        }
        Ok(())
    }

    pub(super) fn restore_chunk(&mut self, chunk: &StateChunk) -> Result<()> {
        match chunk.tag {
            TAG_CLOSED => {
                let first_open = integers(chunk.rows.column(0)).value(0);
                self.first_open = self.first_open.max(Some(first_open));
                Ok(())
            }
            TAG_PANES => self.restore_panes(&chunk.rows),
            tag => self.restore_multiset(usize::from(tag - TAG_MULTISETS), &chunk.rows),
        }
    }

    fn save_closed(&self, state: &mut StateWriter) -> Result<()> {
        let (Some(first_open), Some(context)) = (self.first_open, &self.context) else {
            return Ok(());
        };
        let column: ArrayRef = Arc::new(Int64Array::from(vec![first_open]));
        let rows = batch_of(vec![column])?;
        for partition in (0..context.grid.config().partition_count).map(PartitionId) {
            if instance_of(partition, context.parallelism) == context.index {
                state.put(StateChunk { partition, tag: TAG_CLOSED, rows: rows.clone() });
            }
        }
        Ok(())
    }

    fn save_panes(&self, partitions: &[PartitionId], state: &mut StateWriter) -> Result<()> {
        let mut columns: Vec<Vec<ArrayRef>> = Vec::new();
        let mut ids = Vec::new();
        for (number, pane) in self.panes.iter() {
            ids.extend_from_slice(&pane.ids);
            let numbers: ArrayRef = Arc::new(Int64Array::from_value(number, pane.ids.len()));
            let live: ArrayRef = Arc::new(Int64Array::from(pane.groups.live.clone()));
            let plain = pane.groups.columns.iter().flatten();
            let plain = plain.filter(|column| !matches!(column, StateColumn::Multiset(_)));
            let plain = plain.map(StateColumn::to_array).collect::<Result<Vec<_>>>()?;
            columns.push([numbers, live].into_iter().chain(plain).collect());
        }
        let columns = concat_columns(&columns)?;
        self.put_keyed(TAG_PANES, &ids, columns, 2, partitions, state)
    }

    fn save_multiset(
        &self,
        position: usize,
        partitions: &[PartitionId],
        state: &mut StateWriter,
    ) -> Result<()> {
        let (aggregate, column) = self.plan.multiset_positions()[position];
        let mut columns: Vec<Vec<ArrayRef>> = Vec::new();
        let mut ids = Vec::new();
        for (number, pane) in self.panes.iter() {
            let StateColumn::Multiset(multiset) = &pane.groups.columns[aggregate][column] else {
                continue;
            };
            let entries = multiset.entries(|weight| weight != 0)?;
            let numbers: ArrayRef = Arc::new(Int64Array::from_value(number, entries.slots.len()));
            let weights: ArrayRef = Arc::new(Int64Array::from(entries.weights));
            ids.extend(entries.slots.iter().map(|&slot| pane.ids[slot as usize]));
            columns.push(vec![numbers, entries.values, weights]);
        }
        let tag = TAG_MULTISETS + position as u8;
        self.put_keyed(tag, &ids, concat_columns(&columns)?, 1, partitions, state)
    }

    /// Puts rows of the keys `ids`, one chunk a partition; the key columns go to `key_position`.
    fn put_keyed(
        &self,
        tag: u8,
        ids: &[u32],
        mut columns: Vec<ArrayRef>,
        key_position: usize,
        partitions: &[PartitionId],
        state: &mut StateWriter,
    ) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        columns.splice(key_position..key_position, self.keys.columns_of(ids)?);
        let partition_at = |row: usize| partitions[ids[row] as usize];
        // Stable, so that the rows of a partition stay in order of their panes.
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        order.sort_by_key(|&row| partition_at(row as usize));
        let rows = take_record_batch(&batch_of(columns)?, &UInt32Array::from(order.clone()))?;
        let mut start = 0;
        for run in order.chunk_by(|&a, &b| partition_at(a as usize) == partition_at(b as usize)) {
            let rows = rows.slice(start, run.len());
            state.put(StateChunk { partition: partition_at(run[0] as usize), tag, rows });
            start += run.len();
        }
        Ok(())
    }

    /// The partition of each key id. Without key columns there is one key and one instance.
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        let ids: Vec<u32> = (0..self.keys.len() as u32).collect();
        let columns = self.keys.columns_of(&ids)?;
        let (Some(context), false) = (&self.context, columns.is_empty()) else {
            return Ok(vec![PartitionId(0); ids.len()]);
        };
        let mut hashes = Vec::new();
        hash_columns(&columns, &mut hashes)?;
        let partition_count = context.grid.config().partition_count;
        Ok(hashes.into_iter().map(|hash| partition_of_hash(hash, partition_count)).collect())
    }

    fn restore_panes(&mut self, rows: &RecordBatch) -> Result<()> {
        let key_count = self.plan.spec.keys.len();
        let (panes, live) = (integers(rows.column(0)), integers(rows.column(1)));
        let saved = &rows.columns()[2 + key_count..];
        self.restore_rows(rows, 2, panes, |groups, start, slots| {
            for (&slot, &live) in slots.iter().zip(&live.values()[start..]) {
                groups.live[slot as usize] += live;
            }
            let plain = groups.columns.iter_mut().flatten();
            let plain: Vec<_> =
                plain.filter(|column| !matches!(column, StateColumn::Multiset(_))).collect();
            if plain.len() != saved.len() {
                return Err(Error::Internal("saved window state has another shape".to_owned()));
            }
            for (column, saved) in plain.into_iter().zip(saved) {
                column.merge_array(&saved.slice(start, slots.len()), slots)?;
            }
            Ok(())
        })
    }

    fn restore_multiset(&mut self, position: usize, rows: &RecordBatch) -> Result<()> {
        let key_count = self.plan.spec.keys.len();
        let found = self.plan.multiset_positions().get(position).copied();
        let (Some((aggregate, column)), true) = (found, rows.num_columns() == key_count + 3) else {
            return Err(Error::Internal("saved window state has another shape".to_owned()));
        };
        let panes = integers(rows.column(0));
        let (values, weights) = (rows.column(1 + key_count), integers(rows.column(2 + key_count)));
        self.restore_rows(rows, 1, panes, |groups, start, slots| {
            let StateColumn::Multiset(multiset) = &mut groups.columns[aggregate][column] else {
                return Ok(());
            };
            let entries = Entries {
                slots: slots.to_vec(),
                values: values.slice(start, slots.len()),
                weights: weights.values()[start..start + slots.len()].to_vec(),
            };
            multiset.add(&entries, 1, None)
        })
    }

    /// Calls `take(groups of the pane, first row, slots)` for each run of rows of one pane.
    fn restore_rows(
        &mut self,
        rows: &RecordBatch,
        key_position: usize,
        panes: &Int64Array,
        mut take: impl FnMut(&mut Groups, usize, &[u32]) -> Result<()>,
    ) -> Result<()> {
        let keys = &rows.columns()[key_position..key_position + self.plan.spec.keys.len()];
        let mut ids = Vec::new();
        self.keys.ids_of(keys, rows.num_rows(), &mut ids)?;
        let mut start = 0;
        for run in panes.values().chunk_by(|a, b| a == b) {
            let Self { panes, plan, keys, slots, .. } = self;
            let ids = &ids[start..start + run.len()];
            panes.slots_in(run[0], ids, &plan.aggregates, keys, slots)?;
            panes.change(run[0], |pane| take(&mut pane.groups, start, slots))?;
            start += run.len();
        }
        Ok(())
    }
}

fn integers(column: &ArrayRef) -> &Int64Array {
    column.as_primitive::<Int64Type>()
}

fn concat_columns(parts: &[Vec<ArrayRef>]) -> Result<Vec<ArrayRef>> {
    let width = parts.first().map_or(0, Vec::len);
    let column = |column: usize| {
        let arrays: Vec<&dyn Array> = parts.iter().map(|part| part[column].as_ref()).collect();
        Ok(concat(&arrays)?)
    };
    (0..width).map(column).collect()
}

/// A batch of columns that are known by their position.
fn batch_of(columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    let field = |(position, column): (usize, &ArrayRef)| {
        Field::new(position.to_string(), column.data_type().clone(), true)
    };
    let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}
