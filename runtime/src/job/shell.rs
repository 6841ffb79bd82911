//! `Job`: the shell around one job's coordinator. It hands events to the coordinator, on whatever
//! thread they come, and does what follows from them; it decides nothing itself.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use storage::cluster::control::{Command, JobError, JobRecord, JobStatus, ObjectId};

use super::{
    backstage::Tell,
    coordinator::JobCoordinator,
    events::{Action, End, Event, Ticket},
    execution_snapshots::{ExecutionWriters, Message},
    jobs::{ExportName, Site},
    options::{Guarantee, JobOptions},
};
use crate::{Result, dag::Dag, execution::Execution};

/// How long SUSPEND, RESTART and DROP wait; a source has at most 100 ms to notice, a connector a
/// few seconds to hang up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// One job's shell.
pub(super) struct Job {
    pub(super) id: ObjectId,
    pub(super) name: Arc<str>,
    pub(super) site: Arc<Site>,
    pub(super) guarantee: Guarantee,
    pub(super) state: Mutex<State>,
    /// Notified when an answer is there or an execution has ended.
    pub(super) changed: Condvar,
    /// The trouble the execution survives at present. Held while it is submitted, so that the
    /// record shows the newest.
    pub(super) trouble: Mutex<Option<JobError>>,
}

pub(super) struct State {
    pub(super) coordinator: JobCoordinator,
    pub(super) options: JobOptions,
    /// The dag given at creation, until the first start.
    pub(super) dag: Option<Dag>,
    /// The present execution and its number.
    pub(super) execution: Option<(u64, Execution)>,
    /// Takes its snapshots.
    pub(super) snapshots: Option<Tell>,
    /// What the last execution wrote through, with guarantee `exactlyOnce`.
    pub(super) writers: Option<ExecutionWriters>,
    /// The particulars of requests that are not answered yet.
    asked: HashMap<Ticket, Asked>,
    answers: HashMap<Ticket, Result<()>>,
    pub(super) is_forgotten: bool,
}

/// What a request is about, if its name does not say it.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    /// No more than its name says.
    Nothing,
    /// What becomes of the snapshot.
    Export(ExportName),
    /// Options that change.
    Options(BTreeMap<String, String>),
}

/// What follows from an event and takes a while.
#[derive(Debug, Clone, Copy)]
enum Work {
    Start(u64),
    ExportNewest(Ticket),
}

impl Job {
    /// Of a job that is recorded; `dag` if its text was planned already.
    pub(super) fn new(
        site: &Arc<Site>,
        (id, name): (ObjectId, String),
        options: JobOptions,
        dag: Option<Dag>,
    ) -> Arc<Self> {
        let guarantee = options.guarantee;
        let state = State {
            coordinator: JobCoordinator::new(name.clone(), &options),
            options,
            dag,
            execution: None,
            snapshots: None,
            writers: None,
            asked: HashMap::new(),
            answers: HashMap::new(),
            is_forgotten: false,
        };
        Arc::new(Self {
            id,
            name: name.into(),
            site: Arc::clone(site),
            guarantee,
            state: Mutex::new(state),
            changed: Condvar::new(),
            trouble: Mutex::default(),
        })
    }

    /// Sends a request and waits for its answer.
    pub(super) fn ask(
        self: &Arc<Self>,
        verb: &str,
        asked: Asked,
        event: impl FnOnce(Ticket) -> Event,
    ) -> Result<()> {
        let ticket = self.send(asked, event);
        let mut state = self.state.lock();
        let waits = |state: &mut State| !state.answers.contains_key(&ticket);
        self.changed.wait_while_for(&mut state, waits, ANSWER_TIMEOUT);
        state.asked.remove(&ticket);
        state.answers.remove(&ticket).unwrap_or_else(|| {
            let text = format!(
                "job \"{}\" did not {verb} within {} s; it goes on trying",
                self.name,
                ANSWER_TIMEOUT.as_secs()
            );
            Err(storage::Error::WrongState(text).into())
        })
    }

    /// Sends a request; the ticket that its answer will have.
    pub(super) fn send(
        self: &Arc<Self>,
        asked: Asked,
        event: impl FnOnce(Ticket) -> Event,
    ) -> Ticket {
        let ticket = self.site.tickets.fetch_add(1, Ordering::Relaxed);
        self.state.lock().asked.insert(ticket, asked);
        self.handle(event(ticket));
        ticket
    }

    /// What a request is about, as long as somebody waits for its answer.
    pub(super) fn asked(&self, ticket: Ticket) -> Option<Asked> {
        self.state.lock().asked.get(&ticket).cloned()
    }

