//! `RecordDecoder`: records without a key, each of some columns of a mapping, to batches: of files,
//! and of queues.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};

use super::{
    Decoded,
    csv::{Header, Source as Place},
    format::{Decoder, Format},
};
use crate::Result;

/// Decodes records into the projected columns of a mapping.
#[derive(Debug)]
pub struct RecordDecoder {
    schema: SchemaRef,
    decoder: Decoder,
    rows: usize,
}

impl RecordDecoder {
    /// A decoder of the columns `projection`.
    pub fn new(
        (format, header): (Format, Header),
        schema: &SchemaRef,
        external: &[Option<String>],
        projection: &[usize],
    ) -> Result<Self> {
        let fields: Vec<_> = projection
            .iter()
            .map(|position| {
                let field = schema.field(*position).clone();
                let external = external.get(*position).and_then(Option::as_deref);
                let name = external.unwrap_or(field.name()).to_owned();
                (field, Place { position: *position, name })
            })
            .collect();
        let decoder = Decoder::new(format, &fields, header)?;
        Ok(Self { schema: Arc::new(schema.project(projection)?), decoder, rows: 0 })
    }

    /// Decodes a record; a poison leaves no row.
    #[inline]
    pub fn decode(&mut self, record: &[u8]) -> Decoded<()> {
        self.rows += self.decoder.decode(Some(record))?;
        Ok(())
    }

    /// Takes the names of the fields of a CSV file from its first line.
    pub fn read_header(&mut self, line: &[u8]) -> Decoded<()> {
        match &mut self.decoder {
            Decoder::Csv(csv) => csv.read_header(line),
            Decoder::JsonFlat(_) | Decoder::Whole(_) => Ok(()),
        }
    }

    /// Rows since the last [`RecordDecoder::finish`].
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The rows since the last call.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let columns = self.decoder.finish()?;
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}
