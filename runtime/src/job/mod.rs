//! A dag with a life: create, suspend, resume, restart, drop; runs on the coordinator only.
//! What happens next is decided in `coordinator` and `snapshots`, two values; `shell`, `launch` and
//! `execution_snapshots` do it.

mod backstage;
mod coordinator;
mod events;
mod execution_snapshots;
mod exports;
mod fallback;
mod jobs;
mod launch;
mod options;
mod pins;
mod shell;
mod snapshots;
mod timeouts;

pub use fallback::Fallback;
pub use jobs::{ExportName, JobRequest, Jobs, PlanJob};
pub use options::{Guarantee, JobOptions};
