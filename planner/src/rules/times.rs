//! Arithmetic of dates, times and intervals: what PostgreSQL does with them and Arrow does otherwise
//! or not at all becomes a function of ours, the rest stays Arrow's.

use arrow::datatypes::DataType;
use datafusion::logical_expr::{Expr, Operator};

use super::{
    operators::plain_cast,
    semantics::{binary_expr, call},
};
use crate::{
    SqlType,
    functions::{arithmetic::Arithmetic, interval},
};

/// Sums and differences of times and intervals that Arrow answers as PostgreSQL does.
pub fn arrow_computes(arithmetic: Arithmetic, left: &DataType, right: &DataType) -> bool {
    use Arithmetic::{Add, Subtract};
    use DataType::{Date32, Interval, Null, Time64, Timestamp};
    match (left, right) {
        (Timestamp(..) | Interval(_) | Time64(_), Interval(_) | Null)
        | (Null, Interval(_) | Timestamp(..)) => matches!(arithmetic, Add | Subtract),
        (Interval(_), Timestamp(..) | Time64(_)) | (Date32, Time64(_)) | (Time64(_), Date32) => {
            arithmetic == Add
        }
        (Time64(_), Time64(_)) => arithmetic == Subtract,
        _ => false,
    }
}

/// What PostgreSQL does with times and intervals and Arrow does otherwise or not at all.
pub fn times(
    arithmetic: Arithmetic,
    (left, left_type): (&Expr, &DataType),
    (right, right_type): (&Expr, &DataType),
) -> Option<Expr> {
    use Arithmetic::{Add, Divide, Multiply, Subtract};
    use DataType::{Date32, Float64, Interval, Timestamp};
    let to = |expr: &Expr, from: &DataType, to: DataType| plain_cast(expr.clone(), from, to);
    let timestamp = || SqlType::Timestamp.arrow();
    Some(match (arithmetic, left_type, right_type) {
        (Subtract, Timestamp(..), Timestamp(..))
        | (Subtract, Timestamp(..), Date32)
        | (Subtract, Date32, Timestamp(..)) => {
            let is_zoned = |data_type: &DataType| matches!(data_type, Timestamp(_, Some(_)));
            let common = match is_zoned(left_type) || is_zoned(right_type) {
                true => SqlType::Timestamptz.arrow(),
                false => timestamp(),
            };
            let operands = vec![to(left, left_type, common.clone()), to(right, right_type, common)];
            call(interval::time_difference(), operands)
        }
        (Add | Subtract, Date32, Interval(_)) => {
            let op = if arithmetic == Add { Operator::Plus } else { Operator::Minus };
            binary_expr(to(left, &Date32, timestamp()), op, right.clone())
        }
        (Add, Interval(_), Date32) => {
            binary_expr(to(right, &Date32, timestamp()), Operator::Plus, left.clone())
        }
        (Multiply, Interval(_), number) if number.is_numeric() => {
            call(interval::interval_multiply(), vec![left.clone(), to(right, number, Float64)])
        }
        (Multiply, number, Interval(_)) if number.is_numeric() => {
            call(interval::interval_multiply(), vec![right.clone(), to(left, number, Float64)])
        }
        (Divide, Interval(_), number) if number.is_numeric() => {
            call(interval::interval_divide(), vec![left.clone(), to(right, number, Float64)])
        }
        _ => return None,
    })
}

/// `date + 3`, `date - 3`, `date - date`: days.
pub fn dates(
    arithmetic: Arithmetic,
    (left, left_type): (&Expr, &DataType),
    (right, right_type): (&Expr, &DataType),
) -> Option<Expr> {
    use DataType::{Date32, Int16, Int32};
    let days = |expr: &Expr| plain_cast(expr.clone(), &Date32, Int32);
    let number = |expr: &Expr, data_type: &DataType| plain_cast(expr.clone(), data_type, Int32);
    let apply = |left, right| call(arithmetic.function(), vec![left, right]);
    Some(match (arithmetic, left_type, right_type) {
        (Arithmetic::Subtract, Date32, Date32) => apply(days(left), days(right)),
        (Arithmetic::Add | Arithmetic::Subtract, Date32, Int16 | Int32) => {
            plain_cast(apply(days(left), number(right, right_type)), &Int32, Date32)
        }
        (Arithmetic::Add, Int16 | Int32, Date32) => {
            plain_cast(apply(number(left, left_type), days(right)), &Int32, Date32)
        }
        _ => return None,
    })
}
