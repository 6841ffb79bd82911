//! `Multiset`: value → weight for each slot: the state of DISTINCT, and of min and max over input
//! that retracts (the least value is the least distinct value). Linear, so it can be taken back.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, Int64Array},
    buffer::BooleanBuffer,
    compute::filter,
    datatypes::{DataType, Int64Type},
};

use super::{input::Target, unsaved::Unsaved};
use crate::{
    Result,
    state::{KeyedMap, keyed_map::NO_ID},
};

/// Entries of weight zero are dropped once there are so many, and more of them than others.
const ZEROS_MAX: usize = 1024;

pub(in crate::processors) struct Multiset {
    value_type: DataType,
    /// Over (slot, value).
    entries: KeyedMap,
    /// By entry; zero means it is not there.
    weights: Vec<i64>,
    zero_count: usize,
    /// As many are not worth looking for.
    zeros_max: usize,
    /// What its saved section does not say; `None` if it has none.
    unsaved: Option<Unsaved>,
}

/// The entries of a multiset as columns.
pub(in crate::processors) struct Entries {
    pub(in crate::processors) slots: Vec<u32>,
    pub(in crate::processors) values: ArrayRef,
    pub(in crate::processors) weights: Vec<i64>,
}

impl Multiset {
    pub(super) fn new(value_type: &DataType) -> Result<Self> {
        Ok(Self {
            value_type: value_type.clone(),
            entries: entry_map(value_type)?,
            weights: Vec::new(),
            zero_count: 0,
            zeros_max: ZEROS_MAX,
            unsaved: None,
        })
    }

    pub(super) fn clear(&mut self) {
        self.forget_zeros(|_| false);
    }

    pub(in crate::processors) fn bytes(&self) -> usize {
        self.entries.bytes()
            + self.weights.capacity() * size_of::<i64>()
            + self.unsaved.as_ref().map_or(0, Unsaved::bytes)
    }

    /// Takes in rows. `changes` gets, for each of the entries answered, +1 if its value came up in
    /// its slot, −1 if it went, else 0.
    pub(in crate::processors) fn update(
        &mut self,
        values: &ArrayRef,
        mask: Option<&BooleanBuffer>,
        target: Target<'_>,
        changes: Option<&mut Vec<i64>>,
    ) -> Result<Entries> {
        let row_count = target.slots.len();
        let mut slots: Vec<u32> = target.slots.to_vec();
        let mut weights: Vec<i64> =
            (target.start..target.start + row_count).map(|row| target.weight.at(row)).collect();
        let mut values = values.slice(target.start, row_count);
        if let Some(mask) = mask {
            let mask = mask.slice(target.start, row_count);
            let mut is_kept = mask.iter();
            slots.retain(|_| is_kept.next().unwrap_or(false));
            let mut is_kept = mask.iter();
            weights.retain(|_| is_kept.next().unwrap_or(false));
            values = filter(&values, &BooleanArray::new(mask.clone(), None))?;
        }
        let entries = Entries { slots, values, weights };
        self.add(&entries, 1, changes)?;
        Ok(entries)
    }

    /// Takes in entries, `sign` times; `changes` as for [`Multiset::update`].
    pub(in crate::processors) fn add(
        &mut self,
        entries: &Entries,
        sign: i64,
        mut changes: Option<&mut Vec<i64>>,
    ) -> Result<()> {
        if entries.slots.is_empty() {
            return Ok(());
        }
        let slots = entries.slots.iter().map(|&slot| i64::from(slot));
        let slots: ArrayRef = Arc::new(Int64Array::from_iter_values(slots));
        let mut ids = Vec::new();
        let columns = [slots, ArrayRef::clone(&entries.values)];
        self.entries.ids_of(&columns, entries.slots.len(), &mut ids)?;
        self.zero_count += self.entries.len() - self.weights.len();
        self.weights.resize(self.entries.len(), 0);
        for (id, weight) in ids.into_iter().zip(&entries.weights) {
            let total = &mut self.weights[id as usize];
            let before = *total;
            *total += weight * sign;
            if let Some(unsaved) = &mut self.unsaved {
                unsaved.note(id, weight * sign);
            }
            if let Some(changes) = &mut changes {
                changes.push(i64::from(*total > 0) - i64::from(before > 0));
            }
            match (before == 0, *total == 0) {
                (true, false) => self.zero_count -= 1,
                (false, true) => self.zero_count += 1,
                _ => {}
            }
        }
        if self.zero_count > self.zeros_max && self.zero_count * 2 > self.weights.len() {
            self.forget_zeros(|weight| weight != 0);
        }
        Ok(())
    }

