//! `Packs`: the files that hold the chunks of one job's snapshots.
//!
//! ```text
//!   put 41 ─► put 42 ─► put 43 ─► sync          0000000000000007.pack   ▓41▓▓42▓▓▓▓▓43▓   durable
//!   put 44 ─► …                                 0000000000000008.pack   ▓44▓▓▓ …          not yet
//! ```
//! A pack is written from one sync to the next, so it holds what one snapshot added, and goes as a
//! whole when nothing of that is needed any more; a large snapshot has several. A pack that could not
//! be written or synced is *dead*: nothing in it is ever read, and its room is given back. Packs of
//! earlier processes are never appended to, so a torn end of one needs no cutting.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::pack::{
    ALIGNMENT, FRAME_HEADER_BYTES, HEADER_BYTES, PackId, file_name, frame_bytes, number_of,
};
use crate::{
    Error, Result,
    cluster::control::ObjectId,
    env::{
        Disk, ReadFile, WriteFile,
        disk::{disk_error, make_folder, remove_if_there},
    },
};

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = if cfg!(test) { 1 << 10 } else { 1 << 20 };
/// Bytes after which a pack takes no further chunk: what a rewrite copies at once is bounded by it.
const PACK_BYTES: u64 = if cfg!(test) { 16 << 10 } else { 64 << 20 };
/// Bytes read at once while frames are looked for.
const WINDOW_BYTES: usize = 64 << 10;

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pack: u64,
    pub(super) offset: u64,
    /// Bytes of the chunk.
    pub(super) length: u64,
}

/// The packs of one job.
#[derive(Debug)]
pub(super) struct Packs {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    cluster: u64,
    job: ObjectId,
    /// Held while anything is written.
    tip: Mutex<Tip>,
    /// What was found to be wrong when they were opened, in words.
    damages: Vec<String>,
}

#[derive(Debug, Default)]
struct Tip {
    /// The last number given to a pack.
    last: u64,
    writing: Option<Writing>,
    /// Bytes of the packs that are not written any more.
    done: BTreeMap<u64, u64>,
    dead: BTreeSet<u64>,
    /// Whether there are packs whose names are not durable.
    has_new: bool,
}

/// A pack while it is written.
#[derive(Debug)]
struct Writing {
    id: PackId,
    path: PathBuf,
    file: Box<dyn WriteFile>,
    /// Bytes it has with those in the buffer.
    bytes: u64,
    buffer: Vec<u8>,
}

impl Packs {
    /// None so far.
    pub(super) fn new(disk: &Arc<dyn Disk>, folder: &Path, cluster: u64, job: ObjectId) -> Self {
        let (disk, folder) = (Arc::clone(disk), folder.join(job.0.to_string()));
        Self { disk, folder, cluster, job, tip: Mutex::default(), damages: Vec::new() }
    }

