//! `JobCoordinator`: what happens to one job next. A value without clock, lock or thread: events go
//! in, actions come out; `shell` carries them out, the test below reorders and loses them.
//!
//! ```text
//!   create ─► NOT_RUNNING ─► STARTING ─► RUNNING ─► COMPLETING ─► COMPLETED
//!                  ▲            │          │  └──────────────────► FAILED ◄─ timeout, from anywhere
//!                  │ resume     │ cannot   │ suspend, restart, suspendOnFailure, out of memory
//!                  └─────── SUSPENDED ◄────┴─ (restart goes on to NOT_RUNNING, and so does an
//!                            │     ▲           execution that was lost)
//!                            ▼     │ export
//!                      SUSPENDED_EXPORTING_SNAPSHOT
//! ```
//! Each start has a number. An event of another execution than the present one is old news and is
//! ignored, so events may arrive late, twice, or in the wrong order; the news of a start may be lost,
//! since its end implies it. What becomes of a job when the process ends is told in `adoption`.

mod adoption;

use storage::cluster::control::JobStatus;

use super::{
    events::{Action, End, Event, Request, Ticket},
    options::{Guarantee, JobOptions},
};
use crate::{Error, Result};

/// Where the job is.
#[derive(Debug)]
enum Phase {
    /// Nothing runs; before the first start and after a shutdown.
    NotRunning,
    /// Waits for `Started` or `StartFailed`.
    Starting { execution: u64, ticket: Option<Ticket>, origin: Origin },
    /// Waits for the end, or for a request.
    Running { execution: u64 },
    /// Waits for the end that was asked for.
    Stopping { execution: u64, is_started: bool, goal: Goal },
    /// Waits for RESUME or DROP.
    Suspended,
    /// Waits for `Exported`; then it is suspended again, or dropped, or its time is up.
    Exporting { ticket: Ticket, is_dropped: bool, timed_out: Option<Error> },
    /// FAILED or COMPLETED; waits for DROP.
    Terminal(JobStatus),
    /// Dropped.
    Forgotten,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A start that fails leaves no job.
    Create,
    /// A start that fails leaves it suspended, its state kept.
    Resume,
}

#[derive(Debug)]
enum Goal {
    Suspend(Ticket),
    Restart(Ticket),
    Drop(Vec<Ticket>),
    /// Export the last snapshot, then drop.
    Export(Ticket),
    Fail(Error),
    Close,
}

/// One job's life.
#[derive(Debug)]
pub struct JobCoordinator {
    name: String,
    /// Whether a failure suspends it.
    suspends_on_failure: bool,
    /// Whether it stops with a snapshot, to go on from that. Without a guarantee there is nothing to
    /// go on from, so it stops at once.
    stops_with_snapshot: bool,
    phase: Phase,
    execution_last: u64,
    /// Who waits for an export that does not change the phase.
    exports: Vec<Export>,
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Export {
    ticket: Ticket,
    /// The execution whose next snapshot it is; `None` of a job that has failed.
    execution: Option<u64>,
    /// Whether the job is dropped then.
    is_dropped: bool,
}

impl JobCoordinator {
    /// Of a job that was just recorded.
    pub fn new(name: String, options: &JobOptions) -> Self {
        Self {
            name,
            suspends_on_failure: options.suspends_on_failure,
            stops_with_snapshot: options.guarantee != Guarantee::None,
            phase: Phase::NotRunning,
            execution_last: 0,
            exports: Vec::new(),
            actions: Vec::new(),
        }
    }

    /// Whether a failure suspends it from now on.
    pub fn set_suspends_on_failure(&mut self, suspends_on_failure: bool) {
        self.suspends_on_failure = suspends_on_failure;
    }

    /// The execution that runs, is starting or is stopping.
    pub fn execution(&self) -> Option<u64> {
        match self.phase {
            Phase::Starting { execution, .. }
            | Phase::Running { execution }
            | Phase::Stopping { execution, .. } => Some(execution),
            _ => None,
        }
    }

