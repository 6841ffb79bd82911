//! `SlotTable`: 64-bit tokens → ids by linear probing, which grows and forgets piece by piece.
//!
//! ```text
//!   find ──▶ slots ── not there ──▶ leaving ── not there ──▶ insert into slots
//!              ▲                       │
//!              └── some at each call ──┘ move_on
//! ```
//! To place ten million entries anew takes a good part of a second, and a worker has but a
//! millisecond for a call. So a table that is full, or holds many forgotten entries, only becomes
//! the one that is *leaving*: it is still looked into, and its entries move over while batches come.
//!
//! A token is a key of 64 bits, or the hash of a longer one; then the caller compares the keys.

use super::NO_ID;

/// Odd, with well-mixed bits (the golden ratio's fraction).
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
const SLOTS_MIN: usize = 64;
/// Load up to 5/8 keeps the expected distance from home below two slots.
const LOAD_NUMERATOR: usize = 5;
const LOAD_DENOMINATOR: usize = 8;

/// A token, and its id plus one. All zero is empty: memory fresh from the system is.
type Slot = [u64; 2];

pub(super) struct SlotTable {
    /// A power of two of them.
    slots: Vec<Slot>,
    /// What has not moved into `slots`.
    leaving: Option<Leaving>,
    /// Entries in both.
    len: usize,
    seed: u64,
}

/// A table on its way out.
struct Leaving {
    slots: Vec<Slot>,
    /// By its ids: what they are now, [`NO_ID`] for the forgotten; `None` if they are the same.
    new_ids: Option<Vec<u32>>,
    /// Slots before it have moved.
    cursor: usize,
}

impl Leaving {
    /// What an id in here is now.
    fn id(&self, slot: Slot) -> u32 {
        let id = id_of(slot);
        self.new_ids.as_ref().map_or(id, |new_ids| new_ids[id as usize])
    }
}

impl SlotTable {
    /// An empty one. The seed decides who is whose neighbour.
    pub(super) fn new(seed: u64) -> Self {
        Self { slots: empty(SLOTS_MIN), leaving: None, len: 0, seed }
    }

    /// The id of a token that lies near its home, else [`NO_ID`]: without a branch, so that the
    /// cache misses of many rows overlap.
    #[inline]
    pub(super) fn near(&self, token: u64) -> u32 {
        let mask = self.slots.len() - 1;
        let home = self.home_of(token, mask);
        let (first, second) = (self.slots[home], self.slots[(home + 1) & mask]);
        let second_id = if second[0] == token { id_of(second) } else { NO_ID };
        if first[0] == token { id_of(first) } else { second_id }
    }

    /// The id with this token for which `is_equal` holds.
    pub(super) fn find(&self, token: u64, is_equal: impl Fn(u32) -> bool) -> Option<u32> {
        if let Some(id) = self.search(&self.slots, token, id_of, &is_equal) {
            return Some(id);
        }
        let leaving = self.leaving.as_ref()?;
        self.search(&leaving.slots, token, |slot| leaving.id(slot), &is_equal)
    }

    /// Adds an entry that is not there.
    pub(super) fn insert(&mut self, token: u64, id: u32) {
        self.place(token, id);
        self.len += 1;
        if self.len * LOAD_DENOMINATOR > self.slots.len() * LOAD_NUMERATOR {
            // It has long moved: a call moves more entries than it adds.
            self.move_on(usize::MAX);
            self.leave(self.slots.len() * 2, None);
        }
    }

    /// Moves on, by so many slots.
    pub(super) fn move_on(&mut self, slot_count: usize) {
        let Some(mut leaving) = self.leaving.take() else { return };
        let end = leaving.cursor.saturating_add(slot_count).min(leaving.slots.len());
        for slot in leaving.cursor..end {
            let slot = leaving.slots[slot];
            if slot[1] != 0 && leaving.id(slot) != NO_ID {
                self.place(slot[0], leaving.id(slot));
            }
        }
        leaving.cursor = end;
        if end < leaving.slots.len() {
            self.leaving = Some(leaving);
        }
    }

    /// The ids have changed, and those that are [`NO_ID`] are forgotten; `len` are left.
    pub(super) fn renumber(&mut self, new_ids: &[u32], len: usize) {
        self.move_on(usize::MAX);
        self.len = len;
        let slot_count = (len * LOAD_DENOMINATOR / LOAD_NUMERATOR + 1).next_power_of_two();
        self.leave(slot_count.max(SLOTS_MIN), Some(new_ids.to_vec()));
    }

    /// Memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let leaving = self.leaving.as_ref().map_or(0, |leaving| {
            let new_ids = leaving.new_ids.as_ref().map_or(0, Vec::capacity);
            leaving.slots.capacity() * size_of::<Slot>() + new_ids * size_of::<u32>()
        });
        self.slots.capacity() * size_of::<Slot>() + leaving
    }

    fn leave(&mut self, slot_count: usize, new_ids: Option<Vec<u32>>) {
        let slots = std::mem::replace(&mut self.slots, empty(slot_count));
        self.leaving = Some(Leaving { slots, new_ids, cursor: 0 });
    }

    fn search(
        &self,
        slots: &[Slot],
        token: u64,
        id_in: impl Fn(Slot) -> u32,
        is_equal: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let mask = slots.len() - 1;
        let mut position = self.home_of(token, mask);
        while slots[position][1] != 0 {
            if slots[position][0] == token {
                let id = id_in(slots[position]);
                if id != NO_ID && is_equal(id) {
                    return Some(id);
                }
            }
            position = (position + 1) & mask;
        }
        None
    }

    fn place(&mut self, token: u64, id: u32) {
        let mask = self.slots.len() - 1;
        let mut position = self.home_of(token, mask);
        while self.slots[position][1] != 0 {
            position = (position + 1) & mask;
        }
        self.slots[position] = [token, u64::from(id) + 1];
    }

    #[inline]
    fn home_of(&self, token: u64, mask: usize) -> usize {
        let product = u128::from(token ^ self.seed) * u128::from(MULTIPLIER);
        ((product >> 64) as u64 ^ product as u64) as usize & mask
    }
}

fn empty(slot_count: usize) -> Vec<Slot> {
    vec![[0; 2]; slot_count]
}

/// [`NO_ID`] for an empty slot.
#[inline]
fn id_of(slot: Slot) -> u32 {
    (slot[1] as u32).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_wherever_they_are_while_the_table_moves() {
        let mut table = SlotTable::new(7);
        for id in 0..10_000_u32 {
            assert_eq!(table.find(u64::from(id) * 64, |_| true), None);
            table.insert(u64::from(id) * 64, id);
            table.move_on(4);
            let other = id / 2;
            assert_eq!(table.find(u64::from(other) * 64, |_| true), Some(other));
        }
        let new_ids: Vec<u32> =
            (0..10_000).map(|id| if id % 2 == 0 { id / 2 } else { NO_ID }).collect();
        table.renumber(&new_ids, 5_000);
        for step in 0..10_000_u32 {
            let id = new_ids[step as usize];
            let found = table.find(u64::from(step) * 64, |_| true);
            assert_eq!(found, (id != NO_ID).then_some(id));
            table.move_on(2);
        }
        assert!(table.leaving.is_none());
    }

    #[test]
    fn one_token_may_stand_for_several_keys() {
        let mut table = SlotTable::new(1);
        (0..3).for_each(|id| table.insert(42, id));
        assert_eq!(table.find(42, |id| id == 2), Some(2));
        assert_eq!(table.find(42, |id| id == 3), None);
    }
}
