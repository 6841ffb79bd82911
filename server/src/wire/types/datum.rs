//! Keyed rows → DataRow frames: the same bytes as [`super::encode`], from values instead of arrays.
//! Used for answers of at most one row, on the connection's own thread.

use arrow::ipc::reader::StreamReader;
use bytes::{BufMut, BytesMut};
use planner::{Error, OutputColumn, Result, SqlType};
use storage::Datum;

use super::{
    binary,
    encode::{
        ColumnWriter, Format, begin_frame, end_frame, format_of, numeric_binary, patch_length,
        put_padded,
    },
    text::{self, NumericStyle},
    zone::{POSTGRES_EPOCH_DAYS, POSTGRES_EPOCH_MICROS, TimeZone},
};

/// Appends the DataRow frame of one row; `formats` as Bind gives them.
pub fn data_row(
    row: &[Datum],
    columns: &[OutputColumn],
    formats: &[Format],
    zone: &TimeZone,
    out: &mut BytesMut,
) -> Result<()> {
    let frame = begin_frame(b'D', out);
    out.put_u16(row.len() as u16);
    for (index, (value, column)) in row.iter().zip(columns).enumerate() {
        if matches!(value, Datum::Null) {
            out.put_i32(-1);
            continue;
        }
        let start = out.len();
        out.put_i32(0);
        match format_of(formats, index) {
            Format::Text => datum_text(value, &column.sql_type, zone, out)?,
            Format::Binary => datum_binary(value, &column.sql_type, out)?,
        }
        patch_length(start, start + 4, out);
    }
    end_frame(frame, out);
    Ok(())
}

/// Scale and style of a NUMERIC type.
fn numeric_form(sql_type: &SqlType) -> Option<(i8, NumericStyle)> {
    match sql_type {
        SqlType::Numeric(_, scale) => Some((*scale, NumericStyle::Full)),
        SqlType::NumericAny => Some((super::NUMERIC_ANY_SCALE, NumericStyle::Trimmed)),
        SqlType::NumericAvg => Some((super::NUMERIC_AVG_SCALE, NumericStyle::Average)),
        _ => None,
    }
}

/// Appends the text form of a value that is not NULL.
pub fn datum_text(
    value: &Datum,
    sql_type: &SqlType,
    zone: &TimeZone,
    out: &mut BytesMut,
) -> Result<()> {
    match (value, sql_type) {
        (Datum::Bool(value), _) => text::bool(*value, out),
        (Datum::Int(days), SqlType::Date) => text::date(*days, out),
        (Datum::Int(micros), SqlType::Time) => text::time(*micros, out),
        (Datum::Int(micros), SqlType::Timestamp) => text::timestamp(*micros, out),
        (Datum::Int(micros), SqlType::Timestamptz) => text::timestamptz(*micros, zone, out),
        (Datum::Int(value), _) => text::int(*value, out),
        (Datum::Float(value), SqlType::Float4) => text::float4(*value as f32, out),
        (Datum::Float(value), _) => text::float8(*value, out),
        (Datum::Decimal(unscaled), sql_type) => {
            let (scale, style) = numeric_form(sql_type).ok_or_else(|| mismatch(sql_type))?;
            text::numeric(*unscaled, scale, style, out);
        }
        (Datum::Text(value), sql_type) => put_padded(value, sql_type, out),
        (Datum::Bytes(bytes), SqlType::Uuid) => text::uuid(bytes, out),
        (Datum::Bytes(bytes), _) => text::bytea(bytes, out),
        (Datum::Interval(months, days, nanos), _) => text::interval(*months, *days, *nanos, out),
        (Datum::Nested(stream), sql_type) => {
            with_nested(stream, sql_type, |writer| {
                writer.text(0, zone, out);
                Ok(())
            })?;
        }
        (Datum::Null, _) => {}
    }
    Ok(())
}

/// Appends the binary form of a value that is not NULL.
fn datum_binary(value: &Datum, sql_type: &SqlType, out: &mut BytesMut) -> Result<()> {
    match (value, sql_type) {
        (Datum::Bool(value), _) => out.put_u8(u8::from(*value)),
        (Datum::Int(value), SqlType::Int2) => out.put_i16(*value as i16),
        (Datum::Int(value), SqlType::Int4) => out.put_i32(*value as i32),
        (Datum::Int(value), SqlType::Oid) => out.put_u32(*value as u32),
        (Datum::Int(value), SqlType::Int8 | SqlType::Time) => out.put_i64(*value),
        (Datum::Int(days), SqlType::Date) => out.put_i32((*days - POSTGRES_EPOCH_DAYS) as i32),
        (Datum::Int(micros), SqlType::Timestamp | SqlType::Timestamptz) => {
            out.put_i64(*micros - POSTGRES_EPOCH_MICROS);
        }
        (Datum::Float(value), SqlType::Float4) => out.put_f32(*value as f32),
        (Datum::Float(value), _) => out.put_f64(*value),
        (Datum::Decimal(unscaled), sql_type) => {
            let (scale, style) = numeric_form(sql_type).ok_or_else(|| mismatch(sql_type))?;
            numeric_binary(*unscaled, scale, style, out);
        }
        (Datum::Text(value), SqlType::Jsonb) => {
            out.put_u8(1);
            out.put_slice(value.as_bytes());
        }
        (Datum::Text(value), sql_type) => put_padded(value, sql_type, out),
        (Datum::Bytes(bytes), _) => out.put_slice(bytes),
        (Datum::Interval(months, days, nanos), _) => binary::interval(*months, *days, *nanos, out),
        (Datum::Nested(stream), sql_type) => {
            with_nested(stream, sql_type, |writer| writer.binary(0, out))?;
        }
        (Datum::Null, _) => {}
        (Datum::Int(_), sql_type) => return Err(mismatch(sql_type)),
    }
    Ok(())
}

fn mismatch(sql_type: &SqlType) -> Error {
    Error::new("XX000", format!("a keyed row holds no value of type {}", sql_type.name()))
}

/// Opens a nested value (an Arrow IPC stream of one row and one column).
fn with_nested(
    stream: &[u8],
    sql_type: &SqlType,
    write: impl FnOnce(&ColumnWriter<'_>) -> Result<()>,
) -> Result<()> {
    let unreadable = |error| Error::new("XX000", format!("nested value: {error}"));
    let mut reader = StreamReader::try_new(stream, None).map_err(unreadable)?;
    let batch = reader
        .next()
        .ok_or_else(|| Error::new("XX000", "nested value: it has no row"))?
        .map_err(unreadable)?;
    write(&ColumnWriter::new(batch.column(0).as_ref(), sql_type)?)
}
