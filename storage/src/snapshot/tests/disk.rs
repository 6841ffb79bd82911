//! Snapshots on disk: whatever crashes, fails or is damaged, one that was committed is read as it was
//! written, or what is wrong with it is named.

use std::collections::HashMap;

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;
use crate::{cluster::control::state::ControlState, env::SimDisk, metrics::Metrics};

const FOLDER: &str = "/snapshots";
const CLUSTER: u64 = 0xC0FFEE;

/// A job whose snapshots are on a disk; its tables and what was committed survive everything.
struct Bench {
    site: Site,
    disk: Arc<SimDisk>,
    metrics: Metrics,
    store: SnapshotStore,
    random: SmallRng,
    /// The newest chunk of each part of the state.
    sections: BTreeMap<u16, (ChunkRef, SnapshotChunk)>,
    /// The good ones, with what they hold.
    good: Vec<(SnapshotRecord, Vec<SnapshotChunk>)>,
    id_last: u64,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed, [FOLDER]);
        let metrics = Metrics::default();
        let store = open(&disk, CLUSTER, &metrics).unwrap();
        let random = SmallRng::seed_from_u64(seed);
        let (site, sections, good) = (site(), BTreeMap::new(), Vec::new());
        Self { site, disk, metrics, store, random, sections, good, id_last: 0 }
    }

    fn job(&self) -> ObjectId {
        self.site.job.id
    }

    /// Takes a snapshot in which so many parts of the state have changed, all of them at first; two
    /// good ones are kept. Begins anew after an error, as executions do.
    fn save(&mut self, changes: usize) -> Result<()> {
        self.id_last += 1;
        let id = self.id_last;
        let saved = self.try_save(id, changes);
        if saved.is_err() {
            self.sections.clear();
        }
        self.good.push((saved?, self.sections.values().map(|(_, chunk)| chunk.clone()).collect()));
        if self.good.len() > 2 {
            self.good.remove(0);
        }
        let kept: Vec<u64> = self.good.iter().map(|(record, _)| record.id).collect();
        self.store.retain(&self.site.grid, &self.site.job, &kept)
    }

    fn try_save(&mut self, id: u64, changes: usize) -> Result<SnapshotRecord> {
        let all: Vec<u16> = (0..12).collect();
        let changed = match self.sections.is_empty() {
            true => all,
            false => (0..changes).map(|_| self.random.random_range(0..12)).collect(),
        };
        for partition in changed {
            let length = self.random.random_range(1..120);
            let values: Vec<i64> = (0..length).map(|_| self.random.random()).collect();
            let chunk = chunk("window", partition, &values);
            let written = self.store.put(&self.site.grid, self.job(), chunk.clone())?;
            self.sections.insert(partition, (written, chunk));
        }
        let refs = self.sections.values().map(|(chunk, _)| chunk.clone()).collect();
        let summary = self.store.write(&self.site.grid, &self.site.job, id, refs)?;
        let SnapshotSummary { chunks, bytes, digest } = summary;
        Ok(SnapshotRecord { id, chunks, bytes, digest, ..record() })
    }

    /// What the control state says.
    fn state(&self) -> ControlState {
        let mut state = ControlState::clone(&self.site.grid.control().state());
        let good = self.good.iter().map(|(record, _)| record.clone()).collect();
        let snapshots = JobSnapshots { good, ..JobSnapshots::default() };
        let job = JobRecord { snapshots, ..JobRecord::clone(&self.site.job) };
        state.jobs.insert(self.job(), Arc::new(job));
        state
    }

    /// Another process goes on.
    fn reopen(&mut self) {
        self.disk.crash();
        self.sections.clear();
        self.store = open(&self.disk, CLUSTER, &self.metrics).unwrap();
        self.store.adopt_state(&self.site.grid, &self.state()).unwrap();
    }

    fn read(&self, record: &SnapshotRecord) -> Result<Vec<SnapshotChunk>> {
        self.store.read(&self.site.grid, &self.site.job, record)
    }

    /// All good ones are as they were written, and nothing else takes room.
    fn check(&self) {
        let mut needed = HashMap::new();
        for (record, chunks) in &self.good {
            assert_eq!(self.read(record).unwrap(), *chunks, "snapshot {}", record.id);
            let manifest =
                Manifest::read(&self.site.grid, self.site.job.snapshot_table, record.id).unwrap();
            needed.extend(manifest.entries().iter().map(|entry| (entry.chunk, entry.bytes)));
        }
        let bytes: u64 = needed.values().sum();
        assert_eq!(self.store.bytes(self.job()), bytes);
        let manifests = self.site.grid.table(self.site.job.snapshot_table).unwrap();
        let entries = self.good.iter().map(|(record, _)| record.chunks).sum::<u64>();
        assert_eq!(manifests.stats().rows, entries);
    }

    /// All good ones are as they were written.
    fn check_read(&self) {
        for (record, chunks) in &self.good {
            assert_eq!(self.read(record).unwrap(), *chunks);
        }
    }

    /// Packs of the job.
    fn packs(&self) -> Vec<PathBuf> {
        let folder = Path::new(FOLDER).join(self.job().0.to_string());
        let entries = self.disk.list(&folder).unwrap_or_default();
        let mut paths: Vec<_> = entries.iter().map(|entry| folder.join(&entry.name)).collect();
        paths.sort();
        paths
    }

    fn size(&self, path: &Path) -> u64 {
        self.disk.open(path).unwrap().size().unwrap()
    }

    fn disk_bytes(&self) -> u64 {
        self.packs().iter().map(|path| self.size(path)).sum()
    }

    /// Opens the disk as it is, and reads every good snapshot: exactly as written, or what is wrong.
    fn wrongs(&self) -> Vec<String> {
        let store = open(&self.disk, CLUSTER, &Metrics::default()).unwrap();
        let mut wrongs = Vec::new();
        for (record, chunks) in &self.good {
            match store.read(&self.site.grid, &self.site.job, record) {
                Ok(read) => assert_eq!(read, *chunks),
                Err(Error::Damaged(text)) => wrongs.push(text),
                Err(error) => panic!("{error}"),
            }
        }
        wrongs
    }
}

