//! Aggregates whose state is our own columns, so that saving reads them and does not drain them.
//! Linear ones (counts, sums) multiply by the weight and can be taken back; the others say so.
//!
//! ```text
//!   sum(x) filter (where f)   =  Input { values: x, mask: f and x is not null }
//!        │                                  │ update(slots, rows, weight)
//!   Aggregate ── makes ──▶ [StateColumn] ◀──┘      one value a slot: a key, or a key in a pane
//!        │                      │ merge · subtract · put · save · restore: of columns, whatever they mean
//!        └────── finish ────────┘─▶ one result column
//! ```
//! Reading order: `spec` (what was asked for), `aggregate` (what it is made of), `column` (the
//! state), `extreme` and `multiset` (the two kinds of state that are not numbers), `numeric`.

mod aggregate;
mod column;
mod extreme;
mod input;
mod multiset;
mod numeric;
mod spec;
mod unsaved;

pub(super) use aggregate::Aggregate;
pub(super) use column::{StateColumn, compact};
pub(super) use input::{Input, Target};
pub(super) use multiset::{Entries, Multiset};
pub use spec::{AggregateFunction, AggregateSpec};
