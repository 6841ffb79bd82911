//! Lines of COPY FROM → Arrow batches. [`lines`] cuts bytes into lines and fields, [`columns`]
//! turns a column's fields into an array; no row exists in between.

pub mod columns;
pub mod lines;

pub use lines::{CopyError, LineParser};
