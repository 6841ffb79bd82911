//! `Footer`: what a file says about itself, read once from its end and checked. No page is touched.

use std::sync::Arc;

use parquet::{
    basic::Compression,
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};

use super::{
    broken,
    bytes::FileBytes,
    compact::{Flaw, check_footer},
    guarded,
    shape::FOOTER,
};
use crate::{
    Error, Result,
    connectors::file::{
        folder::{Folder, FoundFile, failed},
        split::Split,
    },
};

/// Bytes of a footer: that of a file with a thousand row groups of a hundred columns has 15 MB.
const FOOTER_BYTES_MAX: u32 = 64 << 20;
/// Length of the footer and the letters behind it.
const TAIL_BYTES: u64 = 8;
const MAGIC: &[u8] = b"PAR1";
const MAGIC_ENCRYPTED: &[u8] = b"PARE";
/// The end of a split that is a whole file, whatever its rows.
pub const ALL_ROWS: u64 = i64::MAX as u64;

/// The footer of a file.
#[derive(Debug, Clone)]
pub struct Footer {
    /// The file.
    pub bytes: Arc<FileBytes>,
    /// What it says.
    pub metadata: Arc<ParquetMetaData>,
    /// The file as the mapping would name it.
    pub shown: Arc<str>,
}

impl Footer {
    /// Reads the footer of a file that had so many bytes when the execution was first started.
    pub fn open(folder: &Folder, name: &str, size: u64) -> Result<Self> {
        let shown: Arc<str> = folder.shown(name).into();
        let file = folder.read(name)?;
        let reading = |error| failed(&format!("read file \"{shown}\""), &error);
        if file.size().map_err(reading)? != size {
            let message = format!("file \"{shown}\" has changed while it is read");
            return Err(Error::User { code: "58030", message });
        }
        let bytes = Arc::new(FileBytes::new(file, size));
        let footer = footer_bytes(&bytes, &shown)?;
        if let Err(flaw) = check_footer(&footer, &FOOTER) {
            return Err(match flaw {
                Flaw::Short => broken(&shown, "its footer does not end"),
                Flaw::Wrong(reason) => broken(&shown, &reason),
            });
        }
        let metadata = guarded(&shown, || ParquetMetaDataReader::decode_metadata(&footer))?;
        let metadata = Arc::new(metadata);
        let footer = Self { bytes, metadata, shown };
        footer.check()?;
        Ok(footer)
    }

    /// Every column of every row group lies in the file, and has as many values as there are rows.
    fn check(&self) -> Result<()> {
        let wrong = |reason: &str| Err(broken(&self.shown, reason));
        let columns = self.metadata.file_metadata().schema_descr().columns();
        for group in self.metadata.row_groups() {
            if group.num_rows() < 0 || group.columns().len() != columns.len() {
                return wrong("a row group of it has other columns than the file");
            }
            for (chunk, column) in group.columns().iter().zip(columns) {
                let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
                let length = chunk.compressed_size();
                let end = start.checked_add(length);
                let is_within = start >= 0
                    && length >= 0
                    && end.is_some_and(|end| end as u64 <= self.bytes.size());
                if !is_within {
                    return wrong("a column of it lies outside of it");
                }
                let is_flat = column.max_rep_level() == 0;
                if is_flat && chunk.num_values() != group.num_rows() {
                    return wrong("a column of it has another number of values than it has rows");
                }
            }
        }
        Ok(())
    }

    /// Rows of each row group.
    pub fn row_counts(&self) -> impl Iterator<Item = u64> {
        self.metadata.row_groups().iter().map(|group| group.num_rows() as u64)
    }

    /// Refuses a column whose pages cannot be unpacked.
    pub fn check_codec(&self, row_group: usize, leaf: usize) -> Result<()> {
        let chunk = self.metadata.row_group(row_group).column(leaf);
        let name = match chunk.compression() {
            Compression::BROTLI(_) => "brotli",
            Compression::LZO => "lzo",
            _ => return Ok(()),
        };
        Err(Error::User {
            code: "0A000",
            message: format!(
                "column \"{}\" of file \"{}\" is compressed with {name}, which is not supported",
                chunk.column_descr().name(),
                self.shown
            ),
        })
    }
}

/// The footer's own bytes.
fn footer_bytes(bytes: &FileBytes, shown: &str) -> Result<Vec<u8>> {
    let read = |start, length| {
        bytes.read(start, length).map_err(|error| failed(&format!("read file \"{shown}\""), &error))
    };
    let Some(tail_start) = bytes.size().checked_sub(TAIL_BYTES) else {
        return Err(broken(shown, "it is too short"));
    };
    let tail = read(tail_start, TAIL_BYTES as usize)?;
    let (length, magic) = tail.split_at(4);
    if magic == MAGIC_ENCRYPTED {
        let message = format!("file \"{shown}\" is encrypted, which is not supported");
        return Err(Error::User { code: "0A000", message });
    }
    if magic != MAGIC {
        return Err(broken(shown, "it does not end in \"PAR1\""));
    }
    let length = length.first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
    match tail_start.checked_sub(u64::from(length)) {
        Some(start) if length <= FOOTER_BYTES_MAX => read(start, length as usize),
        _ => Err(broken(shown, &format!("its footer has {length} bytes"))),
    }
}

/// The splits of a file: rows from one row group to another, each `piece` bytes or a little more. Of a
/// file that is one piece nothing is read yet.
pub fn splits(folder: &Folder, file: &FoundFile, piece: u64) -> Result<Vec<Split>> {
    let FoundFile { name, size } = file;
    let split = |next, end| {
        let (file, size) = (name.clone(), *size);
        Split { file, size, next, end, is_cut: false }
    };
    if *size == 0 {
        // Marks that programs leave beside their files.
        return Ok(Vec::new());
    }
    if *size <= piece {
        return Ok(vec![split(0, ALL_ROWS)]);
    }
    let footer = Footer::open(folder, name, *size)?;
    let mut splits = Vec::new();
    let (mut from, mut row, mut bytes) = (0, 0, 0);
    for group in footer.metadata.row_groups() {
        row += group.num_rows() as u64;
        bytes += group.columns().iter().map(|chunk| chunk.compressed_size() as u64).sum::<u64>();
        if bytes >= piece {
            splits.push(split(from, row));
            (from, bytes) = (row, 0);
        }
    }
    if from < row {
        splits.push(split(from, row));
    }
    Ok(splits)
}
