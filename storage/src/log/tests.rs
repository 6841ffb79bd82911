//! The log under crashes at every step, cuts, flipped bits and full disks.

use std::{path::Path, sync::Arc};

use super::*;
use crate::env::{Rng, SimDisk};

const FOLDER: &str = "/log";
const ID: u64 = 0xC0FFEE;
/// Bytes of a segment, unless it is said otherwise.
const SEGMENT_BYTES: u64 = SegmentSize::LARGE.bytes();
/// Bytes of a large record.
const LARGE: usize = RECORD_BYTES_MAX - 96;

fn disk(seed: u64) -> Arc<SimDisk> {
    SimDisk::new(seed, [FOLDER])
}

/// The records that an opened log showed.
type Shown = Vec<(Lsn, Vec<u8>)>;

fn open(disk: &Arc<SimDisk>) -> Result<(Log, Opened, Shown)> {
    let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
    let mut shown = Vec::new();
    let (log, opened) = Log::open(&disk, Path::new(FOLDER), ID, Lsn(0), |lsn, record| {
        shown.push((lsn, record.to_vec()));
        Ok(())
    })?;
    Ok((log, opened, shown))
}

/// What record `lsn` says.
fn text(lsn: u64, length: usize) -> Vec<u8> {
    format!("{lsn}-").into_bytes().into_iter().cycle().take(length).collect()
}

fn append(log: &Log, length: usize) -> Lsn {
    let next = log.newest().0 + 1;
    log.append(|out| out.extend_from_slice(&text(next, length)))
}

/// Checks that records 1, 2, … were shown, each as it was written; how many.
fn count_of(shown: &[(Lsn, Vec<u8>)]) -> u64 {
    for (position, (lsn, record)) in shown.iter().enumerate() {
        assert_eq!(lsn.0, position as u64 + 1);
        assert_eq!(*record, text(lsn.0, record.len()), "record {}", lsn.0);
    }
    shown.len() as u64
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let entries = disk.list(Path::new(FOLDER)).unwrap();
    let mut names: Vec<_> =
        entries.iter().map(|entry| entry.name.to_str().unwrap().to_owned()).collect();
    names.retain(|name| block::first_of(name).is_some());
    names.sort();
    names.iter().map(|name| Path::new(FOLDER).join(name)).collect()
}

#[test]
fn what_was_synced_is_shown_in_order_and_the_log_goes_on() {
    let disk = disk(1);
    for round in 0..4_u64 {
        let (log, opened, shown) = open(&disk).unwrap();
        assert_eq!(
            (count_of(&shown), opened.records, opened.torn_bytes),
            (round * 3, round * 3, 0)
        );
        log.tend().unwrap();
        for length in [0, 7, LARGE] {
            append(&log, length);
        }
        log.sync(log.newest()).unwrap();
        assert!(log.is_synced(log.newest()));
        disk.crash();
    }
}

#[test]
fn the_log_goes_over_segments_and_is_cut_before_a_record() {
    let disk = disk(1);
    let (log, ..) = open(&disk).unwrap();
    for _ in 0..60 {
        log.admit().unwrap();
        append(&log, LARGE);
    }
    log.sync(log.newest()).unwrap();
    let before = segments(&disk);
    assert!(before.len() >= 4, "{before:?}");
    log.cut(Lsn(40)).unwrap();
    let after = segments(&disk);
    assert!(after.len() < before.len());
    disk.crash();
    let shared: Arc<dyn Disk> = Arc::clone(&disk) as _;
    let mut first = None;
    let (log, opened) = Log::open(&shared, Path::new(FOLDER), ID, Lsn(40), |lsn, _| {
        first.get_or_insert(lsn);
        Ok(())
    })
    .unwrap();
    assert_eq!((first, opened.records, log.newest()), (Some(Lsn(40)), 21, Lsn(60)));
}

#[test]
fn a_log_of_small_segments_takes_less_room_and_loses_nothing() {
    let disk = disk(1);
    let shared: Arc<dyn Disk> = Arc::clone(&disk) as _;
    let size = SegmentSize::SMALL;
    let open = || {
        let mut shown = Vec::new();
        let opened =
            Log::open_sized(&shared, Path::new(FOLDER), (ID, size), Lsn(0), |lsn, record| {
                shown.push((lsn, record.to_vec()));
                Ok(())
            });
        (opened.unwrap().0, count_of(&shown))
    };
    for round in 0..4 {
        let (log, shown) = open();
        assert_eq!(shown, round * 30);
        for _ in 0..30 {
            log.admit().unwrap();
            append(&log, size.record_bytes_max());
        }
        log.sync(log.newest()).unwrap();
        disk.crash();
    }
    let files = segments(&disk);
    let sizes: Vec<_> = files.iter().map(|path| disk.open(path).unwrap().size().unwrap()).collect();
    assert!(sizes.len() > 7 && sizes.iter().all(|found| *found == 1 << 14), "{sizes:?}");
    disk.truncate(&files[2], (1 << 14) - 3000).unwrap();
    let opened = Log::open_sized(&shared, Path::new(FOLDER), (ID, size), Lsn(0), |_, _| Ok(()));
    let text = opened.map(drop).unwrap_err().to_string();
    assert!(text.starts_with(files[2].to_str().unwrap()), "{text}");

    let large = self::disk(2);
    let log = self::open(&large).unwrap().0;
    append(&log, 100);
    log.sync(Lsn(1)).unwrap();
    drop(log);
    let shared: Arc<dyn Disk> = large as _;
    let opened = Log::open_sized(&shared, Path::new(FOLDER), (ID, size), Lsn(0), |_, _| Ok(()));
    let text = opened.map(drop).unwrap_err().to_string();
    assert!(text.ends_with("at byte 16384: it is longer than the log's segments"), "{text}");
}

