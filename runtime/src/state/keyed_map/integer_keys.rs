//! `IntegerKeys`: one integer key column → ids; the key is its token in the [`SlotTable`].
//! A batch is probed without a branch; only rows not found near their home slot are looked at one
//! by one.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray},
    buffer::NullBuffer,
    compute::cast,
    datatypes::{DataType, Int64Type},
};

use super::{MOVES_PER_ROW, NO_ID, slot_table::SlotTable};
use crate::Result;

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
    table: SlotTable,
    /// By id; unused for the null key.
    keys: Vec<i64>,
    /// The id of the null key, [`NO_ID`] until it is seen.
    null_id: u32,
}

impl IntegerKeys {
    pub(super) fn new(data_type: DataType, seed: u64) -> Self {
        Self { data_type, table: SlotTable::new(seed), keys: Vec::new(), null_id: NO_ID }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes() + self.keys.capacity() * size_of::<i64>()
    }

    pub(super) fn ids_of(&mut self, column: &ArrayRef, ids: &mut Vec<u32>) -> Result<()> {
        let column = widened(column)?;
        let values: &[i64] = column.values();
        self.table.move_on(values.len() * MOVES_PER_ROW);
        match column.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => self.ids_of_values(values, ids),
            Some(nulls) => self.ids_of_nullable(values, nulls, ids),
        }
        Ok(())
    }

    fn ids_of_values(&mut self, values: &[i64], ids: &mut Vec<u32>) {
        ids.extend(values.iter().map(|&key| self.table.near(key as u64)));
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

    fn find_or_insert(&mut self, key: i64) -> u32 {
        if let Some(id) = self.table.find(key as u64, |_| true) {
            return id;
        }
        let id = self.keys.len() as u32;
        self.keys.push(key);
        self.table.insert(key as u64, id);
        id
    }

    fn null_key(&mut self) -> u32 {
        if self.null_id == NO_ID {
            self.null_id = self.keys.len() as u32;
            self.keys.push(0);
        }
        self.null_id
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
        self.table.renumber(new_ids, self.keys.len());
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
