//! The specification, executable: `.slt` files over the wire against a real server process.
//! Nothing depends on this crate; it depends on the server only as a program.
//!
//! Suggested reading order: [`script`] (what a file may say), [`runner`] (how it is played),
//! [`process`] (the server it is played against), [`client`] (the connection), [`kafka`] (the
//! broker behind `$KAFKA`).

pub mod client;
pub mod kafka;
pub mod process;
pub mod runner;
pub mod script;
