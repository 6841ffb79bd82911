//! `lookup_join`: a stream joined with a table by the table's full key, as of the moment a row
//! passes. Stateless: the table is the state, and a later change of it revises nothing.
//!
//! ```text
//!   batch ── keys ──→ Table::get_many ──→ (row, table row)* ── residual ──→ matches
//!     inner: the matching rows          left: all rows, nulls where there is no match
//! ```

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array},
    compute::take,
    datatypes::{Int64Type, SchemaRef},
    record_batch::RecordBatchOptions,
};
use datafusion_physical_expr_common::physical_expr::PhysicalExpr;

use super::{
    expression::{evaluate, evaluate_predicate, text},
    operator::{OperatorSupplier, map_batches},
};
use crate::{
    Result,
    delta::{DeltaBatch, Weight},
    item::Item,
    processor::{Inbox, Outbox, Processor, ProcessorSupplier},
};

/// INNER or LEFT stream–table join by the table's full key, as of now.
#[derive(Debug, Clone)]
pub struct LookupJoinSpec {
    /// Input schema.
    pub input: SchemaRef,
    /// The table.
    pub table: Arc<storage::Table>,
    /// For each key column of the table, in key order, the input expression it equals, of the key
    /// column's type.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Table columns that follow the input's columns in the output.
    pub table_columns: Vec<usize>,
    /// Output schema: input columns, then table columns.
    pub output: SchemaRef,
    /// Whether input rows without a match come out with nulls.
    pub is_left: bool,
    /// Residual condition over the output columns (inner: filters; left: decides the match).
    pub residual: Option<Arc<dyn PhysicalExpr>>,
}

struct LookupJoin {
    spec: Arc<LookupJoinSpec>,
    refused: Option<Item>,
}

/// Stream–table join; see [`LookupJoinSpec`].
pub fn lookup_join(spec: LookupJoinSpec) -> Arc<dyn ProcessorSupplier> {
    let record = spec.table.record();
    let key_name = |key: &usize| record.schema.field(*key).name();
    let keys: Vec<String> = record
        .key
        .iter()
        .zip(&spec.keys)
        .map(|(key, expr)| format!("{} = {}", key_name(key), text(expr)))
        .collect();
    let kind = if spec.is_left { "left" } else { "inner" };
    let residual =
        spec.residual.as_ref().map_or_else(String::new, |expr| format!(", {}", text(expr)));
    let fetched: Vec<&str> = spec
        .table_columns
        .iter()
        .map(|column| record.schema.field(*column).name().as_str())
        .collect();
    let description =
        format!("{kind} lookup({}{residual}, columns=[{}])", keys.join(", "), fetched.join(", "));
    let spec = Arc::new(spec);
    Arc::new(OperatorSupplier {
        description,
        schema: Arc::clone(&spec.output),
        make: move || {
            Ok(Box::new(LookupJoin { spec: Arc::clone(&spec), refused: None })
                as Box<dyn Processor>)
        },
    })
}

impl Processor for LookupJoin {
    fn process(&mut self, _ordinal: usize, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<()> {
        let Self { spec, refused } = self;
        map_batches(refused, inbox, outbox, |batch| spec.join(batch))
    }
}

impl LookupJoinSpec {
    fn join(&self, batch: &DeltaBatch) -> Result<Option<DeltaBatch>> {
        let keys: Vec<ArrayRef> =
            self.keys.iter().map(|key| evaluate(key, &batch.rows)).collect::<Result<_>>()?;
        let (found, table_rows) = self.table.get_many(&keys, &self.table_columns, None)?;
        // Table row of each input row: in the input's order again, which get_many does not keep.
        let mut matches: Vec<Option<u32>> = vec![None; batch.len()];
        for (table_row, row) in found.into_iter().enumerate() {
            matches[row as usize] = Some(table_row as u32);
        }
        if let Some(residual) = &self.residual {
            self.apply_residual(residual, batch, &table_rows, &mut matches)?;
        }
        let rows: Vec<u32> = match self.is_left {
            true => (0..batch.len() as u32).collect(),
            false => {
                (0..batch.len() as u32).filter(|row| matches[*row as usize].is_some()).collect()
            }
        };
        if rows.is_empty() {
            return Ok(None);
        }
        let table_side: UInt32Array = rows.iter().map(|row| matches[*row as usize]).collect();
        let is_whole = rows.len() == batch.len();
        let rows = UInt32Array::from(rows);
        let input_side = (!is_whole).then_some(&rows);
        let joined = self.concatenate(&batch.rows, input_side, &table_rows, &table_side)?;
        let weight = match (&batch.weight, input_side) {
            (Weight::Array(weights), Some(rows)) => {
                let taken: ArrayRef = take(weights, rows, None)?;
                let taken: Int64Array = taken.as_primitive::<Int64Type>().clone();
                Weight::Array(taken)
            }
            (weight, _) => weight.clone(),
        };
        Ok(Some(DeltaBatch { rows: joined, weight }))
    }

