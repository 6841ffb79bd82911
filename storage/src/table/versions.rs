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
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use super::{
    index::Slot,
    writer::{Fate, Snapshot, WriterCell},
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
    replaced: HashMap<Slot, Slot>,
    /// The writers behind marks that were pending when made.
    cells: Vec<Arc<WriterCell>>,
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

/// What became of unsettled rows; the caller changes index and dead rows accordingly.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// An ended row that nobody needs; with `is_deleted` its key has no newer row.
    Ended { slot: Slot, is_deleted: bool },
    /// A row of an aborted writer; the key's entry goes back to `before`, or away.
    Undone { slot: Slot, before: Option<Slot> },
}

impl Versions {
    /// Entries below which a pass over all of them is not worth it.
    const SETTLE_MIN: usize = 64;

    /// The mark of a pending writer.
    pub(crate) fn mark_of(&mut self, cell: &Arc<WriterCell>) -> Mark {
        if !self.cells.iter().any(|known| known.id() == cell.id()) {
            self.cells.push(Arc::clone(cell));
        }
        cell.id() | WRITER_BIT
    }

    /// Whether nothing is unsettled.
    pub(crate) fn is_empty(&self) -> bool {
        self.created.is_empty() && self.ended.is_empty()
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.created.len() + self.ended.len()
    }

    /// Whether a writer of this partition has ended, or so much piled up that a pass may pay.
    pub(crate) fn wants_settling(&self) -> bool {
        self.len() > self.settle_at.max(Self::SETTLE_MIN)
            || self.cells.iter().any(|cell| cell.fate() != Fate::Pending)
    }

    /// A pending writer of this partition, if there is one.
    pub(crate) fn pending_writer(&self) -> Option<u64> {
        self.cells.iter().find(|cell| cell.fate() == Fate::Pending).map(|cell| cell.id())
    }

    /// Row `slot` was created.
    pub(crate) fn create(&mut self, slot: Slot, mark: Mark, before: Option<Slot>) {
        if let Some(before) = before {
            self.replaced.insert(slot, before);
            if let Some(end) = self.ended.get_mut(&before) {
                end.successor = Some(slot);
            }
        }
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
        self.ended.insert(slot, End { mark, successor });
    }

    /// Who created the row, if that is unsettled.
    pub(crate) fn creator(&self, slot: Slot) -> Option<(u64, Fate)> {
        self.created_mark(slot).map(|mark| self.who(mark))
    }

    /// Who ended the row, if anybody did.
    pub(crate) fn ender(&self, slot: Slot) -> Option<(u64, Fate)> {
        self.ended.get(&slot).map(|end| self.who(end.mark))
    }

    /// The row of the same key that a reader sees, beginning at its newest slot.
    pub(crate) fn visible(&self, newest: Slot, snapshot: &Snapshot) -> Option<Slot> {
        let mut slot = newest;
        // A writer may be flipped during the walk: what was unseen once stays unseen in it.
        let mut unseen = None;
        let mut sees = |mark: Mark| {
            if unseen == Some(mark) {
                return false;
            }
            let (id, fate) = self.who(mark);
            let is_seen = snapshot.sees(id, fate);
            if !is_seen && mark & WRITER_BIT != 0 {
                unseen = Some(mark);
            }
            is_seen
        };
        loop {
            if self.created_mark(slot).is_none_or(&mut sees) {
                let is_ended = self.ended.get(&slot).is_some_and(|end| sees(end.mark));
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
            let (id, fate) = self.who(run.mark);
            if !snapshot.sees(id, fate) {
                (*first..first + run.len).for_each(&mut hide);
            }
        }
        for (slot, end) in self.ended.range(slots) {
            let (id, fate) = self.who(end.mark);
            if snapshot.sees(id, fate) {
                hide(*slot);
            }
        }
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

    /// Drops what every view sees alike and undoes aborted writers.
    pub(crate) fn settle(&mut self, view_oldest: u64) -> Vec<Settled> {
        let mut settled = Vec::new();
        self.undo(&mut settled);
        let cells = std::mem::take(&mut self.cells);
        let resolve = |mark: Mark| match who(&cells, mark) {
            (_, Fate::Committed(stamp)) if stamp <= view_oldest => None,
            (_, Fate::Committed(stamp)) => Some(stamp),
            _ => Some(mark),
        };
        self.created.retain(|_, run| match resolve(run.mark) {
            Some(mark) => {
                run.mark = mark;
                true
            }
            None => false,
        });
        let replaced = &mut self.replaced;
        self.ended.retain(|slot, end| {
            if let Some(mark) = resolve(end.mark) {
                end.mark = mark;
                return true;
            }
            if let Some(successor) = end.successor {
                replaced.remove(&successor);
            }
            settled.push(Settled::Ended { slot: *slot, is_deleted: end.successor.is_none() });
            false
        });
        self.cells = cells;
        let (created, ended) = (&self.created, &self.ended);
        let is_used = |mark: Mark| {
            created.values().any(|run| run.mark == mark)
                || ended.values().any(|end| end.mark == mark)
        };
        self.cells.retain(|cell| is_used(cell.id() | WRITER_BIT));
        self.settle_at = 2 * self.len();
        settled
    }

    /// Takes back everything that aborted writers did.
    fn undo(&mut self, settled: &mut Vec<Settled>) {
        if !self.cells.iter().any(|cell| cell.fate() == Fate::Aborted) {
            return;
        }
        let cells = &self.cells;
        let is_aborted = |mark: Mark| who(cells, mark).1 == Fate::Aborted;
        let aborted_runs: Vec<_> = self
            .created
            .iter()
            .filter(|(_, run)| is_aborted(run.mark))
            .map(|(first, run)| *first..first + run.len)
            .collect();
        let slots = || aborted_runs.iter().flat_map(Clone::clone);
        for slot in slots() {
            // Its own earlier rows of the same key go too: back to the first of another writer.
            let mut before = self.replaced.get(&slot).copied();
            while let Some(candidate) = before
                && self.creator(candidate).is_some_and(|(_, fate)| fate == Fate::Aborted)
            {
                before = self.replaced.get(&candidate).copied();
            }
            settled.push(Settled::Undone { slot, before });
        }
        self.ended.retain(|_, end| !is_aborted(end.mark));
        for slot in slots() {
            self.ended.remove(&slot);
            if let Some(before) = self.replaced.remove(&slot)
                && let Some(end) = self.ended.get_mut(&before)
                && end.successor == Some(slot)
            {
                end.successor = None;
            }
        }
        for run in &aborted_runs {
            self.created.remove(&run.start);
        }
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

    fn created_mark(&self, slot: Slot) -> Option<Mark> {
        let (first, run) = self.created.range(..=slot).next_back()?;
        (slot < first + run.len).then_some(run.mark)
    }

    fn who(&self, mark: Mark) -> (u64, Fate) {
        who(&self.cells, mark)
    }
}

/// Id (0 for a bare stamp) and fate behind a mark.
fn who(cells: &[Arc<WriterCell>], mark: Mark) -> (u64, Fate) {
    if mark & WRITER_BIT == 0 {
        return (0, Fate::Committed(mark));
    }
    let id = mark & !WRITER_BIT;
    let cell = cells.iter().find(|cell| cell.id() == id);
    // A cell stays as long as a mark of it does, see `settle`.
    (id, cell.map_or(Fate::Aborted, |cell| cell.fate()))
}
