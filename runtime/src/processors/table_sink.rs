//! `table_sink`: rows into a table. Each flush is one writer: readers see a flush as a whole or not
//! at all, and nothing is held between two calls.
//!
//! ```text
//!   inbox ──▶ parked ──▶ net by key ──▶ − the row, if it is the current one ──▶ commit, or publish
//!                │                      + the new row
//!                └─ a key is held by an open transaction: tried again, 1 ms … 50 ms later
//! ```
//! Append-only input is written batch by batch, the last row of a key wins. Input that retracts is
//! netted (`net`): what a flush says of a key in sum counts, not in which order it said it. A row
//! that is taken back from a table is removed only while it is the one that stands there.
//!
//! With guarantee `none` or `atLeastOnce` the writer commits at once. With `exactlyOnce` it is one of
//! the execution's: published at once, committed with the snapshot that is saved next, and undone if
//! the execution is lost before.
//!
//! A worker never waits for somebody's transaction: the rows stay parked, are part of the saved
//! state, and barriers pass. When a key stays held for [`HELD_MAX`] the job fails (40001).

mod net;
mod parked;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{ArrayRef, RecordBatch, UInt32Array},
    compute::take,
    datatypes::{Schema, SchemaRef},
};
use storage::{
    Table,
    cluster::control::JobError,
    table::{WriteMode, Writer, without_waiting},
};

use self::{
    net::{Changes, Keyed},
    parked::Parked,
};
use super::operator::{OperatorSupplier, Stateful, columns_text};
use crate::{
    Error, Result,
    item::SnapshotId,
    processor::{Done, Inbox, Outbox, Processor, ProcessorContext, ProcessorSupplier, fail_at},
    state::{KeyedMap, StateChunk, StateWriter},
};

/// The first try after a key was found held, and the longest time between two: a writer of ours
/// holds a key for about a millisecond, a transaction for as long as its user thinks.
const RETRY_MIN: Duration = Duration::from_millis(1);
const RETRY_MAX: Duration = Duration::from_millis(50);
/// A key held for so long is shown as trouble of the job.
const TROUBLE_AFTER: Duration = Duration::from_millis(200);
/// A key held for so long fails the job: longer than a statement ever waits, shorter than what a
/// user takes for a job that hangs.
const HELD_MAX: Duration = Duration::from_secs(30);
/// Bytes of the rows parked while a key is held; more push back. Seconds of a busy job, so that a
/// barrier behind them arrives; they count against the job's memory.
const PARKED_BYTES_MAX: usize = 64 << 20;
/// Rows netted in one flush, about.
const FLUSH_ROWS: usize = 8192;

/// Rows into a table.
#[derive(Debug, Clone)]
pub struct TableSinkSpec {
    /// The table.
    pub table: Arc<Table>,
    /// Input columns are the table's visible columns, in order, of their types.
    pub input: SchemaRef,
    /// Insert (a duplicate fails the job) or Upsert (SINK INTO).
    pub mode: WriteMode,
    /// Whether the input never retracts a row. Then the last row of a key wins; else two live rows
    /// for one key in one flush are an error (21000).
    pub is_append_only: bool,
}

struct TableSink {
    spec: TableSinkSpec,
    /// The input's columns under the table's names.
    schema: SchemaRef,
    parked: Parked,
    /// Since when the first of the parked rows meet a key that is held.
    held: Option<Held>,
    /// The last snapshot this instance has saved for; what it writes belongs to the next.
    saved: SnapshotId,
    context: Option<ProcessorContext>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    since: u64,
    /// When to try again, ns of the steady clock.
    retry_at: u64,
    /// And how long to wait after that.
    backoff: Duration,
    is_shown: bool,
}

