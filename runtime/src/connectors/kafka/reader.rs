//! `Reader`: turns messages into the rows of one batch and keeps the offsets of their topic
//! partitions. A message is decoded where librdkafka holds it; nothing of it is copied but values.

use std::sync::Arc;

use rdkafka::types::RDKafkaErrorCode as Code;
use storage::metrics::Metric;

use super::{
    batch::{Content, Message},
    format::RowDecoder,
    progress::Progress,
};
use crate::{Error, Result, connectors::options::OnError};

/// What turns messages into rows.
pub struct Reader {
    /// Topic name, for errors.
    pub topic: Arc<str>,
    /// What to do about poison.
    pub on_error: OnError,
    /// Holds the rows of the present batch.
    pub decoder: RowDecoder,
    /// Of this instance, ascending.
    pub partitions: Vec<Progress>,
    /// Rows of the present batch by topic partition: its position here, and where they end.
    pub runs: Vec<(usize, usize)>,
    /// Bytes decoded in the present call.
    pub bytes: usize,
    /// Counts skipped poison.
    pub skipped: Metric,
}

impl Reader {
    /// Decodes one message into the present batch.
    #[inline]
    pub fn read(&mut self, message: Message) -> Result<()> {
        let position = match self.runs.last() {
            Some((position, _)) if self.partitions[*position].id == message.partition => *position,
            _ => match self.partitions.iter().position(|known| known.id == message.partition) {
                Some(position) => position,
                None => return Ok(()),
            },
        };
        let progress = &mut self.partitions[position];
        let (key, value) = match message.content {
            Content::Record { key, value } => (key, value),
            Content::End => {
                // Control records at the end are never seen; the event's offset is behind them.
                progress.next = progress.next.max(message.offset);
                progress.is_at_end = true;
                return Ok(());
            }
            Content::Error(code) => return self.failed(message, code),
        };
        if message.offset < progress.next {
            return Ok(());
        }
        progress.next = message.offset + 1;
        progress.is_at_end = false;
        progress.speak();
        if progress.end.is_some_and(|end| message.offset >= end) {
            return Ok(());
        }
        self.bytes += value.map_or(0, <[u8]>::len);
        if let Err(poison) = self.decoder.decode(key, value) {
            if self.on_error == OnError::Skip {
                self.skipped.add(1);
                return Ok(());
            }
            let (topic, partition, offset) = (&self.topic, message.partition, message.offset);
            let message = format!(
                "cannot decode the message of topic \"{topic}\", partition {partition}, \
                 offset {offset}: {}; with the mapping option 'on_error' = 'skip' it would be \
                 counted and left out",
                poison.reason
            );
            return Err(Error::User { code: poison.code, message });
        }
        let rows = self.decoder.rows();
        match self.runs.last_mut() {
            Some((last, end)) if *last == position => *end = rows,
            _ => self.runs.push((position, rows)),
        }
        Ok(())
    }

    /// A topic partition reports an error: some pass, and the supervisor sees them too.
    #[cold]
    fn failed(&mut self, message: Message, code: Code) -> Result<()> {
        let (topic, partition) = (&self.topic, message.partition);
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange => Err(Error::User {
                code: "22023",
                message: format!(
                    "offset {} of topic \"{topic}\", partition {partition}, is out of range: its \
                     records were removed before they were read",
                    self.partitions
                        .iter()
                        .find(|known| known.id == partition)
                        .map_or(0, |p| p.next)
                ),
            }),
            Code::TopicAuthorizationFailed | Code::BadMessage | Code::InvalidMessage => {
                Err(Error::User {
                    code: "58030",
                    message: format!("topic \"{topic}\", partition {partition}: {code}"),
                })
            }
            _ => {
                tracing::warn!(%topic, partition, %code, "kafka topic partition reports an error");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
