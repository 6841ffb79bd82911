//! `to_char`, `to_timestamp`, `to_date`, `to_number` with PostgreSQL's pictures. A picture is read
//! once for a batch when it is a constant, which it nearly always is.
//!
//! ```text
//! 'YYYY-MM-DD' ─ Picture::read ─→ [Year 4, '-', Month, '-', Day] ─ write ─→ '2024-05-06'
//! '9,999.00'   ─ NumberPicture ─→ digits, groups, sign, point    ─ write ─→ ' 1,234.50'
//! ```

mod numbers;
mod picture;
mod read_number;
mod read_time;
mod write_time;

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Date32Array, Decimal128Array, Float64Array, StringArray,
        StringBuilder, TimestampMicrosecondArray,
    },
    compute::cast,
    datatypes::{
        DataType, Decimal128Type, Float64Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit,
        TimeUnit, TimestampMicrosecondType,
    },
};
use bytes::BytesMut;
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF},
};

use self::{numbers::NumberPicture, picture::Picture, write_time::Moment};
use super::{
    arithmetic::no_function,
    error::{carry, user_error},
    function::{Function, answer, array_argument},
    session::time_zone,
};
use crate::{
    SqlType,
    text::{input, output},
};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// All functions of this family.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    vec![
        Function::new("to_char", |_| Ok(DataType::Utf8), to_char).coerced(to_char_types).build(),
        Function::new("to_timestamp", |_| Ok(SqlType::Timestamptz.arrow()), to_timestamp)
            .coerced(to_timestamp_types)
            .build(),
        Function::new("to_date", |_| Ok(DataType::Date32), to_date)
            .coerced(|types| two_texts("to_date", types))
            .build(),
        Function::new("to_number", |_| Ok(SqlType::NumericAny.arrow()), to_number)
            .coerced(|types| two_texts("to_number", types))
            .build(),
    ]
}

fn is_text(data_type: &DataType) -> bool {
    crate::rules::operators::is_text(data_type) || *data_type == DataType::Null
}

fn two_texts(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [left, right] if is_text(left) && is_text(right) => Ok(vec![DataType::Utf8; 2]),
        other => Err(no_function(name, other)),
    }
}

fn to_char_types(types: &[DataType]) -> Result<Vec<DataType>> {
    let [value, format] = types else { return Err(no_function("to_char", types)) };
    let value = match value {
        DataType::Timestamp(_, None) | DataType::Date32 => SqlType::Timestamp.arrow(),
        DataType::Timestamp(_, Some(_)) => SqlType::Timestamptz.arrow(),
        DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Float32 | DataType::Float64 => DataType::Float64,
        DataType::Decimal128(..) | DataType::Null => value.clone(),
        integer if integer.is_integer() => DataType::Int64,
        _ => return Err(no_function("to_char", types)),
    };
    if !is_text(format) {
        return Err(no_function("to_char", types));
    }
    Ok(vec![value, DataType::Utf8])
}

fn to_timestamp_types(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [number] if number.is_numeric() => Ok(vec![DataType::Float64]),
        [only] => Err(no_function("to_timestamp", std::slice::from_ref(only))),
        other => two_texts("to_timestamp", other),
    }
}

/// Applies `apply` to every row with the picture of that row; a constant picture is read once.
fn for_each_picture<P, V>(
    args: &ScalarFunctionArgs,
    read: impl Fn(&str) -> Result<P>,
    mut apply: impl FnMut(usize, &P) -> Result<Option<V>>,
    mut push: impl FnMut(Option<V>),
) -> Result<()> {
    let formats = cast(&array_argument(args, 1)?, &DataType::Utf8)?;
    let formats = formats.as_string::<i32>();
    let mut last: Option<(&str, P)> = None;
    for row in 0..args.number_rows {
        if formats.is_null(row) {
            push(None);
            continue;
        }
        let text = formats.value(row);
        let picture = match last.take() {
            Some((known, picture)) if known == text => (known, picture),
            _ => (text, read(text)?),
        };
        push(apply(row, &picture.1)?);
        last = Some(picture);
    }
    Ok(())
}

fn to_char(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let values = array_argument(args, 0)?;
    if !values.data_type().is_numeric() {
        return times_to_char(args, &values);
    }
    let mut texts = StringBuilder::new();
    let mut digits = BytesMut::new();
    let write = |row: usize, picture: &NumberPicture| {
        if values.is_null(row) {
            return Ok(None);
        }
        digits.clear();
        match values.data_type() {
            DataType::Decimal128(_, scale) => {
                let value = values.as_primitive::<Decimal128Type>().value(row);
                output::numeric(value, *scale, output::NumericStyle::Full, &mut digits);
            }
            DataType::Float64 => {
                let value = values.as_primitive::<Float64Type>().value(row);
                // Plain digits, which the exponent form is not.
                digits.extend_from_slice(format!("{value}").as_bytes());
            }
            _ => {
                let value = values.as_primitive::<Int64Type>().value(row);
                digits.extend_from_slice(value.to_string().as_bytes());
            }
        }
        Ok(Some(picture.write(&String::from_utf8_lossy(&digits))))
    };
    for_each_picture(args, NumberPicture::read, write, |text| texts.append_option(text))?;
    answer(args, Arc::new(texts.finish()))
}

