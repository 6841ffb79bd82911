//! `Owner`: executes operations on the partitions it owns, each under its own short lock.
//! Only an owner touches rows; a partition it does not own is answered Moved, one on its way
//! Retry, and it never waits for a writer. An operation routed by an assignment older than the one
//! that gave it the partition is answered Moved too: it may have been executed elsewhere since.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
};

use arrow::{
    array::{RecordBatch, UInt32Array},
    compute::take_record_batch,
};
use parking_lot::{Mutex, RwLock};

use super::{
    column::Column,
    handle::{KeyedWrite, TableStats},
    journal::Feed,
    logged::{Logged, LoggedMark},
    memory::Memory,
    op::{Answer, Op, Output, Request, RoutedRows, Run, Status},
    rows::{Context, Rows, Source, Step, Tally},
    schema::{KeyBytes, TableSchema, readers},
    upkeep::Due,
    view::{ReadMode, Snapshot},
    writer::ended,
    writer_cell::WriterCell,
    writers::Writers,
};
use crate::{
    Datum, Error, Result,
    cluster::control::{Durability, ObjectId},
    data_log::DataLog,
    partition::{PartitionId, hash_columns},
};

/// Rows handled under one hold of a partition's lock.
const ROWS_PER_LOCK: usize = 256;

/// The partitions of all tables that one (perhaps simulated) member owns.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(super) writers: Arc<Writers>,
    pub(super) memory: Arc<Memory>,
    /// One [`Holding`] per partition; written by moves, read under a partition's lock.
    holdings: Vec<AtomicU8>,
    /// The assignment version that gave it each partition last; written by moves.
    since: Vec<AtomicU64>,
    tables: RwLock<HashMap<ObjectId, Arc<OwnedTable>>>,
    /// Where changes of rows are written down, if anywhere.
    log: OnceLock<Arc<DataLog>>,
}

/// Whether an owner has a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Holding {
    /// Somebody else does.
    Absent,
    /// It does, and answers for it.
    Owned,
    /// It is being handed over; ends with `Absent`.
    Leaving,
}

/// The rows of one table.
#[derive(Debug)]
pub(crate) struct OwnedTable {
    pub(super) schema: Arc<TableSchema>,
    /// One short lock per partition; an untouched partition has nothing behind it.
    partitions: Vec<Mutex<Option<Box<Rows>>>>,
    /// Set under no lock, read under each partition's: no rows come after the last were freed.
    is_dropped: AtomicBool,
    /// Whether it takes no writes for a while; set and read in the same way.
    is_closed: AtomicBool,
    /// The readers of its changes; a partition looks when the number beside has changed.
    feeds: RwLock<Vec<Arc<Feed>>>,
    /// Counts the changes of the readers; written with them.
    feeds_version: AtomicU64,
    /// How much of its changes was written down.
    logged: Logged,
}

/// A table and the assignment version by which an operation on it was routed.
pub(crate) struct Addressed {
    table: Arc<OwnedTable>,
    assignment_version: u64,
}

/// Why a partition cannot be worked on.
pub(crate) type Refusal = Status;

impl Owner {
    /// An owner of the partitions for which `owns` says so.
    pub(crate) fn new(
        writers: Arc<Writers>,
        memory: Arc<Memory>,
        partition_count: u16,
        owns: impl Fn(PartitionId) -> bool,
    ) -> Self {
        let holdings = (0..partition_count).map(|partition| {
            let owned = owns(PartitionId(partition));
            AtomicU8::new(if owned { Holding::Owned } else { Holding::Absent } as u8)
        });
        let since = (0..partition_count).map(|_| AtomicU64::new(0)).collect();
        let (holdings, tables, log) = (holdings.collect(), RwLock::default(), OnceLock::new());
        Self { writers, memory, holdings, since, tables, log }
    }

