//! `KeyIndex`: key → row slot of one partition. Holds slots only, 5 bytes an entry; the keys are
//! read from the rows themselves.

use hashbrown::HashTable;

/// Place of a row in its partition: chunk number in the upper bits, row in the lower 14.
pub(crate) type Slot = u32;

/// Bits of a slot that name the row inside its chunk.
pub(crate) const ROW_BITS: u32 = 14;

/// Rows a chunk may have.
pub(crate) const CHUNK_ROWS_MAX: usize = 1 << ROW_BITS;

/// The slot of row `row` of chunk `chunk`.
pub(crate) fn slot_of(chunk: usize, row: usize) -> Slot {
    ((chunk as u32) << ROW_BITS) | row as u32
}

/// The chunk and row behind a slot.
pub(crate) fn place_of(slot: Slot) -> (usize, usize) {
    ((slot >> ROW_BITS) as usize, slot as usize & (CHUNK_ROWS_MAX - 1))
}

/// The newest slot of every key. Hashes are the pinned key hashes: in one partition their upper
/// bits are nearly the same, so they are turned by half a word before the table looks at them.
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    slots: HashTable<Slot>,
}

impl KeyIndex {
    /// An empty one that so many keys fit into.
    pub(crate) fn with_capacity(keys: usize) -> Self {
        Self { slots: HashTable::with_capacity(keys) }
    }

    /// The slot with this hash for which `is_key` holds.
    pub(crate) fn find(&self, hash: u64, mut is_key: impl FnMut(Slot) -> bool) -> Option<Slot> {
        self.slots.find(turned(hash), |slot| is_key(*slot)).copied()
    }

    /// Adds a slot whose key is not there; `hash_of` answers the hash of other slots' keys.
    pub(crate) fn insert(&mut self, hash: u64, slot: Slot, hash_of: impl Fn(Slot) -> u64) {
        self.slots.insert_unique(turned(hash), slot, |slot| turned(hash_of(*slot)));
    }

    /// Points the entry at `old` to `new`; answers whether there was one.
    pub(crate) fn replace(&mut self, hash: u64, old: Slot, new: Slot) -> bool {
        match self.slots.find_mut(turned(hash), |slot| *slot == old) {
            Some(entry) => {
                *entry = new;
                true
            }
            None => false,
        }
    }

    /// Removes the entry at `slot`; answers whether there was one.
    pub(crate) fn remove(&mut self, hash: u64, slot: Slot) -> bool {
        match self.slots.find_entry(turned(hash), |entry| *entry == slot) {
            Ok(entry) => {
                entry.remove();
                true
            }
            Err(_) => false,
        }
    }

    /// Memory behind it, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.allocation_size()
    }
}

fn turned(hash: u64) -> u64 {
    hash.rotate_left(32)
}
