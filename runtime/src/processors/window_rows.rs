//! Repeats each row once for every window it falls into and adds the window's bounds: TUMBLE and
//! HOP without an aggregation over them. Stateless; the same code serves bounded queries.
//!
//! ```text
//! HOP size 10, slide 4        t = 9
//!   [0 ───────── 10)          ×
//!       [4 ───────── 14)      ×        → (row, 0, 10) (row, 4, 14) (row, 8, 18)
//!           [8 ───────── 18)  ×
//! ```
//! A window starts at `offset + n × slide` and is half open. A row whose time is null is in no
//! window; with `slide > size` a row may be in none either.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array},
    compute::{cast, take, take_record_batch},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};

use crate::{
    Error, Result,
    delta::{DeltaBatch, Weight},
    item::Item,
    processor::{Inbox, Outbox, Processor, ProcessorSupplier},
    time::EventTime,
};

/// Rows of one emitted batch, at most, unless a single row is in more windows than this.
const OUTPUT_ROWS_MAX: usize = 8192;

/// What to repeat rows by.
#[derive(Debug, Clone)]
pub struct WindowRowsSpec {
    /// Input schema.
    pub input: SchemaRef,
    /// Position of the time column: a µs timestamp, or BIGINT in µs.
    pub time_column: usize,
    /// Window length, µs, > 0.
    pub size: EventTime,
    /// Distance of window starts, µs, > 0.
    pub slide: EventTime,
    /// Added to the alignment at the epoch, µs.
    pub offset: EventTime,
}

/// The rows of one input batch, window by window, in batches of bounded length.
pub struct WindowRows<'a> {
    spec: &'a WindowRowsSpec,
    batch: &'a RecordBatch,
    times: Int64Array,
    /// First row not yet repeated.
    next_row: usize,
}

/// The processor.
struct WindowRowsProcessor {
    spec: WindowRowsSpec,
    /// First row of the inbox's front batch that is still to be repeated.
    next_row: usize,
    /// An item the outbox refused, and the row to go on from once it is taken.
    refused: Option<(Item, usize)>,
}

struct WindowRowsSupplier(WindowRowsSpec);

/// Rows repeated by window; see the module text.
pub fn window_rows(spec: WindowRowsSpec) -> Arc<dyn ProcessorSupplier> {
    Arc::new(WindowRowsSupplier(spec))
}

impl WindowRowsSpec {
    /// The input's columns, then `window_start` and `window_end` of the time column's type.
    pub fn output(&self) -> SchemaRef {
        let time_type = self.input.field(self.time_column).data_type().clone();
        let bounds = ["window_start", "window_end"]
            .map(|name| Arc::new(Field::new(name, time_type.clone(), false)));
        let fields: Vec<_> = self.input.fields().iter().cloned().chain(bounds).collect();
        Arc::new(Schema::new_with_metadata(fields, self.input.metadata().clone()))
    }

    /// Starts of the windows that `time` is in, ascending; an error where a bound of one of them
    /// is no time.
    fn starts(&self, time: EventTime) -> Result<impl Iterator<Item = EventTime>> {
        let (size, slide) = (i128::from(self.size), i128::from(self.slide));
        let (time, offset) = (i128::from(time), i128::from(self.offset));
        let last = (time - offset).div_euclid(slide) * slide + offset;
        let count = if last + size <= time { 0 } else { (last + size - time - 1) / slide + 1 };
        let bounds = [last - (count - 1).max(0) * slide, last + size];
        if count > 0 && bounds.iter().any(|bound| EventTime::try_from(*bound).is_err()) {
            let message = "timestamp out of range".to_owned();
            return Err(Error::User { code: "22008", message });
        }
        Ok((0..count).rev().map(move |back| (last - back * slide) as EventTime))
    }
}

impl<'a> WindowRows<'a> {
    /// Repeats the rows of `batch` from `first_row` on.
    pub fn new(spec: &'a WindowRowsSpec, batch: &'a RecordBatch, first_row: usize) -> Result<Self> {
        let times = batch.column(spec.time_column);
        let times = match times.data_type() {
            DataType::Int64 => Arc::clone(times),
            _ => cast(times, &DataType::Int64)?,
        };
        Ok(Self {
            spec,
            batch,
            times: times.as_primitive::<Int64Type>().clone(),
            next_row: first_row,
        })
    }

