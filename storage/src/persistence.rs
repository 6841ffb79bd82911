//! `Persistence`: what a grid keeps in its data directory, so that nothing is lost when the process
//! stops: opened once (recovery), kept small while it serves (checkpoints), closed.
//!
//! ```text
//!   open      control state ──► its tables ──► their checkpoints ──► data log from there ──► serve
//!                                                                    │ what nobody decided is decided
//!   serve     changes of rows ──► data log;  a table that changed much ──► checkpoint ──► log is cut
//! ```
//! The control state comes first: it says which tables there are, and which snapshots of jobs are
//! good. A control command is written only when every record of the data log before it is on disk, so
//! whatever a command speaks of is there.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, Table,
    checkpoint::CheckpointStore,
    cluster::control::{ControlState, Durability, ObjectId},
    data_dir::DataDir,
    data_log::{DataLog, JobRun, Position, Recovered, Replay},
    env::disk::{Disk, Seal, read_sealed, write_sealed},
    log::{Lsn, Opened},
    table::{ReadMode, Writer, logged::LoggedMark, router::Router},
};

/// The file that says which records of the data log are needed no more, and what stands for them.
const CUT: &str = "cut";
/// Its bytes, at most: some for each of a million tables.
const CUT_BYTES_MAX: u64 = 32 << 20;
const CUT_MAGIC: [u8; 8] = *b"TWLOGCUT";
const CUT_VERSION: u16 = 1;

/// Bytes of changes from which a checkpoint of a table may pay; a large one waits for half its size.
const DUE_BYTES: u64 = 16 << 20;

/// Bytes of the data log from which tables are written whose old changes keep it long.
const LOG_BYTES_MAX: u64 = if cfg!(test) { 1 << 19 } else { 256 << 20 };

/// What a recovery found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoverySummary {
    /// Tables that are kept.
    pub tables: u64,
    /// Rows loaded from checkpoints.
    pub rows: u64,
    /// Records of the data log that were read.
    pub records: u64,
    /// Bytes of the torn end of the data log that were cut: writes that nobody was told of.
    pub torn_bytes: u64,
}

/// The data directory of a grid that serves.
#[derive(Debug)]
pub struct Persistence {
    disk: Arc<dyn Disk>,
    dir: DataDir,
    log: Arc<DataLog>,
    checkpoints: CheckpointStore,
    summary: RecoverySummary,
    /// Held while checkpoints are taken.
    progress: Mutex<Progress>,
}

/// How far the checkpoints are.
#[derive(Debug, Default)]
struct Progress {
    /// The newest record when they were looked at last.
    looked_at: Lsn,
    tables: BTreeMap<ObjectId, Checkpointed>,
}

/// Up to where the checkpoint of a table, or its emptiness, shows what the log says.
#[derive(Debug, Clone, Default)]
struct Checkpointed {
    position: Position,
    /// What had been written down by then.
    mark: LoggedMark,
    /// The record up to which the checkpoint on disk goes, if there is one.
    on_disk: Option<Lsn>,
}

/// What the log was cut for: records before `first` are in checkpoints, those of these tables that go
/// at least up to the record beside them.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cut {
    first: Lsn,
    checkpoints: Vec<(ObjectId, Lsn)>,
}

/// Which tables a checkpoint is taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that have changed much, and those that keep the log long.
    Due,
    /// All that have changed.
    Changed,
}

