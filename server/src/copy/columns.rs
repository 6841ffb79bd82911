//! One builder a column: a field's text goes straight into an Arrow builder.
//! Integers and text have a fast way; everything else is read by `wire/types/input.rs`.

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
        FixedSizeBinaryBuilder, Float32Builder, Float64Builder, Int16Builder, Int32Builder,
        Int64Builder, IntervalMonthDayNanoBuilder, StringBuilder, Time64MicrosecondBuilder,
        TimestampMicrosecondBuilder, UInt32Builder,
    },
    datatypes::{DataType, IntervalMonthDayNano},
};
use planner::{Error, Result, SqlType, fit_text};
use storage::Datum;

use crate::wire::types::{
    NUMERIC_ANY_SCALE, NUMERIC_PRECISION_MAX, TimeZone, input, interval, parameter::decode_text,
};

/// The builder of one column.
pub struct ColumnBuilder {
    sql_type: SqlType,
    data_type: DataType,
    values: Values,
    /// Rows of a batch.
    rows: usize,
}

/// Bytes of text a row that are made room for before the first batch has shown how many there are.
const TEXT_BYTES: usize = 16;

enum Values {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Oid(UInt32Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    Numeric(Decimal128Builder, u8, i8),
    Text(StringBuilder),
    /// VARCHAR(n), CHAR(n).
    Declared(StringBuilder),
    Json(StringBuilder),
    Bytea(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Timestamptz(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
    Uuid(FixedSizeBinaryBuilder),
    /// Arrays, and whatever else is rare.
    Other(Vec<Datum>),
}

impl ColumnBuilder {
    /// A builder of `sql_type`, whose arrays will be of `data_type`, for batches of `rows` rows.
    pub fn new(sql_type: &SqlType, data_type: &DataType, rows: usize) -> Self {
        let values = Values::new(sql_type, rows, rows * TEXT_BYTES);
        Self { sql_type: sql_type.clone(), data_type: data_type.clone(), values, rows }
    }

    /// Adds a field.
    pub fn push(&mut self, text: &str, zone: &TimeZone) -> Result<()> {
        match &mut self.values {
            Values::Bool(values) => values.append_value(input::bool(text)?),
            Values::Int2(values) => {
                values.append_value(int(text, "smallint", -32_768, 32_767)? as i16);
            }
            Values::Int4(values) => {
                let (min, max) = (i64::from(i32::MIN), i64::from(i32::MAX));
                values.append_value(int(text, "integer", min, max)? as i32);
            }
            Values::Int8(values) => {
                values.append_value(int(text, "bigint", i64::MIN, i64::MAX)?);
            }
            Values::Oid(values) => {
                values.append_value(int(text, "oid", 0, i64::from(u32::MAX))? as u32);
            }
            Values::Float4(values) => values.append_value(input::float4(text)?),
            Values::Float8(values) => values.append_value(input::float8(text)?),
            Values::Numeric(values, precision, scale) => {
                values.append_value(input::numeric(text, *precision, *scale)?);
            }
            Values::Text(values) => values.append_value(text),
            Values::Declared(values) => values.append_value(fit_text(text, &self.sql_type)?),
            Values::Json(values) => {
                input::json(text)?;
                values.append_value(text);
            }
            Values::Bytea(values) => values.append_value(input::bytea(text)?),
            Values::Date(values) => values.append_value(input::date(text)?),
            Values::Time(values) => values.append_value(input::time(text)?),
            Values::Timestamp(values) => values.append_value(input::timestamp(text)?),
            Values::Timestamptz(values) => values.append_value(input::timestamptz(text, zone)?),
            Values::Interval(values) => {
                let (months, days, nanos) = interval::interval(text)?;
                values.append_value(IntervalMonthDayNano::new(months, days, nanos));
            }
            Values::Uuid(values) => values.append_value(input::uuid(text)?).map_err(internal)?,
            Values::Other(values) => values.push(decode_text(text, &self.sql_type, zone)?),
        }
        Ok(())
    }

    /// Adds a NULL.
    pub fn push_null(&mut self) {
        match &mut self.values {
            Values::Bool(values) => values.append_null(),
            Values::Int2(values) => values.append_null(),
            Values::Int4(values) => values.append_null(),
            Values::Int8(values) => values.append_null(),
            Values::Oid(values) => values.append_null(),
            Values::Float4(values) => values.append_null(),
            Values::Float8(values) => values.append_null(),
            Values::Numeric(values, ..) => values.append_null(),
            Values::Text(values) | Values::Declared(values) | Values::Json(values) => {
                values.append_null();
            }
            Values::Bytea(values) => values.append_null(),
            Values::Date(values) => values.append_null(),
            Values::Time(values) => values.append_null(),
            Values::Timestamp(values) | Values::Timestamptz(values) => values.append_null(),
            Values::Interval(values) => values.append_null(),
            Values::Uuid(values) => values.append_null(),
            Values::Other(values) => values.push(Datum::Null),
        }
    }

    /// The array of all fields so far; the builder starts again.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        use std::sync::Arc;
        let array: ArrayRef = match &mut self.values {
            Values::Bool(values) => Arc::new(values.finish()),
            Values::Int2(values) => Arc::new(values.finish()),
            Values::Int4(values) => Arc::new(values.finish()),
            Values::Int8(values) => Arc::new(values.finish()),
            Values::Oid(values) => Arc::new(values.finish()),
            Values::Float4(values) => Arc::new(values.finish()),
            Values::Float8(values) => Arc::new(values.finish()),
            Values::Numeric(values, precision, scale) => {
                let array = values.finish().with_precision_and_scale(*precision, *scale);
                Arc::new(array.map_err(internal)?)
            }
            Values::Text(values) | Values::Declared(values) | Values::Json(values) => {
                Arc::new(values.finish())
            }
            Values::Bytea(values) => Arc::new(values.finish()),
            Values::Date(values) => Arc::new(values.finish()),
            Values::Time(values) => Arc::new(values.finish()),
            Values::Timestamp(values) => Arc::new(values.finish()),
            Values::Timestamptz(values) => Arc::new(values.finish().with_timezone("UTC")),
            Values::Interval(values) => Arc::new(values.finish()),
            Values::Uuid(values) => Arc::new(values.finish()),
            Values::Other(values) => {
                storage::datum::array_of(&std::mem::take(values), &self.data_type)?
            }
        };
        // As much room again as this batch took: growing by doubling would copy every batch's text.
        let text_bytes = match array.data_type() {
            DataType::Utf8 => array.as_string::<i32>().value_data().len(),
            _ => 0,
        };
        self.values = Values::new(&self.sql_type, self.rows, text_bytes + text_bytes / 8);
        match array.data_type() == &self.data_type {
            true => Ok(array),
            false => arrow::compute::cast(&array, &self.data_type).map_err(internal),
        }
    }
}

impl Values {
    /// Empty builders with room for `rows` values, `text_bytes` of them in all if they are text.
    fn new(sql_type: &SqlType, rows: usize, text_bytes: usize) -> Self {
        match sql_type {
            SqlType::Bool => Values::Bool(BooleanBuilder::with_capacity(rows)),
            SqlType::Int2 => Values::Int2(Int16Builder::with_capacity(rows)),
            SqlType::Int4 => Values::Int4(Int32Builder::with_capacity(rows)),
            SqlType::Int8 => Values::Int8(Int64Builder::with_capacity(rows)),
            SqlType::Oid => Values::Oid(UInt32Builder::with_capacity(rows)),
            SqlType::Float4 => Values::Float4(Float32Builder::with_capacity(rows)),
            SqlType::Float8 => Values::Float8(Float64Builder::with_capacity(rows)),
            SqlType::Numeric(precision, scale) => Values::numeric(rows, *precision, *scale),
            SqlType::NumericAny => Values::numeric(rows, NUMERIC_PRECISION_MAX, NUMERIC_ANY_SCALE),
            SqlType::Text => Values::Text(StringBuilder::with_capacity(rows, text_bytes)),
            SqlType::Varchar(None) => Values::Text(StringBuilder::with_capacity(rows, text_bytes)),
            SqlType::Varchar(Some(_)) | SqlType::Bpchar(_) => {
                Values::Declared(StringBuilder::with_capacity(rows, text_bytes))
            }
            SqlType::Json | SqlType::Jsonb => Values::Json(StringBuilder::new()),
            SqlType::Bytea => Values::Bytea(BinaryBuilder::new()),
            SqlType::Date => Values::Date(Date32Builder::with_capacity(rows)),
            SqlType::Time => Values::Time(Time64MicrosecondBuilder::with_capacity(rows)),
            SqlType::Timestamp => {
                Values::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows))
            }
            SqlType::Timestamptz => {
                Values::Timestamptz(TimestampMicrosecondBuilder::with_capacity(rows))
            }
            SqlType::Interval => Values::Interval(IntervalMonthDayNanoBuilder::new()),
            SqlType::Uuid => Values::Uuid(FixedSizeBinaryBuilder::new(16)),
            _ => Values::Other(Vec::new()),
        }
    }

    fn numeric(rows: usize, precision: u8, scale: i8) -> Self {
        Self::Numeric(Decimal128Builder::with_capacity(rows), precision, scale)
    }
}

fn internal(error: arrow::error::ArrowError) -> Error {
    Error::new("XX000", error.to_string())
}

/// An integer: up to 18 plain digits here, the rest by the general way.
fn int(text: &str, type_name: &str, min: i64, max: i64) -> Result<i64> {
    let bytes = text.as_bytes();
    let (is_negative, digits) = match bytes.first() {
        Some(b'-') => (true, &bytes[1..]),
        _ => (false, bytes),
    };
    if digits.is_empty() || digits.len() > 18 {
        return input::int(text, type_name, min, max);
    }
    let mut value = 0i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return input::int(text, type_name, min, max);
        }
        value = value * 10 + i64::from(digit);
    }
    let value = if is_negative { -value } else { value };
    match (min..=max).contains(&value) {
        true => Ok(value),
        false => Err(input::out_of_range(type_name, text)),
    }
}
