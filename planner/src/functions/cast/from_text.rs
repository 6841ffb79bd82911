//! Texts → values, by PostgreSQL's input syntax ([`crate::text::input`]).
//! The first text that does not parse fails the whole array.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Decimal128Array,
        FixedSizeBinaryBuilder, ListArray, PrimitiveArray, StringArray,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int16Type,
        Int32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
        Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, UInt32Type,
    },
};
use datafusion::error::Result;

use super::cannot_cast;
use crate::{
    SqlType,
    functions::error::{carry, user_error},
    text::{TimeZone, input, interval},
    values::cut_text,
};

/// Reads every text as a value of the field's type.
pub fn parse(texts: &StringArray, to: &Field, zone: &TimeZone) -> Result<ArrayRef> {
    Ok(match to.data_type() {
        DataType::Boolean => {
            let values = texts.iter().map(|text| text.map(input::bool).transpose());
            Arc::new(values.collect::<crate::Result<BooleanArray>>().map_err(carry)?)
        }
        DataType::Int16 => {
            integers::<Int16Type>(texts, "smallint", i16::MIN.into(), i16::MAX.into())?
        }
        DataType::Int32 => {
            integers::<Int32Type>(texts, "integer", i32::MIN.into(), i32::MAX.into())?
        }
        DataType::Int64 => integers::<Int64Type>(texts, "bigint", i64::MIN, i64::MAX)?,
        DataType::UInt32 => integers::<UInt32Type>(texts, "oid", 0, u32::MAX.into())?,
        DataType::Float32 => primitives::<Float32Type>(texts, input::float4)?,
        DataType::Float64 => primitives::<Float64Type>(texts, input::float8)?,
        DataType::Decimal128(precision, scale) => {
            let array =
                read::<Decimal128Type>(texts, |text| input::numeric(text, *precision, *scale))?;
            let array: Decimal128Array = array.with_precision_and_scale(*precision, *scale)?;
            Arc::new(array)
        }
        DataType::Date32 => primitives::<Date32Type>(texts, input::date)?,
        DataType::Time64(TimeUnit::Microsecond) => {
            primitives::<Time64MicrosecondType>(texts, input::time)?
        }
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            primitives::<TimestampMicrosecondType>(texts, input::timestamp)?
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(name)) => {
            let read_zoned = |text: &str| input::timestamptz(text, zone);
            let array = read::<TimestampMicrosecondType>(texts, read_zoned)?;
            Arc::new(array.with_timezone(Arc::clone(name)))
        }
        DataType::Interval(_) => primitives::<IntervalMonthDayNanoType>(texts, |text| {
            interval::interval(text)
                .map(|(months, days, nanos)| IntervalMonthDayNano::new(months, days, nanos))
        })?,
        DataType::Binary => {
            let values = texts.iter().map(|text| text.map(input::bytea).transpose());
            let values: Vec<Option<Vec<u8>>> =
                values.collect::<crate::Result<_>>().map_err(carry)?;
            Arc::new(values.iter().map(Option::as_deref).collect::<BinaryArray>())
        }
        DataType::FixedSizeBinary(16) => uuids(texts)?,
        DataType::Utf8 => declared_text(texts, to)?,
        DataType::List(element) => lists(texts, element, zone)?,
        other => return Err(cannot_cast(&DataType::Utf8, other)),
    })
}

fn read<T: ArrowPrimitiveType>(
    texts: &StringArray,
    read: impl Fn(&str) -> crate::Result<T::Native>,
) -> Result<PrimitiveArray<T>> {
    texts
        .iter()
        .map(|text| text.map(&read).transpose())
        .collect::<crate::Result<PrimitiveArray<T>>>()
        .map_err(carry)
}

fn primitives<T: ArrowPrimitiveType>(
    texts: &StringArray,
    parse: impl Fn(&str) -> crate::Result<T::Native>,
) -> Result<ArrayRef> {
    Ok(Arc::new(read::<T>(texts, parse)?))
}

