//! `TopicQueue`: drains the messages of several topic partitions in batches through librdkafka's
//! own queue, and shows them in place. It is the one file of the workspace with `unsafe`: the safe
//! API takes one message at a time and twice the CPU (270 ns more a message, measured).
//!
//! Nothing of a message outlives the call that shows it, and every message is given back exactly
//! once, also when the visitor panics.

#![expect(unsafe_code, reason = "librdkafka's batch queue has no safe interface")]

use std::{
    ffi::{CString, c_void},
    ptr,
    sync::Arc,
};

use rdkafka::{bindings as native, consumer::Consumer, types::RDKafkaErrorCode};

use super::link::Client;
use crate::{Error, Result};

/// Called by librdkafka's threads when the first message arrives in an empty queue.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Milliseconds that a drain waits for messages: never.
const DRAIN_TIMEOUT_MS: i32 = 0;

/// A message, borrowed from librdkafka.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Topic partition.
    pub partition: i32,
    /// Its offset, or of an event the offset it speaks of.
    pub offset: i64,
    /// What it carries.
    pub content: Content<'a>,
}

/// What came out of the queue.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// Key and value as they were produced.
    Record {
        /// The key.
        key: Option<&'a [u8]>,
        /// The value; `None` is a tombstone.
        value: Option<&'a [u8]>,
    },
    /// The end of the topic partition is reached; the offset is the next one's.
    End,
    /// The topic partition cannot be read.
    Error(RDKafkaErrorCode),
}

/// A queue of the messages of some topic partitions of one topic.
pub struct TopicQueue {
    /// Owns the native client that the pointers below belong to.
    client: Arc<Client>,
    topic: *mut native::rd_kafka_topic_t,
    queue: *mut native::rd_kafka_queue_t,
    /// Topic partitions that are being fetched.
    started: Vec<i32>,
    /// Room for the pointers of one drain.
    room: Vec<*mut native::rd_kafka_message_t>,
    /// What librdkafka's callback points to; freed after the callback is taken off.
    wake: *mut Wake,
}

// SAFETY: librdkafka's handles may be used from any thread, `wake` is only read, and everything
// else is plain memory; the queue is used by one thread at a time because `drain` takes `&mut`.
unsafe impl Send for TopicQueue {}

unsafe extern "C" fn on_message(_client: *mut native::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: `opaque` is `TopicQueue::wake`, which lives until after the callback is taken off,
    // and librdkafka holds the queue's lock around callback and removal.
    let wake = unsafe { &*opaque.cast::<Wake>() };
    wake();
}

impl TopicQueue {
    /// An empty queue for a topic; `wake` is called when messages arrive in it, with a lock of
    /// librdkafka held: it must not call back into this queue.
    pub fn new(client: Arc<Client>, topic: &str, capacity: usize, wake: Wake) -> Result<Self> {
        let name = CString::new(topic)
            .map_err(|_| Error::Internal("topic name with a zero byte".to_owned()))?;
        let handle = client.client().native_ptr();
        // SAFETY: `handle` is a live client, `name` a C string that the call copies, and a null
        // configuration asks for the client's defaults.
        let topic = unsafe { native::rd_kafka_topic_new(handle, name.as_ptr(), ptr::null_mut()) };
        if topic.is_null() {
            return Err(Error::Internal("librdkafka refused the topic".to_owned()));
        }
        // SAFETY: `handle` is a live client.
        let queue = unsafe { native::rd_kafka_queue_new(handle) };
        let wake = Box::into_raw(Box::new(wake));
        // SAFETY: `queue` was just made; `wake` lives until `drop` has taken the callback off.
        unsafe { native::rd_kafka_queue_cb_event_enable(queue, Some(on_message), wake.cast()) };
        let room = vec![ptr::null_mut(); capacity];
        Ok(Self { client, topic, queue, started: Vec::new(), room, wake })
    }

