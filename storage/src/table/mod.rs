//! Rows: partitioned, columnar, versioned by writer and stamp. Reached only by operations.
//!
//! ```text
//! Table (handle) ─→ Router ─ op ─→ Owner ─ one short lock per partition ─→ Rows
//!                                                        ├ Store: chunks, sealed ≤ 16 k rows
//!                                                        │        tail, typed, ≤ 512 rows
//!                                                        ├ KeyIndex: key → newest slot
//!                                                        └ Versions: only what is unsettled
//! ```
//! An update appends the new row to the tail and the old one dies; a full tail becomes a chunk
//! under the slots its rows already have.

pub mod handle;
pub mod job_writers;
pub mod view;
pub mod writer;

pub(crate) mod router;

mod capture;
mod changes;
mod chunk;
pub(crate) mod closing;
mod codec;
mod column;
mod compaction;
mod index;
mod journal;
mod link;
pub(crate) mod logged;
mod mailbox;
mod memory;
mod op;
mod owner;
mod patience;
mod pinned;
mod rows;
mod scan;
mod schema;
mod store;
mod stored;
mod tail;
mod turns;
mod unsynced;
mod upkeep;
mod versions;
mod writer_cell;
mod writers;

pub use changes::ChangeReader;
pub use handle::{KeyedWrite, RowVersion, ScanLane, Table, TableStats, WriteMode, WriteSummary};
pub(crate) use index::CHUNK_ROWS_MAX;
pub use job_writers::JobWriters;
pub use journal::{CHANGE_DIFF, CHANGE_TIME, FEED_BYTES_MAX};
pub(crate) use patience::check_stopped;
pub use patience::{blocker, may_wait, stoppable, without_waiting};
pub use pinned::{PinnedChanges, Pins};
pub(crate) use stored::LoadedPartition;
pub use turns::Turn;
pub use unsynced::take_unsynced;
pub use view::{ReadMode, ReadView};
pub use writer::Writer;
pub(crate) use writer_cell::WriterCell;

#[cfg(test)]
mod tests;
