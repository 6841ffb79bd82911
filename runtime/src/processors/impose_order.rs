//! `impose_order`: gives a stream event time: behind each batch a watermark, `lag` behind the
//! newest time seen. Rows behind the watermark are dropped and counted
//! (`tidewater_late_rows_total`); so are rows without a time, which have no place in an order.
//!
//! ```text
//!   rows  5 9 7 │ 4 12 │            lag 3
//!   watermark   6      9            the 4 is late
//! ```
//! Rows further ahead of the clock than `max_future` count as late and do not move time. After
//! `idle_timeout` without rows the input is reported idle, until the next rows.

use std::sync::Arc;

use arrow::{
    array::{AsArray, BooleanArray, Int64Array, RecordBatch},
    compute::cast,
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};
use storage::metrics::Metric;

use super::{
    filter::select,
    operator::{OperatorSupplier, Stateful},
};
use crate::{
    Error, Result,
    delta::DeltaBatch,
    item::{IDLE, Item, Watermark},
    processor::{Done, Held, Inbox, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    state::{StateChunk, StateWriter},
    time::{EventTime, EventTimePolicy},
};

struct ImposeOrder {
    policy: EventTimePolicy,
    /// Newest time seen minus the lag; `None` before the first row with a time.
    watermark: Option<EventTime>,
    /// Whether the input was last reported idle.
    is_idle: bool,
    /// Clock at the last row, µs; set at the first call.
    last_row_at: Option<i64>,
    held: Held,
    late_rows: Metric,
    context: Option<ProcessorContext>,
}

/// `IMPOSE_ORDER`: inserts watermarks by `policy` and drops rows behind them, counted as late.
pub fn impose_order(policy: EventTimePolicy, input: SchemaRef) -> Arc<dyn ProcessorSupplier> {
    let time = input.field(policy.time_column).name().clone();
    let description = format!("impose_order({time}, lag={}µs)", policy.lag);
    let state = description.clone();
    let supplier = OperatorSupplier {
        description,
        schema: input,
        make: move || {
            Ok(Box::new(ImposeOrder {
                policy: policy.clone(),
                watermark: None,
                is_idle: false,
                last_row_at: None,
                held: Held::default(),
                late_rows: Metric::default(),
                context: None,
            }) as Box<dyn Processor>)
        },
    };
    Arc::new(Stateful { supplier, state })
}

impl Processor for ImposeOrder {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        let labels = [("job", &*context.job_name), ("vertex", &*context.vertex)];
        self.late_rows = context.grid.metrics().register("tidewater_late_rows_total", &labels);
        self.context = Some(context.clone());
        Ok(())
    }

    fn process(&mut self, _ordinal: usize, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<()> {
        while self.held.flush(outbox) == Done::Yes {
            let Some(batch) = inbox.take() else { return Ok(()) };
            self.order(&batch)?;
        }
        Ok(())
    }

    /// Watermarks of the input speak of another order than the one imposed here.
    fn watermark(&mut self, _watermark: Watermark, outbox: &mut Outbox) -> Result<Done> {
        Ok(self.held.flush(outbox))
    }

    fn idle(&mut self, outbox: &mut Outbox) -> Result<Done> {
        let now = self.now()?;
        let since = *self.last_row_at.get_or_insert(now);
        if !self.is_idle && now - since >= self.policy.idle_timeout {
            self.is_idle = true;
            self.emit_time(IDLE);
        }
        let _flushed = self.held.flush(outbox);
        Ok(Done::No)
    }

    fn epoch(&mut self, _epoch: u64, outbox: &mut Outbox) -> Result<Done> {
        Ok(self.held.flush(outbox))
    }

    fn complete(&mut self, _ordinal: usize, outbox: &mut Outbox) -> Result<Done> {
        Ok(self.held.flush(outbox))
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        if let Some(watermark) = self.watermark {
            let schema = Schema::new(vec![Field::new("watermark", DataType::Int64, false)]);
            let column = Arc::new(Int64Array::from(vec![watermark]));
            let rows = RecordBatch::try_new(Arc::new(schema), vec![column])?;
            state.put(StateChunk { partition: StateChunk::BROADCAST, tag: 0, rows });
        }
        Ok(Done::Yes)
    }

    /// Whatever rows this instance will see, none of them was behind the slowest of the saved ones.
    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        let saved = chunk.rows.column(0).as_primitive::<Int64Type>().value(0);
        self.watermark = Some(self.watermark.map_or(saved, |present| present.min(saved)));
        Ok(())
    }
}

impl ImposeOrder {
    fn now(&self) -> Result<i64> {
        match &self.context {
            Some(context) => Ok(context.grid.env().clock.now_micros()),
            None => Err(Error::Internal("an order is imposed before init".to_owned())),
        }
    }

