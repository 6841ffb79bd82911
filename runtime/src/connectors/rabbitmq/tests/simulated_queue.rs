//! A broker in memory with one queue. What is not acknowledged when a link is gone comes again, to
//! whoever asks, in another order, some time later. Unless it is calm it loses connections, and an
//! acknowledgement on its way is then done or not, and never answered.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use parking_lot::Mutex;
use storage::env::Rng;

use crate::{
    Result,
    connectors::rabbitmq::link::{Broker, Delivery, Event, Link},
    processor::ProcessorContext,
};

/// Messages that one link may hold.
const PREFETCH: usize = 50;
/// Of a queue that is not calm one call in so many loses the connection.
const TROUBLE: u64 = 150;

#[derive(Debug, Clone)]
struct Message {
    id: Option<String>,
    body: String,
}

/// The broker.
pub(crate) struct SimulatedQueue {
    rng: Rng,
    is_calm: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Message>,
    /// Of connections that are gone, which the broker has not noticed for so many calls.
    limbo: Vec<(u64, Message)>,
    /// With links.
    held: usize,
    redelivered: u64,
}

impl SimulatedQueue {
    /// One that loses nothing.
    pub(crate) fn calm(seed: u64) -> Arc<Self> {
        Arc::new(Self { rng: Rng::seeded(seed), is_calm: true, state: Mutex::default() })
    }

    /// One whose connections are lost now and then.
    pub(crate) fn troubled(seed: u64) -> Arc<Self> {
        Arc::new(Self { rng: Rng::seeded(seed), is_calm: false, state: Mutex::default() })
    }

    /// Messages of that number, each with its id.
    pub(crate) fn publish(&self, ids: Range<i64>) {
        for id in ids {
            self.publish_as(&format!("m{id}"), &format!("{{\"id\":{id}}}"));
        }
    }

    /// A message.
    pub(crate) fn publish_as(&self, id: &str, body: &str) {
        let message = Message { id: Some(id.to_owned()), body: body.to_owned() };
        self.state.lock().ready.push_back(message);
    }

    /// A message that cannot be told from others.
    pub(crate) fn publish_without_id(&self, body: &str) {
        self.state.lock().ready.push_back(Message { id: None, body: body.to_owned() });
    }

    /// Messages that nobody has acknowledged.
    pub(crate) fn left(&self) -> usize {
        let state = self.state.lock();
        state.ready.len() + state.limbo.len() + state.held
    }

    /// How often a message has come again.
    pub(crate) fn redelivered(&self) -> u64 {
        self.state.lock().redelivered
    }

    fn below(&self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    /// A connection is gone.
    fn requeue(&self, held: Vec<(u64, Message)>) {
        let mut state = self.state.lock();
        state.held -= held.len();
        state.redelivered += held.len() as u64;
        for (_, message) in held {
            let later = if self.is_calm { 0 } else { self.below(40) };
            let at = self.below(state.limbo.len() as u64 + 1) as usize;
            state.limbo.insert(at, (later, message));
        }
    }

    /// The broker notices connections that are gone, and gives a message.
    fn next(&self) -> Option<Message> {
        let mut state = self.state.lock();
        let mut n = 0;
        while n < state.limbo.len() {
            match state.limbo[n].0.checked_sub(1) {
                Some(left) => {
                    state.limbo[n].0 = left;
                    n += 1;
                }
                None => {
                    let (_, message) = state.limbo.remove(n);
                    state.ready.push_front(message);
                }
            }
        }
        let message = state.ready.pop_front()?;
        state.held += 1;
        Some(message)
    }
}

/// A broker is shared by the instances of one execution; the queue outlives them.
#[derive(Clone)]
pub(crate) struct QueueBroker(pub(crate) Arc<SimulatedQueue>);

impl Broker for QueueBroker {
    fn link(&self, context: &ProcessorContext) -> Result<Box<dyn Link>> {
        Ok(Box::new(SimulatedLink {
            queue: Arc::clone(&self.0),
            wake: Arc::clone(&context.wake),
            is_connected: false,
            tag: 0,
            held: Vec::new(),
            acknowledged: None,
        }))
    }
}

struct SimulatedLink {
    queue: Arc<SimulatedQueue>,
    wake: Arc<dyn Fn() + Send + Sync>,
    is_connected: bool,
    tag: u64,
    held: Vec<(u64, Message)>,
    /// On its way.
    acknowledged: Option<u64>,
}

impl SimulatedLink {
    /// The broker does what was said.
    fn settle(&mut self, up_to: u64) {
        let before = self.held.len();
        self.held.retain(|(tag, _)| *tag > up_to);
        self.queue.state.lock().held -= before - self.held.len();
    }

    /// The connection is gone; what was on its way has arrived or not.
    fn lose(&mut self) {
        self.is_connected = false;
        if let Some(tag) = self.acknowledged.take()
            && self.queue.below(2) == 0
        {
            self.settle(tag);
        }
        self.queue.requeue(std::mem::take(&mut self.held));
        self.tag = 0;
    }
}

impl Link for SimulatedLink {
    fn next(&mut self) -> Option<Event> {
        let has_trouble = !self.queue.is_calm && self.queue.below(TROUBLE) == 0;
        if !self.is_connected {
            self.is_connected = true;
            return Some(Event::Connected);
        }
        if has_trouble {
            self.lose();
            return Some(Event::Lost);
        }
        if self.acknowledged.is_some() && (self.queue.is_calm || self.queue.below(4) == 0) {
            let tag = self.acknowledged.take()?;
            self.settle(tag);
            return Some(Event::Answered(tag));
        }
        if self.held.len() >= PREFETCH {
            return None;
        }
        let message = self.queue.next()?;
        (self.wake)();
        self.tag += 1;
        self.held.push((self.tag, message.clone()));
        let Message { id, body } = message;
        Some(Event::Delivered(Delivery { tag: self.tag, id, body: body.into_bytes() }))
    }

    fn acknowledge(&mut self, up_to: u64) {
        self.acknowledged = Some(up_to);
        (self.wake)();
    }

    fn waiting(&self) -> (usize, usize) {
        (0, 0)
    }
}

impl Drop for SimulatedLink {
    fn drop(&mut self) {
        self.lose();
    }
}
