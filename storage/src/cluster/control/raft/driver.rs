//! The thread that owns the control log: takes commands one at a time, has each agreed on and
//! applied, and answers.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender},
    },
    thread::JoinHandle,
};

use openraft::{Config, Raft, ServerState, SnapshotPolicy};

use super::{
    executor::Executor,
    machine::{Home, Logged, Machine},
    record::{COMMAND_BYTES_MAX, SEGMENTS},
    store::{Kept, Store},
    types::{NODE, Nobody, Types, alone},
};
use crate::{
    Error, Result,
    cluster::control::{Command, ControlState, ObjectId, state::Published},
    log::{Log, Lsn},
};

/// Commands that wait for their turn; who comes then waits to be let in.
const REQUESTS_MAX: usize = 64;
/// The state is saved and the log cut when entries have so many bytes: some thousand commands, so
/// that a start applies no more of them, and the log has one segment or two.
const ENTRY_BYTES_MAX: u64 = if cfg!(test) { 1 << 12 } else { 256 << 10 };

/// The way to the control log, from any thread.
#[derive(Debug)]
pub(in crate::cluster::control) struct ControlLog {
    /// `None` once it is closed.
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

/// An encoded command, and who waits for its answer.
struct Request {
    command: Vec<u8>,
    answer: SyncSender<Result<ObjectId>>,
}

/// What the thread has.
struct Driver {
    executor: Executor,
    raft: Raft<Types>,
    log: Arc<Log>,
    store: Store,
    machine: Machine,
    /// Why no command is taken any more.
    failure: Option<Error>,
    /// Bytes of entries from which the state is saved.
    save_from: u64,
}

impl ControlLog {
    /// Opens the log, or founds it in an empty folder: when this returns, all that is in it is
    /// published.
    pub(in crate::cluster::control) fn open(
        place: Home,
        published: &Arc<Published>,
    ) -> Result<Self> {
        let (requests, queue) = mpsc::sync_channel(REQUESTS_MAX);
        let (opened, answer) = mpsc::sync_channel(1);
        let published = Arc::clone(published);
        let run = move || match Driver::open(place, &published) {
            Ok(driver) => {
                if opened.send(Ok(())).is_ok() {
                    driver.serve(&queue);
                }
            }
            Err(error) => drop(opened.send(Err(error))),
        };
        let thread = std::thread::Builder::new().name("control-log".to_owned()).spawn(run);
        let thread = thread.map_err(|error| Error::Internal(error.to_string()))?;
        // Made first, so that a thread that did not open is waited for too.
        let log = Self { requests: Some(requests), thread: Some(thread) };
        answer.recv().unwrap_or_else(|_| Err(ended()))?;
        Ok(log)
    }

    /// Has a command agreed on and applied. Blocks, and holds nothing.
    pub(in crate::cluster::control) fn submit(&self, command: &Command) -> Result<ObjectId> {
        let command = postcard::to_stdvec(command).map_err(internal)?;
        if command.len() > COMMAND_BYTES_MAX {
            return Err(Error::Limit(format!(
                "a change of the catalog takes {} bytes, and {COMMAND_BYTES_MAX} at most are \
                 possible",
                command.len()
            )));
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let requests = self.requests.as_ref().ok_or_else(ended)?;
        requests.send(Request { command, answer }).map_err(|_| ended())?;
        answered.recv().map_err(|_| ended())?
    }
}

impl Drop for ControlLog {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // It has told its panic itself.
            let _panicked = thread.join();
        }
    }
}

impl Driver {
    /// Reads all there is, and is elected, which commits and applies it.
    fn open(place: Home, published: &Arc<Published>) -> Result<Self> {
        let (loaded, logged) = place.load()?.unzip();
        let logged = logged.unwrap_or_default();
        let purged = loaded.as_ref().and_then(|applied| applied.last);
        let mut kept = Kept::after(purged, logged.vote);
        let show = |lsn, record: &[u8]| kept.read(lsn, record);
        let (id, from) = ((place.id, SEGMENTS), Lsn(logged.newest.0 + 1));
        let (log, _) = Log::open_sized(&place.disk, &place.folder, id, from, show)?;
        if log.newest() < logged.newest {
            return Err(Error::Damaged(format!(
                "{}: records from {} to {} of the control log are missing",
                place.folder.display(),
                log.newest().0 + 1,
                logged.newest.0
            )));
        }
        if log.bytes() == 0 {
            // Asked for here, so that a full disk is called by its name.
            log.tend()?;
        }
        let log = Arc::new(log);
        let store = Store::new(&log, kept);
        let machine = Machine::new(place, published, loaded);
        let mut executor = Executor::default();
        let raft = elected(&mut executor, &store, &machine)
            .map_err(|why| why_failed((&store, &machine), why))?;
        machine.serve();
        let save_from = ENTRY_BYTES_MAX;
        Ok(Self { executor, raft, log, store, machine, failure: None, save_from })
    }

