//! `KafkaLog`: a topic as librdkafka's producer writes it. Idempotent always, transactional if it
//! has a transactional id; owned and called by the one thread of its sink.
//!
//! The mark of a transaction is an offset of a consumer group that has no members and the name of the
//! transactional id: `send_offsets_to_transaction` makes it visible together with the rows, and
//! whoever comes after asks the group for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaError},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
    types::RDKafkaErrorCode as Code,
};

use super::{
    encoder::Messages,
    settings::Settings,
    topic_log::{Answer, Failure, TopicLog, Waiting},
};
use crate::{Error, Result};

/// One wait for acknowledgements, and one step of a call that goes on at the next.
const WAIT: Duration = Duration::from_millis(50);
/// A call that begins anew each time: a broker that needs longer is never waited for to the end.
const WHOLE_CALL: Duration = Duration::from_secs(2);
/// A wait for room in a full queue.
const ROOM_WAIT: Duration = Duration::from_millis(2);
/// Waits for the first answer of the broker: a topic that does not exist fails the start.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(800);
/// Refused so often in a row, a topic does not exist.
const UNKNOWN_TOPIC_ATTEMPTS: u32 = 5;
/// Messages between two looks at the events.
const SERVED_MESSAGES: usize = 1024;
/// What librdkafka needs for a message besides its bytes, about.
const MESSAGE_OVERHEAD: usize = 200;

/// The log.
pub struct KafkaLog {
    topic: String,
    producer: BaseProducer<Events>,
    shared: Arc<Shared>,
    transactions: Option<Transactions>,
    /// Messages given to librdkafka so far, and their bytes.
    sent: usize,
    sent_bytes: usize,
    /// Messages acknowledged when that was last looked at.
    acknowledged: usize,
}

struct Transactions {
    group: BaseConsumer,
    is_open: bool,
    /// Whether the mark is part of the open transaction.
    has_mark: bool,
}

/// What events leave for the thread of the sink; librdkafka's events are served by that thread too.
#[derive(Debug, Default)]
struct Shared {
    /// The first message that was not delivered, and why.
    undelivered: Mutex<Option<(Code, usize)>>,
    /// Why a broker counts as away.
    away: Mutex<Option<String>>,
    is_transactional: AtomicBool,
}

/// librdkafka's events.
struct Events {
    shared: Arc<Shared>,
    servers: String,
}

impl ClientContext for Events {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka producer error");
        if error.rdkafka_error_code() == Some(Code::AllBrokersDown) {
            *self.shared.away.lock() =
                Some(format!("kafka broker \"{}\" cannot be reached", self.servers));
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "kafka producer");
    }
}

impl ProducerContext for Events {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, message)) = result else { return };
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        // An abort takes back what was not sent yet.
        if matches!(code, Code::PurgeQueue | Code::PurgeInflight) {
            return;
        }
        let bytes = message.key_len() + message.payload_len();
        self.shared.undelivered.lock().get_or_insert((code, bytes));
    }
}