    /// Takes an event; the actions that follow from it, in order.
    pub fn step(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Created(ticket) => self.created(ticket),
            Event::Adopted(status) => self.adopted(status),
            Event::Requested(ticket, request) => self.requested(ticket, request),
            Event::Started(execution) if self.execution() == Some(execution) => self.started(),
            Event::StartFailed(execution, error) if self.execution() == Some(execution) => {
                self.start_failed(error);
            }
            Event::Ended(execution, end) if self.execution() == Some(execution) => self.ended(end),
            Event::Exported(ticket, outcome) => self.exported(ticket, outcome),
            Event::TimedOut(error) => self.timed_out(error),
            Event::Closed => self.closed(),
            // Of an execution that is over.
            Event::Started(_) | Event::StartFailed(..) | Event::Ended(..) => (),
        }
        std::mem::take(&mut self.actions)
    }

    fn created(&mut self, ticket: Ticket) {
        match self.phase {
            Phase::NotRunning => self.start(Some(ticket), Origin::Create),
            _ => self.refuse(ticket, "was created before"),
        }
    }

    fn requested(&mut self, ticket: Ticket, request: Request) {
        match (&self.phase, request) {
            (_, Request::Drop) => self.drop(ticket),
            (Phase::Running { execution }, Request::Suspend | Request::Restart) => {
                let execution = *execution;
                self.actions.push(match self.stops_with_snapshot {
                    true => Action::Suspend(execution),
                    false => Action::Cancel(execution),
                });
                let goal = match request {
                    Request::Restart => Goal::Restart(ticket),
                    _ => Goal::Suspend(ticket),
                };
                self.phase = Phase::Stopping { execution, is_started: true, goal };
            }
            (Phase::Suspended, Request::Resume) => {
                self.set_status(JobStatus::NotRunning);
                self.start(Some(ticket), Origin::Resume);
            }
            (Phase::Suspended, Request::Alter) => {
                self.actions.push(Action::Alter(ticket));
                self.answer(ticket, Ok(()));
            }
            (Phase::Running { execution }, Request::Export) => {
                let (execution, is_dropped) = (Some(*execution), false);
                self.exports.push(Export { ticket, execution, is_dropped });
                self.actions.push(Action::ExportNext(ticket));
            }
            (Phase::Running { execution }, Request::DropExported) => {
                let execution = *execution;
                self.actions.push(Action::Suspend(execution));
                let goal = Goal::Export(ticket);
                self.phase = Phase::Stopping { execution, is_started: true, goal };
            }
            (Phase::Suspended, Request::Export | Request::DropExported) => {
                self.export_suspended(ticket, request == Request::DropExported);
            }
            (Phase::Terminal(JobStatus::Failed), Request::Export | Request::DropExported) => {
                let is_dropped = request == Request::DropExported;
                self.exports.push(Export { ticket, execution: None, is_dropped });
                self.actions.push(Action::ExportNewest(ticket));
            }
            (Phase::Stopping { .. }, _) => self.refuse(ticket, "is already stopping"),
            (phase, _) => {
                let needed = match request {
                    Request::Resume | Request::Alter => "SUSPENDED",
                    Request::Export | Request::DropExported => "RUNNING, SUSPENDED or FAILED",
                    Request::Suspend | Request::Restart | Request::Drop => "RUNNING",
                };
                let text = format!("is {}, not {needed}", status(phase).word());
                self.refuse(ticket, &text);
            }
        }
    }

    /// Exports the last snapshot of a suspended job.
    fn export_suspended(&mut self, ticket: Ticket, is_dropped: bool) {
        self.phase = Phase::Exporting { ticket, is_dropped, timed_out: None };
        self.set_status(JobStatus::SuspendedExportingSnapshot);
        self.actions.push(Action::ExportNewest(ticket));
    }

    fn exported(&mut self, ticket: Ticket, outcome: Result<()>) {
        if let Some(position) = self.exports.iter().position(|export| export.ticket == ticket) {
            let export = self.exports.remove(position);
            match export.is_dropped && outcome.is_ok() {
                true => self.forget(vec![ticket]),
                false => self.answer(ticket, outcome),
            }
            return;
        }
        let Phase::Exporting { ticket: present, is_dropped, timed_out } = &mut self.phase else {
            return;
        };
        if *present != ticket {
            return;
        }
        let (is_dropped, timed_out) = (*is_dropped, timed_out.take());
        self.phase = Phase::Suspended;
        self.set_status(JobStatus::Suspended);
        match is_dropped && outcome.is_ok() {
            true => self.forget(vec![ticket]),
            false => {
                if let Some(error) = timed_out {
                    self.timed_out(error);
                }
                self.answer(ticket, outcome);
            }
        }
    }

