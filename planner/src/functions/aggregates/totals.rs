//! A sum and a count per group: the state of both `sum` and `avg`.
//! Sums are as wide as their input can ever need, and say so if that was not enough.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Decimal128Array, Float64Array,
        Int64Array,
    },
    datatypes::{
        DataType, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    },
};
use datafusion::{
    error::Result,
    logical_expr::{Accumulator, EmitTo, GroupsAccumulator},
    scalar::ScalarValue,
};

use crate::functions::{
    arithmetic::no_function,
    error::{out_of_range, user_error},
};

/// A number that sums are kept in.
pub trait Total: Copy + Default + Send + Sync + 'static {
    /// From an integer or an unscaled decimal; `None` for floats.
    fn of_integer(value: i128) -> Self;
    /// From a float.
    fn of_float(value: f64) -> Self;
    /// The sum, and whether it overflowed.
    fn plus(self, other: Self) -> (Self, bool);
    /// The difference; undoes [`Total::plus`].
    fn minus(self, other: Self) -> Self;
    /// Sums as an array that [`Total::read`] understands.
    fn write(values: Vec<Self>) -> ArrayRef;
    /// What [`Total::write`] wrote.
    fn read(array: &ArrayRef) -> Vec<Self>;
}

impl Total for i64 {
    fn of_integer(value: i128) -> Self {
        value as i64
    }
    fn of_float(value: f64) -> Self {
        value as i64
    }
    fn plus(self, other: Self) -> (Self, bool) {
        self.overflowing_add(other)
    }
    fn minus(self, other: Self) -> Self {
        self.wrapping_sub(other)
    }
    fn write(values: Vec<Self>) -> ArrayRef {
        Arc::new(Int64Array::from(values))
    }
    fn read(array: &ArrayRef) -> Vec<Self> {
        array.as_primitive::<Int64Type>().values().to_vec()
    }
}

impl Total for i128 {
    fn of_integer(value: i128) -> Self {
        value
    }
    fn of_float(value: f64) -> Self {
        value as i128
    }
    fn plus(self, other: Self) -> (Self, bool) {
        self.overflowing_add(other)
    }
    fn minus(self, other: Self) -> Self {
        self.wrapping_sub(other)
    }
    fn write(values: Vec<Self>) -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_data_type(DataType::Decimal128(38, 0)))
    }
    fn read(array: &ArrayRef) -> Vec<Self> {
        array.as_primitive::<Decimal128Type>().values().to_vec()
    }
}

impl Total for f64 {
    fn of_integer(value: i128) -> Self {
        value as f64
    }
    fn of_float(value: f64) -> Self {
        value
    }
    fn plus(self, other: Self) -> (Self, bool) {
        (self + other, false)
    }
    fn minus(self, other: Self) -> Self {
        self - other
    }
    fn write(values: Vec<Self>) -> ArrayRef {
        Arc::new(Float64Array::from(values))
    }
    fn read(array: &ArrayRef) -> Vec<Self> {
        array.as_primitive::<Float64Type>().values().to_vec()
    }
}

/// Turns a group's sum and count (above zero) into its answer.
pub type Finish<T> = Arc<dyn Fn(&[T], &[i64]) -> Result<ArrayRef> + Send + Sync>;

/// Sums and counts by group.
pub struct Totals<T: Total> {
    sums: Vec<T>,
    counts: Vec<i64>,
    /// Name of the type that overflows when a sum does.
    type_name: &'static str,
    finish: Finish<T>,
}

impl<T: Total> Totals<T> {
    /// No groups yet.
    pub fn new(type_name: &'static str, finish: Finish<T>) -> Self {
        Self { sums: Vec::new(), counts: Vec::new(), type_name, finish }
    }

    fn grow(&mut self, group_count: usize) {
        self.sums.resize(group_count, T::default());
        self.counts.resize(group_count, 0);
    }

    fn add_all(
        &mut self,
        values: &ArrayRef,
        group_of: impl Fn(usize) -> usize,
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let mut has_overflown = false;
        let (sums, counts) = (&mut self.sums, &mut self.counts);
        for_each::<T>(values, filter, |row, value| {
            let group = group_of(row);
            let (sum, overflows) = sums[group].plus(value);
            sums[group] = sum;
            counts[group] += 1;
            has_overflown |= overflows;
        })?;
        if has_overflown { Err(out_of_range(self.type_name)) } else { Ok(()) }
    }

