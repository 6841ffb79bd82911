//! Snapshots of a running execution: each is an exact cut, also of instances that have ended.

use super::{
    suspend::{EXPECTED, sums, totals},
    *,
};
use crate::{Result, item::SnapshotId, job::Guarantee};

type Taken = mpsc::Receiver<(SnapshotId, Result<SavedStates>)>;

fn snapshots(guarantee: Guarantee) -> (Option<Snapshots>, Taken) {
    let (sender, taken) = mpsc::channel();
    let taken_by = Arc::new(move |id, states| drop(sender.send((id, states))));
    let awaited = Arc::new(|| ());
    (Some(Snapshots { guarantee, forsaken: 0, taken: taken_by, awaited, writers: None }), taken)
}

/// Runs the sums from a state with a snapshot taken every so many rows, to the end; what was taken
/// and the totals.
fn run_with_snapshots(
    engine: &Engine,
    restore: VertexStates,
    guarantee: Guarantee,
) -> (Vec<VertexStates>, (i64, i64)) {
    let (dag, collected) = sums(&Arc::default());
    let (mut request, ends) = request(dag);
    request.restore = restore;
    let (snapshots, taken) = snapshots(guarantee);
    request.snapshots = snapshots;
    let execution = engine.run(request).unwrap();
    let mut states = Vec::new();
    let mut id = 0;
    loop {
        id += 1;
        execution.snapshot(id, false);
        let mut told = None;
        let mut end = None;
        wait_until(|| {
            // No answer comes when the execution ends before the barrier.
            end = ends.try_recv().ok();
            told = taken.try_recv().ok();
            told.is_some() || end.is_some()
        });
        if let Some((told, state)) = told {
            assert_eq!(told, id);
            states.push(chunks_of(state.unwrap(), 271).unwrap());
        }
        match end {
            None => continue,
            Some(ExecutionEnd::Completed) => return (states, totals(&collected)),
            Some(end) => panic!("{end:?}"),
        }
    }
}

#[test]
fn every_snapshot_of_a_running_dag_is_an_exact_cut() {
    for (workers, capacity) in [(1, 1), (3, 4)] {
        let engine = engine(workers, capacity);
        let (states, result) = run_with_snapshots(&engine, Vec::new(), Guarantee::ExactlyOnce);
        assert_eq!(result, EXPECTED, "taking snapshots changes nothing");
        assert!(states.len() >= 3, "only {} were taken", states.len());
        let picked = [0, states.len() / 2, states.len() - 1];
        for state in picked.map(|position| states[position].clone()) {
            let (_, result) = run_with_snapshots(&engine, state, Guarantee::ExactlyOnce);
            assert_eq!(result, EXPECTED);
        }
    }
}

#[test]
fn unaligned_nothing_is_lost_but_rows_may_repeat() {
    let engine = engine(2, 1);
    let (states, result) = run_with_snapshots(&engine, Vec::new(), Guarantee::AtLeastOnce);
    assert_eq!(result, EXPECTED);
    let state = states[states.len() / 2].clone();
    let (_, (count, sum)) = run_with_snapshots(&engine, state, Guarantee::AtLeastOnce);
    assert!(count >= EXPECTED.0 && sum >= EXPECTED.1, "{count} rows, sum {sum}");
}

#[test]
fn a_snapshot_under_way_when_the_execution_is_cancelled_is_not_told() {
    let engine = engine(2, 1);
    let (dag, _) = sums(&Arc::default());
    let (mut request, ends) = request(dag);
    let (snapshots, taken) = snapshots(Guarantee::ExactlyOnce);
    request.snapshots = snapshots;
    let execution = engine.run(request).unwrap();
    wait_until(|| execution.vertex_stats()[3].rows_in > 100);
    execution.cancel();
    execution.snapshot(1, false);
    let end = ends.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(end, ExecutionEnd::Cancelled), "{end:?}");
    assert!(taken.try_recv().is_err());
}
