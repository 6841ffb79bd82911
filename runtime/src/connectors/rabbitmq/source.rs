//! `RabbitSource`: the processor. A call takes what has come, decodes it into one batch and notes the
//! ids; [`super::seen`] tells when the broker is told. One instance keeps the order of the queue,
//! which holds until something comes again.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType},
};
use storage::metrics::Metric;

use super::{
    link::{Delivery, Event, Link, SharedBroker},
    seen::{Ledger, Seen},
    settings::Settings,
};
use crate::{
    Error, Result,
    connector::{Source, SourceRequest},
    connectors::{
        kafka::{
            progress::{self, Moment, Progress, Time},
            source_time::SourceTime,
        },
        options::OnError,
    },
    decode::records::RecordDecoder,
    delta::DeltaBatch,
    execution::memory::batch_bytes,
    item::{IDLE, Item, SnapshotId, Watermark},
    job::Guarantee,
    processor::{Done, Outbox, Processor, ProcessorContext, ProcessorSupplier, fail_at},
    state::{EVERY_INSTANCE, StateChunk, StateWriter},
    time::{EventTime, EventTimePolicy},
};

/// Rows of a batch, about.
const BATCH_ROWS: usize = 4096;
/// Bytes of messages decoded in one call, about: a millisecond's work.
const CALL_BYTES: usize = 512 * 1024;

/// A source over a queue.
pub fn source(settings: Settings, broker: SharedBroker, request: &SourceRequest) -> Result<Source> {
    let schema = Arc::new(request.mapping.schema.project(&request.projection)?);
    let parallelism = settings.parallelism;
    let request = request.clone();
    let supplier = Arc::new(RabbitSupplier { settings, broker, request, schema });
    Ok(Source { supplier, is_bounded: false, parallelism })
}

/// A decoder of the columns `projection` of messages.
pub fn decoder(
    settings: &Settings,
    schema: &SchemaRef,
    external: &[Option<String>],
    projection: &[usize],
) -> Result<RecordDecoder> {
    RecordDecoder::new((settings.format, settings.header), schema, external, projection)
}

struct RabbitSupplier {
    settings: Settings,
    broker: SharedBroker,
    request: SourceRequest,
    schema: SchemaRef,
}

impl ProcessorSupplier for RabbitSupplier {
    fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>> {
        let mapping = &self.request.mapping;
        let external: Vec<Option<String>> =
            mapping.columns.iter().map(|column| column.external_name.clone()).collect();
        let seen: Arc<Seen> = Arc::default();
        let time = Arc::new(SourceTime::new(count));
        (0..count)
            .map(|_| {
                let projection = &self.request.projection;
                let decoder = decoder(&self.settings, &mapping.schema, &external, projection)?;
                Ok(Box::new(RabbitSource {
                    queue: self.settings.queue.as_str().into(),
                    on_error: self.settings.on_error,
                    mapping: mapping.name.name.as_str().into(),
                    broker: Arc::clone(&self.broker),
                    decoder,
                    seen: Arc::clone(&seen),
                    event_time: self.request.event_time.clone(),
                    time: Arc::clone(&time),
                    progress: [Progress::new(0, 0, None, 0)],
                    wakes: 0,
                    drained: 0,
                    is_connected: false,
                    pending: None,
                    watermark: EventTime::MIN,
                    is_idle: false,
                    skipped: Metric::default(),
                    place: None,
                }) as Box<dyn Processor>)
            })
            .collect()
    }

