//! `Item`: what flows on an edge. Order on one edge is the order of offering.

use crate::{delta::DeltaBatch, time::EventTime};

/// Names the time column a watermark speaks of; 0 unless a dag has several.
pub type WatermarkKey = u8;

/// A promise: no row with an earlier event time of that column follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// Which time column.
    pub key: WatermarkKey,
    /// µs since the epoch; [`IDLE`] says the sender has nothing to say about time for now.
    pub time: EventTime,
}

/// Time of an idle message: this input is to be left out of the minimum until its next watermark,
/// which it sends before its next rows. It may repeat the last one, or be `EventTime::MIN` when
/// there was none.
pub const IDLE: EventTime = EventTime::MAX;

/// Names a snapshot of a job: rising, never used twice. 0 where nothing is recorded (a suspend
/// with guarantee `none`).
pub type SnapshotId = u64;

/// A marker that cuts the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    /// Rising number within an execution, light barriers and durable ones together.
    pub epoch: u64,
    /// What it cuts for.
    pub kind: BarrierKind,
}

/// Why a barrier was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierKind {
    /// Publish net changes; nothing is saved.
    Epoch,
    /// Save state.
    Snapshot(SnapshotId),
    /// Save state and end after it (suspend, graceful stop).
    Terminal(SnapshotId),
}

impl BarrierKind {
    /// The snapshot it is for; 0 for none.
    pub fn snapshot(self) -> SnapshotId {
        match self {
            Self::Epoch => 0,
            Self::Snapshot(id) | Self::Terminal(id) => id,
        }
    }

    /// Whether the execution ends at it.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Terminal(_))
    }
}

/// What flows on an edge.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Rows.
    Batch(DeltaBatch),
    /// Time.
    Watermark(Watermark),
    /// A cut.
    Barrier(Barrier),
    /// The sender will never send again.
    Done,
}
