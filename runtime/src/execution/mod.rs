//! Who calls the processors: workers, tasklets, queues. Nothing here knows what a processor does.
//!
//! Suggested reading order: [`engine`] (start and stop), `member_plan` (a dag becomes tasklets),
//! `worker` and `signal` (who is called when), `processor_tasklet` (what a call does), `inbound` and
//! `outbound` around `queue` (what moves between calls), `memory` (how much of it), `barriers` and `shared` (how it is cut and
//! how it ends), [`client`] (rows to a connection), [`feed`] (rows from a query), [`scheduler`] (the deterministic twin).

mod barriers;
pub mod client;
pub mod engine;
pub mod feed;
mod inbound;
mod member_plan;
pub(crate) mod memory;
mod outbound;
mod processor_tasklet;
mod progress;
mod queue;
pub mod scheduler;
mod shared;
mod signal;
mod split;
mod stats;
mod tasklet;
mod watermarks;
mod worker;

#[cfg(test)]
mod tests;

pub use client::{ClientEnd, ClientRows, client_sink};
pub use engine::{Engine, EngineConfig, Execution, ExecutionRequest, Snapshots};
pub use feed::{Feed, feed};
pub use memory::StateMemory;
pub use progress::Progress;
pub use scheduler::SeededScheduler;
pub use shared::{SnapshotAwaited, SnapshotTaken};
pub use stats::{EdgeStats, VertexStats};

use crate::{Error, state::SavedStates};

/// Job name of executions that belong to a query.
pub const QUERY: &str = "query";

/// How an execution ended.
#[derive(Debug, Clone)]
pub enum ExecutionEnd {
    /// All sources ended and all rows arrived, or every sink had enough.
    Completed,
    /// Suspended by a terminal barrier; what all instances saved, unless it was told as a snapshot.
    Suspended(SavedStates),
    /// Cancelled by its owner.
    Cancelled,
    /// A processor failed, or panicked.
    Failed(Error),
}
