//! Values outside of arrays: datums ↔ DataFusion's scalars, and text in PostgreSQL's input syntax
//! → datum. A datum does not know its type; whoever holds one holds its [`SqlType`] too.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, StringArray},
    compute::{CastOptions, cast_with_options},
    datatypes::DataType,
};
use datafusion::scalar::ScalarValue;
use storage::{
    Datum,
    datum::{array_of, datum_at},
};

use crate::{
    Error, Result, SqlType,
    functions::cast::parse_texts,
    text::{TimeZone, input},
};

/// A datum as a scalar of its type.
pub fn scalar_of(datum: &Datum, sql_type: &SqlType) -> Result<ScalarValue> {
    let data_type = sql_type.arrow();
    Ok(match (datum, &data_type) {
        (Datum::Int(value), DataType::Int64) => ScalarValue::Int64(Some(*value)),
        (Datum::Text(text), DataType::Utf8) => ScalarValue::Utf8(Some(text.clone())),
        (Datum::Null, data_type) => ScalarValue::try_from(data_type)?,
        (datum, data_type) => {
            let array = array_of(std::slice::from_ref(datum), data_type)?;
            ScalarValue::try_from_array(&array, 0)?
        }
    })
}

/// Casts strictly: what does not fit is an error, never NULL.
pub fn cast_array(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(Arc::clone(array));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(array, data_type, &options)?)
}

/// The value that `text` is in PostgreSQL's input syntax for the type; times without a zone are UTC.
pub fn datum_of_text(text: &str, sql_type: &SqlType) -> Result<Datum> {
    let integer = |min: i64, max: i64| input::int(text, &sql_type.name(), min, max).map(Datum::Int);
    Ok(match sql_type {
        SqlType::Text | SqlType::Name | SqlType::Char | SqlType::Unknown => {
            Datum::Text(text.to_owned())
        }
        SqlType::Varchar(limit) => {
            check_length(text, *limit)?;
            Datum::Text(text.to_owned())
        }
        SqlType::Json | SqlType::Jsonb => {
            input::json(text)?;
            Datum::Text(text.to_owned())
        }
        SqlType::Bool => Datum::Bool(input::bool(text)?),
        SqlType::Int2 => integer(i16::MIN.into(), i16::MAX.into())?,
        SqlType::Int4 => integer(i32::MIN.into(), i32::MAX.into())?,
        SqlType::Int8 => integer(i64::MIN, i64::MAX)?,
        SqlType::Float4 => Datum::Float(input::float4(text)?.into()),
        SqlType::Float8 => Datum::Float(input::float8(text)?),
        SqlType::Bytea => Datum::Bytes(input::bytea(text)?),
        SqlType::Uuid => Datum::Bytes(input::uuid(text)?.to_vec()),
        _ => {
            let texts = StringArray::from(vec![text]);
            let array = parse_texts(&texts, &sql_type.field("", true), &TimeZone::Utc)?;
            datum_at(&array, 0)?
        }
    })
}

/// Refuses a text that is longer than VARCHAR(n) allows (22001); trailing spaces are forgiven by
/// PostgreSQL only in explicit casts, so they count here.
pub fn check_length(text: &str, limit: Option<u32>) -> Result<()> {
    match limit {
        // A text of at most n bytes has at most n characters.
        Some(limit) if text.len() > limit as usize && text.chars().count() > limit as usize => {
            Err(Error::new("22001", format!("value too long for type character varying({limit})")))
        }
        _ => Ok(()),
    }
}
