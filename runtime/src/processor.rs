//! The processor contract: single-threaded, synchronous, non-blocking code of one vertex instance.
//!
//! ```text
//!            init → restore* → ┌─ process(ordinal, inbox) ─┐ → complete(ordinal) … → complete source
//!                              │  watermark · idle · epoch │
//!                              └─ save (at a barrier) ─────┘
//!                                   save_rest (behind it, between other calls)
//! ```
//! A worker thread calls one method at a time and never two at once. Every call returns within
//! about a millisecond. The inbox is yours to drain or to leave: what stays comes back first.
//!
//! **The outbox may refuse any offer.** Two patterns are safe. One output for one input: `peek`,
//! compute, `offer`, and `take` only when the offer was taken, so that the input waits in the inbox
//! (watermarks, barriers and completion come only when the inbox is empty). Several outputs for one
//! call: keep them in a [`Held`] and flush it first in *every* method, `watermark`, `epoch` and
//! `complete` included, or rows are overtaken.
//!
//! **Being called.** A tasklet is called when a queue of its has news, when its own last call made
//! progress, at [`ProcessorContext::wake`], at the time asked for with
//! [`ProcessorContext::wake_at`], and at least every [`TICK`]. Nothing is polled in between: an
//! idle dag costs nothing but the tick.
//!
//! **Ending early.** An instance that needs no more input (LIMIT) says so with
//! [`Processor::is_finished`], or by answering `Yes` from `idle`: its inputs are closed, and an upstream instance whose every target
//! is closed ends as well, back to the sources.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use arrow::{array::RecordBatch, compute::concat_batches, datatypes::SchemaRef};
use storage::{Grid, cluster::control::JobError, table::JobWriters};

use crate::{
    Error, Result,
    delta::{DeltaBatch, Weight},
    execution::StateMemory,
    item::{Item, SnapshotId, Watermark},
    job::Guarantee,
    state::{StateChunk, StateWriter},
};

/// The longest a live tasklet goes without being called: short enough for idle timeouts, long
/// enough that a hundred ticks a second cost nothing.
pub const TICK: Duration = Duration::from_millis(10);

/// A batch of fewer insertions is small: joining it with its neighbours costs less than a call.
const MERGED_BATCH_ROWS_MAX: usize = 512;

/// Where a processor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cooperation {
    /// On a shared worker thread; must not block.
    Cooperative,
    /// On a thread of its own; may block for up to 100 ms a call.
    Blocking,
}

/// Whether a call has finished what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Done {
    /// Finished.
    Yes,
    /// Call again: the outbox refused, or there is more to do.
    No,
}

/// Tells of trouble that an execution survives, and with `None` that it is over.
pub type TellTrouble = Arc<dyn Fn(Option<JobError>) + Send + Sync>;

/// What a processor knows of its surroundings.
#[derive(Clone)]
pub struct ProcessorContext {
    /// The member's grid: tables, clock, metrics.
    pub grid: Arc<Grid>,
    /// Job or query id, for metrics and logs.
    pub job_id: u64,
    /// Job name, or `query`.
    pub job_name: Arc<str>,
    /// Vertex name.
    pub vertex: Arc<str>,
    /// Index of this instance among all of the vertex, `0..parallelism`.
    pub index: usize,
    /// Instances of the vertex on all members.
    pub parallelism: usize,
    /// What becomes of rows when the execution is lost: what a sink must do about it.
    pub guarantee: Guarantee,
    /// The newest snapshot that was given up by who accepts that rows repeat, 0 for none: what a sink
    /// finds permanent of a snapshot up to this one comes again.
    pub forsaken: SnapshotId,
    /// Shows trouble the job survives (`sys.jobs.last_error`); `None` when it is over.
    pub trouble: TellTrouble,
    /// Call to have this processor's tasklet called soon; the only method for other threads
    /// (a connector's I/O half).
    pub wake: Arc<dyn Fn() + Send + Sync>,
    /// Asks to be called (`idle`, if nothing else waits) at that time of the grid's
    /// `clock.monotonic_nanos()`; the earliest request counts and is used up by the call. For the
    /// processor's own calls only. Not needed for anything coarser than [`TICK`].
    pub wake_at: Arc<dyn Fn(u64) + Send + Sync>,
    /// The writers of this execution, with guarantee `exactlyOnce`: what is written to a table
    /// through them becomes permanent with the snapshot that covers it.
    pub writers: Option<Arc<JobWriters>>,
    /// Tell it how many bytes this processor holds between calls, whenever that has changed much:
    /// they count against the limit of the execution.
    pub memory: StateMemory,
}

/// Loses the execution if a test has armed that place.
pub fn fail_at(context: &ProcessorContext, place: &'static str) -> Result<()> {
    match context.grid.env().failpoints.hit(place) {
        true => Err(Error::Lost(place.to_owned())),
        false => Ok(()),
    }
}

