//! `DataLog`: what happened to the rows of this member, so that it can be told again after the
//! process is gone.
//!
//! ```text
//!   autocommit   row changed, under its partition's lock ──► Put, Delete, Truncate
//!   a writer     batch executed ──► Rows … Rows ──► Commit, under the lock that flips it
//!   a job        batch executed ──► Rows … Rows │ snapshot 7 is committed ──► CommitJob 7
//!
//!   read again:  Put 1 · Rows(A) · Rows(B) · Put 2 · Commit(B) · Put 3 · Start
//!   applied:     1                           2       B           3       A is undone
//! ```
//! Records are *effects*: whole rows that came and keys that went, never statements. A writer's rows
//! are applied where its commit stands, which is where every reader began to see them; the lock under
//! which a change becomes visible is held while it is appended, so that two changes of a key stand in
//! the order in which they were made. To apply effects over rows that have them already changes
//! nothing in the end, which is why a checkpoint may be taken while they are made.

mod record;
mod replay;

use std::{path::Path, sync::Arc, task::Waker, time::Duration};

use arrow::array::RecordBatch;
use parking_lot::{Condvar, Mutex};

use self::record::{Joiner, Rows};
pub use self::{record::JobRun, replay::Position};
pub(crate) use self::{
    record::{Author, Record},
    replay::{Recovered, Replay},
};
use crate::{
    Datum, Error, Result,
    cluster::control::ObjectId,
    env::Disk,
    log::{Log, Lsn, Opened, RECORD_BYTES_MAX},
    partition::PartitionId,
    table::WriterCell,
};

/// How long what nobody waits for stays in memory alone: what `durability = 'relaxed'` may lose.
const RELAXED: Duration = Duration::from_millis(100);

/// Bytes that go on their way to the disk though nobody waits for them yet: who loads much does not
/// wait for all of it at the end.
const EARLY_BYTES: usize = 1 << 20;

/// How long the log waits before it tries again to have room on a full disk.
const ROOM_RETRY: Duration = Duration::from_millis(100);

/// The data log of one member.
#[derive(Debug)]
pub struct DataLog {
    log: Log,
    /// Whether somebody waits for a sync, and whether the log is closed.
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wanted {
    upto: Lsn,
    is_closed: bool,
}

impl DataLog {
    /// Opens the log of a folder and shows all of its records from `from` on.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        folder: &Path,
        id: u64,
        from: Lsn,
        mut show: impl FnMut(Lsn, Record<'static>) -> Result<()>,
    ) -> Result<(Arc<Self>, Opened)> {
        let mut joiner = Joiner::default();
        let (log, opened) = Log::open(disk, folder, id, from, |lsn, piece| {
            joiner.push(piece)?.map_or(Ok(()), |record| show(lsn, record))
        })?;
        Ok((Arc::new(Self { log, wanted: Mutex::default(), changed: Condvar::new() }), opened))
    }

    /// Whether there is room for another change: DiskFull if not. To be asked without a lock.
    pub(crate) fn admit(&self) -> Result<()> {
        if self.log.admit()? >= EARLY_BYTES {
            self.want(self.log.newest());
        }
        Ok(())
    }

    /// Has [`DataLog::serve`] make the records up to this one durable.
    fn want(&self, upto: Lsn) {
        let mut wanted = self.wanted.lock();
        if wanted.upto < upto {
            wanted.upto = upto;
            self.changed.notify_one();
        }
    }

    /// A row was written. Under the lock of its partition. Answers bytes, as do the others.
    pub(crate) fn put(&self, table: ObjectId, row: &[Datum]) -> u64 {
        self.append_values(row, &Record::Put { table, row: row.into() })
    }

    /// The row of a key was removed. Under the lock of its partition.
    pub(crate) fn delete(&self, table: ObjectId, key: &[Datum]) -> u64 {
        self.append_values(key, &Record::Delete { table, key: key.into() })
    }

    /// All rows of a partition were removed. Under its lock.
    pub(crate) fn truncate(&self, table: ObjectId, partition: PartitionId) -> u64 {
        self.append_short(&Record::Truncate { table, partition }).1
    }

    /// A writer wrote rows, or removed those of these keys; before it is committed.
    pub(crate) fn rows(
        &self,
        cell: &WriterCell,
        table: ObjectId,
        batch: &RecordBatch,
        is_removal: bool,
    ) -> Result<u64> {
        // Noted first: who looks for open writers sees this one, or none of its records.
        cell.note_logged(Lsn(self.log.newest().0 + 1));
        let author = match cell.job() {
            Some(tag) => Author::Job { writer: cell.id(), run: tag.run, after: tag.after },
            None => Author::Writer(cell.id()),
        };
        let records = Rows::of(batch)?.into_iter();
        let records = records.map(|rows| Record::Rows { author, table, is_removal, rows });
        Ok(records.map(|record| self.append(&record)).sum())
    }

