//! What the coordinator of a job is told, and what it has done: the words between it and its shell.
//! An execution is named by its number, who waits for an answer by a ticket.

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
    /// Give the next snapshot, or the last one of a job that stands still, a name.
    Export,
    /// Stop with a last snapshot, give it a name, and forget the job.
    DropExported,
    /// Other options, put in force by the next start.
    Alter,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The job was recorded; start it.
    Created(Ticket),
    /// It was found with that status at the start of the process.
    Adopted(JobStatus),
    /// A user asks.
    Requested(Ticket, Request),
    /// The execution runs.
    Started(u64),
    /// The execution could not be started; nothing of it runs.
    StartFailed(u64, Error),
    /// The execution has ended and is freed.
    Ended(u64, End),
    /// What was to be exported is, or cannot be.
    Exported(Ticket, Result<()>),
    /// The job's time is up: with this error.
    TimedOut(Error),
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
    /// As asked, but what it held could not be saved: it goes on from the snapshot before.
    Unsaved(Error),
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
    /// Take a snapshot of the present execution and export it; answer `Exported`.
    ExportNext(Ticket),
    /// Export the newest good snapshot; answer `Exported`.
    ExportNewest(Ticket),
    /// Take over the new options.
    Alter(Ticket),
    /// Remove the record and everything kept.
    Forget,
    /// Tell who waits.
    Answer(Ticket, Result<()>),
}
