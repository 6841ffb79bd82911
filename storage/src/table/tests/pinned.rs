//! A pin against the `BTreeMap` model: whoever reads it again, from any position that was not
//! released, ends with the committed rows.

use super::{
    changes::{Sum, World},
    *,
};

/// A reader of a pin that saves where it is, and is lost.
struct Reader {
    pinned: PinnedChanges,
    /// How far it has read, and what it has added up.
    now: (u64, Sum),
    /// What it was when it was saved, the oldest first.
    saved: Vec<(u64, Sum)>,
}

impl Reader {
    fn of(table: &Arc<Table>) -> Self {
        let pinned = table.pin_changes(true, 1 << 20).unwrap();
        let now = Self::start(&pinned);
        Self { pinned, now, saved: Vec::new() }
    }

    fn start(pinned: &PinnedChanges) -> (u64, Sum) {
        let mut sum = Sum::default();
        for rows in pinned.rows().expect("they are not released") {
            let rows = rows.unwrap();
            (0..rows.num_rows()).for_each(|row| sum.add(&rows, row, 1));
        }
        (pinned.started_at(), sum)
    }

    fn read(&mut self) {
        while let Some(changes) = self.pinned.read(self.now.0).unwrap() {
            for row in 0..changes.num_rows() {
                let number =
                    |column: usize| changes.column(column).as_primitive::<Int64Type>().value(row);
                assert!(number(2) as u64 >= self.now.0, "times rise");
                self.now.0 = number(2) as u64;
                self.now.1.add(&changes, row, number(3));
            }
        }
    }

    /// Nobody will go back behind the oldest position that is saved.
    fn release(&mut self) {
        if self.saved.len() > 1 {
            self.saved.remove(0);
            self.pinned.release(self.saved[0].0);
            assert!(self.pinned.reaches(self.saved[0].0) && !self.pinned.is_whole());
        }
    }

    /// Goes back to a position that was saved, or to the start.
    fn lose(&mut self, rng: &mut SmallRng) {
        let is_whole = self.pinned.is_whole();
        let kept = rng.random_range(usize::from(!is_whole)..=self.saved.len());
        // What was saved later is of no use any more.
        self.saved.truncate(kept);
        self.now = match self.saved.last() {
            Some(saved) => saved.clone(),
            None => Self::start(&self.pinned),
        };
    }
}

#[test]
fn read_again_from_any_position_that_is_kept_it_tells_the_same() {
    for owners in BOTH_WAYS {
        for seed in 0..12 {
            let mut world = World::new(seed, owners);
            (0..60).for_each(|_| world.step());
            let mut reader = Reader::of(&world.table);
            for step in 0..600 {
                world.step();
                match world.rng.random_range(0..100) {
                    0..8 => reader.saved.push(reader.now.clone()),
                    8..12 => reader.release(),
                    12..18 => reader.lose(&mut world.rng),
                    18..40 => {
                        reader.read();
                        let expected = Sum::of(&world.model);
                        assert_eq!(reader.now.1, expected, "{owners} {seed} {step}");
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn what_is_kept_counts_and_a_pin_that_is_full_says_so_for_ever() {
    for owners in BOTH_WAYS {
        let grid = grid(owners);
        let table = table(&grid);
        let write = |round: &str| {
            for key in 0..100 {
                put(&table, WriteMode::Upsert, key, round).unwrap();
            }
        };
        let pinned = table.pin_changes(false, 60_000).unwrap();
        let mut position = pinned.started_at();
        for round in 0..20 {
            write(&format!("round {round}"));
            let changes = pinned.read(position).unwrap().expect("there are some");
            let times = changes.column(2).as_primitive::<Int64Type>();
            position = times.value(changes.num_rows() - 1) as u64;
            pinned.release(position);
        }
        pinned.check().unwrap();
        for round in 0..20 {
            write(&format!("round {round}"));
            while let Ok(Some(changes)) = pinned.read(position) {
                let times = changes.column(2).as_primitive::<Int64Type>();
                position = times.value(changes.num_rows() - 1) as u64;
            }
        }
        assert!(matches!(pinned.read(position), Err(Error::Limit(_))));
        pinned.release(position);
        assert!(matches!(pinned.check(), Err(Error::Limit(_))));
    }
}
