//! `SnapshotCoordinator`: when the next snapshot of one execution is taken, and how far it is. A value
//! without clock, lock or thread: events go in, actions come out; `execution_snapshots` carries them out.
//!
//! ```text
//!            due, or asked for           begun            taken           stored          committed
//!   Idle ────────────────► Beginning ────────► Barrier ────────► Storing ────────► Committing ──┐
//!    ▲                                            │ cannot be taken, stored or committed        │
//!    └──────────── abandoned ◄────────────────────┴─────────────────────────────────────────────┤
//!    └────────────────────────────────────────── older ones freed ◄─────────────────────────────┘
//! ```
//! One snapshot is under way at a time; the next is due one interval after the last one *began*, or
//! at once when that took longer, or when sinks that have completed await it, or somebody wants it
//! exported; without an interval, of a job without a guarantee, only then. The last snapshot of an execution is *terminal*: it is asked for by a suspend, waits for
//! the one under way, and nothing follows it.
//!
//! What is told of another snapshot than the present one is old news and changes nothing.

use storage::snapshot::SnapshotSummary;

use super::events::Ticket;
use crate::item::SnapshotId;

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The execution runs, at that time (µs).
    Started(i64),
    /// It is that time.
    Tick(i64),
    /// A snapshot is waited for that begins now or later: it is due as soon as none is under way.
    Awaited(i64),
    /// The execution shall end with a snapshot.
    StopWanted(i64),
    /// The next snapshot that begins shall be exported; so many µs are now.
    ExportWanted(Ticket, i64),
    /// The control state gave the snapshot this id; its barrier is not sent yet.
    Begun(SnapshotId),
    /// The control state gave none: the execution is over.
    Refused,
    /// Every instance has saved.
    Taken(SnapshotId),
    /// Chunks and manifest are written.
    Stored(SnapshotId, SnapshotSummary),
    /// The control state has it.
    Committed(SnapshotId),
    /// It cannot be taken, stored or committed.
    Failed(SnapshotId, String),
}

/// What to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Have the control state draw an id; answer `Begun` or `Refused`.
    Begin,
    /// Send the barrier, the terminal one or not.
    SendBarrier(SnapshotId, IsTerminal),
    /// Write what was saved; answer `Stored` or `Failed`.
    Store(SnapshotId),
    /// Submit the commit; answer `Committed` or `Failed`.
    Commit(SnapshotId, SnapshotSummary, StartedAt),
    /// Submit that it will never be.
    Abandon(SnapshotId),
    /// Export the good snapshot (`Ok`), or say why there is none.
    Export(Ticket, Result<SnapshotId, String>),
    /// Free what no good snapshot needs.
    Free,
    /// The terminal snapshot is good (`Ok`), or the execution ended without one.
    Stopped(Result<SnapshotId, String>),
}

/// Whether the execution ends at the barrier.
pub type IsTerminal = bool;

/// When a snapshot began, µs.
pub type StartedAt = i64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was started.
    New,
    /// Waits for the time.
    Idle,
    /// Waits for an id.
    Beginning,
    /// Waits for every instance.
    Barrier(SnapshotId),
    /// Waits for the store.
    Storing(SnapshotId),
    /// Waits for the control state.
    Committing(SnapshotId),
    /// The terminal snapshot is over.
    Over,
}

/// The snapshots of one execution.
#[derive(Debug)]
pub struct SnapshotCoordinator {
    /// µs between the beginnings of two snapshots; without it one is taken when it is asked for.
    interval: Option<i64>,
    phase: Phase,
    /// The newest id it was given; 0 for none.
    id_last: SnapshotId,
    /// When the present snapshot began, or the last one.
    started_at: StartedAt,
    /// Whether the next one is due at once.
    is_awaited: bool,
    is_stop_wanted: bool,
    /// Whether the present snapshot is the terminal one.
    is_terminal: bool,
    /// Exports that wait for the next snapshot to begin.
    exports_next: Vec<Ticket>,
    /// Exports of the present one.
    exports: Vec<Ticket>,
    actions: Vec<Action>,
}

impl SnapshotCoordinator {
    /// Of an execution that is about to start.
    pub fn new(interval: Option<i64>) -> Self {
        Self {
            interval,
            phase: Phase::New,
            id_last: 0,
            started_at: 0,
            is_awaited: false,
            is_stop_wanted: false,
            is_terminal: false,
            exports_next: Vec::new(),
            exports: Vec::new(),
            actions: Vec::new(),
        }
    }

