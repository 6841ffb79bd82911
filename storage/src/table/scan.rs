//! Lanes of a scan: captured pieces dealt out evenly and given back as batches of a good size.
//! Everything was captured before the first lane runs; lanes take no lock and see no later write.

use std::{sync::Arc, vec::IntoIter};

use arrow::{
    array::{BooleanArray, RecordBatch, RecordBatchOptions},
    compute::BatchCoalescer,
    datatypes::SchemaRef,
};

use super::{capture::Piece, handle::ScanLane};
use crate::Result;

/// Rows of a batch of a lane: DataFusion's own batch size.
pub(crate) const SCAN_BATCH_ROWS: usize = 8192;

/// Pieces this large are passed on as they are instead of being copied into a full batch.
const COPY_ROWS_MAX: usize = SCAN_BATCH_ROWS / 2;

/// Deals `pieces` out to at most `lane_count` lanes of about equal length.
pub(crate) fn lanes(pieces: Vec<Piece>, schema: &SchemaRef, lane_count: usize) -> Vec<ScanLane> {
    let rows: usize = pieces.iter().map(Piece::len).sum();
    let lane_count = lane_count.min(rows.div_ceil(SCAN_BATCH_ROWS)).max(1);
    let lane_rows = rows.div_ceil(lane_count).max(1);
    let mut dealt: Vec<Vec<Piece>> = (0..lane_count).map(|_| Vec::new()).collect();
    let mut before = 0;
    for piece in pieces {
        let lane = (before / lane_rows).min(lane_count - 1);
        before += piece.len();
        dealt[lane].push(piece);
    }
    let lane = |pieces: Vec<Piece>| -> ScanLane {
        if schema.fields().is_empty() {
            return Box::new(counts(&pieces, schema).into_iter());
        }
        Box::new(Lane {
            pieces: pieces.into_iter(),
            coalescer: BatchCoalescer::new(Arc::clone(schema), SCAN_BATCH_ROWS)
                .with_biggest_coalesce_batch_size(Some(COPY_ROWS_MAX)),
            is_finished: false,
        })
    };
    dealt.into_iter().map(lane).collect()
}

/// One lane.
struct Lane {
    pieces: IntoIter<Piece>,
    coalescer: BatchCoalescer,
    is_finished: bool,
}

impl Iterator for Lane {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.coalescer.next_completed_batch() {
                return Some(Ok(batch));
            }
            if self.is_finished {
                return None;
            }
            let pushed = match self.pieces.next() {
                Some(Piece { batch, mask: None }) => self.coalescer.push_batch(batch),
                Some(Piece { batch, mask: Some(mask) }) => {
                    let mask = BooleanArray::new(mask, None);
                    self.coalescer.push_batch_with_filter(batch, &mask)
                }
                None => {
                    self.is_finished = true;
                    self.coalescer.finish_buffered_batch()
                }
            };
            if let Err(error) = pushed {
                self.is_finished = true;
                return Some(Err(error.into()));
            }
        }
    }
}

/// Batches of no columns, which only count.
fn counts(pieces: &[Piece], schema: &SchemaRef) -> Vec<Result<RecordBatch>> {
    let rows: usize = pieces.iter().map(Piece::len).sum();
    (0..rows.div_ceil(SCAN_BATCH_ROWS))
        .map(|batch| {
            let rows = (rows - batch * SCAN_BATCH_ROWS).min(SCAN_BATCH_ROWS);
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            Ok(RecordBatch::try_new_with_options(Arc::clone(schema), vec![], &options)?)
        })
        .collect()
}