    /// Answers all who come, until nobody can come any more.
    fn serve(mut self, queue: &Receiver<Request>) {
        while let Ok(request) = queue.recv() {
            let answer = self.submit(request.command);
            // Who asked waits for it.
            let _heard = request.answer.send(answer);
        }
    }

    fn submit(&mut self, command: Vec<u8>) -> Result<ObjectId> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        attempt(&self.machine.state(), &command)?;
        if self.store.bytes() >= self.save_from {
            self.save()?;
        }
        self.log.admit()?;
        match self.executor.run(self.raft.client_write(command)) {
            Some(Ok(written)) => Ok(written.data),
            Some(Err(error)) => Err(self.fail(error.to_string())),
            None => Err(self.fail(STANDS_STILL.to_owned())),
        }
    }

    /// Saves the state and cuts the log before it. A full disk is no reason to stop: the log goes on
    /// in the room it has.
    fn save(&mut self) -> Result<()> {
        let logged = Logged { newest: self.log.newest(), vote: self.store.vote() };
        match self.machine.save(logged) {
            Ok(()) => self.save_from = ENTRY_BYTES_MAX,
            Err(error @ Error::DiskFull(_)) => {
                tracing::warn!(%error, "the control state is not saved for now");
                self.save_from = self.store.bytes() + ENTRY_BYTES_MAX / 4;
                return Ok(());
            }
            Err(error) => {
                self.failure = Some(error.clone());
                return Err(error);
            }
        }
        // It finds the state saved, and cuts the log.
        let saved = self.executor.run(self.raft.trigger().snapshot());
        match saved {
            Some(Ok(())) if self.store.bytes() < ENTRY_BYTES_MAX => Ok(()),
            Some(Err(error)) => Err(self.fail(error.to_string())),
            _ => Err(self.fail("the log was not cut".to_owned())),
        }
    }

    /// Takes no command any more.
    fn fail(&mut self, why: String) -> Error {
        let error = why_failed((&self.store, &self.machine), why);
        tracing::error!(%error, "the control log has stopped");
        self.failure = Some(error.clone());
        error
    }
}

const STANDS_STILL: &str = "the control log stands still";

/// Starts openraft with this member as the only voter, elected, and all of the log applied.
fn elected(
    executor: &mut Executor,
    store: &Store,
    machine: &Machine,
) -> Result<Raft<Types>, String> {
    let config = Config {
        cluster_name: "control".to_owned(),
        enable_tick: false,
        enable_heartbeat: false,
        enable_elect: false,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        ..Config::default()
    };
    let start = async {
        let (store, machine) = (store.clone(), machine.clone());
        let raft = Raft::new(NODE, Arc::new(config), Nobody, store, machine).await;
        let raft = raft.map_err(|error| error.to_string())?;
        if raft.is_initialized().await.map_err(|error| error.to_string())? {
            raft.trigger().elect().await.map_err(|error| error.to_string())?;
        } else {
            raft.initialize(alone()).await.map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(raft)
    };
    let raft = executor.run(start).ok_or_else(|| STANDS_STILL.to_owned())??;
    let metrics = raft.metrics();
    let now = metrics.borrow();
    now.running_state.as_ref().map_err(ToString::to_string)?;
    let applied = now.last_applied.map(|last| last.index);
    if now.state != ServerState::Leader || applied != now.last_log_index {
        return Err(format!("the only voter was not elected: {}", *now));
    }
    drop(now);
    Ok(raft)
}

/// Tries a command as it is logged, on a copy: what is refused here is not logged, and what is
/// logged can be applied by whoever reads it.
fn attempt(state: &ControlState, command: &[u8]) -> Result<()> {
    let command: Command = postcard::from_bytes(command).map_err(internal)?;
    let mut copy = state.clone();
    let applied = catch_unwind(AssertUnwindSafe(|| copy.apply(&command).map(drop)));
    applied.unwrap_or_else(|_| Err(Error::Internal("a command breaks an invariant".to_owned())))
}

/// What the log or the state machine failed with, or what openraft says.
fn why_failed((store, machine): (&Store, &Machine), why: String) -> Error {
    store.failure().or_else(|| machine.failure()).unwrap_or(Error::Internal(why))
}

fn ended() -> Error {
    Error::Internal("the control log has ended".to_owned())
}

fn internal(error: postcard::Error) -> Error {
    Error::Internal(error.to_string())
}
