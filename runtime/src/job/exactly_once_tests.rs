//! Every id of a sequence is in the table, in the topic and in the files exactly once, wherever the execution is lost
//! between two steps of the snapshot and commit protocol, and whatever is asked of the job meanwhile.
//! The threads are real; `simulator_tests` plays the same in an order that a seed decides.
//! `TIDEWATER_SEEDS` plays more than the few seeds of a test run.

use std::collections::BTreeSet;

use storage::{GridConfig, env::Env};

use super::{
    test_job::{NAME, TestJob},
    *,
};
use crate::execution::EngineConfig;

/// Ids of a run, from two sources; some twenty snapshots long.
pub(super) const IDS: i64 = 4_000;
const SEEDS_DEFAULT: u64 = 1;

pub(super) struct Bench {
    pub(super) job: TestJob,
    pub(super) jobs: Arc<Jobs>,
}

impl Bench {
    pub(super) fn new(seed: u64) -> Self {
        let grid = Grid::open(GridConfig::default(), Env::real()).unwrap();
        let config = EngineConfig { worker_count: 2, queue_capacity: 2, ..EngineConfig::default() };
        let engine = Engine::start(config, Arc::clone(&grid)).unwrap();
        let jobs = Jobs::open(Arc::clone(&grid), engine);
        let job = TestJob::new(&grid, IDS, seed);
        let dag = job.dag();
        jobs.set_planner(Arc::new(move |_| Ok(dag.clone())));
        Self { job, jobs }
    }

    pub(super) fn create(&self) {
        self.jobs.create(self.job.request(), self.job.dag()).unwrap();
    }

    /// Waits until the job has completed; whatever suspends it is resumed.
    #[track_caller]
    pub(super) fn complete(&self, what: &str) {
        for _ in 0..30_000 {
            match self.job.record().status {
                JobStatus::Completed => return,
                JobStatus::Failed => panic!("{what}: {:?}", self.job.record()),
                JobStatus::Suspended => drop(self.jobs.resume(NAME)),
                _ => std::thread::park_timeout(Duration::from_millis(1)),
            }
        }
        panic!("{what}: it does not end: {:?}", self.job.record());
    }
}

pub(super) fn seeds() -> u64 {
    std::env::var("TIDEWATER_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(SEEDS_DEFAULT)
}

/// Suspends, resumes, restarts and loses the job at random until it has completed.
fn trouble(bench: &Bench, what: &str) {
    for _ in 0..bench.job.below(6) {
        for _ in 0..bench.job.below(30) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        // Too late, or in the wrong state: the job has answered, and goes on.
        let _ = match bench.job.below(4) {
            0 => bench.jobs.suspend(NAME),
            1 => bench.jobs.resume(NAME),
            2 => bench.jobs.restart(NAME),
            _ => {
                bench.jobs.lose(NAME);
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
        bench.job.assert_each_id_once(&what);
    }
}

#[test]
fn an_older_snapshot_is_refused_once_rows_of_a_newer_one_are_permanent() {
    let bench = Bench::new(0);
    bench.create();
    for _ in 0..30_000 {
        if bench.job.record().snapshots.good.len() == 2 {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    bench.jobs.suspend(NAME).unwrap();
    let record = bench.job.record();
    let newest = record.snapshots.newest().unwrap();
    assert!(newest.commits && record.snapshots.good.len() == 2, "{record:?}");
    assert!(bench.job.grid.snapshots().damage(record.id, newest.id, 0, false));
    let error = bench.jobs.resume(NAME).unwrap_err().to_string();
    assert!(error.starts_with(&format!("snapshot {} of job", newest.id)), "{error}");
    assert!(error.ends_with("is damaged"), "{error}");
    assert_eq!(bench.job.record().status, JobStatus::Suspended);
}

/// All places where an execution can be lost, found by watching one that suspends and resumes.
fn places() -> BTreeSet<&'static str> {
    let bench = Bench::new(0);
    bench.job.grid.env().failpoints.watch();
    bench.create();
    bench.jobs.restart(NAME).unwrap();
    bench.complete("watched");
    bench.job.grid.env().failpoints.passed().into_keys().collect()
}

#[test]
fn wherever_the_execution_is_lost_every_id_is_there_once() {
    let places = places();
    assert!(places.len() >= 40, "{places:?}");
    let mut harmless = Vec::new();
    for place in &places {
        for seed in 0..seeds() {
            let what = format!("{place}, seed {seed}");
            let bench = Bench::new(seed);
            bench.create();
            let passes = bench.job.below(if place.starts_with("start") { 2 } else { 12 });
            bench.job.grid.env().failpoints.arm(place, passes);
            trouble(&bench, &what);
            bench.job.assert_each_id_once(&what);
            if bench.job.grid.env().failpoints.is_armed() {
                harmless.push(what);
            }
        }
    }
    assert!(harmless.len() * 2 < places.len() * seeds() as usize, "never lost: {harmless:?}");
}
