//! `Outgoing`: rows on their way into a topic: one batch at a time is encoded and given to the log,
//! as fast as that has room.

use std::sync::Arc;

use arrow::array::RecordBatch;

use super::{
    encoder::{Messages, RowEncoder},
    topic_log::{Answer, TopicLog},
};
use crate::{Result, processor::Done};

/// Encoded messages, and the log they go to.
pub struct Outgoing {
    encoder: Arc<RowEncoder>,
    /// Where they go.
    pub log: Box<dyn TopicLog>,
    messages: Messages,
    /// How many of them the log has taken.
    sent: usize,
}

impl Outgoing {
    /// Nothing yet.
    pub fn new(encoder: Arc<RowEncoder>, log: Box<dyn TopicLog>) -> Self {
        Self { encoder, log, messages: Messages::default(), sent: 0 }
    }

    /// Encodes rows, once what was encoded before is sent.
    pub fn load(&mut self, rows: &RecordBatch) -> Result<()> {
        assert!(self.is_empty(), "messages are sent in the order of their rows");
        self.clear();
        self.encoder.encode(rows, &mut self.messages)
    }

    /// Gives the log what it has room for; `No` if something is left.
    pub fn send(&mut self) -> Answer<Done> {
        if self.is_empty() {
            return Ok(Done::Yes);
        }
        self.sent += self.log.send(&self.messages, self.sent)?;
        Ok(if self.is_empty() { Done::Yes } else { Done::No })
    }

    /// Forgets what was encoded.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.sent = 0;
    }

    /// Whether everything encoded is sent.
    pub fn is_empty(&self) -> bool {
        self.sent == self.messages.len()
    }

    /// Bytes of what is encoded.
    pub fn bytes(&self) -> usize {
        self.messages.bytes()
    }
}
