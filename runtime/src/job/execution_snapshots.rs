//! `ExecutionSnapshots`: the shell around the snapshot coordinator of one execution. Writing what was
//! saved takes as long as it takes, so it is run backstage: no worker and no other job waits for it.
//!
//! It is also the one that ends what the execution wrote: a commit follows its commit point, and an
//! abort comes when nothing can be committed any more. If it is lost between the two, the
//! next start does what it left undone ([`settle_writers`]).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use storage::{
    cluster::control::{Command, JobRecord, SnapshotCommand, SnapshotRecord},
    snapshot::{ChunkRef, SnapshotChunk, SnapshotSummary},
    table::JobWriters,
};

use super::{
    backstage::Tell,
    events::{End, Ticket},
    jobs::Site,
    snapshots::{Action, Event, SnapshotCoordinator, StartedAt},
};
use crate::{
    Error, Result,
    execution::{Execution, ExecutionEnd},
    item::SnapshotId,
    state::{SavedInstance, SavedStates, Sections, StateChunk},
};

/// What it is told.
pub(super) enum Message {
    /// The execution runs.
    Started(Execution),
    /// What is left of it waits for a snapshot.
    Awaited,
    /// It shall end with a snapshot.
    Stop,
    /// The next snapshot shall be exported.
    Export(Ticket),
    /// Every instance has saved.
    Taken(SnapshotId, Result<SavedStates>),
    /// It has ended.
    Ended(ExecutionEnd),
}

/// Told how the execution ended, once everything about it is settled.
pub(super) type Settled = Box<dyn FnOnce(End) + Send>;

/// What an execution writes through, if it is not permanent at once.
#[derive(Clone)]
pub(super) struct ExecutionWriters {
    /// Number of the execution in the control state.
    pub(super) execution: u64,
    pub(super) writers: Arc<JobWriters>,
    /// Whether they have ended as the control state says.
    pub(super) is_settled: Arc<AtomicBool>,
}

/// Ends the writers of an execution that is over as the control state says.
pub(super) fn settle_writers(old: &ExecutionWriters, job: &JobRecord) -> Result<()> {
    if old.is_settled.load(Ordering::Acquire) {
        return Ok(());
    }
    if let Some(newest) = job.snapshots.newest()
        && newest.execution == old.execution
    {
        old.writers.commit(newest.id)?;
    }
    old.writers.abort();
    old.is_settled.store(true, Ordering::Release);
    Ok(())
}

/// What it is to know of its execution.
pub(super) struct Subject {
    pub(super) site: Arc<Site>,
    /// The record in which the execution has its number.
    pub(super) job: Arc<JobRecord>,
    /// Time between two snapshots; without it they are taken only to be exported.
    pub(super) interval: Option<Duration>,
    pub(super) writers: Option<ExecutionWriters>,
    /// Whether a sink's writes become permanent with a snapshot.
    pub(super) commits: bool,
    /// Exports a good snapshot, or tells who waits that there is none.
    pub(super) export: Box<dyn Fn(Ticket, Result<SnapshotId>) + Send>,
}

/// One execution's snapshots.
pub(super) struct ExecutionSnapshots {
    subject: Subject,
    /// Whether a test has torn it down: it does nothing more.
    is_torn: bool,
    coordinator: SnapshotCoordinator,
    execution: Option<Execution>,
    /// What was saved and is not written yet.
    states: SavedStates,
    /// The sections of each instance as they were last written.
    sections: BTreeMap<(String, usize), Sections<ChunkRef>>,
    /// Whether the next snapshot may say only what has changed since the last one.
    has_base: bool,
    /// How the terminal snapshot ended.
    stopped: Option<Result<SnapshotId, String>>,
    settled: Option<Settled>,
}

impl ExecutionSnapshots {
    /// Starts it; how it is told. It ends with the execution.
    pub(super) fn start(subject: Subject, settled: Settled) -> Result<Tell> {
        let site = Arc::clone(&subject.site);
        let name = format!("tw-snap-{}", subject.job.name);
        let snapshots = Self {
            is_torn: false,
            coordinator: SnapshotCoordinator::new(
                subject.interval.map(|interval| interval.as_micros() as i64),
            ),
            subject,
            execution: None,
            states: SavedStates::new(),
            sections: BTreeMap::new(),
            has_base: false,
            stopped: None,
            settled: Some(settled),
        };
        site.backstage.run_snapshots(name, snapshots)
    }

    /// Whether the execution has ended and everything about it is settled.
    pub(super) fn is_over(&self) -> bool {
        self.settled.is_none()
    }

    /// In how many µs `tick` has something to do, unless a message comes before.
    pub(super) fn due_in(&self) -> Option<u64> {
        let due = self.coordinator.due()?;
        Some((due - self.subject.site.now()).max(0) as u64)
    }

    /// Time has passed.
    pub(super) fn tick(&mut self) {
        self.handle(Event::Tick(self.subject.site.now()));
    }

