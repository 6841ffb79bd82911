//! A reader of changes against a `BTreeMap` model: whatever happened between two polls, its rows are
//! the committed ones, with nothing twice and nothing of a half-committed or aborted writer.

use super::*;
use crate::table::changes::ChangeReader;

/// Rows as a reader has added them up, with how often each is there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sum(BTreeMap<(i64, String), i64>);

impl Sum {
    pub(super) fn add(&mut self, batch: &RecordBatch, row: usize, diff: i64) {
        let key = batch.column(0).as_primitive::<Int64Type>().value(row);
        let value = batch.column(1).as_string::<i32>().value(row).to_owned();
        let count = self.0.entry((key, value)).or_default();
        *count += diff;
        if *count == 0 {
            self.0.retain(|_, count| *count != 0);
        }
    }

    pub(super) fn of(model: &BTreeMap<i64, String>) -> Self {
        Self(model.iter().map(|(key, value)| ((*key, value.clone()), 1)).collect())
    }
}

/// A reader and what it has added up.
struct Follower {
    reader: ChangeReader,
    sum: Sum,
    last: i64,
}

impl Follower {
    fn of(table: &Arc<Table>) -> Self {
        let (reader, view) = table.follow().unwrap();
        let mut sum = Sum::default();
        for batch in table.scan(&view, None, 1).unwrap().into_iter().flatten() {
            let batch = batch.unwrap();
            (0..batch.num_rows()).for_each(|row| sum.add(&batch, row, 1));
        }
        let last = reader.started_at();
        Self { reader, sum, last }
    }

    fn poll(&mut self) {
        let Some(changes) = self.reader.poll().unwrap() else { return };
        assert_eq!(changes.schema(), self.reader.schema());
        for row in 0..changes.num_rows() {
            let number =
                |column: usize| changes.column(column).as_primitive::<Int64Type>().value(row);
            assert!(number(2) >= self.last, "times rise");
            self.last = number(2);
            self.sum.add(&changes, row, number(3));
        }
    }
}

/// A writer under way and what it will have done.
struct Block {
    writer: Writer,
    changes: BTreeMap<i64, Option<String>>,
}

const KEYS: i64 = 40;

pub(super) struct World {
    grid: Arc<Grid>,
    pub(super) table: Arc<Table>,
    pub(super) model: BTreeMap<i64, String>,
    blocks: Vec<Block>,
    pub(super) rng: SmallRng,
    owners: u16,
}

impl World {
    pub(super) fn new(seed: u64, owners: u16) -> Self {
        let grid = grid(owners);
        let table = table(&grid);
        let rng = SmallRng::seed_from_u64(seed);
        Self { grid, table, model: BTreeMap::new(), blocks: Vec::new(), rng, owners }
    }

    /// A key that no open block has changed.
    fn free_key(&mut self) -> i64 {
        loop {
            let key = self.rng.random_range(0..KEYS);
            if self.blocks.iter().all(|block| !block.changes.contains_key(&key)) {
                return key;
            }
        }
    }

    fn value(&mut self) -> String {
        "v".repeat(self.rng.random_range(0..5)) + &self.rng.random_range(0..3).to_string()
    }

    pub(super) fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..30 => {
                let (key, value) = (self.free_key(), self.value());
                put(&self.table, WriteMode::Upsert, key, &value).unwrap();
                self.model.insert(key, value);
            }
            30..40 => {
                let key = self.free_key();
                delete(&self.table, key).unwrap();
                self.model.remove(&key);
            }
            40..50 if self.blocks.len() < 3 => {
                let writer = self.grid.begin();
                self.blocks.push(Block { writer, changes: BTreeMap::new() });
            }
            50..80 if !self.blocks.is_empty() => self.write_in_block(),
            80..92 if !self.blocks.is_empty() => {
                let block = self.blocks.swap_remove(self.rng.random_range(0..self.blocks.len()));
                if self.rng.random_bool(0.3) {
                    return block.writer.abort();
                }
                block.writer.commit().unwrap();
                for (key, value) in block.changes {
                    match value {
                        Some(value) => drop(self.model.insert(key, value)),
                        None => drop(self.model.remove(&key)),
                    }
                }
            }
            92..94 if self.blocks.is_empty() => {
                self.table.truncate().unwrap();
                self.model.clear();
            }
            94..97 => {
                let (partition, owner) =
                    (self.rng.random_range(0..271), self.rng.random_range(0..self.owners));
                self.grid.move_partition(PartitionId(partition), owner).unwrap();
            }
            97.. => self.grid.maintain().unwrap(),
            _ => {}
        }
    }

    /// Writes to a key of the block's own, or to one that nobody else has, a few times in one batch.
    fn write_in_block(&mut self) {
        let key = self.free_key();
        let values: Vec<_> = (0..self.rng.random_range(1..4)).map(|_| self.value()).collect();
        let at = self.rng.random_range(0..self.blocks.len());
        let deletes = self.rng.random_bool(0.3);
        let block = &mut self.blocks[at];
        let own: Vec<i64> = block.changes.keys().copied().collect();
        let key = if own.is_empty() || self.rng.random_bool(0.5) { key } else { own[0] };
        if deletes {
            let view = block.writer.read_view();
            self.table.modify_batch(&block.writer, &view, &keys(&[key]), None).unwrap();
            block.changes.insert(key, None);
            return;
        }
        let rows: Vec<_> = values.iter().map(|value| (key, value.as_str())).collect();
        self.table.write_batch(&block.writer, WriteMode::Upsert, &batch(&rows)).unwrap();
        block.changes.insert(key, values.last().cloned());
    }
}

