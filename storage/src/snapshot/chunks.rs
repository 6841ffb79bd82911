//! `Chunks`: the bytes of a job's snapshots, by number, each with a checksum. A number is used once.

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::RecordBatch;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::{SnapshotChunk, manifest::Entry};
use crate::{
    Result,
    datum::{batch_from_ipc, batch_to_ipc},
    metrics::Metric,
};

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
    /// Bytes of the chunks of all jobs.
    all_bytes: Metric,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    by_number: BTreeMap<u64, Arc<[u8]>>,
    bytes: u64,
}

impl Chunks {
    pub(super) fn new(all_bytes: Metric) -> Self {
        Self { state: Mutex::default(), all_bytes }
    }

    pub(super) fn write(&self, chunk: &SnapshotChunk) -> Result<Written> {
        let bytes: Arc<[u8]> = batch_to_ipc(&chunk.rows)?.into();
        let (length, checksum) = (bytes.len() as u64, xxh3_64(&bytes));
        let mut state = self.state.lock();
        state.last += 1;
        state.bytes += length;
        self.all_bytes.add(length as i64);
        let number = state.last;
        state.by_number.insert(number, bytes);
        Ok(Written { chunk: number, bytes: length, checksum })
    }

    /// The rows of a chunk, or why not, in words that follow its name.
    pub(super) fn read(&self, entry: &Entry) -> Result<RecordBatch, String> {
        let bytes = self.verified(entry)?;
        batch_from_ipc(&bytes).map_err(|error| format!("cannot be read: {error}"))
    }

    /// The bytes of a chunk, if they are those that were written.
    pub(super) fn verified(&self, entry: &Entry) -> Result<Arc<[u8]>, &'static str> {
        let bytes = self.state.lock().by_number.get(&entry.chunk).map(Arc::clone);
        let bytes = bytes.ok_or("is missing")?;
        match xxh3_64(&bytes) == entry.checksum {
            true => Ok(bytes),
            false => Err("is damaged"),
        }
    }

    /// Frees the chunks that are not needed.
    pub(super) fn retain(&self, is_needed: impl Fn(u64) -> bool) {
        let state = &mut *self.state.lock();
        let before = state.bytes;
        let bytes = &mut state.bytes;
        state.by_number.retain(|number, chunk| {
            let is_needed = is_needed(*number);
            if !is_needed {
                *bytes -= chunk.len() as u64;
            }
            is_needed
        });
        self.all_bytes.add(-((before - state.bytes) as i64));
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

impl Drop for Chunks {
    fn drop(&mut self) {
        self.all_bytes.add(-(self.state.get_mut().bytes as i64));
    }
}
