//! `Emission`: the rows of one window on their way out, a batch at a time, so that a refusing
//! outbox costs nothing and no call takes long.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray},
    datatypes::DataType,
};

use super::{keys::WindowKeys, pane::Pane, spec::WindowPlan};
use crate::{Result, processors::accumulators::StateColumn};

/// Rows of a batch; what edges and sinks are tuned for.
const BATCH_ROWS_MAX: usize = 8192;
/// Rows × columns of a batch, so that wide rows do not make a call long.
const BATCH_CELLS_MAX: usize = 32_768;
/// Rows of a batch of very wide rows.
const WIDE_BATCH_ROWS: usize = 512;

pub(super) struct Emission {
    pub(super) window: i64,
    /// The window's only pane, if windows have one; else the rows come from the total.
    pub(super) pane: Option<Pane>,
    /// Groups below it were looked at.
    cursor: usize,
    /// The groups of the next batch; empty when all are out.
    slots: Vec<u32>,
    batch_rows: usize,
    /// `window_start` and `window_end` of a whole batch.
    bounds: [ArrayRef; 2],
}

/// The groups of a window, ready to be put out.
pub(super) struct View<'a> {
    /// Σ w by slot.
    pub(super) live: &'a [i64],
    /// By aggregate: what its result is computed from.
    pub(super) results: Vec<&'a [StateColumn]>,
    /// The key id of each slot; without, the slot is the id.
    pub(super) ids: Option<&'a [u32]>,
}

impl Emission {
    /// Of a window whose view is ready; `pane` is its only one, if windows have one.
    pub(super) fn new(
        plan: &WindowPlan,
        window: i64,
        pane: Option<Pane>,
        total: &View<'_>,
    ) -> Result<Self> {
        let zone = match plan.spec.input.field(plan.spec.time_column).data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let width = plan.output.fields().len();
        let batch_rows = (BATCH_CELLS_MAX / width).clamp(WIDE_BATCH_ROWS, BATCH_ROWS_MAX);
        let (start, end) = plan.alignment.bounds(window)?;
        let length = pane.as_ref().map_or(total.live.len(), |pane| pane.ids.len());
        let bounds = [start, end].map(|time| {
            let times = TimestampMicrosecondArray::from_value(time, length.min(batch_rows));
            Arc::new(times.with_timezone_opt(zone.clone())) as ArrayRef
        });
        let mut emission = Self { window, pane, cursor: 0, slots: Vec::new(), batch_rows, bounds };
        emission.look_ahead(total);
        Ok(emission)
    }

    /// Whether all rows are out.
    pub(super) fn is_exhausted(&self) -> bool {
        self.slots.is_empty()
    }

    /// Finds the groups of the next batch.
    fn look_ahead(&mut self, total: &View<'_>) {
        let live = self.pane.as_ref().map_or(total.live, |pane| &pane.groups.live);
        self.slots.resize(self.batch_rows, 0);
        let mut count = 0;
        // Every slot is written, and kept only if it is live: which ones are cannot be foreseen, and
        // a wrongly foreseen branch costs more than the write.
        while count < self.batch_rows && self.cursor < live.len() {
            self.slots[count] = self.cursor as u32;
            count += usize::from(live[self.cursor] > 0);
            self.cursor += 1;
        }
        self.slots.truncate(count);
    }

    /// The next rows; there must be some.
    pub(super) fn next_batch(
        &mut self,
        plan: &WindowPlan,
        keys: &WindowKeys,
        total: &View<'_>,
    ) -> Result<RecordBatch> {
        let pane = self.pane.as_ref().map(Pane::view);
        let view = pane.as_ref().unwrap_or(total);
        let slots = &self.slots;
        let mut columns = match view.ids {
            Some(ids) => {
                let ids: Vec<u32> = slots.iter().map(|&slot| ids[slot as usize]).collect();
                keys.columns_of(&ids)?
            }
            None => keys.columns_of(slots)?,
        };
        columns.extend(self.bounds.iter().map(|times| times.slice(0, slots.len())));
        for (aggregate, results) in plan.aggregates.iter().zip(&view.results) {
            columns.push(aggregate.finish(results, view.live, slots)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&plan.output), columns, &options)?;
        self.look_ahead(total);
        Ok(rows)
    }
}
