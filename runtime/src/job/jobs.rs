//! `Jobs`: all jobs of the cluster by name, and what users ask of them. Each request is handed to the
//! job's shell and waits for its answer; what becomes of it is decided by the job's coordinator.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use storage::{
    Grid,
    cluster::control::{Command, JobError, JobRecord, JobSnapshots, JobStatus, ObjectId},
};

use super::{
    backstage::{Backstage, Threads},
    events::{Event, Request},
    fallback::Fallback,
    options::{Guarantee, JobOptions},
    shell::{Asked, Job, State},
    timeouts::Timeouts,
};
use crate::{
    Error, Result,
    dag::Dag,
    execution::{EdgeStats, Engine, VertexStats},
    processors::CHANGES_STATE,
};

/// How long a shutdown waits for each job.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Plans a job's SQL again; given by the planner when the jobs are opened.
pub type PlanJob = Arc<dyn Fn(&JobRecord) -> Result<Dag> + Send + Sync>;

/// All jobs of the cluster.
pub struct Jobs {
    site: Arc<Site>,
    /// Jobs that were not dropped, by id.
    jobs: Mutex<HashMap<ObjectId, Arc<Job>>>,
    timeouts: Timeouts,
}

/// What an exported snapshot is to be called.
#[derive(Debug, Clone)]
pub struct ExportName {
    /// Name.
    pub name: String,
    /// Whether it takes the place of one of that name.
    pub replace: bool,
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
    pub(super) engine: Arc<Engine>,
    pub(super) planner: RwLock<Option<PlanJob>>,
    pub(super) backstage: Box<dyn Backstage>,
    pub(super) tickets: AtomicU64,
    /// Held while exported snapshots change, until what was replaced is freed.
    pub(super) exports: Mutex<()>,
}

impl Jobs {
    /// Opens the jobs of a grid on an engine.
    pub fn open(grid: Arc<Grid>, engine: Arc<Engine>) -> Arc<Self> {
        Self::open_on(Box::new(Threads), grid, engine)
    }

    fn open_on(backstage: Box<dyn Backstage>, grid: Arc<Grid>, engine: Arc<Engine>) -> Arc<Self> {
        let (planner, tickets) = (RwLock::new(None), AtomicU64::new(1));
        let (timeouts, exports) = (Timeouts::new(Arc::clone(&grid.env().clock)), Mutex::default());
        let site = Arc::new(Site { grid, engine, planner, backstage, tickets, exports });
        Arc::new(Self { site, jobs: Mutex::default(), timeouts })
    }

    /// Sets how SQL becomes a dag; called once at start, before the first create.
    pub fn set_planner(&self, plan: PlanJob) {
        *self.site.planner.write() = Some(plan);
    }

    /// Takes over the jobs that the control state has and an earlier process has left: those that ran
    /// are started again, each from its newest good snapshot, the others stay what they were. Called
    /// once, after [`Jobs::set_planner`] and before anybody asks for anything; it waits for no start.
    /// Invalid, and nothing is taken over, if a job has options of another version's.
    pub fn adopt(&self) -> Result<()> {
        let state = self.site.grid.control().state();
        let mut adopted = Vec::new();
        for record in state.jobs.values() {
            let options = JobOptions::read(&record.options).map_err(|error| Error::Invalid {
                code: error.sqlstate(),
                message: format!("job \"{}\" cannot be taken over: {error}", record.name),
            })?;
            let job = Job::new(&self.site, (record.id, record.name.clone()), options, None);
            adopted.push((job, record.status));
        }
        for (job, status) in adopted {
            self.jobs.lock().insert(job.id, Arc::clone(&job));
            job.tell(Event::Adopted(status));
            if !status.is_terminal() {
                // It may have come while there was no process.
                self.timeouts.set(&job)?;
            }
        }
        Ok(())
    }

    /// Creates a job and starts `dag`; AlreadyExists if the name is taken. If it cannot be started
    /// the job is not there afterwards.
    pub fn create(&self, request: JobRequest, dag: Dag) -> Result<ObjectId> {
        let options = JobOptions::read(&request.options)?;
        let initial = options.initial_snapshot.as_ref();
        let initial = initial.map(|name| self.site.initial(name, &dag, options.guarantee));
        let initial = initial.transpose()?;
        let snapshots = match (&initial, options.guarantee) {
            (initial, Guarantee::None) => JobSnapshots::for_export(initial.as_deref()),
            (None, _) => JobSnapshots::default(),
            (Some(initial), _) => JobSnapshots::from_export(initial),
        };
        let id = self.site.grid.control().submit(&Command::CreateJob(JobRecord {
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
            snapshots,
        }))?;
        let job = Job::new(&self.site, (id, request.name), options, Some(dag));
        self.jobs.lock().insert(id, Arc::clone(&job));
        let outcome = job.ask("start", Asked::Nothing, Event::Created);
        self.tidy(&job);
        outcome?;
        self.timeouts.set(&job)?;
        Ok(id)
    }

    /// Stops a running job with a last snapshot, or, without a guarantee, where it is and with nothing
    /// kept; WrongState unless it runs. Returns when it is SUSPENDED.
    pub fn suspend(&self, name: &str) -> Result<()> {
        self.request(name, "suspend", Request::Suspend)
    }

