//! `SnapshotThread`: the shell around the snapshot coordinator of one execution. Writing what was
//! saved takes as long as it takes, on a thread of its own: no worker and no other job waits for it.
//!
//! It is also the only one that ends what the execution wrote: a commit follows its commit point,
//! and an abort comes when nothing can be committed any more.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use storage::{
    cluster::control::{Command, JobRecord, SnapshotCommand, SnapshotRecord},
    snapshot::{SnapshotChunk, SnapshotSummary},
};

use super::{
    coordinator::End,
    jobs::Site,
    snapshots::{Action, Event, SnapshotCoordinator, StartedAt},
};
use crate::{
    Error, Result,
    execution::{Execution, ExecutionEnd},
    item::SnapshotId,
    state::{StateChunk, VertexStates},
};

/// What the thread is told.
pub(super) enum Message {
    /// The execution runs.
    Started(Execution),
    /// It shall end with a snapshot.
    Stop,
    /// Every instance has saved.
    Taken(SnapshotId, Result<VertexStates>),
    /// It has ended.
    Ended(ExecutionEnd),
}

/// Told how the execution ended, once everything about it is settled.
pub(super) type Settled = Box<dyn FnOnce(End) + Send>;

/// One execution's snapshots.
pub(super) struct SnapshotThread {
    site: Arc<Site>,
    job: Arc<JobRecord>,
    /// Number of the execution in the control state.
    number: u64,
    coordinator: SnapshotCoordinator,
    execution: Option<Execution>,
    /// What was saved and is not written yet.
    states: VertexStates,
    /// How the terminal snapshot ended.
    stopped: Option<Result<SnapshotId, String>>,
    settled: Option<Settled>,
}

impl SnapshotThread {
    /// Starts it; the sender is how it is told. It ends with the execution.
    pub(super) fn start(
        site: &Arc<Site>,
        job: Arc<JobRecord>,
        number: u64,
        interval: Duration,
        settled: Settled,
    ) -> Result<mpsc::Sender<Message>> {
        let (sender, receiver) = mpsc::channel();
        let name = format!("tw-snap-{}", job.name);
        let thread = Self {
            site: Arc::clone(site),
            job,
            number,
            coordinator: SnapshotCoordinator::new(interval.as_micros() as i64),
            execution: None,
            states: VertexStates::new(),
            stopped: None,
            settled: Some(settled),
        };
        std::thread::Builder::new()
            .name(name)
            .spawn(move || thread.run(&receiver))
            .map_err(|error| Error::Limit(format!("could not start a thread: {error}")))?;
        Ok(sender)
    }

    fn run(mut self, messages: &mpsc::Receiver<Message>) {
        loop {
            let message = match self.coordinator.due() {
                None => messages.recv().ok(),
                Some(due) => {
                    let wait = Duration::from_micros((due - self.site.now()).max(0) as u64);
                    match messages.recv_timeout(wait) {
                        Ok(message) => Some(message),
                        Err(mpsc::RecvTimeoutError::Timeout) => {
                            self.handle(Event::Tick(self.site.now()));
                            continue;
                        }
                        Err(mpsc::RecvTimeoutError::Disconnected) => None,
                    }
                }
            };
            match message {
                None => return,
                Some(Message::Ended(end)) => return self.end(end),
                Some(Message::Started(execution)) => {
                    self.execution = Some(execution);
                    self.handle(Event::Started(self.site.now()));
                }
                Some(Message::Stop) => self.handle(Event::StopWanted(self.site.now())),
                Some(Message::Taken(id, states)) => self.taken(id, states),
            }
        }
    }

