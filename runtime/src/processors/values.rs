//! `values`: a bounded source of rows that are part of the statement.
//! Instance 0 of the whole vertex emits them; its state is how many batches have left.

use std::sync::Arc;

use arrow::{
    array::{AsArray, RecordBatch, UInt64Array},
    datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type},
};
use storage::partition::PartitionId;

use super::operator::{OperatorSupplier, Stateful};
use crate::{
    Result,
    delta::DeltaBatch,
    item::Item,
    processor::{Done, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    state::{StateChunk, StateWriter},
};

/// A bounded source of given rows (VALUES).
pub fn values(rows: Vec<RecordBatch>, schema: SchemaRef) -> Arc<dyn ProcessorSupplier> {
    let row_count: usize = rows.iter().map(RecordBatch::num_rows).sum();
    let batches: Arc<[RecordBatch]> = rows.into();
    let description = format!("values({row_count} rows)");
    let state = description.clone();
    let supplier = OperatorSupplier {
        description,
        schema,
        make: move || {
            Ok(Box::new(Values { batches: Arc::clone(&batches), emitted: 0, is_emitter: false })
                as Box<dyn Processor>)
        },
    };
    Arc::new(Stateful { supplier, state })
}

struct Values {
    batches: Arc<[RecordBatch]>,
    /// Batches that have left.
    emitted: usize,
    is_emitter: bool,
}

impl Processor for Values {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        self.is_emitter = context.index == 0;
        Ok(())
    }

    fn idle(&mut self, outbox: &mut Outbox) -> Result<Done> {
        if !self.is_emitter {
            return Ok(Done::Yes);
        }
        while let Some(rows) = self.batches.get(self.emitted) {
            let is_refused = rows.num_rows() > 0
                && outbox.offer(Item::Batch(DeltaBatch::insertions(rows.clone()))).is_some();
            if is_refused {
                return Ok(Done::No);
            }
            self.emitted += 1;
        }
        Ok(Done::Yes)
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        if self.is_emitter {
            let schema = Schema::new(vec![Field::new("emitted", DataType::UInt64, false)]);
            let emitted = Arc::new(UInt64Array::from(vec![self.emitted as u64]));
            let rows = RecordBatch::try_new(Arc::new(schema), vec![emitted])?;
            state.put(StateChunk { partition: PartitionId(0), tag: 0, rows });
        }
        Ok(Done::Yes)
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        self.emitted = chunk.rows.column(0).as_primitive::<UInt64Type>().value(0) as usize;
        Ok(())
    }
}
