//! Memory of one execution: what its processors say they hold and what waits in its queues, in
//! bytes, against a limit. Passing it fails this execution (53200) and nobody else's.
//!
//! A processor tells its state with [`StateMemory::hold`] whenever it may have changed much; the
//! queues count their items themselves; the tasklets look at the sum after every step. Not counted:
//! the batch a processor is working on, and what its outbox holds for the length of a call.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::DataType,
};
use storage::{Grid, metrics::Metric};

use super::{
    QUERY,
    stats::{EdgeGauge, InstanceStats, VertexGauge},
};
use crate::{Error, item::Item};

/// Bytes of one execution.
#[derive(Debug)]
pub(crate) struct ExecutionMemory {
    /// `job "name"`, or `query`.
    owner: String,
    used: AtomicI64,
    max: i64,
    /// The same in `sys.metrics`, of all executions of that name.
    gauge: Metric,
}

/// What one processor holds between its calls; given to it with its context.
#[derive(Debug, Clone)]
pub struct StateMemory(Arc<Holding>);

#[derive(Debug)]
struct Holding {
    execution: Arc<ExecutionMemory>,
    stats: Arc<InstanceStats>,
    /// Of all instances of the vertex, in `sys.metrics`.
    gauge: Metric,
}

impl ExecutionMemory {
    /// Nothing yet, of at most `max` bytes.
    pub(super) fn new(grid: &Grid, job_name: &str, max: usize) -> Arc<Self> {
        let owner = match job_name {
            QUERY => QUERY.to_owned(),
            name => format!("job \"{name}\""),
        };
        Arc::new(Self {
            owner,
            used: AtomicI64::new(0),
            max: i64::try_from(max).unwrap_or(i64::MAX),
            gauge: grid.metrics().register("tidewater_job_memory_bytes", &[("job", job_name)]),
        })
    }

    /// Counts `bytes` more, or fewer.
    pub(super) fn add(&self, bytes: i64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.gauge.add(bytes);
    }

    pub(super) fn is_over(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.max
    }

    /// The error for having passed the limit: names what holds most.
    #[cold]
    pub(super) fn overflow(&self, vertices: &[VertexGauge], edges: &[EdgeGauge]) -> Error {
        let states = vertices.iter().map(VertexGauge::read);
        let states =
            states.map(|vertex| (vertex.state_bytes, format!("operator \"{}\"", vertex.vertex)));
        let queues = edges.iter().map(EdgeGauge::read);
        let queues = queues.map(|edge| {
            (edge.queued_bytes, format!("the queues into operator \"{}\"", edge.target))
        });
        let largest = states.chain(queues).max_by_key(|(bytes, _)| *bytes);
        let (bytes, holder) = largest.unwrap_or_else(|| (0, "nobody".to_owned()));
        let used = self.used.load(Ordering::Relaxed).max(0) as u64;
        Error::Limit(format!(
            "{} needs {} of memory and may have {}: {holder} holds {} of it; allow more with the \
             job option \"maxMemory\", or keep less (fewer keys, shorter windows)",
            self.owner,
            bytes_text(used),
            bytes_text(self.max as u64),
            bytes_text(bytes),
        ))
    }
}

impl StateMemory {
    pub(super) fn new(
        execution: &Arc<ExecutionMemory>,
        stats: &Arc<InstanceStats>,
        gauge: Metric,
    ) -> Self {
        let (execution, stats) = (Arc::clone(execution), Arc::clone(stats));
        Self(Arc::new(Holding { execution, stats, gauge }))
    }

    /// Of a processor without an execution, for tests; in `sys.metrics` under those names.
    pub fn unlimited(grid: &Grid, job: &str, vertex: &str) -> Self {
        let execution = ExecutionMemory::new(grid, job, usize::MAX);
        let gauge = state_gauge(grid, job, vertex);
        Self::new(&execution, &Arc::default(), gauge)
    }

    /// The processor's state is so many bytes now.
    pub fn hold(&self, bytes: usize) {
        self.0.hold(bytes as i64);
    }
}

impl Holding {
    fn hold(&self, bytes: i64) {
        let change = bytes - self.stats.state_bytes.swap(bytes, Ordering::Relaxed);
        if change != 0 {
            self.execution.add(change);
            self.gauge.add(change);
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.hold(0);
    }
}

/// `tidewater_state_bytes` of a vertex.
pub(super) fn state_gauge(grid: &Grid, job: &str, vertex: &str) -> Metric {
    grid.metrics().register("tidewater_state_bytes", &[("job", job), ("vertex", vertex)])
}

/// Bytes of the rows of an item.
pub(super) fn item_bytes(item: &Item) -> usize {
    match item {
        Item::Batch(batch) => batch_bytes(&batch.rows),
        _ => 0,
    }
}

/// Bytes of the rows of a batch, about: of a slice only the slice's.
pub(crate) fn batch_bytes(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(column_bytes).sum()
}

fn column_bytes(column: &ArrayRef) -> usize {
    let len = column.len();
    let of_offsets = |offsets: &[i32]| match offsets {
        [first, .., last] => (last - first) as usize + len * size_of::<i32>(),
        _ => 0,
    };
    let values = match column.data_type() {
        DataType::Utf8 => of_offsets(column.as_string::<i32>().value_offsets()),
        DataType::Binary => of_offsets(column.as_binary::<i32>().value_offsets()),
        DataType::Struct(_) => column.as_struct().columns().iter().map(column_bytes).sum(),
        DataType::Boolean => len / 8,
        DataType::FixedSizeBinary(width) => len * *width as usize,
        other => match other.primitive_width() {
            Some(width) => len * width,
            // Lists and maps: the whole of their buffers.
            None => column.get_array_memory_size(),
        },
    };
    values + if column.null_count() > 0 { len / 8 } else { 0 }
}

/// `512 MB`, in PostgreSQL's units of 1024, rounded down to three digits or so.
fn bytes_text(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} bytes"),
        10_240..10_485_760 => format!("{} kB", bytes >> 10),
        10_485_760..10_737_418_240 => format!("{} MB", bytes >> 20),
        _ => format!("{} GB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_slice_counts_only_what_it_shows() {
        let texts = StringArray::from(vec!["a"; 1000]);
        let columns: [(&str, ArrayRef); 2] =
            [("n", Arc::new(Int64Array::from(vec![1; 1000]))), ("t", Arc::new(texts))];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        assert_eq!(batch_bytes(&rows), 1000 * (8 + 4 + 1));
        assert_eq!(batch_bytes(&rows.slice(10, 2)), 2 * (8 + 4 + 1));
    }

    #[test]
    fn what_is_held_is_given_back_with_the_processor() {
        let grid = Grid::open(storage::GridConfig::default(), storage::env::Env::simulated(1).0);
        let grid = grid.unwrap();
        let execution = ExecutionMemory::new(&grid, "j", 100);
        let gauge = state_gauge(&grid, "j", "v");
        let memory = StateMemory::new(&execution, &Arc::default(), gauge.clone());
        memory.hold(101);
        memory.hold(70);
        execution.add(30);
        assert!(!execution.is_over());
        execution.add(1);
        assert!(execution.is_over());
        drop(memory);
        assert!(!execution.is_over());
        assert_eq!((gauge.get(), execution.gauge.get()), (0, 31));
    }
}
