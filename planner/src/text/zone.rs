//! Calendar and time zones: days ↔ civil dates, and the offset of a session's `TimeZone`.
//! UTC and fixed offsets cost nothing; a named zone is looked up once for each value.

use std::str::FromStr;

use crate::{Error, Result};
use arrow::array::timezone::Tz;
use chrono::{DateTime, NaiveDateTime, Offset, TimeZone as _};

/// µs of a day.
pub const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL's binary dates begin.
pub const POSTGRES_EPOCH_DAYS: i64 = 10_957;

/// µs from 1970-01-01 to 2000-01-01.
pub const POSTGRES_EPOCH_MICROS: i64 = POSTGRES_EPOCH_DAYS * MICROS_PER_DAY;

/// A date of the proleptic Gregorian calendar; year 0 is 1 BC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// Year.
    pub year: i64,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
}

/// The date `days` after 1970-01-01 (Howard Hinnant's algorithm: eras of 400 years, years that
/// begin in March).
pub fn civil_of_days(days: i64) -> Civil {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month =
        (if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 }) as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Civil { year, month, day }
}

/// Days from 1970-01-01 to a date; `None` if there is no such date.
pub fn days_of_civil(civil: Civil) -> Option<i64> {
    let Civil { year, month, day } = civil;
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A session's time zone.
#[derive(Debug, Clone, Copy)]
pub enum TimeZone {
    /// UTC, the default.
    Utc,
    /// Seconds east of UTC.
    Fixed(i32),
    /// A zone of the tz database.
    Named(Tz),
}

impl TimeZone {
    /// The zone that a setting names: hours east of UTC if it is a number, else as in
    /// [`TimeZone::parse`].
    pub fn of_setting(name: &str) -> Result<Self> {
        match name.trim().parse::<f64>() {
            // A day holds no more hours than that.
            Ok(hours) if hours.abs() <= 167.0 && !name.contains(['e', 'E', 'n', 'N']) => {
                Ok(Self::fixed((hours * 3600.0) as i32))
            }
            _ => Self::parse(name),
        }
    }

    /// The zone behind a clock in a text: an offset counts east, as in ISO 8601.
    pub fn of_text(name: &str) -> Result<Self> {
        match parse_offset(name) {
            Some(seconds) => Ok(Self::fixed(seconds)),
            None => Self::parse(name),
        }
    }

    fn fixed(seconds: i32) -> Self {
        if seconds == 0 { Self::Utc } else { Self::Fixed(seconds) }
    }

    /// Its name at an instant, as `TZ` in a picture shows it.
    pub fn abbreviation(&self, micros: i64) -> String {
        match self {
            Self::Utc => "UTC".to_owned(),
            Self::Named(zone) => DateTime::from_timestamp_micros(micros)
                .map_or_else(String::new, |instant| {
                    zone.offset_from_utc_datetime(&instant.naive_utc()).to_string()
                }),
            Self::Fixed(seconds) => {
                let sign = if *seconds < 0 { '-' } else { '+' };
                let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
                match minutes {
                    0 => format!("{sign}{hours:02}"),
                    _ => format!("{sign}{hours:02}:{minutes:02}"),
                }
            }
        }
    }

    /// The zone of that name (`UTC`, `Europe/Berlin`), or of a POSIX specification, whose offsets
    /// count west (`+05:30`, `UTC+3`, `<+03>-03`); 22023 if there is none.
    pub fn parse(name: &str) -> Result<Self> {
        let is_utc = ["utc", "gmt", "z", "zulu", "etc/utc", "uct", "universal", "greenwich"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known));
        if is_utc {
            return Ok(Self::Utc);
        }
        if let Some(seconds) = posix_offset(name) {
            return Ok(Self::fixed(-seconds));
        }
        Tz::from_str(name).map(Self::Named).map_err(|_| {
            Error::new("22023", format!("invalid value for parameter \"TimeZone\": \"{name}\""))
        })
    }

    /// Seconds east of UTC at an instant (µs since the Unix epoch).
    pub fn offset_seconds(&self, micros: i64) -> i32 {
        match self {
            Self::Utc => 0,
            Self::Fixed(seconds) => *seconds,
            Self::Named(zone) => DateTime::from_timestamp_micros(micros).map_or(0, |instant| {
                zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc()
            }),
        }
    }

    /// The instant at which a clock in this zone shows `local` (µs). Of two such instants the
    /// standard-time one is taken, as PostgreSQL does; in a gap the clock before it counts on.
    pub fn instant_of_local(&self, local: i64) -> i64 {
        match self {
            Self::Utc => local,
            Self::Fixed(seconds) => local - i64::from(*seconds) * 1_000_000,
            Self::Named(zone) => {
                let naive = DateTime::from_timestamp_micros(local)
                    .map_or(NaiveDateTime::default(), |at| at.naive_utc());
                let offset = match zone.offset_from_local_datetime(&naive) {
                    chrono::LocalResult::Single(offset) => offset.fix().local_minus_utc(),
                    chrono::LocalResult::Ambiguous(_, later) => later.fix().local_minus_utc(),
                    chrono::LocalResult::None => self.offset_seconds(local - MICROS_PER_DAY / 2),
                };
                local - i64::from(offset) * 1_000_000
            }
        }
    }
}

