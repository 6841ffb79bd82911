//! What a bad disk does to a whole data directory: every change of its files is found and named, or
//! changes nothing that anybody was told of. The same faults under one log, checkpoint, control log
//! or pack alone are tried more densely beside those; rows D1–D20 of the fault catalogue are in
//! `docs/durability.md`, each with the tests that stand for it.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::*;
use crate::{
    cluster::control::{
        Command, Durability, JobRecord, JobSnapshots, JobStatus, ObjectName, SnapshotCommand,
        SnapshotRecord, ViewRecord, state::Relation,
    },
    env::{Disk, SimDisk},
    snapshot::{SnapshotChunk, SnapshotSummary},
};

mod cuts;
mod damage;
mod trouble;

const ROOT: &str = "/data";
/// Few, so that a directory is small and opened in a millisecond.
const PARTITIONS: u16 = 7;

/// Names as files must never have them, and how the tables are kept.
const TABLES: [(&str, &[usize], Durability); 5] = [
    ("keyed", &[0], Durability::Fsync),
    ("../../key\0less/\\", &[], Durability::Fsync),
    ("..", &[0], Durability::Relaxed),
    ("CON: \u{1F30A} \"quoted\" \u{202E}%00\n", &[0], Durability::Fsync),
    ("memory", &[0], Durability::Memory),
];

/// What is in a data directory for those who read it.
#[derive(Debug, Clone, PartialEq)]
struct Content {
    /// The whole control state.
    control: Vec<u8>,
    /// Rows of each table, sorted.
    tables: Vec<Vec<(i64, String)>>,
    /// Each good snapshot, or what is wrong with it.
    snapshots: Vec<Result<Vec<SnapshotChunk>, String>>,
}

fn open(disk: &Arc<SimDisk>) -> crate::Result<Arc<Grid>> {
    open_by(disk, 1)
}

/// Opens it, or founds it with an id drawn from this seed.
fn open_by(disk: &Arc<SimDisk>, seed: u64) -> crate::Result<Arc<Grid>> {
    let (env, _) = Env::simulated(seed);
    let config = GridConfig {
        partition_count: PARTITIONS,
        data_dir: Some(ROOT.into()),
        ..GridConfig::default()
    };
    Grid::open(config, Env { disk: Arc::clone(disk) as _, ..env })
}

/// Its tables, in the order of [`TABLES`].
fn tables(grid: &Grid) -> Vec<Arc<Table>> {
    let state = grid.control().state();
    let id = |name: &str| state.relations.get(&ObjectName::public(name)).map(Relation::id).unwrap();
    TABLES.iter().map(|(name, ..)| grid.table(id(name)).unwrap()).collect()
}

fn rows(table: &Table, view: &ReadView) -> Vec<(i64, String)> {
    let mut rows = Vec::new();
    for batch in table.scan(view, None, 1).unwrap().into_iter().flatten() {
        let batch = batch.unwrap();
        let (keys, texts) = (batch.column(0), batch.column(1).as_string::<i32>());
        let keys = keys.as_primitive::<Int64Type>().values().iter();
        rows.extend(keys.zip(texts).map(|(key, text)| (*key, text.unwrap_or_default().to_owned())));
    }
    rows.sort();
    rows
}

fn content(grid: &Grid) -> Content {
    let (state, view) = (grid.control().state(), grid.read_view().in_mode(ReadMode::Durable));
    let job = state.job("j").unwrap();
    let read = |snapshot| match grid.snapshots().read(grid, job, snapshot) {
        Ok(chunks) => Ok(chunks),
        Err(Error::Damaged(text)) => Err(text),
        Err(error) => panic!("{error}"),
    };
    Content {
        control: postcard::to_stdvec(&*state).unwrap(),
        tables: tables(grid).iter().map(|table| rows(table, &view)).collect(),
        snapshots: job.snapshots.good.iter().map(read).collect(),
    }
}

fn sync(grid: &Grid) -> crate::Result<()> {
    grid.persistence().unwrap().log().sync()
}

/// Makes the tables and the job.
fn found(grid: &Grid) {
    let submit = |command: Command| grid.control().submit(&command).unwrap();
    for (name, key, durability) in TABLES {
        let mut record = TableRecord::new(name, schema(), key);
        record.options.insert(Durability::OPTION.to_owned(), durability.word().to_owned());
        submit(Command::CreateTable(record));
    }
    let id = submit(Command::CreateJob(JobRecord {
        id: ObjectId(0),
        name: "j".to_owned(),
        sql: "insert into keyed select …".to_owned(),
        options: BTreeMap::new(),
        settings: BTreeMap::new(),
        status: JobStatus::NotRunning,
        created_at: 0,
        started_at: None,
        restarts: 0,
        last_error: None,
        snapshot_table: ObjectId(0),
        snapshots: JobSnapshots::default(),
    }));
    submit(Command::Snapshot(id, SnapshotCommand::StartExecution));
}

/// Takes a snapshot of the job, as its coordinator does: chunks, manifest, commit.
fn snapshot(grid: &Grid, values: &[i64]) -> crate::Result<()> {
    let job = Arc::clone(grid.control().state().job("j").unwrap());
    let submit = |command| grid.control().submit(&Command::Snapshot(job.id, command));
    let execution = job.snapshots.execution_last;
    submit(SnapshotCommand::Begin { execution })?;
    let id = grid.control().state().jobs[&job.id].snapshots.id_last;
    let chunk = |partition| {
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]));
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        let rows = RecordBatch::try_new(schema, vec![column]).unwrap();
        let partition = PartitionId(partition);
        grid.snapshots().put(
            grid,
            job.id,
            SnapshotChunk { vertex: "window".to_owned(), tag: 3, partition, rows },
        )
    };
    let refs = (0..PARTITIONS).map(chunk).collect::<crate::Result<Vec<_>>>()?;
    let SnapshotSummary { chunks, bytes, digest } = grid.snapshots().write(grid, &job, id, refs)?;
    submit(SnapshotCommand::Commit(SnapshotRecord {
        id,
        execution,
        started_at: 0,
        committed_at: 0,
        chunks,
        bytes,
        digest,
        commits: true,
    }))?;
    Ok(())
}

