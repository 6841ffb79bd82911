//! Two jobs and statements on few keys, against a log of changes that is replayed for each reader:
//! writers begin, publish, commit and abort in random order, and whoever looks at a random moment
//! sees what the log says, then and ever after (but for what was published and then aborted). A
//! failing seed stands in the output.

use super::*;

/// Where a writer of the model stands, by the model's own clock.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Pending,
    Published(u64),
    Committed { published: u64, at: u64 },
    Aborted,
}

#[derive(Debug, Clone, Copy)]
struct Author {
    /// 0 and 1 are jobs, 2 statements.
    actor: usize,
    execution: u64,
    after: u64,
    state: State,
}

/// Everything ever written, in order.
#[derive(Default)]
struct Log {
    authors: Vec<Author>,
    changes: Vec<(i64, Option<String>, usize)>,
    clock: u64,
}

/// Whether a writer must wait for whoever wrote to a key last.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Held {
    No,
    /// The other wrote a row and removed it again: once that was tidied, nothing is left of it.
    Perhaps,
    Yes,
}

/// A reader: its time, mode, and the writer and execution it belongs to.
#[derive(Clone, Copy)]
struct Reader {
    at: u64,
    mode: ReadMode,
    own: Option<usize>,
}

impl Log {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn begin(&mut self, actor: usize, execution: u64, after: u64) -> usize {
        self.authors.push(Author { actor, execution, after, state: State::Pending });
        self.authors.len() - 1
    }

    fn is_same_execution(&self, one: usize, two: usize) -> bool {
        let (one, two) = (&self.authors[one], &self.authors[two]);
        one.actor < 2 && (one.actor, one.execution) == (two.actor, two.execution)
    }

    fn sees(&self, reader: Reader, author: usize) -> bool {
        let is_own = reader.own.is_some_and(|own| self.is_same_execution(own, author));
        let sees_published = is_own || reader.mode == ReadMode::Provisional;
        match self.authors[author].state {
            State::Pending => reader.own == Some(author),
            State::Published(at) => sees_published && at <= reader.at,
            State::Committed { published, at } => {
                at <= reader.at || (sees_published && published <= reader.at)
            }
            State::Aborted => false,
        }
    }

    fn rows(&self, reader: Reader) -> BTreeMap<i64, String> {
        let mut rows = BTreeMap::new();
        for (key, value, author) in &self.changes {
            if self.sees(reader, *author) {
                match value {
                    Some(value) => rows.insert(*key, value.clone()),
                    None => rows.remove(key),
                };
            }
        }
        rows
    }

    fn now(&self, mode: ReadMode, own: Option<usize>) -> Reader {
        Reader { at: self.clock, mode, own }
    }

    fn held(&self, keys: &[i64], author: usize) -> Vec<Held> {
        let durable = self.rows(self.now(ReadMode::Durable, None));
        keys.iter().map(|key| self.held_beside(&durable, *key, author)).collect()
    }

    fn held_beside(&self, durable: &BTreeMap<i64, String>, key: i64, author: usize) -> Held {
        let mut last = self.changes.iter().rev().filter(|(other, ..)| *other == key);
        let is_removal = last
            .find(|(_, _, other)| self.authors[*other].state != State::Aborted)
            .is_some_and(|(_, value, _)| value.is_none());
        match self.is_held(key, author) {
            false => Held::No,
            true if is_removal && !durable.contains_key(&key) => Held::Perhaps,
            true => Held::Yes,
        }
    }

    fn is_held(&self, key: i64, author: usize) -> bool {
        let is_alive = |(_, _, other): &&(i64, Option<String>, usize)| {
            self.authors[*other].state != State::Aborted
        };
        let mut last = self.changes.iter().rev().filter(|(other, ..)| *other == key);
        let Some((_, _, other)) = last.find(is_alive) else { return false };
        match self.authors[*other].state {
            State::Committed { .. } | State::Aborted => false,
            State::Pending => *other != author,
            State::Published(_) => {
                let is_later = self.authors[*other].after > self.authors[author].after;
                !self.is_same_execution(*other, author) || is_later
            }
        }
    }

