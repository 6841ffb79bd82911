//! `Table`: the handle callers hold. Keyed operations run inline on the caller's thread; scans
//! capture shortly and run without locks. All of it goes through the router as operations.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use super::writer::{ReadView, Writer};
use crate::{Datum, Result, Row, cluster::control::TableRecord};

/// A table of the grid; cheap to clone by `Arc`, valid until the table is dropped (operations on
/// a dropped table answer NotFound).
#[derive(Debug)]
pub struct Table {
    // owner: storage helper
}

/// What to do when the key is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// Fail with DuplicateKey; nothing of the batch stays.
    Insert,
    /// Leave the present row (ON CONFLICT DO NOTHING).
    InsertIgnore,
    /// Replace the present row (SINK INTO).
    Upsert,
}

/// Which version of a row was read; compared, never ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowVersion(pub u64);

/// A keyed write that commits at once: the path that pays nothing for writers.
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Live committed rows.
    pub rows: u64,
    /// Memory of chunks, tail and index, in bytes.
    pub bytes: u64,
}

/// One stream of a scan: batches of about 8 192 rows, of the projected schema.
pub type ScanLane = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

impl Table {
    /// The catalog record this handle was opened with.
    pub fn record(&self) -> &Arc<TableRecord> {
        unimplemented!("owner: storage helper")
    }

    /// Schema of all columns, the hidden one included.
    pub fn schema(&self) -> &SchemaRef {
        &self.record().schema
    }

    /// The committed row of `key` (values in key order) as `view` sees it, or the newest committed
    /// one without a view; only the columns of `projection`, in its order.
    pub fn get(
        &self,
        key: &[Datum],
        projection: &[usize],
        view: Option<&ReadView>,
    ) -> Result<Option<(RowVersion, Row)>> {
        let _ = (key, projection, view);
        unimplemented!("owner: storage helper")
    }

    /// Many keys at once (lookup join): `keys` has the key columns in key order; answers, for each
    /// input row that found its row, `(index of the input row, row)` as two parallel columns:
    /// input indices and a batch of the projected columns.
    pub fn get_many(
        &self,
        keys: &[arrow::array::ArrayRef],
        projection: &[usize],
    ) -> Result<(Vec<u32>, RecordBatch)> {
        let _ = (keys, projection);
        unimplemented!("owner: storage helper")
    }

    /// A keyed write that commits at once. Answers the number of rows changed (0 or 1). Waits, up
    /// to a bound, for a pending writer that holds the key, then fails with Conflict.
    pub fn write(&self, write: &KeyedWrite) -> Result<u64> {
        let _ = write;
        unimplemented!("owner: storage helper")
    }

    /// Writes all rows of `batch` (schema: all visible columns; the hidden key is drawn here)
    /// under a pending writer. On an error the writer can only be aborted.
    pub fn write_batch(
        &self,
        writer: &Writer,
        mode: WriteMode,
        batch: &RecordBatch,
    ) -> Result<WriteSummary> {
        let _ = (writer, mode, batch);
        unimplemented!("owner: storage helper")
    }

    /// Replaces or removes rows that `writer`'s read view saw: UPDATE and DELETE of many rows.
    /// `keys` are the old rows' key columns; `rows` the new rows (all columns) or `None` to
    /// delete. A row changed by another writer since the view was taken answers Conflict.
    pub fn modify_batch(
        &self,
        writer: &Writer,
        view: &ReadView,
        keys: &[arrow::array::ArrayRef],
        rows: Option<&RecordBatch>,
    ) -> Result<WriteSummary> {
        let _ = (writer, view, keys, rows);
        unimplemented!("owner: storage helper")
    }

    /// A consistent scan of the projected columns as at most `lane_count` streams.
    pub fn scan(
        &self,
        view: &ReadView,
        projection: Option<&[usize]>,
        lane_count: usize,
    ) -> Result<Vec<ScanLane>> {
        let _ = (view, projection, lane_count);
        unimplemented!("owner: storage helper")
    }

    /// Removes all rows.
    pub fn truncate(&self) -> Result<()> {
        unimplemented!("owner: storage helper")
    }

    /// Exact committed row count and bytes.
    pub fn stats(&self) -> TableStats {
        unimplemented!("owner: storage helper")
    }

    /// The same, one entry per partition in partition order.
    pub fn partition_stats(&self) -> Vec<TableStats> {
        unimplemented!("owner: storage helper")
    }
}
