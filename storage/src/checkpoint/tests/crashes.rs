//! A crash at any step, a full disk or a failed sync leaves one of two checkpoints, whole.

use super::*;

/// A disk with a checkpoint of `before`, if any.
fn disk_with(seed: u64, before: Option<&Site>) -> (Arc<SimDisk>, CheckpointStore) {
    let (disk, store) = sim_disk(seed);
    if let Some(before) = before {
        before.write(&store).unwrap();
    }
    (disk, store)
}

/// What is loaded.
fn loaded(disk: &Arc<SimDisk>) -> Option<BTreeMap<String, Row>> {
    let site = Site::new();
    let loaded = site.load(&store_on(disk, CLUSTER)).unwrap();
    loaded.map(|_| site.rows())
}

#[test]
fn a_crash_at_any_step_leaves_the_older_or_the_newer_one() {
    let (older, newer) = (Site::with_rows(150, 40, 1), Site::with_rows(180, 40, 2));
    let mut points = 0;
    for before in [None, Some(&older)] {
        let before_rows = before.map(Site::rows);
        let (disk, store) = disk_with(0, before);
        let start = disk.steps();
        newer.write(&store).unwrap();
        let steps = disk.steps() - start;
        for (step, seed) in (0..=steps).flat_map(|step| (0..4).map(move |seed| (step, seed))) {
            let (disk, store) = disk_with(seed, before);
            disk.stop_at(start + step);
            let written = newer.write(&store);
            disk.crash();
            let rows = loaded(&disk);
            let is_newer = rows.as_ref() == Some(&newer.rows());
            assert!(is_newer || rows == before_rows, "step {step}, seed {seed}");
            // The files of the older one may be left, but what was told of is there.
            assert!(written.is_err() || is_newer, "step {step}, seed {seed}");
            // Whatever is left goes, and the next one is as good as any.
            older.write(&store).unwrap();
            disk.crash();
            assert_eq!(loaded(&disk), Some(older.rows()));
            let manifest =
                Manifest::read(&*disk, &folder(&disk), (CLUSTER, older.table.record().id));
            assert_eq!(files(&disk).len(), manifest.unwrap().unwrap().files.len());
            points += 1;
            if step == steps {
                assert!(written.is_ok());
            }
        }
    }
    assert!(points > 200, "{points} points");
}

#[test]
fn a_crash_while_one_is_removed_leaves_nothing_that_is_in_the_way() {
    let site = Site::with_rows(100, 20, 1);
    let id = site.table.record().id;
    for step in 0.. {
        let (disk, store) = disk_with(step, Some(&site));
        disk.stop_at(disk.steps() + step);
        let removed = store.remove(id);
        disk.crash();
        assert!(removed.is_err() || store.tables().unwrap().is_empty(), "step {step}");
        store.remove(id).unwrap();
        disk.crash();
        assert_eq!(store.tables().unwrap(), []);
        if removed.is_ok() {
            assert!(step > 3);
            break;
        }
    }
}

#[test]
fn a_full_disk_keeps_the_older_one_and_has_its_room_back() {
    let (older, newer) = (Site::with_rows(150, 40, 1), Site::with_rows(300, 40, 2));
    let (disk, store) = disk_with(1, Some(&older));
    let size = |disk: &SimDisk| {
        let entries = disk.list(&folder(disk)).unwrap();
        entries.iter().map(|entry| entry.size).sum::<u64>()
    };
    let before = size(&disk);
    let mut refused = 0;
    for room in (0..).step_by(97) {
        disk.limit(Some(before + room));
        match newer.write(&store) {
            Err(Error::DiskFull(_)) => {
                assert_eq!(size(&disk), before);
                assert_eq!(files(&disk).len(), 2);
                refused += 1;
            }
            written => {
                written.unwrap();
                break;
            }
        }
        if refused % 20 == 0 {
            assert_eq!(loaded(&disk), Some(older.rows()));
        }
    }
    assert!(refused > 100, "{refused}");
    disk.crash();
    assert_eq!(loaded(&disk), Some(newer.rows()));
}

#[test]
fn a_failed_sync_is_told_and_one_of_both_is_there_after_a_crash() {
    let (older, newer) = (Site::with_rows(150, 40, 1), Site::with_rows(180, 40, 2));
    for seed in 0..20 {
        let (disk, store) = disk_with(seed, Some(&older));
        disk.fail_syncs(true);
        assert!(matches!(newer.write(&store), Err(Error::Disk(_))));
        assert_eq!(loaded(&disk), Some(older.rows()));
        disk.crash();
        assert_eq!(loaded(&disk), Some(older.rows()));
    }
}
