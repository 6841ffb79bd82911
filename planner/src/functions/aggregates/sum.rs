//! `sum` and `avg`: which type answers which, and how a sum and a count become the answer.
//!
//! | argument | sum | avg |
//! | --- | --- | --- |
//! | SMALLINT, INTEGER | BIGINT | NUMERIC |
//! | BIGINT | NUMERIC | NUMERIC |
//! | NUMERIC | NUMERIC of the same scale | NUMERIC |
//! | REAL | REAL | DOUBLE PRECISION |
//! | DOUBLE PRECISION | DOUBLE PRECISION | DOUBLE PRECISION |

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, Decimal128Array, Float32Array, Float64Array, Int64Array},
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    error::Result,
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature,
        Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::AggregateOrderSensitivity,
    },
    scalar::ScalarValue,
};

use super::totals::{Finish, Total1, Totals, within_numeric};
use crate::functions::{arithmetic::no_function, error::user_error};

/// Scale of avg over exact numbers.
const AVERAGE_SCALE: i8 = 16;

/// The `sum` aggregate.
pub fn sum() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(Sum::new("sum", false)))
}

/// The `avg` aggregate.
pub fn avg() -> Arc<AggregateUDF> {
    let average = Sum { aliases: vec!["mean".to_owned()], ..Sum::new("avg", true) };
    Arc::new(AggregateUDF::from(average))
}

/// `sum`, or `avg`, which is a sum over a count.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Sum {
    name: &'static str,
    aliases: Vec<String>,
    is_average: bool,
    signature: Signature,
}

/// What the sums are kept in for an argument type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Int64,
    Int128 { scale: i8 },
    Float64,
}

impl Sum {
    fn new(name: &'static str, is_average: bool) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Self { name, aliases: Vec::new(), is_average, signature }
    }

    fn width(&self, argument: &DataType) -> Result<Width> {
        Ok(match argument {
            DataType::Int16 | DataType::Int32 if !self.is_average => Width::Int64,
            DataType::Int16 | DataType::Int32 | DataType::Int64 => Width::Int128 { scale: 0 },
            DataType::Decimal128(_, scale) => Width::Int128 { scale: *scale },
            DataType::Float32 | DataType::Float64 => Width::Float64,
            other => return Err(no_function(self.name, std::slice::from_ref(other))),
        })
    }

    fn finish_integers(&self) -> Finish<i64> {
        Arc::new(|sums: &[i64], counts: &[i64]| {
            let values = sums.iter().zip(counts).map(|(sum, count)| (*count > 0).then_some(*sum));
            Ok(Arc::new(values.collect::<Int64Array>()) as ArrayRef)
        })
    }

    fn finish_decimals(&self, scale: i8, answer: &DataType) -> Finish<i128> {
        let (is_average, answer) = (self.is_average, answer.clone());
        Arc::new(move |sums: &[i128], counts: &[i64]| {
            let mut values = Vec::with_capacity(sums.len());
            for (sum, count) in sums.iter().zip(counts) {
                values.push(match (*count > 0, is_average) {
                    (false, _) => None,
                    (true, false) => Some(within_numeric(*sum)?),
                    (true, true) => Some(average(*sum, *count, scale)?),
                });
            }
            Ok(Arc::new(Decimal128Array::from(values).with_data_type(answer.clone())) as ArrayRef)
        })
    }

    fn finish_floats(&self, answer: &DataType) -> Finish<f64> {
        let (is_average, is_single) = (self.is_average, *answer == DataType::Float32);
        Arc::new(move |sums: &[f64], counts: &[i64]| {
            let values = sums.iter().zip(counts).map(|(sum, count)| {
                let value = if is_average { *sum / *count as f64 } else { *sum };
                (*count > 0).then_some(value)
            });
            Ok(match is_single {
                true => Arc::new(values.map(|v| v.map(|v| v as f32)).collect::<Float32Array>())
                    as ArrayRef,
                false => Arc::new(values.collect::<Float64Array>()),
            })
        })
    }

    fn single(&self, argument: &DataType, answer: &DataType) -> Result<Box<dyn Accumulator>> {
        Ok(match self.width(argument)? {
            Width::Int64 => Box::new(Total1::new("bigint", self.finish_integers())),
            Width::Int128 { scale } => {
                Box::new(Total1::new("numeric", self.finish_decimals(scale, answer)))
            }
            Width::Float64 => Box::new(Total1::new("double precision", self.finish_floats(answer))),
        })
    }
}

