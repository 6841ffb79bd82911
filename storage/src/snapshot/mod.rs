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
//! A reader checks from the top: the number of rows, bytes and digest of the manifest against the
//! control state, each chunk against its checksum. What is wrong is named with its partition.

mod chunks;
mod manifest;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arrow::array::RecordBatch;
use parking_lot::Mutex;

use self::{
    chunks::Chunks,
    manifest::{Entry, Manifest},
};
use crate::{
    Error, Grid, Result,
    cluster::control::{
        ExportRecord, JobRecord, ObjectId, SnapshotRecord, records::snapshot_table,
    },
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
    jobs: Mutex<HashMap<ObjectId, Arc<JobSnapshotStore>>>,
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
    /// An empty store.
    pub fn new(metrics: &Metrics) -> Self {
        let bytes = metrics.register("tidewater_snapshot_bytes", &[]);
        Self { bytes, jobs: Mutex::default() }
    }

    /// Writes a chunk. It is freed by the next [`SnapshotStore::retain`] unless a manifest names it
    /// by then.
    pub fn put(&self, grid: &Grid, job: ObjectId, chunk: SnapshotChunk) -> Result<ChunkRef> {
        lost_at(grid, "store.chunk")?;
        let written = self.of(job).chunks.write(&chunk)?;
        Ok(ChunkRef(Arc::new(Entry::new(written, chunk))))
    }

    /// Writes the manifest of snapshot `id`, which is being taken: its chunks, in the order they are
    /// to be restored in, those of earlier snapshots included.
    pub fn write(
        &self,
        grid: &Grid,
        job: &JobRecord,
        id: u64,
        chunks: Vec<ChunkRef>,
    ) -> Result<SnapshotSummary> {
        let store = self.of(job.id);
        let manifest = Manifest::new(chunks.into_iter().map(|chunk| chunk.0).collect());
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
            chunks.verified(entry).map(drop).map_err(str::to_owned)
        })
    }

    fn read_all(&self, grid: &Grid, subject: &Subject<'_>) -> Result<Vec<SnapshotChunk>> {
        let mut found = Vec::new();
        self.for_each(grid, subject, |chunks, entry| {
            found.push(entry.chunk_of(chunks.read(entry)?));
            Ok(())
        })?;
        Ok(found)
    }

    /// Calls `visit` for each chunk of a snapshot; what it says is wrong is named, all of it.
    fn for_each(
        &self,
        grid: &Grid,
        subject: &Subject<'_>,
        mut visit: impl FnMut(&Chunks, &Entry) -> Result<(), String>,
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
            if let Err(why) = visit(&store.chunks, entry) {
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

    /// Frees everything of a job that was dropped.
    pub fn forget(&self, job: ObjectId) {
        self.jobs.lock().remove(&job);
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
            let chunks = Chunks::new(self.bytes.clone());
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

fn lost_at(grid: &Grid, place: &'static str) -> Result<()> {
    match grid.env().failpoints.hit(place) {
        true => Err(Error::Lost(place.to_owned())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