    fn abort_execution(&mut self, actor: usize, execution: u64) {
        for author in &mut self.authors {
            let is_open = matches!(author.state, State::Pending | State::Published(_));
            if (author.actor, author.execution) == (actor, execution) && is_open {
                author.state = State::Aborted;
            }
        }
    }
}

struct Job {
    writers: Arc<JobWriters>,
    execution: u64,
    saved: u64,
    committed: u64,
    open: Vec<(Writer, usize)>,
}

struct Trial {
    random: SmallRng,
    grid: Arc<Grid>,
    table: Arc<Table>,
    key_count: i64,
    log: Log,
    jobs: Vec<Job>,
    views: Vec<(ReadView, Reader)>,
}

impl Trial {
    fn new(env: Env, seed: u64, owners: u16) -> Self {
        eprintln!("seed {seed}, {owners} owners");
        let mut random = SmallRng::seed_from_u64(seed);
        let partition_count = [1, 3, 271][random.random_range(0..3)];
        // Many keys in one partition take more than one slice to settle.
        let key_count = [3, 12, 900][random.random_range(0..3)];
        let grid = grid_in(env, partition_count, owners);
        let table = table(&grid);
        let jobs = (0..2).map(|_| Job {
            writers: grid.job_writers("j", RUN),
            execution: 0,
            saved: 0,
            committed: 0,
            open: Vec::new(),
        });
        let jobs = jobs.collect();
        let log = Log::default();
        Self { random, grid, table, key_count, log, jobs, views: Vec::new() }
    }

    fn chance(&mut self, of: u32) -> bool {
        self.random.random_range(0..of) == 0
    }

