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

use crate::{Error, Result, SqlType};

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

/// The value that `text` is in PostgreSQL's input syntax for the type.
pub fn datum_of_text(text: &str, sql_type: &SqlType) -> Result<Datum> {
    let invalid = || {
        Error::new(
            "22P02",
            format!("invalid input syntax for type {}: \"{text}\"", sql_type.name()),
        )
    };
    let trimmed = text.trim();
    Ok(match sql_type {
        SqlType::Text | SqlType::Name | SqlType::Char | SqlType::Unknown => {
            Datum::Text(text.to_owned())
        }
        SqlType::Varchar(limit) => {
            check_length(text, *limit)?;
            Datum::Text(text.to_owned())
        }
        SqlType::Json | SqlType::Jsonb => {
            serde_json::from_str::<serde::de::IgnoredAny>(text)
                .map_err(|_error| Error::new("22P02", "invalid input syntax for type json"))?;
            Datum::Text(text.to_owned())
        }
        SqlType::Bool => Datum::Bool(boolean(trimmed).ok_or_else(invalid)?),
        SqlType::Int2 => integer(trimmed, i64::from(i16::MIN), i64::from(i16::MAX), sql_type)?,
        SqlType::Int4 => integer(trimmed, i64::from(i32::MIN), i64::from(i32::MAX), sql_type)?,
        SqlType::Int8 => integer(trimmed, i64::MIN, i64::MAX, sql_type)?,
        SqlType::Float4 | SqlType::Float8 => Datum::Float(trimmed.parse().map_err(|_| invalid())?),
        SqlType::Bytea => Datum::Bytes(bytes(text).ok_or_else(invalid)?),
        SqlType::Uuid => Datum::Bytes(uuid(trimmed).ok_or_else(invalid)?),
        _ => {
            let array: ArrayRef = Arc::new(StringArray::from(vec![trimmed]));
            let array = cast_array(&array, &sql_type.arrow()).map_err(|_error| invalid())?;
            datum_at(&array, 0)?
        }
    })
}

fn integer(text: &str, low: i64, high: i64, sql_type: &SqlType) -> Result<Datum> {
    match text.parse::<i64>() {
        Ok(value) if (low..=high).contains(&value) => Ok(Datum::Int(value)),
        Ok(_) => Err(out_of_range(text, sql_type)),
        Err(error) => match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                Err(out_of_range(text, sql_type))
            }
            _ => Err(Error::new(
                "22P02",
                format!("invalid input syntax for type {}: \"{text}\"", sql_type.name()),
            )),
        },
    }
}

fn out_of_range(text: &str, sql_type: &SqlType) -> Error {
    Error::new("22003", format!("value \"{text}\" is out of range for type {}", sql_type.name()))
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

fn boolean(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Some(true),
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    match text.strip_prefix("\\x") {
        Some(digits) => hex(digits.as_bytes()),
        None if text.contains('\\') => None,
        None => Some(text.as_bytes().to_vec()),
    }
}

fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|pair| {
            let text = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(text, 16).ok()
        })
        .collect()
}

fn uuid(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    hex(&digits).filter(|bytes| bytes.len() == UUID_BYTES)
}

const UUID_BYTES: usize = 16;
