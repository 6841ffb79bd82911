//! A topic in memory with the transactions of Kafka: producers are fenced by the epoch of their
//! transactional id, what is open is seen by nobody, marks become visible with their rows. It can
//! put off an answer, apply a commit and lose the answer, abort a transaction, and die before or
//! after any step: then the sink is never called again, but its producer lives on as a zombie.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use storage::env::Rng;

use crate::{
    Error,
    connectors::kafka::{
        encoder::Messages,
        topic_log::{Answer, Failure, TopicLog, Waiting},
    },
};

/// The broker.
pub struct SimulatedTopic {
    rng: Rng,
    state: Mutex<State>,
    /// Whether the job's record has a good snapshot of that mark; without it `State::good` counts.
    is_good: Option<IsGood>,
}

/// Whether a commit may carry a mark.
type IsGood = Box<dyn Fn(i64) -> bool + Send + Sync>;

#[derive(Default)]
struct State {
    /// The newest producer of each transactional id.
    epochs: BTreeMap<String, u64>,
    /// What producers have open.
    open: BTreeMap<String, Vec<Vec<u8>>>,
    /// What a reader of committed rows sees.
    committed: Vec<Vec<u8>>,
    marks: BTreeMap<String, i64>,
    /// Steps until the member dies; without one it does not.
    dies_in: Option<u64>,
    steps: u64,
    /// One step of so many goes wrong; 0: none does.
    trouble: u64,
    is_away: bool,
    /// Marks that a commit may carry: snapshots that are good.
    good: BTreeSet<i64>,
    aborts: u64,
}

/// What happens to a step.
enum Fate {
    Well,
    Later,
    /// It is done, and the answer is lost.
    Unheard,
    Aborted,
}

impl SimulatedTopic {
    /// An empty one.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { rng: Rng::seeded(seed), state: Mutex::default(), is_good: None })
    }

    /// An empty one, where a commit may carry only what `is_good` says.
    pub fn asking(seed: u64, is_good: IsGood) -> Arc<Self> {
        let (rng, state) = (Rng::seeded(seed), Mutex::default());
        Arc::new(Self { rng, state, is_good: Some(is_good) })
    }

    /// A producer.
    pub fn log(self: &Arc<Self>, id: Option<&str>) -> Box<dyn TopicLog> {
        let id = id.unwrap_or_default().to_owned();
        Box::new(SimulatedLog { topic: Arc::clone(self), id, epoch: 0, mark: None, is_dead: false })
    }

    /// One step of so many goes wrong from now on, 0 for none.
    pub fn set_trouble(&self, one_of: u64) {
        self.state.lock().trouble = one_of;
    }

    /// Nothing is answered from now on, or it is again.
    pub fn set_away(&self, is_away: bool) {
        self.state.lock().is_away = is_away;
    }

    /// The member dies at the step so many from now.
    pub fn die_in(&self, steps: Option<u64>) {
        self.state.lock().dies_in = steps;
    }

    /// A snapshot is good: its transactions may be committed.
    pub fn allow(&self, mark: i64) {
        self.state.lock().good.insert(mark);
    }

    /// What a reader of committed rows sees.
    pub fn committed(&self) -> Vec<String> {
        let text = |value: &Vec<u8>| String::from_utf8(value.clone()).unwrap();
        self.state.lock().committed.iter().map(text).collect()
    }

    /// Steps that were asked for, and transactions that were aborted.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.steps, state.aborts)
    }

    /// Puts a mark where none was put, or takes it away.
    pub fn set_marks(&self, change: impl Fn(&mut i64) -> bool) {
        self.state.lock().marks.retain(|_, mark| change(mark));
    }
}

struct SimulatedLog {
    topic: Arc<SimulatedTopic>,
    id: String,
    epoch: u64,
    /// Mark of a commit that was done and whose answer was lost.
    mark: Option<i64>,
    /// Whether its member died: it goes on as a zombie that does not die again.
    is_dead: bool,
}

const DEAD: &str = "the member died";

