//! Rows, watermarks and signals on their way through a dag.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use storage::env::Rng;

use super::*;
use crate::{
    Result,
    dag::{Parallelism, Routing},
    delta::{DeltaBatch, Weight},
    execution::{Progress, client_sink},
    item::Item,
    processor::{Cooperation, Done, Inbox, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    testing::{FnSupplier, ZSet, bigint_batch, bigint_schema, collector, counting_source},
};

/// Passes rows on with the index of the instance they went through.
struct Tag {
    index: i64,
    schema: SchemaRef,
}

fn tag() -> Arc<dyn ProcessorSupplier> {
    let schema = bigint_schema(&["v", "instance"]);
    let rows = SchemaRef::clone(&schema);
    FnSupplier::shared("tag", schema, move |_| {
        Box::new(Tag { index: 0, schema: SchemaRef::clone(&rows) })
    })
}

impl Processor for Tag {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        self.index = context.index as i64;
        Ok(())
    }

    fn process(&mut self, _ordinal: usize, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<()> {
        while let Some(batch) = inbox.peek() {
            let instance = arrow::array::Int64Array::from(vec![self.index; batch.len()]);
            let columns = vec![Arc::clone(batch.rows.column(0)), Arc::new(instance) as _];
            let rows = arrow::array::RecordBatch::try_new(SchemaRef::clone(&self.schema), columns)?;
            if outbox.offer(Item::Batch(batch.with_rows(rows))).is_some() {
                return Ok(());
            }
            inbox.take();
        }
        Ok(())
    }
}

fn numbers(end: i64) -> ZSet {
    let schema = bigint_schema(&["v"]);
    let values: Vec<i64> = (0..end).collect();
    ZSet::of(&[DeltaBatch::insertions(bigint_batch(&schema, &[&values]))])
}

/// Source on two instances → tag on three by key → sink on two, broadcast if `twice`.
fn exchange(end: i64, routing: Routing) -> (Dag, crate::testing::Collector) {
    let (sink, collected) = collector();
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Exactly(2), counting_source(end, 7));
    let tag = dag.vertex("tag", Parallelism::Exactly(3), tag());
    let sink = dag.vertex("sink", Parallelism::Exactly(2), sink);
    dag.edge(source, tag, 0, Routing::Partitioned(vec![0]));
    dag.edge(tag, sink, 0, routing);
    (dag, collected)
}

#[test]
fn workers_and_capacities_do_not_change_the_rows() {
    let mut results = Vec::new();
    for (workers, capacity) in [(1, 1), (1, 16), (4, 1), (4, 16)] {
        let engine = engine(workers, capacity);
        let (dag, collected) = exchange(1_000, Routing::Unicast);
        let (_, ends) = run(&engine, dag);
        completed(&ends);
        results.push(collected.rows());
    }
    assert_eq!(results[0].len(), 1_000);
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn broadcast_reaches_every_instance_and_to_one_only_the_first() {
    let engine = engine(2, 2);
    let (dag, collected) = exchange(500, Routing::Broadcast);
    completed(&run(&engine, dag).1);
    assert_eq!(collected.len(), 1_000);
    let (sink, collected) = collector();
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Exactly(3), counting_source(100, 7));
    let tag = dag.vertex("tag", Parallelism::Exactly(2), tag());
    let sink = dag.vertex("sink", Parallelism::Exactly(2), sink);
    dag.edge(source, tag, 0, Routing::ToOne);
    dag.edge(tag, sink, 0, Routing::Isolated);
    completed(&run(&engine, dag).1);
    let instances: Vec<_> = collected
        .batches()
        .iter()
        .map(|batch| batch.rows.column(1).as_any().downcast_ref::<arrow::array::Int64Array>())
        .map(|column| column.unwrap().value(0))
        .collect();
    assert_eq!(collected.len(), 100);
    assert!(instances.iter().all(|instance| *instance == 0), "{instances:?}");
}

