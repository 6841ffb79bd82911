//! `Jobs`: the shell around the job coordinators. It plans, starts and stops executions, submits
//! statuses to the control log and keeps, in memory, what a suspended job without a guarantee saved.
//! A job with a guarantee goes on from its newest good snapshot, whatever ended the last execution.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex, RwLock};
use storage::{
    Grid,
    cluster::control::{
        Command, JobError, JobRecord, JobSnapshots, JobStatus, ObjectId, SnapshotCommand,
    },
    snapshot::SnapshotChunk,
};

use super::{
    backstage::{Backstage, Tell, Threads},
    coordinator::{Action, End, Event, JobCoordinator, Request, Ticket},
    options::{Guarantee, JobOptions},
    snapshot_thread::{ExecutionWriters, Message, SnapshotThread, Subject, settle_writers},
};
use crate::{
    Error, Result,
    dag::Dag,
    execution::{
        EdgeStats, Engine, Execution, ExecutionEnd, ExecutionRequest, Snapshots, VertexStats,
    },
    state::{StateChunk, VertexStates, chunks_of, unmixed},
};

/// How long SUSPEND, RESTART and DROP wait; a source has at most 100 ms to notice, a connector a
/// few seconds to hang up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a shutdown waits for each job.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Plans a job's SQL again; given by the planner when the jobs are opened.
pub type PlanJob = Arc<dyn Fn(&JobRecord) -> Result<Dag> + Send + Sync>;

/// All jobs of the cluster.
pub struct Jobs {
    site: Arc<Site>,
    /// Jobs that were not dropped, by id.
    jobs: Mutex<HashMap<ObjectId, Arc<Job>>>,
}

/// What `CREATE JOB` asks for.
#[derive(Debug, Clone)]
pub struct JobRequest {
    /// Name.
    pub name: String,
    /// The whole statement.
    pub sql: String,
    /// OPTIONS as written; those that [`JobOptions::read`] refuses, [`Jobs::create`] refuses.
    pub options: BTreeMap<String, String>,
    /// Session settings to plan it under again.
    pub settings: BTreeMap<String, String>,
}

/// What every job needs.
pub(super) struct Site {
    pub(super) grid: Arc<Grid>,
    engine: Arc<Engine>,
    planner: RwLock<Option<PlanJob>>,
    pub(super) backstage: Box<dyn Backstage>,
    tickets: AtomicU64,
}

/// One job's shell.
struct Job {
    id: ObjectId,
    name: Arc<str>,
    site: Arc<Site>,
    options: JobOptions,
    state: Mutex<State>,
    /// Notified when an answer is there or an execution has ended.
    changed: Condvar,
    /// The trouble the execution survives at present. Held while it is submitted, so that the
    /// record shows the newest.
    trouble: Mutex<Option<JobError>>,
}

struct State {
    coordinator: JobCoordinator,
    /// The dag given at creation, until the first start.
    dag: Option<Dag>,
    /// The present execution and its number.
    execution: Option<(u64, Execution)>,
    /// Takes its snapshots, if it has a guarantee.
    snapshots: Option<Tell>,
    /// What the last execution wrote through, with guarantee `exactlyOnce`.
    writers: Option<ExecutionWriters>,
    /// What the last suspended execution saved, without a guarantee.
    kept: VertexStates,
    answers: HashMap<Ticket, Result<()>>,
    is_forgotten: bool,
}

impl Jobs {
    /// Opens the jobs of a grid on an engine.
    pub fn open(grid: Arc<Grid>, engine: Arc<Engine>) -> Arc<Self> {
        Self::open_on(Box::new(Threads), grid, engine)
    }

    fn open_on(backstage: Box<dyn Backstage>, grid: Arc<Grid>, engine: Arc<Engine>) -> Arc<Self> {
        let (planner, tickets) = (RwLock::new(None), AtomicU64::new(1));
        let site = Arc::new(Site { grid, engine, planner, backstage, tickets });
        Arc::new(Self { site, jobs: Mutex::default() })
    }

    /// Sets how SQL becomes a dag; called once at start, before the first create.
    pub fn set_planner(&self, plan: PlanJob) {
        *self.site.planner.write() = Some(plan);
    }

