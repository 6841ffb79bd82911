//! The part of a dag one member runs: instances, queues between them, and who calls which. Built
//! and initialised on the caller's thread, so that what cannot start is told to who asked.

use std::sync::Arc;

use crossbeam_utils::sync::{Parker, Unparker};
use parking_lot::Mutex;
use storage::{Grid, env::Clock, table::JobWriters};

use super::{
    ExecutionRequest, QUERY, Snapshots,
    inbound::Inbound,
    memory::{ExecutionMemory, StateMemory, state_gauge},
    outbound::{OutEdge, Outbound, Router},
    processor_tasklet::{InstanceId, Parts, ProcessorTasklet},
    queue::Queue,
    shared::{Conclusion, Policy, Shared, Trouble, guarded},
    signal::Signal,
    split::Splitter,
    stats::{EdgeGauge, InstanceStats, VertexGauge},
    worker::Slot,
};
use crate::{
    Error, Result,
    dag::{Dag, Edge, Routing},
    item::SnapshotId,
    job::Guarantee,
    processor::{Cooperation, Processor, ProcessorContext, TellTrouble},
    state::{EVERY_INSTANCE, StateChunk, instance_of},
};

/// What the engine gives a plan to build with.
pub(super) struct Site<'a> {
    pub(super) grid: &'a Arc<Grid>,
    /// One for each cooperative worker.
    pub(super) unparkers: Vec<Unparker>,
    pub(super) worker_count: usize,
    pub(super) queue_capacity: usize,
    /// Bytes an execution may hold that says nothing else.
    pub(super) memory_max: usize,
    pub(super) execution_id: u64,
    pub(super) conclusion: Conclusion,
}

/// A dag ready to be called.
pub(super) struct MemberPlan {
    pub(super) shared: Arc<Shared>,
    /// Tasklets with the worker each belongs to.
    pub(super) cooperative: Vec<(usize, Slot)>,
    /// Tasklets that get a thread of their own.
    pub(super) blocking: Vec<(Parker, Slot)>,
}

/// One instance before it becomes a tasklet.
struct Instance {
    id: InstanceId,
    processor: Box<dyn Processor>,
    signal: Arc<Signal>,
    stats: Arc<InstanceStats>,
    place: Place,
    inbound: Vec<(usize, Arc<Queue>)>,
    outbound: Vec<OutEdge>,
}

enum Place {
    Worker(usize),
    Thread(Parker),
}

impl MemberPlan {
    pub(super) fn build(request: ExecutionRequest, site: &Site<'_>) -> Result<Self> {
        let ExecutionRequest {
            dag,
            job_id,
            job_name,
            restore,
            trouble,
            finished,
            epoch_interval,
            memory_max,
            snapshots,
        } = request;
        dag.validate()?;
        let writers = snapshots.as_ref().and_then(|snapshots| snapshots.writers.clone());
        let memory_max = memory_max.unwrap_or(site.memory_max);
        let memory = ExecutionMemory::new(site.grid, &job_name, memory_max);
        let is_query = &*job_name == QUERY;
        let known = Arc::new(Trouble { owner: job_id, is_query, present: Mutex::default() });
        let trouble = remembering(&known, trouble);
        let mut vertices = instances(&dag, site)?;
        let edges: Result<Vec<_>> = dag
            .edges
            .iter()
            .map(|edge| connect(&dag, edge, &mut vertices, &memory, site))
            .collect();
        let gauges = (gauges(&dag, &vertices), edges?);
        let promise = snapshots
            .as_ref()
            .map_or((Guarantee::None, 0), |snapshots| (snapshots.guarantee, snapshots.forsaken));
        for (vertex, instances) in vertices.iter_mut().enumerate() {
            let saved = restore.iter().find(|(name, _)| *name == dag.vertices[vertex].name);
            let saved = saved.map_or(&[][..], |(_, chunks)| chunks);
            let parallelism = instances.len();
            for instance in instances {
                let shared = (&trouble, &memory, writers.as_ref());
                let job = (job_id, &job_name, promise);
                let context = context(instance, parallelism, job, shared, site);
                let name = Arc::clone(&instance.id.name);
                guarded(&name, || start(&mut *instance.processor, &context, saved))?;
            }
        }
        let interval = epoch_interval.map(|interval| interval.as_nanos() as u64);
        let is_aligned = snapshots.as_ref().is_none_or(Snapshots::is_aligned);
        let policy = Policy {
            epoch_interval_nanos: interval,
            snapshots,
            failpoints: site.grid.env().failpoints.clone(),
        };
        let shared = Shared::new(
            site.execution_id,
            gauges,
            (memory, known),
            policy,
            site.conclusion,
            finished,
        );
        let input_counts: Vec<_> = (0..dag.vertices.len()).map(|v| dag.input_count(v)).collect();
        let clock = Arc::clone(&site.grid.env().clock);
        let limits = (site.queue_capacity, is_aligned);
        Ok(Self::of(vertices, &input_counts, Arc::new(shared), clock, limits))
    }

