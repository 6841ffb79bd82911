//! Executions from start to end: rows, order, back-pressure, ends of every kind, suspend and
//! restore, and the deterministic twin.

mod ends;
mod flow;
mod memory;
mod simulated;
mod snapshots;
mod suspend;

use std::{sync::Arc, sync::mpsc, time::Duration};

use storage::{
    Grid, GridConfig,
    env::{Env, SimClock},
};

use super::{Engine, EngineConfig, Execution, ExecutionEnd, ExecutionRequest, Snapshots};
use crate::{
    dag::Dag,
    state::{SavedStates, VertexStates, chunks_of},
};

/// Long enough for a busy machine, short enough to notice a hang.
const PATIENCE: Duration = Duration::from_secs(30);

fn engine(worker_count: usize, queue_capacity: usize) -> Arc<Engine> {
    let grid = Grid::open(GridConfig::default(), Env::real()).unwrap();
    Engine::start(EngineConfig { worker_count, queue_capacity, ..EngineConfig::default() }, grid)
        .unwrap()
}

fn simulated_grid(seed: u64) -> (Arc<Grid>, Arc<SimClock>) {
    let (env, clock) = Env::simulated(seed);
    (Grid::open(GridConfig::default(), env).unwrap(), clock)
}

type Ends = mpsc::Receiver<ExecutionEnd>;

fn request(dag: Dag) -> (ExecutionRequest, Ends) {
    let (sender, ends) = mpsc::channel();
    let request = ExecutionRequest {
        dag,
        job_id: 1,
        job_name: "test".into(),
        restore: Vec::new(),
        trouble: Arc::new(|_| ()),
        finished: Box::new(move |end| sender.send(end).unwrap()),
        epoch_interval: None,
        memory_max: None,
        snapshots: None,
    };
    (request, ends)
}

fn run(engine: &Engine, dag: Dag) -> (Execution, Ends) {
    let (request, ends) = request(dag);
    (engine.run(request).unwrap(), ends)
}

#[track_caller]
fn completed(ends: &Ends) {
    let end = ends.recv_timeout(PATIENCE).expect("it ends");
    assert!(matches!(end, ExecutionEnd::Completed), "{end:?}");
}

#[track_caller]
fn suspended(ends: &Ends) -> VertexStates {
    match ends.recv_timeout(PATIENCE).expect("it ends") {
        ExecutionEnd::Suspended(saved) => chunks_of(saved, 271).unwrap(),
        end => panic!("{end:?}"),
    }
}

/// Waits until `condition` holds, or panics.
#[track_caller]
fn wait_until(mut condition: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() {
        if condition() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    panic!("it did not happen within {PATIENCE:?}");
}
