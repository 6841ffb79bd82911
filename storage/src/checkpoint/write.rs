//! Writing a checkpoint: partition by partition into files of some partitions each.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use super::{
    CheckpointStore, Position,
    batch::Encoder,
    fingerprint,
    frame::{End, FRAME_HEADER_BYTES, FileHeader, FrameHeader, Identity, Part, file_name},
    manifest::{Manifest, RowsFile},
};
use crate::{
    Result, Table,
    env::{
        WriteFile,
        disk::{disk_error, make_folder, remove_if_there},
    },
    partition::PartitionId,
    table::{ReadMode, ReadView},
};

/// Bytes after which a file takes no further partition: small enough that a table of 100 MB is loaded
/// by several threads, large enough that a sync costs little beside it.
const FILE_BYTES: u64 = if cfg!(test) { 8 << 10 } else { 16 << 20 };

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Files of rows.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Rows in them.
    pub rows: u64,
}

/// A file of rows while it is written.
struct Output {
    file: Box<dyn WriteFile>,
    path: PathBuf,
    identity: Identity,
    entry: RowsFile,
    end: End,
}

/// The files of a checkpoint, and what it takes to write them.
struct Writing<'a> {
    store: &'a CheckpointStore,
    folder: &'a Path,
    /// Of the file that is written next.
    header: FileHeader,
    encoder: Encoder,
    /// The frame at hand; kept for its memory.
    frame: Vec<u8>,
    output: Option<Output>,
    files: Vec<RowsFile>,
}

impl CheckpointStore {
    /// Writes the rows that `view`, in durable mode, sees of a table, in the place of the checkpoint
    /// before. `position` is where the log stood before the view was taken. After an error that is
    /// there still, but for one: if only the last sync failed, a crash decides between the two.
    ///
    /// `sync` is called when all rows are written and nothing names them yet: what the view shows
    /// beyond `position` must be in the log durably before, or a crash would keep these rows of it
    /// and lose others that came earlier.
    pub fn write(
        &self,
        table: &Table,
        view: &ReadView,
        position: &Position,
        sync: impl FnOnce() -> Result<()>,
    ) -> Result<Written> {
        let _changing = self.changing.lock();
        let id = table.record().id;
        let folder = self.folder_of(id);
        make_folder(&*self.disk, &folder)?;
        let owner = (self.cluster, id);
        let before = match Manifest::read(&*self.disk, &folder, owner)? {
            Some(before) => before,
            None => {
                // From now on rows without a manifest are those of a manifest that was lost.
                let none = Manifest::default();
                none.write(&*self.disk, &folder, owner)?;
                none
            }
        };
        self.remove_leftovers(id, &before)?;
        let partition_count = table.router().partition_count();
        let fingerprint = fingerprint::of(table.record())?;
        let mut manifest = Manifest::new(position);
        (manifest.fingerprint, manifest.partition_count) = (fingerprint, partition_count);
        manifest.row_id_last = table.row_id_last();
        let mut writing = Writing {
            store: self,
            folder: &folder,
            header: FileHeader {
                partition_count,
                cluster: self.cluster,
                table: id.0,
                number: before.files.iter().map(|file| file.number).max().unwrap_or(0) + 1,
                lsn: position.lsn.0,
                fingerprint,
            },
            encoder: Encoder::default(),
            frame: Vec::new(),
            output: None,
            files: Vec::new(),
        };
        let first = writing.header.number;
        let view = view.clone().in_mode(ReadMode::Durable);
        let written = writing.rows(table, &view, partition_count).and_then(|()| {
            manifest.files = std::mem::take(&mut writing.files);
            sync()?;
            manifest.write(&*self.disk, &folder, owner)
        });
        if let Err(error) = written {
            // After a failed sync the new manifest may be there, and a crash decides.
            let named = Manifest::read(&*self.disk, &folder, owner);
            if matches!(named, Ok(Some(named)) if named == before) {
                self.remove_files(&folder, first..=writing.header.number);
            }
            return Err(error);
        }
        if let Err(error) = self.remove_leftovers(id, &manifest) {
            tracing::warn!(table = id.0, %error, "files of an older checkpoint are left");
        }
        let (files, bytes, rows) = (manifest.files.len(), manifest.bytes(), manifest.rows());
        Ok(Written { files, bytes, rows })
    }

