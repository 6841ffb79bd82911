//! Time functions with PostgreSQL's result types: `extract` answers NUMERIC with as many digits as
//! the field has (`extract_whole` those that have none after the point), `date_part` DOUBLE PRECISION, `AT TIME ZONE` turns a local time into an instant and back.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, TimestampMicrosecondArray},
    compute::{DatePart, cast, date_part},
    datatypes::{
        DataType, Int32Type, IntervalMonthDayNanoType, TimeUnit, TimestampMicrosecondType,
    },
};
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF},
};

use super::{
    arithmetic::no_function,
    error::user_error,
    function::{Function, answer, array_argument, constant_text},
    session::time_zone,
};
use crate::text::TimeZone;

/// Digits after the point that `extract` keeps: microseconds.
const EXTRACT_SCALE: i8 = 6;
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// All functions of this family.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    vec![
        Function::new(
            "extract",
            |_| Ok(DataType::Decimal128(38, EXTRACT_SCALE)),
            |args| {
                let micros = fields(args)?;
                let values = micros.into_iter().map(|value| value.map(i128::from));
                let array = values.collect::<Decimal128Array>();
                answer(args, Arc::new(array.with_precision_and_scale(38, EXTRACT_SCALE)?))
            },
        )
        .build(),
        Function::new(
            "extract_whole",
            |_| Ok(DataType::Decimal128(38, 0)),
            |args| {
                let micros = fields(args)?;
                let values =
                    micros.into_iter().map(|value| value.map(|at| i128::from(at / SECOND)));
                let array = values.collect::<Decimal128Array>();
                answer(args, Arc::new(array.with_precision_and_scale(38, 0)?))
            },
        )
        .build(),
        Function::new(
            "date_part",
            |_| Ok(DataType::Float64),
            |args| {
                let micros = fields(args)?;
                let values = micros.into_iter().map(|value| value.map(|value| value as f64 / 1e6));
                answer(args, Arc::new(values.collect::<Float64Array>()))
            },
        )
        .aliased(&["datepart"])
        .build(),
        Function::new("timezone", timezone_type, timezone).build(),
    ]
}

/// The field's value in millionths.
fn fields(args: &ScalarFunctionArgs) -> Result<Vec<Option<i64>>> {
    let Some(name) = constant_text(args, 0) else {
        return Err(user_error("0A000", "the field of extract() must be a constant"));
    };
    let name = name.to_lowercase();
    let source = array_argument(args, 1)?;
    if let DataType::Interval(_) = source.data_type() {
        let intervals = source.as_primitive::<IntervalMonthDayNanoType>();
        return intervals
            .iter()
            .map(|value| {
                value
                    .map(|value| interval_field(&name, value.months, value.days, value.nanoseconds))
                    .transpose()
            })
            .collect();
    }
    let zone = time_zone(args);
    let local = local_times(&source, &zone)?;
    time_fields(&name, &source, &local, &zone)
}

/// The source as what a clock shows, without a zone.
fn local_times(source: &ArrayRef, zone: &TimeZone) -> Result<TimestampMicrosecondArray> {
    let plain = DataType::Timestamp(TimeUnit::Microsecond, None);
    match source.data_type() {
        DataType::Timestamp(_, Some(_)) => {
            let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            let instants = cast(source, &zoned)?;
            let instants = instants.as_primitive::<TimestampMicrosecondType>();
            let shift = |at: i64| at + i64::from(zone.offset_seconds(at)) * SECOND;
            Ok(instants.unary::<_, TimestampMicrosecondType>(shift))
        }
        DataType::Timestamp(..) | DataType::Date32 => {
            let array = cast(source, &plain)?;
            Ok(array.as_primitive::<TimestampMicrosecondType>().clone())
        }
        DataType::Time64(_) => {
            let micros = cast(source, &DataType::Time64(TimeUnit::Microsecond))?;
            let array = cast(&cast(&micros, &DataType::Int64)?, &plain)?;
            Ok(array.as_primitive::<TimestampMicrosecondType>().clone())
        }
        other => Err(no_function("extract", std::slice::from_ref(other))),
    }
}

