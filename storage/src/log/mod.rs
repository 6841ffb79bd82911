//! `Log`: what has happened to the rows of this member, in one order, durable by groups.
//!
//! ```text
//!   append ──► buffer ──┐                    many callers, each some ns
//!   append ──► buffer ──┤ one block
//!   append ──► buffer ──┘    │
//!   sync(lsn) ──────────► write ──► fdatasync ──► all of the block are durable
//!   sync(lsn) ── waits, and mostly finds it done
//! ```
//! Who wants a record to be durable and finds that it is not writes all that is in the buffer, for
//! everybody: while one block is on its way to the disk, the next one gathers (group commit). Room
//! is taken ahead, a segment at a time ([`Log::tend`]), so a record that was let in finds room; when
//! half a segment is left and the next one cannot be had, [`Log::admit`] says that the disk is full,
//! and tries again when asked again. After a sync that failed nothing is known of the disk any more:
//! the log is broken for good.

mod block;
mod open;

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};

use parking_lot::Mutex;

use self::block::{
    HEADER_BYTES, block_bytes, put_block, segment_header, segment_name, take_records,
};
pub use self::{
    block::{Lsn, SegmentSize},
    open::Opened,
};
use crate::{
    Error, Result,
    env::{Disk, RegionFile, disk::disk_error},
};

/// Bytes of one record of a log of large segments at most; what is larger has a file of its own.
pub const RECORD_BYTES_MAX: usize = SegmentSize::LARGE.record_bytes_max();

/// The log of one member.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// Which log it is: no other's bytes are taken for its own.
    id: u64,
    size: SegmentSize,
    buffer: Mutex<Buffer>,
    tip: Mutex<Tip>,
    /// The newest durable record.
    synced: AtomicU64,
    /// Whether half a segment is left, and there is no next one.
    is_low: AtomicBool,
    failure: OnceLock<String>,
    /// Held to take the room of a segment.
    tending: Mutex<()>,
    /// Who is to be woken when its record is durable.
    wakers: Mutex<Vec<(Lsn, Waker)>>,
}

/// What was appended and is in no block.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    /// The first record in it, and the next one.
    first: Lsn,
    next: Lsn,
}

/// Where blocks are written.
#[derive(Debug)]
struct Tip {
    /// `None` before the first block of a new log.
    segment: Option<Box<dyn RegionFile>>,
    /// First records of all segments.
    firsts: Vec<Lsn>,
    /// Where the next block goes.
    offset: u64,
    size: SegmentSize,
    /// The file that becomes the next segment.
    spare: Option<Box<dyn RegionFile>>,
    /// The block at hand, and the buffer that was emptied; kept for their memory.
    block: Vec<u8>,
    emptied: Vec<u8>,
}

/// Why a block was not written.
enum Trouble {
    /// There is no room for its segment; it is as if it had not been tried.
    NoRoom(Error),
    /// Nothing is known of the disk any more.
    Broken(Error),
}

/// Name of the file that becomes the next segment.
const SPARE: &str = "next.log.new";