    /// Gives back the room of files that no manifest names.
    fn remove_files(&self, folder: &Path, numbers: RangeInclusive<u64>) {
        for number in numbers {
            // What cannot be removed now is removed by the next write.
            let _left = self.disk.remove(&folder.join(file_name(number)));
        }
    }
}

impl Writing<'_> {
    fn rows(&mut self, table: &Table, view: &ReadView, partition_count: u16) -> Result<()> {
        for partition in (0..partition_count).map(PartitionId) {
            self.partition(table, view, partition)?;
            if self.output.as_ref().is_some_and(|output| output.entry.bytes >= FILE_BYTES) {
                self.end_file()?;
            }
        }
        self.end_file()?;
        let synced = self.store.disk.sync_folder(self.folder);
        synced.map_err(|error| disk_error(self.folder, &error))
    }

    fn partition(&mut self, table: &Table, view: &ReadView, partition: PartitionId) -> Result<()> {
        let batches = table.stored_batches(view, partition)?;
        let partition_rows = batches.row_count as u64;
        for batch in batches {
            let batch = batch?;
            let mut output = match self.output.take() {
                Some(output) => output,
                None => self.begin_file(partition)?,
            };
            self.frame.clear();
            self.frame.resize(FRAME_HEADER_BYTES, 0);
            let message = self.encoder.put(&batch, &mut self.frame)?;
            let header = FrameHeader {
                partition,
                rows: batch.num_rows() as u32,
                partition_rows,
                length: (self.frame.len() - FRAME_HEADER_BYTES) as u64,
                message: message as u32,
            };
            output.append(header, &mut self.frame)?;
            self.output = Some(output);
        }
        Ok(())
    }

    fn begin_file(&mut self, first: PartitionId) -> Result<Output> {
        let path = self.folder.join(file_name(self.header.number));
        remove_if_there(&*self.store.disk, &path)?;
        let mut file = self.store.disk.create(&path).map_err(|error| disk_error(&path, &error))?;
        let header = self.header.bytes();
        file.append(&header).map_err(|error| disk_error(&path, &error))?;
        let mut entry = RowsFile::new(self.header.number, first);
        entry.bytes = header.len() as u64;
        let (identity, end) = (Identity::of(&self.header), End::default());
        Ok(Output { file, path, identity, entry, end })
    }

    /// Ends the file at hand, durably.
    fn end_file(&mut self) -> Result<()> {
        let Some(mut output) = self.output.take() else { return Ok(()) };
        let end = Part::End(output.end).bytes(output.identity, output.entry.bytes);
        let ended = output.file.append(&end).and_then(|()| output.file.sync());
        ended.map_err(|error| disk_error(&output.path, &error))?;
        output.entry.bytes += end.len() as u64;
        self.files.push(output.entry);
        self.header.number += 1;
        Ok(())
    }
}

impl Output {
    /// Appends a frame: room for its header, and its payload.
    fn append(&mut self, header: FrameHeader, frame: &mut [u8]) -> Result<()> {
        let offset = self.entry.bytes;
        let (head, payload) = frame.split_at_mut(FRAME_HEADER_BYTES);
        let checksum = self.identity.payload(offset, payload);
        head.copy_from_slice(&Part::Frame(header, checksum).bytes(self.identity, offset));
        self.file.append(frame).map_err(|error| disk_error(&self.path, &error))?;
        self.end.frames += 1;
        self.end.rows += u64::from(header.rows);
        self.entry.add(header.partition, u64::from(header.rows), frame.len() as u64);
        Ok(())
    }
}
