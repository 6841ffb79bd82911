//! `Client`: the thread that holds one instance's connection, and comes back after an outage. It reads
//! with a short timeout, so that it also sees what it is to say.
//!
//! ```text
//!   connect → greet → authenticate → open → prefetch → consume → ┌ hear frames   ┐ → close
//!      ▲                                                         │ acknowledge   │
//!      └───────── away: trouble shown, again after a while ◄──── └ heartbeat     ┘
//! ```
//! Behind every acknowledgement goes a question (the prefetch once more) on the same channel: the
//! broker answers it when it has done what was said before.
//!
//! What the broker refuses for good is an error of the job (wrong password, no such queue), unless it
//! was all right once: then the broker may be starting, and it is asked again.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use storage::env::Clock;

use super::{
    Trouble,
    link::{Broker, Delivery, Event, Link},
    settings::Settings,
    wire::{FRAME_BYTES_MAX, GREETING, Heard, Words, first_frame},
};
use crate::{
    Error, Result,
    processor::{ProcessorContext, TellTrouble},
};

/// A broker that does not take a connection or answer for so long counts as away.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// The thread sees what it is to say, and a stop, so late.
const READ_TIMEOUT: Duration = Duration::from_millis(20);
/// Heartbeats every so many seconds at most: an outage without a word is noticed after two.
const HEARTBEAT_SECONDS: u16 = 10;
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Bytes of messages that wait for the instance; with more nothing is read.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// Bytes of one message; RabbitMQ itself takes 128 MiB at most.
const MESSAGE_BYTES_MAX: u64 = 128 << 20;

/// The broker of a mapping.
#[derive(Debug)]
pub struct RealBroker {
    settings: Settings,
}

impl RealBroker {
    /// Of these options.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }
}

impl Broker for RealBroker {
    fn link(&self, context: &ProcessorContext) -> Result<Box<dyn Link>> {
        let shared: Arc<Shared> = Arc::default();
        let client = Client {
            settings: self.settings.clone(),
            shared: Arc::clone(&shared),
            clock: Arc::clone(&context.grid.env().clock),
            wake: Arc::clone(&context.wake),
            trouble: Arc::clone(&context.trouble),
            was_connected: false,
            has_trouble: false,
        };
        std::thread::Builder::new()
            .name(format!("rabbitmq-{}", self.settings.queue))
            .spawn(move || client.run())
            .map_err(|error| Error::Limit(format!("cannot start a thread: {error}")))?;
        Ok(Box::new(ClientLink { shared, is_connected: false }))
    }
}

/// Between the instance and its thread.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when the instance has said or taken something, or is gone.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    /// Of the messages among them.
    waiting: usize,
    waiting_bytes: usize,
    /// The tag up to which all is to be acknowledged.
    acknowledge: Option<u64>,
    is_stopped: bool,
}

/// The instance's end.
struct ClientLink {
    shared: Arc<Shared>,
    /// Whether the tags it speaks of are those of a connection.
    is_connected: bool,
}

impl Link for ClientLink {
    fn next(&mut self) -> Option<Event> {
        let mut state = self.shared.state.lock();
        let event = state.events.pop_front()?;
        match &event {
            Event::Delivered(delivery) => {
                let was_full = state.waiting_bytes >= WAITING_BYTES_MAX;
                state.waiting -= 1;
                state.waiting_bytes -= delivery.body.len();
                if was_full && state.waiting_bytes < WAITING_BYTES_MAX {
                    self.shared.changed.notify_one();
                }
            }
            Event::Connected => self.is_connected = true,
            Event::Lost => self.is_connected = false,
            Event::Answered(_) | Event::Failed(_) => {}
        }
        Some(event)
    }

    fn acknowledge(&mut self, up_to: u64) {
        let mut state = self.shared.state.lock();
        // Until the instance hears of a loss, it speaks of tags that are gone.
        let is_lost = state.events.iter().any(|event| matches!(event, Event::Lost));
        if self.is_connected && !is_lost {
            state.acknowledge = Some(up_to);
        }
    }

    fn waiting(&self) -> (usize, usize) {
        let state = self.shared.state.lock();
        (state.waiting, state.waiting_bytes)
    }
}

impl Drop for ClientLink {
    fn drop(&mut self) {
        self.shared.state.lock().is_stopped = true;
        self.shared.changed.notify_one();
    }
}

/// The thread.
struct Client {
    settings: Settings,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    wake: Arc<dyn Fn() + Send + Sync>,
    trouble: TellTrouble,
    was_connected: bool,
    has_trouble: bool,
}

impl Client {
    fn run(mut self) {
        while !self.is_stopped() {
            let ended = self.connect().and_then(|connection| self.serve(connection));
            match ended {
                Ok(()) => return,
                Err(Trouble::Failed(error)) => return self.tell(Event::Failed(error)),
                Err(Trouble::Away(reason)) => self.away(reason),
            }
            let mut state = self.shared.state.lock();
            if !state.is_stopped {
                self.shared.changed.wait_for(&mut state, RETRY_INTERVAL);
            }
        }
    }

