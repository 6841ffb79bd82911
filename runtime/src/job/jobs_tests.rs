//! Jobs on a real engine: statuses as users see them, state kept over a suspend, errors told.

use std::sync::atomic::Ordering;

use arrow::{
    array::{ArrayRef, DictionaryArray, RecordBatch},
    datatypes::Int32Type,
};
use storage::{GridConfig, env::Env};

use super::*;
use crate::{
    dag::{Parallelism, Routing},
    execution::EngineConfig,
    item::Item,
    processor::{Done, Inbox, Outbox, Processor, ProcessorContext},
    state::{KeyedRows, PlacedBy, SectionChange, StateWriter},
    testing::{Collector, FnSupplier, bigint_schema, collector, counting_source},
};

struct Bench {
    grid: Arc<Grid>,
    jobs: Arc<Jobs>,
}

fn bench() -> Bench {
    let grid = Grid::open(GridConfig::default(), Env::real()).unwrap();
    let config = EngineConfig { worker_count: 2, queue_capacity: 4, ..EngineConfig::default() };
    let engine = Engine::start(config, Arc::clone(&grid)).unwrap();
    Bench { jobs: Jobs::open(Arc::clone(&grid), engine), grid }
}

impl Bench {
    fn create(&self, name: &str, dag: Dag) -> Result<ObjectId> {
        self.create_with(name, dag, &[])
    }

    fn create_with(&self, name: &str, dag: Dag, options: &[(&str, &str)]) -> Result<ObjectId> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let request = JobRequest {
            name: name.to_owned(),
            sql: format!("CREATE JOB {name} AS …"),
            options,
            settings: BTreeMap::new(),
        };
        self.jobs.create(request, dag)
    }

    fn record(&self, name: &str) -> Arc<JobRecord> {
        Arc::clone(self.grid.control().state().job(name).expect("it is recorded"))
    }

    #[track_caller]
    fn wait_for(&self, name: &str, status: JobStatus) {
        for _ in 0..30_000 {
            if self.record(name).status == status {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        panic!("it is {:?}", self.record(name));
    }
}

fn counting(end: i64) -> (Dag, Collector) {
    let (sink, collected) = collector();
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Exactly(1), counting_source(end, 3));
    let sink = dag.vertex("sink", Parallelism::Exactly(1), sink);
    dag.edge(source, sink, 0, Routing::Unicast);
    (dag, collected)
}

/// A source that shows trouble, or fails, and then does nothing.
fn grumbling(fails: bool) -> Dag {
    struct Grumble(bool, Option<ProcessorContext>);
    impl Processor for Grumble {
        fn init(&mut self, context: &ProcessorContext) -> Result<()> {
            self.1 = Some(context.clone());
            Ok(())
        }
        fn idle(&mut self, _outbox: &mut Outbox) -> Result<Done> {
            if self.0 {
                let message = "value out of range".to_owned();
                return Err(Error::User { code: "22003", message });
            }
            if let Some(context) = self.1.take() {
                (context.trouble)(Some(JobError::new("08001", "the broker is away")));
            }
            Ok(Done::No)
        }
    }
    let mut dag = Dag::default();
    let source =
        FnSupplier::shared("grumble", bigint_schema(&[]), move |_| Box::new(Grumble(fails, None)));
    dag.vertex("source", Parallelism::Exactly(1), source);
    dag
}

