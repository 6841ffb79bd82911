//! INTERVAL's input syntax: `1 year 2 mons 3 days 04:05:06.7 ago`, `P1Y2M3DT4H5M6.7S`.
//! Fractions flow down as in PostgreSQL: of a month into days, of a day into time.

use crate::{Error, Result};

use super::input::invalid;

/// µs of a day.
const DAY: f64 = 86_400_000_000.0;

/// Sum of the parts read so far.
#[derive(Default)]
struct Parts {
    months: f64,
    days: f64,
    micros: f64,
}

impl Parts {
    /// Adds `value` of a unit; `None` if there is no such unit.
    fn add(&mut self, value: f64, unit: &str) -> Option<()> {
        let months_of = |months: f64| value * months;
        match unit {
            "millennium" | "millennia" | "mil" | "mils" => self.add_months(months_of(12_000.0)),
            "century" | "centuries" | "c" | "cent" => self.add_months(months_of(1200.0)),
            "decade" | "decades" | "dec" | "decs" => self.add_months(months_of(120.0)),
            "year" | "years" | "y" | "yr" | "yrs" => self.add_months(months_of(12.0)),
            "month" | "months" | "mon" | "mons" => {
                self.add_days(value.fract() * 30.0);
                self.months += value.trunc();
            }
            "week" | "weeks" | "w" => self.add_days(value * 7.0),
            "day" | "days" | "d" => self.add_days(value),
            "hour" | "hours" | "h" | "hr" | "hrs" => self.micros += value * 3.6e9,
            "minute" | "minutes" | "m" | "min" | "mins" => self.micros += value * 6e7,
            "second" | "seconds" | "s" | "sec" | "secs" | "" => self.micros += value * 1e6,
            "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" => self.micros += value * 1e3,
            "microsecond" | "microseconds" | "us" | "usec" | "usecs" => self.micros += value,
            _ => return None,
        }
        Some(())
    }

    /// Months of years and longer: PostgreSQL rounds them to whole months.
    fn add_months(&mut self, months: f64) {
        self.months += months.round();
    }

    fn add_days(&mut self, days: f64) {
        self.days += days.trunc();
        self.micros += (days.fract() * DAY).round();
    }

    fn negate(&mut self) {
        self.months = -self.months;
        self.days = -self.days;
        self.micros = -self.micros;
    }
}

/// INTERVAL as months, days, nanoseconds.
pub fn interval(text: &str) -> Result<(i32, i32, i64)> {
    let bad = || Error::new("22007", invalid("interval", text).message);
    let trimmed = text.trim().to_ascii_lowercase();
    let parts = match trimmed.strip_prefix('p') {
        Some(iso) => iso_parts(iso),
        None => worded_parts(&trimmed),
    };
    let parts = parts.ok_or_else(bad)?;
    let whole = |value: f64| {
        let fits = value.abs() <= f64::from(i32::MAX);
        fits.then_some(value as i32).ok_or_else(|| {
            Error::new("22015", format!("interval field value out of range: \"{text}\""))
        })
    };
    let nanos = parts.micros.round() * 1000.0;
    if nanos.abs() >= i64::MAX as f64 {
        return Err(Error::new("22008", "interval out of range"));
    }
    // Whole µs are exact in a double up to 285 years.
    Ok((whole(parts.months)?, whole(parts.days)?, parts.micros.round() as i64 * 1000))
}