/// The contract; see the module text. Defaults are those of a stateless operator.
pub trait Processor: Send {
    /// Called once before anything else, on the thread that starts the execution: an error here is
    /// an error of the start.
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Rows are waiting at input `ordinal`. Take as many batches as fit; leave the rest.
    fn process(&mut self, ordinal: usize, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<()> {
        let _ = (ordinal, inbox, outbox);
        Err(Error::Internal("a source has no input".to_owned()))
    }

    /// The coalesced watermark of all inputs moved (or all are idle: `time == IDLE`). The default
    /// passes it on.
    fn watermark(&mut self, watermark: Watermark, outbox: &mut Outbox) -> Result<Done> {
        Ok(outbox.offer_or_retry(Item::Watermark(watermark)))
    }

    /// Called when there is no input for now, and for a source on every round: emit what can be
    /// emitted. A source that is exhausted answers `Yes` and is completed; others answer `No`, or
    /// `Yes` to end early (see [`Processor::is_finished`]).
    fn idle(&mut self, outbox: &mut Outbox) -> Result<Done> {
        let _ = outbox;
        Ok(Done::No)
    }

    /// A visibility epoch or a durable barrier is about to pass: emit what belongs before it.
    fn epoch(&mut self, epoch: u64, outbox: &mut Outbox) -> Result<Done> {
        let _ = (epoch, outbox);
        Ok(Done::Yes)
    }

    /// Input `ordinal` has ended; for `ordinal == usize::MAX` all have (or the source is
    /// exhausted): emit what is left.
    fn complete(&mut self, ordinal: usize, outbox: &mut Outbox) -> Result<Done> {
        let _ = (ordinal, outbox);
        Ok(Done::Yes)
    }

    /// Write the state, sorted by (tag, partition), or as much of it as a call may take: see
    /// [`Processor::save_rest`]. Must not change the state. Called after
    /// `epoch` answered `Yes`, and once more at a suspend for an instance that had completed: a
    /// source must then say that it is at its end.
    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        let _ = state;
        Ok(Done::Yes)
    }

    /// What `save` left to be written of the state *at the barrier*: called after it, and between
    /// other calls until it answers `Yes`, each time for a slice of a call. The barrier has passed
    /// then, and rows behind it have come: what they change must be written, or kept, before.
    fn save_rest(&mut self, state: &mut StateWriter) -> Result<Done> {
        let _ = state;
        Ok(Done::Yes)
    }

    /// Snapshot `id` is good: it will be restored, or a later one. A sink that holds back what it
    /// wrote before that barrier lets it go. Called some time after `save`, also when later rows
    /// have come; not called for every snapshot: a later id includes the earlier ones. It may come
    /// twice, and it may never come: what was saved must then do after a restore.
    fn committed(&mut self, id: SnapshotId) -> Result<Done> {
        let _ = id;
        Ok(Done::Yes)
    }

    /// Snapshot `id` will never be good: what was to be let go with it is to be let go with a later
    /// one. Called some time after `save`, or not at all when a later snapshot tells as much.
    fn abandoned(&mut self, id: SnapshotId) -> Result<Done> {
        let _ = id;
        Ok(Done::Yes)
    }

    /// Whether it has written to the outside what only a good snapshot lets go. Asked when it has
    /// completed or has saved at a terminal barrier: its tasklet then stays until such a snapshot is
    /// good (or, at a terminal barrier, never will be), and takes part in those on the way.
    fn awaits_commit(&self) -> bool {
        false
    }

    /// One chunk of a saved state; called between `init` and the first other call, once for every
    /// chunk whose partition this instance serves ([`crate::state::instance_of`]).
    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        let _ = chunk;
        Ok(())
    }

    /// Whether it needs no more input, now and for good. Asked after every call; once `true`, the
    /// inputs are closed, `complete(usize::MAX)` follows, and upstream ends if nobody else listens.
    fn is_finished(&self) -> bool {
        false
    }

    /// Where it runs. Asked once.
    fn cooperation(&self) -> Cooperation {
        Cooperation::Cooperative
    }
}

/// Makes the processors of a vertex. Asked once per execution and member.
pub trait ProcessorSupplier: Send + Sync {
    /// `count` processors, for the instances `0..count` of this member.
    fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>>;
    /// What EXPLAIN shows behind the vertex name: `filter(price@2 > 10)`.
    fn describe(&self) -> String;
    /// Schema of the rows it emits; of an empty one for sinks.
    fn schema(&self) -> SchemaRef;
    /// Whether its processors write to the outside what becomes permanent with a snapshot: an older
    /// snapshot cannot be gone back to then.
    fn commits(&self) -> bool {
        false
    }
    /// What the state of its processors means, in words; `None` if they have none. A state is
    /// restored only where these words are the same, so they name all that a saved state cannot do
    /// without (types, keys, aggregates, what a position is a position in) and nothing else (the
    /// columns a source reads, the number of instances).
    fn state(&self) -> Option<String> {
        None
    }
    /// Whether, with that guarantee, the state belongs to one job at a time: another may go on from
    /// it only when that is gone.
    fn is_state_of_job(&self, guarantee: Guarantee) -> bool {
        let _ = guarantee;
        false
    }
}

