//! `Groups`: the state of the groups of one pane as columns: how many rows are live in each, and
//! the columns of every aggregate. Indexed by the pane's slots.

use arrow::array::RecordBatch;

use crate::{
    Result,
    delta::{DeltaBatch, Weight},
    processors::accumulators::{Aggregate, Input, Multiset, StateColumn, Target},
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

/// Rows of a batch on their way into slots.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    inputs: &'a Inputs,
    /// First row; there is one for each slot.
    start: usize,
    pub(super) slots: &'a [u32],
}

impl Inputs {
    pub(super) fn new(aggregates: &[Aggregate], batch: &DeltaBatch) -> Result<Self> {
        let rows: &RecordBatch = &batch.rows;
        let inputs = aggregates.iter().map(|aggregate| aggregate.input(rows));
        Ok(Self { weight: batch.weight.clone(), inputs: inputs.collect::<Result<_>>()? })
    }

    /// Rows `start..` of the batch, one for each slot.
    pub(super) fn rows<'a>(&'a self, start: usize, slots: &'a [u32]) -> Rows<'a> {
        Rows { inputs: self, start, slots }
    }
}

impl<'a> Rows<'a> {
    /// The same rows on their way into other slots.
    pub(super) fn into_slots(self, slots: &'a [u32]) -> Self {
        Self { slots, ..self }
    }

    /// The argument of an aggregate.
    pub(super) fn input(&self, aggregate: usize) -> &'a Input {
        &self.inputs.inputs[aggregate]
    }

    pub(super) fn target(&self) -> Target<'a> {
        Target { start: self.start, slots: self.slots, weight: &self.inputs.weight }
    }

    /// Adds the weights to the live rows of the slots.
    pub(super) fn count(&self, live: &mut [i64]) {
        match &self.inputs.weight {
            Weight::One => self.slots.iter().for_each(|&slot| live[slot as usize] += 1),
            weight => {
                for (row, &slot) in (self.start..).zip(self.slots) {
                    live[slot as usize] += weight.at(row);
                }
            }
        }
    }
}

impl Groups {
    pub(super) fn new(aggregates: &[Aggregate]) -> Result<Self> {
        let columns = aggregates.iter().map(Aggregate::columns).collect::<Result<_>>()?;
        Ok(Self { live: Vec::new(), columns })
    }

    pub(super) fn resize(&mut self, len: usize) {
        self.live.resize(len, 0);
        self.columns.iter_mut().flatten().for_each(|column| column.resize(len));
    }

    pub(super) fn update(&mut self, aggregates: &[Aggregate], rows: Rows<'_>) -> Result<()> {
        rows.count(&mut self.live);
        let columns = aggregates.iter().zip(&mut self.columns).enumerate();
        for (position, (aggregate, columns)) in columns {
            aggregate.update(columns, rows.input(position), rows.target())?;
        }
        Ok(())
    }

    /// The state of an aggregate, if it is a multiset.
    pub(super) fn multiset(&self, aggregate: usize) -> Option<&Multiset> {
        match self.columns[aggregate].first() {
            Some(StateColumn::Multiset(multiset)) => Some(multiset),
            _ => None,
        }
    }

    /// The multisets of all aggregates, in their order.
    pub(super) fn multisets(&mut self) -> impl Iterator<Item = &mut Multiset> {
        self.columns.iter_mut().flatten().filter_map(|column| match column {
            StateColumn::Multiset(multiset) => Some(&mut **multiset),
            _ => None,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let columns: usize = self.columns.iter().flatten().map(StateColumn::bytes).sum();
        columns + self.live.capacity() * size_of::<i64>()
    }
}