/// `sum / 10^scale / count` with [`AVERAGE_SCALE`] digits, rounded half away from zero.
fn average(sum: i128, count: i64, scale: i8) -> Result<i128> {
    let overflow = || user_error("22003", "value overflows numeric format");
    // What the answer's scale adds to, or takes from, the sum's.
    let shift = AVERAGE_SCALE - scale;
    let factor = 10i128.checked_pow(shift.unsigned_abs().into()).ok_or_else(overflow)?;
    let count = i128::from(count);
    if shift < 0 {
        let divisor = count.checked_mul(factor).ok_or_else(overflow)?;
        return Ok(rounded(sum / divisor, sum % divisor, divisor));
    }
    // In two steps, so that a sum near the limit does not overflow on the way.
    let whole = (sum / count).checked_mul(factor).ok_or_else(overflow)?;
    let rest = (sum % count).checked_mul(factor).ok_or_else(overflow)?;
    within_numeric(
        whole.checked_add(rounded(rest / count, rest % count, count)).ok_or_else(overflow)?,
    )
}

fn rounded(quotient: i128, remainder: i128, divisor: i128) -> i128 {
    if remainder.unsigned_abs() * 2 >= divisor.unsigned_abs() && remainder != 0 {
        return quotient + remainder.signum();
    }
    quotient
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [argument] = types else { return Err(no_function(self.name, types)) };
        Ok(vec![match argument {
            DataType::Int8 | DataType::UInt8 => DataType::Int16,
            DataType::UInt16 => DataType::Int32,
            DataType::UInt32 => DataType::Int64,
            DataType::UInt64 => DataType::Decimal128(20, 0),
            DataType::Null => DataType::Int64,
            DataType::Float16 => DataType::Float32,
            other => {
                self.width(other)?;
                other.clone()
            }
        }])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [argument] = types else { return Err(no_function(self.name, types)) };
        Ok(match (self.width(argument)?, self.is_average) {
            (Width::Int64, _) => DataType::Int64,
            (Width::Int128 { .. }, true) => DataType::Decimal128(38, AVERAGE_SCALE),
            (Width::Int128 { scale }, false) => DataType::Decimal128(38, scale),
            (Width::Float64, true) => DataType::Float64,
            (Width::Float64, false) => argument.clone(),
        })
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let argument = args.expr_fields[0].data_type();
        let inner = self.single(argument, args.return_field.data_type())?;
        if args.is_distinct {
            let element = argument.clone();
            return Ok(Box::new(Distinct { seen: HashSet::new(), element, inner }));
        }
        Ok(inner)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let argument = args.input_fields[0].data_type();
        if args.is_distinct {
            let list = DataType::new_list(argument.clone(), true);
            return Ok(vec![Arc::new(Field::new(format!("{}[distinct]", args.name), list, true))]);
        }
        let sum = match self.width(argument)? {
            Width::Int64 => DataType::Int64,
            Width::Int128 { .. } => DataType::Decimal128(38, 0),
            Width::Float64 => DataType::Float64,
        };
        Ok(vec![
            Arc::new(Field::new(format!("{}[sum]", args.name), sum, true)),
            Arc::new(Field::new(format!("{}[count]", args.name), DataType::Int64, true)),
        ])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let answer = args.return_field.data_type();
        Ok(match self.width(args.expr_fields[0].data_type())? {
            Width::Int64 => Box::new(Totals::new("bigint", self.finish_integers())),
            Width::Int128 { scale } => {
                Box::new(Totals::new("numeric", self.finish_decimals(scale, answer)))
            }
            Width::Float64 => Box::new(Totals::new("double precision", self.finish_floats(answer))),
        })
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// `sum(DISTINCT x)` beside other aggregates: remembers the values, sums them at the end.
#[derive(Debug)]
struct Distinct {
    seen: HashSet<ScalarValue>,
    element: DataType,
    inner: Box<dyn Accumulator>,
}

impl Distinct {
    fn remember(&mut self, values: &ArrayRef) -> Result<()> {
        for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
            self.seen.insert(ScalarValue::try_from_array(values, row)?);
        }
        Ok(())
    }
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.remember(&values[0])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if !self.seen.is_empty() {
            let values = ScalarValue::iter_to_array(self.seen.drain())?;
            self.inner.update_batch(&[values])?;
        }
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.seen.capacity() * size_of::<ScalarValue>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: Vec<_> = self.seen.iter().cloned().collect();
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &self.element))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = arrow::array::AsArray::as_list::<i32>(&states[0]);
        lists.iter().flatten().try_for_each(|values| self.remember(&values))
    }
}