fn open(disk: &Arc<SimDisk>, cluster: u64, metrics: &Metrics) -> Result<SnapshotStore> {
    let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
    SnapshotStore::open(&disk, Path::new(FOLDER), cluster, metrics)
}

fn record() -> SnapshotRecord {
    SnapshotRecord {
        id: 0,
        execution: 1,
        started_at: 0,
        committed_at: 0,
        chunks: 0,
        bytes: 0,
        digest: 0,
        commits: false,
    }
}

#[test]
fn what_was_written_is_there_for_the_next_process_and_numbers_go_on() {
    let mut bench = Bench::new(1);
    for _ in 0..5 {
        bench.save(3).unwrap();
    }
    let last = |bench: &Bench| bench.sections.values().map(|(chunk, _)| chunk.0.chunk).max();
    let before = last(&bench);
    bench.reopen();
    bench.check();
    let all = bench.metrics.register("tidewater_snapshot_bytes", &[]).get() as u64;
    assert_eq!(all, bench.store.bytes(bench.job()));
    bench.save(3).unwrap();
    assert!(bench.sections.values().map(|(chunk, _)| chunk.0.chunk).min() > before);
    bench.check();
    // Even if all packs are lost, numbers that a manifest names are not given again.
    let before = last(&bench);
    let packs = bench.packs();
    packs.iter().for_each(|path| bench.disk.remove(path).unwrap());
    bench.disk.sync_folder(packs[0].parent().unwrap()).unwrap();
    bench.reopen();
    assert!(bench.read(&bench.good[1].0).unwrap_err().to_string().contains("is missing"));
    bench.save(3).unwrap();
    assert!(bench.sections.values().map(|(chunk, _)| chunk.0.chunk).min() > before);
}

#[test]
fn a_crash_at_any_step_loses_no_snapshot_that_was_committed() {
    let run = |bench: &mut Bench| -> Result<()> { (0..9).try_for_each(|_| bench.save(4)) };
    let mut whole = Bench::new(0);
    run(&mut whole).unwrap();
    let steps = whole.disk.steps();
    assert!(steps > 60, "{steps}");
    for (step, seed) in (0..=steps).flat_map(|step| (0..4).map(move |seed| (step, seed))) {
        let mut bench = Bench::new(seed);
        bench.disk.stop_at(step);
        // An error within the last calls, which only free something, is no error.
        let _stopped = run(&mut bench);
        bench.reopen();
        bench.check();
        (0..3).for_each(|_| bench.save(4).unwrap());
        bench.check();
        bench.reopen();
        bench.check();
    }
}

#[test]
fn every_flipped_bit_is_found_or_changes_nothing() {
    let mut bench = Bench::new(1);
    for _ in 0..3 {
        bench.save(5).unwrap();
    }
    assert!(bench.wrongs().is_empty());
    let packs = bench.packs();
    assert!(packs.len() >= 2, "{packs:?}");
    let (mut random, mut found) = (SmallRng::seed_from_u64(3), 0);
    for path in &packs {
        let (id, size) = (path.file_name().unwrap().to_str().unwrap(), bench.size(path));
        let offsets = (0..128).chain((0..1000).map(|_| random.random_range(0..size)));
        for offset in offsets.collect::<Vec<_>>() {
            let bit = random.random_range(0..8);
            let flip = || bench.disk.damage(path, offset, |byte| *byte ^= 1 << bit).unwrap();
            flip();
            let wrongs = bench.wrongs();
            flip();
            // What is in no kept snapshot may be damaged, and a pack's header serves none.
            assert!(wrongs.iter().all(|text| text.contains(id)), "{wrongs:?} for {id}");
            assert!(wrongs.iter().all(|text| text.contains("of vertex \"window\" in partition")));
            found += usize::from(!wrongs.is_empty());
        }
    }
    assert!(found > packs.len() * 700, "{found} of {} packs", packs.len());
    assert!(bench.wrongs().is_empty());
}

