//! `SlidingWindow`: the processor: takes rows into panes, and at the watermark closes windows.

use std::{collections::BTreeMap, ops::Range};

use arrow::array::ArrayRef;
use storage::metrics::Metric;

use super::{
    emission::Emission,
    groups::{Columns, Groups, Inputs},
    keys::WindowKeys,
    pane::{Pane, SlotMaps},
    spec::WindowPlan,
    split::{Run, Split, taken},
};
use crate::{
    Error, Result,
    delta::DeltaBatch,
    item::{IDLE, Item, Watermark},
    processor::{Done, Inbox, Outbox, Processor, ProcessorContext},
    state::{StateChunk, StateWriter},
};

/// Rows taken in one call; a call should stay below a millisecond.
const ROWS_PER_CALL_MAX: usize = 32_768;

pub(super) struct SlidingWindow {
    pub(super) plan: WindowPlan,
    pub(super) keys: WindowKeys,
    /// Panes that hold rows, by number.
    pub(super) panes: BTreeMap<i64, Pane>,
    pub(super) maps: SlotMaps,
    total: Total,
    /// Windows before it are closed; `None` until the first is.
    pub(super) first_open: Option<i64>,
    emission: Option<Emission>,
    /// A batch the outbox refused.
    refused: Option<Item>,
    /// Key ids of the batch at hand, and their slots in the pane at hand; kept for their memory.
    ids: Vec<u32>,
    pub(super) slots: Vec<u32>,
    pub(super) context: Option<ProcessorContext>,
    metrics: Metrics,
}

/// The sum of the panes of one window, by key id; not used when windows have one pane.
struct Total {
    groups: Groups,
    /// Panes in it.
    merged: Range<i64>,
}

#[derive(Default)]
struct Metrics {
    late_rows: Metric,
    skipped_rows: Metric,
    /// Shared by the instances of the vertex: each adds what changed.
    state_bytes: Metric,
    state_bytes_told: i64,
}

impl SlidingWindow {
    pub(super) fn new(plan: WindowPlan) -> Result<Self> {
        Ok(Self {
            keys: WindowKeys::new(&plan.key_types(), 0)?,
            total: Total { groups: Groups::new(&plan.aggregates)?, merged: 0..0 },
            plan,
            panes: BTreeMap::new(),
            maps: SlotMaps::default(),
            first_open: None,
            emission: None,
            refused: None,
            ids: Vec::new(),
            slots: Vec::new(),
            context: None,
            metrics: Metrics::default(),
        })
    }

    fn absorb(&mut self, batch: &DeltaBatch) -> Result<()> {
        let spec = &self.plan.spec;
        let split = Split::new(batch, spec.time_column, &self.plan.alignment)?;
        self.metrics.skipped_rows.add(split.null_count as i64);
        let Some((batch, runs)) = self.without_late(split)? else { return Ok(()) };
        let keys: Vec<_> = self
            .plan
            .spec
            .keys
            .iter()
            .map(|&key| ArrayRef::clone(batch.rows.column(key)))
            .collect();
        let mut ids = std::mem::take(&mut self.ids);
        self.keys.ids_of(&keys, batch.len(), &mut ids)?;
        let inputs = Inputs::new(&self.plan.aggregates, &batch)?;
        for Run { pane: number, rows } in runs {
            let ids = &ids[rows.clone()];
            self.slots_in_pane(number, ids)?;
            let pane = self.panes.get_mut(&number).expect("its slots were just made");
            pane.groups.update(&self.plan.aggregates, &inputs, rows.start, &self.slots)?;
            if self.total.merged.contains(&number) {
                self.total.groups.resize(self.keys.len());
                self.total.groups.update(&self.plan.aggregates, &inputs, rows.start, ids)?;
            }
        }
        self.ids = ids;
        Ok(())
    }

    /// Finds the slots of `ids` in a pane, which is made if it is not there, into `self.slots`.
    pub(super) fn slots_in_pane(&mut self, number: i64, ids: &[u32]) -> Result<()> {
        if !self.panes.contains_key(&number) {
            self.panes.insert(number, Pane::new(&self.plan.aggregates)?);
        }
        let panes = &self.panes;
        let map = self.maps.open(number, |number| panes[&number].ids.as_slice());
        let pane = self.panes.get_mut(&number).expect("it was just looked up");
        pane.slots_of(map, ids, &mut self.keys, &mut self.slots);
        Ok(())
    }