    /// Number of entries, those of weight zero too.
    pub(in crate::processors) fn len(&self) -> usize {
        self.weights.len()
    }

    /// The entries whose weight `is_wanted`.
    pub(in crate::processors) fn entries(
        &self,
        is_wanted: impl Fn(i64) -> bool,
    ) -> Result<Entries> {
        self.entries_in(0..self.len(), is_wanted)
    }

    /// Those of `range`, which is of positions below [`Multiset::len`].
    pub(in crate::processors) fn entries_in(
        &self,
        range: Range<usize>,
        is_wanted: impl Fn(i64) -> bool,
    ) -> Result<Entries> {
        let range = range.start.min(self.len())..range.end.min(self.len());
        let ids: Vec<u32> = (range.start as u32..range.end as u32)
            .filter(|&id| is_wanted(self.weights[id as usize]))
            .collect();
        let weights = ids.iter().map(|&id| self.weights[id as usize]).collect();
        self.entries_of(ids, weights)
    }

    fn entries_of(&self, ids: Vec<u32>, weights: Vec<i64>) -> Result<Entries> {
        let columns = self.entries.columns_of(&ids)?;
        let slots = columns[0].as_primitive::<Int64Type>().values();
        let slots = slots.iter().map(|&slot| slot as u32).collect();
        Ok(Entries { slots, values: ArrayRef::clone(&columns[1]), weights })
    }

    /// A save begins: of all entries, or of what has changed since the save before; whether of all.
    /// What is to be written is what there is now, see [`Multiset::take_saved`].
    pub(in crate::processors) fn begin_save(&mut self, is_incremental: bool) -> bool {
        self.zeros_max = ZEROS_MAX;
        let len = self.weights.len();
        match self.unsaved.as_mut().filter(|unsaved| is_incremental && !unsaved.is_bloated(len)) {
            Some(unsaved) => {
                unsaved.begin();
                false
            }
            None => {
                self.unsaved = Some(Unsaved::of_all(len));
                true
            }
        }
    }

    /// What is to be written of up to `count` entries: weights to be added to those that are saved.
    /// How many were looked at; `None` when the save has nothing left.
    pub(in crate::processors) fn take_saved(
        &mut self,
        count: usize,
    ) -> Result<Option<(usize, Entries)>> {
        let taken = self.unsaved.as_mut().and_then(|unsaved| unsaved.take(count, &self.weights));
        let Some((looked_at, found)) = taken else { return Ok(None) };
        let (ids, weights) = found.into_iter().unzip();
        Ok(Some((looked_at, self.entries_of(ids, weights)?)))
    }

    /// Forgets that it was saved.
    pub(in crate::processors) fn forget_saves(&mut self) {
        self.unsaved = None;
    }

    /// Moves the entries of slot i to slot `new_slots[i]`; those of forgotten slots go.
    pub(in crate::processors) fn remap(&mut self, new_slots: &[u32]) -> Result<()> {
        let mut entries = self.entries(|weight| weight != 0)?;
        let is_kept: Vec<bool> =
            entries.slots.iter().map(|&slot| new_slots[slot as usize] != NO_ID).collect();
        entries.slots = entries
            .slots
            .iter()
            .map(|&slot| new_slots[slot as usize])
            .filter(|&slot| slot != NO_ID)
            .collect();
        entries.values = filter(&entries.values, &BooleanArray::from(is_kept.clone()))?;
        let mut is_kept = is_kept.into_iter();
        entries.weights.retain(|_| is_kept.next().unwrap_or(false));
        *self = Self::new(&self.value_type)?;
        self.add(&entries, 1, None)
    }

    fn forget_zeros(&mut self, is_kept: impl Fn(i64) -> bool) {
        let mut kept: Vec<bool> = self.weights.iter().map(|&weight| is_kept(weight)).collect();
        if let Some(unsaved) = &self.unsaved {
            unsaved.mark_needed(&mut kept);
        }
        let new_ids = self.entries.retain(|id| kept[id as usize]);
        let mut kept = kept.into_iter();
        self.weights.retain(|_| kept.next().unwrap_or(false));
        self.zero_count = self.weights.iter().filter(|weight| **weight == 0).count();
        // Those that are not saved go after the next save; to look for them before is in vain.
        self.zeros_max = ZEROS_MAX.max(self.zero_count * 2);
        if let Some(unsaved) = &mut self.unsaved {
            unsaved.remap(&new_ids);
        }
    }
}

/// A map over (slot, value). The seed may be fixed: what is placed first is the slot, which the
/// sender of the values does not choose.
fn entry_map(value_type: &DataType) -> Result<KeyedMap> {
    KeyedMap::new(&[DataType::Int64, value_type.clone()], 0x5EED)
}