/// Writes rows with these keys to all tables, in statements and one by one.
fn fill(grid: &Grid, keys: std::ops::Range<i64>, text: &str) -> crate::Result<()> {
    for table in tables(grid) {
        let rows: Vec<_> = keys.clone().map(|key| (key, text)).collect();
        let (single, batched) = rows.split_at(rows.len() / 4);
        for (key, text) in single {
            put(&table, WriteMode::Insert, *key, text)?;
        }
        let writer = grid.begin();
        table.write_batch(&writer, WriteMode::Insert, &batch(batched))?;
        writer.commit()?;
    }
    Ok(())
}

/// A view that takes so many bytes of the control log.
fn view(name: &str, length: usize) -> Command {
    let record = ViewRecord {
        id: ObjectId(0),
        name: ObjectName::public(name),
        sql: "select ".chars().cycle().take(length).collect(),
        columns: Vec::new(),
        schema: Arc::new(Schema::empty()),
    };
    Command::CreateView { record, replace: true }
}

/// A data directory that has everything: checkpoints of several ages, a log that was cut and goes on
/// over several segments, a saved control state and records behind it, packs of two snapshots.
fn founded() -> Arc<SimDisk> {
    founded_by(1)
}

/// As [`founded`], by a cluster whose id is drawn from this seed.
fn founded_by(seed: u64) -> Arc<SimDisk> {
    let disk = SimDisk::new(1, ["/"]);
    let grid = open_by(&disk, seed).unwrap();
    found(&grid);
    let text = "x".repeat(120);
    fill(&grid, 0..20, &text).unwrap();
    snapshot(&grid, &[1, 2, 3]).unwrap();
    fill(&grid, 20..160, &text).unwrap();
    sync(&grid).unwrap();
    grid.checkpoint_all().unwrap();
    for number in 0..3 {
        grid.control().submit(&view(&format!("v{number}"), 1500)).unwrap();
    }
    snapshot(&grid, &[4, 5]).unwrap();
    delete(&tables(&grid)[0], 5).unwrap();
    for number in 0..3 {
        fill(&grid, 1000 + number * 50..1050 + number * 50, &text).unwrap();
        sync(&grid).unwrap();
    }
    grid.control().submit(&view("last", 100)).unwrap();
    sync(&grid).unwrap();
    drop(grid);
    disk
}

/// [`founded`], and so many starts after it that the last 4 KiB of both logs speak of nothing else:
/// what is torn there was told to nobody.
fn image() -> &'static (Arc<SimDisk>, Content) {
    static IMAGE: OnceLock<(Arc<SimDisk>, Content)> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let disk = founded();
        for _ in 0..120 {
            drop(open(&disk).unwrap());
        }
        let disk = disk.copy(0);
        let grid = open(&disk.copy(0)).unwrap();
        let content = content(&grid);
        assert!(content.tables.iter().take(4).all(|rows| rows.len() >= 309), "all is there");
        assert!(content.tables[4].is_empty() && content.snapshots.len() == 2);
        let count = |folder: &str| {
            disk.files()
                .iter()
                .filter(|path| path.starts_with(Path::new(ROOT).join(folder)))
                .count()
        };
        let counts = ["log", "control", "tables", "snapshots"].map(count);
        let enough = [3, 2, 8, 2];
        assert!(counts.iter().zip(enough).all(|(count, least)| *count >= least), "{counts:?}");
        (disk, content)
    })
}

fn bytes(disk: &SimDisk, path: &Path) -> Vec<u8> {
    crate::env::disk::read_whole(disk, path, u64::MAX).unwrap().unwrap()
}

fn overwrite(disk: &SimDisk, path: &Path, offset: usize, bytes: &[u8]) {
    disk.open_region(path).unwrap().write_at(offset as u64, bytes).unwrap();
}

/// How a change of the files was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Met {
    /// The start was refused, and said where.
    Refused,
    /// All tables are right, and who reads a snapshot is told what is wrong with it.
    Named,
    /// All is right.
    Harmless,
}

/// Opens a disk whose files `changed` are not as they were written; panics if it shows anything
/// else than `whole` without a word.
fn meet(disk: &Arc<SimDisk>, whole: &Content, changed: &[&Path], name: &str) -> Met {
    let grid = match open(disk) {
        Ok(grid) => grid,
        Err(error) => {
            assert_eq!(error.sqlstate(), "XX001", "{name}: {error}");
            let text = error.to_string();
            let is_named = |path: &&Path| {
                // A checkpoint that is missing or too old is named by its folder.
                let folder = path.parent().unwrap().to_str().unwrap();
                let file = path.file_name().unwrap().to_str().unwrap();
                text.contains(file) || text.contains(&format!("{folder}:"))
            };
            assert!(changed.iter().any(is_named), "{name}: {text}");
            return Met::Refused;
        }
    };
    let found = content(&grid);
    assert!(found.control == whole.control, "{name}: another control state");
    assert!(found.tables == whole.tables, "{name}: other rows");
    let mut met = Met::Harmless;
    for (found, whole) in found.snapshots.iter().zip(&whole.snapshots) {
        if let Err(text) = found {
            assert!(text.contains(" of job \"j\""), "{name}: {text}");
            met = Met::Named;
        } else {
            assert!(found == whole, "{name}: another snapshot");
        }
    }
    met
}
