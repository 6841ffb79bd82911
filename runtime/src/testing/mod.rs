//! The test kit of processors: [`verify_processor`] runs one through every way a tasklet may call
//! it. Compiled always, so that the other crates' tests can use it; nothing of it runs in a server.

mod verify;
mod zset;

pub use verify::{Verification, context, verify_processor};
pub use zset::ZSet;

#[cfg(test)]
mod tests;
