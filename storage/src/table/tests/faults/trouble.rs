//! A disk that is full, fails or hangs, under a grid that serves.

use std::{sync::mpsc, time::Duration};

use super::*;

/// How long something may take that must not wait for the disk.
const PATIENCE: Duration = Duration::from_secs(60);

/// A grid with some rows, all of them durable.
fn serving(seed: u64) -> (Arc<SimDisk>, Arc<Grid>) {
    let disk = SimDisk::new(seed, ["/"]);
    let grid = open(&disk).unwrap();
    found(&grid);
    fill(&grid, 0..20, "before").unwrap();
    snapshot(&grid, &[1, 2, 3]).unwrap();
    sync(&grid).unwrap();
    (disk, grid)
}

/// Bytes of all files.
fn size(disk: &SimDisk) -> u64 {
    disk.files().iter().map(|path| disk.open(path).unwrap().size().unwrap()).sum()
}

/// A write that is answered.
fn acknowledged(grid: &Grid, table: &Table, key: i64) -> crate::Result<()> {
    put(table, WriteMode::Upsert, key, &"y".repeat(500))?;
    sync(grid)
}

/// Another execution of the job, as after a snapshot that failed.
fn begin_anew(grid: &Grid) {
    let id = grid.control().state().job("j").unwrap().id;
    grid.control().submit(&Command::Snapshot(id, SnapshotCommand::StartExecution)).unwrap();
}

fn code<T>(result: crate::Result<T>) -> &'static str {
    result.err().map_or("00000", |error| error.sqlstate())
}

fn keys_of(table: &Table, grid: &Grid) -> Vec<i64> {
    let view = grid.read_view().in_mode(ReadMode::Durable);
    rows(table, &view).into_iter().map(|(key, _)| key).collect()
}

#[test]
fn a_full_disk_refuses_writes_reads_go_on_and_nothing_acknowledged_is_lost() {
    for has_crash in [false, true] {
        let (disk, grid) = serving(7);
        let tables = tables(&grid);
        disk.limit(Some(size(&disk)));
        let mut key = 1000;
        let refused = loop {
            match acknowledged(&grid, &tables[0], key) {
                Ok(()) => key += 1,
                Err(error) => break error.sqlstate(),
            }
            assert!(key < 2000, "there is no room for so many");
        };
        assert_eq!(refused, "53100");
        assert_eq!(code(acknowledged(&grid, &tables[2], 1)), "53100");
        assert_eq!(code(grid.checkpoint_all()), "53100");
        assert_eq!(code(snapshot(&grid, &[4, 5])), "53100");
        let views = (0..200).map(|number| code(grid.control().submit(&view("v", 1000 + number))));
        let views: Vec<_> = views.collect();
        assert_eq!(views.last(), Some(&"53100"), "{views:?}");
        // Who needs no room goes on.
        put(&tables[4], WriteMode::Upsert, 7, "in memory").unwrap();
        assert_eq!(get(&tables[4], 7, None).as_deref(), Some("in memory"));
        let before = keys_of(&tables[0], &grid);
        assert!((1000..key).all(|key| before.contains(&key)));
        assert_eq!(content(&grid).snapshots.len(), 1);
        assert_eq!(grid.persistence().unwrap().log().failure(), None);
        disk.limit(None);
        if has_crash {
            drop((tables, grid));
            disk.crash();
        } else {
            acknowledged(&grid, &tables[0], key).unwrap();
            acknowledged(&grid, &tables[2], key).unwrap();
            grid.control().submit(&view("room", 100)).unwrap();
            begin_anew(&grid);
            snapshot(&grid, &[6]).unwrap();
            grid.checkpoint_all().unwrap();
            assert_eq!(content(&grid).snapshots.last().unwrap().as_ref().unwrap().len(), 7);
            let whole = content(&grid);
            drop((tables, grid));
            disk.crash();
            let mut found = content(&open(&disk).unwrap());
            found.tables[4].clone_from(&whole.tables[4]);
            assert!(found == whole, "after there was room again");
            continue;
        }
        let grid = open(&disk).unwrap();
        let found = keys_of(&super::tables(&grid)[0], &grid);
        assert!((0..20).chain(1000..key).all(|key| found.contains(&key)), "{found:?}");
        assert!(found.iter().all(|found| *found <= key), "nothing else came: {found:?}");
        assert!(content(&grid).snapshots[0].is_ok());
    }
}

