//! What a job publishes, commits and aborts, and who sees it when. `job_model.rs` tries the same
//! at random.

use super::*;

const BOTH_MODES: [ReadMode; 2] = [ReadMode::Provisional, ReadMode::Durable];

fn seen(grid: &Grid, table: &Table, mode: ReadMode) -> BTreeMap<i64, String> {
    scan(table, &grid.read_view().in_mode(mode), 2)
}

fn newest(table: &Table, key: i64, mode: ReadMode) -> Option<String> {
    let (_, row) = table.get_newest(&[Datum::Int(key)], &[1], mode).unwrap()?;
    match row.as_slice() {
        [Datum::Text(text)] => Some(text.clone()),
        other => panic!("{other:?}"),
    }
}

/// The values of `key` as provisional and as durable readers see it, in every way of reading.
fn both(grid: &Grid, table: &Table, key: i64) -> [Option<String>; 2] {
    BOTH_MODES.map(|mode| {
        let value = newest(table, key, mode);
        let view = grid.read_view().in_mode(mode);
        assert_eq!(get(table, key, Some(&view)), value, "{mode:?} by a view");
        assert_eq!(scan(table, &view, 1).get(&key), value.as_ref(), "{mode:?} by a scan");
        if mode == ReadMode::Durable {
            assert_eq!(get(table, key, None), value, "without a view");
            let (found, _) = table.get_many(&keys(&[key]), &[1], None).unwrap();
            assert_eq!(found.len(), usize::from(value.is_some()));
        }
        value
    })
}

fn values(both: [&str; 2]) -> [Option<String>; 2] {
    both.map(|value| (!value.is_empty()).then(|| value.to_owned()))
}

/// Publishes one upsert of one key.
fn publish(job: &JobWriters, table: &Table, after: u64, key: i64, value: &str) {
    let writer = job.begin(after);
    table.write_batch(&writer, WriteMode::Upsert, &batch(&[(key, value)])).unwrap();
    job.publish(writer).unwrap();
}

fn publish_delete(job: &JobWriters, table: &Table, after: u64, key: i64) {
    let writer = job.begin(after);
    let view = writer.read_view();
    let summary = table.modify_batch(&writer, &view, &keys(&[key]), None).unwrap();
    assert_eq!(summary.deleted, 1);
    job.publish(writer).unwrap();
}

#[test]
fn what_a_job_publishes_is_provisional_until_a_snapshot_covers_it() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = table(&grid);
        put(&table, WriteMode::Insert, 1, "old").unwrap();
        let job = grid.job_writers("j", RUN);
        let before = grid.read_view();
        let writer = job.begin(0);
        table.write_batch(&writer, WriteMode::Upsert, &batch(&[(1, "a"), (2, "b")])).unwrap();
        assert_eq!(both(&grid, &table, 1), values(["old", "old"]), "not published");
        job.publish(writer).unwrap();
        assert_eq!(both(&grid, &table, 1), values(["a", "old"]));
        assert_eq!(both(&grid, &table, 2), values(["b", ""]));
        assert_eq!(get(&table, 1, Some(&before)).as_deref(), Some("old"), "a view keeps");
        let stats = table.stats();
        assert_eq!((stats.rows, stats.rows_provisional), (1, 2));
        let published = grid.read_view().in_mode(ReadMode::Durable);
        publish(&job, &table, 1, 1, "c");
        job.commit(1).unwrap();
        assert_eq!(both(&grid, &table, 1), values(["c", "a"]), "the second waits for snapshot 2");
        assert_eq!(both(&grid, &table, 2), values(["b", "b"]));
        assert_eq!(get(&table, 1, Some(&published)).as_deref(), Some("old"), "a view keeps");
        job.commit(1).unwrap();
        job.commit(0).unwrap();
        assert_eq!(both(&grid, &table, 1), values(["c", "a"]), "once is enough");
        drop((before, published));
        job.commit(2).unwrap();
        assert_eq!(both(&grid, &table, 1), values(["c", "c"]));
        let stats = table.stats();
        assert_eq!((stats.rows, stats.rows_provisional), (2, 2));
        // What the views needed when snapshot 1 was committed.
        grid.maintain().unwrap();
        assert_eq!(grid.unsettled_count(), 0, "settled rows carry nothing");
    }
}

