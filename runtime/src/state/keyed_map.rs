//! `KeyedMap`: key columns → dense ids `0..len`, so that operator state is plain columns indexed by
//! id. Works on whole batches; ids are given in order of first sight, whatever the hash.
//!
//! ```text
//!   key columns ──▶ ids ──▶ counts[id] += w, sums[id] += w·x …
//!       [7, 3, 7]    [0, 1, 0]
//! ```
//! One integer key (any width, dates and timestamps too) is looked up as it is, everything else by
//! Arrow's row encoding. The hash in here never leaves the process: which *partition* a
//! key belongs to is `storage::partition`'s and is computed from the columns when state is saved.

mod integer_keys;
mod row_keys;
mod slot_table;

use arrow::{array::ArrayRef, datatypes::DataType};

use self::{integer_keys::IntegerKeys, row_keys::RowKeys};
use crate::{Error, Result};

/// No id.
pub const NO_ID: u32 = u32::MAX;

/// Slots that move for each row that comes while a table grows: enough that it has moved long before
/// it is full again.
const MOVES_PER_ROW: usize = 4;

/// Key columns → dense ids; see the module text.
pub struct KeyedMap {
    keys: Keys,
}

enum Keys {
    /// No key columns: one key, once a row was seen.
    Single {
        is_seen: bool,
    },
    Integer(IntegerKeys),
    Rows(RowKeys),
}

impl KeyedMap {
    /// An empty map over key columns of `types`. `seed` makes the placing in memory unpredictable
    /// for those who choose the keys; it changes no result.
    pub fn new(types: &[DataType], seed: u64) -> Result<Self> {
        let keys = match types {
            [] => Keys::Single { is_seen: false },
            [single] if integer_keys::is_integer(single) => {
                Keys::Integer(IntegerKeys::new(single.clone(), seed))
            }
            several => Keys::Rows(RowKeys::new(several, seed)?),
        };
        Ok(Self { keys })
    }

    /// Number of keys; ids are below it.
    pub fn len(&self) -> usize {
        match &self.keys {
            Keys::Single { is_seen } => usize::from(*is_seen),
            Keys::Integer(keys) => keys.len(),
            Keys::Rows(keys) => keys.len(),
        }
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of each row's key, new keys getting the next ids. `ids` is cleared first; without key
    /// columns `row_count` says how many there are. Null is a key like any other.
    pub fn ids_of(
        &mut self,
        columns: &[ArrayRef],
        row_count: usize,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        ids.clear();
        if self.len() + row_count >= NO_ID as usize {
            return Err(Error::Limit("more than 2^32 keys in one operator instance".to_owned()));
        }
        match &mut self.keys {
            Keys::Single { is_seen } => {
                *is_seen |= row_count > 0;
                ids.resize(row_count, 0);
                Ok(())
            }
            Keys::Integer(keys) => keys.ids_of(&columns[0], ids),
            Keys::Rows(keys) => keys.ids_of(columns, ids),
        }
    }

    /// The keys of `ids`, as columns of the types given to [`KeyedMap::new`].
    pub fn columns_of(&self, ids: &[u32]) -> Result<Vec<ArrayRef>> {
        match &self.keys {
            Keys::Single { .. } => Ok(Vec::new()),
            Keys::Integer(keys) => Ok(vec![keys.column_of(ids)?]),
            Keys::Rows(keys) => keys.columns_of(ids),
        }
    }

    /// Forgets the keys for which `is_kept` says no and closes the gaps. Answers the new id of each
    /// old one, [`NO_ID`] for the forgotten; the order of ids stays.
    pub fn retain(&mut self, is_kept: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut next = 0;
        let new_ids: Vec<u32> = (0..self.len() as u32)
            .map(|id| {
                if !is_kept(id) {
                    return NO_ID;
                }
                next += 1;
                next - 1
            })
            .collect();
        match &mut self.keys {
            Keys::Single { is_seen } => *is_seen = next > 0,
            Keys::Integer(keys) => keys.retain(&new_ids),
            Keys::Rows(keys) => keys.retain(&new_ids),
        }
        new_ids
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        match &self.keys {
            Keys::Single { .. } => 0,
            Keys::Integer(keys) => keys.bytes(),
            Keys::Rows(keys) => keys.bytes(),
        }
    }
}

#[cfg(test)]
mod tests;
