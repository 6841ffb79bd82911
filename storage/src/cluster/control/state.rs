//! The state machine, and a member's handle on it: submit a command, read the state.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::{
    command::Command,
    exports::ExportRecord,
    raft::{ControlLog, Home},
    records::{
        JobError, JobRecord, JobStatus, MappingRecord, ObjectId, ObjectName, TableRecord,
        ViewRecord, snapshot_table,
    },
    snapshots::SnapshotCommand,
};
use crate::{Error, Result, env::Disk, partition::PartitionId};

/// A relation of the catalog.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Relation {
    /// A table.
    Table(Arc<TableRecord>),
    /// A mapping.
    Mapping(Arc<MappingRecord>),
    /// A view.
    View(Arc<ViewRecord>),
}

/// Everything the cluster agrees on; immutable once published.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ControlState {
    /// Number of commands applied; changes with every command.
    pub version: u64,
    /// Version at which catalog objects (not jobs) last changed.
    pub catalog_version: u64,
    /// Tables, mappings and views by name.
    pub relations: BTreeMap<ObjectName, Relation>,
    /// Jobs by id.
    pub jobs: BTreeMap<ObjectId, Arc<JobRecord>>,
    /// Exported snapshots by name.
    pub exports: BTreeMap<String, Arc<ExportRecord>>,
    /// The last id given away.
    pub object_id_last: u64,
    /// Who owns which partition.
    pub assignment: Assignment,
}

/// Which owner has which partition. Cheap to clone.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Assignment {
    /// Counts its changes: operations say by which version they were routed.
    pub version: u64,
    /// Owner by partition.
    pub owners: Arc<Vec<u16>>,
}

/// The one place where commands are put in order and applied.
#[derive(Default)]
pub struct Control {
    published: Arc<Published>,
    /// `None` if everything is in memory only.
    log: Option<(ControlLog, Before)>,
}

/// The state that everybody reads, and who is told of its changes.
#[derive(Default)]
pub(super) struct Published {
    /// Replaced whole under the write lock, read by cloning the `Arc`.
    state: RwLock<Arc<ControlState>>,
    /// Called under the write lock, so in command order; must not call back into `Control`.
    on_applied: Option<OnApplied>,
}

/// What a member does about an applied command, told the state after it.
type OnApplied = Box<dyn Fn(&Command, ObjectId, &ControlState) + Send + Sync>;

/// What must be done before a command may be durable.
type Before = Box<dyn Fn(&Command) -> Result<()> + Send + Sync>;

impl ControlState {
    /// Applies a command: pure, all or nothing. Answers the id of the object it is about, 0 for none.
    pub fn apply(&mut self, command: &Command) -> Result<ObjectId> {
        let (id, is_catalog_change) = match command {
            Command::CreateTable(record) => (
                self.create_relation(&record.name, false, |id| {
                    Relation::Table(Arc::new(TableRecord { id, ..record.clone() }))
                })?,
                true,
            ),
            Command::CreateMapping { record, replace } => (
                self.create_relation(&record.name, *replace, |id| {
                    Relation::Mapping(Arc::new(MappingRecord { id, ..record.clone() }))
                })?,
                true,
            ),
            Command::CreateView { record, replace } => (
                self.create_relation(&record.name, *replace, |id| {
                    Relation::View(Arc::new(ViewRecord { id, ..record.clone() }))
                })?,
                true,
            ),
            Command::DropRelation { kind, name } => (self.drop_relation(kind, name)?, true),
            Command::ReserveId => {
                self.object_id_last += 1;
                (ObjectId(self.object_id_last), false)
            }
            Command::ReplaceTable { replaced, record } => {
                (self.replace_table(*replaced, record)?, true)
            }
            Command::SetTableOptions { id, options } => {
                self.set_table_options(*id, options)?;
                (*id, true)
            }
            Command::CreateJob(record) => (self.create_job(record)?, false),
            Command::SetJobStatus { id, status, at, error } => {
                self.set_job_status(*id, *status, *at, error.as_ref())?;
                (*id, false)
            }
            Command::SetJobError { id, error } => {
                self.job_mut(*id)?.last_error = error.clone();
                (*id, false)
            }
            Command::SetJobOptions { id, options } => {
                self.job_mut(*id)?.options = options.clone();
                (*id, false)
            }
            Command::ExportSnapshot(request) => (self.export_snapshot(request)?, false),
            Command::DropSnapshot(name) => (self.drop_export(name)?, false),
            Command::Snapshot(id, change) => {
                let job = self.job_mut(*id)?;
                let goes_back = matches!(change, SnapshotCommand::GoBack { .. });
                if goes_back && job.status != JobStatus::Suspended {
                    let (name, status) = (&job.name, job.status.word());
                    return Err(Error::WrongState(format!("job \"{name}\" is {status}")));
                }
                job.snapshots.apply(change)?;
                (*id, false)
            }
            Command::Assign(owners) => {
                self.assignment.version += 1;
                self.assignment.owners = Arc::new(owners.clone());
                (ObjectId(0), false)
            }
            Command::Reassign { partition, owner } => {
                self.reassign(*partition, *owner)?;
                (ObjectId(0), false)
            }
            Command::DropJob(id) => {
                self.jobs.remove(id).ok_or_else(|| not_found("job", id.0.to_string()))?;
                (*id, false)
            }
        };
        self.version += 1;
        if is_catalog_change {
            self.catalog_version = self.version;
        }
        Ok(id)
    }