#[test]
fn an_aborted_execution_leaves_the_rows_of_its_last_snapshot() {
    for owners in BOTH_WAYS {
        for committed in 0..=4 {
            for is_dropped in [false, true] {
                let grid = grid_of(3, owners);
                let table = table(&grid);
                put(&table, WriteMode::Insert, 1, "old").unwrap();
                put(&table, WriteMode::Insert, 2, "old").unwrap();
                let job = grid.job_writers("j", RUN);
                publish(&job, &table, 0, 1, "w0");
                publish_delete(&job, &table, 0, 2);
                publish(&job, &table, 1, 1, "w1");
                publish(&job, &table, 1, 2, "again");
                publish_delete(&job, &table, 2, 1);
                publish(&job, &table, 2, 3, "new");
                publish(&job, &table, 3, 1, "w3");
                publish_delete(&job, &table, 3, 3);
                if committed > 0 {
                    job.commit(committed).unwrap();
                }
                let open = job.begin(3);
                let rows = batch(&[(1, "open"), (2, "open"), (3, "open")]);
                table.write_batch(&open, WriteMode::Upsert, &rows).unwrap();
                if is_dropped {
                    drop(job);
                } else {
                    job.abort();
                }
                let expected = [
                    ["old", "old", ""],
                    ["w0", "", ""],
                    ["w1", "again", ""],
                    ["", "again", "new"],
                    ["w3", "again", ""],
                ][committed as usize];
                for (key, value) in (1..).zip(expected) {
                    let seen = both(&grid, &table, key);
                    assert_eq!(seen, values([value, value]), "key {key} at {committed}");
                }
                assert_eq!(table.stats().rows, seen(&grid, &table, ReadMode::Durable).len() as u64);
                assert_eq!(grid.unsettled_count(), 0);
                let error = table.write_batch(&open, WriteMode::Upsert, &rows).unwrap_err();
                assert!(matches!(error, Error::WrongState(_)), "{error:?}");
                assert_eq!(put(&table, WriteMode::Upsert, 1, "free").unwrap(), 1);
            }
        }
    }
}

#[test]
fn a_writer_that_is_dropped_leaves_what_was_published_before() {
    let grid = grid(1);
    let table = table(&grid);
    let job = grid.job_writers("j", RUN);
    publish(&job, &table, 0, 1, "a");
    let writer = job.begin(0);
    table.write_batch(&writer, WriteMode::Upsert, &batch(&[(1, "b"), (2, "b")])).unwrap();
    assert!(matches!(writer.commit(), Err(Error::WrongState(_))), "only a snapshot commits it");
    drop(writer);
    assert_eq!(both(&grid, &table, 1), values(["a", ""]));
    assert_eq!(both(&grid, &table, 2), values(["", ""]));
    job.commit(1).unwrap();
    assert_eq!(both(&grid, &table, 1), values(["a", "a"]));
}

#[test]
fn a_job_meets_the_rows_that_it_wrote_before() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = table(&grid);
        put(&table, WriteMode::Insert, 1, "old").unwrap();
        let job = grid.job_writers("j", RUN);
        publish(&job, &table, 0, 2, "b");
        publish_delete(&job, &table, 0, 1);
        let writer = job.begin(1);
        let again = table.write_batch(&writer, WriteMode::Insert, &batch(&[(2, "c")]));
        assert!(matches!(again, Err(Error::DuplicateKey { .. })));
        drop(writer);
        let writer = job.begin(1);
        let view = writer.read_view();
        let (found, rows) = table.get_many(&keys(&[1, 2]), &[1], Some(&view)).unwrap();
        assert_eq!((found, rows.column(0).as_string::<i32>().value(0)), (vec![1], "b"));
        let summary = table.write_batch(&writer, WriteMode::Insert, &batch(&[(1, "c")])).unwrap();
        assert_eq!(summary.inserted, 1);
        let rows = batch(&[(2, "d")]);
        let summary = table.modify_batch(&writer, &view, &keys(&[2]), Some(&rows)).unwrap();
        assert_eq!(summary.updated, 1);
        job.publish(writer).unwrap();
        job.commit(2).unwrap();
        assert_eq!(both(&grid, &table, 1), values(["c", "c"]));
        assert_eq!(both(&grid, &table, 2), values(["d", "d"]));
    }
}