    /// Those in the job's folder, and the chunks in them. What is broken is noted, not refused: it
    /// matters only if it is needed. Damaged for a pack of a newer format.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        folder: &Path,
        cluster: u64,
        job: ObjectId,
    ) -> Result<(Self, BTreeMap<u64, Place>)> {
        let mut packs = Self::new(disk, folder, cluster, job);
        let entries = disk.list(&packs.folder);
        let entries = entries.map_err(|error| disk_error(&packs.folder, &error))?;
        let numbers = entries.iter().filter_map(|entry| number_of(entry.name.to_str()?));
        let numbers: BTreeSet<u64> = numbers.collect();
        let mut chunks = BTreeMap::new();
        for number in numbers {
            let (frames, size) = packs.scan(number)?;
            for (chunk, place) in frames {
                // A rewrite that was not finished leaves a chunk twice, the second perhaps torn.
                let is_better = !chunks.contains_key(&chunk) || packs.read(chunk, place)?.is_ok();
                if is_better {
                    chunks.insert(chunk, place);
                }
            }
            let tip = packs.tip.get_mut();
            tip.done.insert(number, size);
            tip.last = number;
        }
        Ok((packs, chunks))
    }

    /// Adds a chunk, and tells `register` where before anybody else learns of it. After an error all
    /// that was added since the last sync is lost.
    pub(super) fn put(&self, chunk: u64, bytes: &[u8], register: impl FnOnce(Place)) -> Result<()> {
        let mut tip = self.tip.lock();
        let mut writing = match tip.writing.take() {
            Some(writing) => writing,
            None => self.begin(&mut tip)?,
        };
        let place =
            Place { pack: writing.id.number, offset: writing.bytes, length: bytes.len() as u64 };
        writing.id.put(&mut writing.buffer, writing.bytes, chunk, bytes);
        writing.bytes += frame_bytes(place.length);
        if writing.bytes >= PACK_BYTES {
            self.end(&mut tip, writing)?;
        } else if writing.buffer.len() < BUFFER_BYTES {
            tip.writing = Some(writing);
        } else {
            match writing.flush() {
                Ok(()) => tip.writing = Some(writing),
                Err(error) => return Err(self.die(&mut tip, writing, error)),
            }
        }
        register(place);
        Ok(())
    }

    /// Makes all chunks durable that were added.
    pub(super) fn sync(&self) -> Result<()> {
        let mut tip = self.tip.lock();
        if let Some(writing) = tip.writing.take() {
            self.end(&mut tip, writing)?;
        }
        if tip.has_new {
            let synced = self.disk.sync_folder(&self.folder);
            synced.map_err(|error| disk_error(&self.folder, &error))?;
            tip.has_new = false;
        }
        Ok(())
    }

    /// Packs in which nothing is there, or ever will be.
    pub(super) fn dead(&self) -> BTreeSet<u64> {
        self.tip.lock().dead.clone()
    }

    /// Bytes of each pack that is not written any more. All chunks in them are registered.
    pub(super) fn done(&self) -> BTreeMap<u64, u64> {
        self.tip.lock().done.clone()
    }

    /// What is wrong with the packs that chunks may be missing from; empty if nothing is.
    pub(super) fn damages(&self) -> &[String] {
        &self.damages
    }

    /// The bytes of a chunk, or why not, in words that follow its name.
    pub(super) fn read(&self, chunk: u64, place: Place) -> Result<Result<Vec<u8>, String>> {
        let (id, path) = self.pack(place.pack);
        let wrong = |what: &str| format!("{what} in {} at byte {}", path.display(), place.offset);
        let file = match self.disk.open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Err(format!("is missing with {}", path.display())));
            }
            opened => opened.map_err(|error| disk_error(&path, &error))?,
        };
        let mut bytes = vec![0; frame_bytes(place.length) as usize];
        let count = fill(&*file, place.offset, &mut bytes);
        let count = count.map_err(|error| disk_error(&path, &error))?;
        if count < bytes.len() {
            return Ok(Err(wrong("is cut")));
        }
        let (header, padded) = bytes.split_first_chunk().expect("a frame is longer than that");
        let frame = id.frame(place.offset, header);
        let frame = frame.filter(|frame| (frame.chunk, frame.length) == (chunk, place.length));
        if !frame.is_some_and(|frame| id.is_whole(place.offset, &frame, padded)) {
            return Ok(Err(wrong("is damaged")));
        }
        bytes.truncate(FRAME_HEADER_BYTES + place.length as usize);
        bytes.drain(..FRAME_HEADER_BYTES);
        Ok(Ok(bytes))
    }

    /// Removes a pack that is not written any more.
    pub(super) fn remove(&self, pack: u64) -> Result<()> {
        remove_if_there(&*self.disk, &self.pack(pack).1)?;
        self.tip.lock().done.remove(&pack);
        Ok(())
    }

    /// Removes all packs and the folder.
    pub(super) fn remove_all(&self) -> Result<()> {
        let mut tip = self.tip.lock();
        *tip = Tip { last: tip.last, ..Tip::default() };
        remove_folder(&*self.disk, &self.folder)
    }

    fn pack(&self, number: u64) -> (PackId, PathBuf) {
        let id = PackId { cluster: self.cluster, job: self.job.0, number };
        (id, self.folder.join(file_name(number)))
    }

    fn begin(&self, tip: &mut Tip) -> Result<Writing> {
        if tip.last == 0 {
            make_folder(&*self.disk, &self.folder)?;
        }
        tip.last += 1;
        let (id, path) = self.pack(tip.last);
        remove_if_there(&*self.disk, &path)?;
        let file = self.disk.create(&path).map_err(|error| disk_error(&path, &error))?;
        let (bytes, buffer) = (HEADER_BYTES as u64, id.header().to_vec());
        Ok(Writing { id, path, file, bytes, buffer })
    }

    /// Writes no more into a pack; what is in it survives a crash once the folder is synced.
    fn end(&self, tip: &mut Tip, mut writing: Writing) -> Result<()> {
        let ended = writing.flush().and_then(|()| writing.file.sync());
        if let Err(error) = ended {
            return Err(self.die(tip, writing, error));
        }
        tip.done.insert(writing.id.number, writing.bytes);
        tip.has_new = true;
        Ok(())
    }

    /// Gives up a pack and what is in it.
    fn die(&self, tip: &mut Tip, writing: Writing, error: std::io::Error) -> Error {
        tip.dead.insert(writing.id.number);
        // If even this fails, it is found when the packs are opened again, and nothing in it is needed.
        let _left = self.disk.remove(&writing.path);
        disk_error(&writing.path, &error)
    }

    /// The chunks in a pack, and how many bytes it has. Only headers of frames are looked at.
    fn scan(&mut self, number: u64) -> Result<(Vec<(u64, Place)>, u64)> {
        let (id, path) = self.pack(number);
        let failed = |error| disk_error(&path, &error);
        let file = self.disk.open(&path).map_err(failed)?;
        let size = file.size().map_err(failed)?;
        let mut window = Window { file: &*file, start: 0, bytes: Vec::new() };
        match window.at::<HEADER_BYTES>(0).map_err(failed)? {
            Some(header) => {
                if let Err(why) = id.check(header) {
                    if why.starts_with("it has format") {
                        return Err(Error::Damaged(format!("{}: {why}", path.display())));
                    }
                    // What is whole in it says so itself.
                    self.damages.push(format!("{}: {why}", path.display()));
                }
            }
            // Torn: nobody was told of anything in it.
            None => return Ok((Vec::new(), size)),
        }
        let (mut frames, mut offset, mut broken) = (Vec::new(), HEADER_BYTES as u64, None);
        while let Some(header) = window.at::<FRAME_HEADER_BYTES>(offset).map_err(failed)? {
            let frame = id.frame(offset, header);
            match frame.filter(|frame| offset + frame_bytes(frame.length) <= size) {
                Some(frame) => {
                    if let Some(broken) = broken.take() {
                        let place = format!("{} at byte {broken}", path.display());
                        self.damages.push(format!("{place}: what was there is damaged"));
                    }
                    let place = Place { pack: number, offset, length: frame.length };
                    frames.push((frame.chunk, place));
                    offset += frame_bytes(frame.length);
                }
                None => {
                    broken.get_or_insert(offset);
                    offset += ALIGNMENT;
                }
            }
        }
        if broken.is_some() || offset != size {
            // A torn end, if nothing in it is needed.
            let broken = broken.unwrap_or(offset);
            self.damages.push(format!("{} ends at byte {broken}", path.display()));
        }
        Ok((frames, size))
    }
}

