//! Arithmetic of times and intervals that PostgreSQL has and Arrow has not, or has otherwise:
//! `timestamp - timestamp` in days and time, an interval times a number, `age`, `justify_…`,
//! and the making of times out of numbers.

use std::sync::Arc;

use arrow::{
    array::{
        Array, AsArray, Decimal128Array, Float64Array, IntervalMonthDayNanoArray,
        Time64MicrosecondArray, TimestampMicrosecondArray,
    },
    compute::cast,
    datatypes::{
        DataType, Date32Type, Float64Type, Int64Type, IntervalMonthDayNano,
        IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType,
    },
};
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF},
};

use super::{
    arithmetic::no_function,
    error::{carry, user_error},
    function::{Function, answer, array_argument, constant_text},
    session::{facts, time_zone},
};
use crate::{
    SqlType,
    text::{
        interval as text,
        zone::{Civil, civil_of_days, days_of_civil},
    },
};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

type Span = IntervalMonthDayNano;

/// All functions of this family.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    vec![
        time_difference(),
        interval_multiply(),
        interval_divide(),
        Function::new("interval_in", |_| Ok(interval_type()), interval_in).build(),
        Function::new("age", |_| Ok(interval_type()), age).coerced(age_types).build(),
        justify("justify_hours", |_| Ok(interval_type()), |args| spans(args, justify_hours)),
        justify("justify_days", |_| Ok(interval_type()), |args| spans(args, justify_days)),
        justify("justify_interval", |_| Ok(interval_type()), |args| spans(args, justify_interval)),
        Function::new("isfinite", |_| Ok(DataType::Boolean), isfinite).build(),
        Function::new("make_timestamp", |_| Ok(SqlType::Timestamp.arrow()), make_timestamp)
            .coerced(|types| numbers("make_timestamp", types, 6))
            .build(),
        Function::new("make_time", |_| Ok(SqlType::Time.arrow()), make_time)
            .coerced(|types| numbers("make_time", types, 3))
            .build(),
        Function::new("make_date", |_| Ok(DataType::Date32), make_date)
            .coerced(|types| numbers("make_date", types, 3))
            .build(),
    ]
}

/// `timestamp - timestamp`.
pub fn time_difference() -> Arc<ScalarUDF> {
    Function::new("time_difference", |_| Ok(interval_type()), difference).build()
}

/// `interval * number`.
pub fn interval_multiply() -> Arc<ScalarUDF> {
    Function::new("interval_multiply", |_| Ok(interval_type()), |args| scaled(args, false)).build()
}

/// `interval / number`.
pub fn interval_divide() -> Arc<ScalarUDF> {
    Function::new("interval_divide", |_| Ok(interval_type()), |args| scaled(args, true)).build()
}

/// An interval's length in ns, a month counting 30 days.
pub fn interval_length() -> Arc<ScalarUDF> {
    Function::new(
        "interval_length",
        |_| Ok(DataType::Decimal128(38, 0)),
        |args| {
            let array = array_argument(args, 0)?;
            let spans = array.as_primitive::<IntervalMonthDayNanoType>().iter();
            let length = |span: Span| {
                let days = i128::from(span.months) * 30 + i128::from(span.days);
                days * i128::from(DAY) * 1000 + i128::from(span.nanoseconds)
            };
            let lengths = spans.map(|span| span.map(length)).collect::<Decimal128Array>();
            answer(args, Arc::new(lengths.with_precision_and_scale(38, 0)?))
        },
    )
    .build()
}

fn interval_type() -> DataType {
    DataType::Interval(IntervalUnit::MonthDayNano)
}

fn justify(
    name: &'static str,
    rule: super::function::TypeRule,
    body: super::function::Body,
) -> Arc<ScalarUDF> {
    Function::new(name, rule, body).build()
}

fn out_of_range() -> datafusion::error::DataFusionError {
    user_error("22008", "interval out of range")
}

/// An INTERVAL literal.
fn interval_in(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let Some(literal) = constant_text(args, 0) else {
        return Err(user_error("0A000", "an interval literal must be a constant"));
    };
    let (months, days, nanos) = text::interval(&literal).map_err(carry)?;
    let array = IntervalMonthDayNanoArray::from(vec![Span::new(months, days, nanos)]);
    answer(args, Arc::new(array))
}

