//! Jobs that an earlier process has left, on real threads: whatever their status, the next process goes
//! on from it. The orderly end of a process is played here; `simulator_tests` kills it at any step.

use std::sync::{
    atomic::{AtomicBool, Ordering},
    mpsc,
};

use storage::{GridConfig, env::Env, table::ReadMode};

use super::{
    exactly_once_tests::{Bench, seeds},
    test_job::NAME,
    *,
};
use crate::{
    dag::{Parallelism, Routing},
    execution::EngineConfig,
    testing::{Collector, collector, counting_source},
};

/// Engine and jobs of the next process on what the last one has left.
fn next_process(grid: &Arc<Grid>, plan: PlanJob) -> Arc<Jobs> {
    let config = EngineConfig { worker_count: 2, queue_capacity: 2, ..EngineConfig::default() };
    let engine = Engine::start(config, Arc::clone(grid)).unwrap();
    let jobs = Jobs::open(Arc::clone(grid), engine);
    jobs.set_planner(plan);
    jobs
}

/// A grid whose control state has job `j` with that status, left by a process that is gone.
fn left(status: JobStatus, options: &[(&str, &str)]) -> (Arc<Grid>, ObjectId) {
    use JobStatus::{
        Completed, Completing, Failed, NotRunning, Running, Starting, Suspended,
        SuspendedExportingSnapshot,
    };
    let grid = Grid::open(GridConfig::default(), Env::real()).unwrap();
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let record = JobRecord {
        id: ObjectId(0),
        name: NAME.to_owned(),
        sql: String::new(),
        options: options.collect(),
        settings: BTreeMap::new(),
        status: NotRunning,
        created_at: grid.env().clock.now_micros(),
        started_at: None,
        restarts: 0,
        last_error: None,
        snapshot_table: ObjectId(0),
        snapshots: JobSnapshots::default(),
    };
    let id = grid.control().submit(&Command::CreateJob(record)).unwrap();
    let way: &[JobStatus] = match status {
        NotRunning => &[],
        Starting => &[Starting],
        Running => &[Starting, Running],
        Suspended => &[Starting, Running, Suspended],
        SuspendedExportingSnapshot => &[Starting, Running, Suspended, status],
        Completing => &[Starting, Running, Completing],
        Completed => &[Starting, Running, Completing, Completed],
        Failed => &[Starting, Running, Failed],
    };
    for &status in way {
        let at = grid.env().clock.now_micros();
        let error = (status == Failed).then(|| JobError::new("22012", "division by zero"));
        grid.control().submit(&Command::SetJobStatus { id, status, at, error }).unwrap();
    }
    (grid, id)
}

fn record(grid: &Grid) -> Arc<JobRecord> {
    Arc::clone(grid.control().state().job(NAME).expect("it is recorded"))
}

