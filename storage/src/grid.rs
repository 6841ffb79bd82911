//! `Grid`: one member's handle on everything below SQL; opens, serves, closes.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::{
    Error, GridConfig, Result, Table,
    cluster::control::{
        Command, Control, ExportRecord, ObjectId, TableRecord, records::snapshot_table,
        state::Relation,
    },
    env::Env,
    metrics::Metrics,
    partition::PartitionId,
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
}

/// The open tables. Filled when one is first asked for, emptied by the commands that drop one.
#[derive(Debug)]
struct Tables {
    router: Arc<Router>,
    open: Mutex<HashMap<ObjectId, Arc<Table>>>,
}

impl Grid {
    /// Opens an empty grid of one member. Invalid without partitions.
    pub fn open(config: GridConfig, env: Env) -> Result<Arc<Self>> {
        if config.partition_count == 0 {
            return Err(Error::Invalid("a grid has at least one partition".to_owned()));
        }
        let router = Router::new(&config, &env.network);
        let tables = Arc::new(Tables { router, open: Mutex::default() });
        let metrics = Arc::<Metrics>::default();
        let snapshots = Arc::new(SnapshotStore::new(&metrics));
        let pins = Arc::<Pins>::default();
        let control = {
            let (tables, snapshots) = (Arc::clone(&tables), Arc::clone(&snapshots));
            let pins = Arc::clone(&pins);
            Control::new(move |command, id, state| match command {
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
            })
        };
        control.submit(&Command::Assign(Router::first_assignment(&config)))?;
        Ok(Arc::new(Self { config, env, control, metrics, tables, snapshots, pins }))
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
        let filled = self.fill(&table, old, projection).and_then(|()| {
            self.tables.open.lock().insert(id, Arc::clone(&table));
            self.control.submit(&Command::ReplaceTable { replaced, record })
        });
        if let Err(error) = filled {
            self.tables.drop_table(id);
            return Err(error);
        }
        Ok(table)
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
    pub fn job_writers(&self, name: &str) -> Arc<JobWriters> {
        JobWriters::new(&self.tables.router, name)
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

    fn table_record(&self, id: ObjectId) -> Result<Arc<TableRecord>> {
        let state = self.control.state();
        let found = state.relations.values().find_map(|relation| match relation {
            Relation::Table(record) if record.id == id => Some(Arc::clone(record)),
            _ => None,
        });
        let of_job = || {
            let is_exported = |export: &Arc<ExportRecord>| snapshot_table(export.job) == id;
            let is_there = state.jobs.values().any(|job| job.snapshot_table == id)
                || state.exports.values().any(is_exported);
            is_there.then(|| Arc::new(snapshot::table_record(id)))
        };
        found
            .or_else(of_job)
            .ok_or_else(|| Error::NotFound { kind: "table", name: id.0.to_string() })
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
