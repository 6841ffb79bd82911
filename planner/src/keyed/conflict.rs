//! `ON CONFLICT (key) DO UPDATE SET …`: the new row from the present one and the one that met it.

use std::{collections::HashSet, sync::Arc};

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::ast;
use storage::{
    Datum, Row, Table,
    datum::batch_of,
    table::{WriteMode, Writer},
};

use super::{
    compile::{Compiler, columns},
    value::{Column, Scope, Value},
};
use crate::{
    Error, Result, SqlType,
    catalog::provider::visible_schema,
    dml::{row_of, update_assignments},
};

/// The compiled SET of ON CONFLICT DO UPDATE.
#[derive(Debug)]
pub struct ConflictUpdate {
    columns: Vec<Column>,
    assignments: Vec<(usize, Value)>,
}

impl ConflictUpdate {
    /// Compiles the assignments; they may name the table's columns, EXCLUDED's and parameters.
    pub fn compile(
        table: &Table,
        alias: &str,
        update: &ast::DoUpdate,
        hints: &mut Vec<Option<SqlType>>,
    ) -> Result<Self> {
        if update.selection.is_some() {
            return Err(Error::unsupported("ON CONFLICT DO UPDATE … WHERE is not supported"));
        }
        let columns = columns(table);
        let mut compiler = Compiler { columns: columns.clone(), alias, has_excluded: true, hints };
        let mut assignments = Vec::new();
        for (position, value) in update_assignments(table, &update.assignments)? {
            if table.record().key.contains(&position) {
                return Err(Error::unsupported(
                    "ON CONFLICT DO UPDATE of a key column is not supported",
                ));
            }
            let column = &columns[position];
            let value = compiler.assigned(&value, &column.sql_type).ok_or_else(|| {
                Error::unsupported(format!(
                    "ON CONFLICT DO UPDATE SET {} = {value} is not supported",
                    column.name
                ))
                .with_hint("SET may compute with the row's columns, EXCLUDED's and constants.")
            })?;
            assignments.push((position, value));
        }
        Ok(Self { columns, assignments })
    }

    /// The row after the conflict of `excluded` with the present `row`.
    pub fn apply(
        &self,
        table: &str,
        row: &[Datum],
        excluded: &[Datum],
        values: &[Datum],
    ) -> Result<Row> {
        apply(&self.columns, &self.assignments, table, &Scope { values, row, excluded })
    }

    /// Writes a batch of the visible columns; answers the rows as they now are.
    pub fn write(
        &self,
        table: &Arc<Table>,
        writer: &Writer,
        batch: &RecordBatch,
        values: &[Datum],
    ) -> Result<RecordBatch> {
        let record = table.record();
        let view = writer.read_view();
        let all: Vec<usize> = (0..self.columns.len()).collect();
        let schema = visible_schema(record);
        let (mut fresh, mut changed, mut keys) = (Vec::new(), Vec::new(), HashSet::new());
        for index in 0..batch.num_rows() {
            let row = row_of(batch, index)?;
            let key: Vec<Datum> = record.key.iter().map(|column| row[*column].clone()).collect();
            if !keys.insert(format!("{key:?}")) {
                return Err(Error::new(
                    "21000",
                    "ON CONFLICT DO UPDATE command cannot affect row a second time",
                )
                .with_hint(
                    "Ensure that no rows proposed for insertion within the same command have \
                     duplicate constrained values.",
                ));
            }
            match table.get(&key, &all, Some(&view))? {
                None => fresh.push(row),
                Some((_, present)) => {
                    changed.push(self.apply(&record.name.name, &present, &row, values)?);
                }
            }
        }
        if !fresh.is_empty() {
            table.write_batch(writer, WriteMode::Insert, &batch_of(&fresh, &schema)?)?;
        }
        if !changed.is_empty() {
            let rows = batch_of(&changed, &schema)?;
            let keys: Vec<_> =
                record.key.iter().map(|column| Arc::clone(rows.column(*column))).collect();
            table.modify_batch(writer, &view, &keys, Some(&rows))?;
        }
        fresh.extend(changed);
        Ok(batch_of(&fresh, &schema)?)
    }
}

/// The row with the assignments carried out and checked.
pub fn apply(
    columns: &[Column],
    assignments: &[(usize, Value)],
    table: &str,
    scope: &Scope<'_>,
) -> Result<Row> {
    let mut row = scope.row.to_vec();
    for (position, value) in assignments {
        row[*position] = columns[*position].check(value.evaluate(scope)?, table)?;
    }
    Ok(row)
}
