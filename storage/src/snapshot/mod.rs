//! Snapshots of jobs: written before they are committed, read back whole or not at all.
//!
//! ```text
//!   control log      Commit 7 { chunks: 3, bytes, digest ─┐ }
//!                                                         ▼ of all rows of
//!   manifest rows    (7, 0, vertex, tag, partition, chunk 41, checksum) …
//!                                                        │
//!   chunks           partition 5: 41 ◄───────────────────┘ bytes, written once
//! ```
//! A *chunk* is one partition's slice of what a processor saved: bytes that belong to that
//! partition, written once under a number that is never used again, and freed when no kept snapshot
//! names it: a snapshot shares what has not changed with those before it. A *manifest* is the list
//! of a snapshot's chunks: rows of a table of the job's, keyed by snapshot and number. Both are
//! written first; the snapshot exists when the control state says so. An exported snapshot is one
//! that the control state names twice: once as the job's, once by its own name.
//!
//! With a disk, chunks are in *packs*, files of a job's folder: what a snapshot added is in packs of
//! its own, and durable before its manifest is written, so before the command that commits it. After
//! a restart the packs are read again, and [`SnapshotStore::adopt`] frees what no snapshot needs that
//! the control state names.
//!
//! A reader checks from the top: the number of rows, bytes and digest of the manifest against the
//! control state, each chunk against its checksum. What is wrong is named with its partition.

mod chunks;
mod manifest;
mod pack;
mod packs;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::array::RecordBatch;
use parking_lot::Mutex;

use self::{
    chunks::Chunks,
    manifest::{Entry, Manifest},
    packs::Packs,
};
use crate::{
    Error, Grid, Result,
    cluster::control::{
        ExportRecord, JobRecord, ObjectId, SnapshotRecord, records::snapshot_table,
        state::ControlState,
    },
    env::{Disk, disk::disk_error},
    metrics::{Metric, Metrics},
    partition::PartitionId,
};

pub(crate) use manifest::table_record;

/// One partition's slice of what a vertex saved.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotChunk {
    /// Name of the vertex.
    pub vertex: String,
    /// Which of its states.
    pub tag: u8,
    /// The partition, or what stands in its place (`runtime::state::EVERY_INSTANCE`).
    pub partition: PartitionId,
    /// The entries.
    pub rows: RecordBatch,
}

/// What a manifest comes to: its commit names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotSummary {
    /// Chunks.
    pub chunks: u64,
    /// Bytes of the chunks.
    pub bytes: u64,
    /// Of the manifest's rows.
    pub digest: u64,
}

/// A chunk that was written. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChunkRef(Arc<Entry>);

/// The snapshots of all jobs, as this member holds them.
#[derive(Debug)]
pub struct SnapshotStore {
    /// Bytes of all chunks, in `sys.metrics`.
    bytes: Metric,
    /// `None` if all is in memory.
    site: Option<Site>,
    jobs: Mutex<HashMap<ObjectId, Arc<JobSnapshotStore>>>,
}

/// Where the folders of jobs are.
#[derive(Debug)]
struct Site {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    cluster: u64,
}

/// Those of one job.
#[derive(Debug)]
struct JobSnapshotStore {
    chunks: Chunks,
    /// Manifests that may be asked for: of good snapshots, and of the one being taken.
    manifests: Mutex<HashMap<u64, Arc<Manifest>>>,
}

/// Which snapshot is read.
struct Subject<'a> {
    /// The job it was taken of.
    job: ObjectId,
    snapshot: &'a SnapshotRecord,
    /// As errors call it.
    name: String,
}

impl SnapshotStore {
    /// An empty store, in memory.
    pub fn new(metrics: &Metrics) -> Self {
        let bytes = metrics.register("tidewater_snapshot_bytes", &[]);
        Self { bytes, site: None, jobs: Mutex::default() }
    }

