//! Openraft's log and vote, as records of a [`Log`]: what was appended is in memory until it is cut,
//! and on the disk before anybody is told.

use std::{
    collections::VecDeque,
    fmt::Debug,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use openraft::{
    LogState, OptionalSend, RaftLogReader, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};
use parking_lot::Mutex;

use super::{
    record::{self, Pieces, Record},
    types::{Entry, LogId, StoreResult, Types, Vote},
};
use crate::{
    Error, Result,
    log::{Log, Lsn},
};

/// What an entry takes besides its own bytes, in memory and in the log.
const ENTRY_BYTES: u64 = 64;

/// The log and the vote. Cheap to clone: every clone is the same.
#[derive(Debug, Clone)]
pub(super) struct Store {
    log: Arc<Log>,
    kept: Arc<Mutex<Kept>>,
}

/// What is in memory.
#[derive(Debug, Default)]
pub(super) struct Kept {
    vote: Option<Vote>,
    /// The last entry that was cut from the beginning.
    purged: Option<LogId>,
    /// All entries after it, without holes.
    entries: VecDeque<KeptEntry>,
    /// Of all entries.
    bytes: u64,
    pieces: Pieces,
    /// What the log failed with, in the crate's words: openraft has its own.
    failure: Option<Error>,
}

#[derive(Debug)]
struct KeptEntry {
    entry: Entry,
    /// Its first piece.
    lsn: Lsn,
    bytes: u64,
}

impl Kept {
    /// What there is before anything is read from the log: all up to `purged` is in the saved state,
    /// and the vote of then with it.
    pub(super) fn after(purged: Option<LogId>, vote: Option<Vote>) -> Self {
        Self { purged, vote, ..Self::default() }
    }

    /// Takes in a record that is read from the log. Damaged if entries are missing before it.
    pub(super) fn read(&mut self, lsn: Lsn, piece: &[u8]) -> Result<()> {
        let Some((lsn, bytes)) = self.pieces.take(lsn, piece)? else { return Ok(()) };
        match Record::decode(lsn, &bytes)? {
            // Who was elected before the start is not any more: it must be elected again.
            Record::Vote { term, node, .. } => self.vote = Some(Vote::new(term, node)),
            Record::CutFrom(index) => self.cut_from(index),
            Record::Entry(place, what) => {
                let entry = what.entry(place);
                let (index, next) = (entry.log_id.index, self.next_index());
                if index > next {
                    return Err(Error::Damaged(format!(
                        "record {} of the control log: entries from {next} to {} are missing \
                         before it",
                        lsn.0,
                        index - 1
                    )));
                }
                if index == next {
                    self.push(lsn, bytes.len(), entry);
                }
            }
        }
        Ok(())
    }

    fn next_index(&self) -> u64 {
        let last = self.entries.back().map(|kept| kept.entry.log_id);
        last.or(self.purged).map_or(0, |last| last.index + 1)
    }

    fn push(&mut self, lsn: Lsn, bytes: usize, entry: Entry) {
        let bytes = bytes as u64 + ENTRY_BYTES;
        self.bytes += bytes;
        self.entries.push_back(KeptEntry { entry, lsn, bytes });
    }

    fn cut_from(&mut self, index: u64) {
        while let Some(last) = self.entries.pop_back_if(|last| last.entry.log_id.index >= index) {
            self.bytes -= last.bytes;
        }
    }

    fn cut_upto(&mut self, upto: LogId) {
        let is_gone = |first: &mut KeptEntry| first.entry.log_id.index <= upto.index;
        while let Some(first) = self.entries.pop_front_if(is_gone) {
            self.bytes -= first.bytes;
        }
        self.purged = self.purged.max(Some(upto));
    }
}

impl Store {
    /// What was read from a log, which goes on.
    pub(super) fn new(log: &Arc<Log>, kept: Kept) -> Self {
        Self { log: Arc::clone(log), kept: Arc::new(Mutex::new(kept)) }
    }

    /// Whom this member voted for last.
    pub(super) fn vote(&self) -> Option<Vote> {
        self.kept.lock().vote
    }

    /// Bytes of all entries that are not in the saved state.
    pub(super) fn bytes(&self) -> u64 {
        self.kept.lock().bytes
    }

    /// Why openraft was told that the log fails, if it was.
    pub(super) fn failure(&self) -> Option<Error> {
        self.kept.lock().failure.clone()
    }

    /// Appends a record and makes it durable.
    fn write(&self, record: &Record) -> Result<Lsn> {
        let lsn = record::append(&self.log, &record.encode()?);
        self.log.sync(self.log.newest())?;
        Ok(lsn)
    }

    fn append_all(&self, entries: impl Iterator<Item = Entry>) -> Result<()> {
        let mut kept = self.kept.lock();
        for entry in entries {
            let bytes = Record::of_entry(entry.clone()).encode()?;
            let lsn = record::append(&self.log, &bytes);
            kept.push(lsn, bytes.len(), entry);
        }
        drop(kept);
        self.log.sync(self.log.newest())
    }

    /// Cuts all entries up to one, which are in the saved state, and gives back what room there is
    /// in whole segments. The vote is written again before.
    fn cut_upto(&self, upto: LogId) -> Result<()> {
        let (vote, first) = {
            let mut kept = self.kept.lock();
            kept.cut_upto(upto);
            (kept.vote, kept.entries.front().map(|kept| kept.lsn))
        };
        let next = Lsn(self.log.newest().0 + 1);
        let vote = vote.map(|vote| self.write(&Record::of_vote(&vote))).transpose()?;
        self.log.cut(first.unwrap_or(next).min(vote.unwrap_or(next)))
    }

    /// An error as openraft is told of it, which stops then.
    fn told(&self, error: Error) -> StorageIOError<u64> {
        let told = StorageIOError::write_logs(&error);
        self.kept.lock().failure.get_or_insert(error);
        told
    }
}

impl RaftLogReader<Types> for Store {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> StoreResult<Vec<Entry>> {
        let kept = self.kept.lock();
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let first = kept.entries.front().map_or(0, |kept| kept.entry.log_id.index);
        let from_start = kept.entries.iter().skip(start.saturating_sub(first) as usize);
        let within = from_start.take_while(|kept| range.contains(&kept.entry.log_id.index));
        Ok(within.map(|kept| kept.entry.clone()).collect())
    }
}

impl RaftLogStorage<Types> for Store {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> StoreResult<LogState<Types>> {
        let kept = self.kept.lock();
        let last = kept.entries.back().map(|kept| kept.entry.log_id);
        Ok(LogState { last_purged_log_id: kept.purged, last_log_id: last.or(kept.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> StoreResult<()> {
        self.write(&Record::of_vote(vote)).map_err(|error| self.told(error))?;
        self.kept.lock().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> StoreResult<Option<Vote>> {
        Ok(self.kept.lock().vote)
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<Types>) -> StoreResult<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.append_all(entries.into_iter()).map_err(|error| self.told(error))?;
        flushed.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> StoreResult<()> {
        self.kept.lock().cut_from(from.index);
        self.write(&Record::CutFrom(from.index)).map_err(|error| self.told(error))?;
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> StoreResult<()> {
        Ok(self.cut_upto(upto).map_err(|error| self.told(error))?)
    }
}
