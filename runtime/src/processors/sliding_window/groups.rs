//! `Groups`: the state of some groups as columns: how many rows are live in each, and the columns
//! of every aggregate. Used for a pane (indexed by its slots) and for a total (by key id).

use arrow::array::RecordBatch;

use crate::{
    Result,
    delta::{DeltaBatch, Weight},
    processors::accumulators::{Aggregate, Input, StateColumn, Target, compact},
};

pub(super) struct Groups {
    /// Σ w by slot.
    pub(super) live: Vec<i64>,
    /// The columns of each aggregate.
    pub(super) columns: Vec<Vec<StateColumn>>,
}

/// One batch, evaluated for every aggregate.
pub(super) struct Inputs {
    weight: Weight,
    inputs: Vec<Input>,
}

/// Which columns an operation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Columns {
    /// All that can be subtracted, and the live rows.
    Invertible,
    /// The others.
    Recomputed,
}

impl Inputs {
    pub(super) fn new(aggregates: &[Aggregate], batch: &DeltaBatch) -> Result<Self> {
        let rows: &RecordBatch = &batch.rows;
        let inputs = aggregates.iter().map(|aggregate| aggregate.input(rows));
        Ok(Self { weight: batch.weight.clone(), inputs: inputs.collect::<Result<_>>()? })
    }
}

impl Groups {
    pub(super) fn new(aggregates: &[Aggregate]) -> Result<Self> {
        let columns = aggregates.iter().map(Aggregate::columns).collect::<Result<_>>()?;
        Ok(Self { live: Vec::new(), columns })
    }

    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    pub(super) fn resize(&mut self, len: usize) {
        self.live.resize(len, 0);
        self.columns.iter_mut().flatten().for_each(|column| column.resize(len));
    }

    /// Takes in the rows `start..` of a batch, one for each slot.
    pub(super) fn update(
        &mut self,
        aggregates: &[Aggregate],
        inputs: &Inputs,
        start: usize,
        slots: &[u32],
    ) -> Result<()> {
        match &inputs.weight {
            Weight::One => slots.iter().for_each(|&slot| self.live[slot as usize] += 1),
            weight => {
                for (row, &slot) in (start..).zip(slots) {
                    self.live[slot as usize] += weight.at(row);
                }
            }
        }
        let target = Target { start, slots, weight: &inputs.weight };
        for ((aggregate, columns), input) in
            aggregates.iter().zip(&mut self.columns).zip(&inputs.inputs)
        {
            aggregate.update(columns, input, target)?;
        }
        Ok(())
    }

    /// Adds group i of `other` to group `targets[i]`.
    pub(super) fn merge(&mut self, other: &Self, targets: &[u32], which: Columns) -> Result<()> {
        if which == Columns::Invertible {
            for (&live, &target) in other.live.iter().zip(targets) {
                self.live[target as usize] += live;
            }
        }
        for (to, from) in self.selected(which).zip(other.columns.iter().flatten()) {
            if let Some(to) = to {
                to.merge(from, targets)?;
            }
        }
        Ok(())
    }

    /// Undoes a merge of the invertible columns.
    pub(super) fn subtract(&mut self, other: &Self, targets: &[u32]) -> Result<()> {
        for (&live, &target) in other.live.iter().zip(targets) {
            self.live[target as usize] -= live;
        }
        for (to, from) in self.selected(Columns::Invertible).zip(other.columns.iter().flatten()) {
            if let Some(to) = to {
                to.subtract(from, targets)?;
            }
        }
        Ok(())
    }

    /// Empties the columns that are recomputed; whether there are any.
    pub(super) fn clear_recomputed(&mut self) -> bool {
        let mut recomputed = self.selected(Columns::Recomputed).flatten().peekable();
        let is_any = recomputed.peek().is_some();
        recomputed.for_each(StateColumn::clear);
        is_any
    }

    /// Moves group i to `new_slots[i]`, leaving `len` groups.
    pub(super) fn remap(&mut self, new_slots: &[u32], len: usize) -> Result<()> {
        compact(&mut self.live, new_slots, len);
        self.columns.iter_mut().flatten().try_for_each(|column| column.remap(new_slots, len))
    }

    pub(super) fn bytes(&self) -> usize {
        let columns: usize = self.columns.iter().flatten().map(StateColumn::bytes).sum();
        columns + self.live.capacity() * size_of::<i64>()
    }

    /// Each column that is of that sort, `None` for the others.
    fn selected(&mut self, which: Columns) -> impl Iterator<Item = Option<&mut StateColumn>> {
        let is_invertible = which == Columns::Invertible;
        self.columns
            .iter_mut()
            .flatten()
            .map(move |column| (column.is_invertible() == is_invertible).then_some(column))
    }
}
