//! `KafkaSource`: the processor. A call drains what has arrived, decodes it in place into one
//! batch, and tells the time its topic partitions have reached. Topic partition p belongs to
//! instance p mod parallelism, also after a restart with another parallelism.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType},
};
use storage::{env::Clock, metrics::Metric};

use super::{
    batch::TopicQueue,
    format::RowDecoder,
    link::{Link, TopicPartition},
    progress::{self, Moment, Progress, Time},
    reader::Reader,
    settings::{EndOffset, Settings, StartOffset},
    source_time::SourceTime,
};
use crate::{
    Error, Result,
    connector::{Source, SourceRequest},
    delta::DeltaBatch,
    execution::{StateMemory, memory::batch_bytes},
    item::{IDLE, Item, Watermark},
    processor::{Done, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    state::{EVERY_INSTANCE, StateChunk, StateWriter},
    time::{EventTime, EventTimePolicy},
};

/// Messages drained at once.
const DRAIN_MESSAGES: usize = 1024;
/// Rows of a batch, about: more are not drained into it.
const BATCH_ROWS: usize = 4096;
/// Bytes of messages decoded in one call, about: a millisecond's work.
const CALL_BYTES: usize = 512 * 1024;
/// Bytes that librdkafka spends on a message beside its contents, about.
const MESSAGE_OVERHEAD: u64 = 200;
/// A bounded read fails when the broker stays away for so long, µs.
const OUTAGE_MAX: i64 = 5_000_000;

/// A source over a Kafka mapping.
pub fn source(settings: Settings, request: &SourceRequest) -> Result<Source> {
    let is_bounded = settings.end != EndOffset::Unbounded;
    let schema = Arc::new(request.mapping.schema.project(&request.projection)?);
    let parallelism = settings.parallelism;
    let supplier =
        Arc::new(KafkaSupplier { settings, request: request.clone(), schema, is_bounded });
    Ok(Source { supplier, is_bounded, parallelism })
}

struct KafkaSupplier {
    settings: Settings,
    request: SourceRequest,
    schema: SchemaRef,
    is_bounded: bool,
}

impl ProcessorSupplier for KafkaSupplier {
    fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>> {
        let link = Link::new(self.settings.clone(), self.is_bounded);
        let time = Arc::new(SourceTime::new(count));
        let mapping = &self.request.mapping;
        let external: Vec<Option<String>> =
            mapping.columns.iter().map(|column| column.external_name.clone()).collect();
        (0..count)
            .map(|_| {
                let projection = &self.request.projection;
                let decoder =
                    RowDecoder::new(&self.settings, &mapping.schema, &external, projection)?;
                Ok(Box::new(KafkaSource {
                    reader: Reader {
                        topic: self.settings.topic.as_str().into(),
                        on_error: self.settings.on_error,
                        decoder,
                        partitions: Vec::new(),
                        runs: Vec::new(),
                        bytes: 0,
                        skipped: Metric::default(),
                    },
                    queue: None,
                    link: Arc::clone(&link),
                    start: self.settings.start,
                    end: self.settings.end.clone(),
                    mapping: mapping.name.name.as_str().into(),
                    event_time: self.request.event_time.clone(),
                    time: Arc::clone(&time),
                    wakes: 0,
                    is_bounded: self.is_bounded,
                    version: 0,
                    is_connected: false,
                    away_since: None,
                    restored: None,
                    pending: None,
                    watermark: EventTime::MIN,
                    is_idle: false,
                    drained: 0,
                    drained_bytes: 0,
                    place: None,
                }) as Box<dyn Processor>)
            })
            .collect()
    }

    fn describe(&self) -> String {
        let names: Vec<&str> =
            self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        format!("kafka({}, columns=[{}])", self.settings.topic, names.join(", "))
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn state(&self) -> Option<String> {
        Some(format!("offsets of topic \"{}\"", self.settings.topic))
    }
}

/// Where the processor runs.
struct Place {
    memory: StateMemory,
    clock: Arc<dyn Clock>,
    index: usize,
    parallelism: usize,
}

/// An offset and an end from a saved state.
#[derive(Debug, Clone, Copy)]
struct Saved {
    partition: i32,
    next: i64,
    end: Option<i64>,
}

/// The processor.
struct KafkaSource {
    /// Before `link`: its queue must go before the supervisor looks for the client's last owner.
    queue: Option<TopicQueue>,
    reader: Reader,
    link: Arc<Link>,
    start: StartOffset,
    end: EndOffset,
    mapping: Arc<str>,
    event_time: Option<EventTimePolicy>,
    /// The time of all instances.
    time: Arc<SourceTime>,
    /// Ends of silence this instance has heard of.
    wakes: u64,
    is_bounded: bool,
    /// Of the link, when it was last looked at.
    version: u64,
    is_connected: bool,
    /// Since when the broker is away, µs of the steady clock.
    away_since: Option<i64>,
    /// Offsets of all topic partitions of a saved state, if there is one.
    restored: Option<Vec<Saved>>,
    /// A batch the outbox refused. Its offsets count as read; `epoch` sends it before a save.
    pending: Option<Item>,
    /// The newest watermark that is out, [`IDLE`] not counted.
    watermark: EventTime,
    /// Whether the last thing said of time was [`IDLE`].
    is_idle: bool,
    /// Messages and events drained so far, and the bytes of their values.
    drained: u64,
    drained_bytes: u64,
    place: Option<Place>,
}

impl Processor for KafkaSource {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        let metrics = context.grid.metrics();
        let labels = [("mapping", &*self.mapping), ("job", &*context.job_name)];
        self.reader.skipped = metrics.register("tidewater_skipped_rows_total", &labels);
        self.place = Some(Place {
            memory: context.memory.clone(),
            clock: Arc::clone(&context.grid.env().clock),
            index: context.index,
            parallelism: context.parallelism,
        });
        let client = self.link.open(context)?;
        let wake = Arc::clone(&context.wake);
        self.queue = Some(TopicQueue::new(client, &self.reader.topic, DRAIN_MESSAGES, wake)?);
        Ok(())
    }

    fn idle(&mut self, outbox: &mut Outbox) -> Result<Done> {
        self.look_at_link()?;
        if !self.emit_pending(outbox) {
            return Ok(Done::No);
        }
        self.drain()?;
        if self.reader.decoder.rows() > 0 {
            let batch = self.reader.decoder.finish()?;
            self.note_times(&batch)?;
            self.pending = Some(Item::Batch(DeltaBatch::insertions(batch)));
        }
        // Rows are never sent while we count as idle.
        let is_awake =
            self.pending.is_none() || !self.is_idle || self.send_time(self.watermark, outbox);
        let is_told = is_awake && self.emit_pending(outbox) && self.emit_time(outbox)?;
        self.tell_bytes()?;
        if is_told && self.is_exhausted() {
            self.time.leave(self.place()?.index);
            return Ok(Done::Yes);
        }
        Ok(Done::No)
    }

    fn epoch(&mut self, _epoch: u64, outbox: &mut Outbox) -> Result<Done> {
        Ok(if self.emit_pending(outbox) { Done::Yes } else { Done::No })
    }

    fn complete(&mut self, _ordinal: usize, outbox: &mut Outbox) -> Result<Done> {
        Ok(if self.emit_pending(outbox) { Done::Yes } else { Done::No })
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        // Without an answer from the broker the offsets are still those restored.
        let restored = self.restored.as_deref().unwrap_or_default();
        let place = self.place()?;
        let (index, parallelism) = (place.index, place.parallelism);
        let unseen = restored.iter().copied().filter(|saved| {
            belongs(saved.partition, index, parallelism)
                && !self.reader.partitions.iter().any(|known| known.id == saved.partition)
        });
        let seen = self.reader.partitions.iter().map(|known| Saved {
            partition: known.id,
            next: known.next,
            end: known.end,
        });
        let saved: Vec<Saved> = seen.chain(unseen).collect();
        let is_known = self.link.is_resolved(self.version);
        if saved.is_empty() && !is_known {
            // Nothing was resolved yet: the next execution resolves it.
            return Ok(Done::Yes);
        }
        let column = |value: &dyn Fn(&Saved) -> Option<i64>| -> Arc<Int64Array> {
            Arc::new(saved.iter().map(value).collect())
        };
        let fields =
            ["partition", "next", "end"].map(|name| Field::new(name, DataType::Int64, true));
        let rows = RecordBatch::try_new(
            Arc::new(Schema::new(fields.to_vec())),
            vec![
                column(&|saved| Some(i64::from(saved.partition))),
                column(&|saved| Some(saved.next)),
                column(&|saved| saved.end),
            ],
        )?;
        state.put(StateChunk { partition: EVERY_INSTANCE, tag: 0, rows });
        Ok(Done::Yes)
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        let column = |position: usize| chunk.rows.column(position).as_primitive::<Int64Type>();
        let (partitions, nexts, ends) = (column(0), column(1), column(2));
        let restored = self.restored.get_or_insert_default();
        for row in 0..chunk.rows.num_rows() {
            restored.push(Saved {
                partition: partitions.value(row) as i32,
                next: nexts.value(row),
                end: ends.is_valid(row).then(|| ends.value(row)),
            });
        }
        Ok(())
    }
}

/// Whether an instance reads a topic partition.
fn belongs(partition: i32, index: usize, parallelism: usize) -> bool {
    partition as usize % parallelism == index
}

impl KafkaSource {
    fn place(&self) -> Result<&Place> {
        self.place.as_ref().ok_or_else(|| Error::Internal("source called before init".to_owned()))
    }

    /// Takes over what the supervisor has found since the last call.
    fn look_at_link(&mut self) -> Result<()> {
        let version = self.link.version();
        self.is_connected = self.link.is_connected();
        let now = (self.place()?.clock.monotonic_nanos() / 1000) as i64;
        if self.is_connected {
            self.away_since = None;
        } else {
            let since = *self.away_since.get_or_insert(now);
            if self.is_bounded && now - since > OUTAGE_MAX {
                let reason = self.link.findings().trouble;
                let reason = reason.unwrap_or_else(|| "kafka broker does not answer".to_owned());
                return Err(Error::Connection(reason));
            }
        }
        if version == self.version {
            return Ok(());
        }
        self.version = version;
        let findings = self.link.findings();
        if let Some(failure) = findings.failure {
            return Err(failure);
        }
        for found in &findings.partitions {
            let mut known = self.reader.partitions.iter_mut();
            match known.find(|known| known.id == found.id) {
                Some(known) => known.reconnected(found),
                None => self.take_up(found)?,
            }
        }
        Ok(())
    }

    /// Begins to read a topic partition, if it is this instance's.
    fn take_up(&mut self, found: &TopicPartition) -> Result<()> {
        let place = self.place()?;
        if !belongs(found.id, place.index, place.parallelism) {
            return Ok(());
        }
        let end = match &self.end {
            EndOffset::Unbounded => None,
            // What appeared after the start was empty when its end was asked for.
            EndOffset::Latest if found.is_late => Some(found.low),
            EndOffset::Latest => Some(found.high),
            EndOffset::Explicit(offsets) => Some(offsets.get(&found.id).copied().unwrap_or(0)),
        };
        let saved = self
            .restored
            .as_ref()
            .map(|restored| restored.iter().find(|saved| saved.partition == found.id).copied());
        let first = match (saved, self.start) {
            (Some(Some(saved)), _) => (saved.next, saved.end.or(end)),
            // Unknown to the saved state, or not there at the start: it is new.
            (Some(None), _) => (found.low, end),
            (None, _) if found.is_late => (found.low, end),
            (None, StartOffset::Earliest) => (found.low, end),
            (None, StartOffset::Latest) => (found.high, end),
        };
        let progress = Progress::new(found.id, first.0, first.1, found.high_now);
        if !progress.is_finished()
            && let Some(queue) = &mut self.queue
        {
            queue.start(found.id, first.0)?;
        }
        self.reader.partitions.push(progress);
        Ok(())
    }

    /// Decodes what has arrived, up to a batch.
    fn drain(&mut self) -> Result<()> {
        let Some(queue) = &mut self.queue else { return Ok(()) };
        let reader = &mut self.reader;
        reader.bytes = 0;
        reader.runs.clear();
        let before = self.drained;
        loop {
            let count = queue.drain(|message| reader.read(message))?;
            self.drained += count as u64;
            let is_full = reader.decoder.rows() >= BATCH_ROWS || reader.bytes >= CALL_BYTES;
            if count < DRAIN_MESSAGES || is_full {
                break;
            }
        }
        self.drained_bytes += reader.bytes as u64;
        if self.is_bounded && self.drained > before {
            for finished in reader.partitions.iter().filter(|known| known.is_finished()) {
                queue.stop(finished.id);
            }
        }
        Ok(())
    }

    /// What waits in librdkafka's queue, reckoned from what came out of it, and what is pending.
    fn tell_bytes(&self) -> Result<()> {
        let waiting = self.queue.as_ref().map_or(0, TopicQueue::waiting) as u64;
        let of_message = self.drained_bytes / self.drained.max(1) + MESSAGE_OVERHEAD;
        let pending = match &self.pending {
            Some(Item::Batch(batch)) => batch_bytes(&batch.rows),
            _ => 0,
        };
        self.place()?.memory.hold((waiting * of_message) as usize + pending);
        Ok(())
    }

    /// Whether nothing is pending any more.
    fn emit_pending(&mut self, outbox: &mut Outbox) -> bool {
        if let Some(item) = self.pending.take() {
            self.pending = outbox.offer(item);
        }
        self.pending.is_none()
    }

    /// Advances the topic partitions by the event times of their rows.
    fn note_times(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(policy) = &self.event_time else { return Ok(()) };
        let latest = match policy.max_future {
            None => EventTime::MAX,
            Some(max_future) => self.place()?.clock.now_micros().saturating_add(max_future),
        };
        let column = batch.column(policy.time_column);
        let (values, nulls) = match column.data_type() {
            DataType::Timestamp(_, _) => {
                let column = column.as_primitive::<TimestampMicrosecondType>();
                (column.values(), column.nulls())
            }
            DataType::Int64 => {
                let column = column.as_primitive::<Int64Type>();
                (column.values(), column.nulls())
            }
            other => return Err(Error::Internal(format!("time column of type {other}"))),
        };
        let mut start = 0;
        for (position, end) in &self.reader.runs {
            let is_valid = |row: &usize| {
                nulls.is_none_or(|nulls| nulls.is_valid(*row)) && values[*row] <= latest
            };
            if let Some(newest) = (start..*end).filter(is_valid).map(|row| values[row]).max() {
                self.reader.partitions[*position].advance(newest);
            }
            start = *end;
        }
        Ok(())
    }

    /// Whether the present time is out. Time never goes back: a row behind the last watermark is
    /// late, whoever was idle when that was sent.
    fn emit_time(&mut self, outbox: &mut Outbox) -> Result<bool> {
        let Some(policy) = &self.event_time else { return Ok(true) };
        if !self.link.is_resolved(self.version) {
            return Ok(true);
        }
        let place = self.place()?;
        let (index, now) = (place.index, (place.clock.monotonic_nanos() / 1000) as i64);
        let moment = Moment {
            now,
            is_connected: self.is_connected,
            drained: self.drained,
            queued: self.queue.as_ref().map_or(0, TopicQueue::waiting) as u64,
        };
        let partitions = &mut self.reader.partitions;
        let wakes = self.time.wakes();
        if self.wakes < wakes {
            self.wakes = wakes;
            partitions.iter_mut().for_each(Progress::speak);
        }
        let time = progress::time(partitions, policy, moment);
        let time = match self.time.tell(index, time, self.wakes, now) {
            Time::Unknown => self.watermark,
            Time::Reached(time) => time.max(self.watermark),
            Time::Idle => IDLE,
        };
        let is_known = if self.is_idle { time == IDLE } else { time == self.watermark };
        Ok(is_known || self.send_time(time, outbox))
    }

    /// Whether the outbox took the time.
    fn send_time(&mut self, time: EventTime, outbox: &mut Outbox) -> bool {
        if outbox.offer(Item::Watermark(Watermark { key: 0, time })).is_some() {
            return false;
        }
        self.is_idle = time == IDLE;
        if !self.is_idle {
            self.watermark = time;
        }
        true
    }

    /// Whether a bounded source has read everything.
    fn is_exhausted(&self) -> bool {
        self.is_bounded
            && self.pending.is_none()
            && self.link.is_resolved(self.version)
            && self.reader.partitions.iter().all(Progress::is_finished)
    }
}
