//! Jobs on a real engine: statuses as users see them, state kept over a suspend, errors told.

use storage::{GridConfig, env::Env};

use super::*;
use crate::{
    dag::{Parallelism, Routing},
    execution::EngineConfig,
    processor::{Done, Outbox, Processor, ProcessorContext},
    testing::{Collector, FnSupplier, bigint_schema, collector, counting_source},
};

struct Bench {
    grid: Arc<Grid>,
    jobs: Arc<Jobs>,
}

fn bench() -> Bench {
    let grid = Grid::open(GridConfig::default(), Env::real()).unwrap();
    let config = EngineConfig { worker_count: 2, queue_capacity: 4 };
    let engine = Engine::start(config, Arc::clone(&grid)).unwrap();
    Bench { jobs: Jobs::open(Arc::clone(&grid), engine), grid }
}

impl Bench {
    fn create(&self, name: &str, dag: Dag) -> Result<ObjectId> {
        let request = JobRequest {
            name: name.to_owned(),
            sql: format!("CREATE JOB {name} AS …"),
            options: BTreeMap::new(),
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
                (context.trouble)(Some("the broker is away".to_owned()));
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
    let id = bench.create("j", dag).unwrap();
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
    assert_eq!(bench.record("j").last_error.as_deref(), Some("value out of range"));
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
    assert_eq!(record.last_error.as_deref(), Some("the broker is away"));
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
    bench.create("j", dag).unwrap();
    let error = bench.create("j", counting(1).0).unwrap_err().to_string();
    assert_eq!(error, "job \"j\" already exists");
    bench.jobs.suspend("j").unwrap();
    let count = collected.len();
    let error = bench.jobs.resume("j").unwrap_err().to_string();
    assert_eq!(error, "table \"t\" does not exist");
    let record = bench.record("j");
    assert_eq!(record.status, JobStatus::Suspended);
    assert_eq!(record.last_error.as_deref(), Some("table \"t\" does not exist"));
    is_planned.store(true, Ordering::SeqCst);
    bench.jobs.resume("j").unwrap();
    bench.jobs.suspend("j").unwrap();
    assert!(collected.len() >= count);
    assert_eq!(collected.rows().len(), collected.len(), "it went on where it was");
}