    fn merge(&mut self, states: &[ArrayRef], group_of: impl Fn(usize) -> usize) -> Result<()> {
        let sums = T::read(&states[0]);
        let counts = states[1].as_primitive::<Int64Type>();
        for (row, sum) in sums.into_iter().enumerate() {
            let group = group_of(row);
            let (total, overflows) = self.sums[group].plus(sum);
            if overflows {
                return Err(out_of_range(self.type_name));
            }
            self.sums[group] = total;
            self.counts[group] += counts.value(row);
        }
        Ok(())
    }
}

impl<T: Total> GroupsAccumulator for Totals<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        self.add_all(&values[0], |row| group_indices[row], opt_filter)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sums = emit_to.take_needed(&mut self.sums);
        let counts = emit_to.take_needed(&mut self.counts);
        (self.finish)(&sums, &counts)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let sums = T::write(emit_to.take_needed(&mut self.sums));
        let counts = Int64Array::from(emit_to.take_needed(&mut self.counts));
        Ok(vec![sums, Arc::new(counts)])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        self.merge(values, |row| group_indices[row])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let row_count = values[0].len();
        let mut sums = vec![T::default(); row_count];
        let mut counts = vec![0i64; row_count];
        for_each::<T>(&values[0], opt_filter, |row, value| {
            sums[row] = value;
            counts[row] = 1;
        })?;
        Ok(vec![T::write(sums), Arc::new(Int64Array::from(counts))])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<T>() + self.counts.capacity() * size_of::<i64>()
    }
}

/// The same for one group: also what sliding window frames take rows out of again.
pub struct Total1<T: Total>(Totals<T>);

impl<T: Total> std::fmt::Debug for Total1<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Total1").field(&self.0.counts).finish()
    }
}

impl<T: Total> Total1<T> {
    /// An empty group.
    pub fn new(type_name: &'static str, finish: Finish<T>) -> Self {
        let mut totals = Totals::new(type_name, finish);
        totals.grow(1);
        Self(totals)
    }
}

impl<T: Total> Accumulator for Total1<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.add_all(&values[0], |_| 0, None)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let array = (self.0.finish)(&self.0.sums, &self.0.counts)?;
        ScalarValue::try_from_array(&array, 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + GroupsAccumulator::size(&self.0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sums = T::write(self.0.sums.clone());
        let count = ScalarValue::Int64(Some(self.0.counts[0]));
        Ok(vec![ScalarValue::try_from_array(&sums, 0)?, count])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge(states, |_| 0)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (sums, counts) = (&mut self.0.sums, &mut self.0.counts);
        for_each::<T>(&values[0], None, |_, value| {
            sums[0] = sums[0].minus(value);
            counts[0] -= 1;
        })
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }
}

/// Calls `action` with the row and value of every row that is not null and passes the filter.
fn for_each<T: Total>(
    values: &ArrayRef,
    filter: Option<&BooleanArray>,
    action: impl FnMut(usize, T),
) -> Result<()> {
    match values.data_type() {
        DataType::Int16 => {
            visit::<Int16Type, T>(values, filter, |value| T::of_integer(value.into()), action);
        }
        DataType::Int32 => {
            visit::<Int32Type, T>(values, filter, |value| T::of_integer(value.into()), action);
        }
        DataType::Int64 => {
            visit::<Int64Type, T>(values, filter, |value| T::of_integer(value.into()), action);
        }
        DataType::Decimal128(..) => {
            visit::<Decimal128Type, T>(values, filter, T::of_integer, action);
        }
        DataType::Float32 => {
            visit::<Float32Type, T>(values, filter, |value| T::of_float(value.into()), action);
        }
        DataType::Float64 => visit::<Float64Type, T>(values, filter, T::of_float, action),
        other => return Err(no_function("sum", std::slice::from_ref(other))),
    }
    Ok(())
}

fn visit<A: ArrowPrimitiveType, T: Total>(
    values: &ArrayRef,
    filter: Option<&BooleanArray>,
    convert: impl Fn(A::Native) -> T,
    mut action: impl FnMut(usize, T),
) {
    let array = values.as_primitive::<A>();
    if array.null_count() == 0 && filter.is_none() {
        for (row, value) in array.values().iter().enumerate() {
            action(row, convert(*value));
        }
        return;
    }
    for (row, value) in array.iter().enumerate() {
        let passes = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        if let Some(value) = value.filter(|_| passes) {
            action(row, convert(value));
        }
    }
}

/// 22003 unless the sum fits 38 digits.
pub fn within_numeric(sum: i128) -> Result<i128> {
    if sum.unsigned_abs() < 10u128.pow(38) {
        return Ok(sum);
    }
    Err(user_error("22003", "value overflows numeric format"))
}
