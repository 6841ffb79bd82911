//! `KafkaSink`: rows into a topic. What a job's guarantee promises is kept here:
//!
//! | guarantee | rows are sent | at a barrier |
//! | --- | --- | --- |
//! | none | as they come | nothing |
//! | at least once | as they come | waits until all before it are acknowledged |
//! | exactly once | as they come, in a transaction | see [`super::transactions`] |
//!
//! Every instance has a producer and a thread of its own, so that it may wait for the broker. A
//! broker that is away is waited for, however long that takes, and told of as the job's trouble; the
//! queue of the producer is bounded, and when it is full the dag waits.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use storage::env::Env;

use super::{
    encoder::RowEncoder,
    outgoing::Outgoing,
    producer::KafkaLog,
    settings::Settings,
    topic_log::{Answer, Failure, TopicLog},
    transaction::Lifetime,
    transactions::{Target, Transactions},
};
use crate::{
    Error, Result,
    item::SnapshotId,
    job::Guarantee,
    processor::{Cooperation, Done, Inbox, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    state::{StateChunk, StateWriter},
};

/// Opens the topic: with a transactional id for transactions.
pub type OpenLog = Arc<dyn Fn(Option<&str>) -> Result<Box<dyn TopicLog>> + Send + Sync>;

/// Makes the sinks of one execution.
pub struct KafkaSinkSupplier {
    mapping: Arc<str>,
    topic: Arc<str>,
    encoder: Arc<RowEncoder>,
    open: OpenLog,
    /// Asks the broker for the topic; without an answer that is no error.
    check: Arc<dyn Fn() -> Result<()> + Send + Sync>,
    /// How long a transaction is open at most, ns.
    lifetime_nanos: u64,
}

impl KafkaSinkSupplier {
    /// Sinks into the topic of a mapping.
    pub fn new(mapping: &str, settings: Settings, encoder: RowEncoder) -> Self {
        let topic = settings.topic.as_str().into();
        // The other half is for a broker that is slow to take the commit.
        let lifetime_nanos = settings.transaction_timeout.as_nanos() as u64 / 2;
        let settings = Arc::new(settings);
        let to_check = Arc::clone(&settings);
        Self {
            mapping: mapping.into(),
            topic,
            encoder: Arc::new(encoder),
            open: Arc::new(move |id| Ok(Box::new(KafkaLog::open(&settings, id)?))),
            check: Arc::new(move || KafkaLog::open(&to_check, None)?.check_topic()),
            lifetime_nanos,
        }
    }

    /// Sinks into whatever `open` opens.
    #[cfg(test)]
    pub fn of_log(encoder: RowEncoder, open: OpenLog, lifetime_nanos: u64) -> Self {
        let (mapping, topic) = ("topic".into(), "topic".into());
        let (encoder, check) = (Arc::new(encoder), Arc::new(|| Ok(())));
        Self { mapping, topic, encoder, open, check, lifetime_nanos }
    }
}

impl ProcessorSupplier for KafkaSinkSupplier {
    fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>> {
        let sink = |_| -> Box<dyn Processor> {
            Box::new(KafkaSink {
                topic: Arc::clone(&self.topic),
                encoder: Arc::clone(&self.encoder),
                open: Arc::clone(&self.open),
                check: Arc::clone(&self.check),
                lifetime_nanos: self.lifetime_nanos,
                context: None,
                way: Way::Closed,
                told: None,
            })
        };
        Ok((0..count).map(sink).collect())
    }

    fn describe(&self) -> String {
        format!("kafka({}, topic {})", self.mapping, self.topic)
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }

    /// Of transactions; the job's guarantee says whether there are any.
    fn commits(&self) -> bool {
        true
    }

    fn state(&self) -> Option<String> {
        Some(format!("transactions into topic \"{}\"", self.topic))
    }

    /// Transactional ids and their marks.
    fn is_state_of_job(&self, guarantee: Guarantee) -> bool {
        guarantee == Guarantee::ExactlyOnce
    }
}

/// The processor.
struct KafkaSink {
    topic: Arc<str>,
    encoder: Arc<RowEncoder>,
    open: OpenLog,
    check: Arc<dyn Fn() -> Result<()> + Send + Sync>,
    lifetime_nanos: u64,
    context: Option<ProcessorContext>,
    way: Way,
    /// The trouble that was told and is not over.
    told: Option<String>,
}

/// How rows get into the topic.
enum Way {
    /// Before `init`.
    Closed,
    /// As they come.
    Plain(Outgoing),
    /// In transactions.
    Transactional(Box<Transactions>),
}

impl Processor for KafkaSink {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        if context.index == 0 {
            (self.check)()?;
        }
        self.way = match context.guarantee {
            Guarantee::None | Guarantee::AtLeastOnce => {
                Way::Plain(Outgoing::new(Arc::clone(&self.encoder), (self.open)(None)?))
            }
            Guarantee::ExactlyOnce => {
                let Env { clock, failpoints, .. } = context.grid.env();
                let clock = Arc::clone(clock);
                let target = Target {
                    topic: Arc::clone(&self.topic),
                    encoder: Arc::clone(&self.encoder),
                    open: Arc::clone(&self.open),
                    lifetime: Lifetime { clock, nanos: self.lifetime_nanos },
                    failpoints: failpoints.clone(),
                    forsaken: context.forsaken,
                };
                Way::Transactional(Box::new(Transactions::new(target, context)?))
            }
        };
        self.context = Some(context.clone());
        Ok(())
    }

    fn process(&mut self, _ordinal: usize, inbox: &mut Inbox, _outbox: &mut Outbox) -> Result<()> {
        let answer = self.take(inbox);
        let _ = self.settle(answer)?;
        Ok(())
    }

    fn idle(&mut self, _outbox: &mut Outbox) -> Result<Done> {
        let answer = self.send();
        let _ = self.settle(answer)?;
        Ok(Done::No)
    }

    fn epoch(&mut self, _epoch: u64, _outbox: &mut Outbox) -> Result<Done> {
        let answer = self.send();
        self.settle(answer)
    }

    fn complete(&mut self, _ordinal: usize, _outbox: &mut Outbox) -> Result<Done> {
        let answer = self.send().and_then(|sent| match (&mut self.way, sent) {
            (_, Done::No) => Ok(Done::No),
            (Way::Closed, Done::Yes) => Ok(Done::Yes),
            (Way::Plain(outgoing), Done::Yes) => outgoing.log.flush().map(|()| Done::Yes),
            (Way::Transactional(_), Done::Yes) => Ok(Done::Yes),
        });
        self.settle(answer)
    }

    fn save(&mut self, state: &mut StateWriter) -> Result<Done> {
        let answer = match &mut self.way {
            Way::Closed => Ok(Done::Yes),
            Way::Plain(outgoing) => outgoing.log.flush().map(|()| Done::Yes),
            Way::Transactional(transactions) => {
                transactions.save(state).map(|()| Done::Yes).map_err(Failure::Failed)
            }
        };
        self.settle(answer)
    }

    fn committed(&mut self, id: SnapshotId) -> Result<Done> {
        let answer = match &mut self.way {
            Way::Transactional(transactions) => transactions.committed(id),
            Way::Closed | Way::Plain(_) => Ok(Done::Yes),
        };
        self.settle(answer)
    }

    fn abandoned(&mut self, id: SnapshotId) -> Result<Done> {
        if let Way::Transactional(transactions) = &mut self.way {
            transactions.abandoned(id);
        }
        Ok(Done::Yes)
    }

    fn awaits_commit(&self) -> bool {
        matches!(self.way, Way::Transactional(_))
    }

    fn restore(&mut self, chunk: &StateChunk) -> Result<()> {
        match &mut self.way {
            Way::Transactional(transactions) => transactions.restore(chunk),
            // Saved with another guarantee; whoever changed it gave up what it promised.
            Way::Closed | Way::Plain(_) => {}
        }
        Ok(())
    }

    fn cooperation(&self) -> Cooperation {
        Cooperation::Blocking
    }
}