    /// The snapshots in a folder, which is there: a folder for each job of cluster `cluster`. What is
    /// damaged is told by who needs it. [`SnapshotStore::adopt`] is to follow.
    pub fn open(
        disk: &Arc<dyn Disk>,
        folder: &Path,
        cluster: u64,
        metrics: &Metrics,
    ) -> Result<Self> {
        let entries = disk.list(folder).map_err(|error| disk_error(folder, &error))?;
        let names = entries.iter().filter(|entry| !entry.is_file);
        let ids = names.filter_map(|entry| id_of(entry.name.to_str()?));
        let mut jobs = HashMap::new();
        let bytes = metrics.register("tidewater_snapshot_bytes", &[]);
        for job in ids {
            let (packs, places) = Packs::open(disk, folder, cluster, job)?;
            let chunks = Chunks::found(packs, places, bytes.clone());
            jobs.insert(job, Arc::new(JobSnapshotStore { chunks, manifests: Mutex::default() }));
        }
        let site = Site { disk: Arc::clone(disk), folder: folder.to_owned(), cluster };
        Ok(Self { bytes, site: Some(site), jobs: Mutex::new(jobs) })
    }

    /// Takes over what the control state says of snapshots after a restart, once the tables are
    /// loaded: manifests of those it names are known again, and all else is freed. Of a job of which
    /// a manifest is damaged nothing is freed.
    pub fn adopt(&self, grid: &Grid) -> Result<()> {
        self.adopt_state(grid, &grid.control().state())
    }

    fn adopt_state(&self, grid: &Grid, state: &ControlState) -> Result<()> {
        let owners: Vec<_> = state.jobs.keys().copied().collect();
        let exporters = state.exports.values().map(|export| export.job);
        let owners: HashSet<ObjectId> = owners.into_iter().chain(exporters).collect();
        let known: Vec<_> = self.jobs.lock().keys().copied().collect();
        for unknown in known.into_iter().filter(|job| !owners.contains(job)) {
            self.forget(unknown);
        }
        owners.into_iter().try_for_each(|job| self.adopt_job(grid, state, job))
    }

    fn adopt_job(&self, grid: &Grid, state: &ControlState, job: ObjectId) -> Result<()> {
        let good = state.jobs.get(&job).map_or(&[][..], |job| &job.snapshots.good);
        let exported = state.exports.values().filter(|export| export.job == job);
        let kept: BTreeMap<u64, &SnapshotRecord> =
            good.iter().chain(exported.map(|export| &export.snapshot)).map(|r| (r.id, r)).collect();
        let mut manifests = Manifest::read_all(grid, snapshot_table(job))?;
        let store = self.of(job);
        let numbers = manifests.values().flat_map(|manifest| manifest.entries());
        store.chunks.used(numbers.map(|entry| entry.chunk).max().unwrap_or(0));
        let is_whole = |record: &SnapshotRecord| {
            let empty = Manifest::default();
            let SnapshotRecord { chunks, bytes, digest, .. } = *record;
            let summary = manifests.get(&record.id).unwrap_or(&empty).summary();
            summary == SnapshotSummary { chunks, bytes, digest }
        };
        let damaged = kept.iter().find(|(_, record)| !is_whole(record)).map(|(id, _)| *id);
        let mut gone = Vec::new();
        if damaged.is_none() {
            gone.extend(manifests.extract_if(.., |id, _| !kept.contains_key(id)));
        }
        let mut known = store.manifests.lock();
        known.extend(manifests.into_iter().map(|(id, manifest)| (id, Arc::new(manifest))));
        if let Some(id) = damaged {
            tracing::error!(job = job.0, snapshot = id, "the manifest of a snapshot is damaged");
            return Ok(());
        }
        let needed = needed(&known);
        store.chunks.retain(|chunk| needed.contains(&chunk));
        drop(known);
        gone.iter().try_for_each(|(id, gone)| gone.delete(grid, snapshot_table(job), *id))
    }

