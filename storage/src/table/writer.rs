//! Writers and stamps: every change names its writer; a writer is pending, committed at a stamp,
//! or aborted, and flipping it makes a statement over many partitions visible as a whole.

use crate::Result;

/// A pending writer: a statement or transaction block that touches several rows. Dropping it
/// without [`Writer::commit`] aborts it: every change it made is undone.
#[derive(Debug)]
pub struct Writer {
    // owner: storage helper
}

/// What a reader sees: a stamp and the writers in flight at it, plus its own writer's changes.
/// Cheap to take; holding one keeps no old version alive longer than a scan's capture.
#[derive(Debug, Clone)]
pub struct ReadView {
    // owner: storage helper
}

impl Writer {
    /// Flips all changes to visible at one stamp. WrongState if it has ended.
    pub fn commit(&self) -> Result<()> {
        unimplemented!("owner: storage helper")
    }

    /// Undoes all changes; nothing if it has ended.
    pub fn abort(&self) {
        unimplemented!("owner: storage helper")
    }

    /// The present committed state plus this writer's own changes.
    pub fn read_view(&self) -> ReadView {
        unimplemented!("owner: storage helper")
    }
}
