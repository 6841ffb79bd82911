//! `SimDisk`: a disk in memory that forgets at a crash what it may forget: bytes that were not
//! synced, from some point on, and names of folders that were not synced, the youngest first. How
//! much of both is drawn from its seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Error, ErrorKind, Result},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng, rngs::SmallRng};

use super::{Disk, FolderEntry, ReadFile, WriteFile};

/// A disk in memory. Cheap to share; every clone of the `Arc` is the same disk.
#[derive(Debug)]
pub struct SimDisk {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    files: BTreeMap<PathBuf, Arc<SimFile>>,
    folders: BTreeSet<PathBuf>,
    /// Changes of names whose folder was not synced since, the oldest first.
    unsynced: Vec<NameChange>,
    random: SmallRng,
}

/// A change of names in one folder, and what it takes to undo it.
#[derive(Debug)]
struct NameChange {
    folder: PathBuf,
    /// The names it touched, with the files they meant before.
    before: Vec<(PathBuf, Option<Arc<SimFile>>)>,
}

/// Contents of a file, whatever it is called.
#[derive(Debug, Default)]
struct SimFile(Mutex<Contents>);

#[derive(Debug, Default)]
struct Contents {
    bytes: Vec<u8>,
    /// How many of them survive a crash for certain.
    synced: usize,
}

/// A handle that writes.
#[derive(Debug)]
struct SimWriter(Arc<SimFile>);

impl SimDisk {
    /// An empty disk with these folders, whose crashes are `seed`'s.
    pub fn new<'a>(seed: u64, folders: impl IntoIterator<Item = &'a str>) -> Arc<Self> {
        let folders = folders.into_iter().flat_map(|folder| {
            Path::new(folder).ancestors().map(Path::to_path_buf).collect::<Vec<_>>()
        });
        Arc::new(Self {
            state: Mutex::new(State {
                files: BTreeMap::new(),
                folders: folders.collect(),
                unsynced: Vec::new(),
                random: SmallRng::seed_from_u64(seed),
            }),
        })
    }

    /// Loses what was not synced. Handles that are open go on with files that may have no name.
    pub fn crash(&self) {
        let mut state = self.state.lock();
        let folders: BTreeSet<PathBuf> =
            state.unsynced.iter().map(|change| change.folder.clone()).collect();
        let mut unsynced = std::mem::take(&mut state.unsynced);
        for folder in folders {
            let count = unsynced.iter().filter(|change| change.folder == folder).count();
            let mut kept = state.random.random_range(0..=count);
            let mut undone = Vec::new();
            unsynced.retain_mut(|change| {
                if change.folder != folder {
                    return true;
                }
                if kept == 0 {
                    undone.push(std::mem::take(&mut change.before));
                }
                kept = kept.saturating_sub(1);
                false
            });
            for (path, file) in undone.into_iter().rev().flatten() {
                match file {
                    Some(file) => state.files.insert(path, file),
                    None => state.files.remove(&path),
                };
            }
        }
        let files: Vec<_> = state.files.values().map(Arc::clone).collect();
        for file in files {
            let mut contents = file.0.lock();
            let kept = state.random.random_range(contents.synced..=contents.bytes.len());
            contents.bytes.truncate(kept);
            contents.synced = kept;
        }
    }
}

