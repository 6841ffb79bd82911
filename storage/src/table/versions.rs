//! `Versions`: who wrote and who ended the rows of a partition that not everybody sees alike.
//! Exists only while there are such rows; settled rows carry nothing.
//!
//! ```text
//! key k:   index ──→ slot 9 (created by writer B, pending)
//!                      │ replaced
//!                      ▼
//!                    slot 4 (ended by B)        readers other than B still see slot 4
//! commit B, no view older:  slot 9 settled, slot 4 dead, nothing kept
//! abort B:                  slot 9 dead, index ──→ slot 4
//!
//! a job:   index ──→ slot 15 (W3) ──→ slot 12 (W2) ──→ slot 9 (W1) ──→ slot 4
//! W1 committed:             slot 4 dead       W1 and W2 wait for the same snapshot, both are
//! all aborted:              index ──→ slot 4  published, no view between: slot 9 dead, 12 ──→ 4
//! ```
//! The chain of a key is linked both ways (`replaced` down, `successor` up), so that a row is taken
//! out of its middle in one step and a pass over all unsettled rows is linear, whatever chains they
//! form. A pass comes in slices: rows may be read and written between any two of them. It first
//! takes what was ended, then what was created: a row counts as settled only once the row it
//! replaced is gone.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use foldhash::fast::FixedState;

use super::{
    compaction::ROWS_PER_SLICE,
    index::Slot,
    view::Snapshot,
    writer_cell::{Fate, WriterCell},
};

/// Who made a change: a stamp, or the id of a writer that was pending with this bit.
pub(crate) type Mark = u64;

const WRITER_BIT: Mark = 1 << 63;

/// The unsettled changes of one partition.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    /// Runs of slots by their first: rows that not every reader sees yet.
    created: BTreeMap<Slot, Run>,
    /// Rows that not every reader has lost yet.
    ended: BTreeMap<Slot, End>,
    /// New slot → the slot of the same key before it.
    replaced: HashMap<Slot, Slot, FixedState>,
    /// Who is behind the marks, and how many rows bear each.
    authors: BTreeMap<Mark, Author>,
    /// Number of entries from which settling is worth another pass.
    settle_at: usize,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    len: u32,
    mark: Mark,
}

#[derive(Debug, Clone, Copy)]
struct End {
    mark: Mark,
    successor: Option<Slot>,
}

#[derive(Debug, Default)]
struct Author {
    /// `None` for a stamp.
    cell: Option<Arc<WriterCell>>,
    created: usize,
    ended: usize,
}

/// What became of an unsettled row, which is dead now; the caller changes the index accordingly.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Its key has a newer row.
    Superseded(Slot),
    /// It was the newest of its key, whose entry goes back to `before`.
    Undone { slot: Slot, before: Slot },
    /// It was the last of its key, whose entry goes away.
    Gone(Slot),
}

/// What a writer may do with a row whose creation or end bears a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Build on it.
    Free,
    /// Wait for the writer of this id.
    Blocked(u64),
    /// First undo it: it was aborted.
    Aborted,
}

/// What a writer that has not ended did to a row.
pub(crate) struct OpenChange {
    pub(crate) cell: Arc<WriterCell>,
    pub(crate) slot: Slot,
    /// 1 if it created the row, −1 if it ended it.
    pub(crate) diff: i64,
}

/// Who sees a change, as far as settling goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Everybody,
    Nobody,
    Some,
}

/// A pass over everything unsettled, a slice at a time.
#[derive(Debug)]
pub(crate) struct Pass {
    /// What was committed up to here is seen by every view.
    limit: u64,
    phase: Phase,
    /// Where the next slice begins.
    next: Slot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Ended,
    Created,
}

impl Pass {
    /// A pass that settles what was committed up to `limit`.
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, phase: Phase::Ended, next: 0 }
    }
}

impl Versions {
    /// Entries below which a pass over all of them is not worth it.
    const SETTLE_MIN: usize = 64;

    /// The mark of a pending writer.
    pub(crate) fn mark_of(&mut self, cell: &Arc<WriterCell>) -> Mark {
        let mark = cell.id() | WRITER_BIT;
        let author = self.authors.entry(mark).or_default();
        author.cell.get_or_insert_with(|| Arc::clone(cell));
        mark
    }

    /// Whether nothing is unsettled.
    pub(crate) fn is_empty(&self) -> bool {
        self.created.is_empty() && self.ended.is_empty()
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.created.len() + self.ended.len()
    }

