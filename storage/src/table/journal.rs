//! `Journal`: what has changed in one partition since a reader of the table's changes came, for that
//! reader alone. A table without readers has none and pays nothing.
//!
//! ```text
//! write, under the lock     commits by itself at 7        writer W1, pending      writer W2, pending
//! journal                   −c ·7  +d ·9  −f ·12          −a +b +e                +g
//! read up to stamp 10       −c ·7  +d ·9                  committed at 8: all     waits, or is aborted
//! left for later                          −f ·12                                  +g
//! ```
//! The journals of a reader share one bound. Beyond it they are emptied and the reader is told: it
//! has fallen behind, and no change may be left out unseen.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};

use super::{
    column::Column,
    schema::{TableSchema, readers},
    writer_cell::{Fate, WriterCell},
};
use crate::{Error, Result, value::Value};

/// Memory that the changes waiting for one reader may take: seconds of the fastest writes, and
/// little beside the tables.
pub const FEED_BYTES_MAX: usize = 64 << 20;

/// Name of the column that says when a change was committed: a number that rises from commit to
/// commit, the same for all changes of one.
pub const CHANGE_TIME: &str = "_time";

/// Name of the column that says whether the row comes (1) or goes (−1).
pub const CHANGE_DIFF: &str = "_diff";

/// What the journals of one reader share.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Which reader's.
    pub(crate) id: u64,
    bytes_max: usize,
    /// Memory of its journals; changed under the lock of the partition concerned.
    used: AtomicUsize,
    /// Memory of changes that were taken out of them and may be read again.
    held: AtomicUsize,
    /// Set once, when it would have been too much.
    is_behind: AtomicBool,
}

/// The changes of one partition that wait for one reader.
#[derive(Debug)]
pub(crate) struct Journal {
    feed: Arc<Feed>,
    schema: SchemaRef,
    /// Of writes that committed by themselves; their stamps rise.
    committed: Changes,
    /// Of writers, in the order in which they came.
    writers: Vec<(Arc<WriterCell>, Changes)>,
    /// What it counts for in [`Feed::used`].
    bytes: usize,
}

/// Rows and what became of them, in the order written.
#[derive(Debug, Default)]
struct Changes {
    columns: Vec<Column>,
    diffs: Vec<i64>,
    /// One stamp a row; none for a writer's, which have one in common.
    stamps: Vec<i64>,
}

/// Who makes a change.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Author<'a> {
    /// A write that commits by itself, at a stamp.
    Stamp(u64),
    /// A writer.
    Writer(&'a Arc<WriterCell>),
}

impl Feed {
    /// Of a reader that lets at most `bytes_max` wait.
    pub(crate) fn new(id: u64, bytes_max: usize) -> Arc<Self> {
        let (used, held, is_behind) = Default::default();
        Arc::new(Self { id, bytes_max, used, held, is_behind })
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.used.load(Ordering::SeqCst) == 0
    }

    /// Counts changes that the reader keeps after it has taken them.
    pub(crate) fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::SeqCst);
    }

    /// It keeps them no more.
    pub(crate) fn let_go(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// Limit once the reader has fallen behind.
    pub(crate) fn check(&self, table: &str) -> Result<()> {
        if !self.is_behind.load(Ordering::SeqCst) {
            return Ok(());
        }
        let max = self.bytes_max;
        let message =
            format!("changes of table \"{table}\" were lost: more than {max} bytes of them waited");
        Err(Error::Limit(message))
    }
}

impl Journal {
    /// An empty one.
    pub(crate) fn new(schema: &TableSchema, feed: &Arc<Feed>) -> Result<Self> {
        let committed = Changes::new(schema.arrow())?;
        let (feed, schema) = (Arc::clone(feed), Arc::clone(schema.arrow()));
        Ok(Self { feed, schema, committed, writers: Vec::new(), bytes: 0 })
    }

