//! `StateColumn`: one column of accumulator state, indexed by slot (a key, or a key in a pane).
//! Knows how to take in rows and other columns of its kind, not which aggregate it belongs to.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array},
    datatypes::{DataType, Decimal128Type, Float64Type, Int64Type},
};

use super::{
    extreme::Extreme,
    input::{Input, Target, Values},
    multiset::Multiset,
};
use crate::{Error, Result};

/// Precision and scale under which raw i128 state is saved; the true scale is the argument's.
const RAW_DECIMAL: (u8, i8) = (38, 0);

/// Describes a column before it exists.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ColumnKind {
    /// Σ w.
    Count,
    /// Σ w·x in i64.
    Sum,
    /// Σ w·x in i128.
    WideSum,
    /// Σ w·x in f64.
    FloatSum,
    /// Σ w·x² in f64.
    SquareSum,
    /// Smallest (or largest) x, of append-only input.
    Extreme { value_type: DataType, is_max: bool },
    /// x → Σ w.
    Multiset { value_type: DataType },
}

impl ColumnKind {
    /// As [`StateColumn::is_invertible`].
    pub(super) fn is_invertible(&self) -> bool {
        matches!(self, Self::Count | Self::Sum | Self::WideSum)
    }
}

/// See the module text.
pub(in crate::processors) enum StateColumn {
    Count(Vec<i64>),
    Sum(Vec<i64>),
    WideSum(Vec<i128>),
    FloatSum(Vec<f64>),
    SquareSum(Vec<f64>),
    Extreme(Extreme),
    Multiset(Box<Multiset>),
}

impl StateColumn {
    pub(super) fn new(kind: &ColumnKind) -> Result<Self> {
        Ok(match kind {
            ColumnKind::Count => Self::Count(Vec::new()),
            ColumnKind::Sum => Self::Sum(Vec::new()),
            ColumnKind::WideSum => Self::WideSum(Vec::new()),
            ColumnKind::FloatSum => Self::FloatSum(Vec::new()),
            ColumnKind::SquareSum => Self::SquareSum(Vec::new()),
            ColumnKind::Extreme { value_type, is_max } => {
                Self::Extreme(Extreme::new(value_type, *is_max)?)
            }
            ColumnKind::Multiset { value_type } => {
                Self::Multiset(Box::new(Multiset::new(value_type)?))
            }
        })
    }

    /// Whether [`StateColumn::subtract`] undoes [`StateColumn::merge`] exactly. Floats do not:
    /// what was rounded away does not come back, and infinity never leaves a sum. (A multiset
    /// does, but its entries are merged by who knows what changes with them.)
    pub(in crate::processors) fn is_invertible(&self) -> bool {
        match self {
            Self::Count(_) | Self::Sum(_) | Self::WideSum(_) => true,
            Self::FloatSum(_) | Self::SquareSum(_) | Self::Extreme(_) | Self::Multiset(_) => false,
        }
    }

    /// Number of slots; a multiset does not know it.
    pub(in crate::processors) fn len(&self) -> usize {
        match self {
            Self::Count(values) | Self::Sum(values) => values.len(),
            Self::WideSum(values) => values.len(),
            Self::FloatSum(values) | Self::SquareSum(values) => values.len(),
            Self::Extreme(extreme) => extreme.len(),
            Self::Multiset(_) => 0,
        }
    }

    /// Makes room for slots `0..len`; new ones are empty.
    pub(in crate::processors) fn resize(&mut self, len: usize) {
        match self {
            Self::Count(values) | Self::Sum(values) => values.resize(len, 0),
            Self::WideSum(values) => values.resize(len, 0),
            Self::FloatSum(values) | Self::SquareSum(values) => values.resize(len, 0.0),
            Self::Extreme(extreme) => extreme.resize(len),
            Self::Multiset(_) => {}
        }
    }

