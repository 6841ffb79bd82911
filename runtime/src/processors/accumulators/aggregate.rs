//! `Aggregate`: what one aggregate is made of (an input form and some state columns), and how its
//! result is computed from them. The variance family is Σw, Σwx, Σwx² in f64: one pass and linear,
//! at the price of digits where the variance is far below the square of the mean.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch},
    compute::cast,
    datatypes::{DataType, Schema},
};

use super::{
    column::{ColumnKind, StateColumn, numeric_overflow},
    extreme,
    input::{Input, InputForm, Target, Values},
    multiset::{Entries, Multiset},
    numeric::quotient,
    spec::{AggregateFunction, AggregateSpec},
};
use crate::{
    Error, Result,
    delta::Weight,
    processors::expression::{evaluate, evaluate_predicate},
};

/// See the module text.
pub(in crate::processors) struct Aggregate {
    spec: AggregateSpec,
    /// Type of the argument; Null without one.
    argument_type: DataType,
    form: InputForm,
    /// The columns the result is computed from.
    kinds: Vec<ColumnKind>,
    method: Method,
}

/// What the state of an aggregate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// The columns the result is computed from.
    Columns,
    /// A multiset of values, of which the result wants the best: `min` and `max` of input that
    /// retracts. The best of several panes is the best of each pane's best.
    Values,
    /// A multiset of values, each of which counts once however many panes it is in.
    Distinct,
}

impl Aggregate {
    /// Compiles `spec` over rows of `input`; refused (0A000, 42883) if there is no such aggregate.
    pub(in crate::processors) fn new(
        spec: &AggregateSpec,
        input: &Schema,
        is_append_only: bool,
    ) -> Result<Self> {
        use AggregateFunction as F;
        let argument_type = match &spec.argument {
            Some(argument) => argument.data_type(input)?,
            None if spec.function == F::CountStar && !spec.is_distinct => DataType::Null,
            None => return Err(Error::Internal(format!("{spec} has no argument"))),
        };
        let form = form_of(spec.function, &argument_type).ok_or_else(|| Error::Invalid {
            code: "42883",
            message: format!("function {}({argument_type}) does not exist", spec.function.name()),
        })?;
        let is_extreme = matches!(spec.function, F::Min | F::Max);
        let method = match (is_extreme, spec.is_distinct) {
            // The best of the distinct values is the best of all.
            (true, _) if is_append_only => Method::Columns,
            (true, _) => Method::Values,
            (false, true) => Method::Distinct,
            (false, false) => Method::Columns,
        };
        let kinds = kinds_of(spec, &argument_type, form);
        Ok(Self { spec: spec.clone(), argument_type, form, kinds, method })
    }

    /// Empty state for it.
    pub(in crate::processors) fn columns(&self) -> Result<Vec<StateColumn>> {
        if self.is_multiset() {
            let kind = ColumnKind::Multiset { value_type: self.argument_type.clone() };
            return Ok(vec![StateColumn::new(&kind)?]);
        }
        self.result_columns()
    }

    /// An empty multiset, if values count once however many panes they are in.
    pub(in crate::processors) fn distinct_values(&self) -> Result<Option<Multiset>> {
        self.is_distinct().then(|| Multiset::new(&self.argument_type)).transpose()
    }

    /// Whether the state is one multiset.
    pub(in crate::processors) fn is_multiset(&self) -> bool {
        self.method != Method::Columns
    }

    /// Whether a value counts once, however many panes it is in.
    pub(in crate::processors) fn is_distinct(&self) -> bool {
        self.method == Method::Distinct
    }

    /// Whether every column of the result can be taken back exactly.
    pub(in crate::processors) fn is_invertible(&self) -> bool {
        self.kinds.iter().all(ColumnKind::is_invertible)
    }

    /// Positions of the result columns that cannot.
    pub(in crate::processors) fn not_invertible(&self) -> impl Iterator<Item = usize> {
        let kinds = self.kinds.iter().enumerate();
        kinds.filter(|(_, kind)| !kind.is_invertible()).map(|(position, _)| position)
    }

    /// Empty columns of the kind [`Aggregate::finish`] computes from.
    pub(in crate::processors) fn result_columns(&self) -> Result<Vec<StateColumn>> {
        self.kinds.iter().map(StateColumn::new).collect()
    }

    /// Evaluates argument and filter for a batch.
    pub(in crate::processors) fn input(&self, rows: &RecordBatch) -> Result<Input> {
        let filter = self.spec.filter.as_ref().map(|filter| evaluate_predicate(filter, rows));
        let filter = filter.transpose()?.map(|mask| mask.values().clone());
        let argument = self.spec.argument.as_ref();
        let argument = argument.map(|argument| evaluate(argument, rows)).transpose()?;
        let form = if self.is_multiset() { InputForm::Array } else { self.form };
        Input::new(argument, filter, form)
    }

