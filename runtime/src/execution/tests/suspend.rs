//! Suspend and restore: the cut is exact, whatever the speed of the parts, and epochs disturb nobody.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arrow::{array::Int64Array, datatypes::SchemaRef};
use storage::partition::PartitionId;

use super::*;
use crate::{
    Result,
    dag::{Parallelism, Routing},
    delta::DeltaBatch,
    item::Item,
    processor::{Done, Inbox, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    state::{StateChunk, StateWriter},
    testing::{FnSupplier, bigint_batch, bigint_schema, collector, counting_source},
};

/// Sums what passes; emits (instance, count, sum) when all inputs have ended.
struct Sum {
    schema: SchemaRef,
    index: i64,
    count: i64,
    sum: i64,
    is_emitted: bool,
    epochs: Arc<AtomicU64>,
}

fn sum(epochs: &Arc<AtomicU64>) -> Arc<dyn ProcessorSupplier> {
    let schema = bigint_schema(&["instance", "count", "sum"]);
    let (rows, epochs) = (SchemaRef::clone(&schema), Arc::clone(epochs));
    FnSupplier::shared("sum", schema, move |_| {
        let (schema, epochs) = (SchemaRef::clone(&rows), Arc::clone(&epochs));
        Box::new(Sum { schema, index: 0, count: 0, sum: 0, is_emitted: false, epochs })
    })
}

impl Sum {
    fn row(&self) -> arrow::array::RecordBatch {
        bigint_batch(&self.schema, &[&[self.index], &[self.count], &[self.sum]])
    }
}

impl Processor for Sum {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        self.index = context.index as i64;
        Ok(())
    }

    fn process(&mut self, _ordinal: usize, inbox: &mut Inbox, _outbox: &mut Outbox) -> Result<()> {
        while let Some(batch) = inbox.take() {
            let values = batch.rows.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
            self.count += values.len() as i64;
            self.sum += values.values().iter().sum::<i64>();
        }
        Ok(())
    }

    fn epoch(&mut self, _epoch: u64, _outbox: &mut Outbox) -> Result<Done> {
        self.epochs.fetch_add(1, Ordering::Relaxed);
        Ok(Done::Yes)
    }

    fn complete(&mut self, ordinal: usize, outbox: &mut Outbox) -> Result<Done> {
        if ordinal != usize::MAX || self.is_emitted {
            return Ok(Done::Yes);
        }
        let batch = DeltaBatch::insertions(self.row());
        let done = outbox.offer_or_retry(Item::Batch(batch));
        self.is_emitted = done == Done::Yes;
        Ok(done)
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        let partition = PartitionId(self.index as u16);
        state.put(StateChunk { partition, tag: 0, rows: self.row() });
        Ok(Done::Yes)
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        let cell = |column: usize| {
            let column = chunk.rows.column(column).as_any().downcast_ref::<Int64Array>();
            column.unwrap().value(0)
        };
        assert_eq!(cell(0), self.index, "chunks go to the instance that serves their partition");
        (self.count, self.sum) = (cell(1), cell(2));
        Ok(())
    }
}

const END: i64 = 12_000;

/// Two unequal sources → sums by key → collector.
pub(super) fn sums(epochs: &Arc<AtomicU64>) -> (Dag, crate::testing::Collector) {
    let (sink, collected) = collector();
    let mut dag = Dag::default();
    let fast = dag.vertex("fast", Parallelism::Exactly(2), counting_source(END, 50));
    let slow = dag.vertex("slow", Parallelism::Exactly(1), counting_source(END, 1));
    let short = dag.vertex("short", Parallelism::Exactly(1), counting_source(10, 10));
    let sum = dag.vertex("sum", Parallelism::Exactly(3), sum(epochs));
    let sink = dag.vertex("sink", Parallelism::Exactly(1), sink);
    for (ordinal, source) in [fast, slow, short].into_iter().enumerate() {
        dag.edge(source, sum, ordinal, Routing::Partitioned(vec![0]));
    }
    dag.edge(sum, sink, 0, Routing::ToOne);
    (dag, collected)
}

pub(super) fn totals(collected: &crate::testing::Collector) -> (i64, i64) {
    let sum = |batch: &DeltaBatch, column: usize| -> i64 {
        let column = batch.rows.column(column).as_any().downcast_ref::<Int64Array>();
        column.unwrap().values().iter().sum()
    };
    let batches = collected.batches();
    (batches.iter().map(|b| sum(b, 1)).sum(), batches.iter().map(|b| sum(b, 2)).sum())
}

pub(super) const EXPECTED: (i64, i64) = (2 * END + 10, END * (END - 1) + 45);

#[test]
fn a_suspended_dag_goes_on_where_it_was() {
    for (workers, capacity) in [(1, 1), (4, 1), (2, 16)] {
        let engine = engine(workers, capacity);
        let epochs = Arc::default();
        let mut state = Vec::new();
        for round in 0.. {
            let (dag, collected) = sums(&epochs);
            let (mut request, ends) = request(dag);
            request.restore = std::mem::take(&mut state);
            let execution = engine.run(request).unwrap();
            if round < 4 {
                wait_until(|| execution.vertex_stats()[3].rows_in > 500);
                execution.suspend(0, false);
            }
            match ends.recv_timeout(PATIENCE).unwrap() {
                ExecutionEnd::Suspended(saved) => state = chunks_of(saved, 271).unwrap(),
                ExecutionEnd::Completed => {
                    assert_eq!(totals(&collected), EXPECTED);
                    assert!(round > 0, "it was suspended at least once");
                    break;
                }
                end => panic!("{end:?}"),
            }
            assert!(collected.is_empty(), "nothing completes at a suspend");
        }
    }
}

#[test]
fn a_completed_source_stays_completed_after_a_restore() {
    let engine = engine(2, 2);
    let epochs = Arc::default();
    let (dag, _) = sums(&epochs);
    let (execution, ends) = run(&engine, dag);
    wait_until(|| execution.vertex_stats()[2].rows_out == 10);
    execution.suspend(0, false);
    let state = suspended(&ends);
    let of = |name: &str| state.iter().find(|(vertex, _)| vertex == name).map(|(_, c)| c.len());
    assert_eq!((of("fast"), of("short"), of("sum")), (Some(2), Some(1), Some(3)));
    assert_eq!(of("sink"), None, "a vertex without state has none");
}

#[test]
fn epochs_pass_everywhere_and_change_nothing() {
    let engine = engine(2, 1);
    let epochs = Arc::default();
    let (dag, collected) = sums(&epochs);
    let (mut request, ends) = request(dag);
    request.epoch_interval = Some(Duration::from_micros(200));
    engine.run(request).unwrap();
    completed(&ends);
    assert_eq!(totals(&collected), EXPECTED);
    assert!(epochs.load(Ordering::Relaxed) >= 9, "{epochs:?}");
}

#[test]
fn a_dag_whose_sources_have_ended_completes_instead() {
    let engine = engine(2, 1);
    let (sink, collected) = collector();
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Exactly(1), counting_source(10, 10));
    let sink = dag.vertex("sink", Parallelism::Exactly(1), sink);
    dag.edge(source, sink, 0, Routing::Unicast);
    let (execution, ends) = run(&engine, dag);
    completed(&ends);
    execution.suspend(0, false);
    assert!(ends.try_recv().is_err(), "the end is told once");
    assert_eq!(collected.len(), 10);
}
