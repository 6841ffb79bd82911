//! `+ - * / %`, unary minus and `abs` over numbers, with PostgreSQL's types and errors: nothing
//! wraps around, integer division truncates, a zero divisor is 22012, whatever the type.
//!
//! The analyzer gives both operands one type ([`crate::rules::numeric`]); a kernel then computes
//! all slots without branches, gathers one "something went wrong" bit, and looks for the guilty
//! row only if it is set: nulls hide garbage slots that may overflow, and must not raise.

mod decimal;
mod float;
mod integer;

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, downcast_array},
    buffer::NullBuffer,
    datatypes::{DataType, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type},
};
use datafusion::{
    error::{DataFusionError, Result},
    logical_expr::{ColumnarValue, Operator, ScalarFunctionArgs, ScalarUDF},
};

pub use decimal::result_type as decimal_result_type;
pub(crate) use decimal::{power, round_half_away_128};

use super::function::{Body, Function, TypeRule, answer};

/// An arithmetic operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Modulo,
}

impl Arithmetic {
    /// The arithmetic behind a plan's operator.
    pub fn of(operator: Operator) -> Option<Self> {
        Some(match operator {
            Operator::Plus => Arithmetic::Add,
            Operator::Minus => Arithmetic::Subtract,
            Operator::Multiply => Arithmetic::Multiply,
            Operator::Divide | Operator::IntegerDivide => Arithmetic::Divide,
            Operator::Modulo => Arithmetic::Modulo,
            _ => return None,
        })
    }

    /// The function that computes it.
    pub fn function(self) -> Arc<ScalarUDF> {
        use Arithmetic::{Add, Divide, Modulo, Multiply, Subtract};
        let (name, rule, body): (_, TypeRule, Body) = match self {
            Add => ("checked_add", |types| binary_type(types, Add), |args| binary(args, Add)),
            Subtract => (
                "checked_subtract",
                |types| binary_type(types, Subtract),
                |args| binary(args, Subtract),
            ),
            Multiply => (
                "checked_multiply",
                |types| binary_type(types, Multiply),
                |args| binary(args, Multiply),
            ),
            Divide => {
                ("checked_divide", |types| binary_type(types, Divide), |args| binary(args, Divide))
            }
            Modulo => {
                ("checked_modulo", |types| binary_type(types, Modulo), |args| binary(args, Modulo))
            }
        };
        Function::new(name, rule, body).build()
    }
}

/// All functions of this family.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    use Arithmetic::{Add, Divide, Modulo, Multiply, Subtract};
    let operators = [Add, Subtract, Multiply, Divide, Modulo].map(Arithmetic::function);
    let mod_function =
        Function::new("mod", |types| binary_type(types, Modulo), |args| binary(args, Modulo))
            .coerced(one_type);
    let mut functions = vec![negate(), abs(), mod_function.build()];
    functions.extend(operators);
    functions
}

/// Unary minus.
pub fn negate() -> Arc<ScalarUDF> {
    Function::new("checked_negate", unary_type, |args| unary(args, Unary::Negate)).build()
}

/// `abs(x)`.
pub fn abs() -> Arc<ScalarUDF> {
    Function::new("abs", unary_type, |args| unary(args, Unary::Abs)).build()
}

#[derive(Debug, Clone, Copy)]
enum Unary {
    Negate,
    Abs,
}

fn one_type(types: &[DataType]) -> Result<Vec<DataType>> {
    let [left, right] = types else { return Err(no_function("mod", types)) };
    let one =
        crate::rules::numeric::common_type(left, right).ok_or_else(|| no_function("mod", types))?;
    Ok(vec![one.0, one.1])
}

/// 42883.
pub fn no_function(name: &str, types: &[DataType]) -> DataFusionError {
    let types: Vec<_> =
        types.iter().map(|data_type| crate::SqlType::of_arrow(data_type).name()).collect();
    super::external(super::missing::no_such_function(name, &types))
}

fn binary_type(types: &[DataType], operator: Arithmetic) -> Result<DataType> {
    match types {
        [DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)] => {
            Ok(decimal::result_type((*p1, *s1), (*p2, *s2), operator))
        }
        [left, right] if left == right && left.is_numeric() => Ok(left.clone()),
        _ => Err(no_function("arithmetic", types)),
    }
}

fn unary_type(types: &[DataType]) -> Result<DataType> {
    match types {
        [only] if only.is_numeric() => Ok(only.clone()),
        _ => Err(no_function("abs", types)),
    }
}

