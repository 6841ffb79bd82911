//! A snapshot is read back as it was written, or what is wrong with it is named.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::Int64Array,
    datatypes::{DataType, Field, Schema},
};

use super::*;
use crate::{
    GridConfig,
    cluster::control::{Command, JobSnapshots, JobStatus},
    env::Env,
};

mod disk;

struct Site {
    grid: Arc<Grid>,
    job: Arc<JobRecord>,
}

fn site() -> Site {
    let grid = Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap();
    let record = JobRecord {
        id: ObjectId(0),
        name: "j".into(),
        sql: String::new(),
        options: BTreeMap::new(),
        settings: BTreeMap::new(),
        status: JobStatus::NotRunning,
        created_at: 1,
        started_at: None,
        restarts: 0,
        last_error: None,
        snapshot_table: ObjectId(0),
        snapshots: JobSnapshots::default(),
    };
    let id = grid.control().submit(&Command::CreateJob(record)).unwrap();
    let job = Arc::clone(&grid.control().state().jobs[&id]);
    Site { grid, job }
}

impl Site {
    fn store(&self) -> &SnapshotStore {
        self.grid.snapshots()
    }

    fn write(&self, id: u64, chunks: &[SnapshotChunk]) -> SnapshotRecord {
        let refs = chunks.iter().map(|chunk| self.put(chunk)).collect();
        self.write_refs(id, refs)
    }

    fn put(&self, chunk: &SnapshotChunk) -> ChunkRef {
        self.store().put(&self.grid, self.job.id, chunk.clone()).unwrap()
    }

    fn write_refs(&self, id: u64, refs: Vec<ChunkRef>) -> SnapshotRecord {
        let summary = self.store().write(&self.grid, &self.job, id, refs).unwrap();
        let SnapshotSummary { chunks, bytes, digest } = summary;
        SnapshotRecord {
            id,
            execution: 1,
            started_at: 0,
            committed_at: 0,
            chunks,
            bytes,
            digest,
            commits: false,
        }
    }

    fn read(&self, record: &SnapshotRecord) -> Result<Vec<SnapshotChunk>> {
        self.store().read(&self.grid, &self.job, record)
    }
}

fn chunk(vertex: &str, partition: u16, values: &[i64]) -> SnapshotChunk {
    let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]));
    let column = Arc::new(Int64Array::from(values.to_vec()));
    let rows = RecordBatch::try_new(schema, vec![column]).unwrap();
    SnapshotChunk { vertex: vertex.into(), tag: 3, partition: PartitionId(partition), rows }
}

#[test]
fn it_is_read_back_in_the_order_written() {
    let site = site();
    let chunks: Vec<_> = (0..600).map(|n| chunk("window", n % 271, &[i64::from(n), 7])).collect();
    let others = [chunk("source", u16::MAX, &[1])];
    let (first, second) = (site.write(1, &chunks), site.write(2, &others));
    assert_eq!(first.chunks, 600);
    assert_eq!(site.read(&first).unwrap(), chunks);
    assert_eq!(site.read(&second).unwrap(), others);
    let empty = site.write(3, &[]);
    assert_eq!(site.read(&empty).unwrap(), []);
}

#[test]
fn what_is_damaged_or_missing_is_named_with_its_partition() {
    for (is_lost, word) in [(false, "is damaged"), (true, "is missing")] {
        let site = site();
        let record = site.write(4, &[chunk("source", 5, &[1]), chunk("window", 34, &[2, 3])]);
        assert!(site.store().damage(site.job.id, 4, 1, is_lost));
        let Err(Error::Damaged(text)) = site.read(&record) else { panic!("it was read") };
        let named = "snapshot 4 of job \"j\": chunk 2 of vertex \"window\" in partition 34";
        assert_eq!(text, format!("{named} {word}"));
    }
}

#[test]
fn a_manifest_that_is_not_what_was_committed_is_refused() {
    let site = site();
    let record = site.write(1, &[chunk("a", 0, &[1]), chunk("b", 1, &[2])]);
    let wrong = [
        SnapshotRecord { digest: record.digest ^ 1, ..record.clone() },
        SnapshotRecord { chunks: 3, ..record.clone() },
        SnapshotRecord { id: 9, ..record.clone() },
    ];
    for record in wrong {
        let Err(Error::Damaged(text)) = site.read(&record) else { panic!("it was read") };
        assert!(text.ends_with("its manifest is damaged"), "{text}");
    }
}

#[test]
fn a_chunk_is_shared_by_snapshots_and_freed_with_the_last() {
    let site = site();
    let shared = site.put(&chunk("a", 0, &[1; 1000]));
    let first = site.write_refs(1, vec![shared.clone(), site.put(&chunk("a", 1, &[2]))]);
    let second = site.write_refs(2, vec![shared, site.put(&chunk("a", 1, &[3]))]);
    let bytes = || site.store().bytes(site.job.id);
    assert!(bytes() < first.bytes + second.bytes, "it is there once");
    site.store().retain(&site.grid, &site.job, &[2]).unwrap();
    assert_eq!(bytes(), second.bytes);
    assert_eq!(site.read(&second).unwrap()[0], chunk("a", 0, &[1; 1000]));
    site.store().retain(&site.grid, &site.job, &[]).unwrap();
    assert_eq!(bytes(), 0);
}

#[test]
fn what_no_kept_snapshot_needs_is_freed() {
    let site = site();
    let first = site.write(1, &[chunk("a", 0, &[1; 1000])]);
    let second = site.write(2, &[chunk("a", 0, &[2; 1000])]);
    let bytes = |site: &Site| site.store().bytes(site.job.id);
    assert_eq!(bytes(&site), first.bytes + second.bytes);
    site.store().retain(&site.grid, &site.job, &[2]).unwrap();
    assert_eq!(bytes(&site), second.bytes);
    assert!(matches!(site.read(&first), Err(Error::Damaged(_))));
    assert!(site.read(&second).is_ok());
    let table = site.grid.table(site.job.snapshot_table).unwrap();
    assert_eq!(table.stats().rows, 1);
    site.grid.control().submit(&Command::DropJob(site.job.id)).unwrap();
    assert_eq!(bytes(&site), 0);
    assert!(site.grid.table(site.job.snapshot_table).is_err());
}

#[test]
fn one_snapshot_is_released_without_what_others_or_nobody_yet_name() {
    let site = site();
    let shared = site.put(&chunk("a", 0, &[1; 1000]));
    site.write_refs(1, vec![shared.clone(), site.put(&chunk("a", 1, &[2; 500]))]);
    let second = site.write_refs(2, vec![shared]);
    // Written for a snapshot that has no manifest yet.
    let early = site.put(&chunk("a", 2, &[3]));
    let all = || site.grid.metrics().register("tidewater_snapshot_bytes", &[]).get() as u64;
    site.store().release(&site.grid, site.job.id, 1).unwrap();
    assert!(site.read(&second).is_ok());
    let third = site.write_refs(3, vec![early]);
    assert!(site.read(&third).is_ok());
    assert_eq!(site.store().bytes(site.job.id), second.bytes + third.bytes);
    assert_eq!(all(), second.bytes + third.bytes);
    site.grid.control().submit(&Command::DropJob(site.job.id)).unwrap();
    assert_eq!(all(), 0);
}
