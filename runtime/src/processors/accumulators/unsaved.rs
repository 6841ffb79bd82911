//! `Unsaved`: what the saved section of a multiset does not say yet: for each entry the weight that
//! came since the last barrier. Weights add up, so a section is a log of such changes, and nothing is
//! copied when the next save begins: the list is handed to it as it is.
//!
//! ```text
//!   rows          since   2 +3 · 5 −1 · 9 +1
//!   barrier       saving  2 +3 · 5 −1 · 9 +1     since   –
//!   a slice                      5 −1 · 9 +1             –
//!   rows for 5                   5 −1 · 9 +1             5 +4
//! ```
//! A section that is written whole takes of each entry its weight without what came since.

use std::ops::Range;

use crate::state::keyed_map::NO_ID;

#[derive(Default)]
pub(super) struct Unsaved {
    /// Entry and weight, each entry once.
    since: Vec<(u32, i64)>,
    /// By entry: where in `since` it is, if it is; else anything.
    places: Vec<u32>,
    saving: Saving,
    /// Rows of the section's pieces.
    rows_written: usize,
}

/// What the save under way has left.
#[derive(Default)]
enum Saving {
    #[default]
    Nothing,
    /// These of all entries.
    All(Range<u32>),
    Changes(std::vec::IntoIter<(u32, i64)>),
}

impl Unsaved {
    /// A save begins that writes all of `len` entries.
    pub(super) fn of_all(len: usize) -> Self {
        Self { saving: Saving::All(0..len as u32), rows_written: len, ..Self::default() }
    }

    /// A save begins that writes what has changed.
    pub(super) fn begin(&mut self) {
        let changes = std::mem::take(&mut self.since);
        self.rows_written += changes.len();
        self.saving = Saving::Changes(changes.into_iter());
    }

    /// Whether the section, as a log, would grow to more than twice the `len` entries there are.
    pub(super) fn is_bloated(&self, len: usize) -> bool {
        self.rows_written + self.since.len() > 2 * len
    }

    /// Weight has come for an entry.
    #[inline]
    pub(super) fn note(&mut self, entry: u32, weight: i64) {
        match self.place(entry) {
            Some(place) => self.since[place].1 += weight,
            None => {
                if self.places.len() <= entry as usize {
                    self.places.resize(entry as usize + 1, 0);
                }
                self.places[entry as usize] = self.since.len() as u32;
                self.since.push((entry, weight));
            }
        }
    }

    #[inline]
    fn place(&self, entry: u32) -> Option<usize> {
        let place = *self.places.get(entry as usize)? as usize;
        self.since.get(place).filter(|(noted, _)| *noted == entry).map(|_| place)
    }

    /// Up to `count` of the entries that are left to be written, with what is to be written of each:
    /// how many were looked at, and those that are not zero. `None` when none is left.
    pub(super) fn take(
        &mut self,
        count: usize,
        weights: &[i64],
    ) -> Option<(usize, Vec<(u32, i64)>)> {
        let (taken, mut found) = match &mut self.saving {
            Saving::Nothing => return None,
            Saving::All(left) => {
                let end = left.end.min(left.start.saturating_add(count as u32));
                let entries = std::mem::replace(left, end..left.end);
                let before = entries.start..end;
                let since = |entry| self.place(entry).map_or(0, |place| self.since[place].1);
                let found = before.clone().map(|id| (id, weights[id as usize] - since(id)));
                (before.len(), found.collect::<Vec<_>>())
            }
            Saving::Changes(left) => {
                let found: Vec<_> = left.take(count).collect();
                (found.len(), found)
            }
        };
        if taken == 0 {
            self.saving = Saving::Nothing;
            return None;
        }
        found.retain(|(_, weight)| *weight != 0);
        Some((taken, found))
    }

    /// Notes which entries must stay, though they be zero.
    pub(super) fn mark_needed(&self, is_needed: &mut [bool]) {
        let left = match &self.saving {
            Saving::Changes(left) => left.as_slice(),
            _ => &[],
        };
        for (entry, _) in self.since.iter().chain(left) {
            is_needed[*entry as usize] = true;
        }
        if let Saving::All(left) = &self.saving {
            is_needed[left.start as usize..left.end as usize].fill(true);
        }
    }

