//! `SlidingWindow`: the processor: takes rows into panes, and at the watermark closes windows.

use arrow::array::ArrayRef;
use storage::metrics::Metric;

use super::{
    budget::{Budget, units_of_call},
    emission::Emission,
    groups::Inputs,
    keys::WindowKeys,
    pane::Pane,
    panes::Panes,
    spec::WindowPlan,
    split::{Run, Split, taken},
    total::{Field, Total},
};
use crate::{
    Error, Result,
    delta::DeltaBatch,
    item::{IDLE, Item, Watermark},
    processor::{Done, Inbox, Outbox, Processor, ProcessorContext},
    processors::accumulators::Aggregate,
    state::{StateChunk, StateWriter},
};

/// Rows after which a call ends: one or two milliseconds where each row misses the caches.
const ROWS_PER_CALL_MAX: usize = 8_192;

pub(super) struct SlidingWindow {
    pub(super) plan: WindowPlan,
    pub(super) keys: WindowKeys,
    pub(super) panes: Panes,
    /// Not used when windows have one pane.
    total: Total,
    /// Windows before it are closed; `None` until the first is.
    pub(super) first_open: Option<i64>,
    closing: Closing,
    pub(super) units_of_call: usize,
    /// A batch the outbox refused.
    refused: Option<Item>,
    /// Key ids of the batch at hand, and their slots in the pane at hand; kept for their memory.
    ids: Vec<u32>,
    pub(super) slots: Vec<u32>,
    pub(super) context: Option<ProcessorContext>,
    metrics: Metrics,
}

/// How far the window that is being closed is. Rows are taken in only when none is.
enum Closing {
    Nothing,
    /// Its results are being made; with its only pane, if windows have one.
    Preparing(i64, Option<Pane>),
    /// Its rows go out.
    Emitting(Emission),
    /// Panes that no later window needs are taken away.
    Retiring,
}

#[derive(Default)]
struct Metrics {
    late_rows: Metric,
    skipped_rows: Metric,
}

