//! What the tasklets of one execution share: how it ends, who still lives, what was saved.
//! The last tasklet to end concludes it: state is collected, processors are freed, `finished` runs.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use storage::cluster::control::JobError;

use super::{
    ExecutionEnd,
    barriers::Barriers,
    memory::ExecutionMemory,
    signal::Signal,
    stats::{EdgeGauge, VertexGauge},
};
use crate::{
    Error, Result,
    processor::{Done, Processor},
    state::{StateChunk, StateWriter},
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
    /// Whether a failure saves what it can.
    saves_on_failure: bool,
    pub(super) trouble: Arc<Trouble>,
    /// Signals of all tasklets; set once, before the first call.
    pub(super) signals: OnceLock<Vec<Arc<Signal>>>,
    pub(super) conclusion: Conclusion,
    /// Whether all tasklets must end at their next call.
    is_cancelled: AtomicBool,
    state: Mutex<State>,
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

struct State {
    live: usize,
    /// The first failure.
    error: Option<Error>,
    ended: Vec<EndedInstance>,
    finished: Option<Finished>,
}

/// What is left of an instance after its tasklet ended.
pub(super) struct EndedInstance {
    pub(super) vertex: usize,
    pub(super) index: usize,
    /// Freed by the conclusion.
    pub(super) processor: Box<dyn Processor>,
    /// What it saved at the terminal barrier, if it met one.
    pub(super) saved: Option<Vec<StateChunk>>,
    /// Whether it had completed of itself; it is then asked for its state at a suspend.
    pub(super) is_completed: bool,
}

impl Shared {
    pub(super) fn new(
        execution_id: u64,
        gauges: (Vec<VertexGauge>, Vec<EdgeGauge>),
        (memory, trouble): (Arc<ExecutionMemory>, Arc<Trouble>),
        (epoch_interval_nanos, saves_on_failure): (Option<u64>, bool),
        conclusion: Conclusion,
        finished: Finished,
    ) -> Self {
        let (vertices, edges) = gauges;
        let live = vertices.iter().map(|vertex| vertex.instances.len()).sum();
        let state = State { live, error: None, ended: Vec::new(), finished: Some(finished) };
        Self {
            execution_id,
            vertices,
            edges,
            barriers: Barriers::new(live, epoch_interval_nanos),
            memory,
            saves_on_failure,
            trouble,
            signals: OnceLock::new(),
            conclusion,
            is_cancelled: AtomicBool::new(false),
            state: Mutex::new(state),
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

    /// A tasklet has ended; the last one concludes the execution.
    pub(super) fn end(self: &Arc<Self>, instance: EndedInstance) {
        let is_last = {
            let mut state = self.state.lock();
            state.ended.push(instance);
            state.live -= 1;
            state.live == 0
        };
        if !is_last {
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
            Some(error) => ExecutionEnd::Failed(error, self.collect_what_is_left(&mut ended)),
            None if self.is_cancelled() => ExecutionEnd::Cancelled,
            None if self.barriers.has_terminal_passed() => match self.collect(&mut ended) {
                Ok(state) => ExecutionEnd::Suspended(state),
                Err(error) => ExecutionEnd::Failed(error, Vec::new()),
            },
            None => ExecutionEnd::Completed,
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

    /// What the instances of a failed execution can still save: each as it stands, with no common
    /// cut, and without what was on its way in queues.
    fn collect_what_is_left(&self, ended: &mut [EndedInstance]) -> Vec<(String, Vec<StateChunk>)> {
        if !self.saves_on_failure {
            return Vec::new();
        }
        for instance in ended.iter_mut().filter(|instance| instance.saved.is_none()) {
            let name = &self.vertices[instance.vertex].vertex;
            let saved = guarded(name, || save(&mut *instance.processor));
            let saved = saved.inspect_err(|error| {
                tracing::warn!(vertex = %name, %error, "state is lost with a failure");
            });
            instance.saved = saved.ok();
        }
        self.collect(ended).unwrap_or_default()
    }

    /// The state of each vertex that has one, ordered by instance.
    fn collect(&self, ended: &mut [EndedInstance]) -> Result<Vec<(String, Vec<StateChunk>)>> {
        ended.sort_by_key(|instance| (instance.vertex, instance.index));
        let mut states: Vec<(String, Vec<StateChunk>)> = Vec::new();
        for instance in ended {
            let name = &self.vertices[instance.vertex].vertex;
            let chunks = match instance.saved.take() {
                Some(chunks) => chunks,
                None if instance.is_completed => guarded(name, || save(&mut *instance.processor))?,
                None => Vec::new(),
            };
            if chunks.is_empty() {
                continue;
            }
            match states.last_mut() {
                Some((last, all)) if last == name => all.extend(chunks),
                _ => states.push((name.clone(), chunks)),
            }
        }
        Ok(states)
    }
}

fn save(processor: &mut dyn Processor) -> Result<Vec<StateChunk>> {
    let mut writer = StateWriter::default();
    for _ in 0..SAVE_CALLS_MAX {
        if processor.save(&mut writer)? == Done::Yes {
            return Ok(writer.chunks);
        }
    }
    Err(Error::Internal("a save does not end".to_owned()))
}

/// Runs a processor's or supplier's code; a panic becomes an error that names the vertex.
pub(super) fn guarded<T>(vertex: &str, code: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("unknown cause");
        Err(Error::Internal(format!("vertex \"{vertex}\" panicked: {text}")))
    })
}