/// Rows into a table; see [`TableSinkSpec`].
pub fn table_sink(spec: TableSinkSpec) -> Arc<dyn ProcessorSupplier> {
    let name = &spec.table.record().name.name;
    let verb = match spec.mode {
        WriteMode::Insert => "insert",
        WriteMode::InsertIgnore => "insert-ignore",
        WriteMode::Upsert => "upsert",
    };
    let visible = spec.table.schema().fields()[..spec.input.fields().len()].to_vec();
    let schema = Arc::new(Schema::new(visible));
    let record = spec.table.record();
    let key: Vec<_> = record.key.iter().map(|&column| record.schema.field(column).name()).collect();
    let state = format!("rows {} to be written, key {key:?}", columns_text(schema.fields()));
    let supplier = TableSinkSupplier(OperatorSupplier {
        description: format!("{verb}({name})"),
        schema: Arc::new(Schema::empty()),
        make: move || {
            let record = spec.table.record();
            let key = if record.has_hidden_key { &[] } else { record.key.as_slice() };
            Ok(Box::new(TableSink {
                spec: spec.clone(),
                schema: Arc::clone(&schema),
                parked: Parked::new(Arc::clone(&schema), key),
                held: None,
                saved: 0,
                context: None,
            }) as Box<dyn Processor>)
        },
    });
    Arc::new(Stateful { supplier, state })
}

/// Like any operator's, but what it makes commits.
struct TableSinkSupplier<F>(OperatorSupplier<F>);

impl<F> ProcessorSupplier for TableSinkSupplier<F>
where
    OperatorSupplier<F>: ProcessorSupplier,
{
    fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>> {
        self.0.create(count)
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn commits(&self) -> bool {
        true
    }
}

impl Processor for TableSink {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        self.context = Some(context.clone());
        Ok(())
    }

    fn process(&mut self, _ordinal: usize, inbox: &mut Inbox, _outbox: &mut Outbox) -> Result<()> {
        // Held up, it takes what comes, so that barriers do; else as much as one flush writes.
        let is_enough = |sink: &Self| match sink.held {
            Some(_) => sink.parked.bytes() >= PARKED_BYTES_MAX,
            None if sink.spec.is_append_only => !sink.parked.is_empty(),
            None => sink.parked.row_count() >= FLUSH_ROWS,
        };
        while !is_enough(self)
            && let Some(batch) = inbox.take()
        {
            self.parked.push(batch)?;
        }
        self.flush().map(drop)
    }

    fn idle(&mut self, _outbox: &mut Outbox) -> Result<Done> {
        self.flush().map(|_| Done::No)
    }

    fn complete(&mut self, _ordinal: usize, _outbox: &mut Outbox) -> Result<Done> {
        self.flush()
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        self.parked.save(self.context()?, state)?;
        fail_at(self.context()?, "sink.saved")?;
        self.saved = self.saved.max(state.snapshot);
        Ok(Done::Yes)
    }

    fn awaits_commit(&self) -> bool {
        self.context.as_ref().is_some_and(|context| context.writers.is_some())
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        self.parked.restore(chunk)
    }
}

impl TableSink {
    fn context(&self) -> Result<&ProcessorContext> {
        let early = || Error::Internal("a table sink runs before init".to_owned());
        self.context.as_ref().ok_or_else(early)
    }

    fn now(&self) -> Result<u64> {
        Ok(self.context()?.grid.env().clock.monotonic_nanos())
    }

    /// Writes the first parked rows, unless they wait for somebody; `Yes` when none are left.
    fn flush(&mut self) -> Result<Done> {
        if self.parked.is_empty() {
            return Ok(Done::Yes);
        }
        let now = self.now()?;
        if let Some(held) = self.held.filter(|held| now < held.retry_at) {
            (self.context()?.wake_at)(held.retry_at);
            return Ok(Done::No);
        }
        let batch_count = match self.spec.is_append_only {
            true => 1,
            false => self.parked.batches_of(FLUSH_ROWS),
        };
        let changes = self.changes(batch_count)?;
        match without_waiting(|| self.write(&changes)) {
            Ok(()) => {
                self.parked.forget(batch_count);
                self.let_go()?;
            }
            Err(Error::Storage(storage::Error::Conflict)) => self.note_held(now)?,
            Err(error) => return Err(error),
        }
        self.context()?.memory.hold(self.parked.bytes());
        if self.parked.is_empty() {
            return Ok(Done::Yes);
        }
        if self.held.is_none() {
            (self.context()?.wake)();
        }
        Ok(Done::No)
    }

