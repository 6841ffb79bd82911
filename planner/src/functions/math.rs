//! Numeric functions that DataFusion lacks or answers otherwise: `sign`, `div`, `log` and `ln` with
//! PostgreSQL's errors, `width_bucket`, `scale`, bitwise not.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, Decimal128Array, Float64Array, Int32Array},
    compute::{cast, kernels::arity::unary},
    datatypes::{
        DataType, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    },
};
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF},
};

use super::{
    arithmetic::no_function,
    error::{division_by_zero, user_error},
    function::{Function, answer, array_argument},
};

/// All functions of this family.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    vec![
        Function::new("sign", sign_type, sign).coerced(sign_types).aliased(&["signum"]).build(),
        Function::new("div", |_| Ok(DataType::Decimal128(38, 0)), div)
            .coerced(|types| decimals("div", types))
            .build(),
        float("sqrt", |args| checked(args, square_root)),
        float("ln", |args| checked(args, |value| logarithm(value, f64::ln))),
        float("log10", |args| checked(args, |value| logarithm(value, f64::log10))),
        Function::new("log", |_| Ok(DataType::Float64), log).coerced(log_types).build(),
        Function::new("width_bucket", |_| Ok(DataType::Int32), width_bucket)
            .coerced(|types| floats("width_bucket", types, 4))
            .build(),
        round_even(),
        Function::new("bit_not", |types| Ok(types[0].clone()), bit_not).coerced(integer).build(),
    ]
}

fn float(name: &'static str, body: super::function::Body) -> Arc<ScalarUDF> {
    let coercion: super::function::Coercion = match name {
        "sqrt" => |types| floats("sqrt", types, 1),
        "ln" => |types| floats("ln", types, 1),
        _ => |types| floats("log10", types, 1),
    };
    Function::new(name, |_| Ok(DataType::Float64), body).coerced(coercion).build()
}

/// `round` of a DOUBLE PRECISION: half to even.
pub fn round_even() -> Arc<ScalarUDF> {
    Function::new(
        "float_round",
        |types| Ok(types[0].clone()),
        |args| {
            let array = array_argument(args, 0)?;
            let rounded: arrow::array::ArrayRef = match array.data_type() {
                DataType::Float32 => {
                    let values = array.as_primitive::<Float32Type>();
                    Arc::new(values.unary::<_, Float32Type>(f32::round_ties_even))
                }
                _ => {
                    let values = array.as_primitive::<Float64Type>();
                    Arc::new(values.unary::<_, Float64Type>(f64::round_ties_even))
                }
            };
            answer(args, rounded)
        },
    )
    .build()
}

/// `ceil`, `floor` or `trunc` of a NUMERIC, which has no digits after the point; `None` for other
/// functions.
pub fn whole_numeric(name: &str) -> Option<Arc<ScalarUDF>> {
    Some(match name {
        "ceil" => {
            rounding("numeric_ceil", |args| whole(args, |value, unit| -((-value).div_euclid(unit))))
        }
        "floor" => {
            rounding("numeric_floor", |args| whole(args, |value, unit| value.div_euclid(unit)))
        }
        "trunc" => rounding("numeric_trunc", |args| whole(args, |value, unit| value / unit)),
        _ => return None,
    })
}

fn rounding(name: &'static str, body: super::function::Body) -> Arc<ScalarUDF> {
    Function::new(name, |_| Ok(DataType::Decimal128(38, 0)), body).build()
}

fn whole(args: &ScalarFunctionArgs, round: fn(i128, i128) -> i128) -> Result<ColumnarValue> {
    let array = array_argument(args, 0)?;
    let DataType::Decimal128(_, scale) = array.data_type() else {
        return Err(no_function("trunc", &[array.data_type().clone()]));
    };
    let unit = super::arithmetic::power(*scale).unwrap_or(1);
    let values = array.as_primitive::<Decimal128Type>();
    let rounded: Decimal128Array = unary(values, |value: i128| round(value, unit));
    answer(args, Arc::new(rounded.with_precision_and_scale(38, 0)?))
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || *data_type == DataType::Null
}

fn floats(name: &str, types: &[DataType], count: usize) -> Result<Vec<DataType>> {
    match types.len() == count && types.iter().all(is_number) {
        true => Ok(vec![DataType::Float64; count]),
        false => Err(no_function(name, types)),
    }
}

fn decimals(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types.len() == 2 && types.iter().all(is_number) {
        true => Ok(types
            .iter()
            .map(|data_type| match data_type {
                DataType::Decimal128(..) => data_type.clone(),
                other if other.is_integer() => DataType::Decimal128(19, 0),
                _ => DataType::Decimal128(38, 18),
            })
            .collect()),
        false => Err(no_function(name, types)),
    }
}

fn log_types(types: &[DataType]) -> Result<Vec<DataType>> {
    floats("log", types, types.len().clamp(1, 2))
}

fn integer(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [DataType::Int16 | DataType::Int32 | DataType::Int64] => Ok(types.to_vec()),
        other => Err(no_function("~", other)),
    }
}

fn sign_types(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [DataType::Decimal128(..)] => Ok(types.to_vec()),
        [only] if is_number(only) => Ok(vec![DataType::Float64]),
        other => Err(no_function("sign", other)),
    }
}

fn sign_type(types: &[DataType]) -> Result<DataType> {
    Ok(match types {
        [DataType::Decimal128(..)] => DataType::Decimal128(1, 0),
        _ => DataType::Float64,
    })
}