    fn away(&mut self, reason: String) {
        if self.is_stopped() {
            return;
        }
        let reason = format!("RabbitMQ broker {:?}: {reason}", self.settings.broker);
        self.has_trouble = true;
        (self.trouble)(Some((&Error::Connection(reason)).into()));
    }

    fn is_stopped(&self) -> bool {
        self.shared.state.lock().is_stopped
    }

    fn tell(&self, event: Event) {
        {
            let mut state = self.shared.state.lock();
            if let Event::Delivered(delivery) = &event {
                state.waiting += 1;
                state.waiting_bytes += delivery.body.len();
            }
            if let Event::Lost = event {
                state.acknowledge = None;
            }
            state.events.push_back(event);
        }
        (self.wake)();
    }

    /// A connection that is asked for messages.
    fn connect(&self) -> Result<Connection, Trouble> {
        let Settings { broker, queue, prefetch, .. } = &self.settings;
        let mut connection = Connection::open(&broker.host, broker.port, &self.clock)?;
        connection.send(GREETING)?;
        self.hear(&mut connection, &Heard::Start)?;
        connection.say(|words| words.start_ok(&broker.user, &broker.password))?;
        let (frame_max, heartbeat) = loop {
            match self.answer(&mut connection)? {
                Heard::Tune { frame_max, heartbeat } => break (frame_max, heartbeat),
                _ => continue,
            }
        };
        let frame_max =
            if frame_max == 0 { FRAME_BYTES_MAX } else { frame_max.min(FRAME_BYTES_MAX) };
        connection.heartbeat = match heartbeat {
            0 => HEARTBEAT_SECONDS,
            offered => offered.min(HEARTBEAT_SECONDS),
        };
        let heartbeat = connection.heartbeat;
        connection.say(|words| {
            words.tune_ok(frame_max, heartbeat);
            words.open(&broker.virtual_host);
        })?;
        self.hear(&mut connection, &Heard::Opened)?;
        connection.say(Words::open_channel)?;
        self.hear(&mut connection, &Heard::ChannelOpened)?;
        connection.say(|words| {
            words.qos(*prefetch);
            words.consume(queue);
        })?;
        self.hear(&mut connection, &Heard::Consuming)?;
        Ok(connection)
    }

    fn hear(&self, connection: &mut Connection, expected: &Heard) -> Result<(), Trouble> {
        while self.answer(connection)? != *expected {}
        Ok(())
    }

    /// The next thing the broker says while the connection is made.
    fn answer(&self, connection: &mut Connection) -> Result<Heard, Trouble> {
        loop {
            if let Some(heard) = connection.next_frame()? {
                return self.accepted(heard);
            }
            if self.is_stopped() {
                return Err(Trouble::away("stopped"));
            }
            if connection.silence() > ANSWER_TIMEOUT {
                return Err(Trouble::away("it does not answer"));
            }
        }
    }

    /// What is not the end of the connection.
    fn accepted(&self, heard: Heard) -> Result<Heard, Trouble> {
        let Heard::Closed { code, text } = heard else { return Ok(heard) };
        let sqlstate = match code {
            403 => "28000",
            404 => "42704",
            // Not allowed, locked, refused: of the virtual host and of the queue.
            402 | 405 | 406 | 530 | 540 => "55000",
            _ => return Err(Trouble::Away(text)),
        };
        if self.was_connected {
            return Err(Trouble::Away(text));
        }
        let queue = &self.settings.queue;
        let message =
            format!("RabbitMQ broker {:?} refuses queue \"{queue}\": {text}", self.settings.broker);
        Err(Trouble::Failed(Error::User { code: sqlstate, message }))
    }

    /// Hears and says what there is, until the instance is gone.
    fn serve(&mut self, mut connection: Connection) -> Result<(), Trouble> {
        self.was_connected = true;
        self.tell(Event::Connected);
        if std::mem::take(&mut self.has_trouble) {
            (self.trouble)(None);
        }
        let served = self.talk(&mut connection);
        if served.is_err() {
            self.tell(Event::Lost);
        }
        served
    }

    fn talk(&mut self, connection: &mut Connection) -> Result<(), Trouble> {
        // Tags that questions were asked behind; the answer to the first prefetch has come.
        let mut asked: VecDeque<u64> = VecDeque::new();
        let mut message: Option<Message> = None;
        loop {
            let (acknowledge, is_stopped, is_full) = {
                let mut state = self.shared.state.lock();
                let is_full = state.waiting_bytes >= WAITING_BYTES_MAX;
                if is_full && !state.is_stopped && state.acknowledge.is_none() {
                    self.shared.changed.wait_for(&mut state, READ_TIMEOUT);
                }
                (state.acknowledge.take(), state.is_stopped, is_full)
            };
            if let Some(tag) = acknowledge {
                let prefetch = self.settings.prefetch;
                connection.say(|words| {
                    words.ack(tag);
                    words.qos(prefetch);
                })?;
                asked.push_back(tag);
            }
            if is_stopped {
                return self.leave(connection);
            }
            connection.beat()?;
            if is_full {
                continue;
            }
            let Some(heard) = connection.next_frame()? else {
                if connection.silence() > Duration::from_secs(2 * u64::from(connection.heartbeat)) {
                    return Err(Trouble::away("it has fallen silent"));
                }
                continue;
            };
            match self.accepted(heard)? {
                Heard::QosOk => {
                    if let Some(tag) = asked.pop_front() {
                        self.tell(Event::Answered(tag));
                    }
                }
                Heard::Deliver(tag) => message = Some(Message { tag, ..Message::default() }),
                Heard::Header(length, id) => {
                    if let Some(message) = &mut message {
                        message.begin(length, id)?;
                    }
                }
                Heard::Body(bytes) => {
                    if let Some(message) = &mut message {
                        message.body.extend(bytes);
                    }
                }
                _ => {}
            }
            if let Some(whole) = message.take_if(|message| message.is_whole()) {
                let Message { tag, id, body, .. } = whole;
                self.tell(Event::Delivered(Delivery { tag, id, body }));
            }
        }
    }

