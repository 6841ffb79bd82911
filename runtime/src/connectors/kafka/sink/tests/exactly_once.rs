//! Every row is read once: a job of sinks into the simulated topic is killed between any two steps and
//! restored from its newest good snapshot, while its zombies go on.

use std::sync::Arc;

use storage::{
    Grid, GridConfig,
    env::{Env, Rng, SimClock},
};

use super::{
    CALLS_MAX, LIFETIME_NANOS, feed, ids, simulated_log::SimulatedTopic, supplier, until_yes,
};
use crate::{
    Error, Result,
    delta::DeltaBatch,
    job::Guarantee,
    processor::{Done, Inbox, Outbox, Processor, ProcessorContext, ProcessorSupplier},
    state::{StateChunk, StateWriter, instance_of},
    testing,
};

/// A job of sinks under a source of the ids 1, 2, 3 …, driven like an engine would.
struct Bench {
    seed: u64,
    rng: Rng,
    grid: Arc<Grid>,
    clock: Arc<SimClock>,
    topic: Arc<SimulatedTopic>,
    /// The good snapshots: id, ids read, chunks.
    good: Vec<(u64, i64, Vec<StateChunk>)>,
    snapshot_last: u64,
    /// Of the present execution: ids read, sinks with what waits for them and what they must be told.
    read: i64,
    sinks: Vec<Instance>,
    /// The newest good snapshot of the present execution, 0 for none.
    good_here: u64,
    /// Sinks of executions that count as dead, with the newest good snapshot of theirs.
    zombies: Vec<(Box<dyn Processor>, u64)>,
    deaths: u64,
}