    /// From now on changes of rows are written down.
    pub(crate) fn log_to(&self, log: &Arc<DataLog>) {
        assert!(self.log.set(Arc::clone(log)).is_ok(), "there is one data log");
    }

    /// How much of a table's changes was written down.
    pub(crate) fn logged(&self, id: ObjectId) -> LoggedMark {
        self.tables.read().get(&id).map_or_else(LoggedMark::default, |table| table.logged.mark())
    }

    /// Where changes of a table's rows are written down, if anywhere.
    fn log_of(&self, table: &OwnedTable) -> Option<&Arc<DataLog>> {
        self.log.get().filter(|_| table.schema.is_logged())
    }

    /// Begins to serve a table.
    pub(crate) fn add_table(&self, schema: &Arc<TableSchema>) {
        self.tables.write().entry(schema.record.id).or_insert_with(|| {
            let partitions = self.holdings.iter().map(|_| Mutex::default()).collect();
            let schema = Arc::clone(schema);
            let (is_dropped, is_closed, feeds, feeds_version) = Default::default();
            let logged = Logged::default();
            Arc::new(OwnedTable {
                schema,
                partitions,
                is_dropped,
                is_closed,
                feeds,
                feeds_version,
                logged,
            })
        });
    }

    /// Frees a table.
    pub(crate) fn drop_table(&self, id: ObjectId) {
        let Some(table) = self.tables.write().remove(&id) else { return };
        table.is_dropped.store(true, Ordering::SeqCst);
        for partition in &table.partitions {
            if let Some(rows) = partition.lock().take() {
                self.memory.forget(&rows);
            }
        }
    }

    /// Lets a table take no writes any more, or again; answers whether that is a change.
    pub(crate) fn close_table(&self, id: ObjectId, is_closed: bool) -> bool {
        let table = self.tables.read().get(&id).map(Arc::clone);
        table.is_some_and(|table| table.is_closed.swap(is_closed, Ordering::SeqCst) != is_closed)
    }

    /// Whether it serves a table.
    pub(crate) fn has_table(&self, id: ObjectId) -> bool {
        self.tables.read().contains_key(&id)
    }

