//! `GeneratorSource`: the processor behind every generator. It emits what is due, block by block
//! in the order of its numbers, and after each block the time that no later row of it precedes.

use std::sync::{Arc, OnceLock};

use arrow::{
    array::{AsArray, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};

use super::{
    nexmark::NexmarkRows,
    random::Stream,
    schedule::Schedule,
    sequence::SequenceRows,
    settings::{Kind, Settings},
};
use crate::{
    Error, Result,
    connector::{Source, SourceRequest},
    delta::DeltaBatch,
    item::{Item, Watermark},
    processor::{Done, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    state::{EVERY_INSTANCE, StateChunk, StateWriter},
    time::EventTimePolicy,
};

/// Rows of a block, and the most of a batch: fits the second-level cache with a few columns.
pub const BLOCK_ROWS: u64 = 4096;

/// Splits of a generator, whatever its parallelism: no more instances than this have work.
const SPLIT_COUNT: u64 = 64;

/// Makes rows of event numbers; pure but for scratch space.
pub trait Rows: Send {
    /// The rows of `first .. first + length`.
    fn batch(&mut self, schedule: &Schedule, first: u64, length: usize) -> Result<RecordBatch>;

    /// Rows of one batch that take well below a millisecond.
    fn batch_rows(&self) -> u64 {
        BLOCK_ROWS
    }
}

/// Makes a [`Rows`] for each instance.
type MakeRows = dyn Fn() -> Result<Box<dyn Rows>> + Send + Sync;

/// The supplier of all generators.
struct GeneratorSupplier {
    schema: SchemaRef,
    description: String,
    /// What the numbers count.
    state: String,
    make_rows: Box<MakeRows>,
    schedule: Schedule,
    count: Option<u64>,
    event_time: Option<EventTimePolicy>,
}

/// A source over a Generator mapping.
pub fn mapping_source(request: &SourceRequest) -> Result<Source> {
    let settings = Settings::read(&request.mapping.options)?;
    let schema = Arc::new(request.mapping.schema.project(&request.projection)?);
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let rate = settings.rate.map_or("max".to_owned(), |rate| rate.to_string());
    let kind = match settings.kind {
        Kind::Sequence => "sequence",
        Kind::Nexmark => "nexmark",
    };
    let description = format!("generator({kind}, rate={rate}, columns=[{}])", names.join(", "));
    let (rows_schema, struct_fields) = (Arc::clone(&schema), request.struct_fields.clone());
    let (keys, seed) = (settings.keys, settings.seed);
    let state = format!(
        "numbers of generator({kind}, rate={rate}, event_rate={:?}, keys={keys}, seed={seed}, lag={})",
        settings.event_rate, settings.lag
    );
    let make_rows: Box<MakeRows> = match settings.kind {
        Kind::Sequence => {
            Box::new(move || Ok(Box::new(SequenceRows::new(Arc::clone(&rows_schema), keys, seed)?)))
        }
        Kind::Nexmark => Box::new(move || {
            Ok(Box::new(NexmarkRows::new(Arc::clone(&rows_schema), &struct_fields, seed)?))
        }),
    };
    let supplier = Arc::new(GeneratorSupplier {
        schema,
        description,
        state,
        make_rows,
        schedule: settings.schedule(),
        count: settings.count,
        event_time: request.event_time.clone(),
    });
    Ok(Source { supplier, is_bounded: settings.count.is_some(), parallelism: None })
}

/// `generate_stream(rate)`: `v` counts up from 0, `rate` rows a second; 0 rows a second is a
/// stream that never ends and has no rows.
pub fn stream_source(rate: i64) -> Result<Source> {
    let Ok(rate) = u64::try_from(rate) else {
        return Err(Error::Invalid {
            code: "22023",
            message: format!("rate of generate_stream must not be negative, got {rate}"),
        });
    };
    Ok(numbers(format!("generate_stream({rate})"), 0, 1, Some(rate), None))
}

/// `generate_series(first, last, step)`: both ends included; the wrong direction is empty.
pub fn series_source(first: i64, last: i64, step: i64) -> Result<Source> {
    if step == 0 {
        return Err(Error::Invalid {
            code: "22023",
            message: "step size cannot equal zero".to_owned(),
        });
    }
    let distance = i128::from(last) - i128::from(first);
    let count = if distance.signum() * i128::from(step.signum()) < 0 {
        0
    } else {
        u64::try_from(distance / i128::from(step) + 1).unwrap_or(u64::MAX)
    };
    let description = format!("generate_series({first}, {last}, {step})");
    Ok(numbers(description, first, step, None, Some(count)))
}

/// One column `v`: `first + n · step`.
fn numbers(
    description: String,
    first: i64,
    step: i64,
    rate: Option<u64>,
    count: Option<u64>,
) -> Source {
    let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]));
    let rows = SeriesRows { schema: Arc::clone(&schema), first, step };
    let schedule = Schedule {
        rate,
        event_rate: rate.unwrap_or(1).max(1),
        base: None,
        start: 0,
        lag: 0,
        delay: Stream::new(0, 0),
    };
    let supplier = Arc::new(GeneratorSupplier {
        schema,
        state: format!("numbers of {description}"),
        description,
        make_rows: Box::new(move || Ok(Box::new(rows.clone()))),
        schedule,
        count,
        event_time: None,
    });
    Source { supplier, is_bounded: count.is_some(), parallelism: Some(1) }
}