/// `[@] number unit … [hh:mm[:ss]] [ago]`.
fn worded_parts(text: &str) -> Option<Parts> {
    let mut parts = Parts::default();
    let mut rest = text.strip_prefix('@').unwrap_or(text).trim_start();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        if rest == "ago" {
            parts.negate();
            return Some(parts);
        }
        let end = rest
            .bytes()
            .position(|byte| !(byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b':')))
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        if number.contains(':') {
            parts.micros += clock_micros(number)?;
            rest = after.trim_start();
            continue;
        }
        if let Some(months) = year_month(number) {
            parts.months += months;
            rest = after.trim_start();
            continue;
        }
        let value: f64 = number.parse().ok()?;
        let after = after.trim_start();
        if after.starts_with(|c: char| c.is_ascii_digit()) && is_clock(after) {
            // Days may stand before a clock without their unit.
            parts.add_days(value);
            rest = after;
            continue;
        }
        let unit_end =
            after.bytes().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        if unit == "ago" {
            parts.add(value, "")?;
            rest = "ago";
            continue;
        }
        parts.add(value, unit)?;
        rest = after.trim_start();
    }
    Some(parts)
}

/// `[-]years-months`.
fn year_month(text: &str) -> Option<f64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let (years, months) = text.split_once('-')?;
    let (years, months): (u32, u32) = (years.parse().ok()?, months.parse().ok()?);
    (months < 12).then_some(sign * (f64::from(years) * 12.0 + f64::from(months)))
}

fn is_clock(text: &str) -> bool {
    text.split_whitespace().next().is_some_and(|word| word.contains(':'))
}

/// `[-]hh:mm[:ss[.f]]` in µs.
fn clock_micros(text: &str) -> Option<f64> {
    let (sign, clock) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    let mut fields = clock.split(':');
    let hours: u32 = fields.next()?.parse().ok()?;
    let minutes: u32 = fields.next()?.parse().ok()?;
    let seconds: f64 = fields.next().unwrap_or("0").parse().ok()?;
    let is_valid = minutes < 60 && (0.0..61.0).contains(&seconds) && fields.next().is_none();
    let micros = f64::from(hours) * 3.6e9 + f64::from(minutes) * 6e7 + (seconds * 1e6).round();
    is_valid.then_some(sign * micros)
}

/// ISO 8601 after the `P`: `1y2m3dt4h5m6.7s`.
fn iso_parts(text: &str) -> Option<Parts> {
    let mut parts = Parts::default();
    let mut is_time = false;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('t') {
            is_time = true;
            rest = after;
            continue;
        }
        let end = rest.bytes().position(|byte| byte.is_ascii_alphabetic())?;
        let value: f64 = rest[..end].parse().ok()?;
        let unit = match (&rest[end..=end], is_time) {
            ("y", false) => "year",
            ("m", false) => "month",
            ("w", false) => "week",
            ("d", false) => "day",
            ("h", true) => "hour",
            ("m", true) => "minute",
            ("s", true) => "second",
            _ => return None,
        };
        parts.add(value, unit)?;
        rest = &rest[end + 1..];
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_read_in_words_clock_and_iso() {
        let cases = [
            ("1 day 02:03:04", (0, 1, 7_384_000_000_000)),
            ("1 year 2 mons -3 days", (14, -3, 0)),
            ("1.5 days", (0, 1, 43_200_000_000_000)),
            ("1.5 months", (1, 15, 0)),
            ("10 seconds", (0, 0, 10_000_000_000)),
            ("2", (0, 0, 2_000_000_000)),
            ("5 minutes ago", (0, 0, -300_000_000_000)),
            ("-00:00:01.5", (0, 0, -1_500_000_000)),
            ("P1Y2M3DT4H5M6.5S", (14, 3, 14_706_500_000_000)),
            ("1h30m", (0, 0, 5_400_000_000_000)),
            ("1-2", (14, 0, 0)),
            ("1 2:03", (0, 1, 7_380_000_000_000)),
            ("1 year -2 days 03:00", (12, -2, 10_800_000_000_000)),
        ];
        for (text, value) in cases {
            assert_eq!(interval(text).unwrap(), value, "{text}");
        }
        for text in ["", "day", "1 fortnight", "1 day xyz", "P", "é"] {
            assert_eq!(interval(text).unwrap_err().code, "22007", "{text}");
        }
    }
}