impl SlidingWindow {
    pub(super) fn new(plan: WindowPlan) -> Result<Self> {
        Ok(Self {
            keys: WindowKeys::new(&plan.key_types(), 0)?,
            total: Total::new(&plan.aggregates, plan.alignment.size)?,
            units_of_call: units_of_call(plan.output.fields().len()),
            plan,
            panes: Panes::default(),
            first_open: None,
            closing: Closing::Nothing,
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
        let aggregates = &self.plan.aggregates;
        let keys = self.plan.spec.keys.iter();
        let keys: Vec<_> = keys.map(|&key| ArrayRef::clone(batch.rows.column(key))).collect();
        let mut ids = std::mem::take(&mut self.ids);
        self.keys.ids_of(&keys, batch.len(), &mut ids)?;
        let inputs = Inputs::new(aggregates, &batch)?;
        for Run { pane: number, rows } in runs {
            let (start, ids) = (rows.start, &ids[rows]);
            let slots = &mut self.slots;
            self.panes.slots_in(number, ids, aggregates, &mut self.keys, slots)?;
            let rows = inputs.rows(start, slots);
            self.panes.change(number, |pane| pane.update(aggregates, rows))?;
            self.total.take(number, rows.into_slots(ids), self.keys.len(), aggregates)?;
        }
        self.ids = ids;
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

    /// Emits the windows before `bound`, in order. The last one is left to be retired.
    fn close_until(&mut self, bound: i64, outbox: &mut Outbox) -> Result<Done> {
        let mut budget = self.budget();
        while self.put_out(outbox, &mut budget)? == Done::Yes {
            let Some(window) = self.next_due().filter(|&window| window < bound) else {
                let first_open = self.first_open.map_or(bound, |first| first.max(bound));
                self.first_open = Some(first_open);
                return Ok(Done::Yes);
            };
            if self.retire(&mut budget)? == Done::No {
                return Ok(Done::No);
            }
            if self.settle(window, &mut budget)? == Done::No {
                return Ok(self.later());
            }
            self.begin(window)?;
        }
        Ok(Done::No)
    }

    /// The first window that holds rows and was not emitted.
    fn next_due(&self) -> Option<i64> {
        let alignment = &self.plan.alignment;
        let first_needed = self.first_open.map_or(i64::MIN, |first| alignment.first_pane(first));
        let window = alignment.first_window(self.panes.first_from(first_needed)?);
        Some(self.first_open.map_or(window, |first_open| first_open.max(window)))
    }

    fn budget(&self) -> Budget {
        Budget::new(self.units_of_call)
    }

    /// Writes what a save has left of a window's only pane, which goes when it is closed.
    fn settle(&mut self, window: i64, budget: &mut Budget) -> Result<Done> {
        let alignment = &self.plan.alignment;
        match alignment.is_single_pane() {
            true => self.panes.settle(alignment.first_pane(window), &self.keys, budget),
            false => Ok(Done::Yes),
        }
    }

    /// Begins to close a window.
    fn begin(&mut self, window: i64) -> Result<()> {
        let alignment = &self.plan.alignment;
        let first = alignment.first_pane(window);
        let mut only_pane = None;
        if alignment.is_single_pane() {
            let pane = self.panes.remove(first);
            let missing = || Error::Internal("a due window has no pane".to_owned());
            only_pane = Some(pane.ok_or_else(missing)?);
        } else {
            let panes = first..first.saturating_add(alignment.size);
            self.with_total(|total, field| total.begin(panes, field));
        }
        self.closing = Closing::Preparing(window, only_pane);
        Ok(())
    }

    fn with_total<T>(&mut self, f: impl FnOnce(&mut Total, &mut Field<'_>) -> T) -> T {
        let Self { total, plan, panes, keys, .. } = self;
        f(total, &mut Field { aggregates: &plan.aggregates, panes, keys })
    }

    /// Goes on with the window that is being closed; `Yes` when there is none.
    fn go_on(&mut self, outbox: &mut Outbox) -> Result<Done> {
        let mut budget = self.budget();
        match self.put_out(outbox, &mut budget)? {
            Done::Yes => self.retire(&mut budget),
            Done::No => Ok(Done::No),
        }
    }

    /// Makes and emits the rows of the window that is being closed; `Yes` when no row is left. `No`
    /// after each batch, when the outbox is full, and when the budget of the call is spent.
    fn put_out(&mut self, outbox: &mut Outbox, budget: &mut Budget) -> Result<Done> {
        if let Closing::Preparing(..) = self.closing {
            self.prepare(budget)?;
        }
        match std::mem::replace(&mut self.closing, Closing::Nothing) {
            Closing::Emitting(mut emission) => {
                if !self.emit(&mut emission, outbox)? {
                    self.closing = Closing::Emitting(emission);
                    return Ok(Done::No);
                }
                self.end_emission(&emission);
                self.closing = Closing::Retiring;
                Ok(Done::Yes)
            }
            preparing @ Closing::Preparing(..) => {
                self.closing = preparing;
                Ok(self.later())
            }
            done => {
                self.closing = done;
                Ok(Done::Yes)
            }
        }
    }

    /// Goes on with making the results of the window; then it can be emitted.
    fn prepare(&mut self, budget: &mut Budget) -> Result<()> {
        let Self { total, plan, panes, keys, closing, .. } = self;
        let Closing::Preparing(window, only_pane) = closing else { return Ok(()) };
        let aggregates = &plan.aggregates;
        let done = match only_pane {
            Some(pane) => pane.derive(aggregates, Aggregate::is_multiset, budget)?,
            None => total.work(&mut Field { aggregates, panes, keys }, budget)?,
        };
        if done == Done::Yes {
            let emission = Emission::new(plan, *window, only_pane.take(), &total.view())?;
            *closing = Closing::Emitting(emission);
        }
        Ok(())
    }

    /// Takes away the panes that no later window needs; `Yes` when they are gone.
    fn retire(&mut self, budget: &mut Budget) -> Result<Done> {
        if !matches!(self.closing, Closing::Retiring) {
            return Ok(Done::Yes);
        }
        if self.with_total(|total, field| total.work(field, budget))? == Done::No {
            return Ok(self.later());
        }
        self.closing = Closing::Nothing;
        self.forget_keys()?;
        self.tell_bytes();
        Ok(Done::Yes)
    }

    /// Has the processor called again soon.
    fn later(&self) -> Done {
        if let Some(context) = &self.context {
            (context.wake)();
        }
        Done::No
    }

    /// Emits one batch at most; whether all are out.
    fn emit(&mut self, emission: &mut Emission, outbox: &mut Outbox) -> Result<bool> {
        if let Some(item) = self.refused.take() {
            self.refused = outbox.offer(item);
        } else if !emission.is_exhausted() && outbox.has_room() {
            let rows = emission.next_batch(&self.plan, &self.keys, &self.total.view())?;
            self.refused = outbox.offer(Item::Batch(DeltaBatch::insertions(rows)));
        }
        Ok(self.refused.is_none() && emission.is_exhausted())
    }

    /// A window is out.
    fn end_emission(&mut self, emission: &Emission) {
        if let Some(pane) = &emission.pane {
            self.keys.leave(&pane.ids);
        }
        let next = emission.window + 1;
        self.first_open = Some(next);
        let first_needed = self.plan.alignment.first_pane(next);
        self.with_total(|total, field| total.retire(first_needed, field));
    }

    /// Renumbers everything if many keys are not used any more.
    fn forget_keys(&mut self) -> Result<()> {
        let Some(new_ids) = self.keys.forget_unused() else { return Ok(()) };
        self.panes.remap(&new_ids);
        self.total.remap(&new_ids, self.keys.len())
    }

    /// Memory held, in bytes.
    fn bytes(&self) -> usize {
        let closing = match &self.closing {
            Closing::Preparing(_, Some(pane)) => pane.bytes(),
            Closing::Emitting(emission) => emission.pane.as_ref().map_or(0, Pane::bytes),
            _ => 0,
        };
        self.panes.bytes() + self.keys.bytes() + self.total.bytes() + closing
    }

    fn tell_bytes(&self) {
        if let Some(context) = &self.context {
            context.memory.hold(self.bytes());
        }
    }

    /// The first window after all that hold rows.
    fn end_of_rows(&self) -> i64 {
        let end = self.panes.last().map(|pane| self.plan.alignment.last_window(pane) + 1);
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
        };
        self.context = Some(context.clone());
        Ok(())
    }

    fn process(&mut self, _: usize, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<()> {
        if self.go_on(outbox)? == Done::No {
            return Ok(());
        }
        let mut row_count = 0;
        while row_count < ROWS_PER_CALL_MAX
            && let Some(batch) = inbox.take()
        {
            row_count += batch.len();
            self.absorb(&batch)?;
        }
        self.tell_bytes();
        Ok(())
    }

    fn idle(&mut self, outbox: &mut Outbox) -> Result<Done> {
        let _done = self.go_on(outbox)?;
        Ok(Done::No)
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
        self.go_on(outbox)
    }

    fn complete(&mut self, ordinal: usize, outbox: &mut Outbox) -> Result<Done> {
        if ordinal != usize::MAX {
            return Ok(Done::Yes);
        }
        if self.close_until(self.end_of_rows(), outbox)? == Done::No {
            return Ok(Done::No);
        }
        self.go_on(outbox)
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        self.save_state(state)?;
        self.tell_bytes();
        Ok(Done::Yes)
    }

    fn save_rest(&mut self, state: &mut StateWriter) -> Result<Done> {
        let done = self.save_slice(state)?;
        self.tell_bytes();
        Ok(done)
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        self.restore_chunk(chunk)?;
        self.tell_bytes();
        Ok(())
    }
}