impl Log {
    /// Appends a record, which `write` puts at the end of what it is given: at most
    /// [`SegmentSize::record_bytes_max`] bytes. It is durable once [`Log::sync`] says so. Takes a short lock.
    pub fn append(&self, write: impl FnOnce(&mut Vec<u8>)) -> Lsn {
        let mut buffer = self.buffer.lock();
        let start = buffer.bytes.len();
        buffer.bytes.extend_from_slice(&[0; 4]);
        write(&mut buffer.bytes);
        let length = buffer.bytes.len() - start - 4;
        let bytes_max = self.size.record_bytes_max();
        assert!(length <= bytes_max, "a record of {length} bytes belongs into a file");
        buffer.bytes[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
        let lsn = buffer.next;
        buffer.next = Lsn(lsn.0 + 1);
        lsn
    }

    /// Appends records, each of at most [`SegmentSize::record_bytes_max`] bytes, with nothing between
    /// them; answers the last one.
    pub fn append_all(&self, records: &[Vec<u8>]) -> Lsn {
        let bytes_max = self.size.record_bytes_max();
        let mut buffer = self.buffer.lock();
        for record in records {
            let length = record.len();
            assert!(length <= bytes_max, "a record of {length} bytes belongs into a file");
            buffer.bytes.extend_from_slice(&(length as u32).to_le_bytes());
            buffer.bytes.extend_from_slice(record);
            buffer.next.0 += 1;
        }
        Lsn(buffer.next.0 - 1)
    }

    /// The newest record appended.
    pub fn newest(&self) -> Lsn {
        Lsn(self.buffer.lock().next.0 - 1)
    }

    /// To be asked before a change that will be appended, without a lock: DiskFull if there may be
    /// no room for it. Writes what has gathered if it is much; bytes that have.
    pub fn admit(&self) -> Result<usize> {
        if self.is_low.load(Ordering::Acquire) {
            self.tend()?;
        }
        // Who appends writes a block when half of one has gathered.
        let gathered = self.buffer.lock();
        let bytes = gathered.bytes.len();
        if bytes < self.size.block_bytes_max() / 2 {
            return Ok(bytes);
        }
        let newest = Lsn(gathered.next.0 - 1);
        drop(gathered);
        self.sync(newest).map(|()| 0)
    }

    /// Returns when a record, and all before it, are durable. An error means that it is not known
    /// whether they are: the log is broken, unless it is DiskFull: then they wait for room.
    pub fn sync(&self, lsn: Lsn) -> Result<()> {
        while !self.is_synced(lsn) {
            let mut tip = self.tip.lock();
            if let Some(failure) = self.failure.get() {
                return Err(Error::Disk(failure.clone()));
            }
            if self.is_synced(lsn) {
                break;
            }
            match self.write_block(&mut tip) {
                Ok(()) => {}
                Err(Trouble::NoRoom(error)) => return Err(error),
                Err(Trouble::Broken(error)) => {
                    let text = self.failure.get_or_init(|| error.to_string()).clone();
                    self.wake(Lsn(u64::MAX));
                    return Err(Error::Disk(text));
                }
            }
        }
        Ok(())
    }

    /// Whether a record is durable.
    pub fn is_synced(&self, lsn: Lsn) -> bool {
        self.synced.load(Ordering::Acquire) >= lsn.0
    }

    /// As [`Log::is_synced`]; if not, `waker` is woken when it may be, or the log is broken. Somebody
    /// must sync.
    pub fn poll_synced(&self, lsn: Lsn, waker: &Waker) -> Result<bool> {
        // Noted first, looked after: who syncs does it the other way round.
        self.wakers.lock().push((lsn, waker.clone()));
        match self.failure.get() {
            Some(failure) => Err(Error::Disk(failure.clone())),
            None => Ok(self.is_synced(lsn)),
        }
    }

    /// Why the log is broken, if it is.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// The first record of the oldest segment; 1 if there is none.
    pub fn first(&self) -> Lsn {
        self.tip.lock().firsts.first().copied().unwrap_or(Lsn(1))
    }

    /// Whether [`Log::cut`] would remove a segment.
    pub fn can_cut(&self, lsn: Lsn) -> bool {
        self.tip.lock().firsts.get(1).is_some_and(|next| *next <= lsn)
    }

    /// Removes the segments that hold only records before `lsn`.
    pub fn cut(&self, lsn: Lsn) -> Result<()> {
        let mut tip = self.tip.lock();
        // A segment ends where the next one begins.
        let gone = tip.firsts.iter().skip(1).take_while(|next| **next <= lsn).count();
        for first in tip.firsts.drain(..gone) {
            let path = self.folder.join(segment_name(first));
            self.disk.remove(&path).map_err(|error| disk_error(&path, &error))?;
        }
        Ok(())
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.tip.lock().firsts.len() as u64 * self.size.bytes()
    }

    /// Writes the buffer, as one block if it fits, and syncs it.
    fn write_block(&self, tip: &mut Tip) -> Result<(), Trouble> {
        let (first, next) = {
            let mut buffer = self.buffer.lock();
            std::mem::swap(&mut buffer.bytes, &mut tip.emptied);
            let next = buffer.next;
            (std::mem::replace(&mut buffer.first, next), next)
        };
        let records = std::mem::take(&mut tip.emptied);
        let (mut lsn, mut left) = (first, &records[..]);
        while lsn < next {
            let unwritten = left;
            let (block, count) = take_records(&mut left, self.size.block_bytes_max());
            if let Err(error) = self.have_room(tip, block.len()) {
                self.put_back(lsn, unwritten);
                return Err(Trouble::NoRoom(error));
            }
            self.write_records(tip, (lsn, count), block).map_err(Trouble::Broken)?;
            lsn.0 += count;
        }
        tip.emptied = records;
        tip.emptied.clear();
        Ok(())
    }

    /// Sees to it that a block of so many bytes of records has a segment to go to.
    fn have_room(&self, tip: &mut Tip, length: usize) -> Result<()> {
        if tip.is_full_for(length) && tip.spare.is_none() {
            tip.spare = Some(self.create_spare()?);
        }
        Ok(())
    }

    /// Puts records from `first` on, which were taken out of the buffer, back to its beginning.
    fn put_back(&self, first: Lsn, records: &[u8]) {
        let mut buffer = self.buffer.lock();
        buffer.bytes.splice(0..0, records.iter().copied());
        buffer.first = first;
    }

    /// Writes one block, for which there is room, and syncs it.
    fn write_records(
        &self,
        tip: &mut Tip,
        (first, count): (Lsn, u64),
        records: &[u8],
    ) -> Result<()> {
        if tip.is_full_for(records.len()) {
            self.begin_segment(tip, first)?;
        }
        tip.block.clear();
        put_block(&mut tip.block, (self.id, tip.offset), (first, count), records);
        let segment = tip.segment.as_mut().expect("one was begun");
        let synced = segment.write_at(tip.offset, &tip.block).and_then(|()| segment.sync());
        synced.map_err(|error| disk_error(&self.segment_path(tip), &error))?;
        tip.offset += tip.block.len() as u64;
        self.look_ahead(tip);
        let newest = Lsn(first.0 + count - 1);
        self.synced.store(newest.0, Ordering::Release);
        self.wake(newest);
        Ok(())
    }

    /// Takes the room of the next segment, if that is to be done; slow, and holds nobody up.
    /// DiskFull if there is none.
    pub fn tend(&self) -> Result<()> {
        let _one = self.tending.lock();
        if self.tip.lock().spare.is_some() {
            return Ok(());
        }
        let spare = self.create_spare()?;
        let mut tip = self.tip.lock();
        tip.spare = Some(spare);
        self.look_ahead(&tip);
        Ok(())
    }

    fn create_spare(&self) -> Result<Box<dyn RegionFile>> {
        let path = self.folder.join(SPARE);
        let bytes = self.size.bytes();
        let created = self.disk.create_region(&path, bytes).and_then(|mut spare| {
            spare.sync()?;
            Ok(spare)
        });
        created.map_err(|error| disk_error(&path, &error))
    }

    /// Goes on in the next segment, which begins with record `first`.
    fn begin_segment(&self, tip: &mut Tip, first: Lsn) -> Result<()> {
        let mut segment = tip.spare.take().expect("room was had");
        let (spare, path) = (self.folder.join(SPARE), self.folder.join(segment_name(first)));
        let begun = segment
            .write_at(0, &segment_header(self.id, first))
            .and_then(|()| segment.sync())
            .and_then(|()| self.disk.rename(&spare, &path))
            .and_then(|()| self.disk.sync_folder(&self.folder));
        begun.map_err(|error| disk_error(&path, &error))?;
        (tip.segment, tip.offset) = (Some(segment), HEADER_BYTES);
        tip.firsts.push(first);
        Ok(())
    }

    /// Notes whether room is running out.
    fn look_ahead(&self, tip: &Tip) {
        let is_low = tip.spare.is_none() && tip.offset > self.size.bytes() / 2;
        self.is_low.store(is_low, Ordering::Release);
    }

    fn segment_path(&self, tip: &Tip) -> PathBuf {
        let first = tip.firsts.last().copied().unwrap_or_default();
        self.folder.join(segment_name(first))
    }

    /// Wakes who waits for records up to this one.
    fn wake(&self, upto: Lsn) {
        let mut wakers = self.wakers.lock();
        let (due, left) = wakers.drain(..).partition(|(lsn, _)| *lsn <= upto);
        *wakers = left;
        drop(wakers);
        let due: Vec<(Lsn, Waker)> = due;
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl Tip {
    /// Whether a block of so many bytes of records needs a new segment.
    fn is_full_for(&self, length: usize) -> bool {
        self.offset + block_bytes(length) as u64 > self.size.bytes()
    }
}

#[cfg(test)]
mod tests;
