//! SQL text → statement → plan, and a continuous query → `Dag`. The only crate that knows
//! DataFusion plans; it does no I/O of its own.
//!
//! ```text
//! text ─ parse ─→ Statement ─ prepare ─→ Prepared ─ bind(values) ─→ Plan ─→ the server runs it
//! ```

pub mod catalog;
pub mod error;
pub mod explain;
pub mod functions;
pub mod lower;
pub mod parse;
pub mod plan;
pub mod planner;
pub mod rules;
pub mod session;
pub mod stream_plan;
pub mod text;
pub mod types;

pub use error::{Error, Result};
pub use plan::Plan;
pub use planner::{Planner, Prepared, Statement};
pub use session::Session;
pub use types::{OutputColumn, SqlType};
