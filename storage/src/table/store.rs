//! `Store`: the chunks and the tail of one partition behind one numbering, the slots.
//! Finds and reads rows; what a row means to a reader is `rows.rs`'s to say.

use std::cell::RefCell;

use arrow::array::RecordBatch;

use super::{
    chunk::{Chunk, Dead},
    index::{Slot, place_of, slot_of},
    schema::{KeyBytes, KeyRef, TableSchema},
    tail::Tail,
};
use crate::{
    Result,
    partition::hash::put_value,
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
    generation_last: u64,
    /// Memory of the chunks, in bytes.
    chunk_bytes: usize,
    /// Room for the key of a stored row while it is compared.
    key_bytes: RefCell<KeyBytes>,
}

impl Store {
    /// An empty one.
    pub(crate) fn new(schema: &TableSchema) -> Result<Self> {
        Ok(Self {
            chunks: vec![None],
            tail: Tail::new(schema, 0)?,
            tail_chunk: 0,
            generation_last: 0,
            chunk_bytes: 0,
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
        let next = Tail::new(schema, self.generation_last + 1)?;
        self.generation_last += 1;
        let full = std::mem::replace(&mut self.tail, next);
        let chunk = Chunk::new(schema, full.generation, batch, full.dead);
        self.put(self.tail_chunk, chunk);
        self.tail_chunk = self.free_number();
        Ok(())
    }

    /// Adds a chunk under a number of its own, which is answered.
    pub(crate) fn add(&mut self, schema: &TableSchema, batch: RecordBatch, dead: Dead) -> usize {
        let number = self.free_number();
        self.generation_last += 1;
        self.put(number, Chunk::new(schema, self.generation_last, batch, dead));
        number
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

    /// Dead rows of the chunk or tail that holds `slot`, and the row.
    pub(crate) fn dead_mut(&mut self, slot: Slot) -> (&mut Dead, usize) {
        let (number, row) = place_of(slot);
        match self.chunks.get_mut(number).and_then(Option::as_deref_mut) {
            Some(chunk) => (&mut chunk.dead, row),
            None => (&mut self.tail.dead, row),
        }
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
            return crate::partition::hash::hash_integer(key);
        }
        let mut bytes = self.key_bytes.borrow_mut();
        self.canonical_key(schema, slot, &mut bytes);
        crate::partition::hash::hash_bytes(&bytes)
    }

    /// Memory of chunks and tail, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.chunk_bytes + self.tail.bytes() + self.chunks.capacity() * size_of::<Chunk>()
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
