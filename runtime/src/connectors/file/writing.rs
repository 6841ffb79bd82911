//! `Writing`: one file that is being written, whatever is in it. What is written is in no order a
//! reader could see before [`Writing::finish`], and survives a crash from then on.

use arrow::array::RecordBatch;
use storage::env::WriteFile;

use crate::Result;

/// How the rows of a mapping become files.
pub trait Spelling: Send + Sync {
    /// Begins an empty file; `shown` is its name for messages.
    fn begin(&self, file: Box<dyn WriteFile>, shown: String) -> Result<Box<dyn Writing>>;
}

/// A file in the making.
pub trait Writing: Send {
    /// Appends rows.
    fn write(&mut self, rows: &RecordBatch) -> Result<()>;

    /// Bytes it has, those that are not written yet included.
    fn size(&self) -> u64;

    /// Bytes held between calls.
    fn held(&self) -> usize;

    /// Writes what is left and makes all of it survive a crash.
    fn finish(self: Box<Self>) -> Result<()>;
}
