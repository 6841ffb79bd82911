//! Founding and opening a data directory: under crashes at every step, next to other processes, and
//! over whatever else may be in its place.

use std::fs;

use super::*;
use crate::env::{Env, SimDisk, disk::seal};

const ROOT: &str = "/d/data";

fn disk(seed: u64) -> Arc<SimDisk> {
    SimDisk::new(seed, ["/d"])
}

fn open(disk: &Arc<SimDisk>) -> Result<DataDir> {
    open_with(disk, 271)
}

fn open_with(disk: &Arc<SimDisk>, partition_count: u16) -> Result<DataDir> {
    let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
    DataDir::open(&disk, &Rng::seeded(7), Path::new(ROOT), partition_count)
}

fn names_in(disk: &SimDisk) -> Vec<String> {
    names(disk, Path::new(ROOT)).unwrap().into_iter().collect()
}

fn write(disk: &SimDisk, path: &str, bytes: &[u8]) {
    disk.create(Path::new(path)).unwrap().append(bytes).unwrap();
}

fn refused(opened: Result<DataDir>) -> (&'static str, String) {
    let error = opened.expect_err("it is refused");
    (error.sqlstate(), error.to_string())
}

#[test]
fn it_is_founded_once_and_then_the_same() {
    let disk = disk(1);
    let first = open(&disk).unwrap();
    assert!(first.is_new());
    let id = first.cluster_id();
    assert_eq!(first.control(), Path::new("/d/data/control"));
    assert_eq!(names_in(&disk), ["FORMAT", "LOCK", "control", "log", "snapshots", "tables"]);
    drop(first);
    disk.crash();
    let second = open(&disk).unwrap();
    assert_eq!((second.is_new(), second.cluster_id()), (false, id));
}

#[test]
fn a_crash_at_any_step_leaves_one_that_is_founded_anew_or_whole() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..25 {
        for stop in 0.. {
            let disk = disk(seed * 1000 + stop);
            disk.stop_at(stop);
            let first = open(&disk).map(|opened| opened.cluster_id());
            disk.crash();
            // Draws another id if it founds.
            let shared: Arc<dyn Disk> = Arc::clone(&disk) as _;
            let second = DataDir::open(&shared, &Rng::seeded(8), Path::new(ROOT), 271).unwrap();
            if let Ok(id) = first {
                assert_eq!((second.is_new(), second.cluster_id()), (false, id));
            }
            outcomes.insert((first.is_ok(), second.is_new()));
            let id = second.cluster_id();
            drop(second);
            disk.crash();
            assert_eq!(open(&disk).unwrap().cluster_id(), id);
            if first.is_ok() {
                break;
            }
        }
    }
    // Broken off and not there, broken off and there all the same, done.
    assert_eq!(outcomes, BTreeSet::from([(false, true), (false, false), (true, false)]));
}

#[test]
fn who_comes_second_is_told_who_holds_it_until_that_lets_go() {
    let disk = disk(1);
    let first = open(&disk).unwrap();
    let process = std::process::id();
    let expected = format!(
        "data directory \"/d/data\" is in use by process {process}: stop it, or choose another \
         directory"
    );
    assert_eq!(refused(open(&disk)), ("55006", expected));
    drop(first);
    let second = open(&disk).unwrap();
    disk.crash();
    let third = open(&disk).unwrap();
    drop(second);
    assert_eq!(refused(open(&disk)).0, "55006", "a lock of before the crash lets go of nothing");
    drop(third);
}

#[test]
fn another_number_of_partitions_is_refused() {
    let disk = disk(1);
    drop(open(&disk).unwrap());
    let expected = "data directory \"/d/data\" was founded with 271 partitions, and cannot be \
                    opened with 16";
    assert_eq!(refused(open_with(&disk, 16)), ("55000", expected.to_owned()));
    open(&disk).unwrap();
}

#[test]
fn a_newer_format_is_refused_by_its_version() {
    let disk = disk(1);
    drop(open(&disk).unwrap());
    let newer = seal(&Seal { version: 3, ..SEAL }, b"what nobody knows today");
    disk.remove(Path::new("/d/data/FORMAT")).unwrap();
    write(&disk, "/d/data/FORMAT", &newer);
    let expected = "data directory \"/d/data\" has format 3, and this server reads up to 1: it was \
                    written by a newer one";
    assert_eq!(refused(open(&disk)), ("55000", expected.to_owned()));
}