/// Rows waiting at one input; owned by the tasklet, filled from the edge's queues.
#[derive(Debug, Default)]
pub struct Inbox {
    batches: VecDeque<DeltaBatch>,
}

/// Where a processor puts what it emits; owned by the tasklet, emptied into the edge's queues.
#[derive(Debug)]
pub struct Outbox {
    /// What was offered and taken; every item goes to all outgoing edges.
    items: VecDeque<Item>,
    capacity: usize,
    /// Counts offers and refuses every other one when set: the test kit's.
    refuse_alternate: Option<u64>,
}

impl Inbox {
    /// The next batch, without taking it.
    pub fn peek(&self) -> Option<&DeltaBatch> {
        self.batches.front()
    }

    /// Takes the next batch.
    pub fn take(&mut self) -> Option<DeltaBatch> {
        self.batches.pop_front()
    }

    /// Appends a batch: the tasklet's side.
    pub fn push(&mut self, batch: DeltaBatch) {
        self.batches.push_back(batch);
    }

    /// Joins neighbours that are small: with a backlog of little batches a call costs more than a
    /// copy. The tasklet's side.
    pub(crate) fn merge_small(&mut self) -> Result<()> {
        let is_small =
            |batch: &DeltaBatch| batch.weight == Weight::One && batch.len() < MERGED_BATCH_ROWS_MAX;
        if self.batches.iter().filter(|batch| is_small(batch)).count() < 2 {
            return Ok(());
        }
        let mut run: Vec<RecordBatch> = Vec::new();
        for batch in std::mem::take(&mut self.batches) {
            if !is_small(&batch) {
                self.push_merged(&mut run)?;
                self.batches.push_back(batch);
                continue;
            }
            run.push(batch.rows);
        }
        self.push_merged(&mut run)
    }

    fn push_merged(&mut self, run: &mut Vec<RecordBatch>) -> Result<()> {
        let rows = match &run[..] {
            [] => return Ok(()),
            [one] => one.clone(),
            many => concat_batches(many[0].schema_ref(), many)?,
        };
        run.clear();
        self.batches.push_back(DeltaBatch::insertions(rows));
        Ok(())
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Number of batches that wait.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Forgets what waits: the tasklet's side.
    pub fn clear(&mut self) {
        self.batches.clear();
    }
}

impl Outbox {
    /// An outbox that holds at most `capacity` items before the tasklet must empty it.
    pub fn new(capacity: usize) -> Self {
        Self { items: VecDeque::new(), capacity, refuse_alternate: None }
    }

    /// One that holds one item and refuses every other offer: what `verify_processor` uses.
    pub fn stubborn() -> Self {
        Self { items: VecDeque::new(), capacity: 1, refuse_alternate: Some(0) }
    }

    /// Whether the next offer would be taken (a stubborn outbox may still refuse).
    pub fn has_room(&self) -> bool {
        self.items.len() < self.capacity
    }

    /// Emits `item` to all outgoing edges, or hands it back: keep it and offer it again.
    #[must_use = "a refused item must be offered again"]
    pub fn offer(&mut self, item: Item) -> Option<Item> {
        if let Some(count) = &mut self.refuse_alternate {
            *count += 1;
            if *count % 2 == 1 {
                return Some(item);
            }
        }
        if !self.has_room() {
            return Some(item);
        }
        self.items.push_back(item);
        None
    }

    /// Appends whatever the room: the tasklet's own barriers and ends.
    pub(crate) fn append(&mut self, item: Item) {
        self.items.push_back(item);
    }

    /// [`Outbox::offer`] for items the caller will be asked for again.
    pub fn offer_or_retry(&mut self, item: Item) -> Done {
        match self.offer(item) {
            None => Done::Yes,
            Some(_) => Done::No,
        }
    }

    /// Takes the oldest item: the tasklet's side.
    pub fn take(&mut self) -> Option<Item> {
        self.items.pop_front()
    }

    /// The oldest item, without taking it.
    pub fn peek(&self) -> Option<&Item> {
        self.items.front()
    }
}

/// Items on their way to an outbox that refused: what a processor with several outputs a call
/// keeps. Flush it first in every method.
#[derive(Debug, Default)]
pub struct Held {
    items: VecDeque<Item>,
}

impl Held {
    /// Appends an item; it leaves at the next [`Held::flush`]. Bound the number by flushing before
    /// the next input is taken.
    pub fn push(&mut self, item: Item) {
        self.items.push_back(item);
    }

    /// Offers what is held, in order, until the outbox refuses. `Yes` when nothing is left.
    pub fn flush(&mut self, outbox: &mut Outbox) -> Done {
        while let Some(item) = self.items.pop_front() {
            if let Some(refused) = outbox.offer(item) {
                self.items.push_front(refused);
                return Done::No;
            }
        }
        Done::Yes
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