#[derive(Clone)]
struct SeriesRows {
    schema: SchemaRef,
    first: i64,
    step: i64,
}

impl Rows for SeriesRows {
    fn batch(&mut self, _schedule: &Schedule, first: u64, length: usize) -> Result<RecordBatch> {
        let value = |n: u64| self.first.wrapping_add(self.step.wrapping_mul(n as i64));
        let values: Vec<i64> = (first..first + length as u64).map(value).collect();
        let column = Arc::new(Int64Array::from(values));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), vec![column])?)
    }
}

impl ProcessorSupplier for GeneratorSupplier {
    fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>> {
        let start = Arc::new(OnceLock::new());
        (0..count)
            .map(|_| {
                Ok(Box::new(GeneratorSource {
                    rows: (self.make_rows)()?,
                    schedule: self.schedule.clone(),
                    count: self.count.unwrap_or(u64::MAX),
                    event_time: self.event_time.clone(),
                    start: Arc::clone(&start),
                    clock: None,
                    splits: Vec::new(),
                    pending: None,
                    watermark: i64::MIN,
                }) as Box<dyn Processor>)
            })
            .collect()
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn state(&self) -> Option<String> {
        Some(self.state.clone())
    }
}

/// A share of the numbers and how far it has come.
#[derive(Debug, Clone, Copy)]
struct Split {
    id: u64,
    /// The next number to emit.
    next: u64,
}

impl Split {
    /// `split` after the rows up to `end` (exclusive, in the same block): jumps to its next block.
    fn advance(&mut self, end: u64) {
        self.next = end;
        if end.is_multiple_of(BLOCK_ROWS) {
            self.next = end.saturating_add((SPLIT_COUNT - 1) * BLOCK_ROWS);
        }
    }
}

/// A clock that cannot jump: the wall clock of the start, moved on by the monotonic one.
#[derive(Clone)]
struct SteadyClock {
    clock: Arc<dyn storage::env::Clock>,
    wall_micros: i64,
    monotonic_nanos: u64,
    wake_at: Arc<dyn Fn(u64) + Send + Sync>,
}

impl SteadyClock {
    fn now(&self) -> i64 {
        let elapsed = self.clock.monotonic_nanos().saturating_sub(self.monotonic_nanos);
        self.wall_micros + (elapsed / 1000) as i64
    }

    /// Asks to be called when [`SteadyClock::now`] is `time`.
    fn wake_at(&self, time: i64) {
        let micros = u64::try_from(time - self.wall_micros).unwrap_or(0);
        (self.wake_at)(self.monotonic_nanos.saturating_add(micros.saturating_mul(1000)));
    }
}

/// The processor.
struct GeneratorSource {
    rows: Box<dyn Rows>,
    schedule: Schedule,
    /// Numbers end before this.
    count: u64,
    event_time: Option<EventTimePolicy>,
    /// Wall clock of event 0: set by the first instance to start, read by all.
    start: Arc<OnceLock<i64>>,
    clock: Option<SteadyClock>,
    splits: Vec<Split>,
    /// A batch that the outbox refused, its split's position and its end. Not part of the state:
    /// the split moves on only when the batch is out.
    pending: Option<(DeltaBatch, usize, u64)>,
    /// The newest watermark that is out.
    watermark: i64,
}

impl Processor for GeneratorSource {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        let clock = Arc::clone(&context.grid.env().clock);
        let wall_micros = clock.now_micros();
        self.schedule.start = *self.start.get_or_init(|| wall_micros);
        let monotonic_nanos = clock.monotonic_nanos();
        let wake_at = Arc::clone(&context.wake_at);
        self.clock = Some(SteadyClock { clock, wall_micros, monotonic_nanos, wake_at });
        self.splits = (0..SPLIT_COUNT)
            .filter(|id| id % context.parallelism as u64 == context.index as u64)
            .map(|id| Split { id, next: id * BLOCK_ROWS })
            .collect();
        Ok(())
    }

