//! `Chunks`: the bytes of a job's snapshots, by number, each with a checksum, in memory or in packs
//! on disk. A number is used once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::array::RecordBatch;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    SnapshotChunk,
    manifest::Entry,
    pack::{HEADER_BYTES, frame_bytes},
    packs::{Packs, Place},
};
use crate::{
    Error, Result,
    datum::{batch_from_ipc, batch_to_ipc},
    metrics::Metric,
};

/// Packs a job may have before its small ones become one: more would cost a restart more than their
/// rewriting costs now.
const PACKS_MAX: usize = if cfg!(test) { 8 } else { 64 };
/// Bytes up to which a pack is a small one.
const SMALL_PACK_BYTES: u64 = if cfg!(test) { 4 << 10 } else { 1 << 20 };

/// Where a written chunk is found again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) chunk: u64,
    pub(super) bytes: u64,
    pub(super) checksum: u64,
}

#[derive(Debug)]
pub(super) struct Chunks {
    state: Mutex<State>,
    /// `None` without a disk.
    packs: Option<Packs>,
    /// Held while packs are rewritten.
    tidying: Mutex<()>,
    /// Bytes of the chunks of all jobs.
    all_bytes: Metric,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    by_number: BTreeMap<u64, Kept>,
    bytes: u64,
}

/// Where the bytes of a chunk are.
#[derive(Debug, Clone)]
enum Kept {
    Memory(Arc<[u8]>),
    Pack(Place),
}

impl Kept {
    fn length(&self) -> u64 {
        match self {
            Kept::Memory(bytes) => bytes.len() as u64,
            Kept::Pack(place) => place.length,
        }
    }

    fn pack(&self) -> Option<u64> {
        match self {
            Kept::Memory(_) => None,
            Kept::Pack(place) => Some(place.pack),
        }
    }
}

impl Chunks {
    /// None so far; in packs, if there are any.
    pub(super) fn new(packs: Option<Packs>, all_bytes: Metric) -> Self {
        Self { state: Mutex::default(), packs, tidying: Mutex::default(), all_bytes }
    }

    /// Those that were found in packs.
    pub(super) fn found(packs: Packs, places: BTreeMap<u64, Place>, all_bytes: Metric) -> Self {
        let bytes = places.values().map(|place| place.length).sum();
        all_bytes.add(bytes as i64);
        let last = places.last_key_value().map_or(0, |(number, _)| *number);
        let by_number =
            places.into_iter().map(|(number, place)| (number, Kept::Pack(place))).collect();
        let state = Mutex::new(State { last, by_number, bytes });
        Self { state, packs: Some(packs), tidying: Mutex::default(), all_bytes }
    }

    pub(super) fn write(&self, chunk: &SnapshotChunk) -> Result<Written> {
        let bytes = batch_to_ipc(&chunk.rows)?;
        let (length, checksum) = (bytes.len() as u64, xxh3_64(&bytes));
        let number = {
            let mut state = self.state.lock();
            state.last += 1;
            state.last
        };
        match &self.packs {
            Some(packs) => {
                packs.put(number, &bytes, |place| self.add(number, Kept::Pack(place)))?;
            }
            None => self.add(number, Kept::Memory(bytes.into())),
        }
        Ok(Written { chunk: number, bytes: length, checksum })
    }

    fn add(&self, number: u64, kept: Kept) {
        let length = kept.length();
        let mut state = self.state.lock();
        state.bytes += length;
        state.by_number.insert(number, kept);
        self.all_bytes.add(length as i64);
    }

