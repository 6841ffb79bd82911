//! Values → texts, byte for byte as the wire prints them ([`crate::text::output`]), except that
//! BOOLEAN casts to `true` and `false`.

use arrow::{
    array::{
        Array, ArrayRef, AsArray, FixedSizeBinaryArray, StringArray, StringBuilder, downcast_array,
    },
    compute::cast,
    datatypes::{
        ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type,
        IntervalMonthDayNanoType, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    },
};
use bytes::BytesMut;
use datafusion::error::Result;

use super::cannot_cast;
use crate::{
    SqlType,
    text::{TimeZone, output},
};

/// Writes every value as a text.
pub fn write(source: &ArrayRef, source_type: &SqlType, zone: &TimeZone) -> Result<StringArray> {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    Ok(match source.data_type() {
        DataType::Float32 => primitives::<Float32Type>(source, output::float4),
        DataType::Float64 => primitives::<Float64Type>(source, output::float8),
        DataType::Decimal128(_, scale) => {
            let style = match source_type {
                SqlType::NumericAny => output::NumericStyle::Trimmed,
                SqlType::NumericAvg => output::NumericStyle::Average,
                _ => output::NumericStyle::Full,
            };
            primitives::<Decimal128Type>(source, |value, out| {
                output::numeric(value, *scale, style, out);
            })
        }
        DataType::Date32 => {
            primitives::<Date32Type>(source, |days, out| output::date(days.into(), out))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            primitives::<Time64MicrosecondType>(source, output::time)
        }
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            primitives::<TimestampMicrosecondType>(source, output::timestamp)
        }
        DataType::Timestamp(_, None) => write(&cast(source, &micros)?, source_type, zone)?,
        DataType::Timestamp(_, Some(_)) => {
            let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            let instants = cast(source, &zoned)?;
            primitives::<TimestampMicrosecondType>(&instants, |instant, out| {
                output::timestamptz(instant, zone, out);
            })
        }
        DataType::Interval(_) => primitives::<IntervalMonthDayNanoType>(source, |value, out| {
            output::interval(value.months, value.days, value.nanoseconds, out);
        }),
        DataType::Binary => build(source.as_binary::<i32>().iter(), output::bytea),
        DataType::FixedSizeBinary(16) => {
            let array: FixedSizeBinaryArray = downcast_array(source.as_ref());
            build(array.iter(), output::uuid)
        }
        DataType::List(_) => lists(source, source_type, zone)?,
        DataType::Boolean | DataType::Null => {
            downcast_array(cast(source, &DataType::Utf8)?.as_ref())
        }
        other if other.is_integer() => downcast_array(cast(source, &DataType::Utf8)?.as_ref()),
        other => return Err(cannot_cast(other, &DataType::Utf8)),
    })
}

fn primitives<T: ArrowPrimitiveType>(
    source: &ArrayRef,
    write: impl Fn(T::Native, &mut BytesMut),
) -> StringArray {
    build(source.as_primitive::<T>().iter(), write)
}

fn build<V>(
    values: impl Iterator<Item = Option<V>>,
    write: impl Fn(V, &mut BytesMut),
) -> StringArray {
    let mut builder = StringBuilder::new();
    let mut scratch = BytesMut::new();
    for value in values {
        let Some(value) = value else {
            builder.append_null();
            continue;
        };
        scratch.clear();
        write(value, &mut scratch);
        builder.append_value(String::from_utf8_lossy(&scratch));
    }
    builder.finish()
}

/// `{1,NULL,"a b"}`.
fn lists(source: &ArrayRef, source_type: &SqlType, zone: &TimeZone) -> Result<StringArray> {
    let lists = source.as_list::<i32>();
    let element_type = match source_type {
        SqlType::Array(element) => element.as_ref().clone(),
        _ => SqlType::of_arrow(lists.values().data_type()),
    };
    let is_bool = *lists.values().data_type() == DataType::Boolean;
    let texts = match crate::rules::operators::is_text(lists.values().data_type()) {
        true => downcast_array(cast(lists.values(), &DataType::Utf8)?.as_ref()),
        false => write(lists.values(), &element_type, zone)?,
    };
    let mut builder = StringBuilder::new();
    for row in 0..lists.len() {
        if lists.is_null(row) {
            builder.append_null();
            continue;
        }
        let range = lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
        let elements: Vec<String> = range
            .map(|index| match texts.is_valid(index) {
                true if is_bool => texts.value(index)[..1].to_owned(),
                true => quoted(texts.value(index)),
                false => "NULL".to_owned(),
            })
            .collect();
        builder.append_value(format!("{{{}}}", elements.join(",")));
    }
    Ok(builder.finish())
}

/// An element as PostgreSQL writes it inside braces.
fn quoted(text: &str) -> String {
    let needs_quotes = text.is_empty()
        || text.eq_ignore_ascii_case("null")
        || text.contains(|c: char| c.is_whitespace() || "{},\"\\".contains(c));
    if !needs_quotes {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