struct Instance {
    sink: Box<dyn Processor>,
    inbox: Inbox,
    committed: Option<u64>,
    abandoned: Option<u64>,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let (env, clock) = Env::simulated(seed);
        Self {
            seed,
            rng: Rng::seeded(seed),
            grid: Grid::open(GridConfig::default(), env).unwrap(),
            clock,
            topic: SimulatedTopic::new(seed ^ 0x5eed),
            good: Vec::new(),
            snapshot_last: 0,
            read: 0,
            sinks: Vec::new(),
            good_here: 0,
            zombies: Vec::new(),
            deaths: 0,
        }
    }

    fn below(&self, limit: u64) -> u64 {
        self.rng.next_u64() % limit
    }

    /// A new execution from the newest good snapshot, of some parallelism.
    fn start(&mut self) -> Result<()> {
        let parallelism = 1 + self.below(3) as usize;
        let (_, read, chunks) = self.good.last().cloned().unwrap_or_default();
        self.read = read;
        let zombies = std::mem::take(&mut self.sinks);
        let good = std::mem::take(&mut self.good_here);
        self.zombies.extend(zombies.into_iter().map(|instance| (instance.sink, good)));
        for (index, mut sink) in supplier(&self.topic).create(parallelism)?.into_iter().enumerate()
        {
            let guarantee = Guarantee::ExactlyOnce;
            let base = testing::context(&self.grid);
            sink.init(&ProcessorContext { index, parallelism, guarantee, ..base })?;
            let own = |chunk: &&StateChunk| instance_of(chunk.partition, parallelism) == index;
            for chunk in chunks.iter().filter(own) {
                sink.restore(chunk)?;
            }
            let (inbox, committed, abandoned) = Default::default();
            self.sinks.push(Instance { sink, inbox, committed, abandoned });
        }
        Ok(())
    }

    /// One call of an instance, as its tasklet would make it; whether it waits for nothing.
    fn call(&mut self, index: usize) -> Result<bool> {
        let Instance { sink, inbox, committed, abandoned } = &mut self.sinks[index];
        if let Some(id) = *committed {
            if sink.committed(id)? == Done::Yes {
                *committed = None;
            }
            return Ok(false);
        }
        if let Some(id) = abandoned.take() {
            until_yes(|| sink.abandoned(id))?;
        }
        if !inbox.is_empty() {
            feed(&mut **sink, inbox)?;
            return Ok(false);
        }
        let _ = sink.idle(&mut Outbox::new(8))?;
        Ok(true)
    }

    /// Calls all until nothing waits, so that a barrier would come through.
    fn settle(&mut self) -> Result<()> {
        for index in 0..self.sinks.len() {
            for calls in 0.. {
                if self.call(index)? {
                    break;
                }
                assert!(calls < CALLS_MAX, "seed {}: a sink is stuck", self.seed);
            }
            // Also what was restored.
            let sink = &mut self.sinks[index].sink;
            until_yes(|| sink.epoch(0, &mut Outbox::new(1)))?;
        }
        Ok(())
    }

    fn feed_some(&mut self, ids_max: i64) {
        let count = (1 + self.below(6) as i64).min(ids_max - self.read);
        let batch: Vec<i64> = (self.read + 1..=self.read + count).collect();
        self.read += count;
        let index = self.below(self.sinks.len() as u64) as usize;
        self.sinks[index].inbox.push(DeltaBatch::insertions(ids(&batch)));
    }

    /// A snapshot; sometimes one that never becomes good.
    fn snapshot(&mut self) -> Result<()> {
        self.settle()?;
        self.snapshot_last += 1;
        let id = self.snapshot_last;
        let mut writer = StateWriter::new(id, false);
        for index in 0..self.sinks.len() {
            let sink = &mut self.sinks[index].sink;
            until_yes(|| sink.epoch(id, &mut Outbox::new(1)))?;
            until_yes(|| sink.save(&mut writer))?;
            self.perhaps_die()?;
        }
        if self.below(6) == 0 {
            self.sinks.iter_mut().for_each(|instance| instance.abandoned = Some(id));
            return Ok(());
        }
        self.good.push((id, self.read, writer.chunks));
        self.good_here = id;
        self.topic.allow(id as i64);
        self.perhaps_die()?;
        for instance in &mut self.sinks {
            instance.committed = Some(id);
        }
        Ok(())
    }

    fn perhaps_die(&self) -> Result<()> {
        if self.deaths < 8 && self.below(25) == 0 {
            return Err(Error::Lost("killed between two steps".to_owned()));
        }
        Ok(())
    }

    /// What an execution that counts as dead may still do.
    fn haunt(&mut self) {
        let count = self.zombies.len() as u64;
        if count == 0 {
            return;
        }
        let index = self.below(count) as usize;
        let action = self.below(3);
        let (zombie, good) = &mut self.zombies[index];
        let is_fenced = match action {
            0 => zombie.committed(*good).is_err(),
            1 => zombie.idle(&mut Outbox::new(1)).is_err(),
            _ => {
                let mut inbox = Inbox::default();
                inbox.push(DeltaBatch::insertions(ids(&[-1])));
                feed(&mut **zombie, &mut inbox).is_err()
            }
        };
        if is_fenced {
            drop(self.zombies.remove(index));
        }
    }

    fn act(&mut self, ids_max: i64) -> Result<()> {
        self.perhaps_die()?;
        match self.below(10) {
            0..=3 if self.read < ids_max => self.feed_some(ids_max),
            0..=6 => {
                let index = self.below(self.sinks.len() as u64) as usize;
                self.call(index)?;
            }
            7 if self.below(4) == 0 => self.clock.advance(LIFETIME_NANOS as i64 / 1000 + 1),
            7 => self.haunt(),
            _ => self.snapshot()?,
        }
        Ok(())
    }

    /// Runs to the end, dying on the way.
    fn run(&mut self, ids_max: i64) {
        self.topic.set_trouble(4 + self.below(20));
        let mut is_over = false;
        while !is_over {
            let dies = self.deaths < 8;
            self.topic.die_in(dies.then(|| self.below(120)));
            match self.run_once(ids_max) {
                Ok(()) => is_over = true,
                Err(Error::Lost(_)) => self.deaths += 1,
                Err(error) => panic!("seed {}: {error}", self.seed),
            }
        }
    }

    fn run_once(&mut self, ids_max: i64) -> Result<()> {
        self.start()?;
        loop {
            self.act(ids_max)?;
            let good = self.good.last().map_or(0, |good| good.1);
            if good == ids_max && self.read == ids_max {
                return self.settle();
            }
        }
    }
}

