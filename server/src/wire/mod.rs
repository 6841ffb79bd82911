//! The PostgreSQL protocol, one file per sub-protocol. Bytes are checked here; what they ask for
//! is decided in `connection.rs`, `answer.rs` and below.

pub mod copy_in;
pub mod copy_out;
pub mod error;
pub mod extended;
pub mod frame;
pub mod inbound;
pub mod outbound;
pub mod simple;
pub mod startup;
pub mod types;
