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
    fn read(array: &ArrayRef) -> &[Self];
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
    fn read(array: &ArrayRef) -> &[Self] {
        array.as_primitive::<Int64Type>().values()
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
    fn read(array: &ArrayRef) -> &[Self] {
        array.as_primitive::<Decimal128Type>().values()
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
    fn read(array: &ArrayRef) -> &[Self] {
        array.as_primitive::<Float64Type>().values()
    }
}

/// Turns a group's sum and count (above zero) into its answer.
pub type Finish<T> = Arc<dyn Fn(&[T], &[i64]) -> Result<ArrayRef> + Send + Sync>;

/// What is kept of a group; side by side, so that a random group costs one cache line.
#[derive(Debug, Clone, Copy, Default)]
struct Group<T> {
    sum: T,
    /// Values that are not null.
    count: i64,
}

/// Sums and counts by group.
pub struct Totals<T: Total> {
    groups: Vec<Group<T>>,
    /// Name of the type that overflows when a sum does.
    type_name: &'static str,
    finish: Finish<T>,
}

impl<T: Total> Totals<T> {
    /// No groups yet.
    pub fn new(type_name: &'static str, finish: Finish<T>) -> Self {
        Self { groups: Vec::new(), type_name, finish }
    }

    fn grow(&mut self, group_count: usize) {
        self.groups.resize(group_count, Group::default());
    }

    fn add_all(
        &mut self,
        values: &ArrayRef,
        group_of: impl Fn(usize) -> usize,
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let mut has_overflown = false;
        let groups = &mut self.groups;
        for_each::<T>(values, filter, |row, value| {
            let group = &mut groups[group_of(row)];
            let (sum, overflows) = group.sum.plus(value);
            group.sum = sum;
            group.count += 1;
            has_overflown |= overflows;
        })?;
        if has_overflown { Err(out_of_range(self.type_name)) } else { Ok(()) }
    }

    fn merge(&mut self, states: &[ArrayRef], group_of: impl Fn(usize) -> usize) -> Result<()> {
        let counts = states[1].as_primitive::<Int64Type>().values();
        let mut has_overflown = false;
        for (row, (sum, count)) in T::read(&states[0]).iter().zip(counts).enumerate() {
            let group = &mut self.groups[group_of(row)];
            let (total, overflows) = group.sum.plus(*sum);
            group.sum = total;
            group.count += count;
            has_overflown |= overflows;
        }
        if has_overflown { Err(out_of_range(self.type_name)) } else { Ok(()) }
    }

    /// Sums and counts of the groups asked for, which are taken out.
    fn take(&mut self, emit_to: EmitTo) -> (Vec<T>, Vec<i64>) {
        let groups = emit_to.take_needed(&mut self.groups);
        groups.into_iter().map(|group| (group.sum, group.count)).unzip()
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
        let (sums, counts) = self.take(emit_to);
        (self.finish)(&sums, &counts)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (sums, counts) = self.take(emit_to);
        Ok(vec![T::write(sums), Arc::new(Int64Array::from(counts))])
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
        self.groups.capacity() * size_of::<Group<T>>()
    }
}

/// The same for one group: also what sliding window frames take rows out of again.
pub struct Total1<T: Total>(Totals<T>);

impl<T: Total> std::fmt::Debug for Total1<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Total1").field(&self.0.groups[0].count).finish()
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
        let Some(sum) = dense_sum::<T>(&values[0]) else {
            return self.0.add_all(&values[0], |_| 0, None);
        };
        let group = &mut self.0.groups[0];
        let (total, overflows) = group.sum.plus(sum);
        group.sum = total;
        group.count += values[0].len() as i64;
        if overflows { Err(out_of_range(self.0.type_name)) } else { Ok(()) }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let group = self.0.groups[0];
        let array = (self.0.finish)(&[group.sum], &[group.count])?;
        ScalarValue::try_from_array(&array, 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + GroupsAccumulator::size(&self.0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let group = self.0.groups[0];
        let sums = T::write(vec![group.sum]);
        let count = ScalarValue::Int64(Some(group.count));
        Ok(vec![ScalarValue::try_from_array(&sums, 0)?, count])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge(states, |_| 0)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let group = &mut self.0.groups[0];
        for_each::<T>(&values[0], None, |_, value| {
            group.sum = group.sum.minus(value);
            group.count -= 1;
        })
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }
}

/// The sum of a column without nulls, in a loop that the compiler turns into vector instructions;
/// `None` where there is none. Floats are added in eight lanes: as SQL has it, in no set order.
fn dense_sum<T: Total>(values: &ArrayRef) -> Option<T> {
    if values.null_count() > 0 {
        return None;
    }
    match values.data_type() {
        DataType::Int64 => {
            Some(T::of_integer(sum_of_integers(values.as_primitive::<Int64Type>().values())))
        }
        DataType::Float64 => {
            let mut lanes = [0.0; FLOAT_LANES];
            let mut chunks =
                values.as_primitive::<Float64Type>().values().chunks_exact(FLOAT_LANES);
            for chunk in &mut chunks {
                lanes.iter_mut().zip(chunk).for_each(|(lane, value)| *lane += value);
            }
            let rest: f64 = chunks.remainder().iter().sum();
            Some(T::of_float(lanes.iter().sum::<f64>() + rest))
        }
        _ => None,
    }
}

/// Independent sums of floats, enough to hide the latency of an addition.
const FLOAT_LANES: usize = 8;

/// The exact sum: both halves of the 64 bits (made unsigned by turning the sign bit) are added on
/// their own, which for less than 2^32 values cannot overflow.
fn sum_of_integers(values: &[i64]) -> i128 {
    const CHUNK: usize = 1 << 20;
    let sum_of_chunk = |chunk: &[i64]| {
        let (mut high, mut low) = (0_u64, 0_u64);
        for value in chunk {
            let unsigned = (value ^ i64::MIN) as u64;
            high += unsigned >> 32;
            low += unsigned & u64::from(u32::MAX);
        }
        let turned = (i128::from(high) << 32) + i128::from(low);
        turned - ((chunk.len() as i128) << 63)
    };
    values.chunks(CHUNK).map(sum_of_chunk).sum()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_add_up_to_the_exact_sum() {
        let values = [i64::MAX, i64::MAX, -1, 0, 1, i64::MIN, 42, i64::MAX];
        let expected: i128 = values.iter().map(|value| i128::from(*value)).sum();
        assert_eq!(sum_of_integers(&values), expected);
        assert_eq!(sum_of_integers(&[i64::MIN; 100]), i128::from(i64::MIN) * 100);
        assert_eq!(sum_of_integers(&[]), 0);
    }

    #[test]
    fn dense_sums_of_floats_count_every_value_once() {
        let values: Vec<f64> = (0..1003).map(f64::from).collect();
        let array: ArrayRef = Arc::new(Float64Array::from(values));
        assert_eq!(dense_sum::<f64>(&array), Some(501.0 * 1003.0));
    }
}
