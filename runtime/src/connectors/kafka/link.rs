//! `Link`: what all instances of one execution share: the client, the topic partitions that are
//! known, and a supervisor thread that resolves offsets, finds new topic partitions and notices
//! outages. The supervisor is the only one who talks to the broker about anything but messages.
//!
//! ```text
//!             ┌────────── probe: metadata, offsets of what is new ──────────┐
//!   connected │ every few seconds, or at once after an error event          │ ok: connected
//!             └──→ away: trouble shown, probed every 100 ms ────────────────┘
//! ```
//! After an outage the end of every topic partition is asked for again *before* the link counts as
//! connected, so that nobody takes a topic partition for finished that has grown meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use rdkafka::{
    client::ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};

use super::{batch::Wake, settings::Settings};
use crate::{
    Error, Result,
    processor::{ProcessorContext, TellTrouble},
};

/// Metadata is asked for so often while all is well: new topic partitions are found so late.
const PROBE_INTERVAL: Duration = Duration::from_secs(3);
/// … and so often during an outage.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// One wait for events; the supervisor sees a stop so late.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// A broker that does not answer for so long counts as away.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(800);
/// The start of a source waits so often for events, and so long each time: a broker that is there
/// but busy has so long to answer, and a bounded read without one fails well within a second.
const OPEN_POLLS: u32 = 42;
const OPEN_POLL: Duration = Duration::from_millis(20);
/// … and no longer than this many waits once every broker has refused the connection. Not at once:
/// of the addresses of a name the first may refuse and the second not.
const REFUSED_POLLS: u32 = 20;
/// Refused so often in a row without ever an answer, a topic does not exist.
const UNKNOWN_TOPIC_ATTEMPTS: u32 = 5;
/// Waits for the instances to let go of the client, at most; then they destroy it.
const RELEASE_WAITS_MAX: u32 = 200;

/// The client.
pub type Client = BaseConsumer<Events>;

/// A topic partition as the supervisor found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicPartition {
    /// Its number.
    pub id: i32,
    /// Oldest offset when it was found.
    pub low: i64,
    /// Next offset to be produced when it was found.
    pub high: i64,
    /// The same after the last outage.
    pub high_now: i64,
    /// Whether it appeared after the start.
    pub is_late: bool,
}

/// What the supervisor tells.
#[derive(Debug, Default, Clone)]
pub struct Findings {
    /// Topic partitions, ascending.
    pub partitions: Vec<TopicPartition>,
    /// Whether the broker has answered once.
    pub is_resolved: bool,
    /// What ended the supervisor.
    pub failure: Option<Error>,
    /// Why the broker counts as away.
    pub trouble: Option<String>,
}

/// Shared by instances, supervisor and librdkafka's threads.
#[derive(Debug, Default)]
struct Shared {
    /// Written by the supervisor; read by instances when `version` moved.
    findings: Mutex<Findings>,
    /// Signalled when `findings` changed.
    changed: Condvar,
    /// Counts changes of `findings` and of `is_connected`.
    version: AtomicU64,
    /// Set by the supervisor after a probe; cleared by any error event.
    is_connected: AtomicBool,
    /// Set by any error event; cleared when a probe begins.
    has_error: AtomicBool,
    /// Set when no connection to any broker stands and the last attempt failed.
    is_refused: AtomicBool,
    /// Set with the first answer of a broker, for good.
    is_resolved: AtomicBool,
    /// Set when the last instance is gone.
    is_stopped: AtomicBool,
}

/// librdkafka's events, seen by the supervisor when it polls.
pub struct Events {
    shared: Arc<Shared>,
}

impl ClientContext for Events {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client error");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.shared.is_refused.store(true, Ordering::SeqCst);
        }
        self.shared.has_error.store(true, Ordering::SeqCst);
        self.shared.is_connected.store(false, Ordering::SeqCst);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "kafka client");
    }
}

impl ConsumerContext for Events {}

/// The shared half of a source.
pub struct Link {
    settings: Settings,
    is_bounded: bool,
    shared: Arc<Shared>,
    /// The client, once the first instance has begun.
    client: Mutex<Option<Arc<Client>>>,
    /// How to wake the instances.
    wakes: Arc<Mutex<Vec<Wake>>>,
}

impl Link {
    /// A link that is opened by the first instance.
    pub fn new(settings: Settings, is_bounded: bool) -> Arc<Self> {
        let (shared, client, wakes) = Default::default();
        Arc::new(Self { settings, is_bounded, shared, client, wakes })
    }

