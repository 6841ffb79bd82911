//! `Manifest`: which files a checkpoint has and what they hold; the file that makes it one.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Position;
use crate::{
    Error, Result,
    cluster::control::ObjectId,
    env::{
        Disk,
        disk::{Seal, read_sealed, write_sealed},
    },
    log::Lsn,
    partition::PartitionId,
};

/// Name of the file.
pub(super) const NAME: &str = "manifest";

/// Version of its format.
const VERSION: u16 = 1;

/// Bytes it may have: enough for the files of 10¹³ bytes of rows and a million undecided writers.
const BYTES_MAX: u64 = 64 << 20;

/// What a checkpoint is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// `None` before the first checkpoint is complete: its files may be there in part.
    place: Option<Place>,
    pub(super) fingerprint: u64,
    pub(super) partition_count: u16,
    /// The last value of the hidden key that was given away; 0 before the first.
    pub(super) row_id_last: i64,
    pub(super) files: Vec<RowsFile>,
}

/// A [`Position`] as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    lsn: u64,
    undecided: Vec<(Lsn, u64)>,
}

/// One file of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RowsFile {
    pub(super) number: u64,
    pub(super) bytes: u64,
    pub(super) rows: u64,
    /// The partitions it has rows of lie between these.
    first: u16,
    last: u16,
}

impl Manifest {
    pub(super) fn new(position: &Position) -> Self {
        let Position { lsn, undecided } = position;
        let place = Place { lsn: lsn.0, undecided: undecided.clone() };
        Self { place: Some(place), ..Self::default() }
    }

    /// Where it stands in the log; `None` before the first checkpoint is complete.
    pub(super) fn position(&self) -> Option<Position> {
        let place = self.place.as_ref()?;
        Some(Position { lsn: Lsn(place.lsn), undecided: place.undecided.clone() })
    }

    pub(super) fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Puts it into a table's folder in the place of the one before.
    pub(super) fn write(
        &self,
        disk: &dyn Disk,
        folder: &Path,
        (cluster, table): (u64, ObjectId),
    ) -> Result<()> {
        let payload = postcard::to_stdvec(self);
        let payload = payload.map_err(|error| Error::Internal(error.to_string()))?;
        write_sealed(disk, folder, NAME, &seal(cluster, table), &payload)
    }

    /// The manifest in a table's folder; `None` if there is none.
    pub(super) fn read(
        disk: &dyn Disk,
        folder: &Path,
        (cluster, table): (u64, ObjectId),
    ) -> Result<Option<Self>> {
        let path = folder.join(NAME);
        let Some((_, payload)) = read_sealed(disk, &path, &seal(cluster, table), BYTES_MAX)? else {
            return Ok(None);
        };
        let damaged = |error| Error::Damaged(format!("{}: {error}", path.display()));
        postcard::from_bytes(&payload).map(Some).map_err(damaged)
    }
}

impl RowsFile {
    /// One that begins with rows of this partition.
    pub(super) fn new(number: u64, first: PartitionId) -> Self {
        Self { number, bytes: 0, rows: 0, first: first.0, last: first.0 }
    }

    /// It has a frame more.
    pub(super) fn add(&mut self, partition: PartitionId, rows: u64, bytes: u64) {
        self.last = partition.0;
        self.rows += rows;
        self.bytes += bytes;
    }

    /// The first and the last partition it may have rows of.
    pub(super) fn partitions(&self) -> (PartitionId, PartitionId) {
        (PartitionId(self.first), PartitionId(self.last))
    }
}

fn seal(cluster: u64, table: ObjectId) -> Seal {
    Seal { magic: *b"TWCHKPT\n", version: VERSION, owner: [cluster, table.0] }
}
