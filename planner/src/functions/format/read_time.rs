//! Texts read by a picture: `to_timestamp` and `to_date`. As in PostgreSQL a separator of the
//! picture stands for any separators of the text, and blanks before a field do not count.

use datafusion::error::Result;

use super::{
    DAY, SECOND,
    picture::{Field, Part, Picture},
    write_time::{DAYS, MONTHS, ROMAN_MONTHS},
};
use crate::{
    Error,
    functions::error::{carry, user_error},
    text::zone::{Civil, TimeZone, days_of_civil},
};

/// What a picture found in a text.
#[derive(Debug, Default, Clone)]
pub struct Parts {
    year: Option<i64>,
    month: Option<u32>,
    day: Option<u32>,
    day_of_year: Option<i64>,
    julian: Option<i64>,
    hour: i64,
    is_afternoon: Option<bool>,
    is_twelve_hours: bool,
    minute: i64,
    second: i64,
    micros: i64,
    second_of_day: Option<i64>,
    is_before_christ: bool,
    iso: IsoDate,
    offset_hours: Option<i64>,
    offset_minutes: i64,
}

/// A date by its ISO week.
#[derive(Debug, Default, Clone)]
struct IsoDate {
    year: Option<i64>,
    week: Option<i64>,
    day: Option<i64>,
}

fn out_of_range(text: &str) -> datafusion::error::DataFusionError {
    user_error("22008", format!("date/time field value out of range: \"{text}\""))
}

impl Parts {
    /// The instant, µs since the Unix epoch; without a zone in the text the session's counts.
    pub fn instant(&self, zone: &TimeZone, text: &str) -> Result<i64> {
        let local = self
            .days(text)?
            .checked_mul(DAY)
            .and_then(|days| days.checked_add(self.time(text).ok()?))
            .ok_or_else(|| out_of_range(text))?;
        self.time(text)?;
        match self.offset_hours {
            Some(hours) => {
                let minutes = if hours < 0 { -self.offset_minutes } else { self.offset_minutes };
                Ok(local - (hours * 3600 + minutes * 60) * SECOND)
            }
            None => Ok(zone.instant_of_local(local)),
        }
    }

    /// The date, days since the Unix epoch.
    pub fn date(&self, text: &str) -> Result<i32> {
        i32::try_from(self.days(text)?).map_err(|_error| out_of_range(text))
    }

    fn time(&self, text: &str) -> Result<i64> {
        if let Some(seconds) = self.second_of_day {
            return Ok(seconds * SECOND + self.micros);
        }
        let mut hour = self.hour;
        if self.is_twelve_hours {
            if !(1..=12).contains(&hour) {
                let message = format!("hour \"{hour}\" is invalid for the 12-hour clock");
                return Err(user_error("22007", message));
            }
            hour = hour % 12 + if self.is_afternoon == Some(true) { 12 } else { 0 };
        }
        if hour > 23 || self.minute > 59 || self.second > 59 {
            return Err(out_of_range(text));
        }
        Ok(((hour * 60 + self.minute) * 60 + self.second) * SECOND + self.micros)
    }

    fn days(&self, text: &str) -> Result<i64> {
        if let Some(julian) = self.julian {
            return Ok(julian - 2_440_588);
        }
        if let (Some(year), Some(week)) = (self.iso.year, self.iso.week) {
            let fourth = days_of_civil(Civil { year, month: 1, day: 4 });
            let fourth = fourth.ok_or_else(|| out_of_range(text))?;
            let monday = fourth - (fourth + 3).rem_euclid(7);
            return Ok(monday + (week - 1) * 7 + self.iso.day.unwrap_or(1) - 1);
        }
        let year = match (self.year, self.is_before_christ) {
            (Some(year), true) => 1 - year,
            (Some(year), false) => year,
            // PostgreSQL's year without one: 1 BC.
            (None, _) => 0,
        };
        if let Some(day) = self.day_of_year {
            let first = days_of_civil(Civil { year, month: 1, day: 1 });
            return first.map(|first| first + day - 1).ok_or_else(|| out_of_range(text));
        }
        let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        days_of_civil(Civil { year, month, day }).ok_or_else(|| out_of_range(text))
    }
}

