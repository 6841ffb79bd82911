//! Drains the queues of one instance's inputs, coalesces their watermarks and aligns barriers.
//!
//! ```text
//!   queue A ── r3 r2 ▌n │ r1 ─►   A delivered barrier n: it is not read until B has it too
//!   queue B ───── r5 r4 r3 ▌n ►   rows before n on B are still taken
//!            ─────────────────►   both at n: Event::Barrier(n), then both are read again
//! ```
//! That is *aligned*, for exactly once. *Unaligned*, for at least once, A is read on: r2 is in the
//! state that is saved at n and comes again after a restore, but nobody waits for a slow input.
//!
//! Draining stops at an event, so a watermark, a barrier or an end never overtakes rows, and rows
//! behind it are not seen before it was handled.

use std::{collections::VecDeque, sync::Arc};

use super::{queue::Queue, watermarks::Watermarks};
use crate::{
    Error, Result,
    item::{Barrier, Item, Watermark},
    processor::Inbox,
};

/// Batches that wait in the inboxes of an instance at most: enough to amortise a call, few enough
/// that back-pressure reaches the queues.
const INBOX_BATCHES_MAX: usize = 16;

/// What the rows drained so far are followed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The coalesced watermark moved.
    Watermark(Watermark),
    /// Every queue of that input has ended.
    InputEnd(usize),
    /// Every live queue has delivered this barrier.
    Barrier(Barrier),
}

/// One queue of an input.
struct Lane {
    ordinal: usize,
    queue: Arc<Queue>,
    has_barrier: bool,
    is_done: bool,
}

/// All queues that lead to one instance.
pub struct Inbound {
    lanes: Vec<Lane>,
    /// Queues of each input that have not ended.
    live: Vec<usize>,
    watermarks: Watermarks,
    /// The barrier being aligned.
    barrier: Option<Barrier>,
    /// Whether a queue that has delivered its barrier waits for the others.
    is_aligned: bool,
    events: VecDeque<Event>,
    /// Lane to look at first, so that none starves.
    next: usize,
}

impl Inbound {
    /// Over `queues`, each with the input it belongs to, of an instance with `input_count` inputs.
    pub fn new(queues: Vec<(usize, Arc<Queue>)>, input_count: usize, is_aligned: bool) -> Self {
        let mut live = vec![0; input_count];
        queues.iter().for_each(|(ordinal, _)| live[*ordinal] += 1);
        let watermarks = Watermarks::new(queues.len());
        let unfed = live.iter().enumerate().filter(|(_, live)| **live == 0);
        let events = unfed.map(|(ordinal, _)| Event::InputEnd(ordinal)).collect();
        let lanes = queues
            .into_iter()
            .map(|(ordinal, queue)| Lane { ordinal, queue, has_barrier: false, is_done: false })
            .collect();
        Self { lanes, live, watermarks, barrier: None, is_aligned, events, next: 0 }
    }

    /// The next event; only after the inboxes have been emptied.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether all inputs have ended and every event was taken.
    pub fn is_exhausted(&self) -> bool {
        self.events.is_empty() && self.live.iter().all(|live| *live == 0)
    }

    /// Moves items from the queues until an event, full inboxes or empty queues. Answers the rows
    /// moved, or `None` if nothing moved at all.
    pub fn drain(&mut self, inboxes: &mut [Inbox]) -> Result<Option<u64>> {
        let mut rows = 0;
        let mut batches = 0;
        let mut has_moved = false;
        let mut misses = 0;
        while misses < self.lanes.len() && batches < INBOX_BATCHES_MAX && self.events.is_empty() {
            let index = self.next;
            self.next = (self.next + 1) % self.lanes.len();
            let lane = &self.lanes[index];
            let is_held = lane.has_barrier && self.is_aligned;
            let item = if lane.is_done || is_held { None } else { lane.queue.pop() };
            let Some(item) = item else {
                misses += 1;
                continue;
            };
            misses = 0;
            has_moved = true;
            if let Item::Batch(batch) = item {
                rows += batch.len() as u64;
                batches += 1;
                inboxes[lane.ordinal].push(batch);
            } else {
                self.control(index, item)?;
            }
        }
        if batches > 1 {
            inboxes.iter_mut().try_for_each(Inbox::merge_small)?;
        }
        Ok(has_moved.then_some(rows))
    }

