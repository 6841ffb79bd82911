//! `verify_processor` passes a correct processor and catches five broken ones, each for its flaw.

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use storage::partition::PartitionId;

use super::{Verification, verify_processor};
use crate::{
    Result,
    delta::DeltaBatch,
    item::{Item, Watermark},
    processor::{Done, Held, Inbox, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    state::{StateChunk, StateWriter},
};

/// What is wrong with a [`Delay`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    ForgetsState,
    DuplicatesAfterRestore,
    IgnoresRefusal,
    Blocks,
    EmitsBehindWatermark,
    StopsTaking,
    ChangesStateInSave,
}

/// Keeps rows until the watermark passes them, then emits them ahead of it.
struct Delay {
    flaw: Flaw,
    waiting: Vec<DeltaBatch>,
    held: Held,
    context: Option<ProcessorContext>,
}

struct DelaySupplier(Flaw);

impl Delay {
    /// Moves what is behind `time` to `held`.
    fn release(&mut self, time: i64) {
        for batch in std::mem::take(&mut self.waiting) {
            let times = batch.rows.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
            for row in 0..batch.len() {
                let one = batch.slice(row, 1);
                if times.value(row) <= time {
                    self.held.push(Item::Batch(one));
                } else {
                    self.waiting.push(one);
                }
            }
        }
    }

    fn flush(&mut self, outbox: &mut Outbox) -> Done {
        if self.flaw != Flaw::IgnoresRefusal {
            return self.held.flush(outbox);
        }
        let mut all = Outbox::new(usize::MAX);
        let done = self.held.flush(&mut all);
        while let Some(item) = all.take() {
            let _lost = outbox.offer(item);
        }
        done
    }
}

impl Processor for Delay {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        self.context = Some(context.clone());
        Ok(())
    }

    fn process(&mut self, _ordinal: usize, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<()> {
        if self.flush(outbox) == Done::No || self.flaw == Flaw::StopsTaking {
            return Ok(());
        }
        if self.flaw == Flaw::Blocks {
            let clock = storage::env::SystemClock::default();
            let is_over = || storage::env::Clock::monotonic_nanos(&clock) > 60_000_000;
            while !is_over() {
                std::thread::park_timeout(Duration::from_millis(60));
            }
        }
        while let Some(batch) = inbox.take() {
            self.waiting.push(batch);
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: Watermark, outbox: &mut Outbox) -> Result<Done> {
        if self.flaw == Flaw::EmitsBehindWatermark {
            if self.waiting.is_empty() && self.held.is_empty() {
                return Ok(outbox.offer_or_retry(Item::Watermark(watermark)));
            }
            if outbox.offer_or_retry(Item::Watermark(watermark)) == Done::Yes {
                self.release(watermark.time - 1);
                return Ok(self.flush(outbox));
            }
            return Ok(Done::No);
        }
        self.release(watermark.time);
        if self.flush(outbox) == Done::No {
            return Ok(Done::No);
        }
        Ok(outbox.offer_or_retry(Item::Watermark(watermark)))
    }

    fn epoch(&mut self, _epoch: u64, outbox: &mut Outbox) -> Result<Done> {
        Ok(self.flush(outbox))
    }

    fn complete(&mut self, _ordinal: usize, outbox: &mut Outbox) -> Result<Done> {
        self.release(i64::MAX);
        Ok(self.flush(outbox))
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        if self.flaw == Flaw::ForgetsState {
            return Ok(Done::Yes);
        }
        for batch in &self.waiting {
            let rows = batch.rows.clone();
            state.put(StateChunk { partition: PartitionId(7), tag: 0, rows });
        }
        if self.flaw == Flaw::ChangesStateInSave {
            self.waiting.clear();
        }
        Ok(Done::Yes)
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        let batch = DeltaBatch::insertions(chunk.rows.clone());
        if self.flaw == Flaw::DuplicatesAfterRestore {
            self.held.push(Item::Batch(batch.clone()));
        }
        self.waiting.push(batch);
        Ok(())
    }
}

impl ProcessorSupplier for DelaySupplier {
    fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>> {
        let one =
            || Delay { flaw: self.0, waiting: Vec::new(), held: Held::default(), context: None };
        Ok((0..count).map(|_| Box::new(one()) as Box<dyn Processor>).collect())
    }

    fn describe(&self) -> String {
        format!("delay({:?})", self.0)
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("t", DataType::Int64, false)]))
    }
}

fn times(values: &[i64]) -> DeltaBatch {
    let column = Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    DeltaBatch::insertions(RecordBatch::try_from_iter([("t", column)]).unwrap())
}

fn delay(flaw: Flaw) -> Verification {
    verify_processor(Arc::new(DelaySupplier(flaw)))
        .rows(0, times(&[3, 1]))
        .rows(0, times(&[9]))
        .watermark(4)
        .rows(0, times(&[12, 5, 5]))
        .watermark(9)
        .expect(vec![times(&[1, 3, 5, 5, 9, 12])])
        .expect_watermarks(vec![4, 9])
        .time_column(0)
        .call_limit(Duration::from_millis(if flaw == Flaw::Blocks { 50 } else { 2_000 }))
}

#[track_caller]
fn assert_caught(flaw: Flaw, words: &str) {
    let complaint = delay(flaw).check().expect_err("a flaw must be caught");
    assert!(complaint.contains(words), "{flaw:?} was caught for another reason: {complaint}");
}

#[test]
fn a_correct_processor_passes() {
    // Rows of the time of a watermark may precede it, so the watermark's own rows come first.
    delay(Flaw::None).run();
}

#[test]
fn forgotten_state_is_caught() {
    assert_caught(Flaw::ForgetsState, "[saved and restored after every item, ");
}

#[test]
fn duplicates_after_restore_are_caught() {
    assert_caught(Flaw::DuplicatesAfterRestore, "[saved and restored after every item, ");
}

#[test]
fn an_ignored_refusal_is_caught() {
    assert_caught(Flaw::IgnoresRefusal, "stubborn outbox");
}

#[test]
fn a_blocking_call_is_caught() {
    assert_caught(Flaw::Blocks, "\"process\" blocks");
}

#[test]
fn a_row_behind_its_watermark_is_caught() {
    assert_caught(Flaw::EmitsBehindWatermark, "behind the watermark 4");
}

#[test]
fn a_processor_that_stops_taking_is_caught() {
    assert_caught(Flaw::StopsTaking, "makes no progress");
}

#[test]
fn a_save_that_changes_the_state_is_caught() {
    assert_caught(Flaw::ChangesStateInSave, "\"save\" changed the state");
}

#[test]
fn wrong_rows_are_shown_with_their_weights() {
    let complaint = delay(Flaw::None).expect(vec![times(&[1])]).check().unwrap_err();
    assert!(complaint.contains("+2 × 5"), "{complaint}");
}
