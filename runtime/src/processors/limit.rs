//! `limit`: skips some rows, passes some, and then ends the dag early.
//! Counts multiplicities, not rows: a row of weight 3 is three rows. Its input must be append-only,
//! because which rows are among the first n would change with every retraction.

use std::sync::Arc;

use arrow::{
    array::{Int64Array, RecordBatch, UInt64Array},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use storage::partition::PartitionId;

use super::operator::{OperatorSupplier, Stateful};
use crate::{
    Error, Result,
    delta::{DeltaBatch, Weight},
    item::{Item, Watermark},
    processor::{Done, Inbox, Outbox, Processor, ProcessorSupplier},
    state::{StateChunk, StateWriter},
};

/// Skips `offset` rows, passes `fetch` and completes (the dag ends early). One instance.
pub fn limit(offset: u64, fetch: Option<u64>, input: SchemaRef) -> Arc<dyn ProcessorSupplier> {
    let description = match (offset, fetch) {
        (0, Some(fetch)) => format!("limit({fetch})"),
        (offset, Some(fetch)) => format!("limit({fetch} offset {offset})"),
        (offset, None) => format!("offset({offset})"),
    };
    let state = description.clone();
    let supplier = OperatorSupplier {
        description,
        schema: input,
        make: move || {
            let to_pass = fetch.unwrap_or(u64::MAX);
            Ok(Box::new(Limit { remaining: Remaining { to_skip: offset, to_pass } })
                as Box<dyn Processor>)
        },
    };
    Arc::new(Stateful { supplier, state })
}

/// What is left to do; the whole state.
#[derive(Debug, Clone, Copy)]
struct Remaining {
    to_skip: u64,
    /// `u64::MAX` is no limit: it cannot be counted down in practice.
    to_pass: u64,
}

struct Limit {
    remaining: Remaining,
}

impl Processor for Limit {
    fn process(&mut self, _: usize, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<()> {
        while let Some(batch) = inbox.peek() {
            // Counted on a copy, kept only when the rows were accepted.
            let mut remaining = self.remaining;
            if let Some(passed) = remaining.pass(batch)?
                && outbox.offer(Item::Batch(passed)).is_some()
            {
                return Ok(());
            }
            self.remaining = remaining;
            inbox.take();
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: Watermark, outbox: &mut Outbox) -> Result<Done> {
        Ok(outbox.offer_or_retry(Item::Watermark(watermark)))
    }

    /// Once all rows have passed: the end of this vertex and of what feeds it.
    fn is_finished(&self) -> bool {
        self.remaining.to_pass == 0
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        let fields = ["to_skip", "to_pass"].map(|name| Field::new(name, DataType::UInt64, false));
        let rows = RecordBatch::try_new(
            Arc::new(Schema::new(fields.to_vec())),
            vec![
                Arc::new(UInt64Array::from(vec![self.remaining.to_skip])),
                Arc::new(UInt64Array::from(vec![self.remaining.to_pass])),
            ],
        )?;
        state.put(StateChunk { partition: PartitionId(0), tag: 0, rows });
        Ok(Done::Yes)
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        use arrow::array::AsArray;
        let value = |column: usize| {
            chunk.rows.column(column).as_primitive::<arrow::datatypes::UInt64Type>().value(0)
        };
        self.remaining = Remaining { to_skip: value(0), to_pass: value(1) };
        Ok(())
    }
}

impl Remaining {
    /// The part of `batch` that passes, counted off.
    fn pass(&mut self, batch: &DeltaBatch) -> Result<Option<DeltaBatch>> {
        match &batch.weight {
            Weight::One => Ok(self.pass_rows(batch)),
            Weight::MinusOne if batch.is_empty() => Ok(None),
            Weight::MinusOne => Err(retraction_refused()),
            Weight::Array(weights) => self.pass_weighted(batch, weights),
        }
    }

    fn pass_rows(&mut self, batch: &DeltaBatch) -> Option<DeltaBatch> {
        let row_count = batch.len() as u64;
        let skipped = self.to_skip.min(row_count);
        let passed = self.to_pass.min(row_count - skipped);
        self.to_skip -= skipped;
        if self.to_pass != u64::MAX {
            self.to_pass -= passed;
        }
        (passed > 0).then(|| batch.slice(skipped as usize, passed as usize))
    }

    fn pass_weighted(
        &mut self,
        batch: &DeltaBatch,
        weights: &Int64Array,
    ) -> Result<Option<DeltaBatch>> {
        let mut kept = Vec::with_capacity(weights.len());
        for &weight in weights.values() {
            let weight = u64::try_from(weight).map_err(|_| retraction_refused())?;
            let skipped = self.to_skip.min(weight);
            let passed = self.to_pass.min(weight - skipped);
            self.to_skip -= skipped;
            if self.to_pass != u64::MAX {
                self.to_pass -= passed;
            }
            kept.push(passed as i64);
        }
        let passes_nothing = kept.iter().all(|&weight| weight == 0);
        let weight = Weight::Array(Int64Array::from(kept));
        Ok((!passes_nothing).then(|| DeltaBatch { rows: batch.rows.clone(), weight }))
    }
}

fn retraction_refused() -> Error {
    Error::Invalid {
        code: "0A000",
        message: "LIMIT over a stream whose rows are retracted is not supported".to_owned(),
    }
}
