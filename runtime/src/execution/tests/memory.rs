//! Memory of an execution: what is held and what waits is counted, and the limit ends it alone.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::*;
use crate::{
    Error, Result,
    dag::{Parallelism, Routing},
    execution::StateMemory,
    processor::{Inbox, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    testing::{FnSupplier, bigint_schema, collector, counting_source},
};

/// Keeps all that it is given and says so; or takes nothing, so that the queues fill.
struct Hoard {
    takes: bool,
    bytes: usize,
    memory: Option<StateMemory>,
}

impl Processor for Hoard {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        self.memory = Some(context.memory.clone());
        Ok(())
    }

    fn process(&mut self, _ordinal: usize, inbox: &mut Inbox, _outbox: &mut Outbox) -> Result<()> {
        while self.takes
            && let Some(batch) = inbox.take()
        {
            self.bytes += batch.len() * size_of::<i64>();
        }
        if let Some(memory) = &self.memory {
            memory.hold(self.bytes);
        }
        Ok(())
    }
}

fn hoarding(takes: bool) -> Dag {
    let schema: SchemaRef = bigint_schema(&[]);
    let hoard: Arc<dyn ProcessorSupplier> = FnSupplier::shared("hoard", schema, move |_| {
        Box::new(Hoard { takes, bytes: 0, memory: None })
    });
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Exactly(1), counting_source(i64::MAX, 1000));
    let hoard = dag.vertex("hoard", Parallelism::Exactly(2), hoard);
    dag.edge(source, hoard, 0, Routing::Partitioned(vec![0]));
    dag
}

fn failure_of(engine: &Engine, dag: Dag, memory_max: usize) -> String {
    let (mut request, ends) = request(dag);
    request.memory_max = Some(memory_max);
    engine.run(request).unwrap();
    match ends.recv_timeout(PATIENCE).expect("it ends") {
        ExecutionEnd::Failed(Error::Limit(message)) => message,
        end => panic!("{end:?}"),
    }
}

#[test]
fn passing_the_limit_ends_the_execution_and_names_the_operator() {
    let engine = engine(2, 4);
    let (sink, collected) = collector();
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Exactly(1), counting_source(i64::MAX, 3));
    let sink = dag.vertex("sink", Parallelism::Exactly(1), sink);
    dag.edge(source, sink, 0, Routing::Unicast);
    let (other, _other_ends) = run(&engine, dag);

    let message = failure_of(&engine, hoarding(true), 1 << 20);
    assert!(message.starts_with("job \"test\" needs 10"), "{message}");
    assert!(message.contains("may have 1024 kB: operator \"hoard\" holds"), "{message}");
    assert!(message.contains("maxMemory"), "{message}");

    let before = collected.len();
    wait_until(|| collected.len() > before + 100);
    other.cancel();
    let gauge = || {
        let metrics = engine.grid().metrics();
        metrics.register("tidewater_state_bytes", &[("job", "test"), ("vertex", "hoard")]).get()
    };
    wait_until(|| gauge() == 0);
}

#[test]
fn rows_in_queues_count() {
    let engine = engine(2, 100);
    let message = failure_of(&engine, hoarding(false), 256 << 10);
    assert!(message.contains("the queues into operator \"hoard\""), "{message}");
    let metrics = engine.grid().metrics();
    let gauge = metrics.register("tidewater_job_memory_bytes", &[("job", "test")]);
    wait_until(|| gauge.get() == 0);
}

#[test]
fn vertices_show_what_they_hold_how_full_their_queues_are_and_how_busy_they_are() {
    let engine = engine(1, 4);
    let (execution, _ends) = run(&engine, hoarding(false));
    wait_until(|| execution.vertex_stats()[1].queue_fill == 1000);
    wait_until(|| execution.edge_stats()[0].queued_bytes > 1000);
    assert_eq!(execution.vertex_stats()[0].queue_fill, 0, "a source has no queue");
    execution.cancel();

    let (execution, _ends) = run(&engine, hoarding(true));
    wait_until(|| execution.vertex_stats()[1].state_bytes > 1000);
    // A source that never rests keeps its only worker busy.
    wait_until(|| execution.vertex_stats().iter().map(|one| one.busy).sum::<u32>() > 300);
    execution.cancel();
}