    /// The rows that are in an open window; late ones are counted. `None`: there are none.
    fn without_late(&self, split: Split) -> Result<Option<(DeltaBatch, Vec<Run>)>> {
        let Split { batch, mut runs, .. } = split;
        let alignment = &self.plan.alignment;
        let first_open = self.first_open.unwrap_or(i64::MIN);
        let (mut late_count, run_count) = (0, runs.len());
        runs.retain(|run| {
            let is_in_window = alignment.first_window(run.pane) <= alignment.last_window(run.pane);
            let is_late = is_in_window && alignment.last_window(run.pane) < first_open;
            late_count += if is_late { run.rows.len() } else { 0 };
            is_in_window && !is_late
        });
        self.metrics.late_rows.add(late_count as i64);
        if runs.is_empty() {
            return Ok(None);
        }
        if runs.len() == run_count {
            return Ok(Some((batch, runs)));
        }
        let positions = runs.iter().flat_map(|run| run.rows.clone()).map(|row| row as u32);
        let batch = taken(&batch, positions.collect())?;
        let mut start = 0;
        for run in &mut runs {
            let length = run.rows.len();
            run.rows = start..start + length;
            start += length;
        }
        Ok(Some((batch, runs)))
    }

    /// Emits the windows before `bound`, in order.
    fn close_until(&mut self, bound: i64, outbox: &mut Outbox) -> Result<Done> {
        loop {
            if self.emit(outbox)? == Done::No {
                return Ok(Done::No);
            }
            match self.next_due().filter(|&window| window < bound) {
                Some(window) => self.begin(window)?,
                None => break,
            }
        }
        self.first_open = Some(self.first_open.map_or(bound, |first_open| first_open.max(bound)));
        Ok(Done::Yes)
    }

    /// The first window that holds rows and was not emitted.
    fn next_due(&self) -> Option<i64> {
        let (&first_pane, _) = self.panes.first_key_value()?;
        let window = self.plan.alignment.first_window(first_pane);
        Some(self.first_open.map_or(window, |first_open| first_open.max(window)))
    }

    /// Makes the rows of a window ready.
    fn begin(&mut self, window: i64) -> Result<()> {
        let pane = if self.plan.alignment.is_single_pane() {
            let number = self.plan.alignment.first_pane(window);
            let pane = self.panes.remove(&number);
            if let Some(pane) = &pane {
                self.maps.close(number, &pane.ids);
            }
            Some(pane.ok_or_else(|| Error::Internal("a due window has no pane".to_owned()))?)
        } else {
            self.add_up(window)?;
            None
        };
        self.emission = Some(Emission::new(&self.plan, window, pane, &self.total.groups)?);
        Ok(())
    }

    /// Makes the total that of `window`. Panes that left were taken away when the window before was
    /// done with.
    fn add_up(&mut self, window: i64) -> Result<()> {
        let Total { groups, merged } = &mut self.total;
        let first = self.plan.alignment.first_pane(window);
        let end = first.saturating_add(self.plan.alignment.size);
        groups.resize(self.keys.len());
        let first_missing = if merged.is_empty() { first } else { merged.end };
        for (&number, pane) in self.panes.range(first_missing..end) {
            groups.merge(&pane.groups, &pane.ids, Columns::Invertible)?;
            self.maps.close(number, &pane.ids);
        }
        if groups.clear_recomputed() {
            for pane in self.panes.range(first..end).map(|(_, pane)| pane) {
                groups.merge(&pane.groups, &pane.ids, Columns::Recomputed)?;
            }
        }
        *merged = first..end;
        Ok(())
    }

    /// Emits what is ready; `No` if the outbox is full.
    fn emit(&mut self, outbox: &mut Outbox) -> Result<Done> {
        if let Some(item) = self.refused.take() {
            self.refused = outbox.offer(item);
        }
        while self.refused.is_none() && outbox.has_room() {
            let Some(emission) = &mut self.emission else { return Ok(Done::Yes) };
            let Some(rows) = emission.next_batch(&self.plan, &self.keys, &self.total.groups)?
            else {
                self.end_emission()?;
                return Ok(Done::Yes);
            };
            self.refused = outbox.offer(Item::Batch(DeltaBatch::insertions(rows)));
        }
        let is_done = self.refused.is_none() && self.emission.is_none();
        Ok(if is_done { Done::Yes } else { Done::No })
    }

