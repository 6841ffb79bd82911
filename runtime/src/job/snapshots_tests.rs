//! The coordinator against a control state, with news lost, repeated and out of order.

use storage::{
    cluster::control::{JobSnapshots, SnapshotCommand, SnapshotRecord},
    env::Rng,
};

use super::*;

const INTERVAL: i64 = 100;
const SUMMARY: SnapshotSummary = SnapshotSummary { chunks: 1, bytes: 2, digest: 3 };

fn started() -> SnapshotCoordinator {
    let mut coordinator = SnapshotCoordinator::new(Some(INTERVAL));
    assert_eq!(coordinator.step(Event::Started(1000)), []);
    coordinator
}

#[test]
fn a_snapshot_goes_from_begin_to_commit_and_the_next_is_due_an_interval_after_it_began() {
    let mut coordinator = started();
    assert_eq!(coordinator.due(), Some(1100));
    assert_eq!(coordinator.step(Event::Tick(1099)), []);
    assert_eq!(coordinator.step(Event::Tick(1120)), [Action::Begin]);
    assert_eq!(coordinator.due(), None, "one at a time");
    assert_eq!(coordinator.step(Event::Begun(7)), [Action::SendBarrier(7, false)]);
    assert_eq!(coordinator.step(Event::Tick(5000)), []);
    assert_eq!(coordinator.step(Event::Taken(7)), [Action::Store(7)]);
    assert_eq!(coordinator.present(), Some(7));
    let commit = Action::Commit(7, SUMMARY, 1120);
    assert_eq!(coordinator.step(Event::Stored(7, SUMMARY)), [commit]);
    assert_eq!(coordinator.step(Event::Committed(7)), [Action::Free]);
    assert_eq!((coordinator.due(), coordinator.present()), (Some(1220), None));
}

#[test]
fn without_an_interval_one_is_taken_when_it_is_to_be_exported_and_at_no_other_time() {
    let mut coordinator = SnapshotCoordinator::new(None);
    assert_eq!(coordinator.step(Event::Started(1000)), []);
    assert_eq!(coordinator.due(), None);
    assert_eq!(coordinator.step(Event::Tick(i64::MAX)), []);
    assert_eq!(coordinator.step(Event::ExportWanted(3, 5000)), [Action::Begin]);
    coordinator.step(Event::Begun(1));
    coordinator.step(Event::Taken(1));
    coordinator.step(Event::Stored(1, SUMMARY));
    let exported = [Action::Export(3, Ok(1)), Action::Free];
    assert_eq!(coordinator.step(Event::Committed(1)), exported);
    assert_eq!(coordinator.due(), None);
    assert_eq!(coordinator.step(Event::StopWanted(6000)), [Action::Begin]);
    assert_eq!(coordinator.step(Event::Begun(2)), [Action::SendBarrier(2, true)]);
}

#[test]
fn one_that_fails_is_abandoned_and_the_next_gets_another_id() {
    let mut coordinator = started();
    coordinator.step(Event::Tick(1100));
    coordinator.step(Event::Begun(1));
    let given_up = [Action::Abandon(1), Action::Free];
    assert_eq!(coordinator.step(Event::Failed(1, "no memory".into())), given_up);
    assert_eq!(coordinator.step(Event::Taken(1)), [], "old news");
    assert_eq!(coordinator.step(Event::Tick(1200)), [Action::Begin]);
}

#[test]
fn one_that_is_awaited_begins_at_once_or_behind_the_one_under_way() {
    let mut coordinator = started();
    assert_eq!(coordinator.step(Event::Awaited(1010)), [Action::Begin]);
    coordinator.step(Event::Begun(1));
    assert_eq!(coordinator.step(Event::Awaited(1011)), []);
    coordinator.step(Event::Taken(1));
    coordinator.step(Event::Stored(1, SUMMARY));
    assert_eq!(coordinator.step(Event::Committed(1)), [Action::Free, Action::Begin]);
    coordinator.step(Event::Begun(2));
    let given_up = [Action::Abandon(2), Action::Free];
    assert_eq!(coordinator.step(Event::Failed(2, "no memory".into())), given_up);
    assert_eq!(coordinator.due(), Some(1110), "it was awaited once");
}

