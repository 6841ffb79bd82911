//! `ColumnText`: the values of one column of a batch, found once by their type and then appended
//! row by row to a buffer: as plain text, or as a value of JSON. The mirror image of
//! [`crate::decode::column::Column`], and of the same types.

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, StringArray,
    },
    buffer::NullBuffer,
    datatypes::{
        DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int16Type,
        Int32Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    },
};

use super::{json, text};
use crate::{
    Error, Result,
    decode::{column::TYPE_KEY, excerpt, json::Scanner},
};

/// NUMERIC without a declared scale is held with this precision and scale.
const UNSCALED: (u8, i8) = (38, 18);

/// The values of one column.
#[derive(Debug)]
pub struct ColumnText<'a> {
    values: Values<'a>,
    nulls: Option<&'a NullBuffer>,
    /// JSON text: a value of JSON as it stands.
    is_json: bool,
}

#[derive(Debug)]
enum Values<'a> {
    Bool(&'a BooleanArray),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Decimal(&'a [i128], i8, IsTrimmed),
    Text(&'a StringArray),
    Binary(&'a BinaryArray),
    Date(&'a [i32]),
    Time(&'a [i64]),
    Timestamp(&'a [i64], IsInstant),
    Uuid(&'a FixedSizeBinaryArray),
}

type IsTrimmed = bool;
type IsInstant = bool;

impl<'a> ColumnText<'a> {
    /// The values of an array that is a column of that field; `None` if its type has no text.
    pub fn new(field: &Field, array: &'a ArrayRef) -> Option<Self> {
        let values = match array.data_type() {
            DataType::Boolean => Values::Bool(array.as_boolean()),
            DataType::Int16 => Values::Int16(array.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Values::Int32(array.as_primitive::<Int32Type>().values()),
            DataType::Int64 => Values::Int64(array.as_primitive::<Int64Type>().values()),
            DataType::Float32 => Values::Float32(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Values::Float64(array.as_primitive::<Float64Type>().values()),
            DataType::Decimal128(precision, scale) => {
                let values = array.as_primitive::<Decimal128Type>().values();
                Values::Decimal(values, *scale, (*precision, *scale) == UNSCALED)
            }
            DataType::Utf8 => Values::Text(array.as_string()),
            DataType::Binary => Values::Binary(array.as_binary()),
            DataType::Date32 => Values::Date(array.as_primitive::<Date32Type>().values()),
            DataType::Time64(TimeUnit::Microsecond) => {
                Values::Time(array.as_primitive::<Time64MicrosecondType>().values())
            }
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                let values = array.as_primitive::<TimestampMicrosecondType>().values();
                Values::Timestamp(values, zone.is_some())
            }
            DataType::FixedSizeBinary(16) => Values::Uuid(array.as_fixed_size_binary()),
            _ => return None,
        };
        let declared = field.metadata().get(TYPE_KEY).map(String::as_str);
        let is_json = matches!(declared, Some("json" | "jsonb"));
        Some(Self { values, nulls: array.nulls(), is_json })
    }

    /// Whether the value of a row is NULL.
    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }

    /// The value of a column of whole numbers.
    pub fn whole_number(&self, row: usize) -> Option<i64> {
        match self.values {
            Values::Int16(values) => Some(i64::from(values[row])),
            Values::Int32(values) => Some(i64::from(values[row])),
            Values::Int64(values) => Some(values[row]),
            _ => None,
        }
    }

    /// Appends a value that is not NULL as text; BYTEA as its bytes.
    #[inline]
    pub fn write_text(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        match &self.values {
            Values::Bool(values) => text::boolean(values.value(row), out),
            Values::Int16(values) => text::integer(i64::from(values[row]), out),
            Values::Int32(values) => text::integer(i64::from(values[row]), out),
            Values::Int64(values) => text::integer(values[row], out),
            Values::Float32(values) => text::real(values[row], out),
            Values::Float64(values) => text::double(values[row], out),
            Values::Decimal(values, scale, is_trimmed) => {
                text::decimal(values[row], *scale, *is_trimmed, out);
            }
            Values::Text(values) => out.extend_from_slice(values.value(row).as_bytes()),
            Values::Binary(values) => out.extend_from_slice(values.value(row)),
            Values::Date(values) => text::date(i64::from(values[row]), out)?,
            Values::Time(values) => text::time_of_day(values[row], out),
            Values::Timestamp(values, is_instant) => {
                text::timestamp(values[row], *is_instant, out)?;
            }
            Values::Uuid(values) => text::uuid(values.value(row), out),
        }
        Ok(())
    }

    /// Appends a value as one of JSON, `null` included.
    #[inline]
    pub fn write_json(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        match &self.values {
            Values::Text(values) if self.is_json => {
                let value = values.value(row);
                check_json(value)?;
                out.extend_from_slice(value.as_bytes());
                Ok(())
            }
            Values::Text(values) => {
                json::string(values.value(row), out);
                Ok(())
            }
            // JSON has no numbers for them; the readers of numbers take their names.
            Values::Float32(values) if !values[row].is_finite() => self.write_quoted(row, out),
            Values::Float64(values) if !values[row].is_finite() => self.write_quoted(row, out),
            Values::Date(_) | Values::Time(_) | Values::Timestamp(..) | Values::Uuid(_) => {
                self.write_quoted(row, out)
            }
            _ => self.write_text(row, out),
        }
    }

    /// Whether it holds text.
    pub fn is_text(&self) -> bool {
        matches!(self.values, Values::Text(_))
    }

    fn write_quoted(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        out.push(b'"');
        self.write_text(row, out)?;
        out.push(b'"');
        Ok(())
    }
}

/// Whether a text is one value of JSON; 22032 if not.
pub fn check_json(text: &str) -> Result<()> {
    let check = || {
        let mut scanner = Scanner::new(text);
        scanner.skip_blanks();
        scanner.value()?;
        scanner.end()
    };
    check().map_err(|poison: Box<crate::decode::Poison>| Error::User {
        code: poison.code,
        message: format!("\"{}\" cannot be written: {}", excerpt(text), poison.reason),
    })
}
