//! `Durability`: the threads that bring what was written to disk: one makes the data log durable for
//! all who wait for it, one takes checkpoints so that the log stays short. Neither is there when
//! everything is in memory.

use std::{
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use storage::Grid;
use tokio_util::sync::CancellationToken;

/// Time between two looks at which tables have changed so much that a checkpoint is due.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(500);

/// The running threads. Dropping it ends them: what was written is on disk then.
#[derive(Debug)]
pub struct Durability {
    grid: Arc<Grid>,
    stop: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Durability {
    /// Starts the threads, if the grid has a data directory. `broken` is cancelled when the disk
    /// fails: nothing is durable any more, and the process is to end.
    pub fn start(grid: Arc<Grid>, broken: CancellationToken) -> std::io::Result<Self> {
        let Some(persistence) = grid.persistence() else {
            return Ok(Self { grid, stop: None, threads: Vec::new() });
        };
        let log = Arc::clone(persistence.log());
        let serve = move || {
            if let Err(error) = log.serve() {
                tracing::error!(%error, "the data log cannot be written any more");
                broken.cancel();
            }
        };
        let log_thread = Builder::new().name("log".to_owned()).spawn(serve)?;
        let (stop, stopped) = channel::<()>();
        let checkpointed = Arc::clone(&grid);
        let checkpoints = move || {
            while stopped.recv_timeout(CHECKPOINT_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = checkpointed.checkpoint_due() {
                    tracing::warn!(%error, "a checkpoint could not be taken");
                }
            }
        };
        let checkpoint_thread = Builder::new().name("checkpoint".to_owned()).spawn(checkpoints)?;
        Ok(Self { grid, stop: Some(stop), threads: vec![log_thread, checkpoint_thread] })
    }
}

impl Drop for Durability {
    fn drop(&mut self) {
        drop(self.stop.take());
        let Some(persistence) = self.grid.persistence() else { return };
        // The next start has nothing to replay then.
        if persistence.log().failure().is_none()
            && let Err(error) = self.grid.checkpoint_all()
        {
            tracing::warn!(%error, "a checkpoint could not be taken; the log has all that is in it");
        }
        persistence.log().close();
        for thread in self.threads.drain(..) {
            // A panic in it was reported when it happened.
            let _ = thread.join();
        }
    }
}
