//! Operations and answers as bytes: postcard around Arrow IPC, as they travel between members.
//! Used on every operation when owners are simulated, so that nothing that cannot travel gets in.

use std::sync::Arc;

use arrow::{
    array::{BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array},
    compute::{concat_batches, filter_record_batch, take_record_batch},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::{
    capture::Piece,
    op::{Answer, Request, RoutedRows, Run},
};
use crate::{
    Error, Result,
    datum::{batch_from_ipc, batch_to_ipc},
};

/// A request as bytes.
pub(crate) fn encode_request(request: &Request<'_>) -> Result<Vec<u8>> {
    postcard::to_stdvec(request).map_err(internal)
}

/// The request behind bytes.
pub(crate) fn decode_request(bytes: &[u8]) -> Result<Request<'static>> {
    postcard::from_bytes(bytes).map_err(internal)
}

/// An answer, or the error in its place, as bytes.
pub(crate) fn encode_answer(answer: Result<Answer>) -> Result<Vec<u8>> {
    postcard::to_stdvec(&answer.map_err(WireError::from)).map_err(internal)
}

/// The answer behind bytes.
pub(crate) fn decode_answer(bytes: &[u8]) -> Result<Answer> {
    let answer: Result<Answer, WireError> = postcard::from_bytes(bytes).map_err(internal)?;
    answer.map_err(Error::from)
}

/// Rows travel in the order of their partitions, without those of other owners.
#[derive(Serialize, Deserialize)]
struct WireRows {
    batch: Vec<u8>,
    hashes: Vec<u64>,
    /// Counted from the first row that travels.
    runs: Vec<Run>,
}

/// The errors an owner may answer with.
#[derive(Debug, Serialize, Deserialize)]
enum WireError {
    TableNotFound(String),
    DuplicateKey { table: String, detail: String },
    NullValue { table: String, column: String },
    Conflict,
    Limit(String),
    Invalid(String),
    WrongState(String),
    Unavailable(u16),
    Internal(String),
}

impl Serialize for RoutedRows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut order = Vec::new();
        let runs = self.runs.iter().map(|run| {
            let start = order.len() as u32;
            order.extend_from_slice(&self.order[run.start as usize..run.end as usize]);
            Run { partition: run.partition, start, end: order.len() as u32 }
        });
        let runs = runs.collect();
        let hashes = order.iter().map(|row| self.hashes[*row as usize]).collect();
        let rows = take_record_batch(&self.batch, &UInt32Array::from(order));
        let batch = rows.map_err(Error::from).and_then(|rows| batch_to_ipc(&rows));
        WireRows { batch: batch.map_err(ser::Error::custom)?, hashes, runs }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RoutedRows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireRows::deserialize(deserializer)?;
        let batch = batch_from_ipc(&wire.batch).map_err(de::Error::custom)?;
        let rows = batch.num_rows();
        let are_within =
            wire.runs.iter().all(|run| run.start <= run.end && run.end as usize <= rows);
        if wire.hashes.len() != rows || !are_within {
            return Err(de::Error::custom("rows, hashes and runs do not fit together"));
        }
        let order = (0..rows as u32).collect();
        let (hashes, order) = (Arc::new(wire.hashes), Arc::new(order));
        Ok(Self { batch, hashes, order, runs: wire.runs })
    }
}

/// A batch as an Arrow IPC stream (`#[serde(with)]`).
pub(crate) mod ipc {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        batch: &RecordBatch,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        batch_to_ipc(batch).map_err(ser::Error::custom)?.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<RecordBatch, D::Error> {
        batch_from_ipc(&Vec::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Batches as Arrow IPC streams (`#[serde(with)]`).
pub(crate) mod batches {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        batches: &[RecordBatch],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let bytes = batches.iter().map(batch_to_ipc).collect::<Result<Vec<_>>>();
        bytes.map_err(ser::Error::custom)?.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<RecordBatch>, D::Error> {
        let bytes = Vec::<Vec<u8>>::deserialize(deserializer)?;
        bytes
            .iter()
            .map(|bytes| batch_from_ipc(bytes))
            .collect::<Result<_>>()
            .map_err(de::Error::custom)
    }
}

/// Captured pieces as one batch of the rows that the reader sees (`#[serde(with)]`).
pub(crate) mod pieces {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        pieces: &[Piece],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let merged = merge(pieces).map_err(ser::Error::custom)?;
        let bytes = merged.map(|batch| batch_to_ipc(&batch)).transpose();
        bytes.map_err(ser::Error::custom)?.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Piece>, D::Error> {
        let Some(bytes) = Option::<Vec<u8>>::deserialize(deserializer)? else {
            return Ok(Vec::new());
        };
        let batch = batch_from_ipc(&bytes).map_err(de::Error::custom)?;
        Ok(vec![Piece { batch, mask: None }])
    }

    fn merge(pieces: &[Piece]) -> Result<Option<RecordBatch>> {
        let Some(first) = pieces.first() else { return Ok(None) };
        let schema = first.batch.schema();
        if schema.fields().is_empty() {
            let rows = pieces.iter().map(Piece::len).sum();
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            return Ok(Some(RecordBatch::try_new_with_options(schema, vec![], &options)?));
        }
        let seen = pieces.iter().map(|piece| match &piece.mask {
            Some(mask) => filter_record_batch(&piece.batch, &BooleanArray::new(mask.clone(), None)),
            None => Ok(piece.batch.clone()),
        });
        let seen = seen.collect::<Result<Vec<_>, _>>()?;
        Ok(Some(concat_batches(&schema, &seen)?))
    }
}

impl From<Error> for WireError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound { kind: "table", name } => WireError::TableNotFound(name),
            Error::DuplicateKey { table, detail } => WireError::DuplicateKey { table, detail },
            Error::NullValue { table, column } => WireError::NullValue { table, column },
            Error::Conflict => WireError::Conflict,
            Error::Limit(text) => WireError::Limit(text),
            Error::Invalid(text) => WireError::Invalid(text),
            Error::WrongState(text) => WireError::WrongState(text),
            Error::Unavailable(partition) => WireError::Unavailable(partition),
            Error::Internal(text) => WireError::Internal(text),
            other => WireError::Internal(other.to_string()),
        }
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        match error {
            WireError::TableNotFound(name) => Error::NotFound { kind: "table", name },
            WireError::DuplicateKey { table, detail } => Error::DuplicateKey { table, detail },
            WireError::NullValue { table, column } => Error::NullValue { table, column },
            WireError::Conflict => Error::Conflict,
            WireError::Limit(text) => Error::Limit(text),
            WireError::Invalid(text) => Error::Invalid(text),
            WireError::WrongState(text) => Error::WrongState(text),
            WireError::Unavailable(partition) => Error::Unavailable(partition),
            WireError::Internal(text) => Error::Internal(text),
        }
    }
}

fn internal(error: postcard::Error) -> Error {
    Error::Internal(format!("an operation as bytes: {error}"))
}