fn sign(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let array = array_argument(args, 0)?;
    if let DataType::Decimal128(..) = array.data_type() {
        let signs: Decimal128Array =
            unary(array.as_primitive::<Decimal128Type>(), |value: i128| value.signum());
        return answer(args, Arc::new(signs.with_precision_and_scale(1, 0)?));
    }
    let of = |value: f64| if value == 0.0 || value.is_nan() { value } else { value.signum() };
    let signs: Float64Array = unary(array.as_primitive::<Float64Type>(), of);
    answer(args, Arc::new(signs))
}

/// The whole part of a quotient.
fn div(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (left, right) = (array_argument(args, 0)?, array_argument(args, 1)?);
    let scale = |data_type: &DataType| match data_type {
        DataType::Decimal128(_, scale) => *scale,
        _ => 0,
    };
    let (from, to) = (scale(left.data_type()), scale(right.data_type()));
    let common = from.max(to);
    let align = |value: i128, scale: i8| {
        let factor = super::arithmetic::power(common - scale)?;
        value.checked_mul(factor)
    };
    let (left, right) =
        (left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>());
    let quotients = left.iter().zip(right.iter()).map(|pair| {
        let (Some(left), Some(right)) = pair else { return Ok(None) };
        if right == 0 {
            return Err(division_by_zero());
        }
        let aligned = align(left, from).zip(align(right, to));
        let quotient = aligned.map(|(left, right)| left / right);
        quotient.map(Some).ok_or_else(|| user_error("22003", "value overflows numeric format"))
    });
    let array = quotients.collect::<Result<Decimal128Array>>()?;
    answer(args, Arc::new(array.with_precision_and_scale(38, 0)?))
}

fn checked(
    args: &ScalarFunctionArgs,
    compute: impl Fn(f64) -> Result<f64>,
) -> Result<ColumnarValue> {
    let array = array_argument(args, 0)?;
    let values = array.as_primitive::<Float64Type>();
    let values = values.iter().map(|value| value.map(&compute).transpose());
    answer(args, Arc::new(values.collect::<Result<Float64Array>>()?))
}

fn square_root(value: f64) -> Result<f64> {
    if value < 0.0 {
        return Err(user_error("2201F", "cannot take square root of a negative number"));
    }
    Ok(value.sqrt())
}

fn logarithm(value: f64, compute: fn(f64) -> f64) -> Result<f64> {
    if value == 0.0 {
        return Err(user_error("2201E", "cannot take logarithm of zero"));
    }
    if value < 0.0 {
        return Err(user_error("2201E", "cannot take logarithm of a negative number"));
    }
    Ok(compute(value))
}

/// `log(x)` to base 10, `log(b, x)` to base b.
fn log(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    if args.args.len() == 1 {
        return checked(args, |value| logarithm(value, f64::log10));
    }
    let (bases, values) = (array_argument(args, 0)?, array_argument(args, 1)?);
    let (bases, values) =
        (bases.as_primitive::<Float64Type>(), values.as_primitive::<Float64Type>());
    let logarithms = bases.iter().zip(values.iter()).map(|pair| {
        let (Some(base), Some(value)) = pair else { return Ok(None) };
        let (base, value) = (logarithm(base, f64::ln)?, logarithm(value, f64::ln)?);
        if base == 0.0 { Err(division_by_zero()) } else { Ok(Some(value / base)) }
    });
    answer(args, Arc::new(logarithms.collect::<Result<Float64Array>>()?))
}

fn width_bucket(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let mut columns = Vec::with_capacity(4);
    for index in 0..4 {
        columns.push(cast(&array_argument(args, index)?, &DataType::Float64)?);
    }
    let columns: Vec<&Float64Array> =
        columns.iter().map(|column| column.as_primitive::<Float64Type>()).collect();
    let buckets = (0..columns[0].len()).map(|row| {
        if columns.iter().any(|column| column.is_null(row)) {
            return Ok(None);
        }
        let [value, low, high, count] = [0, 1, 2, 3].map(|index| columns[index].value(row));
        if count < 1.0 {
            return Err(user_error("2201G", "count must be greater than zero"));
        }
        if low == high {
            return Err(user_error("2201G", "lower bound cannot equal upper bound"));
        }
        let place = (value - low) / (high - low);
        let bucket = if place < 0.0 {
            0.0
        } else if place >= 1.0 {
            count + 1.0
        } else {
            (place * count).floor() + 1.0
        };
        Ok(Some(bucket as i32))
    });
    answer(args, Arc::new(buckets.collect::<Result<Int32Array>>()?))
}

fn bit_not(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let array = array_argument(args, 0)?;
    let result: arrow::array::ArrayRef = match array.data_type() {
        DataType::Int16 => {
            Arc::new(array.as_primitive::<Int16Type>().unary::<_, Int16Type>(|value| !value))
        }
        DataType::Int32 => {
            Arc::new(array.as_primitive::<Int32Type>().unary::<_, Int32Type>(|value| !value))
        }
        _ => Arc::new(array.as_primitive::<Int64Type>().unary::<_, Int64Type>(|value| !value)),
    };
    answer(args, result)
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{error_of, value_of};

    #[test]
    fn numbers_have_postgres_functions() {
        for (expression, text) in [
            ("sign(-3)::text", "-1"),
            ("sign(2.5)::text", "1"),
            ("div(7, 2)::text", "3"),
            ("div(-7.5, 2)::text", "-3"),
            ("log(2, 8)::text", "3"),
            ("log(100)::text", "2"),
            ("width_bucket(5.35, 0.024, 10.06, 5)", "3"),
            ("~1", "-2"),
            ("|/ 25.0", "5.0"),
        ] {
            assert_eq!(value_of(&format!("SELECT {expression}")), text, "{expression}");
        }
        assert!(error_of("SELECT sqrt(-1)").starts_with("2201F"));
        assert!(error_of("SELECT ln(0)").starts_with("2201E"));
    }
}
