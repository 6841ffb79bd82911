//! `JobCoordinator`: what happens to one job next. A value without clock, lock or thread: events go
//! in, actions come out; `jobs.rs` carries them out, the test below reorders and loses them.
//!
//! ```text
//!   create ─► NOT_RUNNING ─► STARTING ─► RUNNING ─► COMPLETING ─► COMPLETED
//!                  ▲            │          │  └──────────────────► FAILED
//!                  │ resume     │ cannot   │ suspend, restart, suspendOnFailure
//!                  └─────── SUSPENDED ◄────┴─ (restart goes on to NOT_RUNNING, and so does an
//!                                              execution that was lost)
//! ```
//! Each start has a number. An event of another execution than the present one is old news and is
//! ignored, so events may arrive late, twice, or in the wrong order; the news of a start may be lost,
//! since its end implies it.

use storage::cluster::control::{JobError, JobStatus};

use crate::{Error, Result};

/// Names who waits for the answer to a request.
pub type Ticket = u64;

/// What a user asks of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Stop with state kept.
    Suspend,
    /// Go on from the kept state.
    Resume,
    /// Suspend and resume.
    Restart,
    /// Stop and forget.
    Drop,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The job was recorded; start it.
    Created(Ticket),
    /// A user asks.
    Requested(Ticket, Request),
    /// The execution runs.
    Started(u64),
    /// The execution could not be started; nothing of it runs.
    StartFailed(u64, Error),
    /// The execution has ended and is freed.
    Ended(u64, End),
    /// The member shuts down.
    Closed,
}

/// How an execution ended; its state is the shell's to keep.
#[derive(Debug, Clone)]
pub enum End {
    /// Its input ended.
    Completed,
    /// With its state saved.
    Suspended,
    /// Cancelled.
    Cancelled,
    /// Failed.
    Failed(Error),
}

/// What to do, in order.
#[derive(Debug, Clone)]
pub enum Action {
    /// Submit the status, with the error behind it.
    SetStatus(JobStatus, Option<JobError>),
    /// Plan and run; answer `Started` or `StartFailed`.
    Start(u64),
    /// Send the terminal barrier.
    Suspend(u64),
    /// Cancel.
    Cancel(u64),
    /// Remove the record and everything kept.
    Forget,
    /// Tell who waits.
    Answer(Ticket, Result<()>),
}

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
    Close,
}

/// One job's life.
#[derive(Debug)]
pub struct JobCoordinator {
    name: String,
    /// Whether a failure suspends it.
    suspends_on_failure: bool,
    phase: Phase,
    execution_last: u64,
    actions: Vec<Action>,
}

impl JobCoordinator {
    /// Of a job that was just recorded.
    pub fn new(name: String, suspends_on_failure: bool) -> Self {
        let phase = Phase::NotRunning;
        Self { name, suspends_on_failure, phase, execution_last: 0, actions: Vec::new() }
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
            Event::Requested(ticket, request) => self.requested(ticket, request),
            Event::Started(execution) if self.execution() == Some(execution) => self.started(),
            Event::StartFailed(execution, error) if self.execution() == Some(execution) => {
                self.start_failed(error);
            }
            Event::Ended(execution, end) if self.execution() == Some(execution) => self.ended(end),
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
        if request == Request::Drop {
            return self.drop(ticket);
        }
        match (&self.phase, request) {
            (Phase::Running { execution }, Request::Suspend | Request::Restart) => {
                let execution = *execution;
                self.actions.push(Action::Suspend(execution));
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
            (Phase::Stopping { .. }, _) => self.refuse(ticket, "is already stopping"),
            (phase, Request::Resume) => {
                let text = format!("is {}, not SUSPENDED", status(phase).word());
                self.refuse(ticket, &text);
            }
            (phase, _) => {
                let text = format!("is {}, not RUNNING", status(phase).word());
                self.refuse(ticket, &text);
            }
        }
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
                if let Goal::Suspend(waiting) | Goal::Restart(waiting) = before {
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
                if matches!(goal, Goal::Close) {
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
            Phase::Starting { ticket, origin: Origin::Resume, .. } => {
                self.phase = Phase::Suspended;
                self.actions.push(Action::SetStatus(JobStatus::Suspended, Some((&error).into())));
                self.answer_if(ticket, Err(error));
            }
            Phase::Stopping { goal: Goal::Drop(tickets), .. } => self.forget(tickets),
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
        match std::mem::replace(&mut self.phase, Phase::NotRunning) {
            Phase::Stopping { goal: Goal::Drop(tickets), .. } => self.forget(tickets),
            Phase::Stopping { goal: Goal::Suspend(ticket), .. } => self.stopped(end, Some(ticket)),
            Phase::Stopping { goal: Goal::Restart(ticket), .. } => match end {
                End::Suspended | End::Failed(Error::Lost(_)) => self.start_again(Some(ticket)),
                end => self.stopped(end, Some(ticket)),
            },
            Phase::Stopping { goal: Goal::Close, is_started, .. } => {
                if !is_started {
                    self.set_status(JobStatus::Running);
                }
                self.stopped(end, None);
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
            End::Cancelled => {
                self.set_status(JobStatus::NotRunning);
                (Phase::NotRunning, Err(Error::Cancelled))
            }
            End::Failed(error) if self.suspends_on_failure => {
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
                if let Goal::Suspend(ticket) | Goal::Restart(ticket) = *goal {
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

fn status(phase: &Phase) -> JobStatus {
    match phase {
        Phase::NotRunning | Phase::Forgotten => JobStatus::NotRunning,
        Phase::Starting { .. } => JobStatus::Starting,
        Phase::Running { .. } | Phase::Stopping { .. } => JobStatus::Running,
        Phase::Suspended => JobStatus::Suspended,
        Phase::Terminal(status) => *status,
    }
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;