impl Persistence {
    /// Brings `tables`, the empty ones of the control state, to what is stored of them.
    pub(crate) fn recover(
        disk: &Arc<dyn Disk>,
        dir: DataDir,
        (state, router): (&ControlState, &Arc<Router>),
        tables: &HashMap<ObjectId, Arc<Table>>,
    ) -> Result<Self> {
        let id = dir.cluster_id();
        let mut summary = RecoverySummary::default();
        let checkpoints = CheckpointStore::new(disk, &dir.tables(), id);
        for id in checkpoints.tables()?.into_iter().filter(|id| !tables.contains_key(id)) {
            checkpoints.remove(id)?;
        }
        let kept = tables.values().filter(|table| is_kept(table)).map(Arc::clone);
        let kept: Vec<Arc<Table>> = kept.collect();
        let cut = Cut::read(&**disk, &dir.log(), id)?;
        let mut recovered = HashMap::new();
        for (loaded, table) in checkpoints.load(&kept, load_threads()).into_iter().zip(kept) {
            let loaded = loaded?;
            summary.rows += loaded.as_ref().map_or(0, |loaded| loaded.rows);
            let position = loaded.map(|loaded| loaded.position).unwrap_or_default();
            cut.check(&dir.tables(), table.record().id, position.lsn)?;
            recovered.insert(table.record().id, Recovered { table, position });
        }
        summary.tables = recovered.len() as u64;
        let needed = recovered.values().map(|table| table.position.needs()).min();
        let from = needed.unwrap_or_default().max(cut.first);
        let mut replay = Replay::new(&recovered, || Writer::begin(router, None));
        let (log, opened) =
            DataLog::open(disk, &dir.log(), id, from, |lsn, record| replay.apply(lsn, record))?;
        let newest = recovered.values().map(|table| table.position.lsn).max().unwrap_or_default();
        check_whole(&log, &dir.log(), from, newest)?;
        let Opened { records, torn_bytes } = opened;
        (summary.records, summary.torn_bytes) = (records, torn_bytes);
        for run in replay.undecided_runs() {
            if let Some(snapshot) = newest_good(state, run) {
                replay.commit_job(run, snapshot)?;
                log.commit_job(run, snapshot);
            }
        }
        let changed = replay.into_changed();
        log.start()?;
        let tables = recovered.into_iter().map(|(id, Recovered { position, .. })| {
            let mark = LoggedMark::before_replay(changed.contains(&id));
            let on_disk = Some(position.lsn).filter(|lsn| lsn.0 > 0);
            (id, Checkpointed { position, mark, on_disk })
        });
        let progress = Progress { looked_at: log.newest(), tables: tables.collect() };
        router.log_to(&log);
        let (disk, progress) = (Arc::clone(disk), Mutex::new(progress));
        Ok(Self { disk, dir, log, checkpoints, summary, progress })
    }

    /// The data log.
    pub fn log(&self) -> &Arc<DataLog> {
        &self.log
    }

    /// What was found when it was opened.
    pub fn summary(&self) -> RecoverySummary {
        self.summary
    }

    /// Takes checkpoints of tables, and forgets the records of the log that no table needs any more.
    /// `open` answers the tables there are.
    pub(crate) fn checkpoint(
        &self,
        router: &Arc<Router>,
        open: impl Fn() -> Vec<Arc<Table>>,
        which: Which,
    ) -> Result<()> {
        let mut progress = self.progress.lock();
        // The tables after the record: one that comes later has only later records.
        let (newest, undecided) = router.writers().log_position().unwrap_or_default();
        let tables: Vec<_> = open().into_iter().filter(is_kept).collect();
        let Progress { looked_at, tables: all } = &mut *progress;
        self.forget_dropped(all, &tables)?;
        for table in &tables {
            let id = table.record().id;
            let begun = || Position { lsn: *looked_at, undecided: Vec::new() };
            let one = all
                .entry(id)
                .or_insert_with(|| Checkpointed { position: begun(), ..Checkpointed::default() });
            let logged = router.logged(id);
            if logged.is_unchanged_since(&one.mark) && one.position.undecided.is_empty() {
                one.position.lsn = newest;
                continue;
            }
            let bytes = logged.bytes - one.mark.bytes;
            if which == Which::Changed || (bytes >= DUE_BYTES && bytes >= table.stats().bytes / 2) {
                *one = self.write(router, table)?;
            }
        }
        if self.log.bytes() > LOG_BYTES_MAX {
            // Whoever needs its oldest half.
            let half = Lsn(self.log.first().0.midpoint(newest.0));
            for table in &tables {
                match all.get_mut(&table.record().id) {
                    Some(one) if one.position.needs() <= half => {
                        *one = self.write(router, table)?;
                    }
                    _ => {}
                }
            }
        }
        *looked_at = newest;
        let open = undecided.iter().map(|(first, _)| *first).min();
        let needed = all.values().map(|one| one.position.needs()).chain(open).min();
        let first = needed.unwrap_or(Lsn(newest.0 + 1));
        if !self.log.can_cut(first) {
            return Ok(());
        }
        let on_disk = all.iter().filter_map(|(id, one)| Some((*id, one.on_disk?)));
        let cut = Cut { first, checkpoints: on_disk.collect() };
        cut.write(&*self.disk, &self.dir.log(), self.dir.cluster_id())?;
        self.log.cut(first)
    }

