//! `Queue`: the bounded memory between two tasklets, one writer and one reader. A full queue pushes
//! back; a closed one swallows, because its reader needs nothing more.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;

use super::{
    memory::{ExecutionMemory, item_bytes},
    signal::Signal,
};
use crate::item::Item;

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
        if state.items.len() >= self.capacity {
            return Pushed::Full(item);
        }
        let was_empty = state.items.is_empty();
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
        let was_full = state.items.len() >= self.capacity;
        let item = state.items.pop_front();
        let bytes = item.as_ref().map_or(0, item_bytes);
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

    /// Bytes of the rows waiting.
    pub fn queued_bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// Items it holds at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_utils::sync::Parker;

    use super::*;

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
    fn a_closed_queue_swallows_and_tells_its_writer() {
        let (queue, _reader, writer) = queue(1);
        assert_eq!(queue.push(Item::Done), Pushed::Taken);
        queue.close();
        assert!(writer.take(0));
        assert_eq!(queue.push(Item::Done), Pushed::Closed);
        assert!(queue.queued() == 0 && queue.is_closed());
    }
}
