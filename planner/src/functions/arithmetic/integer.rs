//! Integer arithmetic that never wraps around.
//! The additive kernels are branch-free, so that the compiler vectorises them.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, downcast_array},
    datatypes::{ArrowNativeTypeOp, Int16Type, Int32Type, Int64Type},
};
use datafusion::{error::Result, logical_expr::ScalarFunctionArgs};

use super::{Arithmetic, Operand, Unary, compute};
use crate::functions::error::{division_by_zero, out_of_range};

/// What the kernels need of a width beyond Arrow's own operations.
pub trait Integer: ArrowPrimitiveType {
    /// PostgreSQL's word for it.
    const NAME: &'static str;

    /// Sum, and whether it overflowed.
    fn add(left: Self::Native, right: Self::Native) -> (Self::Native, bool);
    /// Difference, and whether it overflowed.
    fn subtract(left: Self::Native, right: Self::Native) -> (Self::Native, bool);
    /// Product, and whether it overflowed.
    fn multiply(left: Self::Native, right: Self::Native) -> (Self::Native, bool);
}

impl Integer for Int16Type {
    const NAME: &'static str = "smallint";

    fn add(left: i16, right: i16) -> (i16, bool) {
        left.overflowing_add(right)
    }
    fn subtract(left: i16, right: i16) -> (i16, bool) {
        left.overflowing_sub(right)
    }
    fn multiply(left: i16, right: i16) -> (i16, bool) {
        left.overflowing_mul(right)
    }
}

impl Integer for Int32Type {
    const NAME: &'static str = "integer";

    fn add(left: i32, right: i32) -> (i32, bool) {
        left.overflowing_add(right)
    }
    fn subtract(left: i32, right: i32) -> (i32, bool) {
        left.overflowing_sub(right)
    }
    fn multiply(left: i32, right: i32) -> (i32, bool) {
        left.overflowing_mul(right)
    }
}

impl Integer for Int64Type {
    const NAME: &'static str = "bigint";

    fn add(left: i64, right: i64) -> (i64, bool) {
        left.overflowing_add(right)
    }
    fn subtract(left: i64, right: i64) -> (i64, bool) {
        left.overflowing_sub(right)
    }
    fn multiply(left: i64, right: i64) -> (i64, bool) {
        left.overflowing_mul(right)
    }
}

pub(super) fn binary<T: Integer>(
    args: &ScalarFunctionArgs,
    operator: Arithmetic,
) -> Result<ArrayRef> {
    let left = Operand::<T>::of(&args.args[0])?;
    let right = Operand::<T>::of(&args.args[1])?;
    let operands = (&left, &right);
    let rows = args.number_rows;
    let overflow = |is_wrong: bool| is_wrong.then(|| out_of_range(T::NAME));
    match operator {
        Arithmetic::Add => compute(operands, rows, T::add, |l, r| overflow(T::add(l, r).1)),
        Arithmetic::Subtract => {
            compute(operands, rows, T::subtract, |l, r| overflow(T::subtract(l, r).1))
        }
        Arithmetic::Multiply => {
            compute(operands, rows, T::multiply, |l, r| overflow(T::multiply(l, r).1))
        }
        Arithmetic::Divide => compute(operands, rows, divide::<T>, |l, r| {
            if r.is_zero() { Some(division_by_zero()) } else { overflow(divide::<T>(l, r).1) }
        }),
        // The remainder of the smallest number by -1 is 0, not an overflow.
        Arithmetic::Modulo => compute(
            operands,
            rows,
            |l, r| if r.is_zero() { (l, true) } else { (l.mod_wrapping(r), false) },
            |_, r| r.is_zero().then(division_by_zero),
        ),
    }
}

/// Truncating division; the smallest number by -1 overflows.
fn divide<T: Integer>(left: T::Native, right: T::Native) -> (T::Native, bool) {
    if right.is_zero() {
        return (left, true);
    }
    let overflows =
        left == T::Native::MIN_TOTAL_ORDER && right.add_wrapping(T::Native::ONE).is_zero();
    (left.div_wrapping(right), overflows)
}

pub(super) fn unary<T: Integer>(array: &ArrayRef, operator: Unary) -> Result<ArrayRef> {
    let array: PrimitiveArray<T> = downcast_array(array.as_ref());
    let smallest = T::Native::MIN_TOTAL_ORDER;
    let is_smallest = |row: usize| array.is_valid(row) && array.value(row) == smallest;
    if array.values().contains(&smallest) && (0..array.len()).any(is_smallest) {
        return Err(out_of_range(T::NAME));
    }
    let zero = T::Native::ZERO;
    Ok(Arc::new(match operator {
        Unary::Negate => array.unary::<_, T>(|value| value.neg_wrapping()),
        Unary::Abs => {
            array.unary::<_, T>(|value| if value < zero { value.neg_wrapping() } else { value })
        }
    }))
}
