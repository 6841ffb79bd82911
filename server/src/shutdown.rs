//! The process's end: waits for SIGINT or SIGTERM. What then happens is `RunningServer::stop`'s.

use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// Returns when the process is asked to end, with the signal's name.
pub fn wait() -> std::io::Result<&'static str> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        Ok(tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        })
    })
}