#[test]
fn a_job_is_suspended_resumed_and_restarted_without_losing_or_repeating_rows() {
    let bench = bench();
    let (dag, collected) = counting(i64::MAX);
    let again = dag.clone();
    bench.jobs.set_planner(Arc::new(move |_| Ok(again.clone())));
    let id = bench.create_with("j", dag, &EXACTLY_ONCE).unwrap();
    assert_eq!(bench.record("j").status, JobStatus::Running);
    let grows = || {
        let before = collected.len();
        for _ in 0..30_000 {
            if collected.len() > before + 100 {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        panic!("no rows");
    };
    grows();
    assert_eq!(bench.jobs.stats(id).0.len(), 2);
    bench.jobs.suspend("j").unwrap();
    assert_eq!(bench.record("j").status, JobStatus::Suspended);
    assert!(bench.jobs.stats(id).0.is_empty(), "a suspended job does not run");
    bench.jobs.resume("j").unwrap();
    grows();
    bench.jobs.restart("j").unwrap();
    grows();
    let record = bench.record("j");
    assert_eq!((record.status, record.restarts), (JobStatus::Running, 2));
    bench.jobs.suspend("j").unwrap();
    let count = collected.len();
    let rows = collected.rows();
    assert_eq!(rows.len(), count, "no row was repeated");
    let last = (count - 1).to_string();
    let newest: Vec<_> = collected.batches().into_iter().rev().take(1).collect();
    let newest =
        arrow::util::display::array_value_to_string(newest[0].rows.column(0), newest[0].len() - 1);
    assert_eq!(newest.unwrap(), last, "no row was lost");
    bench.jobs.drop_job("j").unwrap();
    assert!(bench.grid.control().state().job("j").is_none());
}

#[test]
fn a_job_whose_input_ends_is_completed_and_cannot_be_suspended() {
    let bench = bench();
    let (dag, collected) = counting(30);
    bench.create("j", dag).unwrap();
    bench.wait_for("j", JobStatus::Completed);
    assert_eq!(collected.len(), 30);
    let error = bench.jobs.suspend("j").unwrap_err().to_string();
    assert_eq!(error, "job \"j\" is COMPLETED, not RUNNING");
    bench.jobs.drop_job("j").unwrap();
    let error = bench.jobs.drop_job("j").unwrap_err().to_string();
    assert_eq!(error, "job \"j\" does not exist");
}

#[test]
fn a_failure_is_told_with_its_cause_and_is_final() {
    let bench = bench();
    bench.create("j", grumbling(true)).unwrap();
    bench.wait_for("j", JobStatus::Failed);
    let error = JobError::new("22003", "value out of range");
    assert_eq!(bench.record("j").last_error, Some(error));
    let error = bench.jobs.resume("j").unwrap_err().to_string();
    assert_eq!(error, "job \"j\" is FAILED, not SUSPENDED");
}

#[test]
fn trouble_that_passes_is_shown_while_the_job_runs() {
    let bench = bench();
    bench.create("j", grumbling(false)).unwrap();
    for _ in 0..30_000 {
        if bench.record("j").last_error.is_some() {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let record = bench.record("j");
    assert_eq!(record.last_error, Some(JobError::new("08001", "the broker is away")));
    assert_eq!(record.status, JobStatus::Running);
    bench.jobs.close();
    assert_eq!(bench.record("j").status, JobStatus::NotRunning);
}

#[test]
fn a_job_that_cannot_start_is_not_there_and_a_resume_that_cannot_keeps_its_state() {
    let bench = bench();
    let mut broken = counting(10).0;
    broken.edges[0].target_ordinal = 5;
    assert!(bench.create("j", broken).is_err());
    assert!(bench.grid.control().state().job("j").is_none());

    let (dag, collected) = counting(i64::MAX);
    let again = dag.clone();
    let is_planned = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let may_plan = Arc::clone(&is_planned);
    bench.jobs.set_planner(Arc::new(move |_| match may_plan.load(Ordering::SeqCst) {
        true => Ok(again.clone()),
        false => Err(storage::Error::NotFound { kind: "table", name: "t".into() }.into()),
    }));
    bench.create_with("j", dag, &EXACTLY_ONCE).unwrap();
    let error = bench.create("j", counting(1).0).unwrap_err().to_string();
    assert_eq!(error, "job \"j\" already exists");
    bench.jobs.suspend("j").unwrap();
    let count = collected.len();
    let error = bench.jobs.resume("j").unwrap_err().to_string();
    assert_eq!(error, "table \"t\" does not exist");
    let record = bench.record("j");
    assert_eq!(record.status, JobStatus::Suspended);
    let error = JobError::new("42P01", "table \"t\" does not exist");
    assert_eq!(record.last_error, Some(error));
    is_planned.store(true, Ordering::SeqCst);
    bench.jobs.resume("j").unwrap();
    bench.jobs.suspend("j").unwrap();
    assert!(collected.len() >= count);
    assert_eq!(collected.rows().len(), collected.len(), "it went on where it was");
}

/// Counts to 99, through a step that fails at 50 as long as `is_broken`.
fn stumbling(is_broken: &Arc<std::sync::atomic::AtomicBool>) -> (Dag, Collector) {
    struct Stumble(Arc<std::sync::atomic::AtomicBool>);
    impl Processor for Stumble {
        fn process(&mut self, _: usize, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<()> {
            while let Some(batch) = inbox.peek() {
                let rows = crate::testing::ZSet::of(std::slice::from_ref(batch)).to_string();
                if rows.contains("50") && self.0.load(Ordering::SeqCst) {
                    let message = "50 is too much".to_owned();
                    return Err(Error::User { code: "22003", message });
                }
                if outbox.offer(Item::Batch(batch.clone())).is_some() {
                    return Ok(());
                }
                inbox.take();
            }
            Ok(())
        }
    }
    let (sink, collected) = collector();
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Exactly(1), counting_source(100, 1));
    let is_broken = Arc::clone(is_broken);
    let stumble = FnSupplier::shared("stumble", bigint_schema(&["v"]), move |_| {
        Box::new(Stumble(Arc::clone(&is_broken)))
    });
    let stumble = dag.vertex("stumble", Parallelism::Exactly(1), stumble);
    let sink = dag.vertex("sink", Parallelism::Exactly(1), sink);
    dag.edge(source, stumble, 0, Routing::Unicast);
    dag.edge(stumble, sink, 0, Routing::Unicast);
    (dag, collected)
}

#[test]
fn with_suspend_on_failure_a_job_is_suspended_with_its_cause_and_without_a_guarantee_begins_anew() {
    let bench = bench();
    let is_broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (dag, collected) = stumbling(&is_broken);
    let again = dag.clone();
    bench.jobs.set_planner(Arc::new(move |_| Ok(again.clone())));
    bench.create_with("j", dag, &[("suspendOnFailure", "true")]).unwrap();
    bench.wait_for("j", JobStatus::Suspended);
    let error = JobError::new("22003", "50 is too much");
    assert_eq!(bench.record("j").last_error, Some(error));
    is_broken.store(false, Ordering::SeqCst);
    let before = collected.len();
    assert!(before <= 50);
    bench.jobs.resume("j").unwrap();
    bench.wait_for("j", JobStatus::Completed);
    assert_eq!(bench.record("j").last_error, None);
    assert_eq!(collected.len(), before + 100);
    assert_eq!(collected.rows().len(), 100, "every row, some of them twice");
}

#[test]
fn options_that_nobody_knows_leave_no_job() {
    let bench = bench();
    let error = bench.create_with("j", counting(1).0, &[("maxmemory", "1 GB")]).unwrap_err();
    assert!(matches!(error, Error::Invalid { code: "42601", .. }), "{error:?}");
    assert!(bench.grid.control().state().job("j").is_none());
}

#[test]
fn a_job_that_needs_more_than_its_memory_is_suspended_and_goes_on_with_more() {
    let bench = bench();
    let (dag, collected) = counting(1000);
    let again = dag.clone();
    bench.jobs.set_planner(Arc::new(move |_| Ok(again.clone())));
    bench.create_with("j", dag, &[("maxMemory", "1 B")]).unwrap();
    bench.wait_for("j", JobStatus::Suspended);
    let error = bench.record("j").last_error.clone().unwrap();
    assert_eq!(error.code, "53200");
    let error = error.message;
    assert!(error.starts_with("job \"j\" needs ") && error.contains("may have 1 bytes"), "{error}");
    let changes = BTreeMap::from([("maxMemory".to_owned(), "1 MB".to_owned())]);
    bench.jobs.alter("j", changes).unwrap();
    bench.jobs.resume("j").unwrap();
    bench.wait_for("j", JobStatus::Completed);
    assert_eq!(bench.record("j").last_error, None);
    assert!(collected.rows().to_string().contains("999"), "it went on");
}

const EXACTLY_ONCE: [(&str, &str); 2] =
    [("processingGuarantee", "exactlyOnce"), ("snapshotIntervalMillis", "10")];

#[test]
fn a_job_with_a_guarantee_takes_snapshots_and_goes_on_from_the_newest_when_it_is_lost() {
    let bench = bench();
    let (dag, collected) = counting(i64::MAX);
    let again = dag.clone();
    bench.jobs.set_planner(Arc::new(move |_| Ok(again.clone())));
    bench.create_with("j", dag, &EXACTLY_ONCE).unwrap();
    let snapshots = |count: u64| {
        let before = bench.record("j").snapshots.newest().map_or(0, |newest| newest.id);
        for _ in 0..30_000 {
            let record = bench.record("j");
            if record.snapshots.newest().is_some_and(|newest| newest.id >= before + count) {
                return record;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        panic!("no snapshots: {:?}", bench.record("j"));
    };
    let record = snapshots(3);
    assert_eq!(record.snapshots.good.len(), 2, "two are kept");
    let newest = record.snapshots.newest().unwrap();
    assert!(newest.chunks > 0 && newest.bytes > 0, "{newest:?}");

    bench.jobs.lose("j");
    let record = snapshots(2);
    assert_eq!((record.status, record.restarts), (JobStatus::Running, 1));
    assert_eq!(record.snapshots.execution_last, 2);
    bench.jobs.suspend("j").unwrap();
    let suspended_at = bench.record("j").snapshots.newest().unwrap().id;
    let rows = collected.batches();
    bench.jobs.resume("j").unwrap();
    let record = snapshots(1);
    assert!(record.snapshots.newest().unwrap().id > suspended_at);
    bench.jobs.drop_job("j").unwrap();
    // The collector is no sink that takes anything back, so rows repeat after the loss, but in
    // one execution they never jump, and a suspend loses and repeats none.
    let values = |batches: &[crate::delta::DeltaBatch]| -> Vec<i64> {
        let column = |batch: &crate::delta::DeltaBatch| {
            let column = batch.rows.column(0).as_any().downcast_ref::<arrow::array::Int64Array>();
            column.unwrap().values().to_vec()
        };
        batches.iter().flat_map(column).collect()
    };
    let all = values(&collected.batches());
    let jumps: Vec<_> = all.windows(2).filter(|pair| pair[1] != pair[0] + 1).collect();
    assert!(jumps.len() <= 1 && jumps.iter().all(|pair| pair[1] <= pair[0]), "{jumps:?}");
    assert!(all.len() > values(&rows).len());
}

/// A suspended job, two of whose snapshots are good, and whose sink keeps nothing back.
fn suspended_with_two_snapshots(bench: &Bench) -> Arc<JobRecord> {
    let (dag, _) = counting(i64::MAX);
    let again = dag.clone();
    bench.jobs.set_planner(Arc::new(move |_| Ok(again.clone())));
    bench.create_with("j", dag, &EXACTLY_ONCE).unwrap();
    for _ in 0..30_000 {
        if bench.record("j").snapshots.newest().is_some() {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    bench.jobs.suspend("j").unwrap();
    let record = bench.record("j");
    assert_eq!(record.snapshots.good.len(), 2, "{record:?}");
    record
}

#[test]
fn an_older_snapshot_does_while_nothing_newer_is_permanent() {
    let bench = bench();
    let record = suspended_with_two_snapshots(&bench);
    let newest = record.snapshots.newest().unwrap();
    assert!(!newest.commits && bench.grid.snapshots().damage(record.id, newest.id, 0, true));
    bench.jobs.resume("j").unwrap();
    bench.wait_for("j", JobStatus::Running);
}

#[test]
fn a_job_without_a_whole_snapshot_stays_suspended_and_names_what_is_damaged() {
    let bench = bench();
    let record = suspended_with_two_snapshots(&bench);
    for snapshot in &record.snapshots.good {
        assert!(bench.grid.snapshots().damage(record.id, snapshot.id, 0, true));
    }
    let error = bench.jobs.resume("j").unwrap_err().to_string();
    let newest = record.snapshots.newest().unwrap().id;
    let named = format!("snapshot {newest} of job \"j\": chunk ");
    assert!(error.starts_with(&named) && error.contains("vertex \"source\""), "{error}");
    let record = bench.record("j");
    assert_eq!(record.status, JobStatus::Suspended);
    let told = record.last_error.as_ref().map(|error| (&*error.code, &*error.message));
    assert_eq!(told, Some(("XX001", &*error)));
}

#[test]
fn who_accepts_repeats_for_nothing_goes_on_as_without() {
    let bench = bench();
    let before = suspended_with_two_snapshots(&bench);
    assert_eq!(bench.jobs.resume_accepting_repeats("j").unwrap(), Fallback::NotNeeded);
    let error = bench.jobs.resume_accepting_repeats("j").unwrap_err().to_string();
    assert_eq!(error, "job \"j\" is RUNNING, not SUSPENDED");
    let snapshots = &bench.record("j").snapshots;
    assert_eq!(snapshots.forsaken, 0);
    assert!(snapshots.newest().unwrap().id >= before.snapshots.newest().unwrap().id);
}

#[test]
fn processors_are_told_of_good_snapshots_after_they_have_saved_for_them() {
    #[derive(Default)]
    struct Told {
        saved: Vec<u64>,
        committed: Vec<u64>,
    }
    struct Sink(Arc<Mutex<Told>>);
    impl Processor for Sink {
        fn process(&mut self, _: usize, inbox: &mut Inbox, _: &mut Outbox) -> Result<()> {
            inbox.clear();
            Ok(())
        }
        fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
            self.0.lock().saved.push(state.snapshot);
            Ok(Done::Yes)
        }
        fn committed(&mut self, id: u64) -> Result<Done> {
            let mut told = self.0.lock();
            assert!(told.saved.contains(&id), "{id} is not among {:?}", told.saved);
            told.committed.push(id);
            Ok(Done::Yes)
        }
    }
    let bench = bench();
    let told = Arc::<Mutex<Told>>::default();
    let sink = Arc::clone(&told);
    let sink =
        FnSupplier::shared("sink", bigint_schema(&[]), move |_| Box::new(Sink(Arc::clone(&sink))));
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Exactly(1), counting_source(i64::MAX, 3));
    let sink = dag.vertex("sink", Parallelism::Exactly(1), sink);
    dag.edge(source, sink, 0, Routing::Unicast);
    bench.create_with("j", dag, &EXACTLY_ONCE).unwrap();
    for _ in 0..30_000 {
        if told.lock().committed.len() >= 3 {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    bench.jobs.drop_job("j").unwrap();
    let told = told.lock();
    assert!(told.committed.len() >= 3 && told.committed.is_sorted_by(|a, b| a < b));
}

#[test]
fn a_last_snapshot_that_fails_is_told_and_the_job_goes_on_from_the_one_before() {
    struct Sink(Arc<std::sync::atomic::AtomicBool>);
    impl Processor for Sink {
        fn process(&mut self, _: usize, inbox: &mut Inbox, _: &mut Outbox) -> Result<()> {
            inbox.clear();
            Ok(())
        }
        fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
            if self.0.load(Ordering::SeqCst) {
                // More rows than stay together, of a type that no partition is known for.
                let keys: DictionaryArray<Int32Type> = std::iter::repeat_n("k", 300_000).collect();
                let keys: ArrayRef = Arc::new(keys);
                let rows = RecordBatch::try_from_iter([("k", keys)]).unwrap();
                let placed_by = PlacedBy::Keys(0..1);
                state.change(SectionChange::Replace((0, 0), KeyedRows { rows, placed_by }));
            }
            Ok(Done::Yes)
        }
    }
    let bench = bench();
    let is_broken = Arc::<std::sync::atomic::AtomicBool>::default();
    let broken = Arc::clone(&is_broken);
    let sink = FnSupplier::shared("sink", bigint_schema(&[]), move |_| {
        Box::new(Sink(Arc::clone(&broken)))
    });
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Exactly(1), counting_source(i64::MAX, 3));
    let sink = dag.vertex("sink", Parallelism::Exactly(1), sink);
    dag.edge(source, sink, 0, Routing::Unicast);
    let again = dag.clone();
    bench.jobs.set_planner(Arc::new(move |_| Ok(again.clone())));
    bench.create_with("j", dag, &EXACTLY_ONCE).unwrap();
    let newest = || bench.record("j").snapshots.newest().map(|newest| newest.id);
    for _ in 0..30_000 {
        if newest().is_some() {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    is_broken.store(true, Ordering::SeqCst);
    let export = ExportName { name: "e".to_owned(), replace: false };
    let error = bench.jobs.export("j", export.clone()).unwrap_err().to_string();
    assert!(error.starts_with("the snapshot of job \"j\" failed: "), "{error}");
    let error = bench.jobs.drop_exported("j", export.clone()).unwrap_err().to_string();
    let before = newest().expect("it has one");
    let text =
        format!("the last snapshot of job \"j\" failed, so it goes on from snapshot {before}: ");
    assert!(error.starts_with(&text), "{error}");
    let record = bench.record("j");
    assert_eq!(record.status, JobStatus::Suspended, "it was not dropped");
    assert_eq!(record.last_error, Some(JobError::new("55000", error)));

    is_broken.store(false, Ordering::SeqCst);
    bench.jobs.resume("j").unwrap();
    let record = bench.record("j");
    assert_eq!((record.status, &record.last_error), (JobStatus::Running, &None));
    is_broken.store(true, Ordering::SeqCst);
    bench.jobs.suspend("j").unwrap();
    let told = bench.record("j").last_error.clone().map(|error| error.message);
    assert!(told.is_some_and(|told| told.starts_with("the last snapshot of job \"j\" failed")));
    assert!(bench.grid.control().state().exports.is_empty());
}