#[test]
fn a_stop_waits_for_the_snapshot_under_way_and_ends_with_one_of_its_own() {
    let mut coordinator = started();
    coordinator.step(Event::Tick(1100));
    coordinator.step(Event::Begun(1));
    assert_eq!(coordinator.step(Event::StopWanted(1101)), []);
    coordinator.step(Event::Taken(1));
    coordinator.step(Event::Stored(1, SUMMARY));
    assert_eq!(coordinator.step(Event::Committed(1)), [Action::Free, Action::Begin]);
    assert_eq!(coordinator.step(Event::Begun(2)), [Action::SendBarrier(2, true)]);
    coordinator.step(Event::Taken(2));
    coordinator.step(Event::Stored(2, SUMMARY));
    assert_eq!(coordinator.step(Event::Committed(2)), [Action::Free, Action::Stopped(Ok(2))]);
    assert_eq!((coordinator.due(), coordinator.step(Event::StopWanted(9))), (None, vec![]));
}

#[test]
fn a_stop_whose_snapshot_fails_says_so() {
    let mut coordinator = started();
    assert_eq!(coordinator.step(Event::StopWanted(1001)), [Action::Begin]);
    coordinator.step(Event::Begun(1));
    let actions = coordinator.step(Event::Failed(1, "disk full".into()));
    let stopped = Action::Stopped(Err("disk full".to_owned()));
    assert_eq!(actions, [Action::Abandon(1), Action::Free, stopped]);
}

#[test]
fn an_export_takes_the_next_snapshot_that_begins_and_has_it_begin_at_once() {
    let mut coordinator = started();
    assert_eq!(coordinator.step(Event::ExportWanted(7, 1001)), [Action::Begin]);
    // The barrier of this one is on its way: it does not show what the second asker has seen.
    assert_eq!(coordinator.step(Event::ExportWanted(8, 1002)), []);
    coordinator.step(Event::Begun(1));
    coordinator.step(Event::Taken(1));
    coordinator.step(Event::Stored(1, SUMMARY));
    let exported = [Action::Export(7, Ok(1)), Action::Free, Action::Begin];
    assert_eq!(coordinator.step(Event::Committed(1)), exported);
    coordinator.step(Event::Begun(2));
    let why = || "disk full".to_owned();
    let failed = [Action::Abandon(2), Action::Free, Action::Export(8, Err(why()))];
    assert_eq!(coordinator.step(Event::Failed(2, why())), failed);
    assert_eq!(coordinator.due(), Some(1101), "nobody waits any more");
}

#[test]
fn an_export_may_be_of_the_last_snapshot_and_is_refused_after_it() {
    let mut coordinator = started();
    coordinator.step(Event::StopWanted(1001));
    coordinator.step(Event::Begun(1));
    assert_eq!(coordinator.step(Event::ExportWanted(7, 1002)), []);
    coordinator.step(Event::Taken(1));
    coordinator.step(Event::Stored(1, SUMMARY));
    let over = || Err("the execution is over".to_owned());
    let actions = coordinator.step(Event::Committed(1));
    assert_eq!(actions, [Action::Free, Action::Export(7, over()), Action::Stopped(Ok(1))]);
    assert_eq!(coordinator.step(Event::ExportWanted(8, 9)), [Action::Export(8, over())]);
}

