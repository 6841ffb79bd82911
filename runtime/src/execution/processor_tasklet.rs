//! The phase machine around one processor: feeds it, empties it, and carries barriers through it.
//!
//! ```text
//!            ┌────────────── Running ◄───────────────────────────────┐
//!            │ rows → process, none → idle                           │
//!   Watermark│ InputEnd│   Barrier│                        (not terminal)
//!            ▼         ▼          ▼                                  │
//!      Watermark  CompletingInput  Epoch ──► Saving ──► Passing ─────┤
//!            └────┬────┘                                             │ terminal
//!              Running ── all inputs ended, finished ──► Completing ─┴─► Awaiting ──► Ended
//! ```
//! *Awaiting* is for sinks that wrote what only a good snapshot lets go: they stay to be told of it,
//! and while they do they meet barriers as a source does. Who awaits nothing ends at once.
//! A barrier passes as soon as the state it cuts cannot change any more; what of it is not written by
//! then is written in slices, while rows from behind the barrier are taken in.
//!
//! In every phase the outbox is emptied into the queues first; while a queue refuses, nothing else
//! is called. Events are handled only when the inboxes are empty: rows are never overtaken.

use std::sync::{Arc, atomic::Ordering};

use storage::env::Clock;

use super::{
    inbound::{Event, Inbound},
    outbound::{Flushed, Outbound},
    progress::Progress,
    shared::{EndedInstance, Shared, guarded},
    signal::Signal,
    stats::{BusyMeter, InstanceStats},
    tasklet::Tasklet,
};
use crate::{
    Result,
    item::{Barrier, BarrierKind, IDLE, Item, SnapshotId, Watermark},
    processor::{Cooperation, Done, Inbox, Outbox, Processor},
    state::StateWriter,
};

/// A call ends after the step that passes this: the slice of a worker a tasklet gets.
const CALL_BUDGET_NANOS: u64 = 500_000;
/// A call that takes longer holds up every other tasklet of its worker; it is logged, once.
const CALL_WARNING_NANOS: u64 = 100_000_000;
/// Steps of one call at most, also where the clock stands still.
const STEPS_MAX: usize = 64;
/// Items a call of the processor may emit before they must be delivered.
const OUTBOX_CAPACITY_MAX: usize = 8;

/// Where the machine is.
enum Phase {
    /// Takes rows and calls `idle`; an event, the end of all inputs or of the need for them ends it.
    Running,
    /// Waits for the processor to accept the watermark.
    Watermark(Watermark),
    /// Waits for the processor to emit what the end of one input releases.
    CompletingInput(usize),
    /// Waits for the processor to emit what belongs before the barrier.
    Epoch(Barrier),
    /// Waits for the processor to write its state.
    Saving(Barrier, StateWriter),
    /// Waits for the rest of it, where nothing follows that could be done meanwhile.
    SavingRest(Barrier, StateWriter),
    /// Waits for the processor to let go what it wrote before a good snapshot.
    Committing(SnapshotId),
    /// Waits for the processor to keep it for a later one.
    Abandoning(SnapshotId),
    /// Waits for the processor to emit what is left.
    Completing,
    /// Has completed, or saved at a terminal barrier; waits for a good snapshot of all it wrote.
    Awaiting,
    /// Waits for the last items to be delivered.
    Ended,
}

/// Which instance of which vertex.
#[derive(Debug, Clone)]
pub(super) struct InstanceId {
    pub(super) vertex: usize,
    pub(super) name: Arc<str>,
    pub(super) index: usize,
}

impl InstanceId {
    /// Vertex and instance: where its state belongs.
    fn at(&self) -> (usize, usize) {
        (self.vertex, self.index)
    }
}

