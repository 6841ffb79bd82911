//! `TwoStacks`: what cannot be subtracted (float sums, min, max) over a window that slides pane by
//! pane, without adding all its panes up for each window.
//!
//! The idea is the queue made of two stacks (Tangwongsan, Hirzel, Schneider: "Low-Latency
//! Sliding-Window Aggregation in Worst-Case Constant Time", DEBS 2017, algorithms *Two-Stacks* and
//! *DABA*). Panes are grouped into *blocks* of half a window, so that the block behind the one in
//! which the window begins is always whole:
//!
//! ```text
//!            block b        block b+1       block b+2
//!         │ · · p q r s │ t u v w x y z … │ α β γ        window p…γ
//!              └──front─┘└──────────back────────┘
//!                        └───next front──┘└─nb──┘
//!
//!   front      = p+(q+(r+s))     what leaves: p with `below` = q+(r+s), the front without it
//!   back       = t+u+…+γ         what comes is added
//!   next front = t+(u+(…+z))     built from its end, a few panes a window, while `front` shrinks
//!   next back  = α+β+γ
//!   window     = front + back
//! ```
//! When the window leaves block b, next front and next back take the places of front and back. All
//! four are dense columns by key id; a pane remembers, for its own keys only, what was below it
//! (`Pane::below`), so a pane that leaves puts that back. Each key of a pane is thus touched four
//! times in its life (back, next back, front, leaving), and each window costs one addition a key.
//! No call turns a whole stack over.
//!
//! **Late rows** fall into panes that are already in. Behind the first block they are added to
//! `back`. What a front was built from is frozen: rows for it wait in `late`, and are added to each
//! window they belong to until their pane has left. When they grow too many, or when a value was
//! taken back from a pane (a minimum may rise), everything is built again from the panes. Blocks lie
//! at multiples of their length, so that a restored window adds up in the same order, to the bit.

use std::{collections::BTreeMap, ops::Range};

use super::{groups::Rows, pane::Pane};
use crate::{
    Result,
    processors::accumulators::{Aggregate, StateColumn},
};

/// Late rows that may wait, if there are no more keys than that: beyond it, adding them to every
/// window costs more than building anew.
const LATE_ROWS_MAX: usize = 4096;

pub(super) struct TwoStacks {
    /// (aggregate, column) of what is stacked.
    sources: Vec<(usize, usize)>,
    /// Whether one of them is computed from multisets.
    has_derived: bool,
    /// Panes of a block.
    block_length: i64,
    /// The block in which the window begins; `None` before the first window.
    block: Option<i64>,
    /// By source; dense by key id.
    front: Vec<StateColumn>,
    back: Vec<StateColumn>,
    next_front: Vec<StateColumn>,
    next_back: Vec<StateColumn>,
    /// Panes of the next block from here on are in `next_front`.
    built: i64,
    late: BTreeMap<i64, LateRows>,
    late_count: usize,
    /// Whether the panes must be looked at again.
    is_stale: bool,
}

/// Rows that came for a frozen pane, a slot for each.
struct LateRows {
    ids: Vec<u32>,
    columns: Vec<StateColumn>,
}

/// Which stack a pane is put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stack {
    Front,
    NextFront,
}

impl TwoStacks {
    /// For windows of `size` panes.
    pub(super) fn new(aggregates: &[Aggregate], size: i64) -> Result<Self> {
        let stacked = aggregates.iter().enumerate().filter(|(_, one)| !one.is_distinct());
        let sources: Vec<(usize, usize)> = stacked
            .flat_map(|(position, one)| one.not_invertible().map(move |column| (position, column)))
            .collect();
        let mut stacks = Self {
            has_derived: sources.iter().any(|&(position, _)| aggregates[position].is_multiset()),
            block_length: (size / 2).max(1),
            block: None,
            front: Vec::new(),
            back: Vec::new(),
            next_front: Vec::new(),
            next_back: Vec::new(),
            built: 0,
            late: BTreeMap::new(),
            late_count: 0,
            is_stale: true,
            sources,
        };
        let sources = stacks.sources.clone();
        for dense in stacks.dense_mut() {
            *dense = columns_of(&sources, aggregates)?;
        }
        Ok(stacks)
    }

