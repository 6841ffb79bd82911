//! A dag with a life: create, suspend, resume, restart, drop; runs on the coordinator only.
//! What happens next is decided in `coordinator`, a value; `jobs` does it.

mod coordinator;
mod jobs;
mod options;

pub use jobs::{JobRequest, Jobs, PlanJob};
pub use options::JobOptions;