    /// A window is out: drops the panes no later window needs.
    fn end_emission(&mut self) -> Result<()> {
        let Some(emission) = self.emission.take() else { return Ok(()) };
        if let Some(pane) = &emission.pane {
            self.keys.leave(&pane.ids);
        }
        self.first_open = Some(emission.window + 1);
        let first_needed = self.plan.alignment.first_pane(emission.window + 1);
        while let Some(entry) = self.panes.first_entry().filter(|pane| *pane.key() < first_needed) {
            let (number, pane) = entry.remove_entry();
            if self.total.merged.contains(&number) {
                self.total.groups.subtract(&pane.groups, &pane.ids)?;
            }
            self.maps.close(number, &pane.ids);
            self.keys.leave(&pane.ids);
        }
        self.total.merged.start = first_needed.min(self.total.merged.end);
        self.forget_keys()?;
        self.tell_bytes();
        Ok(())
    }

    /// Renumbers everything if many keys are not used any more.
    fn forget_keys(&mut self) -> Result<()> {
        let Some(new_ids) = self.keys.forget_unused() else { return Ok(()) };
        self.maps.forget_all();
        for pane in self.panes.values_mut() {
            pane.ids.iter_mut().for_each(|id| *id = new_ids[*id as usize]);
        }
        self.total.groups.resize(new_ids.len());
        self.total.groups.remap(&new_ids, self.keys.len())
    }

    /// Memory held, in bytes.
    fn bytes(&self) -> usize {
        let panes: usize = self.panes.values().map(Pane::bytes).sum();
        panes + self.keys.bytes() + self.maps.bytes() + self.total.groups.bytes()
    }

    fn tell_bytes(&mut self) {
        let bytes = self.bytes() as i64;
        self.metrics.state_bytes.add(bytes - self.metrics.state_bytes_told);
        self.metrics.state_bytes_told = bytes;
    }

    /// The first window after all that hold rows.
    fn end_of_rows(&self) -> i64 {
        let last = self.panes.last_key_value();
        let end = last.map(|(&pane, _)| self.plan.alignment.last_window(pane) + 1);
        end.or(self.first_open).unwrap_or(i64::MIN)
    }
}

impl Processor for SlidingWindow {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        let seed = context.grid.env().rng.next_u64();
        self.keys = WindowKeys::new(&self.plan.key_types(), seed)?;
        let metric = |name: &str| {
            let labels = [("job", &*context.job_name), ("vertex", &*context.vertex)];
            context.grid.metrics().register(name, &labels)
        };
        self.metrics = Metrics {
            late_rows: metric("tidewater_late_rows_total"),
            skipped_rows: metric("tidewater_skipped_rows_total"),
            state_bytes: metric("tidewater_state_bytes"),
            state_bytes_told: 0,
        };
        self.context = Some(context.clone());
        Ok(())
    }

    fn process(&mut self, _: usize, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<()> {
        if self.emit(outbox)? == Done::No {
            return Ok(());
        }
        let mut row_count = 0;
        while row_count < ROWS_PER_CALL_MAX
            && let Some(batch) = inbox.take()
        {
            row_count += batch.len();
            self.absorb(&batch)?;
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: Watermark, outbox: &mut Outbox) -> Result<Done> {
        let bound = match watermark.time {
            IDLE => self.end_of_rows(),
            time => self.plan.alignment.first_open_window(time),
        };
        if self.close_until(bound, outbox)? == Done::No {
            return Ok(Done::No);
        }
        Ok(outbox.offer_or_retry(Item::Watermark(watermark)))
    }

    fn epoch(&mut self, _: u64, outbox: &mut Outbox) -> Result<Done> {
        self.emit(outbox)
    }

    fn complete(&mut self, ordinal: usize, outbox: &mut Outbox) -> Result<Done> {
        if ordinal != usize::MAX {
            return Ok(Done::Yes);
        }
        self.close_until(self.end_of_rows(), outbox)
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        self.save_chunks(state)?;
        Ok(Done::Yes)
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        self.restore_chunk(chunk)
    }
}

impl Drop for SlidingWindow {
    fn drop(&mut self) {
        self.metrics.state_bytes.add(-self.metrics.state_bytes_told);
    }
}