#[test]
fn reader_holds_exactly_the_committed_rows_after_every_poll() {
    for owners in BOTH_WAYS {
        for seed in 0..12 {
            let mut world = World::new(seed, owners);
            let mut followers: Vec<Follower> = Vec::new();
            for step in 0..600 {
                world.step();
                if step % 150 == 60 {
                    // In the middle of whatever blocks are open; and one leaves.
                    followers.truncate(2);
                    followers.push(Follower::of(&world.table));
                }
                for (number, follower) in followers.iter_mut().enumerate() {
                    if world.rng.random_bool(0.2) {
                        follower.poll();
                        let expected = Sum::of(&world.model);
                        assert_eq!(follower.sum, expected, "{owners} {seed} {step} {number}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_a_job_publishes_is_told_when_a_snapshot_commits_it() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = table(&grid);
        put(&table, WriteMode::Insert, 1, "old").unwrap();
        let job = grid.job_writers("j", RUN);
        let publish = |rows: &[(i64, &str)]| {
            let writer = job.begin(0);
            table.write_batch(&writer, WriteMode::Upsert, &batch(rows)).unwrap();
            job.publish(writer).unwrap();
        };
        publish(&[(1, "a"), (2, "a")]);
        let mut follower = Follower::of(&table);
        publish(&[(1, "b"), (3, "b")]);
        follower.poll();
        let rows = |rows: &[(i64, &str)]| {
            Sum::of(&rows.iter().map(|(key, value)| (*key, (*value).to_owned())).collect())
        };
        assert_eq!(follower.sum, rows(&[(1, "old")]));
        job.commit(1).unwrap();
        follower.poll();
        assert_eq!(follower.sum, rows(&[(1, "b"), (2, "a"), (3, "b")]));
        let writer = job.begin(1);
        table.write_batch(&writer, WriteMode::Upsert, &batch(&[(1, "lost")])).unwrap();
        job.publish(writer).unwrap();
        job.abort();
        put(&table, WriteMode::Upsert, 2, "c").unwrap();
        follower.poll();
        assert_eq!(follower.sum, rows(&[(1, "b"), (2, "c"), (3, "b")]));
    }
}

#[test]
fn reader_that_falls_behind_is_told_and_nobody_else() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = table(&grid);
        let (mut slow, _view) = table.follow_within(10_000).unwrap();
        let mut quick = Follower::of(&table);
        for key in 0..500 {
            put(&table, WriteMode::Insert, key, "a value of some bytes").unwrap();
        }
        let error = slow.poll().unwrap_err();
        assert!(matches!(&error, Error::Limit(text) if text.contains("10000 bytes")), "{error}");
        assert!(slow.poll().is_err(), "and it stays so");
        quick.poll();
        assert_eq!(quick.sum.0.len(), 500);
    }
}

fn write_all(table: &Table, mode: WriteMode, value: &str) {
    for key in 0..1000 {
        put(table, mode, key, value).unwrap();
    }
}

#[test]
fn table_without_readers_keeps_no_journal() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = table(&grid);
        write_all(&table, WriteMode::Insert, "x");
        let before = table.stats().bytes;
        let follower = Follower::of(&table);
        write_all(&table, WriteMode::Upsert, "y");
        let followed = table.stats().bytes;
        drop(follower);
        grid.maintain().unwrap();
        let after = table.stats().bytes;
        assert!(followed > after + 1000 * 16, "{followed} bytes while it was read, {after} after");
        for key in 0..1000 {
            delete(&table, key).unwrap();
        }
        grid.maintain().unwrap();
        assert!(table.stats().bytes < before, "nothing is left to grow");
    }
}
