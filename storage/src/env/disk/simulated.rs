//! `SimDisk`: a disk in memory that forgets at a crash what it may forget: bytes that were not
//! synced, from some point on (of a region: any sectors), and names of folders that were not synced,
//! the youngest first. How much of that is drawn from its seed. It can be stopped before any step,
//! be full, fail to sync, and damage what it holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Error, ErrorKind, Result},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Condvar, Mutex};
use rand::{Rng as _, SeedableRng, rngs::SmallRng};

use super::{Disk, FileLock, FolderEntry, ReadFile, RegionFile, WriteFile};

/// What a region loses or keeps as a whole, bytes.
const SECTOR: usize = 512;

/// A disk in memory. Cheap to share; every clone of the `Arc` is the same disk.
#[derive(Debug)]
pub struct SimDisk {
    state: Mutex<State>,
    trouble: Arc<Mutex<Trouble>>,
    locks: Arc<Mutex<Locks>>,
}

/// Which files are held, by which lock.
#[derive(Debug, Default)]
struct Locks {
    held: BTreeMap<PathBuf, u64>,
    /// Counts the locks there were: one of before a crash lets go of nothing.
    last: u64,
}

/// A file that is held.
#[derive(Debug)]
struct SimLock {
    path: PathBuf,
    id: u64,
    locks: Arc<Mutex<Locks>>,
}

/// What goes wrong, and when.
#[derive(Debug, Default)]
struct Trouble {
    /// Changes and syncs so far.
    steps: u64,
    /// The step from which on nothing happens any more, until the crash.
    stops_at: Option<u64>,
    /// Bytes that all files have, and those they may have.
    size: u64,
    size_max: Option<u64>,
    fails_to_sync: bool,
    /// A file that cannot be opened for reading.
    unreadable: Option<PathBuf>,
    /// What syncs wait for.
    stall: Option<Arc<Stall>>,
}

/// Holds syncs up until it is over, as a disk does that hangs.
#[derive(Debug, Default)]
pub struct Stall {
    state: Mutex<Stalled>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Stalled {
    is_over: bool,
    waiting: usize,
}

impl Stall {
    /// Syncs that wait now.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting
    }

    /// Lets all syncs go on.
    pub fn end(&self) {
        self.state.lock().is_over = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let mut state = self.state.lock();
        state.waiting += 1;
        while !state.is_over {
            self.changed.wait(&mut state);
        }
        state.waiting -= 1;
    }
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
    /// The folder it made.
    made: Option<PathBuf>,
    /// The folder it removed.
    removed: Option<PathBuf>,
}

/// Contents of a file, whatever it is called.
#[derive(Debug, Default)]
struct SimFile(Mutex<Contents>);

#[derive(Debug, Default)]
struct Contents {
    bytes: Vec<u8>,
    /// How many of them survive a crash for certain.
    synced: usize,
    /// Of a region: the sectors written since it was synced, as they were then.
    before: BTreeMap<usize, Vec<u8>>,
}

