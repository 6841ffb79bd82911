//! `Grid`: one member's handle on everything below SQL; opens, serves, closes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

use crate::{
    Error, GridConfig, Persistence, Result, Table,
    cluster::control::{
        Command, Control, ControlState, Durability, ExportRecord, ObjectId, TableRecord,
        records::snapshot_table, state::Relation,
    },
    data_dir::DataDir,
    data_log::{DataLog, JobRun},
    env::Env,
    metrics::Metrics,
    partition::PartitionId,
    persistence::Which,
    snapshot::{self, SnapshotStore},
    table::{
        JobWriters, Pins, ReadMode, ReadView, Turn, WriteMode, Writer, check_stopped,
        closing::ClosedTable, router::Router,
    },
};

/// One member's handle on the grid.
#[derive(Debug)]
pub struct Grid {
    config: GridConfig,
    env: Env,
    control: Control,
    metrics: Arc<Metrics>,
    tables: Arc<Tables>,
    snapshots: Arc<SnapshotStore>,
    pins: Arc<Pins>,
    persistence: Option<Persistence>,
}

/// What a grid is made of before it has a control state.
struct Parts {
    config: GridConfig,
    env: Env,
    metrics: Arc<Metrics>,
    tables: Arc<Tables>,
    snapshots: Arc<SnapshotStore>,
    pins: Arc<Pins>,
}

/// The open tables. Filled when one is first asked for, emptied by the commands that drop one.
#[derive(Debug)]
struct Tables {
    router: Arc<Router>,
    open: Mutex<HashMap<ObjectId, Arc<Table>>>,
}

impl Grid {
    /// Opens a grid of one member: an empty one, or what is in its data directory if it has one.
    /// Invalid without partitions; Damaged, naming the file and the place, if what is there is not
    /// what was written.
    pub fn open(config: GridConfig, env: Env) -> Result<Arc<Self>> {
        let parts = Parts::new(config, env)?;
        let (parts, dir) = parts.open_data_dir()?;
        let Some(dir) = dir else {
            let control = Control::new(parts.on_applied());
            parts.agree_on_owners(&control)?;
            return Ok(Arc::new(parts.into_grid(control, None)));
        };
        let grid = parts.open_on_disk(dir)?;
        grid.snapshots.adopt(&grid)?;
        Ok(Arc::new(grid))
    }

    /// What it keeps on disk, if it has a data directory.
    pub fn persistence(&self) -> Option<&Persistence> {
        self.persistence.as_ref()
    }

    /// What it was opened with.
    pub fn config(&self) -> &GridConfig {
        &self.config
    }

    /// The doors to the outside world.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Catalog and jobs. Dropping a table here also frees its rows.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// All metrics of this member.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The snapshots of all jobs.
    pub fn snapshots(&self) -> &SnapshotStore {
        &self.snapshots
    }