impl KafkaLog {
    /// A producer of the mapping's topic; with a transactional id one of transactions. Nothing is
    /// asked of a broker yet.
    pub fn open(settings: &Settings, transactional_id: Option<&str>) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut config = settings.producer.clone();
        let transactions = match transactional_id {
            None => {
                // An outage is waited for, however long it takes.
                if config.get("message.timeout.ms").is_none() {
                    config.set("message.timeout.ms", "0");
                }
                None
            }
            Some(id) => {
                config.set("transactional.id", id);
                let timeout_ms = settings.transaction_timeout.as_millis().to_string();
                config.set("transaction.timeout.ms", timeout_ms);
                let group = group(settings, id)?;
                shared.is_transactional.store(true, Ordering::Relaxed);
                Some(Transactions { group, is_open: false, has_mark: false })
            }
        };
        let events = Events { shared: Arc::clone(&shared), servers: settings.servers.clone() };
        let producer = config.create_with_context(events).map_err(client_error)?;
        let (sent, sent_bytes, acknowledged) = Default::default();
        let topic = settings.topic.clone();
        Ok(Self { topic, producer, shared, transactions, sent, sent_bytes, acknowledged })
    }

    /// Asks for the topic: 42P01 if the broker does not know it. A broker that does not answer may
    /// come later.
    pub fn check_topic(&self) -> Result<()> {
        for _ in 0..UNKNOWN_TOPIC_ATTEMPTS {
            let client = self.producer.client();
            let Ok(metadata) = client.fetch_metadata(Some(&self.topic), ANSWER_TIMEOUT) else {
                return Ok(());
            };
            let topic = metadata.topics().iter().find(|topic| topic.name() == self.topic);
            let Some(error) = topic.and_then(|topic| topic.error()) else { return Ok(()) };
            match Code::from(error) {
                Code::UnknownTopicOrPartition | Code::UnknownTopic => self.producer.poll(WAIT),
                code => return permanent(&self.topic, code, 0).map_or(Ok(()), Err),
            }
        }
        Err(unknown_topic(&self.topic))
    }

    /// What became of messages since the last look.
    fn check_deliveries(&mut self) -> Answer<()> {
        let Some((code, bytes)) = self.shared.undelivered.lock().take() else { return Ok(()) };
        if let Some(error) = permanent(&self.topic, code, bytes) {
            return Err(Failure::Failed(error));
        }
        if self.shared.is_transactional.load(Ordering::Relaxed) {
            tracing::debug!(topic = self.topic, %code, "a message of a transaction was refused");
            return Err(Failure::Aborted);
        }
        let topic = &self.topic;
        let reason = format!("topic \"{topic}\": a message was not delivered: {code}");
        Err(Failure::Failed(match code {
            Code::MessageTimedOut => Error::Connection(reason),
            _ => Error::Lost(reason),
        }))
    }

    /// What follows from an error of a call.
    fn failure(&self, error: &KafkaError) -> Failure {
        let KafkaError::Transaction(error) = error else {
            let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
            return match permanent(&self.topic, code, 0) {
                Some(error) => Failure::Failed(error),
                None => Failure::Later,
            };
        };
        let code = error.code();
        if let Some(error) = permanent(&self.topic, code, 0) {
            return Failure::Failed(error);
        }
        if error.txn_requires_abort() {
            tracing::debug!(topic = self.topic, %code, "a transaction must be aborted");
            return Failure::Aborted;
        }
        if error.is_retriable() || code == Code::OperationTimedOut {
            return Failure::Later;
        }
        Failure::Failed(self.lost(error))
    }

    /// Somebody else has the transactional id, or the broker gave the transaction up: a restart
    /// finds out from the mark.
    fn lost(&self, error: &RDKafkaError) -> Error {
        let topic = &self.topic;
        Error::Lost(format!("topic \"{topic}\": the producer cannot go on: {}", error.string()))
    }

    fn transactions(&mut self) -> Answer<&mut Transactions> {
        let missing = || Error::Internal("a producer without transactions".to_owned());
        self.transactions.as_mut().ok_or_else(|| Failure::Failed(missing()))
    }

    fn mark_position(&self) -> Answer<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, 0);
        Ok(list)
    }
}

impl TopicLog for KafkaLog {
    fn send(&mut self, messages: &Messages, from: usize) -> Answer<usize> {
        let mut taken = 0;
        let mut has_waited = false;
        while from + taken < messages.len() {
            if taken % SERVED_MESSAGES == SERVED_MESSAGES - 1 {
                self.producer.poll(Duration::ZERO);
                self.check_deliveries()?;
            }
            let (key, value) = messages.get(from + taken);
            let record =
                BaseRecord::<[u8], [u8]> { key, payload: value, ..BaseRecord::to(&self.topic) };
            match self.producer.send(record) {
                Ok(()) => {
                    taken += 1;
                    self.sent += 1;
                    self.sent_bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
                }
                Err((error, _)) => match error.rdkafka_error_code() {
                    Some(Code::QueueFull) if has_waited => break,
                    Some(Code::QueueFull) => {
                        has_waited = true;
                        self.producer.poll(ROOM_WAIT);
                    }
                    Some(code) => {
                        let bytes = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
                        let permanent = permanent(&self.topic, code, bytes);
                        return Err(match (permanent, &self.transactions) {
                            (Some(error), _) => Failure::Failed(error),
                            (None, Some(_)) if code != Code::Fatal => Failure::Aborted,
                            _ => Failure::Failed(Error::Lost(format!(
                                "topic \"{}\": the producer cannot go on: {error}",
                                self.topic
                            ))),
                        });
                    }
                    None => return Err(Failure::Failed(client_error(error))),
                },
            }
        }
        self.producer.poll(Duration::ZERO);
        self.check_deliveries()?;
        Ok(taken)
    }

    fn flush(&mut self) -> Answer<()> {
        let flushed = self.producer.flush(WAIT);
        self.check_deliveries()?;
        match flushed {
            Ok(()) => {
                *self.shared.away.lock() = None;
                Ok(())
            }
            Err(_) => Err(Failure::Later),
        }
    }

    fn serve(&mut self) -> Answer<Waiting> {
        self.producer.poll(Duration::ZERO);
        self.check_deliveries()?;
        let in_flight = usize::try_from(self.producer.in_flight_count()).unwrap_or(0);
        let acknowledged = self.sent.saturating_sub(in_flight);
        if acknowledged > self.acknowledged {
            self.acknowledged = acknowledged;
            *self.shared.away.lock() = None;
        }
        let of_message = self.sent_bytes / self.sent.max(1) + MESSAGE_OVERHEAD;
        // A producer that has nothing to say does not miss a broker.
        let is_waiting = in_flight > 0 || self.transactions.is_some();
        let trouble = self.shared.away.lock().clone().filter(|_| is_waiting);
        Ok(Waiting { bytes: in_flight * of_message, trouble })
    }

