//! Encoders: Arrow columns to the bytes of messages, the mirror image of [`crate::decode`]. What is
//! written here is read back there as the same value; what could not be read back is refused.
//!
//! Suggested reading order: [`text`] (a value's text), [`json`] (strings of JSON), [`column`] (the
//! values of a batch, typed once and then written row by row without an allocation), [`format`] (rows).

pub mod column;
pub mod format;
pub mod json;
pub mod text;
