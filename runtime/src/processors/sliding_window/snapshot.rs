//! The state of a window processor as chunks, and back.
//!
//! | tag | one row is | columns |
//! | --- | --- | --- |
//! | 0 | a partition and the first window that is not closed | `partition, first_open` |
//! | 1 | a key in a pane | `pane, live`, keys, one column for each number or extreme |
//! | 2 + n | weight of a value of a key in a pane, for the n-th multiset | `pane`, keys, `value, weight` |
//!
//! Each pane is a section, and what is saved of it at a snapshot are the keys that rows have come for
//! since the one before, written in slices behind the barrier (see [`super::frozen`]): the pause grows
//! neither with what there is nor with what has changed. A row that is saved later replaces an
//! earlier one of its key; the weights of a multiset, which come the same way, are added up.
//!
//! Keys lie in their partition, whatever the number of instances before and after. What is closed
//! has no key and all instances must know it: it is a row for each partition an instance serves. The total is not saved; it is added up again.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch},
    datatypes::{Field, Int64Type, Schema},
};
use storage::partition::PartitionId;

use super::{groups::Groups, keys::WindowKeys, pane::Pane, window::SlidingWindow};
use crate::{
    Error, Result,
    processor::Done,
    processors::accumulators::{Entries, StateColumn},
    state::{KeyedRows, PlacedBy, SectionChange, StateChunk, StateWriter, instance_of},
};

const TAG_CLOSED: u8 = 0;
const TAG_PANES: u8 = 1;
/// Tag of the first multiset.
const TAG_MULTISETS: u8 = 2;

/// Rows written between two other calls: half a millisecond's work.
pub(super) const ROWS_PER_SLICE: usize = if cfg!(test) { 3 } else { 16_384 };

impl SlidingWindow {
    pub(super) fn save_state(&mut self, state: &mut StateWriter) -> Result<()> {
        self.save_closed(state)?;
        let forgotten = self.panes.take_forgotten();
        if state.is_incremental {
            let tags = (0..=self.plan.multiset_positions().len()).map(|n| TAG_PANES + n as u8);
            for tag in tags {
                let gone = forgotten.iter().map(|&pane| SectionChange::Forget((tag, pane)));
                gone.for_each(|change| state.change(change));
            }
        }
        self.panes.thaw()?;
        let mut to_freeze = Vec::new();
        let Self { panes, keys, plan, .. } = self;
        panes.change_each(|number, pane| {
            let len = pane.ids.len();
            let dirty_count = pane.dirty.count(len);
            if state.is_incremental && dirty_count == 0 {
                return Ok(());
            }
            let is_whole = !state.is_incremental
                || !pane.dirty.is_saved()
                || pane.dirty.is_bloated_by(dirty_count, len);
            if state.snapshot > 0 {
                if is_whole {
                    // All that follows is appended to nothing.
                    let nothing = pane_rows(number, pane, &[], keys)?;
                    state.change(SectionChange::Replace((TAG_PANES, number), nothing));
                }
                begin_multisets(number, pane, keys, state)?;
                to_freeze.push((number, is_whole));
                return Ok(());
            }
            let slots: Vec<u32> = (0..len as u32).collect();
            let rows = pane_rows(number, pane, &slots, keys)?;
            state.change(SectionChange::Replace((TAG_PANES, number), rows));
            for position in 0..plan.multiset_positions().len() {
                let at = plan.multiset_positions()[position];
                let section = (TAG_MULTISETS + position as u8, number);
                if let Some(rows) = multiset_rows(number, pane, at, keys)? {
                    state.change(SectionChange::Replace(section, rows));
                }
            }
            Ok(())
        })?;
        to_freeze.into_iter().for_each(|(number, is_whole)| panes.freeze(number, is_whole));
        Ok(())
    }

    pub(super) fn save_slice(&mut self, state: &mut StateWriter) -> Result<Done> {
        self.panes.write_frozen(ROWS_PER_SLICE, &self.keys, state)
    }

