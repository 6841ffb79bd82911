//! The disk as a value: what a protocol that must survive a crash needs of one, and no more. The
//! machine's ([`SystemDisk`]), and a twin in memory whose crashes are a seed's ([`SimDisk`]).
//!
//! What is promised after a crash is what POSIX promises, and the twin takes away all the rest:
//!
//! ```text
//!   write ──► lost, whole or in part        until WriteFile::sync, RegionFile::sync
//!   create, rename, remove ──► undone       until Disk::sync_folder of the folder they are in
//! ```
//! Of what was written into a [`RegionFile`] any sectors may be lost, whatever their order. A rename
//! itself is never seen half done. Nothing here caches, retries or waits.

mod sealed;
mod simulated;
mod system;
mod whole;

use std::{
    ffi::OsString,
    fmt::Debug,
    io::{ErrorKind, Result},
    path::{Path, PathBuf},
    sync::Arc,
};

pub use sealed::{Seal, SealError, seal, unseal};
pub use simulated::SimDisk;
pub use system::SystemDisk;
pub use whole::{
    UNFINISHED, make_folder, read_sealed, read_whole, remove_if_there, write_sealed, write_whole,
};

/// A tree of files. Every call may block for as long as the disk takes.
pub trait Disk: Send + Sync + Debug {
    /// Opens a file for reading; NotFound if it is not there.
    fn open(&self, path: &Path) -> Result<Arc<dyn ReadFile>>;

    /// Creates an empty file; AlreadyExists if there is anything of that name, a link included.
    fn create(&self, path: &Path) -> Result<Box<dyn WriteFile>>;

    /// Creates a file of `size` zero bytes whose room is taken from the disk now: later writes into
    /// it do not run out of it. AlreadyExists as [`Disk::create`]; StorageFull if there is no room,
    /// and then there is no file. It is not yet synced.
    fn create_region(&self, path: &Path, size: u64) -> Result<Box<dyn RegionFile>>;

    /// Opens a file that is there for writing into what it has; NotFound if it is not there.
    fn open_region(&self, path: &Path) -> Result<Box<dyn RegionFile>>;

    /// Creates a folder; AlreadyExists if there is anything of that name.
    fn create_folder(&self, path: &Path) -> Result<()>;

    /// Removes an empty folder; NotFound if it is not there, DirectoryNotEmpty if anything is in it.
    fn remove_folder(&self, path: &Path) -> Result<()>;

    /// Gives a file another name in the same folder, in the place of the file that has it.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes a file; NotFound if it is not there.
    fn remove(&self, path: &Path) -> Result<()>;

    /// What is in a folder, in no order.
    fn list(&self, folder: &Path) -> Result<Vec<FolderEntry>>;

    /// Makes the names in a folder survive a crash.
    fn sync_folder(&self, folder: &Path) -> Result<()>;

    /// The path with every link followed; NotFound if nothing is there.
    fn canonical(&self, path: &Path) -> Result<PathBuf>;

    /// Holds a file against everybody else who would lock it, in this process or another one, until
    /// the answer is dropped or the process ends; makes it if it is not there, and writes `text` in
    /// the place of what it says. WouldBlock, and the file stays as it is, if somebody holds it.
    fn lock(&self, path: &Path, text: &str) -> Result<Box<dyn FileLock>>;
}

/// A file that is held. Dropped, it is let go.
pub trait FileLock: Send + Sync + Debug {}

/// A file that is read. Reads do not disturb each other.
pub trait ReadFile: Send + Sync + Debug {
    /// Bytes it has now.
    fn size(&self) -> Result<u64>;

    /// Reads at an offset, at most as much as there is room for; 0 at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize>;
}

/// A file that is written, front to back.
pub trait WriteFile: Send + Debug {
    /// Appends all of it.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes what was appended survive a crash; its name needs [`Disk::sync_folder`].
    fn sync(&mut self) -> Result<()>;
}

/// A file of a size that does not change, which is written anywhere.
pub trait RegionFile: Send + Debug {
    /// Writes all of it, within the file's size.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Makes what was written survive a crash; its name needs [`Disk::sync_folder`].
    fn sync(&mut self) -> Result<()>;
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderEntry {
    /// Without the folder.
    pub name: OsString,
    /// Whether it is a file, or a link to one.
    pub is_file: bool,
    /// Bytes of a file.
    pub size: u64,
}

/// What the disk said of a file, as the crate's error.
pub(crate) fn disk_error(path: &Path, error: &std::io::Error) -> crate::Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            crate::Error::DiskFull(path.to_owned())
        }
        _ => crate::Error::Disk(format!("{}: {error}", path.display())),
    }
}
