//! Moments written by a picture: `to_char` of timestamps, dates, times and intervals.
//! Numbers are padded with zeros and names with blanks, unless `FM` stands before them.

use std::fmt::Write;

use datafusion::error::Result;

use super::{
    DAY, SECOND,
    picture::{Field, Letters, Part, Picture},
};
use crate::{
    functions::error::user_error,
    text::zone::{Civil, TimeZone, civil_of_days, days_of_civil},
};

pub const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
pub const ROMAN_MONTHS: [&str; 12] =
    ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

/// Days from the Julian calendar's beginning to 1970-01-01.
const JULIAN_EPOCH: i64 = 2_440_588;

/// What a picture may show of a timestamp or an interval.
#[derive(Debug, Clone)]
pub struct Moment {
    year: i64,
    month: u32,
    day: i64,
    /// Days since the Unix epoch; `None` for an interval.
    days: Option<i64>,
    /// µs since midnight; of an interval, all of its time.
    micros: i64,
    /// Zone's abbreviation and offset in seconds.
    zone: Option<(String, i32)>,
}

impl Moment {
    /// What a clock shows, µs since the Unix epoch.
    pub fn local(micros: i64) -> Self {
        let days = micros.div_euclid(DAY);
        let Civil { year, month, day } = civil_of_days(days);
        let (day, micros) = (i64::from(day), micros.rem_euclid(DAY));
        Self { year, month, day, days: Some(days), micros, zone: None }
    }

    /// What a clock in a zone shows at an instant.
    pub fn zoned(instant: i64, zone: &TimeZone) -> Self {
        let offset = zone.offset_seconds(instant);
        let local = Self::local(instant.saturating_add(i64::from(offset) * SECOND));
        Self { zone: Some((zone.abbreviation(instant), offset)), ..local }
    }

    /// An interval.
    pub fn interval(months: i32, days: i32, micros: i64) -> Self {
        let (year, month) = (i64::from(months / 12), (months % 12).unsigned_abs());
        Self { year, month, day: days.into(), days: None, micros, zone: None }
    }

    fn hour(&self) -> i64 {
        self.micros / (3600 * SECOND)
    }

    /// Days since the Unix epoch, for fields that an interval has not.
    fn date(&self) -> Result<i64> {
        let message = "invalid format specification for an interval value";
        self.days.ok_or_else(|| user_error("22007", message))
    }

    fn day_of_week(&self) -> Result<usize> {
        Ok((self.date()? + 4).rem_euclid(7) as usize)
    }

    fn day_of_year(&self) -> Result<i64> {
        let first = Civil { year: self.year, month: 1, day: 1 };
        Ok(self.date()? - days_of_civil(first).unwrap_or_default() + 1)
    }

    /// Year and number of the ISO week: that of its Thursday.
    fn iso_week(&self) -> Result<(i64, i64)> {
        let date = self.date()?;
        let thursday = date - (date + 3).rem_euclid(7) + 3;
        let year = civil_of_days(thursday).year;
        let first = days_of_civil(Civil { year, month: 1, day: 1 }).unwrap_or_default();
        Ok((year, (thursday - first) / 7 + 1))
    }

    fn century(&self) -> i64 {
        if self.year > 0 { (self.year + 99) / 100 } else { self.year / 100 - 1 }
    }

    /// The year as it is written: there is no year 0, and BC years count down.
    fn shown_year(&self) -> i64 {
        if self.days.is_some() && self.year <= 0 { 1 - self.year } else { self.year }
    }
}

impl Picture {
    /// Writes a moment.
    pub fn write(&self, moment: &Moment) -> Result<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(character) | Part::Quoted(character) => text.push(*character),
                Part::Field { field, is_bare, ordinal, .. } => {
                    let begin = text.len();
                    write_field(*field, moment, *is_bare, &mut text)?;
                    if let Some(letters) = ordinal {
                        let suffix = ordinal_suffix(&text[begin..]);
                        text.push_str(&in_letters(suffix, *letters));
                    }
                }
            }
        }
        Ok(text)
    }
}