    /// The changes of tables that are kept for jobs.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The table of that id; NotFound after its drop.
    pub fn table(&self, id: ObjectId) -> Result<Arc<Table>> {
        if let Some(table) = self.tables.open.lock().get(&id) {
            return Ok(Arc::clone(table));
        }
        let record = self.table_record(id)?;
        let mut open = self.tables.open.lock();
        if let Some(table) = open.get(&id) {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(Table::open(record, &self.tables.router)?);
        open.insert(id, Arc::clone(&table));
        drop(open);
        // A drop may have come in between, and found nothing to free.
        if let Err(gone) = self.table_record(id) {
            self.tables.drop_table(id);
            return Err(gone);
        }
        Ok(table)
    }

    /// Creates a table and opens it. AlreadyExists if any relation has its name.
    pub fn create_table(&self, record: TableRecord) -> Result<Arc<Table>> {
        self.table(self.control.submit(&Command::CreateTable(record))?)
    }

    /// Puts a table of the columns `projection` of `old`, with all its rows, in the place of `old`:
    /// who asks for its name finds either. Meanwhile nobody writes to `old`; who tries waits, up to
    /// a bound. DuplicateKey and NullValue if the rows do not fit `record`, Conflict if writers do
    /// not let go of `old`; then nothing has changed.
    pub fn replace_table(
        &self,
        old: &Table,
        record: TableRecord,
        projection: &[usize],
    ) -> Result<Arc<Table>> {
        let router = &self.tables.router;
        let replaced = old.record().id;
        let _closed = ClosedTable::close(router, replaced)?;
        let id = self.control.submit(&Command::ReserveId)?;
        let record = TableRecord { id, ..record };
        let table = Arc::new(Table::open(Arc::new(record.clone()), router)?);
        // Nobody finds it yet; but what is written to it is not forgotten.
        self.tables.open.lock().insert(id, Arc::clone(&table));
        let filled = self
            .fill(&table, old, projection)
            .and_then(|()| self.control.submit(&Command::ReplaceTable { replaced, record }));
        if let Err(error) = filled {
            self.tables.drop_table(id);
            return Err(error);
        }
        Ok(table)
    }

    /// Puts other options in the place of a table's. An acknowledged write survives what they say when
    /// this returns; of a table that was in memory alone all rows do. Conflict if writers do not let
    /// go of such a table; then, and after any other error, nothing has changed.
    pub fn set_table_options(
        &self,
        table: &Table,
        options: BTreeMap<String, String>,
    ) -> Result<()> {
        let (id, before) = (table.record().id, table.durability());
        let record = TableRecord { options: options.clone(), ..TableRecord::clone(table.record()) };
        let after = record.durability();
        let router = &self.tables.router;
        let kept = || -> Result<()> {
            if let (Some(persistence), Durability::Memory) = (&self.persistence, before)
                && after != before
            {
                // What a writer has done that is open now was not written down.
                let closed = ClosedTable::close(router, id)?;
                table.set_durability(after);
                drop(closed);
                persistence.begin_to_keep(router, table)?;
            }
            self.control.submit(&Command::SetTableOptions { id, options }).map(drop)
        };
        let outcome = kept();
        table.set_durability(if outcome.is_ok() { after } else { before });
        outcome
    }

    /// Copies all rows of `old` into a table that nobody knows yet.
    fn fill(&self, table: &Table, old: &Table, projection: &[usize]) -> Result<()> {
        let writer = self.begin();
        for lane in old.scan(&self.read_view(), Some(projection), 1)? {
            for batch in lane {
                check_stopped()?;
                table.write_batch(&writer, WriteMode::Insert, &batch?)?;
            }
        }
        writer.commit()
    }

    /// Frees what an exported snapshot needed alone. To be called after the command that dropped or
    /// replaced it.
    pub fn release_export(&self, export: &ExportRecord) -> Result<()> {
        let (state, id) = (self.control.state(), export.snapshot.id);
        let exported = state.exported_of(export.job);
        if exported.contains(&id) {
            return Ok(());
        }
        match state.jobs.get(&export.job) {
            None if exported.is_empty() => {
                self.tables.drop_table(snapshot_table(export.job));
                self.snapshots.forget(export.job);
                Ok(())
            }
            // The job frees it with its own.
            Some(job) if job.snapshots.good.iter().any(|good| good.id == id) => Ok(()),
            _ => self.snapshots.release(self, export.job, id),
        }
    }

    /// A new pending writer.
    pub fn begin(&self) -> Writer {
        Writer::begin(&self.tables.router, None)
    }

    /// What a statement waits for that met the writer `blocker` and holds no thread; `own` is the
    /// writer of its block. Deadlock if `blocker` waits for `own`.
    pub fn turn(&self, blocker: u64, own: Option<&Writer>) -> Result<Turn> {
        Turn::after(self.tables.router.writers(), blocker, own.map(Writer::id))
    }

    /// The writers of a new execution of a job; `name` says which in errors.
    pub fn job_writers(&self, name: &str, run: JobRun) -> Arc<JobWriters> {
        JobWriters::new(&self.tables.router, name, run)
    }

    /// Everything there is by now, what jobs have published included; see [`ReadView::in_mode`].
    pub fn read_view(&self) -> ReadView {
        self.tables.router.read_view(ReadMode::default())
    }

    /// Moves a partition with all its rows to another of the simulated owners, as a migration
    /// between members will: operations under way are answered Moved or Retry and follow.
    pub fn move_partition(&self, partition: PartitionId, owner: u16) -> Result<()> {
        let agree = || self.control.submit(&Command::Reassign { partition, owner }).map(drop);
        self.tables.router.move_partition(partition, owner, agree)
    }

    /// The way to all tables.
    #[cfg(test)]
    pub(crate) fn tables_router(&self) -> &Arc<Router> {
        &self.tables.router
    }

    /// Answers that simulated owners remember, in case they are asked for again.
    #[cfg(test)]
    pub(crate) fn remembered_count(&self) -> usize {
        self.tables.router.remembered_count()
    }

    /// Rows of all tables that not every reader sees alike.
    #[cfg(test)]
    pub(crate) fn unsettled_count(&self) -> usize {
        self.tables.router.unsettled_count()
    }

    /// Tidies all tables: drops row versions that no view needs any more and compacts. Writers do
    /// this for what they touch; this is for what nobody touches.
    pub fn maintain(&self) -> Result<()> {
        let tables: Vec<_> = self.tables.open.lock().keys().copied().collect();
        let partitions: Vec<_> = (0..self.config.partition_count).map(PartitionId).collect();
        tables.into_iter().try_for_each(|table| self.tables.router.settle(table, &partitions))
    }

    /// Takes checkpoints of the tables that have changed much, and cuts the data log. Nothing without
    /// a data directory.
    pub fn checkpoint_due(&self) -> Result<()> {
        self.checkpoint(Which::Due)
    }

    /// Takes checkpoints of all tables that have changed: there is next to nothing to replay then.
    pub fn checkpoint_all(&self) -> Result<()> {
        self.checkpoint(Which::Changed)
    }

    fn checkpoint(&self, which: Which) -> Result<()> {
        let Some(persistence) = &self.persistence else { return Ok(()) };
        let open = || self.tables.open.lock().values().map(Arc::clone).collect();
        persistence.checkpoint(&self.tables.router, open, which)
    }

    fn table_record(&self, id: ObjectId) -> Result<Arc<TableRecord>> {
        let state = self.control.state();
        let found = state.relations.values().find_map(|relation| match relation {
            Relation::Table(record) if record.id == id => Some(Arc::clone(record)),
            _ => None,
        });
        let of_job = || {
            let mut tables = manifest_tables(&state);
            tables.any(|table| table == id).then(|| Arc::new(snapshot::table_record(id)))
        };
        found
            .or_else(of_job)
            .ok_or_else(|| Error::NotFound { kind: "table", name: id.0.to_string() })
    }
}

/// The tables that hold the manifests of jobs' snapshots.
fn manifest_tables(state: &ControlState) -> impl Iterator<Item = ObjectId> {
    let of_jobs = state.jobs.values().map(|job| job.snapshot_table);
    of_jobs.chain(state.exports.values().map(|export| snapshot_table(export.job)))
}

impl Parts {
    fn new(config: GridConfig, env: Env) -> Result<Self> {
        if config.partition_count == 0 {
            return Err(Error::Invalid("a grid has at least one partition".to_owned()));
        }
        let router = Router::new(&config, &env.network);
        let tables = Arc::new(Tables { router, open: Mutex::default() });
        let metrics = Arc::<Metrics>::default();
        let snapshots = Arc::new(SnapshotStore::new(&metrics));
        Ok(Self { config, env, metrics, tables, snapshots, pins: Arc::default() })
    }