    /// Creates a job and starts `dag`; AlreadyExists if the name is taken. If it cannot be started
    /// the job is not there afterwards.
    pub fn create(&self, request: JobRequest, dag: Dag) -> Result<ObjectId> {
        let options = JobOptions::read(&request.options)?;
        let control = self.site.grid.control();
        let name: Arc<str> = request.name.as_str().into();
        let id = control.submit(&Command::CreateJob(JobRecord {
            id: ObjectId(0),
            name: request.name.clone(),
            sql: request.sql,
            options: request.options,
            settings: request.settings,
            status: JobStatus::NotRunning,
            created_at: self.site.now(),
            started_at: None,
            restarts: 0,
            last_error: None,
            snapshot_table: ObjectId(0),
            snapshots: JobSnapshots::default(),
        }))?;
        let state = State {
            coordinator: JobCoordinator::new(request.name, options.suspends_on_failure),
            dag: Some(dag),
            execution: None,
            snapshots: None,
            writers: None,
            kept: Vec::new(),
            answers: HashMap::new(),
            is_forgotten: false,
        };
        let site = Arc::clone(&self.site);
        let state = Mutex::new(state);
        let job = Arc::new(Job {
            id,
            name,
            site,
            options,
            state,
            changed: Condvar::new(),
            trouble: Mutex::default(),
        });
        self.jobs.lock().insert(id, Arc::clone(&job));
        let outcome = job.ask("start", Event::Created);
        self.tidy(&job);
        outcome.map(|()| id)
    }

    /// Stops a running job with its state kept in memory; WrongState unless it runs. Returns when
    /// it is SUSPENDED.
    pub fn suspend(&self, name: &str) -> Result<()> {
        self.request(name, "suspend", Request::Suspend)
    }

    /// Starts a suspended job from its kept state; a FAILED job is not resumed (WrongState). If it
    /// cannot be started it stays SUSPENDED, its state kept. After a failure (`suspendOnFailure`)
    /// that is what each processor held when it ended: rows that were on their way between two of
    /// them are lost, and a window that was going out goes out again (guarantee `none`).
    pub fn resume(&self, name: &str) -> Result<()> {
        self.request(name, "resume", Request::Resume)
    }

    /// Suspends and resumes.
    pub fn restart(&self, name: &str) -> Result<()> {
        self.request(name, "restart", Request::Restart)
    }

    /// Cancels whatever runs and forgets the job. Returns when nothing of it runs any more.
    pub fn drop_job(&self, name: &str) -> Result<()> {
        self.request(name, "stop", Request::Drop)
    }

    /// Loses the execution of a running job, as the loss of a member would; whether there was one.
    pub fn lose(&self, name: &str) -> bool {
        let Some(id) = self.site.grid.control().state().job(name).map(|job| job.id) else {
            return false;
        };
        let job = self.jobs.lock().get(&id).map(Arc::clone);
        let execution = job.and_then(|job| job.state.lock().execution.clone());
        let Some((_, execution)) = execution else { return false };
        execution.fail(Error::Lost("it was given up".to_owned()));
        true
    }

    /// Numbers of the running execution of a job; empty if it does not run.
    pub fn stats(&self, id: ObjectId) -> (Vec<VertexStats>, Vec<EdgeStats>) {
        let Some(job) = self.jobs.lock().get(&id).map(Arc::clone) else {
            return Default::default();
        };
        let execution = job.state.lock().execution.clone();
        let Some((_, execution)) = execution else { return Default::default() };
        (execution.vertex_stats(), execution.edge_stats())
    }

    /// The trouble that a streaming query survives at present.
    pub fn query_trouble(&self, query_id: u64) -> Option<JobError> {
        self.site.engine.query_trouble(query_id)
    }

    /// Cancels all executions and waits for them: the shutdown.
    pub fn close(&self) {
        let jobs: Vec<_> = self.jobs.lock().values().map(Arc::clone).collect();
        for job in &jobs {
            job.handle(Event::Closed);
        }
        for job in &jobs {
            let mut state = job.state.lock();
            let runs = |state: &mut State| state.coordinator.execution().is_some();
            if job.changed.wait_while_for(&mut state, runs, CLOSE_TIMEOUT).timed_out() {
                tracing::warn!(job = %job.name, "job still runs after {CLOSE_TIMEOUT:?}");
            }
        }
    }