    /// Puts out the rows of `batch` that are in time, then the watermark they move.
    fn order(&mut self, batch: &DeltaBatch) -> Result<()> {
        let now = self.now()?;
        self.last_row_at = Some(now);
        if std::mem::take(&mut self.is_idle) {
            self.emit_time(self.watermark.unwrap_or(EventTime::MIN));
        }
        let times = cast(batch.rows.column(self.policy.time_column), &DataType::Int64)?;
        let times = times.as_primitive::<Int64Type>();
        let first = self.watermark.unwrap_or(EventTime::MIN);
        let last = self.policy.max_future.map_or(EventTime::MAX, |ahead| now.saturating_add(ahead));
        let mut newest = None;
        let in_time: BooleanArray = times
            .iter()
            .map(|time| {
                let Some(time) = time else { return Some(false) };
                let is_in_time = first <= time && time <= last;
                if is_in_time {
                    newest = newest.max(Some(time));
                }
                Some(is_in_time)
            })
            .collect();
        self.late_rows.add((batch.len() - in_time.true_count()) as i64);
        if let Some(rows) = select(batch, &in_time)? {
            self.held.push(Item::Batch(rows));
        }
        let moved = newest.map(|newest| newest.saturating_sub(self.policy.lag));
        if moved > self.watermark {
            self.watermark = moved;
            self.emit_time(moved.unwrap_or(EventTime::MIN));
        }
        Ok(())
    }

    fn emit_time(&mut self, time: EventTime) {
        self.held.push(Item::Watermark(Watermark { key: 0, time }));
    }
}

#[cfg(test)]
mod tests {
    use storage::{Grid, GridConfig, env::Env};

    use super::*;
    use crate::{
        delta::Weight,
        testing::{bigint_batch, bigint_schema, verify_processor},
    };

    fn policy(max_future: Option<i64>) -> EventTimePolicy {
        EventTimePolicy { time_column: 0, lag: 3, idle_timeout: 1_000_000, max_future }
    }

    fn batch(times: &[i64]) -> DeltaBatch {
        DeltaBatch::insertions(bigint_batch(&bigint_schema(&["ts"]), &[times]))
    }

    #[test]
    fn watermark_follows_the_newest_row_and_late_rows_are_dropped() {
        verify_processor(impose_order(policy(None), bigint_schema(&["ts"])))
            .rows(0, batch(&[5, 9, 7]))
            .rows(0, batch(&[4, 12, 6]))
            .end(0)
            .expect(vec![batch(&[5, 9, 7, 12, 6])])
            .in_order()
            .time_column(0)
            .expect_watermarks(vec![6, 9])
            .run();
    }

    #[test]
    fn weights_stay_with_their_rows() {
        let weighted = |times: &[i64], weights: Vec<i64>| DeltaBatch {
            weight: Weight::Array(Int64Array::from(weights)),
            ..batch(times)
        };
        verify_processor(impose_order(policy(None), bigint_schema(&["ts"])))
            .rows(0, weighted(&[20, 9], vec![1, 1]))
            .rows(0, weighted(&[1, 18], vec![7, -1]))
            .end(0)
            .expect(vec![weighted(&[20, 9, 18], vec![1, 1, -1])])
            .run();
    }

    #[test]
    fn row_far_in_the_future_is_late_and_moves_no_time() {
        let (env, clock) = Env::simulated(1);
        let grid = Grid::open(GridConfig::default(), env).unwrap();
        let now = storage::env::Clock::now_micros(&*clock);
        verify_processor(impose_order(policy(Some(10)), bigint_schema(&["ts"])))
            .grid(grid)
            .rows(0, batch(&[now, now + 1_000]))
            .end(0)
            .expect(vec![batch(&[now])])
            .expect_watermarks(vec![now - 3])
            .run();
    }

    #[test]
    fn a_row_without_a_time_is_dropped_and_counted_as_a_late_one_is() {
        let times: arrow::array::ArrayRef =
            Arc::new(Int64Array::from(vec![Some(5), None, Some(9)]));
        let input = Arc::new(Schema::new(vec![Field::new("ts", DataType::Int64, true)]));
        let rows = RecordBatch::try_new(Arc::clone(&input), vec![times]).unwrap();
        let all_null: arrow::array::ArrayRef = Arc::new(Int64Array::from(vec![None, None]));
        let timeless = RecordBatch::try_new(Arc::clone(&input), vec![all_null]).unwrap();
        let kept: arrow::array::ArrayRef = Arc::new(Int64Array::from(vec![5, 9]));
        let kept = RecordBatch::try_new(Arc::clone(&input), vec![kept]).unwrap();
        let (env, _) = Env::simulated(1);
        let grid = Grid::open(GridConfig::default(), env).unwrap();
        let labels = [("job", "test"), ("vertex", "test")];
        let late = grid.metrics().register("tidewater_late_rows_total", &labels);
        verify_processor(impose_order(policy(None), input))
            .grid(grid)
            .rows(0, DeltaBatch::insertions(rows))
            .rows(0, DeltaBatch::insertions(timeless))
            .end(0)
            .expect(vec![DeltaBatch::insertions(kept)])
            .expect_watermarks(vec![6])
            .after_each({
                let late = late.clone();
                move |way| {
                    assert_eq!(late.get(), 3, "{way}");
                    late.set(0);
                }
            })
            .run();
    }

    #[test]
    fn order_is_imposed_on_changes_of_every_weight() {
        verify_processor(impose_order(policy(None), bigint_schema(&["ts"])))
            .rows(0, batch(&[5, 9]))
            .rows(0, batch(&[7, 3, 12]))
            .expect(vec![batch(&[5, 9, 7, 12])])
            .linear()
            .run();
    }
}