fn time_fields(
    name: &str,
    source: &ArrayRef,
    local: &TimestampMicrosecondArray,
    zone: &TimeZone,
) -> Result<Vec<Option<i64>>> {
    let is_zoned = matches!(source.data_type(), DataType::Timestamp(_, Some(_)));
    let of_micros = |compute: fn(i64) -> i64| Ok(local.iter().map(|at| at.map(compute)).collect());
    let part = |part: DatePart, adjust: fn(i64) -> i64| -> Result<Vec<Option<i64>>> {
        let parts = date_part(local, part)?;
        let parts = parts.as_primitive::<Int32Type>();
        Ok(parts.iter().map(|value| value.map(|value| adjust(value.into()) * SECOND)).collect())
    };
    match name {
        "epoch" => {
            // The epoch of an instant does not depend on the zone it is shown in.
            let instants = match is_zoned {
                true => local_times(source, &TimeZone::Utc)?,
                false => local.clone(),
            };
            Ok(instants.iter().collect())
        }
        "second" | "seconds" => of_micros(|at| at.rem_euclid(60 * SECOND)),
        "millisecond" | "milliseconds" => of_micros(|at| at.rem_euclid(60 * SECOND) * 1000),
        "microsecond" | "microseconds" => of_micros(|at| at.rem_euclid(60 * SECOND) * SECOND),
        "minute" | "minutes" => of_micros(|at| at.div_euclid(60 * SECOND).rem_euclid(60) * SECOND),
        "hour" | "hours" => of_micros(|at| at.div_euclid(3600 * SECOND).rem_euclid(24) * SECOND),
        "day" | "days" => part(DatePart::Day, |day| day),
        "month" | "months" => part(DatePart::Month, |month| month),
        "quarter" => part(DatePart::Quarter, |quarter| quarter),
        "year" | "years" => part(DatePart::Year, |year| if year > 0 { year } else { year - 1 }),
        "isoyear" => part(DatePart::YearISO, |year| year),
        "week" | "weeks" => part(DatePart::Week, |week| week),
        "dow" => part(DatePart::DayOfWeekSunday0, |day| day),
        "isodow" => part(DatePart::DayOfWeekMonday0, |day| day + 1),
        "doy" => part(DatePart::DayOfYear, |day| day),
        "decade" => part(DatePart::Year, |year| year.div_euclid(10)),
        "century" => part(DatePart::Year, |year| (year + 99).div_euclid(100)),
        "millennium" => part(DatePart::Year, |year| (year + 999).div_euclid(1000)),
        "timezone" | "timezone_hour" | "timezone_minute" if is_zoned => {
            let seconds = |at: i64| i64::from(zone.offset_seconds(at));
            let part = |at: i64| match name {
                "timezone" => seconds(at),
                "timezone_hour" => seconds(at) / 3600,
                _ => seconds(at) / 60 % 60,
            };
            let instants = local_times(source, &TimeZone::Utc)?;
            Ok(instants.iter().map(|at| at.map(|at| part(at) * SECOND)).collect())
        }
        "julian" => of_micros(|at| at.div_euclid(DAY) * SECOND + 2_440_588 * SECOND),
        _ => Err(unknown_unit(name, &crate::SqlType::of_arrow(source.data_type()).name())),
    }
}

fn interval_field(name: &str, months: i32, days: i32, nanos: i64) -> Result<i64> {
    let micros = nanos / 1000;
    let (months, days) = (i64::from(months), i64::from(days));
    Ok(match name {
        // A year counts 365.25 days here, a month 30.
        "epoch" => {
            (months / 12) * (DAY * 365 + DAY / 4) + (months % 12) * 30 * DAY + days * DAY + micros
        }
        "second" | "seconds" => micros % (60 * SECOND),
        "millisecond" | "milliseconds" => micros % (60 * SECOND) * 1000,
        "microsecond" | "microseconds" => micros % (60 * SECOND) * SECOND,
        "minute" | "minutes" => micros / (60 * SECOND) % 60 * SECOND,
        "hour" | "hours" => micros / (3600 * SECOND) * SECOND,
        "day" | "days" => days * SECOND,
        "month" | "months" => months % 12 * SECOND,
        "quarter" => (months % 12 / 3 + 1) * SECOND,
        "year" | "years" => months / 12 * SECOND,
        "decade" => months / 120 * SECOND,
        _ => return Err(unknown_unit(name, "interval")),
    })
}

fn unknown_unit(name: &str, type_name: &str) -> datafusion::error::DataFusionError {
    user_error("22023", format!("unit \"{name}\" not recognized for type {type_name}"))
}

fn timezone_type(types: &[DataType]) -> Result<DataType> {
    match types {
        [_, DataType::Timestamp(_, Some(_))] => {
            Ok(DataType::Timestamp(TimeUnit::Microsecond, None))
        }
        [_, DataType::Timestamp(_, None) | DataType::Date32] => {
            Ok(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
        }
        other => Err(no_function("timezone", other)),
    }
}

/// `timezone(zone, time)`, which is `time AT TIME ZONE zone`.
fn timezone(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let Some(name) = constant_text(args, 0) else {
        return Err(user_error("0A000", "the zone of AT TIME ZONE must be a constant"));
    };
    let zone = TimeZone::parse(&name)
        .map_err(|_| user_error("22023", format!("time zone \"{name}\" not recognized")))?;
    let source = array_argument(args, 1)?;
    if matches!(source.data_type(), DataType::Timestamp(_, Some(_))) {
        return answer(args, Arc::new(local_times(&source, &zone)?));
    }
    let local = cast(&source, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let local = local.as_primitive::<TimestampMicrosecondType>();
    let instants = local.unary::<_, TimestampMicrosecondType>(|at| zone.instant_of_local(at));
    answer(args, Arc::new(instants.with_timezone("UTC")))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{error_of, value_of};

    #[test]
    fn fields_of_times_are_numeric() {
        assert_eq!(value_of("SELECT extract(year FROM DATE '2024-05-06')::text"), "2024");
        let at = "TIMESTAMP '2024-02-29 13:45:06.789'";
        assert_eq!(value_of(&format!("SELECT extract(second FROM {at})")), "6.789000");
        assert_eq!(value_of(&format!("SELECT extract(year FROM {at})::int")), "2024");
        assert_eq!(value_of(&format!("SELECT date_part('hour', {at})::text")), "13");
        assert_eq!(value_of("SELECT extract(epoch FROM INTERVAL '1 day 1 second')::int"), "86401");
        assert_eq!(value_of("SELECT extract(dow FROM DATE '2024-02-29')::int"), "4");
        assert_eq!(
            error_of("SELECT extract(fortnight FROM DATE '2024-02-29')"),
            "22023 unit \"fortnight\" not recognized for type date"
        );
    }

    #[test]
    fn at_time_zone_goes_both_ways() {
        assert_eq!(
            value_of("SELECT (TIMESTAMP '2024-07-01 12:00:00' AT TIME ZONE '+02')::text"),
            "2024-07-01 14:00:00+00"
        );
        assert_eq!(
            value_of("SELECT (TIMESTAMPTZ '2024-07-01 12:00:00+00' AT TIME ZONE '+02')::text"),
            "2024-07-01 10:00:00"
        );
    }
}
