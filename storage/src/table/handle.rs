//! `Table`: the handle callers hold. Keyed operations run inline on the caller's thread; scans
//! capture shortly and run without locks. All of it goes through the router as operations.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions},
    compute::{concat_batches, max},
    datatypes::{Int64Type, Schema, SchemaRef},
};
use serde::{Deserialize, Serialize};

use super::{
    capture::Piece,
    op::{Op, Output, RoutedRows, Run},
    router::Router,
    scan,
    schema::{KeyBytes, TableSchema},
    unsynced::note_unsynced,
    view::{ReadMode, ReadView, Snapshot},
    writer::Writer,
};
use crate::{
    Datum, Error, Result, Row,
    cluster::control::{Durability, TableRecord},
    partition::{PartitionId, hash::hash_integer, hash_columns, hash_datums, partition_of_hash},
};

/// A table of the grid; cheap to clone by `Arc`, valid until the table is dropped (operations on
/// a dropped table answer NotFound).
#[derive(Debug)]
pub struct Table {
    schema: Arc<TableSchema>,
    router: Arc<Router>,
    /// The next value of the hidden key; drawn by writes, by the batch.
    row_id_next: AtomicI64,
    /// Whether another table has taken its place and its name. Set once, before its rows go.
    is_replaced: AtomicBool,
}

/// What to do when the key is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteMode {
    /// Fail with DuplicateKey; nothing of the batch stays.
    Insert,
    /// Leave the present row (ON CONFLICT DO NOTHING).
    InsertIgnore,
    /// Replace the present row (SINK INTO).
    Upsert,
}

/// Which version of a row was read; compared, never ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowVersion(pub u64);

/// A keyed write that commits at once: the path that pays nothing for writers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum KeyedWrite {
    /// Writes a whole row (all columns of the schema in order).
    Put {
        /// What to do when the key is there.
        mode: WriteMode,
        /// The row.
        row: Row,
    },
    /// Replaces the row only if it is still the version that was read: UPDATE by key. The key must
    /// not change. Answers Conflict otherwise; the caller reads and computes again.
    Replace {
        /// The version read.
        version: RowVersion,
        /// The new row.
        row: Row,
    },
    /// Removes the row of this key.
    Delete {
        /// Key values in key order.
        key: Vec<Datum>,
    },
}

/// What a batch write did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteSummary {
    /// Rows that were not there before.
    pub inserted: u64,
    /// Rows replaced.
    pub updated: u64,
    /// Rows removed.
    pub deleted: u64,
    /// Rows left alone (InsertIgnore, delete of a missing key).
    pub skipped: u64,
}

/// Size of a table, or of one of its partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStats {
    /// Live committed rows.
    pub rows: u64,
    /// Rows as provisional readers see them: others only while a job has published changes that
    /// no snapshot covers yet.
    pub rows_provisional: u64,
    /// Memory of chunks, tail and index, in bytes.
    pub bytes: u64,
}

/// One stream of a scan: batches of about 8 192 rows, of the projected schema.
pub type ScanLane = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

impl Table {
    /// A handle on a table that the router's owners serve from now on.
    pub(crate) fn open(record: Arc<TableRecord>, router: &Arc<Router>) -> Result<Self> {
        let schema = Arc::new(TableSchema::new(record)?);
        router.add_table(&schema);
        let (router, row_id_next) = (Arc::clone(router), AtomicI64::new(1));
        Ok(Self { schema, router, row_id_next, is_replaced: AtomicBool::new(false) })
    }

    /// From now on operations answer Conflict, not NotFound, when they find the rows gone: who
    /// asks for the table by its name again gets the one in its place.
    pub(crate) fn replaced(&self) {
        self.is_replaced.store(true, Ordering::SeqCst);
    }

    /// The catalog record this handle was opened with.
    pub fn record(&self) -> &Arc<TableRecord> {
        &self.schema.record
    }

    /// What an acknowledged write to it survives, where there is a data directory.
    pub fn durability(&self) -> Durability {
        self.schema.durability()
    }

    /// From now on an acknowledged write to it survives this.
    pub(crate) fn set_durability(&self, durability: Durability) {
        self.schema.set_durability(durability);
    }

    /// Schema of all columns, the hidden one included.
    pub fn schema(&self) -> &SchemaRef {
        &self.record().schema
    }