    fn request(&self, name: &str, verb: &str, request: Request) -> Result<()> {
        let missing = || storage::Error::NotFound { kind: "job", name: name.to_owned() };
        let id = self.site.grid.control().state().job(name).ok_or_else(missing)?.id;
        let job = self.jobs.lock().get(&id).map(Arc::clone).ok_or_else(missing)?;
        let outcome = job.ask(verb, |ticket| Event::Requested(ticket, request));
        self.tidy(&job);
        outcome
    }

    /// Lets go of a job that was forgotten.
    fn tidy(&self, job: &Job) {
        if job.state.lock().is_forgotten {
            self.jobs.lock().remove(&job.id);
            self.site.grid.metrics().forget("job", &job.name);
        }
    }
}

impl Site {
    pub(super) fn now(&self) -> i64 {
        self.grid.env().clock.now_micros()
    }

    fn submit(&self, job: &str, command: &Command) {
        if let Err(error) = self.grid.control().submit(command) {
            // Only a job that was dropped meanwhile may refuse.
            tracing::warn!(job, %error, "job command refused");
        }
    }
}

impl Job {
    /// Sends a request and waits for its answer.
    fn ask(self: &Arc<Self>, verb: &str, event: impl FnOnce(Ticket) -> Event) -> Result<()> {
        let ticket = self.site.tickets.fetch_add(1, Ordering::Relaxed);
        self.handle(event(ticket));
        let mut state = self.state.lock();
        let waits = |state: &mut State| !state.answers.contains_key(&ticket);
        self.changed.wait_while_for(&mut state, waits, ANSWER_TIMEOUT);
        state.answers.remove(&ticket).unwrap_or_else(|| {
            let text = format!(
                "job \"{}\" did not {verb} within {} s; it goes on trying",
                self.name,
                ANSWER_TIMEOUT.as_secs()
            );
            Err(storage::Error::WrongState(text).into())
        })
    }

    /// Takes an event and does what follows from it, starts included, on this thread.
    fn handle(self: &Arc<Self>, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next {
            next = self.step(event).map(|execution| self.start(execution));
        }
    }

    /// Takes an event and does all that is quick; the execution to start, if any.
    fn step(&self, event: Event) -> Option<u64> {
        let mut state = self.state.lock();
        let mut to_start = None;
        for action in state.coordinator.step(event) {
            match action {
                Action::SetStatus(status, error) => self.set_status(status, error),
                Action::Start(execution) => to_start = Some(execution),
                Action::Suspend(number) => match (&state.snapshots, state.of(number)) {
                    (Some(tell), _) => tell(Message::Stop),
                    (None, execution) => {
                        execution.into_iter().for_each(|one| one.suspend(0, false))
                    }
                },
                Action::Cancel(number) => {
                    state.of(number).into_iter().for_each(Execution::cancel);
                }
                Action::Forget => {
                    self.site.submit(&self.name, &Command::DropJob(self.id));
                    state.kept.clear();
                    state.is_forgotten = true;
                }
                Action::Answer(ticket, answer) => drop(state.answers.insert(ticket, answer)),
            }
        }
        let present = state.coordinator.execution();
        if state.execution.as_ref().is_some_and(|(number, _)| Some(*number) != present) {
            state.execution = None;
            state.snapshots = None;
        }
        drop(state);
        self.changed.notify_all();
        to_start
    }

    fn set_status(&self, status: JobStatus, error: Option<JobError>) {
        let (id, at) = (self.id, self.site.now());
        let trouble = self.trouble.lock();
        self.site.submit(&self.name, &Command::SetJobStatus { id, status, at, error });
        tracing::info!(job = %self.name, status = status.word(), "job status");
        if status == JobStatus::Running && trouble.is_some() {
            // Going RUNNING clears the record of what went before; this trouble is younger.
            let error = trouble.clone();
            self.site.submit(&self.name, &Command::SetJobError { id, error });
        }
    }

