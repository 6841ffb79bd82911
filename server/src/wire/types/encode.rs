//! Arrow rows → DataRow frames, straight into the connection's buffer.
//! The type of every column is looked at once a batch; a value costs one jump, no allocation.
//!
//! ```text
//! batch ─ writers() ─→ [ColumnWriter] ─ row by row ─→ 'D' len count (len value)*
//! ```

use std::ops::Range;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray,
        ListArray, PrimitiveArray, RecordBatch, StringArray, StructArray,
    },
    datatypes::{
        DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType, UInt32Type,
    },
};
use bytes::{BufMut, BytesMut};
use planner::{Error, OutputColumn, Result, SqlType, padding};

use super::{
    binary, text,
    text::NumericStyle,
    zone::{POSTGRES_EPOCH_DAYS, POSTGRES_EPOCH_MICROS, TimeZone},
};

/// Text or binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Format code 0.
    Text,
    /// Format code 1.
    Binary,
}

impl Format {
    /// The code on the wire.
    pub fn code(self) -> i16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }
}

/// The format of column `index`: Bind gives none, one for all, or one a column.
pub fn format_of(formats: &[Format], index: usize) -> Format {
    match formats {
        [] => Format::Text,
        [one] => *one,
        all => all.get(index).copied().unwrap_or(Format::Text),
    }
}

/// 08P01 unless `formats` fit `column_count` columns.
pub fn check_formats(formats: &[Format], column_count: usize) -> Result<()> {
    if formats.len() > 1 && formats.len() != column_count {
        let message = format!(
            "bind message has {} result formats but query has {column_count} columns",
            formats.len()
        );
        return Err(Error::new("08P01", message));
    }
    Ok(())
}

/// Writes rows of known columns in chosen formats.
#[derive(Debug, Clone)]
pub struct RowEncoder {
    columns: Vec<(SqlType, Format)>,
    zone: TimeZone,
}

impl RowEncoder {
    /// An encoder of `columns`; `formats` as Bind gives them: none, one for all, or one a column.
    pub fn new(columns: &[OutputColumn], formats: &[Format], zone: TimeZone) -> Result<Self> {
        check_formats(formats, columns.len())?;
        let columns = columns
            .iter()
            .enumerate()
            .map(|(index, column)| (column.sql_type.clone(), format_of(formats, index)))
            .collect();
        Ok(Self { columns, zone })
    }

    /// The zone in which it shows instants.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Arrays of the Arrow types that [`ColumnWriter`] knows, in column order.
    pub fn normalise(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        if batch.num_columns() != self.columns.len() {
            return Err(Error::new(
                "XX000",
                format!(
                    "result has {} columns where {} were described",
                    batch.num_columns(),
                    self.columns.len()
                ),
            ));
        }
        let columns = batch.columns().iter().zip(&self.columns);
        columns.map(|(array, (sql_type, _))| normalise(array, sql_type)).collect()
    }

    /// Appends DataRow frames for `rows` of `arrays` (as [`Self::normalise`] gives them).
    pub fn data_rows(
        &self,
        arrays: &[ArrayRef],
        rows: Range<usize>,
        out: &mut BytesMut,
    ) -> Result<()> {
        let writers = self.writers(arrays)?;
        for row in rows {
            let frame = begin_frame(b'D', out);
            out.put_u16(writers.len() as u16);
            for (writer, (_, format)) in writers.iter().zip(&self.columns) {
                if writer.is_null(row) {
                    out.put_i32(-1);
                    continue;
                }
                let start = out.len();
                out.put_i32(0);
                match format {
                    Format::Text => writer.text(row, &self.zone, out),
                    Format::Binary => writer.binary(row, out)?,
                }
                patch_length(start, start + 4, out);
            }
            end_frame(frame, out);
        }
        Ok(())
    }