    /// What the first parked batches come to.
    fn changes(&self, batch_count: usize) -> Result<Changes> {
        let batch = self.parked.first(batch_count)?;
        if self.spec.is_append_only && !net::has_retractions(&batch) {
            return net::insertions(&batch);
        }
        let record = self.spec.table.record();
        if record.has_hidden_key {
            return net::without_key(&batch, &record.name.name);
        }
        let keyed = Keyed {
            table: &record.name.name,
            key: &record.key,
            replaces: self.spec.mode == WriteMode::Upsert,
        };
        keyed.net(&batch)
    }

    fn write(&self, changes: &Changes) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let context = self.context()?;
        fail_at(context, "sink.write")?;
        // Dropped without a commit, the writer undoes what an error leaves half done.
        let writer = match &context.writers {
            Some(writers) => writers.begin(self.saved),
            None => context.grid.begin(),
        };
        if changes.removals.num_rows() > 0 {
            self.remove_current(&writer, &changes.removals)?;
        }
        if changes.puts.num_rows() > 0 {
            self.spec.table.write_batch(&writer, self.spec.mode, &changes.puts)?;
        }
        fail_at(context, "sink.publish")?;
        match &context.writers {
            Some(writers) => writers.publish(writer)?,
            None => writer.commit()?,
        }
        fail_at(context, "sink.published")
    }

    /// Removes those of `rows` that stand in the table just as they are.
    fn remove_current(&self, writer: &Writer, rows: &RecordBatch) -> Result<()> {
        let table = &self.spec.table;
        let key_of = |rows: &RecordBatch| -> Vec<ArrayRef> {
            table.record().key.iter().map(|&key| Arc::clone(rows.column(key))).collect()
        };
        let (keys, columns): (_, Vec<usize>) = (key_of(rows), (0..rows.num_columns()).collect());
        // Before the rows are read: what changes between the two is a conflict.
        let view = writer.read_view();
        let (found, current) = table.get_many(&keys, &columns, Some(&view))?;
        let types: Vec<_> =
            self.schema.fields().iter().map(|field| field.data_type().clone()).collect();
        let mut values = KeyedMap::new(&types, 0)?;
        let (mut wanted, mut present) = (Vec::new(), Vec::new());
        values.ids_of(rows.columns(), rows.num_rows(), &mut wanted)?;
        values.ids_of(current.columns(), current.num_rows(), &mut present)?;
        let equal = found.iter().zip(&present);
        let equal = equal.filter(|(row, id)| wanted[**row as usize] == **id);
        let equal: UInt32Array = equal.map(|(row, _)| *row).collect();
        if equal.is_empty() {
            return Ok(());
        }
        let keys =
            keys.iter().map(|key| Ok(take(key, &equal, None)?)).collect::<Result<Vec<_>>>()?;
        table.modify_batch(writer, &view, &keys, None)?;
        Ok(())
    }

    /// A key is held by somebody's open transaction.
    fn note_held(&mut self, now: u64) -> Result<()> {
        let mut held = self.held.unwrap_or(Held {
            since: now,
            retry_at: now,
            backoff: RETRY_MIN,
            is_shown: false,
        });
        let waited = Duration::from_nanos(now - held.since);
        let name = &self.spec.table.record().name.name;
        if waited >= HELD_MAX {
            let limit = HELD_MAX.as_secs();
            let message =
                format!("a key of table \"{name}\" was held by another transaction for {limit} s");
            return Err(Error::User { code: "40001", message });
        }
        if waited >= TROUBLE_AFTER && !held.is_shown {
            held.is_shown = true;
            let text = format!("a key of table \"{name}\" is held by an open transaction");
            (self.context()?.trouble)(Some(JobError::new("55P03", text)));
        }
        held.retry_at = now + held.backoff.as_nanos() as u64;
        held.backoff = (held.backoff * 2).min(RETRY_MAX);
        (self.context()?.wake_at)(held.retry_at);
        self.held = Some(held);
        Ok(())
    }

    /// Nobody is in the way any more.
    fn let_go(&mut self) -> Result<()> {
        if self.held.take().is_some_and(|held| held.is_shown) {
            (self.context()?.trouble)(None);
        }
        Ok(())
    }
}