    /// Ends the connection in good order: what was acknowledged just before is done.
    fn leave(&self, connection: &mut Connection) -> Result<(), Trouble> {
        connection.say(Words::close)?;
        connection.heard_at = self.clock.monotonic_nanos();
        while connection.silence() < ANSWER_TIMEOUT {
            if connection.next_frame()? == Some(Heard::CloseOk) {
                break;
            }
        }
        Ok(())
    }
}

/// A message in the making.
#[derive(Debug, Default)]
struct Message {
    tag: u64,
    length: Option<u64>,
    id: Option<String>,
    body: Vec<u8>,
}

impl Message {
    fn begin(&mut self, length: u64, id: Option<String>) -> Result<(), Trouble> {
        if length > MESSAGE_BYTES_MAX {
            let message = format!("a message of {length} bytes is too long");
            return Err(Trouble::Failed(Error::User { code: "54000", message }));
        }
        (self.length, self.id) = (Some(length), id);
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.length.is_some_and(|length| self.body.len() as u64 >= length)
    }
}

/// A socket, with what has come and is no frame yet.
struct Connection {
    stream: TcpStream,
    clock: Arc<dyn Clock>,
    bytes: Vec<u8>,
    /// How much of it was heard.
    at: usize,
    words: Words,
    /// Seconds.
    heartbeat: u16,
    /// When something came and was said last, ns.
    heard_at: u64,
    said_at: u64,
}

impl Connection {
    fn open(host: &str, port: u16, clock: &Arc<dyn Clock>) -> Result<Self, Trouble> {
        let lost = |error: std::io::Error| Trouble::Away(error.to_string());
        let mut last = Trouble::away("its name has no address");
        for address in (host, port).to_socket_addrs().map_err(lost)? {
            match TcpStream::connect_timeout(&address, ANSWER_TIMEOUT) {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(lost)?;
                    stream.set_read_timeout(Some(READ_TIMEOUT)).map_err(lost)?;
                    stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(lost)?;
                    let now = clock.monotonic_nanos();
                    return Ok(Self {
                        stream,
                        clock: Arc::clone(clock),
                        bytes: Vec::new(),
                        at: 0,
                        words: Words::default(),
                        heartbeat: HEARTBEAT_SECONDS,
                        heard_at: now,
                        said_at: now,
                    });
                }
                Err(error) => last = lost(error),
            }
        }
        Err(last)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.said_at = self.clock.monotonic_nanos();
        self.stream.write_all(bytes).map_err(|error| Trouble::Away(error.to_string()))
    }

    fn say(&mut self, words: impl FnOnce(&mut Words)) -> Result<(), Trouble> {
        words(&mut self.words);
        let bytes = self.words.take();
        self.send(&bytes)
    }

    /// A heartbeat, if nothing was said for half of its time.
    fn beat(&mut self) -> Result<(), Trouble> {
        let half = u64::from(self.heartbeat) * 1_000_000_000 / 2;
        match self.clock.monotonic_nanos().saturating_sub(self.said_at) > half {
            true => self.say(Words::heartbeat),
            false => Ok(()),
        }
    }

    fn silence(&self) -> Duration {
        Duration::from_nanos(self.clock.monotonic_nanos().saturating_sub(self.heard_at))
    }

    /// What the broker says next; `None` if it says nothing for a moment.
    fn next_frame(&mut self) -> Result<Option<Heard>, Trouble> {
        if let Some((heard, length)) = first_frame(&self.bytes[self.at..])? {
            self.at += length;
            return Ok(Some(heard));
        }
        self.bytes.drain(..std::mem::take(&mut self.at));
        let start = self.bytes.len();
        self.bytes.resize(start + READ_BYTES, 0);
        let read = self.stream.read(&mut self.bytes[start..]);
        self.bytes.truncate(start + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => return Err(Trouble::away("it has closed the connection")),
            Ok(_) => self.heard_at = self.clock.monotonic_nanos(),
            Err(error) if is_timeout(error.kind()) => return Ok(None),
            Err(error) => return Err(Trouble::Away(error.to_string())),
        }
        let Some((heard, length)) = first_frame(&self.bytes)? else { return Ok(None) };
        self.at = length;
        Ok(Some(heard))
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