    fn timed_out(&mut self, error: Error) {
        match &mut self.phase {
            Phase::NotRunning | Phase::Suspended => self.fail(&error),
            Phase::Starting { execution, ticket, .. } => {
                let (execution, ticket) = (*execution, *ticket);
                self.answer_if(ticket, Err(error.clone()));
                let goal = Goal::Fail(error);
                self.phase = Phase::Stopping { execution, is_started: false, goal };
            }
            Phase::Running { execution } => {
                let execution = *execution;
                self.actions.push(Action::Cancel(execution));
                let goal = Goal::Fail(error);
                self.phase = Phase::Stopping { execution, is_started: true, goal };
            }
            Phase::Stopping { execution, is_started, goal } => {
                let (execution, is_started) = (*execution, *is_started);
                if let Goal::Suspend(ticket) | Goal::Restart(ticket) | Goal::Export(ticket) = *goal
                {
                    *goal = Goal::Fail(error.clone());
                    self.answer(ticket, Err(error));
                    if is_started {
                        self.actions.push(Action::Cancel(execution));
                    }
                }
            }
            Phase::Exporting { timed_out, .. } => *timed_out = Some(error),
            Phase::Terminal(_) | Phase::Forgotten => (),
        }
    }

    fn fail(&mut self, error: &Error) {
        self.actions.push(Action::SetStatus(JobStatus::Failed, Some(error.into())));
        self.phase = Phase::Terminal(JobStatus::Failed);
    }

    fn drop(&mut self, ticket: Ticket) {
        match &mut self.phase {
            Phase::Forgotten => {
                let error = storage::Error::NotFound { kind: "job", name: self.name.clone() };
                self.answer(ticket, Err(error.into()));
            }
            Phase::NotRunning | Phase::Suspended | Phase::Terminal(_) => {
                self.forget(vec![ticket]);
            }
            Phase::Exporting { .. } => {
                self.refuse(
                    ticket,
                    "is SUSPENDED_EXPORTING_SNAPSHOT; it can be dropped after that",
                );
            }
            Phase::Stopping { goal: Goal::Drop(tickets), .. } => tickets.push(ticket),
            Phase::Running { execution } => {
                let execution = *execution;
                self.actions.push(Action::Cancel(execution));
                let goal = Goal::Drop(vec![ticket]);
                self.phase = Phase::Stopping { execution, is_started: true, goal };
            }
            Phase::Starting { execution, ticket: starter, .. } => {
                let (execution, starter) = (*execution, *starter);
                if let Some(starter) = starter {
                    self.refuse(starter, "was dropped");
                }
                let goal = Goal::Drop(vec![ticket]);
                self.phase = Phase::Stopping { execution, is_started: false, goal };
            }
            Phase::Stopping { execution, is_started, goal } => {
                let (execution, is_started) = (*execution, *is_started);
                let before = std::mem::replace(goal, Goal::Drop(vec![ticket]));
                if let Goal::Suspend(waiting) | Goal::Restart(waiting) | Goal::Export(waiting) =
                    before
                {
                    self.refuse(waiting, "was dropped");
                }
                if is_started {
                    self.actions.push(Action::Cancel(execution));
                }
            }
        }
    }

    fn started(&mut self) {
        match &mut self.phase {
            Phase::Starting { execution, ticket, .. } => {
                let (execution, ticket) = (*execution, *ticket);
                self.phase = Phase::Running { execution };
                self.set_status(JobStatus::Running);
                self.answer_if(ticket, Ok(()));
            }
            Phase::Stopping { execution, is_started, goal } if !*is_started => {
                *is_started = true;
                let execution = *execution;
                if matches!(goal, Goal::Close | Goal::Fail(_)) {
                    self.set_status(JobStatus::Running);
                }
                self.actions.push(Action::Cancel(execution));
            }
            _ => (),
        }
    }

