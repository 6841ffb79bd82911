//! Numbers of a running execution: counted by its tasklets without locks, read by `sys.job_vertices`
//! and `sys.job_edges`.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use super::queue::Queue;

/// Numbers of a vertex on this member, for `sys.job_vertices`.
#[derive(Debug, Clone)]
pub struct VertexStats {
    /// Vertex name.
    pub vertex: String,
    /// `describe()` of its supplier.
    pub description: String,
    /// Instances on this member.
    pub parallelism: usize,
    /// Rows taken from inputs.
    pub rows_in: u64,
    /// Rows emitted.
    pub rows_out: u64,
    /// Newest coalesced watermark (of a source: the newest it sent) of the slowest instance, µs;
    /// `None` before the first.
    pub watermark: Option<i64>,
}

/// Numbers of an edge, for `sys.job_edges`.
#[derive(Debug, Clone)]
pub struct EdgeStats {
    /// From.
    pub source: String,
    /// To.
    pub target: String,
    /// `unicast`, `isolated`, `partitioned(1, 2)`, `broadcast`, `to-one`.
    pub routing: String,
    /// Items waiting in all its queues.
    pub queued: u64,
    /// Capacity of all its queues, in items.
    pub capacity: u64,
}

/// Counters of one instance; written by its tasklet, read by anybody.
#[derive(Debug)]
pub(super) struct InstanceStats {
    pub(super) rows_in: AtomicU64,
    pub(super) rows_out: AtomicU64,
    /// `i64::MIN` before the first watermark.
    pub(super) watermark: AtomicI64,
}

/// What stats are made of: one vertex.
pub(super) struct VertexGauge {
    pub(super) vertex: String,
    pub(super) description: String,
    pub(super) instances: Vec<Arc<InstanceStats>>,
}

/// What stats are made of: one edge.
pub(super) struct EdgeGauge {
    pub(super) source: String,
    pub(super) target: String,
    pub(super) routing: String,
    pub(super) queues: Vec<Arc<Queue>>,
}

impl Default for InstanceStats {
    fn default() -> Self {
        Self {
            rows_in: AtomicU64::new(0),
            rows_out: AtomicU64::new(0),
            watermark: AtomicI64::new(i64::MIN),
        }
    }
}

impl VertexGauge {
    pub(super) fn read(&self) -> VertexStats {
        let sum = |field: fn(&InstanceStats) -> &AtomicU64| {
            self.instances.iter().map(|one| field(one).load(Ordering::Relaxed)).sum()
        };
        let watermarks = self.instances.iter().map(|one| one.watermark.load(Ordering::Relaxed));
        VertexStats {
            vertex: self.vertex.clone(),
            description: self.description.clone(),
            parallelism: self.instances.len(),
            rows_in: sum(|one| &one.rows_in),
            rows_out: sum(|one| &one.rows_out),
            watermark: watermarks.min().filter(|time| *time != i64::MIN),
        }
    }
}

impl EdgeGauge {
    pub(super) fn read(&self) -> EdgeStats {
        EdgeStats {
            source: self.source.clone(),
            target: self.target.clone(),
            routing: self.routing.clone(),
            queued: self.queues.iter().map(|queue| queue.queued() as u64).sum(),
            capacity: self.queues.iter().map(|queue| queue.capacity() as u64).sum(),
        }
    }
}
