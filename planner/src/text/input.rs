//! PostgreSQL's input syntax → raw values, for parameters and COPY lines.
//! Each function reads one text of one type and fails with PostgreSQL's SQLSTATE and words.

use crate::{Error, Result};

use super::zone::{Civil, MICROS_PER_DAY, TimeZone, days_of_civil};

/// 22P02 in PostgreSQL's words.
pub fn invalid(type_name: &str, text: &str) -> Error {
    Error::new("22P02", format!("invalid input syntax for type {type_name}: \"{text}\""))
}

/// 22003 in PostgreSQL's words.
pub fn out_of_range(type_name: &str, text: &str) -> Error {
    Error::new("22003", format!("value \"{text}\" is out of range for type {type_name}"))
}

/// BOOLEAN: unique prefixes of true, false, yes, no, on, off, and 1, 0.
pub fn bool(text: &str) -> Result<bool> {
    let word = text.trim().to_ascii_lowercase();
    let is_prefix = |full: &str, least: usize| word.len() >= least && full.starts_with(&word);
    if word == "1" || is_prefix("true", 1) || is_prefix("yes", 1) || word == "on" {
        return Ok(true);
    }
    if word == "0" || is_prefix("false", 1) || is_prefix("no", 1) || is_prefix("off", 2) {
        return Ok(false);
    }
    Err(invalid("boolean", text))
}

/// SMALLINT, INTEGER, BIGINT, OID: a whole number between `min` and `max`.
pub fn int(text: &str, type_name: &str, min: i64, max: i64) -> Result<i64> {
    let digits = text.trim_ascii();
    match digits.parse::<i128>() {
        Ok(value) if (i128::from(min)..=i128::from(max)).contains(&value) => Ok(value as i64),
        Ok(_) => Err(out_of_range(type_name, text)),
        Err(error) => match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                Err(out_of_range(type_name, text))
            }
            _ => Err(invalid(type_name, text)),
        },
    }
}

/// DOUBLE PRECISION.
pub fn float8(text: &str) -> Result<f64> {
    float(text, "double precision")
}

/// REAL.
pub fn float4(text: &str) -> Result<f32> {
    let wide = float(text, "real")?;
    // Parsed again at its own width, so that it is rounded once.
    let value = text.trim().parse::<f32>().unwrap_or(wide as f32);
    let is_lost = (value.is_infinite() && wide.is_finite()) || (value == 0.0 && wide != 0.0);
    if is_lost { Err(out_of_range("real", text)) } else { Ok(value) }
}

fn float(text: &str, type_name: &str) -> Result<f64> {
    let number = text.trim();
    // Rust also reads `+nan` and `1.e5`; PostgreSQL's spellings are a subset for our purposes.
    let value: f64 = number.parse().map_err(|_| invalid(type_name, text))?;
    let names_infinity = number.bytes().any(|byte| byte.eq_ignore_ascii_case(&b'i'));
    let has_digits_above_zero = || {
        let mantissa = number.split(['e', 'E']).next().unwrap_or("");
        mantissa.bytes().any(|byte| (b'1'..=b'9').contains(&byte))
    };
    if (value.is_infinite() && !names_infinity) || (value == 0.0 && has_digits_above_zero()) {
        return Err(Error::new(
            "22003",
            format!("\"{text}\" is out of range for type {type_name}"),
        ));
    }
    Ok(value)
}