    /// Makes all that was written survive a crash. Disk if not all of `needed` was.
    pub(super) fn sync<'a>(&self, needed: impl Iterator<Item = &'a Entry>) -> Result<()> {
        let Some(packs) = &self.packs else { return Ok(()) };
        packs.sync()?;
        // Before the other lock, which is taken within this one where chunks are added.
        let dead = packs.dead();
        let state = self.state.lock();
        for entry in needed {
            let is_there = match state.by_number.get(&entry.chunk) {
                Some(Kept::Pack(place)) => !dead.contains(&place.pack),
                kept => kept.is_some(),
            };
            if !is_there {
                return Err(Error::Disk(format!("chunk {} was not written", entry.chunk)));
            }
        }
        Ok(())
    }

    /// The rows of a chunk, or why not, in words that follow its name.
    pub(super) fn read(&self, entry: &Entry) -> Result<Result<RecordBatch, String>> {
        let read = |bytes: Arc<[u8]>| {
            batch_from_ipc(&bytes).map_err(|error| format!("cannot be read: {error}"))
        };
        Ok(self.verified(entry)?.and_then(read))
    }

    /// The bytes of a chunk, if they are those that were written.
    pub(super) fn verified(&self, entry: &Entry) -> Result<Result<Arc<[u8]>, String>> {
        let kept = self.state.lock().by_number.get(&entry.chunk).cloned();
        let bytes = match (kept, &self.packs) {
            (Some(Kept::Memory(bytes)), _) => bytes,
            (Some(Kept::Pack(place)), Some(packs)) => match packs.read(entry.chunk, place)? {
                Ok(bytes) => bytes.into(),
                Err(why) => return Ok(Err(why)),
            },
            (_, packs) => {
                let damages = packs.as_ref().map_or(&[][..], Packs::damages);
                return Ok(Err(match damages.is_empty() {
                    true => "is missing".to_owned(),
                    false => format!("is missing ({})", damages.join("; ")),
                }));
            }
        };
        Ok(match xxh3_64(&bytes) == entry.checksum {
            true => Ok(bytes),
            false => Err("is damaged".to_owned()),
        })
    }

    /// Numbers up to this one were used.
    pub(super) fn used(&self, number: u64) {
        let mut state = self.state.lock();
        state.last = state.last.max(number);
    }

    /// Frees the chunks that are not needed. What they took on disk is given back in part.
    pub(super) fn retain(&self, is_needed: impl Fn(u64) -> bool) {
        {
            let state = &mut *self.state.lock();
            let before = state.bytes;
            let bytes = &mut state.bytes;
            state.by_number.retain(|number, kept| {
                let is_needed = is_needed(*number);
                if !is_needed {
                    *bytes -= kept.length();
                }
                is_needed
            });
            self.all_bytes.add(-((before - state.bytes) as i64));
        }
        if let Some(packs) = &self.packs
            && let Err(error) = self.tidy(packs)
        {
            tracing::warn!(%error, "old snapshots take room that was not given back");
        }
    }

    /// Removes packs without chunks, and rewrites those that are less than half full, or small and
    /// too many: on disk there are at most about twice the bytes of the chunks.
    fn tidy(&self, packs: &Packs) -> Result<()> {
        let Some(_tidying) = self.tidying.try_lock() else { return Ok(()) };
        // In this order: a chunk in a pack that is done is known.
        let done = packs.done();
        let mut living: BTreeMap<u64, Vec<(u64, Place)>> = BTreeMap::new();
        for (number, kept) in &self.state.lock().by_number {
            if let Kept::Pack(place) = kept {
                living.entry(place.pack).or_default().push((*number, *place));
            }
        }
        let is_small = |size: &&u64| **size < SMALL_PACK_BYTES;
        let is_crowded =
            done.len() > PACKS_MAX && done.values().filter(is_small).count() > PACKS_MAX / 2;
        let mut rewritten = Vec::new();
        for (pack, size) in done {
            let Some(chunks) = living.remove(&pack) else {
                packs.remove(pack)?;
                continue;
            };
            let bytes: u64 = chunks.iter().map(|(_, place)| frame_bytes(place.length)).sum();
            if (bytes + HEADER_BYTES as u64) * 2 < size || (is_crowded && is_small(&&size)) {
                rewritten.push((pack, chunks));
            }
        }
        let mut moved = Vec::new();
        for (_, chunks) in &rewritten {
            for (number, place) in chunks.iter() {
                // One that is damaged stays where it is, so that whoever needs it hears where.
                let Ok(bytes) = packs.read(*number, *place)? else { continue };
                packs.put(*number, &bytes, |new| moved.push((*number, *place, new)))?;
            }
        }
        if moved.is_empty() {
            return Ok(());
        }
        packs.sync()?;
        let mut state = self.state.lock();
        for (number, old, new) in moved {
            if let Some(Kept::Pack(place)) = state.by_number.get_mut(&number)
                && *place == old
            {
                *place = new;
            }
        }
        let in_use: BTreeSet<u64> = state.by_number.values().filter_map(Kept::pack).collect();
        drop(state);
        let empty = rewritten.iter().map(|(pack, _)| *pack).filter(|pack| !in_use.contains(pack));
        empty.into_iter().try_for_each(|pack| packs.remove(pack))
    }

    /// Bytes of the chunks.
    pub(super) fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    /// Bytes of the packs that are not written any more.
    #[cfg(test)]
    pub(super) fn pack_bytes(&self) -> u64 {
        self.packs.as_ref().map_or(0, |packs| packs.done().values().sum())
    }

    /// Removes everything from the disk; nobody uses it any more.
    pub(super) fn remove(&self) -> Result<()> {
        self.packs.as_ref().map_or(Ok(()), Packs::remove_all)
    }

    pub(super) fn damage(&self, number: u64, is_lost: bool) -> bool {
        let mut state = self.state.lock();
        let Some(chunk) = state.by_number.remove(&number) else { return false };
        if !is_lost {
            let damaged = match chunk {
                Kept::Memory(chunk) => {
                    let mut bytes = chunk.to_vec();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    Kept::Memory(bytes.into())
                }
                // As good as damaged: it is not found there.
                Kept::Pack(place) => Kept::Pack(Place { offset: place.offset + 8, ..place }),
            };
            state.by_number.insert(number, damaged);
        }
        true
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        self.all_bytes.add(-(self.state.get_mut().bytes as i64));
    }
}