    /// Whether so much piled up that a pass may pay.
    pub(crate) fn is_settling_due(&self) -> bool {
        self.len() > self.settle_at.max(Self::SETTLE_MIN)
    }

    /// A writer with changes in this partition that has not ended, if there is one.
    pub(crate) fn open_writer(&self) -> Option<u64> {
        let mut used = self.authors.values().filter(|author| author.created + author.ended > 0);
        used.find_map(|author| author.cell.as_ref().filter(|cell| cell.is_open()).map(|c| c.id()))
    }

    /// What writers have done that have not ended, each row that goes before those that come; without
    /// rows that the same writer created and ended.
    pub(crate) fn open_changes(&self) -> Vec<OpenChange> {
        let open = |mark: Mark| {
            let author = self.authors.get(&mark)?;
            author.cell.as_ref().filter(|cell| cell.is_open()).map(Arc::clone)
        };
        let mut changes = Vec::new();
        for (slot, end) in &self.ended {
            let is_own = self.created_mark(*slot) == Some(end.mark);
            if let Some(cell) = open(end.mark).filter(|_| !is_own) {
                changes.push(OpenChange { cell, slot: *slot, diff: -1 });
            }
        }
        for (first, run) in &self.created {
            let Some(cell) = open(run.mark) else { continue };
            let ended_by_it =
                |slot: &Slot| self.ended.get(slot).is_some_and(|end| end.mark == run.mark);
            let slots = (*first..*first + run.len).filter(|slot| !ended_by_it(slot));
            changes.extend(slots.map(|slot| OpenChange { cell: Arc::clone(&cell), slot, diff: 1 }));
        }
        changes
    }

    /// Row `slot` was created.
    pub(crate) fn create(&mut self, slot: Slot, mark: Mark, before: Option<Slot>) {
        if let Some(before) = before {
            self.replaced.insert(slot, before);
            if let Some(end) = self.ended.get_mut(&before) {
                end.successor = Some(slot);
            }
        }
        self.authors.entry(mark).or_default().created += 1;
        if let Some((first, run)) = self.created.range_mut(..slot).next_back()
            && run.mark == mark
            && first + run.len == slot
        {
            run.len += 1;
            return;
        }
        self.created.insert(slot, Run { len: 1, mark });
    }

    /// Row `slot` was deleted or, with a successor, replaced.
    pub(crate) fn end(&mut self, slot: Slot, mark: Mark, successor: Option<Slot>) {
        self.authors.entry(mark).or_default().ended += 1;
        let earlier = self.ended.insert(slot, End { mark, successor });
        assert!(earlier.is_none(), "a row was ended twice");
    }

    /// What writer `own` (`None`: an autocommit) may do with a row as its creation goes.
    pub(crate) fn creation(&self, slot: Slot, own: Option<&WriterCell>) -> Hold {
        self.created_mark(slot).map_or(Hold::Free, |mark| self.hold(mark, own))
    }

    /// The same as its end goes; `None` if nobody ended it.
    pub(crate) fn ending(&self, slot: Slot, own: Option<&WriterCell>) -> Option<Hold> {
        self.ended.get(&slot).map(|end| self.hold(end.mark, own))
    }

    /// Whether readers do not all see the row in `slot` alike.
    pub(crate) fn is_unsettled(&self, slot: Slot) -> bool {
        self.created_mark(slot).is_some() || self.ended.contains_key(&slot)
    }

    /// Whether a reader sees that the row was created.
    pub(crate) fn is_created_for(&self, slot: Slot, snapshot: &Snapshot) -> bool {
        self.created_mark(slot).is_none_or(|mark| self.sees(snapshot, mark))
    }

    /// Whether a reader sees that the row, which somebody ended, was ended.
    pub(crate) fn is_ended_for(&self, slot: Slot, snapshot: &Snapshot) -> bool {
        self.ended.get(&slot).is_none_or(|end| self.sees(snapshot, end.mark))
    }

    /// The row of the same key that a reader sees, beginning at its newest slot.
    pub(crate) fn visible(&self, newest: Slot, snapshot: &Snapshot) -> Option<Slot> {
        let mut slot = newest;
        loop {
            if self.is_created_for(slot, snapshot) {
                let is_ended =
                    self.ended.get(&slot).is_some_and(|end| self.sees(snapshot, end.mark));
                return (!is_ended).then_some(slot);
            }
            slot = *self.replaced.get(&slot)?;
        }
    }