    /// The client; the first call starts it and waits shortly for the broker. A bounded source
    /// fails without one; an unbounded one begins later.
    pub fn open(&self, context: &ProcessorContext) -> Result<Arc<Client>> {
        self.wakes.lock().push(Arc::clone(&context.wake));
        let mut slot = self.client.lock();
        if let Some(client) = &*slot {
            return Ok(Arc::clone(client));
        }
        let events = Events { shared: Arc::clone(&self.shared) };
        let client: Client = self
            .settings
            .client
            .create_with_context(events)
            .map_err(|error| Error::Internal(format!("kafka client: {error}")))?;
        let client = Arc::new(client);
        let supervisor = Supervisor {
            client: Arc::clone(&client),
            settings: self.settings.clone(),
            shared: Arc::clone(&self.shared),
            trouble: Arc::clone(&context.trouble),
            wakes: Arc::clone(&self.wakes),
            refusals: 0,
        };
        std::thread::Builder::new()
            .name(format!("kafka-{}", self.settings.topic))
            .spawn(move || supervisor.run())
            .map_err(|error| Error::Limit(format!("cannot start a thread: {error}")))?;
        *slot = Some(Arc::clone(&client));
        self.wait_resolved(&client)?;
        Ok(client)
    }

    /// Waits for the first answer. Serves events meanwhile: the supervisor is busy asking, and it
    /// is an event that says that nobody will answer.
    fn wait_resolved(&self, client: &Client) -> Result<()> {
        let shared = &self.shared;
        for poll in 0..OPEN_POLLS {
            {
                let mut findings = shared.findings.lock();
                let is_waiting =
                    |findings: &mut Findings| !findings.is_resolved && findings.failure.is_none();
                shared.changed.wait_while_for(&mut findings, is_waiting, OPEN_POLL);
                if let Some(failure) = &findings.failure {
                    return Err(failure.clone());
                }
                if findings.is_resolved {
                    return Ok(());
                }
            }
            drop(client.poll(Duration::ZERO));
            if shared.is_refused.load(Ordering::SeqCst) && poll >= REFUSED_POLLS {
                break;
            }
        }
        if !self.is_bounded {
            return Ok(());
        }
        let trouble = shared.findings.lock().trouble.clone();
        Err(Error::Connection(trouble.unwrap_or_else(|| {
            let servers = &self.settings.servers;
            match shared.is_refused.load(Ordering::SeqCst) {
                true => format!("kafka broker \"{servers}\" cannot be reached"),
                false => format!("kafka broker \"{servers}\" does not answer"),
            }
        })))
    }

    /// Moves whenever [`Link::findings`] or [`Link::is_connected`] may have.
    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::SeqCst)
    }

    /// What the supervisor has found.
    pub fn findings(&self) -> Findings {
        self.shared.findings.lock().clone()
    }

    /// Whether the findings at `version` came from a broker.
    pub fn is_resolved(&self, version: u64) -> bool {
        version > 0 && self.shared.is_resolved.load(Ordering::SeqCst)
    }

    /// Whether the broker answers and no error was seen since it did.
    pub fn is_connected(&self) -> bool {
        self.shared.is_connected.load(Ordering::SeqCst)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
    }
}

/// The thread.
struct Supervisor {
    client: Arc<Client>,
    settings: Settings,
    shared: Arc<Shared>,
    trouble: TellTrouble,
    wakes: Arc<Mutex<Vec<Wake>>>,
    /// How often in a row the broker said that it does not know the topic.
    refusals: u32,
}

/// How a probe ended.
enum Probe {
    Connected,
    /// May pass.
    Away(String),
    /// Will not.
    Failed(Error),
}

impl Supervisor {
    fn run(mut self) {
        let mut has_trouble = false;
        while !self.is_stopped() {
            let was_connected = self.shared.is_connected.load(Ordering::SeqCst);
            // Error events that come from now on count against this probe.
            self.shared.has_error.store(false, Ordering::SeqCst);
            match self.probe(!was_connected) {
                Probe::Connected => {
                    self.connected();
                    if std::mem::take(&mut has_trouble) {
                        (self.trouble)(None);
                    }
                    self.tell(|findings| findings.trouble = None);
                }
                Probe::Away(reason) => {
                    self.shared.is_connected.store(false, Ordering::SeqCst);
                    if !self.is_stopped() {
                        has_trouble = true;
                        (self.trouble)(Some((&Error::Connection(reason.clone())).into()));
                    }
                    self.tell(|findings| findings.trouble = Some(reason));
                }
                Probe::Failed(error) => {
                    self.shared.is_connected.store(false, Ordering::SeqCst);
                    self.tell(|findings| findings.failure = Some(error));
                    break;
                }
            }
            self.wait_for_events();
        }
        self.release();
    }

    /// Not before the probe has ended: one may take as long as a short `idle_timeout`.
    fn connected(&self) {
        self.shared.is_connected.store(true, Ordering::SeqCst);
        if self.shared.has_error.load(Ordering::SeqCst) {
            self.shared.is_connected.store(false, Ordering::SeqCst);
        }
    }

