//! `Rows`: one partition of one table: store, key index and unsettled versions kept in step.
//! Called under the partition's lock; never waits: who is in the way is answered to the caller.

use std::sync::Arc;

use super::{
    handle::{KeyedWrite, RowVersion, WriteMode, WriteSummary},
    index::{KeyIndex, Slot},
    schema::{KeyBytes, KeyRef, TableSchema},
    store::Store,
    versions::{Mark, Settled, Versions},
    writer::{Fate, Snapshot, WriterCell, Writers},
};
use crate::{
    Error, Result, Row,
    value::{ColumnReader, Value},
};

/// The rows of one partition.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) store: Store,
    pub(crate) index: KeyIndex,
    /// `None` while every reader sees the same.
    pub(crate) versions: Option<Box<Versions>>,
    /// The merge under way, by the generation of its new chunk.
    pub(crate) merging: Option<u64>,
    /// Memory last reported to the table's account, in bytes.
    pub(crate) bytes_reported: usize,
}

/// What operations on rows need to know of the table and the member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) schema: &'a TableSchema,
    pub(crate) writers: &'a Writers,
}

/// How far an operation came.
#[derive(Debug)]
pub(crate) enum Step<T> {
    /// It is done.
    Done(T),
    /// The writer of this id holds the key; nothing was changed for it.
    Blocked(u64),
}

/// Rows of a batch, their readers by column and their key hashes.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub(crate) readers: Vec<ColumnReader<'a>>,
    pub(crate) hashes: &'a [u64],
}

/// The newest row of a key, as a writer meets it.
enum Newest {
    Live(Slot),
    /// No row, but perhaps the deleted one that some reader still sees.
    Absent(Option<Slot>),
    Blocked(u64),
    /// A writer has been aborted and its changes must be undone first.
    Undecided,
}

/// How far a run of a batch came: rows done, and the writer in the way of the next.
pub(crate) type Progress = (usize, Option<u64>);

impl Rows {
    /// No rows.
    pub(crate) fn new(context: Context<'_>) -> Result<Self> {
        Ok(Self {
            store: Store::new(context.schema, context.writers.generation_last())?,
            index: KeyIndex::default(),
            versions: None,
            merging: None,
            bytes_reported: 0,
        })
    }

    /// The row of a key as a reader sees it.
    pub(crate) fn find(
        &self,
        schema: &TableSchema,
        hash: u64,
        key: KeyRef<'_>,
        snapshot: &Snapshot,
    ) -> Option<Slot> {
        let newest = self.index.find(hash, |slot| self.store.has_key(schema, slot, key))?;
        match &self.versions {
            Some(versions) => versions.visible(newest, snapshot),
            None => Some(newest),
        }
    }

    /// The columns `projection` of a row.
    pub(crate) fn row(
        &self,
        schema: &TableSchema,
        slot: Slot,
        projection: &[usize],
    ) -> Result<(RowVersion, Row)> {
        let fields = schema.arrow().fields();
        let row = projection
            .iter()
            .map(|column| self.store.value(slot, *column)?.to_datum(fields[*column].data_type()))
            .collect::<Result<_>>()?;
        Ok((self.store.version(slot), row))
    }