    /// The row of `key` (values in key order) as `view` sees it, or the newest committed one
    /// without a view; only the columns of `projection`, in its order. A null in the key finds
    /// nothing.
    pub fn get(
        &self,
        key: &[Datum],
        projection: &[usize],
        view: Option<&ReadView>,
    ) -> Result<Option<(RowVersion, Row)>> {
        self.get_seen(key, projection, snapshot_of(view))
    }

    /// The newest row of `key` in a mode, as [`Table::get`].
    pub fn get_newest(
        &self,
        key: &[Datum],
        projection: &[usize],
        mode: ReadMode,
    ) -> Result<Option<(RowVersion, Row)>> {
        self.get_seen(key, projection, Snapshot::newest(mode))
    }

    fn get_seen(
        &self,
        key: &[Datum],
        projection: &[usize],
        snapshot: Snapshot,
    ) -> Result<Option<(RowVersion, Row)>> {
        let (hash, partition) = self.place(key)?;
        let output = self.call_one(partition, || Op::Get {
            partition,
            hash,
            key: Cow::Borrowed(key),
            projection: Cow::Borrowed(projection),
            snapshot,
        })?;
        match output {
            Output::Row(row) => Ok(row),
            other => Err(unexpected(&other)),
        }
    }

    /// Many keys at once (lookup join): `keys` has the key columns in key order; answers, for each
    /// input row that found its row, `(index of the input row, row)` as two parallel columns:
    /// input indices and a batch of the projected columns. The order is that of the partitions.
    /// Rows as `view` sees them, or the newest committed ones without a view.
    pub fn get_many(
        &self,
        keys: &[ArrayRef],
        projection: &[usize],
        view: Option<&ReadView>,
    ) -> Result<(Vec<u32>, RecordBatch)> {
        let snapshot = snapshot_of(view);
        let keys = self.route_keys(keys)?;
        let mut found = Vec::new();
        let mut batches = Vec::new();
        let mut failure = None;
        self.call_many(
            keys.runs.clone(),
            |runs| Op::GetMany {
                keys: Cow::Owned(keys.with_runs(runs)),
                projection: Cow::Borrowed(projection),
                snapshot,
            },
            |output, _| match output {
                Output::Found(rows, batch) => {
                    found.extend(rows);
                    batches.push(batch);
                }
                other => failure = Some(unexpected(&other)),
            },
        )?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        if batches.len() == 1 {
            return Ok((found, batches.remove(0)));
        }
        let schema = Arc::new(self.schema().project(projection)?);
        if schema.fields().is_empty() {
            let options = RecordBatchOptions::new().with_row_count(Some(found.len()));
            return Ok((found, RecordBatch::try_new_with_options(schema, vec![], &options)?));
        }
        Ok((found, concat_batches(&schema, &batches)?))
    }

