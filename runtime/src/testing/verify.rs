//! `verify_processor`: runs a processor through every way a tasklet may call it and compares what
//! comes out as a Z-set. A processor without it does not land (STYLE rule 51).
//!
//! ```text
//!   one item at a time ─┐             ┌─ outbox with room ─┐
//!   all at once        ─┼─ crossed ───┤                    ├─ same Z-set of rows, no row behind
//!   save + restore     ─┘  with       └─ stubborn outbox ──┘  an emitted watermark, no stall
//!   after every item
//! ```
//!
//! ```ignore
//! verify_processor(filter(predicate, schema))
//!     .rows(0, DeltaBatch::insertions(batch))
//!     .watermark(1_000)
//!     .expect(vec![DeltaBatch::insertions(kept)])
//!     .linear()
//!     .run();
//! ```

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{Int64Array, RecordBatch},
    compute::{concat, concat_batches},
};
use storage::{
    Grid, GridConfig,
    env::{Clock, Env, SimClock, SystemClock},
};

use super::zset::{ZSet, row_texts};
use crate::{
    Error, Result,
    delta::{DeltaBatch, Weight},
    execution::StateMemory,
    item::{IDLE, Item, Watermark},
    job::Guarantee,
    processor::{Cooperation, Done, Inbox, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    state::{EVERY_INSTANCE, StateChunk, StateWriter},
    time::EventTime,
};

/// A call that takes longer blocks its worker. Generous, because test machines are busy.
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// Calls in a row that may neither take nor emit; a stubborn outbox needs two.
const STALLED_CALLS_MAX: usize = 20;
/// Outbox of the runs that do not want to be difficult.
const OUTBOX_CAPACITY: usize = 64;

/// A context for instance 0 of 1 over `grid`, with wakers that do nothing.
pub fn context(grid: &Arc<Grid>) -> ProcessorContext {
    ProcessorContext {
        writers: None,
        grid: Arc::clone(grid),
        job_id: 1,
        job_name: "test".into(),
        vertex: "test".into(),
        index: 0,
        parallelism: 1,
        guarantee: Guarantee::None,
        forsaken: 0,
        trouble: Arc::new(|_| ()),
        wake: Arc::new(|| ()),
        wake_at: Arc::new(|_| ()),
        memory: StateMemory::unlimited(grid, "test", "test"),
    }
}

/// Starts the description of a run; end it with [`Verification::run`].
pub fn verify_processor(supplier: Arc<dyn ProcessorSupplier>) -> Verification {
    let (env, clock) = Env::simulated(1);
    let grid = Grid::open(GridConfig::default(), env).expect("an empty grid opens");
    Verification {
        supplier,
        grid,
        clock,
        steps: Vec::new(),
        expected: None,
        expected_watermarks: None,
        is_ordered: false,
        is_linear: false,
        time_column: None,
        call_limit: CALL_LIMIT,
        after_each: Box::new(|_| ()),
    }
}

/// What to feed and what to expect.
pub struct Verification {
    supplier: Arc<dyn ProcessorSupplier>,
    grid: Arc<Grid>,
    clock: Arc<SimClock>,
    steps: Vec<Step>,
    expected: Option<Vec<DeltaBatch>>,
    expected_watermarks: Option<Vec<EventTime>>,
    is_ordered: bool,
    is_linear: bool,
    time_column: Option<usize>,
    call_limit: Duration,
    after_each: Box<dyn Fn(&str)>,
}

#[derive(Debug, Clone)]
enum Step {
    Rows(usize, DeltaBatch),
    Watermark(Watermark),
    Advance(i64),
    End(usize),
}

/// One way of calling.
#[derive(Debug, Clone, Copy)]
struct Mode {
    name: &'static str,
    is_all_at_once: bool,
    is_restored: bool,
    is_stubborn: bool,
}

const fn mode(name: &'static str, flags: [bool; 3]) -> Mode {
    let [is_all_at_once, is_restored, is_stubborn] = flags;
    Mode { name, is_all_at_once, is_restored, is_stubborn }
}

const MODES: [Mode; 6] = [
    mode("one item at a time", [false, false, false]),
    mode("all at once", [true, false, false]),
    mode("one item at a time, stubborn outbox", [false, false, true]),
    mode("all at once, stubborn outbox", [true, false, true]),
    mode("saved and restored after every item", [false, true, false]),
    mode("saved and restored after every item, stubborn outbox", [false, true, true]),
];

/// How the weights of the input are changed, for linear operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weighting {
    AsGiven,
    /// Every weight times −1.
    Negated,
    /// Every row twice in one batch, with 2·w and −w: the sum is the input.
    Mixed,
}