/// NUMERIC as an unscaled value of `scale` digits, rounded half away from zero as PostgreSQL does.
pub fn numeric(text: &str, precision: u8, scale: i8) -> Result<i128> {
    let number = text.trim();
    let bad = || invalid("numeric", text);
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| bad())?),
        None => (number, 0),
    };
    let (is_negative, mantissa) = match mantissa.as_bytes().first() {
        Some(b'-') => (true, &mantissa[1..]),
        Some(b'+') => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    if mantissa.eq_ignore_ascii_case("nan") || mantissa.eq_ignore_ascii_case("infinity") {
        return Err(Error::unsupported(format!("numeric value \"{text}\" is not supported")));
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if whole.len() + fraction.len() == 0 || digits().any(|byte| !byte.is_ascii_digit()) {
        return Err(bad());
    }
    // Digits of the mantissa that stand before the last kept place.
    let kept = whole.len() as i64 + i64::from(exponent) + i64::from(scale);
    let mut unscaled: i128 = 0;
    let overflow = || numeric_overflow(precision, scale);
    let push = |unscaled: i128, digit: u8| {
        let tenfold = unscaled.checked_mul(10).ok_or_else(overflow)?;
        tenfold.checked_add(i128::from(digit - b'0')).ok_or_else(overflow)
    };
    let mut place: i64 = 0;
    let mut rounds_up = false;
    for digit in digits() {
        if place == kept {
            rounds_up = digit >= b'5';
        }
        if place < kept {
            unscaled = push(unscaled, digit)?;
        }
        place += 1;
    }
    if unscaled != 0 {
        for _ in place..kept {
            unscaled = push(unscaled, b'0')?;
        }
    }
    unscaled += i128::from(rounds_up);
    if unscaled >= 10i128.checked_pow(u32::from(precision)).ok_or_else(overflow)? {
        return Err(overflow());
    }
    Ok(if is_negative { -unscaled } else { unscaled })
}

/// 22003 with the field's precision and scale.
pub fn numeric_overflow(precision: u8, scale: i8) -> Error {
    let digits = i16::from(precision) - i16::from(scale);
    Error::new("22003", "numeric field overflow").with_detail(format!(
        "A field with precision {precision}, scale {scale} must round to an absolute value less \
         than 10^{digits}."
    ))
}

/// BYTEA in hex (`\x…`) or escape form.
pub fn bytea(text: &str) -> Result<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        return hex_bytes(hex);
    }
    let bytes = text.as_bytes();
    let mut value = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        if bytes[index] != b'\\' {
            value.push(bytes[index]);
            index += 1;
            continue;
        }
        match bytes.get(index + 1..) {
            Some([b'\\', ..]) => {
                value.push(b'\\');
                index += 2;
            }
            Some([a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                value.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                index += 4;
            }
            _ => return Err(Error::new("22P02", "invalid input syntax for type bytea")),
        }
    }
    Ok(value)
}

