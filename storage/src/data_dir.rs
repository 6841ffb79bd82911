//! `DataDir`: the folder in which a member keeps everything, held by one process at a time.
//!
//! ```text
//!   DATA-DIR/
//!     LOCK         the process that holds it: held by the system, so never left behind
//!     FORMAT       version, cluster id, number of partitions; written last when it is founded
//!     control/ log/ tables/ snapshots/
//!
//!   found:  LOCK ─► folders ─► sync ─► FORMAT.new ─► sync ─► rename ─► sync
//!           └──── a crash here leaves what is founded anew ──┘ └─ and here what is whole
//! ```
//! What is not known for sure to be a data directory of this server is refused and left as it is:
//! nothing here ever removes what it did not write a moment ago.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    env::{
        Disk, FileLock, Rng,
        disk::{Seal, SealError, UNFINISHED, disk_error, read_whole, unseal, write_sealed},
    },
};

const LOCK: &str = "LOCK";
const FORMAT: &str = "FORMAT";
const FOLDERS: [&str; 4] = ["control", "log", "tables", "snapshots"];

/// Version of the whole layout below a data directory.
const VERSION: u16 = 1;
/// The seal of FORMAT; it says itself whose the directory is.
const SEAL: Seal = Seal { magic: *b"TWFORMAT", version: VERSION, owner: [0; 2] };
/// Bytes of LOCK and FORMAT at most, which have some tens.
const BYTES_MAX: u64 = 4096;

/// What FORMAT says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Format {
    cluster_id: u64,
    partition_count: u16,
}

/// A data directory that this process holds until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    format: Format,
    is_new: bool,
    /// Let go when everything else is done.
    _lock: Box<dyn FileLock>,
}

impl DataDir {
    /// Opens the data directory `root`, or founds it if there is nothing there or an empty folder,
    /// with a cluster id drawn from `rng`. A link to a folder is followed.
    ///
    /// InUse while another process holds it, and says which; WrongState if it was founded with
    /// another number of partitions, is of a newer format or is something else; Damaged if it is not
    /// whole; Disk and DiskFull with the path and what the disk said. What is there stays as it is
    /// then, but for an empty LOCK.
    pub fn open(
        disk: &Arc<dyn Disk>,
        rng: &Rng,
        root: &Path,
        partition_count: u16,
    ) -> Result<Self> {
        let root = &find(&**disk, root)?;
        // Looked at first, so that nothing is put into a folder that is none of ours.
        check_is_ours(root, &names(&**disk, root)?)?;
        let lock = hold(&**disk, &root.join(LOCK))?;
        let names = names(&**disk, root)?;
        check_is_ours(root, &names)?;
        let found = read_format(&**disk, root)?;
        let format = match found {
            Some(format) => format,
            None => Format { cluster_id: rng.next_u64(), partition_count },
        };
        if format.partition_count != partition_count {
            return Err(Error::WrongState(format!(
                "data directory \"{}\" was founded with {} partitions, and cannot be opened with {}",
                root.display(),
                format.partition_count,
                partition_count
            )));
        }
        match found {
            Some(_) => check_folders(root, &names)?,
            None => found_in(&**disk, root, &names, format)?,
        }
        Ok(Self { root: root.clone(), format, is_new: found.is_none(), _lock: lock })
    }

    /// Where it is, every link followed.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Drawn when it was founded: what is in it is bound to it.
    pub fn cluster_id(&self) -> u64 {
        self.format.cluster_id
    }

    /// Whether it was founded now.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The folder of the control log.
    pub fn control(&self) -> PathBuf {
        self.root.join(FOLDERS[0])
    }

    /// The folder of the data log.
    pub fn log(&self) -> PathBuf {
        self.root.join(FOLDERS[1])
    }

    /// The folder of the tables' checkpoints.
    pub fn tables(&self) -> PathBuf {
        self.root.join(FOLDERS[2])
    }

    /// The folder of the jobs' snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join(FOLDERS[3])
    }
}

/// The folder a path means, made if its parent is there.
fn find(disk: &dyn Disk, root: &Path) -> Result<PathBuf> {
    let parent = match root.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let made = match disk.canonical(root) {
        Ok(found) => return Ok(found),
        Err(error) if error.kind() == ErrorKind::NotFound => disk.create_folder(root),
        Err(error) => Err(error),
    };
    let failed = |why: &str| {
        Err(Error::Disk(format!("could not create data directory \"{}\": {why}", root.display())))
    };
    match made {
        Ok(()) => {}
        // Something has the name, and leads nowhere.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return failed("it is a link to something that does not exist");
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return failed(&format!("folder \"{}\" does not exist", parent.display()));
        }
        Err(error) => return failed(&error.to_string()),
    }
    disk.sync_folder(parent).map_err(|error| disk_error(parent, &error))?;
    disk.canonical(root).map_err(|error| disk_error(root, &error))
}