    fn of(
        vertices: Vec<Vec<Instance>>,
        input_counts: &[usize],
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
        (queue_capacity, is_aligned): (usize, bool),
    ) -> Self {
        let instances = || vertices.iter().flatten();
        let signals = instances().map(|instance| Arc::clone(&instance.signal)).collect();
        let _first = shared.signals.set(signals);
        let (mut cooperative, mut blocking) = (Vec::new(), Vec::new());
        for instance in vertices.into_iter().flatten() {
            let input_count = input_counts[instance.id.vertex];
            let name = format!("{}#{}", instance.id.name, instance.id.index);
            let signal = Arc::clone(&instance.signal);
            let tasklet = ProcessorTasklet::new(Parts {
                id: instance.id,
                processor: instance.processor,
                input_count,
                inbound: Inbound::new(instance.inbound, input_count, is_aligned),
                outbound: Outbound::new(instance.outbound),
                queue_capacity,
                shared: Arc::clone(&shared),
                stats: instance.stats,
                signal: instance.signal,
                clock: Arc::clone(&clock),
            });
            let slot = Slot { tasklet: Box::new(tasklet), signal, name };
            match instance.place {
                Place::Worker(worker) => cooperative.push((worker, slot)),
                Place::Thread(parker) => blocking.push((parker, slot)),
            }
        }
        Self { shared, cooperative, blocking }
    }
}

/// Tells trouble on, once, and keeps it for who asks.
fn remembering(known: &Arc<Trouble>, trouble: TellTrouble) -> TellTrouble {
    let known = Arc::clone(known);
    Arc::new(move |now| {
        let mut before = known.present.lock();
        if *before == now {
            return;
        }
        before.clone_from(&now);
        drop(before);
        trouble(now);
    })
}

/// Makes the processors of every vertex and decides who calls them: instance i of every vertex on
/// one worker, so that isolated edges stay on one core; the executions take turns.
fn instances(dag: &Dag, site: &Site<'_>) -> Result<Vec<Vec<Instance>>> {
    let mut vertices = Vec::with_capacity(dag.vertices.len());
    for (vertex, definition) in dag.vertices.iter().enumerate() {
        let count = definition.parallelism.instances(site.worker_count);
        let processors = guarded(&definition.name, || definition.supplier.create(count))?;
        if processors.len() != count {
            let (name, made) = (&definition.name, processors.len());
            return Err(Error::Internal(format!("\"{name}\" made {made} of {count} processors")));
        }
        let name: Arc<str> = definition.name.as_str().into();
        let place_one = |(index, processor): (usize, Box<dyn Processor>)| {
            let place = match processor.cooperation() {
                Cooperation::Cooperative => {
                    let turn = site.execution_id as usize + index;
                    Place::Worker(turn % site.unparkers.len())
                }
                Cooperation::Blocking => Place::Thread(Parker::new()),
            };
            let unparker = match &place {
                Place::Worker(worker) => site.unparkers[*worker].clone(),
                Place::Thread(parker) => parker.unparker().clone(),
            };
            Instance {
                id: InstanceId { vertex, name: Arc::clone(&name), index },
                processor,
                signal: Arc::new(Signal::new(unparker)),
                stats: Arc::default(),
                place,
                inbound: Vec::new(),
                outbound: Vec::new(),
            }
        };
        vertices.push(processors.into_iter().enumerate().map(place_one).collect());
    }
    Ok(vertices)
}

