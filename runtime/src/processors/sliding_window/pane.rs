//! `Pane`: the groups of one pane, compact: slots in order of first sight. Finding the slot of a
//! key id takes a `SlotMap` as long as there are keys; only a few panes, those that rows fall into
//! now, have one.

use std::collections::VecDeque;

use super::{
    budget::Budget,
    emission::View,
    frozen::Frozen,
    groups::{Groups, Rows},
    keys::WindowKeys,
};
use crate::{
    Result,
    delta::Weight,
    processor::Done,
    processors::accumulators::{Aggregate, StateColumn},
};

/// Panes with a slot map at a time. Event time is nearly sorted: two serve almost every row; more
/// would cost memory for each key.
const OPEN_MAPS_MAX: usize = 8;

pub(super) struct Pane {
    /// By slot: the key's id.
    pub(super) ids: Vec<u32>,
    pub(super) groups: Groups,
    /// What the stack holds below this pane, by column and slot; see `two_stacks`.
    pub(super) below: Vec<StateColumn>,
    pub(super) dirty: Dirty,
    /// What the save under way has left to write.
    pub(super) frozen: Option<Frozen>,
    derived: Derived,
}

/// What a pane's saved section does not say yet. Slots from `saved_len` on are new to it; of the
/// others it is noted which were touched.
#[derive(Default)]
pub(super) struct Dirty {
    /// Slots that were there at the last save; 0 if the pane was never saved.
    saved_len: usize,
    /// By saved slot, and the same as a list.
    is_touched: Vec<bool>,
    touched: Vec<u32>,
    /// Rows of the section's pieces.
    rows_written: usize,
}

impl Dirty {
    #[inline]
    fn touch(&mut self, slot: u32) {
        let Some(is_touched) = self.is_touched.get_mut(slot as usize) else { return };
        if !std::mem::replace(is_touched, true) {
            self.touched.push(slot);
        }
    }

    /// How many slots are to be written, of `len` there are.
    pub(super) fn count(&self, len: usize) -> usize {
        self.touched.len() + len - self.saved_len
    }

    /// Whether the pane was saved before.
    pub(super) fn is_saved(&self) -> bool {
        self.saved_len > 0
    }

    /// Whether the section grows to more than twice its entries with so many rows.
    pub(super) fn is_bloated_by(&self, rows: usize, len: usize) -> bool {
        self.rows_written + rows > 2 * len
    }

    /// A save begins: what it is to write, of `len` slots, in addition or in place of all.
    pub(super) fn freeze(&mut self, is_whole: bool, len: usize) -> Frozen {
        let before = std::mem::take(self);
        let rows_written = if is_whole { len } else { before.rows_written + before.count(len) };
        *self = Self {
            saved_len: len,
            is_touched: vec![false; len],
            touched: Vec::new(),
            rows_written,
        };
        match is_whole {
            true => Frozen::new(len, 0, Vec::new(), Vec::new()),
            false => Frozen::new(len, before.saved_len, before.is_touched, before.touched),
        }
    }

    fn bytes(&self) -> usize {
        self.is_touched.capacity() + self.touched.capacity() * size_of::<u32>()
    }
}

/// The results of aggregates whose state is a multiset, made piece by piece.
#[derive(Default)]
struct Derived {
    /// By aggregate; empty for the others.
    results: Vec<Vec<StateColumn>>,
    /// The aggregate, and its first entry, that are not taken in.
    aggregate: usize,
    entry: usize,
}

/// Key id → slot in one pane, plus one; 0 where the pane has none. Zeros come fresh from the system
/// and cost nothing until they are touched.
type SlotMap = Vec<u32>;

/// The slot maps of the panes that rows fall into now.
#[derive(Default)]
pub(super) struct SlotMaps {
    /// Pane and map; the one used last is at the back.
    open: VecDeque<(i64, SlotMap)>,
    /// Emptied maps, for their memory.
    spare: Vec<SlotMap>,
}

impl Pane {
    pub(super) fn new(aggregates: &[Aggregate]) -> Result<Self> {
        Ok(Self {
            ids: Vec::new(),
            groups: Groups::new(aggregates)?,
            below: Vec::new(),
            dirty: Dirty::default(),
            frozen: None,
            derived: Derived::default(),
        })
    }

    /// The slots of `ids`, made where they are missing; `slots` is cleared first.
    pub(super) fn slots_of(
        &mut self,
        map: &mut SlotMap,
        ids: &[u32],
        keys: &mut WindowKeys,
        slots: &mut Vec<u32>,
    ) {
        map.resize(keys.len().max(map.len()), 0);
        slots.clear();
        slots.extend(ids.iter().map(|&id| {
            let slot = &mut map[id as usize];
            if *slot == 0 {
                self.ids.push(id);
                *slot = self.ids.len() as u32;
                keys.enter(id);
            }
            *slot - 1
        }));
        if self.dirty.is_saved() {
            slots.iter().for_each(|&slot| self.dirty.touch(slot));
        }
        self.groups.resize(self.ids.len());
    }

