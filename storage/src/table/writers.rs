//! `Writers`: all writers, stamps and views of one member. A writer is flipped under one lock, so
//! that a view sees all of it or nothing.
//!
//! ```text
//! stamp      1   2   3   4   5   6
//! autocommit ●       ●   ●            one partition each, stamped under its lock
//! writer A       ├───────────●        pending, then all of it at stamp 5
//! view               3               sees 1, 2, 3; never half of A
//! ```
//! A view announces itself before it reads the stamp, an autocommit write draws its stamp before
//! it looks for views: whichever comes second sees the other, so a write that sees no view may
//! forget the old row at once, and the keyed path pays nothing for versions.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use super::{
    patience::is_stopped,
    turns::Turns,
    view::{ReadMode, ReadView, Snapshot},
    writer_cell::{Fate, JobTag, WriterCell},
};
use crate::{
    Error, Result,
    data_log::{DataLog, JobRun},
    log::Lsn,
};

/// How long a statement waits for another pending writer before it fails with Conflict: longer
/// than any statement of ours holds a key, short enough for two that wait for each other; and two
/// snapshots of a job, as often as they are taken unless told otherwise.
const WRITER_WAIT_MAX: Duration = Duration::from_secs(2);

/// Parts of that wait, after each of which the waiting statement may have been cancelled.
pub(crate) const WRITER_WAIT_SLICES: u32 = 100;

/// All writers, stamps and views of one member.
#[derive(Debug)]
pub(crate) struct Writers {
    /// The newest stamp given away. Written by commits; by writers under [`Writers::state`].
    stamp: AtomicU64,
    /// The newest generation of a chunk; partitions count it up.
    generation_last: Arc<AtomicU64>,
    /// The smallest stamp of a registered view, `u64::MAX` without one. Written under the lock.
    view_oldest: AtomicU64,
    state: Mutex<State>,
    /// Where their ends are written down, if anywhere.
    log: OnceLock<Arc<DataLog>>,
    /// Notified whenever a writer is published or ends.
    flipped: Condvar,
}

#[derive(Debug, Default)]
struct State {
    writer_id_last: u64,
    execution_last: u64,
    feed_last: u64,
    /// Writers that have not ended, and ended ones until their changes are settled.
    cells: HashMap<u64, Arc<WriterCell>>,
    /// Number of views per stamp.
    views: BTreeMap<u64, usize>,
    /// Who waits for one to end without holding a thread.
    turns: Turns,
}

/// Keeps what a view sees; gone with its last clone.
#[derive(Debug)]
pub(crate) struct Registration {
    writers: Arc<Writers>,
    stamp: u64,
}

/// How a wait for a writer went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waited {
    /// Parts of the longest wait that it took, at least one.
    pub(crate) slices: u32,
    /// Whether it was a job's, which may write to the same key again at once.
    pub(crate) is_job: bool,
}

