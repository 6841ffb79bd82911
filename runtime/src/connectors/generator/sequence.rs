//! `kind = 'sequence'`: `id` (the event number), `k` (uniform over `keys`), `v` (uniform below
//! 10⁶) and `ts` (event time); all BIGINT, `ts` in µs since the epoch or declared a timestamp.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, PrimitiveArray, RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType},
};

use super::{random::Stream, schedule::Schedule, source::Rows};
use crate::{Error, Result};

/// `v` is below this.
const VALUE_BOUND: u64 = 1_000_000;

/// Columns when none are declared.
pub fn schema() -> SchemaRef {
    let column = |name: &str| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![column("id"), column("k"), column("v"), column("ts")]))
}

#[derive(Debug, Clone, Copy)]
enum Column {
    Id,
    Key,
    Value,
    Time,
}

/// Makes the rows of a sequence.
#[derive(Debug, Clone)]
pub struct SequenceRows {
    schema: SchemaRef,
    columns: Vec<Column>,
    keys: u64,
    key: Stream,
    value: Stream,
    times: Vec<i64>,
}

impl SequenceRows {
    /// Rows with the columns of `schema`, each one of [`schema`]'s.
    pub fn new(schema: SchemaRef, keys: u64, seed: u64) -> Result<Self> {
        let columns = schema
            .fields()
            .iter()
            .map(|field| match field.name().as_str() {
                "id" => Ok(Column::Id),
                "k" => Ok(Column::Key),
                "v" => Ok(Column::Value),
                "ts" => Ok(Column::Time),
                other => Err(Error::Internal(format!("a sequence has no column \"{other}\""))),
            })
            .collect::<Result<_>>()?;
        let (key, value) = (Stream::new(seed, 1), Stream::new(seed, 2));
        Ok(Self { schema, columns, keys, key, value, times: Vec::new() })
    }
}

impl Rows for SequenceRows {
    fn batch(&mut self, schedule: &Schedule, first: u64, length: usize) -> Result<RecordBatch> {
        let numbers = first..first + length as u64;
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (position, column) in self.columns.iter().enumerate() {
            let values: Vec<i64> = match column {
                Column::Id => numbers.clone().map(|n| n as i64).collect(),
                Column::Key => {
                    numbers.clone().map(|n| self.key.below(n, self.keys) as i64).collect()
                }
                Column::Value => {
                    numbers.clone().map(|n| self.value.below(n, VALUE_BOUND) as i64).collect()
                }
                Column::Time => {
                    schedule.times(first, length, &mut self.times);
                    self.times.clone()
                }
            };
            arrays.push(time_or_integer(values, self.schema.field(position).data_type()));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(length));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }
}

/// An array of `values` as BIGINT, or as the timestamps they are in µs.
pub fn time_or_integer(values: Vec<i64>, data_type: &DataType) -> ArrayRef {
    match data_type {
        DataType::Timestamp(_, _) => Arc::new(
            PrimitiveArray::<TimestampMicrosecondType>::from(values)
                .with_data_type(data_type.clone()),
        ),
        _ => Arc::new(Int64Array::from(values)),
    }
}
