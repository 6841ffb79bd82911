//! The server as a library: builds grid, engine, jobs and planner, opens the port, and takes all
//! of it down in the opposite order. The binary is one caller, a Rust program or test another.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use planner::{Planner, planner::PlannerParts, planner::SessionDirectory};
use runtime::{
    connectors::file::FileAccess,
    execution::{Engine, EngineConfig},
    job::Jobs,
};
use storage::{Grid, GridConfig, env::Env};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::{Builder, Runtime},
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{ConfigError, ServerConfig, core_count},
    connection::Shared,
    directory::Directory,
    durability::Durability,
    maintenance::Maintenance,
    pool::QueryPool,
    wire::startup,
};

/// Sockets that may be open beside the connections that are served: clients that have not said who
/// they are, and cancel requests.
const SOCKETS_BESIDE: usize = 100;

/// Connections the kernel keeps until they are accepted.
const BACKLOG: u32 = 1024;

/// How long clients are waited for when the server stops.
const FAREWELL: Duration = Duration::from_millis(800);

/// How long jobs are waited for after that.
const JOBS_FAREWELL: Duration = Duration::from_millis(800);

/// Why a server did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The port or a thread cannot be had.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The operating system's reason.
        cause: std::io::Error,
    },
    /// Threads cannot be started.
    #[error("cannot start threads: {0}")]
    Threads(std::io::Error),
    /// The grid or the engine refused.
    #[error(transparent)]
    Engine(#[from] runtime::Error),
}

/// A server that can be started.
#[derive(Debug)]
pub struct Server;

/// A server that runs. Dropping it stops it.
pub struct RunningServer {
    address: SocketAddr,
    network: Option<Runtime>,
    /// Accepts connections; ends when they all have ended after a shutdown.
    accepting: Option<JoinHandle<()>>,
    shared: Option<Arc<Shared>>,
    jobs: Arc<Jobs>,
    _maintenance: Maintenance,
    /// Ends last: what is done until then is kept.
    durability: Option<Durability>,
    data_dir: Option<PathBuf>,
    /// Cancelled when the disk fails.
    broken: CancellationToken,
}

impl Server {
    /// Starts a server; it accepts connections when this returns.
    pub fn start(config: ServerConfig) -> Result<RunningServer, StartError> {
        config.check()?;
        let grid_config = GridConfig {
            simulated_owners: config.simulated_owners,
            table_memory_max: config.table_memory_max,
            data_dir: config.data_dir.clone(),
            ..GridConfig::default()
        };
        let grid = Grid::open(grid_config, Env::real()).map_err(runtime::Error::from)?;
        if let Some(persistence) = grid.persistence() {
            tracing::info!(summary = ?persistence.summary(), "data directory opened");
        }
        let broken = CancellationToken::new();
        let durability = Durability::start(Arc::clone(&grid), broken.clone());
        let durability = durability.map_err(StartError::Threads)?;
        let log = grid.persistence().map(|persistence| Arc::clone(persistence.log()));
        for (place, passes) in &config.failpoints {
            grid.env().failpoints.arm(place, *passes);
        }
        let maintenance = Maintenance::start(Arc::clone(&grid)).map_err(StartError::Threads)?;
        let engine_config = EngineConfig {
            worker_count: config.worker_count,
            queue_capacity: config.queue_capacity,
            memory_max: config.job_memory_max,
        };
        let engine = Engine::start(engine_config, Arc::clone(&grid))?;
        let jobs = Jobs::open(Arc::clone(&grid), Arc::clone(&engine));
        let directory = Directory::new(grid.env().clone(), config.connection_max);
        let files = FileAccess::new(grid.env(), config.file_root);
        let planner = Planner::new(PlannerParts {
            grid,
            engine,
            jobs: Arc::clone(&jobs),
            connectors: runtime::connectors::built_in(files),
            lane_count: config.query_lanes,
            directory: Arc::clone(&directory) as Arc<dyn SessionDirectory>,
            query_memory_max: config.query_memory_max,
        });
        // The planner has told the jobs by now how their text becomes a dag.
        jobs.adopt()?;
        let shared = Arc::new(Shared {
            planner,
            pool: QueryPool::start(core_count()).map_err(StartError::Threads)?,
            directory,
            log,
            shutdown: CancellationToken::new(),
            write_timeout: config.write_timeout,
        });
        let network = network_runtime().map_err(StartError::Threads)?;
        let listener = listen(&network, config.listen)?;
        let address = listener
            .local_addr()
            .map_err(|cause| StartError::Listen { address: config.listen, cause })?;
        let accepting = accept(listener, Arc::clone(&shared), config.connection_max);
        let accepting = network.spawn(accepting);
        Ok(RunningServer {
            address,
            network: Some(network),
            accepting: Some(accepting),
            shared: Some(shared),
            jobs,
            _maintenance: maintenance,
            durability: Some(durability),
            data_dir: config.data_dir,
            broken,
        })
    }
}

/// Few threads: they only move bytes and run keyed statements.
fn network_runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads((core_count() / 2).max(1))
        .thread_name("network")
        .enable_all()
        .build()
}

fn listen(network: &Runtime, address: SocketAddr) -> Result<TcpListener, StartError> {
    let _context = network.enter();
    let open = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A restarted server must not wait for the connections of the last one to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|cause| StartError::Listen { address, cause })
}

/// Accepts connections until the server stops, then waits for those there are.
async fn accept(listener: TcpListener, shared: Arc<Shared>, connection_max: usize) {
    let sockets = Arc::new(Semaphore::new(connection_max + SOCKETS_BESIDE));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shared.shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                report_panic(ended);
                continue;
            }
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of file descriptors, most likely: they come back as connections close.
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Too many to even say so: the socket is closed.
        let Ok(permit) = Arc::clone(&sockets).try_acquire_owned() else { continue };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let _permit = permit;
            startup::serve(shared, socket).await;
        });
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report_panic(ended);
    }
}

/// A connection that panicked took nobody else with it, but it is a bug.
fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "connection ended by a panic");
    }
}

impl RunningServer {
    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it keeps everything; `None` if only in memory.
    pub fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }

    /// Cancelled when the disk fails: nothing is durable any more, and the process is to end.
    pub fn broken(&self) -> &CancellationToken {
        &self.broken
    }

    /// Tells the clients, ends their statements, stops the jobs; within two seconds.
    pub fn stop(mut self) {
        self.close();
    }

    fn close(&mut self) {
        let Some(network) = self.network.take() else { return };
        if let Some(shared) = self.shared.take() {
            shared.shutdown.cancel();
        }
        let accepting = self.accepting.take();
        let jobs = Arc::clone(&self.jobs);
        let farewell = async {
            if let Some(accepting) = accepting {
                drop(tokio::time::timeout(FAREWELL, accepting).await);
            }
            // Closing jobs waits for their tasklets; a connector that hangs must not hang us.
            let closing = tokio::task::spawn_blocking(move || jobs.close());
            drop(tokio::time::timeout(JOBS_FAREWELL, closing).await);
        };
        // On a thread of its own, because a server may be dropped inside somebody's async code.
        std::thread::scope(|scope| {
            scope.spawn(|| network.block_on(farewell));
        });
        network.shutdown_background();
        drop(self.durability.take());
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.close();
    }
}
