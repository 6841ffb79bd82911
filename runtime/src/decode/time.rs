//! ISO 8601 dates and times to days and µs. A time with a zone becomes UTC; one without is taken
//! as it stands. Years 0001 to 9999; 24:00 and leap seconds are the next minute.

use super::{Decoded, value::invalid};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// DATE, days since 1970-01-01: `2026-07-31`, or the day of a timestamp.
pub fn date(text: &str) -> Decoded<i32> {
    let mut at = Cursor { bytes: text.as_bytes(), at: 0 };
    let days = at.date();
    if at.is_at_end() {
        return days.ok_or_else(|| invalid("a date", text));
    }
    let micros = timestamp(text).map_err(|_| invalid("a date", text))?;
    Ok(micros.div_euclid(DAY) as i32)
}

/// TIME, µs since midnight: `12:34`, `12:34:56.789`.
pub fn time_of_day(text: &str) -> Decoded<i64> {
    let mut at = Cursor { bytes: text.as_bytes(), at: 0 };
    let micros = at.time_of_day();
    match micros {
        Some(micros) if at.is_at_end() && micros < DAY => Ok(micros),
        _ => Err(invalid("a time", text)),
    }
}

/// TIMESTAMP and TIMESTAMPTZ, µs since the epoch: `2026-07-31T12:34:56.789Z`, `2026-07-31 12:34`,
/// `2026-07-31T12:34:56+02:00`, `2026-07-31`.
#[inline]
pub fn timestamp(text: &str) -> Decoded<i64> {
    let mut at = Cursor { bytes: text.as_bytes(), at: 0 };
    at.timestamp().ok_or_else(|| invalid("a timestamp", text))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The next byte if it is one of `accepted`.
    #[inline]
    fn eat(&mut self, accepted: &[u8]) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        accepted.contains(&byte).then(|| {
            self.at += 1;
            byte
        })
    }

    /// Exactly `count` digits.
    #[inline]
    fn number(&mut self, count: usize) -> Option<i64> {
        let digits = self.bytes.get(self.at..self.at + count)?;
        let mut value = 0;
        for byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value * 10 + i64::from(digit);
        }
        self.at += count;
        Some(value)
    }

    fn date(&mut self) -> Option<i32> {
        let year = self.number(4)?;
        self.eat(b"-")?;
        let month = self.number(2)?;
        self.eat(b"-")?;
        let day = self.number(2)?;
        let is_valid = year >= 1 && (1..=12).contains(&month) && day >= 1;
        (is_valid && day <= days_in_month(year, month)).then(|| days_from_civil(year, month, day))
    }

    fn time_of_day(&mut self) -> Option<i64> {
        let hour = self.number(2)?;
        self.eat(b":")?;
        let minute = self.number(2)?;
        let mut micros = (hour * 60 + minute) * 60 * SECOND;
        let mut is_whole_minute = true;
        if self.eat(b":").is_some() {
            let second = self.number(2)?;
            micros += second * SECOND;
            let mut fraction = 0;
            if self.eat(b".,").is_some() {
                fraction = self.fraction()?;
            }
            micros += fraction;
            is_whole_minute = second == 0 && fraction == 0;
            if second > 60 {
                return None;
            }
        }
        let is_end_of_day = hour == 24 && minute == 0 && is_whole_minute;
        ((hour < 24 || is_end_of_day) && minute < 60).then_some(micros)
    }

    /// µs of the digits behind a point; digits beyond the sixth are cut off.
    fn fraction(&mut self) -> Option<i64> {
        let (mut value, mut count) = (0, 0);
        while let Some(digit) = self.bytes.get(self.at).map(|byte| byte.wrapping_sub(b'0')) {
            if digit > 9 {
                break;
            }
            if count < 6 {
                value = value * 10 + i64::from(digit);
            }
            count += 1;
            self.at += 1;
        }
        (count > 0).then(|| value * 10_i64.pow(6_u32.saturating_sub(count)))
    }

    /// µs east of UTC: `Z`, `+02`, `+02:00`, `+0200`; 0 if there is none.
    fn zone(&mut self) -> Option<i64> {
        match self.bytes.get(self.at) {
            None => return Some(0),
            Some(b' ') => self.at += 1,
            _ => {}
        }
        if self.eat(b"Zz").is_some() {
            return Some(0);
        }
        let sign = if self.eat(b"+-")? == b'-' { -1 } else { 1 };
        let hours = self.number(2)?;
        let has_colon = self.eat(b":").is_some();
        let minutes = if has_colon || !self.is_at_end() { self.number(2)? } else { 0 };
        (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60 * SECOND)
    }

    fn timestamp(&mut self) -> Option<i64> {
        let days = i64::from(self.date()?);
        if self.is_at_end() {
            return Some(days * DAY);
        }
        self.eat(b"Tt ")?;
        let time = self.time_of_day()?;
        let zone = self.zone()?;
        self.is_at_end().then_some(days * DAY + time - zone)
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a Gregorian date: years begin in March, so leap days come last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i32 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era - 719_468) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_agree_with_chrono() {
        for text in [
            "1970-01-01T00:00:00",
            "2026-07-31T12:34:56.789123",
            "2024-02-29T23:59:59.1",
            "0001-01-01T00:00:00",
            "9999-12-31T23:59:59.999999",
            "1900-03-01T01:02:03",
        ] {
            let expected: chrono::NaiveDateTime = text.parse().unwrap();
            assert_eq!(timestamp(text), Ok(expected.and_utc().timestamp_micros()), "{text}");
        }
    }

    #[test]
    fn zones_lead_to_utc() {
        let noon = timestamp("2026-07-31T12:00:00").unwrap();
        for text in [
            "2026-07-31T12:00:00Z",
            "2026-07-31 12:00",
            "2026-07-31T14:00:00+02:00",
            "2026-07-31T14:00:00+02",
            "2026-07-31T07:30:00-0430",
            "2026-07-31 12:00:00.0000000001 +00:00",
        ] {
            assert_eq!(timestamp(text), Ok(noon), "{text}");
        }
        assert_eq!(timestamp("2026-07-30T24:00:00"), timestamp("2026-07-31"));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026",
            "2026-02-29",
            "2026-13-01",
            "2026-07-31T",
            "2026-07-31T25:00",
            "2026-07-31T24:00:01",
            "2026-07-31T12:60",
            "2026-07-31T12:00:61",
            "2026-07-31T12:00:00.",
            "2026-07-31T12:00:00+",
            "2026-07-31T12:00:00 ",
            "2026-07-31T12:00:00Zx",
            "0000-01-01",
            "20260731",
            "yesterday",
            "２026-07-31",
        ] {
            assert!(timestamp(text).is_err(), "{text}");
        }
        assert!(time_of_day("24:00").is_err() && time_of_day("12").is_err());
        assert_eq!(time_of_day("01:02:03.5"), Ok(3_723_500_000));
        assert_eq!(date("1970-01-02"), Ok(1));
        assert_eq!(date("1970-01-02T23:00:00-02:00"), Ok(2));
    }
}