    /// Calls `hide` for every slot of `slots` that a reader does not see.
    pub(crate) fn hidden(
        &self,
        slots: Range<Slot>,
        snapshot: &Snapshot,
        mut hide: impl FnMut(Slot),
    ) {
        // A run never spans two chunks, so that those starting inside are all there are.
        for (first, run) in self.created.range(slots.clone()) {
            if !self.sees(snapshot, run.mark) {
                (*first..first + run.len).for_each(&mut hide);
            }
        }
        for (slot, end) in self.ended.range(slots) {
            if self.sees(snapshot, end.mark) {
                hide(*slot);
            }
        }
    }

    /// Number of rows that live but that a reader does not see.
    pub(crate) fn hidden_count(&self, snapshot: &Snapshot) -> usize {
        // Whoever sees the end of a row sees its creation: no row counts twice.
        let hidden_by = |(mark, author): (&Mark, &Author)| match self.sees(snapshot, *mark) {
            true => author.ended,
            false => author.created,
        };
        self.authors.iter().map(hidden_by).sum()
    }

    /// Whether the creation of any row of `slots` is unsettled.
    pub(crate) fn has_created(&self, slots: Range<Slot>) -> bool {
        self.created.range(slots).next().is_some()
    }

    /// Whether any row of `slots` is unsettled.
    pub(crate) fn touches(&self, slots: Range<Slot>) -> bool {
        self.created.range(slots.clone()).next().is_some()
            || self.ended.range(slots).next().is_some()
    }

    /// Drops what every view sees alike and undoes aborted writers, one slice of a pass; answers
    /// whether the pass is done.
    pub(crate) fn settle_slice(&mut self, pass: &mut Pass, settled: &mut Vec<Settled>) -> bool {
        let mut budget = ROWS_PER_SLICE;
        while pass.phase == Phase::Ended {
            if budget == 0 {
                return false;
            }
            let slots = self.ended.range(pass.next..).map(|(slot, _)| *slot);
            let slots: Vec<_> = slots.take(budget).collect();
            slots.iter().for_each(|slot| self.settle_end(*slot, pass.limit, settled));
            budget -= slots.len();
            match slots.last() {
                Some(last) if budget == 0 => pass.next = last.saturating_add(1),
                // Compaction may have moved a row to a slot that the pass was past.
                _ if self.has_settled_end(pass.limit) => pass.next = 0,
                _ => (pass.phase, pass.next) = (Phase::Created, 0),
            }
        }
        while budget > 0 {
            let Some((first, run)) = self.created.range(pass.next..).next() else {
                self.authors.retain(|_, author| author.created + author.ended > 0);
                self.settle_at = 2 * self.len();
                return true;
            };
            let (first, run) = (*first, *run);
            match self.verdict(run.mark, pass.limit) {
                Verdict::Some => {
                    pass.next = first + run.len;
                    budget -= 1;
                }
                Verdict::Everybody => {
                    self.created.remove(&first);
                    self.author(run.mark).created -= run.len as usize;
                    budget -= 1;
                }
                Verdict::Nobody => {
                    let slots = (first..first + run.len).rev().take(budget);
                    budget -= slots.len();
                    slots.for_each(|slot| settled.push(self.undo(slot)));
                }
            }
        }
        false
    }

    /// Takes back what an aborted writer did to the newest row of a key; `None` if it only ended
    /// it. There may be more to undo below.
    pub(crate) fn undo_newest(&mut self, slot: Slot) -> Option<Settled> {
        let is_aborted = |mark: Mark| self.verdict(mark, 0) == Verdict::Nobody;
        if self.created_mark(slot).is_some_and(is_aborted) {
            return Some(self.undo(slot));
        }
        self.remove_end(slot);
        None
    }

    /// Row `old` lives on as `new` (compaction). Only for rows whose creation is settled.
    pub(crate) fn moved(&mut self, old: Slot, new: Slot) {
        if let Some(end) = self.ended.remove(&old) {
            if let Some(successor) = end.successor {
                self.replaced.insert(successor, new);
            }
            self.ended.insert(new, end);
        }
    }

    fn settle_end(&mut self, slot: Slot, limit: u64, settled: &mut Vec<Settled>) {
        let Some(end) = self.ended.get(&slot).copied() else { return };
        match self.verdict(end.mark, limit) {
            // What is still said of its creation is dropped with the run.
            Verdict::Everybody => settled.push(self.unlink(slot)),
            // With a successor, the end is taken back when that is undone.
            Verdict::Nobody if end.successor.is_none() => drop(self.remove_end(slot)),
            Verdict::Nobody => {}
            Verdict::Some => {
                let creator = self.created_mark(slot);
                if creator.is_some_and(|mark| self.are_seen_together(mark, end.mark, limit)) {
                    self.uncreate(slot);
                    settled.push(self.unlink(slot));
                }
            }
        }
    }