    /// Takes rows into `columns`, which [`Aggregate::columns`] made.
    pub(in crate::processors) fn update(
        &self,
        columns: &mut [StateColumn],
        input: &Input,
        target: Target<'_>,
    ) -> Result<()> {
        columns.iter_mut().try_for_each(|column| column.update(input, target))
    }

    /// Takes values into result columns, each value once, with its own weight.
    pub(in crate::processors) fn take_values(
        &self,
        results: &mut [StateColumn],
        entries: &Entries,
        weight: &Weight,
    ) -> Result<()> {
        if entries.slots.is_empty() {
            return Ok(());
        }
        let input = Input::new(Some(ArrayRef::clone(&entries.values)), None, self.form)?;
        let target = Target { start: 0, slots: &entries.slots, weight };
        results.iter_mut().try_for_each(|column| column.update(&input, target))
    }

    /// Takes rows into the values of each slot, and what changes by them into the results.
    pub(in crate::processors) fn update_distinct(
        &self,
        values: &mut Multiset,
        results: &mut [StateColumn],
        input: &Input,
        target: Target<'_>,
    ) -> Result<()> {
        let Values::Array(array) = &input.values else {
            return Err(Error::Internal("aggregate input of another form".to_owned()));
        };
        let mut changes = Vec::new();
        let entries = values.update(array, input.mask.as_ref(), target, Some(&mut changes))?;
        self.take_changes(results, &entries, changes)
    }

    /// Takes entries into the values of each slot, `sign` times, and what changes by them into the
    /// results.
    pub(in crate::processors) fn merge_distinct(
        &self,
        values: &mut Multiset,
        results: &mut [StateColumn],
        entries: &Entries,
        sign: i64,
    ) -> Result<()> {
        let mut changes = Vec::new();
        values.add(entries, sign, Some(&mut changes))?;
        self.take_changes(results, entries, changes)
    }

    fn take_changes(
        &self,
        results: &mut [StateColumn],
        entries: &Entries,
        changes: Vec<i64>,
    ) -> Result<()> {
        if !self.is_invertible() {
            return Ok(());
        }
        self.take_values(results, entries, &Weight::Array(Int64Array::from(changes)))
    }

    /// The results of `slots`; `live` is the number of rows in each slot.
    pub(in crate::processors) fn finish(
        &self,
        columns: &[StateColumn],
        live: &[i64],
        slots: &[u32],
    ) -> Result<ArrayRef> {
        let result = self.raw_result(columns, live, slots)?;
        if *result.data_type() == self.spec.result_type {
            return Ok(result);
        }
        Ok(cast(&result, &self.spec.result_type)?)
    }

    fn raw_result(&self, columns: &[StateColumn], live: &[i64], slots: &[u32]) -> Result<ArrayRef> {
        use StateColumn as C;
        let pick = |slot: &u32| *slot as usize;
        match columns {
            // count(*) is the number of live rows, which every group keeps anyway.
            [] => Ok(Arc::new(Int64Array::from_iter_values(slots.iter().map(|s| live[pick(s)])))),
            [C::Count(counts)] => {
                Ok(Arc::new(Int64Array::from_iter_values(slots.iter().map(|s| counts[pick(s)]))))
            }
            [C::Extreme(extreme)] => self.finish_extreme(extreme.to_array(Some(slots))?),
            [C::Sum(sums), C::Count(counts)] => {
                self.finish_exact(slots, counts, |slot| i128::from(sums[slot]))
            }
            [C::WideSum(sums), C::Count(counts)] => {
                self.finish_exact(slots, counts, |slot| sums[slot])
            }
            [C::FloatSum(sums), C::Count(counts)] => {
                let is_avg = self.spec.function == AggregateFunction::Avg;
                let result = slots.iter().map(pick).map(|slot| {
                    let count = counts[slot];
                    (count != 0)
                        .then(|| if is_avg { sums[slot] / count as f64 } else { sums[slot] })
                });
                Ok(Arc::new(result.collect::<Float64Array>()))
            }
            [C::FloatSum(sums), C::SquareSum(squares), C::Count(counts)] => {
                let result = slots
                    .iter()
                    .map(pick)
                    .map(|slot| self.deviation(counts[slot] as f64, sums[slot], squares[slot]));
                Ok(Arc::new(result.collect::<Float64Array>()))
            }
            _ => Err(Error::Internal(format!("state of {} has another form", self.spec))),
        }
    }

