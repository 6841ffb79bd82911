//! PostgreSQL's binary form of the types whose bytes are not simply the number's big-endian ones.
//! The other half of [`super::input`]: what is written here is read back there.

use bytes::{BufMut, BytesMut};

/// Sign word of a negative NUMERIC.
pub const NUMERIC_NEGATIVE: u16 = 0x4000;
/// Sign word of NaN.
pub const NUMERIC_NAN: u16 = 0xC000;
/// Base of NUMERIC's digits.
const NUMERIC_BASE: u128 = 10_000;

/// NUMERIC: `ndigits, weight, sign, dscale` and base-10000 digits, the point between two of them.
pub fn numeric(unscaled: i128, scale: i8, display_scale: u16, out: &mut BytesMut) {
    let mut digits = [0u16; 32];
    let mut count = 0;
    let mut magnitude = unscaled.unsigned_abs();
    // Fraction digits, padded to whole groups of four.
    let scale = usize::from(scale.max(0) as u8);
    let groups = scale.div_ceil(4);
    let padding = groups * 4 - scale;
    if padding > 0 {
        // The lowest group holds fewer than four digits of the value: take it off first, so that
        // padding cannot overflow.
        let divisor = 10u128.pow((4 - padding) as u32);
        digits[0] = ((magnitude % divisor) * 10u128.pow(padding as u32)) as u16;
        magnitude /= divisor;
        count = 1;
    }
    while magnitude > 0 || count < groups {
        digits[count] = (magnitude % NUMERIC_BASE) as u16;
        magnitude /= NUMERIC_BASE;
        count += 1;
    }
    let mut low = 0;
    while count > 0 && digits[count - 1] == 0 {
        count -= 1;
    }
    while low < count && digits[low] == 0 {
        low += 1;
    }
    let weight = if count == 0 { 0 } else { count as i16 - groups as i16 - 1 };
    out.put_u16((count - low) as u16);
    out.put_i16(weight);
    out.put_u16(if unscaled < 0 { NUMERIC_NEGATIVE } else { 0 });
    out.put_u16(display_scale);
    for digit in digits[low..count].iter().rev() {
        out.put_u16(*digit);
    }
}

/// INTERVAL: µs, days, months.
pub fn interval(months: i32, days: i32, nanos: i64, out: &mut BytesMut) {
    out.put_i64(nanos / 1000);
    out.put_i32(days);
    out.put_i32(months);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(unscaled: i128, scale: i8) -> Vec<u16> {
        let mut out = BytesMut::new();
        numeric(unscaled, scale, scale.max(0) as u16, &mut out);
        out.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    #[test]
    fn numeric_words_are_those_of_postgres() {
        assert_eq!(words(0, 2), [0, 0, 0, 2]);
        assert_eq!(words(12_345, 2), [2, 0, 0, 2, 123, 4500]);
        assert_eq!(words(-5, 2), [1, 0xFFFF, 0x4000, 2, 500]);
        assert_eq!(words(100_000_000, 0), [1, 2, 0, 0, 1]);
        assert_eq!(words(1, 8), [1, 0xFFFE, 0, 8, 1]);
    }
}