    /// A keyed write that commits at once; answers the number of rows changed.
    pub(crate) fn write(
        &mut self,
        context: Context<'_>,
        hash: u64,
        key: KeyRef<'_>,
        write: &KeyedWrite,
        row: &[Value<'_>],
    ) -> Result<Step<u64>> {
        let newest = match self.newest(context, hash, key, 0) {
            Newest::Blocked(id) => return Ok(Step::Blocked(id)),
            newest => newest,
        };
        match (write, newest) {
            (KeyedWrite::Put { mode: WriteMode::Insert, .. }, Newest::Live(_)) => Err(context
                .schema
                .duplicate_key(|position| row[context.schema.key()[position]].clone())),
            (KeyedWrite::Put { mode: WriteMode::InsertIgnore, .. }, Newest::Live(_))
            | (KeyedWrite::Delete { .. }, Newest::Absent(_)) => Ok(Step::Done(0)),
            (KeyedWrite::Replace { version, .. }, Newest::Live(slot))
                if self.store.version(slot) != *version =>
            {
                Err(Error::Conflict)
            }
            (KeyedWrite::Replace { .. }, Newest::Absent(_)) => Err(Error::Conflict),
            (KeyedWrite::Delete { .. }, Newest::Live(slot)) => {
                let mark = self.autocommit(context);
                self.end(hash, slot, mark);
                Ok(Step::Done(1))
            }
            (_, newest) => {
                self.store.make_room(context.schema)?;
                let slot = self.store.slot_next();
                self.store.tail.push(row)?;
                let mark = self.autocommit(context);
                self.link(context.schema, hash, slot, &newest, mark);
                Ok(Step::Done(1))
            }
        }
    }

    /// Writes rows `rows` of `source` for a pending writer, counting into `summary`. Rows before
    /// one that is refused or blocked stay (until the writer is aborted).
    pub(crate) fn write_run(
        &mut self,
        context: Context<'_>,
        cell: &Arc<WriterCell>,
        mode: WriteMode,
        (source, rows): (&Source<'_>, &[u32]),
        summary: &mut WriteSummary,
    ) -> Result<Progress> {
        let mark = Some(self.versions.get_or_insert_default().mark_of(cell));
        let mut accepted = Vec::with_capacity(rows.len().min(self.store.tail.room()));
        let mut bytes = KeyBytes::new();
        for (done, row) in rows.iter().enumerate() {
            let key = source.key(context.schema, *row, &mut bytes)?;
            let hash = source.hashes[*row as usize];
            let newest = self.newest(context, hash, key, cell.id());
            match (mode, &newest) {
                (_, Newest::Blocked(id)) => {
                    self.store.tail.complete(context.schema, &source.readers, &accepted)?;
                    return Ok((done, Some(*id)));
                }
                (WriteMode::Insert, Newest::Live(_)) => {
                    self.store.tail.complete(context.schema, &source.readers, &accepted)?;
                    return Err(context.schema.duplicate_key(|position| {
                        source.readers[context.schema.key()[position]].value(*row as usize)
                    }));
                }
                (WriteMode::InsertIgnore, Newest::Live(_)) => summary.skipped += 1,
                _ => {
                    summary.updated += u64::from(matches!(newest, Newest::Live(_)));
                    summary.inserted += u64::from(!matches!(newest, Newest::Live(_)));
                    self.append(context, source, *row, &mut accepted, hash, &newest, mark)?;
                }
            }
        }
        self.store.tail.complete(context.schema, &source.readers, &accepted)?;
        Ok((rows.len(), None))
    }

    /// Replaces (`new`) or removes the rows with the keys of rows `rows` of `old` for a pending
    /// writer. Conflict for a row that another writer has changed since `snapshot`.
    pub(crate) fn modify_run(
        &mut self,
        context: Context<'_>,
        cell: &Arc<WriterCell>,
        snapshot: &Snapshot,
        (keys, new, rows): (&Source<'_>, Option<&Source<'_>>, &[u32]),
        summary: &mut WriteSummary,
    ) -> Result<Progress> {
        let mark = Some(self.versions.get_or_insert_default().mark_of(cell));
        let mut accepted = Vec::new();
        let mut bytes = KeyBytes::new();
        let mut outcome = Ok((rows.len(), None));
        for (done, row) in rows.iter().enumerate() {
            let hash = keys.hashes[*row as usize];
            let readers = &keys.readers;
            let key =
                context.schema.key_ref(|key| readers[key].value(*row as usize), &mut bytes)?;
            let newest = self.newest(context, hash, key, cell.id());
            let slot = match newest {
                Newest::Blocked(id) => {
                    outcome = Ok((done, Some(id)));
                    break;
                }
                Newest::Live(slot) if self.is_created_for(slot, snapshot) => slot,
                Newest::Absent(before) if self.is_ended_for(before, snapshot) => {
                    summary.skipped += 1;
                    continue;
                }
                _ => {
                    outcome = Err(Error::Conflict);
                    break;
                }
            };
            match new {
                Some(new) => {
                    self.append(context, new, *row, &mut accepted, hash, &newest, mark)?;
                    summary.updated += 1;
                }
                None => {
                    self.end(hash, slot, mark);
                    summary.deleted += 1;
                }
            }
        }
        if let Some(new) = new {
            self.store.tail.complete(context.schema, &new.readers, &accepted)?;
        }
        outcome
    }

    /// Number of rows that a reader sees.
    pub(crate) fn count(&self, snapshot: &Snapshot) -> usize {
        let mut hidden = std::collections::BTreeSet::new();
        if let Some(versions) = &self.versions {
            versions.hidden(0..Slot::MAX, snapshot, |slot| {
                hidden.insert(slot);
            });
        }
        self.store.living() - hidden.len()
    }

    /// Whether nothing is left that anybody may still see or undo.
    pub(crate) fn is_spent(&self) -> bool {
        self.store.living() == 0 && self.versions.is_none() && self.merging.is_none()
    }

    /// Drops version information that no reader needs, and undoes aborted writers.
    pub(crate) fn settle(&mut self, context: Context<'_>) {
        let Some(versions) = &mut self.versions else { return };
        let settled = versions.settle(context.writers.view_oldest());
        if versions.is_empty() {
            self.versions = None;
            // Chunks with unsettled rows were left alone.
            self.store.consider_compaction();
        }
        for change in settled {
            let slot = match change {
                Settled::Ended { slot, .. } | Settled::Undone { slot, .. } => slot,
            };
            self.store.kill(slot);
            match change {
                Settled::Ended { is_deleted: false, .. } => {}
                Settled::Undone { before: Some(before), .. } => {
                    let hash = self.store.key_hash(context.schema, slot);
                    self.index.replace(hash, slot, before);
                }
                Settled::Ended { .. } | Settled::Undone { .. } => {
                    let hash = self.store.key_hash(context.schema, slot);
                    self.index.remove(hash, slot);
                }
            }
        }
    }

    /// Settles if a writer has ended or much has piled up.
    pub(crate) fn settle_if_worth(&mut self, context: Context<'_>) {
        if self.versions.as_ref().is_some_and(|versions| versions.wants_settling()) {
            self.settle(context);
        }
    }

    /// A pending writer with changes here, if any.
    pub(crate) fn pending_writer(&self) -> Option<u64> {
        self.versions.as_ref().and_then(|versions| versions.pending_writer())
    }

    /// Memory of everything, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        /// What an unsettled entry takes in its maps.
        const VERSION_BYTES: usize = 64;
        let versions = self.versions.as_ref().map_or(0, |versions| versions.len());
        size_of::<Self>() + self.store.bytes() + self.index.bytes() + versions * VERSION_BYTES
    }

    /// The newest row of a key as the writer `own` (0: autocommit) meets it.
    fn newest(&mut self, context: Context<'_>, hash: u64, key: KeyRef<'_>, own: u64) -> Newest {
        loop {
            match self.newest_undecided(context.schema, hash, key, own) {
                Newest::Undecided => self.settle(context),
                newest => return newest,
            }
        }
    }

    fn newest_undecided(
        &self,
        schema: &TableSchema,
        hash: u64,
        key: KeyRef<'_>,
        own: u64,
    ) -> Newest {
        let Some(slot) = self.index.find(hash, |slot| self.store.has_key(schema, slot, key)) else {
            return Newest::Absent(None);
        };
        let Some(versions) = &self.versions else { return Newest::Live(slot) };
        match versions.creator(slot) {
            Some((id, Fate::Pending)) if id != own => return Newest::Blocked(id),
            Some((_, Fate::Aborted)) => return Newest::Undecided,
            _ => {}
        }
        match versions.ender(slot) {
            None => Newest::Live(slot),
            Some((id, Fate::Pending)) if id != own => Newest::Blocked(id),
            Some((_, Fate::Aborted)) => Newest::Undecided,
            Some(_) => Newest::Absent(Some(slot)),
        }
    }

    /// The mark of a write that commits now, or `None` if no reader needs to tell it apart.
    fn autocommit(&self, context: Context<'_>) -> Option<Mark> {
        let stamp = context.writers.draw_stamp();
        (context.writers.view_oldest() < stamp).then_some(stamp)
    }

    #[expect(clippy::too_many_arguments, reason = "the loop bodies of the two batch writes")]
    fn append(
        &mut self,
        context: Context<'_>,
        source: &Source<'_>,
        row: u32,
        accepted: &mut Vec<u32>,
        hash: u64,
        newest: &Newest,
        mark: Option<Mark>,
    ) -> Result<()> {
        if self.store.tail.room() == 0 {
            self.store.tail.complete(context.schema, &source.readers, accepted)?;
            accepted.clear();
            self.store.make_room(context.schema)?;
        }
        let slot = self.store.slot_next();
        self.store.tail.push_key(context.schema, &source.readers, row)?;
        accepted.push(row);
        self.link(context.schema, hash, slot, newest, mark);
        Ok(())
    }

    /// Makes the row just added in `slot` the newest of its key.
    fn link(
        &mut self,
        schema: &TableSchema,
        hash: u64,
        slot: Slot,
        newest: &Newest,
        mark: Option<Mark>,
    ) {
        let before = match newest {
            Newest::Live(before) => Some(*before),
            Newest::Absent(before) => *before,
            Newest::Blocked(_) | Newest::Undecided => None,
        };
        match before {
            Some(before) => {
                self.index.replace(hash, before, slot);
            }
            None => {
                let store = &self.store;
                self.index.insert(hash, slot, |slot| store.key_hash(schema, slot));
            }
        }
        if let Some(mark) = mark {
            let versions = self.versions.get_or_insert_default();
            versions.create(slot, mark, before);
            if let Newest::Live(before) = newest {
                versions.end(*before, mark, Some(slot));
            }
        } else if let Newest::Live(before) = newest {
            self.store.kill(*before);
        }
    }

    /// Deletes the live row in `slot`.
    fn end(&mut self, hash: u64, slot: Slot, mark: Option<Mark>) {
        match mark {
            Some(mark) => self.versions.get_or_insert_default().end(slot, mark, None),
            None => {
                self.index.remove(hash, slot);
                self.store.kill(slot);
            }
        }
    }

    fn is_created_for(&self, slot: Slot, snapshot: &Snapshot) -> bool {
        let creator = self.versions.as_ref().and_then(|versions| versions.creator(slot));
        creator.is_none_or(|(id, fate)| snapshot.sees(id, fate))
    }

    fn is_ended_for(&self, slot: Option<Slot>, snapshot: &Snapshot) -> bool {
        let ender = slot.and_then(|slot| self.versions.as_ref().and_then(|all| all.ender(slot)));
        ender.is_none_or(|(id, fate)| snapshot.sees(id, fate))
    }
}

impl Source<'_> {
    /// The key of row `row`.
    fn key<'a>(
        &self,
        schema: &TableSchema,
        row: u32,
        bytes: &'a mut KeyBytes,
    ) -> Result<KeyRef<'a>> {
        let readers = &self.readers;
        let positions = schema.key();
        schema.key_ref(|key| readers[positions[key]].value(row as usize), bytes)
    }
}