    fn init(&mut self) -> Answer<()> {
        let done = self.producer.init_transactions(WAIT);
        self.producer.poll(Duration::ZERO);
        done.map_err(|error| self.failure(&error))?;
        *self.shared.away.lock() = None;
        Ok(())
    }

    fn mark(&mut self) -> Answer<Option<i64>> {
        let position = self.mark_position()?;
        let found = self.transactions()?.group.committed_offsets(position, WHOLE_CALL);
        let found = found.map_err(|error| self.failure(&error))?;
        let Some(element) = found.elements().into_iter().next() else { return Ok(None) };
        element.error().map_err(|error| self.failure(&error))?;
        Ok(match element.offset() {
            Offset::Offset(mark) => Some(mark),
            _ => None,
        })
    }

    fn begin(&mut self) -> Answer<()> {
        self.producer.begin_transaction().map_err(|error| self.failure(&error))?;
        let transactions = self.transactions()?;
        (transactions.is_open, transactions.has_mark) = (true, false);
        Ok(())
    }

    fn commit(&mut self, mark: i64) -> Answer<()> {
        self.flush()?;
        if !self.transactions()?.has_mark {
            let mut position = self.mark_position()?;
            let group = self.transactions()?.group.group_metadata();
            let group = group.ok_or_else(|| {
                Failure::Failed(Error::Internal("a consumer without a group".to_owned()))
            })?;
            position
                .set_partition_offset(&self.topic, 0, Offset::Offset(mark))
                .map_err(|error| Failure::Failed(client_error(error)))?;
            self.producer
                .send_offsets_to_transaction(&position, &group, WHOLE_CALL)
                .map_err(|error| self.failure(&error))?;
            self.transactions()?.has_mark = true;
        }
        self.producer.commit_transaction(WAIT).map_err(|error| self.failure(&error))?;
        self.transactions()?.is_open = false;
        *self.shared.away.lock() = None;
        Ok(())
    }

    fn abort(&mut self) -> Answer<()> {
        let aborted = self.producer.abort_transaction(WAIT);
        self.producer.poll(Duration::ZERO);
        // What was refused before is taken back as well.
        *self.shared.undelivered.lock() = None;
        aborted.map_err(|error| self.failure(&error))?;
        self.transactions()?.is_open = false;
        Ok(())
    }
}

impl Drop for KafkaLog {
    /// Readers of committed rows need not wait for the broker to give an open transaction up.
    fn drop(&mut self) {
        if self.transactions.as_ref().is_some_and(|transactions| transactions.is_open)
            && let Err(error) = self.producer.abort_transaction(WHOLE_CALL)
        {
            tracing::debug!(topic = self.topic, %error, "an open transaction is left to time out");
        }
    }
}

/// The group that keeps the marks of a transactional id. It has no members.
fn group(settings: &Settings, id: &str) -> Result<BaseConsumer> {
    let mut config: ClientConfig = settings.client.clone();
    config.set("group.id", id);
    config.create().map_err(client_error)
}

fn client_error(error: KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, reason, name, value) => Error::Invalid {
            code: "22023",
            message: format!("invalid value \"{value}\" for option \"{name}\": {reason}"),
        },
        KafkaError::ClientCreation(reason) => Error::Invalid { code: "22023", message: reason },
        other => Error::Internal(format!("kafka producer: {other}")),
    }
}

fn unknown_topic(topic: &str) -> Error {
    Error::User { code: "42P01", message: format!("topic \"{topic}\" does not exist") }
}

/// The error for what no retry will cure.
fn permanent(topic: &str, code: Code, bytes: usize) -> Option<Error> {
    let user = |code, message| Some(Error::User { code, message });
    match code {
        Code::MessageSizeTooLarge if bytes > 0 => user(
            "54000",
            format!(
                "topic \"{topic}\": a message of {bytes} bytes is too large (options \
                 \"message.max.bytes\" here, max.message.bytes of the topic)"
            ),
        ),
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => {
            user("54000", format!("topic \"{topic}\": a message is too large"))
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            Some(unknown_topic(topic))
        }
        Code::InvalidTopic
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => {
            user("42501", format!("topic \"{topic}\": {code}"))
        }
        Code::Authentication | Code::SaslAuthenticationFailed => {
            user("28000", format!("topic \"{topic}\": {code}"))
        }
        Code::InvalidTransactionTimeout => {
            user("22023", format!("topic \"{topic}\": option \"transaction.timeout.ms\": {code}"))
        }
        Code::InvalidRecord | Code::PolicyViolation | Code::InvalidMessage => {
            user("22000", format!("topic \"{topic}\" refuses a message: {code}"))
        }
        Code::UnsupportedFeature | Code::UnsupportedVersion => {
            user("0A000", format!("topic \"{topic}\": the broker has no transactions: {code}"))
        }
        _ => None,
    }
}
