//! `Emission`: the rows of one window on their way out, a batch at a time, so that a refusing
//! outbox costs nothing and no call takes long.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray},
    datatypes::DataType,
};

use super::{groups::Groups, keys::WindowKeys, pane::Pane, spec::WindowPlan};
use crate::{Result, processors::accumulators::StateColumn};

/// Rows of a batch; what edges and sinks are tuned for.
const BATCH_ROWS_MAX: usize = 8192;

pub(super) struct Emission {
    pub(super) window: i64,
    /// The window's only pane, if windows have one; else the rows come from the total.
    pub(super) pane: Option<Pane>,
    /// Slots below it are done.
    cursor: usize,
    /// Columns that stand in for an aggregate's state: of its distinct values.
    distinct: Vec<Option<Vec<StateColumn>>>,
    /// `window_start` and `window_end` of a whole batch.
    bounds: [ArrayRef; 2],
}

impl Emission {
    pub(super) fn new(
        plan: &WindowPlan,
        window: i64,
        pane: Option<Pane>,
        total: &Groups,
    ) -> Result<Self> {
        let groups = pane.as_ref().map_or(total, |pane| &pane.groups);
        let distinct = plan
            .aggregates
            .iter()
            .zip(&groups.columns)
            .map(|(aggregate, columns)| aggregate.distinct(columns, groups.len()))
            .collect::<Result<_>>()?;
        let zone = match plan.spec.input.field(plan.spec.time_column).data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let (start, end) = plan.alignment.bounds(window)?;
        let bounds = [start, end].map(|time| {
            let length = groups.len().min(BATCH_ROWS_MAX);
            let times = TimestampMicrosecondArray::from_value(time, length);
            Arc::new(times.with_timezone_opt(zone.clone())) as ArrayRef
        });
        Ok(Self { window, pane, cursor: 0, distinct, bounds })
    }

    /// The next rows; `None` after the last.
    pub(super) fn next_batch(
        &mut self,
        plan: &WindowPlan,
        keys: &WindowKeys,
        total: &Groups,
    ) -> Result<Option<RecordBatch>> {
        let groups = self.pane.as_ref().map_or(total, |pane| &pane.groups);
        let mut slots = Vec::with_capacity(BATCH_ROWS_MAX);
        while slots.len() < BATCH_ROWS_MAX && self.cursor < groups.len() {
            if groups.live[self.cursor] > 0 {
                slots.push(self.cursor as u32);
            }
            self.cursor += 1;
        }
        if slots.is_empty() {
            return Ok(None);
        }
        let mut columns = match &self.pane {
            Some(pane) => {
                let ids: Vec<u32> = slots.iter().map(|&slot| pane.ids[slot as usize]).collect();
                keys.columns_of(&ids)?
            }
            None => keys.columns_of(&slots)?,
        };
        columns.extend(self.bounds.iter().map(|times| times.slice(0, slots.len())));
        let states = groups.columns.iter().zip(&self.distinct);
        for (aggregate, (state, distinct)) in plan.aggregates.iter().zip(states) {
            let state = distinct.as_ref().unwrap_or(state);
            columns.push(aggregate.finish(state, &groups.live, &slots)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        let schema = Arc::clone(&plan.output);
        Ok(Some(RecordBatch::try_new_with_options(schema, columns, &options)?))
    }
}