    /// Forgets the matches for which the residual is not true.
    fn apply_residual(
        &self,
        residual: &Arc<dyn PhysicalExpr>,
        batch: &DeltaBatch,
        table_rows: &RecordBatch,
        matches: &mut [Option<u32>],
    ) -> Result<()> {
        let matched: Vec<(u32, u32)> = matches
            .iter()
            .enumerate()
            .filter_map(|(row, table_row)| Some((row as u32, (*table_row)?)))
            .collect();
        if matched.is_empty() {
            return Ok(());
        }
        let rows = UInt32Array::from_iter_values(matched.iter().map(|(row, _)| *row));
        let table_side = UInt32Array::from_iter_values(matched.iter().map(|(_, row)| *row));
        let joined = self.concatenate(&batch.rows, Some(&rows), table_rows, &table_side)?;
        let mask = evaluate_predicate(residual, &joined)?;
        for (index, (row, _)) in matched.iter().enumerate() {
            if !mask.value(index) {
                matches[*row as usize] = None;
            }
        }
        Ok(())
    }

    /// Input rows (all, or those of `input_side`) beside the table rows of `table_side`.
    fn concatenate(
        &self,
        input: &RecordBatch,
        input_side: Option<&UInt32Array>,
        table_rows: &RecordBatch,
        table_side: &UInt32Array,
    ) -> Result<RecordBatch> {
        let mut columns = Vec::with_capacity(self.output.fields().len());
        for column in input.columns() {
            columns.push(match input_side {
                Some(rows) => take(column, rows, None)?,
                None => Arc::clone(column),
            });
        }
        for column in table_rows.columns() {
            columns.push(take(column, table_side, None)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(table_side.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.output), columns, &options)?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion_expr_common::operator::Operator;
    use datafusion_physical_expr::expressions::{BinaryExpr, Column};
    use storage::{
        Datum, Grid, GridConfig,
        cluster::control::TableRecord,
        env::Env,
        table::{KeyedWrite, WriteMode},
    };

    use super::*;
    use crate::testing::{bigint_batch, bigint_schema, verify_processor};

    fn grid_and_table() -> (Arc<Grid>, Arc<storage::Table>) {
        let grid = Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap();
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("worth", DataType::Int64, true),
        ]));
        let table = grid.create_table(TableRecord::new("t", schema, &[0])).unwrap();
        for (id, worth) in [(1, 100), (2, 200)] {
            let row = vec![Datum::Int(id), Datum::Int(worth)];
            table.write(&KeyedWrite::Put { mode: WriteMode::Insert, row }).unwrap();
        }
        (grid, table)
    }

    fn spec(table: &Arc<storage::Table>, is_left: bool) -> LookupJoinSpec {
        LookupJoinSpec {
            input: bigint_schema(&["k", "v"]),
            table: Arc::clone(table),
            keys: vec![Arc::new(Column::new("k", 0))],
            table_columns: vec![1],
            output: Arc::new(Schema::new(
                ["k", "v", "worth"].map(|name| Field::new(name, DataType::Int64, true)).to_vec(),
            )),
            is_left,
            residual: None,
        }
    }

    fn batch(schema: &SchemaRef, rows: &[(i64, i64, Option<i64>)], weight: Weight) -> DeltaBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
            Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
        ];
        let columns = columns[..schema.fields().len()].to_vec();
        DeltaBatch { rows: RecordBatch::try_new(Arc::clone(schema), columns).unwrap(), weight }
    }

    #[test]
    fn inner_lookup_gives_the_rows_that_match_with_their_weights() {
        let (grid, table) = grid_and_table();
        let spec = spec(&table, false);
        let weights = |weights: Vec<i64>| Weight::Array(Int64Array::from(weights));
        let input = bigint_batch(&spec.input, &[&[2, 9, 1, 2], &[1, 2, 3, 4]]);
        let expected = batch(
            &spec.output,
            &[(2, 1, Some(200)), (1, 3, Some(100)), (2, 4, Some(200))],
            weights(vec![1, -1, 3]),
        );
        verify_processor(lookup_join(spec))
            .grid(grid)
            .rows(0, DeltaBatch { rows: input, weight: weights(vec![1, 5, -1, 3]) })
            .end(0)
            .expect(vec![expected])
            .in_order()
            .linear()
            .run();
    }

    #[test]
    fn left_lookup_keeps_rows_without_match_and_the_residual_decides_the_match() {
        let (grid, table) = grid_and_table();
        let mut spec = spec(&table, true);
        // worth > v
        let (worth, v) = (Arc::new(Column::new("worth", 2)), Arc::new(Column::new("v", 1)));
        spec.residual = Some(Arc::new(BinaryExpr::new(worth, Operator::Gt, v)));
        let input = bigint_batch(&spec.input, &[&[1, 2, 7], &[50, 500, 1]]);
        let expected =
            batch(&spec.output, &[(1, 50, Some(100)), (2, 500, None), (7, 1, None)], Weight::One);
        verify_processor(lookup_join(spec))
            .grid(grid)
            .rows(0, DeltaBatch::insertions(input))
            .end(0)
            .expect(vec![expected])
            .linear()
            .run();
    }
}
