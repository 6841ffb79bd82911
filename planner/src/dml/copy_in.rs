//! `COPY … FROM STDIN`: the server's batches of the columns the client sends become whole rows
//! under one writer.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    datatypes::{Schema, SchemaRef},
};
use datafusion::{common::ToDFSchema, logical_expr::Expr, physical_expr::PhysicalExpr};
use storage::{
    Table,
    table::{WriteMode, Writer},
};

use super::{
    check_not_null,
    conform::{Target, default_value},
};
use crate::{OutputColumn, Result, Session, catalog::provider::visible_schema, context::Context};

/// Rows on their way into a table.
pub struct CopyRows {
    table: Arc<Table>,
    writer: Arc<Writer>,
    /// Whether the writer is COPY's own, to be committed with its last row.
    is_own_writer: bool,
    /// For each visible column, its position among the columns sent, or its default.
    sources: Vec<Source>,
    rows: u64,
}

enum Source {
    Sent(usize),
    Default(Arc<dyn PhysicalExpr>),
}

impl CopyRows {
    /// Starts a COPY into the named columns (all of them if none is named); answers it with the
    /// columns and the Arrow schema of what is to be sent.
    pub fn start(
        context: &Context,
        session: &Session,
        table: Arc<Table>,
        names: &[String],
    ) -> Result<(Self, Vec<OutputColumn>, SchemaRef)> {
        let target = Target::of_table(table.record());
        let positions = target.positions(names)?;
        let state = context.state(session);
        let mut sources = Vec::with_capacity(target.columns.len());
        for (n, column) in target.columns.iter().enumerate() {
            sources.push(match positions.iter().position(|position| *position == n) {
                Some(sent) => Source::Sent(sent),
                None => {
                    let value: Expr = default_value(&state, column, &target.sql_type(n))?;
                    let schema = Arc::new(Schema::empty()).to_dfschema()?;
                    Source::Default(state.create_physical_expr(value, &schema)?)
                }
            });
        }
        let columns: Vec<OutputColumn> = positions
            .iter()
            .map(|position| {
                let name = target.columns[*position].name.as_str();
                OutputColumn::computed(name, target.sql_type(*position))
            })
            .collect();
        let schema = crate::query::arrow_schema(&columns);
        let writer = match &session.writer {
            Some(writer) if session.in_transaction => Arc::clone(writer),
            _ => Arc::new(context.parts.grid.begin()),
        };
        let is_own_writer = !session.in_transaction;
        Ok((Self { table, writer, is_own_writer, sources, rows: 0 }, columns, schema))
    }

    /// Writes a batch of the columns sent.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let schema = visible_schema(self.table.record());
        let rows = batch.num_rows();
        let one = RecordBatch::try_new_with_options(
            Arc::new(Schema::empty()),
            Vec::new(),
            &RecordBatchOptions::new().with_row_count(Some(rows)),
        )?;
        let columns: Vec<ArrayRef> = self
            .sources
            .iter()
            .map(|source| match source {
                Source::Sent(index) => Ok(Arc::clone(batch.column(*index))),
                Source::Default(value) => Ok(value.evaluate(&one)?.into_array(rows)?),
            })
            .collect::<Result<_>>()?;
        check_not_null(&self.table, &columns)?;
        let batch = RecordBatch::try_new(schema, columns)?;
        self.rows += self.table.write_batch(&self.writer, WriteMode::Insert, &batch)?.inserted;
        Ok(())
    }

    /// The writer, if it is an open block's.
    pub fn block_writer(&self) -> Option<Arc<Writer>> {
        (!self.is_own_writer).then(|| Arc::clone(&self.writer))
    }

    /// Makes the rows visible, unless a block does so later; answers their number.
    pub fn finish(self) -> Result<u64> {
        if self.is_own_writer {
            self.writer.commit()?;
        }
        Ok(self.rows)
    }
}

impl Drop for CopyRows {
    fn drop(&mut self) {
        // Nothing after a commit.
        if self.is_own_writer {
            self.writer.abort();
        }
    }
}