/// Lays the queues of an edge between its instances.
fn connect(
    dag: &Dag,
    edge: &Edge,
    vertices: &mut [Vec<Instance>],
    memory: &Arc<ExecutionMemory>,
    site: &Site<'_>,
) -> Result<EdgeGauge> {
    let (source, target) = (edge.source.0, edge.target.0);
    let (source_count, target_count) = (vertices[source].len(), vertices[target].len());
    if edge.routing == Routing::Isolated && source_count != target_count {
        return Err(Error::Internal(format!(
            "an isolated edge from {source_count} to {target_count} instances"
        )));
    }
    let mut all = Vec::new();
    for from in 0..source_count {
        let targets = match &edge.routing {
            Routing::Isolated => from..from + 1,
            Routing::ToOne => 0..1,
            _ => 0..target_count,
        };
        let mut queues = Vec::with_capacity(targets.len());
        for to in targets {
            let reader = Arc::clone(&vertices[target][to].signal);
            let writer = Arc::clone(&vertices[source][from].signal);
            let memory = Arc::clone(memory);
            let queue = Arc::new(Queue::new(site.queue_capacity, memory, reader, writer));
            vertices[target][to].inbound.push((edge.target_ordinal, Arc::clone(&queue)));
            queues.push(queue);
        }
        all.extend(queues.iter().map(Arc::clone));
        let router = match &edge.routing {
            Routing::Unicast => Router::Any,
            Routing::Partitioned(columns) => {
                let partition_count = site.grid.config().partition_count;
                Router::Key(Splitter::new(columns.clone(), partition_count, target_count))
            }
            Routing::Isolated | Routing::ToOne | Routing::Broadcast => Router::All,
        };
        vertices[source][from].outbound.push(OutEdge::new(router, queues));
    }
    Ok(EdgeGauge {
        source: dag.vertices[source].name.clone(),
        target: dag.vertices[target].name.clone(),
        routing: edge.routing.to_string(),
        queues: all,
    })
}

fn gauges(dag: &Dag, vertices: &[Vec<Instance>]) -> Vec<VertexGauge> {
    let gauge = |(vertex, instances): (usize, &Vec<Instance>)| VertexGauge {
        vertex: dag.vertices[vertex].name.clone(),
        description: dag.vertices[vertex].supplier.describe(),
        instances: instances.iter().map(|instance| Arc::clone(&instance.stats)).collect(),
        inputs: instances
            .iter()
            .flat_map(|instance| instance.inbound.iter().map(|(_, queue)| Arc::clone(queue)))
            .collect(),
    };
    vertices.iter().enumerate().map(gauge).collect()
}

fn context(
    instance: &Instance,
    parallelism: usize,
    (job_id, job_name, promise): (u64, &Arc<str>, (Guarantee, SnapshotId)),
    (trouble, memory, writers): (&TellTrouble, &Arc<ExecutionMemory>, Option<&Arc<JobWriters>>),
    site: &Site<'_>,
) -> ProcessorContext {
    let (guarantee, forsaken) = promise;
    let gauge = state_gauge(site.grid, job_name, &instance.id.name);
    let (signal, timer) = (Arc::clone(&instance.signal), Arc::clone(&instance.signal));
    ProcessorContext {
        grid: Arc::clone(site.grid),
        job_id,
        job_name: Arc::clone(job_name),
        vertex: Arc::clone(&instance.id.name),
        index: instance.id.index,
        parallelism,
        guarantee,
        forsaken,
        trouble: Arc::clone(trouble),
        wake: Arc::new(move || signal.raise()),
        wake_at: Arc::new(move |nanos| timer.raise_at(nanos)),
        writers: writers.map(Arc::clone),
        memory: StateMemory::new(memory, &instance.stats, gauge),
    }
}

/// `init`, then `restore` with the chunks whose partition this instance serves.
fn start(
    processor: &mut dyn Processor,
    context: &ProcessorContext,
    saved: &[StateChunk],
) -> Result<()> {
    processor.init(context)?;
    let is_ours = |chunk: &&StateChunk| {
        chunk.partition == EVERY_INSTANCE
            || instance_of(chunk.partition, context.parallelism) == context.index
    };
    saved.iter().filter(is_ours).try_for_each(|chunk| processor.restore(chunk))
}
