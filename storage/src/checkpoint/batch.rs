//! Rows as bytes and back: the body of an Arrow IPC message, without the schema, which the reader
//! knows.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    compute::concat_batches,
    datatypes::SchemaRef,
    error::ArrowError,
    ipc::{
        reader::read_record_batch,
        root_as_message,
        writer::{
            DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext, IpcWriteOptions,
        },
    },
};

use crate::Result;

/// What each buffer begins at a multiple of: Arrow's own alignment, so that nothing is copied to be
/// read.
const ALIGNMENT: usize = 64;

/// Makes payloads; keeps its memory from one to the next.
#[derive(Default)]
pub(super) struct Encoder {
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl Encoder {
    /// Appends the payload of a batch; answers how many of its bytes describe it.
    pub(super) fn put(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<usize> {
        let mut dictionaries = DictionaryTracker::new(false);
        let generator = IpcDataGenerator::default();
        let (_, encoded) =
            generator.encode(batch, &mut dictionaries, &self.options, &mut self.context)?;
        let EncodedData { ipc_message, arrow_data } = encoded;
        let start = out.len();
        out.extend_from_slice(&ipc_message);
        let message = (out.len() - start).next_multiple_of(ALIGNMENT);
        out.resize(start + message, 0);
        out.extend_from_slice(&arrow_data);
        Ok(message)
    }
}

/// The batch behind a payload of `length` bytes at the beginning of `buffer`, of which `message`
/// describe it; in memory of its own.
pub(super) fn decode(
    buffer: &Buffer,
    length: usize,
    message: usize,
    schema: &SchemaRef,
) -> Result<RecordBatch, ArrowError> {
    let broken = |what: &str| ArrowError::IpcError(what.to_owned());
    let described = buffer.get(..message).ok_or_else(|| broken("its description is cut"))?;
    let described = root_as_message(described).map_err(|error| broken(&error.to_string()))?;
    let header = described.header_as_record_batch().ok_or_else(|| broken("it is no batch"))?;
    let body = buffer.slice_with_length(message, length - message);
    let schema = Arc::clone(schema);
    let version = described.version();
    let shared =
        read_record_batch(&body, header, Arc::clone(&schema), &HashMap::new(), None, &version)?;
    // With a second batch, if only an empty one, it is a copy: `shared` keeps the whole buffer, and
    // each of its columns counts as if it were all of it.
    concat_batches(&schema, [&shared, &shared.slice(0, 0)])
}
