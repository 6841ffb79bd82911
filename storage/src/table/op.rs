//! Operations as values: everything a caller wants from partitions, with an id and the assignment
//! version it was routed by. An operation names partitions, never a place in memory.
//!
//! ```text
//! caller ── Request{id, assignment version, op} ──→ owner
//!        ←─ Done · Moved (ask the assignment again) · Retry (later; or after a writer's end) · Closed ──
//! ```
//! An operation over several partitions may come part of the way; its answer then names what is
//! left, and the caller sends that again, perhaps to somebody else.

use std::{borrow::Cow, sync::Arc};

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use super::{
    capture::Piece,
    codec,
    handle::{KeyedWrite, RowVersion, TableStats, WriteMode, WriteSummary},
    view::Snapshot,
};
use crate::{
    Datum, Row,
    cluster::control::ObjectId,
    partition::{PartitionId, partition_of_hash},
};

/// An operation on its way to an owner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request<'a> {
    /// Unique in its caller's life: makes a repeated delivery recognisable. 0 for an owner in the
    /// caller's own hands.
    pub(crate) id: u64,
    /// The caller will never again send an operation with a smaller id: it has the answer.
    pub(crate) unanswered_from: u64,
    /// The assignment it was routed by.
    pub(crate) assignment_version: u64,
    pub(crate) table: ObjectId,
    pub(crate) op: Op<'a>,
}

/// What is wanted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op<'a> {
    /// One row by key.
    Get {
        partition: PartitionId,
        hash: u64,
        key: Cow<'a, [Datum]>,
        projection: Cow<'a, [usize]>,
        snapshot: Snapshot,
    },
    /// One row by key, to be changed and committed at once.
    Write { partition: PartitionId, hash: u64, write: Cow<'a, KeyedWrite> },
    /// Many rows by key: `keys` holds the key columns.
    GetMany { keys: Cow<'a, RoutedRows>, projection: Cow<'a, [usize]>, snapshot: Snapshot },
    /// Rows of all columns, written for a pending writer.
    WriteBatch { writer: u64, mode: WriteMode, rows: Cow<'a, RoutedRows> },
    /// Rows to replace or, without new ones, to remove, for a pending writer. Both batches have
    /// the same rows; the runs are those of `keys`.
    ModifyBatch {
        writer: u64,
        snapshot: Snapshot,
        keys: Cow<'a, RoutedRows>,
        rows: Option<Cow<'a, RoutedRows>>,
    },
    /// Everything a reader sees in these partitions.
    Capture { partitions: Vec<Run>, projection: Cow<'a, [usize]>, snapshot: Snapshot },
    /// Drop version information and undo aborted writers.
    Settle { partitions: Vec<Run> },
    /// Remove all rows.
    Truncate { partitions: Vec<Run> },
    /// Nothing, once no writer is open in these partitions.
    AwaitWriters { partitions: Vec<Run> },
    /// Keep journals for those readers of changes, and no others, that the table has now.
    KeepJournals { partitions: Vec<Run> },
    /// What was committed in (`after`, `upto`], out of the journals of a reader.
    TakeChanges { partitions: Vec<Run>, feed: u64, after: u64, upto: u64 },
    /// Count rows, in both modes of the snapshot, and bytes.
    Stats { partitions: Vec<Run>, snapshot: Snapshot },
}

/// Rows of a batch in the order of their partitions. On the way only those of its runs are sent,
/// and the runs are counted anew.
#[derive(Debug, Clone)]
pub(crate) struct RoutedRows {
    pub(crate) batch: RecordBatch,
    /// Key hash of each row of `batch`.
    pub(crate) hashes: Arc<Vec<u64>>,
    /// Rows of `batch`, partition by partition.
    pub(crate) order: Arc<Vec<u32>>,
    /// Which part of `order` belongs to which partition.
    pub(crate) runs: Vec<Run>,
}

/// A partition and, for operations with rows, its part `start..end` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) partition: PartitionId,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// What an owner says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    /// The result of what was done.
    pub(crate) output: Output,
    /// What was not done; empty if the status is Done.
    pub(crate) left: Vec<Run>,
}

/// How the operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    /// All of it is done.
    Done,
    /// Somebody else owns the partition now.
    Moved,
    /// Not now: the partition is moving, or the writer of this id must end first.
    Retry { writer: Option<u64> },
    /// Not now: the table takes no writes for a while.
    Closed,
}

