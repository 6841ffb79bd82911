//! What all members agree on about a job's snapshots: which execution runs, which snapshot is being
//! taken, which are good. A snapshot is good from the command that commits it on, never before.
//!
//! ```text
//!   StartExecution ─► execution 3
//!   Begin 7 ─► ongoing: 7 ─► Commit 7 ─► good: 6, 7     (5 falls out: two are kept)
//!                  └───────► Abandon 7 ─► good: 5, 6    (7 is never used again)
//! ```
//! A job whose newest snapshots are damaged may be told to go back: they are *forsaken*, and what they
//! made permanent comes again. The invariants are those of `ControlState::apply`, so they hold in every build: ids rise and are
//! never reused, one snapshot of a job is under way at a time, what comes from an execution that is
//! over changes nothing, and a good snapshot says how many chunks it has and what their digest is.

use serde::{Deserialize, Serialize};

use super::{exports::ExportRecord, records::ObjectId};
use crate::{Error, Result};

/// Good snapshots that are kept, the exported ones aside: the newest, and one to fall back to.
pub const SNAPSHOTS_KEPT: usize = 2;

/// A good snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Rising within the job, never reused.
    pub id: u64,
    /// The execution it was taken of.
    pub execution: u64,
    /// When its barrier was sent, µs since the epoch.
    pub started_at: i64,
    /// When it was committed, µs since the epoch.
    pub committed_at: i64,
    /// Chunks of its manifest.
    pub chunks: u64,
    /// Bytes of those chunks.
    pub bytes: u64,
    /// Digest of its manifest.
    pub digest: u64,
    /// Whether what sinks wrote becomes permanent with it: an older snapshot is then of no use.
    pub commits: bool,
}

/// What the state of an operator means: only a state that means the same can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorState {
    /// Name of the vertex.
    pub vertex: String,
    /// What its state is, in words; opaque to storage.
    pub layout: String,
}

/// A job's snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSnapshots {
    /// The last execution that was started; 0 for none.
    pub execution_last: u64,
    /// The last id given to a snapshot, good or not; 0 for none.
    pub id_last: u64,
    /// The snapshot being taken.
    pub ongoing: Option<u64>,
    /// The good ones, the oldest first.
    pub good: Vec<SnapshotRecord>,
    /// What the states in them mean, by operator.
    pub operators: Vec<OperatorState>,
    /// The exported snapshot that it starts from, as long as it has no good one of its own to go on
    /// from.
    pub initial: Option<ObjectId>,
    /// The first of the jobs that went on from each other up to this one, if it is not this one.
    pub root: Option<ObjectId>,
    /// The newest snapshot that was given up, though what it covers is permanent; 0 for none.
    pub forsaken: u64,
    /// Whether it goes on from none of its own: a job without a guarantee, whose snapshots are taken
    /// to be exported, and are the exports' alone after that.
    pub is_for_export: bool,
}

/// A change of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum SnapshotCommand {
    /// The next execution: its number is the last one's plus one. A snapshot under way is abandoned.
    StartExecution,
    /// The states of the present execution mean this.
    Describe(Vec<OperatorState>),
    /// The next snapshot of that execution is being taken: its id is the last one's plus one.
    Begin {
        /// Whose.
        execution: u64,
    },
    /// The snapshot being taken is good. The commit point.
    Commit(SnapshotRecord),
    /// Only the good ones up to this one are good, or none and the exported one it started from neither:
    /// the others are damaged, and rows may repeat. Of a SUSPENDED job only.
    GoBack {
        /// The newest that is kept.
        to: Option<u64>,
    },
    /// The snapshot being taken will not be.
    Abandon {
        /// Whose.
        execution: u64,
        /// Which.
        id: u64,
    },
}

impl JobSnapshots {
    /// Of a job that starts from an exported snapshot: its ids rise from there, so that what the
    /// jobs before it have marked with theirs is older.
    pub fn from_export(export: &ExportRecord) -> Self {
        let (initial, root) = (Some(export.id), Some(export.root));
        Self { id_last: export.snapshot.id, initial, root, ..Self::default() }
    }

    /// Of a job without a guarantee: it starts from there each time, and inherits nothing that only
    /// one job can have.
    pub fn for_export(initial: Option<&ExportRecord>) -> Self {
        let id_last = initial.map_or(0, |export| export.snapshot.id);
        let initial = initial.map(|export| export.id);
        Self { id_last, initial, is_for_export: true, ..Self::default() }
    }

    /// The newest good one.
    pub fn newest(&self) -> Option<&SnapshotRecord> {
        self.good.last()
    }

    /// Applies a change, all or nothing. WrongState for one that comes too late.
    pub fn apply(&mut self, command: &SnapshotCommand) -> Result<()> {
        match command {
            SnapshotCommand::StartExecution => {
                self.execution_last += 1;
                self.ongoing = None;
                if self.is_for_export {
                    self.good.clear();
                }
            }
            SnapshotCommand::Describe(operators) => self.operators.clone_from(operators),
            SnapshotCommand::Begin { execution } => {
                self.check_execution(*execution)?;
                if let Some(ongoing) = self.ongoing {
                    return Err(Error::WrongState(format!("snapshot {ongoing} is being taken")));
                }
                self.id_last += 1;
                self.ongoing = Some(self.id_last);
            }
            SnapshotCommand::Commit(record) => {
                self.check_ongoing(record.execution, record.id)?;
                self.ongoing = None;
                let kept = if self.is_for_export { 1 } else { SNAPSHOTS_KEPT };
                self.initial = self.initial.filter(|_| self.is_for_export);
                self.good.push(record.clone());
                let excess = self.good.len().saturating_sub(kept);
                self.good.drain(..excess);
            }
            SnapshotCommand::GoBack { to } => {
                let newest = self.newest().map_or(0, |newest| newest.id);
                self.good.retain(|good| Some(good.id) <= *to);
                if self.newest().is_none_or(|kept| kept.id < newest) {
                    self.forsaken = self.forsaken.max(newest);
                }
                self.initial = self.initial.filter(|_| to.is_some());
            }
            SnapshotCommand::Abandon { execution, id } => {
                self.check_ongoing(*execution, *id)?;
                self.ongoing = None;
            }
        }
        Ok(())
    }

