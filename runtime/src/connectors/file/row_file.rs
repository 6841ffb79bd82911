//! `RowFile`: one file that is being written, row by row through one buffer.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::Field};
use storage::env::WriteFile;

use super::folder::failed;
use crate::{
    Error, Result,
    encode::format::{Encoder, Texts},
};

/// Bytes collected before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// How the rows of a mapping are spelled.
#[derive(Debug)]
pub struct Spelling {
    /// Writes a row.
    pub encoder: Encoder,
    /// The columns.
    pub fields: Vec<Field>,
}

/// A file in the making.
#[derive(Debug)]
pub struct RowFile {
    spelling: Arc<Spelling>,
    file: Box<dyn WriteFile>,
    /// Its name, for messages.
    shown: String,
    buffer: Vec<u8>,
    written: u64,
}

impl RowFile {
    /// Begins an empty file.
    pub fn new(spelling: Arc<Spelling>, file: Box<dyn WriteFile>, shown: String) -> Self {
        let buffer = spelling.encoder.header().to_vec();
        Self { spelling, file, shown, buffer, written: 0 }
    }

    /// Appends rows, a line each.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let spelling = Arc::clone(&self.spelling);
        let texts = Texts::new(&spelling.fields, rows)?;
        for row in 0..rows.num_rows() {
            if !spelling.encoder.write(&texts, row, &mut self.buffer)? {
                let name = spelling.fields.first().map_or("", |field| field.name());
                return Err(Error::User {
                    code: "22004",
                    message: format!("column \"{name}\": NULL cannot be written as JSON text"),
                });
            }
            self.buffer.push(b'\n');
            if self.buffer.len() >= WRITE_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Bytes it has, those that are not written yet included.
    pub fn size(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Bytes held between calls.
    pub fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Writes what is left and makes all of it survive a crash.
    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.file.sync().map_err(|error| failed(&format!("sync file \"{}\"", self.shown), &error))
    }

    fn flush(&mut self) -> Result<()> {
        let writing = || format!("write file \"{}\"", self.shown);
        self.file.append(&self.buffer).map_err(|error| failed(&writing(), &error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
