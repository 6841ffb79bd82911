//! Exact quotients of sums: `avg` as NUMERIC, rounded half away from zero as PostgreSQL does.

use arrow::datatypes::i256;

use super::column::numeric_overflow;
use crate::Result;

/// `sum / 10^sum_scale / count` as the unscaled value of a decimal of `scale` digits.
pub(super) fn quotient(sum: i128, sum_scale: i8, count: i64, scale: i8) -> Result<i128> {
    let shift = u32::from((scale - sum_scale).unsigned_abs());
    let power = 10_i128.checked_pow(shift).ok_or_else(numeric_overflow)?;
    let count = i128::from(count);
    if scale < sum_scale {
        let divisor = count.checked_mul(power).ok_or_else(numeric_overflow)?;
        return Ok(rounded(sum, divisor));
    }
    if let Some(dividend) = sum.checked_mul(power) {
        return Ok(rounded(dividend, count));
    }
    let dividend = i256::from_i128(sum).checked_mul(i256::from_i128(power));
    let (dividend, divisor) = (dividend.ok_or_else(numeric_overflow)?, i256::from_i128(count));
    let floor = dividend / divisor;
    let twice_rest = (dividend % divisor).wrapping_abs() * i256::from_i128(2);
    let away = if twice_rest >= divisor.wrapping_abs() { 1 } else { 0 };
    let sign = if dividend.is_negative() == divisor.is_negative() { 1 } else { -1 };
    (floor + i256::from_i128(away * sign)).to_i128().ok_or_else(numeric_overflow)
}

fn rounded(dividend: i128, divisor: i128) -> i128 {
    let floor = dividend / divisor;
    // One division instead of two: each takes longer than the rest of a row's result.
    let rest = dividend - floor * divisor;
    if rest.unsigned_abs() >= divisor.unsigned_abs() - rest.unsigned_abs() {
        floor + if (dividend < 0) == (divisor < 0) { 1 } else { -1 }
    } else {
        floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_away_from_zero() {
        let avg = |sum, count| quotient(sum, 0, count, 0).unwrap();
        assert_eq!([avg(5, 2), avg(-5, 2), avg(4, 3), avg(-4, 3)], [3, -3, 1, -1]);
        assert_eq!([avg(6, 3), avg(0, 3), avg(5, -2)], [2, 0, -3]);
    }

    #[test]
    fn a_third_has_sixteen_digits() {
        assert_eq!(quotient(10, 0, 3, 16).unwrap(), 33_333_333_333_333_333);
        assert_eq!(quotient(1000, 2, 3, 16).unwrap(), 33_333_333_333_333_333);
    }

    #[test]
    fn a_dividend_beyond_128_bits_is_still_exact() {
        let sum = i128::from(i64::MAX) * 1_000_000_000;
        assert_eq!(
            quotient(sum, 0, 1_000_000_000, 16).unwrap(),
            i128::from(i64::MAX) * 10_i128.pow(16)
        );
        assert!(quotient(sum, 0, 1, 16).is_err());
    }

    #[test]
    fn digits_beyond_the_result_are_rounded() {
        assert_eq!(quotient(15, 1, 1, 0).unwrap(), 2);
        assert_eq!(quotient(-149, 2, 1, 1).unwrap(), -15);
    }
}
