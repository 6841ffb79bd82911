//! What a scan takes from a partition under its lock: shared arrays and which rows are seen.
//! Nothing is copied but an open tail, once per change; the scan runs after the lock is gone.

use arrow::{array::RecordBatch, buffer::BooleanBuffer};

use super::{
    index::{CHUNK_ROWS_MAX, slot_of},
    rows::Rows,
    schema::TableSchema,
    view::Snapshot,
};
use crate::Result;

/// Rows of one chunk or tail as captured by a scan.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) batch: RecordBatch,
    /// The rows that the reader sees; `None` for all.
    pub(crate) mask: Option<BooleanBuffer>,
}

impl Rows {
    /// What a reader sees of this partition, all columns of `projection`.
    pub(crate) fn capture(
        &mut self,
        schema: &TableSchema,
        projection: &[usize],
        snapshot: &Snapshot,
        pieces: &mut Vec<Piece>,
    ) -> Result<()> {
        let tail_len = self.store.tail.len();
        let tail = match tail_len {
            0 => None,
            _ => Some(self.store.tail.freeze(schema.arrow())?),
        };
        for (number, chunk) in self.store.chunks() {
            let mask = self.mask(number, chunk.dead.living(chunk.len()), chunk.len(), snapshot);
            Piece::push(&chunk.batch, mask, projection, pieces)?;
        }
        if let Some(tail) = tail {
            let number = self.store.tail_chunk();
            let living = self.store.tail.dead.living(tail_len);
            let mask = self.mask(number, living, tail_len, snapshot);
            Piece::push(&tail, mask, projection, pieces)?;
        }
        Ok(())
    }

    /// The rows of a chunk that a reader sees, `None` for all.
    fn mask(
        &self,
        number: usize,
        living: Option<BooleanBuffer>,
        len: usize,
        snapshot: &Snapshot,
    ) -> Option<BooleanBuffer> {
        let slots = slot_of(number, 0)..slot_of(number, CHUNK_ROWS_MAX - 1) + 1;
        let Some(versions) = self.versions.as_ref().filter(|all| all.touches(slots.clone())) else {
            return living;
        };
        let mut mask = match living {
            Some(living) => (0..len).map(|row| living.value(row)).collect::<Vec<_>>(),
            None => vec![true; len],
        };
        let first = slots.start;
        versions.hidden(slots, snapshot, |slot| mask[(slot - first) as usize] = false);
        (!mask.iter().all(|is_seen| *is_seen)).then(|| BooleanBuffer::from(mask))
    }
}

impl Piece {
    fn push(
        batch: &RecordBatch,
        mask: Option<BooleanBuffer>,
        projection: &[usize],
        pieces: &mut Vec<Self>,
    ) -> Result<()> {
        let is_empty = mask.as_ref().is_some_and(|mask| mask.count_set_bits() == 0);
        if !is_empty {
            pieces.push(Self { batch: batch.project(projection)?, mask });
        }
        Ok(())
    }

    /// The positions of the rows that the reader sees.
    pub(crate) fn rows(&self) -> impl Iterator<Item = usize> {
        let is_seen = |row: &usize| self.mask.as_ref().is_none_or(|mask| mask.value(*row));
        (0..self.batch.num_rows()).filter(is_seen)
    }

    /// Rows that the reader sees.
    pub(crate) fn len(&self) -> usize {
        self.mask.as_ref().map_or(self.batch.num_rows(), BooleanBuffer::count_set_bits)
    }
}