    /// Takes a message.
    pub(super) fn receive(&mut self, message: Message) {
        let now = self.subject.site.now();
        match message {
            Message::Ended(end) => self.end(end),
            Message::Started(execution) => {
                self.execution = Some(execution);
                self.handle(Event::Started(now));
            }
            Message::Awaited => self.handle(Event::Awaited(now)),
            Message::Stop => self.handle(Event::StopWanted(now)),
            Message::Export(ticket) => self.handle(Event::ExportWanted(ticket, now)),
            Message::Taken(id, states) => self.taken(id, states),
        }
    }

    fn taken(&mut self, id: SnapshotId, states: Result<SavedStates>) {
        if self.is_lost_at("snapshot.taken") {
            return;
        }
        match states {
            Ok(states) => {
                self.states = states;
                self.handle(Event::Taken(id));
            }
            Err(error) => self.handle(Event::Failed(id, error.to_string())),
        }
    }

    /// Takes an event and does what follows from it.
    fn handle(&mut self, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            for action in self.coordinator.step(event) {
                if self.is_torn {
                    return;
                }
                let news = self.act(action);
                debug_assert!(news.is_none() || next.is_none(), "one action is answered at a time");
                next = news.or(next);
            }
        }
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Begin => self.begin(),
            Action::SendBarrier(id, is_terminal) => {
                if self.is_lost_at("snapshot.barrier") {
                    return None;
                }
                let execution = self.execution.as_ref()?;
                match is_terminal {
                    true => execution.suspend(id, self.has_base),
                    false => execution.snapshot(id, self.has_base),
                }
                self.is_lost_at("snapshot.barrier_sent");
                None
            }
            Action::Store(id) => self.store(id),
            Action::Commit(id, summary, started_at) => self.commit(id, summary, started_at),
            Action::Abandon(id) => {
                // What the instances said has changed is lost with it.
                self.has_base = false;
                if self.is_lost_at("snapshot.abandon") {
                    return None;
                }
                let execution = self.subject.job.snapshots.execution_last;
                let command = SnapshotCommand::Abandon { execution, id };
                if let Err(error) = self.submit(command) {
                    let job = &self.subject.job.name;
                    tracing::debug!(%job, snapshot = id, %error, "not abandoned");
                }
                self.execution.iter().for_each(|execution| execution.abandoned(id));
                None
            }
            Action::Export(ticket, snapshot) => {
                if !self.is_lost_at("snapshot.export") {
                    let name = &self.subject.job.name;
                    let failed = |why| {
                        let text = format!("the snapshot of job \"{name}\" failed: {why}");
                        storage::Error::WrongState(text).into()
                    };
                    (self.subject.export)(ticket, snapshot.map_err(failed));
                    self.is_lost_at("snapshot.exported");
                }
                None
            }
            Action::Free => {
                if !self.is_lost_at("snapshot.free") {
                    self.free();
                    self.is_lost_at("snapshot.freed");
                }
                None
            }
            Action::Stopped(outcome) => {
                self.stopped = Some(outcome);
                None
            }
        }
    }

    fn begin(&mut self) -> Option<Event> {
        if self.is_lost_at("snapshot.begin") {
            return None;
        }
        let execution = self.subject.job.snapshots.execution_last;
        if let Err(error) = self.submit(SnapshotCommand::Begin { execution }) {
            tracing::debug!(job = %self.subject.job.name, %error, "no snapshot is begun");
            return Some(Event::Refused);
        }
        if self.is_lost_at("snapshot.begun") {
            return None;
        }
        match self.record().and_then(|job| job.snapshots.ongoing) {
            Some(id) => Some(Event::Begun(id)),
            None => Some(Event::Refused),
        }
    }

    fn store(&mut self, id: SnapshotId) -> Option<Event> {
        if self.is_lost_at("snapshot.store") {
            return None;
        }
        let written = self.write(id);
        match written {
            _ if self.is_lost_at("snapshot.stored") => None,
            Ok(summary) => {
                // One that is only exported may be gone when the next one is taken.
                self.has_base = self.subject.interval.is_some();
                Some(Event::Stored(id, summary))
            }
            Err(Error::Storage(storage::Error::Lost(place))) => {
                self.lose(&place);
                None
            }
            Err(error) => Some(Event::Failed(id, error.to_string())),
        }
    }

    /// Writes what is new, and the manifest of all there is.
    fn write(&mut self, id: SnapshotId) -> Result<SnapshotSummary> {
        let Subject { site, job, .. } = &self.subject;
        let (grid, partition_count) = (&site.grid, site.grid.config().partition_count);
        let mut chunks = Vec::new();
        for SavedInstance { vertex, index, state } in std::mem::take(&mut self.states) {
            let put = |chunk: StateChunk| -> Result<ChunkRef> {
                let StateChunk { partition, tag, rows } = chunk;
                let chunk = SnapshotChunk { vertex: vertex.clone(), tag, partition, rows };
                Ok(grid.snapshots().put(grid, job.id, chunk)?)
            };
            for chunk in state.chunks {
                chunks.push(put(chunk)?);
            }
            let sections = self.sections.entry((vertex.clone(), index)).or_default();
            if !state.is_incremental {
                sections.clear();
            }
            for change in &state.changes {
                sections.apply(change, partition_count, put)?;
            }
            chunks.extend(sections.iter().cloned());
        }
        Ok(grid.snapshots().write(grid, job, id, chunks)?)
    }

    /// The commit point, and what follows from it.
    fn commit(
        &mut self,
        id: SnapshotId,
        summary: SnapshotSummary,
        started_at: StartedAt,
    ) -> Option<Event> {
        if self.is_lost_at("snapshot.commit") {
            return None;
        }
        let SnapshotSummary { chunks, bytes, digest } = summary;
        let record = SnapshotRecord {
            id,
            execution: self.subject.job.snapshots.execution_last,
            started_at,
            committed_at: self.subject.site.now(),
            chunks,
            bytes,
            digest,
            commits: self.subject.commits,
        };
        if let Err(error) = self.submit(SnapshotCommand::Commit(record)) {
            return Some(Event::Failed(id, error.to_string()));
        }
        if self.is_lost_at("snapshot.committed") {
            return None;
        }
        if let Some(ExecutionWriters { writers, .. }) = &self.subject.writers
            && let Err(error) = writers.commit(id)
        {
            // It is committed; the next start makes up for it.
            self.lose(&error.to_string());
            return None;
        }
        if self.is_lost_at("snapshot.published") {
            return None;
        }
        self.execution.iter().for_each(|execution| execution.committed(id));
        match self.is_lost_at("snapshot.told") {
            true => None,
            false => Some(Event::Committed(id)),
        }
    }

    fn free(&self) {
        let Some(job) = self.record() else { return };
        let good = job.snapshots.good.iter().map(|record| record.id);
        let grid = &self.subject.site.grid;
        let exported = grid.control().state().exported_of(job.id);
        let kept: Vec<_> = good.chain(job.snapshots.ongoing).chain(exported).collect();
        if let Err(error) = grid.snapshots().retain(grid, &job, &kept) {
            tracing::warn!(job = %job.name, %error, "old snapshots were not freed");
        }
    }

    /// Whether a test has the execution lost here.
    fn is_lost_at(&mut self, place: &'static str) -> bool {
        if self.subject.site.grid.env().failpoints.hit(place) {
            self.lose(place);
        }
        self.is_torn
    }

    fn lose(&mut self, why: &str) {
        self.is_torn = true;
        let lost = || Error::Lost(why.to_owned());
        self.execution.iter().for_each(|execution| execution.fail(lost()));
    }

    /// Nothing of the execution runs any more.
    fn end(&mut self, end: ExecutionEnd) {
        if let Some(id) = self.coordinator.present().filter(|_| !self.is_torn) {
            // It was not taken, and never will be.
            self.handle(Event::Failed(id, "the execution has ended".to_owned()));
        }
        let end = match end {
            _ if self.is_torn => End::Failed(Error::Lost("its snapshots were lost".to_owned())),
            ExecutionEnd::Completed => End::Completed,
            ExecutionEnd::Cancelled => End::Cancelled,
            ExecutionEnd::Failed(error) => End::Failed(error),
            ExecutionEnd::Suspended(_) => self.suspended(),
        };
        if let Some(ExecutionWriters { writers, is_settled, .. }) = &self.subject.writers
            && !self.is_torn
        {
            writers.abort();
            is_settled.store(true, Ordering::Release);
        }
        if let Some(settled) = self.settled.take() {
            settled(end);
        }
    }

    fn suspended(&mut self) -> End {
        match self.stopped.take() {
            Some(Err(why)) => End::Unsaved(self.not_taken(&why)),
            _ => End::Suspended,
        }
    }

    /// The error of a snapshot that failed: the job goes on from the one before.
    fn not_taken(&self, why: &str) -> Error {
        let Subject { job, .. } = &self.subject;
        let newest = self.record().and_then(|job| job.snapshots.newest().map(|newest| newest.id));
        let newest = newest.map_or("its beginning".to_owned(), |id| format!("snapshot {id}"));
        let text = format!(
            "the last snapshot of job \"{}\" failed, so it goes on from {newest}: {why}",
            job.name
        );
        storage::Error::WrongState(text).into()
    }

    fn record(&self) -> Option<Arc<JobRecord>> {
        self.subject.site.grid.control().state().jobs.get(&self.subject.job.id).map(Arc::clone)
    }

    fn submit(&self, command: SnapshotCommand) -> Result<()> {
        let (control, job) = (self.subject.site.grid.control(), self.subject.job.id);
        control.submit(&Command::Snapshot(job, command))?;
        Ok(())
    }
}