/// A handle that writes.
#[derive(Debug)]
struct SimWriter {
    file: Arc<SimFile>,
    trouble: Arc<Mutex<Trouble>>,
}

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
            trouble: Arc::default(),
            locks: Arc::default(),
        })
    }

    /// Changes and syncs so far.
    pub fn steps(&self) -> u64 {
        self.trouble.lock().steps
    }

    /// Nothing happens any more from that step on, until [`SimDisk::crash`]: everything answers an
    /// error.
    pub fn stop_at(&self, step: u64) {
        self.trouble.lock().stops_at = Some(step);
    }

    /// All files together may have so many bytes, or any number.
    pub fn limit(&self, size_max: Option<u64>) {
        self.trouble.lock().size_max = size_max;
    }

    /// Whether syncs answer an error.
    pub fn fail_syncs(&self, fails: bool) {
        self.trouble.lock().fails_to_sync = fails;
    }

    /// The file that answers an error to who would read it, if any.
    pub fn fail_reads(&self, path: Option<&Path>) {
        self.trouble.lock().unreadable = path.map(Path::to_path_buf);
    }

    /// Has all syncs wait from now on, until the answer says that it is over.
    pub fn stall_syncs(&self) -> Arc<Stall> {
        let stall = Arc::<Stall>::default();
        self.trouble.lock().stall = Some(Arc::clone(&stall));
        stall
    }

    /// Changes bytes of a file, as a bad disk does. NotFound if it has none there.
    pub fn damage(&self, path: &Path, offset: u64, change: impl FnOnce(&mut u8)) -> Result<()> {
        let file = self.state.lock().file(path)?;
        let mut contents = file.0.lock();
        let byte = contents.bytes.get_mut(offset as usize).ok_or(ErrorKind::NotFound)?;
        change(byte);
        Ok(())
    }

    /// Cuts a file.
    pub fn truncate(&self, path: &Path, size: u64) -> Result<()> {
        let file = self.state.lock().file(path)?;
        let mut contents = file.0.lock();
        contents.bytes.truncate(size as usize);
        contents.synced = contents.synced.min(size as usize);
        Ok(())
    }

    /// Loses what was not synced, and goes on. Handles that are open go on with files that may have
    /// no name. Nothing is locked any more.
    pub fn crash(&self) {
        *self.trouble.lock() = Trouble::default();
        self.locks.lock().held.clear();
        self.lose();
        let state = self.state.lock();
        let sizes = state.files.values().map(|file| file.0.lock().bytes.len() as u64);
        self.trouble.lock().size = sizes.sum();
    }

    /// Another disk with all that is on this one now, all of it durable, that nothing is wrong with.
    pub fn copy(&self, seed: u64) -> Arc<Self> {
        let state = self.state.lock();
        let files = state.files.iter().map(|(path, file)| {
            let bytes = file.0.lock().bytes.clone();
            let (synced, before) = (bytes.len(), BTreeMap::new());
            (path.clone(), Arc::new(SimFile(Mutex::new(Contents { bytes, synced, before }))))
        });
        let files: BTreeMap<_, _> = files.collect();
        let size = files.values().map(|file| file.0.lock().synced as u64).sum();
        Arc::new(Self {
            state: Mutex::new(State {
                files,
                folders: state.folders.clone(),
                unsynced: Vec::new(),
                random: SmallRng::seed_from_u64(seed),
            }),
            trouble: Arc::new(Mutex::new(Trouble { size, ..Trouble::default() })),
            locks: Arc::default(),
        })
    }

    /// All files, by path.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state.lock().files.keys().cloned().collect()
    }

    fn create_file(&self, path: &Path) -> Result<SimWriter> {
        let mut state = self.state.lock();
        if state.files.contains_key(path) || state.folders.contains(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.note(&[path])?;
        let file = Arc::<SimFile>::default();
        state.files.insert(path.to_path_buf(), Arc::clone(&file));
        Ok(SimWriter { file, trouble: Arc::clone(&self.trouble) })
    }

    fn lose(&self) {
        let mut state = self.state.lock();
        let folders: BTreeSet<PathBuf> =
            state.unsynced.iter().map(|change| change.folder.clone()).collect();
        let mut unsynced = std::mem::take(&mut state.unsynced);
        let (mut lost, mut back): (Vec<PathBuf>, Vec<PathBuf>) = Default::default();
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
                    lost.extend(change.made.take());
                    back.extend(change.removed.take());
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
        // With a folder goes all that was made in it.
        let is_lost = |path: &Path| lost.iter().any(|folder| path.starts_with(folder));
        state.folders.extend(back);
        state.folders.retain(|path| !is_lost(path));
        let State { files, folders, .. } = &mut *state;
        files.retain(|path, _| path.parent().is_some_and(|folder| folders.contains(folder)));
        let files: Vec<_> = state.files.values().map(Arc::clone).collect();
        for file in files {
            let mut contents = file.0.lock();
            for (start, sector) in std::mem::take(&mut contents.before) {
                if state.random.random() {
                    contents.bytes[start..start + sector.len()].copy_from_slice(&sector);
                }
            }
            let kept = state.random.random_range(contents.synced..=contents.bytes.len());
            contents.bytes.truncate(kept);
            contents.synced = kept;
        }
    }
}

impl Trouble {
    /// One more thing is about to change.
    fn step(&mut self) -> Result<()> {
        if self.stops_at.is_some_and(|stop| self.steps >= stop) {
            return Err(Error::other("the disk has stopped"));
        }
        self.steps += 1;
        Ok(())
    }