    /// Whether no reader sees what the first mark did without what the second did.
    fn are_seen_together(&self, one: Mark, two: Mark, limit: u64) -> bool {
        one == two
            || match (self.cell(one), self.cell(two)) {
                (Some(one), Some(two)) => one.is_seen_with(two, limit),
                _ => false,
            }
    }

    /// Takes back the creation of a row.
    fn undo(&mut self, slot: Slot) -> Settled {
        self.uncreate(slot);
        let undone = self.unlink(slot);
        if let Settled::Undone { before, .. } = undone
            && let Some(end) = self.ended.get(&before)
            && self.verdict(end.mark, 0) == Verdict::Nobody
        {
            self.remove_end(before);
        }
        undone
    }

    /// Takes a row out of the chain of its key.
    fn unlink(&mut self, slot: Slot) -> Settled {
        let successor = self.remove_end(slot).and_then(|end| end.successor);
        let before = self.replaced.remove(&slot);
        if let Some(before) = before
            && let Some(end) = self.ended.get_mut(&before)
        {
            end.successor = successor;
        }
        match (successor, before) {
            (Some(successor), Some(before)) => {
                self.replaced.insert(successor, before);
                Settled::Superseded(slot)
            }
            (Some(successor), None) => {
                self.replaced.remove(&successor);
                Settled::Superseded(slot)
            }
            (None, Some(before)) => Settled::Undone { slot, before },
            (None, None) => Settled::Gone(slot),
        }
    }

    fn remove_end(&mut self, slot: Slot) -> Option<End> {
        let end = self.ended.remove(&slot)?;
        self.author(end.mark).ended -= 1;
        Some(end)
    }

    /// Nothing is said of the creation of a row any more.
    fn uncreate(&mut self, slot: Slot) {
        let Some((first, run)) = self.created.range_mut(..=slot).next_back() else { return };
        let (first, Run { len, mark }) = (*first, *run);
        if slot >= first + len {
            return;
        }
        match slot - first {
            0 => drop(self.created.remove(&first)),
            before => run.len = before,
        }
        let after = first + len - slot - 1;
        if after > 0 {
            self.created.insert(slot + 1, Run { len: after, mark });
        }
        self.author(mark).created -= 1;
    }

    /// Whether an end is left that every view sees.
    fn has_settled_end(&self, limit: u64) -> bool {
        let mut authors = self.authors.iter().filter(|(_, author)| author.ended > 0);
        authors.any(|(mark, _)| self.verdict(*mark, limit) == Verdict::Everybody)
    }

    fn verdict(&self, mark: Mark, limit: u64) -> Verdict {
        let stamp = match self.cell(mark).map(|cell| cell.fate()) {
            None => mark,
            Some(Fate::Committed { stamp, .. }) => stamp,
            Some(Fate::Aborted) => return Verdict::Nobody,
            Some(Fate::Pending | Fate::Published(_)) => return Verdict::Some,
        };
        if stamp <= limit { Verdict::Everybody } else { Verdict::Some }
    }

    fn hold(&self, mark: Mark, own: Option<&WriterCell>) -> Hold {
        let Some(cell) = self.cell(mark) else { return Hold::Free };
        match cell.fate() {
            Fate::Committed { .. } => Hold::Free,
            Fate::Aborted => Hold::Aborted,
            Fate::Pending | Fate::Published(_) => match own {
                Some(own) if own.may_build_on(cell) => Hold::Free,
                _ => Hold::Blocked(cell.id()),
            },
        }
    }

    fn sees(&self, snapshot: &Snapshot, mark: Mark) -> bool {
        match self.cell(mark) {
            Some(cell) => snapshot.sees(cell),
            None => snapshot.sees_stamp(mark),
        }
    }

    fn created_mark(&self, slot: Slot) -> Option<Mark> {
        let (first, run) = self.created.range(..=slot).next_back()?;
        (slot < first + run.len).then_some(run.mark)
    }

    /// The writer behind a mark; `None` behind a stamp.
    fn cell(&self, mark: Mark) -> Option<&WriterCell> {
        if mark & WRITER_BIT == 0 {
            return None;
        }
        self.authors.get(&mark)?.cell.as_deref()
    }

    fn author(&mut self, mark: Mark) -> &mut Author {
        self.authors.entry(mark).or_default()
    }
}