impl Verification {
    /// Feeds rows into input `ordinal`. Without any, the processor is run as a source: its `idle`
    /// is called until it answers `Yes` or has emitted as many rows as are expected.
    pub fn rows(mut self, ordinal: usize, batch: DeltaBatch) -> Self {
        self.steps.push(Step::Rows(ordinal, batch));
        self
    }

    /// The coalesced watermark of time column 0 moves.
    pub fn watermark(mut self, time: EventTime) -> Self {
        self.steps.push(Step::Watermark(Watermark { key: 0, time }));
        self
    }

    /// All inputs are idle.
    pub fn idle(self) -> Self {
        self.watermark(IDLE)
    }

    /// The simulated clock moves by `micros`, and `idle` is called.
    pub fn advance(mut self, micros: i64) -> Self {
        self.steps.push(Step::Advance(micros));
        self
    }

    /// Input `ordinal` ends. After the last step all inputs end in any case.
    pub fn end(mut self, ordinal: usize) -> Self {
        self.steps.push(Step::End(ordinal));
        self
    }

    /// What comes out, as a Z-set: batch borders, order and rows that cancel out do not matter.
    pub fn expect(mut self, batches: Vec<DeltaBatch>) -> Self {
        self.expected = Some(batches);
        self
    }

    /// The order of the rows matters too.
    pub fn in_order(mut self) -> Self {
        self.is_ordered = true;
        self
    }

    /// The watermarks that come out, repeats left out ([`IDLE`] for idle).
    pub fn expect_watermarks(mut self, times: Vec<EventTime>) -> Self {
        self.expected_watermarks = Some(times);
        self
    }

    /// The operator is linear (f(−x) = −f(x)): everything is run again with the weights negated,
    /// and with mixed weights inside one batch that add up to the input.
    pub fn linear(mut self) -> Self {
        self.is_linear = true;
        self
    }

    /// Position of the output's time column (µs timestamps or BIGINT): no row may come out behind
    /// a watermark that came out before it.
    pub fn time_column(mut self, column: usize) -> Self {
        self.time_column = Some(column);
        self
    }

    /// Runs on this grid, for processors that know its tables. [`Verification::advance`] does not
    /// move its clock.
    pub fn grid(mut self, grid: Arc<Grid>) -> Self {
        self.grid = grid;
        self
    }

    /// A call may take this long.
    pub fn call_limit(mut self, limit: Duration) -> Self {
        self.call_limit = limit;
        self
    }

    /// Called after each way of running with its name: a sink's test looks at the outside here,
    /// and cleans it for the next.
    pub fn after_each(mut self, check: impl Fn(&str) + 'static) -> Self {
        self.after_each = Box::new(check);
        self
    }

    /// Runs every way; panics with the way and the difference.
    #[track_caller]
    pub fn run(self) {
        if let Err(complaint) = self.check() {
            panic!("{}: {complaint}", self.supplier.describe());
        }
    }

    /// Runs every way; the first complaint.
    pub fn check(&self) -> Result<(), String> {
        for mode in MODES {
            self.check_mode(mode, Weighting::AsGiven)?;
        }
        if self.is_linear {
            for mode in MODES {
                self.check_mode(mode, Weighting::Negated)?;
                self.check_mode(mode, Weighting::Mixed)?;
            }
        }
        Ok(())
    }

    /// Runs one item at a time and answers the error the processor must end with.
    #[track_caller]
    pub fn run_to_error(self) -> Error {
        let mut run = Run::new(&self, MODES[0]).expect("it starts");
        match run.all(&self.steps) {
            Err(Complaint::Failed(error)) => error,
            Err(Complaint::Broken(text)) => panic!("{}: {text}", self.supplier.describe()),
            Ok(()) => panic!("{}: no error", self.supplier.describe()),
        }
    }

