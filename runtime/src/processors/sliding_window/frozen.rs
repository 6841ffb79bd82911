//! `Frozen`: what the save under way has left to write of one pane. At the barrier nothing is copied:
//! the list of what is dirty is set aside, and slots are written in slices, the barrier having passed.
//!
//! ```text
//!   barrier     slots 2 5 7 dirty, 8 9 new   frozen: [2 5 7 8 9]      no slot is written
//!   a slice                                          [····7 8 9]      2 5 are
//!   rows for 8 and 2                                 [····7 · 9]      8 is written first, as it was
//! ```
//! Whoever changes a slot that is not written yet writes it before ([`Frozen::take_early`]): what a
//! batch costs more is in proportion to the batch, not to the pane.

/// One pane's part of a save.
pub(super) struct Frozen {
    /// Slots there were at the barrier.
    len: usize,
    /// The first of them that are not written because they are not dirty, unless `is_touched`.
    saved_len: usize,
    is_touched: Vec<bool>,
    touched: Vec<u32>,
    /// Position in `touched` and, behind them, the slots from `saved_len` on.
    next: usize,
    /// By slot: one bit for each that is written.
    is_written: Vec<u64>,
}

impl Frozen {
    /// A pane of `len` slots, of which those in `touched` and those from `saved_len` on are to be
    /// written.
    pub(super) fn new(
        len: usize,
        saved_len: usize,
        is_touched: Vec<bool>,
        touched: Vec<u32>,
    ) -> Self {
        let is_written = vec![0; len.div_ceil(64)];
        Self { len, saved_len, is_touched, touched, next: 0, is_written }
    }

    /// Up to `count` of the slots that are to be written; empty when there are none left.
    pub(super) fn take(&mut self, count: usize) -> Vec<u32> {
        if self.next == 0 {
            // What lies together is read together.
            self.touched.sort_unstable();
        }
        let mut slots = Vec::with_capacity(count.min(self.row_count() - self.next));
        while slots.len() < count && self.next < self.row_count() {
            let slot = match self.touched.get(self.next) {
                Some(slot) => *slot,
                None => (self.saved_len + self.next - self.touched.len()) as u32,
            };
            self.next += 1;
            if self.mark(slot) {
                slots.push(slot);
            }
        }
        slots
    }

    /// Those of `slots`, which are about to change, that are to be written and are not yet.
    pub(super) fn take_early(&mut self, slots: &[u32]) -> Vec<u32> {
        let mut early = Vec::new();
        for &slot in slots {
            let at = slot as usize;
            let is_dirty = at >= self.saved_len || self.is_touched[at];
            if at < self.len && is_dirty && self.mark(slot) {
                early.push(slot);
            }
        }
        early
    }

    /// Slots to write in all.
    fn row_count(&self) -> usize {
        self.touched.len() + self.len - self.saved_len
    }

    /// Notes that a slot is written; whether it was not before.
    fn mark(&mut self, slot: u32) -> bool {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        let is_new = self.is_written[word] & bit == 0;
        self.is_written[word] |= bit;
        is_new
    }

    pub(super) fn bytes(&self) -> usize {
        self.is_touched.capacity()
            + self.touched.capacity() * size_of::<u32>()
            + self.is_written.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dirty_slot_is_written_once_in_its_turn_or_before() {
        let mut is_touched = vec![false; 8];
        let touched = vec![7, 2, 5];
        touched.iter().for_each(|&slot| is_touched[slot as usize] = true);
        let mut frozen = Frozen::new(10, 8, is_touched, touched);
        assert_eq!(frozen.take(2), [2, 5]);
        assert_eq!(frozen.take_early(&[8, 2, 3, 8, 10]), [8], "one that is due and not written");
        assert_eq!(frozen.take(10), [7, 9]);
        assert_eq!(frozen.take(10), [0; 0]);
        assert_eq!(frozen.take_early(&[0, 7, 9]), [0; 0]);
    }
}
