//! `Extreme`: the smallest or largest value of each slot, for input that never retracts.
//! Order is PostgreSQL's: NaN above all numbers, text by its bytes (collation "C").

use std::{cmp::Ordering, sync::Arc};

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
}

/// The best value so far, by slot.
enum Best {
    Int(Vec<i64>),
    Wide(Vec<i128>),
    Float(Vec<f64>),
    Bytes(Vec<Box<[u8]>>),
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
        Ok(Self { best, is_present: Vec::new(), is_max })
    }

    pub(super) fn resize(&mut self, len: usize) {
        self.is_present.resize(len, false);
        match &mut self.best {
            Best::Int(best) => best.resize(len, 0),
            Best::Wide(best) => best.resize(len, 0),
            Best::Float(best) => best.resize(len, 0.0),
            Best::Bytes(best) => best.resize(len, Box::default()),
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
        let Self { best, is_present, is_max } = self;
        let wanted = wanted(*is_max);
        target.for_each(mask, |slot, row, weight| {
            match weight.cmp(&0) {
                Ordering::Less => return Err(retraction_refused()),
                Ordering::Equal => return Ok(()),
                Ordering::Greater => {}
            }
            let is_new = !std::mem::replace(&mut is_present[slot], true);
            match (&mut *best, values) {
                (Best::Int(best), Values::Int(values)) => {
                    if is_new || values[row].cmp(&best[slot]) == wanted {
                        best[slot] = values[row];
                    }
                }
                (Best::Wide(best), Values::Wide(values)) => {
                    if is_new || values[row].cmp(&best[slot]) == wanted {
                        best[slot] = values[row];
                    }
                }
                (Best::Float(best), Values::Float(values)) => {
                    if is_new || compare_floats(values[row], best[slot]) == wanted {
                        best[slot] = values[row];
                    }
                }
                (Best::Bytes(best), Values::Array(values)) => {
                    let value = bytes_at(values, row)?;
                    if is_new || value.cmp(&best[slot]) == wanted {
                        best[slot] = value.into();
                    }
                }
                _ => return Err(Error::Internal("aggregate input of another form".to_owned())),
            }
            Ok(())
        })
    }

    pub(super) fn merge(&mut self, other: &Self, targets: &[u32]) -> Result<()> {
        let wanted = wanted(self.is_max);
        for (from, &target) in targets.iter().enumerate() {
            let to = target as usize;
            if !other.is_present[from] {
                continue;
            }
            let is_new = !std::mem::replace(&mut self.is_present[to], true);
            match (&mut self.best, &other.best) {
                (Best::Int(best), Best::Int(values)) => {
                    if is_new || values[from].cmp(&best[to]) == wanted {
                        best[to] = values[from];
                    }
                }
                (Best::Wide(best), Best::Wide(values)) => {
                    if is_new || values[from].cmp(&best[to]) == wanted {
                        best[to] = values[from];
                    }
                }
                (Best::Float(best), Best::Float(values)) => {
                    if is_new || compare_floats(values[from], best[to]) == wanted {
                        best[to] = values[from];
                    }
                }
                (Best::Bytes(best), Best::Bytes(values)) => {
                    if is_new || values[from].cmp(&best[to]) == wanted {
                        best[to] = values[from].clone();
                    }
                }
                _ => return Err(Error::Internal("state columns of different kinds".to_owned())),
            }
        }
        Ok(())
    }

    pub(super) fn remap(&mut self, new_slots: &[u32], len: usize) {
        compact(&mut self.is_present, new_slots, len);
        match &mut self.best {
            Best::Int(best) => compact(best, new_slots, len),
            Best::Wide(best) => compact(best, new_slots, len),
            Best::Float(best) => compact(best, new_slots, len),
            Best::Bytes(best) => compact(best, new_slots, len),
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
                    .map(|slot| self.is_present[slot].then_some(&best[slot]))
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
        Ok(Self { best, is_present, is_max: self.is_max })
    }

    pub(super) fn bytes(&self) -> usize {
        let values = match &self.best {
            Best::Int(best) => best.capacity() * size_of::<i64>(),
            Best::Wide(best) => best.capacity() * size_of::<i128>(),
            Best::Float(best) => best.capacity() * size_of::<f64>(),
            Best::Bytes(best) => {
                let contents: usize = best.iter().map(|bytes| bytes.len()).sum();
                best.capacity() * size_of::<Box<[u8]>>() + contents
            }
        };
        values + self.is_present.capacity()
    }
}

/// How a better value compares to the best so far.
fn wanted(is_max: bool) -> Ordering {
    if is_max { Ordering::Greater } else { Ordering::Less }
}

fn compare_floats(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right).unwrap_or_else(|| left.is_nan().cmp(&right.is_nan()))
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
