//! `Input`: one aggregate's argument for one batch, in the form its columns want, with the mask of
//! rows that take part. Evaluated once a batch, whatever number of panes the batch falls into.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    buffer::{BooleanBuffer, ScalarBuffer},
    compute::cast,
    datatypes::{DataType, Decimal128Type, Float64Type, Int64Type},
};

use crate::{Error, Result, delta::Weight};

/// Which form the values of an argument take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputForm {
    /// Only whether it is null matters.
    Presence,
    /// Integers, dates and times as i64.
    Int,
    /// Decimals, unscaled.
    Wide,
    /// Floats, and anything whose variance is asked for.
    Float,
    /// Text and bytes, or any type on its way into a multiset.
    Array,
}

#[derive(Debug, Clone)]
pub(super) enum Values {
    None,
    Int(ScalarBuffer<i64>),
    Wide(ScalarBuffer<i128>),
    Float(ScalarBuffer<f64>),
    Array(ArrayRef),
}

/// See the module text.
#[derive(Debug, Clone)]
pub(in crate::processors) struct Input {
    pub(super) values: Values,
    /// Rows that take part; `None` is all.
    pub(super) mask: Option<BooleanBuffer>,
}

/// Rows `start..` of the batch, one for each slot, on their way into the slots.
#[derive(Debug, Clone, Copy)]
pub(in crate::processors) struct Target<'a> {
    pub(in crate::processors) start: usize,
    pub(in crate::processors) slots: &'a [u32],
    pub(in crate::processors) weight: &'a Weight,
}

impl Input {
    pub(super) fn new(
        argument: Option<ArrayRef>,
        filter: Option<BooleanBuffer>,
        form: InputForm,
    ) -> Result<Self> {
        let Some(array) = argument else {
            return Ok(Self { values: Values::None, mask: filter });
        };
        let validity = array.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        let mask = match (filter, validity) {
            (Some(filter), Some(validity)) => Some(&filter & validity.inner()),
            (filter, validity) => filter.or_else(|| validity.map(|nulls| nulls.inner().clone())),
        };
        let values = match form {
            InputForm::Presence => Values::None,
            InputForm::Int => Values::Int(integers(&array)?),
            InputForm::Wide => {
                let decimals = array.as_primitive_opt::<Decimal128Type>();
                Values::Wide(decimals.ok_or_else(|| unexpected(&array))?.values().clone())
            }
            InputForm::Float => {
                let floats = cast(&array, &DataType::Float64)?;
                Values::Float(floats.as_primitive::<Float64Type>().values().clone())
            }
            InputForm::Array => Values::Array(array),
        };
        Ok(Self { values, mask })
    }
}

impl Target<'_> {
    /// Calls `f(slot, row, weight)` for each row that takes part, until it fails.
    #[inline]
    pub(super) fn for_each(
        &self,
        mask: Option<&BooleanBuffer>,
        mut f: impl FnMut(usize, usize, i64) -> Result<()>,
    ) -> Result<()> {
        let rows = (self.start..).zip(self.slots);
        match (self.weight, mask) {
            (Weight::One, None) => {
                for (row, &slot) in rows {
                    f(slot as usize, row, 1)?;
                }
            }
            (weight, mask) => {
                for (row, &slot) in rows {
                    if mask.is_none_or(|mask| mask.value(row)) {
                        f(slot as usize, row, weight.at(row))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The raw integers of an integer, date, time or timestamp column.
fn integers(array: &ArrayRef) -> Result<ScalarBuffer<i64>> {
    let array = match array.data_type() {
        DataType::Date32 => cast(array, &DataType::Int32)?,
        DataType::Timestamp(..) | DataType::Time64(_) => {
            let data = array.to_data().into_builder().data_type(DataType::Int64).build()?;
            arrow::array::make_array(data)
        }
        _ => ArrayRef::clone(array),
    };
    Ok(cast(&array, &DataType::Int64)?.as_primitive::<Int64Type>().values().clone())
}

fn unexpected(array: &ArrayRef) -> Error {
    Error::Internal(format!("aggregate argument of type {}", array.data_type()))
}
