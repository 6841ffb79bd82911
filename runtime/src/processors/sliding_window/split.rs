//! Which rows of a batch go into which pane. Event time is nearly sorted, so a batch is one run, or
//! a few runs found by their borders; only an unsorted batch is looked at row by row and reordered.

use std::ops::Range;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array},
    compute::{take, take_record_batch},
    datatypes::{DataType, Int64Type},
};

use super::alignment::Alignment;
use crate::{
    Error, Result,
    delta::{DeltaBatch, Weight},
    time::EventTime,
};

/// Rows of a batch that are in one pane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) pane: i64,
    pub(super) rows: Range<usize>,
}

/// A batch cut by panes.
pub(super) struct Split {
    /// The batch, reordered and without null times if need be.
    pub(super) batch: DeltaBatch,
    /// Rising by pane if the batch was reordered, else as the rows came.
    pub(super) runs: Vec<Run>,
    /// Rows without a time, left out of `batch`.
    pub(super) null_count: usize,
}

impl Split {
    pub(super) fn new(
        batch: &DeltaBatch,
        time_column: usize,
        alignment: &Alignment,
    ) -> Result<Self> {
        let (batch, null_count) = without_nulls(batch, time_column)?;
        let times = raw_times(batch.rows.column(time_column))?;
        let times: &[EventTime] = times.values();
        let Some((first, last)) = bounds(times) else {
            return Ok(Self { batch, runs: Vec::new(), null_count });
        };
        let (first_pane, last_pane) = (alignment.pane_of(first)?, alignment.pane_of(last)?);
        if first_pane == last_pane {
            let runs = vec![Run { pane: first_pane, rows: 0..times.len() }];
            return Ok(Self { batch, runs, null_count });
        }
        if times.is_sorted() {
            let runs = sorted_runs(times, alignment)?;
            return Ok(Self { batch, runs, null_count });
        }
        let panes =
            times.iter().map(|&time| alignment.pane_of(time)).collect::<Result<Vec<_>>>()?;
        let mut order: Vec<u32> = (0..times.len() as u32).collect();
        order.sort_by_key(|&row| panes[row as usize]);
        let mut runs: Vec<Run> = Vec::new();
        for (position, &row) in order.iter().enumerate() {
            let pane = panes[row as usize];
            match runs.last_mut().filter(|run| run.pane == pane) {
                Some(run) => run.rows.end = position + 1,
                None => runs.push(Run { pane, rows: position..position + 1 }),
            }
        }
        Ok(Self { batch: taken(&batch, order)?, runs, null_count })
    }
}

/// The runs of sorted times, by looking for the end of each pane.
fn sorted_runs(times: &[EventTime], alignment: &Alignment) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    let mut start = 0;
    while start < times.len() {
        let pane = alignment.pane_of(times[start])?;
        let length = match alignment.pane_start(pane + 1) {
            Ok(end) => times[start..].partition_point(|&time| time < end),
            // The end is beyond all times.
            Err(_) => times.len() - start,
        };
        runs.push(Run { pane, rows: start..start + length });
        start += length;
    }
    Ok(runs)
}

fn bounds(times: &[EventTime]) -> Option<(EventTime, EventTime)> {
    let first = *times.first()?;
    Some(times.iter().fold((first, first), |(low, high), &time| (low.min(time), high.max(time))))
}

/// The raw µs of a timestamp column.
pub(super) fn raw_times(column: &ArrayRef) -> Result<Int64Array> {
    if !matches!(
        column.data_type(),
        DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _)
    ) {
        return Err(Error::Internal(format!("time column of type {}", column.data_type())));
    }
    let data = column.to_data().into_builder().data_type(DataType::Int64).build()?;
    Ok(Int64Array::from(data))
}

fn without_nulls(batch: &DeltaBatch, time_column: usize) -> Result<(DeltaBatch, usize)> {
    let column = batch.rows.column(time_column);
    let null_count = column.null_count();
    if null_count == 0 {
        return Ok((batch.clone(), 0));
    }
    let rows = (0..column.len()).filter(|&row| column.is_valid(row)).map(|row| row as u32);
    Ok((taken(batch, rows.collect())?, null_count))
}

/// The rows of those positions.
pub(super) fn taken(batch: &DeltaBatch, positions: Vec<u32>) -> Result<DeltaBatch> {
    let positions = UInt32Array::from(positions);
    let rows: RecordBatch = take_record_batch(&batch.rows, &positions)?;
    let weight = match &batch.weight {
        Weight::Array(weights) => {
            Weight::Array(take(weights, &positions, None)?.as_primitive::<Int64Type>().clone())
        }
        constant => constant.clone(),
    };
    Ok(DeltaBatch { rows, weight })
}