    /// Takes an event and does what follows from it, starts included, on this thread.
    pub(super) fn handle(self: &Arc<Self>, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next {
            next = self.step(event).map(|work| self.perform(work));
        }
    }

    /// Does what takes a while; the event that came of it.
    fn perform(self: &Arc<Self>, work: Work) -> Event {
        match work {
            Work::Start(execution) => self.start(execution),
            Work::ExportNewest(ticket) => Event::Exported(ticket, self.export_newest(ticket)),
        }
    }

    /// Takes an event and does all that is quick; what else is to be done, if anything.
    fn step(&self, event: Event) -> Option<Work> {
        let state = &mut *self.state.lock();
        let mut work = None;
        for action in state.coordinator.step(event) {
            match action {
                Action::SetStatus(status, error) => self.set_status(status, error),
                Action::Start(execution) => work = Some(Work::Start(execution)),
                Action::ExportNewest(ticket) => work = Some(Work::ExportNewest(ticket)),
                Action::ExportNext(ticket) => {
                    // If nobody listens the execution has ended, and that is told the coordinator.
                    state.snapshots.iter().for_each(|tell| tell(Message::Export(ticket)));
                }
                Action::Alter(ticket) => self.alter(state, ticket),
                // If nobody listens the execution has ended, and that is told the coordinator.
                Action::Suspend(number) if state.of(number).is_none() => {}
                Action::Suspend(_) => state.snapshots.iter().for_each(|tell| tell(Message::Stop)),
                Action::Cancel(number) => {
                    state.of(number).into_iter().for_each(Execution::cancel);
                }
                Action::Forget => {
                    self.forget();
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
        self.changed.notify_all();
        work
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

    pub(super) fn set_trouble(&self, error: Option<JobError>) {
        let mut trouble = self.trouble.lock();
        if *trouble == error {
            return;
        }
        trouble.clone_from(&error);
        self.site.submit(&self.name, &Command::SetJobError { id: self.id, error });
    }

    /// Takes over options that were checked when they were asked for.
    fn alter(&self, state: &mut State, ticket: Ticket) {
        let Some(Asked::Options(changes)) = state.asked.get(&ticket) else { return };
        let altered = self.record().and_then(|job| JobOptions::altered(&job.options, changes));
        match altered.and_then(|written| Ok((JobOptions::read(&written)?, written))) {
            Ok((options, written)) => {
                state.coordinator.set_suspends_on_failure(options.suspends_on_failure);
                state.options = options;
                let command = Command::SetJobOptions { id: self.id, options: written };
                self.site.submit(&self.name, &command);
            }
            Err(error) => tracing::warn!(job = %self.name, %error, "options are not changed"),
        }
    }

    /// Nothing of it runs any more: removes its record and all that is kept, but what is exported.
    fn forget(&self) {
        let grid = &self.site.grid;
        let exported = grid.control().state().exported_of(self.id);
        if !exported.is_empty()
            && let Ok(job) = self.record()
            && let Err(error) = grid.snapshots().retain(grid, &job, &exported)
        {
            tracing::warn!(job = %self.name, %error, "snapshots were not freed");
        }
        self.site.submit(&self.name, &Command::DropJob(self.id));
    }

    pub(super) fn record(&self) -> Result<Arc<JobRecord>> {
        let missing = || storage::Error::NotFound { kind: "job", name: self.name.to_string() };
        let record = self.site.grid.control().state().jobs.get(&self.id).map(Arc::clone);
        Ok(record.ok_or_else(missing)?)
    }

    /// An execution has ended, and everything about it is settled.
    pub(super) fn ended(self: &Arc<Self>, number: u64, end: End) {
        self.tell(Event::Ended(number, end));
    }

    /// Takes an event that nobody waits for: what takes a while is done backstage.
    pub(super) fn tell(self: &Arc<Self>, event: Event) {
        let Some(work) = self.step(event) else { return };
        let job = Arc::clone(self);
        let perform = Box::new(move || {
            let event = job.perform(work);
            job.handle(event);
        });
        let spawned = self.site.backstage.run(format!("tw-start-{}", self.name), perform);
        if let Err(error) = spawned {
            self.handle(match work {
                Work::Start(next) => Event::StartFailed(next, error),
                Work::ExportNewest(ticket) => Event::Exported(ticket, Err(error)),
            });
        }
    }
}

impl State {
    /// The present execution, if it is that one.
    fn of(&self, number: u64) -> Option<&Execution> {
        self.execution.as_ref().filter(|(present, _)| *present == number).map(|(_, one)| one)
    }
}