impl State {
    fn file(&self, path: &Path) -> Result<Arc<SimFile>> {
        self.files.get(path).map(Arc::clone).ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Notes what some names of one folder mean, before that changes.
    fn note(&mut self, names: &[&Path]) -> Result<()> {
        let folder = names[0].parent().unwrap_or(Path::new("")).to_path_buf();
        if names.iter().any(|name| name.parent() != Some(&folder)) {
            return Err(Error::new(ErrorKind::CrossesDevices, "names of two folders"));
        }
        if !self.folders.contains(&folder) {
            return Err(ErrorKind::NotFound.into());
        }
        let before =
            names.iter().map(|name| (name.to_path_buf(), self.files.get(*name).map(Arc::clone)));
        let before = before.collect();
        self.unsynced.push(NameChange { folder, before });
        Ok(())
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> Result<Arc<dyn ReadFile>> {
        Ok(self.state.lock().file(path)?)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn WriteFile>> {
        let mut state = self.state.lock();
        if state.files.contains_key(path) || state.folders.contains(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.note(&[path])?;
        let file = Arc::<SimFile>::default();
        state.files.insert(path.to_path_buf(), Arc::clone(&file));
        Ok(Box::new(SimWriter(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.state.lock();
        let file = state.file(from)?;
        state.note(&[from, to])?;
        state.files.remove(from);
        state.files.insert(to.to_path_buf(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let mut state = self.state.lock();
        state.file(path)?;
        state.note(&[path])?;
        state.files.remove(path);
        Ok(())
    }

    fn list(&self, folder: &Path) -> Result<Vec<FolderEntry>> {
        let state = self.state.lock();
        if !state.folders.contains(folder) {
            return Err(ErrorKind::NotFound.into());
        }
        let is_here = |path: &Path| path.parent() == Some(folder);
        let entry = |path: &Path, file: Option<&Arc<SimFile>>| FolderEntry {
            name: path.file_name().unwrap_or_default().to_owned(),
            is_file: file.is_some(),
            size: file.map_or(0, |file| file.0.lock().bytes.len() as u64),
        };
        let files = state.files.iter().filter(|(path, _)| is_here(path));
        let files = files.map(|(path, file)| entry(path, Some(file)));
        let folders = state.folders.iter().filter(|path| is_here(path));
        Ok(files.chain(folders.map(|path| entry(path, None))).collect())
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        let mut state = self.state.lock();
        if !state.folders.contains(folder) {
            return Err(ErrorKind::NotFound.into());
        }
        state.unsynced.retain(|change| change.folder != folder);
        Ok(())
    }

    fn canonical(&self, path: &Path) -> Result<PathBuf> {
        let state = self.state.lock();
        match state.files.contains_key(path) || state.folders.contains(path) {
            true => Ok(path.to_path_buf()),
            false => Err(ErrorKind::NotFound.into()),
        }
    }
}

impl ReadFile for SimFile {
    fn size(&self) -> Result<u64> {
        Ok(self.0.lock().bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let contents = self.0.lock();
        let rest = contents.bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl WriteFile for SimWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.0.lock().bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        let mut contents = self.0.0.lock();
        contents.synced = contents.bytes.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(disk: &dyn Disk) -> Vec<String> {
        let entries = disk.list(Path::new("/d")).unwrap();
        entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect()
    }

    fn text(disk: &dyn Disk, path: &str) -> String {
        let mut buffer = [0; 64];
        let count = disk.open(Path::new(path)).unwrap().read_at(0, &mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    /// What a crash may leave of a file that is written, synced or not, and renamed.
    fn left(seed: u64, is_synced: bool) -> (Vec<String>, String) {
        let disk = SimDisk::new(seed, ["/d"]);
        let mut file = disk.create(Path::new("/d/a")).unwrap();
        file.append(b"12").unwrap();
        file.sync().unwrap();
        disk.sync_folder(Path::new("/d")).unwrap();
        file.append(b"345").unwrap();
        disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
        if is_synced {
            file.sync().unwrap();
            disk.sync_folder(Path::new("/d")).unwrap();
        }
        disk.crash();
        let names = names(&*disk);
        let text = text(&*disk, &format!("/d/{}", names[0]));
        (names, text)
    }

    #[test]
    fn a_crash_takes_only_what_was_not_synced() {
        assert!((0..50).all(|seed| left(seed, true) == (vec!["b".to_owned()], "12345".to_owned())));
        let crashes: BTreeSet<_> = (0..200).map(|seed| left(seed, false)).collect();
        // Two names, and each length from what is synced to what was written.
        assert_eq!(crashes.len(), 8, "{crashes:?}");
        assert!(crashes.iter().all(|(names, text)| names.len() == 1 && text.starts_with("12")));
    }

    #[test]
    fn the_real_disk_and_its_twin_answer_alike() {
        let root = std::env::temp_dir().join(format!("tidewater-disk-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let root_text = root.to_str().unwrap();
        let disks: [Arc<dyn Disk>; 2] =
            [Arc::new(super::super::SystemDisk), SimDisk::new(0, [root_text])];
        for disk in disks {
            let (one, two) = (root.join("one"), root.join("two"));
            let kind = |error: Error| error.kind();
            assert_eq!(disk.open(&one).map(drop).map_err(kind), Err(ErrorKind::NotFound));
            assert_eq!(disk.remove(&one).map_err(kind), Err(ErrorKind::NotFound));
            assert_eq!(disk.rename(&one, &two).map_err(kind), Err(ErrorKind::NotFound));
            let mut file = disk.create(&one).unwrap();
            file.append(b"abc").unwrap();
            file.sync().unwrap();
            assert_eq!(disk.create(&one).map(drop).map_err(kind), Err(ErrorKind::AlreadyExists));
            disk.create(&two).unwrap();
            disk.rename(&one, &two).unwrap();
            disk.sync_folder(&root).unwrap();
            let entry = FolderEntry { name: "two".into(), is_file: true, size: 3 };
            assert_eq!(disk.list(&root).unwrap(), [entry]);
            assert_eq!(text(&*disk, two.to_str().unwrap()), "abc");
            assert_eq!(disk.open(&two).unwrap().read_at(3, &mut [0; 4]).unwrap(), 0);
            disk.remove(&two).unwrap();
            let gone = root.join("gone");
            assert_eq!(disk.list(&gone).map(drop).map_err(kind), Err(ErrorKind::NotFound));
            assert_eq!(disk.canonical(&gone).map_err(kind), Err(ErrorKind::NotFound));
        }
        std::fs::remove_dir_all(&root).unwrap();
    }
}
