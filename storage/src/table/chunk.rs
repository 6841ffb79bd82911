//! `Chunk`: a sealed, immutable piece of a partition's rows as Arrow arrays, and its dead rows.
//! The unit of scan (and later of snapshot, backup and disk); a row never moves inside it.

use arrow::{
    array::{Array, RecordBatch},
    buffer::{BooleanBuffer, ScalarBuffer},
    datatypes::DataType,
};

use super::schema::TableSchema;
use crate::{
    Result,
    value::{ColumnReader, Value},
};

/// Sealed rows.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Unique in the partition, also after the chunk's place is used again: makes row versions.
    pub(crate) generation: u64,
    /// All columns.
    pub(crate) batch: RecordBatch,
    /// The single integer key column, so that a probe needs no downcast.
    integer_key: IntegerKey,
    /// Rows that no reader needs.
    pub(crate) dead: Dead,
    /// Memory of the arrays, in bytes.
    pub(crate) bytes: usize,
}

/// A bitmap of dead rows; takes no memory while there is none.
#[derive(Debug, Default, Clone)]
pub(crate) struct Dead {
    words: Vec<u64>,
    count: usize,
}

#[derive(Debug)]
enum IntegerKey {
    Wide(ScalarBuffer<i64>),
    Narrow(ScalarBuffer<i32>),
    Other,
}

impl Chunk {
    /// Seals `batch`.
    pub(crate) fn new(
        schema: &TableSchema,
        generation: u64,
        batch: RecordBatch,
        dead: Dead,
    ) -> Self {
        let integer_key = match schema.key() {
            [key] if schema.is_integer_key() => IntegerKey::of(batch.column(*key).as_ref()),
            _ => IntegerKey::Other,
        };
        let bytes = batch.get_array_memory_size();
        Self { generation, batch, integer_key, dead, bytes }
    }

    /// Number of rows, dead ones included.
    pub(crate) fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// The integer key of row `row`, if the table has one.
    pub(crate) fn integer_key(&self, row: usize) -> Option<i64> {
        match &self.integer_key {
            IntegerKey::Wide(keys) => Some(keys[row]),
            IntegerKey::Narrow(keys) => Some(keys[row].into()),
            IntegerKey::Other => None,
        }
    }

    /// The value of one column of one row.
    pub(crate) fn value(&self, row: usize, column: usize) -> Result<Value<'_>> {
        Ok(ColumnReader::new(self.batch.column(column))?.value(row))
    }
}

impl IntegerKey {
    fn of(column: &dyn Array) -> Self {
        let (data, len) = (column.to_data(), column.len());
        match column.data_type() {
            DataType::Int64 | DataType::Time64(_) | DataType::Timestamp(..) => {
                Self::Wide(ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), len))
            }
            DataType::Int32 | DataType::Date32 => {
                Self::Narrow(ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), len))
            }
            _ => Self::Other,
        }
    }
}

impl Dead {
    /// Every row of `len` is dead.
    pub(crate) fn all(len: usize) -> Self {
        let mut words = vec![u64::MAX; len.div_ceil(64)];
        if let Some(last) = words.last_mut()
            && !len.is_multiple_of(64)
        {
            *last = (1 << (len % 64)) - 1;
        }
        Self { words, count: len }
    }

    /// Number of dead rows.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether row `row` is dead.
    pub(crate) fn contains(&self, row: usize) -> bool {
        self.words.get(row / 64).is_some_and(|word| word & (1 << (row % 64)) != 0)
    }

    /// Row `row` dies.
    pub(crate) fn insert(&mut self, row: usize) {
        let word = row / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let bit = 1 << (row % 64);
        self.count += usize::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    /// Row `row`, dead until now, begins to live.
    pub(crate) fn remove(&mut self, row: usize) {
        let bit = 1 << (row % 64);
        if let Some(word) = self.words.get_mut(row / 64)
            && *word & bit != 0
        {
            *word &= !bit;
            self.count -= 1;
        }
    }

    /// The rows of `0..len` that live, or `None` if all do.
    pub(crate) fn living(&self, len: usize) -> Option<BooleanBuffer> {
        (self.count > 0).then(|| BooleanBuffer::collect_bool(len, |row| !self.contains(row)))
    }

    /// Memory behind it, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.words.capacity() * 8
    }
}