    /// A keyed write that commits at once. Answers the number of rows changed (0 or 1). Waits, up
    /// to a bound, for a pending writer that holds the key, then fails with Conflict. A row of a
    /// table without a key may come without the hidden column.
    pub fn write(&self, write: &KeyedWrite) -> Result<u64> {
        self.admit()?;
        let completed = self.with_row_id(write);
        let write = completed.as_ref().unwrap_or(write);
        let hash = self.key_hash(write)?;
        let partition = partition_of_hash(hash, self.router.partition_count());
        let output = self.call_one(partition, || Op::Write {
            partition,
            hash,
            write: Cow::Borrowed(write),
        })?;
        match output {
            Output::Changed(rows) => {
                self.note_unsynced();
                Ok(rows)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Writes all rows of `batch` (schema: all visible columns; the hidden key is drawn here)
    /// under a pending writer. Of rows with the same key the last wins under Upsert. On an error
    /// the writer can only be aborted.
    pub fn write_batch(
        &self,
        writer: &Writer,
        mode: WriteMode,
        batch: &RecordBatch,
    ) -> Result<WriteSummary> {
        let hidden = self.record().has_hidden_key.then(|| {
            let rows = batch.num_rows() as i64;
            let first = self.row_id_next.fetch_add(rows, Ordering::Relaxed);
            Arc::new(Int64Array::from_iter_values(first..first + rows)) as ArrayRef
        });
        let batch = self.schema.conform(batch, hidden)?;
        self.write_conformed(writer, mode, batch)
    }

    fn write_conformed(
        &self,
        writer: &Writer,
        mode: WriteMode,
        batch: RecordBatch,
    ) -> Result<WriteSummary> {
        self.admit()?;
        let keys = self.schema.key().iter();
        let keys: Vec<_> = keys.map(|key| Arc::clone(batch.column(*key))).collect();
        let mut hashes = Vec::new();
        hash_columns(&keys, &mut hashes)?;
        let rows = RoutedRows::new(batch, hashes, self.router.partition_count());
        let op = |runs| Op::WriteBatch {
            writer: writer.id(),
            mode,
            rows: Cow::Owned(rows.with_runs(runs)),
        };
        self.write_routed(writer, &rows, op)
    }

    /// Replaces or removes rows that `writer`'s read view saw: UPDATE and DELETE of many rows.
    /// `keys` are the old rows' key columns; `rows` the new rows (all columns) or `None` to
    /// delete. A row changed by another writer since the view was taken answers Conflict; rows
    /// whose key would change are Invalid.
    pub fn modify_batch(
        &self,
        writer: &Writer,
        view: &ReadView,
        keys: &[ArrayRef],
        rows: Option<&RecordBatch>,
    ) -> Result<WriteSummary> {
        self.admit()?;
        let keys = self.route_keys(keys)?;
        let rows = rows.map(|rows| self.schema.conform(rows, None)).transpose()?;
        if let Some(rows) = &rows
            && rows.num_rows() != keys.batch.num_rows()
        {
            return Err(Error::Invalid("as many new rows as keys are needed".to_owned()));
        }
        let op = |runs: Vec<Run>| Op::ModifyBatch {
            writer: writer.id(),
            snapshot: view.snapshot(),
            rows: rows.as_ref().map(|rows| Cow::Owned(keys.with_batch(rows.clone(), runs.clone()))),
            keys: Cow::Owned(keys.with_runs(runs)),
        };
        self.write_routed(writer, &keys, op)
    }

    /// A consistent scan of the projected columns as at most `lane_count` streams, at least one.
    pub fn scan(
        &self,
        view: &ReadView,
        projection: Option<&[usize]>,
        lane_count: usize,
    ) -> Result<Vec<ScanLane>> {
        let all: Vec<_> = (0..self.schema().fields().len()).collect();
        let projection = projection.unwrap_or(&all);
        let schema = Arc::new(self.schema().project(projection)?);
        Ok(scan::lanes(self.capture(view, projection)?, &schema, lane_count))
    }

    /// The projected columns as a view sees them, to be read later.
    pub(crate) fn capture(&self, view: &ReadView, projection: &[usize]) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut failure = None;
        self.call_many(
            self.partitions(),
            |partitions| Op::Capture {
                partitions,
                projection: Cow::Borrowed(projection),
                snapshot: view.snapshot(),
            },
            |output, _| match output {
                Output::Pieces(captured) => pieces.extend(captured),
                other => failure = Some(unexpected(&other)),
            },
        )?;
        match failure {
            Some(failure) => Err(failure),
            None => Ok(pieces),
        }
    }

    /// Drops row versions that no view needs any more, and merges chunks.
    pub fn tidy(&self) -> Result<()> {
        let op = |partitions| Op::Settle { partitions };
        self.call_many(self.partitions(), op, |_, _| ())
    }

    /// Removes all rows, at once and for every reader (as PostgreSQL's, it heeds no view). Waits
    /// for pending writers, up to a bound, then fails with Conflict.
    pub fn truncate(&self) -> Result<()> {
        self.admit()?;
        let op = |partitions| Op::Truncate { partitions };
        self.call_many(self.partitions(), op, |_, _| ())?;
        self.note_unsynced();
        Ok(())
    }

    /// Exact committed row count and bytes. Nothing for a dropped table.
    pub fn stats(&self) -> TableStats {
        self.partition_stats().iter().fold(TableStats::default(), |sum, partition| TableStats {
            rows: sum.rows + partition.rows,
            rows_provisional: sum.rows_provisional + partition.rows_provisional,
            bytes: sum.bytes + partition.bytes,
        })
    }

    /// The same, one entry per partition in partition order.
    pub fn partition_stats(&self) -> Vec<TableStats> {
        let mut stats = vec![TableStats::default(); usize::from(self.router.partition_count())];
        let view = self.router.read_view(ReadMode::Durable);
        let counted = self.call_many(
            self.partitions(),
            |partitions| Op::Stats { partitions, snapshot: view.snapshot() },
            |output, runs| {
                if let Output::Stats(counted) = output {
                    for (run, counted) in runs.iter().zip(counted) {
                        stats[usize::from(run.partition.0)] = counted;
                    }
                }
            },
        );
        if let Err(error) = counted {
            tracing::debug!(table = self.record().id.0, %error, "a table was not counted");
        }
        stats
    }

    /// Writes rows of all columns, the hidden one included, over those with their keys.
    pub(crate) fn write_whole(&self, writer: &Writer, batch: &RecordBatch) -> Result<()> {
        let batch = self.schema.conform(batch, None)?;
        self.note_row_ids(&batch);
        self.write_conformed(writer, WriteMode::Upsert, batch).map(drop)
    }

    /// Removes the rows of these keys that are there.
    pub(crate) fn remove_keys(&self, writer: &Writer, keys: &RecordBatch) -> Result<()> {
        self.modify_batch(writer, &writer.read_view(), keys.columns(), None).map(drop)
    }

    /// Schema of the key columns, in key order.
    pub(crate) fn key_schema(&self) -> SchemaRef {
        let fields = self.record().key.iter().map(|key| Arc::clone(&self.schema().fields()[*key]));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Removes all rows of one partition.
    pub(crate) fn truncate_partition(&self, partition: PartitionId) -> Result<()> {
        let op = |partitions| Op::Truncate { partitions };
        self.call_many(vec![Run::whole(partition)], op, |_, _| ())
    }

    /// Whether what is about to be changed can be written down, if it is to be: DiskFull if not.
    fn admit(&self) -> Result<()> {
        self.router.log().filter(|_| self.schema.is_logged()).map_or(Ok(()), |log| log.admit())
    }

    /// What was committed must be on disk before anybody is told of it, if that is so.
    fn note_unsynced(&self) {
        if self.router.log().is_some() && self.durability() == Durability::Fsync {
            note_unsynced();
        }
    }

    fn note_row_ids(&self, batch: &RecordBatch) {
        let hidden = self.record().has_hidden_key.then(|| batch.columns().last()).flatten();
        let hidden = hidden.and_then(|column| column.as_primitive_opt::<Int64Type>());
        if let Some(row_id) = hidden.and_then(max) {
            self.use_row_ids(row_id);
        }
    }

    /// The way to its owners.
    pub(crate) fn router(&self) -> &Arc<Router> {
        &self.router
    }

    /// The shape of its rows.
    pub(crate) fn table_schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// All columns of a partition as a view sees them.
    pub(crate) fn capture_partition(
        &self,
        view: &ReadView,
        partition: PartitionId,
    ) -> Result<Vec<Piece>> {
        let all: Vec<_> = (0..self.schema().fields().len()).collect();
        let output = self.call_one(partition, || Op::Capture {
            partitions: vec![Run::whole(partition)],
            projection: Cow::Borrowed(&all),
            snapshot: view.snapshot(),
        })?;
        match output {
            Output::Pieces(pieces) => Ok(pieces),
            other => Err(unexpected(&other)),
        }
    }

    /// The last value of the hidden key that was given away; 0 before the first.
    pub(crate) fn row_id_last(&self) -> i64 {
        self.row_id_next.load(Ordering::Relaxed) - 1
    }

    /// Values of the hidden key up to this one are taken.
    pub(crate) fn use_row_ids(&self, last: i64) {
        self.row_id_next.fetch_max(last.saturating_add(1), Ordering::Relaxed);
    }

    /// NotFound after a drop, Conflict once another table has taken its place.
    pub(crate) fn check_exists(&self) -> Result<()> {
        let id = self.record().id;
        match self.router.has_table(id) {
            true => Ok(()),
            false => Err(self.named(Error::NotFound { kind: "table", name: id.0.to_string() })),
        }
    }

    fn call_one<'a>(&self, partition: PartitionId, op: impl Fn() -> Op<'a>) -> Result<Output> {
        let output = self.router.call_one(self.record().id, partition, op);
        output.map_err(|error| self.named(error))
    }

    pub(crate) fn call_many<'a>(
        &self,
        runs: Vec<Run>,
        op: impl Fn(Vec<Run>) -> Op<'a>,
        take: impl FnMut(Output, &[Run]),
    ) -> Result<()> {
        let called = self.router.call_many(self.record().id, runs, op, take);
        called.map_err(|error| self.named(error))
    }

    /// Owners know a dropped table by its id only.
    fn named(&self, error: Error) -> Error {
        match error {
            Error::NotFound { .. } if self.is_replaced.load(Ordering::SeqCst) => Error::Conflict,
            Error::NotFound { kind, .. } => {
                Error::NotFound { kind, name: self.record().name.name.clone() }
            }
            other => other,
        }
    }

    /// Sends a batch write under `writer`, adding up what the owners did.
    fn write_routed<'a>(
        &self,
        writer: &Writer,
        rows: &RoutedRows,
        op: impl Fn(Vec<Run>) -> Op<'a>,
    ) -> Result<WriteSummary> {
        let id = self.record().id;
        if writer.cell().job().is_some() && self.is_replaced.load(Ordering::SeqCst) {
            // A job holds this table until it is planned again: to try again would never end.
            let name = self.record().name.name.clone();
            return Err(Error::NotFound { kind: "table", name });
        }
        writer.touch(id, &rows.runs)?;
        let mut summary = WriteSummary::default();
        self.call_many(rows.runs.clone(), op, |output, _| {
            if let Output::Summary(part) = output {
                summary.inserted += part.inserted;
                summary.updated += part.updated;
                summary.deleted += part.deleted;
                summary.skipped += part.skipped;
            }
        })?;
        Ok(summary)
    }

