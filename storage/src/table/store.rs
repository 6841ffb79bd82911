//! `Store`: the chunks and the tail of one partition behind one numbering, the slots.
//! Finds and reads rows; what a row means to a reader is `rows.rs`'s to say.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::array::RecordBatch;

use super::{
    chunk::{Chunk, Dead},
    index::{Slot, place_of, slot_of},
    schema::{KeyBytes, KeyRef, TableSchema},
    tail::{TAIL_ROWS_MAX, Tail},
};
use crate::{
    Result,
    partition::hash::{hash_bytes, hash_integer, put_value},
    table::{RowVersion, index::ROW_BITS},
    value::Value,
};

/// The rows of one partition, by slot.
#[derive(Debug)]
pub(crate) struct Store {
    /// By chunk number; `None` where one was compacted away or the tail will be.
    chunks: Vec<Option<Box<Chunk>>>,
    /// The open end, which already has the number of the chunk it becomes.
    pub(crate) tail: Tail,
    tail_chunk: usize,
    /// Counts the generations of all partitions of the member, so that no row version comes
    /// twice, not even after a truncate or a move.
    generation_last: Arc<AtomicU64>,
    /// Memory of the chunks, in bytes.
    chunk_bytes: usize,
    /// Rows that died since compaction was last considered.
    deaths: usize,
    /// Whether since then a chunk was sealed, or rows became settled.
    has_sealed: bool,
    /// Room for the key of a stored row while it is compared.
    key_bytes: RefCell<KeyBytes>,
}

impl Store {
    /// An empty one.
    pub(crate) fn new(schema: &TableSchema, generation_last: &Arc<AtomicU64>) -> Result<Self> {
        Ok(Self {
            chunks: vec![None],
            tail: Tail::new(schema, next(generation_last))?,
            tail_chunk: 0,
            generation_last: Arc::clone(generation_last),
            chunk_bytes: 0,
            deaths: 0,
            has_sealed: false,
            key_bytes: RefCell::default(),
        })
    }

    /// The slot that the next row gets; the tail has room.
    pub(crate) fn slot_next(&self) -> Slot {
        slot_of(self.tail_chunk, self.tail.len())
    }

    /// Seals the tail if it is full. The rows keep their slots.
    pub(crate) fn make_room(&mut self, schema: &TableSchema) -> Result<()> {
        if self.tail.room() > 0 {
            return Ok(());
        }
        let batch = self.tail.freeze(schema.arrow())?;
        let empty = Tail::new(schema, next(&self.generation_last))?;
        let full = std::mem::replace(&mut self.tail, empty);
        let chunk = Chunk::new(schema, full.generation, batch, full.dead);
        self.put(self.tail_chunk, chunk);
        self.tail_chunk = self.free_number();
        self.has_sealed = true;
        Ok(())
    }

    /// Adds a chunk; answers its number and its generation.
    pub(crate) fn add(
        &mut self,
        schema: &TableSchema,
        batch: RecordBatch,
        dead: Dead,
    ) -> (usize, u64) {
        let number = self.free_number();
        let generation = next(&self.generation_last);
        self.put(number, Chunk::new(schema, generation, batch, dead));
        (number, generation)
    }

    /// Removes a chunk.
    pub(crate) fn remove(&mut self, number: usize) {
        if let Some(chunk) = self.chunks[number].take() {
            self.chunk_bytes -= chunk.bytes;
        }
    }

    /// The chunk of that number.
    pub(crate) fn chunk(&self, number: usize) -> Option<&Chunk> {
        self.chunks.get(number)?.as_deref()
    }