    /// Entries have other numbers, in the same order; those that are needed are still there.
    pub(super) fn remap(&mut self, new_ids: &[u32]) {
        let renumber = |(entry, weight): (u32, i64)| {
            let entry = new_ids[entry as usize];
            assert_ne!(entry, NO_ID, "an entry that is not saved was forgotten");
            (entry, weight)
        };
        match &mut self.saving {
            Saving::Nothing => {}
            Saving::All(left) if left.start == left.end => *left = 0..0,
            Saving::All(left) => {
                *left = new_ids[left.start as usize]..new_ids[left.end as usize - 1] + 1;
            }
            Saving::Changes(left) => {
                *left = left.map(renumber).collect::<Vec<_>>().into_iter();
            }
        }
        let since = std::mem::take(&mut self.since);
        self.places.clear();
        since.into_iter().map(renumber).for_each(|(entry, weight)| self.note(entry, weight));
    }

    pub(super) fn bytes(&self) -> usize {
        let left = match &self.saving {
            Saving::Changes(left) => left.len(),
            _ => 0,
        };
        (self.since.capacity() + left) * size_of::<(u32, i64)>()
            + self.places.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_save_writes_what_was_there_at_its_barrier_whatever_comes_behind_it() {
        let mut weights = vec![1, 0, 5];
        let mut unsaved = Unsaved::of_all(3);
        let come = |unsaved: &mut Unsaved, weights: &mut Vec<i64>, entry: u32, weight| {
            weights.resize(weights.len().max(entry as usize + 1), 0);
            weights[entry as usize] += weight;
            unsaved.note(entry, weight);
        };
        come(&mut unsaved, &mut weights, 2, -5);
        come(&mut unsaved, &mut weights, 3, 7);
        assert_eq!(unsaved.take(2, &weights), Some((2, vec![(0, 1)])));
        come(&mut unsaved, &mut weights, 2, 1);
        assert_eq!(unsaved.take(2, &weights), Some((1, vec![(2, 5)])));
        assert_eq!(unsaved.take(2, &weights), None);

        unsaved.begin();
        come(&mut unsaved, &mut weights, 3, 1);
        come(&mut unsaved, &mut weights, 0, 1);
        come(&mut unsaved, &mut weights, 0, -1);
        assert_eq!(unsaved.take(9, &weights), Some((2, vec![(2, -4), (3, 7)])));
        assert_eq!(unsaved.take(9, &weights), None);
        unsaved.begin();
        assert_eq!(unsaved.take(9, &weights), Some((2, vec![(3, 1)])), "0 is as it was");
        assert!(unsaved.is_bloated(3) && !unsaved.is_bloated(4));
    }

    #[test]
    fn entries_that_are_not_saved_are_needed_and_are_found_under_other_numbers() {
        let mut unsaved = Unsaved::default();
        unsaved.note(4, 1);
        unsaved.begin();
        unsaved.note(1, 2);
        let mut is_needed = vec![false; 6];
        unsaved.mark_needed(&mut is_needed);
        assert_eq!(is_needed, [false, true, false, false, true, false]);
        unsaved.remap(&[NO_ID, 0, NO_ID, NO_ID, 1, 2]);
        unsaved.note(0, 5);
        assert_eq!(unsaved.take(9, &[]), Some((1, vec![(1, 1)])));
        unsaved.begin();
        assert_eq!(unsaved.take(9, &[]), Some((1, vec![(0, 7)])));

        let mut whole = Unsaved::of_all(5);
        assert_eq!(whole.take(2, &[1; 5]).unwrap().0, 2);
        let mut is_needed = vec![false; 5];
        whole.mark_needed(&mut is_needed);
        assert_eq!(is_needed, [false, false, true, true, true]);
        whole.remap(&[NO_ID, 0, 1, 2, 3]);
        assert_eq!(whole.take(9, &[9, 4, 5, 6]), Some((3, vec![(1, 4), (2, 5), (3, 6)])));
    }
}
