//! Files that are cut, missing, or older than the others.

use super::*;

/// Which step over the sizes a file is cut to: each size is tried under one log, checkpoint and pack
/// alone.
const STEP: usize = 23;

/// The newest of the files in a folder whose names are numbers.
fn newest(disk: &SimDisk, folder: &str) -> PathBuf {
    let folder = Path::new(ROOT).join(folder);
    let mut files = disk.files().into_iter();
    let is_segment = |path: &PathBuf| path.starts_with(&folder) && !path.ends_with("cut");
    files.rfind(|path| is_segment(path) && !path.ends_with("state")).unwrap()
}

#[test]
fn every_missing_file_is_told_or_was_needed_by_nobody() {
    let (image, whole) = image();
    let mut harmless = Vec::new();
    let end = newest(image, "log");
    for path in image.files() {
        let disk = image.copy(0);
        disk.remove(&path).unwrap();
        // The end of the log as a whole: nothing says that there was more, and nothing else is lost.
        if path == end {
            let found = content(&open(&disk).unwrap());
            let mut tables = found.tables.iter().zip(&whole.tables);
            assert!(tables.all(|(found, whole)| found.iter().all(|row| whole.contains(row))));
            assert!(found.control == whole.control && found.snapshots == whole.snapshots);
            continue;
        }
        // A segment in between is told of where its records should begin.
        let before = image.files().into_iter().take_while(|other| *other < path).last();
        let changed = [&*path, before.as_deref().unwrap_or(&path)];
        if meet(&disk, whole, &changed, &format!("without {path:?}")) == Met::Harmless {
            harmless.push(path);
        }
    }
    // Who holds the directory is written anew; the log of the control state has still all that was
    // saved of it; and what the data log was cut for is all there.
    let expected = ["LOCK", "control/state", "log/cut"].map(|name| Path::new(ROOT).join(name));
    assert_eq!(harmless, expected);
}

#[test]
fn every_cut_of_every_file_is_told_or_takes_what_nobody_was_told_of() {
    let (image, whole) = image();
    let mut met = BTreeMap::<(bool, Met), usize>::new();
    for path in image.files() {
        let size = image.open(&path).unwrap().size().unwrap();
        let is_last = ["log", "control"].iter().any(|folder| path == newest(image, folder));
        for size in (size.saturating_sub(4096)..size).rev().step_by(STEP) {
            let disk = image.copy(0);
            disk.truncate(&path, size).unwrap();
            let name = format!("{path:?} cut to {size} bytes");
            *met.entry((is_last, meet(&disk, whole, &[&path], &name))).or_default() += 1;
        }
    }
    // The zeros at the end of a segment that is written on, and who holds the directory.
    assert!(met[&(true, Met::Harmless)] > 100, "{met:?}");
    assert!(met[&(false, Met::Refused)] > 100 && met[&(false, Met::Named)] > 10, "{met:?}");
}

#[test]
fn a_log_that_is_cut_at_any_byte_of_its_last_four_kilobytes_tells_all_before_that() {
    let disk = SimDisk::new(3, ["/"]);
    let grid = open(&disk).unwrap();
    found(&grid);
    let keyed = Arc::clone(&tables(&grid)[0]);
    let mut states = vec![Vec::new()];
    for key in 0..60 {
        put(&keyed, WriteMode::Upsert, key % 50, &format!("{key} of sixty")).unwrap();
        sync(&grid).unwrap();
        states.push(rows(&keyed, &grid.read_view()));
    }
    drop((keyed, grid));
    let path = newest(&disk, "log");
    let used = bytes(&disk, &path).iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    let (mut last, mut seen) = (states.len(), BTreeMap::new());
    for size in (used.saturating_sub(4096).max(64)..=used).rev() {
        let disk = disk.copy(size);
        disk.truncate(&path, size).unwrap();
        let grid = open(&disk).unwrap_or_else(|error| panic!("cut to {size}: {error}"));
        let found = rows(&tables(&grid)[0], &grid.read_view());
        let state = states.iter().position(|state| *state == found);
        let state = state.unwrap_or_else(|| panic!("cut to {size}: never so: {found:?}"));
        assert!(state <= last, "cut to {size}: more than with more bytes");
        last = state;
        *seen.entry(state).or_insert(0) += 1;
    }
    assert!(seen.len() > 30, "{seen:?}");
}

#[test]
fn a_table_whose_folder_is_gone_or_older_is_told() {
    let (image, whole) = image();
    // The same directory before its last checkpoints: what a backup of one folder has.
    let disk = image.copy(0);
    let grid = open(&disk).unwrap();
    let ids: Vec<u64> = tables(&grid)[..4].iter().map(|table| table.record().id.0).collect();
    drop(grid);
    let later = image.copy(0);
    let grid = open(&later).unwrap();
    for number in 0..3 {
        fill(&grid, 5000 + number * 100..5100 + number * 100, &"y".repeat(120)).unwrap();
        grid.checkpoint_all().unwrap();
    }
    let after = content(&grid);
    assert_ne!(after.tables, whole.tables);
    drop(grid);
    for id in ids {
        let folder = Path::new(ROOT).join(format!("tables/{id}"));
        let is_in_it = |path: &PathBuf| path.starts_with(&folder);
        for is_older in [false, true] {
            let disk = later.copy(0);
            for path in disk.files().into_iter().filter(is_in_it) {
                disk.remove(&path).unwrap();
            }
            for path in image.files().into_iter().filter(is_in_it).filter(|_| is_older) {
                disk.create(&path).unwrap().append(&bytes(image, &path)).unwrap();
            }
            let name = format!("{folder:?}, older: {is_older}");
            let error = open(&disk).expect_err(&name);
            assert_eq!(error.sqlstate(), "XX001", "{name}: {error}");
            assert!(error.to_string().starts_with(folder.to_str().unwrap()), "{name}: {error}");
        }
    }
}
