//! `Records`: the records of a split, one after the other, read through one buffer in large pieces.
//! A record ends at a line end; in CSV not within quotes. Its line end is not part of it.

use std::sync::Arc;

use memchr::{memchr, memchr2};
use storage::env::ReadFile;

use super::{
    folder::{Folder, failed},
    split::Split,
};
use crate::{Error, Result};

/// Bytes read at once: fewer calls than that gain nothing.
const READ_BYTES: usize = 1 << 20;
/// Bytes of one record; a file without line ends is a mistake that must not fill the memory.
const RECORD_BYTES_MAX: usize = 64 << 20;
/// A mark that some programs put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The records of one split.
#[derive(Debug)]
pub struct Records {
    file: Arc<dyn ReadFile>,
    split: Split,
    has_quotes: bool,
    /// As the mapping would name the file, for messages.
    shown: String,
    buffer: Vec<u8>,
    /// Offset in the file of the first byte in the buffer.
    base: u64,
    /// Where the next record begins in the buffer.
    at: usize,
    /// What of the buffer was read.
    filled: usize,
}

/// A record's place in the buffer, and in the file.
#[derive(Debug, Clone, Copy)]
struct Found {
    start: usize,
    end: usize,
    /// Where the one behind begins.
    next: usize,
}

impl Records {
    /// Opens the file of a split.
    pub fn open(folder: &Folder, split: Split, has_quotes: bool) -> Result<Self> {
        let file = folder.read(&split.file)?;
        let shown = folder.shown(&split.file);
        let size =
            file.size().map_err(|error| failed(&format!("read file \"{shown}\""), &error))?;
        if size < split.size {
            let message = format!("file \"{shown}\" has become shorter while it is read");
            return Err(Error::User { code: "58030", message });
        }
        let base = split.next;
        let (buffer, at, filled) = (Vec::new(), 0, 0);
        let mut records = Self { file, split, has_quotes, shown, buffer, base, at, filled };
        records.skip_to_start()?;
        Ok(records)
    }

    /// The next record of the split and where it begins in the file.
    pub fn next_record(&mut self) -> Result<Option<(u64, &[u8])>> {
        if self.split.next >= self.split.end {
            return Ok(None);
        }
        let offset = self.split.next;
        let Some(found) = self.find()? else {
            self.split.next = self.split.end;
            return Ok(None);
        };
        self.at = found.next;
        self.split.next = self.base + found.next as u64;
        Ok(Some((offset, &self.buffer[found.start..found.end])))
    }

    /// What is left of the split.
    pub fn rest(&self) -> &Split {
        &self.split
    }

    /// Goes on at another place, where a record begins.
    pub fn skip_to(&mut self, offset: u64) {
        if self.split.next < offset {
            self.split.next = offset;
            (self.base, self.at, self.filled) = (offset, 0, 0);
        }
    }

    /// Its name, for messages.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Bytes held between calls.
    pub fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Leaves out what is another split's, and the mark before the first record of a file.
    fn skip_to_start(&mut self) -> Result<()> {
        if self.split.is_cut {
            // A record that begins right here is behind the line end before it.
            self.base -= 1;
            let found = self.find()?;
            self.at = found.map_or(self.filled, |found| found.next);
            self.split.next = self.base + self.at as u64;
            self.split.is_cut = false;
        } else if self.split.next == 0 {
            self.fill()?;
            if self.buffer[..self.filled].starts_with(BYTE_ORDER_MARK) {
                self.at = BYTE_ORDER_MARK.len();
                self.split.next = self.at as u64;
            }
        }
        Ok(())
    }

    /// The record that begins at `at`; `None` at the end of the file.
    fn find(&mut self) -> Result<Option<Found>> {
        let mut scanned = self.at;
        let mut is_quoted = false;
        loop {
            let hit = match self.has_quotes {
                false => memchr(b'\n', &self.buffer[scanned..self.filled]),
                true => memchr2(b'\n', b'"', &self.buffer[scanned..self.filled]),
            };
            match hit.map(|hit| scanned + hit) {
                Some(hit) if self.buffer[hit] == b'"' => {
                    is_quoted = !is_quoted;
                    scanned = hit + 1;
                }
                Some(hit) if is_quoted => scanned = hit + 1,
                Some(hit) => {
                    let has_return = hit > self.at && self.buffer[hit - 1] == b'\r';
                    let end = if has_return { hit - 1 } else { hit };
                    return Ok(Some(Found { start: self.at, end, next: hit + 1 }));
                }
                None => {
                    // The buffer may move: places in it are counted from `at`.
                    let done = self.filled - self.at;
                    if !self.fill()? {
                        let (start, end) = (self.at, self.filled);
                        return Ok((start < end).then_some(Found { start, end, next: end }));
                    }
                    scanned = self.at + done;
                }
            }
        }
    }

    /// Reads more behind what is left; `false` at the end of the file.
    fn fill(&mut self) -> Result<bool> {
        if self.at > 0 {
            self.buffer.copy_within(self.at..self.filled, 0);
            self.base += self.at as u64;
            self.filled -= self.at;
            self.at = 0;
        }
        let room = self.split.size.saturating_sub(self.base + self.filled as u64);
        if room == 0 {
            return Ok(false);
        }
        if self.filled >= RECORD_BYTES_MAX {
            let (shown, at) = (&self.shown, self.base);
            return Err(Error::User {
                code: "54000",
                message: format!(
                    "the record at byte {at} of file \"{shown}\" is longer than {} MiB",
                    RECORD_BYTES_MAX >> 20
                ),
            });
        }
        if self.buffer.len() < self.filled + READ_BYTES {
            self.buffer.resize((self.buffer.len() * 2).max(self.filled + READ_BYTES), 0);
        }
        let wanted = self.buffer.len().min(self.filled.saturating_add(room as usize));
        let read = self
            .file
            .read_at(self.base + self.filled as u64, &mut self.buffer[self.filled..wanted])
            .map_err(|error| failed(&format!("read file \"{}\"", self.shown), &error))?;
        if read == 0 {
            let message = format!("file \"{}\" has become shorter while it is read", self.shown);
            return Err(Error::User { code: "58030", message });
        }
        self.filled += read;
        Ok(true)
    }
}
