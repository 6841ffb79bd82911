//! `Engine`: the workers of a member. It starts executions and stops them all when it is closed.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_utils::sync::{Parker, Unparker};
use parking_lot::{Condvar, Mutex};
use storage::{Grid, cluster::control::JobError, env::Rng, metrics::Metric, table::JobWriters};

use super::{
    EdgeStats, ExecutionEnd, VertexStats,
    member_plan::{MemberPlan, Site},
    scheduler::SeededScheduler,
    shared::{Conclusion, Shared, SnapshotAwaited, SnapshotTaken},
    worker::{Intake, Slot, Worker},
};
use crate::{
    Error, Result,
    dag::Dag,
    item::{BarrierKind, SnapshotId},
    job::Guarantee,
    processor::TellTrouble,
    state::VertexStates,
};

/// How long closing waits for the executions to end. A connector may need a while to hang up.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Limits of the engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Cooperative worker threads; at least 1.
    pub worker_count: usize,
    /// Items a queue between two tasklets holds; at least 1. An item is a batch of up to 8192 rows,
    /// so 16 of them are more than a worker takes in one round; tests use 1.
    pub queue_capacity: usize,
    /// Bytes that the state and the queues of one execution may take, if it asks for nothing else.
    pub memory_max: usize,
}

/// Default of [`EngineConfig::memory_max`]: state of about ten million groups; a runaway job ends
/// before it takes a small machine with it.
pub const MEMORY_MAX_DEFAULT: usize = 2 << 30;

/// The workers of a member; runs executions. Dropping it cancels all of them and waits.
pub struct Engine {
    config: EngineConfig,
    grid: Arc<Grid>,
    intakes: Vec<Arc<Intake>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    conclusion: Conclusion,
    execution_ids: AtomicU64,
    running: Arc<Running>,
}

/// The executions that have not ended.
struct Running {
    executions: Mutex<HashMap<u64, Weak<Shared>>>,
    /// Notified when one has ended.
    ended: Condvar,
    /// Whether the engine was closed: nothing is started any more. Written under `executions`.
    is_closed: AtomicBool,
    metrics: ExecutionMetrics,
}

/// What operators see of the engine as a whole.
struct ExecutionMetrics {
    running: Metric,
    started: Metric,
    failed: Metric,
}

/// What to run.
pub struct ExecutionRequest {
    /// The dag.
    pub dag: Dag,
    /// Job or query id.
    pub job_id: u64,
    /// Job name, or `query`.
    pub job_name: Arc<str>,
    /// State saved by a terminal barrier of an earlier execution of the same SQL, by vertex name.
    pub restore: VertexStates,
    /// Called, from a worker, when trouble of a source or sink begins or is over.
    pub trouble: TellTrouble,
    /// Called once, off the workers, when the execution has ended and freed everything. Not called
    /// if [`Engine::run`] refuses.
    pub finished: Box<dyn FnOnce(ExecutionEnd) + Send>,
    /// Distance of light epoch barriers; `None` (most dags) runs none.
    pub epoch_interval: Option<Duration>,
    /// Bytes its state and queues may take; `None` is the engine's default.
    pub memory_max: Option<usize>,
    /// How snapshots are taken; `None` if none ever is.
    pub snapshots: Option<Snapshots>,
}

/// How the snapshots of an execution are taken.
#[derive(Clone)]
pub struct Snapshots {
    /// What they are taken for: with `atLeastOnce` an instance does not wait for all its inputs to
    /// reach the barrier.
    pub guarantee: Guarantee,
    /// The newest snapshot that was given up: what it made permanent comes again. 0 for none.
    pub forsaken: SnapshotId,
    /// Told of each that was taken.
    pub taken: SnapshotTaken,
    /// Told that nothing is left to do but a snapshot: sinks have completed and wait for one.
    pub awaited: SnapshotAwaited,
    /// What table sinks write through, if it is not permanent at once.
    pub writers: Option<Arc<JobWriters>>,
}

impl Snapshots {
    /// Whether an instance waits for all its inputs to reach a barrier.
    pub(super) fn is_aligned(&self) -> bool {
        self.guarantee != Guarantee::AtLeastOnce
    }
}

/// A running execution; dropping it does not stop it.
#[derive(Clone)]
pub struct Execution {
    shared: Arc<Shared>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { worker_count: cores, queue_capacity: 16, memory_max: MEMORY_MAX_DEFAULT }
    }
}

