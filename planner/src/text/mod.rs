//! PostgreSQL's text form of every scalar, both ways: what the wire sends, what casts write and
//! read. Pure functions over one value; nothing here knows an array.

pub mod input;
pub mod interval;
pub mod output;
pub mod zone;

pub use zone::TimeZone;
