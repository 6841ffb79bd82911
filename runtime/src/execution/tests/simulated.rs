//! A table and a window job on the simulated env: one seed, one trace and one table; a suspend at
//! any step changes the trace and not the table.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray},
    datatypes::{
        DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
    },
};
use storage::{
    Table, cluster::control::TableRecord, env::Rng, partition::PartitionId, table::WriteMode,
};

use super::*;
use crate::{
    Result,
    dag::{Parallelism, Routing},
    delta::DeltaBatch,
    item::{Item, Watermark},
    processor::{Done, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    processors::{
        AggregateFunction, AggregateSpec, SlidingWindowSpec, TableSinkSpec, sliding_window,
        table_sink,
    },
    state::{StateChunk, StateWriter},
    testing::FnSupplier,
};

const EVENTS: i64 = 3_000;
const KEYS: u64 = 20;
/// Rows of a batch of the source.
const BATCH: i64 = 64;
/// µs between two events, and how far they come out of order.
const STEP: i64 = 1_000;
const DISORDER: i64 = 5_000;
/// Window length and slide, µs.
const SIZE: i64 = 100_000;
const SLIDE: i64 = 50_000;

/// Key and time of event `number` in the world of `seed`.
fn event(seed: u64, number: i64) -> (i64, i64) {
    let mut hash = seed ^ (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    hash = (hash ^ (hash >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash ^= hash >> 29;
    ((hash % KEYS) as i64, number * STEP + (hash >> 40) as i64 % DISORDER)
}

fn events_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), false),
    ]))
}

/// Emits its share of the events, each batch followed by the watermark that holds behind it.
struct Events {
    seed: u64,
    next: i64,
    step: i64,
    ahead: Option<i64>,
}

fn events(seed: u64) -> Arc<dyn ProcessorSupplier> {
    FnSupplier::shared("events", events_schema(), move |_| {
        Box::new(Events { seed, next: 0, step: 1, ahead: None })
    })
}

impl Events {
    fn flush(&mut self, outbox: &mut Outbox) -> Done {
        let Some(time) = self.ahead else { return Done::Yes };
        let done = outbox.offer_or_retry(Item::Watermark(Watermark { key: 0, time }));
        if done == Done::Yes {
            self.ahead = None;
        }
        done
    }
}

impl Processor for Events {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        (self.next, self.step) = (context.index as i64, context.parallelism as i64);
        Ok(())
    }

    fn idle(&mut self, outbox: &mut Outbox) -> Result<Done> {
        if self.flush(outbox) == Done::No || self.next >= EVENTS {
            return Ok(if self.next >= EVENTS && self.ahead.is_none() {
                Done::Yes
            } else {
                Done::No
            });
        }
        let end = (self.next + BATCH * self.step).min(EVENTS);
        let numbers = (self.next..end).step_by(self.step as usize);
        let (keys, times): (Vec<_>, Vec<_>) = numbers.map(|n| event(self.seed, n)).unzip();
        let last = self.next + (keys.len() as i64 - 1) * self.step;
        let columns = vec![
            Arc::new(Int64Array::from(keys)) as _,
            Arc::new(TimestampMicrosecondArray::from(times)) as _,
        ];
        let rows = RecordBatch::try_new(events_schema(), columns)?;
        if outbox.offer(Item::Batch(DeltaBatch::insertions(rows))).is_none() {
            self.next = last + self.step;
            self.ahead = Some(last * STEP);
        }
        Ok(Done::No)
    }

    fn epoch(&mut self, _epoch: u64, outbox: &mut Outbox) -> Result<Done> {
        Ok(self.flush(outbox))
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        let index = self.next.rem_euclid(self.step);
        let column = Arc::new(Int64Array::from(vec![self.next])) as _;
        let rows = RecordBatch::try_from_iter([("next", column)])?;
        state.put(StateChunk { partition: PartitionId(index as u16), tag: 0, rows });
        Ok(Done::Yes)
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        self.next = chunk.rows.column(0).as_primitive::<Int64Type>().value(0);
        Ok(())
    }
}

