//! Operator state: made of two blocks, a keyed map and column chunks. `save` writes them whole,
//! sorted by partition; any number of instances can restore them.

use arrow::array::RecordBatch;
use storage::partition::PartitionId;

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

/// Collects the chunks of one processor at one barrier.
#[derive(Debug, Default)]
pub struct StateWriter {
    /// Chunks in the order written; ascending by (tag, partition).
    pub chunks: Vec<StateChunk>,
}

impl StateWriter {
    /// Adds a chunk.
    pub fn put(&mut self, chunk: StateChunk) {
        self.chunks.push(chunk);
    }
}