#[test]
fn weights_survive_the_exchange() {
    let schema = bigint_schema(&["v"]);
    let rows = bigint_batch(&schema, &[&[1, 2, 3, 4, 5, 6, 7, 8]]);
    let weights = Weight::Array(vec![1, -1, 2, -2, 3, -3, 4, 0].into());
    let sent = DeltaBatch { rows, weight: weights };
    let minus = DeltaBatch { rows: sent.rows.clone(), weight: Weight::MinusOne };
    let script = vec![sent.clone(), minus.clone()];
    let source = FnSupplier::shared("script", schema, move |_| Box::new(Script(script.clone())));
    let (sink, collected) = collector();
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Exactly(1), source);
    let sink = dag.vertex("sink", Parallelism::Exactly(3), sink);
    dag.edge(source, sink, 0, Routing::Partitioned(vec![0]));
    completed(&run(&engine(2, 1), dag).1);
    assert_eq!(collected.rows(), ZSet::of(&[sent, minus]));
}

/// Emits the last batch first and ends.
struct Script(Vec<DeltaBatch>);

impl Processor for Script {
    fn idle(&mut self, outbox: &mut Outbox) -> Result<Done> {
        let Some(batch) = self.0.last() else { return Ok(Done::Yes) };
        if outbox.offer(Item::Batch(batch.clone())).is_none() {
            self.0.pop();
        }
        Ok(Done::No)
    }
}

#[test]
fn watermarks_follow_the_slowest_instance_and_never_go_back() {
    let (dag, collected) = exchange(2_000, Routing::Isolated);
    let mut dag = dag;
    dag.vertices[1].parallelism = Parallelism::Exactly(2);
    completed(&run(&engine(2, 1), dag).1);
    let times: Vec<_> = collected.watermarks().iter().map(|watermark| watermark.time).collect();
    assert!(times.len() > 10, "{times:?}");
    // Two sink instances push into one list, each in order.
    assert!(times.iter().all(|time| *time < 2_000));
}

#[test]
fn a_slow_client_pushes_back_and_gets_every_row() {
    let engine = engine(2, 1);
    let (sink, mut rows, end) = client_sink(bigint_schema(&["v"]), 2);
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Exactly(1), counting_source(1_000, 10));
    let client = dag.vertex("client", Parallelism::Exactly(1), sink);
    dag.edge(source, client, 0, Routing::ToOne);
    let (mut request, _) = request(dag);
    request.finished = Box::new(move |reason| end.end(&reason));
    let execution = engine.run(request).unwrap();
    // With room for two batches in the channel and one in the queue, the source cannot run ahead.
    wait_until(|| execution.vertex_stats()[0].rows_out >= 20);
    assert!(execution.vertex_stats()[0].rows_out < 200);
    let mut received = Vec::new();
    while let Some(batch) = next(&mut rows) {
        received.push(DeltaBatch::insertions(batch.unwrap()));
    }
    assert_eq!(ZSet::of(&received), numbers(1_000));
}

/// Waits for the next batch as a task would.
fn next(rows: &mut crate::execution::ClientRows) -> Option<Result<arrow::array::RecordBatch>> {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match rows.poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(item) => return item,
            Poll::Pending => std::thread::park_timeout(PATIENCE),
        }
    }
}

#[test]
fn a_client_that_goes_away_ends_the_dag() {
    let engine = engine(1, 4);
    let (sink, rows, _end) = client_sink(bigint_schema(&["v"]), 2);
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Workers, counting_source(i64::MAX, 10));
    let client = dag.vertex("client", Parallelism::Exactly(1), sink);
    dag.edge(source, client, 0, Routing::ToOne);
    let (_, ends) = run(&engine, dag);
    drop(rows);
    completed(&ends);
}

/// Emits one row at each call for which `is_due`; counts its calls.
struct Patient {
    calls: Arc<AtomicUsize>,
    context: Option<ProcessorContext>,
    /// Asks to be called after so many ns.
    after: Option<u64>,
    calls_max: usize,
}

impl Processor for Patient {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        self.context = Some(context.clone());
        Ok(())
    }

    fn idle(&mut self, _outbox: &mut Outbox) -> Result<Done> {
        let context = self.context.as_ref().unwrap();
        if let Some(after) = self.after {
            (context.wake_at)(context.grid.env().clock.monotonic_nanos() + after);
        }
        let calls = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(if calls >= self.calls_max { Done::Yes } else { Done::No })
    }
}

