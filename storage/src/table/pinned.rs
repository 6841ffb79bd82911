//! `PinnedChanges`: the changes of a table for a reader that may have to read them again. What it has
//! read stays until it is released; a reader that is lost goes on from a position it has saved.
//!
//! ```text
//!            started at 5            released up to 8          read up to 12      newest
//! rows of 5 ─────┴─── freed ─────────────┴──── kept as read ────────┴── journals ───┴─▶
//!                                             position 10: reads on from here
//! ```
//! The rows that stood at the start are kept as they were captured until the first release, in the
//! same order for everybody who reads them. All of a pin's changes, read or not, share one bound; a
//! pin beyond it has lost changes and says so for ever.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Int64Type, SchemaRef},
};
use parking_lot::Mutex;

use super::{
    Table, capture::Piece, changes::ChangeReader, handle::ScanLane, journal::change_schema, scan,
};
use crate::{Error, Result, cluster::control::ObjectId};

/// Changes of a table from a moment on, to be read as often as needed until they are released.
#[derive(Debug)]
pub struct PinnedChanges {
    table: Arc<Table>,
    started_at: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    reader: ChangeReader,
    /// The rows at the start; `None` if they were not asked for or are released.
    rows: Option<Vec<Piece>>,
    /// Read and not released, by time.
    read: VecDeque<RecordBatch>,
    /// The changes up to this stamp are released.
    released: u64,
    /// Whether nothing was ever released.
    is_whole: bool,
    /// Why changes were lost.
    lost: Option<Error>,
}

/// All pins, by the job and the vertex that read them. A job's go with it, and all with the process.
#[derive(Debug, Default)]
pub struct Pins(Mutex<HashMap<Reader, Kept>>);

/// A job, and the name of a vertex.
type Reader = (ObjectId, Arc<str>);

#[derive(Debug)]
struct Kept {
    pinned: Arc<PinnedChanges>,
    /// The execution of the job that made it.
    since: u64,
}

impl Table {
    /// Pins the table's changes from now on, with the rows that are there if they are wanted; at
    /// most `bytes_max` bytes of changes wait or are kept.
    pub fn pin_changes(
        self: &Arc<Self>,
        with_rows: bool,
        bytes_max: usize,
    ) -> Result<PinnedChanges> {
        let (reader, view) = self.follow_within(bytes_max)?;
        let all: Vec<_> = (0..self.schema().fields().len()).collect();
        let rows = with_rows.then(|| self.capture(&view, &all)).transpose()?;
        let started_at = view.stamp();
        let state = State {
            reader,
            rows,
            read: VecDeque::new(),
            released: started_at,
            is_whole: true,
            lost: None,
        };
        Ok(PinnedChanges { table: Arc::clone(self), started_at, state: Mutex::new(state) })
    }
}

impl PinnedChanges {
    /// The table.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Schema of the changes: the table's columns, then `_time` and `_diff`, both BIGINT.
    pub fn schema(&self) -> SchemaRef {
        change_schema(self.table.schema())
    }

    /// The stamp of the start: the `_time` of the rows that stood there.
    pub fn started_at(&self) -> u64 {
        self.started_at
    }

    /// The rows at the start from the first on, in an order that is always the same; `None` if they
    /// were not asked for or are released.
    pub fn rows(&self) -> Option<ScanLane> {
        let pieces = self.state.lock().rows.clone()?;
        scan::lanes(pieces, self.table.schema(), 1).pop()
    }

    /// Whether everything from the start on can still be read.
    pub fn is_whole(&self) -> bool {
        self.state.lock().is_whole
    }

    /// Whether everything after that stamp can still be read.
    pub fn reaches(&self, after: u64) -> bool {
        self.state.lock().released <= after
    }

    /// Limit once changes were lost.
    pub fn check(&self) -> Result<()> {
        let state = self.state.lock();
        match &state.lost {
            Some(error) => Err(error.clone()),
            None => state.reader.check(),
        }
    }

    /// The next changes committed after that stamp, by time, all of a commit or none; `None` if there
    /// are none yet. The columns are the table's, then `_time` and `_diff`. Limit once changes were
    /// lost.
    pub fn read(&self, after: u64) -> Result<Option<RecordBatch>> {
        let state = &mut *self.state.lock();
        if let Some(error) = &state.lost {
            return Err(error.clone());
        }
        let next = state.read.partition_point(|changes| last_time(changes) <= after);
        if let Some(changes) = state.read.get(next) {
            let seen = times(changes).partition_point(|time| *time as u64 <= after);
            return Ok(Some(changes.slice(seen, changes.num_rows() - seen)));
        }
        match state.reader.poll() {
            Ok(None) => Ok(None),
            Ok(Some(changes)) => {
                state.reader.feed().hold(changes.get_array_memory_size());
                state.read.push_back(changes.clone());
                Ok(Some(changes))
            }
            Err(error) => {
                // What had been taken out of the journals by then is gone.
                state.lost = Some(error.clone());
                Err(error)
            }
        }
    }

    /// What was committed up to that stamp, and the rows at the start, will not be read again.
    pub fn release(&self, upto: u64) {
        let mut state = self.state.lock();
        let rows = state.rows.take();
        state.is_whole = false;
        state.released = state.released.max(upto);
        while let Some(changes) = state.read.front().filter(|first| last_time(first) <= upto) {
            state.reader.feed().let_go(changes.get_array_memory_size());
            state.read.pop_front();
        }
        drop(state);
        drop(rows);
    }
}

impl Pins {
    /// The pin of a job's vertex.
    pub fn get(&self, job: ObjectId, vertex: &str) -> Option<Arc<PinnedChanges>> {
        self.0.lock().get(&(job, Arc::from(vertex))).map(|kept| Arc::clone(&kept.pinned))
    }

    /// The execution that made the pin of a job's vertex: what an earlier one has saved is no position
    /// in it.
    pub fn since(&self, job: ObjectId, vertex: &str) -> Option<u64> {
        self.0.lock().get(&(job, Arc::from(vertex))).map(|kept| kept.since)
    }

    /// Keeps a pin, made by that execution, for as long as its job may run; another one of the vertex
    /// goes.
    pub fn keep(&self, job: ObjectId, vertex: &str, since: u64, pinned: &Arc<PinnedChanges>) {
        let kept = Kept { pinned: Arc::clone(pinned), since };
        let before = self.0.lock().insert((job, Arc::from(vertex)), kept);
        drop(before);
    }

    /// Lets go of a job's: it will not run again, or not from there.
    pub fn forget(&self, job: ObjectId) {
        let mut kept = self.0.lock();
        let gone: Vec<_> = kept.extract_if(|(owner, _), _| *owner == job).collect();
        drop(kept);
        drop(gone);
    }
}

fn times(changes: &RecordBatch) -> &[i64] {
    let times = changes.column(changes.num_columns() - 2);
    times.as_primitive::<Int64Type>().values()
}

/// The time of the last change.
fn last_time(changes: &RecordBatch) -> u64 {
    times(changes).last().map_or(0, |time| *time as u64)
}