    fn taken(&mut self, id: SnapshotId, states: Result<VertexStates>) {
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
                let news = self.act(action);
                debug_assert!(news.is_none() || next.is_none(), "one action is answered at a time");
                next = news.or(next);
            }
        }
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Begin => Some(self.begin()),
            Action::SendBarrier(id, is_terminal) => {
                let execution = self.execution.as_ref()?;
                if is_terminal {
                    execution.suspend(id)
                } else {
                    execution.snapshot(id)
                }
                None
            }
            Action::Store(id) => Some(match self.store(id) {
                Ok(summary) => Event::Stored(id, summary),
                Err(error) => Event::Failed(id, error.to_string()),
            }),
            Action::Commit(id, summary, started_at) => {
                Some(match self.commit(id, summary, started_at) {
                    Ok(()) => {
                        self.execution.iter().for_each(|execution| execution.committed(id));
                        Event::Committed(id)
                    }
                    Err(error) => Event::Failed(id, error.to_string()),
                })
            }
            Action::Abandon(id) => {
                let command = SnapshotCommand::Abandon { execution: self.number, id };
                if let Err(error) = self.submit(command) {
                    tracing::debug!(job = %self.job.name, snapshot = id, %error, "not abandoned");
                }
                None
            }
            Action::Free => {
                self.free();
                None
            }
            Action::Stopped(outcome) => {
                self.stopped = Some(outcome);
                None
            }
        }
    }

    fn begin(&self) -> Event {
        if let Err(error) = self.submit(SnapshotCommand::Begin { execution: self.number }) {
            tracing::debug!(job = %self.job.name, %error, "no snapshot is begun");
            return Event::Refused;
        }
        match self.record().and_then(|job| job.snapshots.ongoing) {
            Some(id) => Event::Begun(id),
            None => Event::Refused,
        }
    }

    fn store(&mut self, id: SnapshotId) -> Result<SnapshotSummary> {
        let states = std::mem::take(&mut self.states);
        let chunks = states.into_iter().flat_map(|(vertex, chunks)| {
            chunks.into_iter().map(move |chunk| {
                let StateChunk { partition, tag, rows } = chunk;
                SnapshotChunk { vertex: vertex.clone(), tag, partition, rows }
            })
        });
        let grid = &self.site.grid;
        Ok(grid.snapshots().write(grid, &self.job, id, chunks)?)
    }

    fn commit(
        &self,
        id: SnapshotId,
        summary: SnapshotSummary,
        started_at: StartedAt,
    ) -> Result<()> {
        let SnapshotSummary { chunks, bytes, digest } = summary;
        let committed_at = self.site.now();
        let execution = self.number;
        let record =
            SnapshotRecord { id, execution, started_at, committed_at, chunks, bytes, digest };
        self.submit(SnapshotCommand::Commit(record))
    }

    fn free(&self) {
        let Some(job) = self.record() else { return };
        let good = job.snapshots.good.iter().map(|record| record.id);
        let kept: Vec<_> = good.chain(job.snapshots.ongoing).collect();
        let grid = &self.site.grid;
        if let Err(error) = grid.snapshots().retain(grid, &job, &kept) {
            tracing::warn!(job = %job.name, %error, "old snapshots were not freed");
        }
    }

    /// Nothing of the execution runs any more.
    fn end(mut self, end: ExecutionEnd) {
        let end = match end {
            ExecutionEnd::Completed => End::Completed,
            ExecutionEnd::Cancelled => End::Cancelled,
            ExecutionEnd::Failed(error, _) => End::Failed(error),
            ExecutionEnd::Suspended(states) => {
                if let Some(id) = self.coordinator.present() {
                    self.taken(id, Ok(states));
                }
                if let Some(Err(why)) = self.stopped.take() {
                    // The job goes on from the snapshot before.
                    tracing::warn!(job = %self.job.name, why, "the last snapshot failed");
                }
                End::Suspended
            }
        };
        if let Some(settled) = self.settled.take() {
            settled(end);
        }
    }

    fn record(&self) -> Option<Arc<JobRecord>> {
        self.site.grid.control().state().jobs.get(&self.job.id).map(Arc::clone)
    }

    fn submit(&self, command: SnapshotCommand) -> Result<()> {
        self.site.grid.control().submit(&Command::Snapshot(self.job.id, command))?;
        Ok(())
    }
}