    /// First input row that no emitted batch covers yet.
    pub fn next_row(&self) -> usize {
        self.next_row
    }

    /// The next output batch and, for each of its rows, the input row it repeats; `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<(RecordBatch, UInt32Array)>> {
        let (mut rows, mut starts) = (Vec::new(), Vec::new());
        while self.next_row < self.batch.num_rows() && rows.len() < OUTPUT_ROWS_MAX {
            let row = self.next_row;
            self.next_row += 1;
            if self.times.is_null(row) {
                continue;
            }
            for start in self.spec.starts(self.times.value(row))? {
                rows.push(row as u32);
                starts.push(start);
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let rows = UInt32Array::from(rows);
        let repeated = take_record_batch(self.batch, &rows)?;
        let starts = Int64Array::from(starts);
        let ends = Int64Array::from_iter_values(starts.values().iter().map(|s| s + self.spec.size));
        let schema = self.spec.output();
        let bound_type = schema.field(schema.fields().len() - 1).data_type().clone();
        let mut columns = repeated.columns().to_vec();
        for bounds in [starts, ends] {
            let bounds: ArrayRef = Arc::new(bounds);
            columns.push(cast(&bounds, &bound_type)?);
        }
        Ok(Some((RecordBatch::try_new(schema, columns)?, rows)))
    }
}

impl Processor for WindowRowsProcessor {
    fn process(&mut self, _ordinal: usize, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<()> {
        loop {
            if let Some((item, next_row)) = self.refused.take() {
                if let Some(item) = outbox.offer(item) {
                    self.refused = Some((item, next_row));
                    return Ok(());
                }
                self.next_row = next_row;
            }
            let Some(input) = inbox.peek() else { return Ok(()) };
            let mut rows = WindowRows::new(&self.spec, &input.rows, self.next_row)?;
            match rows.next_batch()? {
                Some((batch, indices)) => {
                    let weight = repeat_weight(&input.weight, &indices)?;
                    let item = Item::Batch(DeltaBatch { rows: batch, weight });
                    self.refused = Some((item, rows.next_row()));
                }
                None => {
                    inbox.take();
                    self.next_row = 0;
                }
            }
        }
    }
}

fn repeat_weight(weight: &Weight, indices: &UInt32Array) -> Result<Weight> {
    match weight {
        Weight::Array(weights) => {
            let taken = take(weights, indices, None)?;
            Ok(Weight::Array(taken.as_primitive::<Int64Type>().clone()))
        }
        constant => Ok(constant.clone()),
    }
}

impl ProcessorSupplier for WindowRowsSupplier {
    fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>> {
        if self.0.size <= 0 || self.0.slide <= 0 {
            return Err(Error::Internal("window size and slide must be positive".to_owned()));
        }
        let processor = || WindowRowsProcessor { spec: self.0.clone(), next_row: 0, refused: None };
        Ok((0..count).map(|_| Box::new(processor()) as Box<dyn Processor>).collect())
    }

    fn describe(&self) -> String {
        let time = self.0.input.field(self.0.time_column).name();
        format!("window_rows({time}, size={}µs, slide={}µs)", self.0.size, self.0.slide)
    }