#[test]
fn every_cut_of_a_pack_that_is_needed_is_found() {
    let mut bench = Bench::new(1);
    bench.save(0).unwrap();
    let path = bench.packs().pop().unwrap();
    let size = bench.size(&path);
    for cut in 1..size.min(4096) {
        bench.disk.truncate(&path, size - cut).unwrap();
        let wrongs = bench.wrongs();
        assert!(wrongs.len() == 1 && wrongs[0].contains("is missing"), "{cut}: {wrongs:?}");
    }
}

#[test]
fn packs_of_others_and_of_other_places_are_not_taken_for_ones_own() {
    let mut bench = Bench::new(1);
    for _ in 0..2 {
        bench.save(9).unwrap();
    }
    let packs = bench.packs();
    let (one, two) = (&packs[0], &packs[1]);
    let spare = one.with_file_name("spare");
    bench.disk.rename(one, &spare).unwrap();
    bench.disk.rename(two, one).unwrap();
    bench.disk.rename(&spare, two).unwrap();
    assert_eq!(bench.wrongs().len(), 2);
    bench.disk.rename(two, &spare).unwrap();
    bench.disk.rename(one, two).unwrap();
    bench.disk.rename(&spare, one).unwrap();
    assert!(bench.wrongs().is_empty());
    let other = open(&bench.disk, 1, &Metrics::default()).unwrap();
    let read = other.read(&bench.site.grid, &bench.site.job, &bench.good[0].0);
    assert!(read.unwrap_err().to_string().contains("it belongs to another cluster, job or place"));
}

#[test]
fn a_failed_sync_fails_the_snapshot_and_the_next_one_is_whole() {
    let mut bench = Bench::new(1);
    bench.save(0).unwrap();
    for _ in 0..3 {
        bench.disk.fail_syncs(true);
        let bytes = bench.disk_bytes();
        assert!(matches!(bench.save(5), Err(Error::Disk(_))));
        assert_eq!(bench.disk_bytes(), bytes, "its room is given back");
        bench.disk.fail_syncs(false);
        bench.check_read();
        bench.save(5).unwrap();
        bench.check();
    }
    bench.reopen();
    bench.check();
}

#[test]
fn a_full_disk_fails_the_snapshot_and_has_its_room_back() {
    let mut bench = Bench::new(1);
    bench.save(0).unwrap();
    let mut refused = 0;
    for room in (0..).step_by(83) {
        let bytes = bench.disk_bytes();
        bench.disk.limit(Some(bytes + room));
        bench.sections.clear();
        match bench.save(5) {
            Err(Error::DiskFull(_)) => {
                assert_eq!(bench.disk_bytes(), bytes);
                bench.check_read();
                refused += 1;
            }
            saved => {
                saved.unwrap();
                break;
            }
        }
    }
    assert!(refused > 20, "{refused}");
    bench.disk.limit(None);
    bench.check();
    bench.reopen();
    bench.check();
}

#[test]
fn room_on_disk_stays_within_twice_what_is_needed_in_few_packs() {
    for (seed, changes) in [(1, 1), (2, 4), (3, 12)] {
        let mut bench = Bench::new(seed);
        for round in 0..60 {
            bench.save(changes).unwrap();
            let needed = bench.store.bytes(bench.job());
            // Frames have some bytes more than their chunks.
            let bytes = bench.disk_bytes();
            assert!(bytes <= 2 * needed + 4096, "round {round}: {bytes} bytes for {needed}");
            assert_eq!(bytes, bench.store.of(bench.job()).chunks.pack_bytes());
            assert!(bench.packs().len() <= 12, "{:?}", bench.packs());
        }
        bench.check();
        bench.reopen();
        bench.check();
    }
}

