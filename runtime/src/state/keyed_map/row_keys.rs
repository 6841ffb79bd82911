//! `RowKeys`: any key columns → ids, by Arrow's row encoding kept in one arena.
//! Floats are made canonical first (one zero, one NaN), as SQL's equality wants it.

use std::{hash::BuildHasher, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray},
    datatypes::{DataType, Float32Type, Float64Type},
    row::{RowConverter, Rows, SortField},
};
use foldhash::fast::FixedState;

use super::{MOVES_PER_ROW, NO_ID, slot_table::SlotTable};
use crate::Result;

pub(super) struct RowKeys {
    converter: RowConverter,
    /// The encoded batch at hand; kept for its memory.
    rows: Rows,
    /// Ids, found by the hash of their bytes.
    table: SlotTable,
    /// Encoded keys, one after the other.
    arena: Vec<u8>,
    /// By id: where its bytes end in `arena`; they begin where those before end.
    ends: Vec<usize>,
    state: FixedState,
}

impl RowKeys {
    pub(super) fn new(types: &[DataType], seed: u64) -> Result<Self> {
        let fields = types.iter().cloned().map(SortField::new).collect();
        let converter = RowConverter::new(fields)?;
        Ok(Self {
            rows: converter.empty_rows(0, 0),
            converter,
            table: SlotTable::new(seed),
            arena: Vec::new(),
            ends: Vec::new(),
            state: FixedState::with_seed(seed),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.arena.capacity()
            + self.ends.capacity() * size_of::<usize>()
            + self.table.bytes()
            + self.rows.size()
    }

    pub(super) fn ids_of(&mut self, columns: &[ArrayRef], ids: &mut Vec<u32>) -> Result<()> {
        let columns: Vec<_> = columns.iter().map(canonical).collect();
        self.rows.clear();
        self.converter.append(&mut self.rows, &columns)?;
        self.table.move_on(self.rows.num_rows() * MOVES_PER_ROW);
        for row in self.rows.iter() {
            let bytes = row.as_ref();
            let hash = self.state.hash_one(bytes);
            let (arena, ends) = (&self.arena, &self.ends);
            let id = match self.table.find(hash, |id| bytes_of(arena, ends, id) == bytes) {
                Some(id) => id,
                None => {
                    let id = ends.len() as u32;
                    self.arena.extend_from_slice(bytes);
                    self.ends.push(self.arena.len());
                    self.table.insert(hash, id);
                    id
                }
            };
            ids.push(id);
        }
        Ok(())
    }

    pub(super) fn columns_of(&self, ids: &[u32]) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        let rows = ids.iter().map(|&id| parser.parse(bytes_of(&self.arena, &self.ends, id)));
        Ok(self.converter.convert_rows(rows)?)
    }

    pub(super) fn retain(&mut self, new_ids: &[u32]) {
        let (mut arena, mut ends) = (Vec::new(), Vec::new());
        for (id, _) in new_ids.iter().enumerate().filter(|(_, new_id)| **new_id != NO_ID) {
            arena.extend_from_slice(bytes_of(&self.arena, &self.ends, id as u32));
            ends.push(arena.len());
        }
        self.table.renumber(new_ids, ends.len());
        (self.arena, self.ends) = (arena, ends);
    }
}

fn bytes_of<'a>(arena: &'a [u8], ends: &[usize], id: u32) -> &'a [u8] {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] };
    &arena[start..ends[id]]
}

/// −0.0 as 0.0 and every NaN as one.
fn canonical(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => Arc::new(
            column
                .as_primitive::<Float64Type>()
                .unary::<_, Float64Type>(|x| if x.is_nan() { f64::NAN } else { x + 0.0 }),
        ),
        DataType::Float32 => Arc::new(
            column
                .as_primitive::<Float32Type>()
                .unary::<_, Float32Type>(|x| if x.is_nan() { f32::NAN } else { x + 0.0 }),
        ),
        _ => Arc::clone(column),
    }
}
