//! The client sink: a vertex whose rows come out of [`ClientRows`] on the network side. Bounded: a
//! slow client pushes back into the dag; a client that is gone ends it.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use arrow::{
    array::{RecordBatch, UInt32Array},
    compute::take_record_batch,
    datatypes::{Schema, SchemaRef},
};
use parking_lot::Mutex;

use super::ExecutionEnd;
use crate::{
    Error, Result,
    delta::{DeltaBatch, Weight},
    processor::{Inbox, Outbox, Processor, ProcessorContext, ProcessorSupplier},
};

/// The receiving end of a client sink: rows of a streaming query on their way to a connection.
/// A full channel pushes back into the dag. Dropping this end finishes the sink, and with it a dag
/// that has no other.
pub struct ClientRows {
    channel: Arc<Channel>,
}

/// Tells [`ClientRows`] how the execution ended; call from `finished`. Dropped without, the rows end
/// as cancelled.
pub struct ClientEnd {
    channel: Arc<Channel>,
}

/// Between one sink and one client.
struct Channel {
    state: Mutex<State>,
    capacity: usize,
}

#[derive(Default)]
struct State {
    rows: VecDeque<RecordBatch>,
    /// The client's task, when it waits.
    waker: Option<Waker>,
    /// Has the sink called again.
    wake_sink: Option<Arc<dyn Fn() + Send + Sync>>,
    /// How it ended; the error is told once.
    end: Option<Option<Error>>,
    /// The client has dropped its end.
    is_abandoned: bool,
}

/// A sink vertex whose rows come out of [`ClientRows`], at most `capacity` batches ahead. Use one
/// instance. Retractions are refused with an internal error: the planner never sends them here.
pub fn client_sink(
    input: SchemaRef,
    capacity: usize,
) -> (Arc<dyn ProcessorSupplier>, ClientRows, ClientEnd) {
    let channel = Arc::new(Channel { state: Mutex::default(), capacity: capacity.max(1) });
    let rows = ClientRows { channel: Arc::clone(&channel) };
    let end = ClientEnd { channel: Arc::clone(&channel) };
    (Arc::new(ClientSinkSupplier { channel, columns: input.fields().len() }), rows, end)
}