/// Two sources → HOP count by key → a keyed table.
fn job(seed: u64, grid: &Grid) -> (Dag, Arc<Table>) {
    let window = sliding_window(SlidingWindowSpec {
        input: events_schema(),
        time_column: 1,
        size: SIZE,
        slide: SLIDE,
        offset: 0,
        keys: vec![0],
        key_names: vec!["k".to_owned()],
        aggregates: vec![AggregateSpec {
            function: AggregateFunction::CountStar,
            argument: None,
            filter: None,
            is_distinct: false,
            result_type: DataType::Int64,
            name: "n".to_owned(),
        }],
        is_append_only: true,
    });
    let schema = window.schema();
    let record = TableRecord::new("counts", SchemaRef::clone(&schema), &[0, 1]);
    let table = grid.create_table(record).unwrap();
    let sink = table_sink(TableSinkSpec {
        table: Arc::clone(&table),
        input: schema,
        mode: WriteMode::Insert,
        is_append_only: true,
    });
    let mut dag = Dag::default();
    let source = dag.vertex("events", Parallelism::Exactly(2), events(seed));
    let window = dag.vertex("window", Parallelism::Exactly(2), window);
    let sink = dag.vertex("sink", Parallelism::Exactly(2), sink);
    dag.edge(source, window, 0, Routing::Partitioned(vec![0]));
    dag.edge(window, sink, 0, Routing::Partitioned(vec![0]));
    (dag, table)
}

type Counts = BTreeMap<(i64, i64), i64>;

/// What the table must hold: (key, window start) → count.
fn expected(seed: u64) -> Counts {
    let mut counts = Counts::new();
    for (key, time) in (0..EVENTS).map(|number| event(seed, number)) {
        let mut start = time.div_euclid(SLIDE) * SLIDE;
        while start + SIZE > time {
            *counts.entry((key, start)).or_default() += 1;
            start -= SLIDE;
        }
    }
    counts
}

fn rows(grid: &Grid, table: &Table) -> Counts {
    let lanes = table.scan(&grid.read_view(), None, 1).unwrap();
    let mut counts = Counts::new();
    for batch in lanes.into_iter().flatten() {
        let batch = batch.unwrap();
        let keys = batch.column(0).as_primitive::<Int64Type>();
        let starts = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        let values = batch.column(3).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let key = (keys.value(row), starts.value(row));
            assert_eq!(counts.insert(key, values.value(row)), None, "a row twice");
        }
    }
    counts
}

/// Runs the job in the world of `seed`, suspended and resumed after each of `suspend_after` steps.
fn run_world(seed: u64, suspend_after: &[usize]) -> (Vec<String>, Counts) {
    let (grid, _clock) = simulated_grid(seed);
    let seed = grid.env().rng.next_u64();
    let config = EngineConfig { worker_count: 2, queue_capacity: 2, ..EngineConfig::default() };
    let rng = Rng::seeded(grid.env().rng.next_u64());
    let (engine, mut scheduler) = Engine::simulated(config, Arc::clone(&grid), rng).unwrap();
    let (dag, table) = job(seed, &grid);
    let mut state = Vec::new();
    let mut suspends = suspend_after.iter();
    loop {
        let (mut request, ends) = request(dag.clone());
        request.restore = std::mem::take(&mut state);
        let execution = engine.run(request).unwrap();
        if let Some(steps) = suspends.next() {
            for _ in 0..*steps {
                let _ = scheduler.step();
            }
            execution.suspend(0, false);
        }
        assert_eq!(scheduler.run_until_still(1_000_000), 0, "it ends");
        match ends.try_recv().unwrap() {
            ExecutionEnd::Suspended(saved) => state = chunks_of(saved, 271).unwrap(),
            ExecutionEnd::Completed => break,
            end => panic!("{end:?}"),
        }
    }
    let counts = rows(&grid, &table);
    assert_eq!(counts, expected(seed));
    (scheduler.trace().to_vec(), counts)
}

#[test]
fn a_seed_gives_one_trace_and_one_table_twice_and_another_seed_another() {
    let first = run_world(11, &[]);
    assert_eq!(first, run_world(11, &[]));
    let other = run_world(12, &[]);
    assert_ne!(first.0, other.0);
    assert_ne!(first.1, other.1);
}

#[test]
fn suspends_at_any_step_change_no_row_of_the_table() {
    for seed in 0..10 {
        let steps = seed as usize * 17;
        run_world(seed, &[steps, 40, 1, steps / 2]);
    }
}
