//! A source that acknowledges: every message of a queue is in the table exactly once and is acknowledged
//! in the end, wherever the execution is lost, whatever is asked of the job, and whatever the broker
//! loses: connections, acknowledgements, the order of what comes again.
//!
//! ```text
//!   queue ──► source ×2 ──► table (by key) ×2
//! ```
//! The table has a key and the job inserts: a message that came twice would fail the job.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{array::AsArray, datatypes::Int64Type};
use storage::{
    GridConfig, Table,
    cluster::control::TableRecord,
    env::{Env, Rng},
    table::{ReadMode, WriteMode},
};

use super::*;
use crate::{
    connectors::rabbitmq::tests::{simulated_queue::SimulatedQueue, supplier},
    dag::{Parallelism, Routing},
    execution::EngineConfig,
    processors::{TableSinkSpec, table_sink},
    testing::bigint_schema,
};

const NAME: &str = "j";
/// Messages of a run, some dozen snapshots long.
const MESSAGES: i64 = 2_000;
/// Where the source may be lost, beside the places that every job has.
const PLACES: [&str; 4] =
    ["queue.acknowledge", "queue.acknowledged", "queue.delivered", "queue.saved"];

struct Bench {
    grid: Arc<Grid>,
    jobs: Arc<Jobs>,
    table: Arc<Table>,
    queue: Arc<SimulatedQueue>,
    dag: Dag,
    rng: Rng,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Its job has no end, and would go on beside those of the next ones.
        self.jobs.close();
    }
}

impl Bench {
    fn new(seed: u64) -> Self {
        let grid = Grid::open(GridConfig::default(), Env::real()).unwrap();
        let config = EngineConfig { worker_count: 2, queue_capacity: 2, ..EngineConfig::default() };
        let engine = Engine::start(config, Arc::clone(&grid)).unwrap();
        let jobs = Jobs::open(Arc::clone(&grid), engine);
        let record = TableRecord::new("t", bigint_schema(&["id"]), &[0]);
        let table = grid.create_table(record).unwrap();
        let queue = SimulatedQueue::troubled(seed);
        queue.publish(0..MESSAGES);
        let mut dag = Dag::default();
        let source = supplier(&queue, &grid, &[], None);
        let source = dag.vertex("source", Parallelism::Exactly(2), source);
        let spec = TableSinkSpec {
            table: Arc::clone(&table),
            input: bigint_schema(&["id"]),
            mode: WriteMode::Insert,
            is_append_only: true,
        };
        let sink = dag.vertex("table", Parallelism::Exactly(2), table_sink(spec));
        dag.edge(source, sink, 0, Routing::Partitioned(vec![0]));
        let planned = dag.clone();
        jobs.set_planner(Arc::new(move |_| Ok(planned.clone())));
        Self { grid, jobs, table, queue, dag, rng: Rng::seeded(seed) }
    }

    fn create(&self) {
        let options = [("processingGuarantee", "exactlyOnce"), ("snapshotIntervalMillis", "10")];
        let request = JobRequest {
            name: NAME.to_owned(),
            sql: String::new(),
            options: options.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            settings: BTreeMap::new(),
        };
        self.jobs.create(request, self.dag.clone()).unwrap();
    }

    fn below(&self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    fn status(&self) -> JobStatus {
        self.grid.control().state().job(NAME).expect("it is recorded").status
    }

    /// Asks random things of the job.
    fn trouble(&self) {
        for _ in 0..self.below(5) {
            for _ in 0..self.below(30) {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            // Too late, or in the wrong state: the job has answered, and goes on.
            let _ = match self.below(4) {
                0 => self.jobs.suspend(NAME),
                1 => self.jobs.resume(NAME),
                2 => self.jobs.restart(NAME),
                _ => {
                    self.jobs.lose(NAME);
                    Ok(())
                }
            };
        }
    }

    fn in_table(&self) -> Vec<i64> {
        let view = self.grid.read_view().in_mode(ReadMode::Durable);
        let mut ids: Vec<i64> = Vec::new();
        for batch in self.table.scan(&view, None, 1).unwrap().into_iter().flatten() {
            ids.extend(batch.unwrap().column(0).as_primitive::<Int64Type>().values());
        }
        ids.sort_unstable();
        ids
    }

    /// Waits until nothing is left in the queue; every message is in the table then, for good.
    #[track_caller]
    fn assert_each_once(&self, what: &str) {
        for _ in 0..30_000 {
            match self.status() {
                JobStatus::Failed => {
                    panic!("{what}: {:?}", self.grid.control().state().job(NAME))
                }
                JobStatus::Suspended => drop(self.jobs.resume(NAME)),
                _ if self.queue.left() == 0 => break,
                _ => std::thread::park_timeout(Duration::from_millis(1)),
            }
        }
        assert_eq!(self.queue.left(), 0, "{what}: messages are never acknowledged");
        let ids = self.in_table();
        let missing: Vec<_> = (0..MESSAGES).filter(|id| !ids.contains(id)).take(5).collect();
        let is_each_once = ids.iter().copied().eq(0..MESSAGES);
        assert!(is_each_once, "{what}: {} rows, without {missing:?}", ids.len());
    }
}

#[test]
fn whatever_is_asked_and_lost_every_message_is_there_once() {
    let mut redelivered = 0;
    for seed in 0..8 {
        let what = format!("seed {seed}");
        let bench = Bench::new(seed);
        bench.create();
        bench.trouble();
        bench.assert_each_once(&what);
        redelivered += bench.queue.redelivered();
    }
    assert!(redelivered > 500, "only {redelivered} came again");
}

#[test]
fn wherever_the_execution_is_lost_every_message_is_there_once() {
    let watched = Bench::new(0);
    watched.grid.env().failpoints.watch();
    watched.create();
    watched.assert_each_once("watched");
    let passed = watched.grid.env().failpoints.passed();
    let places: BTreeSet<&str> = passed.into_keys().collect();
    assert!(PLACES.iter().all(|place| places.contains(place)), "{places:?}");
    let mut harmless = Vec::new();
    for (n, place) in places.iter().enumerate() {
        let rounds = if PLACES.contains(place) { 3 } else { 1 };
        for seed in n as u64..n as u64 + rounds {
            let what = format!("{place}, seed {seed}");
            let bench = Bench::new(seed);
            bench.create();
            let passes = bench.below(if place.starts_with("start") { 1 } else { 12 });
            bench.grid.env().failpoints.arm(place, passes);
            bench.trouble();
            bench.assert_each_once(&what);
            if bench.grid.env().failpoints.is_armed() {
                harmless.push(what);
            }
        }
    }
    assert!(harmless.len() * 2 < places.len(), "never lost: {harmless:?}");
}
