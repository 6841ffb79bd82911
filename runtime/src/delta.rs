//! `DeltaBatch`: Arrow rows with integer multiplicities: one Z-set in motion.
//! Append-only streams carry `Weight::One` and pay nothing for the rest.

use arrow::{
    array::{Int64Array, RecordBatch, UInt64Array},
    compute::take_record_batch,
};

use crate::{Error, Result};

/// Multiplicities of the rows of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Weight {
    /// Every row +1: insertions.
    One,
    /// Every row −1: retractions.
    MinusOne,
    /// One weight a row, no nulls; zero is allowed and means nothing.
    Array(Int64Array),
}

/// Rows and how often each is added (negative: removed).
#[derive(Debug, Clone, PartialEq)]
pub struct DeltaBatch {
    /// The rows.
    pub rows: RecordBatch,
    /// Their weights.
    pub weight: Weight,
}

impl Weight {
    /// The weight of row `index`.
    #[inline]
    pub fn at(&self, index: usize) -> i64 {
        match self {
            Weight::One => 1,
            Weight::MinusOne => -1,
            Weight::Array(weights) => weights.value(index),
        }
    }
}

impl DeltaBatch {
    /// Insertions.
    pub fn insertions(rows: RecordBatch) -> Self {
        Self { rows, weight: Weight::One }
    }

    /// The rows, each as often as it was added, for a target (`a topic`) that cannot take a row
    /// back: 0A000 if one is.
    pub fn into_added(self, target: &str) -> Result<RecordBatch> {
        let weights = match &self.weight {
            Weight::One => return Ok(self.rows),
            Weight::MinusOne => return Err(retracted(target)),
            Weight::Array(weights) => weights.values(),
        };
        if weights.iter().any(|weight| *weight < 0) {
            return Err(retracted(target));
        }
        let count = |row: usize| usize::try_from(weights[row]).unwrap_or_default();
        let rows = (0..self.len()).flat_map(|row| std::iter::repeat_n(row as u64, count(row)));
        Ok(take_record_batch(&self.rows, &rows.collect::<UInt64Array>())?)
    }

    /// Number of rows (not of multiplicities).
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.num_rows() == 0
    }

    /// The same weights over other columns of the same rows.
    pub fn with_rows(&self, rows: RecordBatch) -> Self {
        debug_assert_eq!(rows.num_rows(), self.rows.num_rows());
        Self { rows, weight: self.weight.clone() }
    }

    /// Rows `offset .. offset + length`, without copying.
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        let weight = match &self.weight {
            Weight::Array(weights) => Weight::Array(weights.slice(offset, length)),
            constant => constant.clone(),
        };
        Self { rows: self.rows.slice(offset, length), weight }
    }
}

#[cold]
fn retracted(target: &str) -> Error {
    Error::Invalid {
        code: "0A000",
        message: format!("{target} takes rows that are added, and the query takes rows back"),
    }
}
