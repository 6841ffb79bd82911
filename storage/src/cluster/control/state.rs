//! The state machine and its local log of one member: `submit` a command, read a snapshot.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::RwLock;

use super::{
    command::Command,
    records::{JobRecord, MappingRecord, ObjectId, ObjectName, TableRecord, ViewRecord},
};
use crate::Result;

/// A relation of the catalog.
#[derive(Debug, Clone)]
pub enum Relation {
    /// A table.
    Table(Arc<TableRecord>),
    /// A mapping.
    Mapping(Arc<MappingRecord>),
    /// A view.
    View(Arc<ViewRecord>),
}

/// Everything the cluster agrees on; immutable once published.
#[derive(Debug, Clone, Default)]
pub struct ControlState {
    /// Number of commands applied; changes with every command.
    pub version: u64,
    /// Version at which catalog objects (not jobs) last changed.
    pub catalog_version: u64,
    /// Tables, mappings and views by name.
    pub relations: BTreeMap<ObjectName, Relation>,
    /// Jobs by id.
    pub jobs: BTreeMap<ObjectId, Arc<JobRecord>>,
    /// The last id given away.
    pub object_id_last: u64,
}

/// The one place where commands are put in order and applied.
#[derive(Debug, Default)]
pub struct Control {
    /// The published state; replaced whole under the write lock, read by cloning the `Arc`.
    state: RwLock<Arc<ControlState>>,
}

impl ControlState {
    /// Applies a command: pure, all or nothing. Answers the id of the object it is about.
    pub fn apply(&mut self, command: &Command) -> Result<ObjectId> {
        let _ = command;
        unimplemented!("owner: storage helper")
    }

    /// The job of that name.
    pub fn job(&self, name: &str) -> Option<&Arc<JobRecord>> {
        self.jobs.values().find(|job| job.name == name)
    }
}

impl Control {
    /// The present state.
    pub fn state(&self) -> Arc<ControlState> {
        Arc::clone(&self.state.read())
    }

    /// Applies a command and publishes the state after it.
    pub fn submit(&self, command: &Command) -> Result<ObjectId> {
        let mut published = self.state.write();
        let mut next = ControlState::clone(&published);
        let id = next.apply(command)?;
        *published = Arc::new(next);
        Ok(id)
    }
}
