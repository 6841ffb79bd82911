//! The feed: a source vertex whose rows come from outside of the dag, batch by batch: the way of a
//! bounded query's rows into a connector's sink. Bounded: a slow sink makes whoever feeds wait.
//! Dropped before its end the feed fails the execution, so that nothing half done is finished.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use parking_lot::Mutex;

use crate::{
    Error, Result,
    delta::DeltaBatch,
    item::Item,
    processor::{Done, Outbox, Processor, ProcessorContext, ProcessorSupplier},
};

/// The sending end of a feed.
pub struct Feed {
    channel: Arc<Channel>,
}

/// Between who feeds and the source.
struct Channel {
    state: Mutex<State>,
    capacity: usize,
}

#[derive(Default)]
struct State {
    rows: VecDeque<RecordBatch>,
    /// Who feeds, while it waits.
    waker: Option<Waker>,
    /// Has the source called.
    wake_source: Option<Arc<dyn Fn() + Send + Sync>>,
    /// No more rows follow.
    is_finished: bool,
    /// The feed was dropped before its end.
    is_abandoned: bool,
    /// The source is gone.
    is_closed: bool,
}

/// A source vertex of rows of `schema`, at most `capacity` batches ahead of the dag. Use one
/// instance.
pub fn feed(schema: SchemaRef, capacity: usize) -> (Arc<dyn ProcessorSupplier>, Feed) {
    let channel = Arc::new(Channel { state: Mutex::default(), capacity: capacity.max(1) });
    let feed = Feed { channel: Arc::clone(&channel) };
    (Arc::new(FeedSupplier { channel, schema }), feed)
}

impl Feed {
    /// Hands on `rows` when there is room; `Ready(false)` if nobody wants any more.
    pub fn poll_send(&mut self, rows: &RecordBatch, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.channel.state.lock();
        if state.is_closed {
            return Poll::Ready(false);
        }
        if state.rows.len() >= self.channel.capacity {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        state.rows.push_back(rows.clone());
        self.channel.wake(state);
        Poll::Ready(true)
    }

    /// Ends the rows.
    pub fn finish(self) {
        let mut state = self.channel.state.lock();
        state.is_finished = true;
        self.channel.wake(state);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut state = self.channel.state.lock();
        state.is_abandoned = !state.is_finished;
        self.channel.wake(state);
    }
}

impl Channel {
    /// Has the source called, outside of the lock.
    fn wake(&self, state: parking_lot::MutexGuard<'_, State>) {
        let wake = state.wake_source.as_ref().map(Arc::clone);
        drop(state);
        if let Some(wake) = wake {
            wake();
        }
    }
}

struct FeedSupplier {
    channel: Arc<Channel>,
    schema: SchemaRef,
}

impl ProcessorSupplier for FeedSupplier {
    fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>> {
        let source = |_| -> Box<dyn Processor> {
            Box::new(FeedSource { channel: Arc::clone(&self.channel), pending: None })
        };
        Ok((0..count).map(source).collect())
    }

    fn describe(&self) -> String {
        "rows".to_owned()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

struct FeedSource {
    channel: Arc<Channel>,
    /// What the outbox refused.
    pending: Option<Item>,
}

impl Processor for FeedSource {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        self.channel.state.lock().wake_source = Some(Arc::clone(&context.wake));
        Ok(())
    }

    fn idle(&mut self, outbox: &mut Outbox) -> Result<Done> {
        if let Some(item) = self.pending.take() {
            self.pending = outbox.offer(item);
        }
        while self.pending.is_none() && outbox.has_room() {
            let (rows, waker) = {
                let mut state = self.channel.state.lock();
                let rows = state.rows.pop_front();
                if rows.is_none() && state.is_abandoned {
                    return Err(Error::Cancelled);
                }
                if rows.is_none() {
                    return Ok(if state.is_finished { Done::Yes } else { Done::No });
                }
                (rows, state.waker.take())
            };
            if let Some(waker) = waker {
                waker.wake();
            }
            self.pending =
                rows.and_then(|rows| outbox.offer(Item::Batch(DeltaBatch::insertions(rows))));
        }
        Ok(Done::No)
    }
}

impl Drop for FeedSource {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.channel.state.lock();
            state.is_closed = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::testing::{bigint_batch, bigint_schema, context};
    use storage::{Grid, GridConfig, env::Env};

    fn emitted(source: &mut dyn Processor) -> (Vec<usize>, Result<Done>) {
        let mut outbox = Outbox::new(8);
        let done = source.idle(&mut outbox);
        let mut rows = Vec::new();
        while let Some(Item::Batch(batch)) = outbox.take() {
            rows.push(batch.len());
        }
        (rows, done)
    }

    #[test]
    fn a_full_feed_waits_and_its_end_ends_the_source() {
        let schema = bigint_schema(&["id"]);
        let grid = Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap();
        let (supplier, mut feed) = feed(Arc::clone(&schema), 2);
        let mut source = supplier.create(1).unwrap().remove(0);
        source.init(&context(&grid)).unwrap();
        let batch = bigint_batch(&schema, &[&[1, 2, 3]]);
        let mut waiting = Context::from_waker(Waker::noop());
        assert_eq!(feed.poll_send(&batch, &mut waiting), Poll::Ready(true));
        assert_eq!(feed.poll_send(&batch, &mut waiting), Poll::Ready(true));
        assert_eq!(feed.poll_send(&batch, &mut waiting), Poll::Pending);
        let (rows, done) = emitted(&mut *source);
        assert_eq!((rows, done.unwrap()), (vec![3, 3], Done::No));
        assert_eq!(feed.poll_send(&batch, &mut waiting), Poll::Ready(true));
        feed.finish();
        let (rows, done) = emitted(&mut *source);
        assert_eq!((rows, done.unwrap()), (vec![3], Done::Yes));
    }

    #[test]
    fn a_feed_that_is_dropped_fails_and_one_without_a_source_is_told() {
        let schema = bigint_schema(&["id"]);
        let (supplier, abandoned) = feed(Arc::clone(&schema), 2);
        let mut source = supplier.create(1).unwrap().remove(0);
        drop(abandoned);
        assert!(matches!(emitted(&mut *source).1, Err(Error::Cancelled)));
        let (supplier, mut unwanted) = feed(Arc::clone(&schema), 2);
        drop(supplier.create(1).unwrap());
        let batch = bigint_batch(&schema, &[&[1]]);
        let mut waiting = Context::from_waker(Waker::noop());
        assert_eq!(unwanted.poll_send(&batch, &mut waiting), Poll::Ready(false));
    }
}