fn hex_bytes(hex: &str) -> Result<Vec<u8>> {
    let nibble = |byte: u8| {
        (byte as char).to_digit(16).map(|digit| digit as u8).ok_or_else(|| {
            let shown = char::from(byte);
            Error::new("22023", format!("invalid hexadecimal digit: \"{shown}\""))
        })
    };
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if !digits.len().is_multiple_of(2) {
        return Err(Error::new("22023", "invalid hexadecimal data: odd number of digits"));
    }
    digits.chunks(2).map(|pair| Ok(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

/// UUID: 32 hexadecimal digits, with or without hyphens after groups of four, and braces.
pub fn uuid(text: &str) -> Result<[u8; 16]> {
    let bad = || invalid("uuid", text);
    let inner = text.strip_prefix('{').map_or(Some(text), |rest| rest.strip_suffix('}'));
    let mut value = [0u8; 16];
    let mut count = 0;
    for byte in inner.ok_or_else(bad)?.bytes() {
        if byte == b'-' && count > 0 && count % 4 == 0 {
            continue;
        }
        let digit = (byte as char).to_digit(16).ok_or_else(bad)? as u8;
        *value.get_mut(count / 2).ok_or_else(bad)? |=
            if count % 2 == 0 { digit << 4 } else { digit };
        count += 1;
    }
    if count == 32 { Ok(value) } else { Err(bad()) }
}

/// JSON: checked, kept as written.
pub fn json(text: &str) -> Result<()> {
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map(|_| ())
        .map_err(|error| invalid("json", text).with_detail(format!("{error}.")))
}

/// DATE in days since the Unix epoch.
pub fn date(text: &str) -> Result<i32> {
    let parts = DateTime::read(text, "date")?;
    i32::try_from(parts.days).map_err(|_| date_out_of_range("date", text))
}

/// TIME in µs since midnight; a zone in the text is ignored, as in PostgreSQL.
pub fn time(text: &str) -> Result<i64> {
    let bad = || Error::new("22007", invalid("time", text).message);
    let (micros, rest) = read_clock(text.trim()).ok_or_else(bad)??;
    let zone = rest.trim();
    if zone.is_empty() || TimeZone::of_text(zone).is_ok() { Ok(micros) } else { Err(bad()) }
}

/// TIMESTAMP in µs since the Unix epoch; a zone in the text is ignored, as in PostgreSQL.
pub fn timestamp(text: &str) -> Result<i64> {
    let parts = DateTime::read(text, "timestamp")?;
    parts.local_micros().ok_or_else(|| date_out_of_range("timestamp", text))
}

/// TIMESTAMPTZ in µs since the Unix epoch; without a zone the session's counts.
pub fn timestamptz(text: &str, zone: &TimeZone) -> Result<i64> {
    let parts = DateTime::read(text, "timestamp with time zone")?;
    let local =
        parts.local_micros().ok_or_else(|| date_out_of_range("timestamp with time zone", text))?;
    Ok(parts.zone.as_ref().unwrap_or(zone).instant_of_local(local))
}

fn date_out_of_range(type_name: &str, text: &str) -> Error {
    let noun = type_name.split(' ').next().unwrap_or(type_name);
    Error::new("22008", format!("{noun} out of range: \"{text}\""))
}

/// A date and a clock as read, not yet an instant.
struct DateTime {
    /// Days since the Unix epoch.
    days: i64,
    /// µs since midnight.
    micros: i64,
    /// Zone written after the clock.
    zone: Option<TimeZone>,
}

impl DateTime {
    /// `yyyy-mm-dd[[ |T]hh:mm[:ss[.f]]][zone][ BC]`, `yyyymmdd`, `epoch`.
    fn read(text: &str, type_name: &str) -> Result<Self> {
        let bad = || Error::new("22007", invalid(type_name, text).message);
        let mut rest = text.trim();
        if rest.eq_ignore_ascii_case("epoch") {
            return Ok(Self { days: 0, micros: 0, zone: Some(TimeZone::Utc) });
        }
        let is_before_christ = rest.len() > 3
            && rest.is_char_boundary(rest.len() - 3)
            && rest[rest.len() - 3..].eq_ignore_ascii_case(" bc");
        if is_before_christ {
            rest = rest[..rest.len() - 3].trim_end();
        }
        let (mut civil, after) = read_date(rest).ok_or_else(bad)?;
        if is_before_christ {
            civil.year = 1 - civil.year;
        }
        let days = days_of_civil(civil).ok_or_else(|| {
            Error::new("22008", format!("date/time field value out of range: \"{text}\""))
        })?;
        let after = after.strip_prefix(['T', 't']).unwrap_or(after).trim_start();
        if after.is_empty() {
            return Ok(Self { days, micros: 0, zone: None });
        }
        // A zone may follow the date itself: drivers write a date so when it comes from an instant.
        let (micros, zone) = match after.starts_with(['+', '-']) {
            true => (0, after),
            false => read_clock(after).ok_or_else(bad)??,
        };
        let zone = match zone.trim() {
            "" => None,
            name => Some(TimeZone::of_text(name).map_err(|_| bad())?),
        };
        Ok(Self { days, micros, zone })
    }

    fn local_micros(&self) -> Option<i64> {
        self.days.checked_mul(MICROS_PER_DAY)?.checked_add(self.micros)
    }
}

/// A date at the beginning of `text`, and what follows it.
fn read_date(text: &str) -> Option<(Civil, &str)> {
    let number_end = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let year_end = number_end(text);
    if year_end == 8 {
        let part = |range: std::ops::Range<usize>| text[range].parse::<u32>().ok();
        let civil = Civil { year: i64::from(part(0..4)?), month: part(4..6)?, day: part(6..8)? };
        return Some((civil, &text[8..]));
    }
    if !(3..=6).contains(&year_end) {
        return None;
    }
    let separator = text[year_end..].chars().next().filter(|c| matches!(c, '-' | '/' | '.'))?;
    let year = text[..year_end].parse().ok()?;
    let rest = &text[year_end + 1..];
    let month_end = number_end(rest);
    let month = rest[..month_end].parse().ok()?;
    let rest = rest[month_end..].strip_prefix(separator)?;
    let day_end = number_end(rest);
    let day = rest[..day_end].parse().ok()?;
    Some((Civil { year, month, day }, &rest[day_end..]))
}

/// A clock at the beginning of `text` in µs, and what follows it; `None` if there is none.
fn read_clock(text: &str) -> Option<Result<(i64, &str)>> {
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit() && byte != b':' && byte != b'.')
        .unwrap_or(text.len());
    let (clock, mut rest) = text.split_at(end);
    let mut parts = clock.split(':');
    let mut hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let seconds = parts.next().unwrap_or("0");
    if parts.next().is_some() {
        return None;
    }
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let seconds: i64 = seconds.parse().ok()?;
    let micros = fraction_micros(fraction)?;
    let lower = rest.trim_start();
    for (suffix, is_afternoon) in [("am", false), ("pm", true)] {
        if lower.len() >= 2 && lower.is_char_boundary(2) && lower[..2].eq_ignore_ascii_case(suffix)
        {
            if !(1..=12).contains(&hours) {
                return None;
            }
            hours = hours % 12 + if is_afternoon { 12 } else { 0 };
            rest = &lower[2..];
        }
    }
    let total = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros;
    let is_in_range = minutes < 60 && seconds <= 60 && total <= MICROS_PER_DAY;
    let out_of_range =
        || Error::new("22008", format!("date/time field value out of range: \"{text}\""));
    Some(if is_in_range { Ok((total, rest)) } else { Err(out_of_range()) })
}

/// Digits after a point, rounded to µs.
fn fraction_micros(digits: &str) -> Option<i64> {
    if digits.bytes().any(|byte| !byte.is_ascii_digit()) {
        return None;
    }
    let mut micros = 0;
    for place in 0..6 {
        let digit = digits.as_bytes().get(place).map_or(0, |byte| i64::from(byte - b'0'));
        micros = micros * 10 + digit;
    }
    let rounds_up = digits.as_bytes().get(6).is_some_and(|digit| *digit >= b'5');
    Some(micros + i64::from(rounds_up))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_tell_bad_syntax_from_range() {
        assert_eq!(int(" 42 ", "integer", -5, 50).unwrap(), 42);
        assert_eq!(int("51", "integer", -5, 50).unwrap_err().code, "22003");
        assert_eq!(int("9".repeat(60).as_str(), "bigint", 0, i64::MAX).unwrap_err().code, "22003");
        assert_eq!(int("4x", "integer", -5, 50).unwrap_err().code, "22P02");
        assert_eq!(int("", "integer", -5, 50).unwrap_err().code, "22P02");
    }

    #[test]
    fn floats_refuse_what_does_not_fit() {
        assert_eq!(float8("1e-3").unwrap(), 0.001);
        assert!(float8("NaN").unwrap().is_nan());
        assert_eq!(float8("-Infinity").unwrap(), f64::NEG_INFINITY);
        assert_eq!(float8("1e400").unwrap_err().code, "22003");
        assert_eq!(float8("1e-400").unwrap_err().code, "22003");
        assert_eq!(float4("1e39").unwrap_err().code, "22003");
        assert_eq!(float8("ten").unwrap_err().code, "22P02");
    }

    #[test]
    fn numerics_round_half_away_from_zero() {
        assert_eq!(numeric("1.005", 10, 2).unwrap(), 101);
        assert_eq!(numeric("-1.005", 10, 2).unwrap(), -101);
        assert_eq!(numeric("1e3", 10, 2).unwrap(), 100_000);
        assert_eq!(numeric("12.5e-1", 10, 2).unwrap(), 125);
        assert_eq!(numeric(".5", 10, 0).unwrap(), 1);
        assert_eq!(numeric("0e9999999", 10, 0).unwrap(), 0);
        assert_eq!(numeric("999.995", 5, 2).unwrap_err().code, "22003");
        assert_eq!(numeric("1.2.3", 5, 2).unwrap_err().code, "22P02");
        assert_eq!(numeric("-", 5, 2).unwrap_err().code, "22P02");
    }

    #[test]
    fn times_read_in_the_usual_spellings() {
        assert_eq!(date("2000-01-01").unwrap(), 10_957);
        assert_eq!(date("20000101").unwrap(), 10_957);
        assert_eq!(date("0001-12-31 BC").unwrap(), -719_163);
        assert_eq!(date("2000-13-01").unwrap_err().code, "22008");
        assert_eq!(date("soon").unwrap_err().code, "22007");
        assert_eq!(time("12:34:56.7").unwrap(), 45_296_700_000);
        assert_eq!(date("2000-01-01 +02").unwrap(), 10_957);
        assert_eq!(date("2000-01-01 +x").unwrap_err().code, "22007");
        assert_eq!(time("12:34:56+02").unwrap(), 45_296_000_000);
        assert_eq!(time("12:34:56 soon").unwrap_err().code, "22007");
        assert_eq!(time("01:00 pm").unwrap(), 46_800_000_000);
        assert_eq!(time("24:00:01").unwrap_err().code, "22008");
        assert_eq!(timestamp("2023-11-14T22:13:20.5").unwrap(), 1_700_000_000_500_000);
        assert_eq!(timestamp("1970-01-01 00:00:00+05").unwrap(), 0);
        let utc = TimeZone::Utc;
        assert_eq!(timestamptz("1970-01-01 02:00:00+02", &utc).unwrap(), 0);
        assert_eq!(timestamptz("1970-01-01T00:00:00Z", &utc).unwrap(), 0);
        assert_eq!(timestamptz("1970-01-01 01:00", &TimeZone::Fixed(3600)).unwrap(), 0);
    }

    #[test]
    fn uuids_bytes_and_booleans_read_in_every_form() {
        let id = uuid("{00010203-0405-0607-0809-0A0B0C0D0E0F}").unwrap();
        assert_eq!(id[15], 15);
        assert_eq!(uuid("0001").unwrap_err().code, "22P02");
        assert_eq!(bytea("\\x00fF").unwrap(), [0, 255]);
        assert_eq!(bytea("a\\\\b\\001").unwrap(), [b'a', b'\\', b'b', 1]);
        assert_eq!(bytea("\\x0").unwrap_err().code, "22023");
        assert!(bool(" T ").unwrap() && bool("on").unwrap() && !bool("of").unwrap());
        assert_eq!(bool("o").unwrap_err().code, "22P02");
    }
}