    /// Writes a chunk. It is freed by the next [`SnapshotStore::retain`] unless a manifest names it
    /// by then.
    pub fn put(&self, grid: &Grid, job: ObjectId, chunk: SnapshotChunk) -> Result<ChunkRef> {
        lost_at(grid, "store.chunk")?;
        let written = self.of(job).chunks.write(&chunk)?;
        Ok(ChunkRef(Arc::new(Entry::new(written, chunk))))
    }

    /// Writes the manifest of snapshot `id`, which is being taken: its chunks, in the order they are
    /// to be restored in, those of earlier snapshots included. They survive a crash from then on;
    /// after an error the snapshot is not to be committed, and the next one begins anew.
    pub fn write(
        &self,
        grid: &Grid,
        job: &JobRecord,
        id: u64,
        chunks: Vec<ChunkRef>,
    ) -> Result<SnapshotSummary> {
        let store = self.of(job.id);
        let manifest = Manifest::new(chunks.into_iter().map(|chunk| chunk.0).collect());
        store.chunks.sync(manifest.entries().iter().map(|entry| &**entry))?;
        lost_at(grid, "store.manifest")?;
        manifest.write(grid, job.snapshot_table, id)?;
        let summary = manifest.summary();
        store.manifests.lock().insert(id, Arc::new(manifest));
        Ok(summary)
    }

    /// All chunks of a good snapshot. Damaged, naming what and where, if anything of it is missing
    /// or is not what was written.
    pub fn read(
        &self,
        grid: &Grid,
        job: &JobRecord,
        snapshot: &SnapshotRecord,
    ) -> Result<Vec<SnapshotChunk>> {
        self.read_all(grid, &Subject::of_job(job, snapshot))
    }

    /// All chunks of an exported snapshot; as [`SnapshotStore::read`].
    pub fn read_export(&self, grid: &Grid, export: &ExportRecord) -> Result<Vec<SnapshotChunk>> {
        let name = format!("snapshot \"{}\"", export.name);
        self.read_all(grid, &Subject { job: export.job, snapshot: &export.snapshot, name })
    }

    /// Whether a good snapshot is whole; as [`SnapshotStore::read`].
    pub fn verify(&self, grid: &Grid, job: &JobRecord, snapshot: &SnapshotRecord) -> Result<()> {
        self.for_each(grid, &Subject::of_job(job, snapshot), |chunks, entry| {
            Ok(chunks.verified(entry)?.map(drop))
        })
    }

    fn read_all(&self, grid: &Grid, subject: &Subject<'_>) -> Result<Vec<SnapshotChunk>> {
        let mut found = Vec::new();
        self.for_each(grid, subject, |chunks, entry| {
            Ok(chunks.read(entry)?.map(|rows| found.push(entry.chunk_of(rows))))
        })?;
        Ok(found)
    }

    /// Calls `visit` for each chunk of a snapshot; what it says is wrong is named, all of it.
    fn for_each(
        &self,
        grid: &Grid,
        subject: &Subject<'_>,
        mut visit: impl FnMut(&Chunks, &Entry) -> Result<Result<(), String>>,
    ) -> Result<()> {
        let store = self.of(subject.job);
        let named = |text: String| Error::Damaged(format!("{}: {text}", subject.name));
        let SnapshotRecord { id, chunks, bytes, digest, .. } = *subject.snapshot;
        let manifest = Manifest::read(grid, snapshot_table(subject.job), id)?;
        if manifest.summary() != (SnapshotSummary { chunks, bytes, digest }) {
            return Err(named("its manifest is damaged".to_owned()));
        }
        let mut missing: Vec<String> = Vec::new();
        for entry in manifest.entries() {
            if let Err(why) = visit(&store.chunks, entry)? {
                missing.push(format!(
                    "chunk {} of vertex \"{}\" in partition {} {why}",
                    entry.chunk, entry.vertex, entry.partition.0
                ));
            }
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(named(missing.join(", "))),
        }
    }