    /// Whose it is.
    pub(crate) fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A row came (`diff` 1) or went (−1). A change that cannot be kept is told to the reader, not
    /// to who made it.
    pub(crate) fn record<'v>(
        &mut self,
        author: Author<'_>,
        diff: i64,
        value: impl Fn(usize) -> Result<Value<'v>>,
    ) {
        if let Err(error) = self.try_record(author, diff, value) {
            tracing::error!(%error, "a change was not kept for its reader");
            self.feed.is_behind.store(true, Ordering::SeqCst);
        }
        if self.feed.is_behind.load(Ordering::Relaxed) && self.bytes > 0 {
            self.writers = Vec::new();
            self.committed = Changes::default();
            self.recount();
        }
    }

    fn try_record<'v>(
        &mut self,
        author: Author<'_>,
        diff: i64,
        value: impl Fn(usize) -> Result<Value<'v>>,
    ) -> Result<()> {
        if self.feed.is_behind.load(Ordering::Relaxed) {
            return Ok(());
        }
        let changes = match author {
            Author::Stamp(stamp) => {
                self.committed.stamps.push(stamp as i64);
                &mut self.committed
            }
            Author::Writer(cell) => self.changes_of(cell)?,
        };
        let before = changes.bytes();
        for (position, column) in changes.columns.iter_mut().enumerate() {
            column.push(&value(position)?)?;
        }
        changes.diffs.push(diff);
        let grown = changes.bytes().saturating_sub(before);
        self.bytes += grown;
        let used = self.feed.used.fetch_add(grown, Ordering::SeqCst) + grown;
        if used + self.feed.held.load(Ordering::SeqCst) > self.feed.bytes_max {
            self.feed.is_behind.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Takes out what was committed up to stamp `upto`, as rows with the columns [`CHANGE_TIME`]
    /// and [`CHANGE_DIFF`] behind them; without what was committed up to `after`, which the reader
    /// has seen.
    pub(crate) fn take(
        &mut self,
        after: u64,
        upto: u64,
        taken: &mut Vec<RecordBatch>,
    ) -> Result<()> {
        let (after, upto) = (after as i64, upto as i64);
        let count = |stamp: i64| self.committed.stamps.partition_point(|other| *other <= stamp);
        let (seen, end) = (count(after), count(upto));
        if end > 0 {
            let all = self.committed.batch(&self.schema, None)?;
            self.committed = Changes::new(&self.schema)?;
            self.committed.put_back(&all.slice(end, all.num_rows() - end))?;
            push(all.slice(seen, end - seen), taken);
        }
        for (cell, changes) in std::mem::take(&mut self.writers) {
            match cell.fate() {
                Fate::Committed { stamp, .. } if stamp as i64 <= after => {}
                Fate::Committed { stamp, .. } if stamp as i64 <= upto => {
                    push(changes.batch(&self.schema, Some(stamp as i64))?, taken);
                }
                Fate::Aborted => {}
                _ => self.writers.push((cell, changes)),
            }
        }
        self.recount();
        Ok(())
    }

    fn changes_of(&mut self, cell: &Arc<WriterCell>) -> Result<&mut Changes> {
        let found = self.writers.iter().rposition(|(other, _)| Arc::ptr_eq(other, cell));
        let at = match found {
            Some(at) => at,
            None => {
                self.writers.push((Arc::clone(cell), Changes::new(&self.schema)?));
                self.writers.len() - 1
            }
        };
        Ok(&mut self.writers[at].1)
    }

    /// Tells the feed what is used now.
    fn recount(&mut self) {
        let writers = self.writers.iter().map(|(_, changes)| changes.bytes());
        let bytes = self.committed.bytes() + writers.sum::<usize>();
        // Wraps around for less, as `fetch_add` does.
        self.feed.used.fetch_add(bytes.wrapping_sub(self.bytes), Ordering::SeqCst);
        self.bytes = bytes;
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.feed.used.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

impl Changes {
    fn new(schema: &SchemaRef) -> Result<Self> {
        let columns = schema.fields().iter().map(|field| Column::new(field.data_type()));
        let columns = columns.collect::<Result<_>>()?;
        Ok(Self { columns, diffs: Vec::new(), stamps: Vec::new() })
    }

    /// Memory; 0 exactly for no change.
    fn bytes(&self) -> usize {
        match self.diffs.len() {
            0 => 0,
            rows => {
                let columns = self.columns.iter().map(Column::bytes).sum::<usize>();
                columns + (rows + self.stamps.len()) * size_of::<i64>()
            }
        }
    }

    /// All rows, committed at `stamp` or each at its own.
    fn batch(&self, schema: &SchemaRef, stamp: Option<i64>) -> Result<RecordBatch> {
        let stamps = match stamp {
            Some(stamp) => Int64Array::from_value(stamp, self.diffs.len()),
            None => Int64Array::from(self.stamps.clone()),
        };
        let mut columns = self.columns.iter().map(Column::freeze).collect::<Result<Vec<_>>>()?;
        let numbers: [ArrayRef; 2] =
            [Arc::new(stamps), Arc::new(Int64Array::from(self.diffs.clone()))];
        columns.extend(numbers);
        Ok(RecordBatch::try_new(change_schema(schema), columns)?)
    }

    /// Rows with stamp and diff that were taken out too early.
    fn put_back(&mut self, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let all: Vec<u32> = (0..rows.num_rows() as u32).collect();
        let sources = readers(rows.columns())?;
        let width = self.columns.len();
        for (column, source) in self.columns.iter_mut().zip(&sources) {
            column.extend(source, &all)?;
        }
        for (numbers, source) in [(&mut self.stamps, width), (&mut self.diffs, width + 1)] {
            numbers.extend(all.iter().filter_map(
                |row| match sources[source].value(*row as usize) {
                    Value::Int(number) => Some(number),
                    _ => None,
                },
            ));
        }
        Ok(())
    }
}

fn push(changes: RecordBatch, taken: &mut Vec<RecordBatch>) {
    if changes.num_rows() > 0 {
        taken.push(changes);
    }
}

/// Schema of the changes of rows of `schema`.
pub(crate) fn change_schema(schema: &SchemaRef) -> SchemaRef {
    let number = |name| Arc::new(Field::new(name, DataType::Int64, false));
    let fields = schema.fields().iter().cloned();
    let fields = fields.chain([number(CHANGE_TIME), number(CHANGE_DIFF)]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