    fn check_execution(&self, execution: u64) -> Result<()> {
        if execution != self.execution_last {
            let last = self.execution_last;
            let text = format!("execution {execution} is over: {last} has been started");
            return Err(Error::WrongState(text));
        }
        Ok(())
    }

    fn check_ongoing(&self, execution: u64, id: u64) -> Result<()> {
        self.check_execution(execution)?;
        if self.ongoing != Some(id) {
            return Err(Error::WrongState(format!("snapshot {id} is not being taken")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(execution: u64, id: u64) -> SnapshotRecord {
        let (started_at, committed_at) = (1, 2);
        SnapshotRecord {
            id,
            execution,
            started_at,
            committed_at,
            chunks: 0,
            bytes: 0,
            digest: 0,
            commits: false,
        }
    }

    fn apply_all(snapshots: &mut JobSnapshots, commands: &[SnapshotCommand]) {
        commands.iter().for_each(|command| snapshots.apply(command).unwrap());
    }

    #[test]
    fn ids_rise_whatever_becomes_of_them_and_two_good_ones_are_kept() {
        let mut snapshots = JobSnapshots::default();
        snapshots.apply(&SnapshotCommand::StartExecution).unwrap();
        for id in 1..=5 {
            snapshots.apply(&SnapshotCommand::Begin { execution: 1 }).unwrap();
            assert_eq!(snapshots.ongoing, Some(id));
            let end = match id {
                3 => SnapshotCommand::Abandon { execution: 1, id },
                _ => SnapshotCommand::Commit(record(1, id)),
            };
            snapshots.apply(&end).unwrap();
        }
        let good: Vec<u64> = snapshots.good.iter().map(|record| record.id).collect();
        assert_eq!(good, [4, 5]);
        assert_eq!((snapshots.newest().unwrap().id, snapshots.id_last), (5, 5));
    }

    #[test]
    fn what_is_gone_back_behind_is_forsaken_and_its_id_is_not_given_again() {
        let mut snapshots = JobSnapshots::default();
        snapshots.apply(&SnapshotCommand::StartExecution).unwrap();
        for id in 1..=3 {
            let begin = SnapshotCommand::Begin { execution: 1 };
            apply_all(&mut snapshots, &[begin, SnapshotCommand::Commit(record(1, id))]);
        }
        apply_all(&mut snapshots, &[SnapshotCommand::GoBack { to: Some(3) }]);
        assert_eq!((snapshots.good.len(), snapshots.forsaken), (2, 0), "nothing is given up");
        apply_all(&mut snapshots, &[SnapshotCommand::GoBack { to: Some(2) }]);
        assert_eq!((&snapshots.good[..], snapshots.forsaken), (&[record(1, 2)][..], 3));
        apply_all(&mut snapshots, &[SnapshotCommand::GoBack { to: None }]);
        assert_eq!((&snapshots.good[..], snapshots.forsaken), (&[][..], 3));
        apply_all(
            &mut snapshots,
            &[SnapshotCommand::StartExecution, SnapshotCommand::Begin { execution: 2 }],
        );
        assert_eq!(snapshots.ongoing, Some(4));
    }

    #[test]
    fn without_a_guarantee_one_good_one_is_kept_and_no_execution_goes_on_from_it() {
        let initial = Some(ObjectId(9));
        let mut snapshots = JobSnapshots { initial, ..JobSnapshots::for_export(None) };
        let begin = SnapshotCommand::Begin { execution: 1 };
        let (first, second) = (record(1, 1), record(1, 2));
        let (first, second) = (SnapshotCommand::Commit(first), SnapshotCommand::Commit(second));
        let start = SnapshotCommand::StartExecution;
        apply_all(&mut snapshots, &[start.clone(), begin.clone(), first, begin.clone(), second]);
        assert_eq!(snapshots.good, [record(1, 2)], "one at a time");
        apply_all(&mut snapshots, &[start]);
        assert!(snapshots.good.is_empty(), "another execution does not go on from it");
        assert_eq!((snapshots.initial, snapshots.id_last), (initial, 2));
    }

    #[test]
    fn one_is_taken_at_a_time_and_an_execution_that_is_over_commits_nothing() {
        let mut snapshots = JobSnapshots::default();
        let begin = |execution| SnapshotCommand::Begin { execution };
        apply_all(&mut snapshots, &[SnapshotCommand::StartExecution, begin(1)]);
        let late = [
            begin(1),
            begin(2),
            SnapshotCommand::Commit(record(1, 2)),
            SnapshotCommand::Abandon { execution: 1, id: 0 },
        ];
        let before = snapshots.clone();
        for command in late {
            assert!(matches!(snapshots.apply(&command), Err(Error::WrongState(_))), "{command:?}");
        }
        assert_eq!(snapshots, before, "what is refused changes nothing");
        snapshots.apply(&SnapshotCommand::StartExecution).unwrap();
        let commit = SnapshotCommand::Commit(record(1, 1));
        assert!(matches!(snapshots.apply(&commit), Err(Error::WrongState(_))));
        snapshots.apply(&begin(2)).unwrap();
        assert_eq!(snapshots.ongoing, Some(2), "1 is lost for good");
    }
}
