//! A job that follows a table: whatever is written to it, and wherever the execution is lost meanwhile,
//! the table that the job keeps is the same in the end, and what it logs says of every row once that it
//! came and once that it went.
//!
//! ```text
//!   t ── changes (weights) ──► keyed sink into u ×2            u = t
//!     └─ changes (rows) ─────► sink into l, without a key      Σ _diff by row = t
//! ```

use std::collections::{BTreeMap, BTreeSet};

use arrow::{array::AsArray, datatypes::Int64Type};
use storage::{
    Datum, GridConfig, Table,
    cluster::control::TableRecord,
    env::{Env, Rng},
    table::{KeyedWrite, ReadMode, WriteMode},
};

use super::*;
use crate::{
    dag::{Parallelism, Routing},
    execution::EngineConfig,
    processors::{
        ChangesAs, ChangesFrom, TableChangesSpec, TableSinkSpec, table_changes, table_sink,
    },
    testing::{bigint_batch, bigint_schema},
};

const NAME: &str = "j";
/// Keys of the table.
const KEYS: u64 = 300;
const SEEDS_DEFAULT: u64 = 1;

struct Bench {
    grid: Arc<Grid>,
    jobs: Arc<Jobs>,
    source: Arc<Table>,
    copy: Arc<Table>,
    log: Arc<Table>,
    rng: Rng,
}

impl Bench {
    fn new(seed: u64) -> Self {
        Self::of(seed, GridConfig::default())
    }

    fn of(seed: u64, config: GridConfig) -> Self {
        let grid = Grid::open(config, Env::real()).unwrap();
        let config = EngineConfig { worker_count: 2, queue_capacity: 2, ..EngineConfig::default() };
        let engine = Engine::start(config, Arc::clone(&grid)).unwrap();
        let jobs = Jobs::open(Arc::clone(&grid), engine);
        let table = |name: &str, columns: &[&str], key: &[usize]| {
            grid.create_table(TableRecord::new(name, bigint_schema(columns), key)).unwrap()
        };
        let source = table("t", &["k", "v"], &[0]);
        let copy = table("u", &["k", "v"], &[0]);
        let log = table("l", &["k", "v", "_time", "_diff"], &[]);
        let bench =
            Self { source, copy, log, jobs, grid: Arc::clone(&grid), rng: Rng::seeded(seed) };
        let dag = bench.dag();
        bench.jobs.set_planner(Arc::new(move |_| Ok(dag.clone())));
        bench
    }

