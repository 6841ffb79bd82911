//! One client's connection: reads messages, hands each to its sub-protocol, and keeps an eye on
//! the client while a statement runs. Nothing that may take long happens on this task.
//!
//! ```text
//! startup ─→ loop { message ─→ simple | extended | (inside them) copy } ─→ end
//!            while a statement runs: its answer ∥ client gone ∥ cancel ∥ timeout ∥ shutdown
//! ```

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use planner::{Error, Planner, Result};
use storage::{
    data_log::DataLog,
    table::{stoppable, take_unsynced},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    copy::CopyError,
    directory::{Directory, SessionListing},
    execute::{Request, Started, Work},
    pool::QueryPool,
    session::{Block, Session},
    wire::{
        error::{Severity, cancelled, panicked, shutting_down, timed_out},
        frame::Frame,
        inbound::{Inbound, ReadEnd},
        outbound::Outbound,
        types::Format,
    },
};

/// How long a cancelled statement has to notice before its planning is left behind.
const NOTICE_TIMEOUT: Duration = Duration::from_millis(100);

/// How long a client that does not read may hold up the last words of its connection.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(200);

/// What all connections share.
pub struct Shared {
    /// The front door of the planner.
    pub planner: Arc<Planner>,
    /// Where statements run.
    pub pool: QueryPool,
    /// Who is connected.
    pub directory: Arc<Directory>,
    /// What is on disk; `None` if everything is in memory.
    pub log: Option<Arc<DataLog>>,
    /// Ends all connections.
    pub shutdown: CancellationToken,
    /// How long a client may take none of what is sent to it.
    pub write_timeout: Duration,
}

/// Why a step of a connection failed.
#[derive(Debug)]
pub enum Failure {
    /// The statement failed; the session goes on.
    Statement(Error),
    /// The statement failed inside COPY: the error and its CONTEXT line.
    Copy(Box<CopyError>),
    /// The connection must end; the client is told why.
    Fatal(Error),
    /// The client has gone; nobody is left to tell.
    Gone,
}