    /// Changes for whom a table keeps journals.
    pub(crate) fn change_feeds(&self, id: ObjectId, change: impl FnOnce(&mut Vec<Arc<Feed>>)) {
        if let Some(table) = self.tables.read().get(&id) {
            let mut feeds = table.feeds.write();
            change(&mut feeds);
            table.feeds_version.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Executes an operation.
    pub(crate) fn execute(&self, request: &Request<'_>) -> Result<Answer> {
        let table = self.tables.read().get(&request.table).map(Arc::clone);
        let Some(table) = table else {
            return match request.op {
                // A writer may end after its table was dropped: nothing is left to settle.
                Op::Settle { .. } => Ok(Answer::done(Output::Nothing)),
                _ => Err(Error::NotFound { kind: "table", name: request.table.0.to_string() }),
            };
        };
        let table = Addressed { table, assignment_version: request.assignment_version };
        match &request.op {
            Op::Get { partition, hash, key, projection, snapshot } => {
                self.get(&table, *partition, (*hash, key), projection, snapshot)
            }
            Op::Write { partition, hash, write } => self.write(&table, *partition, *hash, write),
            Op::GetMany { keys, projection, snapshot } => {
                self.get_many(&table, keys, projection, snapshot)
            }
            Op::WriteBatch { writer, mode, rows } => {
                let cell = self.writer(*writer)?;
                let source =
                    Source { readers: readers(rows.batch.columns())?, hashes: &rows.hashes };
                let mut effects = self.log_of(&table).map(|_| Vec::new());
                let answer = self.each_run(
                    &table,
                    rows,
                    |context, partition, part, tally| {
                        self.memory.check()?;
                        partition.write_run(context, &cell, *mode, (&source, part), tally)
                    },
                    effects.as_mut(),
                )?;
                self.log_rows(&table, &cell, (&rows.batch, effects), false)?;
                Ok(answer)
            }
            Op::ModifyBatch { writer, snapshot, keys, rows } => {
                self.modify_batch(&table, *writer, snapshot, keys, rows.as_deref())
            }
            Op::Capture { partitions, projection, snapshot } => {
                let mut pieces = Vec::new();
                let left = self.each_partition(&table, partitions, |context, _, rows| {
                    let Some(rows) = rows else { return Ok(None) };
                    rows.capture(context.schema, projection, snapshot, &mut pieces)?;
                    Ok(None)
                })?;
                Ok(left.answer(Output::Pieces(pieces)))
            }
            Op::Settle { partitions } => {
                let limit = self.writers.settling_limit();
                let mut left = Left::default();
                for run in partitions {
                    if let Err(refusal) = self.settle(&table, run.partition, limit)? {
                        left.add(refusal, *run);
                    }
                }
                Ok(left.answer(Output::Nothing))
            }
            Op::KeepJournals { partitions } => {
                let left = self.each_partition(&table, partitions, |_, _, rows| {
                    rows.as_mut().map_or(Ok(()), |rows| table.keep_journals(rows))?;
                    Ok(None)
                })?;
                Ok(left.answer(Output::Nothing))
            }
            Op::TakeChanges { partitions, feed, after, upto } => {
                let mut changes = Vec::new();
                let left = self.each_partition(&table, partitions, |_, _, rows| {
                    let journals = rows.iter_mut().flat_map(|rows| &mut rows.journals);
                    for journal in journals.filter(|journal| journal.feed().id == *feed) {
                        journal.take(*after, *upto, &mut changes)?;
                    }
                    Ok(None)
                })?;
                Ok(left.answer(Output::Changes(changes)))
            }
            Op::AwaitWriters { partitions } => {
                let left = self.each_partition(&table, partitions, |_, _, rows| {
                    Ok(rows.as_ref().and_then(|rows| rows.open_writer()).map(waits_for))
                })?;
                Ok(left.answer(Output::Nothing))
            }
            Op::Truncate { partitions } => {
                let left =
                    self.each_partition(&table, partitions, |context, partition, rows| {
                        if table.is_closed() {
                            return Ok(Some(Status::Closed));
                        }
                        let blocking = rows.as_ref().and_then(|rows| rows.open_writer());
                        rows.as_mut().map_or(Ok(()), |rows| table.keep_journals(rows))?;
                        if blocking.is_none()
                            && let Some(gone) = rows.take()
                        {
                            if let Some(log) = self.log_of(&table) {
                                table.logged.count(|| {
                                    Ok::<_, Error>(log.truncate(request.table, partition))
                                })?;
                            }
                            self.memory.forget(&gone);
                            *rows = gone.truncated(context)?.map(Box::new);
                        }
                        Ok(blocking.map(waits_for))
                    })?;
                Ok(left.answer(Output::Nothing))
            }
            Op::Stats { partitions, snapshot } => self.stats(&table, partitions, snapshot),
        }
    }

    /// Whether this owner has a partition from now on.
    pub(crate) fn hold(&self, partition: PartitionId, holding: Holding) {
        self.holdings[usize::from(partition.0)].store(holding as u8, Ordering::SeqCst);
    }

    /// This owner has a partition from assignment `version` on.
    pub(crate) fn take_over(&self, partition: PartitionId, version: u64) {
        self.since[usize::from(partition.0)].store(version, Ordering::SeqCst);
        self.hold(partition, Holding::Owned);
    }

    /// Hands the rows of a partition that is [`Holding::Leaving`] here over to `target`.
    pub(crate) fn hand_over(&self, partition: PartitionId, target: &Self) {
        for (id, table) in self.tables.read().iter() {
            let mut rows = table.partition(partition).lock().take();
            if let Some(rows) = &mut rows {
                rows.merging = None;
            }
            if let Some(table) = target.tables.read().get(id) {
                *table.partition(partition).lock() = rows;
            }
        }
    }

    /// Takes rows that were loaded as those of a partition that has none.
    pub(super) fn install(
        &self,
        table: ObjectId,
        partition: PartitionId,
        mut rows: Box<Rows>,
    ) -> Result<()> {
        let owned = self.tables.read().get(&table).map(Arc::clone);
        let not_found = || Error::NotFound { kind: "table", name: table.0.to_string() };
        let owned = owned.ok_or_else(not_found)?;
        let mut slot = owned.partition(partition).lock();
        if owned.is_dropped.load(Ordering::SeqCst) {
            return Err(not_found());
        }
        if slot.is_some() {
            let text = format!("partition {} of table {} has rows", partition.0, table.0);
            return Err(Error::WrongState(text));
        }
        self.memory.report(&mut rows);
        *slot = Some(rows);
        Ok(())
    }

    /// Entries that say who sees which row, of all tables.
    #[cfg(test)]
    pub(crate) fn unsettled_count(&self) -> usize {
        let tables = self.tables.read();
        let partitions = tables.values().flat_map(|table| &table.partitions);
        let unsettled = |rows: &Mutex<Option<Box<Rows>>>| {
            let rows = rows.lock();
            rows.as_ref().and_then(|rows| rows.versions.as_ref().map(|all| all.len().max(1)))
        };
        partitions.filter_map(unsettled).sum()
    }

    fn get(
        &self,
        table: &Addressed,
        partition: PartitionId,
        (hash, key): (u64, &[Datum]),
        projection: &[usize],
        snapshot: &Snapshot,
    ) -> Result<Answer> {
        let schema = &table.schema;
        let mut bytes = KeyBytes::new();
        let key = match key {
            [Datum::Int(key)] if schema.is_integer_key() => super::schema::KeyRef::Integer(*key),
            key => {
                let values = schema.key_values(key)?;
                schema.key_ref(|position| values[position].clone(), &mut bytes)?
            }
        };
        let rows = table.partition(partition).lock();
        if let Err(refusal) = self.check(table, partition)? {
            return Ok(refused(refusal, partition));
        }
        let Some(rows) = rows.as_ref() else { return Ok(Answer::done(Output::Row(None))) };
        let context = Context { schema, writers: &self.writers };
        let row = match rows.find(context, hash, key, snapshot) {
            Some(slot) => Some(rows.row(schema, slot, projection)?),
            None => None,
        };
        Ok(Answer::done(Output::Row(row)))
    }

    fn write(
        &self,
        table: &Addressed,
        partition: PartitionId,
        hash: u64,
        write: &KeyedWrite,
    ) -> Result<Answer> {
        // A delete needs no memory, and may be the way out of having none.
        if !matches!(write, KeyedWrite::Delete { .. }) {
            self.memory.check()?;
        }
        let schema = &table.schema;
        let row = write.row_values(schema)?;
        let mut bytes = KeyBytes::new();
        let key = match write {
            KeyedWrite::Delete { .. } => schema.key_ref(|key| row[key].clone(), &mut bytes)?,
            _ => schema.key_ref(|key| row[schema.key()[key]].clone(), &mut bytes)?,
        };
        let mut slot = table.partition(partition).lock();
        if let Err(refusal) = self.check_write(table, partition)? {
            return Ok(refused(refusal, partition));
        }
        if slot.is_none() && matches!(write, KeyedWrite::Delete { .. }) {
            return Ok(Answer::done(Output::Changed(0)));
        }
        let context = Context { schema, writers: &self.writers };
        let rows = rows_of(&mut slot, context)?;
        table.keep_journals(rows)?;
        let step = rows.write(context, hash, key, write, &row);
        if let (Ok(Step::Done(1)), Some(log)) = (&step, self.log_of(table)) {
            table.logged.count(|| match write {
                KeyedWrite::Put { row, .. } | KeyedWrite::Replace { row, .. } => {
                    Ok(log.put(schema.record.id, row))
                }
                KeyedWrite::Delete { key } => Ok::<_, Error>(log.delete(schema.record.id, key)),
            })?;
        }
        self.memory.report(rows);
        let due = Due::of(rows);
        drop(slot);
        self.keep_up(table, partition, due)?;
        match step? {
            Step::Done(changed) => Ok(Answer::done(Output::Changed(changed))),
            Step::Blocked(writer) => Ok(refused(waits_for(writer), partition)),
        }
    }

    fn get_many(
        &self,
        table: &Addressed,
        keys: &RoutedRows,
        projection: &[usize],
        snapshot: &Snapshot,
    ) -> Result<Answer> {
        let schema = &table.schema;
        let context = Context { schema, writers: &self.writers };
        let source = readers(keys.batch.columns())?;
        let projected = Arc::new(schema.arrow().project(projection)?);
        let fields = projected.fields().iter();
        let mut columns =
            fields.map(|field| Column::new(field.data_type())).collect::<Result<Vec<_>>>()?;
        let mut found = Vec::new();
        let mut bytes = KeyBytes::new();
        let mut left = Left::default();
        for run in &keys.runs {
            let part = &keys.order[run.start as usize..run.end as usize];
            for (number, part) in part.chunks(ROWS_PER_LOCK).enumerate() {
                let rows = table.partition(run.partition).lock();
                if let Err(refusal) = self.check(table, run.partition)? {
                    let start = run.start + (number * ROWS_PER_LOCK) as u32;
                    left.add(refusal, Run { start, ..*run });
                    break;
                }
                let Some(rows) = rows.as_ref() else { break };
                for row in part {
                    let key = schema.key_ref(|key| source[key].value(*row as usize), &mut bytes)?;
                    let hash = keys.hashes[*row as usize];
                    let slot = rows.find(context, hash, key, snapshot);
                    let Some(slot) = slot else { continue };
                    for (column, position) in columns.iter_mut().zip(projection) {
                        column.push(&rows.store.value(slot, *position)?)?;
                    }
                    found.push(*row);
                }
            }
        }
        let columns = columns.iter().map(Column::freeze).collect::<Result<Vec<_>>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(found.len()));
        let batch = RecordBatch::try_new_with_options(projected, columns, &options)?;
        Ok(left.answer(Output::Found(found, batch)))
    }

    fn modify_batch(
        &self,
        table: &Addressed,
        writer: u64,
        snapshot: &Snapshot,
        keys: &RoutedRows,
        rows: Option<&RoutedRows>,
    ) -> Result<Answer> {
        let cell = self.writer(writer)?;
        let old = Source { readers: readers(keys.batch.columns())?, hashes: &keys.hashes };
        let new = match rows {
            Some(rows) => {
                let schema = &table.schema;
                let columns: Vec<_> =
                    schema.key().iter().map(|key| Arc::clone(rows.batch.column(*key))).collect();
                let mut hashes = Vec::new();
                hash_columns(&columns, &mut hashes)?;
                if hashes != *keys.hashes {
                    return Err(Error::Invalid("an update must not change the key".to_owned()));
                }
                Some(Source { readers: readers(rows.batch.columns())?, hashes: &keys.hashes })
            }
            None => None,
        };
        let mut effects = self.log_of(table).map(|_| Vec::new());
        let answer = self.each_run(
            table,
            keys,
            |context, partition, part, tally| {
                if new.is_some() {
                    self.memory.check()?;
                }
                partition.modify_run(context, &cell, snapshot, (&old, new.as_ref(), part), tally)
            },
            effects.as_mut(),
        )?;
        let changed = rows.unwrap_or(keys);
        self.log_rows(table, &cell, (&changed.batch, effects), rows.is_none())?;
        Ok(answer)
    }

    /// Writes down which rows of a batch a writer wrote or, by their keys, removed.
    fn log_rows(
        &self,
        table: &Addressed,
        cell: &WriterCell,
        (batch, effects): (&RecordBatch, Option<Vec<u32>>),
        is_removal: bool,
    ) -> Result<()> {
        let (Some(mut effects), Some(log)) = (effects, self.log_of(table)) else { return Ok(()) };
        if effects.is_empty() {
            return Ok(());
        }
        let id = table.schema.record.id;
        if table.schema.durability() == Durability::Fsync {
            cell.note_must_sync();
        }
        table.logged.count(|| {
            if effects.len() == batch.num_rows() {
                return log.rows(cell, id, batch, is_removal);
            }
            // In the order in which they were written, whatever the partitions.
            effects.sort_unstable();
            let batch = take_record_batch(batch, &UInt32Array::from(effects))?;
            log.rows(cell, id, &batch, is_removal)
        })
    }

    fn stats(&self, table: &Addressed, partitions: &[Run], snapshot: &Snapshot) -> Result<Answer> {
        let mut stats = Vec::with_capacity(partitions.len());
        let left = self.each_partition(table, partitions, |_, _, rows| {
            let count = |rows: &Rows, mode| rows.count(&snapshot.in_mode(mode)) as u64;
            stats.push(rows.as_ref().map_or_else(TableStats::default, |rows| TableStats {
                rows: count(rows, ReadMode::Durable),
                rows_provisional: count(rows, ReadMode::Provisional),
                bytes: rows.bytes() as u64,
            }));
            Ok(None)
        })?;
        Ok(left.answer(Output::Stats(stats)))
    }

    /// Calls `write` for at most [`ROWS_PER_LOCK`] rows at a time, until somebody is in the way. Notes
    /// in `effects` the rows that changed anything.
    fn each_run(
        &self,
        table: &Addressed,
        routed: &RoutedRows,
        mut write: impl FnMut(
            Context<'_>,
            &mut Rows,
            &[u32],
            &mut Tally,
        ) -> Result<super::rows::Progress>,
        mut effects: Option<&mut Vec<u32>>,
    ) -> Result<Answer> {
        let context = Context { schema: &table.schema, writers: &self.writers };
        let mut tally = Tally::default();
        let mut left = Left::default();
        for run in &routed.runs {
            let mut start = run.start;
            while start < run.end {
                let end = run.end.min(start + ROWS_PER_LOCK as u32);
                let mut slot = table.partition(run.partition).lock();
                if let Err(refusal) = self.check_write(table, run.partition)? {
                    left.add(refusal, Run { start, ..*run });
                    break;
                }
                let rows = rows_of(&mut slot, context)?;
                table.keep_journals(rows)?;
                let part = &routed.order[start as usize..end as usize];
                let progress = write(context, rows, part, &mut tally);
                self.memory.report(rows);
                let due = Due::of(rows);
                drop(slot);
                let (done, blocked) = progress?;
                if let Some(effects) = &mut effects {
                    let is_effect = |row: &&u32| !tally.skipped.contains(row);
                    effects.extend(part[..done].iter().filter(is_effect));
                }
                tally.skipped.clear();
                start += done as u32;
                self.keep_up(table, run.partition, due)?;
                if let Some(writer) = blocked {
                    left.add(waits_for(writer), Run { start, ..*run });
                    break;
                }
            }
        }
        Ok(left.answer(Output::Summary(tally.summary)))
    }

    /// Calls `visit` with each partition under its lock; it answers what is in its way.
    fn each_partition(
        &self,
        table: &Addressed,
        partitions: &[Run],
        mut visit: impl FnMut(
            Context<'_>,
            PartitionId,
            &mut Option<Box<Rows>>,
        ) -> Result<Option<Refusal>>,
    ) -> Result<Left> {
        let context = Context { schema: &table.schema, writers: &self.writers };
        let mut left = Left::default();
        for run in partitions {
            let mut rows = table.partition(run.partition).lock();
            let refusal = match self.check(table, run.partition)? {
                Ok(()) => {
                    let blocked = visit(context, run.partition, &mut rows)?;
                    if let Some(rows) = rows.as_mut() {
                        self.memory.report(rows);
                    }
                    blocked
                }
                Err(refusal) => Some(refusal),
            };
            if let Some(refusal) = refusal {
                left.add(refusal, *run);
            }
        }
        Ok(left)
    }

    /// Whether a partition, whose lock is held, may be worked on. NotFound after a drop.
    pub(super) fn check(
        &self,
        table: &Addressed,
        partition: PartitionId,
    ) -> Result<Result<(), Refusal>> {
        if table.is_dropped.load(Ordering::SeqCst) {
            let name = table.schema.record.name.name.clone();
            return Err(Error::NotFound { kind: "table", name });
        }
        let number = usize::from(partition.0);
        let holding = self.holdings[number].load(Ordering::SeqCst);
        let is_outdated = table.assignment_version < self.since[number].load(Ordering::SeqCst);
        Ok(if holding == Holding::Owned as u8 && is_outdated {
            Err(Status::Moved)
        } else if holding == Holding::Owned as u8 {
            Ok(())
        } else if holding == Holding::Leaving as u8 {
            Err(Status::Retry { writer: None })
        } else {
            Err(Status::Moved)
        })
    }

    /// Whether a partition, whose lock is held, may be written.
    fn check_write(
        &self,
        table: &Addressed,
        partition: PartitionId,
    ) -> Result<Result<(), Refusal>> {
        let checked = self.check(table, partition)?;
        Ok(checked.and_then(|()| if table.is_closed() { Err(Status::Closed) } else { Ok(()) }))
    }

    fn writer(&self, id: u64) -> Result<Arc<WriterCell>> {
        let cell = self.writers.cell(id);
        cell.ok_or_else(ended)
    }
}

impl OwnedTable {
    /// Keeps journals in a partition for those who read the table's changes now.
    fn keep_journals(&self, rows: &mut Rows) -> Result<()> {
        let version = self.feeds_version.load(Ordering::SeqCst);
        if rows.feeds_version == version {
            return Ok(());
        }
        rows.keep_journals(&self.schema, &self.feeds.read())?;
        rows.feeds_version = version;
        Ok(())
    }