/// A history of appends, syncs and cuts; how many records are durable for certain, and how many
/// there may be.
fn live(disk: &Arc<SimDisk>, seed: u64) -> (u64, u64) {
    let rng = Rng::seeded(seed);
    let (mut durable, mut appended) = (0, 0);
    let mut run = || -> Result<()> {
        let (log, _, shown) = open(disk)?;
        (durable, appended) = (count_of(&shown), count_of(&shown));
        for _ in 0..12 {
            log.admit()?;
            let length = match rng.next_u64() % 8 {
                0 => LARGE,
                other => other as usize * 40,
            };
            appended = append(&log, length).0;
            if rng.next_u64().is_multiple_of(3) {
                log.sync(Lsn(appended))?;
                durable = appended;
            }
            if rng.next_u64().is_multiple_of(4) {
                log.tend()?;
            }
        }
        Ok(())
    };
    let _stopped = run();
    (durable, appended)
}

#[test]
fn a_crash_at_any_step_loses_no_record_that_was_durable() {
    let mut points = 0;
    for seed in 0..40 {
        let steps = {
            let disk = disk(seed);
            live(&disk, seed);
            live(&disk, seed + 1000);
            disk.steps()
        };
        for stop in 0..steps {
            let disk = disk(seed * 10_007 + stop);
            disk.stop_at(stop);
            let (durable, appended) = live(&disk, seed);
            let (durable, appended) = match disk.steps() < stop {
                true => live(&disk, seed + 1000),
                false => (durable, appended),
            };
            disk.crash();
            let (_log, _, shown) = open(&disk).unwrap_or_else(|error| {
                panic!("seed {seed}, stopped before step {stop}: {error}");
            });
            let found = count_of(&shown);
            let is_right = (durable..=appended).contains(&found);
            assert!(is_right, "seed {seed}, step {stop}: {durable} ≤ {found} ≤ {appended}");
            points += 1;
        }
    }
    assert!(points > 1000, "{points} crash points");
}

/// A log of some blocks in two segments, closed in order.
fn two_segments(seed: u64) -> (Arc<SimDisk>, u64) {
    let disk = disk(seed);
    let (log, ..) = open(&disk).unwrap();
    for number in 0..50 {
        append(&log, if number % 3 == 0 { LARGE } else { 50 });
        log.sync(log.newest()).unwrap();
        log.tend().unwrap();
    }
    (disk, log.newest().0)
}

/// What the disk holds of one segment, and where its last block begins.
fn extent(disk: &SimDisk, path: &Path) -> (u64, u64) {
    let file = disk.open(path).unwrap();
    let mut bytes = vec![0; SEGMENT_BYTES as usize];
    file.read_at(0, &mut bytes).unwrap();
    let (mut last, mut offset) = (HEADER_BYTES, HEADER_BYTES);
    while let Some(header) = block::block_header(&bytes[offset as usize..]) {
        last = offset;
        offset += block_bytes(header.length) as u64;
    }
    (last, offset)
}

#[test]
fn every_flipped_bit_of_what_is_durable_is_found() {
    let (disk, count) = two_segments(3);
    let segments = segments(&disk);
    assert_eq!(segments.len(), 2);
    let rng = Rng::seeded(7);
    for round in 0..300 {
        let is_last = round % 2 == 1;
        let segment = &segments[usize::from(is_last)];
        let (last, end) = extent(&disk, segment);
        // The last block of all may have been torn: then it is cut, and that is said.
        let whole = if is_last { last } else { end };
        let (offset, bit) = (rng.next_u64() % whole, rng.next_u64() % 8);
        disk.damage(segment, offset, |byte| *byte ^= 1 << bit).unwrap();
        match open(&disk) {
            Err(Error::Damaged(text)) => {
                assert!(text.starts_with(segment.to_str().unwrap()), "{text}");
            }
            other => panic!("byte {offset} bit {bit}: {:?}", other.map(|(_, opened, _)| opened)),
        }
        disk.damage(segment, offset, |byte| *byte ^= 1 << bit).unwrap();
    }
    let (last, end) = extent(&disk, &segments[1]);
    disk.damage(&segments[1], (last + end) / 2, |byte| *byte ^= 1).unwrap();
    let (_log, opened, shown) = open(&disk).unwrap();
    assert_eq!(count_of(&shown), count - 1);
    assert!(opened.torn_bytes > end - last - 8, "{opened:?}: all of it but padding");
}

