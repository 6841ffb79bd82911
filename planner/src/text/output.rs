//! PostgreSQL's text form of every scalar, byte for byte, appended to a buffer.
//! Nothing here allocates: digits are made on the stack and copied once.

use bytes::{BufMut, BytesMut};

use super::zone::{Civil, MICROS_PER_DAY, TimeZone, civil_of_days};

/// Digits of every number from 00 to 99, so that a division makes two digits.
const DIGIT_PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

/// How a NUMERIC shows its fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumericStyle {
    /// All digits of its scale: NUMERIC(p,s).
    Full,
    /// Without padding zeros: NUMERIC.
    Trimmed,
    /// As many as PostgreSQL's division keeps: the answer of avg.
    Average,
}

/// `t` or `f`.
pub fn bool(value: bool, out: &mut BytesMut) {
    out.put_u8(if value { b't' } else { b'f' });
}

/// A signed integer.
pub fn int(value: i64, out: &mut BytesMut) {
    let mut digits = [0u8; 20];
    let mut start = unsigned_digits(value.unsigned_abs(), &mut digits);
    if value < 0 {
        start -= 1;
        digits[start] = b'-';
    }
    out.put_slice(&digits[start..]);
}

/// Writes the digits of `value` at the end of `digits`; answers where they begin.
fn unsigned_digits(mut value: u64, digits: &mut [u8; 20]) -> usize {
    let mut start = digits.len();
    while value >= 100 {
        let pair = (value % 100) as usize * 2;
        value /= 100;
        start -= 2;
        digits[start..start + 2].copy_from_slice(&DIGIT_PAIRS[pair..pair + 2]);
    }
    if value >= 10 {
        let pair = value as usize * 2;
        start -= 2;
        digits[start..start + 2].copy_from_slice(&DIGIT_PAIRS[pair..pair + 2]);
    } else {
        start -= 1;
        digits[start] = b'0' + value as u8;
    }
    start
}

/// Two digits.
fn two(value: u32, out: &mut BytesMut) {
    let pair = (value % 100) as usize * 2;
    out.put_slice(&DIGIT_PAIRS[pair..pair + 2]);
}

/// DOUBLE PRECISION: the shortest digits that read back as the same number.
pub fn float8(value: f64, out: &mut BytesMut) {
    // PostgreSQL writes plain digits below 10^15 and from 10^-4 on.
    shortest(value, format_args!("{:e}", value), 15, out);
}

/// REAL.
pub fn float4(value: f32, out: &mut BytesMut) {
    shortest(f64::from(value), format_args!("{:e}", value), 6, out);
}

/// Lays out the shortest digits (given by Rust as `d.ddde±x`) as PostgreSQL does.
fn shortest(value: f64, scientific: std::fmt::Arguments<'_>, plain_below: i32, out: &mut BytesMut) {
    if value.is_nan() {
        return out.put_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.put_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    }
    let mut text = StackText::<32>::default();
    std::fmt::Write::write_fmt(&mut text, scientific).expect("a float has at most 24 characters");
    let text = text.as_bytes();
    let (sign, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let split = text.iter().position(|byte| *byte == b'e').unwrap_or(text.len());
    let exponent: i32 = std::str::from_utf8(&text[(split + 1).min(text.len())..])
        .ok()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0);
    let mut digits = StackText::<32>::default();
    for byte in text[..split].iter().filter(|byte| **byte != b'.') {
        digits.push(*byte);
    }
    let digits = digits.as_bytes();
    if sign {
        out.put_u8(b'-');
    }
    if value != 0.0 && !(-4..plain_below).contains(&exponent) {
        return scientific_form(digits, exponent, out);
    }
    plain_form(digits, exponent, out);
}

/// `d.ddde+xx`.
fn scientific_form(digits: &[u8], exponent: i32, out: &mut BytesMut) {
    out.put_u8(digits[0]);
    if digits.len() > 1 {
        out.put_u8(b'.');
        out.put_slice(&digits[1..]);
    }
    out.put_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if exponent.unsigned_abs() < 10 {
        out.put_u8(b'0');
    }
    int(i64::from(exponent.unsigned_abs()), out);
}

/// `ddd.ddd`, `0.000ddd` or `ddd000`.
fn plain_form(digits: &[u8], exponent: i32, out: &mut BytesMut) {
    if exponent < 0 {
        out.put_slice(b"0.");
        out.put_bytes(b'0', (-exponent - 1) as usize);
        return out.put_slice(digits);
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        out.put_slice(digits);
        return out.put_bytes(b'0', whole - digits.len());
    }
    out.put_slice(&digits[..whole]);
    out.put_u8(b'.');
    out.put_slice(&digits[whole..]);
}

