//! Writers and stamps: every change names its writer; a writer is pending, committed at a stamp,
//! or aborted, and flipping it makes a statement over many partitions visible as a whole.
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
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use super::{op::Run, patience::is_stopped, router::Router};
use crate::{Error, Result, cluster::control::ObjectId, partition::PartitionId};

/// How long a statement waits for another pending writer before it fails with Conflict: longer
/// than any statement of ours holds a key, short enough for two that wait for each other.
const WRITER_WAIT_MAX: Duration = Duration::from_secs(2);

/// Parts of that wait, after each of which the waiting statement may have been cancelled.
const WRITER_WAIT_SLICES: u32 = 100;

/// Outcome of a writer that is still pending, and of one that was aborted. Stamps are between.
const PENDING: u64 = 0;
const ABORTED: u64 = u64::MAX;

/// A pending writer: a statement or transaction block that touches several rows. Dropping it
/// without [`Writer::commit`] aborts it: every change it made is undone.
#[derive(Debug)]
pub struct Writer {
    router: Arc<Router>,
    cell: Arc<WriterCell>,
    /// The partitions it wrote to by table, so that its end can be settled there; in no order
    /// and possibly repeated.
    touched: Mutex<BTreeMap<ObjectId, Vec<PartitionId>>>,
}

/// What a reader sees: everything committed up to its stamp, and its own writer's changes.
/// Cheap to take and to clone; row versions that it needs are kept until it is dropped.
#[derive(Debug, Clone)]
pub struct ReadView {
    snapshot: Snapshot,
    /// Deregisters the stamp with the last clone.
    _registration: Arc<Registration>,
}

/// The value of a view, as operations carry it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// Writers committed up to here are seen.
    stamp: u64,
    /// Id of the pending writer whose changes are seen too; 0 for none.
    own: u64,
}

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
    /// Notified whenever a writer ends.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    writer_id_last: u64,
    /// Pending writers, and ended ones until their changes are settled.
    cells: HashMap<u64, Arc<WriterCell>>,
    /// Number of views per stamp.
    views: BTreeMap<u64, usize>,
}

/// The fate of one writer: flipped once, read by everybody who meets one of its changes.
#[derive(Debug)]
pub(crate) struct WriterCell {
    id: u64,
    outcome: AtomicU64,
}

/// Where a writer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Waits for its commit or abort.
    Pending,
    /// Visible to views from this stamp on.
    Committed(u64),
    /// Its changes are being undone.
    Aborted,
}

#[derive(Debug)]
struct Registration {
    writers: Arc<Writers>,
    stamp: u64,
}

impl Writer {
    /// A new pending writer.
    pub(crate) fn begin(router: &Arc<Router>) -> Self {
        let cell = router.writers().begin();
        Self { router: Arc::clone(router), cell, touched: Mutex::default() }
    }

    /// Flips all changes to visible at one stamp. WrongState if it has ended.
    pub fn commit(&self) -> Result<()> {
        if !self.router.writers().end(&self.cell, true) {
            return Err(Error::WrongState("the writer has already ended".to_owned()));
        }
        self.settle();
        Ok(())
    }

    /// Undoes all changes; nothing if it has ended.
    pub fn abort(&self) {
        if self.router.writers().end(&self.cell, false) {
            self.settle();
        }
    }

    /// The present committed state plus this writer's own changes.
    pub fn read_view(&self) -> ReadView {
        self.router.writers().read_view(self.cell.id)
    }

    /// Its id in operations.
    pub(crate) fn id(&self) -> u64 {
        self.cell.id
    }

    /// Remembers that it is about to write to these partitions of a table. WrongState once it has
    /// ended.
    pub(crate) fn touch(&self, table: ObjectId, runs: &[Run]) -> Result<()> {
        if self.cell.fate() != Fate::Pending {
            return Err(Error::WrongState("the writer has already ended".to_owned()));
        }
        let mut touched = self.touched.lock();
        let partitions = touched.entry(table).or_default();
        partitions.extend(runs.iter().map(|run| run.partition));
        if partitions.len() > 2 * usize::from(self.router.partition_count()) {
            partitions.sort_unstable();
            partitions.dedup();
        }
        Ok(())
    }

    /// Drops version information, or undoes changes, wherever it wrote.
    fn settle(&self) {
        for (table, mut partitions) in std::mem::take(&mut *self.touched.lock()) {
            partitions.sort_unstable();
            partitions.dedup();
            if let Err(error) = self.router.settle(table, &partitions) {
                // Readers already see the outcome; the next write to the partition settles it.
                tracing::warn!(table = table.0, %error, "changes of an ended writer not settled");
            }
        }
        self.router.writers().forget(&self.cell);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.abort();
    }
}