    /// One writer a column.
    pub fn writers<'a>(&self, arrays: &'a [ArrayRef]) -> Result<Vec<ColumnWriter<'a>>> {
        arrays
            .iter()
            .zip(&self.columns)
            .map(|(array, (sql_type, _))| ColumnWriter::new(array.as_ref(), sql_type))
            .collect()
    }
}

/// Appends a text with the blanks that CHAR(n) shows behind it.
pub fn put_padded(text: &str, sql_type: &SqlType, out: &mut BytesMut) {
    out.put_slice(text.as_bytes());
    out.put_bytes(b' ', padding(text, sql_type));
}

/// Begins a frame; its length is patched by [`end_frame`].
pub fn begin_frame(tag: u8, out: &mut BytesMut) -> usize {
    out.put_u8(tag);
    out.put_i32(0);
    out.len() - 4
}

/// Ends the frame begun at `start`.
pub fn end_frame(start: usize, out: &mut BytesMut) {
    patch_length(start, start, out);
}

/// Writes at `at` the number of bytes from `counted_from` to the end.
pub fn patch_length(at: usize, counted_from: usize, out: &mut BytesMut) {
    let length = (out.len() - counted_from) as i32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// The array itself if its Arrow type is one that [`ColumnWriter`] reads for `sql_type`, else a
/// cast of it (views, dictionaries, other units and widths).
fn normalise(array: &ArrayRef, sql_type: &SqlType) -> Result<ArrayRef> {
    if ColumnWriter::new(array.as_ref(), sql_type).is_ok() {
        return Ok(ArrayRef::clone(array));
    }
    arrow::compute::cast(array, &sql_type.arrow())
        .map_err(|error| Error::new("XX000", format!("cannot send {}: {error}", sql_type.name())))
}

/// A column of one batch, ready to write any of its rows.
pub enum ColumnWriter<'a> {
    /// All NULL.
    Null,
    /// BOOLEAN.
    Bool(&'a BooleanArray),
    /// TINYINT, sent as SMALLINT.
    Int1(&'a PrimitiveArray<Int8Type>),
    /// SMALLINT.
    Int2(&'a PrimitiveArray<Int16Type>),
    /// INTEGER.
    Int4(&'a PrimitiveArray<Int32Type>),
    /// BIGINT.
    Int8(&'a PrimitiveArray<Int64Type>),
    /// OID.
    Oid(&'a PrimitiveArray<UInt32Type>),
    /// OID kept in a signed column.
    SignedOid(&'a PrimitiveArray<Int32Type>),
    /// REAL.
    Float4(&'a PrimitiveArray<Float32Type>),
    /// DOUBLE PRECISION.
    Float8(&'a PrimitiveArray<Float64Type>),
    /// NUMERIC.
    Numeric(&'a Decimal128Array, NumericStyle),
    /// TEXT, VARCHAR, JSON, name.
    Text(&'a StringArray),
    /// CHAR(n): padded with blanks to its length.
    Padded(&'a StringArray, SqlType),
    /// JSONB: text with a version byte in binary.
    Jsonb(&'a StringArray),
    /// BYTEA.
    Bytea(&'a BinaryArray),
    /// DATE.
    Date(&'a PrimitiveArray<Date32Type>),
    /// TIME.
    Time(&'a PrimitiveArray<Time64MicrosecondType>),
    /// TIMESTAMP.
    Timestamp(&'a PrimitiveArray<TimestampMicrosecondType>),
    /// TIMESTAMPTZ.
    Timestamptz(&'a PrimitiveArray<TimestampMicrosecondType>),
    /// INTERVAL.
    Interval(&'a PrimitiveArray<IntervalMonthDayNanoType>),
    /// UUID.
    Uuid(&'a FixedSizeBinaryArray),
    /// ARRAY: element type id, element writer.
    Array(&'a ListArray, u32, Box<ColumnWriter<'a>>),
    /// STRUCT: type id and writer of each field.
    Struct(&'a StructArray, Vec<(u32, ColumnWriter<'a>)>),
}

impl<'a> ColumnWriter<'a> {
    /// The writer of `array` as `sql_type`; an error if the two do not belong together.
    pub fn new(array: &'a dyn Array, sql_type: &SqlType) -> Result<Self> {
        let writer = match (sql_type, array.data_type()) {
            (_, DataType::Null) => Self::Null,
            (SqlType::Bool, DataType::Boolean) => Self::Bool(array.as_boolean()),
            (SqlType::Int2, DataType::Int8) => Self::Int1(array.as_primitive()),
            (SqlType::Int2, DataType::Int16) => Self::Int2(array.as_primitive()),
            (SqlType::Int4, DataType::Int32) => Self::Int4(array.as_primitive()),
            (SqlType::Int8, DataType::Int64) => Self::Int8(array.as_primitive()),
            (SqlType::Oid, DataType::UInt32) => Self::Oid(array.as_primitive()),
            (SqlType::Oid, DataType::Int32) => Self::SignedOid(array.as_primitive()),
            (SqlType::Float4, DataType::Float32) => Self::Float4(array.as_primitive()),
            (SqlType::Float8, DataType::Float64) => Self::Float8(array.as_primitive()),
            (SqlType::Numeric(..), DataType::Decimal128(..)) => {
                Self::Numeric(array.as_primitive(), NumericStyle::Full)
            }
            (SqlType::NumericAny, DataType::Decimal128(..)) => {
                Self::Numeric(array.as_primitive(), NumericStyle::Trimmed)
            }
            (SqlType::NumericAvg, DataType::Decimal128(..)) => {
                Self::Numeric(array.as_primitive(), NumericStyle::Average)
            }
            (SqlType::Jsonb, DataType::Utf8) => Self::Jsonb(array.as_string()),
            (SqlType::Bpchar(Some(_)), DataType::Utf8) => {
                Self::Padded(array.as_string(), sql_type.clone())
            }
            (
                SqlType::Text
                | SqlType::Varchar(_)
                | SqlType::Bpchar(_)
                | SqlType::Json
                | SqlType::Name
                | SqlType::Char
                | SqlType::Unknown,
                DataType::Utf8,
            ) => Self::Text(array.as_string()),
            (SqlType::Bytea, DataType::Binary) => Self::Bytea(array.as_binary()),
            (SqlType::Date, DataType::Date32) => Self::Date(array.as_primitive()),
            (SqlType::Uuid, DataType::FixedSizeBinary(16)) => {
                Self::Uuid(array.as_fixed_size_binary())
            }
            _ => return Self::temporal_or_nested(array, sql_type),
        };
        Ok(writer)
    }

    fn temporal_or_nested(array: &'a dyn Array, sql_type: &SqlType) -> Result<Self> {
        use arrow::datatypes::{IntervalUnit, TimeUnit};
        let writer = match (sql_type, array.data_type()) {
            (SqlType::Time, DataType::Time64(TimeUnit::Microsecond)) => {
                Self::Time(array.as_primitive())
            }
            (SqlType::Timestamp, DataType::Timestamp(TimeUnit::Microsecond, _)) => {
                Self::Timestamp(array.as_primitive())
            }
            (SqlType::Timestamptz, DataType::Timestamp(TimeUnit::Microsecond, _)) => {
                Self::Timestamptz(array.as_primitive())
            }
            (SqlType::Interval, DataType::Interval(IntervalUnit::MonthDayNano)) => {
                Self::Interval(array.as_primitive())
            }
            (SqlType::Array(element), DataType::List(_)) => {
                let list: &ListArray = array.as_list();
                let writer = Self::new(list.values().as_ref(), element)?;
                Self::Array(list, element.oid(), Box::new(writer))
            }
            (SqlType::Struct(fields), DataType::Struct(_)) => {
                let rows = array.as_struct();
                let columns = rows.columns().iter().zip(fields);
                let writers = columns
                    .map(|(column, (_, field))| {
                        Ok((field.oid(), Self::new(column.as_ref(), field)?))
                    })
                    .collect::<Result<_>>()?;
                Self::Struct(rows, writers)
            }
            (sql_type, data_type) => {
                let message = format!("a {data_type} column cannot be sent as {}", sql_type.name());
                return Err(Error::new("XX000", message));
            }
        };
        Ok(writer)
    }

    /// Whether the value of `row` is NULL.
    pub fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(array) => array.is_null(row),
            Self::Int1(array) => array.is_null(row),
            Self::Int2(array) => array.is_null(row),
            Self::Int4(array) | Self::SignedOid(array) => array.is_null(row),
            Self::Int8(array) => array.is_null(row),
            Self::Oid(array) => array.is_null(row),
            Self::Float4(array) => array.is_null(row),
            Self::Float8(array) => array.is_null(row),
            Self::Numeric(array, _) => array.is_null(row),
            Self::Text(array) | Self::Jsonb(array) | Self::Padded(array, _) => array.is_null(row),
            Self::Bytea(array) => array.is_null(row),
            Self::Date(array) => array.is_null(row),
            Self::Time(array) => array.is_null(row),
            Self::Timestamp(array) | Self::Timestamptz(array) => array.is_null(row),
            Self::Interval(array) => array.is_null(row),
            Self::Uuid(array) => array.is_null(row),
            Self::Array(array, ..) => array.is_null(row),
            Self::Struct(array, _) => array.is_null(row),
        }
    }

    /// Appends the text form of a value that is not NULL.
    pub fn text(&self, row: usize, zone: &TimeZone, out: &mut BytesMut) {
        match self {
            Self::Null => {}
            Self::Bool(array) => text::bool(array.value(row), out),
            Self::Int1(array) => text::int(i64::from(array.value(row)), out),
            Self::Int2(array) => text::int(i64::from(array.value(row)), out),
            Self::Int4(array) => text::int(i64::from(array.value(row)), out),
            Self::Int8(array) => text::int(array.value(row), out),
            Self::Oid(array) => text::int(i64::from(array.value(row)), out),
            Self::SignedOid(array) => text::int(i64::from(array.value(row) as u32), out),
            Self::Float4(array) => text::float4(array.value(row), out),
            Self::Float8(array) => text::float8(array.value(row), out),
            Self::Numeric(array, style) => {
                text::numeric(array.value(row), array.scale(), *style, out);
            }
            Self::Text(array) | Self::Jsonb(array) => out.put_slice(array.value(row).as_bytes()),
            Self::Padded(array, sql_type) => put_padded(array.value(row), sql_type, out),
            Self::Bytea(array) => text::bytea(array.value(row), out),
            Self::Date(array) => text::date(i64::from(array.value(row)), out),
            Self::Time(array) => text::time(array.value(row), out),
            Self::Timestamp(array) => text::timestamp(array.value(row), out),
            Self::Timestamptz(array) => text::timestamptz(array.value(row), zone, out),
            Self::Interval(array) => {
                let value = array.value(row);
                text::interval(value.months, value.days, value.nanoseconds, out);
            }
            Self::Uuid(array) => text::uuid(array.value(row), out),
            Self::Array(array, _, element) => array_text(array, element, row, zone, out),
            Self::Struct(_, fields) => record_text(fields, row, zone, out),
        }
    }

    /// Appends the binary form of a value that is not NULL.
    pub fn binary(&self, row: usize, out: &mut BytesMut) -> Result<()> {
        match self {
            Self::Null => {}
            Self::Bool(array) => out.put_u8(u8::from(array.value(row))),
            Self::Int1(array) => out.put_i16(i16::from(array.value(row))),
            Self::Int2(array) => out.put_i16(array.value(row)),
            Self::Int4(array) | Self::SignedOid(array) => out.put_i32(array.value(row)),
            Self::Int8(array) => out.put_i64(array.value(row)),
            Self::Oid(array) => out.put_u32(array.value(row)),
            Self::Float4(array) => out.put_f32(array.value(row)),
            Self::Float8(array) => out.put_f64(array.value(row)),
            Self::Numeric(array, style) => {
                numeric_binary(array.value(row), array.scale(), *style, out);
            }
            Self::Text(array) => out.put_slice(array.value(row).as_bytes()),
            Self::Padded(array, sql_type) => put_padded(array.value(row), sql_type, out),
            Self::Jsonb(array) => {
                out.put_u8(1);
                out.put_slice(array.value(row).as_bytes());
            }
            Self::Bytea(array) => out.put_slice(array.value(row)),
            Self::Date(array) => {
                out.put_i32((i64::from(array.value(row)) - POSTGRES_EPOCH_DAYS) as i32);
            }
            Self::Time(array) => out.put_i64(array.value(row)),
            Self::Timestamp(array) | Self::Timestamptz(array) => {
                out.put_i64(array.value(row) - POSTGRES_EPOCH_MICROS);
            }
            Self::Interval(array) => {
                let value = array.value(row);
                binary::interval(value.months, value.days, value.nanoseconds, out);
            }
            Self::Uuid(array) => out.put_slice(array.value(row)),
            Self::Array(array, oid, element) => array_binary(array, *oid, element, row, out)?,
            Self::Struct(_, fields) => {
                out.put_u32(fields.len() as u32);
                for (oid, field) in fields {
                    out.put_u32(*oid);
                    element_binary(field, row, out)?;
                }
            }
        }
        Ok(())
    }
}

/// NUMERIC with the display scale of its style.
pub fn numeric_binary(unscaled: i128, scale: i8, style: NumericStyle, out: &mut BytesMut) {
    let display_scale = match style {
        NumericStyle::Trimmed => {
            let mut scale = scale.max(0) as u16;
            let mut rest = unscaled;
            while scale > 0 && rest % 10 == 0 {
                rest /= 10;
                scale -= 1;
            }
            scale
        }
        NumericStyle::Full | NumericStyle::Average => scale.max(0) as u16,
    };
    binary::numeric(unscaled, scale, display_scale, out);
}

/// A length and a value, or −1.
fn element_binary(writer: &ColumnWriter<'_>, row: usize, out: &mut BytesMut) -> Result<()> {
    if writer.is_null(row) {
        out.put_i32(-1);
        return Ok(());
    }
    let start = out.len();
    out.put_i32(0);
    writer.binary(row, out)?;
    patch_length(start, start + 4, out);
    Ok(())
}

/// Dimensions an array may have in binary, as in PostgreSQL.
const DIMENSIONS_MAX: usize = 6;

/// An array: its dimensions, then the innermost elements in a row. PostgreSQL's arrays are
/// rectangular, so a list of lists of different lengths has a text form only.
fn array_binary(
    array: &ListArray,
    element_oid: u32,
    element: &ColumnWriter<'_>,
    row: usize,
    out: &mut BytesMut,
) -> Result<()> {
    let range = |array: &ListArray, rows: Range<usize>| {
        let offsets = array.value_offsets();
        offsets[rows.start] as usize..offsets[rows.end] as usize
    };
    let (mut element, mut element_oid) = (element, element_oid);
    let mut elements = range(array, row..row + 1);
    let mut lengths = [0; DIMENSIONS_MAX];
    lengths[0] = elements.len();
    let mut dimensions = usize::from(!elements.is_empty());
    while let (ColumnWriter::Array(inner, oid, inner_element), 1..) = (element, dimensions) {
        let length = inner.value_length(elements.start) as usize;
        let is_like_first =
            |index| inner.is_valid(index) && inner.value_length(index) as usize == length;
        let is_rectangular = length > 0 && elements.clone().all(is_like_first);
        if !is_rectangular || dimensions == DIMENSIONS_MAX {
            let message = "binary format of lists of different lengths is not supported";
            return Err(Error::unsupported(message));
        }
        lengths[dimensions] = length;
        dimensions += 1;
        elements = range(inner, elements);
        (element, element_oid) = (inner_element, *oid);
    }
    // An empty list has no dimension, but its innermost type all the same.
    while let ColumnWriter::Array(_, oid, inner_element) = element {
        (element, element_oid) = (inner_element, *oid);
    }
    out.put_i32(dimensions as i32);
    out.put_i32(i32::from(elements.clone().any(|index| element.is_null(index))));
    out.put_u32(element_oid);
    for length in &lengths[..dimensions] {
        out.put_i32(*length as i32);
        out.put_i32(1);
    }
    for index in elements {
        element_binary(element, index, out)?;
    }
    Ok(())
}

/// `{a,"b c",NULL}`.
fn array_text(
    array: &ListArray,
    element: &ColumnWriter<'_>,
    row: usize,
    zone: &TimeZone,
    out: &mut BytesMut,
) {
    let offsets = array.value_offsets();
    let is_nested = matches!(element, ColumnWriter::Array(..));
    out.put_u8(b'{');
    for (position, index) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
        if position > 0 {
            out.put_u8(b',');
        }
        if element.is_null(index) {
            out.put_slice(b"NULL");
            continue;
        }
        let start = out.len();
        element.text(index, zone, out);
        if !is_nested && array_element_needs_quotes(&out[start..]) {
            quote_tail(start, Escape::Backslash, out);
        }
    }
    out.put_u8(b'}');
}

fn array_element_needs_quotes(text: &[u8]) -> bool {
    let is_special = |byte: &u8| {
        matches!(byte, b'"' | b'\\' | b'{' | b'}' | b',')
            || byte.is_ascii_whitespace()
            || *byte == 11
    };
    text.is_empty() || text.eq_ignore_ascii_case(b"null") || text.iter().any(is_special)
}

/// `(1,foo,)`.
fn record_text(
    fields: &[(u32, ColumnWriter<'_>)],
    row: usize,
    zone: &TimeZone,
    out: &mut BytesMut,
) {
    out.put_u8(b'(');
    for (position, (_, field)) in fields.iter().enumerate() {
        if position > 0 {
            out.put_u8(b',');
        }
        if field.is_null(row) {
            continue;
        }
        let start = out.len();
        field.text(row, zone, out);
        if record_field_needs_quotes(&out[start..]) {
            quote_tail(start, Escape::Double, out);
        }
    }
    out.put_u8(b')');
}

fn record_field_needs_quotes(text: &[u8]) -> bool {
    let is_special = |byte: &u8| {
        matches!(byte, b'"' | b'\\' | b'(' | b')' | b',')
            || byte.is_ascii_whitespace()
            || *byte == 11
    };
    text.is_empty() || text.iter().any(is_special)
}

/// How a quote inside quotes is written.
enum Escape {
    /// `\"` and `\\` (arrays).
    Backslash,
    /// `""` and `\\` (records).
    Double,
}

/// Puts quotes around everything from `start` on.
fn quote_tail(start: usize, escape: Escape, out: &mut BytesMut) {
    let plain = out.split_off(start);
    out.reserve(plain.len() + 2);
    out.put_u8(b'"');
    for byte in plain {
        match (byte, &escape) {
            (b'\\', _) => out.put_slice(b"\\\\"),
            (b'"', Escape::Backslash) => out.put_slice(b"\\\""),
            (b'"', Escape::Double) => out.put_slice(b"\"\""),
            (byte, _) => out.put_u8(byte),
        }
    }
    out.put_u8(b'"');
}

#[cfg(test)]
mod tests;
