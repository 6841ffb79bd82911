//! What is special about files: a crash of the disk, what is left over, and the other guarantees.
//! That every id is published once wherever an execution is lost is played by `exactly_once_tests` and
//! `simulator_tests`, beside the other sinks.

use std::{collections::BTreeSet, path::Path};

use storage::{
    GridConfig,
    env::{Disk, Env},
};

use super::{
    test_job::{FOLDER, NAME, TestJob},
    *,
};
use crate::{
    dag::{Parallelism, Routing},
    execution::EngineConfig,
    testing::counting_source,
};

/// Ids of a run, from two sources; some dozen snapshots long.
const IDS: i64 = 3_000;

struct Bench {
    job: TestJob,
    jobs: Arc<Jobs>,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let grid = Grid::open(GridConfig::default(), Env::real()).unwrap();
        let config = EngineConfig { worker_count: 2, queue_capacity: 2, ..EngineConfig::default() };
        let engine = Engine::start(config, Arc::clone(&grid)).unwrap();
        let jobs = Jobs::open(Arc::clone(&grid), engine);
        let bench = Self { job: TestJob::new(&grid, IDS, seed), jobs };
        let dag = bench.dag();
        bench.jobs.set_planner(Arc::new(move |_| Ok(dag.clone())));
        bench
    }

    /// Two instances that count, each → a sink into files.
    fn dag(&self) -> Dag {
        let mut dag = Dag::default();
        let source = dag.vertex("source", Parallelism::Exactly(2), counting_source(IDS, 3));
        let files = dag.vertex("files", Parallelism::Exactly(2), self.job.file_sink());
        dag.edge(source, files, 0, Routing::Isolated);
        dag
    }

    fn create(&self, guarantee: &str) {
        let mut request = self.job.request();
        request.options.insert("processingGuarantee".to_owned(), guarantee.to_owned());
        self.jobs.create(request, self.dag()).unwrap();
    }

    /// Lets the job run for up to so many ms.
    fn wait(&self, millis: u64) {
        (0..self.job.below(millis))
            .for_each(|_| std::thread::park_timeout(Duration::from_millis(1)));
    }

    /// Waits until the job has completed; whatever suspends it is resumed.
    #[track_caller]
    fn complete(&self, what: &str) {
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

    /// Names of hidden files.
    fn hidden(&self) -> Vec<String> {
        let names = self.job.file_names();
        names.into_iter().filter(|name| name.starts_with('.')).collect()
    }

    #[track_caller]
    fn assert_each_id(&self, times: usize, what: &str) {
        let ids = self.job.in_files();
        let expected: Vec<i64> = (0..IDS).flat_map(|id| vec![id; times]).collect();
        let missing: Vec<_> = expected.iter().filter(|id| !ids.contains(id)).take(5).collect();
        assert!(ids == expected, "{what}: {} rows, without {missing:?}", ids.len());
    }
}

#[test]
fn a_crash_of_the_disk_loses_nothing_that_is_suspended_or_completed() {
    for seed in 0..20 {
        let what = format!("seed {seed}");
        let bench = Bench::new(seed);
        bench.create("exactlyOnce");
        for _ in 0..3 {
            bench.wait(40);
            // Suspended, nothing writes while the disk forgets.
            if bench.jobs.suspend(NAME).is_ok() {
                bench.job.disk.crash();
                let _ = bench.jobs.resume(NAME);
            }
        }
        bench.complete(&what);
        bench.job.disk.crash();
        bench.assert_each_id(1, &what);
    }
}

#[test]
fn a_crash_between_the_snapshot_and_the_rename_loses_nothing() {
    for place in ["file.publish", "file.published", "file.synced", "snapshot.told"] {
        for seed in 0..6 {
            let what = format!("{place}, seed {seed}");
            let bench = Bench::new(seed);
            bench.create("exactlyOnce");
            bench.job.grid.env().failpoints.arm(place, bench.job.below(6));
            // The disk forgets while nothing of the lost execution runs any more and the next one
            // has not begun: the job is suspended as soon as it can be.
            for _ in 0..5_000 {
                if !bench.job.grid.env().failpoints.is_armed() && bench.jobs.suspend(NAME).is_ok() {
                    bench.job.disk.crash();
                    break;
                }
                if bench.job.record().status == JobStatus::Completed {
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
            bench.complete(&what);
            bench.assert_each_id(1, &what);
        }
    }
}

#[test]
fn what_a_suspended_job_has_written_is_published() {
    let bench = Bench::new(5);
    bench.create("exactlyOnce");
    bench.wait(30);
    bench.jobs.suspend(NAME).unwrap();
    assert_eq!(bench.hidden(), Vec::<String>::new());
    bench.job.assert_cut(&bench.job.in_files(), "suspended");
}

#[test]
fn leftovers_go_when_the_next_execution_starts() {
    let bench = Bench::new(3);
    // Nobody else's hidden files are touched.
    let other = ".tidewater-0-1-2-3-4.tmp";
    bench.job.disk.create(&Path::new(FOLDER).join(other)).unwrap();
    for _ in 0..2 {
        bench.create("exactlyOnce");
        for _ in 0..3 {
            bench.wait(20);
            bench.jobs.lose(NAME);
        }
        bench.complete("lost three times");
        assert_eq!(bench.hidden(), [other]);
        bench.jobs.drop_job(NAME).unwrap();
    }
    bench.assert_each_id(2, "two jobs wrote them");
}

#[test]
fn without_a_guarantee_all_rows_of_a_job_that_ends_are_there() {
    for (seed, extension) in [(4, ".csv"), (6, ".parquet")] {
        let bench = Bench::new(seed);
        bench.create("none");
        bench.complete("plain");
        bench.assert_each_id(1, "plain");
        let names = bench.job.file_names();
        let is_one = |name: &String| name.starts_with("p-") && name.ends_with(extension);
        assert!(names.iter().all(is_one), "{names:?}");
        assert!(names.len() > 10, "it begins another at 1024 bytes: {names:?}");
    }
}

#[test]
fn at_least_once_loses_no_row() {
    for seed in 0..3 {
        let bench = Bench::new(seed);
        bench.create("atLeastOnce");
        for _ in 0..3 {
            bench.wait(30);
            bench.jobs.lose(NAME);
        }
        bench.complete("lost three times");
        let ids: BTreeSet<i64> = bench.job.in_files().into_iter().collect();
        assert_eq!(ids.len() as i64, IDS);
    }
}