    pub(super) fn restore_chunk(&mut self, chunk: &StateChunk) -> Result<()> {
        match chunk.tag {
            TAG_CLOSED => {
                let first_open = integers(chunk.rows.column(1)).values().iter().max().copied();
                self.first_open = self.first_open.max(first_open);
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
        let partitions = 0..context.grid.config().partition_count;
        let is_ours = |&partition: &u16| {
            instance_of(PartitionId(partition), context.parallelism) == context.index
        };
        let partitions: Int64Array = partitions.filter(is_ours).map(i64::from).collect();
        let first_open = Int64Array::from_value(first_open, partitions.len());
        let rows = batch_of(vec![Arc::new(partitions), Arc::new(first_open)])?;
        let rows = KeyedRows { rows, placed_by: PlacedBy::Number(0) };
        state.change(SectionChange::Replace((TAG_CLOSED, 0), rows));
        Ok(())
    }

    fn restore_panes(&mut self, rows: &RecordBatch) -> Result<()> {
        let key_count = self.plan.spec.keys.len();
        let (panes, live) = (integers(rows.column(0)), integers(rows.column(1)));
        let saved = &rows.columns()[2 + key_count..];
        self.restore_rows(rows, 2, panes, |groups, start, slots| {
            for (&slot, &live) in slots.iter().zip(&live.values()[start..]) {
                groups.live[slot as usize] = live;
            }
            groups.columns.iter_mut().flatten().for_each(|column| column.clear_slots(slots));
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

/// What some slots of a pane hold, as an addition to what was written of it.
pub(super) fn appended(
    number: i64,
    pane: &Pane,
    slots: &[u32],
    keys: &WindowKeys,
) -> Result<SectionChange> {
    let rows = pane_rows(number, pane, slots, keys)?;
    Ok(SectionChange::Append((TAG_PANES, number), rows))
}

/// The next slice of what the save under way is to write of a pane, of up to `count` slots or values:
/// how many were looked at. `None` when nothing is left.
pub(super) fn next_slice(
    number: i64,
    pane: &mut Pane,
    count: usize,
    keys: &WindowKeys,
) -> Result<Option<(usize, SectionChange)>> {
    let Some(frozen) = &mut pane.frozen else { return Ok(None) };
    let slots = frozen.take(count);
    if !slots.is_empty() {
        return Ok(Some((slots.len(), appended(number, pane, &slots, keys)?)));
    }
    let Pane { groups, ids, .. } = pane;
    for (tag, multiset) in (TAG_MULTISETS..).zip(groups.multisets()) {
        if let Some((looked_at, entries)) = multiset.take_saved(count)? {
            let rows = entry_rows(number, ids, entries, keys)?;
            return Ok(Some((looked_at, SectionChange::Append((tag, number), rows))));
        }
    }
    pane.frozen = None;
    Ok(None)
}

/// A save of a pane's multisets begins.
fn begin_multisets(
    number: i64,
    pane: &mut Pane,
    keys: &WindowKeys,
    state: &mut StateWriter,
) -> Result<()> {
    let Pane { groups, ids, .. } = pane;
    for (tag, multiset) in (TAG_MULTISETS..).zip(groups.multisets()) {
        if multiset.begin_save(state.is_incremental) {
            let nothing = entry_rows(number, ids, multiset.entries_in(0..0, |_| false)?, keys)?;
            state.change(SectionChange::Replace((tag, number), nothing));
        }
    }
    Ok(())
}

/// What some slots of a pane hold.
fn pane_rows(number: i64, pane: &Pane, slots: &[u32], keys: &WindowKeys) -> Result<KeyedRows> {
    let ids: Vec<u32> = slots.iter().map(|&slot| pane.ids[slot as usize]).collect();
    let numbers: ArrayRef = Arc::new(Int64Array::from_value(number, slots.len()));
    let live = slots.iter().map(|&slot| pane.groups.live[slot as usize]);
    let live: ArrayRef = Arc::new(Int64Array::from_iter_values(live));
    let plain = pane.groups.columns.iter().flatten();
    let plain = plain.filter(|column| !matches!(column, StateColumn::Multiset(_)));
    let plain = plain.map(|column| column.to_array(slots)).collect::<Result<Vec<_>>>()?;
    let keys = keys.columns_of(&ids)?;
    let key_positions = 2..2 + keys.len();
    let columns = [numbers, live].into_iter().chain(keys).chain(plain).collect();
    Ok(KeyedRows { rows: batch_of(columns)?, placed_by: PlacedBy::Keys(key_positions) })
}

/// What a multiset of a pane holds; `None` for an aggregate of another kind.
fn multiset_rows(
    number: i64,
    pane: &Pane,
    (aggregate, column): (usize, usize),
    keys: &WindowKeys,
) -> Result<Option<KeyedRows>> {
    let StateColumn::Multiset(multiset) = &pane.groups.columns[aggregate][column] else {
        return Ok(None);
    };
    let entries = multiset.entries(|weight| weight != 0)?;
    entry_rows(number, &pane.ids, entries, keys).map(Some)
}

/// Entries of a multiset as they are saved; `ids` are the keys of the pane's slots.
fn entry_rows(number: i64, ids: &[u32], entries: Entries, keys: &WindowKeys) -> Result<KeyedRows> {
    let ids: Vec<u32> = entries.slots.iter().map(|&slot| ids[slot as usize]).collect();
    let numbers: ArrayRef = Arc::new(Int64Array::from_value(number, entries.slots.len()));
    let weights: ArrayRef = Arc::new(Int64Array::from(entries.weights));
    let keys = keys.columns_of(&ids)?;
    let key_positions = 1..1 + keys.len();
    let columns = [numbers].into_iter().chain(keys).chain([entries.values, weights]).collect();
    Ok(KeyedRows { rows: batch_of(columns)?, placed_by: PlacedBy::Keys(key_positions) })
}

fn integers(column: &ArrayRef) -> &Int64Array {
    column.as_primitive::<Int64Type>()
}

/// A batch of columns that are known by their position.
fn batch_of(columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    let field = |(position, column): (usize, &ArrayRef)| {
        Field::new(position.to_string(), column.data_type().clone(), true)
    };
    let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}
