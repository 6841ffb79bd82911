//! Every id of a sequence is in the table, in the topic and in the files exactly once, wherever the execution is lost
//! between two steps of the snapshot and commit protocol, and whatever is asked of the job meanwhile.
//! The threads are real; `simulator_tests` plays the same in an order that a seed decides.
//! `TIDEWATER_SEEDS` plays more than the few seeds of a test run.

use std::collections::BTreeSet;

use storage::{
    GridConfig,
    env::Env,
    table::{ReadMode, WriteMode},
};

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

/// A suspended job, two of whose snapshots are good, that upserts.
fn suspended_with_two_snapshots(seed: u64) -> (Bench, Arc<JobRecord>) {
    suspended(seed, |job| job.dag_with(WriteMode::Upsert))
}

fn suspended(seed: u64, dag: impl Fn(&TestJob) -> Dag) -> (Bench, Arc<JobRecord>) {
    let bench = Bench::new(seed);
    let dag = dag(&bench.job);
    let again = dag.clone();
    bench.jobs.set_planner(Arc::new(move |_| Ok(again.clone())));
    bench.jobs.create(bench.job.request(), dag).unwrap();
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
    (bench, record)
}

#[test]
fn an_older_snapshot_is_refused_once_rows_of_a_newer_one_are_permanent() {
    let (bench, record) = suspended_with_two_snapshots(0);
    let newest = record.snapshots.newest().unwrap();
    assert!(bench.job.grid.snapshots().damage(record.id, newest.id, 0, false));
    let error = bench.jobs.resume(NAME).unwrap_err().to_string();
    assert!(error.starts_with(&format!("snapshot {} of job", newest.id)), "{error}");
    assert!(error.ends_with("is damaged"), "{error}");
    assert_eq!(bench.job.record().status, JobStatus::Suspended);
}

/// The job has completed: each id is wherever it belongs at least once; how many come again.
fn repeats(bench: &Bench, what: &str) -> usize {
    let expected: Vec<i64> = (0..IDS).collect();
    assert_eq!(bench.job.in_table(ReadMode::Durable), expected, "{what}: table");
    let counts = bench.job.in_counts(ReadMode::Durable);
    assert_eq!(counts, bench.job.all_counts(), "{what}: windows");
    let mut repeats = 0;
    for (place, mut ids) in [("topic", bench.job.in_topic()), ("files", bench.job.in_files())] {
        repeats += ids.len() - expected.len().min(ids.len());
        ids.dedup();
        assert!(ids == expected, "{what}: {place}: {} of {IDS} ids", ids.len());
    }
    repeats
}

#[test]
fn who_accepts_that_rows_repeat_goes_back_to_the_older_snapshot_and_loses_none() {
    let mut all = 0;
    for seed in 0..3 * seeds() {
        let what = format!("seed {seed}");
        let (bench, record) = suspended_with_two_snapshots(seed);
        let [older, newest] = [0, 1].map(|position| record.snapshots.good[position].id);
        assert!(bench.job.grid.snapshots().damage(record.id, newest, 0, seed % 2 == 0));
        assert!(bench.jobs.resume(NAME).is_err());
        let from = bench.jobs.resume_accepting_repeats(NAME).unwrap();
        assert_eq!(from, Fallback::Older(older), "{what}");
        let snapshots = &bench.job.record().snapshots;
        assert!(snapshots.forsaken == newest && snapshots.id_last >= newest, "{snapshots:?}");
        // Lost before or after it has a snapshot of its own, it goes on.
        bench.jobs.lose(NAME);
        bench.complete(&what);
        all += repeats(&bench, &what);
    }
    assert!(all > 0, "no row came again");
}

#[test]
fn what_a_topic_has_got_is_permanent_too() {
    let (bench, record) = suspended(2, TestJob::dag_of_topic);
    let [older, newest] = [0, 1].map(|position| record.snapshots.good[position].id);
    assert!(bench.job.grid.snapshots().damage(record.id, newest, 0, false));
    let error = bench.jobs.resume(NAME).unwrap_err().to_string();
    assert!(error.starts_with(&format!("snapshot {newest} of job")), "{error}");
    let from = bench.jobs.resume_accepting_repeats(NAME).unwrap();
    assert_eq!(from, Fallback::Older(older));
    bench.complete("topic");
    let mut ids = bench.job.in_topic();
    assert!(ids.len() > IDS as usize, "rows come again");
    ids.dedup();
    assert_eq!(ids, (0..IDS).collect::<Vec<_>>());
}

#[test]
fn who_accepts_that_rows_repeat_starts_anew_when_no_snapshot_is_whole() {
    let (bench, record) = suspended_with_two_snapshots(1);
    for snapshot in &record.snapshots.good {
        assert!(bench.job.grid.snapshots().damage(record.id, snapshot.id, 0, true));
    }
    assert!(bench.jobs.resume(NAME).is_err());
    assert_eq!(bench.jobs.resume_accepting_repeats(NAME).unwrap(), Fallback::Anew);
    bench.complete("anew");
    assert!(repeats(&bench, "anew") > 0);
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
    for (n, place) in places.iter().enumerate() {
        // Half of them with each kind of files.
        for seed in n as u64..n as u64 + seeds() {
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