    fn check_mode(&self, mode: Mode, weighting: Weighting) -> Result<(), String> {
        let complain = |text: String| format!("[{}, weights {weighting:?}] {text}", mode.name);
        let steps: Vec<_> = self.steps.iter().map(|step| reweighted(step, weighting)).collect();
        let outcome = Run::new(self, mode).and_then(|mut run| {
            run.all(&steps)?;
            Ok(run)
        });
        let run = outcome.map_err(|complaint| {
            complain(match complaint {
                Complaint::Failed(error) => format!("failed: {error}"),
                Complaint::Broken(text) => text,
            })
        })?;
        self.compare(&run, weighting).map_err(complain)?;
        (self.after_each)(mode.name);
        Ok(())
    }

    fn compare(&self, run: &Run<'_>, weighting: Weighting) -> Result<(), String> {
        if let Some(expected) = &self.expected {
            let factor = if weighting == Weighting::Negated { -1 } else { 1 };
            let (wanted, found) = (ZSet::of(expected).times(factor), ZSet::of(&run.emitted));
            if wanted != found {
                return Err(format!("expected rows\n{wanted}but found\n{found}"));
            }
            let texts = |batches: &[DeltaBatch]| -> Vec<String> {
                batches.iter().flat_map(|batch| row_texts(&batch.rows)).collect()
            };
            if self.is_ordered && weighting == Weighting::AsGiven {
                let (wanted, found) = (texts(expected), texts(&run.emitted));
                if wanted != found {
                    return Err(format!("expected in order {wanted:?} but found {found:?}"));
                }
            }
        }
        let Some(wanted) = &self.expected_watermarks else { return Ok(()) };
        let mut found = run.watermarks.clone();
        found.dedup();
        if *wanted != found {
            return Err(format!("expected watermarks {wanted:?} but found {found:?}"));
        }
        Ok(())
    }
}

/// Why a run ended early.
#[derive(Debug)]
enum Complaint {
    /// The processor returned an error.
    Failed(Error),
    /// It broke the contract.
    Broken(String),
}

impl From<Error> for Complaint {
    fn from(error: Error) -> Self {
        Complaint::Failed(error)
    }
}

