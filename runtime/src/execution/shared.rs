//! What the tasklets of one execution share: how it ends, who still lives, what was saved.
//! The last tasklet to end concludes it: state is collected, processors are freed, `finished` runs.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use storage::cluster::control::JobError;
use storage::env::{Failpoints, Killed};

use super::{
    ExecutionEnd,
    barriers::{Barriers, Passed},
    engine::Snapshots,
    memory::ExecutionMemory,
    signal::Signal,
    stats::{EdgeGauge, VertexGauge},
};
use crate::{
    Error, Result,
    item::{Barrier, BarrierKind, SnapshotId},
    processor::{Done, Processor},
    state::{SavedInstance, SavedStates, StateWriter},
};

/// Calls of one `save` at most; a processor that never ends its save fails the suspend.
const SAVE_CALLS_MAX: usize = 1_000_000;

/// Where an execution is concluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conclusion {
    /// On a thread of its own: freeing a connector may block for a while.
    Thread,
    /// On the caller's, for the deterministic scheduler.
    Inline,
}

/// Shared by the tasklets of one execution and its handle.
pub(super) struct Shared {
    pub(super) execution_id: u64,
    pub(super) vertices: Vec<VertexGauge>,
    pub(super) edges: Vec<EdgeGauge>,
    pub(super) barriers: Barriers,
    pub(super) memory: Arc<ExecutionMemory>,
    snapshots: Option<Snapshots>,
    failpoints: Failpoints,
    pub(super) trouble: Arc<Trouble>,
    /// Signals of all tasklets; set once, before the first call.
    pub(super) signals: OnceLock<Vec<Arc<Signal>>>,
    pub(super) conclusion: Conclusion,
    /// The newest good snapshot.
    committed: AtomicU64,
    /// Whether the save of the durable barrier under way says only what has changed.
    is_incremental: AtomicBool,
    /// The newest snapshot that never will be one.
    abandoned: AtomicU64,
    /// Whether all tasklets must end at their next call.
    is_cancelled: AtomicBool,
    state: Mutex<State>,
}

/// What the owner of an execution wants of it.
pub(super) struct Policy {
    /// Distance of light epochs, ns.
    pub(super) epoch_interval_nanos: Option<u64>,
    pub(super) snapshots: Option<Snapshots>,
    pub(super) failpoints: Failpoints,
}

/// What an execution survives at present.
pub(super) struct Trouble {
    /// Id of the job or query.
    pub(super) owner: u64,
    pub(super) is_query: bool,
    pub(super) present: Mutex<Option<JobError>>,
}

/// Run when the execution has ended.
pub(super) type Finished = Box<dyn FnOnce(ExecutionEnd) + Send>;

/// Told from a worker that every instance has saved at a snapshot's barrier, with what they saved;
/// must not block.
pub type SnapshotTaken = Arc<dyn Fn(SnapshotId, Result<SavedStates>) + Send + Sync>;

/// Told from a worker that all that is left of an execution waits for a snapshot; must not block.
pub type SnapshotAwaited = Arc<dyn Fn() + Send + Sync>;

struct State {
    live: usize,
    /// Those of them that have completed and wait for a good snapshot.
    awaiting: usize,
    /// What instances have saved at the snapshot under way.
    saved: BTreeMap<(usize, usize), StateWriter>,
    /// The first failure.
    error: Option<Error>,
    ended: Vec<EndedInstance>,
    finished: Option<Finished>,
}

/// What is left of an instance after its tasklet ended.
pub(super) struct EndedInstance {
    /// Its vertex and its number.
    pub(super) at: (usize, usize),
    /// Freed by the conclusion.
    pub(super) processor: Box<dyn Processor>,
    /// What it saved at the terminal barrier, or after it had completed, if it was asked.
    pub(super) saved: Option<StateWriter>,
    /// Whether it had completed of itself; it is then asked for its state at a durable barrier.
    pub(super) is_completed: bool,
    /// Whether it had said that it waits for a good snapshot.
    pub(super) has_awaited: bool,
}

