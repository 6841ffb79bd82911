//! The control state as openraft's state machine: entries are applied to it in order, and it is
//! saved whole now and then, so that the log can be cut.
//!
//! ```text
//!   while it is recovered: entries ──► state                      nobody is told
//!   afterwards:            entry ────► a copy ──► published ──► on_applied
//! ```

use std::{
    io::Cursor,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use openraft::{
    OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError, storage::RaftStateMachine,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    record::{Place, StoredSets},
    types::{Entry, LogId, Payload, SnapshotMeta, StoreResult, StoredVoters, Types, Vote},
};
use crate::{
    Error, Result,
    cluster::control::{Command, ControlState, ObjectId, state::Published},
    env::{
        Disk,
        disk::{Seal, read_sealed, write_sealed},
    },
    log::Lsn,
};

/// File name of the saved state.
const FILE: &str = "state";
/// Bytes of a saved state at most: far more than any catalog, and what memory can hold.
const BYTES_MAX: u64 = 1 << 30;
/// Version of a saved state's format.
const VERSION: u16 = 1;

/// The state machine. Cheap to clone: every clone is the same.
#[derive(Clone)]
pub(super) struct Machine(Arc<Inner>);

struct Inner {
    place: Home,
    published: Arc<Published>,
    /// Whether what is applied is new.
    is_open: AtomicBool,
    applied: Mutex<Applied>,
    /// What the file says, if there is one.
    saved: Mutex<Option<SnapshotMeta>>,
    /// Why an entry could not be applied, in the crate's words: openraft has its own.
    failure: Mutex<Option<Error>>,
}

/// Where the state is saved, and for which log.
#[derive(Debug, Clone)]
pub(in crate::cluster::control) struct Home {
    pub(in crate::cluster::control) disk: Arc<dyn Disk>,
    pub(in crate::cluster::control) folder: PathBuf,
    pub(in crate::cluster::control) id: u64,
}

/// What the log said when a state was saved.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Logged {
    pub(super) newest: Lsn,
    pub(super) vote: Option<Vote>,
}

/// All that was applied.
#[derive(Debug, Clone, Default)]
pub(super) struct Applied {
    pub(super) last: Option<LogId>,
    voters: StoredVoters,
    pub(super) state: Arc<ControlState>,
}

/// A saved state.
#[derive(Serialize, Deserialize)]
struct Saved {
    last: Option<Place>,
    voters: StoredSets,
    /// The newest record of the log when it was saved, 0 if that is not known: so far the log goes
    /// at least, and nothing up to there is needed any more.
    newest: u64,
    /// Whom this member had voted for last: term and node.
    vote: Option<(u64, u64)>,
    state: ControlState,
}

impl Home {
    fn seal(&self) -> Seal {
        Seal { magic: *b"TWCTLSTA", version: VERSION, owner: [self.id, 0] }
    }

    /// The state that was saved last, and how far the log went then, with the vote.
    pub(super) fn load(&self) -> Result<Option<(Applied, Logged)>> {
        let Some(payload) = self.payload()? else { return Ok(None) };
        let saved: Saved = postcard::from_bytes(&payload).map_err(|error| {
            Error::Damaged(format!("{}: {error}", self.folder.join(FILE).display()))
        })?;
        let applied = Applied {
            last: saved.last.map(Place::log_id),
            voters: saved.voters.stored(),
            state: Arc::new(saved.state),
        };
        let vote = saved.vote.map(|(term, node)| Vote::new(term, node));
        Ok(Some((applied, Logged { newest: Lsn(saved.newest), vote })))
    }

    fn payload(&self) -> Result<Option<Vec<u8>>> {
        let path = self.folder.join(FILE);
        let read = read_sealed(&*self.disk, &path, &self.seal(), BYTES_MAX)?;
        Ok(read.map(|(_version, payload)| payload))
    }

    fn save(&self, payload: &[u8]) -> Result<()> {
        write_sealed(&*self.disk, &self.folder, FILE, &self.seal(), payload)
    }
}

impl Applied {
    fn meta(&self) -> SnapshotMeta {
        let id = self.last.map_or_else(String::new, |last| last.to_string());
        SnapshotMeta {
            last_log_id: self.last,
            last_membership: self.voters.clone(),
            snapshot_id: id,
        }
    }

    /// Applies an entry; nobody else may hold the state, or it is copied.
    fn apply(&mut self, entry: Entry) -> Result<Option<(Command, ObjectId)>> {
        let command = match entry.payload {
            Payload::Blank => None,
            Payload::Membership(voters) => {
                self.voters = StoredVoters::new(Some(entry.log_id), voters);
                None
            }
            Payload::Normal(bytes) => {
                let damaged = |why: &dyn std::fmt::Display| {
                    let index = entry.log_id.index;
                    Error::Damaged(format!("command {index} of the control log: {why}"))
                };
                let command: Command =
                    postcard::from_bytes(&bytes).map_err(|error| damaged(&error))?;
                let state = Arc::make_mut(&mut self.state);
                let id = state.apply(&command).map_err(|error| damaged(&error))?;
                Some((command, id))
            }
        };
        self.last = Some(entry.log_id);
        Ok(command)
    }
}

