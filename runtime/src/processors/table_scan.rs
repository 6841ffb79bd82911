//! `table_scan`: a bounded source of a table's committed rows as of the start of the execution.
//! One read view for all rows; what has not left at a barrier becomes state as it was captured,
//! because a later scan would see other rows.

use std::{collections::VecDeque, sync::Arc};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    datatypes::{DataType, Field, Schema},
};
use storage::{partition::PartitionId, table::ScanLane};

use super::operator::OperatorSupplier;
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
    Arc::new(OperatorSupplier {
        description: format!("scan({}: {})", table.record().name.name, names.join(", ")),
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
    })
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
            let view = context.grid.read_view();
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