    /// What is done about each applied command.
    fn on_applied(&self) -> impl Fn(&Command, ObjectId, &ControlState) + Send + Sync + 'static {
        let (tables, snapshots) = (Arc::clone(&self.tables), Arc::clone(&self.snapshots));
        let pins = Arc::clone(&self.pins);
        move |command, id, state| match command {
            Command::DropRelation { kind: "table", .. } => tables.drop_table(id),
            Command::ReplaceTable { replaced, .. } => tables.replace_table(*replaced),
            // What is exported outlives the job.
            Command::DropJob(_) => {
                pins.forget(id);
                if state.exported_of(id).is_empty() {
                    tables.drop_table(snapshot_table(id));
                    snapshots.forget(id);
                }
            }
            Command::SetJobStatus { id, status, .. } if status.is_terminal() => {
                pins.forget(*id);
            }
            Command::Assign(_) | Command::Reassign { .. } => {
                tables.router.assign(&state.assignment);
            }
            _ => {}
        }
    }

    /// Opens the data directory, or founds it, if there is to be one.
    fn open_data_dir(mut self) -> Result<(Self, Option<DataDir>)> {
        let Some(root) = &self.config.data_dir else { return Ok((self, None)) };
        let Env { disk, rng, .. } = &self.env;
        let dir = DataDir::open(disk, rng, root, self.config.partition_count)?;
        let snapshots =
            SnapshotStore::open(disk, &dir.snapshots(), dir.cluster_id(), &self.metrics)?;
        self.snapshots = Arc::new(snapshots);
        Ok((self, Some(dir)))
    }

