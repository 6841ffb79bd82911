//! SQL text → statement → plan, and a continuous query → `Dag`. The only crate that knows
//! DataFusion plans; it does no I/O of its own.
//!
//! ```text
//! text ─ parse ─→ Statement ─ prepare ─→ Prepared ─ bind(values) ─→ Plan ─→ the server runs it
//! ```

mod cache;
pub mod catalog;
mod context;
mod ddl;
mod dml;
pub mod error;
pub mod explain;
pub mod functions;
mod keyed;
pub mod lower;
mod origins;
pub mod parse;
pub mod plan;
pub mod planner;
mod prepare;
mod query;
pub mod rules;
pub mod session;
pub mod stream_plan;
pub mod text;
pub mod types;
mod values;

pub use error::{Error, Result};
pub use plan::Plan;
pub use planner::{Planner, Prepared, Statement};
pub use session::{Interrupt, Session};
pub use types::{Origin, OutputColumn, SqlType};
pub use values::{fit_text, padding};
