//! `Fallback`: what a job goes on from when its newest snapshot is damaged and who resumes it accepts
//! that rows repeat. Nothing is lost by it that its sources give again, and what it has written stays.
//!
//! ```text
//!   good: 6, 7    7 is damaged   ─► back to 6: what came after it comes again
//!                 both are       ─► anew: everything comes again
//! ```
//! The same goes for a job whose sources cannot go on from its snapshots any more (`pins`).
//! The damaged snapshots are forsaken by one control command before the job is started, so that each
//! start after it knows the same, and sinks know what they will find that is newer than what they
//! restore ([`crate::processor::ProcessorContext::forsaken`]).

use storage::cluster::control::{Command, JobStatus, SnapshotCommand};

use super::shell::Job;
use crate::Result;

/// From where a job goes on whose rows may repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// From where it would have without: no row repeats because of it.
    NotNeeded,
    /// From an older snapshot: what it has written since then may come again.
    Older(u64),
    /// From where its sources start: everything it has written may come again.
    Anew,
}

impl Job {
    /// Forsakes the damaged ones of a suspended job's newest snapshots; of another job nothing.
    pub(super) fn fall_back(&self) -> Result<Fallback> {
        let record = self.record()?;
        if record.status != JobStatus::Suspended {
            return Ok(Fallback::NotNeeded);
        }
        if self.check_pins(&record).is_err() {
            let fallback = self.go_back(None)?;
            // Of its operators nothing is kept that the next ones could go on from.
            self.submit(SnapshotCommand::Describe(Vec::new()))?;
            return Ok(fallback);
        }
        let (grid, snapshots) = (&self.site.grid, &record.snapshots);
        let is_damaged = |read: storage::Result<()>| match read {
            Ok(()) => Ok(false),
            Err(storage::Error::Damaged(_)) => Ok(true),
            Err(error) => Err(error),
        };
        let mut is_newest = true;
        for snapshot in snapshots.good.iter().rev() {
            if !is_damaged(grid.snapshots().verify(grid, &record, snapshot))? {
                return match is_newest {
                    true => Ok(Fallback::NotNeeded),
                    false => self.go_back(Some(snapshot.id)),
                };
            }
            is_newest = false;
        }
        let state = grid.control().state();
        let initial = snapshots.initial.and_then(|initial| state.export(initial));
        let is_initial_damaged = match initial {
            Some(initial) => is_damaged(grid.snapshots().read_export(grid, initial).map(drop))?,
            None => false,
        };
        match is_newest && !is_initial_damaged {
            true => Ok(Fallback::NotNeeded),
            false => self.go_back(None),
        }
    }

    fn go_back(&self, to: Option<u64>) -> Result<Fallback> {
        self.submit(SnapshotCommand::GoBack { to })?;
        tracing::warn!(job = %self.name, ?to, "snapshots that nothing can go on from are forsaken");
        Ok(to.map_or(Fallback::Anew, Fallback::Older))
    }

    fn submit(&self, change: SnapshotCommand) -> Result<()> {
        self.site.grid.control().submit(&Command::Snapshot(self.id, change))?;
        Ok(())
    }
}