/// One processor and the queues around it.
pub(super) struct ProcessorTasklet {
    id: InstanceId,
    /// Taken when it has ended.
    processor: Option<Box<dyn Processor>>,
    is_source: bool,
    is_cooperative: bool,
    inboxes: Vec<Inbox>,
    inbound: Inbound,
    outbox: Outbox,
    outbound: Outbound,
    phase: Phase,
    /// Epoch of the newest barrier that passed.
    epoch_seen: u64,
    /// The newest good snapshot the processor was told of.
    committed_seen: SnapshotId,
    /// The newest one that never will be good, of those it was told of.
    abandoned_seen: SnapshotId,
    saved: Option<StateWriter>,
    /// A barrier that has passed, and what is written of its state so far.
    rest: Option<(Barrier, StateWriter)>,
    is_completed: bool,
    /// The first snapshot that holds all it wrote, once it has completed, or the terminal one.
    last_snapshot: Option<SnapshotId>,
    /// Whether a terminal barrier has passed.
    has_stopped: bool,
    /// Whether it was said that it has completed and waits.
    has_awaited: bool,
    /// Whether a call that took too long was logged.
    is_slow: bool,
    shared: Arc<Shared>,
    stats: Arc<InstanceStats>,
    busy: BusyMeter,
    signal: Arc<Signal>,
    clock: Arc<dyn Clock>,
}

/// Everything a tasklet is put together from.
pub(super) struct Parts {
    pub(super) id: InstanceId,
    pub(super) processor: Box<dyn Processor>,
    pub(super) input_count: usize,
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
    pub(super) queue_capacity: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) stats: Arc<InstanceStats>,
    pub(super) signal: Arc<Signal>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Tasklet for ProcessorTasklet {
    fn call(&mut self) -> Progress {
        if self.shared.is_cancelled() {
            self.end();
            return Progress::Ended;
        }
        let name = Arc::clone(&self.id.name);
        let start = self.clock.monotonic_nanos();
        let outcome = guarded(&name, || self.slice(start));
        let end = self.clock.monotonic_nanos();
        self.note_slowness(end - start);
        self.busy.note(start, end, &self.stats);
        match outcome {
            Ok(Progress::Ended) => {
                self.end();
                Progress::Ended
            }
            Ok(progress) => progress,
            Err(error) => {
                self.shared.fail(error);
                self.end();
                Progress::Ended
            }
        }
    }
}

