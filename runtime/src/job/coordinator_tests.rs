//! The coordinator in a world that delays, repeats and loses its events, driven by a seed.

use std::collections::{BTreeMap, BTreeSet};

use storage::env::Rng;

use super::*;

/// A world of one job: executions that run or do not, and events on their way.
struct World {
    rng: Rng,
    coordinator: JobCoordinator,
    status: JobStatus,
    is_forgotten: bool,
    /// Executions that were started and have not ended; at most one is allowed.
    live: BTreeSet<u64>,
    /// Live executions with a terminal barrier, or cancelled.
    stopping: BTreeMap<u64, bool>,
    ended: BTreeSet<u64>,
    on_the_way: Vec<Event>,
    unanswered: BTreeSet<Ticket>,
    ticket_last: Ticket,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: Rng::seeded(seed),
            coordinator: JobCoordinator::new("j".to_owned(), false),
            status: JobStatus::NotRunning,
            is_forgotten: false,
            live: BTreeSet::new(),
            stopping: BTreeMap::new(),
            ended: BTreeSet::new(),
            on_the_way: Vec::new(),
            unanswered: BTreeSet::new(),
            ticket_last: 0,
        };
        let ticket = world.ticket();
        world.deliver(Event::Created(ticket));
        world
    }

    fn ticket(&mut self) -> Ticket {
        self.ticket_last += 1;
        self.unanswered.insert(self.ticket_last);
        self.ticket_last
    }

    fn one_of(&mut self, count: u64) -> bool {
        self.rng.next_u64().is_multiple_of(count)
    }

    fn deliver(&mut self, event: Event) {
        for action in self.coordinator.step(event) {
            match action {
                Action::SetStatus(next, error) => {
                    assert!(!self.is_forgotten, "{next:?} of a job that is gone");
                    assert!(self.status.may_become(next), "{:?} → {next:?}", self.status);
                    assert!(error.is_some() || next != JobStatus::Failed, "FAILED without a cause");
                    self.status = next;
                }
                Action::Start(execution) => {
                    assert!(self.live.is_empty(), "two executions of one job");
                    assert!(!self.is_forgotten);
                    if self.one_of(5) {
                        let error = Error::Connection("nobody answers".to_owned());
                        self.on_the_way.push(Event::StartFailed(execution, error));
                    } else {
                        self.live.insert(execution);
                        self.on_the_way.push(Event::Started(execution));
                    }
                }
                Action::Suspend(execution) => drop(self.stopping.entry(execution).or_insert(false)),
                Action::Cancel(execution) => drop(self.stopping.insert(execution, true)),
                Action::Forget => {
                    assert!(self.live.is_empty(), "forgotten while it runs");
                    assert!(!self.is_forgotten, "forgotten twice");
                    self.is_forgotten = true;
                }
                Action::Answer(ticket, _) => {
                    assert!(self.unanswered.remove(&ticket), "answered twice");
                }
            }
        }
    }

    /// An execution ends: as asked, by itself or by failure.
    fn end_something(&mut self) {
        let Some(execution) = self.live.first().copied() else { return };
        let (dice, coin) = (self.one_of(4), self.one_of(2));
        let end = match self.stopping.get(&execution) {
            Some(true) => End::Cancelled,
            Some(false) if !dice => End::Suspended,
            _ if coin => End::Completed,
            _ => End::Failed(Error::Internal("broken".to_owned())),
        };
        self.live.remove(&execution);
        self.stopping.remove(&execution);
        self.ended.insert(execution);
        self.on_the_way.push(Event::Ended(execution, end));
    }

    fn request_something(&mut self) {
        let ticket = self.ticket();
        let request = match self.rng.next_u64() % 12 {
            0..4 => Request::Suspend,
            4..8 => Request::Resume,
            8..11 => Request::Restart,
            _ => Request::Drop,
        };
        self.deliver(Event::Requested(ticket, request));
    }

    /// Delivers any event on its way, maybe twice; a `Started` may get lost once its execution ended.
    fn deliver_something(&mut self) {
        if self.on_the_way.is_empty() {
            return;
        }
        let index = self.rng.next_u64() as usize % self.on_the_way.len();
        let event = self.on_the_way.swap_remove(index);
        let is_lost = match &event {
            Event::Started(execution) => self.ended.contains(execution) && self.one_of(2),
            _ => false,
        };
        if is_lost {
            return;
        }
        if self.one_of(3) {
            self.on_the_way.push(event.clone());
        }
        self.deliver(event);
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            let is_stopping = self.live.iter().any(|live| self.stopping.contains_key(live));
            if is_stopping {
                self.end_something();
            }
            if self.on_the_way.is_empty() && !is_stopping {
                return;
            }
            self.deliver_something();
        }
        panic!("the world does not come to rest");
    }
}

#[test]
fn every_request_is_answered_and_one_execution_runs_whatever_the_order_of_events() {
    let mut seen = BTreeSet::new();
    for seed in 0..2_000 {
        let mut world = World::new(seed);
        for _ in 0..40 {
            match world.rng.next_u64() % 8 {
                0 => world.request_something(),
                1 => world.end_something(),
                _ => world.deliver_something(),
            }
            seen.insert(world.status.word());
        }
        let ticket = world.ticket();
        world.deliver(Event::Requested(ticket, Request::Drop));
        world.settle();
        assert!(world.is_forgotten, "seed {seed}: a dropped job stays");
        assert!(world.live.is_empty(), "seed {seed}: it still runs");
        assert!(world.unanswered.is_empty(), "seed {seed}: {:?} wait", world.unanswered);
    }
    let words: Vec<_> = seen.into_iter().collect();
    assert_eq!(words, ["COMPLETED", "FAILED", "RUNNING", "STARTING", "SUSPENDED"]);
}

#[test]
fn a_shutdown_cancels_and_answers() {
    for seed in 0..500 {
        let mut world = World::new(seed);
        for _ in 0..seed % 20 {
            match world.rng.next_u64() % 4 {
                0 => world.request_something(),
                1 => world.end_something(),
                _ => world.deliver_something(),
            }
        }
        world.deliver(Event::Closed);
        world.settle();
        assert!(world.live.is_empty(), "seed {seed}: it still runs");
        assert!(world.unanswered.is_empty(), "seed {seed}: {:?} wait", world.unanswered);
        assert!(world.is_forgotten || world.status != JobStatus::Running, "seed {seed}");
    }
}

#[test]
fn requests_in_the_wrong_state_are_refused_by_name() {
    let mut coordinator = JobCoordinator::new("j".to_owned(), false);
    coordinator.step(Event::Created(1));
    coordinator.step(Event::Started(1));
    let refusal = |coordinator: &mut JobCoordinator, request| match &coordinator
        .step(Event::Requested(9, request))[..]
    {
        [Action::Answer(9, Err(error))] => error.to_string(),
        actions => panic!("{actions:?}"),
    };
    let text = refusal(&mut coordinator, Request::Resume);
    assert_eq!(text, "job \"j\" is RUNNING, not SUSPENDED");
    coordinator.step(Event::Requested(2, Request::Suspend));
    assert_eq!(refusal(&mut coordinator, Request::Restart), "job \"j\" is already stopping");
    coordinator.step(Event::Ended(1, End::Failed(Error::Cancelled)));
    assert_eq!(refusal(&mut coordinator, Request::Resume), "job \"j\" is FAILED, not SUSPENDED");
}