    /// Empties every slot.
    pub(in crate::processors) fn clear(&mut self) {
        match self {
            Self::Count(values) | Self::Sum(values) => values.fill(0),
            Self::WideSum(values) => values.fill(0),
            Self::FloatSum(values) | Self::SquareSum(values) => values.fill(0.0),
            Self::Extreme(extreme) => extreme.clear(),
            Self::Multiset(multiset) => multiset.clear(),
        }
    }

    /// Takes in rows.
    pub(in crate::processors) fn update(
        &mut self,
        input: &Input,
        target: Target<'_>,
    ) -> Result<()> {
        let mask = input.mask.as_ref();
        match (self, &input.values) {
            (Self::Count(counts), _) => target.for_each(mask, |slot, _, weight| {
                counts[slot] += weight;
                Ok(())
            }),
            (Self::Sum(sums), Values::Int(values)) => target.for_each(mask, |slot, row, weight| {
                let term = values[row].checked_mul(weight);
                sums[slot] = term
                    .and_then(|term| sums[slot].checked_add(term))
                    .ok_or_else(bigint_out_of_range)?;
                Ok(())
            }),
            (Self::WideSum(sums), Values::Int(values)) => {
                target.for_each(mask, |slot, row, weight| {
                    // A product of two i64 fits; 2^63 such terms would be needed to overflow.
                    sums[slot] += i128::from(values[row]) * i128::from(weight);
                    Ok(())
                })
            }
            (Self::WideSum(sums), Values::Wide(values)) => {
                target.for_each(mask, |slot, row, weight| {
                    let term = values[row].checked_mul(i128::from(weight));
                    sums[slot] = term
                        .and_then(|term| sums[slot].checked_add(term))
                        .ok_or_else(numeric_overflow)?;
                    Ok(())
                })
            }
            (Self::FloatSum(sums), Values::Float(values)) => {
                target.for_each(mask, |slot, row, weight| {
                    sums[slot] += values[row] * weight as f64;
                    Ok(())
                })
            }
            (Self::SquareSum(sums), Values::Float(values)) => {
                target.for_each(mask, |slot, row, weight| {
                    sums[slot] += values[row] * values[row] * weight as f64;
                    Ok(())
                })
            }
            (Self::Extreme(extreme), values) => extreme.update(values, mask, target),
            (Self::Multiset(multiset), Values::Array(values)) => {
                multiset.update(values, mask, target, None).map(drop)
            }
            _ => Err(Error::Internal("aggregate input of another form".to_owned())),
        }
    }

    /// Adds `rows` of `other`, a column of the same kind: row i to slot `targets[i]`. Rows that
    /// `other` does not have are left out.
    pub(in crate::processors) fn merge(
        &mut self,
        other: &Self,
        rows: Range<usize>,
        targets: &[u32],
    ) -> Result<()> {
        let rows = rows.start.min(other.len())..rows.end.min(other.len());
        match (self, other) {
            (Self::Count(to), Self::Count(from)) | (Self::Sum(to), Self::Sum(from)) => {
                for (&value, &target) in from[rows.clone()].iter().zip(&targets[rows]) {
                    let sum = &mut to[target as usize];
                    *sum = sum.checked_add(value).ok_or_else(bigint_out_of_range)?;
                }
            }
            (Self::WideSum(to), Self::WideSum(from)) => {
                for (&value, &target) in from[rows.clone()].iter().zip(&targets[rows]) {
                    let sum = &mut to[target as usize];
                    *sum = sum.checked_add(value).ok_or_else(numeric_overflow)?;
                }
            }
            (Self::FloatSum(to), Self::FloatSum(from))
            | (Self::SquareSum(to), Self::SquareSum(from)) => {
                for (&value, &target) in from[rows.clone()].iter().zip(&targets[rows]) {
                    to[target as usize] += value;
                }
            }
            (Self::Extreme(to), Self::Extreme(from)) => to.merge(from, rows, targets)?,
            _ => return Err(different_kinds()),
        }
        Ok(())
    }

