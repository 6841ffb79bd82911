//! `IntegerKeys`: one integer key column → ids, by linear probing over `(key, id)` slots.
//! Key and id share a cache line, and a batch is probed without a branch, so that the misses of
//! many rows overlap; only rows not found near their home slot are looked at one by one.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray},
    buffer::NullBuffer,
    compute::cast,
    datatypes::{DataType, Int64Type},
};

use super::NO_ID;
use crate::Result;

/// Odd, with well-mixed bits (the golden ratio's fraction).
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
const SLOTS_MIN: usize = 64;
/// Load up to 5/8 keeps the expected distance from home below two slots.
const LOAD_NUMERATOR: usize = 5;
const LOAD_DENOMINATOR: usize = 8;

/// Whether a column of this type is served here.
pub(super) fn is_integer(data_type: &DataType) -> bool {
    use DataType as D;
    matches!(
        data_type,
        D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::Date32 | D::Time64(_) | D::Timestamp(..)
    )
}

pub(super) struct IntegerKeys {
    data_type: DataType,
    /// A power of two of them.
    slots: Vec<Slot>,
    /// By id; unused for the null key.
    keys: Vec<i64>,
    /// The id of the null key, [`NO_ID`] until it is seen.
    null_id: u32,
    seed: u64,
}

/// A key and its id; [`NO_ID`] in an empty slot.
#[derive(Clone, Copy)]
struct Slot {
    key: i64,
    id: u32,
}

const EMPTY: Slot = Slot { key: 0, id: NO_ID };

impl IntegerKeys {
    pub(super) fn new(data_type: DataType, seed: u64) -> Self {
        let slots = vec![EMPTY; SLOTS_MIN];
        Self { data_type, slots, keys: Vec::new(), null_id: NO_ID, seed }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.keys.capacity() * size_of::<i64>()
    }

    pub(super) fn ids_of(&mut self, column: &ArrayRef, ids: &mut Vec<u32>) -> Result<()> {
        let column = widened(column)?;
        let values: &[i64] = column.values();
        match column.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => self.ids_of_values(values, ids),
            Some(nulls) => self.ids_of_nullable(values, nulls, ids),
        }
        Ok(())
    }

    fn ids_of_values(&mut self, values: &[i64], ids: &mut Vec<u32>) {
        let mask = self.slots.len() - 1;
        ids.extend(values.iter().map(|&key| {
            let home = self.home_of(key, mask);
            let (first, second) = (self.slots[home], self.slots[(home + 1) & mask]);
            let second_id = if second.key == key { second.id } else { NO_ID };
            if first.key == key { first.id } else { second_id }
        }));
        for (id, &key) in ids.iter_mut().zip(values) {
            if *id == NO_ID {
                *id = self.find_or_insert(key);
            }
        }
    }

    fn ids_of_nullable(&mut self, values: &[i64], nulls: &NullBuffer, ids: &mut Vec<u32>) {
        for (row, &key) in values.iter().enumerate() {
            let id = if nulls.is_valid(row) { self.find_or_insert(key) } else { self.null_key() };
            ids.push(id);
        }
    }

    #[inline]
    fn home_of(&self, key: i64, mask: usize) -> usize {
        let product = u128::from(key as u64 ^ self.seed) * u128::from(MULTIPLIER);
        ((product >> 64) as u64 ^ product as u64) as usize & mask
    }

    fn find_or_insert(&mut self, key: i64) -> u32 {
        let mask = self.slots.len() - 1;
        let mut position = self.home_of(key, mask);
        loop {
            let slot = self.slots[position];
            if slot.id == NO_ID {
                break;
            }
            if slot.key == key {
                return slot.id;
            }
            position = (position + 1) & mask;
        }
        let id = self.keys.len() as u32;
        self.slots[position] = Slot { key, id };
        self.keys.push(key);
        if self.keys.len() * LOAD_DENOMINATOR > self.slots.len() * LOAD_NUMERATOR {
            self.rebuild(self.slots.len() * 2);
        }
        id
    }

    fn null_key(&mut self) -> u32 {
        if self.null_id == NO_ID {
            self.null_id = self.keys.len() as u32;
            self.keys.push(0);
        }
        self.null_id
    }

    fn rebuild(&mut self, slot_count: usize) {
        self.slots.clear();
        self.slots.resize(slot_count, EMPTY);
        let mask = slot_count - 1;
        for (id, &key) in self.keys.iter().enumerate() {
            if id as u32 == self.null_id {
                continue;
            }
            let mut position = self.home_of(key, mask);
            while self.slots[position].id != NO_ID {
                position = (position + 1) & mask;
            }
            self.slots[position] = Slot { key, id: id as u32 };
        }
    }

    pub(super) fn column_of(&self, ids: &[u32]) -> Result<ArrayRef> {
        let values: Vec<i64> = ids.iter().map(|&id| self.keys[id as usize]).collect();
        let has_null = self.null_id != NO_ID && ids.contains(&self.null_id);
        let nulls = has_null.then(|| ids.iter().map(|&id| id != self.null_id).collect());
        narrowed(Int64Array::new(values.into(), nulls), &self.data_type)
    }

    pub(super) fn retain(&mut self, new_ids: &[u32]) {
        let mut id = 0;
        self.keys.retain(|_| {
            id += 1;
            new_ids[id - 1] != NO_ID
        });
        self.keys.shrink_to_fit();
        if self.null_id != NO_ID {
            self.null_id = new_ids[self.null_id as usize];
        }
        let slot_count = (self.keys.len() * LOAD_DENOMINATOR / LOAD_NUMERATOR + 1)
            .next_power_of_two()
            .max(SLOTS_MIN);
        self.slots = Vec::new();
        self.rebuild(slot_count);
    }
}

/// The column's raw integers; no copy for the 64-bit types.
fn widened(column: &ArrayRef) -> Result<Int64Array> {
    use DataType as D;
    match column.data_type() {
        D::Int64 => Ok(column.as_primitive::<Int64Type>().clone()),
        D::Date32 => Ok(cast(&cast(column, &D::Int32)?, &D::Int64)?.as_primitive().clone()),
        D::Time64(_) | D::Timestamp(..) => {
            let data = column.to_data().into_builder().data_type(D::Int64).build()?;
            Ok(PrimitiveArray::from(data))
        }
        _ => Ok(cast(column, &D::Int64)?.as_primitive().clone()),
    }
}

/// The way back of [`widened`].
fn narrowed(values: Int64Array, data_type: &DataType) -> Result<ArrayRef> {
    use DataType as D;
    match data_type {
        D::Int64 => Ok(Arc::new(values)),
        D::Date32 => Ok(cast(&cast(&values, &D::Int32)?, &D::Date32)?),
        D::Time64(_) | D::Timestamp(..) => {
            let data = values.into_data().into_builder().data_type(data_type.clone()).build()?;
            Ok(arrow::array::make_array(data))
        }
        _ => Ok(cast(&values, data_type)?),
    }
}
