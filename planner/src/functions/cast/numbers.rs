//! Numbers → narrower or rounder numbers. Floats round half to even, NUMERIC half away from zero,
//! as PostgreSQL does; what does not fit is 22003.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Decimal128Array, PrimitiveArray},
    compute::cast,
    datatypes::{
        DataType, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
        UInt32Type,
    },
};
use bytes::BytesMut;
use datafusion::error::{DataFusionError, Result};

use super::cannot_cast;
use crate::{
    functions::{
        arithmetic::{power, round_half_away_128},
        error::{carry, out_of_range, user_error},
    },
    text::{input, output},
};

/// Casts numbers to another number type.
pub fn convert(source: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    match to {
        DataType::Int16 => integers::<Int16Type>(source, "smallint"),
        DataType::Int32 => integers::<Int32Type>(source, "integer"),
        DataType::Int64 => integers::<Int64Type>(source, "bigint"),
        DataType::UInt32 => integers::<UInt32Type>(source, "OID"),
        DataType::Decimal128(precision, scale) => decimals(source, *precision, *scale),
        DataType::Float32 => narrow_float(source),
        other => Err(cannot_cast(source.data_type(), other)),
    }
}

fn integers<T: ArrowPrimitiveType>(source: &ArrayRef, type_name: &str) -> Result<ArrayRef>
where
    T::Native: TryFrom<i128>,
{
    let narrow = |value: Option<i128>| {
        value
            .and_then(|value| T::Native::try_from(value).ok())
            .ok_or_else(|| out_of_range(type_name))
    };
    let array: PrimitiveArray<T> = match source.data_type() {
        DataType::Float64 => each::<Float64Type, T>(source, |value| narrow(rounded(value)))?,
        DataType::Float32 => each::<Float32Type, T>(source, |value| narrow(rounded(value.into())))?,
        DataType::Decimal128(_, scale) => {
            let unit = power(*scale).unwrap_or(1);
            each::<Decimal128Type, T>(source, |value| narrow(round_half_away_128(value, unit)))?
        }
        other if other.is_integer() => {
            let wide = cast(source, &DataType::Int64)?;
            each::<Int64Type, T>(&wide, |value| narrow(Some(value.into())))?
        }
        other => return Err(cannot_cast(other, &T::DATA_TYPE)),
    };
    Ok(Arc::new(array))
}

/// Half to even; `None` for what no integer is near.
fn rounded(value: f64) -> Option<i128> {
    value.is_finite().then(|| value.round_ties_even() as i128)
}

fn decimals(source: &ArrayRef, precision: u8, scale: i8) -> Result<ArrayRef> {
    let overflow = || carry(input::numeric_overflow(precision, scale));
    let limit = power(precision as i8).unwrap_or(i128::MAX);
    let fit = |value: Option<i128>| {
        value.filter(|value| value.unsigned_abs() < limit.unsigned_abs()).ok_or_else(overflow)
    };
    let array: Decimal128Array = match source.data_type() {
        DataType::Decimal128(_, from) => {
            let up = power(scale - from);
            let down = power(from - scale);
            each::<Decimal128Type, Decimal128Type>(source, |value| {
                fit(match (up, down) {
                    (Some(factor), _) => value.checked_mul(factor),
                    (None, Some(unit)) => round_half_away_128(value, unit),
                    (None, None) => None,
                })
            })?
        }
        DataType::Float64 => each::<Float64Type, Decimal128Type>(source, |value| {
            float_to_decimal(|out| output::float8(value, out), precision, scale)
        })?,
        DataType::Float32 => each::<Float32Type, Decimal128Type>(source, |value| {
            float_to_decimal(|out| output::float4(value, out), precision, scale)
        })?,
        other if other.is_integer() => {
            let wide = cast(source, &DataType::Int64)?;
            let unit = power(scale);
            each::<Int64Type, Decimal128Type>(&wide, |value| {
                fit(unit.and_then(|unit| i128::from(value).checked_mul(unit)))
            })?
        }
        other => return Err(cannot_cast(other, &DataType::Decimal128(precision, scale))),
    };
    Ok(Arc::new(array.with_precision_and_scale(precision, scale)?))
}

/// Through the digits that would be printed: 0.1 becomes 0.1, not 0.1000000000000000055.
fn float_to_decimal(
    print: impl FnOnce(&mut BytesMut),
    precision: u8,
    scale: i8,
) -> Result<i128, DataFusionError> {
    let mut digits = BytesMut::new();
    print(&mut digits);
    input::numeric(&String::from_utf8_lossy(&digits), precision, scale).map_err(carry)
}

fn narrow_float(source: &ArrayRef) -> Result<ArrayRef> {
    let array = each::<Float64Type, Float32Type>(source, |value| {
        let narrow = value as f32;
        let is_lost =
            (narrow.is_infinite() && value.is_finite()) || (narrow == 0.0 && value != 0.0);
        if is_lost { Err(user_error("22003", "value out of range: overflow")) } else { Ok(narrow) }
    })?;
    Ok(Arc::new(array))
}

fn each<A: ArrowPrimitiveType, B: ArrowPrimitiveType>(
    source: &ArrayRef,
    convert: impl Fn(A::Native) -> Result<B::Native>,
) -> Result<PrimitiveArray<B>> {
    source.as_primitive::<A>().iter().map(|value| value.map(&convert).transpose()).collect()
}
