//! `Maintenance`: a thread that tidies what nobody touches: rows that were overwritten long ago are
//! compacted, memory that is free goes back to the system. Work under way never waits for it.

use std::{
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use storage::Grid;

use crate::allocator;

/// Time between two rounds: rare enough to cost an idle server nothing one could measure.
const INTERVAL: Duration = Duration::from_secs(5);

/// The running thread; dropping it ends it.
#[derive(Debug)]
pub struct Maintenance {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Maintenance {
    /// Starts the thread.
    pub fn start(grid: Arc<Grid>) -> std::io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let rounds = move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = grid.maintain() {
                    tracing::warn!(%error, "a table could not be compacted");
                }
                allocator::give_back();
            }
        };
        let thread = Builder::new().name("maintenance".to_owned()).spawn(rounds)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it was reported when it happened.
            let _ = thread.join();
        }
    }
}
