//! Rows on their way from the query pool to a client.
//!
//! ```text
//! RowStream ─ pump, on the pool: encodes ─→ bounded channel ─ RowSource, on the connection ─→ socket
//! ```
//! The channel is short: a client that does not read stops the pump, and so the query. Dropping
//! the source stops both.

use std::{collections::VecDeque, panic::AssertUnwindSafe};

use arrow::array::RecordBatch;
use bytes::{Buf, BytesMut};
use futures::{FutureExt, StreamExt};
use planner::{Result, plan::RowStream};
use tokio::sync::mpsc;

use crate::{
    directory::QueryListing,
    wire::{copy_out::CopyWriter, error::panicked, types::RowEncoder},
};

/// Chunks between a pump and its connection.
const CHUNKS_AHEAD: usize = 4;

/// Rows of a chunk at most.
const CHUNK_ROWS: usize = 1024;

/// Bytes of a chunk after which it is sent early; one row may be longer.
const CHUNK_BYTES: usize = 128 << 10;

/// How a pump hands rows over.
pub enum Delivery {
    /// As DataRow frames.
    DataRows(RowEncoder),
    /// As CopyData frames.
    CopyData(CopyWriter),
    /// As they are: a cursor does not know yet who asks.
    Batches,
}

/// Some rows.
pub enum Chunk {
    /// Whole frames, one a row.
    Frames {
        /// The frames.
        frames: BytesMut,
        /// Their number.
        rows: usize,
    },
    /// Rows to encode later.
    Batch(RecordBatch),
}

/// The connection's end.
pub struct RowSource {
    chunks: mpsc::Receiver<Result<Chunk>>,
    /// Rows that came and are not sent: the rest of a chunk that a row limit cut.
    rest: VecDeque<Chunk>,
    listing: Option<QueryListing>,
    /// Whether rows come when they come: then each is sent at once.
    pub is_stream: bool,
}

/// What [`RowSource::try_next`] found.
pub enum Ready {
    /// Rows.
    Chunk(Chunk),
    /// None yet.
    Pending,
    /// No more.
    End,
}

impl RowSource {
    /// Starts a pump on the running tokio runtime.
    pub fn start(stream: RowStream, delivery: Delivery, listing: Option<QueryListing>) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        tokio::spawn(pump(stream, delivery, sender));
        Self { chunks, rest: VecDeque::new(), listing, is_stream: false }
    }

    /// Rows that are already there.
    pub fn ready(ready: impl IntoIterator<Item = Chunk>) -> Self {
        let (_, chunks) = mpsc::channel(1);
        Self { chunks, rest: ready.into_iter().collect(), listing: None, is_stream: false }
    }

    /// The next rows if they are here.
    pub fn try_next(&mut self) -> Result<Ready> {
        if let Some(chunk) = self.rest.pop_front() {
            return Ok(Ready::Chunk(chunk));
        }
        match self.chunks.try_recv() {
            Ok(chunk) => Ok(Ready::Chunk(chunk?)),
            Err(mpsc::error::TryRecvError::Empty) => Ok(Ready::Pending),
            Err(mpsc::error::TryRecvError::Disconnected) => Ok(Ready::End),
        }
    }

    /// Waits for the next rows; `None` after the last. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Chunk>> {
        match self.rest.pop_front() {
            Some(chunk) => Ok(Some(chunk)),
            None => self.chunks.recv().await.transpose(),
        }
    }

    /// Gives back what was not sent.
    pub fn put_back(&mut self, chunk: Chunk) {
        self.rest.push_front(chunk);
    }

    /// Counts rows sent.
    pub fn sent(&self, rows: usize) {
        if let Some(listing) = &self.listing {
            listing.add_rows(rows);
        }
    }
}

