//! `Total`: the window at hand, by key id: panes come in at its end and leave at its beginning.
//!
//! ```text
//!   kind of state                         a pane comes        a pane leaves      for each window
//!   counts, exact sums, averages          added               subtracted         nothing
//!   distinct values and their sums        added               subtracted         nothing
//!   float sums, variances, min, max       two stacks          two stacks         one addition a key
//!   sums of distinct floats               values added        values subtracted  all values again
//! ```
//! The work is a queue of jobs, each done piece by piece within a [`Budget`]: a call never takes
//! long, and what can be done after a window is out does not delay the next one. Between
//! [`Total::work`] that answered `Yes` and the next call of [`Total::begin`] or [`Total::retire`]
//! the total is whole and takes late rows.

use std::{collections::VecDeque, ops::Range};

use super::{
    budget::Budget,
    emission::View,
    groups::Rows,
    keys::WindowKeys,
    pane::Pane,
    panes::Panes,
    two_stacks::{Stack, TwoStacks},
};
use crate::{
    Result,
    delta::Weight,
    processor::Done,
    processors::accumulators::{Aggregate, Multiset, StateColumn},
};

pub(super) struct Total {
    live: Vec<i64>,
    /// By aggregate: the columns its result is computed from.
    results: Vec<Vec<StateColumn>>,
    /// By aggregate: the values in the window, for those that count each once.
    distinct: Vec<Option<Multiset>>,
    stacks: TwoStacks,
    /// Panes in it.
    merged: Range<i64>,
    jobs: VecDeque<Job>,
    /// Slots (or keys, or values) of the first job that are done.
    cursor: usize,
}

/// A piece of work; the number is a pane's.
#[derive(Debug, Clone, Copy)]
enum Job {
    /// Puts a pane on a stack.
    PutOn(Stack, i64),
    /// Adds a pane that was in already to an emptied back.
    PushAgain(i64),
    /// Takes a pane in.
    Enter(i64),
    /// Adds front and back up.
    AddUp,
    /// Adds the late rows.
    AddLate,
    /// Aggregates the distinct values of that aggregate.
    Recompute(usize),
    /// Swaps the fronts and the backs.
    Swap,
    /// Takes a pane away for good.
    Leave(i64),
    /// The window begins here now.
    Settle(i64),
}

/// What jobs work on.
pub(super) struct Field<'a> {
    pub(super) aggregates: &'a [Aggregate],
    pub(super) panes: &'a mut Panes,
    pub(super) keys: &'a mut WindowKeys,
}

impl Total {
    /// For windows of `size` panes.
    pub(super) fn new(aggregates: &[Aggregate], size: i64) -> Result<Self> {
        let results = aggregates.iter().map(Aggregate::result_columns).collect::<Result<_>>()?;
        let distinct = aggregates.iter().map(Aggregate::distinct_values).collect::<Result<_>>()?;
        Ok(Self {
            live: Vec::new(),
            results,
            distinct,
            stacks: TwoStacks::new(aggregates, size)?,
            merged: 0..0,
            jobs: VecDeque::new(),
            cursor: 0,
        })
    }

    /// Makes the total that of the window of those panes, by [`Total::work`].
    pub(super) fn begin(&mut self, window: Range<i64>, field: &Field<'_>) {
        let Range { start: first, end } = window;
        let (panes, jobs) = (&field.panes, &mut self.jobs);
        let missing = if self.merged.is_empty() { first } else { self.merged.end };
        if self.stacks.is_needed() && self.stacks.begin(first) {
            let back_start = self.stacks.back_start();
            let front = panes.numbers(first..back_start.min(end)).rev();
            jobs.extend(front.map(|number| Job::PutOn(Stack::Front, number)));
            jobs.extend(panes.numbers(back_start.max(first)..missing).map(Job::PushAgain));
        }
        jobs.extend(panes.numbers(missing..end).map(Job::Enter));
        if self.stacks.is_needed() {
            jobs.extend([Job::AddUp, Job::AddLate]);
        }
        let recomputed = field.aggregates.iter().enumerate();
        let recomputed = recomputed.filter(|(_, one)| one.is_distinct() && !one.is_invertible());
        jobs.extend(recomputed.map(|(position, _)| Job::Recompute(position)));
        self.merged = first..end;
        self.resize(field.keys.len());
    }