impl ReadView {
    /// What operations carry.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.snapshot
    }
}

impl Snapshot {
    /// The newest committed state.
    pub(crate) const NEWEST: Self = Self { stamp: u64::MAX - 1, own: 0 };

    /// Whether changes of a writer are seen.
    pub(crate) fn sees(&self, id: u64, fate: Fate) -> bool {
        match fate {
            Fate::Committed(stamp) => stamp <= self.stamp,
            Fate::Pending => id == self.own,
            Fate::Aborted => false,
        }
    }
}

impl Writers {
    /// No writer yet, stamp 1.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            stamp: AtomicU64::new(1),
            generation_last: Arc::default(),
            view_oldest: AtomicU64::new(u64::MAX),
            state: Mutex::default(),
            ended: Condvar::new(),
        })
    }

    /// The counter of chunk generations that all partitions share.
    pub(crate) fn generation_last(&self) -> &Arc<AtomicU64> {
        &self.generation_last
    }

    /// The cell of a new pending writer.
    pub(crate) fn begin(&self) -> Arc<WriterCell> {
        let mut state = self.state.lock();
        state.writer_id_last += 1;
        let id = state.writer_id_last;
        let cell = Arc::new(WriterCell { id, outcome: AtomicU64::new(PENDING) });
        state.cells.insert(id, Arc::clone(&cell));
        cell
    }

    /// Forgets an ended writer whose changes are settled.
    fn forget(&self, cell: &WriterCell) {
        self.state.lock().cells.remove(&cell.id);
    }

    /// A view of everything committed by now and of the changes of writer `own` (0: none).
    pub(crate) fn read_view(self: &Arc<Self>, own: u64) -> ReadView {
        let mut state = self.state.lock();
        if state.views.is_empty() {
            // Announce before reading the stamp; see the module.
            self.view_oldest.store(self.stamp.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        let stamp = self.stamp.load(Ordering::SeqCst);
        *state.views.entry(stamp).or_insert(0) += 1;
        let registration = Registration { writers: Arc::clone(self), stamp };
        ReadView { snapshot: Snapshot { stamp, own }, _registration: Arc::new(registration) }
    }

    /// Draws the stamp of an autocommit write. Called under the partition's lock, before
    /// [`Writers::view_oldest`] is asked.
    pub(crate) fn draw_stamp(&self) -> u64 {
        self.stamp.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Changes committed up to here are seen by every view there is or will be.
    pub(crate) fn view_oldest(&self) -> u64 {
        self.view_oldest.load(Ordering::SeqCst)
    }

    /// The cell of a writer that is pending or not yet settled.
    pub(crate) fn cell(&self, id: u64) -> Option<Arc<WriterCell>> {
        self.state.lock().cells.get(&id).map(Arc::clone)
    }

    /// Waits until writer `id` has ended; Conflict if it takes too long.
    pub(crate) fn wait_for_end_of(&self, id: u64) -> Result<()> {
        let mut state = self.state.lock();
        let is_pending = |state: &mut State| {
            state.cells.get(&id).is_some_and(|cell| cell.fate() == Fate::Pending)
        };
        for _ in 0..WRITER_WAIT_SLICES {
            if is_stopped() {
                return Err(Error::Conflict);
            }
            let slice = WRITER_WAIT_MAX / WRITER_WAIT_SLICES;
            if !self.ended.wait_while_for(&mut state, is_pending, slice).timed_out() {
                return Ok(());
            }
        }
        Err(Error::Conflict)
    }

    /// Flips a pending writer; answers whether it was pending.
    pub(crate) fn end(&self, cell: &WriterCell, is_commit: bool) -> bool {
        // Under the lock of `read_view`, so that a view sees all of the writer or nothing.
        let _state = self.state.lock();
        if cell.fate() != Fate::Pending {
            return false;
        }
        let outcome = if is_commit { self.draw_stamp() } else { ABORTED };
        cell.outcome.store(outcome, Ordering::SeqCst);
        self.ended.notify_all();
        true
    }
}

impl WriterCell {
    /// Its id in operations.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Where the writer stands.
    pub(crate) fn fate(&self) -> Fate {
        match self.outcome.load(Ordering::SeqCst) {
            PENDING => Fate::Pending,
            ABORTED => Fate::Aborted,
            stamp => Fate::Committed(stamp),
        }
    }
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
