//! REAL and DOUBLE PRECISION arithmetic with PostgreSQL's errors: a zero divisor, and an infinite
//! answer of finite operands. Infinities and NaN that are already there pass through.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, ArrowPrimitiveType, PrimitiveArray, downcast_array},
    datatypes::{ArrowNativeTypeOp, Float32Type, Float64Type},
};
use datafusion::{error::Result, logical_expr::ScalarFunctionArgs};

use super::{Arithmetic, Operand, Unary, compute};
use crate::functions::error::{division_by_zero, user_error};

/// What the kernels need of a width beyond Arrow's own operations.
pub trait Float: ArrowPrimitiveType {
    /// Whether it is infinite.
    fn is_infinite(value: Self::Native) -> bool;
    /// Its magnitude.
    fn abs(value: Self::Native) -> Self::Native;
}

impl Float for Float32Type {
    fn is_infinite(value: f32) -> bool {
        value.is_infinite()
    }
    fn abs(value: f32) -> f32 {
        value.abs()
    }
}

impl Float for Float64Type {
    fn is_infinite(value: f64) -> bool {
        value.is_infinite()
    }
    fn abs(value: f64) -> f64 {
        value.abs()
    }
}

pub(super) fn binary<T: Float>(
    args: &ScalarFunctionArgs,
    operator: Arithmetic,
) -> Result<ArrayRef> {
    let left = Operand::<T>::of(&args.args[0])?;
    let right = Operand::<T>::of(&args.args[1])?;
    let operands = (&left, &right);
    let rows = args.number_rows;
    let divides = matches!(operator, Arithmetic::Divide | Arithmetic::Modulo);
    let apply = |l: T::Native, r: T::Native| match operator {
        Arithmetic::Add => l.add_wrapping(r),
        Arithmetic::Subtract => l.sub_wrapping(r),
        Arithmetic::Multiply => l.mul_wrapping(r),
        Arithmetic::Divide => l.div_wrapping(r),
        Arithmetic::Modulo => l.mod_wrapping(r),
    };
    let kernel = |l: T::Native, r: T::Native| {
        let value = apply(l, r);
        (value, T::is_infinite(value) || (divides && r.is_zero()))
    };
    compute(operands, rows, kernel, |l, r| {
        if divides && r.is_zero() {
            return Some(division_by_zero());
        }
        let overflows = T::is_infinite(apply(l, r)) && !T::is_infinite(l) && !T::is_infinite(r);
        overflows.then(|| user_error("22003", "value out of range: overflow"))
    })
}

pub(super) fn unary<T: Float>(array: &ArrayRef, operator: Unary) -> ArrayRef {
    let array: PrimitiveArray<T> = downcast_array(array.as_ref());
    Arc::new(match operator {
        Unary::Negate => array.unary::<_, T>(|value| value.neg_wrapping()),
        Unary::Abs => array.unary::<_, T>(T::abs),
    })
}