    /// The window is out, the next one begins with pane `next`: panes before it leave.
    pub(super) fn retire(&mut self, next: i64, field: &Field<'_>) {
        let (building, is_swapped) = self.stacks.plan_building(self.merged.start, next);
        let building = field.panes.numbers(building).rev();
        self.jobs.extend(building.map(|number| Job::PutOn(Stack::NextFront, number)));
        if is_swapped {
            self.jobs.push_back(Job::Swap);
        }
        self.jobs.extend(field.panes.numbers(i64::MIN..next).map(Job::Leave));
        self.jobs.push_back(Job::Settle(next));
    }

    /// Goes on with the jobs; `Yes` when none is left.
    pub(super) fn work(&mut self, field: &mut Field<'_>, budget: &mut Budget) -> Result<Done> {
        while let Some(&job) = self.jobs.front() {
            if budget.is_spent() || self.step(job, field, budget)? == Done::No {
                return Ok(Done::No);
            }
            self.jobs.pop_front();
            self.cursor = 0;
        }
        Ok(Done::Yes)
    }

    fn step(&mut self, job: Job, field: &mut Field<'_>, budget: &mut Budget) -> Result<Done> {
        let aggregates = field.aggregates;
        match job {
            Job::PutOn(stack, number) => {
                let has_derived = self.stacks.has_derived();
                let (stacks, cursor) = (&mut self.stacks, &mut self.cursor);
                let done = field.panes.change(number, |pane| {
                    if has_derived && derive(pane, aggregates, budget)? == Done::No {
                        return Ok(Done::No);
                    }
                    let (rows, done) = piece(cursor, pane.ids.len(), budget);
                    stacks.put_on(stack, pane, rows, aggregates)?;
                    Ok(done)
                })?;
                Ok(done.unwrap_or(Done::Yes))
            }
            Job::PushAgain(number) | Job::Enter(number) => {
                let is_new = matches!(job, Job::Enter(_));
                if self.stacks.has_derived() {
                    let derived = field.panes.change(number, |p| derive(p, aggregates, budget))?;
                    if derived == Some(Done::No) {
                        return Ok(Done::No);
                    }
                }
                if is_new {
                    field.panes.close_map(number);
                }
                let Some(pane) = field.panes.get(number) else { return Ok(Done::Yes) };
                let length = if is_new { self.work_length(pane) } else { pane.ids.len() };
                let (rows, done) = piece(&mut self.cursor, length, budget);
                if self.stacks.is_needed() && number >= self.stacks.back_start() {
                    self.stacks.push(number, pane, rows.clone())?;
                }
                if is_new {
                    self.merge(pane, rows, aggregates, 1)?;
                }
                Ok(done)
            }
            Job::AddUp => {
                let (keys, done) = piece(&mut self.cursor, self.live.len(), budget);
                self.stacks.add_up(&mut self.results, keys)?;
                Ok(done)
            }
            Job::AddLate => self.stacks.add_late(&mut self.results).map(|()| Done::Yes),
            Job::Recompute(position) => self.recompute(position, &aggregates[position], budget),
            Job::Swap => {
                self.stacks.swap();
                Ok(Done::Yes)
            }
            Job::Leave(number) => self.leave(number, field, budget),
            Job::Settle(next) => {
                self.merged.start = next.min(self.merged.end);
                Ok(Done::Yes)
            }
        }
    }

    /// Adds rows of a pane (and as many values of its multisets), or subtracts them.
    fn merge(
        &mut self,
        pane: &Pane,
        rows: Range<usize>,
        aggregates: &[Aggregate],
        sign: i64,
    ) -> Result<()> {
        let slots = rows.start.min(pane.ids.len())..rows.end.min(pane.ids.len());
        for (&live, &id) in pane.groups.live[slots.clone()].iter().zip(&pane.ids[slots.clone()]) {
            self.live[id as usize] += live * sign;
        }
        for (position, aggregate) in aggregates.iter().enumerate() {
            let results = &mut self.results[position];
            if let Some(values) = &mut self.distinct[position] {
                let Some(multiset) = pane.groups.multiset(position) else { continue };
                let mut entries = multiset.entries_in(rows.clone(), |weight| weight != 0)?;
                entries.slots.iter_mut().for_each(|slot| *slot = pane.ids[*slot as usize]);
                aggregate.merge_distinct(values, results, &entries, sign)?;
                continue;
            }
            let columns = results.iter_mut().zip(&pane.groups.columns[position]);
            for (to, from) in columns.filter(|(to, _)| to.is_invertible()) {
                match sign {
                    1 => to.merge(from, slots.clone(), &pane.ids)?,
                    _ => to.subtract(from, slots.clone(), &pane.ids)?,
                }
            }
        }
        Ok(())
    }