/// Seconds west of UTC in `[name][+-]hh[:mm]`, where a name is three letters or more, or stands
/// between `<` and `>`.
fn posix_offset(text: &str) -> Option<i32> {
    let offset = match text.strip_prefix('<') {
        Some(rest) => rest.split_once('>')?.1,
        None => {
            let rest = text.trim_start_matches(|c: char| c.is_ascii_alphabetic());
            let letters = text.len() - rest.len();
            if letters == 1 || letters == 2 {
                return None;
            }
            rest
        }
    };
    match offset.as_bytes().first()? {
        b'+' | b'-' => parse_offset(offset),
        b'0'..=b'9' if offset.len() < text.len() => parse_offset(&format!("+{offset}")),
        _ => None,
    }
}

/// `+hh`, `+hhmm`, `+hh:mm[:ss]` in seconds; `None` if it is no offset.
pub fn parse_offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let mut seconds = 0;
    let mut parts = [0i32; 3];
    if rest.contains(':') {
        for (index, part) in rest.split(':').enumerate() {
            let is_number = !part.is_empty() && part.len() <= 2;
            *parts.get_mut(index)? = is_number.then(|| part.parse().ok()).flatten()?;
        }
    } else if rest.len() <= 2 {
        parts[0] = rest.parse().ok()?;
    } else if rest.len() == 4 {
        parts[0] = rest.get(..2)?.parse().ok()?;
        parts[1] = rest.get(2..)?.parse().ok()?;
    } else {
        return None;
    }
    if parts[0] > 15 || parts[1] > 59 || parts[2] > 59 || parts.iter().any(|part| *part < 0) {
        return None;
    }
    for (part, unit) in parts.iter().zip([3600, 60, 1]) {
        seconds += part * unit;
    }
    Some(sign * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_days_are_inverse() {
        for days in (-800_000..3_000_000).step_by(997) {
            assert_eq!(days_of_civil(civil_of_days(days)), Some(days));
        }
        assert_eq!(days_of_civil(Civil { year: 2023, month: 2, day: 29 }), None);
        assert_eq!(days_of_civil(Civil { year: 2000, month: 1, day: 1 }), Some(10_957));
    }

    #[test]
    fn offsets_parse_in_every_spelling() {
        assert_eq!(parse_offset("+02"), Some(7200));
        assert_eq!(parse_offset("-0330"), Some(-12_600));
        assert_eq!(parse_offset("+05:30"), Some(19_800));
        assert_eq!(parse_offset("+5:3:1"), Some(18_181));
        assert_eq!(parse_offset("+99"), None);
        assert_eq!(parse_offset("02"), None);
        assert_eq!(parse_offset("+é"), None);
    }

    #[test]
    fn offsets_count_east_in_texts_and_numbers_and_west_in_names() {
        let seconds = |zone: Result<TimeZone>| zone.unwrap().offset_seconds(0);
        assert_eq!(seconds(TimeZone::of_text("+05:30")), 19_800);
        assert_eq!(seconds(TimeZone::of_setting("+05:30")), -19_800);
        assert_eq!(seconds(TimeZone::of_setting("-3")), -10_800);
        assert_eq!(seconds(TimeZone::of_setting("5.5")), 19_800);
        assert_eq!(seconds(TimeZone::parse("UTC+3")), -10_800);
        assert_eq!(seconds(TimeZone::parse("<+03>-03")), 10_800);
    }

    #[test]
    fn unknown_zone_is_refused() {
        assert_eq!(TimeZone::parse("Mars/Olympus").unwrap_err().code, "22023");
    }
}