    fn describe(&self) -> String {
        let names: Vec<&str> =
            self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        format!("rabbitmq({}, columns=[{}])", self.settings.queue, names.join(", "))
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// What is acknowledged does not come again: an older snapshot would miss it.
    fn commits(&self) -> bool {
        true
    }

    fn state(&self) -> Option<String> {
        Some(format!("ids of messages of queue \"{}\"", self.settings.queue))
    }
}

/// Where the processor runs.
struct Place {
    context: ProcessorContext,
    link: Box<dyn Link>,
    ledger: Ledger,
}

/// The processor.
struct RabbitSource {
    queue: Arc<str>,
    on_error: OnError,
    mapping: Arc<str>,
    broker: SharedBroker,
    decoder: RecordDecoder,
    /// Of all instances.
    seen: Arc<Seen>,
    event_time: Option<EventTimePolicy>,
    /// The time of all instances.
    time: Arc<SourceTime>,
    /// What has come to this instance, as if it were one topic partition.
    progress: [Progress; 1],
    /// Ends of silence this instance has heard of.
    wakes: u64,
    /// Messages so far.
    drained: u64,
    is_connected: bool,
    /// A batch the outbox refused. Its messages count as read; `epoch` sends it before a save.
    pending: Option<Item>,
    /// The newest watermark that is out, [`IDLE`] not counted.
    watermark: EventTime,
    /// Whether the last thing said of time was [`IDLE`].
    is_idle: bool,
    skipped: Metric,
    place: Option<Place>,
}

impl Processor for RabbitSource {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        let metrics = context.grid.metrics();
        let labels = [("mapping", &*self.mapping), ("job", &*context.job_name)];
        self.skipped = metrics.register("tidewater_skipped_rows_total", &labels);
        let keeps_ids = context.guarantee == Guarantee::ExactlyOnce;
        let ledger = Ledger::new(Arc::clone(&self.seen), context.index, keeps_ids);
        let link = self.broker.link(context)?;
        self.place = Some(Place { context: context.clone(), link, ledger });
        Ok(())
    }

    fn idle(&mut self, outbox: &mut Outbox) -> Result<Done> {
        if !self.emit_pending(outbox)? {
            return Ok(Done::No);
        }
        self.listen()?;
        if self.decoder.rows() > 0 {
            let batch = self.decoder.finish()?;
            self.note_times(&batch)?;
            self.pending = Some(Item::Batch(DeltaBatch::insertions(batch)));
        }
        // Rows are never sent while we count as idle.
        let is_awake =
            self.pending.is_none() || !self.is_idle || self.send_time(self.watermark, outbox);
        if is_awake && self.emit_pending(outbox)? {
            self.emit_time(outbox)?;
        }
        self.tell_bytes()?;
        Ok(Done::No)
    }

    fn epoch(&mut self, _epoch: u64, outbox: &mut Outbox) -> Result<Done> {
        Ok(if self.emit_pending(outbox)? { Done::Yes } else { Done::No })
    }

    fn complete(&mut self, _ordinal: usize, outbox: &mut Outbox) -> Result<Done> {
        Ok(if self.emit_pending(outbox)? { Done::Yes } else { Done::No })
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        let Place { context, ledger, .. } = self.place()?;
        let now = context.grid.env().clock.monotonic_nanos();
        let ids = ledger.save(state.snapshot, now);
        fail_at(context, "queue.saved")?;
        if !ids.is_empty() {
            let ids: StringArray = ids.iter().map(|id| Some(&**id)).collect();
            let schema = Schema::new(vec![Field::new("id", DataType::Utf8, false)]);
            let rows = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids)])?;
            state.put(StateChunk { partition: EVERY_INSTANCE, tag: 0, rows });
        }
        Ok(Done::Yes)
    }

    fn committed(&mut self, id: SnapshotId) -> Result<Done> {
        let Place { context, link, ledger } = self.place()?;
        if let Some(tag) = ledger.committed(id) {
            fail_at(context, "queue.acknowledge")?;
            link.acknowledge(tag);
            fail_at(context, "queue.acknowledged")?;
        }
        Ok(Done::Yes)
    }

    fn awaits_commit(&self) -> bool {
        self.place
            .as_ref()
            .is_some_and(|place| place.context.guarantee != Guarantee::None && place.ledger.owes())
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        let ids = chunk.rows.column(0).as_string::<i32>();
        let ledger = &self.place()?.ledger;
        ids.iter().flatten().for_each(|id| ledger.restore(id));
        Ok(())
    }
}

impl RabbitSource {
    fn place(&mut self) -> Result<&mut Place> {
        let early = || Error::Internal("a source runs before init".to_owned());
        self.place.as_mut().ok_or_else(early)
    }