fn difference(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let micros = |index| -> Result<TimestampMicrosecondArray> {
        let array = array_argument(args, index)?;
        let array = cast(&array, &SqlType::Timestamp.arrow())?;
        Ok(array.as_primitive::<TimestampMicrosecondType>().clone())
    };
    let (left, right) = (micros(0)?, micros(1)?);
    let spans = left.iter().zip(right.iter()).map(|pair| {
        let (Some(left), Some(right)) = pair else { return Ok(None) };
        let micros = left.checked_sub(right).ok_or_else(out_of_range)?;
        let days = i32::try_from(micros / DAY).map_err(|_error| out_of_range())?;
        Ok(Some(Span::new(0, days, micros % DAY * 1000)))
    });
    let array = spans.collect::<Result<IntervalMonthDayNanoArray>>()?;
    answer(args, Arc::new(array))
}

/// Each field times the factor; what is left of months goes into days (of which a month has 30),
/// what is left of days into time, as in PostgreSQL.
fn scaled(args: &ScalarFunctionArgs, is_division: bool) -> Result<ColumnarValue> {
    let spans = array_argument(args, 0)?;
    let factors = array_argument(args, 1)?;
    let factors: &Float64Array = factors.as_primitive::<Float64Type>();
    let spans = spans.as_primitive::<IntervalMonthDayNanoType>();
    let scaled = spans.iter().zip(factors.iter()).map(|pair| {
        let (Some(span), Some(factor)) = pair else { return Ok(None) };
        if is_division && factor == 0.0 {
            return Err(super::error::division_by_zero());
        }
        let scale = |value: f64| if is_division { value / factor } else { value * factor };
        let (months, days) = (scale(span.months.into()), scale(span.days.into()));
        let months_as_days = rounded_seconds(months.fract() * 30.0);
        let mut whole_days = days.trunc() + months_as_days.trunc();
        let mut seconds =
            rounded_seconds((months_as_days.fract() + days.fract()) * (DAY / SECOND) as f64);
        if seconds.abs() >= (DAY / SECOND) as f64 {
            let carried = (seconds / (DAY / SECOND) as f64).trunc();
            whole_days += carried;
            seconds -= carried * (DAY / SECOND) as f64;
        }
        let micros = (scale(span.nanoseconds as f64 / 1000.0) + seconds * SECOND as f64).round();
        let whole = |value: f64| {
            let fits = value.abs() <= f64::from(i32::MAX);
            fits.then_some(value as i32).ok_or_else(out_of_range)
        };
        if micros.is_nan() || micros.abs() >= i64::MAX as f64 / 1000.0 {
            return Err(out_of_range());
        }
        Ok(Some(Span::new(whole(months.trunc())?, whole(whole_days)?, micros as i64 * 1000)))
    });
    let array = scaled.collect::<Result<IntervalMonthDayNanoArray>>()?;
    answer(args, Arc::new(array))
}