    /// The job of that name.
    pub fn job(&self, name: &str) -> Option<&Arc<JobRecord>> {
        self.jobs.values().find(|job| job.name == name)
    }
}

impl ControlState {
    /// Adds a relation, or puts it in the place of one of its own kind.
    fn create_relation(
        &mut self,
        name: &ObjectName,
        may_replace: bool,
        relation: impl FnOnce(ObjectId) -> Relation,
    ) -> Result<ObjectId> {
        let id = ObjectId(self.object_id_last + 1);
        let relation = relation(id);
        if let Some(present) = self.relations.get(name) {
            let is_replaced = may_replace && present.kind() == relation.kind();
            if !is_replaced {
                // PostgreSQL's word for every kind of it.
                return Err(Error::AlreadyExists { kind: "relation", name: name.name.clone() });
            }
        }
        self.object_id_last = id.0;
        self.relations.insert(name.clone(), relation);
        Ok(id)
    }

    fn replace_table(&mut self, replaced: ObjectId, record: &TableRecord) -> Result<ObjectId> {
        let is_drawn = record.id > replaced && record.id.0 <= self.object_id_last;
        assert!(is_drawn, "the id of a table that takes another's place was drawn for it");
        match self.relations.get_mut(&record.name) {
            Some(relation @ Relation::Table(_)) if relation.id() == replaced => {
                *relation = Relation::Table(Arc::new(record.clone()));
                Ok(record.id)
            }
            _ => Err(not_found("table", record.name.name.clone())),
        }
    }

    fn set_table_options(
        &mut self,
        id: ObjectId,
        options: &BTreeMap<String, String>,
    ) -> Result<()> {
        let found = self.relations.values_mut().find_map(|relation| match relation {
            Relation::Table(record) if record.id == id => Some(record),
            _ => None,
        });
        let record = found.ok_or_else(|| not_found("table", id.0.to_string()))?;
        Arc::make_mut(record).options.clone_from(options);
        Ok(())
    }

    fn drop_relation(&mut self, kind: &'static str, name: &ObjectName) -> Result<ObjectId> {
        match self.relations.get(name) {
            Some(relation) if relation.kind() == kind => {
                let id = relation.id();
                self.relations.remove(name);
                Ok(id)
            }
            Some(_) => Err(Error::Invalid(format!("\"{}\" is not a {kind}", name.name))),
            None => Err(not_found(kind, name.name.clone())),
        }
    }

    fn create_job(&mut self, record: &JobRecord) -> Result<ObjectId> {
        if self.job(&record.name).is_some() {
            return Err(Error::AlreadyExists { kind: "job", name: record.name.clone() });
        }
        if let Some(initial) = record.snapshots.initial
            && self.export(initial).is_none()
        {
            return Err(not_found("snapshot", initial.0.to_string()));
        }
        let id = ObjectId(self.object_id_last + 1);
        let snapshot_table = snapshot_table(id);
        self.object_id_last = snapshot_table.0;
        let record = JobRecord { id, snapshot_table, ..record.clone() };
        self.jobs.insert(id, Arc::new(record));
        Ok(id)
    }

    fn set_job_status(
        &mut self,
        id: ObjectId,
        status: JobStatus,
        at: i64,
        error: Option<&JobError>,
    ) -> Result<()> {
        let job = self.job_mut(id)?;
        if !job.status.may_become(status) {
            let (name, from, to) = (&job.name, job.status.word(), status.word());
            return Err(Error::WrongState(format!("job \"{name}\" cannot go from {from} to {to}")));
        }
        match status {
            JobStatus::Starting => {
                job.restarts += u64::from(job.started_at.is_some());
                job.started_at = Some(at);
            }
            // What ended an earlier execution no longer matters once the next one runs.
            JobStatus::Running | JobStatus::Completed => job.last_error = None,
            _ => {}
        }
        job.status = status;
        if let Some(error) = error {
            job.last_error = Some(error.clone());
        }
        Ok(())
    }

