//! `table_scan`: a bounded source of a table's committed rows as of the start of the execution.
//! One read view for all rows; what has not left at a barrier becomes state as it was captured,
//! because a later scan would see other rows.

use std::{collections::VecDeque, sync::Arc};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    datatypes::{DataType, Field, Schema},
};
use storage::{
    partition::PartitionId,
    table::{ReadMode, ScanLane},
};

use super::operator::{OperatorSupplier, Stateful, columns_text};
use crate::{
    Result,
    delta::DeltaBatch,
    item::Item,
    processor::{Done, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    state::{StateChunk, StateWriter},
};

/// Tag of the chunk that says a scan was begun.
const TAG_BEGUN: u8 = 0;
/// Tag of the chunks that hold rows still to be emitted.
const TAG_ROWS: u8 = 1;

/// A bounded source: the table's committed rows when the execution starts. One instance.
pub fn table_scan(
    table: Arc<storage::Table>,
    projection: Vec<usize>,
) -> Arc<dyn ProcessorSupplier> {
    let fields: Vec<_> =
        projection.iter().map(|&column| Arc::clone(&table.schema().fields()[column])).collect();
    let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
    let name = &table.record().name.name;
    let state = format!("rows {} of table \"{name}\" still to come", columns_text(&fields));
    let supplier = OperatorSupplier {
        description: format!("scan({name}: {})", names.join(", ")),
        schema: Arc::new(Schema::new(fields)),
        make: move || {
            Ok(Box::new(TableScan {
                table: Arc::clone(&table),
                projection: projection.clone(),
                lanes: VecDeque::new(),
                waiting: VecDeque::new(),
                context: None,
                is_emitter: false,
            }) as Box<dyn Processor>)
        },
    };
    Arc::new(Stateful { supplier, state })
}

struct TableScan {
    table: Arc<storage::Table>,
    projection: Vec<usize>,
    /// Captured, not read yet.
    lanes: VecDeque<ScanLane>,
    /// Read, not emitted yet: a refused batch, or all that was restored.
    waiting: VecDeque<RecordBatch>,
    /// Present until the scan is begun, here or in the execution that was restored.
    context: Option<ProcessorContext>,
    /// Whether this is instance 0; the others emit nothing.
    is_emitter: bool,
}

impl TableScan {
    /// Takes the read view, unless it was taken already.
    fn begin(&mut self) -> Result<()> {
        if let Some(context) = self.context.take() {
            let view = context.grid.read_view().in_mode(ReadMode::Durable);
            self.lanes = self.table.scan(&view, Some(&self.projection), 1)?.into();
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(batch) = self.waiting.pop_front() {
            return Ok(Some(batch));
        }
        while let Some(lane) = self.lanes.front_mut() {
            match lane.next().transpose()? {
                Some(batch) => return Ok(Some(batch)),
                None => drop(self.lanes.pop_front()),
            }
        }
        Ok(None)
    }
}

impl Processor for TableScan {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        self.is_emitter = context.index == 0;
        self.context = self.is_emitter.then(|| context.clone());
        Ok(())
    }

    fn idle(&mut self, outbox: &mut Outbox) -> Result<Done> {
        self.begin()?;
        while outbox.has_room() {
            let Some(batch) = self.next()? else { return Ok(Done::Yes) };
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

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        if !self.is_emitter {
            return Ok(Done::Yes);
        }
        self.begin()?;
        let mut rest = VecDeque::new();
        while let Some(batch) = self.next()? {
            rest.push_back(batch);
        }
        self.waiting = rest;
        let schema = Schema::new(vec![Field::new("begun", DataType::Boolean, false)]);
        let begun = Arc::new(BooleanArray::from(vec![true]));
        let rows = RecordBatch::try_new(Arc::new(schema), vec![begun])?;
        state.put(StateChunk { partition: PartitionId(0), tag: TAG_BEGUN, rows });
        for rows in &self.waiting {
            let rows = rows.clone();
            state.put(StateChunk { partition: PartitionId(0), tag: TAG_ROWS, rows });
        }
        Ok(Done::Yes)
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        match chunk.tag {
            TAG_BEGUN if chunk.rows.column(0).as_boolean().value(0) => self.context = None,
            TAG_ROWS if self.is_emitter => self.waiting.push_back(chunk.rows.clone()),
            _ => {}
        }
        Ok(())
    }
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
    use crate::{
        processor::ProcessorContext,
        testing::{self, bigint_batch, bigint_schema, verify_processor},
    };

    fn grid() -> Arc<Grid> {
        Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap()
    }

    /// Table `t (a, b)` with key a and the rows (n, 10 n).
    fn table(grid: &Arc<Grid>, rows: std::ops::Range<i64>) -> Arc<storage::Table> {
        let table =
            grid.create_table(TableRecord::new("t", bigint_schema(&["a", "b"]), &[0])).unwrap();
        rows.for_each(|n| put(&table, n));
        table
    }

    fn put(table: &storage::Table, n: i64) {
        let row = vec![Datum::Int(n), Datum::Int(10 * n)];
        table.write(&KeyedWrite::Put { mode: WriteMode::Upsert, row }).unwrap();
    }

    /// The rows (10 n, n).
    fn turned(rows: std::ops::Range<i64>) -> DeltaBatch {
        let (a, b): (Vec<i64>, Vec<i64>) = rows.map(|n| (n, 10 * n)).unzip();
        DeltaBatch::insertions(bigint_batch(&bigint_schema(&["b", "a"]), &[&b, &a]))
    }

    #[test]
    fn every_row_comes_once_in_every_way_of_being_called() {
        let grid = grid();
        let table = table(&grid, 0..1000);
        let supplier = table_scan(table, vec![1, 0]);
        assert_eq!(supplier.describe(), "scan(t: b, a)");
        verify_processor(supplier).grid(grid).expect(vec![turned(0..1000)]).run();
    }

    #[test]
    fn an_empty_table_is_at_its_end_at_once() {
        let grid = grid();
        let table = table(&grid, 0..0);
        verify_processor(table_scan(table, vec![0])).grid(grid).expect(vec![]).run();
    }

    #[test]
    fn a_scan_that_was_begun_sees_no_later_row_not_even_after_a_restore() {
        let grid = grid();
        let table = table(&grid, 0..100);
        let make = || {
            let supplier = table_scan(Arc::clone(&table), vec![1, 0]);
            let mut processor = supplier.create(1).unwrap().remove(0);
            processor.init(&testing::context(&grid)).unwrap();
            processor
        };
        let mut first = make();
        let mut state = StateWriter::default();
        assert_eq!(first.save(&mut state).unwrap(), Done::Yes);
        drop(first);
        put(&table, 1000);
        let mut second = make();
        state.chunks.iter().for_each(|chunk| second.restore(chunk).unwrap());
        let mut outbox = Outbox::new(1000);
        while second.idle(&mut outbox).unwrap() == Done::No {}
        let items = std::iter::from_fn(|| outbox.take());
        let batches: Vec<DeltaBatch> = items
            .filter_map(|item| match item {
                Item::Batch(batch) => Some(batch),
                _ => None,
            })
            .collect();
        let wanted = testing::ZSet::of(&[turned(0..100)]);
        assert_eq!(testing::ZSet::of(&batches), wanted);
    }

    #[test]
    fn only_one_instance_emits() {
        let grid = grid();
        let table = table(&grid, 0..10);
        let mut second = table_scan(table, vec![0]).create(2).unwrap().remove(1);
        let context = ProcessorContext { index: 1, parallelism: 2, ..testing::context(&grid) };
        second.init(&context).unwrap();
        let mut outbox = Outbox::new(8);
        assert_eq!(second.idle(&mut outbox).unwrap(), Done::Yes);
        assert!(outbox.take().is_none());
        let mut state = StateWriter::default();
        assert_eq!(second.save(&mut state).unwrap(), Done::Yes);
        assert!(state.chunks.is_empty());
    }
}