    fn set_trouble(&self, error: Option<JobError>) {
        let mut trouble = self.trouble.lock();
        if *trouble == error {
            return;
        }
        trouble.clone_from(&error);
        self.site.submit(&self.name, &Command::SetJobError { id: self.id, error });
    }

    /// Plans and runs; the event that came of it.
    fn start(self: &Arc<Self>, number: u64) -> Event {
        *self.trouble.lock() = None;
        let launched = match self.options.guarantee {
            Guarantee::None => self.launch(number),
            _ => self.launch_from_snapshot(number),
        };
        match launched {
            Ok(()) => Event::Started(number),
            Err(error) => Event::StartFailed(number, error),
        }
    }

    fn launch(self: &Arc<Self>, number: u64) -> Result<()> {
        let dag = self.dag()?;
        let restore = self.state.lock().kept.clone();
        let ended = Arc::clone(self);
        let finished = Box::new(move |end| ended.finished(number, end));
        let execution = self.site.engine.run(self.request(dag, restore, finished, None))?;
        let mut state = self.state.lock();
        state.execution = Some((number, execution));
        state.kept.clear();
        Ok(())
    }

    /// Goes on from the newest good snapshot, if there is one.
    fn launch_from_snapshot(self: &Arc<Self>, number: u64) -> Result<()> {
        let dag = self.dag()?;
        self.lost_at("start.settle")?;
        let old = self.state.lock().writers.clone();
        if let Some(old) = old {
            settle_writers(&old, &*self.record()?)?;
        }
        self.lost_at("start.execution")?;
        let record = self.start_execution()?;
        self.lost_at("start.read")?;
        let restore = self.newest_snapshot(&record)?;
        let is_exact = self.options.guarantee == Guarantee::ExactlyOnce;
        let writers = is_exact.then(|| ExecutionWriters {
            execution: record.snapshots.execution_last,
            writers: self.site.grid.job_writers(&self.name),
            is_settled: Arc::default(),
        });
        self.state.lock().writers.clone_from(&writers);
        let commits = dag.vertices.iter().any(|vertex| vertex.supplier.commits());
        let ended = Arc::clone(self);
        let subject = Subject {
            site: Arc::clone(&self.site),
            job: record,
            interval: self.options.snapshot_interval,
            writers: writers.clone(),
            commits: is_exact && commits,
        };
        let settled = Box::new(move |end| ended.ended(number, end));
        let tell = SnapshotThread::start(subject, settled)?;
        let [to_end, to_take, to_await] = [(); 3].map(|()| Arc::clone(&tell));
        let finished = Box::new(move |end| to_end(Message::Ended(end)));
        let policy = Snapshots {
            is_aligned: is_exact,
            taken: Arc::new(move |id, states| to_take(Message::Taken(id, states))),
            awaited: Arc::new(move || to_await(Message::Awaited)),
            writers: writers.map(|of_execution| of_execution.writers),
        };
        let request = self.request(dag, restore, finished, Some(policy));
        self.lost_at("start.run")?;
        let execution = self.site.engine.run(request)?;
        let mut state = self.state.lock();
        state.execution = Some((number, execution.clone()));
        // Nobody listens any more if it has already ended.
        tell(Message::Started(execution));
        state.snapshots = Some(tell);
        Ok(())
    }

    fn lost_at(&self, place: &'static str) -> Result<()> {
        match self.site.grid.env().failpoints.hit(place) {
            true => Err(Error::Lost(place.to_owned())),
            false => Ok(()),
        }
    }

    /// The record in which the next execution has its number.
    fn start_execution(&self) -> Result<Arc<JobRecord>> {
        let control = self.site.grid.control();
        control.submit(&Command::Snapshot(self.id, SnapshotCommand::StartExecution))?;
        self.record()
    }

    /// The newest good snapshot that is whole. An older one does only while nothing newer has
    /// become permanent, or when rows may repeat.
    fn newest_snapshot(&self, record: &JobRecord) -> Result<VertexStates> {
        let grid = &self.site.grid;
        let mut damage = None;
        for snapshot in record.snapshots.good.iter().rev() {
            match grid.snapshots().read(grid, record, snapshot) {
                Ok(chunks) => return states_of(chunks, grid.config().partition_count),
                Err(error @ storage::Error::Damaged(_)) => {
                    let is_final = snapshot.commits;
                    let error = damage.get_or_insert(error);
                    if is_final {
                        return Err(error.clone().into());
                    }
                    tracing::warn!(job = %self.name, %error, "an older snapshot is tried");
                }
                Err(error) => return Err(error.into()),
            }
        }
        damage.map_or(Ok(VertexStates::new()), |damage| Err(damage.into()))
    }