/// Zombies that write −1 into a new transaction of theirs are no readers' business: a zombie is
/// fenced as soon as its successor has started, and before that its rows are its own.
#[test]
fn every_row_is_read_once_whatever_dies_when() {
    const IDS: i64 = 120;
    let (mut deaths, mut aborts, mut steps) = (0, 0, 0);
    for seed in 0..400 {
        let mut bench = Bench::new(seed);
        bench.run(IDS);
        let mut seen: Vec<i64> =
            bench.topic.committed().iter().map(|id| id.parse().unwrap()).collect();
        seen.sort_unstable();
        let expected: Vec<i64> = (1..=IDS).collect();
        assert_eq!(seen, expected, "seed {seed}");
        deaths += bench.deaths;
        let (of_steps, of_aborts) = bench.topic.counts();
        (steps, aborts) = (steps + of_steps, aborts + of_aborts);
    }
    // The runs are worth something only if much goes wrong in them.
    assert!(deaths > 1000 && aborts > 1000, "{deaths} deaths, {aborts} aborts, {steps} steps");
}

#[test]
fn a_transaction_that_grows_old_is_begun_anew() {
    let mut bench = with_two_snapshots();
    let (_, aborts) = bench.topic.counts();
    bench.feed_some(1000);
    bench.settle().unwrap();
    bench.clock.advance(LIFETIME_NANOS as i64 / 1000 - 1);
    bench.settle().unwrap();
    assert_eq!(bench.topic.counts().1, aborts);
    bench.clock.advance(2);
    bench.settle().unwrap();
    assert_eq!(bench.topic.counts().1, aborts + 1);
    while bench.good.last().is_none_or(|good| good.1 < bench.read) {
        bench.snapshot().unwrap();
    }
    bench.settle().unwrap();
    assert_eq!(bench.topic.committed().len(), bench.read as usize);
}

/// An execution with some committed snapshots, and its bench.
fn with_two_snapshots() -> Bench {
    let mut bench = Bench::new(7);
    bench.deaths = u64::MAX;
    bench.start().unwrap();
    while bench.good.len() < 2 {
        bench.feed_some(1000);
        bench.snapshot().unwrap();
        bench.settle().unwrap();
    }
    bench
}

#[test]
fn a_restore_that_would_lose_or_repeat_rows_is_refused() {
    let refused = |change: &dyn Fn(&mut Bench)| {
        let mut bench = with_two_snapshots();
        change(&mut bench);
        let error = bench.start().and_then(|()| bench.settle()).unwrap_err();
        assert_eq!(error.sqlstate(), "55000", "{error}");
        error.to_string()
    };
    let forgotten = refused(&|bench| bench.topic.set_marks(|_| false));
    assert!(forgotten.contains("the broker does not"), "{forgotten}");
    let older = refused(&|bench| drop(bench.good.pop()));
    assert!(older.contains("is committed, behind snapshot"), "{older}");
}

#[test]
fn the_end_of_the_input_is_visible_with_the_snapshot_behind_it() {
    let mut bench = with_two_snapshots();
    bench.feed_some(1000);
    bench.settle().unwrap();
    let read = bench.read as usize;
    for instance in &mut bench.sinks {
        until_yes(|| instance.sink.complete(usize::MAX, &mut Outbox::new(1))).unwrap();
        assert!(instance.sink.awaits_commit());
    }
    assert!(bench.topic.committed().len() < read, "nothing was committed by the end alone");
    while bench.good.last().is_none_or(|good| good.1 < bench.read) {
        bench.snapshot().unwrap();
    }
    bench.settle().unwrap();
    assert_eq!(bench.topic.committed().len(), read);
}