    /// Appends how a writer ended, under the lock that flips it.
    pub(crate) fn end(&self, cell: &WriterCell, is_commit: bool) {
        if cell.logged_first().is_none() {
            return;
        }
        let writer = cell.id();
        let record = match is_commit {
            true => Record::Commit { writer },
            false => Record::Abort { writer },
        };
        self.append_short(&record);
    }

    /// Appends that a snapshot of a job was committed, under the lock that flips what it covers.
    pub(crate) fn commit_job(&self, run: JobRun, snapshot: u64) {
        self.append_short(&Record::CommitJob { run, snapshot });
    }

    /// Appends that an execution is undone, under the lock that flips its writers.
    pub(crate) fn abort_job(&self, run: JobRun) {
        self.append_short(&Record::AbortJob { run });
    }

    /// Appends that the member serves from here on, durably.
    pub(crate) fn start(&self) -> Result<()> {
        self.log.sync(self.append_short(&Record::Start).0)
    }

    /// The newest record.
    pub fn newest(&self) -> Lsn {
        self.log.newest()
    }

    /// Whether the records up to `lsn` are on disk; if not, `waker` is woken when they may be.
    pub fn poll_synced(&self, lsn: Lsn, waker: &Waker) -> Result<bool> {
        if self.log.is_synced(lsn) {
            return Ok(true);
        }
        let is_synced = self.log.poll_synced(lsn, waker)?;
        if !is_synced {
            self.want(lsn);
        }
        Ok(is_synced)
    }

    /// Returns when all records up to now are on disk.
    pub fn sync(&self) -> Result<()> {
        self.log.sync(self.log.newest())
    }

    /// Why the log is broken, if it is: nothing is durable any more.
    pub fn failure(&self) -> Option<&str> {
        self.log.failure()
    }

    /// Bytes it takes on disk.
    pub fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// The oldest record there is.
    pub(crate) fn first(&self) -> Lsn {
        self.log.first()
    }

    /// Whether [`DataLog::cut`] would forget anything.
    pub(crate) fn can_cut(&self, lsn: Lsn) -> bool {
        self.log.can_cut(lsn)
    }

    /// Forgets the records before `lsn`, or most of them.
    pub(crate) fn cut(&self, lsn: Lsn) -> Result<()> {
        self.log.cut(lsn)
    }

    /// Makes durable what others wait for, and what nobody waits for after [`RELAXED`]; until the log
    /// is closed or breaks. The work of one thread.
    pub fn serve(&self) -> Result<()> {
        loop {
            let is_closed = {
                let mut wanted = self.wanted.lock();
                if !wanted.is_closed && self.log.is_synced(wanted.upto) {
                    self.changed.wait_for(&mut wanted, RELAXED);
                }
                wanted.is_closed
            };
            // Who has come meanwhile goes along.
            match self.sync() {
                Err(Error::DiskFull(path)) if !is_closed => {
                    tracing::warn!(path = %path.display(), "no room for the log, trying again");
                    let mut wanted = self.wanted.lock();
                    if !wanted.is_closed {
                        self.changed.wait_for(&mut wanted, ROOM_RETRY);
                    }
                }
                synced => synced?,
            }
            if is_closed {
                return Ok(());
            }
            if let Err(error) = self.log.tend() {
                tracing::debug!(%error, "no room for the next segment of the log");
            }
        }
    }

    /// Ends [`DataLog::serve`] after a last sync.
    pub fn close(&self) {
        self.wanted.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Appends a record with these values in it; answers bytes.
    fn append_values(&self, values: &[Datum], record: &Record<'_>) -> u64 {
        /// What a value takes at most beside its text or bytes.
        const VALUE_BYTES_MAX: usize = 24;
        let bytes = values.iter().map(|value| match value {
            Datum::Text(text) => VALUE_BYTES_MAX + text.len(),
            Datum::Bytes(bytes) | Datum::Nested(bytes) => VALUE_BYTES_MAX + bytes.len(),
            _ => VALUE_BYTES_MAX,
        });
        match bytes.sum::<usize>() < RECORD_BYTES_MAX / 2 {
            true => self.append_short(record).1,
            false => self.append(record),
        }
    }

    /// Appends a record that fits into one of the log, without another copy of it; which it is, and
    /// its bytes.
    fn append_short(&self, record: &Record<'_>) -> (Lsn, u64) {
        let mut length = 0;
        let lsn = self.log.append(|bytes| {
            let before = bytes.len();
            *bytes = record.put(std::mem::take(bytes));
            length = bytes.len() - before;
        });
        (lsn, length as u64)
    }

    /// Appends a record of any size; answers bytes.
    fn append(&self, record: &Record<'_>) -> u64 {
        let pieces = record.pieces();
        self.log.append_all(&pieces);
        pieces.iter().map(|piece| piece.len() as u64).sum()
    }
}