impl ClientRows {
    /// The next batch; `None` after the last. Rows that were on their way come before the error that
    /// ended them. Woken through the context's waker.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<RecordBatch>>> {
        let mut state = self.channel.state.lock();
        let was_full = state.rows.len() >= self.channel.capacity;
        if let Some(rows) = state.rows.pop_front() {
            let wake_sink = state.wake_sink.as_ref().filter(|_| was_full).map(Arc::clone);
            drop(state);
            if let Some(wake_sink) = wake_sink {
                wake_sink();
            }
            return Poll::Ready(Some(Ok(rows)));
        }
        if let Some(end) = &mut state.end {
            return Poll::Ready(end.take().map(Err));
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for ClientRows {
    fn drop(&mut self) {
        let mut state = self.channel.state.lock();
        state.is_abandoned = true;
        let _freed = std::mem::take(&mut state.rows);
        let wake_sink = state.wake_sink.take();
        drop(state);
        if let Some(wake_sink) = wake_sink {
            wake_sink();
        }
    }
}

impl ClientEnd {
    /// Ends the rows, with an error if there was one.
    pub fn end(self, end: &ExecutionEnd) {
        self.channel.end(match end {
            ExecutionEnd::Completed | ExecutionEnd::Suspended(_) => None,
            ExecutionEnd::Cancelled => Some(Error::Cancelled),
            ExecutionEnd::Failed(error) => Some(error.clone()),
        });
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        self.channel.end(Some(Error::Cancelled));
    }
}

impl Channel {
    /// The first end counts.
    fn end(&self, error: Option<Error>) {
        let mut state = self.state.lock();
        state.end.get_or_insert(error);
        state.wake_sink = None;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Puts rows in, or hands them back if there is no room.
    fn push(&self, rows: RecordBatch) -> Option<RecordBatch> {
        let mut state = self.state.lock();
        if state.rows.len() >= self.capacity {
            return Some(rows);
        }
        state.rows.push_back(rows);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }
}

struct ClientSinkSupplier {
    channel: Arc<Channel>,
    columns: usize,
}

struct ClientSink {
    channel: Arc<Channel>,
}

impl ProcessorSupplier for ClientSinkSupplier {
    fn create(&self, count: usize) -> Result<Vec<Box<dyn Processor>>> {
        if count != 1 {
            return Err(Error::Internal("a client sink has one instance".to_owned()));
        }
        Ok(vec![Box::new(ClientSink { channel: Arc::clone(&self.channel) })])
    }

    fn describe(&self) -> String {
        format!("client({} columns)", self.columns)
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }
}

impl Processor for ClientSink {
    fn init(&mut self, context: &ProcessorContext) -> Result<()> {
        self.channel.state.lock().wake_sink = Some(Arc::clone(&context.wake));
        Ok(())
    }

    fn process(&mut self, _ordinal: usize, inbox: &mut Inbox, _outbox: &mut Outbox) -> Result<()> {
        while let Some(batch) = inbox.peek() {
            let rows = insertions(batch)?;
            if rows.num_rows() > 0 && self.channel.push(rows).is_some() {
                return Ok(());
            }
            inbox.take();
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.channel.state.lock().is_abandoned
    }
}

/// The rows of a batch, each as often as its weight says.
fn insertions(batch: &DeltaBatch) -> Result<RecordBatch> {
    let retraction = || Error::Internal("a retraction reached the client sink".to_owned());
    match &batch.weight {
        Weight::One => Ok(batch.rows.clone()),
        Weight::MinusOne => Err(retraction()),
        Weight::Array(weights) => {
            let mut picked = Vec::with_capacity(batch.len());
            for (row, weight) in (0_u32..).zip(weights.values()) {
                let times = usize::try_from(*weight).map_err(|_| retraction())?;
                picked.extend(std::iter::repeat_n(row, times));
            }
            Ok(take_record_batch(&batch.rows, &UInt32Array::from(picked))?)
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::testing::{bigint_batch, bigint_schema, verify_processor};

    fn batch(values: &[i64]) -> RecordBatch {
        bigint_batch(&bigint_schema(&["v"]), &[values])
    }

    /// What has arrived and was not taken.
    fn arrived(rows: &mut ClientRows) -> Vec<i64> {
        let mut values = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Ok(batch))) = rows.poll_next(&mut context) {
            values.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
        }
        values
    }

    #[test]
    fn the_client_gets_every_row_as_often_as_its_weight_says() {
        let (sink, rows, _end) = client_sink(bigint_schema(&["v"]), 1000);
        let rows = Mutex::new(rows);
        let weight = Weight::Array(Int64Array::from(vec![2, 0, 1]));
        verify_processor(sink)
            .rows(0, DeltaBatch::insertions(batch(&[1, 2])))
            .rows(0, DeltaBatch { rows: batch(&[3, 4, 5]), weight })
            .watermark(1)
            .rows(0, DeltaBatch::insertions(batch(&[6])))
            .end(0)
            .expect(vec![])
            .after_each(move |way| {
                assert_eq!(arrived(&mut rows.lock()), [1, 2, 3, 3, 5, 6], "{way}")
            })
            .run();
    }

    #[test]
    fn a_retraction_is_refused() {
        for weight in [Weight::MinusOne, Weight::Array(Int64Array::from(vec![-1]))] {
            let (sink, _rows, _end) = client_sink(bigint_schema(&["v"]), 1000);
            let error = verify_processor(sink)
                .rows(0, DeltaBatch { rows: batch(&[1]), weight })
                .run_to_error();
            assert!(matches!(error, Error::Internal(_)), "{error:?}");
        }
    }
}