fn times_to_char(args: &ScalarFunctionArgs, values: &ArrayRef) -> Result<ColumnarValue> {
    let zone = time_zone(args);
    let mut texts = StringBuilder::new();
    let write = |row: usize, picture: &Picture| {
        if values.is_null(row) {
            return Ok(None);
        }
        let moment = match values.data_type() {
            DataType::Timestamp(_, None) => {
                Moment::local(values.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            DataType::Timestamp(_, Some(_)) => {
                let instant = values.as_primitive::<TimestampMicrosecondType>().value(row);
                Moment::zoned(instant, &zone)
            }
            DataType::Interval(_) => {
                let value = values.as_primitive::<IntervalMonthDayNanoType>().value(row);
                Moment::interval(value.months, value.days, value.nanoseconds / 1000)
            }
            DataType::Time64(_) => {
                let micros = cast(&values.slice(row, 1), &DataType::Int64)?;
                Moment::interval(0, 0, micros.as_primitive::<Int64Type>().value(0))
            }
            _ => return Ok(None),
        };
        Ok(Some(picture.write(&moment)?))
    };
    for_each_picture(args, Picture::read, write, |text| texts.append_option(text))?;
    answer(args, Arc::new(texts.finish()))
}

fn to_timestamp(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    if args.args.len() == 1 {
        return seconds_to_timestamp(args);
    }
    let zone = time_zone(args);
    let read = |parts: read_time::Parts, text: &str| parts.instant(&zone, text);
    let instants: TimestampMicrosecondArray = read_times(args, read)?.into_iter().collect();
    answer(args, Arc::new(instants.with_timezone("UTC")))
}

/// Seconds since the Unix epoch.
fn seconds_to_timestamp(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let seconds = array_argument(args, 0)?;
    let seconds: &Float64Array = seconds.as_primitive::<Float64Type>();
    let instants = seconds.iter().map(|value| match value {
        None => Ok(None),
        Some(value) => {
            let micros = (value * SECOND as f64).round();
            let is_known = micros.is_finite() && micros.abs() < i64::MAX as f64;
            is_known
                .then_some(Some(micros as i64))
                .ok_or_else(|| user_error("22008", "timestamp out of range"))
        }
    });
    let instants = instants.collect::<Result<TimestampMicrosecondArray>>()?;
    answer(args, Arc::new(instants.with_timezone("UTC")))
}

fn to_date(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let read = |parts: read_time::Parts, text: &str| parts.date(text);
    let dates: Date32Array = read_times(args, read)?.into_iter().collect();
    answer(args, Arc::new(dates))
}

fn read_times<V>(
    args: &ScalarFunctionArgs,
    finish: impl Fn(read_time::Parts, &str) -> Result<V>,
) -> Result<Vec<Option<V>>> {
    let texts = cast(&array_argument(args, 0)?, &DataType::Utf8)?;
    let texts: &StringArray = texts.as_string::<i32>();
    let mut values = Vec::with_capacity(texts.len());
    let read = |row: usize, picture: &Picture| {
        if texts.is_null(row) {
            return Ok(None);
        }
        let text = texts.value(row);
        finish(picture.parse(text)?, text).map(Some)
    };
    for_each_picture(args, Picture::read, read, |value| values.push(value))?;
    Ok(values)
}

fn to_number(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = cast(&array_argument(args, 0)?, &DataType::Utf8)?;
    let texts: &StringArray = texts.as_string::<i32>();
    let DataType::Decimal128(precision, scale) = SqlType::NumericAny.arrow() else {
        return Err(user_error("XX000", "NUMERIC is not a decimal"));
    };
    let mut values: Vec<Option<i128>> = Vec::with_capacity(texts.len());
    let read = |row: usize, picture: &NumberPicture| {
        if texts.is_null(row) {
            return Ok(None);
        }
        let digits = read_number::digits(picture, texts.value(row))?;
        input::numeric(&digits, precision, scale).map(Some).map_err(carry)
    };
    for_each_picture(args, NumberPicture::read, read, |value| values.push(value))?;
    let array: Decimal128Array = values.into_iter().collect();
    answer(args, Arc::new(array.with_precision_and_scale(precision, scale)?))
}

#[cfg(test)]
mod tests;