impl SimulatedLog {
    /// Does `apply`, if the producer was not fenced and fate will have it.
    fn step<T>(&mut self, apply: impl FnOnce(&mut State, &str) -> Answer<T>) -> Answer<T> {
        let mut state = self.topic.state.lock();
        state.steps += 1;
        if self.epoch > 0 && state.epochs.get(&self.id) != Some(&self.epoch) {
            let fenced = format!("transactional id \"{}\" has another producer", self.id);
            return Err(Failure::Failed(Error::Lost(fenced)));
        }
        let die = || Err(Failure::Failed(Error::Lost(DEAD.to_owned())));
        let draw = self.topic.rng.next_u64();
        if !self.is_dead
            && let Some(left) = &mut state.dies_in
        {
            if *left == 0 {
                self.is_dead = true;
                state.dies_in = None;
                if draw.is_multiple_of(2) {
                    drop(apply(&mut state, &self.id));
                }
                return die();
            }
            *left -= 1;
        }
        if state.is_away {
            return Err(Failure::Later);
        }
        let fate = match draw % state.trouble.max(1) {
            0 if state.trouble > 0 => match (draw >> 32) % 4 {
                0 if self.epoch > 0 && state.open.contains_key(&self.id) => Fate::Aborted,
                1 => Fate::Unheard,
                _ => Fate::Later,
            },
            _ => Fate::Well,
        };
        match fate {
            Fate::Well => apply(&mut state, &self.id),
            Fate::Later => Err(Failure::Later),
            Fate::Unheard => apply(&mut state, &self.id).and(Err(Failure::Later)),
            Fate::Aborted => Err(Failure::Aborted),
        }
    }
}

impl TopicLog for SimulatedLog {
    fn send(&mut self, messages: &Messages, from: usize) -> Answer<usize> {
        if self.id.is_empty() {
            if self.topic.state.lock().is_away {
                return Ok(0);
            }
            let value = messages.get(from).1.unwrap_or_default().to_vec();
            self.topic.state.lock().committed.push(value);
            return Ok(1);
        }
        // Of a queue in the producer's own memory: it is never in doubt what was taken.
        let mut taken = 0;
        let room = 1 + self.topic.rng.next_u64() % 4;
        while from + taken < messages.len() && (taken as u64) < room {
            let value = messages.get(from + taken).1.unwrap_or_default().to_vec();
            let mut was_done = false;
            let sent = self.step(|state, id| {
                was_done = true;
                let open = state.open.get_mut(id);
                open.expect("messages are sent in a transaction").push(value);
                Ok(())
            });
            match sent {
                Ok(()) => taken += 1,
                Err(Failure::Later) => return Ok(taken + usize::from(was_done)),
                Err(failure) => return Err(failure),
            }
        }
        Ok(taken)
    }

    fn flush(&mut self) -> Answer<()> {
        if self.topic.state.lock().is_away { Err(Failure::Later) } else { Ok(()) }
    }

    fn serve(&mut self) -> Answer<Waiting> {
        let is_away = self.topic.state.lock().is_away;
        Ok(Waiting { bytes: 0, trouble: is_away.then(|| "away".to_owned()) })
    }

    fn init(&mut self) -> Answer<()> {
        let mut epoch = self.epoch;
        self.epoch = 0;
        let done = self.step(|state, id| {
            let newest = state.epochs.entry(id.to_owned()).or_default();
            *newest += 1;
            epoch = *newest;
            state.aborts += u64::from(state.open.remove(id).is_some());
            Ok(())
        });
        self.epoch = epoch;
        done
    }

    fn mark(&mut self) -> Answer<Option<i64>> {
        self.step(|state, id| Ok(state.marks.get(id).copied()))
    }

    fn begin(&mut self) -> Answer<()> {
        // In the producer's own memory.
        self.mark = None;
        let mut state = self.topic.state.lock();
        if state.epochs.get(&self.id) == Some(&self.epoch) {
            let before = state.open.insert(self.id.clone(), Vec::new());
            assert!(before.is_none(), "one transaction at a time");
        }
        Ok(())
    }

    fn commit(&mut self, mark: i64) -> Answer<()> {
        if self.mark == Some(mark) {
            return self.step(|_, _| Ok(()));
        }
        let mut was_done = false;
        let is_good = self.topic.is_good.as_ref().map(|is_good| is_good(mark));
        let done = self.step(|state, id| {
            let is_good = is_good.unwrap_or_else(|| state.good.contains(&mark));
            assert!(is_good, "snapshot {mark} is not good");
            was_done = true;
            let rows = state.open.remove(id).expect("it is open");
            state.committed.extend(rows);
            let before = state.marks.insert(id.to_owned(), mark);
            assert!(before < Some(mark), "marks grow");
            Ok(())
        });
        if was_done {
            self.mark = Some(mark);
        }
        done
    }

    fn abort(&mut self) -> Answer<()> {
        self.step(|state, id| {
            state.aborts += 1;
            state.open.remove(id);
            Ok(())
        })
    }
}
