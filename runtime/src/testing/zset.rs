//! `ZSet`: rows and multiplicities as a comparable value. Rows are compared by how they print, so
//! it is for tests of some thousand rows, not for data.

use std::{collections::BTreeMap, fmt};

use arrow::{
    array::RecordBatch,
    util::display::{ArrayFormatter, FormatOptions},
};

use crate::delta::DeltaBatch;

/// Rows (as text, columns separated by `|`, null as `∅`) and how often each is there. Rows whose
/// multiplicities cancel out are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZSet(BTreeMap<String, i64>);

impl ZSet {
    /// The sum of `batches`.
    pub fn of<'a>(batches: impl IntoIterator<Item = &'a DeltaBatch>) -> Self {
        let mut sum = Self::default();
        for batch in batches {
            for (index, row) in row_texts(&batch.rows).into_iter().enumerate() {
                *sum.0.entry(row).or_default() += batch.weight.at(index);
            }
        }
        sum.0.retain(|_, weight| *weight != 0);
        sum
    }

    /// The same rows, each as often as before times `factor`.
    pub fn times(mut self, factor: i64) -> Self {
        self.0.values_mut().for_each(|weight| *weight *= factor);
        self.0.retain(|_, weight| *weight != 0);
        self
    }

    /// Number of different rows.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for ZSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(row, weight)| writeln!(formatter, "{weight:+} × {row}"))
    }
}

/// Each row of a batch as text.
pub(super) fn row_texts(rows: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("∅");
    let formatters: Vec<_> = rows
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).expect("a printable type"))
        .collect();
    (0..rows.num_rows())
        .map(|row| {
            let cells: Vec<_> = formatters.iter().map(|f| f.value(row).to_string()).collect();
            cells.join("|")
        })
        .collect()
}
