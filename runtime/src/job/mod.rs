//! A dag with a life: create, suspend, resume, restart, drop; runs on the coordinator only.
//! What happens next is decided in `coordinator` and `snapshots`, two values; `jobs` and
//! `snapshot_thread` do it.

mod backstage;
mod coordinator;
mod jobs;
mod options;
mod snapshot_thread;
mod snapshots;

pub use jobs::{JobRequest, Jobs, PlanJob};
pub use options::{Guarantee, JobOptions};
