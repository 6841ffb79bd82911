//! `LaneStream`: the batches of one lane of a scan, as a stream that gives its thread away now and
//! then. A lane never has to wait, so without that its task would never end a turn: other statements,
//! cancellation and the scan's own other lanes, woken by the same thread, would stand still.
//!
//! ```text
//!   poll: (away) b b b … b (away) b b b …      away = wake myself, answer Pending;
//!         first         BATCHES_PER_TURN       an idle thread takes the task over
//! ```

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{common::Result, execution::RecordBatchStream};
use futures::Stream;
use storage::table::ScanLane;

use super::provider::external;

/// Batches between two turns: about half a million rows, a few milliseconds of work.
const BATCHES_PER_TURN: usize = 64;

/// See the module text.
pub struct LaneStream {
    schema: SchemaRef,
    lane: ScanLane,
    /// Batches until the thread is given away.
    remaining: usize,
}

impl LaneStream {
    /// The lane's batches, of `schema`.
    pub fn new(schema: SchemaRef, lane: ScanLane) -> Self {
        Self { schema, lane, remaining: 0 }
    }
}

impl Stream for LaneStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.remaining == 0 {
            self.remaining = BATCHES_PER_TURN;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.remaining -= 1;
        Poll::Ready(self.lane.next().map(|batch| batch.map_err(external)))
    }
}

impl RecordBatchStream for LaneStream {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{array::RecordBatchOptions, datatypes::Schema};
    use futures::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn thread_is_given_away_at_first_and_every_so_many_batches() {
        let schema = Arc::new(Schema::empty());
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(&schema), vec![], &options).unwrap();
        let count = BATCHES_PER_TURN * 2 + 1;
        let lane: ScanLane = Box::new(std::iter::repeat_n(batch, count).map(Ok));
        let mut stream = LaneStream::new(schema, lane);
        let (mut batches, mut turns) = (0, 0);
        loop {
            match stream.next().now_or_never() {
                None => turns += 1,
                Some(Some(batch)) => batches += batch.unwrap().num_rows(),
                Some(None) => break,
            }
        }
        assert_eq!((batches, turns), (count, 3));
    }
}
