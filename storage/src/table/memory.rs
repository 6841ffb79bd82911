//! `Memory`: what the rows of all tables of a member take, against what they may take.
//! Counts bytes as partitions report them; it never frees anything itself.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::rows::Rows;
use crate::{Error, Result};

/// Memory of all tables of a member.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Bytes; changed by every owner under the lock of the partition concerned.
    used: AtomicUsize,
    max: usize,
}

impl Memory {
    /// Nothing used of `max` bytes.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max })
    }

    /// Limit if no more may be written.
    pub(crate) fn check(&self) -> Result<()> {
        let used = self.used.load(Ordering::Relaxed);
        if used < self.max {
            return Ok(());
        }
        let max = self.max;
        Err(Error::Limit(format!("out of memory for tables: {used} of {max} bytes are used")))
    }

    /// Takes over what `rows` occupies now.
    pub(crate) fn report(&self, rows: &mut Rows) {
        let bytes = rows.bytes();
        // Wraps around for less, as `fetch_add` does.
        self.used.fetch_add(bytes.wrapping_sub(rows.bytes_reported), Ordering::Relaxed);
        rows.bytes_reported = bytes;
    }

    /// `rows` are about to be freed.
    pub(crate) fn forget(&self, rows: &Rows) {
        self.used.fetch_sub(rows.bytes_reported, Ordering::Relaxed);
    }
}