    fn leave(&mut self, number: i64, field: &mut Field<'_>, budget: &mut Budget) -> Result<Done> {
        let Some(pane) = field.panes.get(number) else { return Ok(Done::Yes) };
        if self.merged.contains(&number) {
            let length = self.work_length(pane);
            let (rows, done) = piece(&mut self.cursor, length, budget);
            self.stacks.pop(number, pane, rows.clone())?;
            self.merge(pane, rows, field.aggregates, -1)?;
            if done == Done::No {
                return Ok(Done::No);
            }
        }
        if field.panes.settle(number, field.keys, budget)? == Done::No {
            return Ok(Done::No);
        }
        self.stacks.forget(number);
        if let Some(pane) = field.panes.remove(number) {
            field.keys.leave(&pane.ids);
        }
        Ok(Done::Yes)
    }

    /// Aggregates the distinct values again, where their changes cannot be.
    fn recompute(
        &mut self,
        position: usize,
        aggregate: &Aggregate,
        budget: &mut Budget,
    ) -> Result<Done> {
        let results = &mut self.results[position];
        let Some(values) = &self.distinct[position] else { return Ok(Done::Yes) };
        if self.cursor == 0 {
            results.iter_mut().for_each(StateColumn::clear);
        }
        let (range, done) = piece(&mut self.cursor, values.len(), budget);
        let entries = values.entries_in(range, |weight| weight > 0)?;
        aggregate.take_values(results, &entries, &Weight::One)?;
        Ok(done)
    }

    /// Takes rows of pane `number`; their slots are key ids.
    pub(super) fn take(
        &mut self,
        number: i64,
        rows: Rows<'_>,
        key_count: usize,
        aggregates: &[Aggregate],
    ) -> Result<()> {
        if !self.merged.contains(&number) {
            return Ok(());
        }
        self.resize(key_count);
        rows.count(&mut self.live);
        for (position, aggregate) in aggregates.iter().enumerate() {
            let (input, results) = (rows.input(position), &mut self.results[position]);
            if let Some(values) = &mut self.distinct[position] {
                aggregate.update_distinct(values, results, input, rows.target())?;
                continue;
            }
            for column in results.iter_mut().filter(|column| column.is_invertible()) {
                column.update(input, rows.target())?;
            }
        }
        self.stacks.take_late(number, rows, aggregates)
    }

    fn resize(&mut self, len: usize) {
        if len > self.live.len() {
            self.live.resize(len, 0);
            self.results.iter_mut().flatten().for_each(|column| column.resize(len));
            self.stacks.resize(len);
        }
    }

    /// Slots of a pane, or values of its largest multiset that is merged.
    fn work_length(&self, pane: &Pane) -> usize {
        let distinct = self.distinct.iter().enumerate().filter(|(_, values)| values.is_some());
        let values = distinct.filter_map(|(position, _)| pane.groups.multiset(position));
        values.map(Multiset::len).fold(pane.ids.len(), usize::max)
    }

    /// What the window emits.
    pub(super) fn view(&self) -> View<'_> {
        let results = self.results.iter().map(Vec::as_slice).collect();
        View { live: &self.live, results, ids: None }
    }

    /// Key ids have changed.
    pub(super) fn remap(&mut self, new_ids: &[u32], len: usize) -> Result<()> {
        self.resize(new_ids.len());
        crate::processors::accumulators::compact(&mut self.live, new_ids, len);
        self.results.iter_mut().flatten().try_for_each(|column| column.remap(new_ids, len))?;
        self.distinct.iter_mut().flatten().try_for_each(|values| values.remap(new_ids))?;
        self.stacks.remap(new_ids, len)
    }

    pub(super) fn bytes(&self) -> usize {
        let results = self.results.iter().flatten().map(StateColumn::bytes);
        let distinct = self.distinct.iter().flatten().map(Multiset::bytes);
        results.chain(distinct).sum::<usize>()
            + self.live.capacity() * size_of::<i64>()
            + self.stacks.bytes()
    }
}

/// Makes what the stacks need of a pane's multisets.
fn derive(pane: &mut Pane, aggregates: &[Aggregate], budget: &mut Budget) -> Result<Done> {
    pane.derive(aggregates, |aggregate| !aggregate.is_distinct(), budget)
}

/// The next piece of `length` things, of which `cursor` are done.
fn piece(cursor: &mut usize, length: usize, budget: &mut Budget) -> (Range<usize>, Done) {
    let start = *cursor;
    *cursor = start + budget.take(length - start);
    (start..*cursor, if *cursor < length { Done::No } else { Done::Yes })
}