    fn below(&self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    fn dag(&self) -> Dag {
        let mut dag = Dag::default();
        let mut follow = |name: &str, form, projection, into: &Arc<Table>, is_append_only| {
            let changes = table_changes(TableChangesSpec {
                table: Arc::clone(&self.source),
                from: ChangesFrom::Rows,
                form,
                is_of_job: true,
                projection,
            });
            let sink = table_sink(TableSinkSpec {
                table: Arc::clone(into),
                input: changes.schema(),
                mode: if is_append_only { WriteMode::Insert } else { WriteMode::Upsert },
                is_append_only,
            });
            let source = dag.vertex(name, Parallelism::Exactly(1), changes);
            let sink = dag.vertex(&format!("{name} sink"), Parallelism::Exactly(2), sink);
            let keyed = Routing::Partitioned(vec![0]);
            let routing = if is_append_only { Routing::Unicast } else { keyed };
            dag.edge(source, sink, 0, routing);
        };
        follow("changes", ChangesAs::Weights, vec![0, 1], &self.copy, false);
        follow("log", ChangesAs::Rows, vec![0, 1, 2, 3], &self.log, true);
        dag
    }

    fn create(&self, guarantee: &str) {
        self.create_with(guarantee, "10");
    }

    fn create_with(&self, guarantee: &str, interval_millis: &str) {
        let options =
            [("processingGuarantee", guarantee), ("snapshotIntervalMillis", interval_millis)];
        let request = JobRequest {
            name: NAME.to_owned(),
            sql: String::new(),
            options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            settings: BTreeMap::new(),
        };
        self.jobs.create(request, self.dag()).unwrap();
    }

    fn record(&self) -> Arc<JobRecord> {
        Arc::clone(self.grid.control().state().job(NAME).expect("it is recorded"))
    }

    /// Something happens to the table.
    fn write(&self) {
        let row = || (self.below(KEYS) as i64, self.rng.next_u64() as i64);
        match self.below(10) {
            0..4 => {
                let (key, value) = row();
                let row = vec![Datum::Int(key), Datum::Int(value)];
                self.source.write(&KeyedWrite::Put { mode: WriteMode::Upsert, row }).unwrap();
            }
            4..7 => {
                let key = vec![Datum::Int(self.below(KEYS) as i64)];
                self.source.write(&KeyedWrite::Delete { key }).unwrap();
            }
            7.. => {
                let writer = self.grid.begin();
                for _ in 0..1 + self.below(3) {
                    let rows: BTreeMap<_, _> = (0..self.below(40)).map(|_| row()).collect();
                    let (keys, values): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
                    let rows = bigint_batch(&bigint_schema(&["k", "v"]), &[&keys, &values]);
                    self.source.write_batch(&writer, WriteMode::Upsert, &rows).unwrap();
                }
                match self.below(4) {
                    0 => writer.abort(),
                    _ => writer.commit().unwrap(),
                }
            }
        }
    }

    /// The committed rows of a table, each with how often it is there, or with the sum of `_diff`.
    fn rows(&self, table: &Table) -> BTreeMap<(i64, i64), i64> {
        let view = self.grid.read_view().in_mode(ReadMode::Durable);
        let mut rows = BTreeMap::new();
        for batch in table.scan(&view, None, 1).unwrap().into_iter().flatten() {
            let batch = batch.unwrap();
            let column = |column: usize| batch.column(column).as_primitive::<Int64Type>().values();
            for row in 0..batch.num_rows() {
                let diff = if table.record().has_hidden_key { column(3)[row] } else { 1 };
                *rows.entry((column(0)[row], column(1)[row])).or_default() += diff;
            }
        }
        rows.retain(|_, count| *count != 0);
        rows
    }

    /// Waits until the job has told everything; whatever suspends it is resumed.
    #[track_caller]
    fn catch_up(&self, what: &str) {
        let wanted = self.rows(&self.source);
        for _ in 0..30_000 {
            match self.record().status {
                JobStatus::Failed => panic!("{what}: {:?}", self.record()),
                JobStatus::Suspended => drop(self.jobs.resume(NAME)),
                _ if self.rows(&self.copy) == wanted && self.rows(&self.log) == wanted => return,
                _ => std::thread::park_timeout(Duration::from_millis(1)),
            }
        }
        let [copy, log] = [&self.copy, &self.log].map(|table| self.rows(table).len());
        panic!("{what}: {} rows, {copy} and {log}: {:?}", wanted.len(), self.record());
    }

    /// Writes, and suspends, resumes, restarts and loses the job, at random.
    fn trouble(&self, what: &str) {
        for _ in 0..1 + self.below(5) {
            for _ in 0..self.below(60) {
                self.write();
                if self.below(4) == 0 {
                    std::thread::park_timeout(Duration::from_millis(1));
                }
            }
            // In the wrong state: the job has answered, and goes on.
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
        (0..self.below(30)).for_each(|_| self.write());
        self.catch_up(what);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Its job has no end, and would go on beside those of the next ones.
        self.jobs.close();
    }
}

fn seeds() -> u64 {
    let seeds = std::env::var("TIDEWATER_SEEDS").ok().and_then(|text| text.parse().ok());
    seeds.unwrap_or(SEEDS_DEFAULT)
}

#[test]
fn whatever_is_asked_of_the_job_its_copy_is_the_table() {
    for owners in [1, 3] {
        for seed in 0..3 * seeds() {
            let config = GridConfig { simulated_owners: owners, ..GridConfig::default() };
            let bench = Bench::of(seed, config);
            (0..bench.below(300)).for_each(|_| bench.write());
            bench.create("exactlyOnce");
            bench.trouble(&format!("{owners} owners, seed {seed}"));
        }
    }
}

/// All places where an execution can be lost, found by watching one that suspends and resumes.
fn places() -> BTreeSet<&'static str> {
    let bench = Bench::new(0);
    bench.grid.env().failpoints.watch();
    bench.create("exactlyOnce");
    (0..100).for_each(|_| bench.write());
    bench.jobs.restart(NAME).unwrap();
    (0..100).for_each(|_| bench.write());
    bench.catch_up("watched");
    bench.jobs.suspend(NAME).unwrap();
    bench.grid.env().failpoints.passed().into_keys().collect()
}

#[test]
fn wherever_the_execution_is_lost_its_copy_is_the_table() {
    let places = places();
    assert!(places.len() >= 25, "{places:?}");
    let mut harmless = Vec::new();
    for place in &places {
        for seed in 0..seeds() {
            let what = format!("{place}, seed {seed}");
            let bench = Bench::new(seed);
            (0..200).for_each(|_| bench.write());
            bench.create("exactlyOnce");
            let passes = bench.below(if place.starts_with("start") { 2 } else { 12 });
            bench.grid.env().failpoints.arm(place, passes);
            bench.trouble(&what);
            if bench.grid.env().failpoints.is_armed() {
                harmless.push(what);
            }
        }
    }
    assert!(harmless.len() * 2 < places.len() * seeds() as usize, "never lost: {harmless:?}");
}

#[test]
fn without_a_guarantee_a_job_starts_anew_with_the_rows_that_are_there() {
    let bench = Bench::new(0);
    (0..100).for_each(|_| bench.write());
    bench.create("none");
    (0..100).for_each(|_| bench.write());
    bench.catch_up("it runs");
    bench.jobs.suspend(NAME).unwrap();
    for key in 0..KEYS as i64 {
        let row = vec![Datum::Int(key), Datum::Int(key)];
        bench.source.write(&KeyedWrite::Put { mode: WriteMode::Upsert, row }).unwrap();
    }
    bench.jobs.resume(NAME).unwrap();
    let wanted = bench.rows(&bench.source);
    for _ in 0..30_000 {
        if bench.rows(&bench.copy) == wanted {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    panic!("{:?}", bench.record());
}

#[test]
fn what_two_snapshots_cover_is_not_kept_and_nothing_is_once_the_job_is_dropped() {
    let bench = Bench::new(0);
    (0..100).for_each(|_| bench.write());
    bench.create("exactlyOnce");
    let id = bench.record().id;
    let is_released = || {
        let pin = |vertex| bench.grid.pins().get(id, vertex).expect("it is kept for the job");
        !pin("changes").is_whole() && !pin("log").is_whole()
    };
    for _ in 0..30_000 {
        bench.write();
        if is_released() {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    assert!(is_released(), "{:?}", bench.record());
    bench.catch_up("released");
    bench.jobs.drop_job(NAME).unwrap();
    assert!(bench.grid.pins().get(id, "changes").is_none());
    assert!(bench.grid.pins().get(id, "log").is_none());
}

#[test]
fn job_that_is_suspended_for_too_long_says_so_and_stays_suspended() {
    let config = GridConfig { pinned_bytes_max: 200_000, ..GridConfig::default() };
    let bench = Bench::of(0, config);
    bench.create("exactlyOnce");
    (0..50).for_each(|_| bench.write());
    bench.catch_up("it runs");
    bench.jobs.suspend(NAME).unwrap();
    (0..3000).for_each(|_| bench.write());
    for _ in 0..2 {
        let error = bench.jobs.resume(NAME).unwrap_err();
        assert_eq!(error.sqlstate(), "53400", "{error}");
        assert!(error.to_string().starts_with("changes of table \"t\" were lost"), "{error}");
        let record = bench.record();
        assert_eq!(record.status, JobStatus::Suspended);
        assert_eq!(record.last_error.as_ref().map(|cause| cause.code.as_str()), Some("53400"));
    }
}

#[test]
fn its_snapshots_are_not_exported() {
    let bench = Bench::new(0);
    bench.create("exactlyOnce");
    let name = ExportName { name: "s".to_owned(), replace: false };
    let error = bench.jobs.export(NAME, name).unwrap_err();
    assert_eq!(error.sqlstate(), "0A000", "{error}");
}

impl Bench {
    /// The process ends and with it what is pinned; the next one takes the job over.
    fn next_process(&mut self) {
        self.jobs.close();
        self.grid.pins().forget(self.record().id);
        let config = EngineConfig { worker_count: 2, queue_capacity: 2, ..EngineConfig::default() };
        let engine = Engine::start(config, Arc::clone(&self.grid)).unwrap();
        self.jobs = Jobs::open(Arc::clone(&self.grid), engine);
        let dag = self.dag();
        self.jobs.set_planner(Arc::new(move |_| Ok(dag.clone())));
        self.jobs.adopt().unwrap();
    }

    #[track_caller]
    fn wait_for(&self, wanted: impl Fn(&JobRecord) -> bool) -> Arc<JobRecord> {
        for _ in 0..30_000 {
            if wanted(&self.record()) {
                return self.record();
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        panic!("{:?}", self.record());
    }
}

#[test]
fn a_job_whose_changes_are_gone_with_the_process_says_so_and_starts_anew_only_when_told() {
    for guarantee in ["exactlyOnce", "atLeastOnce"] {
        let mut bench = Bench::new(0);
        (0..100).for_each(|_| bench.write());
        bench.create(guarantee);
        bench.wait_for(|job| !job.snapshots.good.is_empty());
        (0..100).for_each(|_| bench.write());
        bench.next_process();
        let check = |record: &JobRecord| {
            assert_eq!(record.status, JobStatus::Suspended);
            let JobError { code, message } = record.last_error.clone().expect("a cause");
            assert_eq!(code, "55000", "{message}");
            assert!(message.starts_with("the changes of table \"t\" that job \"j\""), "{message}");
        };
        check(&bench.wait_for(|job| job.status == JobStatus::Suspended));
        // Having tried is no remedy.
        for _ in 0..2 {
            assert_eq!(bench.jobs.resume(NAME).unwrap_err().sqlstate(), "55000");
            check(&bench.record());
        }
        for table in [&bench.copy, &bench.log] {
            table.truncate().unwrap();
        }
        assert_eq!(bench.jobs.resume_accepting_repeats(NAME).unwrap(), Fallback::Anew);
        bench.trouble(&format!("{guarantee}, anew"));
    }
}

#[test]
fn a_job_without_a_snapshot_starts_anew_if_nothing_that_it_told_stays() {
    for guarantee in ["exactlyOnce", "atLeastOnce", "none"] {
        let mut bench = Bench::new(0);
        (0..100).for_each(|_| bench.write());
        bench.create_with(guarantee, "86400000");
        bench.jobs.close();
        (0..100).for_each(|_| bench.write());
        if guarantee != "exactlyOnce" {
            bench.copy.truncate().unwrap();
            bench.log.truncate().unwrap();
        }
        bench.next_process();
        if guarantee == "atLeastOnce" {
            bench.wait_for(|job| job.status == JobStatus::Suspended);
            assert_eq!(bench.jobs.resume_accepting_repeats(NAME).unwrap(), Fallback::Anew);
        }
        if guarantee == "exactlyOnce" {
            // What it has told is seen by now only when a snapshot is good.
            bench.wait_for(|job| job.status == JobStatus::Running);
            bench.jobs.suspend(NAME).unwrap();
            let interval = ("snapshotIntervalMillis".to_owned(), "10".to_owned());
            bench.jobs.alter(NAME, BTreeMap::from([interval])).unwrap();
        }
        bench.catch_up(guarantee);
    }
}