impl ProcessorTasklet {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            id: parts.id,
            is_cooperative: parts.processor.cooperation() == Cooperation::Cooperative,
            processor: Some(parts.processor),
            is_source: parts.input_count == 0,
            inboxes: (0..parts.input_count).map(|_| Inbox::default()).collect(),
            inbound: parts.inbound,
            outbox: Outbox::new(parts.queue_capacity.min(OUTBOX_CAPACITY_MAX)),
            outbound: parts.outbound,
            phase: Phase::Running,
            epoch_seen: 0,
            committed_seen: 0,
            abandoned_seen: 0,
            saved: None,
            rest: None,
            is_completed: false,
            last_snapshot: None,
            has_stopped: false,
            has_awaited: false,
            is_slow: false,
            shared: parts.shared,
            stats: parts.stats,
            busy: BusyMeter::default(),
            signal: parts.signal,
            clock: parts.clock,
        }
    }

    fn note_slowness(&mut self, nanos: u64) {
        let is_too_slow = nanos > CALL_WARNING_NANOS && !self.is_slow;
        if is_too_slow && self.is_cooperative {
            self.is_slow = true;
            let ms = nanos / 1_000_000;
            tracing::warn!(vertex = %self.id.name, ms, "a cooperative call held up its worker");
        }
    }

    /// Steps for as long as a call may take.
    fn slice(&mut self, start: u64) -> Result<Progress> {
        let mut progress = Progress::None;
        if self.outbound.is_abandoned() {
            return Ok(Progress::Ended);
        }
        for _ in 0..STEPS_MAX {
            let flushed = self.flush()?;
            if flushed.has_moved {
                progress = Progress::Made;
            }
            if !flushed.is_clear {
                return Ok(progress);
            }
            if matches!(self.phase, Phase::Ended) {
                return Ok(Progress::Ended);
            }
            let has_moved = self.step()?;
            if self.shared.memory.is_over() {
                let Shared { memory, vertices, edges, .. } = &*self.shared;
                return Err(memory.overflow(vertices, edges));
            }
            if !has_moved {
                return Ok(progress);
            }
            progress = Progress::Made;
            if self.clock.monotonic_nanos() - start > CALL_BUDGET_NANOS {
                break;
            }
        }
        Ok(progress)
    }

    fn flush(&mut self) -> Result<Flushed> {
        let Self { outbound, outbox, stats, is_source, .. } = self;
        outbound.flush(outbox, |item| match item {
            Item::Batch(batch) => {
                stats.rows_out.fetch_add(batch.len() as u64, Ordering::Relaxed);
            }
            Item::Watermark(watermark) if *is_source && watermark.time != IDLE => {
                stats.watermark.store(watermark.time, Ordering::Relaxed);
            }
            _ => (),
        })
    }

    /// One step of the machine, with an empty outbox; whether anything moved.
    fn step(&mut self) -> Result<bool> {
        if let Some(place) = self.place() {
            self.shared.fail_at(place)?;
        }
        let began = self.saves().then(|| self.clock.monotonic_nanos());
        let processor = self.processor.as_deref_mut().expect("it has not ended");
        let outbox = &mut self.outbox;
        let is_done = match &mut self.phase {
            Phase::Running => {
                let has_saved = self.save_some()?;
                return Ok(self.run()? || has_saved);
            }
            Phase::Watermark(watermark) => processor.watermark(*watermark, outbox)?,
            Phase::CompletingInput(ordinal) => processor.complete(*ordinal, outbox)?,
            Phase::Epoch(barrier) => processor.epoch(barrier.epoch, outbox)?,
            Phase::Saving(_, writer) => processor.save(writer)?,
            Phase::SavingRest(_, writer) => processor.save_rest(writer)?,
            Phase::Committing(id) => processor.committed(*id)?,
            Phase::Abandoning(id) => processor.abandoned(*id)?,
            Phase::Completing => processor.complete(usize::MAX, outbox)?,
            Phase::Awaiting => return self.await_commit(),
            Phase::Ended => return Ok(false),
        };
        self.note_save(began);
        if is_done == Done::No {
            // A save works through its state in slices without emitting anything.
            let saves = matches!(self.phase, Phase::Saving(..) | Phase::SavingRest(..));
            return Ok(self.outbox.peek().is_some() || saves);
        }
        self.advance()?;
        Ok(true)
    }

    /// Whether the next step is a snapshot's.
    fn saves(&self) -> bool {
        match self.phase {
            Phase::Epoch(barrier) => barrier.kind != BarrierKind::Epoch,
            Phase::Saving(..) | Phase::SavingRest(..) => true,
            _ => false,
        }
    }

    /// A step of a snapshot that began then has held up everything else.
    fn note_save(&self, began: Option<u64>) {
        if let Some(began) = began {
            let nanos = self.clock.monotonic_nanos() - began;
            self.stats.longest_save.fetch_max(nanos, Ordering::Relaxed);
        }
    }

    /// Where a test may have the execution lost: before each step of a durable barrier.
    fn place(&self) -> Option<&'static str> {
        let is_sink = self.outbound.is_nowhere();
        match self.phase {
            Phase::Epoch(barrier) if barrier.kind == BarrierKind::Epoch => None,
            Phase::Epoch(_) if self.is_source => Some("source.epoch"),
            Phase::Epoch(_) if is_sink => Some("sink.epoch"),
            Phase::Epoch(_) => Some("operator.epoch"),
            Phase::Saving(..) if self.is_source => Some("source.save"),
            Phase::Saving(..) if is_sink => Some("sink.save"),
            Phase::Saving(..) => Some("operator.save"),
            Phase::SavingRest(..) => Some("operator.save_rest"),
            Phase::Committing(_) => Some("processor.committed"),
            Phase::Completing if self.is_source => Some("source.complete"),
            Phase::Completing => Some("processor.complete"),
            _ => None,
        }
    }

    /// The phase is done: what follows it.
    fn advance(&mut self) -> Result<()> {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Running | Phase::Watermark(_) | Phase::CompletingInput(_) => Phase::Running,
            Phase::Committing(_) | Phase::Abandoning(_) => self.resting(),
            Phase::Epoch(barrier) if barrier.kind == BarrierKind::Epoch => {
                self.let_pass(barrier);
                self.shared.passed(self.shared.barriers.pass(barrier));
                self.resting()
            }
            Phase::Epoch(barrier) => {
                let is_incremental = self.shared.is_incremental();
                Phase::Saving(barrier, StateWriter::new(barrier.kind.snapshot(), is_incremental))
            }
            Phase::Saving(barrier, mut writer) => {
                let processor = self.processor.as_deref_mut().expect("it has not ended");
                let done = processor.save_rest(&mut writer)?;
                if done == Done::No && (self.is_completed || barrier.kind.is_terminal()) {
                    Phase::SavingRest(barrier, writer)
                } else {
                    self.let_pass(barrier);
                    self.rest = Some((barrier, writer));
                    if done == Done::Yes {
                        self.end_save()?;
                    }
                    self.resting()
                }
            }
            Phase::SavingRest(barrier, writer) => {
                self.let_pass(barrier);
                self.rest = Some((barrier, writer));
                self.end_save()?;
                self.resting()
            }
            Phase::Completing => {
                self.is_completed = true;
                self.emit(Item::Done);
                if self.awaits_commit() {
                    self.shared.fail_at("sink.completed")?;
                    self.has_awaited = true;
                    self.shared.await_commit();
                }
                self.resting()
            }
            Phase::Awaiting | Phase::Ended => Phase::Ended,
        };
        Ok(())
    }

    fn let_pass(&mut self, barrier: Barrier) {
        assert!(barrier.epoch > self.epoch_seen, "barriers pass once and in order");
        self.epoch_seen = barrier.epoch;
        if !self.is_completed {
            self.emit(Item::Barrier(barrier));
        }
        self.has_stopped |= barrier.kind.is_terminal();
    }

    /// Writes a slice of what is left of a save; whether there was something.
    fn save_some(&mut self) -> Result<bool> {
        let Some((_, writer)) = &mut self.rest else { return Ok(false) };
        self.shared.fail_at("operator.save_rest")?;
        let began = self.clock.monotonic_nanos();
        let processor = self.processor.as_deref_mut().expect("it has not ended");
        let done = processor.save_rest(writer)?;
        self.note_save(Some(began));
        if done == Done::Yes {
            self.end_save()?;
        }
        Ok(true)
    }

    /// All of the state is written: that is when the barrier counts as passed.
    fn end_save(&mut self) -> Result<()> {
        let Some((barrier, writer)) = self.rest.take() else { return Ok(()) };
        match self.shared.takes_snapshots() {
            true => self.shared.save(self.id.at(), writer),
            false => self.saved = Some(writer),
        }
        if self.is_completed || barrier.kind.is_terminal() {
            self.last_snapshot.get_or_insert(barrier.kind.snapshot());
        }
        self.shared.fail_at("barrier.saved")?;
        self.shared.passed(self.shared.barriers.pass(barrier));
        self.shared.fail_at("barrier.passed")
    }

    /// Where it is when nothing is to be done.
    fn resting(&self) -> Phase {
        match self.is_completed || self.has_stopped {
            false => Phase::Running,
            true if self.awaits_commit() => Phase::Awaiting,
            true => Phase::Ended,
        }
    }

    fn awaits_commit(&self) -> bool {
        let awaits = |processor: &dyn Processor| processor.awaits_commit();
        self.shared.takes_snapshots() && self.processor.as_deref().is_some_and(awaits)
    }

    /// Nothing comes any more: waits for what is said of the snapshots.
    fn await_commit(&mut self) -> Result<bool> {
        if let Some(next) = self.next_decision() {
            self.phase = next;
            return Ok(true);
        }
        let is_decided = self.last_snapshot.is_some_and(|last| {
            let is_over = self.has_stopped && self.abandoned_seen >= last;
            self.committed_seen >= last || is_over
        });
        if is_decided {
            self.shared.fail_at("sink.settled")?;
            self.phase = Phase::Ended;
            return Ok(true);
        }
        if !self.has_stopped
            && let Some(barrier) = self.shared.barriers.after(self.epoch_seen)
        {
            self.phase = Phase::Epoch(barrier);
            return Ok(true);
        }
        Ok(false)
    }

    /// What was said of a snapshot and the processor has not been told.
    fn next_decision(&mut self) -> Option<Phase> {
        let committed = self.shared.committed();
        if committed > self.committed_seen {
            self.committed_seen = committed;
            return Some(Phase::Committing(committed));
        }
        let abandoned = self.shared.abandoned();
        if abandoned > self.abandoned_seen {
            self.abandoned_seen = abandoned;
            return Some(Phase::Abandoning(abandoned));
        }
        None
    }

    /// The tasklet's own items wait behind what the processor's last call emitted.
    fn emit(&mut self, item: Item) {
        self.outbox.append(item);
    }

    fn run(&mut self) -> Result<bool> {
        if let Some(next) = self.next_decision() {
            self.phase = next;
            return Ok(true);
        }
        let processor = self.processor.as_deref_mut().expect("it has not ended");
        if processor.is_finished() && self.rest.is_none() {
            self.finish();
            return Ok(true);
        }
        if let Some(ordinal) = self.inboxes.iter().position(|inbox| !inbox.is_empty()) {
            let inbox = &mut self.inboxes[ordinal];
            let waiting = inbox.len();
            processor.process(ordinal, inbox, &mut self.outbox)?;
            if inbox.len() < waiting || self.outbox.peek().is_some() {
                return Ok(true);
            }
            return self.idle();
        }
        if let Some(event) = self.inbound.next_event() {
            self.phase = self.enter(event);
            return Ok(true);
        }
        if let Some(rows) = self.inbound.drain(&mut self.inboxes)? {
            self.stats.rows_in.fetch_add(rows, Ordering::Relaxed);
            return Ok(true);
        }
        if self.is_source {
            self.poll_epoch_interval();
            if let Some(barrier) = self.shared.barriers.after(self.epoch_seen) {
                self.phase = Phase::Epoch(barrier);
                return Ok(true);
            }
        } else if self.inbound.is_exhausted() {
            // What completes changes everything.
            if self.rest.is_none() {
                self.phase = Phase::Completing;
            }
            return Ok(true);
        }
        self.idle()
    }

    fn idle(&mut self) -> Result<bool> {
        let processor = self.processor.as_deref_mut().expect("it has not ended");
        if processor.idle(&mut self.outbox)? == Done::Yes {
            while self.save_some()? {}
            self.finish();
            return Ok(true);
        }
        Ok(self.outbox.peek().is_some())
    }

    /// No more input is needed: what is on its way is swallowed.
    fn finish(&mut self) {
        self.inboxes.iter_mut().for_each(Inbox::clear);
        self.inbound.close();
        self.phase = Phase::Completing;
    }

    fn enter(&self, event: Event) -> Phase {
        match event {
            Event::Watermark(watermark) => {
                if watermark.time != IDLE {
                    self.stats.watermark.store(watermark.time, Ordering::Relaxed);
                }
                Phase::Watermark(watermark)
            }
            Event::InputEnd(ordinal) => Phase::CompletingInput(ordinal),
            Event::Barrier(barrier) => Phase::Epoch(barrier),
        }
    }

    fn poll_epoch_interval(&self) {
        let now = self.clock.monotonic_nanos();
        let Some((next, is_new)) = self.shared.barriers.poll_interval(now) else { return };
        self.signal.raise_at(next);
        if is_new {
            self.shared.wake_all();
        }
    }

    /// Leaves: upstream is told, the processor is handed to the conclusion.
    fn end(&mut self) {
        let Some(processor) = self.processor.take() else { return };
        self.inboxes.iter_mut().for_each(Inbox::clear);
        self.inbound.close();
        let at = self.id.at();
        // A barrier whose save was not ended counts as one that was not met.
        let unmet = self.rest.as_ref().map(|(barrier, _)| barrier.epoch - 1);
        let epoch_seen = unmet.unwrap_or(self.epoch_seen);
        self.shared.end(
            epoch_seen,
            EndedInstance {
                at,
                processor,
                saved: self.saved.take(),
                is_completed: self.is_completed,
                has_awaited: self.has_awaited,
            },
        );
    }
}
