//! What a record of the data log says, and its bytes: postcard, around Arrow IPC where there are many
//! rows. What does not fit into one record of the log is several, one behind the other.

use std::borrow::Cow;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use serde::{Deserialize, Serialize};

use crate::{
    Datum, Error, Result, Row,
    cluster::control::ObjectId,
    datum::{batch_from_ipc, batch_of, batch_to_ipc, datum_at},
    log::RECORD_BYTES_MAX,
    partition::PartitionId,
};

/// Rows up to which a batch is written value by value: an Arrow stream says its schema first.
const FEW_ROWS: usize = 16;

/// Bytes of rows in one record, about: a reader of the log holds a few of them at once.
const ROWS_BYTES: usize = RECORD_BYTES_MAX / 2;

/// Says that a record is whole.
const WHOLE: u8 = 0;
/// Says that it goes on in the next one.
const MORE: u8 = 1;
/// Says that one that went on ends here.
const LAST: u8 = 2;

/// One thing that happened to the rows of this member: an effect, not a wish. To apply it again, or
/// over rows that have it already, is to apply it once.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Record<'a> {
    /// The member began to serve. What no record before this one has decided is undone.
    Start,
    /// A row was written, and committed at once.
    Put { table: ObjectId, row: Cow<'a, [Datum]> },
    /// A row was removed, and that committed at once.
    Delete { table: ObjectId, key: Cow<'a, [Datum]> },
    /// All rows of a partition were removed.
    Truncate { table: ObjectId, partition: PartitionId },
    /// A writer wrote these rows, or removed those with these keys; decided by a later record.
    Rows { author: Author, table: ObjectId, is_removal: bool, rows: Rows },
    /// A writer was committed: its rows count from here on.
    Commit { writer: u64 },
    /// A writer was undone.
    Abort { writer: u64 },
    /// A snapshot of a job was committed, and with it the writers begun after older ones.
    CommitJob { run: JobRun, snapshot: u64 },
    /// What an execution of a job wrote, and no snapshot covers, was undone.
    AbortJob { run: JobRun },
}

/// One execution of a job, as the control state counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobRun {
    /// The job.
    pub job: ObjectId,
    /// Which of its executions.
    pub execution: u64,
}

/// Whose rows they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Author {
    /// A statement's or a block's; counted anew by each [`Record::Start`].
    Writer(u64),
    /// A job's, begun after snapshot `after` of this execution.
    Job { writer: u64, run: JobRun, after: u64 },
}

/// Rows of all columns, or keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Rows {
    /// Value by value.
    Few(Vec<Row>),
    /// As an Arrow IPC stream.
    Many(#[serde(with = "whole")] Vec<u8>),
}

/// Bytes that are read and written at once: the format is that of a list of them, which is decoded
/// one by one, and that takes longer than all else about them.
mod whole {
    use std::fmt::{Formatter, Result as Written};

    use serde::{Deserializer, Serializer, de::Visitor};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_byte_buf(Bytes)
    }

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, text: &mut Formatter<'_>) -> Written {
            text.write_str("bytes")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
}

impl Author {
    /// The writer's id.
    pub(crate) fn writer(&self) -> u64 {
        match self {
            Author::Writer(writer) | Author::Job { writer, .. } => *writer,
        }
    }
}

impl Record<'_> {
    /// Puts it behind `bytes` as one record of the log.
    pub(super) fn put(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.push(WHOLE);
        postcard::to_extend(self, bytes).expect("numbers, texts and bytes can be written")
    }

    /// Its bytes as records of the log: one, or several that belong together.
    pub(super) fn pieces(&self) -> Vec<Vec<u8>> {
        let whole = self.put(Vec::new());
        if whole.len() <= RECORD_BYTES_MAX {
            return vec![whole];
        }
        let parts = whole[1..].chunks(RECORD_BYTES_MAX - 1);
        let count = parts.len();
        let piece = |(number, part): (usize, &[u8])| {
            let mark = if number + 1 == count { LAST } else { MORE };
            [&[mark], part].concat()
        };
        parts.enumerate().map(piece).collect()
    }
}

/// Puts the records back together out of those of the log.
#[derive(Debug, Default)]
pub(crate) struct Joiner {
    begun: Vec<u8>,
}

impl Joiner {
    /// The record that ends with this piece, if one does.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<Option<Record<'static>>> {
        let Some((mark, part)) = piece.split_first() else {
            return Err(Error::Damaged("a record of the data log is empty".to_owned()));
        };
        let record = |bytes: &[u8]| postcard::from_bytes(bytes).map_err(unreadable);
        match *mark {
            // What had begun before was torn by a crash, and nobody was told of it.
            WHOLE => {
                self.begun.clear();
                record(part).map(Some)
            }
            LAST => {
                self.begun.extend_from_slice(part);
                record(&std::mem::take(&mut self.begun)).map(Some)
            }
            MORE => {
                self.begun.extend_from_slice(part);
                Ok(None)
            }
            other => {
                let text = format!("a record of the data log begins with {other}");
                Err(Error::Damaged(text))
            }
        }
    }
}