impl Engine {
    /// Starts the workers.
    pub fn start(config: EngineConfig, grid: Arc<Grid>) -> Result<Arc<Self>> {
        let mut intakes = Vec::new();
        let mut threads = Vec::new();
        for index in 0..config.worker_count {
            let parker = Parker::new();
            let intake = Arc::new(Intake::new(parker.unparker().clone()));
            let clock = Arc::clone(&grid.env().clock);
            let worker = Worker::new(Arc::clone(&intake), parker, clock);
            threads.push(spawn(format!("tw-worker-{index}"), move || worker.run())?);
            intakes.push(intake);
        }
        Self::of(config, grid, intakes, threads, Conclusion::Thread)
    }

    /// An engine without threads, on the simulated env: its tasklets are called by the scheduler, in
    /// an order drawn from `rng`.
    pub fn simulated(
        config: EngineConfig,
        grid: Arc<Grid>,
        rng: Rng,
    ) -> Result<(Arc<Self>, SeededScheduler)> {
        let intake = Arc::new(Intake::new(Parker::new().unparker().clone()));
        let clock = Arc::clone(&grid.env().clock);
        let scheduler = SeededScheduler::new(Arc::clone(&intake), rng, clock);
        let engine = Self::of(config, grid, vec![intake], Vec::new(), Conclusion::Inline)?;
        Ok((engine, scheduler))
    }

    fn of(
        config: EngineConfig,
        grid: Arc<Grid>,
        intakes: Vec<Arc<Intake>>,
        threads: Vec<JoinHandle<()>>,
        conclusion: Conclusion,
    ) -> Result<Arc<Self>> {
        if config.worker_count == 0 || config.queue_capacity == 0 {
            let message = "worker count and queue capacity must be at least 1".to_owned();
            return Err(Error::Invalid { code: "22023", message });
        }
        let metric = |name: &str| grid.metrics().register(name, &[]);
        let running = Running {
            executions: Mutex::default(),
            ended: Condvar::new(),
            is_closed: AtomicBool::new(false),
            metrics: ExecutionMetrics {
                running: metric("tidewater_executions_running"),
                started: metric("tidewater_executions_started_total"),
                failed: metric("tidewater_executions_failed_total"),
            },
        };
        Ok(Arc::new(Self {
            config,
            grid,
            intakes,
            threads: Mutex::new(threads),
            conclusion,
            execution_ids: AtomicU64::new(0),
            running: Arc::new(running),
        }))
    }

    /// The grid the processors work on.
    pub fn grid(&self) -> &Arc<Grid> {
        &self.grid
    }

    /// Number of workers.
    pub fn worker_count(&self) -> usize {
        self.config.worker_count
    }

    /// Validates and starts a dag; the rows flow when this returns. Processors are made,
    /// initialised and restored on the caller's thread.
    pub fn run(&self, mut request: ExecutionRequest) -> Result<Execution> {
        let execution_id = self.execution_ids.fetch_add(1, Ordering::Relaxed);
        let unparkers: Vec<Unparker> =
            self.intakes.iter().map(|intake| intake.unparker.clone()).collect();
        let site = Site {
            grid: &self.grid,
            unparkers,
            worker_count: self.config.worker_count,
            queue_capacity: self.config.queue_capacity,
            memory_max: self.config.memory_max,
            execution_id,
            conclusion: self.conclusion,
        };
        let running = Arc::clone(&self.running);
        let finished = request.finished;
        request.finished = Box::new(move |end| {
            running.remove(execution_id, &end);
            finished(end);
        });
        let plan = MemberPlan::build(request, &site)?;
        let shared = Arc::clone(&plan.shared);
        self.running.add(execution_id, &shared)?;
        self.launch(plan);
        Ok(Execution { shared })
    }

    fn launch(&self, plan: MemberPlan) {
        let mut by_worker: Vec<Vec<Slot>> = self.intakes.iter().map(|_| Vec::new()).collect();
        for (worker, slot) in plan.cooperative {
            by_worker[worker].push(slot);
        }
        for (parker, slot) in plan.blocking {
            if self.conclusion == Conclusion::Inline {
                by_worker[0].push(slot);
                continue;
            }
            let intake = Arc::new(Intake::new(parker.unparker().clone()));
            let name = format!("tw-{}", slot.name);
            intake.add(vec![slot]);
            intake.close();
            let worker =
                Worker::new(Arc::clone(&intake), parker, Arc::clone(&self.grid.env().clock));
            if let Err(error) = spawn(name, move || worker.run()) {
                // The tasklet must end for the execution to: a shared worker does it.
                plan.shared.fail(error);
                by_worker[0].append(&mut intake.slots.lock());
            }
        }
        for (intake, slots) in self.intakes.iter().zip(by_worker) {
            if !slots.is_empty() {
                intake.add(slots);
            }
        }
    }

