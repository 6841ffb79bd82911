//! Every id of a sequence is in the table exactly once, wherever the execution is lost between two
//! steps of the snapshot and commit protocol, and whatever is asked of the job meanwhile.
//!
//! The table has a key and the job inserts: a row that came twice would fail the job, one that is
//! lost leaves a gap. `TIDEWATER_SEEDS` plays more than the few seeds of a test run.

use std::collections::BTreeSet;

use arrow::{array::AsArray, datatypes::Int64Type};
use storage::{
    GridConfig, Table,
    cluster::control::TableRecord,
    env::{Env, Rng},
    table::WriteMode,
};

use super::*;
use crate::{
    dag::{Parallelism, Routing},
    execution::EngineConfig,
    processors::{TableSinkSpec, table_sink},
    testing::{bigint_schema, counting_source},
};

/// Ids of a run, from two sources; some twenty snapshots long.
const IDS: i64 = 4_000;
const SEEDS_DEFAULT: u64 = 2;

struct Bench {
    grid: Arc<Grid>,
    jobs: Arc<Jobs>,
    table: Arc<Table>,
    rng: Rng,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let grid = Grid::open(GridConfig::default(), Env::real()).unwrap();
        let config = EngineConfig { worker_count: 2, queue_capacity: 2, ..EngineConfig::default() };
        let engine = Engine::start(config, Arc::clone(&grid)).unwrap();
        let jobs = Jobs::open(Arc::clone(&grid), engine);
        let record = TableRecord::new("t", bigint_schema(&["id"]), &[0]);
        let table = grid.create_table(record).unwrap();
        let bench = Self { grid, jobs, table, rng: Rng::seeded(seed) };
        let dag = bench.dag();
        bench.jobs.set_planner(Arc::new(move |_| Ok(dag.clone())));
        bench
    }

    fn below(&self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    /// Two instances that count → rows by key → the table.
    fn dag(&self) -> Dag {
        let mut dag = Dag::default();
        let source = dag.vertex("source", Parallelism::Exactly(2), counting_source(IDS, 3));
        let spec = TableSinkSpec {
            table: Arc::clone(&self.table),
            input: bigint_schema(&["id"]),
            mode: WriteMode::Insert,
            is_append_only: true,
        };
        let sink = dag.vertex("sink", Parallelism::Exactly(2), table_sink(spec));
        dag.edge(source, sink, 0, Routing::Partitioned(vec![0]));
        dag
    }

    fn create(&self) {
        let options = [("processingGuarantee", "exactlyOnce"), ("snapshotIntervalMillis", "10")];
        let request = JobRequest {
            name: "j".to_owned(),
            sql: String::new(),
            options: options.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            settings: BTreeMap::new(),
        };
        self.jobs.create(request, self.dag()).unwrap();
    }

    fn record(&self) -> Arc<JobRecord> {
        Arc::clone(self.grid.control().state().job("j").expect("it is recorded"))
    }

    /// Waits until the job has completed; whatever suspends it is resumed.
    #[track_caller]
    fn complete(&self, what: &str) {
        for _ in 0..30_000 {
            match self.record().status {
                JobStatus::Completed => return,
                JobStatus::Failed => panic!("{what}: {:?}", self.record()),
                JobStatus::Suspended => drop(self.jobs.resume("j")),
                _ => std::thread::park_timeout(Duration::from_millis(1)),
            }
        }
        panic!("{what}: it does not end: {:?}", self.record());
    }

    #[track_caller]
    fn assert_each_id_once(&self, what: &str) {
        let mut ids: Vec<i64> = Vec::new();
        for batch in self.table.scan(&self.grid.read_view(), None, 1).unwrap().into_iter().flatten()
        {
            ids.extend(batch.unwrap().column(0).as_primitive::<Int64Type>().values());
        }
        ids.sort_unstable();
        let expected: Vec<i64> = (0..IDS).collect();
        let missing: Vec<_> = expected.iter().filter(|id| !ids.contains(id)).take(5).collect();
        assert!(ids == expected, "{what}: {} rows, without {missing:?}", ids.len());
        assert_eq!(self.table.stats().rows, IDS as u64, "{what}: all of it is permanent");
    }
}

fn seeds() -> u64 {
    std::env::var("TIDEWATER_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(SEEDS_DEFAULT)
}

/// Suspends, resumes, restarts and loses the job at random until it has completed.
fn trouble(bench: &Bench, what: &str) {
    for _ in 0..bench.below(6) {
        for _ in 0..bench.below(30) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        // Too late, or in the wrong state: the job has answered, and goes on.
        let _ = match bench.below(4) {
            0 => bench.jobs.suspend("j"),
            1 => bench.jobs.resume("j"),
            2 => bench.jobs.restart("j"),
            _ => {
                bench.jobs.lose("j");
                Ok(())
            }
        };
    }
    bench.complete(what);
}

#[test]
fn whatever_is_asked_of_the_job_every_id_is_there_once() {
    for seed in 0..4 * seeds() {
        let what = format!("seed {seed}");
        let bench = Bench::new(seed);
        bench.create();
        trouble(&bench, &what);
        bench.assert_each_id_once(&what);
    }
}

#[test]
fn an_older_snapshot_is_refused_once_rows_of_a_newer_one_are_permanent() {
    let bench = Bench::new(0);
    bench.create();
    for _ in 0..30_000 {
        if bench.record().snapshots.good.len() == 2 {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    bench.jobs.suspend("j").unwrap();
    let record = bench.record();
    let newest = record.snapshots.newest().unwrap();
    assert!(newest.commits && record.snapshots.good.len() == 2, "{record:?}");
    assert!(bench.grid.snapshots().damage(record.id, newest.id, 0, false));
    let error = bench.jobs.resume("j").unwrap_err().to_string();
    assert!(error.starts_with(&format!("snapshot {} of job", newest.id)), "{error}");
    assert!(error.ends_with("is damaged"), "{error}");
    assert_eq!(bench.record().status, JobStatus::Suspended);
}

/// All places where an execution can be lost, found by watching one that suspends and resumes.
fn places() -> BTreeSet<&'static str> {
    let bench = Bench::new(0);
    bench.grid.env().failpoints.watch();
    bench.create();
    bench.jobs.restart("j").unwrap();
    bench.complete("watched");
    bench.grid.env().failpoints.passed().into_keys().collect()
}

#[test]
fn wherever_the_execution_is_lost_every_id_is_there_once() {
    let places = places();
    assert!(places.len() >= 20, "{places:?}");
    let mut harmless = Vec::new();
    for place in &places {
        for seed in 0..seeds() {
            let what = format!("{place}, seed {seed}");
            let bench = Bench::new(seed);
            bench.create();
            let passes = bench.below(if place.starts_with("start") { 2 } else { 12 });
            bench.grid.env().failpoints.arm(place, passes);
            trouble(&bench, &what);
            bench.assert_each_id_once(&what);
            if bench.grid.env().failpoints.is_armed() {
                harmless.push(what);
            }
        }
    }
    assert!(harmless.len() * 2 < places.len() * seeds() as usize, "never lost: {harmless:?}");
}