    /// Takes what has happened, up to a batch.
    fn listen(&mut self) -> Result<()> {
        let mut bytes = 0;
        while self.decoder.rows() < BATCH_ROWS && bytes < CALL_BYTES {
            let Place { context, link, ledger } = self.place()?;
            match link.next() {
                None => break,
                Some(Event::Connected) => {
                    ledger.connected(context.grid.env().clock.monotonic_nanos());
                    self.is_connected = true;
                    self.progress[0].speak();
                }
                Some(Event::Lost) => {
                    ledger.lost();
                    self.is_connected = false;
                }
                Some(Event::Answered(tag)) => ledger.answered(tag),
                Some(Event::Failed(error)) => return Err(error),
                Some(Event::Delivered(delivery)) => {
                    bytes += delivery.body.len() + 1;
                    self.read(&delivery)?;
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, delivery: &Delivery) -> Result<()> {
        let Place { context, ledger, .. } = self.place()?;
        let is_exact = context.guarantee == Guarantee::ExactlyOnce;
        if is_exact && delivery.id.is_none() {
            let message = format!(
                "a message of queue \"{}\" has no message_id, by which it is known when it comes \
                 again; the job can read it with 'processingGuarantee' = 'atLeastOnce'",
                self.queue
            );
            return Err(Error::User { code: "22023", message });
        }
        let is_new = ledger.delivered(delivery.tag, delivery.id.as_deref());
        fail_at(context, "queue.delivered")?;
        self.drained += 1;
        self.progress[0].speak();
        if !is_new {
            return Ok(());
        }
        let Err(poison) = self.decoder.decode(&delivery.body) else { return Ok(()) };
        if self.on_error == OnError::Skip {
            self.skipped.add(1);
            return Ok(());
        }
        let id = delivery.id.as_ref().map(|id| format!(" \"{id}\"")).unwrap_or_default();
        let message = format!(
            "cannot decode message{id} of queue \"{}\": {}; with the mapping option 'on_error' = \
             'skip' it would be counted and left out",
            self.queue, poison.reason
        );
        Err(Error::User { code: poison.code, message })
    }

    /// What waits for us, for the broker, and for the outbox.
    fn tell_bytes(&mut self) -> Result<()> {
        let pending = match &self.pending {
            Some(Item::Batch(batch)) => batch_bytes(&batch.rows),
            _ => 0,
        };
        let Place { context, link, ledger } = self.place()?;
        context.memory.hold(link.waiting().1 + ledger.held() + pending);
        Ok(())
    }

    /// Whether nothing is pending any more. Without a guarantee the broker may forget what is gone.
    fn emit_pending(&mut self, outbox: &mut Outbox) -> Result<bool> {
        if let Some(item) = self.pending.take() {
            self.pending = outbox.offer(item);
        }
        if self.pending.is_some() {
            return Ok(false);
        }
        let has_rows = self.decoder.rows() > 0;
        let Place { context, link, ledger } = self.place()?;
        if context.guarantee == Guarantee::None
            && !has_rows
            && let Some(tag) = ledger.all()
        {
            link.acknowledge(tag);
        }
        Ok(true)
    }

    /// Advances to the newest event time of some rows.
    fn note_times(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(policy) = self.event_time.clone() else { return Ok(()) };
        let latest = match policy.max_future {
            None => EventTime::MAX,
            Some(max_future) => {
                self.place()?.context.grid.env().clock.now_micros().saturating_add(max_future)
            }
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
        let is_valid =
            |row: &usize| nulls.is_none_or(|nulls| nulls.is_valid(*row)) && values[*row] <= latest;
        let newest = (0..values.len()).filter(is_valid).map(|row| values[row]).max();
        newest.into_iter().for_each(|newest| self.progress[0].advance(newest));
        Ok(())
    }

    /// Sends the present time. It never goes back: a row behind the last watermark is late.
    fn emit_time(&mut self, outbox: &mut Outbox) -> Result<()> {
        let Some(policy) = self.event_time.clone() else { return Ok(()) };
        let (drained, is_connected) = (self.drained, self.is_connected);
        let Place { context, link, .. } = self.place()?;
        let now = (context.grid.env().clock.monotonic_nanos() / 1000) as i64;
        let (index, queued) = (context.index, link.waiting().0 as u64);
        let moment = Moment { now, is_connected, drained, queued };
        let wakes = self.time.wakes();
        if self.wakes < wakes {
            self.wakes = wakes;
            self.progress[0].speak();
        }
        let time = progress::time(&mut self.progress, &policy, moment);
        let time = match self.time.tell(index, time, self.wakes, now) {
            Time::Unknown => self.watermark,
            Time::Reached(time) => time.max(self.watermark),
            Time::Idle => IDLE,
        };
        let is_known = if self.is_idle { time == IDLE } else { time == self.watermark };
        if !is_known {
            // Refused, it is sent with the next call.
            self.send_time(time, outbox);
        }
        Ok(())
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
}