/// NUMERIC from its unscaled value.
pub fn numeric(unscaled: i128, scale: i8, style: NumericStyle, out: &mut BytesMut) {
    let mut digits = [b'0'; 96];
    let mut start = digits.len();
    let mut rest = unscaled.unsigned_abs();
    while rest > 0 {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    if scale <= 0 {
        start = start.min(digits.len() - 1);
        sign(unscaled, out);
        out.put_slice(&digits[start..]);
        if unscaled != 0 {
            out.put_bytes(b'0', usize::from(scale.unsigned_abs()));
        }
        return;
    }
    let point = digits.len() - scale as usize;
    let whole_start = start.min(point - 1);
    let whole_digits = point - whole_start;
    let fraction = &digits[point..];
    let shown = match style {
        NumericStyle::Full => fraction.len(),
        NumericStyle::Trimmed => significant(fraction),
        // PostgreSQL keeps 16 significant digits, counted in groups of four before the point.
        NumericStyle::Average => {
            let groups = (whole_digits - 1) / 4;
            fraction.len().min(16usize.saturating_sub(4 * groups))
        }
    };
    sign(unscaled, out);
    out.put_slice(&digits[whole_start..point]);
    if shown > 0 {
        out.put_u8(b'.');
        out.put_slice(&fraction[..shown]);
    }
}

fn sign(unscaled: i128, out: &mut BytesMut) {
    if unscaled < 0 {
        out.put_u8(b'-');
    }
}

/// Number of digits up to the last that is not zero.
fn significant(digits: &[u8]) -> usize {
    digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1)
}

/// BYTEA as `\x…`.
pub fn bytea(value: &[u8], out: &mut BytesMut) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + value.len() * 2);
    out.put_slice(b"\\x");
    for byte in value {
        out.put_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// UUID from its 16 bytes.
pub fn uuid(value: &[u8], out: &mut BytesMut) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for (index, byte) in value.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.put_u8(b'-');
        }
        out.put_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// DATE from days since the Unix epoch.
pub fn date(days: i64, out: &mut BytesMut) {
    let civil = civil_of_days(days);
    civil_date(&civil, out);
    era(&civil, out);
}

/// TIME from µs since midnight.
pub fn time(micros: i64, out: &mut BytesMut) {
    clock(micros, out);
}

/// TIMESTAMP from µs since the Unix epoch.
pub fn timestamp(micros: i64, out: &mut BytesMut) {
    let civil = civil_of_days(micros.div_euclid(MICROS_PER_DAY));
    civil_date(&civil, out);
    out.put_u8(b' ');
    clock(micros.rem_euclid(MICROS_PER_DAY), out);
    era(&civil, out);
}

/// TIMESTAMPTZ from µs since the Unix epoch, shown in `zone`.
pub fn timestamptz(micros: i64, zone: &TimeZone, out: &mut BytesMut) {
    let offset = zone.offset_seconds(micros);
    let local = micros + i64::from(offset) * 1_000_000;
    let civil = civil_of_days(local.div_euclid(MICROS_PER_DAY));
    civil_date(&civil, out);
    out.put_u8(b' ');
    clock(local.rem_euclid(MICROS_PER_DAY), out);
    offset_text(offset, out);
    era(&civil, out);
}

fn civil_date(civil: &Civil, out: &mut BytesMut) {
    // Year 0 is 1 BC.
    let year = if civil.year > 0 { civil.year } else { 1 - civil.year };
    if year < 10_000 {
        two((year / 100) as u32, out);
        two((year % 100) as u32, out);
    } else {
        int(year, out);
    }
    out.put_u8(b'-');
    two(civil.month, out);
    out.put_u8(b'-');
    two(civil.day, out);
}

fn era(civil: &Civil, out: &mut BytesMut) {
    if civil.year <= 0 {
        out.put_slice(b" BC");
    }
}

/// `hh:mm:ss[.ffffff]`, the fraction without trailing zeros.
fn clock(micros: i64, out: &mut BytesMut) {
    let seconds = micros / 1_000_000;
    two((seconds / 3600) as u32, out);
    out.put_u8(b':');
    two((seconds / 60 % 60) as u32, out);
    out.put_u8(b':');
    two((seconds % 60) as u32, out);
    fraction((micros % 1_000_000) as u32, out);
}

fn fraction(micros: u32, out: &mut BytesMut) {
    if micros == 0 {
        return;
    }
    let mut digits = [b'0'; 6];
    let mut rest = micros;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.put_u8(b'.');
    out.put_slice(&digits[..significant(&digits)]);
}

/// `+hh[:mm[:ss]]`.
fn offset_text(offset: i32, out: &mut BytesMut) {
    out.put_u8(if offset < 0 { b'-' } else { b'+' });
    let seconds = offset.unsigned_abs();
    two(seconds / 3600, out);
    if !seconds.is_multiple_of(3600) {
        out.put_u8(b':');
        two(seconds / 60 % 60, out);
    }
    if !seconds.is_multiple_of(60) {
        out.put_u8(b':');
        two(seconds % 60, out);
    }
}