    /// Swallows everything from now on.
    pub fn close(&mut self) {
        self.lanes.iter().for_each(|lane| lane.queue.close());
        self.events.clear();
        self.live.fill(0);
    }

    fn control(&mut self, index: usize, item: Item) -> Result<()> {
        match item {
            Item::Batch(_) => unreachable!("rows go to the inbox"),
            Item::Watermark(watermark) => {
                let moved = self.watermarks.observe(index, watermark);
                self.events.extend(moved.map(Event::Watermark));
            }
            Item::Barrier(barrier) => {
                if self.barrier.is_some_and(|aligning| aligning != barrier) {
                    return Err(Error::Internal(format!(
                        "barrier {barrier:?} arrived while {:?} is aligned",
                        self.barrier
                    )));
                }
                self.barrier = Some(barrier);
                self.lanes[index].has_barrier = true;
                self.align();
            }
            Item::Done => {
                let lane = &mut self.lanes[index];
                lane.is_done = true;
                self.live[lane.ordinal] -= 1;
                let ordinal = lane.ordinal;
                self.events.extend(self.watermarks.end(index).into_iter().map(Event::Watermark));
                if self.live[ordinal] == 0 {
                    self.events.push_back(Event::InputEnd(ordinal));
                }
                self.align();
            }
        }
        Ok(())
    }

