//! `Changes`: what a flush comes to. Rows with multiplicities are added up by row, then by key:
//!
//! ```text
//!   key │ Σ w of its rows                     │ put       remove if current
//!    1  │ (1,'a') −1   (1,'b') +1             │ (1,'b')   –  (replaced anyway)
//!    2  │ (2,'a') −1                          │           (2,'a')
//!    3  │ (3,'a') +1 −1                       │                      nothing
//!    4  │ (4,'a') +1   (4,'b') +1             │ 21000: two live rows
//! ```

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, UInt32Array},
    compute::take_record_batch,
    util::display::array_value_to_string,
};

use crate::{
    Error, Result,
    delta::{DeltaBatch, Weight},
    state::KeyedMap,
};

/// Rows to write and rows to take away; both of the table's visible columns.
pub(super) struct Changes {
    pub(super) puts: RecordBatch,
    /// Each to be removed only while it stands in the table as it is here.
    pub(super) removals: RecordBatch,
}

/// How a table with a key takes changes.
pub(super) struct Keyed<'a> {
    /// Its name, for errors.
    pub(super) table: &'a str,
    /// Positions of its key columns.
    pub(super) key: &'a [usize],
    /// Whether a put replaces the present row, so that the old one need not be removed first.
    pub(super) replaces: bool,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.puts.num_rows() + self.removals.num_rows() == 0
    }

    fn of(rows: &RecordBatch, puts: Vec<u32>, removals: Vec<u32>) -> Result<Self> {
        let picked = |rows: &RecordBatch, positions: Vec<u32>| {
            take_record_batch(rows, &UInt32Array::from(positions))
        };
        Ok(Self { puts: picked(rows, puts)?, removals: picked(rows, removals)? })
    }
}

/// Whether a row is taken back.
pub(super) fn has_retractions(batch: &DeltaBatch) -> bool {
    match &batch.weight {
        Weight::One => false,
        Weight::MinusOne => !batch.is_empty(),
        Weight::Array(weights) => weights.values().iter().any(|&weight| weight < 0),
    }
}

/// Each row as often as its weight says, none of which is below zero; in their order.
pub(super) fn insertions(batch: &DeltaBatch) -> Result<Changes> {
    let none = batch.rows.slice(0, 0);
    let Weight::Array(weights) = &batch.weight else {
        return Ok(Changes { puts: batch.rows.clone(), removals: none });
    };
    let repeated = (0_u32..).zip(weights.values()).flat_map(|(row, &weight)| {
        let times = usize::try_from(weight).unwrap_or(0);
        std::iter::repeat_n(row, times)
    });
    Changes::of(&batch.rows, repeated.collect(), Vec::new())
}

/// The net of rows for a table without a key, which cannot find a row again to take it back.
pub(super) fn without_key(batch: &DeltaBatch, table: &str) -> Result<Changes> {
    let (firsts, sums) = add_up(&batch.rows, batch)?;
    if sums.iter().any(|&sum| sum < 0) {
        return Err(Error::User {
            code: "0A000",
            message: format!("rows cannot be taken back from table \"{table}\" without a key"),
        });
    }
    let repeated = firsts.iter().zip(&sums);
    let repeated = repeated.flat_map(|(&row, &sum)| std::iter::repeat_n(row, sum as usize));
    Changes::of(&batch.rows, repeated.collect(), Vec::new())
}

impl Keyed<'_> {
    /// The net of a flush.
    pub(super) fn net(&self, batch: &DeltaBatch) -> Result<Changes> {
        let (firsts, sums) = add_up(&batch.rows, batch)?;
        let rows = take_record_batch(&batch.rows, &UInt32Array::from(firsts))?;
        let key: Vec<ArrayRef> =
            self.key.iter().map(|&column| Arc::clone(rows.column(column))).collect();
        let keys = ids_of(&key, rows.num_rows())?;
        // By key: the row that lives.
        let mut live: Vec<Option<u32>> =
            vec![None; keys.iter().max().map_or(0, |&k| k as usize + 1)];
        for (row, (&key, &sum)) in (0_u32..).zip(keys.iter().zip(&sums)) {
            let is_second = sum > 0 && live[key as usize].replace(row).is_some();
            if sum > 1 || is_second {
                return Err(self.two_live_rows(&rows, row as usize));
            }
        }
        let is_gone = |key: u32| !self.replaces || live[key as usize].is_none();
        let removals = (0_u32..).zip(keys.iter().zip(&sums));
        let removals = removals.filter(|(_, (key, sum))| **sum < 0 && is_gone(**key));
        let removals = removals.map(|(row, _)| row).collect();
        Changes::of(&rows, live.iter().flatten().copied().collect(), removals)
    }

    fn two_live_rows(&self, rows: &RecordBatch, row: usize) -> Error {
        let schema = rows.schema();
        let names: Vec<_> = self.key.iter().map(|&key| schema.field(key).name().as_str()).collect();
        let text = |&key: &usize| array_value_to_string(rows.column(key), row).unwrap_or_default();
        let values: Vec<_> = self.key.iter().map(text).collect();
        let (table, names, values) = (self.table, names.join(", "), values.join(", "));
        let message =
            format!("two rows for the key ({names})=({values}) of table \"{table}\" at once");
        Error::User { code: "21000", message }
    }
}

/// Equal rows added up: where each is first, and the sum of its weights.
fn add_up(rows: &RecordBatch, batch: &DeltaBatch) -> Result<(Vec<u32>, Vec<i64>)> {
    let ids = ids_of(rows.columns(), rows.num_rows())?;
    let (mut firsts, mut sums) = (Vec::new(), Vec::new());
    for (row, &id) in ids.iter().enumerate() {
        if id as usize == sums.len() {
            firsts.push(row as u32);
            sums.push(0);
        }
        sums[id as usize] += batch.weight.at(row);
    }
    Ok((firsts, sums))
}

/// Dense ids of the rows of `columns`, in order of first sight.
fn ids_of(columns: &[ArrayRef], row_count: usize) -> Result<Vec<u32>> {
    let types: Vec<_> = columns.iter().map(|column| column.data_type().clone()).collect();
    let mut ids = Vec::new();
    KeyedMap::new(&types, 0)?.ids_of(columns, row_count, &mut ids)?;
    Ok(ids)
}