    /// The trouble that a query's execution survives at present (a broker away, say).
    pub fn query_trouble(&self, query_id: u64) -> Option<JobError> {
        let executions = self.running.executions.lock();
        let executions: Vec<_> = executions.values().filter_map(Weak::upgrade).collect();
        executions.iter().find_map(|shared| {
            let trouble = &shared.trouble;
            let is_its = trouble.is_query && trouble.owner == query_id;
            is_its.then(|| trouble.present.lock().clone()).flatten()
        })
    }

    /// Cancels every execution and waits until they have ended, within a bound.
    pub fn close(&self) {
        self.running.cancel_all();
        for intake in &self.intakes {
            intake.close();
        }
        if self.conclusion == Conclusion::Thread && !self.running.wait_for_end(CLOSE_TIMEOUT) {
            tracing::warn!("executions still running after {CLOSE_TIMEOUT:?}");
            return;
        }
        let this_thread = std::thread::current().id();
        for thread in self.threads.lock().drain(..) {
            if thread.thread().id() != this_thread {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

impl Execution {
    /// Stops as soon as every tasklet has returned; `finished` gets `Cancelled`.
    pub fn cancel(&self) {
        self.shared.cancel();
    }

    /// Ends it with an error as soon as every tasklet has returned; the first error counts.
    pub fn fail(&self, error: Error) {
        self.shared.fail(error);
    }

    /// Sends a terminal barrier from all sources; `finished` gets `Suspended`, or `Completed` if
    /// everything had ended before. What is saved is snapshot `id`, told to [`Snapshots::taken`];
    /// 0 if it is not recorded: then `finished` gets it.
    /// `is_incremental`: it says what has changed since the last one, which was kept. One durable
    /// barrier is asked for at a time.
    pub fn suspend(&self, id: SnapshotId, is_incremental: bool) {
        self.request(BarrierKind::Terminal(id), is_incremental);
    }

    /// Sends the barrier of snapshot `id` from all sources, after those under way; what is saved at
    /// it is told to [`Snapshots::taken`]. Nothing is, if the execution ends before.
    pub fn snapshot(&self, id: SnapshotId, is_incremental: bool) {
        self.request(BarrierKind::Snapshot(id), is_incremental);
    }

    /// Tells the processors that snapshot `id` is good.
    pub fn committed(&self, id: SnapshotId) {
        self.shared.commit(id);
    }

    /// Tells the processors that snapshot `id` will never be good.
    pub fn abandoned(&self, id: SnapshotId) {
        self.shared.abandon(id);
    }

    fn request(&self, kind: BarrierKind, is_incremental: bool) {
        self.shared.set_incremental(is_incremental);
        if self.shared.barriers.request(kind) {
            self.shared.wake_all();
        }
    }

    /// Numbers of its vertices, in dag order.
    pub fn vertex_stats(&self) -> Vec<VertexStats> {
        self.shared.vertices.iter().map(|vertex| vertex.read()).collect()
    }

    /// Numbers of its edges, in dag order.
    pub fn edge_stats(&self) -> Vec<EdgeStats> {
        self.shared.edges.iter().map(|edge| edge.read()).collect()
    }
}

impl Running {
    fn add(&self, id: u64, shared: &Arc<Shared>) -> Result<()> {
        let mut executions = self.executions.lock();
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::Cancelled);
        }
        executions.insert(id, Arc::downgrade(shared));
        self.metrics.started.add(1);
        self.metrics.running.set(executions.len() as i64);
        Ok(())
    }

    fn remove(&self, id: u64, end: &ExecutionEnd) {
        let mut executions = self.executions.lock();
        executions.remove(&id);
        self.metrics.running.set(executions.len() as i64);
        drop(executions);
        if matches!(end, ExecutionEnd::Failed(..)) {
            self.metrics.failed.add(1);
        }
        self.ended.notify_all();
    }

    /// Nothing starts any more, and what runs ends.
    fn cancel_all(&self) {
        let executions = self.executions.lock();
        self.is_closed.store(true, Ordering::Release);
        let all: Vec<_> = executions.values().filter_map(Weak::upgrade).collect();
        drop(executions);
        all.iter().for_each(|shared| shared.cancel());
    }

    fn wait_for_end(&self, timeout: Duration) -> bool {
        let mut executions = self.executions.lock();
        let is_timeout = self
            .ended
            .wait_while_for(&mut executions, |executions| !executions.is_empty(), timeout)
            .timed_out();
        !is_timeout
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name);
    thread.spawn(body).map_err(|error| Error::Limit(format!("could not start a thread: {error}")))
}