#[track_caller]
fn wait_for(grid: &Grid, status: JobStatus) -> Arc<JobRecord> {
    for _ in 0..30_000 {
        if record(grid).status == status {
            return record(grid);
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    panic!("it is {:?}", record(grid));
}

fn endless() -> (Dag, Collector) {
    let (sink, collected) = collector();
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Exactly(1), counting_source(i64::MAX, 3));
    let sink = dag.vertex("sink", Parallelism::Exactly(1), sink);
    dag.edge(source, sink, 0, Routing::Unicast);
    (dag, collected)
}

fn plan_of(dag: Dag) -> PlanJob {
    Arc::new(move |_| Ok(dag.clone()))
}

#[test]
fn each_status_that_a_process_leaves_becomes_what_the_table_says() {
    use JobStatus::{
        Completed, Completing, Failed, NotRunning, Running, Starting, Suspended,
        SuspendedExportingSnapshot,
    };
    let table = [
        (NotRunning, Running, 0),
        (Starting, Running, 1),
        (Running, Running, 1),
        (Suspended, Suspended, 0),
        (SuspendedExportingSnapshot, Suspended, 0),
        (Completing, Completed, 0),
        (Completed, Completed, 0),
        (Failed, Failed, 0),
    ];
    for (before, after, restarts) in table {
        let (grid, _) = left(before, &[("processingGuarantee", "atLeastOnce")]);
        let (dag, collected) = endless();
        let jobs = next_process(&grid, plan_of(dag));
        jobs.adopt().unwrap();
        let record = wait_for(&grid, after);
        assert_eq!(record.restarts, restarts, "{before:?}");
        assert_eq!(record.last_error.is_some(), after == Failed, "{before:?}: {record:?}");
        // It can be asked for what a job of that status can.
        if after == Suspended {
            assert_eq!(collected.len(), 0);
            jobs.resume(NAME).unwrap();
        } else if after == Running {
            jobs.suspend(NAME).unwrap();
        } else {
            assert_eq!(jobs.resume(NAME).unwrap_err().sqlstate(), "55000");
        }
        jobs.drop_job(NAME).unwrap();
        assert!(grid.control().state().jobs.is_empty(), "{before:?}");
        jobs.close();
    }
}

#[test]
fn a_job_whose_text_means_nothing_any_more_is_suspended_with_the_cause() {
    let (grid, _) = left(JobStatus::Running, &[]);
    let is_there = Arc::new(AtomicBool::new(false));
    let (asked, (dag, _collected)) = (Arc::clone(&is_there), endless());
    let plan: PlanJob = Arc::new(move |_| match asked.load(Ordering::Acquire) {
        true => Ok(dag.clone()),
        false => {
            let message = "relation \"trades\" does not exist".to_owned();
            Err(Error::Invalid { code: "42P01", message })
        }
    });
    let jobs = next_process(&grid, plan);
    jobs.adopt().unwrap();
    let suspended = wait_for(&grid, JobStatus::Suspended);
    let cause = suspended.last_error.as_ref().map(|error| error.code.as_str());
    assert_eq!(cause, Some("42P01"));
    is_there.store(true, Ordering::Release);
    jobs.resume(NAME).unwrap();
    assert_eq!(record(&grid).status, JobStatus::Running);
    jobs.close();
}

#[test]
fn jobs_are_there_before_the_first_of_them_has_started() {
    let (grid, id) = left(JobStatus::Running, &[]);
    let (go, waits) = mpsc::channel::<()>();
    let (waits, (dag, _collected)) = (Mutex::new(waits), endless());
    let plan: PlanJob = Arc::new(move |_| {
        waits.lock().recv().expect("somebody says go");
        Ok(dag.clone())
    });
    let jobs = next_process(&grid, plan);
    jobs.adopt().unwrap();
    assert_eq!(record(&grid).status, JobStatus::Starting, "its text is still being planned");
    assert!(jobs.stats(id).0.is_empty());
    go.send(()).unwrap();
    wait_for(&grid, JobStatus::Running);
    jobs.close();
}

#[test]
fn time_goes_on_while_there_is_no_process() {
    let (grid, _) = left(JobStatus::Suspended, &[("timeoutMillis", "1")]);
    std::thread::park_timeout(Duration::from_millis(2));
    let jobs = next_process(&grid, plan_of(endless().0));
    jobs.adopt().unwrap();
    let failed = wait_for(&grid, JobStatus::Failed);
    assert_eq!(failed.last_error.as_ref().map(|error| error.code.as_str()), Some("57014"));
}

#[test]
fn options_that_nobody_knows_are_refused_before_any_job_is_touched() {
    let (grid, _) = left(JobStatus::Running, &[("frobnicate", "1")]);
    let jobs = next_process(&grid, plan_of(endless().0));
    let error = jobs.adopt().unwrap_err();
    let expected = "job \"j\" cannot be taken over: unknown job option \"frobnicate\"";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert_eq!(record(&grid).status, JobStatus::Running);
}

#[test]
fn after_each_shutdown_a_job_runs_again_and_every_id_is_there_once() {
    for seed in 0..2 * seeds() {
        let what = format!("seed {seed}");
        let mut bench = Bench::new(seed);
        bench.create();
        for round in 0..4 {
            for _ in 0..bench.job.below(40) {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            // A suspend that nobody is told of, or none.
            if bench.job.below(3) == 0 {
                let _ = bench.jobs.suspend(NAME);
            }
            bench.jobs.close();
            let left = bench.job.record();
            bench.jobs = next_process(&bench.job.grid, plan_of(bench.job.dag()));
            bench.jobs.adopt().unwrap();
            let what = format!("{what}, round {round}: {left:?}");
            match left.status {
                JobStatus::NotRunning => {
                    let status = bench.job.record().status;
                    assert!(!matches!(status, JobStatus::NotRunning), "{what}");
                }
                JobStatus::Suspended => bench.jobs.resume(NAME).unwrap(),
                JobStatus::Completed => break,
                _ => panic!("{what}"),
            }
            let ids = bench.job.in_table(ReadMode::Durable);
            bench.job.assert_cut(&ids, &what);
        }
        bench.complete(&what);
        bench.job.assert_each_id_once(&what);
    }
}
