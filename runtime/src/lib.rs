//! The engine: runs a [`dag::Dag`] on every member. Knows DataFusion only as expressions, never as
//! a plan; operator state is never a DataFusion accumulator.
//!
//! **A job from submission to completion.** [`job::Jobs::create`] records the job and asks its
//! coordinator, a value, what follows: STARTING, then [`execution::Engine::run`]. There every vertex
//! of the dag becomes N [`processor::Processor`]s, made by its supplier, initialised and restored on
//! the caller's thread; every edge becomes bounded queues between them; each processor gets a tasklet
//! around it, and each worker its tasklets. A worker calls a tasklet when a queue, a timer or an I/O
//! half raised its signal, and parks when none is raised. A source emits [`item::Item`]s into its
//! outbox; the tasklet routes them into queues until one is full, which pushes back; the next tasklet
//! drains its queues into the inbox, calls `process`, and so on to the sink. When a source answers
//! that it is at its end, `Done` follows its rows from queue to queue; the tasklet that ends last
//! frees the processors and tells the job: COMPLETED.
//!
//! **A barrier from source to sink.** [`job::Jobs::suspend`] asks for a terminal barrier. Each source,
//! at its next call: `epoch`, `save`, barrier into its queues, end. Each instance behind them reads a
//! queue up to the barrier and leaves it there until all its queues have delivered theirs: what it has
//! seen then is exactly what the sources had emitted. It too does `epoch`, `save`, passes the barrier
//! on, ends. The last one to end collects what was saved; a resume gives each chunk to the instance
//! that serves its partition.
//!
//! Suggested reading order: [`item`] and [`delta`] (what flows), [`processor`] (the contract),
//! [`dag`] (how processors are wired), [`execution`] (who calls them), [`processors`] (the
//! operators), [`connector`] (the outside), [`job`] (a dag with a life), [`testing`] (the kit).

pub mod connector;
pub mod connectors;
pub mod dag;
pub mod decode;
pub mod delta;
pub mod encode;
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