    /// Whether it takes no writes.
    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// A partition behind its lock.
    pub(super) fn partition(&self, partition: PartitionId) -> &Mutex<Option<Box<Rows>>> {
        &self.partitions[usize::from(partition.0)]
    }
}

impl Deref for Addressed {
    type Target = OwnedTable;

    fn deref(&self) -> &OwnedTable {
        &self.table
    }
}

/// Collects what an operation could not do, and the first reason.
#[derive(Debug, Default)]
struct Left {
    runs: Vec<Run>,
    status: Option<Status>,
}

impl Left {
    fn add(&mut self, status: Status, run: Run) {
        self.status.get_or_insert(status);
        self.runs.push(run);
    }

    fn answer(self, output: Output) -> Answer {
        Answer::left(self.status.unwrap_or(Status::Done), output, self.runs)
    }
}

/// The rows of a partition, which begins to exist with them.
fn rows_of<'a>(slot: &'a mut Option<Box<Rows>>, context: Context<'_>) -> Result<&'a mut Rows> {
    if slot.is_none() {
        *slot = Some(Box::new(Rows::new(context)?));
    }
    Ok(slot.as_deref_mut().expect("filled above"))
}

/// The writer of this id must end first.
fn waits_for(writer: u64) -> Refusal {
    Status::Retry { writer: Some(writer) }
}

fn refused(status: Status, partition: PartitionId) -> Answer {
    Answer::left(status, Output::Nothing, vec![Run::whole(partition)])
}