    fn some_keys(&mut self) -> Vec<i64> {
        let count_max = if self.key_count > 100 { 400 } else { 4 };
        let count = self.random.random_range(1..=count_max);
        let mut keys: Vec<_> =
            (0..count).map(|_| self.random.random_range(0..self.key_count)).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// A random write under a writer; answers whether it was let through.
    fn write(&mut self, writer: &Writer, author: usize, text: &str) -> bool {
        let mut some = self.some_keys();
        let is_removal = self.chance(3);
        let own = self.log.rows(self.log.now(ReadMode::Durable, Some(author)));
        if is_removal {
            some.retain(|key| own.contains_key(key));
        }
        let held = self.log.held(&some, author);
        let is_held = held.contains(&Held::Yes);
        let may_be_held = is_held || held.contains(&Held::Perhaps);
        let rows: Vec<_> = some.iter().map(|key| (*key, text)).collect();
        let is_insert = !is_removal && self.chance(4);
        let is_there = some.iter().any(|key| own.contains_key(key));
        let view = writer.read_view();
        assert_eq!(scan(&self.table, &view, 2), own, "own changes");
        let written = without_waiting(|| match (is_removal, is_insert) {
            (true, _) => self.table.modify_batch(writer, &view, &keys(&some), None),
            (false, true) => self.table.write_batch(writer, WriteMode::Insert, &batch(&rows)),
            (false, false) => self.table.write_batch(writer, WriteMode::Upsert, &batch(&rows)),
        });
        match written {
            Ok(_) => {
                assert!(!is_held, "{some:?} of {author}");
                assert!(!is_insert || !is_there, "{some:?}");
            }
            Err(Error::Conflict) => assert!(may_be_held, "{some:?} of {author}"),
            Err(Error::DuplicateKey { .. }) => assert!(is_insert && is_there, "{some:?}"),
            Err(other) => panic!("{other:?}"),
        }
        if written.is_ok() {
            let value = (!is_removal).then(|| text.to_owned());
            self.log.changes.extend(some.iter().map(|key| (*key, value.clone(), author)));
        }
        written.is_ok()
    }

    fn statement(&mut self, text: &str) {
        let author = self.log.begin(2, 0, 0);
        let writer = self.grid.begin();
        let is_through = self.write(&writer, author, text);
        if !is_through || self.chance(4) {
            self.log.authors[author].state = State::Aborted;
            return;
        }
        writer.commit().unwrap();
        let at = self.log.tick();
        self.log.authors[author].state = State::Committed { published: at, at };
    }

    fn keyed(&mut self, text: &str) {
        let key = self.random.random_range(0..self.key_count);
        let author = self.log.begin(2, 0, 0);
        let held = self.log.held(&[key], author)[0];
        let value = (!self.chance(3)).then(|| text.to_owned());
        let written = without_waiting(|| match &value {
            Some(value) => put(&self.table, WriteMode::Upsert, key, value),
            None => delete(&self.table, key),
        });
        match written {
            Ok(_) => assert_ne!(held, Held::Yes, "key {key}"),
            Err(Error::Conflict) => {
                assert_ne!(held, Held::No, "key {key}");
                self.log.authors[author].state = State::Aborted;
                return;
            }
            Err(other) => panic!("{other:?}"),
        }
        let at = self.log.tick();
        self.log.changes.push((key, value, author));
        self.log.authors[author].state = State::Committed { published: at, at };
    }

    fn begin_or_write(&mut self, job: usize, text: &str) {
        if self.jobs[job].open.len() < 3 && self.chance(2) {
            let job_now = &self.jobs[job];
            let lag = self.random.random_range(0..=job_now.saved.min(1));
            let after = job_now.saved - lag;
            let writer = job_now.writers.begin(after);
            let author = self.log.begin(job, job_now.execution, after);
            self.jobs[job].open.push((writer, author));
        }
        if self.jobs[job].open.is_empty() {
            return;
        }
        let which = self.random.random_range(0..self.jobs[job].open.len());
        let (writer, author) = self.jobs[job].open.swap_remove(which);
        if self.write(&writer, author, text) {
            self.jobs[job].open.push((writer, author));
        } else {
            self.log.authors[author].state = State::Aborted;
        }
    }

    fn publish(&mut self, job: usize) {
        if self.jobs[job].open.is_empty() {
            return;
        }
        let which = self.random.random_range(0..self.jobs[job].open.len());
        let (writer, author) = self.jobs[job].open.swap_remove(which);
        let is_late = self.log.authors[author].after < self.jobs[job].committed;
        if self.chance(5) {
            drop(writer);
            self.log.authors[author].state = State::Aborted;
        } else if is_late {
            assert!(matches!(self.jobs[job].writers.publish(writer), Err(Error::WrongState(_))));
            self.log.authors[author].state = State::Aborted;
        } else {
            self.jobs[job].writers.publish(writer).unwrap();
            self.log.authors[author].state = State::Published(self.log.tick());
        }
    }

    fn commit(&mut self, job: usize) {
        let Job { committed, saved, execution, .. } = self.jobs[job];
        if committed == saved {
            return;
        }
        let snapshot = self.random.random_range(committed + 1..=saved);
        self.jobs[job].writers.commit(snapshot).unwrap();
        self.jobs[job].committed = snapshot;
        let at = self.log.tick();
        for author in &mut self.log.authors {
            let is_this = (author.actor, author.execution) == (job, execution);
            if is_this
                && author.after < snapshot
                && let State::Published(published) = author.state
            {
                author.state = State::Committed { published, at };
            }
        }
    }

    fn restart(&mut self, job: usize) {
        self.log.abort_execution(job, self.jobs[job].execution);
        if self.chance(2) {
            self.jobs[job].writers.abort();
        }
        let writers = self.grid.job_writers("j", RUN);
        // Writers of the old execution may outlive it, and end with nothing.
        let old = std::mem::take(&mut self.jobs[job].open);
        let job = &mut self.jobs[job];
        *job = Job { writers, execution: job.execution + 1, saved: 0, committed: 0, open: vec![] };
        drop(old);
    }

    fn look(&mut self) {
        for mode in [ReadMode::Provisional, ReadMode::Durable] {
            let reader = self.log.now(mode, None);
            let rows = self.log.rows(reader);
            let key = self.random.random_range(0..self.key_count);
            let (found, _) = match mode {
                ReadMode::Durable => self.table.get_many(&keys(&[key]), &[0], None).unwrap(),
                ReadMode::Provisional => {
                    let view = self.grid.read_view();
                    self.table.get_many(&keys(&[key]), &[0], Some(&view)).unwrap()
                }
            };
            assert_eq!(found.len(), usize::from(rows.contains_key(&key)));
            let newest = self.table.get_newest(&[Datum::Int(key)], &[1], mode).unwrap();
            let newest = newest.map(|(_, row)| row[0].clone());
            assert_eq!(newest, rows.get(&key).map(|text| Datum::Text(text.clone())), "{mode:?}");
            let stats = self.table.stats();
            let count = match mode {
                ReadMode::Provisional => stats.rows_provisional,
                ReadMode::Durable => stats.rows,
            };
            assert_eq!(count, rows.len() as u64, "{mode:?}");
            let view = self.grid.read_view().in_mode(mode);
            assert_eq!(scan(&self.table, &view, 2), rows, "{mode:?}");
            if self.chance(2) {
                self.views.push((view, reader));
            }
        }
    }

    fn look_again(&mut self) {
        if self.views.is_empty() {
            return;
        }
        let which = self.random.random_range(0..self.views.len());
        let (view, reader) = self.views.swap_remove(which);
        let rows = self.log.rows(reader);
        assert_eq!(scan(&self.table, &view, 3), rows, "a view changed");
        let key = self.random.random_range(0..self.key_count);
        assert_eq!(get(&self.table, key, Some(&view)).as_ref(), rows.get(&key));
    }

    fn step(&mut self, step: usize) {
        let job = self.random.random_range(0..2);
        let text = format!("s{step}");
        match self.random.random_range(0..20) {
            0 => self.statement(&text),
            1 | 2 => self.keyed(&text),
            3..=8 => self.begin_or_write(job, &text),
            9..=11 => self.publish(job),
            12 => self.jobs[job].saved += 1,
            13 => self.commit(job),
            14 if self.chance(3) => self.restart(job),
            15 => self.grid.maintain().unwrap(),
            16 => self.look_again(),
            17 => {
                let partition = self.random.random_range(0..self.grid.config().partition_count);
                let owner = self.random.random_range(0..self.grid.config().simulated_owners);
                self.grid.move_partition(PartitionId(partition), owner).unwrap();
            }
            _ => self.look(),
        }
    }

    fn finish(mut self) {
        for job in 0..2 {
            if self.chance(2) {
                self.jobs[job].saved += 1;
                self.jobs[job].committed = self.jobs[job].saved - 1;
                self.commit(job);
            }
            self.restart(job);
        }
        self.look();
        while !self.views.is_empty() {
            self.look_again();
        }
        self.grid.maintain().unwrap();
        assert_eq!(self.grid.unsettled_count(), 0, "settled rows carry nothing");
        self.look();
    }
}

fn jobs_behave_like_a_log(env: Env, seed: u64, owners: u16) {
    let mut trial = Trial::new(env, seed, owners);
    for step in 0..250 {
        trial.step(step);
    }
    trial.finish();
}

#[test]
fn jobs_and_statements_behave_like_a_log_of_their_changes() {
    for seed in 0..16 {
        jobs_behave_like_a_log(Env::simulated(1).0, seed, BOTH_WAYS[seed as usize % 2]);
    }
}

#[test]
fn jobs_behave_like_a_log_over_a_network_that_loses_repeats_and_delays() {
    for seed in 0..4 {
        let env = Env::simulated(1).0.with_faulty_network(seed);
        jobs_behave_like_a_log(env, seed, [2, 3, 5][seed as usize % 3]);
    }
}