    /// Undoes a [`StateColumn::merge`]; only for invertible columns.
    pub(in crate::processors) fn subtract(
        &mut self,
        other: &Self,
        rows: Range<usize>,
        targets: &[u32],
    ) -> Result<()> {
        match (self, other) {
            (Self::Count(to), Self::Count(from)) | (Self::Sum(to), Self::Sum(from)) => {
                for (&value, &target) in from[rows.clone()].iter().zip(&targets[rows]) {
                    // What was added can be taken away: the result is what it was before, or what
                    // other panes made of it since, each step of which was checked.
                    to[target as usize] = to[target as usize].wrapping_sub(value);
                }
            }
            (Self::WideSum(to), Self::WideSum(from)) => {
                for (&value, &target) in from[rows.clone()].iter().zip(&targets[rows]) {
                    to[target as usize] = to[target as usize].wrapping_sub(value);
                }
            }
            _ => return Err(Error::Internal("state column cannot be taken back".to_owned())),
        }
        Ok(())
    }

    /// Appends what `slots` of `from` hold; only for columns that are not invertible, as the next
    /// two.
    pub(in crate::processors) fn extend_from(&mut self, from: &Self, slots: &[u32]) -> Result<()> {
        match (self, from) {
            (Self::FloatSum(to), Self::FloatSum(from))
            | (Self::SquareSum(to), Self::SquareSum(from)) => {
                to.extend(slots.iter().map(|&slot| from[slot as usize]));
                Ok(())
            }
            (Self::Extreme(to), Self::Extreme(from)) => to.extend_from(from, slots),
            _ => Err(different_kinds()),
        }
    }

    /// Makes slot `targets[i]` what row i of `from` is, for `rows`.
    pub(in crate::processors) fn put(
        &mut self,
        from: &Self,
        rows: Range<usize>,
        targets: &[u32],
    ) -> Result<()> {
        match (self, from) {
            (Self::FloatSum(to), Self::FloatSum(from))
            | (Self::SquareSum(to), Self::SquareSum(from)) => {
                for (&value, &target) in from[rows.clone()].iter().zip(&targets[rows]) {
                    to[target as usize] = value;
                }
                Ok(())
            }
            (Self::Extreme(to), Self::Extreme(from)) => to.put(from, rows, targets),
            _ => Err(different_kinds()),
        }
    }

    /// Makes the slots of `range` those of `left` and `right` added up.
    pub(in crate::processors) fn set_sum(
        &mut self,
        left: &Self,
        right: &Self,
        range: Range<usize>,
    ) -> Result<()> {
        match (self, left, right) {
            (Self::FloatSum(to), Self::FloatSum(left), Self::FloatSum(right))
            | (Self::SquareSum(to), Self::SquareSum(left), Self::SquareSum(right)) => {
                let terms = left[range.clone()].iter().zip(&right[range.clone()]);
                for (to, (left, right)) in to[range].iter_mut().zip(terms) {
                    *to = left + right;
                }
                Ok(())
            }
            (Self::Extreme(to), Self::Extreme(left), Self::Extreme(right)) => {
                to.set_sum(left, right, range)
            }
            _ => Err(different_kinds()),
        }
    }

    /// Moves slot i to `new_slots[i]` (rising; [`crate::state::keyed_map::NO_ID`] forgets it),
    /// leaving `len` slots.
    pub(in crate::processors) fn remap(&mut self, new_slots: &[u32], len: usize) -> Result<()> {
        match self {
            Self::Count(values) | Self::Sum(values) => compact(values, new_slots, len),
            Self::WideSum(values) => compact(values, new_slots, len),
            Self::FloatSum(values) | Self::SquareSum(values) => compact(values, new_slots, len),
            Self::Extreme(extreme) => extreme.remap(new_slots, len),
            Self::Multiset(multiset) => multiset.remap(new_slots)?,
        }
        Ok(())
    }

