//! `Budget`: how much of the work of closing windows one call may do. A unit is a slot with all its
//! columns, or a value of a multiset.

/// Slots × columns of one call: some ns each, so that a call stays well below a millisecond.
const CELLS_PER_CALL: usize = 65_536;
/// Slots of a call at least, however many columns they have.
const SLOTS_PER_CALL_MIN: usize = 1024;

#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    left: usize,
}

/// Units a call may spend, for slots of so many columns.
pub(super) fn units_of_call(column_count: usize) -> usize {
    (CELLS_PER_CALL / column_count.max(1)).max(SLOTS_PER_CALL_MIN)
}

impl Budget {
    pub(super) fn new(units: usize) -> Self {
        Self { left: units }
    }

    /// Takes up to `wanted` units; how many it got.
    pub(super) fn take(&mut self, wanted: usize) -> usize {
        let taken = wanted.min(self.left);
        self.left -= taken;
        taken
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }
}
