//! The names a query may use: tables, mappings and views of the control state, and the system's
//! own schemas beside them.

pub mod mapping;
pub mod mapping_exec;
pub mod pg;
pub mod provider;