#[test]
fn after_a_sync_of_the_log_failed_nothing_is_acknowledged_and_all_before_is_there() {
    for seed in 0..10 {
        let (disk, grid) = serving(seed);
        let keyed = Arc::clone(&tables(&grid)[0]);
        acknowledged(&grid, &keyed, 1000).unwrap();
        disk.fail_syncs(true);
        assert_eq!(code(acknowledged(&grid, &keyed, 1001)), "58030");
        disk.fail_syncs(false);
        assert_eq!(code(acknowledged(&grid, &keyed, 1002)), "58030", "it is not tried again");
        let failure = grid.persistence().unwrap().log().failure().unwrap().to_owned();
        assert!(failure.contains("/data/log/"), "{failure}");
        // No command may speak of rows that are not there; who reads is answered.
        assert_eq!(code(grid.control().submit(&view("v", 10))), "58030");
        assert_eq!(code(snapshot(&grid, &[4])), "58030");
        assert_eq!(code(grid.checkpoint_all()), "58030");
        assert!(keys_of(&keyed, &grid).contains(&1000));
        drop((keyed, grid));
        disk.crash();
        let grid = open(&disk).unwrap();
        let keyed = Arc::clone(&tables(&grid)[0]);
        let found = keys_of(&keyed, &grid);
        assert!((0..20).chain([1000]).all(|key| found.contains(&key)), "{found:?}");
        assert!(!found.contains(&1002), "what came after the error is not there");
        acknowledged(&grid, &keyed, 1003).unwrap();
    }
}

#[test]
fn a_sync_that_fails_in_a_checkpoint_a_snapshot_or_the_control_log_loses_nothing() {
    type Work = fn(&Grid) -> crate::Result<()>;
    let works: [(&str, Work); 3] = [
        ("a checkpoint", |grid| grid.checkpoint_all()),
        ("a snapshot", |grid| snapshot(grid, &[4])),
        ("a command", |grid| grid.control().submit(&view("v", 10)).map(drop)),
    ];
    for (name, work) in works {
        for seed in 0..6 {
            let (disk, grid) = serving(seed);
            let keyed = Arc::clone(&tables(&grid)[0]);
            acknowledged(&grid, &keyed, 1000).unwrap();
            let mut whole = content(&grid);
            disk.fail_syncs(true);
            assert_eq!(code(work(&grid)), "58030", "{name}");
            disk.fail_syncs(false);
            let is_after = code(acknowledged(&grid, &keyed, 1001)) == "00000";
            assert!(is_after || grid.persistence().unwrap().log().failure().is_some(), "{name}");
            drop((keyed, grid));
            disk.crash();
            let grid = open(&disk).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut found = content(&grid);
            let keys: Vec<i64> = found.tables[0].iter().map(|(key, _)| *key).collect();
            assert!(
                keys.contains(&1000) && (!is_after || keys.contains(&1001)),
                "{name}: {keys:?}"
            );
            assert_eq!(found.tables[1..4], whole.tables[1..4], "{name}");
            // One that was under way may be there.
            found.snapshots.truncate(1);
            whole.snapshots.truncate(1);
            assert!(found.snapshots == whole.snapshots, "{name}");
            begin_anew(&grid);
            snapshot(&grid, &[5]).unwrap();
            grid.checkpoint_all().unwrap();
        }
    }
}

#[test]
fn a_disk_that_hangs_holds_up_neither_reads_nor_tables_in_memory() {
    let (disk, grid) = serving(1);
    let tables = tables(&grid);
    let stall = disk.stall_syncs();
    let (done, is_done) = mpsc::channel();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| acknowledged(&grid, &tables[0], 1000));
        while stall.waiting() == 0 && !writer.is_finished() {
            std::thread::yield_now();
        }
        scope.spawn(|| {
            for key in 0..200 {
                put(&tables[4], WriteMode::Upsert, key, "in memory").unwrap();
                assert!(get(&tables[4], key, None).is_some());
            }
            assert_eq!(keys_of(&tables[3], &grid).len(), 20);
            assert!(get(&tables[0], 3, None).is_some() && get(&tables[0], 1000, None).is_some());
            // Who is told later what became of it writes without waiting, too.
            put(&tables[2], WriteMode::Upsert, 1001, "relaxed").unwrap();
            done.send(()).unwrap();
        });
        let went_on = is_done.recv_timeout(PATIENCE);
        let is_waiting = stall.waiting() > 0 && !writer.is_finished();
        // Whatever is found: nobody waits for ever.
        stall.end();
        assert_eq!((went_on, is_waiting), (Ok(()), true));
        writer.join().unwrap().unwrap();
    });
    drop((tables, grid));
    disk.crash();
    let grid = open(&disk).unwrap();
    assert!(keys_of(&super::tables(&grid)[0], &grid).contains(&1000));
}

#[test]
fn a_file_that_cannot_be_read_at_the_start_is_named() {
    let (image, whole) = image();
    let mut refused = 0;
    for path in image.files().into_iter().filter(|path| !path.ends_with("LOCK")) {
        let disk = image.copy(0);
        disk.fail_reads(Some(&path));
        let error = open(&disk).expect_err("it cannot be read");
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = error.to_string();
        assert!(text.contains(name) && text.ends_with("Input/output error"), "{path:?}: {text}");
        assert_eq!(error.sqlstate(), "58030");
        // It is as it was once it can be read.
        disk.fail_reads(None);
        assert!(content(&open(&disk).unwrap()) == *whole);
        refused += 1;
    }
    assert!(refused > 12, "{refused}");
}