impl Chunk {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::Frames { rows, .. } => *rows,
            Self::Batch(batch) => batch.num_rows(),
        }
    }

    /// Cuts off everything after the first `count` rows (fewer than there are) and answers it.
    pub fn split_off(&mut self, count: usize) -> Self {
        match self {
            Self::Frames { frames, rows } => {
                let mut end = 0;
                for _ in 0..count {
                    // A frame is its type and a length that counts itself.
                    end += 1 + (&frames[end + 1..end + 5]).get_u32() as usize;
                }
                let rest = frames.split_off(end);
                let rest = Self::Frames { frames: rest, rows: *rows - count };
                *rows = count;
                rest
            }
            Self::Batch(batch) => {
                let rest = batch.slice(count, batch.num_rows() - count);
                *batch = batch.slice(0, count);
                Self::Batch(rest)
            }
        }
    }

    /// Appends the rows as DataRow frames.
    pub fn write(self, encoder: &RowEncoder, out: &mut BytesMut) -> Result<()> {
        match self {
            Self::Frames { frames, .. } if out.is_empty() => *out = frames,
            Self::Frames { frames, .. } => out.extend_from_slice(&frames),
            Self::Batch(batch) => {
                let arrays = encoder.normalise(&batch)?;
                encoder.data_rows(&arrays, 0..batch.num_rows(), out)?;
            }
        }
        Ok(())
    }
}

/// Polls the stream until it ends or nobody listens.
async fn pump(mut stream: RowStream, mut delivery: Delivery, sender: mpsc::Sender<Result<Chunk>>) {
    loop {
        let next = AssertUnwindSafe(stream.next()).catch_unwind();
        let next = tokio::select! {
            biased;
            () = sender.closed() => return,
            next = next => next,
        };
        let batch = match next {
            Ok(Some(Ok(batch))) => batch,
            Ok(None) => return,
            Ok(Some(Err(error))) => {
                return drop(sender.send(Err(error)).await);
            }
            Err(payload) => {
                return drop(sender.send(Err(panicked(payload.as_ref()))).await);
            }
        };
        if let Err(end) = deliver(&batch, &mut delivery, &sender).await {
            if let Some(error) = end {
                drop(sender.send(Err(error)).await);
            }
            return;
        }
    }
}

/// Sends one batch in chunks; an empty error says that nobody listens.
async fn deliver(
    batch: &RecordBatch,
    delivery: &mut Delivery,
    sender: &mpsc::Sender<Result<Chunk>>,
) -> Result<(), Option<planner::Error>> {
    let mut start = 0;
    let arrays = match delivery {
        Delivery::DataRows(encoder) => encoder.normalise(batch)?,
        Delivery::CopyData(writer) => writer.normalise(batch)?,
        Delivery::Batches => Vec::new(),
    };
    while start < batch.num_rows() {
        let mut end = (start + CHUNK_ROWS).min(batch.num_rows());
        let chunk = match delivery {
            Delivery::Batches => Chunk::Batch(batch.slice(start, end - start)),
            Delivery::DataRows(encoder) => {
                let mut frames = BytesMut::new();
                end = until_full(start..end, &mut frames, |rows, out| {
                    encoder.data_rows(&arrays, rows, out)
                })?;
                Chunk::Frames { frames, rows: end - start }
            }
            Delivery::CopyData(writer) => {
                let mut frames = BytesMut::new();
                end = until_full(start..end, &mut frames, |rows, out| {
                    writer.copy_data(&arrays, rows, out)
                })?;
                Chunk::Frames { frames, rows: end - start }
            }
        };
        sender.send(Ok(chunk)).await.map_err(|_| None)?;
        start = end;
    }
    Ok(())
}

/// Encodes slices of `rows` until all are done or the buffer is long enough; answers where it
/// stopped.
fn until_full(
    rows: std::ops::Range<usize>,
    out: &mut BytesMut,
    mut encode: impl FnMut(std::ops::Range<usize>, &mut BytesMut) -> Result<()>,
) -> Result<usize> {
    const SLICE: usize = 128;
    let mut start = rows.start;
    while start < rows.end && out.len() < CHUNK_BYTES {
        let end = (start + SLICE).min(rows.end);
        encode(start..end, out)?;
        start = end;
    }
    Ok(start)
}