/// One run of one processor in one mode.
struct Run<'a> {
    plan: &'a Verification,
    mode: Mode,
    /// The machine's clock: blocking is measured in real time.
    clock: SystemClock,
    processor: Box<dyn Processor>,
    inboxes: Vec<Inbox>,
    outbox: Outbox,
    emitted: Vec<DeltaBatch>,
    watermarks: Vec<EventTime>,
    watermark_last: Option<EventTime>,
    epoch: u64,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Verification, mode: Mode) -> Result<Self, Complaint> {
        let inputs = plan.steps.iter().map(|step| match step {
            Step::Rows(ordinal, _) | Step::End(ordinal) => ordinal + 1,
            Step::Watermark(_) | Step::Advance(_) => 0,
        });
        let outbox =
            if mode.is_stubborn { Outbox::stubborn() } else { Outbox::new(OUTBOX_CAPACITY) };
        Ok(Self {
            plan,
            mode,
            clock: SystemClock::default(),
            processor: fresh(plan)?,
            inboxes: (0..inputs.max().unwrap_or(0)).map(|_| Inbox::default()).collect(),
            outbox,
            emitted: Vec::new(),
            watermarks: Vec::new(),
            watermark_last: None,
            epoch: 0,
        })
    }

    fn all(&mut self, steps: &[Step]) -> Result<(), Complaint> {
        let is_source = !steps.iter().any(|step| matches!(step, Step::Rows(..)));
        if is_source {
            self.run_source()?;
        }
        let mut steps = steps.iter().peekable();
        while let Some(step) = steps.next() {
            if self.processor.is_finished() {
                break;
            }
            match step {
                Step::Rows(ordinal, batch) => {
                    self.inboxes[*ordinal].push(batch.clone());
                    let has_more = |next: &Step| matches!(next, Step::Rows(o, _) if o == ordinal);
                    let next_too = steps.peek().is_some_and(|next| has_more(next));
                    if self.mode.is_all_at_once && next_too {
                        continue;
                    }
                    self.process(*ordinal)?;
                }
                Step::Watermark(watermark) => {
                    self.until_yes("watermark", |p, outbox| p.watermark(*watermark, outbox))?;
                }
                Step::Advance(micros) => self.plan.clock.advance(*micros),
                Step::End(ordinal) => {
                    self.until_yes("complete", |p, outbox| p.complete(*ordinal, outbox))?;
                }
            }
            let wants_no_more = self.call("idle", |p, outbox| p.idle(outbox))? == Done::Yes;
            self.save_and_restore()?;
            if wants_no_more {
                break;
            }
        }
        self.until_yes("complete", |p, outbox| p.complete(usize::MAX, outbox))
    }

    fn process(&mut self, ordinal: usize) -> Result<(), Complaint> {
        let mut stalled = 0;
        while !self.inboxes[ordinal].is_empty() && !self.processor.is_finished() {
            let (waiting, emitted) = (self.inboxes[ordinal].len(), self.emitted_count());
            let mut inbox = std::mem::take(&mut self.inboxes[ordinal]);
            let outcome = self.call("process", |p, out| p.process(ordinal, &mut inbox, out));
            self.inboxes[ordinal] = inbox;
            outcome?;
            let has_progressed =
                self.inboxes[ordinal].len() < waiting || self.emitted_count() > emitted;
            stalled = if has_progressed { 0 } else { stalled + 1 };
            if stalled > STALLED_CALLS_MAX {
                return Err(Complaint::Broken("\"process\" makes no progress".to_owned()));
            }
        }
        Ok(())
    }

    fn run_source(&mut self) -> Result<(), Complaint> {
        let wanted = self
            .plan
            .expected
            .as_ref()
            .map_or(usize::MAX, |batches| batches.iter().map(DeltaBatch::len).sum());
        let mut stalled = 0;
        let mut emitted = 0;
        while stalled <= STALLED_CALLS_MAX {
            let done = self.call("idle", |p, outbox| p.idle(outbox))?;
            let count = self.emitted_count();
            stalled = if count > emitted { 0 } else { stalled + 1 };
            emitted = count;
            self.save_and_restore()?;
            let rows: usize = self.emitted.iter().map(DeltaBatch::len).sum();
            if done == Done::Yes || rows >= wanted && wanted > 0 {
                return Ok(());
            }
        }
        Err(Complaint::Broken("the source neither emits nor ends".to_owned()))
    }

    fn until_yes(
        &mut self,
        name: &str,
        mut f: impl FnMut(&mut dyn Processor, &mut Outbox) -> Result<Done>,
    ) -> Result<(), Complaint> {
        let mut stalled = 0;
        let mut emitted = self.emitted_count();
        while self.call(name, &mut f)? == Done::No {
            let count = self.emitted_count();
            stalled = if count > emitted { 0 } else { stalled + 1 };
            emitted = count;
            if stalled > STALLED_CALLS_MAX {
                return Err(Complaint::Broken(format!("\"{name}\" makes no progress")));
            }
        }
        Ok(())
    }

    fn emitted_count(&self) -> usize {
        self.emitted.len() + self.watermarks.len()
    }

    /// One call, timed; then everything in the outbox is looked at.
    fn call<T>(
        &mut self,
        name: &str,
        f: impl FnOnce(&mut dyn Processor, &mut Outbox) -> Result<T>,
    ) -> Result<T, Complaint> {
        let start = self.clock.monotonic_nanos();
        let outcome = f(self.processor.as_mut(), &mut self.outbox);
        let took = Duration::from_nanos(self.clock.monotonic_nanos() - start);
        let is_cooperative = self.processor.cooperation() == Cooperation::Cooperative;
        if is_cooperative && took > self.plan.call_limit {
            return Err(Complaint::Broken(format!("\"{name}\" blocks: it took {took:?}")));
        }
        while let Some(item) = self.outbox.take() {
            self.accept(item)?;
        }
        Ok(outcome?)
    }

    fn accept(&mut self, item: Item) -> Result<(), Complaint> {
        match item {
            Item::Batch(batch) => {
                if batch.is_empty() {
                    return Err(Complaint::Broken("an empty batch was emitted".to_owned()));
                }
                self.check_times(&batch.rows)?;
                self.emitted.push(batch);
            }
            Item::Watermark(watermark) => {
                let time = watermark.time;
                if time != IDLE && self.watermark_last.is_some_and(|last| time < last) {
                    return Err(Complaint::Broken(format!("the watermark went back to {time}")));
                }
                if time != IDLE {
                    self.watermark_last = Some(time);
                }
                self.watermarks.push(time);
            }
            Item::Barrier(_) | Item::Done => {
                return Err(Complaint::Broken(format!("{item:?} is the tasklet's to emit")));
            }
        }
        Ok(())
    }

    fn check_times(&self, rows: &RecordBatch) -> Result<(), Complaint> {
        let (Some(column), Some(last)) = (self.plan.time_column, self.watermark_last) else {
            return Ok(());
        };
        let times = arrow::compute::cast(rows.column(column), &arrow::datatypes::DataType::Int64)
            .map_err(|error| Complaint::Broken(error.to_string()))?;
        let times = times.as_any().downcast_ref::<Int64Array>().expect("cast to Int64");
        match times.iter().flatten().find(|time| *time < last) {
            Some(time) => Err(Complaint::Broken(format!(
                "a row of time {time} was emitted behind the watermark {last}"
            ))),
            None => Ok(()),
        }
    }

    /// What a barrier does: `epoch`, `save`; then the state moves into a fresh processor.
    fn save_and_restore(&mut self) -> Result<(), Complaint> {
        if !self.mode.is_restored {
            return Ok(());
        }
        self.epoch += 1;
        let epoch = self.epoch;
        self.until_yes("epoch", |p, outbox| p.epoch(epoch, outbox))?;
        let chunks = self.save()?;
        if chunks != self.save()? {
            return Err(Complaint::Broken("\"save\" changed the state".to_owned()));
        }
        let is_sorted = chunks
            .windows(2)
            .all(|pair| (pair[0].tag, pair[0].partition) <= (pair[1].tag, pair[1].partition));
        if !is_sorted {
            return Err(Complaint::Broken("chunks are not sorted by tag and partition".into()));
        }
        let partition_count = self.plan.grid.config().partition_count;
        if let Some(chunk) = chunks
            .iter()
            .find(|chunk| chunk.partition.0 >= partition_count && chunk.partition != EVERY_INSTANCE)
        {
            return Err(Complaint::Broken(format!("{:?} does not exist", chunk.partition)));
        }
        self.processor = fresh(self.plan)?;
        for chunk in &chunks {
            self.processor.restore(chunk)?;
        }
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<StateChunk>, Complaint> {
        let mut writer = StateWriter::default();
        let mut calls = 0;
        while self.call("save", |p, _| p.save(&mut writer))? == Done::No {
            calls += 1;
            if calls > 100_000 {
                return Err(Complaint::Broken("\"save\" does not end".to_owned()));
            }
        }
        while self.call("save_rest", |p, _| p.save_rest(&mut writer))? == Done::No {
            calls += 1;
            if calls > 100_000 {
                return Err(Complaint::Broken("\"save_rest\" does not end".to_owned()));
            }
        }
        let partition_count = self.plan.grid.config().partition_count;
        writer.into_chunks(partition_count).map_err(|error| Complaint::Broken(error.to_string()))
    }
}

