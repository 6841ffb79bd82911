//! `ChangeReader`: the committed changes of a table from a moment on, in the order of their commits.
//!
//! ```text
//! follow:  1 every partition keeps a journal from now on (with what open writers did before)
//!          2 a view: the rows at its stamp, the reader's to scan
//! poll:    the newest stamp T ─→ everything committed after the last poll's stamp and up to T
//! ```
//! A writer has one stamp for all its changes, and by T every writer with a stamp up to it has been
//! flipped: a poll brings all changes of a commit or none. It is called; it never waits.

use std::sync::Arc;

use arrow::{
    array::{AsArray, RecordBatch, UInt32Array},
    compute::{concat_batches, take_record_batch},
    datatypes::{Int64Type, SchemaRef},
};

use super::{
    Table,
    journal::{FEED_BYTES_MAX, Feed, change_schema},
    op::{Op, Output},
    patience::without_waiting,
    view::{ReadMode, ReadView},
};
use crate::Result;

/// Reads the changes of a table. Dropping it ends the journals kept for it.
#[derive(Debug)]
pub struct ChangeReader {
    table: Arc<Table>,
    feed: Arc<Feed>,
    /// The stamp up to which everything was read, by the view or by a poll.
    after: u64,
}

impl Table {
    /// Follows the table from now on: the view sees its committed rows, the reader every change
    /// committed after that. Both show the hidden key of a table without one.
    pub fn follow(self: &Arc<Self>) -> Result<(ChangeReader, ReadView)> {
        self.follow_within(FEED_BYTES_MAX)
    }

    /// The same with another bound on what may wait for the reader, in bytes.
    pub(crate) fn follow_within(
        self: &Arc<Self>,
        bytes_max: usize,
    ) -> Result<(ChangeReader, ReadView)> {
        let router = self.router();
        let feed = Feed::new(router.writers().begin_feed(), bytes_max);
        router.add_feed(self.record().id, &feed);
        // From here on it is the reader's drop that ends the journals.
        let mut reader = ChangeReader { table: Arc::clone(self), feed, after: 0 };
        let op = |partitions| Op::KeepJournals { partitions };
        self.call_many(router.all_partitions(), op, |_, _| ())?;
        let view = router.read_view(ReadMode::Durable);
        reader.after = view.stamp();
        Ok((reader, view))
    }
}

impl ChangeReader {
    /// Schema of the batches: the table's columns, then `_time` and `_diff`, both BIGINT.
    pub fn schema(&self) -> SchemaRef {
        change_schema(self.table.schema())
    }

    /// The stamp of the view it began with: the `_time` of the rows seen there.
    pub fn started_at(&self) -> i64 {
        self.after as i64
    }

    /// What its journals share.
    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Limit once changes were lost.
    pub(crate) fn check(&self) -> Result<()> {
        self.feed.check(&self.table.record().name.name)
    }

    /// The changes committed since the last poll, `None` if there are none. Limit if it was called
    /// too seldom: then some are lost, and so is the reader.
    pub fn poll(&mut self) -> Result<Option<RecordBatch>> {
        self.check()?;
        let upto = self.table.router().writers().stamp();
        // While nothing waits the stamp may not be passed: a write draws its own before it is in
        // the journal.
        if upto == self.after || self.feed.is_empty() {
            return self.table.check_exists().map(|()| None);
        }
        let (feed, after) = (self.feed.id, self.after);
        let op = |partitions| Op::TakeChanges { partitions, feed, after, upto };
        let mut batches = Vec::new();
        self.table.call_many(self.table.router().all_partitions(), op, |output, _| {
            if let Output::Changes(changes) = output {
                batches.extend(changes);
            }
        })?;
        // Before what was taken counts: it could be all but what was lost meanwhile.
        self.check()?;
        self.after = upto;
        match batches.is_empty() {
            true => Ok(None),
            false => in_order(&concat_batches(&self.schema(), &batches)?).map(Some),
        }
    }
}

impl Drop for ChangeReader {
    fn drop(&mut self) {
        let router = self.table.router();
        router.remove_feed(self.table.record().id, self.feed.id);
        let op = |partitions| Op::KeepJournals { partitions };
        // A partition on the move gives its journal up with its next write.
        let freed =
            without_waiting(|| self.table.call_many(router.all_partitions(), op, |_, _| ()));
        if let Err(error) = freed {
            tracing::debug!(table = self.table.record().id.0, %error, "journals are freed later");
        }
    }
}

/// Changes by time; those of one commit stay in the order of their partitions.
fn in_order(changes: &RecordBatch) -> Result<RecordBatch> {
    let times = changes.column(changes.num_columns() - 2).as_primitive::<Int64Type>();
    let times = times.values();
    if times.is_sorted() {
        return Ok(changes.clone());
    }
    let mut rows: Vec<u32> = (0..changes.num_rows() as u32).collect();
    rows.sort_by_key(|row| times[*row as usize]);
    Ok(take_record_batch(changes, &UInt32Array::from(rows))?)
}
