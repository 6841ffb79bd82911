//! `Panes`: the panes that hold rows, by number: the truth of a window processor's state; totals and
//! stacks are made from them again. Keeps count of their bytes as they change.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use super::{
    budget::Budget,
    keys::WindowKeys,
    pane::{Dirty, Pane, SlotMaps},
    snapshot::{ROWS_PER_SLICE, appended, next_slice},
};
use crate::{
    Result,
    processor::Done,
    processors::accumulators::{Aggregate, Multiset},
    state::{SectionChange, StateWriter},
};

#[derive(Default)]
pub(super) struct Panes {
    by_number: BTreeMap<i64, Pane>,
    maps: SlotMaps,
    /// Saved panes that were taken out since the last save.
    forgotten: Vec<i64>,
    /// Panes that the save under way has not written, in the order in which it will.
    frozen: VecDeque<i64>,
    /// What was written of them before their turn.
    early: Vec<SectionChange>,
    /// Of all panes: a window may have 10^5 of them, too many to ask each after every batch.
    pane_bytes: usize,
}

impl Panes {
    /// Finds the slots of `ids` in pane `number`, which is made if it is not there.
    pub(super) fn slots_in(
        &mut self,
        number: i64,
        ids: &[u32],
        aggregates: &[Aggregate],
        keys: &mut WindowKeys,
        slots: &mut Vec<u32>,
    ) -> Result<()> {
        if !self.by_number.contains_key(&number) {
            let pane = Pane::new(aggregates)?;
            self.pane_bytes += pane.bytes();
            self.by_number.insert(number, pane);
        }
        let panes = &self.by_number;
        let map = self.maps.open(number, |number| panes[&number].ids.as_slice());
        let Some(pane) = self.by_number.get_mut(&number) else { return Ok(()) };
        let before = pane.bytes();
        pane.slots_of(map, ids, keys, slots);
        if let Some(frozen) = &mut pane.frozen {
            let slots = frozen.take_early(slots);
            if !slots.is_empty() {
                self.early.push(appended(number, pane, &slots, keys)?);
            }
        }
        self.pane_bytes = self.pane_bytes + pane.bytes() - before;
        Ok(())
    }

    /// Changes a pane, if it is there.
    pub(super) fn change<T>(
        &mut self,
        number: i64,
        change: impl FnOnce(&mut Pane) -> Result<T>,
    ) -> Result<Option<T>> {
        let Some(pane) = self.by_number.get_mut(&number) else { return Ok(None) };
        let before = pane.bytes();
        let outcome = change(pane);
        self.pane_bytes = self.pane_bytes + pane.bytes() - before;
        outcome.map(Some)
    }

    pub(super) fn get(&self, number: i64) -> Option<&Pane> {
        self.by_number.get(&number)
    }

    /// Writes what the save under way has left of a pane that is about to be taken out; `Yes` when
    /// that is nothing.
    pub(super) fn settle(
        &mut self,
        number: i64,
        keys: &WindowKeys,
        budget: &mut Budget,
    ) -> Result<Done> {
        while self.by_number.get(&number).is_some_and(|pane| pane.frozen.is_some()) {
            let count = budget.take(ROWS_PER_SLICE);
            if count == 0 {
                return Ok(Done::No);
            }
            let slice = self.change(number, |pane| next_slice(number, pane, count, keys))?;
            self.early.extend(slice.flatten().map(|(_, change)| change));
        }
        Ok(Done::Yes)
    }

    /// Takes a pane out that is settled; its keys are still in use.
    pub(super) fn remove(&mut self, number: i64) -> Option<Pane> {
        let pane = self.by_number.remove(&number)?;
        assert!(pane.frozen.is_none(), "a pane goes when what is saved of it is written");
        self.pane_bytes -= pane.bytes();
        self.maps.close(number, &pane.ids);
        if pane.dirty.is_saved() {
            self.forgotten.push(number);
        }
        Some(pane)
    }

    /// A save begins: pane `number` is to be written, in addition or in place of what was.
    pub(super) fn freeze(&mut self, number: i64, is_whole: bool) {
        if let Some(pane) = self.by_number.get_mut(&number) {
            let before = pane.bytes();
            pane.frozen = Some(pane.dirty.freeze(is_whole, pane.ids.len()));
            self.pane_bytes = self.pane_bytes + pane.bytes() - before;
            self.frozen.push_back(number);
        }
    }

    /// Writes up to `row_count` rows of what the save under way has left; `Yes` when nothing is.
    pub(super) fn write_frozen(
        &mut self,
        mut row_count: usize,
        keys: &WindowKeys,
        state: &mut StateWriter,
    ) -> Result<Done> {
        state.changes.append(&mut self.early);
        while let Some(&number) = self.frozen.front() {
            let slice = self.change(number, |pane| next_slice(number, pane, row_count, keys))?;
            let Some((looked_at, change)) = slice.flatten() else {
                self.frozen.pop_front();
                continue;
            };
            state.change(change);
            row_count -= looked_at;
            if row_count == 0 {
                return Ok(Done::No);
            }
        }
        Ok(Done::Yes)
    }

    /// Forgets a save that never ended: the next one writes everything.
    pub(super) fn thaw(&mut self) -> Result<()> {
        self.early.clear();
        for number in std::mem::take(&mut self.frozen) {
            self.change(number, |pane| {
                (pane.frozen, pane.dirty) = (None, Dirty::default());
                pane.groups.multisets().for_each(Multiset::forget_saves);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Saved panes that were taken out since this was last asked.
    pub(super) fn take_forgotten(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.forgotten)
    }

    /// Does something to every pane, by rising number.
    pub(super) fn change_each(
        &mut self,
        mut change: impl FnMut(i64, &mut Pane) -> Result<()>,
    ) -> Result<()> {
        for (number, pane) in &mut self.by_number {
            let before = pane.bytes();
            change(*number, pane)?;
            self.pane_bytes = self.pane_bytes + pane.bytes() - before;
        }
        Ok(())
    }

    /// A pane gets no more rows, or not soon.
    pub(super) fn close_map(&mut self, number: i64) {
        if let Some(pane) = self.by_number.get(&number) {
            self.maps.close(number, &pane.ids);
        }
    }

    /// Numbers of the panes in a range, rising.
    pub(super) fn numbers(&self, range: Range<i64>) -> impl DoubleEndedIterator<Item = i64> {
        let range = range.start.min(range.end)..range.end;
        self.by_number.range(range).map(|(number, _)| *number)
    }

    pub(super) fn first_from(&self, number: i64) -> Option<i64> {
        self.by_number.range(number..).next().map(|(number, _)| *number)
    }

    pub(super) fn last(&self) -> Option<i64> {
        self.by_number.last_key_value().map(|(number, _)| *number)
    }

    /// Key ids have changed.
    pub(super) fn remap(&mut self, new_ids: &[u32]) {
        self.maps.forget_all();
        let ids = self.by_number.values_mut().flat_map(|pane| &mut pane.ids);
        ids.for_each(|id| *id = new_ids[*id as usize]);
    }

    pub(super) fn bytes(&self) -> usize {
        self.pane_bytes + self.maps.bytes()
    }
}
