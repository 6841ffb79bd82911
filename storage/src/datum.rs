//! One value of one column, outside of any Arrow array: what keyed operations carry.
//! Never used on a hot path over many rows; those are batches.

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{DataType, SchemaRef},
};
use serde::{Deserialize, Serialize};

use crate::Result;

/// A single value. The Arrow type it belongs to is the column's; the variants are wide enough for
/// every scalar type a table column may have (nested columns travel as [`Datum::Nested`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Datum {
    /// SQL NULL.
    Null,
    /// BOOLEAN.
    Bool(bool),
    /// Int8, Int16, Int32, Int64, Date32 (days), Time64 and Timestamp (µs): the raw integer.
    Int(i64),
    /// Float32 and Float64.
    Float(f64),
    /// Decimal128: the unscaled value; scale is the column's.
    Decimal(i128),
    /// Utf8.
    Text(String),
    /// Binary and FixedSizeBinary.
    Bytes(Vec<u8>),
    /// Interval: months, days, nanoseconds.
    Interval(i32, i32, i64),
    /// List and Struct: an Arrow IPC stream of one row and one column.
    Nested(Vec<u8>),
}

/// One value per column of a projection, in its order.
pub type Row = Vec<Datum>;

/// Value `index` of `array`.
pub fn datum_at(array: &ArrayRef, index: usize) -> Result<Datum> {
    let _ = (array, index);
    unimplemented!("owner: storage helper")
}

/// An array of `data_type` holding `values`.
pub fn array_of(values: &[Datum], data_type: &DataType) -> Result<ArrayRef> {
    let _ = (values, data_type);
    unimplemented!("owner: storage helper")
}

/// A batch of `schema` holding `rows`.
pub fn batch_of(rows: &[Row], schema: &SchemaRef) -> Result<RecordBatch> {
    let _ = (rows, schema);
    unimplemented!("owner: storage helper")
}
