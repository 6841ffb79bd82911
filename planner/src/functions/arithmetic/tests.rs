//! Claims about checked arithmetic, kernel by kernel.

use arrow::{
    array::{AsArray, Decimal128Array, Float64Array, Int32Array, Int64Array},
    datatypes::{Decimal128Type, Field, Int32Type, Int64Type},
};
use datafusion::{config::ConfigOptions, scalar::ScalarValue};

use super::*;

fn run(operator: Arithmetic, left: ColumnarValue, right: ColumnarValue) -> Result<ArrayRef> {
    let function = operator.function();
    let types = [left.data_type(), right.data_type()];
    let return_type = function.return_type(&types)?;
    let rows = match (&left, &right) {
        (ColumnarValue::Array(array), _) | (_, ColumnarValue::Array(array)) => array.len(),
        _ => 1,
    };
    let args = ScalarFunctionArgs {
        arg_fields: types.iter().map(|t| Arc::new(Field::new("", t.clone(), true))).collect(),
        args: vec![left, right],
        number_rows: rows,
        return_field: Arc::new(Field::new("", return_type, true)),
        config_options: Arc::new(ConfigOptions::default()),
    };
    function.invoke_with_args(args)?.to_array(rows)
}

fn column(array: impl Array + 'static) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(array))
}

fn message(result: Result<ArrayRef>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn integers_do_not_wrap_around() {
    let max = || column(Int32Array::from(vec![1, i32::MAX]));
    let one = || ColumnarValue::Scalar(ScalarValue::Int32(Some(1)));
    assert!(message(run(Arithmetic::Add, max(), one())).contains("integer out of range"));
    assert!(message(run(Arithmetic::Multiply, max(), max())).contains("integer out of range"));
    let difference = run(Arithmetic::Subtract, max(), one()).unwrap();
    assert_eq!(difference.as_primitive::<Int32Type>().values(), &[0, i32::MAX - 1]);
}

#[test]
fn a_null_slot_never_raises() {
    let values = Int64Array::new(vec![i64::MAX, 5].into(), Some(vec![false, true].into()));
    let zeros = Int64Array::new(vec![0, 2].into(), Some(vec![false, true].into()));
    let sum = run(Arithmetic::Add, column(values.clone()), column(values.clone())).unwrap();
    assert_eq!(sum.as_primitive::<Int64Type>(), &Int64Array::from(vec![None, Some(10)]));
    let quotient = run(Arithmetic::Divide, column(values), column(zeros)).unwrap();
    assert_eq!(quotient.as_primitive::<Int64Type>(), &Int64Array::from(vec![None, Some(2)]));
}

#[test]
fn division_truncates_and_refuses_zero() {
    let left = || column(Int32Array::from(vec![-7, 7]));
    let quotient = run(Arithmetic::Divide, left(), column(Int32Array::from(vec![2, -2]))).unwrap();
    assert_eq!(quotient.as_primitive::<Int32Type>().values(), &[-3, -3]);
    for operator in [Arithmetic::Divide, Arithmetic::Modulo] {
        let zero = column(Int32Array::from(vec![1, 0]));
        assert!(message(run(operator, left(), zero)).contains("division by zero"));
    }
    let smallest = column(Int32Array::from(vec![i32::MIN]));
    let minus_one = || ColumnarValue::Scalar(ScalarValue::Int32(Some(-1)));
    assert!(message(run(Arithmetic::Divide, smallest, minus_one())).contains("out of range"));
    let smallest = column(Int32Array::from(vec![i32::MIN]));
    let remainder = run(Arithmetic::Modulo, smallest, minus_one()).unwrap();
    assert_eq!(remainder.as_primitive::<Int32Type>().values(), &[0]);
}

#[test]
fn floats_refuse_zero_divisors_and_overflow() {
    let one = || column(Float64Array::from(vec![1.0, 1e308]));
    let zero = column(Float64Array::from(vec![0.0, 1.0]));
    assert!(message(run(Arithmetic::Divide, one(), zero)).contains("division by zero"));
    assert!(message(run(Arithmetic::Multiply, one(), one())).contains("overflow"));
    let infinite = || column(Float64Array::from(vec![f64::INFINITY, f64::NAN]));
    assert!(run(Arithmetic::Add, infinite(), one()).is_ok());
}

#[test]
fn numerics_keep_their_scales() {
    let decimal = |value, precision, scale| {
        let array = Decimal128Array::from(vec![value]);
        column(array.with_precision_and_scale(precision, scale).unwrap())
    };
    let product = run(Arithmetic::Multiply, decimal(908, 3, 3), decimal(15, 2, 1)).unwrap();
    assert_eq!(product.data_type(), &DataType::Decimal128(5, 4));
    assert_eq!(product.as_primitive::<Decimal128Type>().value(0), 13_620);
    let quotient = run(Arithmetic::Divide, decimal(-10, 2, 0), decimal(3, 1, 0)).unwrap();
    assert_eq!(quotient.as_primitive::<Decimal128Type>().value(0), -33_333_333_333_333_333);
    let wide = || decimal(10i128.pow(37), 38, 18);
    assert!(message(run(Arithmetic::Multiply, wide(), wide())).contains("numeric"));
    let zero = decimal(0, 1, 0);
    assert!(message(run(Arithmetic::Divide, wide(), zero)).contains("division by zero"));
}
