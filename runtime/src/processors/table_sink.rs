//! `table_sink`: rows into a table. Each batch is one writer, committed at once (guarantee `none`):
//! readers see a batch as a whole or not at all, and nothing is held between two calls.
//!
//! A key that somebody's open transaction holds is not an error of the job: the batch stays in the
//! inbox, pushes back on the dag and is tried again.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, UInt32Array},
    compute::take_record_batch,
    datatypes::{Schema, SchemaRef},
};
use storage::{Table, table::WriteMode};

use super::operator::OperatorSupplier;
use crate::{
    Error, Result,
    delta::{DeltaBatch, Weight},
    processor::{Inbox, Outbox, Processor, ProcessorContext, ProcessorSupplier},
};

/// Rows into a table.
#[derive(Debug, Clone)]
pub struct TableSinkSpec {
    /// The table.
    pub table: Arc<Table>,
    /// Input columns are the table's visible columns, in order, of their types.
    pub input: SchemaRef,
    /// Insert (a duplicate fails the job) or Upsert (SINK INTO).
    pub mode: WriteMode,
}

struct TableSink {
    table: Arc<Table>,
    /// The input's columns under the table's names.
    schema: SchemaRef,
    mode: WriteMode,
    context: Option<ProcessorContext>,
    /// Whether the last try met a key that another writer holds.
    is_held_up: bool,
}

/// Rows into a table; see [`TableSinkSpec`].
pub fn table_sink(spec: TableSinkSpec) -> Arc<dyn ProcessorSupplier> {
    let name = &spec.table.record().name.name;
    let verb = match spec.mode {
        WriteMode::Insert => "insert",
        WriteMode::InsertIgnore => "insert-ignore",
        WriteMode::Upsert => "upsert",
    };
    let visible = spec.table.schema().fields()[..spec.input.fields().len()].to_vec();
    let schema = Arc::new(Schema::new(visible));
    Arc::new(OperatorSupplier {
        description: format!("{verb}({name})"),
        schema: Arc::new(Schema::empty()),
        make: move || {
            Ok(Box::new(TableSink {
                table: Arc::clone(&spec.table),
                schema: Arc::clone(&schema),
                mode: spec.mode,
                context: None,
                is_held_up: false,
            }) as Box<dyn Processor>)
        },
    })
}

impl Processor for TableSink {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        self.context = Some(context.clone());
        Ok(())
    }

    fn process(&mut self, _ordinal: usize, inbox: &mut Inbox, _outbox: &mut Outbox) -> Result<()> {
        while let Some(batch) = inbox.peek() {
            match self.write(batch) {
                Ok(()) => self.show_trouble(false),
                Err(Error::Storage(storage::Error::Conflict)) => {
                    self.show_trouble(true);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            inbox.take();
        }
        Ok(())
    }
}

impl TableSink {
    fn write(&self, batch: &DeltaBatch) -> Result<()> {
        let rows = match insertions(batch)? {
            Some(rows) if rows.num_rows() > 0 => rows,
            _ => return Ok(()),
        };
        let Some(context) = &self.context else {
            return Err(Error::Internal("a table sink runs before init".to_owned()));
        };
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), rows.columns().to_vec())?;
        // Dropped without a commit, the writer undoes what an error leaves half done.
        let writer = context.grid.begin();
        self.table.write_batch(&writer, self.mode, &rows)?;
        writer.commit()?;
        Ok(())
    }

    fn show_trouble(&mut self, is_held_up: bool) {
        if self.is_held_up == is_held_up {
            return;
        }
        self.is_held_up = is_held_up;
        if let Some(context) = &self.context {
            let name = &self.table.record().name.name;
            let text = format!("a key of table \"{name}\" is held by an open transaction");
            (context.trouble)(is_held_up.then_some(text));
        }
    }
}

/// Each row as often as its weight says; a retraction has no meaning for a sink that commits every
/// batch, and the planner sends none.
fn insertions(batch: &DeltaBatch) -> Result<Option<RecordBatch>> {
    let weights = match &batch.weight {
        Weight::One => return Ok(Some(batch.rows.clone())),
        Weight::MinusOne if batch.is_empty() => return Ok(None),
        Weight::MinusOne => return Err(retraction()),
        Weight::Array(weights) => weights,
    };
    let mut indices = Vec::with_capacity(batch.len());
    for (row, weight) in weights.values().iter().enumerate() {
        let count = usize::try_from(*weight).map_err(|_negative| retraction())?;
        indices.extend(std::iter::repeat_n(row as u32, count));
    }
    Ok(Some(take_record_batch(&batch.rows, &UInt32Array::from(indices))?))
}

