//! Numbers and other scalars from text. Nothing is rounded, cut or wrapped silently except what
//! NUMERIC(p,s) says about its scale.

use super::{Decoded, Poison, excerpt};

/// Digits that an integer of any size may have before it must take the slow way.
const FAST_DIGITS_MAX: usize = 18;
/// Significant digits that are kept exactly: more do not fit NUMERIC.
const DIGITS_MAX: u32 = 38;

/// A whole number: `42`, `-7`, also `1e3` and `2.0`, but not `1.5`.
#[inline]
pub fn integer(text: &str) -> Decoded<i64> {
    let bytes = text.as_bytes();
    let (is_negative, digits) = match bytes.first() {
        Some(b'-') => (true, &bytes[1..]),
        _ => (false, bytes),
    };
    if digits.is_empty() || digits.len() > FAST_DIGITS_MAX {
        return integer_slow(text);
    }
    let mut value: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return integer_slow(text);
        }
        value = value * 10 + i64::from(digit);
    }
    Ok(if is_negative { -value } else { value })
}

#[cold]
fn integer_slow(text: &str) -> Decoded<i64> {
    let number = Decimal::parse(text).ok_or_else(|| invalid("an integer", text))?;
    let value = number.at_scale(0).ok_or_else(|| out_of_range("bigint", text))?;
    if !number.is_whole() {
        return Err(invalid("an integer", text));
    }
    i64::try_from(value).map_err(|_| out_of_range("bigint", text))
}

/// A number of NUMERIC(precision, scale), unscaled; rounded to the scale, half away from zero.
pub fn decimal(text: &str, precision: u8, scale: i8) -> Decoded<i128> {
    let number = Decimal::parse(text).ok_or_else(|| invalid("a number", text))?;
    let type_name = || format!("numeric({precision},{scale})");
    let value =
        number.at_scale(i32::from(scale)).ok_or_else(|| out_of_range(&type_name(), text))?;
    let limit = 10_u128.checked_pow(u32::from(precision)).unwrap_or(u128::MAX);
    if value.unsigned_abs() >= limit {
        return Err(out_of_range(&type_name(), text));
    }
    Ok(value)
}

/// DOUBLE PRECISION; a number too large for it is an error, one too small is zero.
#[inline]
pub fn double(text: &str) -> Decoded<f64> {
    let value: f64 = text.parse().map_err(|_| invalid("a number", text))?;
    let is_overflow = value.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit());
    if is_overflow { Err(out_of_range("double precision", text)) } else { Ok(value) }
}

/// REAL.
pub fn real(text: &str) -> Decoded<f32> {
    let value: f32 = text.parse().map_err(|_| invalid("a number", text))?;
    let is_overflow = value.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit());
    if is_overflow { Err(out_of_range("real", text)) } else { Ok(value) }
}

/// BOOLEAN: PostgreSQL's spellings.
pub fn boolean(text: &str) -> Decoded<bool> {
    const TRUE: [&str; 6] = ["true", "t", "yes", "y", "on", "1"];
    const FALSE: [&str; 6] = ["false", "f", "no", "n", "off", "0"];
    let is_one_of = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    match (is_one_of(&TRUE), is_one_of(&FALSE)) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(invalid("a boolean", text)),
    }
}

/// UUID: 32 hexadecimal digits, hyphens anywhere between bytes.
pub fn uuid(text: &str) -> Decoded<[u8; 16]> {
    let mut bytes = [0; 16];
    let mut digits = 0;
    for byte in text.bytes() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'-' if digits > 0 && digits % 2 == 0 => continue,
            _ => return Err(invalid("a uuid", text)),
        };
        if digits == 32 {
            return Err(invalid("a uuid", text));
        }
        bytes[digits / 2] = bytes[digits / 2] << 4 | digit;
        digits += 1;
    }
    if digits == 32 { Ok(bytes) } else { Err(invalid("a uuid", text)) }
}

/// The error for a text that is not of a type.
#[cold]
pub fn invalid(expected: &str, text: &str) -> Box<Poison> {
    Poison::new("22P02", format!("\"{}\" is not {expected}", excerpt(text)))
}

/// The error for a value that a type cannot hold.
#[cold]
pub fn out_of_range(type_name: &str, text: &str) -> Box<Poison> {
    let text = excerpt(text);
    Poison::new("22003", format!("value \"{text}\" is out of range for type {type_name}"))
}

/// `± digits · 10^exponent`, exactly, or with digits beyond the 38th dropped.
#[derive(Debug, Clone, Copy)]
struct Decimal {
    is_negative: bool,
    digits: u128,
    exponent: i32,
}

