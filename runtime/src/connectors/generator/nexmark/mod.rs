//! `kind = 'nexmark'`: the auction site of the Nexmark benchmark as one stream of events. Columns
//! are built straight into Arrow arrays, and only those (and, of a STRUCT, only those children)
//! that the query reads: the fields of an event are independent draws at its number.
//!
//! ```text
//!   number mod 50    0 │ 1 2 3   │ 4 … 49        person : auction : bid = 1 : 3 : 46
//!   event_type       0 │ 1 1 1   │ 2 … 2
//! ```
//! Ids: the person of an epoch of 50 is 1000 + epoch, its auctions 1000 + 3·epoch + 0..3. Bids and
//! auctions refer to recent persons and auctions, a few of them hot. Distributions are those of the
//! Nexmark generator except that the offset of the first person is added once.

mod auction;
mod bid;
mod model;
mod person;

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StructArray,
    },
    buffer::NullBuffer,
    datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit},
};

use self::model::{Batch, Record};
use super::{
    schedule::Schedule,
    sequence::time_or_integer,
    source::{BLOCK_ROWS, Rows},
};
use crate::{Error, Result};

/// Rows of a batch with texts in it: a text costs as much as ten numbers.
const TEXT_BATCH_ROWS: u64 = 1024;

/// Columns when none are declared.
pub fn schema() -> SchemaRef {
    let time = || DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![
        Field::new("event_type", DataType::Int32, false),
        Field::new("person", DataType::Struct(person::fields()), true),
        Field::new("auction", DataType::Struct(auction::fields()), true),
        Field::new("bid", DataType::Struct(bid::fields()), true),
        Field::new("date_time", time(), false),
    ]))
}

/// Fields of a record from names and types; nullable, as the record is.
fn record_fields(columns: &[(&str, DataType)]) -> Fields {
    columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect()
}

#[derive(Debug, Clone)]
enum Column {
    EventType,
    DateTime,
    /// A record and, by child, whether it is read.
    Record(Record, Vec<bool>),
}

/// Makes the rows of a Nexmark stream.
#[derive(Debug, Clone)]
pub struct NexmarkRows {
    schema: SchemaRef,
    columns: Vec<Column>,
    seed: u64,
    has_text: bool,
    times: Vec<i64>,
}

impl NexmarkRows {
    /// Rows with the columns of `schema`, each one of [`schema`]'s. `struct_fields` names, by
    /// column position, the children that are read.
    pub fn new(
        schema: SchemaRef,
        struct_fields: &BTreeMap<usize, Vec<usize>>,
        seed: u64,
    ) -> Result<Self> {
        let mut columns = Vec::with_capacity(schema.fields().len());
        let mut has_text = false;
        for (position, field) in schema.fields().iter().enumerate() {
            let record = match field.name().as_str() {
                "event_type" => {
                    columns.push(Column::EventType);
                    continue;
                }
                "date_time" => {
                    columns.push(Column::DateTime);
                    continue;
                }
                "person" => Record::Person,
                "auction" => Record::Auction,
                "bid" => Record::Bid,
                other => {
                    return Err(Error::Internal(format!("nexmark has no column \"{other}\"")));
                }
            };
            let children = children_of(field)?;
            let wanted = struct_fields.get(&position);
            let is_wanted = |child: usize| wanted.is_none_or(|wanted| wanted.contains(&child));
            has_text |= children
                .iter()
                .enumerate()
                .any(|(child, field)| is_wanted(child) && *field.data_type() == DataType::Utf8);
            columns.push(Column::Record(record, (0..children.len()).map(is_wanted).collect()));
        }
        Ok(Self { schema, columns, seed, has_text, times: Vec::new() })
    }
}

fn children_of(field: &Field) -> Result<&Fields> {
    match field.data_type() {
        DataType::Struct(children) => Ok(children),
        other => Err(Error::Internal(format!("nexmark record of type {other}"))),
    }
}

impl Rows for NexmarkRows {
    fn batch(&mut self, schedule: &Schedule, first: u64, length: usize) -> Result<RecordBatch> {
        schedule.times(first, length, &mut self.times);
        let batch = Batch::new(first, length, self.seed, schedule, &self.times);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter().zip(self.schema.fields()) {
            arrays.push(match column {
                Column::EventType if *field.data_type() == DataType::Int64 => {
                    Arc::new(Int64Array::from_iter_values(batch.kinds().map(i64::from)))
                }
                Column::EventType => Arc::new(Int32Array::from_iter_values(batch.kinds())),
                Column::DateTime => time_or_integer(batch.times.to_vec(), field.data_type()),
                Column::Record(record, wanted) => {
                    record_array(&batch, *record, wanted, children_of(field)?)?
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(length));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }

    fn batch_rows(&self) -> u64 {
        if self.has_text { TEXT_BATCH_ROWS } else { BLOCK_ROWS }
    }
}

/// The struct column of one record: null in the rows of the others, its children too.
fn record_array(
    batch: &Batch,
    record: Record,
    wanted: &[bool],
    fields: &Fields,
) -> Result<ArrayRef> {
    let nulls = batch.nulls(record);
    let all_null = NullBuffer::new_null(batch.length);
    let child = |position: usize| {
        let is_wanted = wanted.get(position).copied().unwrap_or(true);
        if !is_wanted {
            return batch.unread(fields[position].data_type(), &all_null);
        }
        match record {
            Record::Person => person::child(batch, position, &nulls),
            Record::Auction => auction::child(batch, position, &nulls),
            Record::Bid => bid::child(batch, position, &nulls),
        }
    };
    let children = (0..fields.len()).map(child).collect::<Result<Vec<_>>>()?;
    let array = StructArray::try_new(fields.clone(), children, Some(nulls))?;
    debug_assert_eq!(array.len(), batch.length);
    Ok(Arc::new(array))
}

#[cfg(test)]
mod tests;