    /// Hash and partition of a key.
    fn place(&self, key: &[Datum]) -> Result<(u64, PartitionId)> {
        let hash = hash_datums(key, self.schema.key_types())?;
        Ok((hash, partition_of_hash(hash, self.router.partition_count())))
    }

    /// Hash of the key of a write.
    fn key_hash(&self, write: &KeyedWrite) -> Result<u64> {
        let positions = self.schema.key();
        if let (KeyedWrite::Put { row, .. } | KeyedWrite::Replace { row, .. }, [key]) =
            (write, positions)
            && self.schema.is_integer_key()
            && let Some(Datum::Int(key)) = row.get(*key)
        {
            return Ok(hash_integer(*key));
        }
        let mut bytes = KeyBytes::new();
        let values = write.row_values(&self.schema)?;
        let is_delete = matches!(write, KeyedWrite::Delete { .. });
        let position = |column: usize| if is_delete { column } else { positions[column] };
        let key = self.schema.key_ref(|column| values[position(column)].clone(), &mut bytes)?;
        Ok(key.hash())
    }

    /// Key columns as rows in the order of their partitions.
    fn route_keys(&self, keys: &[ArrayRef]) -> Result<RoutedRows> {
        let keys = self.schema.conform_keys(keys)?;
        let mut hashes = Vec::new();
        hash_columns(&keys, &mut hashes)?;
        let fields = self
            .schema
            .key()
            .iter()
            .map(|key| Arc::new(self.schema().field(*key).clone().with_nullable(true)));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let batch = RecordBatch::try_new(schema, keys)?;
        Ok(RoutedRows::new(batch, hashes, self.router.partition_count()))
    }

    /// All partitions, for an operation without rows.
    fn partitions(&self) -> Vec<Run> {
        self.router.all_partitions()
    }

    /// A put into a table without a key, completed with the hidden column.
    fn with_row_id(&self, write: &KeyedWrite) -> Option<KeyedWrite> {
        let visible = self.schema().fields().len() - 1;
        match write {
            KeyedWrite::Put { mode, row }
                if self.record().has_hidden_key && row.len() == visible =>
            {
                let id = self.row_id_next.fetch_add(1, Ordering::Relaxed);
                let row = row.iter().cloned().chain([Datum::Int(id)]).collect();
                Some(KeyedWrite::Put { mode: *mode, row })
            }
            _ => None,
        }
    }
}

/// What a reader without a view sees: the newest committed.
fn snapshot_of(view: Option<&ReadView>) -> Snapshot {
    view.map_or(Snapshot::newest(ReadMode::Durable), ReadView::snapshot)
}

/// An owner answered something else than what was asked.
fn unexpected(output: &Output) -> Error {
    Error::Internal(format!("an operation was answered with {output:?}"))
}