    /// What some slots hold, as it is saved: one row each.
    pub(in crate::processors) fn to_array(&self, slots: &[u32]) -> Result<ArrayRef> {
        fn of<T: Copy>(values: &[T], slots: &[u32]) -> Vec<T> {
            slots.iter().map(|&slot| values[slot as usize]).collect()
        }
        Ok(match self {
            Self::Count(values) | Self::Sum(values) => {
                Arc::new(Int64Array::from(of(values, slots)))
            }
            Self::WideSum(values) => Arc::new(
                Decimal128Array::from(of(values, slots))
                    .with_precision_and_scale(RAW_DECIMAL.0, RAW_DECIMAL.1)?,
            ),
            Self::FloatSum(values) | Self::SquareSum(values) => {
                Arc::new(Float64Array::from(of(values, slots)))
            }
            Self::Extreme(extreme) => extreme.to_array(Some(slots))?,
            Self::Multiset(_) => {
                return Err(Error::Internal("a multiset is not one column".to_owned()));
            }
        })
    }

    /// Empties some slots.
    pub(in crate::processors) fn clear_slots(&mut self, slots: &[u32]) {
        fn clear<T: Default>(values: &mut [T], slots: &[u32]) {
            slots.iter().for_each(|&slot| values[slot as usize] = T::default());
        }
        match self {
            Self::Count(values) | Self::Sum(values) => clear(values, slots),
            Self::WideSum(values) => clear(values, slots),
            Self::FloatSum(values) | Self::SquareSum(values) => clear(values, slots),
            Self::Extreme(extreme) => extreme.clear_slots(slots),
            // What is saved of it are changes, which add up.
            Self::Multiset(_) => {}
        }
    }

    /// Takes row i of a saved column into slot `slots[i]`.
    pub(in crate::processors) fn merge_array(
        &mut self,
        array: &ArrayRef,
        slots: &[u32],
    ) -> Result<()> {
        let saved = match self {
            Self::Count(_) => Self::Count(array.as_primitive::<Int64Type>().values().to_vec()),
            Self::Sum(_) => Self::Sum(array.as_primitive::<Int64Type>().values().to_vec()),
            Self::WideSum(_) => {
                Self::WideSum(array.as_primitive::<Decimal128Type>().values().to_vec())
            }
            Self::FloatSum(_) => {
                Self::FloatSum(array.as_primitive::<Float64Type>().values().to_vec())
            }
            Self::SquareSum(_) => {
                Self::SquareSum(array.as_primitive::<Float64Type>().values().to_vec())
            }
            Self::Extreme(extreme) => Self::Extreme(extreme.restored(array)?),
            Self::Multiset(_) => {
                return Err(Error::Internal("a multiset is not one column".to_owned()));
            }
        };
        self.merge(&saved, 0..slots.len(), slots)
    }

    /// Memory held, in bytes.
    pub(in crate::processors) fn bytes(&self) -> usize {
        match self {
            Self::Count(values) | Self::Sum(values) => values.capacity() * size_of::<i64>(),
            Self::WideSum(values) => values.capacity() * size_of::<i128>(),
            Self::FloatSum(values) | Self::SquareSum(values) => {
                values.capacity() * size_of::<f64>()
            }
            Self::Extreme(extreme) => extreme.bytes(),
            Self::Multiset(multiset) => multiset.bytes(),
        }
    }
}

/// Closes the gaps of forgotten slots.
pub(in crate::processors) fn compact<T: Default + Clone>(
    values: &mut Vec<T>,
    new_slots: &[u32],
    len: usize,
) {
    let kept = values.iter_mut().zip(new_slots);
    let mut compacted: Vec<T> = kept
        .filter(|(_, new_slot)| **new_slot != crate::state::keyed_map::NO_ID)
        .map(|(value, _)| std::mem::take(value))
        .collect();
    compacted.resize(len, T::default());
    *values = compacted;
}

fn different_kinds() -> Error {
    Error::Internal("state columns of different kinds".to_owned())
}

pub(super) fn bigint_out_of_range() -> Error {
    Error::User { code: "22003", message: "bigint out of range".to_owned() }
}

pub(super) fn numeric_overflow() -> Error {
    Error::User { code: "22003", message: "numeric field overflow".to_owned() }
}
