//! `Queue`: the bounded memory between two tasklets, one writer and one reader. A full queue pushes
//! back; a closed one swallows, because its reader needs nothing more.
//!
//! It is bounded in items and in rows. A barrier waits behind all that stands in the queues, so the
//! rows are what a snapshot takes at least; the items let small batches pile up and be joined.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;

use super::{
    memory::{ExecutionMemory, item_bytes},
    signal::Signal,
};
use crate::item::Item;

/// Rows with which a queue is full: some milliseconds of work, several times what a batch has.
const ROWS_MAX: usize = 32_768;

/// Items on their way from one tasklet to another. Batches are large, so a short uncontended lock
/// for each costs nothing beside the rows; the signals are raised outside it.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    capacity: usize,
    memory: Arc<ExecutionMemory>,
    /// Raised when an empty queue gets an item.
    reader: Arc<Signal>,
    /// Raised when a full queue gets room, and when it is closed.
    writer: Arc<Signal>,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    /// Of all items.
    rows: usize,
    /// Of their rows.
    bytes: usize,
    /// The reader has ended.
    is_closed: bool,
}

/// What became of a pushed item.
#[derive(Debug, PartialEq)]
pub enum Pushed {
    /// It is in the queue.
    Taken,
    /// No room: here it is again.
    Full(Item),
    /// The reader has ended; the item is gone.
    Closed,
}

impl Queue {
    /// A queue of `capacity` ≥ 1 items, whose bytes count for `memory`.
    pub(super) fn new(
        capacity: usize,
        memory: Arc<ExecutionMemory>,
        reader: Arc<Signal>,
        writer: Arc<Signal>,
    ) -> Self {
        assert!(capacity > 0, "a queue without room moves nothing");
        Self { state: Mutex::default(), capacity, memory, reader, writer }
    }

    /// Appends an item. The writer's side.
    pub fn push(&self, item: Item) -> Pushed {
        let bytes = item_bytes(&item);
        let mut state = self.state.lock();
        if state.is_closed {
            return Pushed::Closed;
        }
        if self.is_full(&state) {
            return Pushed::Full(item);
        }
        let was_empty = state.items.is_empty();
        state.rows += rows_of(&item);
        state.items.push_back(item);
        state.bytes += bytes;
        drop(state);
        if bytes > 0 {
            self.memory.add(bytes as i64);
        }
        if was_empty {
            self.reader.raise();
        }
        Pushed::Taken
    }

    /// Takes the oldest item. The reader's side.
    pub fn pop(&self) -> Option<Item> {
        let mut state = self.state.lock();
        let was_full = self.is_full(&state);
        let item = state.items.pop_front();
        let bytes = item.as_ref().map_or(0, item_bytes);
        state.rows -= item.as_ref().map_or(0, rows_of);
        state.bytes -= bytes;
        drop(state);
        if bytes > 0 {
            self.memory.add(-(bytes as i64));
        }
        if was_full {
            self.writer.raise();
        }
        item
    }

    /// Swallows everything from now on. The reader's side.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let _freed = std::mem::take(&mut state.items);
        state.rows = 0;
        let bytes = std::mem::take(&mut state.bytes);
        drop(state);
        self.memory.add(-(bytes as i64));
        self.writer.raise();
    }

    /// Whether the reader has ended.
    pub fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// Items waiting.
    pub fn queued(&self) -> usize {
        self.state.lock().items.len()
    }

    /// Items it holds at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How full it is, from 0 to 1.
    pub fn fill(&self) -> f64 {
        let state = self.state.lock();
        let (items, rows) = (state.items.len(), state.rows);
        (items as f64 / self.capacity as f64).max(rows as f64 / ROWS_MAX as f64).min(1.0)
    }

    fn is_full(&self, state: &State) -> bool {
        state.items.len() >= self.capacity || state.rows >= ROWS_MAX
    }

    /// Bytes of the rows waiting.
    pub fn queued_bytes(&self) -> usize {
        self.state.lock().bytes
    }
}

fn rows_of(item: &Item) -> usize {
    match item {
        Item::Batch(batch) => batch.len(),
        Item::Watermark(_) | Item::Barrier(_) | Item::Done => 0,
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_utils::sync::Parker;

    use super::*;
    use crate::{
        delta::DeltaBatch,
        testing::{bigint_batch, bigint_schema},
    };

    fn queue(capacity: usize) -> (Queue, Arc<Signal>, Arc<Signal>) {
        let signal = || Arc::new(Signal::new(Parker::new().unparker().clone()));
        let (reader, writer) = (signal(), signal());
        assert!(reader.take(0) && writer.take(0), "signals begin raised");
        let grid = storage::Grid::open(Default::default(), storage::env::Env::simulated(1).0);
        let memory = ExecutionMemory::new(&grid.unwrap(), "test", usize::MAX);
        (Queue::new(capacity, memory, Arc::clone(&reader), Arc::clone(&writer)), reader, writer)
    }

    #[test]
    fn a_full_queue_hands_the_item_back_and_says_when_there_is_room() {
        let (queue, reader, writer) = queue(1);
        assert_eq!(queue.push(Item::Done), Pushed::Taken);
        assert!(reader.take(0), "the reader hears of the first item");
        assert_eq!(queue.push(Item::Done), Pushed::Full(Item::Done));
        assert!(!writer.take(0));
        assert_eq!(queue.pop(), Some(Item::Done));
        assert!(writer.take(0), "the writer hears of the room");
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn a_queue_is_full_of_rows_long_before_it_is_full_of_items() {
        let (queue, _reader, writer) = queue(100);
        let values: Vec<i64> = (0..ROWS_MAX as i64).collect();
        let batch = bigint_batch(&bigint_schema(&["v"]), &[&values]);
        let batch = || Item::Batch(DeltaBatch::insertions(batch.clone()));
        assert_eq!(queue.push(batch()), Pushed::Taken);
        assert_eq!(queue.push(Item::Done), Pushed::Full(Item::Done), "nothing overtakes the rows");
        assert_eq!((queue.fill(), writer.take(0)), (1.0, false));
        assert_eq!(queue.pop(), Some(batch()));
        assert!(writer.take(0), "the writer hears of the room");
        assert_eq!((queue.push(Item::Done), queue.fill()), (Pushed::Taken, 0.01));
    }

    #[test]
    fn a_closed_queue_swallows_and_tells_its_writer() {
        let (queue, _reader, writer) = queue(1);
        assert_eq!(queue.push(Item::Done), Pushed::Taken);
        queue.close();
        assert!(writer.take(0));
        assert_eq!(queue.push(Item::Done), Pushed::Closed);
        assert!(queue.queued() == 0 && queue.is_closed());
    }
}
