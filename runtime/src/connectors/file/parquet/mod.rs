//! Parquet files: columns of values in row groups, pages within them, and a footer that says where
//! everything is. A file that somebody has made to harm is an error with its name, nothing else.
//!
//! ```text
//!   PAR1 │ row group 0: a │ b │ c │ row group 1: a │ b │ c │ footer │ its length │ PAR1
//!                            └ dictionary page, data pages
//! ```
//! A split is a range of rows of a file, cut where row groups begin; only pages of the columns that
//! are read are touched. The footer is checked by [`compact`] and every page by [`pages`] before the
//! library decodes it, within [`guarded`]: what it panics about is an error as well.
//!
//! Suggested reading order: [`footer`] (what is in a file), [`columns`] (which of it a mapping reads,
//! as what), [`bytes`] and [`pages`] (the way from the disk), [`convert`] (to the declared types),
//! [`reading`] (rows of a split); [`writing`] (the way back). [`compact`], [`shape`] and [`delta`]
//! look into what is checked.

pub mod bytes;
pub mod columns;
pub mod compact;
pub mod convert;
pub mod delta;
pub mod footer;
pub mod pages;
pub mod reading;
pub mod shape;
pub mod writing;

use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::errors::{ParquetError, Result as ParquetResult};

use super::folder::failed;
use crate::{Error, Result};

/// A file that cannot be read for what is in it.
#[cold]
pub fn broken(shown: &str, reason: &str) -> Error {
    Error::User {
        code: "22P04",
        message: format!("file \"{shown}\" cannot be read as Parquet: {reason}"),
    }
}

/// Runs code of the library over bytes that nobody vouches for.
pub fn guarded<T>(shown: &str, code: impl FnOnce() -> ParquetResult<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(explained(shown, &error)),
        Err(_) => Err(broken(shown, "its contents contradict each other")),
    }
}

/// An error of the library: the disk's, or one of what is in the file.
#[cold]
fn explained(shown: &str, error: &ParquetError) -> Error {
    match error {
        ParquetError::External(cause) => match cause.downcast_ref::<std::io::Error>() {
            Some(io) if io.kind() != std::io::ErrorKind::InvalidData => {
                failed(&format!("read file \"{shown}\""), io)
            }
            _ => broken(shown, &cause.to_string()),
        },
        ParquetError::General(reason) | ParquetError::EOF(reason) => broken(shown, reason),
        other => broken(shown, &other.to_string()),
    }
}

#[cfg(test)]
mod tests;