#[test]
fn a_damaged_chunk_is_not_lost_sight_of_when_its_pack_is_rewritten() {
    let mut bench = Bench::new(5);
    bench.save(0).unwrap();
    // Damage the chunk of one partition, then replace most of the others.
    let (first, _) = bench.sections[&0].clone();
    let pack = bench.packs().pop().unwrap();
    bench.disk.damage(&pack, 64 + 32 + 40, |byte| *byte ^= 1).unwrap();
    assert_eq!(bench.wrongs().len(), 1);
    while bench.good.iter().any(|(record, _)| record.id < 4) {
        bench.save(0).unwrap();
    }
    let kept: Vec<_> = bench.sections.values().map(|(chunk, _)| chunk.0.chunk).collect();
    assert!(kept.contains(&first.0.chunk));
    let wrongs = bench.wrongs();
    assert_eq!(wrongs.len(), 2);
    assert!(wrongs[0].contains("is damaged in /snapshots/"), "{wrongs:?}");
}

#[test]
fn a_rewrite_that_a_crash_tore_hides_no_whole_chunk() {
    let mut bench = Bench::new(1);
    bench.save(0).unwrap();
    let pack = bench.packs().pop().unwrap();
    let next = pack::PackId { cluster: CLUSTER, job: bench.job().0, number: 2 };
    let mut bytes = next.header().to_vec();
    for (number, length) in bench.sections.values().map(|(chunk, _)| (chunk.0.chunk, chunk.0.bytes))
    {
        // Its place is there, and zeros for what was on its way.
        let start = bytes.len();
        next.put(&mut bytes, start as u64, number, &vec![1; length as usize]);
        bytes[start + pack::FRAME_HEADER_BYTES..].fill(0);
    }
    let mut file = bench.disk.create(&pack.with_file_name(pack::file_name(2))).unwrap();
    file.append(&bytes).unwrap();
    assert!(bench.wrongs().is_empty());
    file.sync().unwrap();
    bench.reopen();
    bench.check();
    assert_eq!(bench.packs(), [pack], "what is in neither is gone");
}

#[test]
fn chunks_of_one_snapshot_may_be_put_by_several_threads() {
    let bench = Bench::new(1);
    let early = bench.store.put(&bench.site.grid, bench.job(), chunk("source", 0, &[1])).unwrap();
    let refs: Vec<_> = std::thread::scope(|scope| {
        let put = |thread: u16| {
            let bench = &bench;
            move || -> Vec<_> {
                let chunks = (0..100).map(|n| chunk("window", thread, &[n; 20]));
                let put = |chunk: SnapshotChunk| {
                    let written = bench.store.put(&bench.site.grid, bench.job(), chunk.clone());
                    (written.unwrap(), chunk)
                };
                chunks.map(put).collect()
            }
        };
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(put(thread))).collect();
        // And manifests be written meanwhile.
        for id in 100..200 {
            let early = vec![early.clone()];
            bench.store.write(&bench.site.grid, &bench.site.job, id, early).unwrap();
        }
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let (refs, chunks): (Vec<_>, Vec<_>) = refs.into_iter().unzip();
    let summary = bench.store.write(&bench.site.grid, &bench.site.job, 1, refs).unwrap();
    assert!(bench.packs().len() > 1, "a large one has several packs");
    let SnapshotSummary { chunks: count, bytes, digest } = summary;
    let record = SnapshotRecord { id: 1, chunks: count, bytes, digest, ..record() };
    bench.disk.crash();
    let store = open(&bench.disk, CLUSTER, &Metrics::default()).unwrap();
    assert_eq!(store.read(&bench.site.grid, &bench.site.job, &record).unwrap(), chunks);
}

#[test]
fn nothing_is_left_of_a_job_that_was_dropped() {
    let mut bench = Bench::new(1);
    bench.save(0).unwrap();
    bench.store.forget(bench.job());
    assert!(bench.disk.list(Path::new(FOLDER)).unwrap().is_empty());
    // Dropped while the disk did nothing: the next process finds a folder that nobody knows.
    let mut bench = Bench::new(1);
    bench.save(0).unwrap();
    bench.disk.stop_at(0);
    bench.store.forget(bench.job());
    bench.disk.crash();
    let mut state = bench.state();
    state.jobs.remove(&bench.job());
    let store = open(&bench.disk, CLUSTER, &bench.metrics).unwrap();
    assert!(!bench.disk.list(Path::new(FOLDER)).unwrap().is_empty());
    store.adopt_state(&bench.site.grid, &state).unwrap();
    assert!(bench.disk.list(Path::new(FOLDER)).unwrap().is_empty());
}

#[test]
fn of_a_job_with_a_damaged_manifest_nothing_is_freed() {
    let mut bench = Bench::new(1);
    (0..2).for_each(|_| bench.save(12).unwrap());
    let bytes = bench.store.bytes(bench.job());
    let digest = std::mem::take(&mut bench.good[0].0.digest);
    bench.reopen();
    assert!(bench.store.bytes(bench.job()) >= bytes);
    assert!(bench.read(&bench.good[1].0).is_ok());
    bench.good[0].0.digest = digest;
    bench.check_read();
    bench.reopen();
    bench.check();
}
