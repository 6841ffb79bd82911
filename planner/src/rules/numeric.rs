//! Which type two numbers meet in: PostgreSQL's ladder SMALLINT → INTEGER → BIGINT → NUMERIC →
//! DOUBLE PRECISION. REAL stays REAL only among its own kind.

use arrow::datatypes::DataType;

/// The types both operands are cast to before arithmetic; `None` if one is not a number. Two
/// NUMERICs keep their own scales.
pub fn common_type(left: &DataType, right: &DataType) -> Option<(DataType, DataType)> {
    let (left, right) = match (left, right) {
        (DataType::Null, DataType::Null) => (DataType::Int32, DataType::Int32),
        (DataType::Null, other) => (signed(other)?, signed(other)?),
        (other, DataType::Null) => (signed(other)?, signed(other)?),
        (left, right) => (signed(left)?, signed(right)?),
    };
    if left == right {
        return Some((left, right));
    }
    if left.is_floating() || right.is_floating() {
        return Some((DataType::Float64, DataType::Float64));
    }
    let is_decimal = |data_type: &DataType| matches!(data_type, DataType::Decimal128(..));
    if is_decimal(&left) || is_decimal(&right) {
        return Some((as_decimal(left), as_decimal(right)));
    }
    let wider = if integer_width(&left) > integer_width(&right) { left } else { right };
    Some((wider.clone(), wider))
}

/// The SQL number that stands for an Arrow number; DataFusion's own functions answer unsigned
/// ones (`row_number()`).
fn signed(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => DataType::Int16,
        DataType::UInt16 | DataType::Int32 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 | DataType::Int64 => DataType::Int64,
        DataType::Float16 | DataType::Float32 => DataType::Float32,
        DataType::Float64 => DataType::Float64,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => DataType::Decimal128(*precision, *scale),
        DataType::Decimal256(_, scale) => DataType::Decimal128(38, *scale),
        _ => return None,
    })
}

/// Digits of the largest value.
pub fn integer_digits(data_type: &DataType) -> u8 {
    match data_type {
        DataType::Int16 => 5,
        DataType::Int32 => 10,
        _ => 19,
    }
}

fn as_decimal(data_type: DataType) -> DataType {
    match data_type {
        DataType::Decimal128(..) => data_type,
        integer => DataType::Decimal128(integer_digits(&integer), 0),
    }
}

fn integer_width(data_type: &DataType) -> u8 {
    integer_digits(data_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_meet_where_postgres_says() {
        use DataType::{Decimal128, Float32, Float64, Int16, Int32, Int64};
        let meet = |left, right| common_type(&left, &right).unwrap().0;
        assert_eq!(meet(Int16, Int32), Int32);
        assert_eq!(meet(Int64, Int16), Int64);
        assert_eq!(meet(Int32, Decimal128(5, 2)), Decimal128(10, 0));
        assert_eq!(meet(Float32, Float32), Float32);
        assert_eq!(meet(Float32, Int32), Float64);
        assert_eq!(meet(Decimal128(5, 2), Float64), Float64);
        assert_eq!(common_type(&DataType::Utf8, &Int32), None);
    }
}