    /// Starts a suspended job from its newest snapshot, or, without a guarantee, as it was started
    /// first; a FAILED job is not resumed (WrongState). If it cannot be started it stays SUSPENDED,
    /// its snapshots kept.
    pub fn resume(&self, name: &str) -> Result<()> {
        self.request(name, "resume", Request::Resume)
    }

    /// Starts a suspended job as [`Jobs::resume`] does; if its newest snapshots are damaged, from an
    /// older one, or from none, so that rows it has written come again. From where it goes on.
    pub fn resume_accepting_repeats(&self, name: &str) -> Result<Fallback> {
        let fallback = self.job(name)?.fall_back()?;
        self.resume(name)?;
        Ok(fallback)
    }

    /// Suspends and resumes.
    pub fn restart(&self, name: &str) -> Result<()> {
        self.request(name, "restart", Request::Restart)
    }

    /// Changes options of a suspended job; they are in force when it is resumed. Invalid for one
    /// that makes no sense or cannot be changed, WrongState unless it is SUSPENDED.
    pub fn alter(&self, name: &str, changes: BTreeMap<String, String>) -> Result<()> {
        let job = self.job(name)?;
        JobOptions::altered(&job.record()?.options, &changes)?;
        self.ask(&job, "change its options", Request::Alter, Asked::Options(changes))?;
        self.timeouts.set(&job)
    }

    /// Exports the next snapshot of a running job, or the last one of a suspended or failed one, if it
    /// has a guarantee.
    /// Returns when the exported snapshot is there; nothing is exported if this fails.
    pub fn export(&self, name: &str, export: ExportName) -> Result<()> {
        self.export_of(name, export, Request::Export)
    }

    /// Stops a job with a last snapshot, exports that and forgets the job. If there is no such
    /// snapshot the job is not dropped; it is SUSPENDED, or starts again if it was lost.
    pub fn drop_exported(&self, name: &str, export: ExportName) -> Result<()> {
        self.export_of(name, export, Request::DropExported)
    }

    /// Drops an exported snapshot; NotFound if there is none, WrongState while a job needs it.
    pub fn drop_export(&self, name: &str) -> Result<()> {
        self.site.drop_export(name)
    }

    fn export_of(&self, name: &str, export: ExportName, request: Request) -> Result<()> {
        let job = self.job(name)?;
        // The changes it would go on from are kept for this job alone.
        let operators = job.record()?.snapshots.operators.clone();
        if operators.iter().any(|operator| operator.layout.starts_with(CHANGES_STATE)) {
            let message = format!(
                "a snapshot of job \"{name}\", which reads the changes of a table, is not supported"
            );
            return Err(Error::Invalid { code: "0A000", message });
        }
        let is_taken = self.site.grid.control().state().exports.contains_key(&export.name);
        if is_taken && !export.replace {
            let (kind, name) = ("snapshot", export.name);
            return Err(storage::Error::AlreadyExists { kind, name }.into());
        }
        self.ask(&job, "export a snapshot", request, Asked::Export(export))
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

    /// Cancels all executions and waits for them: the shutdown. Those whose job was to run are NOT_RUNNING
    /// then, for [`Jobs::adopt`] to start them.
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
        self.ask(&self.job(name)?, verb, request, Asked::Nothing)
    }

    fn ask(&self, job: &Arc<Job>, verb: &str, request: Request, asked: Asked) -> Result<()> {
        let outcome = job.ask(verb, asked, |ticket| Event::Requested(ticket, request));
        self.tidy(job);
        outcome
    }

    fn job(&self, name: &str) -> Result<Arc<Job>> {
        let missing = || storage::Error::NotFound { kind: "job", name: name.to_owned() };
        let id = self.site.grid.control().state().job(name).ok_or_else(missing)?.id;
        Ok(self.jobs.lock().get(&id).map(Arc::clone).ok_or_else(missing)?)
    }

    /// Lets go of a job that was forgotten.
    fn tidy(&self, job: &Job) {
        if job.state.lock().is_forgotten {
            self.jobs.lock().remove(&job.id);
            self.timeouts.forget(job.id);
            self.site.grid.metrics().forget("job", &job.name);
        }
    }
}

impl Site {
    pub(super) fn now(&self) -> i64 {
        self.grid.env().clock.now_micros()
    }

    pub(super) fn submit(&self, job: &str, command: &Command) {
        if let Err(error) = self.grid.control().submit(command) {
            // Only a job that was dropped meanwhile may refuse.
            tracing::warn!(job, %error, "job command refused");
        }
    }
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
#[path = "changes_tests.rs"]
mod changes_tests;

#[cfg(test)]
#[path = "exports_tests.rs"]
mod exports_tests;

#[cfg(test)]
#[path = "simulator_tests.rs"]
mod simulator_tests;

#[cfg(test)]
#[path = "file_sink_tests.rs"]
mod file_sink_tests;

#[cfg(test)]
#[path = "adoption_tests.rs"]
mod adoption_tests;

#[cfg(test)]
#[path = "acknowledging_tests.rs"]
mod acknowledging_tests;