    /// Takes in rows, whose slots are there.
    pub(super) fn update(&mut self, aggregates: &[Aggregate], rows: Rows<'_>) -> Result<()> {
        self.derived = Derived::default();
        self.groups.update(aggregates, rows)
    }

    /// Makes the results of those aggregates that are multisets and `is_wanted`.
    pub(super) fn derive(
        &mut self,
        aggregates: &[Aggregate],
        is_wanted: impl Fn(&Aggregate) -> bool,
        budget: &mut Budget,
    ) -> Result<Done> {
        let Self { ids, groups, derived, .. } = self;
        let Derived { results, aggregate: position, entry } = derived;
        results.resize_with(aggregates.len(), Vec::new);
        while let Some(aggregate) = aggregates.get(*position) {
            if let (Some(values), true) = (groups.multiset(*position), is_wanted(aggregate)) {
                let results = &mut results[*position];
                if *entry == 0 {
                    *results = aggregate.result_columns()?;
                    results.iter_mut().for_each(|column| column.resize(ids.len()));
                }
                let end = *entry + budget.take(values.len() - *entry);
                let entries = values.entries_in(*entry..end, |weight| weight > 0)?;
                aggregate.take_values(results, &entries, &Weight::One)?;
                *entry = end;
                if end < values.len() {
                    return Ok(Done::No);
                }
            }
            *position += 1;
            *entry = 0;
        }
        Ok(Done::Yes)
    }

    /// The columns from which the result of an aggregate is computed; those of a multiset must
    /// have been derived.
    pub(super) fn results(&self, aggregate: usize) -> &[StateColumn] {
        match self.derived.results.get(aggregate) {
            Some(derived) if !derived.is_empty() => derived,
            _ => &self.groups.columns[aggregate],
        }
    }

    /// What a window of this one pane emits.
    pub(super) fn view(&self) -> View<'_> {
        let aggregates = 0..self.groups.columns.len();
        View {
            live: &self.groups.live,
            results: aggregates.map(|aggregate| self.results(aggregate)).collect(),
            ids: Some(&self.ids),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let derived = self.derived.results.iter().flatten();
        self.groups.bytes()
            + self.ids.capacity() * size_of::<u32>()
            + self.dirty.bytes()
            + self.frozen.as_ref().map_or(0, Frozen::bytes)
            + self.below.iter().chain(derived).map(StateColumn::bytes).sum::<usize>()
    }
}

impl SlotMaps {
    /// The map of pane `number`, made if it has none. `ids_of` answers the key ids of a pane.
    pub(super) fn open<'a>(
        &mut self,
        number: i64,
        ids_of: impl Fn(i64) -> &'a [u32],
    ) -> &mut SlotMap {
        let found = self.open.iter().position(|(open, _)| *open == number);
        let entry = match found.and_then(|position| self.open.remove(position)) {
            Some(entry) => entry,
            None => {
                if self.open.len() >= OPEN_MAPS_MAX
                    && let Some((oldest, _)) = self.open.front()
                {
                    let oldest = *oldest;
                    self.close(oldest, ids_of(oldest));
                }
                let ids = ids_of(number);
                let len = ids.iter().max().map_or(0, |&id| id as usize + 1);
                let mut map = self.spare.pop().unwrap_or_else(|| vec![0; len]);
                map.resize(len.max(map.len()), 0);
                for (slot, &id) in ids.iter().enumerate() {
                    map[id as usize] = slot as u32 + 1;
                }
                (number, map)
            }
        };
        self.open.push_back(entry);
        let (_, map) = self.open.back_mut().expect("an entry was just pushed");
        map
    }

    /// Pane `number`, which has these ids, gets no more rows, or not soon.
    pub(super) fn close(&mut self, number: i64, ids: &[u32]) {
        let found = self.open.iter().position(|(open, _)| *open == number);
        let Some((_, mut map)) = found.and_then(|position| self.open.remove(position)) else {
            return;
        };
        ids.iter().for_each(|&id| map[id as usize] = 0);
        if self.spare.len() < OPEN_MAPS_MAX {
            self.spare.push(map);
        }
    }

    /// Key ids have changed.
    pub(super) fn forget_all(&mut self) {
        *self = Self::default();
    }

    pub(super) fn bytes(&self) -> usize {
        let open = self.open.iter().map(|(_, map)| map.capacity());
        open.chain(self.spare.iter().map(Vec::capacity)).sum::<usize>() * size_of::<u32>()
    }
}