/// PostgreSQL rounds a fraction of a unit to microseconds before it flows down.
fn rounded_seconds(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn spans(args: &ScalarFunctionArgs, convert: fn(Span) -> Span) -> Result<ColumnarValue> {
    let array = array_argument(args, 0)?;
    let Some(spans) = array.as_primitive_opt::<IntervalMonthDayNanoType>() else {
        return Err(no_function("justify_interval", &[array.data_type().clone()]));
    };
    let array: IntervalMonthDayNanoArray = spans.unary(convert);
    answer(args, Arc::new(array))
}

/// Whole days out of the time.
fn justify_hours(span: Span) -> Span {
    const NANOS: i64 = DAY * 1000;
    let mut days = span.days.saturating_add((span.nanoseconds / NANOS) as i32);
    let mut nanos = span.nanoseconds % NANOS;
    if days > 0 && nanos < 0 {
        days -= 1;
        nanos += NANOS;
    } else if days < 0 && nanos > 0 {
        days += 1;
        nanos -= NANOS;
    }
    Span::new(span.months, days, nanos)
}

/// Whole months of 30 days out of the days.
fn justify_days(span: Span) -> Span {
    let mut months = span.months.saturating_add(span.days / 30);
    let mut days = span.days % 30;
    if months > 0 && days < 0 {
        months -= 1;
        days += 30;
    } else if months < 0 && days > 0 {
        months += 1;
        days -= 30;
    }
    Span::new(months, days, span.nanoseconds)
}

/// Both, with one sign for all fields.
fn justify_interval(span: Span) -> Span {
    const NANOS: i64 = DAY * 1000;
    let mut span = justify_days(justify_hours(span));
    let is_positive = span.months > 0 || (span.months == 0 && span.days > 0);
    let is_negative = span.months < 0 || (span.months == 0 && span.days < 0);
    if is_positive && span.nanoseconds < 0 {
        span = Span::new(span.months, span.days - 1, span.nanoseconds + NANOS);
    } else if is_negative && span.nanoseconds > 0 {
        span = Span::new(span.months, span.days + 1, span.nanoseconds - NANOS);
    }
    justify_days(span)
}

fn age_types(types: &[DataType]) -> Result<Vec<DataType>> {
    let is_time =
        |data_type: &DataType| matches!(data_type, DataType::Timestamp(..) | DataType::Date32);
    match (1..=2).contains(&types.len()) && types.iter().all(is_time) {
        true => Ok(vec![DataType::Timestamp(TimeUnit::Microsecond, None); types.len()]),
        false => Err(no_function("age", types)),
    }
}

/// Years, months and days between two times, as people count them; from midnight of today with
/// one.
fn age(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let times = |index| -> Result<TimestampMicrosecondArray> {
        let array = cast(&array_argument(args, index)?, &SqlType::Timestamp.arrow())?;
        Ok(array.as_primitive::<TimestampMicrosecondType>().clone())
    };
    let first = times(0)?;
    let (left, right) = match args.args.len() {
        2 => (first, times(1)?),
        _ => {
            let now = facts(args)?.now();
            let local = now + i64::from(time_zone(args).offset_seconds(now)) * SECOND;
            let midnight = local.div_euclid(DAY) * DAY;
            (TimestampMicrosecondArray::from(vec![midnight; first.len()]), first)
        }
    };
    let spans = left.iter().zip(right.iter()).map(|pair| {
        let (Some(left), Some(right)) = pair else { return None };
        Some(match left >= right {
            true => elapsed(left, right),
            false => {
                let span = elapsed(right, left);
                Span::new(-span.months, -span.days, -span.nanoseconds)
            }
        })
    });
    let array: IntervalMonthDayNanoArray = spans.collect();
    answer(args, Arc::new(array))
}

/// From `begin` to `end`, which is not before it. A day is borrowed from the month of `begin`.
fn elapsed(end: i64, begin: i64) -> Span {
    let (last, first) = (civil_of_days(end.div_euclid(DAY)), civil_of_days(begin.div_euclid(DAY)));
    let mut micros = end.rem_euclid(DAY) - begin.rem_euclid(DAY);
    let mut days = i64::from(last.day) - i64::from(first.day);
    let mut months = (last.year - first.year) * 12 + i64::from(last.month) - i64::from(first.month);
    if micros < 0 {
        micros += DAY;
        days -= 1;
    }
    if days < 0 {
        let (year, month) =
            if first.month == 12 { (first.year + 1, 1) } else { (first.year, first.month + 1) };
        let start = |year, month| days_of_civil(Civil { year, month, day: 1 }).unwrap_or_default();
        days += start(year, month) - start(first.year, first.month);
        months -= 1;
    }
    Span::new(months as i32, days as i32, micros * 1000)
}

/// Whether a time is neither infinity; there are none here, so only NULL is not.
fn isfinite(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let array = array_argument(args, 0)?;
    if !array.data_type().is_temporal() {
        return Err(no_function("isfinite", &[array.data_type().clone()]));
    }
    let answers = (0..array.len()).map(|row| array.is_valid(row).then_some(true));
    answer(args, Arc::new(answers.collect::<arrow::array::BooleanArray>()))
}

fn numbers(name: &str, types: &[DataType], count: usize) -> Result<Vec<DataType>> {
    let is_number = |data_type: &DataType| data_type.is_numeric() || *data_type == DataType::Null;
    if types.len() != count || !types.iter().all(is_number) {
        return Err(no_function(name, types));
    }
    let mut coerced = vec![DataType::Int64; count];
    if name != "make_date" {
        coerced[count - 1] = DataType::Float64;
    }
    Ok(coerced)
}

/// The numbers of each row: whole ones, and the last one, which may have a fraction.
fn each_row<V>(
    args: &ScalarFunctionArgs,
    make: impl Fn(&[i64], f64) -> Result<V>,
) -> Result<Vec<Option<V>>> {
    let mut columns = Vec::with_capacity(args.args.len());
    for index in 0..args.args.len() {
        columns.push(array_argument(args, index)?);
    }
    let last = cast(&columns[columns.len() - 1], &DataType::Float64)?;
    let last = last.as_primitive::<Float64Type>();
    let mut values = Vec::with_capacity(args.number_rows);
    for row in 0..last.len() {
        let is_known = columns.iter().all(|column| column.is_valid(row));
        if !is_known {
            values.push(None);
            continue;
        }
        let whole: Vec<i64> = columns[..columns.len() - 1]
            .iter()
            .map(|column| column.as_primitive::<Int64Type>().value(row))
            .collect();
        values.push(Some(make(&whole, last.value(row))?));
    }
    Ok(values)
}

fn days_of(year: i64, month: i64, day: i64) -> Result<i64> {
    let small = |value: i64| u32::try_from(value).unwrap_or(0);
    // A negative year is one BC; there is no year 0.
    let known = if year < 0 { year + 1 } else { year };
    let civil = Civil { year: known, month: small(month), day: small(day) };
    days_of_civil(civil).filter(|_| year != 0).ok_or_else(|| {
        let message = format!("date field value out of range: {year}-{month:02}-{day:02}");
        user_error("22008", message)
    })
}

fn time_of(hour: i64, minute: i64, seconds: f64) -> Result<i64> {
    let is_known =
        (0..24).contains(&hour) && (0..60).contains(&minute) && (0.0..=60.0).contains(&seconds);
    if !is_known {
        let message = format!("time field value out of range: {hour}:{minute:02}:{seconds:02}");
        return Err(user_error("22008", message));
    }
    Ok((hour * 60 + minute) * 60 * SECOND + (seconds * SECOND as f64).round() as i64)
}

fn make_date(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let values = each_row(args, |whole, day| Ok(days_of(whole[0], whole[1], day as i64)? as i32))?;
    answer(args, Arc::new(arrow::array::PrimitiveArray::<Date32Type>::from_iter(values)))
}

fn make_time(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let values = each_row(args, |whole, seconds| time_of(whole[0], whole[1], seconds))?;
    answer(args, Arc::new(values.into_iter().collect::<Time64MicrosecondArray>()))
}

fn make_timestamp(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let values = each_row(args, |whole, seconds| {
        let days = days_of(whole[0], whole[1], whole[2])?;
        Ok(days * DAY + time_of(whole[3], whole[4], seconds)?)
    })?;
    answer(args, Arc::new(values.into_iter().collect::<TimestampMicrosecondArray>()))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{error_of, value_of};

    fn shown(expression: &str) -> String {
        value_of(&format!("SELECT ({expression})::text"))
    }

    #[test]
    fn times_subtract_into_days_and_time() {
        for (expression, text) in [
            ("TIMESTAMP '2024-03-01 12:00' - TIMESTAMP '2024-02-28 10:30'", "2 days 01:30:00"),
            ("TIMESTAMP '2024-01-01' - TIMESTAMP '2024-01-01 00:00:00.5'", "-00:00:00.5"),
            ("DATE '2024-01-31' + INTERVAL '1 month'", "2024-02-29 00:00:00"),
            ("DATE '2024-01-01' - INTERVAL '1 hour'", "2023-12-31 23:00:00"),
            ("INTERVAL '1 day' = INTERVAL '24 hours'", "true"),
            ("INTERVAL '1 day' * 1.5", "1 day 12:00:00"),
            ("INTERVAL '1 month' * 2", "2 mons"),
            ("INTERVAL '1 hour' / 2", "00:30:00"),
            ("-INTERVAL '1 day'", "-1 days"),
            ("INTERVAL '1-2' YEAR TO MONTH", "1 year 2 mons"),
            ("INTERVAL '1 year -2 days 03:00'", "1 year -2 days +03:00:00"),
            ("justify_interval(INTERVAL '1 mon -1 hour')", "29 days 23:00:00"),
            ("age(TIMESTAMP '2001-04-10', TIMESTAMP '1957-06-13')", "43 years 9 mons 27 days"),
            ("make_timestamp(2024, 5, 6, 7, 8, 9.5)", "2024-05-06 07:08:09.5"),
        ] {
            assert_eq!(shown(expression), text, "{expression}");
        }
    }

    #[test]
    fn what_times_cannot_do_has_no_operator() {
        assert_eq!(
            error_of("SELECT DATE '2024-01-01' * 2"),
            "42883 operator does not exist: date * integer"
        );
        assert_eq!(
            error_of("SELECT TIMESTAMP '2024-01-01' + 1"),
            "42883 operator does not exist: timestamp without time zone + integer"
        );
        assert_eq!(
            error_of("SELECT make_date(2024, 13, 1)"),
            "22008 date field value out of range: 2024-13-01"
        );
    }
}