fn binary(args: &ScalarFunctionArgs, operator: Arithmetic) -> Result<ColumnarValue> {
    let [left, right] = args.args.as_slice() else {
        return Err(no_function("arithmetic", &[]));
    };
    let left_type = left.data_type();
    let array = match &left_type {
        DataType::Int16 => integer::binary::<Int16Type>(args, operator)?,
        DataType::Int32 => integer::binary::<Int32Type>(args, operator)?,
        DataType::Int64 => integer::binary::<Int64Type>(args, operator)?,
        DataType::Float32 => float::binary::<Float32Type>(args, operator)?,
        DataType::Float64 => float::binary::<Float64Type>(args, operator)?,
        DataType::Decimal128(..) => decimal::binary(args, operator)?,
        _ => return Err(no_function("arithmetic", &[left_type, right.data_type()])),
    };
    answer(args, array)
}

fn unary(args: &ScalarFunctionArgs, operator: Unary) -> Result<ColumnarValue> {
    let array = super::function::array_argument(args, 0)?;
    let result = match array.data_type() {
        DataType::Int16 => integer::unary::<Int16Type>(&array, operator)?,
        DataType::Int32 => integer::unary::<Int32Type>(&array, operator)?,
        DataType::Int64 => integer::unary::<Int64Type>(&array, operator)?,
        DataType::Float32 => float::unary::<Float32Type>(&array, operator),
        DataType::Float64 => float::unary::<Float64Type>(&array, operator),
        DataType::Decimal128(..) => decimal::unary(&array, operator),
        other => return Err(no_function("abs", std::slice::from_ref(other))),
    };
    answer(args, result)
}

/// One operand: a column, or a constant that is not copied out to one.
enum Operand<T: ArrowPrimitiveType> {
    Column(PrimitiveArray<T>),
    Constant(Option<T::Native>),
}

impl<T: ArrowPrimitiveType> Operand<T> {
    fn of(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(array) => Operand::Column(downcast_array(array.as_ref())),
            ColumnarValue::Scalar(scalar) => {
                let array: PrimitiveArray<T> = downcast_array(scalar.to_array()?.as_ref());
                Operand::Constant(array.is_valid(0).then(|| array.value(0)))
            }
        })
    }

    fn nulls(&self) -> Option<&NullBuffer> {
        match self {
            Operand::Column(array) => array.nulls(),
            Operand::Constant(_) => None,
        }
    }

    fn value(&self, index: usize) -> T::Native {
        match self {
            Operand::Column(array) => array.value(index),
            Operand::Constant(value) => value.unwrap_or_default(),
        }
    }
}

/// Computes `kernel` over every slot; it answers the value and whether it is wrong. If any slot
/// was, `explain` is asked about the valid ones.
fn compute<T: ArrowPrimitiveType>(
    operands: (&Operand<T>, &Operand<T>),
    row_count: usize,
    kernel: impl Fn(T::Native, T::Native) -> (T::Native, bool),
    explain: impl Fn(T::Native, T::Native) -> Option<DataFusionError>,
) -> Result<ArrayRef> {
    use Operand::{Column, Constant};
    let mut is_wrong = false;
    let mut step = |left, right| {
        let (value, wrong) = kernel(left, right);
        is_wrong |= wrong;
        value
    };
    let values: Vec<T::Native> = match operands {
        (Constant(None), _) | (_, Constant(None)) => {
            return Ok(Arc::new(PrimitiveArray::<T>::new_null(row_count)));
        }
        (Column(left), Column(right)) => {
            left.values().iter().zip(right.values()).map(|(l, r)| step(*l, *r)).collect()
        }
        (Column(left), Constant(Some(right))) => {
            left.values().iter().map(|l| step(*l, *right)).collect()
        }
        (Constant(Some(left)), Column(right)) => {
            right.values().iter().map(|r| step(*left, *r)).collect()
        }
        (Constant(Some(left)), Constant(Some(right))) => {
            vec![step(*left, *right); row_count]
        }
    };
    let nulls = NullBuffer::union(operands.0.nulls(), operands.1.nulls());
    if is_wrong {
        let is_valid = |row: &usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row));
        let error = (0..row_count)
            .filter(is_valid)
            .find_map(|row| explain(operands.0.value(row), operands.1.value(row)));
        if let Some(error) = error {
            return Err(error);
        }
    }
    Ok(Arc::new(PrimitiveArray::<T>::new(values.into(), nulls)))
}

#[cfg(test)]
mod tests;