    /// Lets the barrier through when no live lane is still before it.
    fn align(&mut self) {
        let Some(barrier) = self.barrier else { return };
        if self.lanes.iter().all(|lane| lane.is_done || lane.has_barrier) {
            self.lanes.iter_mut().for_each(|lane| lane.has_barrier = false);
            self.barrier = None;
            self.events.push_back(Event::Barrier(barrier));
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_utils::sync::Parker;

    use super::{
        super::{memory::ExecutionMemory, signal::Signal},
        *,
    };
    use crate::{
        delta::DeltaBatch,
        item::BarrierKind,
        testing::{ZSet, bigint_batch, bigint_schema},
    };

    fn two_inputs(is_aligned: bool) -> (Inbound, [Arc<Queue>; 2], Vec<Inbox>) {
        let signal = || Arc::new(Signal::new(Parker::new().unparker().clone()));
        let grid = storage::Grid::open(Default::default(), storage::env::Env::simulated(1).0);
        let memory = ExecutionMemory::new(&grid.unwrap(), "test", usize::MAX);
        let queue = || Arc::new(Queue::new(100, Arc::clone(&memory), signal(), signal()));
        let queues = [queue(), queue()];
        let lanes = vec![(0, Arc::clone(&queues[0])), (1, Arc::clone(&queues[1]))];
        (Inbound::new(lanes, 2, is_aligned), queues, vec![Inbox::default(), Inbox::default()])
    }

    fn rows(values: &[i64]) -> DeltaBatch {
        DeltaBatch::insertions(bigint_batch(&bigint_schema(&["v"]), &[values]))
    }

    fn taken(inbox: &mut Inbox) -> Vec<DeltaBatch> {
        std::iter::from_fn(|| inbox.take()).collect()
    }

    #[test]
    fn a_queue_is_not_read_past_its_barrier_until_all_have_delivered_theirs() {
        let (mut inbound, [a, b], mut inboxes) = two_inputs(true);
        let barrier = Barrier { epoch: 1, kind: BarrierKind::Snapshot(1) };
        for item in [Item::Batch(rows(&[1])), Item::Barrier(barrier), Item::Batch(rows(&[3]))] {
            a.push(item);
        }
        b.push(Item::Batch(rows(&[2])));
        inbound.drain(&mut inboxes).unwrap();
        assert_eq!(taken(&mut inboxes[0]), [rows(&[1])], "3 is behind the barrier");
        assert_eq!(taken(&mut inboxes[1]), [rows(&[2])]);
        assert_eq!(inbound.next_event(), None);
        b.push(Item::Barrier(barrier));
        inbound.drain(&mut inboxes).unwrap();
        assert_eq!(inbound.next_event(), Some(Event::Barrier(barrier)));
        inbound.drain(&mut inboxes).unwrap();
        assert_eq!(taken(&mut inboxes[0]), [rows(&[3])]);
    }

    #[test]
    fn unaligned_a_queue_is_read_on_behind_its_barrier() {
        let (mut inbound, [a, b], mut inboxes) = two_inputs(false);
        let barrier = Barrier { epoch: 1, kind: BarrierKind::Snapshot(1) };
        for item in [Item::Barrier(barrier), Item::Batch(rows(&[3]))] {
            a.push(item);
        }
        inbound.drain(&mut inboxes).unwrap();
        assert_eq!(taken(&mut inboxes[0]), [rows(&[3])]);
        assert_eq!(inbound.next_event(), None, "b has not delivered it");
        b.push(Item::Barrier(barrier));
        inbound.drain(&mut inboxes).unwrap();
        assert_eq!(inbound.next_event(), Some(Event::Barrier(barrier)));
    }

    #[test]
    fn an_input_that_ends_does_not_hold_a_barrier_back() {
        let (mut inbound, [a, b], mut inboxes) = two_inputs(true);
        let barrier = Barrier { epoch: 1, kind: BarrierKind::Terminal(1) };
        a.push(Item::Barrier(barrier));
        inbound.drain(&mut inboxes).unwrap();
        b.push(Item::Done);
        inbound.drain(&mut inboxes).unwrap();
        assert_eq!(inbound.next_event(), Some(Event::InputEnd(1)));
        assert_eq!(inbound.next_event(), Some(Event::Barrier(barrier)));
        assert!(!inbound.is_exhausted());
    }

    #[test]
    fn a_watermark_waits_for_the_rows_before_it_and_holds_those_behind_it() {
        let (mut inbound, [a, b], mut inboxes) = two_inputs(true);
        b.push(Item::Watermark(Watermark { key: 0, time: 9 }));
        for item in [Item::Batch(rows(&[1])), Item::Watermark(Watermark { key: 0, time: 5 })] {
            a.push(item);
        }
        a.push(Item::Batch(rows(&[6])));
        inbound.drain(&mut inboxes).unwrap();
        assert_eq!(taken(&mut inboxes[0]), [rows(&[1])]);
        let moved = Watermark { key: 0, time: 5 };
        assert_eq!(inbound.next_event(), Some(Event::Watermark(moved)));
        inbound.drain(&mut inboxes).unwrap();
        assert_eq!(taken(&mut inboxes[0]), [rows(&[6])]);
    }

    #[test]
    fn small_insertions_that_pile_up_are_joined_in_order_and_others_left_alone() {
        let (mut inbound, [a, _b], mut inboxes) = two_inputs(true);
        let mut retraction = rows(&[3]);
        retraction.weight = crate::delta::Weight::MinusOne;
        let large = rows(&(0..1_000).collect::<Vec<_>>());
        let sent = [rows(&[1]), rows(&[2]), retraction.clone(), rows(&[4]), large.clone()];
        sent.iter().for_each(|batch| drop(a.push(Item::Batch(batch.clone()))));
        a.push(Item::Batch(rows(&[5])));
        let moved = inbound.drain(&mut inboxes).unwrap();
        assert_eq!(moved, Some(1_005));
        let joined = taken(&mut inboxes[0]);
        assert_eq!(joined, [rows(&[1, 2]), retraction, rows(&[4]), large, rows(&[5])]);
        assert_eq!(ZSet::of(&joined), ZSet::of(sent.iter().chain([&rows(&[5])])));
    }
}
