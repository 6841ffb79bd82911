//! Operator state: made of two blocks, a keyed map and column chunks. `save` writes small state whole
//! and large state by [`sections`]; any number of instances can restore it.

pub mod keyed_map;
pub mod sections;

pub use keyed_map::KeyedMap;
pub use sections::{KeyedRows, PlacedBy, SectionChange, SectionId, Sections, unmixed};

use arrow::array::RecordBatch;
use storage::partition::PartitionId;

use crate::{Result, item::SnapshotId};

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

/// Collects what one processor saves at one barrier.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateWriter {
    /// The snapshot it is for; 0 if it is not recorded.
    pub snapshot: SnapshotId,
    /// Whether sections are to say only what has become of them since the save before. Otherwise
    /// each is written whole.
    pub is_incremental: bool,
    /// Chunks in the order written; ascending by (tag, partition). They replace those of the save
    /// before.
    pub chunks: Vec<StateChunk>,
    /// What has become of the sections.
    pub changes: Vec<SectionChange>,
}

/// What one instance of a vertex saved.
#[derive(Debug, Clone)]
pub struct SavedInstance {
    /// Name of the vertex.
    pub vertex: String,
    /// Number of the instance.
    pub index: usize,
    /// What it wrote.
    pub state: StateWriter,
}

/// What all instances of a dag saved, in order of vertices and instances.
pub type SavedStates = Vec<SavedInstance>;

impl StateChunk {
    /// [`EVERY_INSTANCE`].
    pub const BROADCAST: PartitionId = EVERY_INSTANCE;
}

impl StateWriter {
    /// For a snapshot.
    pub fn new(snapshot: SnapshotId, is_incremental: bool) -> Self {
        Self { snapshot, is_incremental, ..Self::default() }
    }

    /// Adds a chunk.
    pub fn put(&mut self, chunk: StateChunk) {
        self.chunks.push(chunk);
    }

    /// Says what has become of a section.
    pub fn change(&mut self, change: SectionChange) {
        self.changes.push(change);
    }

    /// All chunks of a save that was not incremental, by tag and partition.
    pub fn into_chunks(self, partition_count: u16) -> Result<Vec<StateChunk>> {
        debug_assert!(!self.is_incremental, "it does not say everything");
        let mut sections = Sections::default();
        for change in &self.changes {
            sections.apply(change, partition_count, Ok::<_, crate::Error>)?;
        }
        let mut chunks = self.chunks;
        for piece in sections.iter() {
            chunks.extend(unmixed(StateChunk::clone(piece), partition_count)?);
        }
        chunks.sort_by_key(|chunk| (chunk.tag, chunk.partition));
        Ok(chunks)
    }
}

/// The chunks of a save that was not incremental, by vertex.
pub fn chunks_of(saved: SavedStates, partition_count: u16) -> Result<VertexStates> {
    let mut states = VertexStates::new();
    for SavedInstance { vertex, state, .. } in saved {
        let chunks = state.into_chunks(partition_count)?;
        match states.last_mut() {
            _ if chunks.is_empty() => (),
            Some((last, all)) if *last == vertex => all.extend(chunks),
            _ => states.push((vertex, chunks)),
        }
    }
    Ok(states)
}

/// The instance, of `parallelism`, that serves a partition: where a partitioned edge sends its rows
/// and where its chunks are restored. A source that splits its input by number `n` (a topic
/// partition, say) saves under `PartitionId(n % partition_count)` and reads `n` in the instance
/// that serves that.
pub fn instance_of(partition: PartitionId, parallelism: usize) -> usize {
    usize::from(partition.0) % parallelism
}
