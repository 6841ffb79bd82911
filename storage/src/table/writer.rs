//! `Writer`: every change names its writer; a writer is pending, committed at a stamp, or aborted,
//! and flipping it makes a statement over many partitions visible as a whole. A job's writer is
//! published first and committed by a snapshot; see `job_writers.rs`.

use std::sync::Arc;

use super::{
    op::Run,
    router::Router,
    unsynced::note_unsynced,
    view::{ReadMode, ReadView},
    writer_cell::{Fate, JobTag, WriterCell},
};
use crate::{Error, Result, cluster::control::ObjectId};

/// Partitions of a writer that is ended on the thread of its connection.
const SHORT_PARTITIONS_MAX: usize = 64;

/// A pending writer: a statement or transaction block that touches several rows, or a job's sink.
/// Dropping it without [`Writer::commit`] aborts it: every change it made is undone.
#[derive(Debug)]
pub struct Writer {
    router: Arc<Router>,
    cell: Arc<WriterCell>,
}

impl Writer {
    /// A new pending writer.
    pub(crate) fn begin(router: &Arc<Router>, job: Option<JobTag>) -> Self {
        Self { router: Arc::clone(router), cell: router.writers().begin(job) }
    }

    /// Flips all changes to visible at one stamp. WrongState if it has ended, and for a job's.
    pub fn commit(&self) -> Result<()> {
        if self.cell.job().is_some() {
            let message = "the writer of a job is published, and committed by a snapshot";
            return Err(Error::WrongState(message.to_owned()));
        }
        if !self.router.writers().end(&self.cell, true) {
            return Err(ended());
        }
        if self.cell.must_sync() {
            note_unsynced();
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

    /// The present committed state plus this writer's own changes, and those that its execution
    /// has published if it is a job's: what a statement that writes reads.
    pub fn read_view(&self) -> ReadView {
        self.router.writers().read_view(Some(&self.cell), ReadMode::Durable)
    }

    /// Whether it wrote to so few partitions that its end takes no longer than a keyed statement.
    pub fn is_short(&self) -> bool {
        self.cell.touched.lock().len() <= SHORT_PARTITIONS_MAX
    }

    /// Its id in operations.
    pub(crate) fn id(&self) -> u64 {
        self.cell.id()
    }

    /// Its fate and where it wrote.
    pub(crate) fn cell(&self) -> &Arc<WriterCell> {
        &self.cell
    }

    /// Remembers that it is about to write to these partitions of a table. WrongState once it has
    /// ended or was published.
    pub(crate) fn touch(&self, table: ObjectId, runs: &[Run]) -> Result<()> {
        if self.cell.fate() != Fate::Pending {
            return Err(ended());
        }
        self.cell.touched.lock().add(table, runs, self.router.partition_count());
        Ok(())
    }

    /// Drops version information, or undoes changes, wherever it wrote.
    fn settle(&self) {
        std::mem::take(&mut *self.cell.touched.lock()).settle(&self.router);
        self.router.writers().forget([&self.cell]);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Writes and ends come too late.
pub(crate) fn ended() -> Error {
    Error::WrongState("the writer has already ended".to_owned())
}