impl Picture {
    /// Reads a text.
    pub fn parse(&self, text: &str) -> Result<Parts> {
        let mut parts = Parts::default();
        let mut rest = text;
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Text(character) if is_separator(*character) => {
                    rest = rest.trim_start_matches(|c: char| is_separator(c) && !"+-".contains(c));
                    let follows_zone = self.parts.get(index + 1).is_some_and(is_zone);
                    if !follows_zone {
                        rest = rest.trim_start_matches(is_separator);
                    }
                }
                Part::Text(_) | Part::Quoted(_) => {
                    let mut characters = rest.chars();
                    characters.next();
                    rest = characters.as_str();
                }
                Part::Field { field, keyword, .. } => {
                    rest = rest.trim_start();
                    if rest.is_empty() {
                        break;
                    }
                    let is_tight = self.parts.get(index + 1).is_some_and(is_number);
                    rest = Reader { field: *field, keyword, rest, is_tight }.read(&mut parts)?;
                }
            }
        }
        Ok(parts)
    }
}

fn is_separator(character: char) -> bool {
    !character.is_alphanumeric()
}

fn is_zone(part: &Part) -> bool {
    matches!(part, Part::Field { field: Field::ZoneHours | Field::ZoneOffset, .. })
}

/// Whether a part begins with digits, so that digits before it must be counted.
fn is_number(part: &Part) -> bool {
    let Part::Field { field, .. } = part else { return false };
    !matches!(
        field,
        Field::MonthName(_)
            | Field::MonthShort(_)
            | Field::MonthRoman(_)
            | Field::DayName(_)
            | Field::DayShort(_)
            | Field::Meridiem(..)
            | Field::Era(..)
            | Field::Zone(_)
    )
}

/// One field at the start of a text.
struct Reader<'a> {
    field: Field,
    keyword: &'a str,
    rest: &'a str,
    /// Whether the next field follows without a separator.
    is_tight: bool,
}