#[test]
fn a_job_waits_for_its_own_writers_that_are_pending_or_committed_later() {
    let grid = grid(1);
    let table = table(&grid);
    let job = grid.job_writers("j", RUN);
    let upsert = |writer: &Writer| {
        let write = || table.write_batch(writer, WriteMode::Upsert, &batch(&[(1, "b")]));
        without_waiting(write).map(drop)
    };
    let pending = job.begin(0);
    upsert(&pending).unwrap();
    assert!(matches!(upsert(&job.begin(0)), Err(Error::Conflict)), "it may be dropped alone");
    job.publish(pending).unwrap();
    upsert(&job.begin(0)).unwrap();
    publish(&job, &table, 1, 1, "c");
    assert!(matches!(upsert(&job.begin(0)), Err(Error::Conflict)), "it is committed first");
    upsert(&job.begin(1)).unwrap();
    let waits = job.begin(1);
    std::thread::scope(|scope| {
        let pending = job.begin(1);
        upsert(&pending).unwrap();
        let waiting = scope
            .spawn(|| table.write_batch(&waits, WriteMode::Upsert, &batch(&[(1, "d")])).map(drop));
        job.publish(pending).unwrap();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn a_key_of_a_job_is_waited_for_by_everybody_else() {
    let grid = grid(1);
    let table = table(&grid);
    put(&table, WriteMode::Insert, 1, "old").unwrap();
    let (job, other) = (grid.job_writers("j", RUN), grid.job_writers("other", RUN));
    publish(&job, &table, 0, 1, "a");
    let at_once = without_waiting(|| put(&table, WriteMode::Upsert, 1, "b"));
    assert!(matches!(at_once, Err(Error::Conflict)));
    let writer = other.begin(7);
    let upsert = || table.write_batch(&writer, WriteMode::Upsert, &batch(&[(1, "b")]));
    assert!(matches!(without_waiting(upsert), Err(Error::Conflict)), "another job");
    assert!(matches!(without_waiting(|| delete(&table, 1)), Err(Error::Conflict)));
    assert!(matches!(without_waiting(|| table.truncate()), Err(Error::Conflict)));
    let statement = grid.begin();
    let view = statement.read_view();
    let modify = || table.modify_batch(&statement, &view, &keys(&[1]), None);
    assert!(matches!(without_waiting(modify), Err(Error::Conflict)), "though it reads the old row");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| put(&table, WriteMode::Upsert, 1, "b"));
        job.commit(1).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), 1);
    });
    assert_eq!(both(&grid, &table, 1), values(["b", "b"]));
    publish(&job, &table, 1, 1, "c");
    assert!(matches!(put(&table, WriteMode::Upsert, 1, "d"), Err(Error::Conflict)), "in the end");
    job.abort();
    assert_eq!(both(&grid, &table, 1), values(["b", "b"]));
}

#[test]
fn what_comes_after_its_snapshot_or_an_abort_is_refused() {
    let grid = grid(1);
    let table = table(&grid);
    let job = grid.job_writers("orders", RUN);
    let late = job.begin(0);
    table.write_batch(&late, WriteMode::Upsert, &batch(&[(1, "a")])).unwrap();
    job.commit(1).unwrap();
    let error = job.publish(late).unwrap_err().to_string();
    assert_eq!(
        error,
        "job \"orders\": a snapshot was committed before all it covers was published"
    );
    assert_eq!(both(&grid, &table, 1), values(["", ""]));
    let stranger = grid.job_writers("other", RUN).begin(1);
    assert!(matches!(job.publish(stranger), Err(Error::WrongState(_))));
    let open = job.begin(1);
    job.abort();
    job.abort();
    let error = job.publish(open).unwrap_err().to_string();
    assert_eq!(error, "job \"orders\": its writers were aborted");
    assert!(matches!(job.commit(9), Err(Error::WrongState(_))));
    let writer = job.begin(1);
    let written = table.write_batch(&writer, WriteMode::Upsert, &batch(&[(1, "a")]));
    assert!(matches!(written, Err(Error::WrongState(_))));
    assert_eq!(table.stats(), TableStats::default(), "no memory either");
}

#[test]
fn a_dropped_table_stops_no_job() {
    let grid = grid(1);
    let table = table(&grid);
    let job = grid.job_writers("j", RUN);
    publish(&job, &table, 0, 1, "a");
    let name = table.record().name.clone();
    let drop_of = crate::cluster::control::Command::DropRelation { kind: "table", name };
    grid.control().submit(&drop_of).unwrap();
    job.commit(1).unwrap();
    job.abort();
}

