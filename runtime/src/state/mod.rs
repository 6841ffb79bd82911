//! Operator state: made of two blocks, a keyed map and column chunks. `save` writes them whole,
//! sorted by partition; any number of instances can restore them.

pub mod keyed_map;

pub use keyed_map::KeyedMap;

use arrow::array::RecordBatch;
use storage::partition::PartitionId;

use crate::item::SnapshotId;

/// One partition's slice of one processor's state. What the columns mean is the processor's own;
/// `tag` tells several kinds of state of one processor apart.
#[derive(Debug, Clone, PartialEq)]
pub struct StateChunk {
    /// The partition of the key; state without a key is placed by the hash of its save key.
    pub partition: PartitionId,
    /// Which of the processor's states.
    pub tag: u8,
    /// The entries.
    pub rows: RecordBatch,
}

/// The state of a dag: of each vertex that has one, by its name, the chunks of all instances.
pub type VertexStates = Vec<(String, Vec<StateChunk>)>;

/// In place of a partition: every instance of the vertex gets the chunk (a window's next end; what
/// a source knows of all its splits).
pub const EVERY_INSTANCE: PartitionId = PartitionId(u16::MAX);

/// Collects the chunks of one processor at one barrier.
#[derive(Debug, Default)]
pub struct StateWriter {
    /// The snapshot the chunks are for; 0 if it is not recorded.
    pub snapshot: SnapshotId,
    /// Chunks in the order written; ascending by (tag, partition).
    pub chunks: Vec<StateChunk>,
}

impl StateChunk {
    /// [`EVERY_INSTANCE`].
    pub const BROADCAST: PartitionId = EVERY_INSTANCE;
}

impl StateWriter {
    /// For the chunks of a snapshot.
    pub fn new(snapshot: SnapshotId) -> Self {
        Self { snapshot, chunks: Vec::new() }
    }

    /// Adds a chunk.
    pub fn put(&mut self, chunk: StateChunk) {
        self.chunks.push(chunk);
    }
}

/// The instance, of `parallelism`, that serves a partition: where a partitioned edge sends its rows
/// and where its chunks are restored. A source that splits its input by number `n` (a topic
/// partition, say) saves under `PartitionId(n % partition_count)` and reads `n` in the instance
/// that serves that.
pub fn instance_of(partition: PartitionId, parallelism: usize) -> usize {
    usize::from(partition.0) % parallelism
}