impl Shared {
    pub(super) fn new(
        execution_id: u64,
        gauges: (Vec<VertexGauge>, Vec<EdgeGauge>),
        (memory, trouble): (Arc<ExecutionMemory>, Arc<Trouble>),
        policy: Policy,
        conclusion: Conclusion,
        finished: Finished,
    ) -> Self {
        let (vertices, edges) = gauges;
        let live = vertices.iter().map(|vertex| vertex.instances.len()).sum();
        let state = State {
            live,
            awaiting: 0,
            saved: BTreeMap::new(),
            error: None,
            ended: Vec::new(),
            finished: Some(finished),
        };
        Self {
            execution_id,
            vertices,
            edges,
            barriers: Barriers::new(live, policy.epoch_interval_nanos),
            memory,
            snapshots: policy.snapshots,
            failpoints: policy.failpoints,
            trouble,
            signals: OnceLock::new(),
            conclusion,
            committed: AtomicU64::new(0),
            is_incremental: AtomicBool::new(false),
            abandoned: AtomicU64::new(0),
            is_cancelled: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// Loses the execution if a test has armed that place.
    pub(super) fn fail_at(&self, place: &'static str) -> Result<()> {
        match self.failpoints.hit(place) {
            true => Err(Error::Lost(place.to_owned())),
            false => Ok(()),
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    /// Has every tasklet end at its next call.
    pub(super) fn cancel(&self) {
        if !self.is_cancelled.swap(true, Ordering::AcqRel) {
            self.wake_all();
        }
    }

    /// Ends the execution with an error; the first one counts.
    pub(super) fn fail(&self, error: Error) {
        self.state.lock().error.get_or_insert(error);
        self.cancel();
    }

    pub(super) fn wake_all(&self) {
        let signals = self.signals.get().map_or(&[][..], Vec::as_slice);
        signals.iter().for_each(|signal| signal.raise());
    }

    /// Has the next durable barrier save what has changed since the one before, or everything.
    pub(super) fn set_incremental(&self, is_incremental: bool) {
        self.is_incremental.store(is_incremental, Ordering::Release);
    }

    pub(super) fn is_incremental(&self) -> bool {
        self.is_incremental.load(Ordering::Acquire)
    }

    /// Whether what is saved at a durable barrier is told, and what becomes of it is heard.
    pub(super) fn takes_snapshots(&self) -> bool {
        self.snapshots.is_some()
    }

    /// An instance has completed and waits for a good snapshot.
    pub(super) fn await_commit(&self) {
        self.state.lock().awaiting += 1;
        self.ask_for_snapshot();
    }

    /// Asks for a snapshot once there is nobody left who does not wait for one.
    fn ask_for_snapshot(&self) {
        let state = self.state.lock();
        let is_awaited = state.awaiting > 0 && state.awaiting == state.live;
        drop(state);
        if let Some(snapshots) = self.snapshots.as_ref().filter(|_| is_awaited) {
            (snapshots.awaited)();
        }
    }

    /// What an instance saved at the snapshot under way; told before it lets the barrier pass.
    pub(super) fn save(&self, at: (usize, usize), state: StateWriter) {
        self.state.lock().saved.insert(at, state);
    }

    /// The newest good snapshot of this execution, 0 for none.
    pub(super) fn committed(&self) -> SnapshotId {
        self.committed.load(Ordering::Acquire)
    }

    /// A snapshot of this execution is good.
    pub(super) fn commit(&self, id: SnapshotId) {
        if self.committed.fetch_max(id, Ordering::AcqRel) < id {
            self.wake_all();
        }
    }

    /// The newest snapshot of this execution that never will be good, 0 for none.
    pub(super) fn abandoned(&self) -> SnapshotId {
        self.abandoned.load(Ordering::Acquire)
    }

    /// A snapshot of this execution never will be good.
    pub(super) fn abandon(&self, id: SnapshotId) {
        if self.abandoned.fetch_max(id, Ordering::AcqRel) < id {
            self.wake_all();
        }
    }

    /// Does what follows from a tasklet's news of a barrier.
    pub(super) fn passed(&self, passed: Passed) {
        if let Some(Barrier { kind, .. }) = passed.complete
            && kind != BarrierKind::Epoch
            && let Some(snapshots) = &self.snapshots
        {
            let states = self.take_saved(kind.snapshot());
            // A tasklet that ends because it must has saved nothing.
            if !self.is_cancelled() {
                (snapshots.taken)(kind.snapshot(), states);
            }
        }
        if passed.is_new {
            self.wake_all();
        }
    }

    /// The snapshot that every tasklet has let pass, those that had ended before included.
    fn take_saved(&self, id: SnapshotId) -> Result<SavedStates> {
        let mut state = self.state.lock();
        let mut saved = std::mem::take(&mut state.saved);
        for instance in &mut state.ended {
            if let Entry::Vacant(place) = saved.entry(instance.at) {
                place.insert(self.saved_by_ended(instance, id)?);
            }
        }
        Ok(self.by_vertex(saved))
    }

    /// A tasklet that had seen that epoch has ended; the last one concludes the execution.
    pub(super) fn end(self: &Arc<Self>, epoch_seen: u64, instance: EndedInstance) {
        let has_awaited = instance.has_awaited;
        // Before the barrier is let go, which takes what the ended have saved.
        self.state.lock().ended.push(instance);
        self.passed(self.barriers.end(epoch_seen));
        let is_last = {
            let mut state = self.state.lock();
            state.live -= 1;
            state.awaiting -= usize::from(has_awaited);
            state.live == 0
        };
        if !is_last {
            self.ask_for_snapshot();
            return;
        }
        if self.conclusion == Conclusion::Inline {
            self.conclude();
            return;
        }
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new().name(format!("tw-end-{}", self.execution_id));
        if thread.spawn(move || shared.conclude()).is_err() {
            // No thread to be had: better slow than never.
            self.conclude();
        }
    }

    fn conclude(&self) {
        let (mut ended, error, finished) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.ended), state.error.take(), state.finished.take())
        };
        let end = match error {
            Some(error) => ExecutionEnd::Failed(error),
            None if self.is_cancelled() => ExecutionEnd::Cancelled,
            None if !self.barriers.has_terminal_passed() => ExecutionEnd::Completed,
            None if self.takes_snapshots() => ExecutionEnd::Suspended(SavedStates::new()),
            None => match self.collect(&mut ended) {
                Ok(state) => ExecutionEnd::Suspended(state),
                Err(error) => ExecutionEnd::Failed(error),
            },
        };
        for instance in ended {
            // A destructor that panics harms nobody else.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(instance)));
        }
        self.edges.iter().flat_map(|edge| &edge.queues).for_each(|queue| queue.close());
        if let Some(finished) = finished {
            let outcome = catch_unwind(AssertUnwindSafe(|| finished(end)));
            if outcome.is_err() {
                tracing::error!(execution = self.execution_id, "the end of an execution panicked");
            }
        }
    }

    /// What each instance that has ended saved, ordered by vertex and instance.
    fn collect(&self, ended: &mut [EndedInstance]) -> Result<SavedStates> {
        let mut saved = BTreeMap::new();
        for instance in ended {
            saved.insert(instance.at, self.saved_by_ended(instance, 0)?);
        }
        Ok(self.by_vertex(saved))
    }

    /// What an instance that has ended saved, or says now that it has completed.
    fn saved_by_ended(&self, instance: &mut EndedInstance, id: SnapshotId) -> Result<StateWriter> {
        if instance.saved.is_none() && instance.is_completed {
            let name = &self.vertices[instance.at.0].vertex;
            instance.saved = Some(guarded(name, || save(&mut *instance.processor, id))?);
        }
        Ok(instance.saved.clone().unwrap_or_default())
    }

    fn by_vertex(&self, saved: BTreeMap<(usize, usize), StateWriter>) -> SavedStates {
        let named = saved.into_iter().map(|((vertex, index), state)| SavedInstance {
            vertex: self.vertices[vertex].vertex.clone(),
            index,
            state,
        });
        named.collect()
    }
}

/// Everything a processor has to say at snapshot `id`.
fn save(processor: &mut dyn Processor, id: SnapshotId) -> Result<StateWriter> {
    let mut writer = StateWriter::new(id, false);
    let mut is_rest = false;
    for _ in 0..SAVE_CALLS_MAX {
        match is_rest {
            false => is_rest = processor.save(&mut writer)? == Done::Yes,
            true if processor.save_rest(&mut writer)? == Done::Yes => return Ok(writer),
            true => (),
        }
    }
    Err(Error::Internal("a save does not end".to_owned()))
}

/// Runs a processor's or supplier's code; a panic becomes an error that names the vertex. Nothing comes
/// of the end of the process that a test plays.
pub(super) fn guarded<T>(vertex: &str, code: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|panic| {
        if panic.is::<Killed>() {
            resume_unwind(panic);
        }
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("unknown cause");
        Err(Error::Internal(format!("vertex \"{vertex}\" panicked: {text}")))
    })
}