impl KafkaSink {
    /// Takes batches while there is room for their messages.
    fn take(&mut self, inbox: &mut Inbox) -> Answer<Done> {
        loop {
            if self.send()? == Done::No {
                return Ok(Done::No);
            }
            match &mut self.way {
                Way::Transactional(transactions) if transactions.holds_back() => {
                    return Ok(Done::No);
                }
                _ => {}
            }
            let Some(batch) = inbox.take() else { return Ok(Done::Yes) };
            let rows = batch.into_added("a topic").map_err(Failure::Failed)?;
            match &mut self.way {
                Way::Closed => return Ok(Done::No),
                Way::Plain(outgoing) => outgoing.load(&rows).map_err(Failure::Failed)?,
                Way::Transactional(transactions) => {
                    transactions.keep(rows).map_err(Failure::Failed)?;
                }
            }
        }
    }

    fn send(&mut self) -> Answer<Done> {
        match &mut self.way {
            Way::Closed => Ok(Done::Yes),
            Way::Plain(outgoing) => outgoing.send(),
            Way::Transactional(transactions) => transactions.send(),
        }
    }

    /// Tells what is held and what is wrong; an answer that is to come later is `No`.
    fn settle(&mut self, answer: Answer<Done>) -> Result<Done> {
        let done = match answer {
            Ok(done) => done,
            Err(Failure::Later) => Done::No,
            Err(Failure::Failed(error)) => return Err(error),
            Err(Failure::Aborted) => {
                let message = format!("topic \"{}\": a transaction that is not ours", self.topic);
                return Err(Error::Internal(message));
            }
        };
        let (waiting, held) = match &mut self.way {
            Way::Closed => return Ok(done),
            Way::Plain(outgoing) => (outgoing.log.serve(), outgoing.bytes()),
            Way::Transactional(transactions) => (transactions.serve(), transactions.bytes()),
        };
        match waiting {
            Ok(waiting) => {
                if let Some(context) = &self.context {
                    context.memory.hold(held + waiting.bytes);
                }
                self.tell(waiting.trouble);
            }
            Err(Failure::Failed(error)) => return Err(error),
            // Found again by the next call that sends.
            Err(Failure::Later | Failure::Aborted) => {}
        }
        Ok(done)
    }

    /// Tells the job of trouble that began or is over.
    fn tell(&mut self, trouble: Option<String>) {
        if self.told == trouble {
            return;
        }
        if let Some(context) = &self.context {
            let error = trouble.clone().map(Error::Connection);
            (context.trouble)(error.as_ref().map(Into::into));
        }
        self.told = trouble;
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        self.tell(None);
    }
}

#[cfg(test)]
pub(crate) mod tests;
