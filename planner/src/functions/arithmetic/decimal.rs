//! NUMERIC arithmetic inside 38 digits: sums keep the larger scale, products add scales as long as
//! they fit, quotients have at least 16 digits after the point. What does not fit is 22003.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, Decimal128Array, downcast_array},
    datatypes::{DataType, Decimal128Type, i256},
};
use datafusion::{
    error::{DataFusionError, Result},
    logical_expr::ScalarFunctionArgs,
};

use super::{Arithmetic, Operand, Unary, compute};
use crate::functions::error::{division_by_zero, user_error};

/// Digits of a Decimal128.
const PRECISION_MAX: u8 = 38;
/// Scale that products and quotients give up first when digits run out.
const SCALE_KEPT: i8 = 18;
/// Digits after the point that PostgreSQL gives a quotient at least.
const QUOTIENT_SCALE: i8 = 16;
/// One more than the largest unscaled value.
const LIMIT: i128 = 10i128.pow(38);

/// The type of an operation over `(precision, scale)` operands.
pub fn result_type(left: (u8, i8), right: (u8, i8), operator: Arithmetic) -> DataType {
    let ((p1, s1), (p2, s2)) = (left, right);
    let scale = s1.max(s2);
    let whole = |precision: u8, scale: i8| precision as i8 - scale;
    let (precision, scale) = match operator {
        Arithmetic::Add | Arithmetic::Subtract => {
            (whole(p1, s1).max(whole(p2, s2)) + 1 + scale, scale)
        }
        Arithmetic::Multiply if p1 + p2 <= PRECISION_MAX => ((p1 + p2) as i8, s1 + s2),
        Arithmetic::Multiply => (PRECISION_MAX as i8, (s1 + s2).min(scale.max(SCALE_KEPT))),
        Arithmetic::Divide => (PRECISION_MAX as i8, scale.max(QUOTIENT_SCALE)),
        Arithmetic::Modulo => (whole(p1, s1).max(whole(p2, s2)) + scale, scale),
    };
    DataType::Decimal128((precision.max(1) as u8).min(PRECISION_MAX), scale)
}

pub(super) fn binary(args: &ScalarFunctionArgs, operator: Arithmetic) -> Result<ArrayRef> {
    let left = Operand::<Decimal128Type>::of(&args.args[0])?;
    let right = Operand::<Decimal128Type>::of(&args.args[1])?;
    let (s1, s2) = (scale_of(&args.args[0].data_type()), scale_of(&args.args[1].data_type()));
    let DataType::Decimal128(precision, scale) = args.return_field.data_type() else {
        return Err(user_error("XX000", "NUMERIC arithmetic answers NUMERIC"));
    };
    let kernel = Kernel { operator, s1, s2, scale: *scale };
    let array = compute(
        (&left, &right),
        args.number_rows,
        |l, r| kernel.apply(l, r).map_or((0, true), |value| (value, false)),
        |l, r| kernel.explain(l, r),
    )?;
    let array: Decimal128Array = downcast_array(array.as_ref());
    Ok(Arc::new(array.with_precision_and_scale(*precision, *scale)?))
}

pub(super) fn unary(array: &ArrayRef, operator: Unary) -> ArrayRef {
    let data_type = array.data_type().clone();
    let array: Decimal128Array = downcast_array(array.as_ref());
    let result: Decimal128Array = match operator {
        Unary::Negate => array.unary(|value| value.wrapping_neg()),
        Unary::Abs => array.unary(|value| value.wrapping_abs()),
    };
    Arc::new(result.with_data_type(data_type))
}

fn scale_of(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal128(_, scale) => *scale,
        _ => 0,
    }
}

/// An operation over unscaled values of fixed scales.
struct Kernel {
    operator: Arithmetic,
    s1: i8,
    s2: i8,
    scale: i8,
}

impl Kernel {
    /// The unscaled answer; `None` if there is none.
    fn apply(&self, left: i128, right: i128) -> Option<i128> {
        let value = match self.operator {
            Arithmetic::Add => self.align(left, self.s1)?.checked_add(self.align(right, self.s2)?),
            Arithmetic::Subtract => {
                self.align(left, self.s1)?.checked_sub(self.align(right, self.s2)?)
            }
            Arithmetic::Multiply => self.multiply(left, right),
            Arithmetic::Divide => self.divide(left, right),
            Arithmetic::Modulo => {
                self.align(left, self.s1)?.checked_rem(self.align(right, self.s2)?)
            }
        }?;
        (value.unsigned_abs() < LIMIT as u128).then_some(value)
    }

    fn explain(&self, left: i128, right: i128) -> Option<DataFusionError> {
        let divides = matches!(self.operator, Arithmetic::Divide | Arithmetic::Modulo);
        if divides && right == 0 {
            return Some(division_by_zero());
        }
        let is_wrong = self.apply(left, right).is_none();
        is_wrong.then(|| user_error("22003", "value overflows numeric format"))
    }

    /// `value` at the scale of the answer.
    fn align(&self, value: i128, scale: i8) -> Option<i128> {
        value.checked_mul(power(self.scale - scale)?)
    }

    fn multiply(&self, left: i128, right: i128) -> Option<i128> {
        let surplus = self.s1 + self.s2 - self.scale;
        if surplus == 0 {
            return left.checked_mul(right);
        }
        let product = i256::from_i128(left).checked_mul(i256::from_i128(right))?;
        round_half_away(product, i256::from_i128(power(surplus)?))
    }

    fn divide(&self, left: i128, right: i128) -> Option<i128> {
        // left/10^s1 ÷ right/10^s2 = left·10^(scale + s2 − s1) ÷ right ÷ 10^scale.
        let shift = self.scale + self.s2 - self.s1;
        if let Some(numerator) = power(shift).and_then(|power| left.checked_mul(power)) {
            return round_half_away_128(numerator, right);
        }
        let power = i256::from_i128(10).checked_pow(u32::from(shift.unsigned_abs()))?;
        let numerator = i256::from_i128(left).checked_mul(power)?;
        round_half_away(numerator, i256::from_i128(right))
    }
}

/// 10 to the power of a small exponent.
pub(crate) fn power(exponent: i8) -> Option<i128> {
    u32::try_from(exponent).ok().and_then(|exponent| 10i128.checked_pow(exponent))
}

/// Quotient rounded to nearest, halves away from zero; `None` for a zero divisor.
pub(crate) fn round_half_away_128(numerator: i128, divisor: i128) -> Option<i128> {
    let quotient = numerator.checked_div(divisor)?;
    let remainder = numerator.checked_rem(divisor)?;
    let rounds_up = remainder.unsigned_abs() >= divisor.unsigned_abs().div_ceil(2);
    if !rounds_up || remainder == 0 {
        return Some(quotient);
    }
    quotient.checked_add(if (numerator < 0) == (divisor < 0) { 1 } else { -1 })
}

/// The same over 256 bits, if the answer fits 128.
fn round_half_away(numerator: i256, divisor: i256) -> Option<i128> {
    let quotient = numerator.checked_div(divisor)?;
    let remainder = numerator.checked_rem(divisor)?;
    let twice = remainder.wrapping_abs().checked_mul(i256::from_i128(2))?;
    let quotient = quotient.to_i128()?;
    if twice < divisor.wrapping_abs() {
        return Some(quotient);
    }
    let is_positive = (numerator < i256::ZERO) == (divisor < i256::ZERO);
    quotient.checked_add(if is_positive { 1 } else { -1 })
}