/// Why a wait was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interrupt {
    Cancelled,
    TimedOut,
    Gone,
    Shutdown,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Statement(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

impl From<Interrupt> for Failure {
    fn from(interrupt: Interrupt) -> Self {
        match interrupt {
            Interrupt::Cancelled => Self::Statement(cancelled()),
            Interrupt::TimedOut => Self::Statement(timed_out()),
            Interrupt::Gone => Self::Gone,
            Interrupt::Shutdown => Self::Fatal(shutting_down()),
        }
    }
}

/// One client's connection.
pub struct Connection {
    /// What all share.
    pub shared: Arc<Shared>,
    /// Its place in the directory.
    pub listing: SessionListing,
    /// From the client.
    pub inbound: Inbound,
    /// To the client.
    pub outbound: Outbound,
    /// The session.
    pub session: Session,
    /// What stops the statement that runs now.
    pub guard: Guard,
    /// After an error in the extended protocol: messages are skipped until Sync.
    pub is_skipping: bool,
}

/// What stops the statement that runs now.
#[derive(Debug, Default)]
pub struct Guard {
    cancel: CancellationToken,
    deadline: Option<Instant>,
}

/// Whether the work of a statement may be left behind. Planning changes nothing, and the planner's
/// limits bound how long it can go on; from the first effect on, a statement's end is awaited.
///
/// ```text
/// planning ─ begin ──→ running: the connection waits for its end
///     └──── abandon ─→ abandoned: the connection has gone on, the work ends before any effect
/// ```
#[derive(Debug)]
pub struct Stage(AtomicU8);

const PLANNING: u8 = 0;
const RUNNING: u8 = 1;
const ABANDONED: u8 = 2;

impl Stage {
    /// Work that only plans, as yet.
    pub fn planning() -> Arc<Self> {
        Arc::new(Self(AtomicU8::new(PLANNING)))
    }

    /// Work that has effects.
    pub fn running() -> Arc<Self> {
        Arc::new(Self(AtomicU8::new(RUNNING)))
    }

    /// Asked by the work before its first effect: 57014 if the connection has gone on without it.
    pub fn begin(&self) -> Result<()> {
        match self.step(RUNNING) {
            Ok(_) | Err(RUNNING) => Ok(()),
            Err(_) => Err(cancelled()),
        }
    }

    /// Asked by the connection: whether it may go on without the work.
    fn abandon(&self) -> bool {
        self.step(ABANDONED).is_ok()
    }

    fn step(&self, to: u8) -> std::result::Result<u8, u8> {
        self.0.compare_exchange(PLANNING, to, Ordering::AcqRel, Ordering::Acquire)
    }
}

impl Connection {
    /// Serves the client until it leaves, breaks the protocol or the server stops.
    pub async fn run(mut self) {
        let end = loop {
            let step = AssertUnwindSafe(self.step()).catch_unwind().await;
            // A panic here left the session half done: it ends, and nobody else's does.
            let step = step.unwrap_or_else(|panic| Err(Failure::Fatal(panicked(panic.as_ref()))));
            match step {
                Ok(true) => {}
                Ok(false) => break None,
                Err(Failure::Gone) => break None,
                Err(Failure::Fatal(error)) => break Some(error),
                Err(Failure::Statement(error)) => break Some(error),
                Err(Failure::Copy(failed)) => break Some(failed.error),
            }
        };
        self.abandon_block().await;
        if let Some(error) = end {
            self.outbound.error(&error, Severity::Fatal);
            let farewell = self.outbound.flush();
            drop(tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await);
        }
    }

    /// One message; false when the client said goodbye.
    async fn step(&mut self) -> Result<bool, Failure> {
        let frame = match self.inbound.take_ready().map_err(Failure::Fatal)? {
            Some(frame) => frame,
            None => self.wait_for_frame().await?,
        };
        self.dispatch(frame).await
    }

    /// Waits for a message, as long as the session may be idle.
    async fn wait_for_frame(&mut self) -> Result<Frame, Failure> {
        let limit = match self.session.block {
            Block::Explicit | Block::Failed => self.session.idle_in_block_timeout,
            Block::None | Block::Implicit => self.session.idle_timeout,
        };
        let shutdown = self.shared.shutdown.clone();
        let idle = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            frame = self.inbound.next() => frame.map_err(|end| match end {
                ReadEnd::Gone => Failure::Gone,
                ReadEnd::Malformed(error) => Failure::Fatal(error),
            }),
            () = shutdown.cancelled() => Err(Failure::Fatal(shutting_down())),
            () = idle => Err(Failure::Fatal(match self.session.is_in_block() {
                true => Error::new(
                    "25P03",
                    "terminating connection due to idle-in-transaction timeout",
                ),
                false => Error::new("57P05", "terminating connection due to idle-session timeout"),
            })),
        }
    }

    /// Begins a statement: from here on it can be cancelled and times out.
    pub fn begin_statement(&mut self) {
        let deadline = self.session.statement_timeout.and_then(deadline_after);
        self.guard = Guard { cancel: CancellationToken::new(), deadline };
        self.listing.entry.set_running(Some(self.guard.cancel.clone()));
    }

    /// Ends the statement begun last.
    pub fn end_statement(&mut self) {
        self.listing.entry.set_running(None);
    }

    /// Plans and starts a statement on the query pool.
    pub async fn start(
        &mut self,
        work: Work,
        formats: Vec<Format>,
        is_cursor: bool,
    ) -> Result<Started, Failure> {
        let request = self.request(formats, is_cursor);
        let stage = Arc::clone(&request.stage);
        self.on_pool_in(stage, move |session| request.start(session, work)).await
    }

    /// What the query pool needs to know of this connection.
    pub fn request(&self, formats: Vec<Format>, is_cursor: bool) -> Request {
        Request {
            planner: Arc::clone(&self.shared.planner),
            directory: Arc::clone(&self.shared.directory),
            formats,
            is_cursor,
            zone: self.session.zone,
            cancel: self.guard.cancel.clone(),
            stage: Stage::planning(),
        }
    }

    /// Runs `work` that changes something on the query pool: its end is awaited, whatever happens.
    pub async fn on_pool<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut planner::Session) -> Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        self.on_pool_in(Stage::running(), work).await
    }

    /// Runs `work` that changes nothing on the query pool.
    pub async fn plan_on_pool<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut planner::Session) -> Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        self.on_pool_in(Stage::planning(), work).await
    }

    /// Runs `work` on the query pool with the planner's session lent to it. When the client
    /// leaves, cancels or is out of time, the work is told. If it has changed something, its end is
    /// awaited: only then is the session back. If it is still planning and does not notice soon, it
    /// is left behind, and the session is what it was before.
    async fn on_pool_in<T: Send + 'static>(
        &mut self,
        stage: Arc<Stage>,
        work: impl FnOnce(&mut planner::Session) -> Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let before = self.session.planner.clone();
        let mut session = std::mem::take(&mut self.session.planner);
        let cancel = self.guard.cancel.clone();
        session.interrupt = planner::Interrupt::new(move || cancel.is_cancelled());
        let shared = Arc::clone(&self.shared);
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let unsynced = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&unsynced);
        let run = shared.pool.run(session, move |session| {
            let result = stoppable(&told, || work(session));
            noted.store(take_unsynced(), Ordering::Relaxed);
            result
        });
        tokio::pin!(run);
        let (first, interrupt) = tokio::select! {
            biased;
            answer = &mut run => (Some(answer), None),
            interrupt = watch(&mut self.inbound, &self.guard, &self.shared.shutdown) => {
                self.guard.cancel.cancel();
                stop.store(true, Ordering::Relaxed);
                (None, Some(interrupt))
            }
        };
        let (session, result) = match (first, interrupt) {
            (Some(answer), _) => answer,
            (None, Some(interrupt)) => {
                let noticed = tokio::time::timeout(NOTICE_TIMEOUT, &mut run).await;
                match noticed {
                    Ok(answer) => answer,
                    Err(_) if stage.abandon() => {
                        self.session.planner = before;
                        return Err(interrupt.into());
                    }
                    Err(_) => run.await,
                }
            }
            (None, None) => run.await,
        };
        self.session.planner = session;
        self.tell_when_durable(unsynced.load(Ordering::Relaxed));
        match (result, interrupt) {
            (Ok(answer), _) => Ok(answer),
            (Err(_), Some(interrupt)) => Err(interrupt.into()),
            (Err(error), None) => Err(Failure::Statement(error)),
        }
    }

    /// Holds back all answers until what was done is on disk, if something was that must be.
    pub fn tell_when_durable(&mut self, is_unsynced: bool) {
        if is_unsynced && let Some(log) = &self.shared.log {
            self.outbound.hold_back(log);
        }
    }

    /// Waits for `work` on this task, watching the client meanwhile.
    pub async fn guarded<T>(
        inbound: &mut Inbound,
        guard: &Guard,
        shutdown: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            answer = work => Ok(answer),
            interrupt = watch(inbound, guard, shutdown) => Err(interrupt.into()),
        }
    }

    /// Writes what is gathered while a statement runs: a client that does not read can still
    /// cancel it, leave, or run out of time.
    pub async fn flush_guarded(&mut self) -> Result<(), Failure> {
        let Self { inbound, outbound, guard, shared, .. } = self;
        Self::guarded(inbound, guard, &shared.shutdown, outbound.flush()).await??;
        Ok(())
    }
}

/// Runs a keyed statement on the connection's own thread; a panic in it is an error like any other.
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

/// Whether a keyed statement failed only because it may not wait on a connection's thread.
pub fn must_wait(error: &Error) -> bool {
    error.code == "40001"
}

/// The instant `limit` from now.
pub fn deadline_after(limit: Duration) -> Option<Instant> {
    Instant::now().checked_add(limit)
}

impl Guard {
    /// Returns when the statement must stop, whatever the client's socket says.
    async fn interrupted(&self, shutdown: &CancellationToken) -> Interrupt {
        let time_out = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => Interrupt::Shutdown,
            () = self.cancel.cancelled() => Interrupt::Cancelled,
            () = time_out => Interrupt::TimedOut,
        }
    }

    /// The same as a failure, for COPY, which reads the socket itself.
    pub async fn stopped(&self, shutdown: &CancellationToken) -> Failure {
        self.interrupted(shutdown).await.into()
    }
}

/// Returns when the statement must stop, or the client has gone.
async fn watch(inbound: &mut Inbound, guard: &Guard, shutdown: &CancellationToken) -> Interrupt {
    tokio::select! {
        interrupt = guard.interrupted(shutdown) => interrupt,
        () = inbound.gone() => Interrupt::Gone,
    }
}
