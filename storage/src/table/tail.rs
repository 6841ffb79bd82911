//! `Tail`: the open end of a partition, at most 512 rows in typed growing columns.
//! Rows are only added; a copy for readers is made once and kept until the next row comes.

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};
use std::sync::Arc;

use super::{chunk::Dead, column::Column, compaction::CHUNK_BYTES_MAX, schema::TableSchema};
use crate::{
    Result,
    value::{ColumnReader, Value},
};

/// Rows after which a tail is sealed: small enough that copying it for a scan is cheap, large
/// enough that a chunk's arrays cost little beside its rows.
pub(crate) const TAIL_ROWS_MAX: usize = 512;

/// The rows not yet sealed.
#[derive(Debug)]
pub(crate) struct Tail {
    /// As in [`super::chunk::Chunk`]; the chunk it becomes keeps it.
    pub(crate) generation: u64,
    columns: Vec<Column>,
    len: usize,
    /// Rows that no reader needs.
    pub(crate) dead: Dead,
    /// The copy of all rows that readers share; gone with the next row.
    frozen: Option<RecordBatch>,
    /// Memory of that copy, in bytes.
    frozen_bytes: usize,
    /// Memory of the columns, in bytes; kept up to date by the two ways to add rows.
    bytes: usize,
}

impl Tail {
    /// An empty tail.
    pub(crate) fn new(schema: &TableSchema, generation: u64) -> Result<Self> {
        let fields = schema.arrow().fields();
        let columns = fields.iter().map(|field| Column::new(field.data_type()));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Ok(Self {
            generation,
            columns,
            len: 0,
            dead: Dead::default(),
            frozen: None,
            frozen_bytes: 0,
            bytes: 0,
        })
    }

    /// Number of rows, dead ones included.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Rows that still fit; none once the rows are heavy.
    pub(crate) fn room(&self) -> usize {
        if self.bytes < CHUNK_BYTES_MAX { TAIL_ROWS_MAX - self.len } else { 0 }
    }

    /// The value of one column of one row.
    pub(crate) fn value(&self, row: usize, column: usize) -> Value<'_> {
        self.columns[column].value(row)
    }

    /// Adds a whole row; nothing of it stays if a value does not fit its column.
    pub(crate) fn push(&mut self, row: &[Value<'_>]) -> Result<()> {
        for (column, value) in self.columns.iter_mut().zip(row) {
            if let Err(error) = column.push(value) {
                self.columns.iter_mut().for_each(|column| column.truncate(self.len));
                return Err(error);
            }
        }
        self.len += 1;
        self.changed();
        Ok(())
    }

    /// Adds the key of a row of a batch; [`Tail::complete`] adds the other columns of all of them.
    pub(crate) fn push_key(
        &mut self,
        schema: &TableSchema,
        source: &[ColumnReader<'_>],
        row: u32,
    ) -> Result<()> {
        for key in schema.key() {
            self.columns[*key].push(&source[*key].value(row as usize))?;
        }
        self.len += 1;
        Ok(())
    }

    /// Adds the other columns of `rows`, whose keys were pushed in this order.
    pub(crate) fn complete(
        &mut self,
        schema: &TableSchema,
        source: &[ColumnReader<'_>],
        rows: &[u32],
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        for (position, column) in self.columns.iter_mut().enumerate() {
            if !schema.key().contains(&position) {
                column.extend(&source[position], rows)?;
            }
        }
        self.changed();
        Ok(())
    }

    /// All rows as an immutable batch.
    pub(crate) fn freeze(&mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        if let Some(frozen) = &self.frozen {
            return Ok(frozen.clone());
        }
        let columns = self.columns.iter().map(Column::freeze).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.len));
        let batch = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?;
        self.frozen_bytes = batch.get_array_memory_size();
        self.frozen = Some(batch.clone());
        Ok(batch)
    }

    /// Memory of columns, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.frozen_bytes + self.dead.bytes()
    }

    fn changed(&mut self) {
        self.frozen = None;
        self.frozen_bytes = 0;
        self.bytes = self.columns.iter().map(Column::bytes).sum();
    }
}