impl Decimal {
    /// `[+-] digits [. digits] [e [+-] digits]` with at least one digit before the exponent.
    fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let mut at = usize::from(matches!(bytes.first(), Some(b'-' | b'+')));
        let mut number = Self { is_negative: bytes.first() == Some(&b'-'), digits: 0, exponent: 0 };
        let (mut kept, mut has_digit, mut has_point) = (0, false, false);
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'0'..=b'9' => {
                    has_digit = true;
                    let is_leading_zero = kept == 0 && *byte == b'0';
                    if kept < DIGITS_MAX {
                        number.digits = number.digits * 10 + u128::from(byte - b'0');
                        kept += u32::from(!is_leading_zero);
                        number.exponent -= i32::from(has_point);
                    } else {
                        number.exponent += i32::from(!has_point);
                    }
                }
                b'.' if !has_point => has_point = true,
                _ => break,
            }
            at += 1;
        }
        if !has_digit {
            return None;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            // Beyond an i16 every number is out of range, or zero.
            let text = &text[at + 1..];
            let sign = if text.starts_with('-') { -1 } else { 1 };
            let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            number.exponent += sign * i32::from(digits.parse::<i16>().unwrap_or(i16::MAX));
            at = bytes.len();
        }
        (at == bytes.len()).then_some(number)
    }

    fn is_whole(&self) -> bool {
        self.exponent >= 0
            || self.digits == 0
            || 10_u128
                .checked_pow(self.exponent.unsigned_abs())
                .is_some_and(|power| self.digits.is_multiple_of(power))
    }

    /// The value times 10^scale, rounded half away from zero; `None` if it is too large.
    fn at_scale(&self, scale: i32) -> Option<i128> {
        let shift = self.exponent + scale;
        let power = 10_u128.checked_pow(shift.unsigned_abs());
        let magnitude = match (shift >= 0, power) {
            _ if self.digits == 0 => 0,
            (true, Some(power)) => self.digits.checked_mul(power)?,
            (true, None) => return None,
            (false, Some(power)) => {
                let (quotient, rest) = (self.digits / power, self.digits % power);
                quotient + u128::from(rest >= power - rest)
            }
            (false, None) => 0,
        };
        let value = i128::try_from(magnitude).ok()?;
        Some(if self.is_negative { -value } else { value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_take_exponents_but_no_fractions() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("42", 42),
            ("-7", -7),
            ("1e3", 1000),
            ("2.0", 2),
            ("12.5e1", 125),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("1000e-3", 1),
            ("0e999999", 0),
            ("000000000000000000000000000000000000000000000000012", 12),
        ] {
            assert_eq!(integer(text), Ok(value), "{text}");
        }
        for (text, code) in [
            ("1.5", "22P02"),
            ("1e-1", "22P02"),
            ("9223372036854775808", "22003"),
            ("1e19", "22003"),
            ("1e99999", "22003"),
            ("", "22P02"),
            ("-", "22P02"),
            ("1e", "22P02"),
            ("1 ", "22P02"),
            ("0x10", "22P02"),
            ("é", "22P02"),
        ] {
            assert_eq!(integer(text).unwrap_err().code, code, "{text}");
        }
    }

    #[test]
    fn decimals_round_half_away_from_zero_and_check_precision() {
        assert_eq!(decimal("1.005", 10, 2), Ok(101));
        assert_eq!(decimal("-1.005", 10, 2), Ok(-101));
        assert_eq!(decimal("1.0049", 10, 2), Ok(100));
        assert_eq!(decimal("1e2", 10, 2), Ok(10_000));
        assert_eq!(decimal("99999999.99", 10, 2), Ok(9_999_999_999));
        assert_eq!(decimal("1e-400", 10, 2), Ok(0));
        assert_eq!(decimal("99999999.995", 10, 2).unwrap_err().code, "22003");
        assert_eq!(decimal("1e38", 38, 0).unwrap_err().code, "22003");
        assert_eq!(decimal("abc", 10, 2).unwrap_err().code, "22P02");
        let long = "0.12345678901234567890123456789012345678901234567890";
        assert_eq!(decimal(long, 38, 18), Ok(123_456_789_012_345_679));
    }

    #[test]
    fn doubles_overflow_with_an_error() {
        assert_eq!(double("1e308"), Ok(1e308));
        assert_eq!(double("1e309").unwrap_err().code, "22003");
        assert_eq!(double("-1e-400"), Ok(-0.0));
        assert_eq!(real("1e39").unwrap_err().code, "22003");
    }

    #[test]
    fn uuids_are_read_with_and_without_hyphens() {
        let expected = Ok([0x11; 16]);
        assert_eq!(uuid("11111111-1111-1111-1111-111111111111"), expected);
        assert_eq!(uuid("11111111111111111111111111111111"), expected);
        for text in ["", "1", "1-1111111-1111-1111-1111-111111111111", "g"] {
            assert!(uuid(text).is_err(), "{text}");
        }
    }
}
