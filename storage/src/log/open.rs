//! Opening a log: every record that is durable is shown once, in order; a torn end is cut, damage is
//! reported with its place.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64},
    },
};

use parking_lot::Mutex;

use super::{
    Buffer, Log, SPARE, Tip,
    block::{
        HEADER_BYTES, Lsn, SegmentSize, block_bytes, block_header, check_segment_header, first_of,
        places, segment_name, split_records,
    },
};
use crate::{
    Error, Result,
    env::{Disk, disk::disk_error},
};

/// What was found when a log was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Opened {
    /// Records shown.
    pub records: u64,
    /// Bytes of a torn end that were cut: writes that nobody was told of.
    pub torn_bytes: u64,
}

/// A segment as it is read.
struct Segment {
    path: PathBuf,
    bytes: Vec<u8>,
    /// What it should have.
    size: SegmentSize,
}

impl Log {
    /// Opens the log `id` in a folder, which begins with record 1 if there is none, and shows every
    /// record from `from` on. Damaged, with file and place, if what was durable is not whole; nothing
    /// is changed then.
    pub fn open(
        disk: &Arc<dyn Disk>,
        folder: &Path,
        id: u64,
        from: Lsn,
        show: impl FnMut(Lsn, &[u8]) -> Result<()>,
    ) -> Result<(Self, Opened)> {
        Self::open_sized(disk, folder, (id, SegmentSize::LARGE), from, show)
    }

    /// As [`Log::open`], with segments of a size that is always the same for a log.
    pub fn open_sized(
        disk: &Arc<dyn Disk>,
        folder: &Path,
        (id, size): (u64, SegmentSize),
        from: Lsn,
        mut show: impl FnMut(Lsn, &[u8]) -> Result<()>,
    ) -> Result<(Self, Opened)> {
        let spare = folder.join(SPARE);
        if let Err(error) = disk.remove(&spare)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(disk_error(&spare, &error));
        }
        let mut firsts = firsts(&**disk, folder)?;
        let mut opened = Opened::default();
        // A segment is made whole before it is named; its blocks come after that.
        let mut next = firsts.first().copied().unwrap_or(Lsn(1));
        let mut end = None;
        for (position, &first) in firsts.iter().enumerate() {
            let segment = Segment::read(&**disk, folder, first, size)?;
            check_segment_header(&segment.bytes, id, first)
                .map_err(|why| segment.damaged(0, &why))?;
            if first != next {
                let why =
                    format!("records from {} to {} are missing before it", next.0, first.0 - 1);
                return Err(segment.damaged(0, &why));
            }
            let is_last = position + 1 == firsts.len();
            let offset = segment.show(id, &mut next, |lsn, record| {
                if lsn < from {
                    return Ok(());
                }
                opened.records += 1;
                show(lsn, record)
            })?;
            if is_last {
                opened.torn_bytes = segment.torn(id, next, offset)?;
                end = Some(offset);
            } else if let end = firsts[position + 1]
                && end != next
            {
                return Err(segment.gap(offset, (next, end)));
            }
        }
        // Behind what was torn nothing is written: the next block begins a segment, in the place of
        // this one if it holds no whole block.
        let end = end.filter(|_| opened.torn_bytes == 0);
        if end.is_none() && firsts.last() == Some(&next) {
            firsts.pop();
        }
        let segment = end.map(|_| {
            let path = folder.join(segment_name(firsts.last().copied().unwrap_or_default()));
            disk.open_region(&path).map_err(|error| disk_error(&path, &error))
        });
        let log = Self {
            disk: Arc::clone(disk),
            folder: folder.to_owned(),
            id,
            size,
            buffer: Mutex::new(Buffer { bytes: Vec::new(), first: next, next }),
            tip: Mutex::new(Tip {
                segment: segment.transpose()?,
                firsts,
                // Without a segment it is as if one were full.
                offset: end.unwrap_or(size.bytes()),
                size,
                spare: None,
                block: Vec::new(),
                emptied: Vec::new(),
            }),
            synced: AtomicU64::new(next.0 - 1),
            is_low: AtomicBool::new(true),
            failure: OnceLock::new(),
            tending: Mutex::default(),
            wakers: Mutex::default(),
        };
        Ok((log, opened))
    }
}