    /// A sync is about to be done, which waits as long as the disk stalls.
    fn sync_of(trouble: &Mutex<Self>) -> Result<()> {
        let stall = trouble.lock().stall.as_ref().map(Arc::clone);
        if let Some(stall) = stall {
            stall.wait();
        }
        trouble.lock().sync()
    }

    fn sync(&mut self) -> Result<()> {
        self.step()?;
        if self.fails_to_sync { Err(Error::other("Input/output error")) } else { Ok(()) }
    }

    /// Files get so many bytes more.
    fn grow(&mut self, bytes: u64) -> Result<()> {
        self.step()?;
        if self.size_max.is_some_and(|max| self.size + bytes > max) {
            return Err(ErrorKind::StorageFull.into());
        }
        self.size += bytes;
        Ok(())
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
        self.unsynced.push(NameChange { folder, before, made: None, removed: None });
        Ok(())
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> Result<Arc<dyn ReadFile>> {
        if self.trouble.lock().unreadable.as_deref() == Some(path) {
            return Err(Error::other("Input/output error"));
        }
        Ok(self.state.lock().file(path)?)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn WriteFile>> {
        self.trouble.lock().step()?;
        Ok(Box::new(self.create_file(path)?))
    }

    fn create_region(&self, path: &Path, size: u64) -> Result<Box<dyn RegionFile>> {
        self.trouble.lock().grow(size)?;
        let writer = self.create_file(path)?;
        writer.file.0.lock().bytes = vec![0; size as usize];
        Ok(Box::new(writer))
    }

    fn open_region(&self, path: &Path) -> Result<Box<dyn RegionFile>> {
        let file = self.state.lock().file(path)?;
        Ok(Box::new(SimWriter { file, trouble: Arc::clone(&self.trouble) }))
    }

    fn create_folder(&self, path: &Path) -> Result<()> {
        self.trouble.lock().step()?;
        let mut state = self.state.lock();
        if state.files.contains_key(path) || state.folders.contains(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        if !state.folders.contains(&folder) {
            return Err(ErrorKind::NotFound.into());
        }
        state.folders.insert(path.to_path_buf());
        let made = Some(path.to_path_buf());
        state.unsynced.push(NameChange { folder, before: Vec::new(), made, removed: None });
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> Result<()> {
        self.trouble.lock().step()?;
        let mut state = self.state.lock();
        if !state.folders.contains(path) {
            return Err(ErrorKind::NotFound.into());
        }
        let is_in_it = |other: &Path| other.parent() == Some(path);
        if state.files.keys().any(|file| is_in_it(file))
            || state.folders.iter().any(|folder| is_in_it(folder))
        {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        state.folders.remove(path);
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let removed = Some(path.to_path_buf());
        state.unsynced.push(NameChange { folder, before: Vec::new(), made: None, removed });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.trouble.lock().step()?;
        let mut state = self.state.lock();
        let file = state.file(from)?;
        state.note(&[from, to])?;
        state.files.remove(from);
        if let Some(replaced) = state.files.insert(to.to_path_buf(), file) {
            self.trouble.lock().size -= replaced.0.lock().bytes.len() as u64;
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.trouble.lock().step()?;
        let mut state = self.state.lock();
        let file = state.file(path)?;
        state.note(&[path])?;
        state.files.remove(path);
        self.trouble.lock().size -= file.0.lock().bytes.len() as u64;
        Ok(())
    }

    fn list(&self, folder: &Path) -> Result<Vec<FolderEntry>> {
        let state = self.state.lock();
        if state.files.contains_key(folder) {
            return Err(ErrorKind::NotADirectory.into());
        }
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
        Trouble::sync_of(&self.trouble)?;
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

    fn lock(&self, path: &Path, text: &str) -> Result<Box<dyn FileLock>> {
        let mut locks = self.locks.lock();
        if locks.held.contains_key(path) {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.trouble.lock().grow(text.len() as u64)?;
        let found = self.state.lock().file(path);
        let file = found.or_else(|_| self.create_file(path).map(|made| made.file))?;
        let mut contents = file.0.lock();
        self.trouble.lock().size -= contents.bytes.len() as u64;
        (contents.bytes, contents.synced) = (text.as_bytes().to_vec(), 0);
        locks.last += 1;
        let id = locks.last;
        locks.held.insert(path.to_path_buf(), id);
        Ok(Box::new(SimLock { path: path.to_path_buf(), id, locks: Arc::clone(&self.locks) }))
    }
}

impl FileLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut locks = self.locks.lock();
        if locks.held.get(&self.path) == Some(&self.id) {
            locks.held.remove(&self.path);
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
        self.trouble.lock().grow(bytes.len() as u64)?;
        self.file.0.lock().bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Trouble::sync_of(&self.trouble)?;
        self.file.synced();
        Ok(())
    }
}

impl RegionFile for SimWriter {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.trouble.lock().step()?;
        let mut contents = self.file.0.lock();
        let range = offset as usize..offset as usize + bytes.len();
        if range.end > contents.bytes.len() {
            return Err(ErrorKind::InvalidInput.into());
        }
        let first = range.start / SECTOR * SECTOR;
        for start in (first..range.end).step_by(SECTOR) {
            let end = (start + SECTOR).min(contents.bytes.len());
            let sector = contents.bytes[start..end].to_vec();
            contents.before.entry(start).or_insert(sector);
        }
        contents.bytes[range].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Trouble::sync_of(&self.trouble)?;
        self.file.synced();
        Ok(())
    }
}

impl SimFile {
    /// What it holds survives a crash.
    fn synced(&self) {
        let mut contents = self.0.lock();
        contents.synced = contents.bytes.len();
        contents.before.clear();
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
    fn a_folder_is_removed_for_good_once_the_one_above_is_synced() {
        let (folder, file) = (Path::new("/d/f"), Path::new("/d/f/a"));
        let mut came_back = BTreeSet::new();
        for (seed, is_synced) in (0..40).flat_map(|seed| [(seed, false), (seed, true)]) {
            let disk = SimDisk::new(seed, ["/d/f"]);
            disk.create(file).unwrap().sync().unwrap();
            disk.sync_folder(folder).unwrap();
            disk.remove(file).unwrap();
            disk.remove_folder(folder).unwrap();
            if is_synced {
                disk.sync_folder(Path::new("/d")).unwrap();
            }
            disk.crash();
            let names = disk.list(folder).map(|entries| entries.len());
            assert!(!is_synced || (names.is_err() && disk.open(file).is_err()));
            came_back.insert(names.ok());
        }
        assert_eq!(came_back.len(), 3, "gone, empty, or as it was: {came_back:?}");
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
            assert_eq!(disk.list(&two).map(drop).map_err(kind), Err(ErrorKind::NotADirectory));
            let below = root.join("none").join("below");
            assert_eq!(disk.create_folder(&below).map_err(kind), Err(ErrorKind::NotFound));
            assert_eq!(disk.create_folder(&two).map_err(kind), Err(ErrorKind::AlreadyExists));
            disk.remove(&two).unwrap();
            let held = disk.lock(&one, "someone").unwrap();
            assert_eq!(
                disk.lock(&one, "other").map(drop).map_err(kind),
                Err(ErrorKind::WouldBlock)
            );
            assert_eq!(text(&*disk, one.to_str().unwrap()), "someone");
            drop(held);
            drop(disk.lock(&one, "other").unwrap());
            assert_eq!(text(&*disk, one.to_str().unwrap()), "other");
            disk.remove(&one).unwrap();
            let folder = root.join("folder");
            disk.create_folder(&folder).unwrap();
            let exists = disk.create_folder(&folder).map_err(kind);
            assert_eq!(exists, Err(ErrorKind::AlreadyExists));
            disk.create(&folder.join("file")).unwrap();
            let not_empty = disk.remove_folder(&folder).map_err(kind);
            assert_eq!(not_empty, Err(ErrorKind::DirectoryNotEmpty));
            disk.remove(&folder.join("file")).unwrap();
            disk.remove_folder(&folder).unwrap();
            assert_eq!(disk.remove_folder(&folder).map_err(kind), Err(ErrorKind::NotFound));
            let gone = root.join("gone");
            assert_eq!(disk.list(&gone).map(drop).map_err(kind), Err(ErrorKind::NotFound));
            assert_eq!(disk.canonical(&gone).map_err(kind), Err(ErrorKind::NotFound));
        }
        std::fs::remove_dir_all(&root).unwrap();
    }
}
