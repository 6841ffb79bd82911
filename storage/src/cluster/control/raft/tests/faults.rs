//! Faults of the disk, each at every place where it can come.

use super::*;

/// Histories of which every step is a crash.
const SEEDS: u64 = 8;

/// Submits commands one after another, with a restart half way, until one fails; how many were
/// acknowledged.
fn live(disk: &Arc<SimDisk>, commands: &[Command]) -> usize {
    let mut acknowledged = 0;
    for half in commands.chunks(commands.len().div_ceil(2)) {
        let Ok(control) = open(disk) else { break };
        let done = half.iter().take_while(|command| control.submit(command).is_ok()).count();
        acknowledged += done;
        if done < half.len() {
            break;
        }
    }
    acknowledged
}

#[test]
fn a_crash_at_any_step_loses_no_acknowledged_command() {
    let (mut points, mut under_way, mut saved) = (0, 0, 0);
    for seed in 0..SEEDS {
        let commands = history(seed, 20);
        let states = states(&commands);
        let steps = {
            let disk = disk(seed);
            assert_eq!(live(&disk, &commands), commands.len());
            saved += usize::from(names(&disk).contains(&"state".to_owned()));
            disk.steps()
        };
        for stop in 0..steps {
            let disk = disk(seed * 10_007 + stop);
            disk.stop_at(stop);
            let acknowledged = live(&disk, &commands);
            disk.crash();
            let context = format!("seed {seed}, step {stop} of {steps}, {acknowledged} commands");
            let control = open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
            let found = bytes(&control.state());
            drop(control);
            let kept = states.iter().position(|state| *state == found);
            let kept = kept.unwrap_or_else(|| panic!("{context}: it is no state there was"));
            assert!(kept == acknowledged || kept == acknowledged + 1, "{context}: {kept} are left");
            under_way += usize::from(kept > acknowledged);
            disk.crash();
            let control = open(&disk).unwrap();
            assert_eq!(bytes(&control.state()), found, "{context}: the second time");
            if let Some(command) = commands.get(kept) {
                control.submit(command).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(bytes(&control.state()), states[kept + 1], "{context}: it goes on");
            }
            points += 1;
        }
    }
    assert!(points > 500 && under_way > 10 && saved > 4, "{points}, {under_way}, {saved}");
}

#[test]
fn every_flipped_bit_is_found_or_changes_nothing() {
    let commands = history(3, 30);
    let whole = states(&commands).pop().unwrap();
    let disk = disk(3);
    live(&disk, &commands);
    // The last blocks are the votes of another start: a broken one may be taken for a torn one.
    drop(open(&disk).unwrap());
    let files: Vec<_> = names(&disk).iter().map(|name| Path::new(FOLDER).join(name)).collect();
    let (mut found, mut flips) = (0, 0);
    for path in &files {
        let size = disk.open(path).unwrap().size().unwrap();
        let mut content = vec![0; size as usize];
        disk.open(path).unwrap().read_at(0, &mut content).unwrap();
        let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        // A prime, so that all bits of all fields have their turn.
        for bit in (0..used * 8).step_by(211) {
            let flip = |byte: &mut u8| *byte ^= 1 << (bit % 8);
            let copy = copy_of(&disk, &files);
            copy.damage(path, bit / 8, flip).unwrap();
            flips += 1;
            match open(&copy) {
                Ok(control) => assert_eq!(bytes(&control.state()), whole, "{path:?}, bit {bit}"),
                Err(error) => {
                    assert_eq!(error.sqlstate(), "XX001", "{path:?}, bit {bit}: {error}");
                    found += 1;
                }
            }
        }
    }
    assert!(flips > 1000 && found * 10 > flips * 9, "{found} of {flips}");
}

/// The same files on another disk.
fn copy_of(disk: &SimDisk, files: &[PathBuf]) -> Arc<SimDisk> {
    let copy = SimDisk::new(0, [FOLDER]);
    for path in files {
        let file = disk.open(path).unwrap();
        let mut content = vec![0; file.size().unwrap() as usize];
        file.read_at(0, &mut content).unwrap();
        copy.create(path).unwrap().append(&content).unwrap();
    }
    copy
}