    fn start_failed(&mut self, error: Error) {
        match std::mem::replace(&mut self.phase, Phase::NotRunning) {
            Phase::Starting { ticket, origin: Origin::Create, .. } => {
                self.forget(Vec::new());
                self.answer_if(ticket, Err(error));
            }
            Phase::Starting { ticket, .. } if matches!(error, Error::Lost(_)) => {
                self.start_again(ticket);
            }
            // The process shuts down: it is started when there is one again.
            Phase::Starting { ticket, .. } if matches!(error, Error::Cancelled) => {
                self.set_status(JobStatus::NotRunning);
                self.answer_if(ticket, Err(error));
            }
            Phase::Starting { ticket, origin: Origin::Resume, .. } => {
                self.phase = Phase::Suspended;
                self.actions.push(Action::SetStatus(JobStatus::Suspended, Some((&error).into())));
                self.answer_if(ticket, Err(error));
            }
            Phase::Stopping { goal: Goal::Drop(tickets), .. } => self.forget(tickets),
            Phase::Stopping { goal: Goal::Fail(error), .. } => self.fail(&error),
            Phase::Stopping { is_started: false, .. } => self.set_status(JobStatus::NotRunning),
            // A start that had succeeded cannot fail: an event that was never sent.
            before => self.phase = before,
        }
    }

    fn ended(&mut self, end: End) {
        if let Phase::Starting { .. } = self.phase {
            // The news of the start is still on its way, or lost.
            self.started();
        }
        let over = |export: &mut Export| export.execution.is_some();
        for export in self.exports.extract_if(.., over).collect::<Vec<_>>() {
            self.refuse(export.ticket, "ended before its snapshot was exported");
        }
        match std::mem::replace(&mut self.phase, Phase::NotRunning) {
            Phase::Stopping { goal: Goal::Drop(tickets), .. } => self.forget(tickets),
            Phase::Stopping { goal: Goal::Suspend(ticket), .. } => match end {
                End::Cancelled if !self.stops_with_snapshot => {
                    self.stopped(End::Suspended, Some(ticket));
                }
                end => self.stopped(end, Some(ticket)),
            },
            Phase::Stopping { goal: Goal::Restart(ticket), .. } => match end {
                End::Cancelled if !self.stops_with_snapshot => self.start_again(Some(ticket)),
                End::Suspended | End::Unsaved(_) | End::Failed(Error::Lost(_)) => {
                    self.start_again(Some(ticket));
                }
                end => self.stopped(end, Some(ticket)),
            },
            Phase::Stopping { goal: Goal::Export(ticket), .. } => match end {
                End::Suspended => {
                    self.set_status(JobStatus::Suspended);
                    self.export_suspended(ticket, true);
                }
                End::Failed(Error::Lost(_)) => {
                    self.refuse(
                        ticket,
                        "was lost before its snapshot was exported; it starts again",
                    );
                    self.start_again(None);
                }
                End::Unsaved(error) => {
                    self.stopped(End::Unsaved(error.clone()), None);
                    self.answer(ticket, Err(error));
                }
                end => self.stopped(end, Some(ticket)),
            },
            Phase::Stopping { goal: Goal::Fail(error), is_started, .. } => match end {
                End::Completed => {
                    if !is_started {
                        self.set_status(JobStatus::Running);
                    }
                    self.stopped(end, None);
                }
                _ => self.fail(&error),
            },
            Phase::Stopping { goal: Goal::Close, is_started, .. } => {
                if !is_started {
                    self.set_status(JobStatus::Running);
                }
                self.stopped(end_at_close(end), None);
            }
            _ if matches!(end, End::Failed(Error::Lost(_))) => self.start_again(None),
            _ => self.stopped(end, None),
        }
    }

    /// The next execution goes on where the last one was.
    fn start_again(&mut self, ticket: Option<Ticket>) {
        self.set_status(JobStatus::NotRunning);
        self.start(ticket, Origin::Resume);
    }