/// Runs a source that is called `calls_max` times; how long that took, in ms.
fn time_of_calls(calls_max: usize, after: Option<u64>) -> u64 {
    let engine = engine(1, 1);
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let source = FnSupplier::shared("patient", bigint_schema(&["v"]), move |_| {
        Box::new(Patient { calls: Arc::clone(&count), context: None, after, calls_max })
    });
    let mut dag = Dag::default();
    dag.vertex("source", Parallelism::Exactly(1), source);
    let clock = &engine.grid().env().clock;
    let start = clock.monotonic_nanos();
    completed(&run(&engine, dag).1);
    (clock.monotonic_nanos() - start) / 1_000_000
}

#[test]
fn a_source_with_nothing_to_say_is_called_at_the_tick_only() {
    // The first call is at once, 10 more are ticks of 10 ms; a spinning worker needs microseconds.
    let took = time_of_calls(11, None);
    assert!(took >= 80, "{took} ms");
}

#[test]
fn a_timer_calls_earlier_than_the_tick() {
    // 200 ticks would be 2 s.
    let took = time_of_calls(200, Some(500_000));
    assert!((80..1_900).contains(&took), "{took} ms");
}

#[test]
fn a_blocking_processor_gets_its_own_thread() {
    struct Names(Arc<Mutex<Vec<String>>>, Cooperation);
    impl Processor for Names {
        fn idle(&mut self, _outbox: &mut Outbox) -> Result<Done> {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            self.0.lock().push(name);
            Ok(Done::Yes)
        }
        fn cooperation(&self) -> Cooperation {
            self.1
        }
    }
    let names = Arc::new(Mutex::new(Vec::new()));
    let mut dag = Dag::default();
    for cooperation in [Cooperation::Cooperative, Cooperation::Blocking] {
        let names = Arc::clone(&names);
        let source = FnSupplier::shared("names", bigint_schema(&[]), move |_| {
            Box::new(Names(Arc::clone(&names), cooperation))
        });
        dag.vertex("names", Parallelism::Exactly(1), source);
    }
    completed(&run(&engine(1, 1), dag).1);
    let mut names = names.lock().clone();
    names.sort();
    assert_eq!(names, ["tw-names-2#0", "tw-worker-0"]);
}

#[test]
fn stats_count_rows_watermarks_and_queues() {
    let engine = engine(2, 4);
    let (dag, _collected) = exchange(300, Routing::Unicast);
    let (execution, ends) = run(&engine, dag);
    completed(&ends);
    let stats = execution.vertex_stats();
    let counts: Vec<_> = stats.iter().map(|s| (&s.vertex[..], s.rows_in, s.rows_out)).collect();
    assert_eq!(counts, [("source", 0, 300), ("tag", 300, 300), ("sink", 300, 0)]);
    assert_eq!(stats[0].watermark, Some(298));
    let edges = execution.edge_stats();
    assert_eq!(edges[0].routing, "partitioned(0)");
    assert_eq!((edges[0].queued, edges[0].capacity), (0, 4 * 2 * 3));
}

/// The calls of an exchange on the seeded scheduler, and its rows.
fn simulated(seed: u64) -> (Vec<String>, ZSet) {
    let (grid, _clock) = simulated_grid(seed);
    let config = EngineConfig { worker_count: 2, queue_capacity: 1, ..EngineConfig::default() };
    let (engine, mut scheduler) = Engine::simulated(config, grid, Rng::seeded(seed)).unwrap();
    let (dag, collected) = exchange(200, Routing::Unicast);
    let (_, ends) = run(&engine, dag);
    assert_eq!(scheduler.run_until_still(1_000_000), 0);
    assert!(matches!(ends.try_recv(), Ok(ExecutionEnd::Completed)));
    (scheduler.trace().to_vec(), collected.rows())
}

#[test]
fn one_seed_gives_one_trace_and_another_another() {
    let (first, rows) = simulated(7);
    assert_eq!((first.clone(), rows.clone()), simulated(7));
    let (other, same_rows) = simulated(8);
    assert_ne!(first, other);
    assert_eq!(rows, same_rows);
    assert!(first.iter().any(|call| call.ends_with(&format!("{:?}", Progress::None))));
}
