//! Arrow and keyed values ↔ PostgreSQL's text and binary formats.
//! Output never allocates a value; input fails with PostgreSQL's SQLSTATE before a plan sees it.

pub mod binary;
pub mod datum;
pub mod encode;
pub mod parameter;

pub use planner::text::{input, interval, output as text, zone};

pub use encode::{Format, RowEncoder};
pub use zone::TimeZone;

/// Digits that a NUMERIC may have.
pub const NUMERIC_PRECISION_MAX: u8 = 38;
/// Scale of a NUMERIC declared without one.
pub const NUMERIC_ANY_SCALE: i8 = 18;
/// Scale of what avg answers.
pub const NUMERIC_AVG_SCALE: i8 = 16;
