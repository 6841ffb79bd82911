//! Checkpoints: the rows of a table on disk, as one view sees them, and back. What the log says of
//! them after that is not theirs to know: a checkpoint names its place in the log.
//!
//! ```text
//!   tables/17/manifest               place in the log │ files, rows, bytes │ what columns
//!             │
//!             ├► 0000000000000004.rows    partitions 0 … 41     header│frame│frame│…│end
//!             └► 0000000000000005.rows    partitions 42 … 80           └ at most one chunk of one
//!                                                                        partition, as Arrow arrays
//!   write:  files of rows ─► sync each ─► sync folder ─► manifest.new ─► rename ─► sync folder
//!                                                        ─► the older files go
//! ```
//! The rename is the moment in which the new checkpoint takes the place of the one before: a crash
//! leaves one of the two, whole, and perhaps files that no manifest names, which the next
//! [`CheckpointStore::load`] or [`CheckpointStore::write`] removes. Writing captures one partition at
//! a time and holds no more in memory than a chunk of it. Files are loaded by as many threads as
//! wanted, straight into chunks, and the key index is built on the way.
//!
//! Every byte is under a checksum that also covers which file it is and where in it: what was
//! changed, cut, moved or put there from elsewhere is `Damaged`, with file, byte and partition, and
//! nothing of that table is served.

mod batch;
mod fingerprint;
mod frame;
mod load;
mod manifest;
mod write;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use self::manifest::Manifest;
pub use self::{load::Loaded, write::Written};
pub use crate::data_log::Position;
use crate::{
    Result,
    cluster::control::ObjectId,
    env::{
        Disk,
        disk::{disk_error, remove_if_there},
    },
};

/// The checkpoints of all tables of a data directory.
#[derive(Debug)]
pub struct CheckpointStore {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// The cluster whose rows these are: no other's are taken for its own.
    cluster: u64,
    /// Held while files of any table change.
    changing: Mutex<()>,
}

impl CheckpointStore {
    /// The checkpoints in a folder, which is there.
    pub fn new(disk: &Arc<dyn Disk>, folder: &Path, cluster: u64) -> Self {
        let (disk, folder) = (Arc::clone(disk), folder.to_owned());
        Self { disk, folder, cluster, changing: Mutex::default() }
    }

    /// Tables that there is a folder of, rising; of some there may be no checkpoint in it.
    pub fn tables(&self) -> Result<Vec<ObjectId>> {
        let entries = self.disk.list(&self.folder);
        let entries = entries.map_err(|error| disk_error(&self.folder, &error))?;
        let folders = entries.iter().filter(|entry| !entry.is_file);
        let mut ids: Vec<_> = folders.filter_map(|entry| id_of(entry.name.to_str()?)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Removes the checkpoint of a table that was dropped, and its folder; nothing if there is none.
    /// Waits for one that is being written.
    pub fn remove(&self, table: ObjectId) -> Result<()> {
        let _changing = self.changing.lock();
        let folder = self.folder_of(table);
        let entries = match self.disk.list(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            listed => listed.map_err(|error| disk_error(&folder, &error))?,
        };
        for entry in entries {
            remove_if_there(&*self.disk, &folder.join(entry.name))?;
        }
        let removed = self.disk.remove_folder(&folder);
        let synced = removed.and_then(|()| self.disk.sync_folder(&self.folder));
        synced.map_err(|error| disk_error(&folder, &error))
    }

    fn folder_of(&self, table: ObjectId) -> PathBuf {
        self.folder.join(table.0.to_string())
    }

    /// Removes files of rows that the manifest of a table does not name.
    fn remove_leftovers(&self, table: ObjectId, manifest: &Manifest) -> Result<()> {
        let folder = self.folder_of(table);
        for number in self.numbers(&folder)? {
            if !manifest.files.iter().any(|file| file.number == number) {
                remove_if_there(&*self.disk, &folder.join(frame::file_name(number)))?;
            }
        }
        Ok(())
    }

    /// Numbers of the files of rows in a folder.
    fn numbers(&self, folder: &Path) -> Result<Vec<u64>> {
        let entries = self.disk.list(folder).map_err(|error| disk_error(folder, &error))?;
        Ok(entries.iter().filter_map(|entry| frame::number_of(entry.name.to_str()?)).collect())
    }
}

/// The table whose folder has this name.
fn id_of(name: &str) -> Option<ObjectId> {
    name.parse().ok().filter(|id: &u64| id.to_string() == name).map(ObjectId)
}

#[cfg(test)]
mod tests;