fn integers<T: ArrowPrimitiveType>(
    texts: &StringArray,
    type_name: &str,
    min: i64,
    max: i64,
) -> Result<ArrayRef>
where
    T::Native: TryFrom<i64>,
{
    primitives::<T>(texts, |text| {
        let value = input::int(text, type_name, min, max)?;
        T::Native::try_from(value).map_err(|_| input::out_of_range(type_name, text))
    })
}

fn uuids(texts: &StringArray) -> Result<ArrayRef> {
    let mut builder = FixedSizeBinaryBuilder::with_capacity(texts.len(), 16);
    for text in texts {
        match text {
            Some(text) => builder.append_value(input::uuid(text).map_err(carry)?)?,
            None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// VARCHAR(n) and CHAR(n) cut, JSON checks; other texts stay.
fn declared_text(texts: &StringArray, to: &Field) -> Result<ArrayRef> {
    match SqlType::of_field(to) {
        sql_type @ (SqlType::Varchar(Some(_)) | SqlType::Bpchar(_)) => {
            let cut = |text| cut_text(text, &sql_type);
            Ok(Arc::new(texts.iter().map(|text| text.map(cut)).collect::<StringArray>()))
        }
        SqlType::Json | SqlType::Jsonb => {
            texts.iter().flatten().try_for_each(input::json).map_err(carry)?;
            Ok(Arc::new(texts.clone()))
        }
        _ => Ok(Arc::new(texts.clone())),
    }
}

fn lists(texts: &StringArray, element: &Arc<Field>, zone: &TimeZone) -> Result<ArrayRef> {
    let mut elements: Vec<Option<String>> = Vec::new();
    let mut lengths = Vec::with_capacity(texts.len());
    for text in texts {
        let before = elements.len();
        if let Some(text) = text {
            split_array(text, &mut elements)?;
        }
        lengths.push(elements.len() - before);
    }
    let values = parse(&StringArray::from(elements), element, zone)?;
    let nulls: Option<NullBuffer> = texts.nulls().cloned();
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::new(Arc::clone(element), offsets, values, nulls)))
}

/// `{1,NULL,"a, \"b\""}`: one dimension.
fn split_array(text: &str, elements: &mut Vec<Option<String>>) -> Result<()> {
    let malformed = || user_error("22P02", format!("malformed array literal: \"{text}\""));
    let body = text.trim().strip_prefix('{').and_then(|body| body.strip_suffix('}'));
    let body = body.ok_or_else(malformed)?;
    if body.trim().is_empty() {
        return Ok(());
    }
    let mut element = String::new();
    let (mut is_quoted, mut was_quoted, mut is_escaped) = (false, false, false);
    let mut finish = |element: &mut String, was_quoted: bool| {
        let plain = element.trim();
        let value = match was_quoted {
            true => Some(std::mem::take(element)),
            false if plain.eq_ignore_ascii_case("null") => None,
            false => Some(plain.to_owned()),
        };
        let is_missing = !was_quoted && value.as_deref() == Some("");
        element.clear();
        elements.push(value);
        !is_missing
    };
    for character in body.chars() {
        match character {
            _ if is_escaped => {
                element.push(character);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => {
                is_quoted = !is_quoted;
                if is_quoted {
                    element.clear();
                }
                was_quoted = true;
            }
            ',' if !is_quoted => {
                if !finish(&mut element, was_quoted) {
                    return Err(malformed());
                }
                was_quoted = false;
            }
            '{' | '}' if !is_quoted => {
                return Err(user_error("0A000", "arrays of arrays are not supported"));
            }
            // Blanks after a closing quote are no part of the element.
            _ if was_quoted && !is_quoted => {}
            _ => element.push(character),
        }
    }
    if is_quoted || is_escaped || !finish(&mut element, was_quoted) {
        return Err(malformed());
    }
    Ok(())
}