impl<'a> Reader<'a> {
    /// Puts the field's value into `parts`; what follows it.
    fn read(self, parts: &mut Parts) -> Result<&'a str> {
        match self.field {
            Field::MonthName(_) | Field::MonthShort(_) => {
                let is_whole = matches!(self.field, Field::MonthName(_));
                let (month, rest) = self.name(&MONTHS, is_whole)?;
                parts.month = Some(month as u32 + 1);
                return Ok(rest);
            }
            Field::MonthRoman(_) => {
                let (month, rest) = self.roman_month()?;
                parts.month = Some(month);
                return Ok(rest);
            }
            Field::DayName(_) => return Ok(self.name(&DAYS, true)?.1),
            Field::DayShort(_) => return Ok(self.name(&DAYS, false)?.1),
            Field::Meridiem(..) => {
                let (index, rest) = self.word(&["am", "pm", "a.m.", "p.m."])?;
                parts.is_afternoon = Some(index % 2 == 1);
                parts.is_twelve_hours = true;
                return Ok(rest);
            }
            Field::Era(..) => {
                let (index, rest) = self.word(&["ad", "bc", "a.d.", "b.c."])?;
                parts.is_before_christ = index % 2 == 1;
                return Ok(rest);
            }
            Field::Zone(_) => {
                return Err(user_error(
                    "0A000",
                    "formatting field \"TZ\" is only supported in to_char",
                ));
            }
            Field::ZoneOffset => {
                return Err(user_error(
                    "0A000",
                    "formatting field \"OF\" is only supported in to_char",
                ));
            }
            _ => {}
        }
        let (value, digits, rest) = self.number()?;
        self.keep(value, digits, parts)?;
        Ok(rest)
    }

    fn keep(&self, value: i64, digits: usize, parts: &mut Parts) -> Result<()> {
        let small = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
        match self.field {
            Field::Year(4) | Field::YearComma => parts.year = Some(value),
            Field::Year(_) => parts.year = Some(near_2020(value, digits)),
            Field::IsoYear(4) => parts.iso.year = Some(value),
            Field::IsoYear(_) => parts.iso.year = Some(near_2020(value, digits)),
            Field::IsoWeek => parts.iso.week = Some(value),
            Field::IsoDayOfWeek => parts.iso.day = Some(value),
            Field::Month => parts.month = Some(small(value)),
            Field::Day => parts.day = Some(small(value)),
            Field::DayOfYear => parts.day_of_year = Some(value),
            Field::Julian => parts.julian = Some(value),
            Field::Week => parts.day_of_year = Some((value - 1) * 7 + 1),
            Field::Hour24 => parts.hour = value,
            Field::Hour12 => {
                parts.hour = value;
                parts.is_twelve_hours = true;
            }
            Field::Minute => parts.minute = value,
            Field::Second => parts.second = value,
            Field::Fraction(_) => {
                parts.micros = value * 10i64.pow(6u32.saturating_sub(digits as u32));
            }
            Field::SecondOfDay => parts.second_of_day = Some(value),
            Field::ZoneHours => parts.offset_hours = Some(value),
            Field::ZoneMinutes => parts.offset_minutes = value,
            Field::Century => parts.year = parts.year.or(Some((value - 1) * 100 + 1)),
            // What does not say a date by itself is read and left alone, as in PostgreSQL.
            _ => {}
        }
        Ok(())
    }

    /// Value, number of digits, and the rest.
    fn number(&self) -> Result<(i64, usize, &'a str)> {
        let width = match self.field {
            Field::Year(4) | Field::YearComma | Field::Julian if !self.is_tight => 9,
            Field::Year(digits) | Field::IsoYear(digits) => digits.into(),
            Field::DayOfYear => 3,
            Field::Fraction(digits) => digits.into(),
            Field::SecondOfDay => 5,
            Field::Julian => 7,
            Field::DayOfWeek | Field::IsoDayOfWeek | Field::Quarter | Field::WeekOfMonth => 1,
            Field::YearComma => 5,
            _ => 2,
        };
        let (sign, digits) = match self.rest.as_bytes().first() {
            Some(b'-') => (-1, &self.rest[1..]),
            Some(b'+') => (1, &self.rest[1..]),
            _ => (1, self.rest),
        };
        let is_digit =
            |byte: u8| byte.is_ascii_digit() || (byte == b',' && self.field == Field::YearComma);
        let length = digits.bytes().take(width).take_while(|byte| is_digit(*byte)).count();
        let number = digits[..length].replace(',', "");
        match number.parse::<i64>() {
            Ok(value) => Ok((sign * value, number.len(), &digits[length..])),
            Err(_) => Err(self.invalid("Value must be an integer.")),
        }
    }

    fn name(&self, names: &[&str], is_whole: bool) -> Result<(usize, &'a str)> {
        let matches = |name: &str| {
            let name = if is_whole { name } else { &name[..3] };
            let start = self.rest.get(..name.len())?;
            start.eq_ignore_ascii_case(name).then_some(name.len())
        };
        let found = names
            .iter()
            .enumerate()
            .find_map(|(index, name)| matches(name).map(|length| (index, &self.rest[length..])));
        found.ok_or_else(|| self.unknown_word())
    }

    fn roman_month(&self) -> Result<(u32, &'a str)> {
        let length = self.rest.bytes().take_while(|byte| b"IVXivx".contains(byte)).count();
        let (word, rest) = self.rest.split_at(length);
        let month = ROMAN_MONTHS.iter().position(|month| month.eq_ignore_ascii_case(word));
        month.map(|month| (month as u32 + 1, rest)).ok_or_else(|| self.unknown_word())
    }

    fn word(&self, words: &[&str]) -> Result<(usize, &'a str)> {
        let found = words.iter().enumerate().find_map(|(index, word)| {
            let start = self.rest.get(..word.len())?;
            start.eq_ignore_ascii_case(word).then(|| (index, &self.rest[word.len()..]))
        });
        found.ok_or_else(|| self.unknown_word())
    }

    fn unknown_word(&self) -> datafusion::error::DataFusionError {
        self.invalid("The given value did not match any of the allowed values for this field.")
    }

    fn invalid(&self, detail: &str) -> datafusion::error::DataFusionError {
        let value = self.rest.split(is_separator).next().unwrap_or(self.rest);
        let message = format!("invalid value \"{value}\" for \"{}\"", self.keyword);
        carry(Error::new("22007", message).with_detail(detail))
    }
}

/// PostgreSQL takes a year of few digits to be the one nearest to 2020.
fn near_2020(year: i64, digits: usize) -> i64 {
    match (digits, year) {
        (0..=2, 0..70) => year + 2000,
        (0..=2, _) if year < 100 => year + 1900,
        (3, 0..520) => year + 2000,
        (3, _) if year < 1000 => year + 1000,
        _ => year,
    }
}