fn fresh(plan: &Verification) -> Result<Box<dyn Processor>> {
    let mut created = plan.supplier.create(1)?;
    let mut processor = created.pop().expect("a supplier makes as many as it is asked for");
    processor.init(&context(&plan.grid))?;
    Ok(processor)
}

fn reweighted(step: &Step, weighting: Weighting) -> Step {
    let Step::Rows(ordinal, batch) = step else { return step.clone() };
    let weights = |factor: i64| -> Int64Array {
        (0..batch.len()).map(|index| batch.weight.at(index) * factor).collect()
    };
    let changed = match (weighting, &batch.weight) {
        (Weighting::AsGiven, _) => batch.clone(),
        (Weighting::Negated, Weight::One) => {
            DeltaBatch { rows: batch.rows.clone(), weight: Weight::MinusOne }
        }
        (Weighting::Negated, Weight::MinusOne) => DeltaBatch::insertions(batch.rows.clone()),
        (Weighting::Negated, Weight::Array(_)) => {
            DeltaBatch { rows: batch.rows.clone(), weight: Weight::Array(weights(-1)) }
        }
        (Weighting::Mixed, _) => {
            let rows = concat_batches(batch.rows.schema_ref(), [&batch.rows, &batch.rows])
                .expect("equal schemas");
            let both = concat(&[&weights(2), &weights(-1)]).expect("equal types");
            let both = both.as_any().downcast_ref::<Int64Array>().expect("Int64").clone();
            DeltaBatch { rows, weight: Weight::Array(both) }
        }
    };
    Step::Rows(*ordinal, changed)
}