    /// `sum` and `avg` of integers and decimals.
    fn finish_exact(
        &self,
        slots: &[u32],
        counts: &[i64],
        sum_of: impl Fn(usize) -> i128,
    ) -> Result<ArrayRef> {
        let sum_scale = match self.argument_type {
            DataType::Decimal128(_, scale) => scale,
            _ => 0,
        };
        if self.spec.result_type == DataType::Int64 {
            let sums = slots.iter().map(|&slot| {
                let slot = slot as usize;
                let sum =
                    i64::try_from(sum_of(slot)).map_err(|_| super::column::bigint_out_of_range());
                (counts[slot] != 0).then_some(sum).transpose()
            });
            return Ok(Arc::new(sums.collect::<Result<Int64Array>>()?));
        }
        let DataType::Decimal128(precision, scale) = self.spec.result_type else {
            return Err(Error::Internal(format!(
                "{} of {} has no result of type {}",
                self.spec, self.argument_type, self.spec.result_type
            )));
        };
        let is_avg = self.spec.function == AggregateFunction::Avg;
        let results = slots.iter().map(|&slot| {
            let (sum, count) = (sum_of(slot as usize), counts[slot as usize]);
            if count == 0 {
                return Ok(None);
            }
            quotient(sum, sum_scale, if is_avg { count } else { 1 }, scale).map(Some)
        });
        let results = results.collect::<Result<Decimal128Array>>()?;
        let results = results.with_precision_and_scale(precision, scale)?;
        results.validate_decimal_precision(precision).map_err(|_| numeric_overflow())?;
        Ok(Arc::new(results))
    }

    /// Variance or deviation; null where PostgreSQL's is (no rows, or one for the sample's).
    fn deviation(&self, count: f64, sum: f64, square_sum: f64) -> Option<f64> {
        use AggregateFunction as F;
        let is_sample = matches!(self.spec.function, F::VarSamp | F::StddevSamp);
        let divisor = if is_sample { count - 1.0 } else { count };
        if divisor <= 0.0 {
            return None;
        }
        let squares = square_sum - sum * sum / count;
        // Rounding can make it a little negative; NaN must stay NaN.
        let variance = if squares < 0.0 { 0.0 } else { squares / divisor };
        let is_deviation = matches!(self.spec.function, F::StddevSamp | F::StddevPop);
        Some(if is_deviation { variance.sqrt() } else { variance })
    }

    /// `min` and `max`: from the raw form back to the argument's type.
    fn finish_extreme(&self, raw: ArrayRef) -> Result<ArrayRef> {
        use DataType as D;
        Ok(match &self.argument_type {
            D::Date32 => cast(&cast(&raw, &D::Int32)?, &D::Date32)?,
            same_bits @ (D::Timestamp(..) | D::Time64(_) | D::Decimal128(..)) => {
                let data = raw.to_data().into_builder().data_type(same_bits.clone()).build()?;
                arrow::array::make_array(data)
            }
            other => cast(&raw, other)?,
        })
    }
}

/// The form in which an aggregate wants an argument of that type; `None`: there is no such one.
fn form_of(function: AggregateFunction, argument_type: &DataType) -> Option<InputForm> {
    use {AggregateFunction as F, DataType as D};
    let is_integer = matches!(argument_type, D::Int8 | D::Int16 | D::Int32 | D::Int64);
    let is_float = matches!(argument_type, D::Float32 | D::Float64);
    let is_decimal = matches!(argument_type, D::Decimal128(..));
    match function {
        F::CountStar | F::Count => Some(InputForm::Presence),
        F::Min | F::Max => extreme::form_of(argument_type),
        F::Sum | F::Avg if is_integer => Some(InputForm::Int),
        F::Sum | F::Avg if is_decimal => Some(InputForm::Wide),
        F::Sum | F::Avg if is_float => Some(InputForm::Float),
        F::Sum | F::Avg => None,
        F::VarSamp | F::VarPop | F::StddevSamp | F::StddevPop => {
            (is_integer || is_float || is_decimal).then_some(InputForm::Float)
        }
    }
}

/// The columns from which the result is computed.
fn kinds_of(spec: &AggregateSpec, argument_type: &DataType, form: InputForm) -> Vec<ColumnKind> {
    use AggregateFunction as F;
    match spec.function {
        F::CountStar if spec.filter.is_none() => Vec::new(),
        F::CountStar | F::Count => vec![ColumnKind::Count],
        F::Min | F::Max => {
            let value_type = argument_type.clone();
            vec![ColumnKind::Extreme { value_type, is_max: spec.function == F::Max }]
        }
        F::Sum | F::Avg => {
            let is_small =
                matches!(argument_type, DataType::Int8 | DataType::Int16 | DataType::Int32);
            let sum = match form {
                InputForm::Float => ColumnKind::FloatSum,
                _ if is_small => ColumnKind::Sum,
                _ => ColumnKind::WideSum,
            };
            vec![sum, ColumnKind::Count]
        }
        F::VarSamp | F::VarPop | F::StddevSamp | F::StddevPop => {
            vec![ColumnKind::FloatSum, ColumnKind::SquareSum, ColumnKind::Count]
        }
    }
}
