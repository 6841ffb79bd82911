//! How executions end: early, by error, by panic, cancelled, refused; always once and with
//! everything freed.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use storage::cluster::control::JobError;

use super::*;
use crate::{
    Error, Result,
    dag::{Parallelism, Routing},
    item::Item,
    processor::{Done, Inbox, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    testing::{FnSupplier, bigint_schema, collector, counting_source},
};

/// Rows of a batch that is not so small that edges join it with its neighbours.
const BATCH: usize = 1_000;

/// What a [`Probe`] does after so many batches.
#[derive(Clone, Copy, PartialEq)]
enum Act {
    Pass,
    Finish,
    FinishByIdle,
    Fail,
    Panic,
    FailAtInit,
    PanicAtSave,
}

/// Passes three batches on, then acts; counts the living.
struct Probe {
    act: Act,
    batches: usize,
    living: Arc<AtomicUsize>,
}

fn probe(act: Act, living: &Arc<AtomicUsize>) -> Arc<dyn ProcessorSupplier> {
    let living = Arc::clone(living);
    FnSupplier::shared("probe", bigint_schema(&["v"]), move |_| {
        living.fetch_add(1, Ordering::SeqCst);
        Box::new(Probe { act, batches: 0, living: Arc::clone(&living) })
    })
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.living.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Processor for Probe {
    fn init(&mut self, _context: &ProcessorContext) -> Result<()> {
        match self.act {
            Act::FailAtInit => Err(Error::Connection("nobody answers".to_owned())),
            _ => Ok(()),
        }
    }

    fn process(&mut self, _ordinal: usize, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<()> {
        while self.batches < 3 || self.act == Act::Pass {
            let Some(batch) = inbox.peek() else { return Ok(()) };
            if outbox.offer(Item::Batch(batch.clone())).is_some() {
                return Ok(());
            }
            inbox.take();
            self.batches += 1;
        }
        match self.act {
            Act::Fail => Err(Error::User { code: "22012", message: "division by zero".to_owned() }),
            Act::Panic => panic!("this one breaks"),
            _ => Ok(()),
        }
    }

    fn idle(&mut self, _outbox: &mut Outbox) -> Result<Done> {
        let is_over = self.act == Act::FinishByIdle && self.batches == 3;
        Ok(if is_over { Done::Yes } else { Done::No })
    }

    fn save(&mut self, _state: &mut crate::state::StateWriter) -> Result<Done> {
        assert!(self.act != Act::PanicAtSave, "nothing to save");
        Ok(Done::Yes)
    }

    fn is_finished(&self) -> bool {
        self.act == Act::Finish && self.batches == 3
    }
}

/// An endless source on every worker → probe → collector.
fn endless(act: Act, living: &Arc<AtomicUsize>) -> (Dag, crate::testing::Collector) {
    let (sink, collected) = collector();
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Workers, counting_source(i64::MAX, BATCH));
    let probe = dag.vertex("probe", Parallelism::Exactly(1), probe(act, living));
    let sink = dag.vertex("sink", Parallelism::Exactly(1), sink);
    dag.edge(source, probe, 0, Routing::ToOne);
    dag.edge(probe, sink, 0, Routing::Isolated);
    (dag, collected)
}

#[test]
fn a_vertex_that_has_enough_ends_an_endless_dag() {
    for act in [Act::Finish, Act::FinishByIdle] {
        for capacity in [1, 16] {
            let living = Arc::default();
            let (dag, collected) = endless(act, &living);
            completed(&run(&engine(2, capacity), dag).1);
            assert_eq!(collected.len(), 3 * BATCH);
            assert_eq!(living.load(Ordering::SeqCst), 0, "freed before the end is told");
        }
    }
}

#[test]
fn a_source_goes_on_for_the_others_when_one_target_has_enough() {
    let living = Arc::default();
    let (sink, collected) = collector();
    let mut dag = Dag::default();
    let source = dag.vertex("source", Parallelism::Exactly(1), counting_source(1_000, 10));
    let first = dag.vertex("probe", Parallelism::Exactly(1), probe(Act::Finish, &living));
    let sink = dag.vertex("sink", Parallelism::Exactly(1), sink);
    dag.edge(source, first, 0, Routing::ToOne);
    dag.edge(source, sink, 0, Routing::ToOne);
    completed(&run(&engine(2, 1), dag).1);
    assert_eq!(collected.len(), 1_000);
}

#[test]
fn an_error_ends_only_its_own_execution_once_and_frees_it() {
    let engine = engine(2, 4);
    let living = Arc::default();
    let (other, _collected) = endless(Act::Pass, &Arc::default());
    let (other, other_ends) = run(&engine, other);
    let (dag, _) = endless(Act::Fail, &living);
    let (_, ends) = run(&engine, dag);
    let end = ends.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(&end, ExecutionEnd::Failed(Error::User { code: "22012", .. })), "{end:?}");
    assert_eq!(living.load(Ordering::SeqCst), 0);
    assert!(ends.recv_timeout(PATIENCE).is_err(), "told once");
    let before = other.vertex_stats()[2].rows_in;
    wait_until(|| other.vertex_stats()[2].rows_in > before);
    let metrics = engine.grid().metrics().list();
    let value = |name: &str| metrics.iter().find(|(known, ..)| known == name).map(|m| m.2);
    assert_eq!(value("tidewater_executions_failed_total"), Some(1));
    assert_eq!(value("tidewater_executions_running"), Some(1));
    other.cancel();
    assert!(matches!(other_ends.recv_timeout(PATIENCE), Ok(ExecutionEnd::Cancelled)));
}

#[test]
fn a_panic_fails_the_execution_and_spares_the_worker() {
    let engine = engine(1, 4);
    let living = Arc::default();
    let (dag, _) = endless(Act::Panic, &living);
    match run(&engine, dag).1.recv_timeout(PATIENCE).unwrap() {
        ExecutionEnd::Failed(error) => {
            let text = error.to_string();
            assert_eq!(text, "internal error: vertex \"probe\" panicked: this one breaks");
        }
        end => panic!("{end:?}"),
    }
    let (dag, collected) = endless(Act::Finish, &living);
    completed(&run(&engine, dag).1);
    assert_eq!(collected.len(), 3 * BATCH);
}

#[test]
fn a_panic_while_saving_fails_the_suspend() {
    let engine = engine(2, 4);
    let (dag, _) = endless(Act::PanicAtSave, &Arc::default());
    // Its probe stops taking rows, so let it get its three batches and see the barrier through.
    let mut dag = dag;
    dag.vertices[0].supplier = counting_source(30, 10);
    dag.vertices[0].parallelism = Parallelism::Exactly(1);
    let endless_source = dag.vertex("more", Parallelism::Exactly(1), counting_source(i64::MAX, 10));
    let (sink, _more) = collector();
    let sink = dag.vertex("more-sink", Parallelism::Exactly(1), sink);
    dag.edge(endless_source, sink, 0, Routing::Unicast);
    let (execution, ends) = run(&engine, dag);
    wait_until(|| execution.vertex_stats()[2].rows_in == 30);
    execution.suspend(0, false);
    let end = ends.recv_timeout(PATIENCE).unwrap();
    assert!(
        matches!(&end, ExecutionEnd::Failed(Error::Internal(text)) if text.contains("nothing to save")),
        "{end:?}"
    );
}

#[test]
fn a_dag_that_cannot_start_is_refused_and_freed() {
    let engine = engine(2, 4);
    let living = Arc::default();
    let (dag, _) = endless(Act::FailAtInit, &living);
    let (request, ends) = request(dag);
    assert!(matches!(engine.run(request), Err(Error::Connection(_))));
    assert_eq!(living.load(Ordering::SeqCst), 0);
    assert!(ends.try_recv().is_err(), "its end is not told");
}

#[test]
fn broken_dags_are_refused() {
    let engine = engine(2, 4);
    let living = Arc::default();
    let refused = |change: &dyn Fn(&mut Dag)| {
        let (mut dag, _) = endless(Act::Pass, &living);
        change(&mut dag);
        engine.run(request(dag).0).err().expect("it is refused").to_string()
    };
    let cycle = refused(&|dag| {
        dag.edge(crate::dag::VertexId(2), crate::dag::VertexId(1), 1, Routing::ToOne)
    });
    assert!(cycle.contains("cycle"), "{cycle}");
    let gap = refused(&|dag| dag.edges[1].target_ordinal = 1);
    assert!(gap.contains("inputs of \"sink\""), "{gap}");
    let lost = refused(&|dag| dag.edges[1].target = crate::dag::VertexId(9));
    assert!(lost.contains("not there"), "{lost}");
    let unequal = refused(&|dag| dag.edges[0].routing = Routing::Isolated);
    assert!(unequal.contains("isolated"), "{unequal}");
}

#[test]
fn closing_the_engine_cancels_what_runs_and_starts_nothing_more() {
    let engine = engine(2, 4);
    let (dag, _) = endless(Act::Pass, &Arc::default());
    let (_, ends) = run(&engine, dag);
    engine.close();
    assert!(
        matches!(ends.try_recv(), Ok(ExecutionEnd::Cancelled))
            || ends.recv_timeout(PATIENCE).is_ok()
    );
    let (dag, _) = endless(Act::Pass, &Arc::default());
    assert!(matches!(engine.run(request(dag).0), Err(Error::Cancelled)));
}

#[test]
fn trouble_of_a_query_is_told_while_it_lasts() {
    /// Grumbles as long as it is told to.
    struct Grumble(Arc<std::sync::atomic::AtomicBool>, Option<ProcessorContext>);
    impl Processor for Grumble {
        fn init(&mut self, context: &ProcessorContext) -> Result<()> {
            self.1 = Some(context.clone());
            Ok(())
        }
        fn idle(&mut self, _outbox: &mut Outbox) -> Result<Done> {
            if let Some(context) = &self.1 {
                let is_away = self.0.load(Ordering::SeqCst);
                (context.trouble)(is_away.then(|| JobError::new("08001", "the broker is away")));
            }
            Ok(Done::No)
        }
    }
    let is_away = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let seen = Arc::clone(&is_away);
    let source = FnSupplier::shared("grumble", bigint_schema(&[]), move |_| {
        Box::new(Grumble(Arc::clone(&seen), None))
    });
    let mut dag = Dag::default();
    dag.vertex("source", Parallelism::Exactly(1), source);
    let engine = engine(1, 4);
    let (mut request, _ends) = request(dag);
    request.job_id = 7;
    request.job_name = crate::execution::QUERY.into();
    let execution = engine.run(request).unwrap();
    let away = JobError::new("08001", "the broker is away");
    wait_until(|| engine.query_trouble(7).as_ref() == Some(&away));
    assert_eq!(engine.query_trouble(8), None);
    is_away.store(false, Ordering::SeqCst);
    wait_until(|| engine.query_trouble(7).is_none());
    execution.cancel();
}
