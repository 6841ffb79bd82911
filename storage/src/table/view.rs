//! `ReadView`: what a reader sees: everything up to a stamp, and its own writer's changes.
//! A view never changes what it sees, but for one thing: what a job published and then aborted is
//! gone from provisional views, too. Whoever must see the newest reads without a view.
//!
//! ```text
//! job's writer     begin ── publish at 5 ─────────── commit at 9      (or abort: never was)
//! provisional              sees it from 5 on
//! durable                                            sees it from 9 on
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    writer_cell::{Fate, WriterCell},
    writers::{Registration, Writers},
};

/// Which of a job's changes a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ReadMode {
    /// What the job has published: milliseconds old, and undone if the job must start again from
    /// its last snapshot.
    #[default]
    Provisional,
    /// Only what a snapshot has committed.
    Durable,
}

/// What a reader sees: everything up to its stamp in its mode, and its own writer's changes.
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
    /// Writers committed (or published) up to here are seen.
    stamp: u64,
    /// Id of the pending writer whose changes are seen too; 0 for none.
    own: u64,
    /// The execution whose published changes are seen in any mode; 0 for none.
    execution: u64,
    mode: ReadMode,
}

impl ReadView {
    /// A view of `snapshot`, whose stamp is registered.
    pub(crate) fn new(snapshot: Snapshot, registration: Arc<Registration>) -> Self {
        Self { snapshot, _registration: registration }
    }

    /// The same view in another mode.
    pub fn in_mode(mut self, mode: ReadMode) -> Self {
        self.snapshot = self.snapshot.in_mode(mode);
        self
    }

    /// What was committed up to here is seen.
    pub(crate) fn stamp(&self) -> u64 {
        self.snapshot.stamp
    }

    /// What operations carry.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.snapshot
    }
}

impl Snapshot {
    /// Stands for whatever stamp is the newest when a row is looked at.
    const NEWEST_STAMP: u64 = u64::MAX - 1;

    /// Everything up to `stamp`, and the changes of `own` with its execution's.
    pub(crate) fn new(stamp: u64, own: Option<&WriterCell>, mode: ReadMode) -> Self {
        let execution = own.and_then(WriterCell::job).map_or(0, |job| job.execution);
        Self { stamp, own: own.map_or(0, WriterCell::id), execution, mode }
    }

    /// The newest state.
    pub(crate) const fn newest(mode: ReadMode) -> Self {
        Self { stamp: Self::NEWEST_STAMP, own: 0, execution: 0, mode }
    }

    /// The same in another mode.
    pub(crate) fn in_mode(self, mode: ReadMode) -> Self {
        Self { mode, ..self }
    }

    /// With a real stamp instead of the newest: of writers that are flipped together it then sees
    /// all or none. Asked under the lock of the partition that is read.
    pub(crate) fn resolved(&self, writers: &Writers) -> Self {
        match self.stamp {
            Self::NEWEST_STAMP => Self { stamp: writers.stamp(), ..*self },
            _ => *self,
        }
    }

    /// Whether what was committed at `stamp` is seen.
    pub(crate) fn sees_stamp(&self, stamp: u64) -> bool {
        stamp <= self.stamp
    }

    /// Whether changes of a writer are seen.
    pub(crate) fn sees(&self, cell: &WriterCell) -> bool {
        let sees_published = |published: u64| {
            let is_own = cell.job().is_some_and(|job| job.execution == self.execution);
            published <= self.stamp && (is_own || self.mode == ReadMode::Provisional)
        };
        match cell.fate() {
            Fate::Committed { published, stamp } => {
                self.sees_stamp(stamp) || sees_published(published)
            }
            Fate::Published(published) => sees_published(published),
            Fate::Pending => cell.id() == self.own,
            Fate::Aborted => false,
        }
    }
}