impl Machine {
    /// A state machine that goes on from what was loaded; nothing is published before
    /// [`Machine::serve`].
    pub(super) fn new(place: Home, published: &Arc<Published>, loaded: Option<Applied>) -> Self {
        Self(Arc::new(Inner {
            place,
            published: Arc::clone(published),
            is_open: AtomicBool::new(false),
            saved: Mutex::new(loaded.as_ref().map(Applied::meta)),
            applied: Mutex::new(loaded.unwrap_or_default()),
            failure: Mutex::default(),
        }))
    }

    /// All that was in the log is applied: from here on what is applied is told.
    pub(super) fn serve(&self) {
        self.0.published.recover(&self.0.applied.lock().state);
        self.0.is_open.store(true, Ordering::Release);
    }

    /// Why openraft was told that an entry cannot be applied, if it was.
    pub(super) fn failure(&self) -> Option<Error> {
        self.0.failure.lock().clone()
    }

    /// The state by now.
    pub(super) fn state(&self) -> Arc<ControlState> {
        Arc::clone(&self.0.applied.lock().state)
    }

    /// Saves the state as it is, with what the log says.
    pub(super) fn save(&self, logged: Logged) -> Result<()> {
        let applied = self.0.applied.lock().clone();
        let meta = applied.meta();
        let payload = encode(applied, logged)?;
        self.0.place.save(&payload)?;
        *self.0.saved.lock() = Some(meta);
        Ok(())
    }

    fn apply(&self, entry: Entry) -> Result<ObjectId> {
        let mut applied = self.0.applied.lock();
        let Some((command, id)) = applied.apply(entry)? else { return Ok(ObjectId(0)) };
        if self.0.is_open.load(Ordering::Acquire) {
            self.0.published.publish(&command, id, &applied.state);
        }
        Ok(id)
    }

    fn current(&self) -> Result<Option<Snapshot<Types>>> {
        let Some(meta) = self.0.saved.lock().clone() else { return Ok(None) };
        let payload = self.0.place.payload()?.unwrap_or_default();
        Ok(Some(Snapshot { meta, snapshot: Box::new(Cursor::new(payload)) }))
    }

    fn install(&self, meta: &SnapshotMeta, payload: &[u8]) -> Result<()> {
        let saved: Saved = postcard::from_bytes(payload)
            .map_err(|error| Error::Damaged(format!("a control state that was sent: {error}")))?;
        self.0.place.save(payload)?;
        let state = Arc::new(saved.state);
        let mut applied = self.0.applied.lock();
        *applied = Applied { last: meta.last_log_id, voters: meta.last_membership.clone(), state };
        if self.0.is_open.load(Ordering::Acquire) {
            self.0.published.recover(&applied.state);
        }
        *self.0.saved.lock() = Some(meta.clone());
        Ok(())
    }
}

fn encode(applied: Applied, logged: Logged) -> Result<Vec<u8>> {
    let saved = Saved {
        last: applied.last.as_ref().map(Place::of),
        voters: StoredSets::of(&applied.voters),
        newest: logged.newest.0,
        vote: logged.vote.map(|vote| (vote.leader_id.term, vote.leader_id.node_id)),
        state: Arc::unwrap_or_clone(applied.state),
    };
    postcard::to_stdvec(&saved).map_err(|error| Error::Internal(error.to_string()))
}

impl RaftSnapshotBuilder<Types> for Machine {
    /// The state that was saved, if nothing was applied since; else it is saved now.
    async fn build_snapshot(&mut self) -> StoreResult<Snapshot<Types>> {
        let last = self.0.applied.lock().last;
        let is_saved = self.0.saved.lock().as_ref().is_some_and(|meta| meta.last_log_id == last);
        let built = match is_saved {
            true => Ok(()),
            false => self.save(Logged::default()),
        };
        let built = built.and_then(|()| self.current());
        let built = built.map_err(|error| StorageIOError::write_snapshot(None, &error))?;
        Ok(built.expect("it was saved a moment ago"))
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> StoreResult<(Option<LogId>, StoredVoters)> {
        let applied = self.0.applied.lock();
        Ok((applied.last, applied.voters.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> StoreResult<Vec<ObjectId>>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut ids = Vec::new();
        for entry in entries {
            let id = entry.log_id;
            let applied = Machine::apply(self, entry).map_err(|error| {
                let told = StorageIOError::apply(id, &error);
                self.0.failure.lock().get_or_insert(error);
                told
            });
            ids.push(applied?);
        }
        Ok(ids)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> StoreResult<Box<Cursor<Vec<u8>>>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> StoreResult<()> {
        let installed = self.install(meta, snapshot.get_ref());
        installed
            .map_err(|error| StorageIOError::write_snapshot(Some(meta.signature()), &error).into())
    }

    async fn get_current_snapshot(&mut self) -> StoreResult<Option<Snapshot<Types>>> {
        Ok(self.current().map_err(|error| StorageIOError::read_snapshot(None, &error))?)
    }
}
