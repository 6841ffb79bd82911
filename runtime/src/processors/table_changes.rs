//! `table_changes`: an endless source of a table's rows as they are at the start, if they are wanted, then
//! of every change committed after that, each with the number of its commit and 1 or −1.
//! It asks for changes whenever it is called; between two calls they wait in the table's journals,
//! and their bound ends it. It has no state to save: only clients read it, no job.

use std::{collections::VecDeque, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema},
};
use storage::{
    Table,
    table::{CHANGE_DIFF, CHANGE_TIME, ChangeReader, ScanLane},
};

use super::operator::OperatorSupplier;
use crate::{
    Error, Result,
    delta::DeltaBatch,
    item::Item,
    processor::{Done, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    state::StateWriter,
};

/// Rows of one batch: what is taken out of the journals at once may be very many.
const BATCH_ROWS: usize = 8_192;

/// The columns that follow those of the table: time and diff.
const ADDED: [&str; 2] = [CHANGE_TIME, CHANGE_DIFF];

/// Where the changes of a table begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangesFrom {
    /// With the rows that are there, as if they came at the start.
    Rows,
    /// With the first change after the start.
    Now,
}

/// A source of the changes of a table. `projection` are positions among the columns that users see of
/// the table, with `_time` and `_diff` behind them. One instance.
pub fn table_changes(
    table: Arc<Table>,
    from: ChangesFrom,
    projection: Vec<usize>,
) -> Arc<dyn ProcessorSupplier> {
    let all = table.schema().fields();
    let visible = all.len() - usize::from(table.record().has_hidden_key);
    let number = |name| Arc::new(Field::new(name, DataType::Int64, false));
    let added = ADDED.map(number);
    let field = |&column: &usize| match column.checked_sub(visible) {
        None => Arc::clone(&all[column]),
        Some(added_column) => Arc::clone(&added[added_column]),
    };
    let fields: Vec<_> = projection.iter().map(field).collect();
    let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
    // What is read holds the hidden key, too.
    let place =
        |column: usize| if column < visible { column } else { column - visible + all.len() };
    let columns: Vec<usize> = projection.iter().map(|column| place(*column)).collect();
    Arc::new(OperatorSupplier {
        description: format!("changes({}: {})", table.record().name.name, names.join(", ")),
        schema: Arc::new(Schema::new(fields)),
        make: move || {
            Ok(Box::new(TableChanges {
                table: Arc::clone(&table),
                from,
                columns: columns.clone(),
                reader: None,
                lanes: VecDeque::new(),
                waiting: VecDeque::new(),
            }) as Box<dyn Processor>)
        },
    })
}

struct TableChanges {
    table: Arc<Table>,
    from: ChangesFrom,
    /// The columns to emit, of those that are read.
    columns: Vec<usize>,
    /// `None` but for instance 0; the others emit nothing.
    reader: Option<ChangeReader>,
    /// The rows at the start that were not read yet.
    lanes: VecDeque<ScanLane>,
    /// Read, not emitted yet.
    waiting: VecDeque<RecordBatch>,
}

impl TableChanges {
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        if let Some(batch) = self.waiting.pop_front() {
            return Ok(Some(batch));
        }
        while let Some(lane) = self.lanes.front_mut() {
            match lane.next().transpose()? {
                Some(rows) => return Ok(Some(came(reader, &rows)?.project(&self.columns)?)),
                None => drop(self.lanes.pop_front()),
            }
        }
        let Some(changes) = reader.poll()? else { return Ok(None) };
        let changes = changes.project(&self.columns)?;
        let starts = (0..changes.num_rows()).step_by(BATCH_ROWS);
        let slice = |start| changes.slice(start, BATCH_ROWS.min(changes.num_rows() - start));
        self.waiting.extend(starts.map(slice));
        Ok(self.waiting.pop_front())
    }
}

impl Processor for TableChanges {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        if context.index == 0 {
            let (reader, view) = self.table.follow()?;
            if self.from == ChangesFrom::Rows {
                self.lanes = self.table.scan(&view, None, 1)?.into();
            }
            self.reader = Some(reader);
        }
        Ok(())
    }

    fn idle(&mut self, outbox: &mut Outbox) -> Result<Done> {
        while outbox.has_room() {
            let Some(batch) = self.next()? else { break };
            if batch.num_rows() == 0 {
                continue;
            }
            let item = Item::Batch(DeltaBatch::insertions(batch));
            if let Some(Item::Batch(refused)) = outbox.offer(item) {
                self.waiting.push_front(refused.rows);
                break;
            }
        }
        Ok(Done::No)
    }

    fn save(&mut self, _: &mut StateWriter) -> Result<Done> {
        Err(Error::Internal("a job reads the changes of a table".to_owned()))
    }
}