#[test]
fn a_file_cut_anywhere_in_its_end_loses_only_what_is_cut() {
    let (whole, count) = two_segments(5);
    let last = segments(&whole).pop().unwrap();
    let (_, end) = extent(&whole, &last);
    for size in (end - 200..end).chain([SEGMENT_BYTES - 1]) {
        let (disk, _) = two_segments(5);
        disk.truncate(&last, size).unwrap();
        let (log, opened, shown) = open(&disk).unwrap();
        let found = count_of(&shown);
        assert!(opened.torn_bytes > 0 && found <= count && found + 5 >= count, "{size}: {found}");
        append(&log, 10);
        log.sync(log.newest()).unwrap();
        disk.crash();
        assert_eq!(count_of(&open(&disk).unwrap().2), found + 1, "it goes on behind the cut");
    }
}

#[test]
fn a_segment_that_is_cut_missing_or_from_elsewhere_is_damage() {
    let damaged = |change: &dyn Fn(&SimDisk, &[PathBuf])| {
        let (disk, _) = two_segments(6);
        change(&disk, &segments(&disk));
        match open(&disk) {
            Err(Error::Damaged(text)) => text,
            other => panic!("{:?}", other.map(|(_, opened, _)| opened)),
        }
    };
    let text = damaged(&|disk, segments| disk.truncate(&segments[0], SEGMENT_BYTES / 2).unwrap());
    assert!(text.ends_with("its block is damaged"), "{text}");
    let text = damaged(&|disk, segments| disk.truncate(&segments[1], 10).unwrap());
    assert!(text.ends_with("it is cut within its header"), "{text}");
    let text = damaged(&|disk, segments| disk.rename(&segments[1], &segments[0]).unwrap());
    assert!(text.ends_with("it belongs to another log or place"), "{text}");
}

#[test]
fn a_full_disk_refuses_what_is_not_let_in_and_recovers() {
    let disk = disk(1);
    let (log, ..) = open(&disk).unwrap();
    log.tend().unwrap();
    append(&log, 10);
    log.sync(log.newest()).unwrap();
    disk.limit(Some(SEGMENT_BYTES));
    let refused = loop {
        if let Err(error) = log.admit() {
            break error;
        }
        append(&log, LARGE);
        log.sync(log.newest()).unwrap();
    };
    assert_eq!(refused.sqlstate(), "53100");
    let before = log.newest();
    assert!(log.admit().is_err() && log.is_synced(before));
    disk.limit(None);
    log.admit().unwrap();
    append(&log, 10);
    log.sync(log.newest()).unwrap();
    disk.crash();
    assert_eq!(count_of(&open(&disk).unwrap().2), before.0 + 1);
}

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicU64);

impl std::task::Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn who_waits_for_a_record_is_woken_when_it_is_durable_or_the_log_is_broken() {
    let disk = disk(1);
    let (log, ..) = open(&disk).unwrap();
    let (first, bell) = (append(&log, 10), Arc::<Bell>::default());
    let waker = Waker::from(Arc::clone(&bell));
    assert!(!log.poll_synced(first, &waker).unwrap());
    assert_eq!(bell.0.load(Ordering::SeqCst), 0);
    log.sync(first).unwrap();
    assert_eq!(bell.0.load(Ordering::SeqCst), 1);
    assert!(log.poll_synced(first, &waker).unwrap());
    let second = append(&log, 10);
    assert!(!log.poll_synced(second, &waker).unwrap());
    disk.fail_syncs(true);
    assert!(log.sync(second).is_err());
    assert_eq!(bell.0.load(Ordering::SeqCst), 3, "the one that was asked in vain, and this one");
    assert!(log.poll_synced(second, &waker).is_err());
}

#[test]
fn after_a_sync_that_failed_the_log_is_broken() {
    let disk = disk(1);
    let (log, ..) = open(&disk).unwrap();
    log.tend().unwrap();
    let first = append(&log, 10);
    log.sync(first).unwrap();
    disk.fail_syncs(true);
    let second = append(&log, 10);
    assert_eq!(log.sync(second).unwrap_err().sqlstate(), "58030");
    disk.fail_syncs(false);
    assert!(log.sync(second).is_err() && !log.is_synced(second), "no second try");
    assert!(log.failure().is_some() && log.is_synced(first));
}