    fn schema(&self) -> SchemaRef {
        self.0.output()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(size: i64, slide: i64, offset: i64) -> WindowRowsSpec {
        let field = Field::new("ts", DataType::Int64, true);
        let input = Arc::new(Schema::new(vec![field]));
        WindowRowsSpec { input, time_column: 0, size, slide, offset }
    }

    fn starts(spec: &WindowRowsSpec, time: i64) -> Vec<i64> {
        spec.starts(time).unwrap().collect()
    }

    #[test]
    fn row_is_in_every_window_that_holds_its_time() {
        for (size, slide, offset) in [(10, 10, 0), (10, 4, 0), (10, 3, 2), (4, 10, 0), (1, 1, 0)] {
            let spec = spec(size, slide, offset);
            for time in -50..50 {
                let expected: Vec<i64> = (-60..60)
                    .filter(|start| (start - offset).rem_euclid(slide) == 0)
                    .filter(|start| *start <= time && time < start + size)
                    .collect();
                assert_eq!(starts(&spec, time), expected, "{size} {slide} {offset} at {time}");
            }
        }
    }

    #[test]
    fn null_time_is_in_no_window_and_weights_follow_their_rows() {
        let spec = spec(10, 5, 0);
        let times = Int64Array::from(vec![Some(7), None, Some(12)]);
        let rows =
            RecordBatch::try_new(Arc::clone(&spec.input), vec![Arc::new(times)]).expect("batch");
        let mut supply = WindowRowsSupplier(spec).create(1).expect("processor");
        let (mut inbox, mut outbox) = (Inbox::default(), Outbox::stubborn());
        let weight = Weight::Array(Int64Array::from(vec![2, 9, -1]));
        inbox.push(DeltaBatch { rows, weight });
        let mut seen = Vec::new();
        for _ in 0..10 {
            supply[0].process(0, &mut inbox, &mut outbox).expect("process");
            while let Some(Item::Batch(batch)) = outbox.take() {
                let starts = batch.rows.column(1).as_primitive::<Int64Type>().clone();
                seen.extend((0..batch.len()).map(|row| (starts.value(row), batch.weight.at(row))));
            }
        }
        assert_eq!(seen, [(0, 2), (5, 2), (5, -1), (10, -1)]);
        assert!(inbox.is_empty());
    }

    #[test]
    fn long_input_comes_out_in_bounded_batches() {
        let spec = spec(100, 1, 0);
        let times = Int64Array::from_iter_values(0..1000);
        let batch =
            RecordBatch::try_new(Arc::clone(&spec.input), vec![Arc::new(times)]).expect("batch");
        let mut rows = WindowRows::new(&spec, &batch, 0).expect("rows");
        let mut total = 0;
        while let Some((batch, _)) = rows.next_batch().expect("batch") {
            assert!(batch.num_rows() < OUTPUT_ROWS_MAX + 100);
            total += batch.num_rows();
        }
        assert_eq!(total, 100_000);
        assert_eq!(rows.next_row(), 1000);
    }

    #[test]
    fn rows_are_repeated_with_their_weights_in_every_way_of_being_called() {
        use crate::testing::verify_processor;
        let spec = spec(10, 5, 0);
        let batch = |times: &[i64], weights: &[i64]| {
            let times: ArrayRef = Arc::new(Int64Array::from(times.to_vec()));
            let rows = RecordBatch::try_new(Arc::clone(&spec.input), vec![times]).unwrap();
            DeltaBatch { rows, weight: Weight::Array(Int64Array::from(weights.to_vec())) }
        };
        let windows = |rows: &[(i64, i64)], weights: &[i64]| {
            let column = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
            let columns = vec![
                column(rows.iter().map(|row| row.0).collect()),
                column(rows.iter().map(|row| row.1).collect()),
                column(rows.iter().map(|row| row.1 + 10).collect()),
            ];
            let rows = RecordBatch::try_new(spec.output(), columns).unwrap();
            DeltaBatch { rows, weight: Weight::Array(Int64Array::from(weights.to_vec())) }
        };
        verify_processor(window_rows(spec.clone()))
            .rows(0, batch(&[7, 12], &[1, 1]))
            .watermark(3)
            .rows(0, batch(&[7], &[-1]))
            .rows(0, batch(&[-1, 20], &[3, -2]))
            .end(0)
            .expect(vec![windows(
                &[(12, 5), (12, 10), (-1, -10), (-1, -5), (20, 15), (20, 20)],
                &[1, 1, 3, 3, -2, -2],
            )])
            .expect_watermarks(vec![3])
            .linear()
            .run();
    }

    #[test]
    fn times_whose_windows_cannot_be_written_are_an_error_and_not_wrapped() {
        for time in [i64::MAX, i64::MAX - 5, i64::MIN] {
            let spec = spec(10, 5, 0);
            let times = Int64Array::from(vec![time]);
            let rows =
                RecordBatch::try_new(Arc::clone(&spec.input), vec![Arc::new(times)]).unwrap();
            let error = crate::testing::verify_processor(window_rows(spec))
                .rows(0, DeltaBatch::insertions(rows))
                .run_to_error();
            assert!(matches!(error, Error::User { code: "22008", .. }), "{time}: {error:?}");
        }
    }
}