    /// Frees one snapshot, and of its chunks those that no other snapshot names. Unlike
    /// [`SnapshotStore::retain`] it may be called while the job takes one: what is written for that
    /// and in no manifest yet stays.
    pub fn release(&self, grid: &Grid, job: ObjectId, id: u64) -> Result<()> {
        let store = self.of(job);
        let mut manifests = store.manifests.lock();
        let Some(gone) = manifests.remove(&id) else { return Ok(()) };
        let needed = needed(&manifests);
        let gone_alone: HashSet<u64> = gone
            .entries()
            .iter()
            .map(|entry| entry.chunk)
            .filter(|n| !needed.contains(n))
            .collect();
        store.chunks.retain(|chunk| !gone_alone.contains(&chunk));
        drop(manifests);
        gone.delete(grid, snapshot_table(job), id)
    }

    /// Frees what only other snapshots than these need.
    pub fn retain(&self, grid: &Grid, job: &JobRecord, kept: &[u64]) -> Result<()> {
        let store = self.of(job.id);
        let mut manifests = store.manifests.lock();
        let gone: Vec<u64> = manifests.keys().copied().filter(|id| !kept.contains(id)).collect();
        let gone: Vec<_> =
            gone.iter().filter_map(|id| Some((*id, manifests.remove(id)?))).collect();
        let needed = needed(&manifests);
        store.chunks.retain(|chunk| needed.contains(&chunk));
        drop(manifests);
        for (id, manifest) in gone {
            manifest.delete(grid, job.snapshot_table, id)?;
        }
        Ok(())
    }

    /// Frees everything of a job that was dropped. What cannot be removed from the disk now is by
    /// the next [`SnapshotStore::adopt`].
    pub fn forget(&self, job: ObjectId) {
        let store = self.jobs.lock().remove(&job);
        if let Some(store) = store
            && let Err(error) = store.chunks.remove()
        {
            tracing::warn!(job = job.0, %error, "its snapshots were not removed");
        }
    }

    /// Bytes of the chunks of a job, each counted once.
    pub fn bytes(&self, job: ObjectId) -> u64 {
        self.of(job).chunks.bytes()
    }

    /// Damages a chunk of a snapshot, the `number`-th, for tests: bytes are changed, or all gone.
    pub fn damage(&self, job: ObjectId, id: u64, number: usize, is_lost: bool) -> bool {
        let store = self.of(job);
        let manifests = store.manifests.lock();
        let entry = manifests.get(&id).and_then(|manifest| manifest.entries().get(number).cloned());
        entry.is_some_and(|entry| store.chunks.damage(entry.chunk, is_lost))
    }

    fn of(&self, job: ObjectId) -> Arc<JobSnapshotStore> {
        let new = || {
            let packs = self
                .site
                .as_ref()
                .map(|Site { disk, folder, cluster }| Packs::new(disk, folder, *cluster, job));
            let chunks = Chunks::new(packs, self.bytes.clone());
            Arc::new(JobSnapshotStore { chunks, manifests: Mutex::default() })
        };
        Arc::clone(self.jobs.lock().entry(job).or_insert_with(new))
    }
}

impl<'a> Subject<'a> {
    fn of_job(job: &JobRecord, snapshot: &'a SnapshotRecord) -> Self {
        let name = format!("snapshot {} of job \"{}\"", snapshot.id, job.name);
        Self { job: job.id, snapshot, name }
    }
}

/// Chunks that any of these names.
fn needed(manifests: &HashMap<u64, Arc<Manifest>>) -> HashSet<u64> {
    let entries = manifests.values().flat_map(|manifest| manifest.entries());
    entries.map(|entry| entry.chunk).collect()
}

/// The job whose folder has this name.
fn id_of(name: &str) -> Option<ObjectId> {
    name.parse().ok().filter(|id: &u64| id.to_string() == name).map(ObjectId)
}

fn lost_at(grid: &Grid, place: &'static str) -> Result<()> {
    match grid.env().failpoints.hit(place) {
        true => Err(Error::Lost(place.to_owned())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