    fn is_stopped(&self) -> bool {
        self.shared.is_stopped.load(Ordering::SeqCst)
    }

    /// Changes the findings, and wakes everybody.
    fn tell(&self, change: impl FnOnce(&mut Findings)) {
        {
            let mut findings = self.shared.findings.lock();
            change(&mut findings);
            self.shared.is_resolved.store(findings.is_resolved, Ordering::SeqCst);
        }
        self.shared.version.fetch_add(1, Ordering::SeqCst);
        self.shared.changed.notify_all();
        let wakes = self.wakes.lock().clone();
        wakes.iter().for_each(|wake| wake());
    }

    /// Serves events until the next probe: soon after an error, later if all is well.
    fn wait_for_events(&self) {
        let is_connected = || self.shared.is_connected.load(Ordering::SeqCst);
        let waits = |interval: Duration| interval.as_millis() / POLL_INTERVAL.as_millis();
        let mut left = waits(if is_connected() { PROBE_INTERVAL } else { RETRY_INTERVAL });
        while left > 0 && !self.is_stopped() {
            // Only events come out here; messages have queues of their own.
            let was_connected = is_connected();
            drop(self.client.poll(POLL_INTERVAL));
            left -= 1;
            if was_connected && !is_connected() {
                self.shared.version.fetch_add(1, Ordering::SeqCst);
                left = left.min(waits(RETRY_INTERVAL));
            }
        }
    }

    /// Asks for the topic; resolves the offsets of new topic partitions, and after an outage the
    /// ends of all.
    fn probe(&mut self, is_after_outage: bool) -> Probe {
        let topic = self.settings.topic.as_str();
        let metadata = match self.client.fetch_metadata(Some(topic), ANSWER_TIMEOUT) {
            Ok(metadata) => metadata,
            Err(error) => return Probe::Away(self.away(&error)),
        };
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Probe::Away(format!("kafka broker does not speak of topic \"{topic}\""));
        };
        if let Some(error) = found.error() {
            return self.refused(error);
        }
        self.refusals = 0;
        let mut findings = self.shared.findings.lock().clone();
        for partition in found.partitions() {
            let id = partition.id();
            if partition.leader() < 0 {
                let reason = format!("topic \"{topic}\": topic partition {id} has no leader");
                return Probe::Away(reason);
            }
            let known = findings.partitions.iter_mut().find(|known| known.id == id);
            if known.is_some() && !is_after_outage {
                continue;
            }
            let (low, high) = match self.client.fetch_watermarks(topic, id, ANSWER_TIMEOUT) {
                Ok(offsets) => offsets,
                Err(error) => return Probe::Away(self.away(&error)),
            };
            match known {
                Some(known) => known.high_now = high,
                None => {
                    let is_late = findings.is_resolved;
                    let found = TopicPartition { id, low, high, high_now: high, is_late };
                    findings.partitions.push(found);
                }
            }
        }
        findings.partitions.sort_by_key(|partition| partition.id);
        findings.is_resolved = true;
        self.tell(|current| *current = findings);
        Probe::Connected
    }

    fn away(&self, error: &KafkaError) -> String {
        let reason = error.rdkafka_error_code().map_or(error.to_string(), |code| code.to_string());
        format!("kafka broker \"{}\" cannot be reached: {reason}", self.settings.servers)
    }

    /// The broker answered with an error for the topic.
    fn refused(&mut self, error: RDKafkaRespErr) -> Probe {
        let topic = &self.settings.topic;
        let code = RDKafkaErrorCode::from(error);
        let is_unknown = matches!(
            code,
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic
        );
        let was_resolved = self.shared.findings.lock().is_resolved;
        let reason = match is_unknown {
            true => format!("topic \"{topic}\" does not exist"),
            false => format!("topic \"{topic}\": {code}"),
        };
        if is_unknown && !was_resolved {
            self.refusals += 1;
            if self.refusals >= UNKNOWN_TOPIC_ATTEMPTS {
                return Probe::Failed(Error::User { code: "42P01", message: reason });
            }
        }
        let is_denied = matches!(
            code,
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::InvalidTopic
        );
        if is_denied {
            return Probe::Failed(Error::User { code: "42501", message: reason });
        }
        Probe::Away(reason)
    }

    /// Destroying a client may block, so it is done here and not on a worker: waits until the
    /// instances have let go of it.
    fn release(self) {
        for _ in 0..RELEASE_WAITS_MAX {
            if Arc::strong_count(&self.client) == 1 {
                return;
            }
            drop(self.client.poll(POLL_INTERVAL));
        }
    }
}