/// What is in a folder.
fn names(disk: &dyn Disk, root: &Path) -> Result<BTreeSet<String>> {
    let failed = |why: &str| {
        Error::Disk(format!("could not open data directory \"{}\": {why}", root.display()))
    };
    let entries = disk.list(root).map_err(|error| match error.kind() {
        ErrorKind::NotADirectory => failed("it is not a folder"),
        _ => failed(&error.to_string()),
    })?;
    Ok(entries.into_iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect())
}

/// WrongState for a folder that is neither a data directory nor what a founding that was broken off
/// leaves.
fn check_is_ours(root: &Path, names: &BTreeSet<String>) -> Result<()> {
    let unfinished = format!("{FORMAT}{UNFINISHED}");
    let of_founding = |name: &str| name == LOCK || name == unfinished || FOLDERS.contains(&name);
    if names.contains(FORMAT) {
        return Ok(());
    }
    match names.iter().find(|name| !of_founding(name)) {
        None => Ok(()),
        Some(other) => Err(Error::WrongState(format!(
            "\"{}\" is not a data directory: it has no file {FORMAT}, and is not empty (there is \
             \"{other}\")",
            root.display()
        ))),
    }
}

/// Holds the lock, and says by whom it is held if it is.
fn hold(disk: &dyn Disk, path: &Path) -> Result<Box<dyn FileLock>> {
    let error = match disk.lock(path, &format!("{}\n", std::process::id())) {
        Ok(lock) => return Ok(lock),
        Err(error) => error,
    };
    if error.kind() != ErrorKind::WouldBlock {
        return Err(disk_error(path, &error));
    }
    let text = read_whole(disk, path, BYTES_MAX)?.unwrap_or_default();
    let process = match String::from_utf8_lossy(&text).trim().parse::<u32>() {
        Ok(process) => format!("process {process}"),
        Err(_) => "another process".to_owned(),
    };
    Err(Error::InUse(format!(
        "data directory \"{}\" is in use by {process}: stop it, or choose another directory",
        path.parent().unwrap_or(path).display()
    )))
}

/// What FORMAT says, if it is there.
fn read_format(disk: &dyn Disk, root: &Path) -> Result<Option<Format>> {
    let path = root.join(FORMAT);
    let Some(bytes) = read_whole(disk, &path, BYTES_MAX)? else { return Ok(None) };
    let damaged = |why: &dyn std::fmt::Display| {
        Err(Error::Damaged(format!("data directory \"{}\": file {FORMAT}: {why}", root.display())))
    };
    match unseal(&SEAL, &bytes) {
        Ok((_, payload)) => match postcard::from_bytes(payload) {
            Ok(format) => Ok(Some(format)),
            Err(error) => damaged(&error),
        },
        Err(SealError::Newer { found, newest }) => Err(Error::WrongState(format!(
            "data directory \"{}\" has format {found}, and this server reads up to {newest}: it \
             was written by a newer one",
            root.display()
        ))),
        Err(why) => damaged(&why),
    }
}

/// Damaged if a folder is missing; they are made before FORMAT.
fn check_folders(root: &Path, names: &BTreeSet<String>) -> Result<()> {
    match FOLDERS.iter().find(|folder| !names.contains(**folder)) {
        None => Ok(()),
        Some(folder) => Err(Error::Damaged(format!(
            "data directory \"{}\": folder {folder} is missing",
            root.display()
        ))),
    }
}

/// Makes the folders, and FORMAT when they are there for good.
fn found_in(disk: &dyn Disk, root: &Path, names: &BTreeSet<String>, format: Format) -> Result<()> {
    for folder in FOLDERS {
        let path = root.join(folder);
        if !names.contains(folder) {
            disk.create_folder(&path).map_err(|error| disk_error(&path, &error))?;
        } else if !disk.list(&path).map_err(|error| disk_error(&path, &error))?.is_empty() {
            // A data directory that has lost its FORMAT.
            return Err(Error::Damaged(format!(
                "data directory \"{}\": file {FORMAT} is missing, and folder {folder} is not empty",
                root.display()
            )));
        }
    }
    disk.sync_folder(root).map_err(|error| disk_error(root, &error))?;
    let payload =
        postcard::to_stdvec(&format).map_err(|error| Error::Internal(error.to_string()))?;
    write_sealed(disk, root, FORMAT, &SEAL, &payload)
}

#[cfg(test)]
mod tests;
