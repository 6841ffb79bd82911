//! The log of the control state: commands become durable and agreed on before they are applied. It
//! is openraft's protocol over [`crate::log::Log`], with this member as the only voter for now, and
//! nothing of openraft is seen outside this module.
//!
//! ```text
//!   submit ──► queue ──► thread "control-log": one command at a time
//!                          decode, try on a copy ─ refused: nothing is logged
//!                          admit ──────────────── no room: DiskFull, nothing is logged
//!                          raft: entry ──► Log ──► fsync ──► commit ──► apply ──► on_applied
//!   answer ◄───────────────┘
//!
//!   control/  0000000000000001.log …   votes and entries, as records of one log
//!             state                    the whole control state after some entry: those up to it are cut
//! ```
//! A command is in the log if and only if it was tried from the very bytes that are logged, on the
//! very state it will be applied to: whatever is read back can be applied again. After a start the
//! member is elected again, which commits all that is whole in the log: the commands that were
//! acknowledged, and the one under way at most.

mod driver;
mod executor;
mod machine;
mod record;
mod store;
mod types;

pub(super) use self::{driver::ControlLog, machine::Home};

#[cfg(test)]
mod tests;
