//! Texts of scalars, appended to a byte buffer: the forms that [`crate::decode::value`] and
//! [`crate::decode::time`] read. Nothing is rounded: floating-point numbers get the shortest text
//! that reads back as the same number.

use std::io::Write;

use crate::{Error, Result};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Digits of a 128-bit number, and room for a scale of 38 and the digit before the point.
const DECIMAL_LEN_MAX: usize = 80;

/// A whole number.
#[inline]
pub fn integer(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A NUMERIC of the scale, unscaled; trimmed of zeros behind the point if it has no declared scale.
pub fn decimal(value: i128, scale: i8, is_trimmed: bool, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let mut digits = [b'0'; DECIMAL_LEN_MAX];
    let mut first = digits.len();
    let mut rest = value.unsigned_abs();
    while rest > 0 {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let behind = usize::try_from(scale).unwrap_or(0);
    let point = digits.len() - behind;
    out.extend_from_slice(&digits[first.min(point - 1)..point]);
    if scale < 0 && value != 0 {
        out.resize(out.len() + usize::from(scale.unsigned_abs()), b'0');
    }
    let mut fraction = &digits[point..];
    while is_trimmed && fraction.last() == Some(&b'0') {
        fraction = &fraction[..fraction.len() - 1];
    }
    if !fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(fraction);
    }
}

/// DOUBLE PRECISION, `Infinity`, `-Infinity` and `NaN` included.
pub fn double(value: f64, out: &mut Vec<u8>) {
    if !value.is_finite() {
        return not_finite(value, out);
    }
    write!(out, "{value:?}").expect("a Vec takes what is written");
}

/// REAL.
pub fn real(value: f32, out: &mut Vec<u8>) {
    if !value.is_finite() {
        return not_finite(f64::from(value), out);
    }
    write!(out, "{value:?}").expect("a Vec takes what is written");
}

#[cold]
fn not_finite(value: f64, out: &mut Vec<u8>) {
    let text = match (value.is_nan(), value > 0.0) {
        (true, _) => "NaN",
        (_, true) => "Infinity",
        _ => "-Infinity",
    };
    out.extend_from_slice(text.as_bytes());
}

/// `true` or `false`.
pub fn boolean(value: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// `2026-07-31`; 22008 for a year that has not four digits.
pub fn date(days: i64, out: &mut Vec<u8>) -> Result<()> {
    let (year, month, day) = civil(days);
    if !(1..=9999).contains(&year) {
        return Err(Error::User {
            code: "22008",
            message: format!("a date in the year {year} cannot be written: years are 1 to 9999"),
        });
    }
    two_digits(year / 100, out);
    two_digits(year % 100, out);
    out.push(b'-');
    two_digits(month, out);
    out.push(b'-');
    two_digits(day, out);
    Ok(())
}

/// `12:34:56.789`, from µs since midnight; without a fraction if it is zero, else of 3 or 6 digits.
pub fn time_of_day(micros: i64, out: &mut Vec<u8>) {
    let seconds = micros / SECOND;
    two_digits(seconds / 3600, out);
    out.push(b':');
    two_digits(seconds / 60 % 60, out);
    out.push(b':');
    two_digits(seconds % 60, out);
    let fraction = micros % SECOND;
    if fraction == 0 {
        return;
    }
    out.push(b'.');
    let millis = fraction / 1000;
    out.push(b'0' + (millis / 100) as u8);
    two_digits(millis % 100, out);
    let micros = fraction % 1000;
    if micros != 0 {
        out.push(b'0' + (micros / 100) as u8);
        two_digits(micros % 100, out);
    }
}

/// `2026-07-31T12:34:56.789`, with a `Z` behind it if it is an instant and no wall clock.
pub fn timestamp(micros: i64, is_instant: bool, out: &mut Vec<u8>) -> Result<()> {
    date(micros.div_euclid(DAY), out)?;
    out.push(b'T');
    time_of_day(micros.rem_euclid(DAY), out);
    if is_instant {
        out.push(b'Z');
    }
    Ok(())
}

/// 32 hexadecimal digits with hyphens.
pub fn uuid(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

#[inline]
fn two_digits(value: i64, out: &mut Vec<u8>) {
    out.push(b'0' + (value / 10) as u8);
    out.push(b'0' + (value % 10) as u8);
}

/// Year, month and day of a day since 1970-01-01: years begin in March, so leap days come last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{time, value};

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_read_back_equal() {
        for number in [0, 1, -1, 9, 10, -10, i64::MAX, i64::MIN, 1_234_567_890] {
            let written = text(|out| integer(number, out));
            assert_eq!(written, number.to_string());
        }
        for number in [0.0, -0.0, 1.0, 0.1, 1e16, 1e-7, f64::MAX, f64::MIN_POSITIVE, -1.5e300] {
            let read = value::double(&text(|out| double(number, out))).unwrap();
            assert_eq!(read.to_bits(), number.to_bits());
        }
        for number in [f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(value::double(&text(|out| double(number, out))), Ok(number));
        }
        assert!(value::double(&text(|out| double(f64::NAN, out))).unwrap().is_nan());
        for number in [0.1_f32, f32::MAX, f32::MIN_POSITIVE, 16_777_216.0] {
            assert_eq!(value::real(&text(|out| real(number, out))), Ok(number));
        }
    }

    #[test]
    fn decimals_keep_their_scale_unless_trimmed() {
        let of = |value, scale, is_trimmed| text(|out| decimal(value, scale, is_trimmed, out));
        assert_eq!(of(12_345, 2, false), "123.45");
        assert_eq!(of(-5, 2, false), "-0.05");
        assert_eq!(of(1_200, 3, false), "1.200");
        assert_eq!(of(1_200, 3, true), "1.2");
        assert_eq!(of(1_000, 3, true), "1");
        assert_eq!(of(0, 18, true), "0");
        assert_eq!(of(0, 0, false), "0");
        assert_eq!(of(7, -2, false), "700");
        let largest = 10_i128.pow(38) - 1;
        assert_eq!(value::decimal(&of(largest, 38, false), 38, 38), Ok(largest));
        assert_eq!(value::decimal(&of(-largest, 0, false), 38, 0), Ok(-largest));
    }

    #[test]
    fn times_read_back_equal() {
        let first = time::timestamp("0001-01-01").unwrap();
        let last = time::timestamp("9999-12-31T23:59:59.999999").unwrap();
        for micros in [first, last, 0, -1, 1, 1000, 951_782_400_000_000, 1_785_500_000_123_000] {
            for is_instant in [false, true] {
                let written = text(|out| timestamp(micros, is_instant, out).unwrap());
                assert_eq!(time::timestamp(&written), Ok(micros), "{written}");
            }
        }
        for days in -719_162..=-718_000 {
            assert_eq!(time::date(&text(|out| date(days, out).unwrap())), Ok(days as i32));
        }
        for days in 0..2_932_897 / 50 {
            let days = days * 50;
            assert_eq!(time::date(&text(|out| date(days, out).unwrap())), Ok(days as i32));
        }
        assert!(timestamp(last + 1, false, &mut Vec::new()).is_err());
        assert!(timestamp(first - 1, false, &mut Vec::new()).is_err());
        for micros in [0, 1, 1_000, 3_723_500_000, DAY - 1] {
            let written = text(|out| time_of_day(micros, out));
            assert_eq!(time::time_of_day(&written), Ok(micros), "{written}");
        }
    }
}
