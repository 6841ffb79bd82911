//! Statements about one full key, found at prepare time: they bypass DataFusion and run on the
//! connection's own thread in microseconds.
//!
//! ```text
//! UPDATE t SET v = v + $2 WHERE k = $1
//!   recognise (once) ─→ key = [$1], assignments = [(v, add(column v, $2))]
//!   run (each time)  ─→ get key ─ evaluate ─ replace if unchanged, else again
//! ```
//! A statement that is not of these shapes is simply not keyed: nothing here is an error of the
//! user's unless the shape fits.

mod attempts;
mod compile;
mod conflict;
mod plan;
mod recognise;
mod shape;
mod value;

pub use conflict::ConflictUpdate;
pub use plan::{KeyedOutcome, KeyedPlan};
pub use recognise::recognise;
pub use shape::{Shape, literals};

use storage::cluster::control::TableRecord;

/// PostgreSQL's name for the primary key's constraint.
pub fn constraint_name(record: &TableRecord) -> String {
    format!("{}_pkey", record.name.name)
}