impl Rows {
    /// The rows of a batch, in as many parts as go well into records.
    pub(super) fn of(batch: &RecordBatch) -> Result<Vec<Self>> {
        if batch.num_rows() <= FEW_ROWS {
            let row = |row: usize| {
                batch.columns().iter().map(|column| datum_at(column, row)).collect::<Result<Row>>()
            };
            return Ok(vec![Rows::Few((0..batch.num_rows()).map(row).collect::<Result<_>>()?)]);
        }
        let bytes = batch.columns().iter().map(|column| {
            let whole = column.to_data().get_slice_memory_size();
            whole.unwrap_or_else(|_| column.get_array_memory_size())
        });
        let parts = bytes.sum::<usize>().div_ceil(ROWS_BYTES).max(1);
        let length = batch.num_rows().div_ceil(parts);
        let starts = (0..batch.num_rows()).step_by(length);
        let part = |start: usize| {
            let rows = batch.slice(start, length.min(batch.num_rows() - start));
            batch_to_ipc(&rows).map(Rows::Many)
        };
        starts.map(part).collect()
    }

    /// The rows as a batch of `schema`. Damaged if they do not fit it.
    pub(crate) fn batch(&self, schema: &SchemaRef) -> Result<RecordBatch> {
        match self {
            Rows::Few(rows) => batch_of(rows, schema),
            Rows::Many(bytes) => {
                let batch = batch_from_ipc(bytes)?;
                let types = |schema: &SchemaRef| {
                    let fields = schema.fields().iter();
                    fields.map(|field| field.data_type().clone()).collect::<Vec<_>>()
                };
                match types(&batch.schema()) == types(schema) {
                    true => Ok(batch),
                    false => {
                        Err(Error::Damaged("rows of the data log have other types".to_owned()))
                    }
                }
            }
        }
    }
}

fn unreadable(error: postcard::Error) -> Error {
    Error::Damaged(format!("a record of the data log cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{Int64Array, StringArray},
        datatypes::{DataType, Field, Schema},
    };

    use super::*;

    fn read(pieces: &[Vec<u8>]) -> Vec<Record<'static>> {
        let mut joiner = Joiner::default();
        pieces.iter().filter_map(|piece| joiner.push(piece).unwrap()).collect()
    }

    #[test]
    fn a_record_comes_back_whole_whatever_its_size() {
        for bytes in [0, 1, RECORD_BYTES_MAX - 16, RECORD_BYTES_MAX, 3 * RECORD_BYTES_MAX + 5] {
            let row = vec![Datum::Int(1), Datum::Text("x".repeat(bytes))];
            let record = Record::Put { table: ObjectId(7), row: row.into() };
            let pieces = record.pieces();
            assert!(pieces.iter().all(|piece| piece.len() <= RECORD_BYTES_MAX));
            assert_eq!(pieces.len() > 1, bytes >= RECORD_BYTES_MAX, "{bytes}");
            assert_eq!(read(&pieces), [record]);
        }
    }

    #[test]
    fn rows_come_back_in_order_from_parts_that_fit_into_records() {
        let names = [("k", DataType::Int64), ("text", DataType::Utf8)];
        let fields = names.map(|(name, data_type)| Field::new(name, data_type, true));
        let schema = Arc::new(Schema::new(fields.to_vec()));
        for (rows, width) in [(1, 3), (FEW_ROWS, 3), (FEW_ROWS + 1, 3), (4000, 1000)] {
            let keys = Int64Array::from_iter_values(0..rows as i64);
            let texts = StringArray::from_iter_values((0..rows).map(|row| {
                let text = row.to_string();
                text.repeat(width)
            }));
            let columns = vec![Arc::new(keys) as _, Arc::new(texts) as _];
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
            let parts = Rows::of(&batch).unwrap();
            assert_eq!(parts.len() > 1, width == 1000);
            let back: Vec<_> = parts.iter().map(|part| part.batch(&schema).unwrap()).collect();
            assert_eq!(arrow::compute::concat_batches(&schema, &back).unwrap(), batch);
        }
    }

    #[test]
    fn bytes_of_rows_are_written_as_a_list_of_bytes_is() {
        for length in [0, 1, 127, 128, 70_000] {
            let bytes = vec![0xA5; length];
            let many = Rows::Many(bytes.clone());
            let written = postcard::to_stdvec(&many).unwrap();
            // The variant's number, and the list.
            let list = postcard::to_stdvec(&bytes).unwrap();
            assert_eq!(written, [&[1], &list[..]].concat());
            assert_eq!(postcard::from_bytes::<Rows>(&written).unwrap(), many);
        }
    }

    #[test]
    fn a_record_whose_end_a_crash_took_does_not_spoil_the_next() {
        let row = vec![Datum::Text("x".repeat(2 * RECORD_BYTES_MAX))];
        let mut pieces = Record::Put { table: ObjectId(7), row: row.into() }.pieces();
        pieces.pop();
        pieces.extend(Record::Start.pieces());
        assert_eq!(read(&pieces), [Record::Start]);
    }

    #[test]
    fn what_is_no_record_is_named_as_damage() {
        for piece in [&[][..], &[7], &[WHOLE], &[WHOLE, 255, 255]] {
            assert!(matches!(Joiner::default().push(piece), Err(Error::Damaged(_))), "{piece:?}");
        }
    }
}