    fn reassign(&mut self, partition: PartitionId, owner: u16) -> Result<()> {
        let owners = Arc::make_mut(&mut self.assignment.owners);
        let Some(place) = owners.get_mut(usize::from(partition.0)) else {
            return Err(Error::Invalid(format!("there is no partition {}", partition.0)));
        };
        *place = owner;
        self.assignment.version += 1;
        Ok(())
    }

    pub(super) fn job_mut(&mut self, id: ObjectId) -> Result<&mut JobRecord> {
        let job = self.jobs.get_mut(&id).ok_or_else(|| not_found("job", id.0.to_string()))?;
        Ok(Arc::make_mut(job))
    }
}

impl Relation {
    /// `table`, `mapping` or `view`.
    pub fn kind(&self) -> &'static str {
        match self {
            Relation::Table(_) => "table",
            Relation::Mapping(_) => "mapping",
            Relation::View(_) => "view",
        }
    }

    /// Its identity.
    pub fn id(&self) -> ObjectId {
        match self {
            Relation::Table(record) => record.id,
            Relation::Mapping(record) => record.id,
            Relation::View(record) => record.id,
        }
    }
}

impl Control {
    /// A control in memory, whose `on_applied` is called, in order, after each applied command with
    /// the command, the id of the object it is about and the state: what this member does about it.
    pub fn new(
        on_applied: impl Fn(&Command, ObjectId, &ControlState) + Send + Sync + 'static,
    ) -> Self {
        Self { published: Arc::new(Published::new(on_applied)), log: None }
    }

    /// A control whose commands are durable, in the log `id` of a folder; an empty folder is one
    /// without commands. All that was acknowledged before is in its state when this returns, without
    /// any call; then `on_applied` is called as with [`Control::new`], on a thread of the log's.
    /// `before` is called by who submits, before the command can be durable: its error refuses the
    /// command.
    ///
    /// Damaged, with the file and why, if what was acknowledged is not whole; Disk and DiskFull.
    pub fn open(
        disk: &Arc<dyn Disk>,
        folder: &Path,
        id: u64,
        before: impl Fn(&Command) -> Result<()> + Send + Sync + 'static,
        on_applied: impl Fn(&Command, ObjectId, &ControlState) + Send + Sync + 'static,
    ) -> Result<Self> {
        let published = Arc::new(Published::new(on_applied));
        let home = Home { disk: Arc::clone(disk), folder: folder.to_path_buf(), id };
        let log = ControlLog::open(home, &published)?;
        Ok(Self { published, log: Some((log, Box::new(before))) })
    }

    /// The present state.
    pub fn state(&self) -> Arc<ControlState> {
        self.published.state()
    }

    /// Applies a command and publishes the state after it; with a log it is durable then. Blocks for
    /// as long as the disk takes, on any thread.
    ///
    /// Whatever [`ControlState::apply`] answers, and DiskFull, change nothing. Disk means that it is
    /// not known whether the command is durable: no further one is taken. Limit if its names and
    /// texts have some MiB together.
    pub fn submit(&self, command: &Command) -> Result<ObjectId> {
        let Some((log, before)) = &self.log else { return self.published.submit(command) };
        before(command)?;
        log.submit(command)
    }
}

impl Published {
    fn new(on_applied: impl Fn(&Command, ObjectId, &ControlState) + Send + Sync + 'static) -> Self {
        Self { state: RwLock::default(), on_applied: Some(Box::new(on_applied)) }
    }

    fn state(&self) -> Arc<ControlState> {
        Arc::clone(&self.state.read())
    }

    /// Applies a command to the published state.
    fn submit(&self, command: &Command) -> Result<ObjectId> {
        let mut published = self.state.write();
        let mut next = ControlState::clone(&published);
        let id = next.apply(command)?;
        *published = Arc::new(next);
        self.tell(command, id, &published);
        Ok(id)
    }

    /// Publishes the state after a command, and tells of it.
    pub(super) fn publish(&self, command: &Command, id: ObjectId, next: &Arc<ControlState>) {
        let mut published = self.state.write();
        *published = Arc::clone(next);
        self.tell(command, id, &published);
    }

    /// Publishes a state that was read; nobody is told of how it came about.
    pub(super) fn recover(&self, state: &Arc<ControlState>) {
        *self.state.write() = Arc::clone(state);
    }

    fn tell(&self, command: &Command, id: ObjectId, state: &ControlState) {
        if let Some(on_applied) = &self.on_applied {
            on_applied(command, id, state);
        }
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let log = self.log.as_ref().map(|(log, _)| log);
        formatter
            .debug_struct("Control")
            .field("state", &self.state())
            .field("log", &log)
            .finish_non_exhaustive()
    }
}

fn not_found(kind: &'static str, name: String) -> Error {
    Error::NotFound { kind, name }
}

#[cfg(test)]
mod tests;
