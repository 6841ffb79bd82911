//! `Extreme`: the smallest or largest value of each slot, for input that never retracts.
//! Order is PostgreSQL's: NaN above all numbers, text by its bytes (collation "C").

use std::{cmp::Ordering, ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, Decimal128Array, Float64Array, Int64Array},
    buffer::{BooleanBuffer, NullBuffer},
    datatypes::{DataType, Decimal128Type, Float64Type, Int64Type},
};

use super::{
    column::compact,
    input::{InputForm, Target, Values},
};
use crate::{Error, Result};

pub(in crate::processors) struct Extreme {
    best: Best,
    /// Whether the slot has a value.
    is_present: Vec<bool>,
    is_max: bool,
    /// Bytes that texts hold beside the vector; what several slots share counts for each.
    content_bytes: usize,
}

/// The best value so far, by slot. A text is shared by all that took it over, so that moving it
/// costs no allocation.
enum Best {
    Int(Vec<i64>),
    Wide(Vec<i128>),
    Float(Vec<f64>),
    Bytes(Vec<Arc<[u8]>>),
}

/// A value that has an order.
trait Ordered: Clone {
    /// PostgreSQL's order.
    fn order(&self, other: &Self) -> Ordering;
    /// Bytes it holds outside of itself.
    fn content_bytes(&self) -> usize {
        0
    }
}

impl Ordered for i64 {
    fn order(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }
}

impl Ordered for i128 {
    fn order(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }
}

impl Ordered for f64 {
    fn order(&self, other: &Self) -> Ordering {
        self.partial_cmp(other).unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
    }
}

impl Ordered for Arc<[u8]> {
    fn order(&self, other: &Self) -> Ordering {
        self.as_ref().cmp(other.as_ref())
    }

    fn content_bytes(&self) -> usize {
        self.len()
    }
}

/// Two columns' values, which must have one form, under one name each.
macro_rules! same_form {
    ($left:expr, $right:expr, |$a:ident, $b:ident| $body:expr) => {
        match ($left, $right) {
            (Best::Int($a), Best::Int($b)) => $body,
            (Best::Wide($a), Best::Wide($b)) => $body,
            (Best::Float($a), Best::Float($b)) => $body,
            (Best::Bytes($a), Best::Bytes($b)) => $body,
            _ => return Err(Error::Internal("state columns of different kinds".to_owned())),
        }
    };
}

/// The slots of one column on their way to better values.
struct Slots<'a, T> {
    best: &'a mut [T],
    is_present: &'a mut [bool],
    /// How a better value compares to the best so far.
    wanted: Ordering,
    content_bytes: &'a mut usize,
}

impl<T: Ordered> Slots<'_, T> {
    #[inline]
    fn improve(&mut self, slot: usize, value: &T) {
        let is_new = !std::mem::replace(&mut self.is_present[slot], true);
        if is_new || value.order(&self.best[slot]) == self.wanted {
            self.set(slot, value);
        }
    }

    #[inline]
    fn set(&mut self, slot: usize, value: &T) {
        *self.content_bytes += value.content_bytes();
        *self.content_bytes -= self.best[slot].content_bytes();
        self.best[slot] = value.clone();
    }
}

/// Appends what `slots` of `from` hold; the bytes that they hold outside.
fn extend<T: Ordered>(to: &mut Vec<T>, from: &[T], slots: &[u32]) -> usize {
    let start = to.len();
    to.extend(slots.iter().map(|&slot| from[slot as usize].clone()));
    to[start..].iter().map(Ordered::content_bytes).sum()
}

/// The form in which `min` and `max` want values of this type; `None`: they have no order here.
pub(super) fn form_of(value_type: &DataType) -> Option<InputForm> {
    use DataType as D;
    match value_type {
        D::Int8 | D::Int16 | D::Int32 | D::Int64 => Some(InputForm::Int),
        D::Date32 | D::Time64(_) | D::Timestamp(..) => Some(InputForm::Int),
        D::Decimal128(..) => Some(InputForm::Wide),
        D::Float32 | D::Float64 => Some(InputForm::Float),
        D::Utf8 | D::Binary => Some(InputForm::Array),
        _ => None,
    }
}

impl Extreme {
    pub(super) fn new(value_type: &DataType, is_max: bool) -> Result<Self> {
        let best = match form_of(value_type) {
            Some(InputForm::Int) => Best::Int(Vec::new()),
            Some(InputForm::Wide) => Best::Wide(Vec::new()),
            Some(InputForm::Float) => Best::Float(Vec::new()),
            Some(InputForm::Array) => Best::Bytes(Vec::new()),
            _ => return Err(Error::Internal(format!("type {value_type} has no order"))),
        };
        Ok(Self { best, is_present: Vec::new(), is_max, content_bytes: 0 })
    }