    /// When a `Tick` changes something, µs; `None` while something else must happen first.
    pub fn due(&self) -> Option<i64> {
        let interval = self.interval.filter(|_| self.phase == Phase::Idle)?;
        Some(self.started_at.saturating_add(interval))
    }

    /// The snapshot that is being taken.
    pub fn present(&self) -> Option<SnapshotId> {
        match self.phase {
            Phase::Barrier(id) | Phase::Storing(id) | Phase::Committing(id) => Some(id),
            _ => None,
        }
    }

    /// Takes an event; the actions that follow from it, in order.
    pub fn step(&mut self, event: Event) -> Vec<Action> {
        match (self.phase, event) {
            (Phase::New, Event::Started(now)) => {
                self.started_at = now;
                self.phase = Phase::Idle;
                self.begin_if_wanted(now);
            }
            (Phase::Idle, Event::Tick(now)) if self.due().is_some_and(|due| due <= now) => {
                self.begin(now);
            }
            (_, Event::Awaited(now)) => {
                self.is_awaited = true;
                self.begin_if_wanted(now);
            }
            (_, Event::StopWanted(now)) => {
                self.is_stop_wanted = true;
                self.begin_if_wanted(now);
            }
            (Phase::Over, Event::ExportWanted(ticket, _)) => {
                let why = "the execution is over".to_owned();
                self.actions.push(Action::Export(ticket, Err(why)));
            }
            (_, Event::ExportWanted(ticket, now)) => {
                self.exports_next.push(ticket);
                self.begin_if_wanted(now);
            }
            (Phase::Beginning, Event::Begun(id)) if id > self.id_last => {
                self.id_last = id;
                self.phase = Phase::Barrier(id);
                self.actions.push(Action::SendBarrier(id, self.is_terminal));
            }
            (Phase::Beginning, Event::Refused) => {
                self.over(Err("the execution is over".to_owned()));
            }
            (Phase::Barrier(present), Event::Taken(id)) if id == present => {
                self.phase = Phase::Storing(id);
                self.actions.push(Action::Store(id));
            }
            (Phase::Storing(present), Event::Stored(id, summary)) if id == present => {
                self.phase = Phase::Committing(id);
                self.actions.push(Action::Commit(id, summary, self.started_at));
            }
            (Phase::Committing(present), Event::Committed(id)) if id == present => {
                let exports = std::mem::take(&mut self.exports).into_iter();
                self.actions.extend(exports.map(|ticket| Action::Export(ticket, Ok(id))));
                self.actions.push(Action::Free);
                self.concluded(Ok(id));
            }
            (
                Phase::Barrier(present) | Phase::Storing(present) | Phase::Committing(present),
                Event::Failed(id, why),
            ) if id == present => {
                self.actions.extend([Action::Abandon(id), Action::Free]);
                let exports = std::mem::take(&mut self.exports).into_iter();
                let failed = |ticket| Action::Export(ticket, Err(why.clone()));
                self.actions.extend(exports.map(failed));
                self.concluded(Err(why));
            }
            // Of a snapshot that is over, or too early.
            _ => (),
        }
        std::mem::take(&mut self.actions)
    }

    fn begin(&mut self, now: i64) {
        self.started_at = now;
        self.is_terminal = self.is_stop_wanted;
        self.is_awaited = false;
        self.exports = std::mem::take(&mut self.exports_next);
        self.phase = Phase::Beginning;
        self.actions.push(Action::Begin);
    }

    fn begin_if_wanted(&mut self, now: i64) {
        let is_wanted = self.is_stop_wanted || self.is_awaited || !self.exports_next.is_empty();
        if is_wanted && self.phase == Phase::Idle {
            self.begin(now);
        }
    }

    /// The present snapshot is good, or never will be.
    fn concluded(&mut self, outcome: Result<SnapshotId, String>) {
        if self.is_terminal {
            return self.over(outcome);
        }
        self.phase = Phase::Idle;
        self.begin_if_wanted(self.started_at);
    }

    fn over(&mut self, outcome: Result<SnapshotId, String>) {
        self.phase = Phase::Over;
        let waiting = self.exports.drain(..).chain(self.exports_next.drain(..));
        let over = || "the execution is over".to_owned();
        self.actions.extend(waiting.map(|ticket| Action::Export(ticket, Err(over()))));
        if self.is_stop_wanted {
            self.actions.push(Action::Stopped(outcome));
        }
    }
}

#[cfg(test)]
#[path = "snapshots_tests.rs"]
mod tests;
