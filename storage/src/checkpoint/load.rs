//! Loading checkpoints: the files of all tables dealt out to threads, each frame checked, made a
//! chunk and entered into the key index of its partition.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow::buffer::{Buffer, MutableBuffer};
use parking_lot::Mutex;

use super::{
    CheckpointStore, Position,
    batch::decode,
    fingerprint,
    frame::{
        End, FRAME_HEADER_BYTES, FileHeader, FrameHeader, HEADER_BYTES, Identity, Part, file_name,
    },
    manifest::{self, Manifest, RowsFile},
};
use crate::{
    Error, Result, Table,
    env::{ReadFile, disk::disk_error},
    partition::PartitionId,
    table::{CHUNK_ROWS_MAX, LoadedPartition},
};

/// What was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Where the log goes on from.
    pub position: Position,
    /// Rows.
    pub rows: u64,
    /// Bytes of the files they were in.
    pub bytes: u64,
}

/// A table while its files are loaded.
struct Subject<'a> {
    table: &'a Table,
    manifest: Manifest,
    folder: PathBuf,
    /// The first thing that was wrong.
    failure: Mutex<Option<Error>>,
}

/// A thread's memory, kept from one frame to the next.
struct Room {
    /// `None` while a frame in it is read.
    buffer: Option<MutableBuffer>,
    hashes: Vec<u64>,
}

/// A file while it is read.
struct Source<'a> {
    subject: &'a Subject<'a>,
    entry: &'a RowsFile,
    file: Arc<dyn ReadFile>,
    path: PathBuf,
    identity: Identity,
    offset: u64,
}

impl CheckpointStore {
    /// Loads the newest checkpoint of each of these tables, which have no rows, with so many threads;
    /// values of the hidden key in it are taken from then on. `None` if there is no checkpoint, so
    /// that all of the table is in the log. Damaged, with file, byte and partition, if anything is
    /// not as it was written, or is of another cluster, table or of other columns: such a table has
    /// some of its rows or none, and is not to be served.
    pub fn load(&self, tables: &[Arc<Table>], threads: usize) -> Vec<Result<Option<Loaded>>> {
        let opened: Vec<_> = tables.iter().map(|table| self.open(table)).collect();
        let subjects = opened.iter().filter_map(|opened| opened.as_ref().ok()?.as_ref());
        let mut files: Vec<(&Subject<'_>, &RowsFile)> = subjects
            .flat_map(|subject| subject.manifest.files.iter().map(move |file| (subject, file)))
            .collect();
        // The large ones first: they would be what the last thread is waited for.
        files.sort_by_key(|(_, file)| std::cmp::Reverse(file.bytes));
        let next = AtomicUsize::new(0);
        let work = || {
            let mut room = Room { buffer: Some(MutableBuffer::new(0)), hashes: Vec::new() };
            while let Some((subject, file)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                if subject.failure.lock().is_some() {
                    continue;
                }
                if let Err(error) = self.load_file(subject, file, &mut room) {
                    subject.failure.lock().get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.min(files.len()) {
                scope.spawn(work);
            }
            work();
        });
        drop(files);
        opened.into_iter().map(|opened| opened?.map_or(Ok(None), Subject::loaded)).collect()
    }

    /// The checkpoint of a table, of which nothing was read but the manifest.
    fn open<'a>(&self, table: &'a Arc<Table>) -> Result<Option<Subject<'a>>> {
        let id = table.record().id;
        let folder = self.folder_of(id);
        let damaged =
            |why: &str| Error::Damaged(format!("{}: {why}", folder.join(manifest::NAME).display()));
        let Some(manifest) = Manifest::read(&*self.disk, &folder, (self.cluster, id))? else {
            return match self.disk.list(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(disk_error(&folder, &error)),
                Ok(_) if self.numbers(&folder)?.is_empty() => Ok(None),
                Ok(_) => Err(damaged("it is missing")),
            };
        };
        if let Err(error) = self.remove_leftovers(id, &manifest) {
            tracing::warn!(table = id.0, %error, "files of an older checkpoint are left");
        }
        if manifest.position().is_none() {
            return Ok(None);
        }
        if manifest.fingerprint != fingerprint::of(table.record())? {
            return Err(damaged("its rows are of other columns than the table's"));
        }
        let partition_count = table.router().partition_count();
        if manifest.partition_count != partition_count {
            return Err(damaged(&format!(
                "its rows are in {} partitions, and the server has {partition_count}",
                manifest.partition_count
            )));
        }
        Ok(Some(Subject { table, manifest, folder, failure: Mutex::default() }))
    }

    fn load_file(&self, subject: &Subject<'_>, entry: &RowsFile, room: &mut Room) -> Result<()> {
        let path = subject.folder.join(file_name(entry.number));
        let opened = self.disk.open(&path).and_then(|file| Ok((file.size()?, file)));
        let (size, file) = match opened {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Damaged(format!("{}: it is missing", path.display())));
            }
            opened => opened.map_err(|error| disk_error(&path, &error))?,
        };
        let header = FileHeader {
            partition_count: subject.manifest.partition_count,
            cluster: self.cluster,
            table: subject.table.record().id.0,
            number: entry.number,
            lsn: subject.manifest.position().unwrap_or_default().lsn.0,
            fingerprint: subject.manifest.fingerprint,
        };
        let identity = Identity::of(&header);
        let mut source = Source { subject, entry, file, path, identity, offset: 0 };
        let mut found = [0; HEADER_BYTES];
        source.read(&mut found)?;
        header.check(&found).map_err(|why| source.damaged(0, &why))?;
        if size != entry.bytes {
            let why = format!("it has {size} bytes, and should have {}", entry.bytes);
            return Err(source.damaged(size.min(entry.bytes), &why));
        }
        source.load(room)
    }
}