    pub(super) fn len(&self) -> usize {
        self.is_present.len()
    }

    /// Empties some slots; the value that stays behind is not looked at any more.
    pub(super) fn clear_slots(&mut self, slots: &[u32]) {
        slots.iter().for_each(|&slot| self.is_present[slot as usize] = false);
    }

    pub(super) fn resize(&mut self, len: usize) {
        self.is_present.resize(len, false);
        match &mut self.best {
            Best::Int(best) => best.resize(len, 0),
            Best::Wide(best) => best.resize(len, 0),
            Best::Float(best) => best.resize(len, 0.0),
            Best::Bytes(best) => best.resize(len, Arc::default()),
        }
    }

    pub(super) fn clear(&mut self) {
        self.is_present.fill(false);
    }

    pub(super) fn update(
        &mut self,
        values: &Values,
        mask: Option<&BooleanBuffer>,
        target: Target<'_>,
    ) -> Result<()> {
        let Self { best, is_present, is_max, content_bytes } = self;
        let wanted = wanted(*is_max);
        target.for_each(mask, |slot, row, weight| {
            match weight.cmp(&0) {
                Ordering::Less => return Err(retraction_refused()),
                Ordering::Equal => return Ok(()),
                Ordering::Greater => {}
            }
            match (&mut *best, values) {
                (Best::Int(best), Values::Int(values)) => {
                    Slots { best, is_present, wanted, content_bytes }.improve(slot, &values[row]);
                }
                (Best::Wide(best), Values::Wide(values)) => {
                    Slots { best, is_present, wanted, content_bytes }.improve(slot, &values[row]);
                }
                (Best::Float(best), Values::Float(values)) => {
                    Slots { best, is_present, wanted, content_bytes }.improve(slot, &values[row]);
                }
                (Best::Bytes(best), Values::Array(values)) => {
                    let value = bytes_at(values, row)?;
                    let is_new = !std::mem::replace(&mut is_present[slot], true);
                    if is_new || value.cmp(best[slot].as_ref()) == wanted {
                        Slots { best, is_present, wanted, content_bytes }.set(slot, &value.into());
                    }
                }
                _ => return Err(Error::Internal("aggregate input of another form".to_owned())),
            }
            Ok(())
        })
    }

    /// Takes `rows` of `other`, row i into slot `targets[i]`.
    pub(super) fn merge(
        &mut self,
        other: &Self,
        rows: Range<usize>,
        targets: &[u32],
    ) -> Result<()> {
        let wanted = wanted(self.is_max);
        let Self { best, is_present, content_bytes, .. } = self;
        same_form!(best, &other.best, |best, from| {
            let mut slots = Slots { best, is_present, wanted, content_bytes };
            for row in rows.filter(|&row| other.is_present[row]) {
                slots.improve(targets[row] as usize, &from[row]);
            }
        });
        Ok(())
    }

    /// Appends what `slots` of `from` hold.
    pub(super) fn extend_from(&mut self, from: &Self, slots: &[u32]) -> Result<()> {
        let is_present = &from.is_present;
        self.is_present.extend(slots.iter().map(|&slot| is_present[slot as usize]));
        same_form!(&mut self.best, &from.best, |best, from| {
            self.content_bytes += extend(best, from, slots);
        });
        Ok(())
    }

    /// Makes slot `targets[i]` what row i of `from` is, for `rows`.
    pub(super) fn put(&mut self, from: &Self, rows: Range<usize>, targets: &[u32]) -> Result<()> {
        let wanted = wanted(self.is_max);
        let Self { best, is_present, content_bytes, .. } = self;
        same_form!(best, &from.best, |best, values| {
            let mut slots = Slots { best, is_present, wanted, content_bytes };
            for row in rows {
                let slot = targets[row] as usize;
                slots.is_present[slot] = from.is_present[row];
                slots.set(slot, &values[row]);
            }
        });
        Ok(())
    }