/// First records of the segments in a folder, rising.
fn firsts(disk: &dyn Disk, folder: &Path) -> Result<Vec<Lsn>> {
    let entries = disk.list(folder).map_err(|error| disk_error(folder, &error))?;
    let names = entries.iter().filter_map(|entry| entry.name.to_str());
    let mut firsts: Vec<Lsn> = names.filter_map(first_of).collect();
    firsts.sort_unstable();
    Ok(firsts)
}

impl Segment {
    fn read(disk: &dyn Disk, folder: &Path, first: Lsn, size: SegmentSize) -> Result<Self> {
        let path = folder.join(segment_name(first));
        let read = disk.open(&path).and_then(|file| {
            let found = file.size()?;
            let mut bytes = vec![0; found.min(size.bytes()) as usize];
            let mut done = 0;
            while done < bytes.len() {
                match file.read_at(done as u64, &mut bytes[done..])? {
                    0 => break,
                    count => done += count,
                }
            }
            bytes.truncate(done);
            Ok((found, bytes))
        });
        let (found, bytes) = read.map_err(|error| disk_error(&path, &error))?;
        let segment = Self { path, bytes, size };
        match found > size.bytes() {
            true => Err(segment.damaged(size.bytes(), "it is longer than the log's segments")),
            false => Ok(segment),
        }
    }

    /// Shows the records of all whole blocks from the beginning on; where the first other byte is.
    fn show(
        &self,
        id: u64,
        next: &mut Lsn,
        mut show: impl FnMut(Lsn, &[u8]) -> Result<()>,
    ) -> Result<u64> {
        let mut offset = HEADER_BYTES;
        while let Some(bytes) = self.bytes.get(offset as usize..)
            && let Some(header) = block_header(bytes).filter(|header| header.first == *next)
            && let Some(records) = header.records(bytes, id, offset)
        {
            for record in split_records(records) {
                show(*next, record?)?;
                next.0 += 1;
            }
            if next.0 != header.first.0 + header.count {
                return Err(self.damaged(offset, "its block has another number of records"));
            }
            offset += block_bytes(header.length) as u64;
        }
        Ok(offset)
    }

    /// How many bytes of a torn block there are from `offset` on. Damaged if the block that should be
    /// there was durable: one behind it is whole, or the file is cut.
    fn torn(&self, id: u64, next: Lsn, offset: u64) -> Result<u64> {
        let is_younger = |place: u64| {
            let bytes = &self.bytes[place as usize..];
            let header = block_header(bytes).filter(|header| header.first > next);
            header.is_some_and(|header| header.records(bytes, id, place).is_some())
        };
        let mut ends = places(offset, self.bytes.len() as u64);
        if ends.any(is_younger) {
            return Err(self.damaged(offset, "its block is damaged"));
        }
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        // Mostly all of it is zeros: they are compared many at a time.
        const MANY: usize = 4096;
        let last = rest.chunks(MANY).rposition(|chunk| *chunk != [0; MANY][..chunk.len()]);
        let torn = last.map_or(0, |last| {
            let until = rest.len().min((last + 1) * MANY);
            rest[..until].iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
        });
        Ok(torn.max(u64::from((self.bytes.len() as u64) < self.size.bytes())))
    }

    /// Damaged: from `offset` on the records before `end` should be, here or in files behind.
    fn gap(&self, offset: u64, (next, end): (Lsn, Lsn)) -> Error {
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        if rest.iter().any(|byte| *byte != 0) {
            return self.damaged(offset, "its block is damaged");
        }
        let (first, last) = (next.0, end.0 - 1);
        let why = format!("records {first} to {last} are missing, here or in a file behind it");
        self.damaged(offset, &why)
    }

    fn damaged(&self, offset: u64, why: &str) -> Error {
        Error::Damaged(format!("{} at byte {offset}: {why}", self.path.display()))
    }
}
