//! The test kit of processors: [`verify_processor`] runs one through every way a tasklet may call
//! it; the probes are sources and sinks for tests of whole dags. Compiled always, so that the other crates' tests can use it; nothing of it runs in a server.

mod probes;
mod verify;
mod zset;

pub use probes::{Collector, FnSupplier, bigint_batch, bigint_schema, collector, counting_source};
pub use verify::{Verification, context, verify_processor};
pub use zset::ZSet;

#[cfg(test)]
mod tests;
