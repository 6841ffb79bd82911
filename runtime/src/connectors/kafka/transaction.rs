//! `Transaction`: rows that become visible together. They are sent as they come, and kept until the
//! commit is acknowledged: whatever aborts the transaction, all of it is sent again. One that grows
//! old while its snapshot is waited for is aborted by ourselves, before the broker does it.

use std::sync::Arc;

use arrow::array::RecordBatch;
use storage::env::Clock;

use super::{
    encoder::RowEncoder,
    outgoing::Outgoing,
    topic_log::{Answer, Failure, TopicLog},
};
use crate::{execution::memory::batch_bytes, processor::Done};

/// How long a transaction may be open.
#[derive(Clone)]
pub struct Lifetime {
    /// The grid's.
    pub clock: Arc<dyn Clock>,
    /// Less than the broker's limit, by as much as a commit may take.
    pub nanos: u64,
}

/// The transactions of one transactional id, one after the other.
pub struct Transaction {
    outgoing: Outgoing,
    lifetime: Lifetime,
    /// When the log has begun it, in monotonic ns.
    begun_at: u64,
    /// The rows of the present one.
    rows: Vec<RecordBatch>,
    /// Bytes of the rows.
    bytes: usize,
    /// How many of the batches were encoded.
    loaded: usize,
    /// Whether the log has begun it; it does so for the first row.
    has_begun: bool,
    /// Whether it is to be aborted, and then sent again.
    is_aborting: bool,
}

impl Transaction {
    /// Of a log that has become the producer of its id, or will before the first row is sent.
    pub fn new(encoder: &Arc<RowEncoder>, log: Box<dyn TopicLog>, lifetime: Lifetime) -> Self {
        Self {
            outgoing: Outgoing::new(Arc::clone(encoder), log),
            lifetime,
            begun_at: 0,
            rows: Vec::new(),
            bytes: 0,
            loaded: 0,
            has_begun: false,
            is_aborting: false,
        }
    }

    /// The log.
    pub fn log(&mut self) -> &mut dyn TopicLog {
        self.outgoing.log.as_mut()
    }

    /// Makes rows part of it.
    pub fn keep(&mut self, rows: RecordBatch) {
        if rows.num_rows() > 0 {
            self.bytes += batch_bytes(&rows);
            self.rows.push(rows);
        }
    }

    /// Its rows.
    pub fn rows(&self) -> &[RecordBatch] {
        &self.rows
    }

    /// Bytes of its rows and of what is encoded.
    pub fn bytes(&self) -> usize {
        self.bytes + self.outgoing.bytes()
    }

    /// Sends its rows, as far as there is room.
    pub fn send(&mut self) -> Answer<Done> {
        let is_old = self.has_begun && !self.is_aborting && self.age() > self.lifetime.nanos;
        let sent = if is_old { Err(Failure::Aborted) } else { self.try_send() };
        self.again_if_aborted(sent)
    }

    /// Commits it with a mark, and begins the next; `No` if it was aborted and is sent again. One
    /// without rows needs no commit, and leaves no mark.
    pub fn commit(&mut self, mark: i64) -> Answer<Done> {
        let committed = self.try_commit(mark);
        self.again_if_aborted(committed)
    }

    fn age(&self) -> u64 {
        self.lifetime.clock.monotonic_nanos().saturating_sub(self.begun_at)
    }

    fn try_send(&mut self) -> Answer<Done> {
        if self.is_aborting {
            self.outgoing.log.abort()?;
            (self.is_aborting, self.has_begun) = (false, false);
        }
        loop {
            if self.outgoing.send()? == Done::No {
                return Ok(Done::No);
            }
            let Some(rows) = self.rows.get(self.loaded) else { return Ok(Done::Yes) };
            if !self.has_begun {
                self.outgoing.log.begin()?;
                self.has_begun = true;
                self.begun_at = self.lifetime.clock.monotonic_nanos();
            }
            self.outgoing.load(rows).map_err(Failure::Failed)?;
            self.loaded += 1;
        }
    }

    fn try_commit(&mut self, mark: i64) -> Answer<Done> {
        if self.try_send()? == Done::No {
            return Ok(Done::No);
        }
        if self.has_begun {
            self.outgoing.log.commit(mark)?;
        }
        self.rows.clear();
        (self.bytes, self.loaded, self.has_begun) = (0, 0, false);
        Ok(Done::Yes)
    }

    fn again_if_aborted(&mut self, answer: Answer<Done>) -> Answer<Done> {
        if !matches!(answer, Err(Failure::Aborted)) {
            return answer;
        }
        self.is_aborting = self.has_begun;
        self.loaded = 0;
        self.outgoing.clear();
        Ok(Done::No)
    }
}