    /// Begins to fetch a topic partition from an absolute offset on.
    pub fn start(&mut self, partition: i32, offset: i64) -> Result<()> {
        // SAFETY: topic and queue are live and of the same client.
        let status = unsafe {
            native::rd_kafka_consume_start_queue(self.topic, partition, offset, self.queue)
        };
        if status != 0 {
            // SAFETY: reads the thread's last error code.
            let code = RDKafkaErrorCode::from(unsafe { native::rd_kafka_last_error() });
            return Err(Error::Internal(format!(
                "cannot fetch topic partition {partition}: {code}"
            )));
        }
        self.started.push(partition);
        Ok(())
    }

    /// Stops fetching a topic partition; messages of it may still be in the queue.
    pub fn stop(&mut self, partition: i32) {
        if let Some(position) = self.started.iter().position(|started| *started == partition) {
            self.started.swap_remove(position);
            // SAFETY: the topic is live and the topic partition was started.
            unsafe { native::rd_kafka_consume_stop(self.topic, partition) };
        }
    }

    /// Messages and events that wait.
    pub fn waiting(&self) -> usize {
        // SAFETY: the queue is live.
        unsafe { native::rd_kafka_queue_length(self.queue) }
    }

    /// Shows the messages that are there, at most the queue's capacity, and says how many. After
    /// the first error of `visit` the rest are dropped and the error is returned.
    pub fn drain(&mut self, mut visit: impl FnMut(Message) -> Result<()>) -> Result<usize> {
        // SAFETY: the queue is live and `room` has as many places as the call is told.
        let count = unsafe {
            native::rd_kafka_consume_batch_queue(
                self.queue,
                DRAIN_TIMEOUT_MS,
                self.room.as_mut_ptr(),
                self.room.len(),
            )
        };
        let count = usize::try_from(count)
            .map_err(|_| Error::Internal("librdkafka could not drain its queue".to_owned()))?;
        // From here on `batch` owns the messages and gives back those not taken, also on unwinding.
        let mut batch = Batch { room: &self.room[..count] };
        while let Some(message) = batch.next() {
            visit(message.show())?;
        }
        Ok(count)
    }
}

impl Drop for TopicQueue {
    fn drop(&mut self) {
        // SAFETY: the callback is taken off first, under the queue's lock, so nobody reads `wake`
        // when it is freed. Topic partitions are stopped before their topic and queue go, and the
        // client, which `self.client` keeps alive, goes last.
        unsafe {
            native::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            for partition in &self.started {
                native::rd_kafka_consume_stop(self.topic, *partition);
            }
            native::rd_kafka_queue_destroy(self.queue);
            native::rd_kafka_topic_destroy(self.topic);
            drop(Box::from_raw(self.wake));
        }
        let _ = &self.client;
    }
}

/// The messages of one drain that were not shown yet.
struct Batch<'a> {
    room: &'a [*mut native::rd_kafka_message_t],
}

/// One message; given back when dropped.
struct Owned(*mut native::rd_kafka_message_t);

impl Batch<'_> {
    fn next(&mut self) -> Option<Owned> {
        let (first, rest) = self.room.split_first()?;
        self.room = rest;
        Some(Owned(*first))
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        while self.next().is_some() {}
    }
}

impl Owned {
    fn show(&self) -> Message<'_> {
        // SAFETY: librdkafka filled the pointer in, and the message lives until `drop` gives it
        // back; the borrow of `self` keeps it from being given back meanwhile.
        let message = unsafe { &*self.0 };
        let content = match RDKafkaErrorCode::from(message.err) {
            RDKafkaErrorCode::NoError => Content::Record {
                // SAFETY: pointer and length are of one field of the live message.
                key: unsafe { bytes(message.key, message.key_len) },
                // SAFETY: as above.
                value: unsafe { bytes(message.payload, message.len) },
            },
            RDKafkaErrorCode::PartitionEOF => Content::End,
            code => Content::Error(code),
        };
        Message { partition: message.partition, offset: message.offset, content }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the pointer came from librdkafka and is given back once: `Batch::next` hands
        // each out once.
        unsafe { native::rd_kafka_message_destroy(self.0) };
    }
}

/// A field of a message; null is none.
///
/// # Safety
/// A pointer that is not null must point to `len` bytes that live and do not change for `'a`.
unsafe fn bytes<'a>(pointer: *mut c_void, len: usize) -> Option<&'a [u8]> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().cast_const(), len) })
}