#[test]
fn after_a_sync_that_failed_nothing_is_taken_and_nothing_is_pretended() {
    let mut left = BTreeSet::new();
    for seed in 0..20 {
        let disk = disk(seed);
        let control = open(&disk).unwrap();
        control.submit(&table("a")).unwrap();
        disk.fail_syncs(true);
        let expected = ("58030", "/control/0000000000000001.log: Input/output error".to_owned());
        assert_eq!(refused(control.submit(&table("b"))), expected);
        disk.fail_syncs(false);
        assert_eq!(refused(control.submit(&table("c"))), expected);
        assert_eq!(control.state().version, 1, "what is readable stays readable");
        drop(control);
        disk.crash();
        let control = open(&disk).unwrap();
        left.insert(control.state().version);
        control.submit(&table("c")).unwrap();
    }
    assert_eq!(left, BTreeSet::from([1, 2]), "with the one under way, or without");
}

#[test]
fn a_saved_state_that_cannot_be_synced_stops_the_log() {
    let disk = disk(1);
    let control = open(&disk).unwrap();
    for _ in 0..3 {
        control.submit(&view("v", 1400, true)).unwrap();
    }
    disk.fail_syncs(true);
    let expected = ("58030", "/control/state: Input/output error".to_owned());
    assert_eq!(refused(control.submit(&table("t"))), expected);
    disk.fail_syncs(false);
    assert_eq!(refused(control.submit(&table("t"))), expected);
    drop(control);
    assert_eq!(open(&disk).unwrap().state().version, 3);
}

#[test]
fn a_full_disk_refuses_commands_and_recovers_when_there_is_room() {
    let disk = disk(1);
    let control = open(&disk).unwrap();
    control.submit(&table("t")).unwrap();
    // Room for what there is, and for some of a saved state.
    disk.limit(Some(2 * (1 << 16) + 2000));
    let mut taken = 1;
    let error = loop {
        match control.submit(&view("v", 3000, true)) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 200, "there is no room for so many");
    };
    assert_eq!(error.sqlstate(), "53100");
    assert_eq!(refused(control.submit(&Command::ReserveId)).0, "53100");
    assert_eq!(control.state().version, taken, "what is there is read");
    disk.limit(None);
    control.submit(&Command::ReserveId).unwrap();
    drop(control);
    disk.crash();
    assert_eq!(open(&disk).unwrap().state().version, taken + 1);
}

/// Founds or opens a data directory and its control log, and submits commands from `from` on until
/// one fails; the cluster's id, and the states it published.
fn live_in_dir(disk: &Arc<SimDisk>, seed: u64, commands: &[Command]) -> Result<(u64, usize)> {
    let shared: Arc<dyn Disk> = Arc::clone(disk) as _;
    let dir = DataDir::open(&shared, &Rng::seeded(seed), Path::new("/d/data"), 271)?;
    let id = dir.cluster_id();
    let control = Control::open(&shared, &dir.control(), id ^ 1, |_| Ok(()), |_, _, _| {})?;
    let from = control.state().version as usize;
    let rest = commands.get(from..).unwrap_or_default();
    let done = rest.iter().take_while(|command| control.submit(command).is_ok()).count();
    Ok((id, from + done))
}

#[test]
fn a_crash_at_any_step_leaves_a_data_directory_and_its_control_log_together() {
    let commands = history(5, 6);
    let states = states(&commands);
    let mut points = 0;
    for seed in 0..6 {
        for stop in 0.. {
            let disk = SimDisk::new(seed * 1000 + stop, ["/d"]);
            disk.stop_at(stop);
            let first = live_in_dir(&disk, seed, &commands);
            disk.crash();
            // Another id is drawn if nothing was founded.
            let (id, count) = live_in_dir(&disk, seed + 50, &[]).unwrap();
            if let Ok((founded, acknowledged)) = first {
                let at_most = (acknowledged + 1).min(commands.len());
                assert_eq!(id, founded, "step {stop}");
                assert!((acknowledged..=at_most).contains(&count), "{acknowledged}, then {count}");
            }
            disk.crash();
            assert_eq!(live_in_dir(&disk, seed + 70, &commands).unwrap(), (id, commands.len()));
            let control = Control::open(
                &(Arc::clone(&disk) as Arc<dyn Disk>),
                Path::new("/d/data/control"),
                id ^ 1,
                |_| Ok(()),
                |_, _, _| {},
            );
            assert_eq!(Some(&bytes(&control.unwrap().state())), states.last());
            points += 1;
            if matches!(first, Ok((_, all)) if all == commands.len()) {
                break;
            }
        }
    }
    assert!(points > 150, "{points}");
}

#[test]
fn a_start_that_needs_room_on_a_full_disk_says_so() {
    let disk = disk(1);
    // Not even for the first segment.
    disk.limit(Some(1000));
    assert_eq!(refused(open(&disk)).0, "53100");
    disk.limit(None);
    open(&disk).unwrap().submit(&table("t")).unwrap();
}