#[test]
fn rows_overwritten_between_two_snapshots_take_no_memory() {
    let grid = grid_of(1, 1);
    let table = table(&grid);
    let job = grid.job_writers("j", RUN);
    let keys: Vec<_> = (0..100).collect();
    let publish_all = |text: &str| {
        let rows: Vec<_> = keys.iter().map(|key| (*key, text)).collect();
        let writer = job.begin(0);
        table.write_batch(&writer, WriteMode::Upsert, &batch(&rows)).unwrap();
        job.publish(writer).unwrap();
    };
    for round in 0..10 {
        publish_all(&round.to_string());
    }
    let (few, few_unsettled) = (table.stats().bytes, grid.unsettled_count());
    for round in 0..300 {
        publish_all(&round.to_string());
    }
    let (many, many_unsettled) = (table.stats().bytes, grid.unsettled_count());
    assert!(many_unsettled <= 2 * few_unsettled, "{few_unsettled} → {many_unsettled} entries");
    assert!(many < 3 * few, "{few} → {many} bytes");
    let expected: BTreeMap<_, _> = keys.iter().map(|key| (*key, "299".to_owned())).collect();
    assert_eq!(seen(&grid, &table, ReadMode::Provisional), expected);
    assert!(seen(&grid, &table, ReadMode::Durable).is_empty());
    job.commit(1).unwrap();
    assert_eq!(seen(&grid, &table, ReadMode::Durable), expected);
    assert_eq!(grid.unsettled_count(), 0);
}

#[test]
fn sinks_publish_and_readers_read_while_snapshots_commit() {
    const SINKS: i64 = 3;
    const KEYS: i64 = 40;
    for owners in BOTH_WAYS {
        let grid = grid_of(5, owners);
        let table = table(&grid);
        let job = grid.job_writers("j", RUN);
        let is_over = AtomicBool::new(false);
        // Each flush writes one text to all keys of its sink: no reader sees two in one sink.
        let one_text_each = |rows: BTreeMap<i64, String>| {
            for sink in 0..SINKS {
                let own = rows.iter().filter(|(key, _)| *key % SINKS == sink);
                let texts: std::collections::BTreeSet<_> = own.map(|(_, text)| text).collect();
                assert!(texts.len() <= 1, "{texts:?}");
            }
        };
        std::thread::scope(|scope| {
            for mode in BOTH_MODES {
                let (grid, table, is_over, one_text_each) =
                    (&grid, &table, &is_over, &one_text_each);
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        one_text_each(seen(grid, table, mode));
                        newest(table, 1, mode);
                    }
                });
            }
            for snapshot in 0..8 {
                std::thread::scope(|scope| {
                    for sink in 0..SINKS {
                        let (job, table) = (&job, &table);
                        scope.spawn(move || {
                            for flush in 0..6 {
                                let text = format!("{snapshot}.{flush}");
                                let own = (0..KEYS).map(|key| key * SINKS + sink);
                                let rows: Vec<_> = own.map(|key| (key, text.as_str())).collect();
                                let writer = job.begin(snapshot);
                                let rows = batch(&rows);
                                table.write_batch(&writer, WriteMode::Upsert, &rows).unwrap();
                                job.publish(writer).unwrap();
                            }
                        });
                    }
                    if snapshot > 0 {
                        job.commit(snapshot).unwrap();
                    }
                });
                let partition = PartitionId(snapshot as u16 % 5);
                grid.move_partition(partition, snapshot as u16 % owners).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        job.abort();
        let rows = seen(&grid, &table, ReadMode::Provisional);
        assert_eq!(rows.len() as i64, SINKS * KEYS);
        assert!(rows.values().all(|text| text == "6.5"), "what snapshot 7 covers");
        grid.maintain().unwrap();
        assert_eq!(grid.unsettled_count(), 0);
    }
}

#[test]
fn an_abort_leaves_nothing_of_a_sink_that_writes_at_that_moment() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = table(&grid);
        for round in 0..20 {
            let job = grid.job_writers("j", RUN);
            let published = std::sync::atomic::AtomicU32::new(0);
            std::thread::scope(|scope| {
                for sink in 0..2 {
                    let (job, table, published) = (&job, &table, &published);
                    scope.spawn(move || {
                        let rows: Vec<_> = (0..2000).map(|key| (key * 2 + sink, "a")).collect();
                        let rows = batch(&rows);
                        let flush = || {
                            let writer = job.begin(0);
                            table.write_batch(&writer, WriteMode::Upsert, &rows)?;
                            job.publish(writer)
                        };
                        let error = loop {
                            match flush() {
                                Ok(()) => drop(published.fetch_add(1, Ordering::SeqCst)),
                                Err(error) => break error,
                            }
                        };
                        assert!(matches!(error, Error::WrongState(_)), "{error:?}");
                    });
                }
                while published.load(Ordering::SeqCst) < 1 + round % 3 {
                    std::thread::yield_now();
                }
                job.abort();
            });
            assert_eq!(grid.unsettled_count(), 0, "round {round}");
            // A partition may have been about to begin.
            grid.maintain().unwrap();
            assert_eq!(table.stats(), TableStats::default(), "round {round}");
        }
    }
}