/// The result of an operation.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Output {
    /// Nothing to say.
    Nothing,
    /// Get.
    Row(Option<(RowVersion, Row)>),
    /// Write: rows changed.
    Changed(u64),
    /// GetMany: input rows that were found, and their rows.
    Found(Vec<u32>, #[serde(with = "codec::ipc")] RecordBatch),
    /// WriteBatch and ModifyBatch.
    Summary(WriteSummary),
    /// Capture.
    Pieces(#[serde(with = "codec::pieces")] Vec<Piece>),
    /// TakeChanges.
    Changes(#[serde(with = "codec::batches")] Vec<RecordBatch>),
    /// Stats, in the order of the partitions asked for.
    Stats(Vec<TableStats>),
}

impl RoutedRows {
    /// Orders the rows of `batch`, whose keys have these hashes, by partition.
    pub(crate) fn new(batch: RecordBatch, hashes: Vec<u64>, partition_count: u16) -> Self {
        // A counting sort: rows of a partition stay in their order, so that the last wins.
        let partition_of = |hash: &u64| usize::from(partition_of_hash(*hash, partition_count).0);
        let mut ends = vec![0_u32; usize::from(partition_count)];
        for hash in &hashes {
            ends[partition_of(hash)] += 1;
        }
        let mut runs = Vec::new();
        let mut start = 0;
        for (partition, end) in ends.iter_mut().enumerate() {
            let rows = std::mem::replace(end, start);
            if rows > 0 {
                let partition = PartitionId(partition as u16);
                runs.push(Run { partition, start, end: start + rows });
            }
            start += rows;
        }
        let mut order = vec![0; hashes.len()];
        for (row, hash) in hashes.iter().enumerate() {
            let place = &mut ends[partition_of(hash)];
            order[*place as usize] = row as u32;
            *place += 1;
        }
        Self { batch, hashes: Arc::new(hashes), order: Arc::new(order), runs }
    }

    /// The same rows with other runs of them.
    pub(crate) fn with_runs(&self, runs: Vec<Run>) -> Self {
        self.with_batch(self.batch.clone(), runs)
    }

    /// Rows of another batch that belong to the same keys.
    pub(crate) fn with_batch(&self, batch: RecordBatch, runs: Vec<Run>) -> Self {
        Self { batch, hashes: Arc::clone(&self.hashes), order: Arc::clone(&self.order), runs }
    }
}

impl Run {
    /// A partition for an operation without rows.
    pub(crate) fn whole(partition: PartitionId) -> Self {
        Self { partition, start: 0, end: 0 }
    }
}

impl Op<'_> {
    /// Whether it must not be executed twice.
    pub(crate) fn changes_rows(&self) -> bool {
        match self {
            Op::Write { .. } | Op::WriteBatch { .. } | Op::ModifyBatch { .. } => true,
            Op::Truncate { .. } | Op::TakeChanges { .. } => true,
            // To settle again is to find nothing left.
            Op::Settle { .. } | Op::AwaitWriters { .. } | Op::KeepJournals { .. } => false,
            Op::Get { .. } | Op::GetMany { .. } | Op::Capture { .. } | Op::Stats { .. } => false,
        }
    }

    /// All of it: what is left of an operation that was refused.
    pub(crate) fn runs(&self) -> Vec<Run> {
        match self {
            Op::Get { partition, .. } | Op::Write { partition, .. } => vec![Run::whole(*partition)],
            Op::GetMany { keys, .. } | Op::ModifyBatch { keys, .. } => keys.runs.clone(),
            Op::WriteBatch { rows, .. } => rows.runs.clone(),
            Op::Capture { partitions, .. }
            | Op::Settle { partitions }
            | Op::Truncate { partitions }
            | Op::AwaitWriters { partitions }
            | Op::KeepJournals { partitions }
            | Op::TakeChanges { partitions, .. }
            | Op::Stats { partitions, .. } => partitions.clone(),
        }
    }

    /// The runs of an operation with rows: what its answer's `left` is counted in.
    pub(crate) fn row_runs(&self) -> &[Run] {
        match self {
            Op::GetMany { keys, .. } | Op::ModifyBatch { keys, .. } => &keys.runs,
            Op::WriteBatch { rows, .. } => &rows.runs,
            _ => &[],
        }
    }
}

impl Answer {
    /// It is done.
    pub(crate) fn done(output: Output) -> Self {
        Self { status: Status::Done, output, left: Vec::new() }
    }

    /// It is not, or not all of it.
    pub(crate) fn left(status: Status, output: Output, left: Vec<Run>) -> Self {
        Self { status, output, left }
    }
}
