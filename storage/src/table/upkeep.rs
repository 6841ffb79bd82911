//! What an owner does for a partition besides operations: settle what everybody sees alike, merge
//! chunks. Run by the thread whose operation made it due, a slice at a time: the partition's lock
//! is let go between slices.

use super::{
    owner::{Addressed, OwnedTable, Owner, Refusal},
    rows::Rows,
    versions::Pass,
};
use crate::{Result, partition::PartitionId};

/// What has become due; asked under the partition's lock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    settling: bool,
    compaction: bool,
}

impl Due {
    /// What is due for `rows`.
    pub(crate) fn of(rows: &Rows) -> Self {
        Self { settling: rows.is_settling_due(), compaction: rows.store.is_compaction_due() }
    }
}

impl Owner {
    /// Does what is due. A partition that has moved away meanwhile is somebody else's care.
    pub(crate) fn keep_up(
        &self,
        table: &Addressed,
        partition: PartitionId,
        due: Due,
    ) -> Result<()> {
        if due.settling {
            // It ends with compaction.
            return self.settle(table, partition, self.writers.settling_limit()).map(drop);
        }
        if due.compaction {
            self.compact(table, partition)?;
        }
        Ok(())
    }

    /// Drops version information of what was committed up to `limit` and undoes aborted writers.
    pub(crate) fn settle(
        &self,
        table: &Addressed,
        partition: PartitionId,
        limit: u64,
    ) -> Result<Result<(), Refusal>> {
        let mut pass = Pass::new(limit);
        loop {
            let mut slot = table.partition(partition).lock();
            if let Err(refusal) = self.check(table, partition)? {
                return Ok(Err(refusal));
            }
            let Some(rows) = slot.as_mut() else { return Ok(Ok(())) };
            let is_done = rows.settle_slice(&table.schema, &mut pass);
            self.memory.report(rows);
            if !is_done {
                continue;
            }
            if rows.is_spent() {
                self.memory.forget(rows);
                *slot = None;
                return Ok(Ok(()));
            }
            if !rows.store.is_compaction_due() {
                return Ok(Ok(()));
            }
            drop(slot);
            while self.compact(table, partition)? {}
            return Ok(Ok(()));
        }
    }

    /// Merges chunks of a partition, once; see `compaction.rs`. Answers whether it did.
    fn compact(&self, table: &OwnedTable, partition: PartitionId) -> Result<bool> {
        let slot = table.partition(partition);
        let schema = &table.schema;
        let sources = slot.lock().as_mut().and_then(|rows| rows.begin_compaction());
        let Some(sources) = sources else { return Ok(false) };
        let merged = sources.merge(schema)?;
        let merge = slot.lock().as_mut().and_then(|rows| rows.add_merged(schema, &sources, merged));
        let Some(merge) = merge else { return Ok(false) };
        let mut start = 0;
        while start < merge.len() {
            let next = slot.lock().as_mut().and_then(|rows| rows.repoint(schema, &merge, start));
            let Some(next) = next else { return Ok(false) };
            start = next;
        }
        if let Some(rows) = slot.lock().as_mut() {
            rows.end_compaction(&merge);
            self.memory.report(rows);
        }
        Ok(true)
    }
}