/// Rows that are there at the start: each came once.
fn came(reader: &ChangeReader, rows: &RecordBatch) -> Result<RecordBatch> {
    let count = rows.num_rows();
    let mut columns = rows.columns().to_vec();
    for number in [reader.started_at(), 1] {
        columns.push(Arc::new(Int64Array::from_value(number, count)) as ArrayRef);
    }
    Ok(RecordBatch::try_new(reader.schema(), columns)?)
}

#[cfg(test)]
mod tests {
    use storage::{
        Datum, Grid, GridConfig,
        cluster::control::TableRecord,
        env::Env,
        table::{KeyedWrite, WriteMode},
    };

    use super::*;
    use crate::testing::{self, bigint_batch, bigint_schema};

    fn grid() -> Arc<Grid> {
        Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap()
    }

    fn put(table: &Table, key: i64, value: i64) {
        let row = vec![Datum::Int(key), Datum::Int(value)];
        table.write(&KeyedWrite::Put { mode: WriteMode::Upsert, row }).unwrap();
    }

    fn source(grid: &Arc<Grid>, table: &Arc<Table>, index: usize) -> Box<dyn Processor> {
        source_from(ChangesFrom::Rows, grid, table, index)
    }

    fn source_from(
        from: ChangesFrom,
        grid: &Arc<Grid>,
        table: &Arc<Table>,
        index: usize,
    ) -> Box<dyn Processor> {
        let supplier = table_changes(Arc::clone(table), from, vec![1, 3]);
        assert_eq!(supplier.describe(), "changes(t: b, _diff)");
        let mut processor = supplier.create(2).unwrap().remove(index);
        let context = ProcessorContext { index, parallelism: 2, ..testing::context(grid) };
        processor.init(&context).unwrap();
        processor
    }

    fn emitted(processor: &mut dyn Processor, mut outbox: Outbox) -> testing::ZSet {
        let mut batches = Vec::new();
        // A stubborn outbox refuses every other offer and holds one item.
        for _ in 0..50 {
            assert_eq!(processor.idle(&mut outbox).unwrap(), Done::No);
            while let Some(item) = outbox.take() {
                if let Item::Batch(batch) = item {
                    batches.push(batch);
                }
            }
        }
        testing::ZSet::of(&batches)
    }

    fn changes(values: &[i64], diffs: &[i64]) -> testing::ZSet {
        let batch = bigint_batch(&bigint_schema(&["b", "_diff"]), &[values, diffs]);
        testing::ZSet::of(&[DeltaBatch::insertions(batch)])
    }

    #[test]
    fn rows_of_the_start_come_first_and_then_every_change() {
        let grid = grid();
        let record = TableRecord::new("t", bigint_schema(&["a", "b"]), &[0]);
        let table = grid.create_table(record).unwrap();
        (0..3).for_each(|key| put(&table, key, 10 * key));
        let mut processor = source(&grid, &table, 0);
        put(&table, 0, 5);
        let all = emitted(processor.as_mut(), Outbox::stubborn());
        assert_eq!(all, changes(&[0, 10, 20, 0, 5], &[1, 1, 1, -1, 1]));
        table.write(&KeyedWrite::Delete { key: vec![Datum::Int(2)] }).unwrap();
        assert_eq!(emitted(processor.as_mut(), Outbox::new(8)), changes(&[20], &[-1]));
        assert_eq!(emitted(processor.as_mut(), Outbox::new(8)), changes(&[], &[]));
    }

    #[test]
    fn from_now_on_means_without_the_rows_that_are_there() {
        let grid = grid();
        let record = TableRecord::new("t", bigint_schema(&["a", "b"]), &[0]);
        let table = grid.create_table(record).unwrap();
        put(&table, 1, 10);
        let mut processor = source_from(ChangesFrom::Now, &grid, &table, 0);
        put(&table, 1, 11);
        let all = emitted(processor.as_mut(), Outbox::new(8));
        assert_eq!(all, changes(&[10, 11], &[-1, 1]));
    }

    #[test]
    fn only_one_instance_emits() {
        let grid = grid();
        let record = TableRecord::new("t", bigint_schema(&["a", "b"]), &[0]);
        let table = grid.create_table(record).unwrap();
        put(&table, 1, 1);
        let mut second = source(&grid, &table, 1);
        put(&table, 2, 2);
        assert_eq!(emitted(second.as_mut(), Outbox::new(8)), changes(&[], &[]));
    }

    #[test]
    fn it_ends_with_its_table() {
        let grid = grid();
        let record = TableRecord::new("t", bigint_schema(&["a", "b"]), &[0]);
        let table = grid.create_table(record).unwrap();
        let mut processor = source(&grid, &table, 0);
        let name = table.record().name.clone();
        let drop = storage::cluster::control::Command::DropRelation { kind: "table", name };
        grid.control().submit(&drop).unwrap();
        let error = processor.idle(&mut Outbox::new(8)).unwrap_err();
        assert_eq!(error.sqlstate(), "42P01");
    }
}