fn write_field(field: Field, moment: &Moment, is_bare: bool, text: &mut String) -> Result<()> {
    let mut number = |value: i64, width: usize| {
        let width = if is_bare { 0 } else { width + usize::from(value < 0) };
        // Writing into a string cannot fail.
        let _ = write!(text, "{value:0width$}");
    };
    match field {
        Field::Year(4) => number(moment.shown_year(), 4),
        Field::Year(digits) => {
            number(moment.shown_year() % 10i64.pow(digits.into()), digits.into());
        }
        Field::YearComma => {
            let year = moment.shown_year();
            let _ = write!(text, "{},{:03}", year / 1000, year % 1000);
        }
        Field::IsoYear(4) => number(moment.iso_week()?.0, 4),
        Field::IsoYear(digits) => {
            number(moment.iso_week()?.0 % 10i64.pow(digits.into()), digits.into());
        }
        Field::Century => number(moment.century(), 2),
        Field::Quarter => number(i64::from(moment.month.max(1) - 1) / 3 + 1, 1),
        Field::Month => number(moment.month.into(), 2),
        Field::Day => number(moment.day, 2),
        Field::DayOfYear => number(moment.day_of_year()?, 3),
        Field::DayOfWeek => number(moment.day_of_week()? as i64 + 1, 1),
        Field::IsoDayOfWeek => number((moment.day_of_week()? as i64 + 6) % 7 + 1, 1),
        Field::WeekOfMonth => number((moment.day - 1) / 7 + 1, 1),
        Field::Week => number((moment.day_of_year()? - 1) / 7 + 1, 2),
        Field::IsoWeek => number(moment.iso_week()?.1, 2),
        Field::Julian => number(moment.date()? + JULIAN_EPOCH, 0),
        Field::Hour24 => number(moment.hour(), 2),
        Field::Hour12 => number(twelve(moment.hour()), 2),
        Field::Minute => number(moment.micros / (60 * SECOND) % 60, 2),
        Field::Second => number(moment.micros / SECOND % 60, 2),
        Field::Fraction(digits) => {
            let unit = 10i64.pow(6 - u32::from(digits));
            let width = usize::from(digits);
            let _ = write!(text, "{:0width$}", (moment.micros % SECOND).abs() / unit);
        }
        Field::SecondOfDay => number(moment.micros / SECOND, 0),
        name => write_name(name, moment, is_bare, text)?,
    }
    Ok(())
}

fn write_name(field: Field, moment: &Moment, is_bare: bool, text: &mut String) -> Result<()> {
    let month = |names: [&'static str; 12]| {
        let index = moment.month.checked_sub(1).map(|index| index as usize);
        index.and_then(|index| names.get(index).copied())
    };
    let zone = || {
        let message = "time zone fields of a value without a time zone";
        moment.zone.as_ref().ok_or_else(|| user_error("0A000", message))
    };
    let mut name = |name: &str, letters, width: usize| {
        let width = if is_bare { 0 } else { width };
        let _ = write!(text, "{:<width$}", in_letters(name, letters));
    };
    match field {
        Field::MonthName(letters) => name(month(MONTHS).unwrap_or_default(), letters, 9),
        Field::MonthShort(letters) => {
            name(month(MONTHS).map_or("", |name| &name[..3]), letters, 0);
        }
        Field::MonthRoman(letters) => name(month(ROMAN_MONTHS).unwrap_or_default(), letters, 4),
        Field::DayName(letters) => name(DAYS[moment.day_of_week()?], letters, 9),
        Field::DayShort(letters) => name(&DAYS[moment.day_of_week()?][..3], letters, 0),
        Field::Meridiem(letters, has_points) => {
            let is_afternoon = moment.hour().rem_euclid(24) >= 12;
            name(dotted(if is_afternoon { "PM" } else { "AM" }, has_points), letters, 0);
        }
        Field::Era(letters, has_points) => {
            name(dotted(if moment.year <= 0 { "BC" } else { "AD" }, has_points), letters, 0);
        }
        Field::Zone(letters) => name(&zone()?.0, letters, 0),
        Field::ZoneHours => {
            let hours = zone()?.1 / 3600;
            let _ = write!(text, "{}{:02}", sign(zone()?.1), hours.abs());
        }
        Field::ZoneMinutes => {
            let _ = write!(text, "{:02}", zone()?.1.abs() / 60 % 60);
        }
        Field::ZoneOffset => {
            let offset = zone()?.1;
            let _ = write!(text, "{}{:02}", sign(offset), offset.abs() / 3600);
            if offset % 3600 != 0 {
                let _ = write!(text, ":{:02}", offset.abs() / 60 % 60);
            }
        }
        _ => {}
    }
    Ok(())
}

fn sign(offset: i32) -> char {
    if offset < 0 { '-' } else { '+' }
}

fn dotted(word: &'static str, has_points: bool) -> &'static str {
    match (word, has_points) {
        ("AM", true) => "A.M.",
        ("PM", true) => "P.M.",
        ("AD", true) => "A.D.",
        ("BC", true) => "B.C.",
        _ => word,
    }
}

fn twelve(hour: i64) -> i64 {
    match hour % 12 {
        0 => 12,
        hour => hour,
    }
}

fn in_letters(name: &str, letters: Letters) -> String {
    match letters {
        Letters::Upper => name.to_uppercase(),
        Letters::Title => name.to_owned(),
        Letters::Lower => name.to_lowercase(),
    }
}

/// `st`, `nd`, `rd` or `th` behind a number.
pub fn ordinal_suffix(number: &str) -> &'static str {
    let mut digits = number.bytes().rev();
    let (last, before) = (digits.next(), digits.next());
    match (before, last) {
        (Some(b'1'), _) => "th",
        (_, Some(b'1')) => "st",
        (_, Some(b'2')) => "nd",
        (_, Some(b'3')) => "rd",
        _ => "th",
    }
}