    fn idle(&mut self, outbox: &mut Outbox) -> Result<Done> {
        if !self.emit_pending(outbox) || !self.emit_watermark(outbox)? {
            return Ok(Done::No);
        }
        let Some(position) = self.first_split() else { return Ok(Done::Yes) };
        let first = self.splits[position].next;
        let clock = self.clock()?;
        let due = self.schedule.due(clock.now()).min(self.count);
        if first >= due {
            if let Some(time) = self.schedule.due_at(first) {
                clock.wake_at(time);
            }
            return Ok(Done::No);
        }
        let block_end = (first / BLOCK_ROWS + 1).saturating_mul(BLOCK_ROWS);
        let end = due.min(block_end).min(first + self.rows.batch_rows());
        let batch = self.rows.batch(&self.schedule, first, (end - first) as usize)?;
        self.pending = Some((DeltaBatch::insertions(batch), position, end));
        if self.emit_pending(outbox) {
            let _ = self.emit_watermark(outbox)?;
        }
        Ok(Done::No)
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        let column = |value: &dyn Fn(&Split) -> i64| -> Arc<Int64Array> {
            Arc::new(self.splits.iter().map(value).collect::<Vec<_>>().into())
        };
        let fields =
            ["split", "next", "start"].map(|name| Field::new(name, DataType::Int64, false));
        let rows = RecordBatch::try_new(
            Arc::new(Schema::new(fields.to_vec())),
            vec![
                column(&|split| split.id as i64),
                column(&|split| split.next as i64),
                column(&|_| self.schedule.start),
            ],
        )?;
        state.put(StateChunk { partition: EVERY_INSTANCE, tag: 0, rows });
        Ok(Done::Yes)
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        let column = |position: usize| chunk.rows.column(position).as_primitive::<Int64Type>();
        let (ids, nexts, starts) = (column(0), column(1), column(2));
        for row in 0..chunk.rows.num_rows() {
            self.schedule.start = starts.value(row);
            let id = ids.value(row) as u64;
            if let Some(split) = self.splits.iter_mut().find(|split| split.id == id) {
                split.next = nexts.value(row) as u64;
            }
        }
        Ok(())
    }
}

impl GeneratorSource {
    fn clock(&self) -> Result<&SteadyClock> {
        self.clock.as_ref().ok_or_else(|| Error::Internal("source called before init".to_owned()))
    }

    /// The split with the smallest next number: rows of an instance are in order of number.
    fn first_split(&self) -> Option<usize> {
        let unfinished =
            self.splits.iter().enumerate().filter(|(_, split)| split.next < self.count);
        unfinished.min_by_key(|(_, split)| split.next).map(|(position, _)| position)
    }

    /// Whether nothing is left to emit.
    fn emit_pending(&mut self, outbox: &mut Outbox) -> bool {
        let Some((batch, position, end)) = self.pending.take() else { return true };
        match outbox.offer(Item::Batch(batch)) {
            None => {
                self.splits[position].advance(end);
                true
            }
            Some(Item::Batch(batch)) => {
                self.pending = Some((batch, position, end));
                false
            }
            Some(_) => false,
        }
    }

    /// Whether the watermark is out. It is the time of the next row of this instance − lag; rows
    /// further ahead of the wall clock than the policy allows do not move it.
    fn emit_watermark(&mut self, outbox: &mut Outbox) -> Result<bool> {
        let Some(policy) = &self.event_time else { return Ok(true) };
        let Some(position) = self.first_split() else { return Ok(true) };
        let mut newest = self.schedule.time_of(self.splits[position].next);
        if let Some(max_future) = policy.max_future {
            newest = newest.min(self.clock()?.now().saturating_add(max_future));
        }
        let time = newest.saturating_sub(policy.lag);
        if time <= self.watermark {
            return Ok(true);
        }
        if outbox.offer(Item::Watermark(Watermark { key: 0, time })).is_some() {
            return Ok(false);
        }
        self.watermark = time;
        Ok(true)
    }
}