/// Plays one coordinator against a control state, the news delivered late, twice, or never (then
/// the execution is torn down and a new one started), and checks what must hold at every step.
fn play(seed: u64) {
    let rng = Rng::seeded(seed);
    let below = |bound: u64| rng.next_u64() % bound;
    let mut control = JobSnapshots::default();
    let apply = |control: &mut JobSnapshots, command| {
        let before = control.clone();
        let mut next = before.clone();
        let outcome = storage_apply(&mut next, &command);
        if outcome {
            *control = next;
        }
        assert!(control.id_last >= before.id_last, "seed {seed}: ids rise");
        let newest = |control: &JobSnapshots| control.newest().map_or(0, |record| record.id);
        assert!(newest(control) >= newest(&before), "seed {seed}: the newest is never older");
        let chunks_above = control.good.iter().any(|record| record.id > control.id_last);
        assert!(!chunks_above, "seed {seed}: nothing good is above the last id");
        outcome
    };
    let mut committed: Vec<u64> = Vec::new();
    let (mut now, mut asked) = (0, 0);
    for _ in 0..below(6) + 1 {
        apply(&mut control, SnapshotCommand::StartExecution);
        let execution = control.execution_last;
        let mut coordinator = SnapshotCoordinator::new(Some(INTERVAL));
        let mut news = vec![Event::Started(now)];
        for _ in 0..200 {
            now += below(60) as i64;
            if below(3) == 0 {
                news.push(Event::Tick(now));
            }
            if below(200) == 0 {
                news.push(Event::StopWanted(now));
            }
            if below(40) == 0 {
                news.push(Event::Awaited(now));
            }
            if below(40) == 0 {
                asked += 1;
                news.push(Event::ExportWanted(asked, now));
            }
            if news.is_empty() {
                continue;
            }
            let event = news.swap_remove(below(news.len() as u64) as usize);
            if below(10) == 0 {
                news.push(event.clone());
            }
            for action in coordinator.step(event) {
                news.extend(match action {
                    Action::Begin => {
                        assert_eq!(control.ongoing, None, "seed {seed}: one at a time");
                        match apply(&mut control, SnapshotCommand::Begin { execution }) {
                            true => vec![Event::Begun(control.id_last)],
                            false => vec![Event::Refused],
                        }
                    }
                    Action::SendBarrier(id, _) => match below(8) {
                        0 => vec![Event::Failed(id, "torn".into()), Event::Taken(id)],
                        _ => vec![Event::Taken(id)],
                    },
                    Action::Store(id) => match below(8) {
                        0 => vec![Event::Failed(id, "full".into())],
                        _ => vec![Event::Stored(id, SUMMARY)],
                    },
                    Action::Commit(id, summary, started_at) => {
                        let SnapshotSummary { chunks, bytes, digest } = summary;
                        let committed_at = now;
                        let record = SnapshotRecord {
                            id,
                            execution,
                            started_at,
                            committed_at,
                            chunks,
                            bytes,
                            digest,
                            commits: true,
                        };
                        let is_committed = apply(&mut control, SnapshotCommand::Commit(record));
                        assert!(is_committed, "seed {seed}: nobody else ends snapshot {id}");
                        committed.push(id);
                        vec![Event::Committed(id)]
                    }
                    Action::Abandon(id) => {
                        apply(&mut control, SnapshotCommand::Abandon { execution, id });
                        vec![]
                    }
                    Action::Free => vec![],
                    Action::Export(_, snapshot) => {
                        if let Ok(id) = snapshot {
                            assert_eq!(Some(&id), committed.last(), "seed {seed}: it is good");
                        }
                        vec![]
                    }
                    Action::Stopped(outcome) => {
                        if let Ok(id) = outcome {
                            assert_eq!(Some(&id), committed.last(), "seed {seed}");
                        }
                        vec![]
                    }
                });
            }
            if below(100) == 0 {
                break;
            }
        }
    }
    assert!(committed.is_sorted_by(|a, b| a < b), "seed {seed}: each id is committed once");
}

/// Applies a command as the control state does; whether it was taken.
fn storage_apply(snapshots: &mut JobSnapshots, command: &SnapshotCommand) -> bool {
    snapshots.apply(command).is_ok()
}

#[test]
fn whatever_is_lost_late_or_repeated_ids_rise_and_one_snapshot_is_under_way() {
    for seed in 0..500 {
        play(seed);
    }
}