impl Writing {
    fn flush(&mut self) -> std::io::Result<()> {
        self.file.append(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// A part of a file, moved along while it is read.
struct Window<'a> {
    file: &'a dyn ReadFile,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// The bytes at a place, `None` where the file ends before.
    fn at<const BYTES: usize>(&mut self, offset: u64) -> std::io::Result<Option<&[u8; BYTES]>> {
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + BYTES as u64 > end {
            self.bytes.resize(WINDOW_BYTES, 0);
            let count = fill(self.file, offset, &mut self.bytes)?;
            self.bytes.truncate(count);
            self.start = offset;
        }
        Ok(self.bytes[(offset - self.start) as usize..].first_chunk())
    }
}

/// Reads as much as there is room for, or to the end.
fn fill(file: &dyn ReadFile, offset: u64, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(offset + done as u64, &mut bytes[done..])? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

/// Removes a folder with the files in it; nothing if it is not there.
pub(super) fn remove_folder(disk: &dyn Disk, folder: &Path) -> Result<()> {
    let entries = match disk.list(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        listed => listed.map_err(|error| disk_error(folder, &error))?,
    };
    for entry in entries {
        remove_if_there(disk, &folder.join(entry.name))?;
    }
    disk.remove_folder(folder).map_err(|error| disk_error(folder, &error))
}
