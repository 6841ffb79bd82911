//! Probes for tests of whole dags: a counting source that knows its position, a sink that collects.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use parking_lot::Mutex;
use storage::partition::PartitionId;

use super::zset::ZSet;
use crate::{
    Result,
    delta::DeltaBatch,
    item::{Item, Watermark},
    processor::{Done, Inbox, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    state::{StateChunk, StateWriter},
};

/// A supplier from a closure that makes one instance, given its index on this member.
pub struct FnSupplier<F> {
    name: &'static str,
    schema: SchemaRef,
    make: F,
}

/// What a [`collector`] has got so far, of all its instances together.
#[derive(Clone, Default)]
pub struct Collector(Arc<Mutex<Collected>>);

#[derive(Default)]
struct Collected {
    batches: Vec<DeltaBatch>,
    watermarks: Vec<Watermark>,
}

impl<F> FnSupplier<F>
where
    F: Fn(usize) -> Box<dyn Processor> + Send + Sync + 'static,
{
    /// `make(index)` for every instance.
    pub fn shared(name: &'static str, schema: SchemaRef, make: F) -> Arc<dyn ProcessorSupplier> {
        Arc::new(Self { name, schema, make })
    }
}

impl<F> ProcessorSupplier for FnSupplier<F>
where
    F: Fn(usize) -> Box<dyn Processor> + Send + Sync + 'static,
{
    fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>> {
        Ok((0..count).map(|index| (self.make)(index)).collect())
    }

    fn describe(&self) -> String {
        self.name.to_owned()
    }

    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// Whether it has one or not: what is never saved is never asked for.
    fn state(&self) -> Option<String> {
        Some(self.name.to_owned())
    }
}

/// Non-null BIGINT columns of these names.
pub fn bigint_schema(names: &[&str]) -> SchemaRef {
    let field = |name: &&str| Field::new(*name, DataType::Int64, false);
    Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()))
}

/// A batch of them, by column.
pub fn bigint_batch(schema: &SchemaRef, columns: &[&[i64]]) -> RecordBatch {
    let column = |values: &&[i64]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    let columns = columns.iter().map(column).collect();
    RecordBatch::try_new(SchemaRef::clone(schema), columns).expect("columns fit the schema")
}

/// A source of BIGINT column `v`: instance i of n emits i, i + n, … below `end`, in batches of
/// `batch_rows`, each followed by a watermark at its last value; endless if `end` is `i64::MAX`.
/// Its position is its state.
pub fn counting_source(end: i64, batch_rows: usize) -> Arc<dyn ProcessorSupplier> {
    let schema = bigint_schema(&["v"]);
    let rows = SchemaRef::clone(&schema);
    FnSupplier::shared("counting-source", schema, move |_| {
        let schema = SchemaRef::clone(&rows);
        Box::new(CountingSource { schema, next: 0, step: 0, end, batch_rows, ahead: None })
    })
}

/// A sink that collects everything.
pub fn collector() -> (Arc<dyn ProcessorSupplier>, Collector) {
    let collected = Collector::default();
    let target = collected.clone();
    let schema = Arc::new(Schema::empty());
    let supplier =
        FnSupplier::shared("collector", schema, move |_| Box::new(CollectorSink(target.clone())));
    (supplier, collected)
}

impl Collector {
    /// The rows.
    pub fn rows(&self) -> ZSet {
        ZSet::of(&self.0.lock().batches)
    }

    /// The batches, in order of arrival.
    pub fn batches(&self) -> Vec<DeltaBatch> {
        self.0.lock().batches.clone()
    }

    /// The watermarks, in order of arrival.
    pub fn watermarks(&self) -> Vec<Watermark> {
        self.0.lock().watermarks.clone()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.0.lock().batches.iter().map(DeltaBatch::len).sum()
    }

    /// Whether no row has arrived.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

struct CollectorSink(Collector);

impl Processor for CollectorSink {
    fn process(&mut self, _ordinal: usize, inbox: &mut Inbox, _outbox: &mut Outbox) -> Result<()> {
        let mut collected = self.0.0.lock();
        while let Some(batch) = inbox.take() {
            collected.batches.push(batch);
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: Watermark, _outbox: &mut Outbox) -> Result<Done> {
        self.0.0.lock().watermarks.push(watermark);
        Ok(Done::Yes)
    }
}

struct CountingSource {
    schema: SchemaRef,
    next: i64,
    step: i64,
    end: i64,
    batch_rows: usize,
    /// The watermark that follows the last batch.
    ahead: Option<i64>,
}

impl CountingSource {
    fn flush(&mut self, outbox: &mut Outbox) -> Done {
        let Some(time) = self.ahead else { return Done::Yes };
        if outbox.offer(Item::Watermark(Watermark { key: 0, time })).is_some() {
            return Done::No;
        }
        self.ahead = None;
        Done::Yes
    }
}

impl Processor for CountingSource {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        self.next = context.index as i64;
        self.step = context.parallelism as i64;
        Ok(())
    }

    fn idle(&mut self, outbox: &mut Outbox) -> Result<Done> {
        if self.flush(outbox) == Done::No {
            return Ok(Done::No);
        }
        if self.next >= self.end {
            return Ok(Done::Yes);
        }
        let mut next = self.next;
        let mut values = Vec::with_capacity(self.batch_rows);
        while next < self.end && values.len() < self.batch_rows {
            values.push(next);
            next += self.step;
        }
        let last = next - self.step;
        let rows = bigint_batch(&self.schema, &[&values]);
        if outbox.offer(Item::Batch(DeltaBatch::insertions(rows))).is_none() {
            self.next = next;
            self.ahead = Some(last);
            let _ = self.flush(outbox);
        }
        Ok(Done::No)
    }

    fn epoch(&mut self, _epoch: u64, outbox: &mut Outbox) -> Result<Done> {
        Ok(self.flush(outbox))
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        // Saved under the instance's own number, so that the same instance gets it back.
        let index = self.next.rem_euclid(self.step);
        let rows = bigint_batch(&self.schema, &[&[self.next]]);
        state.put(StateChunk { partition: PartitionId(index as u16), tag: 0, rows });
        Ok(Done::Yes)
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        let next = chunk.rows.column(0).as_any().downcast_ref::<Int64Array>();
        self.next = next.expect("what was saved").value(0);
        Ok(())
    }
}