fn retraction() -> Error {
    Error::Internal("a retraction reached a sink of insertions".to_owned())
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use storage::{Grid, GridConfig, cluster::control::TableRecord, env::Env};

    use super::*;
    use crate::testing::{bigint_batch, verify_processor};

    fn table(grid: &Arc<Grid>, key: &[usize]) -> Arc<Table> {
        let fields = ["k", "v"].map(|name| {
            let is_key = name == "k" && !key.is_empty();
            arrow::datatypes::Field::new(name, arrow::datatypes::DataType::Int64, !is_key)
        });
        let schema = Arc::new(Schema::new(fields.to_vec()));
        grid.create_table(TableRecord::new("t", schema, key)).unwrap()
    }

    fn grid() -> Arc<Grid> {
        Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap()
    }

    fn sink(table: &Arc<Table>, mode: WriteMode) -> (Arc<dyn ProcessorSupplier>, SchemaRef) {
        let input = crate::testing::bigint_schema(&["a", "b"]);
        let spec = TableSinkSpec { table: Arc::clone(table), input: Arc::clone(&input), mode };
        (table_sink(spec), input)
    }

    fn rows(grid: &Arc<Grid>, table: &Table) -> Vec<(i64, i64)> {
        let mut rows = Vec::new();
        for lane in table.scan(&grid.read_view(), Some(&[0, 1]), 1).unwrap() {
            for batch in lane {
                let batch = batch.unwrap();
                let column = |index| batch.column(index).as_primitive::<Int64Type>().clone();
                let (keys, values): (Int64Array, Int64Array) = (column(0), column(1));
                rows.extend(keys.values().iter().copied().zip(values.values().iter().copied()));
            }
        }
        rows.sort_unstable();
        rows
    }

    #[test]
    fn upsert_keeps_the_last_row_of_a_key() {
        let grid = grid();
        let table = table(&grid, &[0]);
        let (sink, input) = sink(&table, WriteMode::Upsert);
        let after = (Arc::clone(&grid), Arc::clone(&table));
        verify_processor(sink)
            .grid(Arc::clone(&grid))
            .rows(0, DeltaBatch::insertions(bigint_batch(&input, &[&[1, 2], &[10, 20]])))
            .rows(0, DeltaBatch::insertions(bigint_batch(&input, &[&[2, 3], &[21, 30]])))
            .end(0)
            .expect(vec![])
            .after_each(move |way| {
                assert_eq!(rows(&after.0, &after.1), [(1, 10), (2, 21), (3, 30)], "{way}");
                after.1.truncate().unwrap();
            })
            .run();
    }

    #[test]
    fn weight_repeats_a_row_of_a_table_without_key() {
        let grid = grid();
        let table = table(&grid, &[]);
        let (sink, input) = sink(&table, WriteMode::Insert);
        let after = (Arc::clone(&grid), Arc::clone(&table));
        let batch = DeltaBatch {
            rows: bigint_batch(&input, &[&[1, 2, 3], &[10, 20, 30]]),
            weight: Weight::Array(Int64Array::from(vec![2, 0, 1])),
        };
        verify_processor(sink)
            .grid(Arc::clone(&grid))
            .rows(0, batch)
            .end(0)
            .expect(vec![])
            .after_each(move |way| {
                assert_eq!(rows(&after.0, &after.1), [(1, 10), (1, 10), (3, 30)], "{way}");
                after.1.truncate().unwrap();
            })
            .run();
    }

    #[test]
    fn insert_of_a_present_key_fails_the_job_and_leaves_nothing_of_its_batch() {
        let grid = grid();
        let table = table(&grid, &[0]);
        let (sink, input) = sink(&table, WriteMode::Insert);
        let error = verify_processor(sink)
            .grid(Arc::clone(&grid))
            .rows(0, DeltaBatch::insertions(bigint_batch(&input, &[&[1, 2, 1], &[10, 20, 11]])))
            .run_to_error();
        assert!(matches!(error, Error::Storage(storage::Error::DuplicateKey { .. })), "{error:?}");
        assert!(rows(&grid, &table).is_empty());
    }

    #[test]
    fn retraction_is_refused() {
        let grid = grid();
        let table = table(&grid, &[0]);
        let (sink, input) = sink(&table, WriteMode::Upsert);
        for weight in [Weight::MinusOne, Weight::Array(Int64Array::from(vec![-1]))] {
            let rows = bigint_batch(&input, &[&[1], &[10]]);
            let error = verify_processor(Arc::clone(&sink))
                .grid(Arc::clone(&grid))
                .rows(0, DeltaBatch { rows, weight })
                .run_to_error();
            assert!(matches!(error, Error::Internal(_)), "{error:?}");
        }
    }
}