    /// A running execution has ended and nothing follows.
    fn stopped(&mut self, end: End, ticket: Option<Ticket>) {
        let (phase, answer) = match end {
            End::Completed => {
                self.set_status(JobStatus::Completing);
                self.set_status(JobStatus::Completed);
                (Phase::Terminal(JobStatus::Completed), Err(self.wrong_state("has completed")))
            }
            End::Suspended | End::Failed(Error::Lost(_)) => {
                self.set_status(JobStatus::Suspended);
                (Phase::Suspended, Ok(()))
            }
            End::Unsaved(error) => {
                self.actions.push(Action::SetStatus(JobStatus::Suspended, Some((&error).into())));
                (Phase::Suspended, Ok(()))
            }
            End::Cancelled => {
                self.set_status(JobStatus::NotRunning);
                (Phase::NotRunning, Err(Error::Cancelled))
            }
            End::Failed(error) if self.suspends_on_failure || error.is_out_of_memory() => {
                self.actions.push(Action::SetStatus(JobStatus::Suspended, Some((&error).into())));
                (Phase::Suspended, Err(error))
            }
            End::Failed(error) => {
                self.actions.push(Action::SetStatus(JobStatus::Failed, Some((&error).into())));
                (Phase::Terminal(JobStatus::Failed), Err(error))
            }
        };
        self.phase = phase;
        if let Some(ticket) = ticket {
            self.answer(ticket, answer);
        }
    }

    /// The member shuts down: what runs is started again by the next process.
    fn closed(&mut self) {
        match &mut self.phase {
            Phase::Starting { execution, ticket, .. } => {
                let (execution, ticket) = (*execution, *ticket);
                self.answer_if(ticket, Err(Error::Cancelled));
                self.phase = Phase::Stopping { execution, is_started: false, goal: Goal::Close };
            }
            Phase::Running { execution } => {
                let execution = *execution;
                self.actions.push(Action::Cancel(execution));
                self.phase = Phase::Stopping { execution, is_started: true, goal: Goal::Close };
            }
            Phase::Stopping { execution, is_started, goal } => {
                let execution = *execution;
                if let Goal::Suspend(ticket) | Goal::Restart(ticket) | Goal::Export(ticket) = *goal
                {
                    *goal = Goal::Close;
                    let is_started = *is_started;
                    self.answer(ticket, Err(Error::Cancelled));
                    if is_started {
                        self.actions.push(Action::Cancel(execution));
                    }
                }
            }
            _ => (),
        }
    }

    fn start(&mut self, ticket: Option<Ticket>, origin: Origin) {
        self.execution_last += 1;
        let execution = self.execution_last;
        self.phase = Phase::Starting { execution, ticket, origin };
        self.set_status(JobStatus::Starting);
        self.actions.push(Action::Start(execution));
    }

    fn forget(&mut self, tickets: Vec<Ticket>) {
        self.phase = Phase::Forgotten;
        self.actions.push(Action::Forget);
        for export in std::mem::take(&mut self.exports) {
            self.refuse(export.ticket, "was dropped");
        }
        tickets.into_iter().for_each(|ticket| self.answer(ticket, Ok(())));
    }

    fn set_status(&mut self, status: JobStatus) {
        self.actions.push(Action::SetStatus(status, None));
    }

    fn refuse(&mut self, ticket: Ticket, text: &str) {
        let error = self.wrong_state(text);
        self.answer(ticket, Err(error));
    }

    fn answer(&mut self, ticket: Ticket, answer: Result<()>) {
        self.actions.push(Action::Answer(ticket, answer));
    }

    fn answer_if(&mut self, ticket: Option<Ticket>, answer: Result<()>) {
        if let Some(ticket) = ticket {
            self.answer(ticket, answer);
        }
    }

    fn wrong_state(&self, text: &str) -> Error {
        storage::Error::WrongState(format!("job \"{}\" {text}", self.name)).into()
    }
}

/// How an execution has ended that was to end because of a shutdown: nobody waits for a suspend or a
/// loss any more.
fn end_at_close(end: End) -> End {
    match end {
        End::Suspended | End::Unsaved(_) => End::Cancelled,
        End::Failed(Error::Lost(_) | Error::Cancelled) => End::Cancelled,
        end => end,
    }
}

fn status(phase: &Phase) -> JobStatus {
    match phase {
        Phase::NotRunning | Phase::Forgotten => JobStatus::NotRunning,
        Phase::Starting { .. } => JobStatus::Starting,
        Phase::Running { .. } | Phase::Stopping { .. } => JobStatus::Running,
        Phase::Suspended => JobStatus::Suspended,
        Phase::Exporting { .. } => JobStatus::SuspendedExportingSnapshot,
        Phase::Terminal(status) => *status,
    }
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;