    fn record(&self) -> Result<Arc<JobRecord>> {
        let missing = || storage::Error::NotFound { kind: "job", name: self.name.to_string() };
        let record = self.site.grid.control().state().jobs.get(&self.id).map(Arc::clone);
        Ok(record.ok_or_else(missing)?)
    }

    fn dag(&self) -> Result<Dag> {
        if let Some(dag) = self.state.lock().dag.take() {
            return Ok(dag);
        }
        let record = self.record()?;
        let plan = self.site.planner.read().as_ref().map(Arc::clone);
        let plan = plan.ok_or_else(|| Error::Internal("jobs have no planner".to_owned()))?;
        plan(&record)
    }

    fn request(
        self: &Arc<Self>,
        dag: Dag,
        restore: VertexStates,
        finished: Box<dyn FnOnce(ExecutionEnd) + Send>,
        snapshots: Option<Snapshots>,
    ) -> ExecutionRequest {
        let troubled = Arc::clone(self);
        let has_guarantee = snapshots.is_some();
        ExecutionRequest {
            dag,
            job_id: self.id.0,
            job_name: Arc::clone(&self.name),
            restore,
            trouble: Arc::new(move |error| troubled.set_trouble(error)),
            finished,
            epoch_interval: None,
            memory_max: self.options.memory_max,
            // What is left of a failed execution is no cut: a snapshot is.
            saves_on_failure: self.options.suspends_on_failure && !has_guarantee,
            snapshots,
        }
    }

    fn finished(self: &Arc<Self>, number: u64, end: ExecutionEnd) {
        let end = match end {
            ExecutionEnd::Completed => End::Completed,
            ExecutionEnd::Cancelled => End::Cancelled,
            ExecutionEnd::Failed(error, state) => {
                self.state.lock().kept = state;
                End::Failed(error)
            }
            ExecutionEnd::Suspended(saved) => {
                let partition_count = self.site.grid.config().partition_count;
                match chunks_of(saved, partition_count) {
                    Ok(state) => {
                        self.state.lock().kept = state;
                        End::Suspended
                    }
                    Err(error) => End::Failed(error),
                }
            }
        };
        self.ended(number, end);
    }

    /// An execution has ended, and everything about it is settled.
    fn ended(self: &Arc<Self>, number: u64, end: End) {
        let Some(next) = self.step(Event::Ended(number, end)) else { return };
        // A restart. Nobody may be waiting for it any more.
        let job = Arc::clone(self);
        let start = Box::new(move || {
            let event = job.start(next);
            job.handle(event);
        });
        let spawned = self.site.backstage.run(format!("tw-start-{}", self.name), start);
        if let Err(error) = spawned {
            self.handle(Event::StartFailed(next, error));
        }
    }
}

impl State {
    /// The present execution, if it is that one.
    fn of(&self, number: u64) -> Option<&Execution> {
        self.execution.as_ref().filter(|(present, _)| *present == number).map(|(_, one)| one)
    }
}

/// Chunks by vertex, in the order written.
fn states_of(chunks: Vec<SnapshotChunk>, partition_count: u16) -> Result<VertexStates> {
    let mut states = VertexStates::new();
    for SnapshotChunk { vertex, tag, partition, rows } in chunks {
        let chunks = unmixed(StateChunk { partition, tag, rows }, partition_count)?;
        match states.last_mut() {
            Some((last, all)) if *last == vertex => all.extend(chunks),
            _ => states.push((vertex, chunks)),
        }
    }
    Ok(states)
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "test_job.rs"]
mod test_job;

#[cfg(test)]
#[path = "exactly_once_tests.rs"]
mod exactly_once_tests;

#[cfg(test)]
#[path = "simulator_tests.rs"]
mod simulator_tests;
