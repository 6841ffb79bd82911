//! `Chunks`: the bytes of a job's snapshots, by number, each with a checksum. A number is used once.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use arrow::array::RecordBatch;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::{SnapshotChunk, manifest::Entry};
use crate::{
    Result,
    datum::{batch_from_ipc, batch_to_ipc},
};

/// Where a written chunk is found again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) chunk: u64,
    pub(super) bytes: u64,
    pub(super) checksum: u64,
}

#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    by_number: BTreeMap<u64, Arc<[u8]>>,
    bytes: u64,
}

impl Chunks {
    pub(super) fn write(&self, chunk: &SnapshotChunk) -> Result<Written> {
        let bytes: Arc<[u8]> = batch_to_ipc(&chunk.rows)?.into();
        let (length, checksum) = (bytes.len() as u64, xxh3_64(&bytes));
        let mut state = self.state.lock();
        state.last += 1;
        state.bytes += length;
        let number = state.last;
        state.by_number.insert(number, bytes);
        Ok(Written { chunk: number, bytes: length, checksum })
    }

    /// The rows of a chunk, or why not, in words that follow its name.
    pub(super) fn read(&self, entry: &Entry) -> Result<RecordBatch, String> {
        let bytes = self.state.lock().by_number.get(&entry.chunk).map(Arc::clone);
        let bytes = bytes.ok_or("is missing")?;
        if xxh3_64(&bytes) != entry.checksum {
            return Err("is damaged".to_owned());
        }
        batch_from_ipc(&bytes).map_err(|error| format!("cannot be read: {error}"))
    }

    pub(super) fn retain(&self, needed: &HashSet<u64>) {
        let state = &mut *self.state.lock();
        let bytes = &mut state.bytes;
        state.by_number.retain(|number, chunk| {
            let is_needed = needed.contains(number);
            if !is_needed {
                *bytes -= chunk.len() as u64;
            }
            is_needed
        });
    }

    pub(super) fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    pub(super) fn damage(&self, number: u64, is_lost: bool) -> bool {
        let mut state = self.state.lock();
        let Some(chunk) = state.by_number.remove(&number) else { return false };
        if !is_lost {
            let mut bytes = chunk.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            state.by_number.insert(number, bytes.into());
        }
        true
    }
}
