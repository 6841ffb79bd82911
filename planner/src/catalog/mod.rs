//! The names a query may use: tables, mappings and views of the control state, and the system's
//! own schemas beside them.

pub mod changes;
pub mod dag_exec;
pub mod lane_stream;
pub mod mapping;
pub mod pg;
pub mod provider;
pub mod resolve;
pub mod schema;
pub mod sys;
pub mod system_table;
