//! The process's end: waits for SIGINT or SIGTERM. What then happens is `RunningServer::stop`'s.

use std::fmt::{Display, Formatter};

use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was asked to, by the signal of this name.
    Signal(&'static str),
    /// The server cannot keep anything any more.
    Broken,
}

impl Display for End {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            End::Signal(name) => name,
            End::Broken => "disk error",
        })
    }
}

/// Returns when the process is asked to end, or `broken` is cancelled.
pub fn wait(broken: &CancellationToken) -> std::io::Result<End> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        Ok(tokio::select! {
            _ = terminate.recv() => End::Signal("SIGTERM"),
            _ = interrupt.recv() => End::Signal("SIGINT"),
            () = broken.cancelled() => End::Broken,
        })
    })
}