    /// Opens what is in a data directory.
    fn open_on_disk(self, dir: DataDir) -> Result<Grid> {
        let disk = &self.env.disk;
        // Before a command says anything of rows, they are on disk.
        let log = Arc::new(OnceLock::<Arc<DataLog>>::new());
        let synced = Arc::clone(&log);
        let before = move |_: &Command| synced.get().map_or(Ok(()), |log| log.sync());
        let control_id = dir.cluster_id() ^ 1;
        let control = Control::open(disk, &dir.control(), control_id, before, self.on_applied())?;
        self.agree_on_owners(&control)?;
        let persistence = self.recover(dir, &control.state())?;
        assert!(log.set(Arc::clone(persistence.log())).is_ok(), "it is opened once");
        Ok(self.into_grid(control, Some(persistence)))
    }

    /// Gives every partition the owner that this process has made for it.
    fn agree_on_owners(&self, control: &Control) -> Result<()> {
        let owners = Router::first_assignment(&self.config);
        if *control.state().assignment.owners != owners {
            control.submit(&Command::Assign(owners))?;
        }
        self.tables.router.assign(&control.state().assignment);
        Ok(())
    }

    /// Opens the tables of a control state and fills them with what is stored of them.
    fn recover(&self, dir: DataDir, state: &ControlState) -> Result<Persistence> {
        let named = state.relations.values().filter_map(|relation| match relation {
            Relation::Table(record) => Some(Arc::clone(record)),
            _ => None,
        });
        let manifests = manifest_tables(state).map(|id| Arc::new(snapshot::table_record(id)));
        let mut open = self.tables.open.lock();
        for record in named.chain(manifests) {
            let id = record.id;
            open.insert(id, Arc::new(Table::open(record, &self.tables.router)?));
        }
        let router = &self.tables.router;
        Persistence::recover(&self.env.disk, dir, (state, router), &open)
    }

    fn into_grid(self, control: Control, persistence: Option<Persistence>) -> Grid {
        let Self { config, env, metrics, tables, snapshots, pins } = self;
        Grid { config, env, control, metrics, tables, snapshots, pins, persistence }
    }
}

impl Tables {
    /// A table whose rows stand in another one now.
    fn replace_table(&self, id: ObjectId) {
        if let Some(table) = self.open.lock().get(&id) {
            table.replaced();
        }
        self.drop_table(id);
    }

    fn drop_table(&self, id: ObjectId) {
        self.open.lock().remove(&id);
        self.router.drop_table(id);
    }
}
