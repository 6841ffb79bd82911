//! `Rows`: one partition of one table: store, key index and unsettled versions kept in step.
//! Called under the partition's lock; never waits: who is in the way is answered to the caller.

use std::{collections::HashSet, sync::Arc};

use foldhash::fast::FixedState;

use super::{
    handle::{KeyedWrite, RowVersion, WriteMode, WriteSummary},
    index::{KeyIndex, Slot},
    journal::{Author, Feed, Journal},
    schema::{KeyBytes, KeyRef, TableSchema, readers},
    store::Store,
    versions::{Hold, Mark, Pass, Settled, Versions},
    view::{ReadMode, Snapshot},
    writer::ended,
    writer_cell::{Fate, WriterCell},
    writers::Writers,
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
    /// What readers of the table's changes have yet to see; none while there is no such reader.
    pub(crate) journals: Vec<Journal>,
    /// The number of the table's readers for which the journals were looked at last.
    pub(crate) feeds_version: u64,
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

/// What was done of a batch.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) summary: WriteSummary,
    /// Rows of the batch that changed nothing, since this was last emptied.
    pub(crate) skipped: HashSet<u32, FixedState>,
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
}

/// No row comes.
const NO_ROW: Option<fn(usize) -> Value<'static>> = None;

impl Newest {
    /// The row that is there.
    fn live(&self) -> Option<Slot> {
        match self {
            Newest::Live(slot) => Some(*slot),
            Newest::Absent(_) | Newest::Blocked(_) => None,
        }
    }
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
            journals: Vec::new(),
            feeds_version: 0,
        })
    }

    /// The row of a key as a reader sees it.
    pub(crate) fn find(
        &self,
        Context { schema, writers }: Context<'_>,
        hash: u64,
        key: KeyRef<'_>,
        snapshot: &Snapshot,
    ) -> Option<Slot> {
        let newest = self.index.find(hash, |slot| self.store.has_key(schema, slot, key))?;
        match &self.versions {
            Some(versions) if versions.is_unsettled(newest) => {
                versions.visible(newest, &snapshot.resolved(writers))
            }
            _ => Some(newest),
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
        let newest = match self.newest(context, hash, key, None) {
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
                let (stamp, mark) = self.autocommit(context);
                self.tell(Author::Stamp(stamp), Some(slot), NO_ROW);
                self.end(hash, slot, mark);
                Ok(Step::Done(1))
            }
            (_, newest) => {
                self.store.make_room(context.schema)?;
                let slot = self.store.slot_next();
                self.store.tail.push(row)?;
                let (stamp, mark) = self.autocommit(context);
                let new = |column: usize| row[column].clone();
                self.tell(Author::Stamp(stamp), newest.live(), Some(new));
                self.link(context.schema, hash, slot, &newest, mark);
                Ok(Step::Done(1))
            }
        }
    }

    /// Writes rows `rows` of `source` for a pending writer, counting into the tally. Rows before
    /// one that is refused or blocked stay (until the writer is aborted). WrongState once the
    /// writer has ended: its settling, which needs the lock too, then leaves nothing behind.
    pub(crate) fn write_run(
        &mut self,
        context: Context<'_>,
        cell: &Arc<WriterCell>,
        mode: WriteMode,
        (source, rows): (&Source<'_>, &[u32]),
        Tally { summary, skipped }: &mut Tally,
    ) -> Result<Progress> {
        let by = (cell, self.mark_of(cell)?);
        let mut accepted = Vec::with_capacity(rows.len().min(self.store.tail.room()));
        let mut bytes = KeyBytes::new();
        for (done, row) in rows.iter().enumerate() {
            let key = source.key(context.schema, *row, &mut bytes)?;
            let hash = source.hashes[*row as usize];
            let newest = self.newest(context, hash, key, Some(cell));
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
                (WriteMode::InsertIgnore, Newest::Live(_)) => {
                    summary.skipped += 1;
                    skipped.insert(*row);
                }
                _ => {
                    summary.updated += u64::from(matches!(newest, Newest::Live(_)));
                    summary.inserted += u64::from(!matches!(newest, Newest::Live(_)));
                    self.append(context, (source, *row), &mut accepted, hash, &newest, by)?;
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
        Tally { summary, skipped }: &mut Tally,
    ) -> Result<Progress> {
        let by = (cell, self.mark_of(cell)?);
        let mut accepted = Vec::new();
        let mut bytes = KeyBytes::new();
        let mut outcome = Ok((rows.len(), None));
        for (done, row) in rows.iter().enumerate() {
            let hash = keys.hashes[*row as usize];
            let readers = &keys.readers;
            let key =
                context.schema.key_ref(|key| readers[key].value(*row as usize), &mut bytes)?;
            let newest = self.newest(context, hash, key, Some(cell));
            let slot = match newest {
                Newest::Blocked(id) => {
                    outcome = Ok((done, Some(id)));
                    break;
                }
                Newest::Live(slot) if self.is_created_for(slot, snapshot) => slot,
                Newest::Absent(before) if self.is_ended_for(before, snapshot) => {
                    summary.skipped += 1;
                    skipped.insert(*row);
                    continue;
                }
                _ => {
                    outcome = Err(Error::Conflict);
                    break;
                }
            };
            match new {
                Some(new) => {
                    self.append(context, (new, *row), &mut accepted, hash, &newest, by)?;
                    summary.updated += 1;
                }
                None => {
                    self.tell(Author::Writer(cell), Some(slot), NO_ROW);
                    self.end(hash, slot, Some(by.1));
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
        let hidden = self.versions.as_ref().map_or(0, |versions| versions.hidden_count(snapshot));
        self.store.living() - hidden
    }

    /// Whether nothing is left that anybody may still see or undo.
    pub(crate) fn is_spent(&self) -> bool {
        self.store.living() == 0
            && self.versions.is_none()
            && self.merging.is_none()
            && self.journals.is_empty()
    }

    /// Drops version information that no reader needs, and undoes aborted writers: one slice of a
    /// pass; answers whether that was the last.
    pub(crate) fn settle_slice(&mut self, schema: &TableSchema, pass: &mut Pass) -> bool {
        let Some(versions) = &mut self.versions else { return true };
        let mut settled = Vec::new();
        let is_done = versions.settle_slice(pass, &mut settled);
        let is_empty = versions.is_empty();
        if is_empty {
            self.versions = None;
        }
        settled.into_iter().for_each(|change| self.apply(schema, &change));
        if is_done || is_empty {
            // Chunks with unsettled rows were left alone.
            self.store.consider_compaction();
        }
        is_done || is_empty
    }

    /// Whether so much is unsettled that a pass may pay.
    pub(crate) fn is_settling_due(&self) -> bool {
        self.versions.as_ref().is_some_and(|versions| versions.is_settling_due())
    }

    /// A writer with changes here that has not ended, if any.
    pub(crate) fn open_writer(&self) -> Option<u64> {
        self.versions.as_ref().and_then(|versions| versions.open_writer())
    }

    /// Keeps a journal for each of `feeds` and for no other. A new one begins with what writers have
    /// done here that have not ended: it will be committed after the reader's first look.
    pub(crate) fn keep_journals(
        &mut self,
        schema: &TableSchema,
        feeds: &[Arc<Feed>],
    ) -> Result<()> {
        self.journals.retain(|journal| feeds.iter().any(|feed| feed.id == journal.feed().id));
        for feed in feeds {
            if self.journals.iter().any(|journal| journal.feed().id == feed.id) {
                continue;
            }
            let mut journal = Journal::new(schema, feed)?;
            let open = self.versions.iter().flat_map(|versions| versions.open_changes());
            for change in open {
                let author = Author::Writer(&change.cell);
                journal.record(author, change.diff, |column| self.store.value(change.slot, column));
            }
            self.journals.push(journal);
        }
        Ok(())
    }

    /// What is left of the partition without its rows, none of which is held by a writer: the
    /// journals, which say that they have gone. `None` without journals.
    pub(crate) fn truncated(mut self, context: Context<'_>) -> Result<Option<Self>> {
        if self.journals.is_empty() {
            return Ok(None);
        }
        let stamp = context.writers.draw_stamp();
        let all: Vec<_> = (0..context.schema.arrow().fields().len()).collect();
        let newest = Snapshot::newest(ReadMode::Durable).resolved(context.writers);
        let mut pieces = Vec::new();
        self.capture(context.schema, &all, &newest, &mut pieces)?;
        for piece in &pieces {
            let columns = readers(piece.batch.columns())?;
            for row in piece.rows() {
                for journal in &mut self.journals {
                    journal
                        .record(Author::Stamp(stamp), -1, |column| Ok(columns[column].value(row)));
                }
            }
        }
        let (journals, feeds_version) = (self.journals, self.feeds_version);
        Ok(Some(Self { journals, feeds_version, ..Self::new(context)? }))
    }

    /// Memory of everything, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        /// What an unsettled entry takes in its maps.
        const VERSION_BYTES: usize = 64;
        let versions = self.versions.as_ref().map_or(0, |versions| versions.len());
        let journals = self.journals.iter().map(Journal::bytes).sum::<usize>();
        let rows = self.store.bytes() + self.index.bytes() + versions * VERSION_BYTES;
        size_of::<Self>() + rows + journals
    }

    /// The newest row of a key as the writer `own` (`None`: autocommit) meets it.
    fn newest(
        &mut self,
        context: Context<'_>,
        hash: u64,
        key: KeyRef<'_>,
        own: Option<&WriterCell>,
    ) -> Newest {
        let schema = context.schema;
        loop {
            let found = self.index.find(hash, |slot| self.store.has_key(schema, slot, key));
            let Some(slot) = found else { return Newest::Absent(None) };
            let Some(versions) = &mut self.versions else { return Newest::Live(slot) };
            let hold = match versions.creation(slot, own) {
                Hold::Free => match versions.ending(slot, own) {
                    None => return Newest::Live(slot),
                    Some(Hold::Free) => return Newest::Absent(Some(slot)),
                    Some(hold) => hold,
                },
                hold => hold,
            };
            if let Hold::Blocked(id) = hold {
                return Newest::Blocked(id);
            }
            if let Some(undone) = versions.undo_newest(slot) {
                self.apply(schema, &undone);
            }
        }
    }

    /// Changes dead rows and index as settling says.
    fn apply(&mut self, schema: &TableSchema, settled: &Settled) {
        match *settled {
            Settled::Superseded(slot) => self.store.kill(slot),
            Settled::Undone { slot, before } => {
                self.store.kill(slot);
                let hash = self.store.key_hash(schema, slot);
                self.index.replace(hash, slot, before);
            }
            Settled::Gone(slot) => {
                self.store.kill(slot);
                let hash = self.store.key_hash(schema, slot);
                self.index.remove(hash, slot);
            }
        }
    }

    /// The mark of a writer that has not ended.
    fn mark_of(&mut self, cell: &Arc<WriterCell>) -> Result<Mark> {
        if cell.fate() != Fate::Pending {
            return Err(ended());
        }
        Ok(self.versions.get_or_insert_default().mark_of(cell))
    }

    /// The stamp of a write that commits now, and its mark, or `None` if no reader needs to tell it apart.
    fn autocommit(&self, context: Context<'_>) -> (u64, Option<Mark>) {
        let stamp = context.writers.draw_stamp();
        (stamp, (context.writers.view_oldest() < stamp).then_some(stamp))
    }

    /// Tells the readers of changes of a row that goes and one that comes; before the rows are
    /// linked.
    fn tell<'v>(
        &mut self,
        author: Author<'_>,
        before: Option<Slot>,
        after: Option<impl Fn(usize) -> Value<'v>>,
    ) {
        let Self { store, journals, .. } = self;
        for journal in journals {
            if let Some(before) = before {
                journal.record(author, -1, |column| store.value(before, column));
            }
            if let Some(after) = &after {
                journal.record(author, 1, |column| Ok(after(column)));
            }
        }
    }

    fn append(
        &mut self,
        context: Context<'_>,
        (source, row): (&Source<'_>, u32),
        accepted: &mut Vec<u32>,
        hash: u64,
        newest: &Newest,
        (cell, mark): (&Arc<WriterCell>, Mark),
    ) -> Result<()> {
        if !self.journals.is_empty() {
            // The row before may be one of this batch, with no more than its key in place.
            self.store.tail.complete(context.schema, &source.readers, accepted)?;
            accepted.clear();
            let new = |column: usize| source.readers[column].value(row as usize);
            self.tell(Author::Writer(cell), newest.live(), Some(new));
        }
        if self.store.tail.room() == 0 {
            self.store.tail.complete(context.schema, &source.readers, accepted)?;
            accepted.clear();
            self.store.make_room(context.schema)?;
        }
        let slot = self.store.slot_next();
        self.store.tail.push_key(context.schema, &source.readers, row)?;
        accepted.push(row);
        self.link(context.schema, hash, slot, newest, Some(mark));
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
            Newest::Blocked(_) => None,
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
        self.versions.as_ref().is_none_or(|versions| versions.is_created_for(slot, snapshot))
    }

    fn is_ended_for(&self, slot: Option<Slot>, snapshot: &Snapshot) -> bool {
        let both = slot.zip(self.versions.as_ref());
        both.is_none_or(|(slot, versions)| versions.is_ended_for(slot, snapshot))
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