    /// Makes the slots of `range` the better of `left` and `right`.
    pub(super) fn set_sum(&mut self, left: &Self, right: &Self, range: Range<usize>) -> Result<()> {
        let wanted = wanted(self.is_max);
        self.is_present[range.clone()].copy_from_slice(&left.is_present[range.clone()]);
        let Self { best, is_present, content_bytes, .. } = self;
        same_form!(&mut *best, &left.best, |best, from| {
            let mut slots = Slots {
                best,
                is_present: &mut *is_present,
                wanted,
                content_bytes: &mut *content_bytes,
            };
            range.clone().for_each(|slot| slots.set(slot, &from[slot]));
        });
        same_form!(best, &right.best, |best, from| {
            let mut slots = Slots { best, is_present, wanted, content_bytes };
            for slot in range.filter(|&slot| right.is_present[slot]) {
                slots.improve(slot, &from[slot]);
            }
        });
        Ok(())
    }

    pub(super) fn remap(&mut self, new_slots: &[u32], len: usize) {
        compact(&mut self.is_present, new_slots, len);
        match &mut self.best {
            Best::Int(best) => compact(best, new_slots, len),
            Best::Wide(best) => compact(best, new_slots, len),
            Best::Float(best) => compact(best, new_slots, len),
            Best::Bytes(best) => {
                compact(best, new_slots, len);
                self.content_bytes = best.iter().map(Ordered::content_bytes).sum();
            }
        }
    }

    /// The values of `slots` (all without them), in the column's raw form: BIGINT, NUMERIC of
    /// scale 0, DOUBLE or BYTEA.
    pub(super) fn to_array(&self, slots: Option<&[u32]>) -> Result<ArrayRef> {
        let Some(slots) = slots else {
            let all: Vec<u32> = (0..self.is_present.len() as u32).collect();
            return self.to_array(Some(&all));
        };
        let slots = || slots.iter().map(|&slot| slot as usize);
        let nulls = Some(slots().map(|slot| self.is_present[slot]).collect::<NullBuffer>());
        Ok(match &self.best {
            Best::Int(best) => {
                let values = slots().map(|slot| best[slot]).collect();
                Arc::new(Int64Array::new(values, nulls))
            }
            Best::Wide(best) => {
                let values = slots().map(|slot| best[slot]).collect();
                Arc::new(Decimal128Array::new(values, nulls).with_precision_and_scale(38, 0)?)
            }
            Best::Float(best) => {
                let values = slots().map(|slot| best[slot]).collect();
                Arc::new(Float64Array::new(values, nulls))
            }
            Best::Bytes(best) => Arc::new(
                slots()
                    .map(|slot| self.is_present[slot].then_some(best[slot].as_ref()))
                    .collect::<BinaryArray>(),
            ),
        })
    }

    /// A column of the same kind with the rows of a saved one.
    pub(super) fn restored(&self, array: &ArrayRef) -> Result<Self> {
        let best = match self.best {
            Best::Int(_) => Best::Int(array.as_primitive::<Int64Type>().values().to_vec()),
            Best::Wide(_) => Best::Wide(array.as_primitive::<Decimal128Type>().values().to_vec()),
            Best::Float(_) => Best::Float(array.as_primitive::<Float64Type>().values().to_vec()),
            Best::Bytes(_) => {
                let saved = array.as_binary::<i32>();
                Best::Bytes(saved.iter().map(|bytes| bytes.unwrap_or_default().into()).collect())
            }
        };
        let is_present = (0..array.len()).map(|row| array.is_valid(row)).collect();
        // Only merged into another column, which counts for itself.
        Ok(Self { best, is_present, is_max: self.is_max, content_bytes: 0 })
    }

    pub(super) fn bytes(&self) -> usize {
        let values = match &self.best {
            Best::Int(best) => best.capacity() * size_of::<i64>(),
            Best::Wide(best) => best.capacity() * size_of::<i128>(),
            Best::Float(best) => best.capacity() * size_of::<f64>(),
            Best::Bytes(best) => best.capacity() * size_of::<Arc<[u8]>>(),
        };
        values + self.content_bytes + self.is_present.capacity()
    }
}

/// How a better value compares to the best so far.
fn wanted(is_max: bool) -> Ordering {
    if is_max { Ordering::Greater } else { Ordering::Less }
}

fn bytes_at(values: &ArrayRef, row: usize) -> Result<&[u8]> {
    match values.data_type() {
        DataType::Utf8 => Ok(values.as_string::<i32>().value(row).as_bytes()),
        DataType::Binary => Ok(values.as_binary::<i32>().value(row)),
        other => Err(Error::Internal(format!("values of type {other} have no order"))),
    }
}

fn retraction_refused() -> Error {
    Error::Internal("a row was retracted from an input that is declared append-only".to_owned())
}
