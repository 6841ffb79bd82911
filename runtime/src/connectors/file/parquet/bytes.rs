//! `FileBytes`: the bytes of a file as the library asks for them, each request checked first. A page is
//! read whole, and its header before that; both have a bound ([`PAGE_BYTES_MAX`]).

use std::{
    io::{self, Read},
    sync::Arc,
};

use bytes::Bytes;
use parquet::{
    errors::{ParquetError, Result as ParquetResult},
    file::reader::{ChunkReader, Length},
};
use storage::env::ReadFile;

use super::{
    compact::{self, Flaw},
    shape::PAGE_HEADER,
};

/// Bytes of a page, as it is in the file and uncompressed. Writers make pages of about 1 MiB; some
/// of up to 100 MB.
pub const PAGE_BYTES_MAX: usize = 128 << 20;
/// Bytes of the header of a page that are read at first; it has about thirty.
const HEADER_BYTES: usize = 512;
/// It may hold the least and the largest value of the page.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// The bytes of one file.
#[derive(Debug, Clone)]
pub struct FileBytes {
    file: Arc<dyn ReadFile>,
    size: u64,
}

impl FileBytes {
    /// Of a file of so many bytes.
    pub fn new(file: Arc<dyn ReadFile>, size: u64) -> Self {
        Self { file, size }
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of a range; an error if the file has fewer.
    pub fn read(&self, start: u64, length: usize) -> io::Result<Vec<u8>> {
        let is_within = start.checked_add(length as u64).is_some_and(|end| end <= self.size);
        if !is_within {
            return Err(invalid(format!("it has no {length} bytes at {start}")));
        }
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self.file.read_at(start + filled as u64, &mut bytes[filled..])? {
                0 => return Err(invalid("it has become shorter while it is read")),
                read => filled += read,
            }
        }
        Ok(bytes)
    }

    /// The header of the page at `start`, checked.
    fn page_header(&self, start: u64) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.size.saturating_sub(start)).unwrap_or(usize::MAX);
        let mut length = HEADER_BYTES;
        loop {
            let mut bytes = self.read(start, length.min(left))?;
            match compact::check_page_header(&bytes, &PAGE_HEADER) {
                Ok((_, size)) if size > PAGE_BYTES_MAX as i64 => {
                    return Err(invalid(format!("a page of it has {size} bytes")));
                }
                Ok((length, _)) => {
                    bytes.truncate(length);
                    return Ok(bytes);
                }
                Err(Flaw::Short) if length < left.min(HEADER_BYTES_MAX) => length *= 8,
                Err(Flaw::Short) => return Err(invalid("the header of a page does not end")),
                Err(Flaw::Wrong(reason)) => return Err(invalid(reason)),
            }
        }
    }
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

impl Length for FileBytes {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for FileBytes {
    type T = HeaderBytes;

    /// The library reads nothing but headers of pages this way.
    fn get_read(&self, start: u64) -> ParquetResult<HeaderBytes> {
        Ok(HeaderBytes { file: self.clone(), start, header: None, at: 0 })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        if length > PAGE_BYTES_MAX {
            return Err(ParquetError::General(format!("a page of it has {length} bytes")));
        }
        Ok(self.read(start, length)?.into())
    }
}

/// The header of a page, read when it is asked for and checked before anything of it is handed out.
#[derive(Debug)]
pub struct HeaderBytes {
    file: FileBytes,
    start: u64,
    header: Option<Vec<u8>>,
    at: usize,
}

impl Read for HeaderBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let header = match &mut self.header {
            Some(header) => header,
            none => none.insert(self.file.page_header(self.start)?),
        };
        let count = buffer.len().min(header.len() - self.at);
        buffer[..count].copy_from_slice(&header[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