    /// Whether anything is stacked; if not, nothing else need be called.
    pub(super) fn is_needed(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Whether panes must be derived before they are put on.
    pub(super) fn has_derived(&self) -> bool {
        self.has_derived
    }

    /// A window that begins with pane `first` is to be made; whether the stacks are empty for it, so
    /// that every pane of it must be put on them.
    pub(super) fn begin(&mut self, first: i64) -> bool {
        let block = first.div_euclid(self.block_length);
        if !self.is_stale && self.block == Some(block) {
            return false;
        }
        self.dense_mut().into_iter().flatten().for_each(StateColumn::clear);
        self.late.clear();
        self.late_count = 0;
        self.is_stale = false;
        self.block = Some(block);
        self.built = self.block_start(2);
        true
    }

    /// Where the back begins: the first pane behind the block of the window's first.
    pub(super) fn back_start(&self) -> i64 {
        self.block_start(1)
    }

    /// First pane of the block `ahead` of the present one.
    fn block_start(&self, ahead: i64) -> i64 {
        self.block.unwrap_or(0).saturating_add(ahead).saturating_mul(self.block_length)
    }

    /// Adds rows of a pane that has come into the window, behind its first block.
    pub(super) fn push(&mut self, number: i64, pane: &Pane, rows: Range<usize>) -> Result<()> {
        let is_behind_next = number >= self.block_start(2);
        for (source, &(aggregate, column)) in self.sources.iter().enumerate() {
            let from = &pane.results(aggregate)[column];
            self.back[source].merge(from, rows.clone(), &pane.ids)?;
            if is_behind_next {
                self.next_back[source].merge(from, rows.clone(), &pane.ids)?;
            }
        }
        Ok(())
    }

    /// Puts rows of a pane on a stack; panes come from the end of a block to its beginning.
    pub(super) fn put_on(
        &mut self,
        stack: Stack,
        pane: &mut Pane,
        rows: Range<usize>,
        aggregates: &[Aggregate],
    ) -> Result<()> {
        if rows.start == 0 {
            pane.below = columns_of(&self.sources, aggregates)?;
        }
        let dense = match stack {
            Stack::Front => &mut self.front,
            Stack::NextFront => &mut self.next_front,
        };
        for (source, &(aggregate, column)) in self.sources.iter().enumerate() {
            pane.below[source].extend_from(&dense[source], &pane.ids[rows.clone()])?;
            let from = &pane.results(aggregate)[column];
            dense[source].merge(from, rows.clone(), &pane.ids)?;
        }
        Ok(())
    }

    /// Takes rows of the window's first pane away.
    pub(super) fn pop(&mut self, number: i64, pane: &Pane, rows: Range<usize>) -> Result<()> {
        let is_in_front = self.block_start(0) <= number && number < self.block_start(1);
        if self.is_stale || !is_in_front {
            return Ok(());
        }
        for (front, below) in self.front.iter_mut().zip(&pane.below) {
            // Slots of late rows lie behind what was frozen.
            let rows = rows.start.min(below.len())..rows.end.min(below.len());
            front.put(below, rows, &pane.ids)?;
        }
        Ok(())
    }

    /// A pane has left.
    pub(super) fn forget(&mut self, number: i64) {
        if let Some(late) = self.late.remove(&number) {
            self.late_count -= late.ids.len();
        }
    }

    /// The next window begins with pane `next`, this one with `first`: the panes that must be put on
    /// the next front now (from the last to the first), and whether the fronts are to be swapped
    /// then. Spreads the building over the windows that begin in this block.
    pub(super) fn plan_building(&mut self, first: i64, next: i64) -> (Range<i64>, bool) {
        if self.is_stale || !self.is_needed() {
            return (0..0, false);
        }
        let (start, built) = (self.block_start(1), self.built);
        let moves_by = next.div_euclid(self.block_length) - self.block.unwrap_or(0);
        match moves_by {
            0 => {
                // As much of the rest as the slide is of the way to the block's end.
                let (rest, way) = (i128::from(built - start), i128::from(start - first).max(1));
                let share = (rest * i128::from(next - first) + way - 1) / way;
                self.built = built - share.min(rest) as i64;
                (self.built..built, false)
            }
            1 => {
                self.built = start;
                (start..built, true)
            }
            _ => {
                self.is_stale = true;
                (0..0, false)
            }
        }
    }

    /// The window leaves its block.
    pub(super) fn swap(&mut self) {
        std::mem::swap(&mut self.front, &mut self.next_front);
        std::mem::swap(&mut self.back, &mut self.next_back);
        let emptied = self.next_front.iter_mut().chain(&mut self.next_back);
        emptied.for_each(StateColumn::clear);
        self.block = self.block.map(|block| block + 1);
        self.built = self.block_start(2);
    }

    /// Makes `results` those of the window, for the key ids of `range`, late rows left out.
    pub(super) fn add_up(
        &self,
        results: &mut [Vec<StateColumn>],
        range: Range<usize>,
    ) -> Result<()> {
        for (source, &(aggregate, column)) in self.sources.iter().enumerate() {
            let (front, back) = (&self.front[source], &self.back[source]);
            results[aggregate][column].set_sum(front, back, range.clone())?;
        }
        Ok(())
    }

    /// Adds the late rows of the front's panes to `results`.
    pub(super) fn add_late(&self, results: &mut [Vec<StateColumn>]) -> Result<()> {
        for late in self.late.range(..self.block_start(1)).map(|(_, late)| late) {
            for (&(aggregate, column), from) in self.sources.iter().zip(&late.columns) {
                results[aggregate][column].merge(from, 0..late.ids.len(), &late.ids)?;
            }
        }
        Ok(())
    }

    /// Takes rows of a pane that is in already; their slots are key ids.
    pub(super) fn take_late(
        &mut self,
        number: i64,
        rows: Rows<'_>,
        aggregates: &[Aggregate],
    ) -> Result<()> {
        if self.is_stale || !self.is_needed() {
            return Ok(());
        }
        if self.has_derived || self.late_count + rows.slots.len() > self.late_max() {
            self.is_stale = true;
            return Ok(());
        }
        let is_behind_next = number >= self.block_start(2);
        for (source, &(aggregate, _)) in self.sources.iter().enumerate() {
            let input = rows.input(aggregate);
            if number >= self.block_start(1) {
                self.back[source].update(input, rows.target())?;
            }
            if is_behind_next {
                self.next_back[source].update(input, rows.target())?;
            }
        }
        let is_frozen = number < self.block_start(1) || number >= self.built && !is_behind_next;
        if !is_frozen {
            return Ok(());
        }
        if !self.late.contains_key(&number) {
            let columns = columns_of(&self.sources, aggregates)?;
            self.late.insert(number, LateRows { ids: Vec::new(), columns });
        }
        let Some(late) = self.late.get_mut(&number) else { return Ok(()) };
        let first_slot = late.ids.len() as u32;
        late.ids.extend_from_slice(rows.slots);
        self.late_count += rows.slots.len();
        let slots: Vec<u32> = (first_slot..late.ids.len() as u32).collect();
        for (&(aggregate, _), column) in self.sources.iter().zip(&mut late.columns) {
            column.resize(late.ids.len());
            column.update(rows.input(aggregate), rows.into_slots(&slots).target())?;
        }
        Ok(())
    }

    fn late_max(&self) -> usize {
        self.front.first().map_or(0, StateColumn::len).max(LATE_ROWS_MAX)
    }

    pub(super) fn resize(&mut self, len: usize) {
        self.dense_mut().into_iter().flatten().for_each(|column| column.resize(len));
    }

    /// Key ids have changed.
    pub(super) fn remap(&mut self, new_ids: &[u32], len: usize) -> Result<()> {
        let ids = self.late.values_mut().flat_map(|late| &mut late.ids);
        ids.for_each(|id| *id = new_ids[*id as usize]);
        let mut dense = self.dense_mut().into_iter().flatten();
        dense.try_for_each(|column| column.remap(new_ids, len))
    }

    pub(super) fn bytes(&self) -> usize {
        let dense = [&self.front, &self.back, &self.next_front, &self.next_back];
        let late = self.late.values().flat_map(|late| &late.columns);
        let columns = dense.into_iter().flatten().chain(late);
        columns.map(StateColumn::bytes).sum::<usize>() + self.late_count * size_of::<u32>()
    }

    fn dense_mut(&mut self) -> [&mut Vec<StateColumn>; 4] {
        [&mut self.front, &mut self.back, &mut self.next_front, &mut self.next_back]
    }
}

/// An empty column for each source.
fn columns_of(sources: &[(usize, usize)], aggregates: &[Aggregate]) -> Result<Vec<StateColumn>> {
    let column = |&(aggregate, column): &(usize, usize)| -> Result<StateColumn> {
        Ok(aggregates[aggregate].result_columns()?.swap_remove(column))
    };
    sources.iter().map(column).collect()
}
