//! The engine: runs a [`dag::Dag`] on every member. Knows DataFusion only as expressions, never as
//! a plan; operator state is never a DataFusion accumulator.
//!
//! Suggested reading order: [`item`] and [`delta`] (what flows), [`processor`] (the contract),
//! [`dag`] (how processors are wired), [`execution`] (who calls them), [`processors`] (the
//! operators), [`connector`] (the outside), [`job`] (a dag with a life).

pub mod connector;
pub mod connectors;
pub mod dag;
pub mod decode;
pub mod delta;
pub mod error;
pub mod execution;
pub mod item;
pub mod job;
pub mod processor;
pub mod processors;
pub mod state;
pub mod testing;
pub mod time;

pub use error::{Error, Result};