impl Writers {
    /// No writer yet, stamp 1.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            stamp: AtomicU64::new(1),
            generation_last: Arc::default(),
            view_oldest: AtomicU64::new(u64::MAX),
            state: Mutex::default(),
            log: OnceLock::new(),
            flipped: Condvar::new(),
        })
    }

    /// The counter of chunk generations that all partitions share.
    pub(crate) fn generation_last(&self) -> &Arc<AtomicU64> {
        &self.generation_last
    }

    /// From now on ends are written down.
    pub(crate) fn log_to(&self, log: &Arc<DataLog>) {
        assert!(self.log.set(Arc::clone(log)).is_ok(), "there is one data log");
    }

    /// The newest record of the data log, and which writers with records up to it are undecided, by
    /// their first: a view taken afterwards shows what all other records up to it say.
    pub(crate) fn log_position(&self) -> Option<(Lsn, Vec<(Lsn, u64)>)> {
        let log = self.log.get()?;
        let state = self.state.lock();
        let newest = log.newest();
        let open = state.cells.values().filter(|cell| cell.is_open());
        let logged = open.filter_map(|cell| Some((cell.logged_first()?, cell.id())));
        Some((newest, logged.collect()))
    }

    /// The cell of a new pending writer.
    pub(crate) fn begin(&self, job: Option<JobTag>) -> Arc<WriterCell> {
        let mut state = self.state.lock();
        state.writer_id_last += 1;
        let cell = Arc::new(WriterCell::new(state.writer_id_last, job));
        state.cells.insert(cell.id(), Arc::clone(&cell));
        cell
    }

    /// The number of a new execution of a job.
    pub(crate) fn begin_execution(&self) -> u64 {
        let mut state = self.state.lock();
        state.execution_last += 1;
        state.execution_last
    }

    /// The number of a new reader of changes.
    pub(crate) fn begin_feed(&self) -> u64 {
        let mut state = self.state.lock();
        state.feed_last += 1;
        state.feed_last
    }

    /// Forgets ended writers whose changes are settled.
    pub(crate) fn forget<'a>(&self, cells: impl IntoIterator<Item = &'a Arc<WriterCell>>) {
        let mut state = self.state.lock();
        for cell in cells {
            state.cells.remove(&cell.id());
        }
    }

    /// A view of everything committed by now and of the changes of writer `own`.
    pub(crate) fn read_view(
        self: &Arc<Self>,
        own: Option<&WriterCell>,
        mode: ReadMode,
    ) -> ReadView {
        let mut state = self.state.lock();
        if state.views.is_empty() {
            // Announce before reading the stamp; see the module.
            self.view_oldest.store(self.stamp.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        let stamp = self.stamp.load(Ordering::SeqCst);
        *state.views.entry(stamp).or_insert(0) += 1;
        let registration = Registration { writers: Arc::clone(self), stamp };
        ReadView::new(Snapshot::new(stamp, own, mode), Arc::new(registration))
    }

    /// Draws the stamp of an autocommit write. Called under the partition's lock, before
    /// [`Writers::view_oldest`] is asked.
    pub(crate) fn draw_stamp(&self) -> u64 {
        self.stamp.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The newest stamp; every writer that has one up to it has been flipped.
    pub(crate) fn stamp(&self) -> u64 {
        let _state = self.state.lock();
        self.stamp.load(Ordering::SeqCst)
    }

    /// Changes committed up to here are seen by every view there is or will be.
    pub(crate) fn view_oldest(&self) -> u64 {
        self.view_oldest.load(Ordering::SeqCst)
    }

    /// The same, and every writer with a stamp up to it has been flipped: what may be settled.
    pub(crate) fn settling_limit(&self) -> u64 {
        let _state = self.state.lock();
        self.stamp.load(Ordering::SeqCst).min(self.view_oldest())
    }

    /// The cell of a writer that has not ended or is not yet settled.
    pub(crate) fn cell(&self, id: u64) -> Option<Arc<WriterCell>> {
        self.state.lock().cells.get(&id).map(Arc::clone)
    }

    /// Waits until writer `id` has ended or, a job's, was published: its own execution may then
    /// go on. At most `slices_max` parts of a wait; Conflict if it takes longer.
    pub(crate) fn wait_for(&self, id: u64, slices_max: u32) -> Result<Waited> {
        let mut state = self.state.lock();
        let Some(cell) = state.cells.get(&id).map(Arc::clone) else {
            return Ok(Waited { slices: 1, is_job: false });
        };
        let (before, is_job) = (cell.fate(), cell.job().is_some());
        if !cell.is_open() {
            return Ok(Waited { slices: 1, is_job });
        }
        let is_unchanged = |_: &mut State| cell.fate() == before;
        for slices in 1..=slices_max.min(WRITER_WAIT_SLICES) {
            if is_stopped() {
                return Err(Error::Conflict);
            }
            let slice = WRITER_WAIT_MAX / WRITER_WAIT_SLICES;
            if !self.flipped.wait_while_for(&mut state, is_unchanged, slice).timed_out() {
                return Ok(Waited { slices, is_job });
            }
        }
        Err(Error::Conflict)
    }

    /// Looks at, or changes, who waits for whom; the second argument tells whether a writer is open.
    pub(crate) fn with_turns<T>(
        &self,
        work: impl FnOnce(&mut Turns, &dyn Fn(u64) -> bool) -> T,
    ) -> T {
        let State { cells, turns, .. } = &mut *self.state.lock();
        work(turns, &|id| is_open(cells, id))
    }

    /// Tells those who wait that writers have ended, under the lock of `state`.
    fn ended(&self, state: &mut State, ids: &[u64]) {
        self.flipped.notify_all();
        let State { cells, turns, .. } = state;
        for id in ids {
            turns.pass_on(*id, |id| is_open(cells, id));
        }
    }

    /// Flips a job's pending writer to published; answers whether it was pending.
    pub(crate) fn publish(&self, cell: &WriterCell) -> bool {
        let _state = self.state.lock();
        if cell.fate() != Fate::Pending {
            return false;
        }
        cell.publish(self.draw_stamp());
        self.flipped.notify_all();
        true
    }

    /// Ends a pending writer; answers whether it was pending.
    pub(crate) fn end(&self, cell: &WriterCell, is_commit: bool) -> bool {
        // Under the lock of `read_view`, so that a view sees all of the writer or nothing.
        let mut state = self.state.lock();
        if cell.fate() != Fate::Pending {
            return false;
        }
        if let Some(log) = self.log.get() {
            log.end(cell, is_commit);
        }
        cell.end(is_commit.then(|| self.draw_stamp()));
        self.ended(&mut state, &[cell.id()]);
        true
    }

    /// Ends those of an execution's `cells` that have not ended, all at one stamp: committed by a
    /// snapshot or, without one, aborted.
    pub(crate) fn end_job<'a>(
        &self,
        cells: impl IntoIterator<Item = &'a Arc<WriterCell>>,
        run: JobRun,
        snapshot: Option<u64>,
    ) {
        let mut state = self.state.lock();
        let mut open = cells.into_iter().filter(|cell| cell.is_open()).peekable();
        if open.peek().is_none() {
            return;
        }
        if let Some(log) = self.log.get() {
            match snapshot {
                Some(snapshot) => log.commit_job(run, snapshot),
                None => log.abort_job(run),
            }
        }
        let stamp = snapshot.map(|_| self.draw_stamp());
        let mut ended = Vec::new();
        for cell in open {
            cell.end(stamp);
            ended.push(cell.id());
        }
        self.ended(&mut state, &ended);
    }
}

fn is_open(cells: &HashMap<u64, Arc<WriterCell>>, id: u64) -> bool {
    cells.get(&id).is_some_and(|cell| cell.is_open())
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.writers.state.lock();
        if let Some(count) = state.views.get_mut(&self.stamp) {
            *count -= 1;
            if *count == 0 {
                state.views.remove(&self.stamp);
            }
        }
        let oldest = state.views.keys().next().copied().unwrap_or(u64::MAX);
        self.writers.view_oldest.store(oldest, Ordering::SeqCst);
    }
}
