//! `WindowKeys`: the keys of one window processor as dense ids, with the number of panes that know
//! each, so that keys nobody knows any more can be forgotten.

use arrow::{array::ArrayRef, datatypes::DataType};

use crate::{Result, state::KeyedMap};

/// Below so many keys nothing is forgotten: it would not be worth the copying.
const FORGET_MIN: usize = 4096;

pub(super) struct WindowKeys {
    map: KeyedMap,
    /// By id: panes that have a slot for it.
    pane_counts: Vec<u32>,
    /// Ids whose count is zero.
    unused_count: usize,
}

impl WindowKeys {
    pub(super) fn new(types: &[DataType], seed: u64) -> Result<Self> {
        Ok(Self { map: KeyedMap::new(types, seed)?, pane_counts: Vec::new(), unused_count: 0 })
    }

    pub(super) fn len(&self) -> usize {
        self.pane_counts.len()
    }

    pub(super) fn ids_of(
        &mut self,
        columns: &[ArrayRef],
        row_count: usize,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        self.map.ids_of(columns, row_count, ids)?;
        self.unused_count += self.map.len() - self.pane_counts.len();
        self.pane_counts.resize(self.map.len(), 0);
        Ok(())
    }

    pub(super) fn columns_of(&self, ids: &[u32]) -> Result<Vec<ArrayRef>> {
        self.map.columns_of(ids)
    }

    /// A pane has made a slot for `id`.
    #[inline]
    pub(super) fn enter(&mut self, id: u32) {
        let count = &mut self.pane_counts[id as usize];
        self.unused_count -= usize::from(*count == 0);
        *count += 1;
    }

    /// A pane with these ids is gone.
    pub(super) fn leave(&mut self, ids: &[u32]) {
        for &id in ids {
            let count = &mut self.pane_counts[id as usize];
            *count -= 1;
            self.unused_count += usize::from(*count == 0);
        }
    }

    /// Forgets unused keys if they are many; the new id of each old one, if it did.
    pub(super) fn forget_unused(&mut self) -> Option<Vec<u32>> {
        let is_worth_it = self.len() >= FORGET_MIN && self.unused_count * 2 > self.len();
        if !is_worth_it {
            return None;
        }
        let counts = &self.pane_counts;
        let new_ids = self.map.retain(|id| counts[id as usize] > 0);
        self.pane_counts.retain(|&count| count > 0);
        self.pane_counts.shrink_to_fit();
        self.unused_count = 0;
        Some(new_ids)
    }

    pub(super) fn bytes(&self) -> usize {
        self.map.bytes() + self.pane_counts.capacity() * size_of::<u32>()
    }
}