#[test]
fn a_format_of_which_any_bit_is_flipped_is_damaged() {
    let disk = disk(1);
    drop(open(&disk).unwrap());
    let path = Path::new("/d/data/FORMAT");
    let size = disk.open(path).unwrap().size().unwrap();
    assert!(size > 48, "{size}");
    for bit in 0..size * 8 {
        let flip = |byte: &mut u8| *byte ^= 1 << (bit % 8);
        disk.damage(path, bit / 8, flip).unwrap();
        let (code, text) = refused(open(&disk));
        assert_eq!(code, "XX001", "bit {bit}: {text}");
        assert!(text.starts_with("data directory \"/d/data\": file FORMAT: its "), "{text}");
        disk.damage(path, bit / 8, flip).unwrap();
    }
    open(&disk).unwrap();
}

#[test]
fn what_is_no_data_directory_stays_as_it_is() {
    let disk = disk(1);
    disk.create_folder(Path::new(ROOT)).unwrap();
    write(&disk, "/d/data/photo", b"dear");
    let expected = "\"/d/data\" is not a data directory: it has no file FORMAT, and is not empty \
                    (there is \"photo\")";
    assert_eq!(refused(open(&disk)), ("55000", expected.to_owned()));
    assert_eq!(names_in(&disk), ["photo"]);
}

#[test]
fn one_that_lost_its_format_or_a_folder_is_not_founded_again() {
    let disk = disk(1);
    drop(open(&disk).unwrap());
    write(&disk, "/d/data/log/0000000000000001.log", b"rows");
    disk.rename(Path::new("/d/data/FORMAT"), Path::new("/d/data/FORMAT.new")).unwrap();
    let expected =
        "data directory \"/d/data\": file FORMAT is missing, and folder log is not empty";
    assert_eq!(refused(open(&disk)), ("XX001", expected.to_owned()));
    assert_eq!(refused(open(&disk)).1, expected, "and refusing it changed nothing");

    let root = tempfile::tempdir().unwrap();
    let system = Env::real().disk;
    drop(DataDir::open(&system, &Rng::seeded(7), root.path(), 271).unwrap());
    fs::remove_dir(root.path().join("tables")).unwrap();
    let (code, text) = refused(DataDir::open(&system, &Rng::seeded(7), root.path(), 271));
    assert_eq!(code, "XX001");
    assert!(text.ends_with("folder tables is missing"), "{text}");
}

#[test]
fn a_full_or_failing_disk_is_named_and_founding_goes_on_later() {
    let disk = disk(1);
    disk.limit(Some(20));
    assert_eq!(refused(open(&disk)).0, "53100");
    disk.limit(None);
    disk.fail_syncs(true);
    assert_eq!(refused(open(&disk)), ("58030", "/d/data: Input/output error".to_owned()));
    disk.fail_syncs(false);
    assert!(open(&disk).unwrap().is_new());
}

#[test]
fn on_the_real_disk_a_second_opener_is_refused_and_a_link_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (system, rng) = (Env::real().disk, Rng::seeded(7));
    let open = |name: &str| DataDir::open(&system, &rng, &folder.path().join(name), 271);
    let first = open("data").unwrap();
    std::os::unix::fs::symlink("data", folder.path().join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("lost")).unwrap();
    let process = std::process::id();
    for name in ["data", "link"] {
        let (code, text) = refused(open(name));
        assert_eq!(code, "55006");
        assert!(text.contains(&format!("/data\" is in use by process {process}: ")), "{text}");
    }
    let id = first.cluster_id();
    drop(first);
    let linked = open("link").unwrap();
    assert_eq!((linked.cluster_id(), linked.is_new()), (id, false));
    assert!(linked.root().ends_with("data"));
    let (code, text) = refused(open("lost"));
    assert_eq!(code, "58030");
    assert!(text.ends_with("it is a link to something that does not exist"), "{text}");
}

#[test]
fn on_the_real_disk_what_cannot_be_a_data_directory_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (system, rng) = (Env::real().disk, Rng::seeded(7));
    let open = |name: &str| DataDir::open(&system, &rng, &folder.path().join(name), 271);
    fs::write(folder.path().join("file"), "text").unwrap();
    for (name, why) in [
        ("file", "/file\": it is not a folder"),
        ("missing/data", "/missing\" does not exist"),
        ("file/data", "/file/data\": Not a directory (os error 20)"),
    ] {
        let (code, text) = refused(open(name));
        assert_eq!(code, "58030");
        assert!(text.starts_with("could not ") && text.ends_with(why), "{name}: {text}");
    }
}

#[test]
fn on_the_real_disk_a_folder_that_may_not_be_written_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    let may_write_all_the_same = fs::write(closed.join("LOCK"), "").is_ok();
    let opened = DataDir::open(&Env::real().disk, &Rng::seeded(7), &closed, 271);
    if may_write_all_the_same {
        // Who runs this may write everywhere: nothing forbids it then.
        assert!(opened.unwrap().is_new());
    } else {
        let (code, text) = refused(opened);
        assert_eq!(code, "58030");
        assert!(text.ends_with("/closed/LOCK: Permission denied (os error 13)"), "{text}");
    }
}
