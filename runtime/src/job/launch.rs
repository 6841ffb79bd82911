//! How a job is started: its text becomes a dag again, its state is looked for, and both are run.
//! A job with a guarantee goes on from its newest good snapshot, whatever ended the last execution; one
//! that has none yet, and each time one without a guarantee, starts from the exported snapshot it was
//! created with, or from nothing.

use std::sync::Arc;

use storage::{
    cluster::control::{Command, JobRecord, SnapshotCommand},
    data_log::JobRun,
    snapshot::SnapshotChunk,
};

use super::{
    events::Event,
    execution_snapshots::{ExecutionSnapshots, ExecutionWriters, Message, Subject, settle_writers},
    exports::mismatch,
    options::Guarantee,
    shell::Job,
};
use crate::{
    Error, Result,
    dag::Dag,
    execution::{ExecutionEnd, ExecutionRequest, Snapshots},
    state::{StateChunk, VertexStates, unmixed},
};

impl Job {
    /// Plans and runs; the event that came of it.
    pub(super) fn start(self: &Arc<Self>, number: u64) -> Event {
        *self.trouble.lock() = None;
        match self.launch(number) {
            Ok(()) => Event::Started(number),
            Err(error) => Event::StartFailed(number, error),
        }
    }

    fn launch(self: &Arc<Self>, number: u64) -> Result<()> {
        let dag = self.dag()?;
        self.lost_at("start.settle")?;
        let old = self.state.lock().writers.clone();
        if let Some(old) = old {
            settle_writers(&old, &*self.record()?)?;
        }
        self.lost_at("start.execution")?;
        let record = self.start_execution()?;
        self.lost_at("start.read")?;
        self.check_pins(&record)?;
        let restore = self.newest_snapshot(&record)?;
        self.describe(&record, &dag, !restore.is_empty())?;
        let is_exact = self.guarantee == Guarantee::ExactlyOnce;
        let execution = record.snapshots.execution_last;
        let run = JobRun { job: self.id, execution };
        let writers = is_exact.then(|| ExecutionWriters {
            execution,
            writers: self.site.grid.job_writers(&self.name, run),
            is_settled: Arc::default(),
        });
        self.state.lock().writers.clone_from(&writers);
        let has_guarantee = self.guarantee != Guarantee::None;
        let interval = self.state.lock().options.snapshot_interval;
        let interval = has_guarantee.then_some(interval);
        let forsaken = record.snapshots.forsaken;
        let commits = dag.vertices.iter().any(|vertex| vertex.supplier.commits());
        let (ended, exporting) = (Arc::clone(self), Arc::clone(self));
        let subject = Subject {
            site: Arc::clone(&self.site),
            job: record,
            interval,
            writers: writers.clone(),
            commits: is_exact && commits,
            export: Box::new(move |ticket, taken| exporting.export_taken(ticket, taken)),
        };
        let settled = Box::new(move |end| ended.ended(number, end));
        let tell = ExecutionSnapshots::start(subject, settled)?;
        let [to_end, to_take, to_await] = [(); 3].map(|()| Arc::clone(&tell));
        let finished = Box::new(move |end| to_end(Message::Ended(end)));
        let policy = Snapshots {
            guarantee: self.guarantee,
            forsaken,
            taken: Arc::new(move |id, states| to_take(Message::Taken(id, states))),
            awaited: Arc::new(move || to_await(Message::Awaited)),
            writers: writers.map(|of_execution| of_execution.writers),
        };
        let request = self.request(dag, restore, finished, policy);
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
    /// become permanent, or when rows may repeat; none of its own does without a guarantee.
    fn newest_snapshot(&self, record: &JobRecord) -> Result<VertexStates> {
        let grid = &self.site.grid;
        let mut damage = None;
        let own = record.snapshots.good.iter().filter(|_| self.guarantee != Guarantee::None);
        for snapshot in own.rev() {
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
        match (damage, record.snapshots.initial) {
            (Some(damage), _) => Err(damage.into()),
            (None, Some(initial)) => {
                let gone = || Error::Internal(format!("exported snapshot {} is gone", initial.0));
                let state = grid.control().state();
                self.site.read_export(state.export(initial).ok_or_else(gone)?)
            }
            (None, None) => Ok(VertexStates::new()),
        }
    }

    /// Says what the states of the execution mean; 55000 naming the operator if what is restored
    /// means something else, because what the job's text names was changed meanwhile.
    fn describe(&self, record: &JobRecord, dag: &Dag, is_restored: bool) -> Result<()> {
        let (before, operators) = (&record.snapshots.operators, dag.operator_states());
        if *before == operators {
            return Ok(());
        }
        // Before its first start an initial snapshot was compared with it already.
        if is_restored
            && !before.is_empty()
            && let Some(mismatch) = mismatch(before, &operators)
        {
            let text =
                format!("the state of job \"{}\" does not fit it any more: {mismatch}", self.name);
            return Err(storage::Error::WrongState(text).into());
        }
        let describe = SnapshotCommand::Describe(operators);
        self.site.grid.control().submit(&Command::Snapshot(self.id, describe))?;
        Ok(())
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
        snapshots: Snapshots,
    ) -> ExecutionRequest {
        let troubled = Arc::clone(self);
        let memory_max = self.state.lock().options.memory_max;
        ExecutionRequest {
            dag,
            job_id: self.id.0,
            job_name: Arc::clone(&self.name),
            restore,
            trouble: Arc::new(move |error| troubled.set_trouble(error)),
            finished,
            epoch_interval: None,
            memory_max,
            snapshots: Some(snapshots),
        }
    }
}

/// Chunks by vertex, in the order written.
pub(super) fn states_of(chunks: Vec<SnapshotChunk>, partition_count: u16) -> Result<VertexStates> {
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
