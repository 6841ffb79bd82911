//! `Folder`: the one folder a mapping touches, and the proof that it lies beneath `--file-root`.
//! A path is refused by what it says (`..`) when the mapping is created, and by where its links lead
//! whenever a file is opened.

use std::{
    io::{self, ErrorKind},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use storage::env::{Disk, ReadFile, WriteFile};

use super::{FileAccess, glob::Glob};
use crate::{Error, Result};

/// Files of one folder that a mapping reads at most.
const FILES_MAX: usize = 100_000;

/// A folder beneath the root.
#[derive(Debug, Clone)]
pub struct Folder {
    disk: Arc<dyn Disk>,
    /// Both without links.
    root: PathBuf,
    path: PathBuf,
    /// As the mapping names it, for messages.
    shown: String,
}

/// A file that a mapping reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Its name in the folder.
    pub name: String,
    /// Bytes it has now.
    pub size: u64,
}

/// Refuses a path that cannot be meant to lie beneath the root, without looking at the disk.
pub fn check(access: &FileAccess, path: &str) -> Result<PathBuf> {
    let Some(root) = &access.root else {
        return Err(Error::Invalid {
            code: "42501",
            message: "mappings of type File are refused: the server was started without \
                      --file-root; start it with --file-root DIR to let them read and write \
                      beneath DIR"
                .to_owned(),
        });
    };
    let leads_up = |part: Component<'_>| part == Component::ParentDir;
    let is_elsewhere = Path::new(path).is_absolute() && !Path::new(path).starts_with(root);
    if Path::new(path).components().any(leads_up) || is_elsewhere {
        return Err(outside(path));
    }
    // An absolute path replaces what it is joined to.
    Ok(root.join(path))
}

fn outside(path: &str) -> Error {
    Error::Invalid {
        code: "42501",
        message: format!("\"{path}\" is not beneath the server's --file-root"),
    }
}

/// A failure of the disk, with what was tried.
pub fn failed(what: &str, error: &io::Error) -> Error {
    let code = match error.kind() {
        ErrorKind::NotFound => "58P01",
        ErrorKind::PermissionDenied => "42501",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "53100",
        _ => "58030",
    };
    let reason = match error.kind() {
        ErrorKind::NotFound => "No such file or directory".to_owned(),
        _ => error.to_string(),
    };
    Error::User { code, message: format!("could not {what}: {reason}") }
}

impl Folder {
    /// Opens the folder of a mapping; 42501 if it lies elsewhere, 58P01 if it is not there.
    pub fn open(access: &FileAccess, path: &str) -> Result<Self> {
        let joined = check(access, path)?;
        let root = access.root.as_deref().unwrap_or(Path::new(""));
        let root = access
            .disk
            .canonical(root)
            .map_err(|error| failed("open the folder of --file-root", &error))?;
        let opening = format!("open folder \"{path}\"");
        let found = access.disk.canonical(&joined).map_err(|error| failed(&opening, &error))?;
        if !found.starts_with(&root) {
            return Err(outside(path));
        }
        let disk = Arc::clone(&access.disk);
        Ok(Self { disk, root, path: found, shown: path.to_owned() })
    }

    /// Files whose names fit, by name.
    pub fn files(&self, glob: &Glob) -> Result<Vec<FoundFile>> {
        let mut files = Vec::new();
        for entry in self.entries()? {
            let Ok(name) = entry.name.into_string() else { continue };
            if entry.is_file && glob.matches(&name) {
                files.push(FoundFile { name, size: entry.size });
            }
        }
        if files.len() > FILES_MAX {
            return Err(Error::Limit(format!(
                "folder \"{}\" has {} files that match, and a mapping reads at most {FILES_MAX}",
                self.shown,
                files.len()
            )));
        }
        files.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        Ok(files)
    }

    /// Names of hidden files.
    pub fn hidden(&self) -> Result<Vec<String>> {
        let names = self.entries()?.into_iter().filter(|entry| entry.is_file);
        let names = names.filter_map(|entry| entry.name.into_string().ok());
        Ok(names.filter(|name| name.starts_with('.')).collect())
    }

    fn entries(&self) -> Result<Vec<storage::env::disk::FolderEntry>> {
        let reading = || format!("read folder \"{}\"", self.shown);
        self.disk.list(&self.path).map_err(|error| failed(&reading(), &error))
    }

    /// Opens a file for reading, unless a link leads it out of the root.
    pub fn read(&self, name: &str) -> Result<Arc<dyn ReadFile>> {
        let opening = || format!("open file \"{}\"", self.shown(name));
        let path = self.path.join(name);
        let found = self.disk.canonical(&path).map_err(|error| failed(&opening(), &error))?;
        if !found.starts_with(&self.root) {
            return Err(outside(&self.shown(name)));
        }
        self.disk.open(&found).map_err(|error| failed(&opening(), &error))
    }

    /// Creates a file.
    pub fn create(&self, name: &str) -> Result<Box<dyn WriteFile>> {
        let creating = || format!("create file \"{}\"", self.shown(name));
        self.disk.create(&self.path.join(name)).map_err(|error| failed(&creating(), &error))
    }

    /// Gives a file its other name; `false` if there is no such file.
    pub fn rename(&self, from: &str, to: &str) -> Result<bool> {
        match self.disk.rename(&self.path.join(from), &self.path.join(to)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(&format!("create file \"{}\"", self.shown(to)), &error)),
        }
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, name: &str) -> Result<()> {
        match self.disk.remove(&self.path.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(failed(&format!("remove file \"{}\"", self.shown(name)), &error))
            }
            _ => Ok(()),
        }
    }

    /// Makes the names in it survive a crash.
    pub fn sync(&self) -> Result<()> {
        let syncing = || format!("sync folder \"{}\"", self.shown);
        self.disk.sync_folder(&self.path).map_err(|error| failed(&syncing(), &error))
    }

    /// A file of it as the mapping would name it.
    pub fn shown(&self, name: &str) -> String {
        format!("{}/{name}", self.shown.trim_end_matches('/'))
    }

    /// The folder as the mapping names it.
    pub fn path(&self) -> &str {
        &self.shown
    }
}