impl Subject<'_> {
    fn loaded(self) -> Result<Option<Loaded>> {
        if let Some(failure) = self.failure.into_inner() {
            return Err(failure);
        }
        self.table.use_row_ids(self.manifest.row_id_last);
        let (rows, bytes) = (self.manifest.rows(), self.manifest.bytes());
        Ok(self.manifest.position().map(|position| Loaded { position, rows, bytes }))
    }
}

impl Source<'_> {
    /// Loads all partitions in it.
    fn load(&mut self, room: &mut Room) -> Result<()> {
        let table = self.subject.table;
        let mut partition: Option<(LoadedPartition, u64)> = None;
        let mut sum = End::default();
        loop {
            let place = self.offset;
            let mut header = [0; FRAME_HEADER_BYTES];
            self.read(&mut header)?;
            let (frame, checksum) = match Part::read(&header, self.identity, place) {
                None => {
                    let (first, last) = self.entry.partitions();
                    let from = partition.as_ref().map_or(first, |(rows, _)| rows.partition());
                    let why = format!("rows of partitions {} to {} are damaged", from.0, last.0);
                    return Err(self.damaged(place, &why));
                }
                Some(Part::Frame(frame, checksum)) => (frame, checksum),
                Some(Part::End(end)) => {
                    self.install(partition, place)?;
                    let is_whole = end == sum && end.rows == self.entry.rows;
                    let is_last = self.offset == self.entry.bytes;
                    return match is_whole && is_last {
                        true => Ok(()),
                        false => Err(self.damaged(place, "it does not end as it should")),
                    };
                }
            };
            if partition.as_ref().is_none_or(|(rows, _)| rows.partition() != frame.partition) {
                self.install(partition.take(), place)?;
            }
            let (rows, _) = match &mut partition {
                Some(partition) => partition,
                None => {
                    let count = frame.partition_rows;
                    let room = count.min(self.entry.rows) as usize;
                    let rows = LoadedPartition::new(table, frame.partition, room)?;
                    partition.insert((rows, count))
                }
            };
            self.frame(&frame, checksum, rows, room)?;
            sum.frames += 1;
            sum.rows += u64::from(frame.rows);
        }
    }

    /// Adds the rows of a frame whose header has been read.
    fn frame(
        &mut self,
        frame: &FrameHeader,
        checksum: u32,
        rows: &mut LoadedPartition,
        room: &mut Room,
    ) -> Result<()> {
        let place = self.offset - FRAME_HEADER_BYTES as u64;
        let named = |what: &str| format!("rows of partition {} {what}", frame.partition.0);
        let left = self.entry.bytes.saturating_sub(self.offset);
        if frame.length > left || u64::from(frame.message) > frame.length {
            return Err(self.damaged(place, &named("are cut")));
        }
        let length = frame.length as usize;
        let mut buffer = room.buffer.take().unwrap_or_default();
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        self.read(&mut buffer.as_slice_mut()[..length])?;
        if self.identity.payload(place, &buffer.as_slice()[..length]) != checksum {
            return Err(self.damaged(place, &named("are damaged")));
        }
        let buffer = Buffer::from(buffer);
        let table = self.subject.table;
        let batch = decode(&buffer, length, frame.message as usize, table.schema());
        let batch = batch
            .map_err(|error| self.damaged(place, &named(&format!("cannot be read: {error}"))))?;
        room.buffer = buffer.into_mutable().ok();
        let is_chunk = batch.num_rows() <= CHUNK_ROWS_MAX;
        if !is_chunk || batch.num_rows() != frame.rows as usize {
            return Err(self.damaged(place, &named("are of another number")));
        }
        match rows.add(table.table_schema(), batch, &mut room.hashes)? {
            true => Ok(()),
            false => Err(self.damaged(place, &named("belong elsewhere"))),
        }
    }

    /// All frames of a partition, `place` being where the next begins, have been read.
    fn install(&self, partition: Option<(LoadedPartition, u64)>, place: u64) -> Result<()> {
        let Some((rows, count)) = partition else { return Ok(()) };
        let PartitionId(partition) = rows.partition();
        if rows.row_count() as u64 != count {
            let why = format!("rows of partition {partition} are missing");
            return Err(self.damaged(place, &why));
        }
        rows.install(self.subject.table)
    }

    /// Reads the next bytes, all of them.
    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let read = self.file.read_at(self.offset + done as u64, &mut bytes[done..]);
            match read.map_err(|error| disk_error(&self.path, &error))? {
                0 => return Err(self.damaged(self.offset + done as u64, "it is cut")),
                count => done += count,
            }
        }
        self.offset += done as u64;
        Ok(())
    }

    fn damaged(&self, offset: u64, why: &str) -> Error {
        Error::Damaged(format!("{} at byte {offset}: {why}", self.path.display()))
    }
}
