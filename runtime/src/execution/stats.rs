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
    /// Rows taken in the last whole second, a second.
    pub rows_in_per_s: u64,
    /// Rows emitted in the last whole second, a second.
    pub rows_out_per_s: u64,
    /// Items waiting in the queues into it, in parts of 1000 of what they hold; 0 for a source.
    pub queue_fill: u32,
    /// How much of the last second its busiest instance was being called, in parts of 1000.
    pub busy: u32,
    /// The longest that one call of an instance took since the start, ns.
    pub longest_call_nanos: u64,
    /// The longest that a snapshot held an instance up at a stretch, ns.
    pub longest_save_nanos: u64,
    /// Bytes that its instances hold between calls.
    pub state_bytes: u64,
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
    /// Bytes of the rows waiting.
    pub queued_bytes: u64,
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
    /// Bytes held between calls.
    pub(super) state_bytes: AtomicI64,
    /// Parts of 1000 of the last whole [`BUSY_WINDOW_NANOS`].
    pub(super) busy: AtomicU64,
    /// Of all calls, ns.
    pub(super) longest_call: AtomicU64,
    /// Of all steps in which state was saved, ns.
    pub(super) longest_save: AtomicU64,
    /// Rows a second in that window.
    pub(super) rows_in_per_s: AtomicU64,
    pub(super) rows_out_per_s: AtomicU64,
}

/// How long [`InstanceStats::busy`] and the rates look back.
const BUSY_WINDOW_NANOS: u64 = 1_000_000_000;

/// Measures how busy an instance is and how fast its rows go; its tasklet's own.
#[derive(Debug, Default)]
pub(super) struct BusyMeter {
    window_start: u64,
    /// Spent in calls since then.
    nanos: u64,
    /// The longest call so far, ns.
    longest: u64,
    /// Rows taken and emitted before then.
    rows_in: u64,
    rows_out: u64,
}

impl BusyMeter {
    /// A call took from `start` to `end`, ns of the steady clock.
    pub(super) fn note(&mut self, start: u64, end: u64, stats: &InstanceStats) {
        self.nanos += end - start;
        if end - start > self.longest {
            self.longest = end - start;
            stats.longest_call.store(self.longest, Ordering::Relaxed);
        }
        let length = end - self.window_start;
        if length >= BUSY_WINDOW_NANOS {
            stats.busy.store(self.nanos * 1000 / length, Ordering::Relaxed);
            let rows_in = stats.rows_in.load(Ordering::Relaxed);
            let rows_out = stats.rows_out.load(Ordering::Relaxed);
            let rate = |rows: u64| (u128::from(rows) * 1_000_000_000 / u128::from(length)) as u64;
            // The first window has no beginning.
            if self.window_start > 0 {
                stats.rows_in_per_s.store(rate(rows_in - self.rows_in), Ordering::Relaxed);
                stats.rows_out_per_s.store(rate(rows_out - self.rows_out), Ordering::Relaxed);
            }
            *self = Self { window_start: end, nanos: 0, rows_in, rows_out, ..*self };
        }
    }
}

/// What stats are made of: one vertex.
pub(super) struct VertexGauge {
    pub(super) vertex: String,
    pub(super) description: String,
    pub(super) instances: Vec<Arc<InstanceStats>>,
    /// Of all edges into it.
    pub(super) inputs: Vec<Arc<Queue>>,
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
            state_bytes: AtomicI64::new(0),
            busy: AtomicU64::new(0),
            longest_call: AtomicU64::new(0),
            longest_save: AtomicU64::new(0),
            rows_in_per_s: AtomicU64::new(0),
            rows_out_per_s: AtomicU64::new(0),
        }
    }
}

impl VertexGauge {
    pub(super) fn read(&self) -> VertexStats {
        let sum = |field: fn(&InstanceStats) -> &AtomicU64| {
            self.instances.iter().map(|one| field(one).load(Ordering::Relaxed)).sum()
        };
        let state_bytes = self.instances.iter().map(|one| one.state_bytes.load(Ordering::Relaxed));
        let busy = self.instances.iter().map(|one| one.busy.load(Ordering::Relaxed) as u32);
        let calls = self.instances.iter().map(|one| one.longest_call.load(Ordering::Relaxed));
        let saves = self.instances.iter().map(|one| one.longest_save.load(Ordering::Relaxed));
        let fill: f64 = self.inputs.iter().map(|queue| queue.fill()).sum();
        let queue_count = self.inputs.len().max(1) as f64;
        let watermarks = self.instances.iter().map(|one| one.watermark.load(Ordering::Relaxed));
        VertexStats {
            vertex: self.vertex.clone(),
            description: self.description.clone(),
            parallelism: self.instances.len(),
            rows_in: sum(|one| &one.rows_in),
            rows_out: sum(|one| &one.rows_out),
            rows_in_per_s: sum(|one| &one.rows_in_per_s),
            rows_out_per_s: sum(|one| &one.rows_out_per_s),
            queue_fill: (fill * 1000.0 / queue_count) as u32,
            busy: busy.max().unwrap_or(0),
            longest_call_nanos: calls.max().unwrap_or(0),
            longest_save_nanos: saves.max().unwrap_or(0),
            state_bytes: state_bytes.sum::<i64>().max(0) as u64,
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
            queued_bytes: self.queues.iter().map(|queue| queue.queued_bytes() as u64).sum(),
            capacity: self.queues.iter().map(|queue| queue.capacity() as u64).sum(),
        }
    }
}
