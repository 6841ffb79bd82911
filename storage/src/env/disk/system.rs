//! `SystemDisk`: the machine's disk, call by call.

use std::{
    fs::{self, File, TryLockError},
    io::{ErrorKind, Result, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Disk, FileLock, FolderEntry, ReadFile, RegionFile, WriteFile};

/// Zeros are written in pieces of so many bytes.
const ZEROS: usize = 1 << 20;

/// The machine's disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn open(&self, path: &Path) -> Result<Arc<dyn ReadFile>> {
        Ok(Arc::new(File::open(path)?))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn WriteFile>> {
        Ok(Box::new(File::options().write(true).create_new(true).open(path)?))
    }

    fn create_region(&self, path: &Path, size: u64) -> Result<Box<dyn RegionFile>> {
        let mut file = File::options().write(true).create_new(true).open(path)?;
        // Written, not only reserved: a sync then has no new blocks to enter anywhere.
        let zeros = vec![0; ZEROS];
        let mut left = size;
        while left > 0 {
            let count = left.min(ZEROS as u64);
            if let Err(error) = file.write_all(&zeros[..count as usize]) {
                fs::remove_file(path)?;
                return Err(error);
            }
            left -= count;
        }
        Ok(Box::new(file))
    }

    fn open_region(&self, path: &Path) -> Result<Box<dyn RegionFile>> {
        Ok(Box::new(File::options().write(true).open(path)?))
    }

    fn create_folder(&self, path: &Path) -> Result<()> {
        fs::create_dir(path)
    }

    fn remove_folder(&self, path: &Path) -> Result<()> {
        fs::remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, folder: &Path) -> Result<Vec<FolderEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // A link that leads nowhere, or a file that has just gone, is no file.
            let metadata = fs::metadata(entry.path()).ok();
            entries.push(FolderEntry {
                name: entry.file_name(),
                is_file: metadata.as_ref().is_some_and(fs::Metadata::is_file),
                size: metadata.map_or(0, |metadata| metadata.len()),
            });
        }
        Ok(entries)
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        File::open(folder)?.sync_all()
    }

    fn canonical(&self, path: &Path) -> Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn lock(&self, path: &Path, text: &str) -> Result<Box<dyn FileLock>> {
        let mut file = File::options().write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        file.write_all(text.as_bytes())?;
        Ok(Box::new(file))
    }
}

impl FileLock for File {}

impl ReadFile for File {
    fn size(&self) -> Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

impl WriteFile for File {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> Result<()> {
        self.sync_all()
    }
}

impl RegionFile for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> Result<()> {
        self.sync_data()
    }
}