    /// All chunks with their numbers.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (usize, &Chunk)> {
        self.chunks
            .iter()
            .enumerate()
            .filter_map(|(number, chunk)| chunk.as_deref().map(|chunk| (number, chunk)))
    }

    /// Number of the chunk that the tail becomes.
    pub(crate) fn tail_chunk(&self) -> usize {
        self.tail_chunk
    }

    /// Rows that are not dead.
    pub(crate) fn living(&self) -> usize {
        let chunks = self.chunks().map(|(_, chunk)| chunk.len() - chunk.dead.count());
        chunks.sum::<usize>() + self.tail.len() - self.tail.dead.count()
    }

    /// The value of one column of the row in `slot`.
    pub(crate) fn value(&self, slot: Slot, column: usize) -> Result<Value<'_>> {
        let (number, row) = place_of(slot);
        match self.chunk(number) {
            Some(chunk) => chunk.value(row, column),
            None => Ok(self.tail.value(row, column)),
        }
    }

    /// Which version of a row the slot holds.
    pub(crate) fn version(&self, slot: Slot) -> RowVersion {
        let (number, row) = place_of(slot);
        let generation = self.chunk(number).map_or(self.tail.generation, |chunk| chunk.generation);
        RowVersion((generation << ROW_BITS) | row as u64)
    }

    /// The row in `slot` dies: no reader needs it.
    pub(crate) fn kill(&mut self, slot: Slot) {
        self.deaths += 1;
        let (dead, row) = self.dead_mut(slot);
        dead.insert(row);
    }

    /// The row in `slot`, dead until now, begins to live.
    pub(crate) fn revive(&mut self, slot: Slot) {
        let (dead, row) = self.dead_mut(slot);
        dead.remove(row);
    }

    /// Whether the row in `slot` is dead.
    pub(crate) fn is_dead(&self, slot: Slot) -> bool {
        let (number, row) = place_of(slot);
        self.chunk(number).map_or(&self.tail.dead, |chunk| &chunk.dead).contains(row)
    }

    /// Whether so much has changed that there may be something to compact.
    pub(crate) fn is_compaction_due(&self) -> bool {
        self.has_sealed || self.deaths >= TAIL_ROWS_MAX
    }

    /// There may be something to compact.
    pub(crate) fn consider_compaction(&mut self) {
        self.has_sealed = true;
    }

    /// Starts counting again.
    pub(crate) fn compaction_considered(&mut self) {
        self.deaths = 0;
        self.has_sealed = false;
    }

    /// Whether the row in `slot` has this key.
    pub(crate) fn has_key(&self, schema: &TableSchema, slot: Slot, key: KeyRef<'_>) -> bool {
        match key {
            KeyRef::Integer(key) => self.integer_key(schema, slot) == Some(key),
            KeyRef::Canonical(key) => {
                let mut bytes = self.key_bytes.borrow_mut();
                self.canonical_key(schema, slot, &mut bytes);
                bytes.as_slice() == key
            }
        }
    }

    /// Hash of the key of the row in `slot`.
    pub(crate) fn key_hash(&self, schema: &TableSchema, slot: Slot) -> u64 {
        if let Some(key) = self.integer_key(schema, slot) {
            return hash_integer(key);
        }
        let mut bytes = self.key_bytes.borrow_mut();
        self.canonical_key(schema, slot, &mut bytes);
        hash_bytes(&bytes)
    }

    /// Memory of chunks and tail, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.chunk_bytes + self.tail.bytes() + self.chunks.capacity() * size_of::<Chunk>()
    }

    fn dead_mut(&mut self, slot: Slot) -> (&mut Dead, usize) {
        let (number, row) = place_of(slot);
        match self.chunks.get_mut(number).and_then(Option::as_deref_mut) {
            Some(chunk) => (&mut chunk.dead, row),
            None => (&mut self.tail.dead, row),
        }
    }

    fn integer_key(&self, schema: &TableSchema, slot: Slot) -> Option<i64> {
        if !schema.is_integer_key() {
            return None;
        }
        let (number, row) = place_of(slot);
        if let Some(key) = self.chunk(number).and_then(|chunk| chunk.integer_key(row)) {
            return Some(key);
        }
        match self.value(slot, schema.key()[0]) {
            Ok(Value::Int(key)) => Some(key),
            _ => None,
        }
    }

    fn canonical_key(&self, schema: &TableSchema, slot: Slot, bytes: &mut KeyBytes) {
        bytes.clear();
        for key in schema.key() {
            self.value(slot, *key)
                .and_then(|value| put_value(&value, bytes))
                .expect("the key was read and hashed when the row was stored");
        }
    }

    fn put(&mut self, number: usize, chunk: Chunk) {
        self.chunk_bytes += chunk.bytes;
        self.chunks[number] = Some(Box::new(chunk));
    }

    /// A number that neither a chunk nor the tail has.
    fn free_number(&mut self) -> usize {
        let is_free = |number: &usize| self.chunks[*number].is_none() && *number != self.tail_chunk;
        (0..self.chunks.len()).find(is_free).unwrap_or_else(|| {
            self.chunks.push(None);
            self.chunks.len() - 1
        })
    }
}

fn next(generation_last: &AtomicU64) -> u64 {
    generation_last.fetch_add(1, Ordering::Relaxed) + 1
}
