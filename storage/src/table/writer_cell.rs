//! `WriterCell`: the fate of one writer, read by everybody who meets one of its changes, and where
//! it wrote. Flipped only by [`super::writers::Writers`], under its lock, and never back.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;

use super::{op::Run, router::Router};
use crate::{cluster::control::ObjectId, data_log::JobRun, log::Lsn, partition::PartitionId};

/// Outcome of a writer that has not ended, and of one that was aborted. Stamps are between.
const OPEN: u64 = 0;
const ABORTED: u64 = u64::MAX;

/// Publish stamp of a writer that was not published.
const UNPUBLISHED: u64 = 0;

/// One writer, as those see it who meet its changes.
#[derive(Debug)]
pub(crate) struct WriterCell {
    id: u64,
    job: Option<JobTag>,
    outcome: AtomicU64,
    published: AtomicU64,
    /// No record of it in the data log is before this one; 0 while there is none.
    logged_first: AtomicU64,
    /// Whether it wrote to a table whose changes are told of when they are on disk.
    must_sync: AtomicBool,
    /// Where it wrote, so that its end can be settled there; taken by whoever settles.
    pub(crate) touched: Mutex<Touched>,
}

/// Whose writer it is, if a job's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobTag {
    /// The execution, as the control state counts them.
    pub(crate) run: JobRun,
    /// The execution, as this process counts those of all jobs; never 0.
    pub(crate) execution: u64,
    /// The last snapshot that its sink instance had saved when it began: it is committed with any
    /// later one.
    pub(crate) after: u64,
}

/// Where a writer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Seen by itself; waits for commit, abort or, if a job's, for being published.
    Pending,
    /// A job's: seen by provisional readers from this stamp on; waits for a snapshot or an abort.
    Published(u64),
    /// Seen by everybody from `stamp` on, and before by whoever saw it published.
    Committed { published: u64, stamp: u64 },
    /// Its changes are being undone.
    Aborted,
}

/// Partitions by table, in no order and possibly repeated.
#[derive(Debug, Default)]
pub(crate) struct Touched(BTreeMap<ObjectId, Vec<PartitionId>>);

impl WriterCell {
    /// A pending writer.
    pub(crate) fn new(id: u64, job: Option<JobTag>) -> Self {
        Self {
            id,
            job,
            outcome: AtomicU64::new(OPEN),
            published: AtomicU64::new(UNPUBLISHED),
            logged_first: AtomicU64::new(0),
            must_sync: AtomicBool::new(false),
            touched: Mutex::default(),
        }
    }

    /// Its first record is about to be appended to the data log, at `lsn` or later.
    pub(crate) fn note_logged(&self, lsn: Lsn) {
        let _first =
            self.logged_first.compare_exchange(0, lsn.0, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// It wrote to a table whose changes are told of when they are on disk.
    pub(crate) fn note_must_sync(&self) {
        self.must_sync.store(true, Ordering::Relaxed);
    }

    /// Whether its commit is told of when it is on disk.
    pub(crate) fn must_sync(&self) -> bool {
        self.must_sync.load(Ordering::Relaxed)
    }

    /// Before which no record of it is in the data log; `None` if none is.
    pub(crate) fn logged_first(&self) -> Option<Lsn> {
        Some(Lsn(self.logged_first.load(Ordering::SeqCst))).filter(|first| first.0 > 0)
    }

    /// Its id in operations.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Whose it is, if a job's.
    pub(crate) fn job(&self) -> Option<JobTag> {
        self.job
    }

    /// Where the writer stands.
    pub(crate) fn fate(&self) -> Fate {
        // The outcome first: what ended was published before, or never.
        let outcome = self.outcome.load(Ordering::SeqCst);
        let published = self.published.load(Ordering::SeqCst);
        match (outcome, published) {
            (ABORTED, _) => Fate::Aborted,
            (OPEN, UNPUBLISHED) => Fate::Pending,
            (OPEN, published) => Fate::Published(published),
            (stamp, UNPUBLISHED) => Fate::Committed { published: stamp, stamp },
            (stamp, published) => Fate::Committed { published, stamp },
        }
    }

    /// Whether it has neither been committed nor aborted.
    pub(crate) fn is_open(&self) -> bool {
        self.outcome.load(Ordering::SeqCst) == OPEN
    }

    /// Whether this writer may overwrite what `other`, not ended, has written: itself, and of its
    /// own execution what is published and committed no later than it.
    pub(crate) fn may_build_on(&self, other: &Self) -> bool {
        match (self.job, other.job) {
            _ if self.id == other.id => true,
            (Some(own), Some(before)) => {
                own.execution == before.execution
                    && before.after <= own.after
                    && other.published.load(Ordering::SeqCst) != UNPUBLISHED
            }
            _ => false,
        }
    }

    /// Whether no reader from stamp `limit` on sees one of the two without the other: one
    /// execution's, both published by then and committed by the same snapshot.
    pub(crate) fn is_seen_with(&self, other: &Self, limit: u64) -> bool {
        let (Some(one), Some(two)) = (self.job, other.job) else { return false };
        let is_published = |cell: &Self| match cell.fate() {
            Fate::Published(stamp) | Fate::Committed { published: stamp, .. } => stamp <= limit,
            Fate::Pending | Fate::Aborted => false,
        };
        one.execution == two.execution
            && one.after == two.after
            && is_published(self)
            && is_published(other)
    }

    /// Seen by provisional readers from `stamp` on.
    pub(crate) fn publish(&self, stamp: u64) {
        self.published.store(stamp, Ordering::SeqCst);
    }

    /// Committed at a stamp or, without one, aborted.
    pub(crate) fn end(&self, stamp: Option<u64>) {
        self.outcome.store(stamp.unwrap_or(ABORTED), Ordering::SeqCst);
    }
}

impl Touched {
    /// Adds the partitions of `runs`.
    pub(crate) fn add(&mut self, table: ObjectId, runs: &[Run], partition_count: u16) {
        self.extend(table, runs.iter().map(|run| run.partition), partition_count);
    }

    /// Partitions, repeated ones counted again.
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Adds all of `other`.
    pub(crate) fn merge(&mut self, other: Self, partition_count: u16) {
        for (table, partitions) in other.0 {
            self.extend(table, partitions.into_iter(), partition_count);
        }
    }

    /// Drops version information of ended writers, or undoes what they did, in all of it.
    pub(crate) fn settle(self, router: &Router) {
        for (table, mut partitions) in self.0 {
            partitions.sort_unstable();
            partitions.dedup();
            if let Err(error) = router.settle(table, &partitions) {
                // Readers already see the outcome; maintenance settles it.
                tracing::warn!(table = table.0, %error, "changes of an ended writer not settled");
            }
        }
    }

    fn extend(
        &mut self,
        table: ObjectId,
        added: impl Iterator<Item = PartitionId>,
        partition_count: u16,
    ) {
        let partitions = self.0.entry(table).or_default();
        partitions.extend(added);
        if partitions.len() > 2 * usize::from(partition_count) {
            partitions.sort_unstable();
            partitions.dedup();
        }
    }
}
