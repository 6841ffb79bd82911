//! `RowFile`: one file that is being written, row by row through one buffer.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::Field};
use storage::env::WriteFile;

use super::{
    folder::failed,
    writing::{Spelling, Writing},
};
use crate::{
    Error, Result,
    encode::format::{Encoder, Texts},
};

/// Bytes collected before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// How the rows of a mapping are spelled.
#[derive(Debug, Clone)]
pub struct RowSpelling(Arc<Rows>);

#[derive(Debug)]
struct Rows {
    /// Writes a row.
    encoder: Encoder,
    /// The columns.
    fields: Vec<Field>,
}

/// A file in the making.
#[derive(Debug)]
struct RowFile {
    spelling: Arc<Rows>,
    file: Box<dyn WriteFile>,
    /// Its name, for messages.
    shown: String,
    buffer: Vec<u8>,
    written: u64,
}

impl RowSpelling {
    /// By that encoder, of those columns.
    pub fn new(encoder: Encoder, fields: Vec<Field>) -> Self {
        Self(Arc::new(Rows { encoder, fields }))
    }
}

impl Spelling for RowSpelling {
    fn begin(&self, file: Box<dyn WriteFile>, shown: String) -> Result<Box<dyn Writing>> {
        let buffer = self.0.encoder.header().to_vec();
        Ok(Box::new(RowFile { spelling: Arc::clone(&self.0), file, shown, buffer, written: 0 }))
    }
}

impl Writing for RowFile {
    /// A line each.
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
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

    fn size(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn held(&self) -> usize {
        self.buffer.capacity()
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.flush()?;
        self.file.sync().map_err(|error| failed(&format!("sync file \"{}\"", self.shown), &error))
    }
}

impl RowFile {
    fn flush(&mut self) -> Result<()> {
        let writing = || format!("write file \"{}\"", self.shown);
        self.file.append(&self.buffer).map_err(|error| failed(&writing(), &error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