/// INTERVAL in PostgreSQL's own style: `1 year 2 mons -3 days +04:05:06.7`.
pub fn interval(months: i32, days: i32, nanos: i64, out: &mut BytesMut) {
    let micros = nanos / 1000;
    let mut is_first = true;
    let mut is_before_negative = false;
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value == 0 {
            continue;
        }
        if !is_first {
            out.put_u8(b' ');
        }
        if is_before_negative && value > 0 {
            out.put_u8(b'+');
        }
        int(i64::from(value), out);
        out.put_u8(b' ');
        out.put_slice(unit.as_bytes());
        if value != 1 {
            out.put_u8(b's');
        }
        is_before_negative = value < 0;
        is_first = false;
    }
    if micros == 0 && !is_first {
        return;
    }
    if !is_first {
        out.put_u8(b' ');
    }
    if micros < 0 {
        out.put_u8(b'-');
    } else if is_before_negative {
        out.put_u8(b'+');
    }
    let micros = micros.unsigned_abs();
    let hours = micros / 3_600_000_000;
    if hours < 10 {
        out.put_u8(b'0');
    }
    int(hours as i64, out);
    out.put_u8(b':');
    two((micros / 60_000_000 % 60) as u32, out);
    out.put_u8(b':');
    two((micros / 1_000_000 % 60) as u32, out);
    fraction((micros % 1_000_000) as u32, out);
}

/// A short text on the stack.
struct StackText<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for StackText<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> StackText<N> {
    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<const N: usize> std::fmt::Write for StackText<N> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn integers_print_to_their_limits() {
        for value in [0, 7, 10, 99, 100, -1, 12_345, i64::MAX, i64::MIN] {
            assert_eq!(shown(|out| int(value, out)), value.to_string());
        }
    }

    #[test]
    fn doubles_print_as_postgres_does() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e15, "1e+15"),
            (1.5e300, "1.5e+300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::INFINITY, "Infinity"),
            (1.0 / 3.0, "0.3333333333333333"),
        ];
        for (value, text) in cases {
            assert_eq!(shown(|out| float8(value, out)), text);
        }
    }

    #[test]
    fn reals_turn_scientific_at_a_million() {
        let cases = [
            (100_000.0, "100000"),
            (1e6, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (0.1, "0.1"),
            (1e-5, "1e-05"),
        ];
        for (value, text) in cases {
            assert_eq!(shown(|out| float4(value, out)), text);
        }
    }

    #[test]
    fn numerics_keep_or_lose_zeros_by_style() {
        let cases = [
            (12_345, 2, NumericStyle::Full, "123.45"),
            (-5, 2, NumericStyle::Full, "-0.05"),
            (0, 2, NumericStyle::Full, "0.00"),
            (100, 2, NumericStyle::Trimmed, "1"),
            (150, 2, NumericStyle::Trimmed, "1.5"),
            (0, 18, NumericStyle::Trimmed, "0"),
            (12, -2, NumericStyle::Full, "1200"),
            (0, 0, NumericStyle::Full, "0"),
            (15_000_000_000_000_000, 16, NumericStyle::Average, "1.5000000000000000"),
            (123_455_000_000_000_000_000, 16, NumericStyle::Average, "12345.500000000000"),
            (i128::MIN, 0, NumericStyle::Full, "-170141183460469231731687303715884105728"),
        ];
        for (value, scale, style, text) in cases {
            assert_eq!(shown(|out| numeric(value, scale, style, out)), text);
        }
    }

    #[test]
    fn times_print_as_postgres_does() {
        assert_eq!(shown(|out| date(0, out)), "1970-01-01");
        assert_eq!(shown(|out| date(-719_163, out)), "0001-12-31 BC");
        assert_eq!(shown(|out| date(2_932_897, out)), "10000-01-01");
        assert_eq!(shown(|out| time(45_296_700_000, out)), "12:34:56.7");
        assert_eq!(shown(|out| timestamp(-1, out)), "1969-12-31 23:59:59.999999");
        assert_eq!(shown(|out| timestamp(1_700_000_000_500_000, out)), "2023-11-14 22:13:20.5");
        let zone = |name| TimeZone::of_text(name).unwrap();
        let at = |name| shown(|out| timestamptz(0, &zone(name), out));
        assert_eq!(at("UTC"), "1970-01-01 00:00:00+00");
        assert_eq!(at("+05:30"), "1970-01-01 05:30:00+05:30");
        assert_eq!(at("-03:00"), "1969-12-31 21:00:00-03");
    }

    #[test]
    fn intervals_print_signs_as_postgres_does() {
        let cases = [
            ((0, 0, 0), "00:00:00"),
            ((0, 1, 7_384_000_000_000), "1 day 02:03:04"),
            ((14, 3, 0), "1 year 2 mons 3 days"),
            ((-1, 1, 0), "-1 mons +1 day"),
            ((0, -1, 3_600_000_000_000), "-1 days +01:00:00"),
            ((0, 0, -1_500_000_000), "-00:00:01.5"),
            ((0, 0, 360_000_000_000_000), "100:00:00"),
            ((12, 0, 0), "1 year"),
        ];
        for ((months, days, nanos), text) in cases {
            assert_eq!(shown(|out| interval(months, days, nanos, out)), text);
        }
    }

    #[test]
    fn bytes_and_uuids_print_in_hex() {
        assert_eq!(shown(|out| bytea(&[0, 255], out)), "\\x00ff");
        let id: Vec<u8> = (0..16).collect();
        assert_eq!(shown(|out| uuid(&id, out)), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }
}