    /// Takes the checkpoint of one table.
    fn write(&self, router: &Arc<Router>, table: &Table) -> Result<Checkpointed> {
        // In this order: what was done by the mark is in the log up to the position, and what is
        // there the view shows.
        let mark = router.logged(table.record().id);
        let (lsn, undecided) = router.writers().log_position().unwrap_or_default();
        let position = Position { lsn, undecided };
        let view = router.read_view(ReadMode::Durable);
        self.checkpoints.write(table, &view, &position, || self.log.sync())?;
        let on_disk = Some(position.lsn);
        Ok(Checkpointed { position, mark, on_disk })
    }

    /// Takes the first checkpoint of a table that was in memory alone, and in which no writer is open:
    /// when this returns, all of its rows are kept.
    pub(crate) fn begin_to_keep(&self, router: &Arc<Router>, table: &Table) -> Result<()> {
        let mut progress = self.progress.lock();
        let written = self.write(router, table)?;
        progress.tables.insert(table.record().id, written);
        Ok(())
    }

    /// Removes what is kept of tables that are gone.
    fn forget_dropped(
        &self,
        all: &mut BTreeMap<ObjectId, Checkpointed>,
        tables: &[Arc<Table>],
    ) -> Result<()> {
        let is_there = |id: &ObjectId| tables.iter().any(|table| table.record().id == *id);
        let gone: Vec<_> = all.keys().copied().filter(|id| !is_there(id)).collect();
        for id in gone {
            self.checkpoints.remove(id)?;
            all.remove(&id);
        }
        Ok(())
    }
}

/// Whether a table is kept on disk.
fn is_kept(table: &Arc<Table>) -> bool {
    table.durability() != Durability::Memory
}

/// Threads that load checkpoints.
fn load_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The newest good snapshot of an execution.
fn newest_good(state: &ControlState, run: JobRun) -> Option<u64> {
    let good = state.jobs.get(&run.job)?.snapshots.good.iter();
    good.filter(|good| good.execution == run.execution).map(|good| good.id).max()
}

/// Damaged if the log does not have the records from `from` on, or not those up to `newest`, which a
/// checkpoint shows.
fn check_whole(log: &DataLog, folder: &Path, from: Lsn, newest: Lsn) -> Result<()> {
    let last = log.newest();
    let missing = match () {
        () if log.first() > from => (from.0, log.first().0 - 1),
        () if last.0 + 1 < from.0.max(newest.0 + 1) => (last.0 + 1, from.0.max(newest.0 + 1) - 1),
        () => return Ok(()),
    };
    let (folder, (first, last)) = (folder.display(), missing);
    Err(Error::Damaged(format!("{folder}: records {first} to {last} of the data log are missing")))
}

impl Cut {
    /// What is said in the folder of log `id`; nothing before the first cut.
    fn read(disk: &dyn Disk, folder: &Path, id: u64) -> Result<Self> {
        let path = folder.join(CUT);
        let Some((_, bytes)) = read_sealed(disk, &path, &Self::seal(id), CUT_BYTES_MAX)? else {
            return Ok(Self { first: Lsn(1), checkpoints: Vec::new() });
        };
        let unreadable =
            |error: postcard::Error| Error::Damaged(format!("{}: {error}", path.display()));
        postcard::from_bytes(&bytes).map_err(unreadable)
    }

    fn write(&self, disk: &dyn Disk, folder: &Path, id: u64) -> Result<()> {
        let bytes = postcard::to_stdvec(self).expect("numbers have bytes");
        write_sealed(disk, folder, CUT, &Self::seal(id), &bytes)
    }

    /// Damaged if the checkpoint of a table that was loaded, up to record `lsn`, is not the one that
    /// the log was cut for, or a later one: what it lacks is nowhere else.
    fn check(&self, tables: &Path, table: ObjectId, lsn: Lsn) -> Result<()> {
        let expected = self.checkpoints.iter().find(|(id, _)| *id == table).map(|(_, lsn)| *lsn);
        let Some(expected) = expected.filter(|expected| lsn < *expected) else { return Ok(()) };
        let folder = tables.join(table.0.to_string());
        let found = match lsn.0 {
            0 => "missing".to_owned(),
            older => format!("an older one, up to record {older}"),
        };
        Err(Error::Damaged(format!(
            "{}: the checkpoint up to record {} of the data log is {found}",
            folder.display(),
            expected.0
        )))
    }

    fn seal(id: u64) -> Seal {
        Seal { magic: CUT_MAGIC, version: CUT_VERSION, owner: [id, 0] }
    }
}
