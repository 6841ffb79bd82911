//! The coordinator in a world that delays, repeats and loses its events, driven by a seed.

use std::collections::{BTreeMap, BTreeSet};

use storage::env::Rng;

use super::*;

/// Options of a job that stops with a snapshot, or of one without a guarantee.
fn options(guarantee: Guarantee) -> JobOptions {
    JobOptions { guarantee, ..JobOptions::default() }
}

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
        let guarantee =
            if seed.is_multiple_of(3) { Guarantee::None } else { Guarantee::ExactlyOnce };
        let mut world = Self {
            rng: Rng::seeded(seed),
            coordinator: JobCoordinator::new("j".to_owned(), &options(guarantee)),
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
                Action::ExportNext(ticket) | Action::ExportNewest(ticket) => {
                    assert!(!self.is_forgotten);
                    let outcome = if self.one_of(3) { Err(Error::Cancelled) } else { Ok(()) };
                    self.on_the_way.push(Event::Exported(ticket, outcome));
                }
                Action::Alter(ticket) => assert!(self.unanswered.contains(&ticket)),
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
            Some(false) if !dice && coin => End::Suspended,
            Some(false) if !dice => End::Unsaved(Error::Limit("full".to_owned())),
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
        let request = match self.rng.next_u64() % 18 {
            0..4 => Request::Suspend,
            4..8 => Request::Resume,
            8..11 => Request::Restart,
            11..15 => Request::Export,
            15 => Request::Alter,
            16 => Request::DropExported,
            _ => Request::Drop,
        };
        self.deliver(Event::Requested(ticket, request));
        if self.one_of(50) {
            let error = Error::User { code: "57014", message: "it is late".to_owned() };
            self.deliver(Event::TimedOut(error));
        }
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

    /// The process is lost and the next one takes the job over: whoever waited is gone with it.
    fn lose_process(&mut self, guarantee: Guarantee) {
        self.coordinator = JobCoordinator::new("j".to_owned(), &options(guarantee));
        self.live.clear();
        self.stopping.clear();
        self.ended.clear();
        self.on_the_way.clear();
        self.unanswered.clear();
        if !self.is_forgotten {
            self.deliver(Event::Adopted(self.status));
        }
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
        // The first is refused if a snapshot is being exported.
        for _ in 0..2 {
            let ticket = world.ticket();
            world.deliver(Event::Requested(ticket, Request::Drop));
            world.settle();
        }
        assert!(world.is_forgotten, "seed {seed}: a dropped job stays");
        assert!(world.live.is_empty(), "seed {seed}: it still runs");
        assert!(world.unanswered.is_empty(), "seed {seed}: {:?} wait", world.unanswered);
    }
    let words: Vec<_> = seen.into_iter().collect();
    let all = ["COMPLETED", "FAILED", "RUNNING", "STARTING", "SUSPENDED"];
    assert_eq!(words[..5], all);
    assert_eq!(words[5..], ["SUSPENDED_EXPORTING_SNAPSHOT"]);
}

#[test]
fn whatever_status_a_process_leaves_the_next_one_goes_on_from_it() {
    let mut left = BTreeSet::new();
    for seed in 0..2_000 {
        let mut world = World::new(seed);
        for _ in 0..60 {
            if world.is_forgotten {
                break;
            }
            match world.rng.next_u64() % 16 {
                0 | 1 => world.request_something(),
                2 | 3 => world.end_something(),
                4 if world.one_of(4) => {
                    world.deliver(Event::Closed);
                    world.settle();
                }
                5 => {
                    left.insert(world.status.word());
                    let before = world.status;
                    world.lose_process(Guarantee::ExactlyOnce);
                    if before.is_terminal() {
                        assert_eq!(world.status, before, "seed {seed}");
                    }
                }
                _ => world.deliver_something(),
            }
        }
        world.lose_process(Guarantee::None);
        world.settle();
        // What was asked is answered, and it runs or waits for somebody.
        let rests = [JobStatus::Running, JobStatus::Suspended];
        let is_at_rest = rests.contains(&world.status) || world.status.is_terminal();
        assert!(is_at_rest || world.is_forgotten, "seed {seed}: {:?}", world.status);
    }
    let all = ["COMPLETED", "FAILED", "NOT_RUNNING", "RUNNING", "STARTING", "SUSPENDED"];
    assert_eq!(left.into_iter().take(6).collect::<Vec<_>>(), all);
}

#[test]
fn a_shutdown_leaves_no_running_job_suspended_or_failed() {
    let ends = [
        End::Cancelled,
        End::Suspended,
        End::Unsaved(Error::Limit("full".to_owned())),
        End::Failed(Error::Lost("a snapshot".to_owned())),
        End::Failed(Error::Cancelled),
    ];
    for end in ends {
        let mut coordinator = job_that_is("suspending");
        coordinator.step(Event::Closed);
        let actions = coordinator.step(Event::Ended(1, end.clone()));
        assert_eq!(words_of(&actions), "NOT_RUNNING", "{end:?}");
    }
    // It was planned, or about to run, when the engine had closed.
    let mut coordinator = job_that_is("SUSPENDED");
    coordinator.step(Event::Requested(1, Request::Resume));
    let actions = coordinator.step(Event::StartFailed(2, Error::Cancelled));
    assert_eq!(words_of(&actions), "NOT_RUNNING 1:57014");
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
    let mut coordinator = JobCoordinator::new("j".to_owned(), &options(Guarantee::ExactlyOnce));
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

/// A job in each of the states that `hazelcast` knows, and those in between.
fn job_that_is(state: &str) -> JobCoordinator {
    let mut coordinator = JobCoordinator::new("j".to_owned(), &options(Guarantee::ExactlyOnce));
    let broken = || End::Failed(Error::User { code: "22012", message: "no".to_owned() });
    let request = |request| Event::Requested(1, request);
    let suspended = || vec![request(Request::Suspend), Event::Ended(1, End::Suspended)];
    let mut events = vec![Event::Created(0)];
    if state != "STARTING" {
        events.push(Event::Started(1));
    }
    events.extend(match state {
        "STARTING" | "RUNNING" => vec![],
        "suspending" => vec![request(Request::Suspend)],
        "SUSPENDED" => suspended(),
        "exporting" => [suspended(), vec![request(Request::Export)]].concat(),
        "NOT_RUNNING" => vec![Event::Closed, Event::Ended(1, End::Cancelled)],
        "FAILED" => vec![Event::Ended(1, broken())],
        "COMPLETED" => vec![Event::Ended(1, End::Completed)],
        "dropped" => vec![request(Request::Drop), Event::Ended(1, End::Cancelled)],
        other => panic!("{other}"),
    });
    for event in events {
        coordinator.step(event);
    }
    coordinator
}

/// Actions as words; who had waited before is ticket 1, who asks now is 2.
fn words_of(actions: &[Action]) -> String {
    let word = |action: &Action| match action {
        Action::SetStatus(status, None) => status.word().to_owned(),
        Action::SetStatus(status, Some(error)) => format!("{}({})", status.word(), error.code),
        Action::Start(_) => "start".to_owned(),
        Action::Suspend(_) => "stop".to_owned(),
        Action::Cancel(_) => "cancel".to_owned(),
        Action::ExportNext(_) => "export-next".to_owned(),
        Action::ExportNewest(_) => "export-newest".to_owned(),
        Action::Alter(_) => "alter".to_owned(),
        Action::Forget => "forget".to_owned(),
        Action::Answer(2, Ok(())) => "ok".to_owned(),
        Action::Answer(2, Err(error)) => error.to_string().replace("job \"j\" ", ""),
        Action::Answer(ticket, answer) => {
            format!("{ticket}:{}", answer.as_ref().map_or_else(Error::sqlstate, |()| "ok"))
        }
    };
    actions.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_request_in_every_state_does_what_the_table_says() {
    use Request::{Alter, Drop, DropExported, Export, Restart, Resume, Suspend};
    let requests = [Suspend, Restart, Resume, Alter, Export, DropExported, Drop];
    let refused = |status: &str| {
        let no = |needed: &str| format!("is {status}, not {needed}");
        let exportable = "RUNNING, SUSPENDED or FAILED";
        let (running, suspended) = ("RUNNING", "SUSPENDED");
        [running, running, suspended, suspended, exportable, exportable].map(no)
    };
    // What stands for a refusal because of the status is left out.
    let table = [
        ("NOT_RUNNING", ["", "", "", "", "", "", "forget ok"]),
        ("STARTING", ["", "", "", "", "", "", "0:55000"]),
        ("RUNNING", ["stop", "stop", "", "", "export-next", "stop", "cancel"]),
        ("suspending", ["is already stopping"; 6].chain("1:55000 cancel")),
        (
            "SUSPENDED",
            [
                "",
                "",
                "NOT_RUNNING STARTING start",
                "alter ok",
                "SUSPENDED_EXPORTING_SNAPSHOT export-newest",
                "SUSPENDED_EXPORTING_SNAPSHOT export-newest",
                "forget ok",
            ],
        ),
        (
            "exporting",
            [
                "",
                "",
                "",
                "",
                "",
                "",
                "is SUSPENDED_EXPORTING_SNAPSHOT; it can be dropped after that",
            ],
        ),
        ("FAILED", ["", "", "", "", "export-newest", "export-newest", "forget ok"]),
        ("COMPLETED", ["", "", "", "", "", "", "forget ok"]),
    ];
    for (state, effects) in table {
        let status = if state == "exporting" { "SUSPENDED_EXPORTING_SNAPSHOT" } else { state };
        for (position, (request, effect)) in requests.into_iter().zip(effects).enumerate() {
            let actions = job_that_is(state).step(Event::Requested(2, request));
            let refusal = refused(status).get(position).cloned().unwrap_or_default();
            let expected = if effect.is_empty() { refusal } else { effect.to_owned() };
            assert_eq!(words_of(&actions), expected, "{request:?} of a job that is {state}");
        }
    }
}

/// A row of refusals, and what comes last.
trait Chain {
    fn chain(self, last: &'static str) -> [&'static str; 7];
}

impl Chain for [&'static str; 6] {
    fn chain(self, last: &'static str) -> [&'static str; 7] {
        let [a, b, c, d, e, f] = self;
        [a, b, c, d, e, f, last]
    }
}

#[test]
fn every_end_of_an_execution_leads_where_the_table_says() {
    let late = || Error::User { code: "57014", message: "late".to_owned() };
    let broken = || Error::User { code: "22012", message: "no".to_owned() };
    let request = |request| vec![Event::Requested(2, request)];
    let again = "NOT_RUNNING STARTING start";
    let wanted: [(Vec<Event>, [&str; 6]); 6] = [
        (
            vec![],
            [
                "COMPLETING COMPLETED",
                "SUSPENDED",
                "SUSPENDED(53200)",
                "FAILED(22012)",
                "SUSPENDED(53200)",
                again,
            ],
        ),
        (
            request(Request::Suspend),
            [
                "COMPLETING COMPLETED has completed",
                "SUSPENDED ok",
                "SUSPENDED(53200) ok",
                "FAILED(22012) no",
                "SUSPENDED(53200) full",
                "SUSPENDED ok",
            ],
        ),
        (
            request(Request::Restart),
            [
                "COMPLETING COMPLETED has completed",
                again,
                again,
                "FAILED(22012) no",
                "SUSPENDED(53200) full",
                again,
            ],
        ),
        (
            request(Request::DropExported),
            [
                "COMPLETING COMPLETED has completed",
                "SUSPENDED SUSPENDED_EXPORTING_SNAPSHOT export-newest",
                "SUSPENDED(53200) full",
                "FAILED(22012) no",
                "SUSPENDED(53200) full",
                "was lost before its snapshot was exported; it starts again NOT_RUNNING STARTING \
                 start",
            ],
        ),
        (
            [request(Request::Export), request(Request::Drop)].concat(),
            ["ended before its snapshot was exported forget ok"; 6],
        ),
        (
            vec![Event::TimedOut(late())],
            [
                "COMPLETING COMPLETED",
                "FAILED(57014)",
                "FAILED(57014)",
                "FAILED(57014)",
                "FAILED(57014)",
                "FAILED(57014)",
            ],
        ),
    ];
    let ends = [
        End::Completed,
        End::Suspended,
        End::Unsaved(Error::Limit("full".to_owned())),
        End::Failed(broken()),
        End::Failed(Error::Limit("full".to_owned())),
        End::Failed(Error::Lost("gone".to_owned())),
    ];
    for (before, effects) in wanted {
        for (end, effect) in ends.iter().zip(effects) {
            let mut coordinator = job_that_is("RUNNING");
            before.iter().for_each(|event| drop(coordinator.step(event.clone())));
            let actions = coordinator.step(Event::Ended(1, end.clone()));
            assert_eq!(words_of(&actions), effect, "{end:?} after {before:?}");
        }
    }
}

#[test]
fn without_a_guarantee_a_job_is_suspended_at_once_but_exported_by_a_last_snapshot() {
    let running = || {
        let mut coordinator = JobCoordinator::new("j".to_owned(), &options(Guarantee::None));
        coordinator.step(Event::Created(0));
        coordinator.step(Event::Started(1));
        coordinator
    };
    let table = [
        (Request::Suspend, "cancel", End::Cancelled, "SUSPENDED ok"),
        (Request::Suspend, "cancel", End::Completed, "COMPLETING COMPLETED has completed"),
        (Request::Restart, "cancel", End::Cancelled, "NOT_RUNNING STARTING start"),
        (
            Request::DropExported,
            "stop",
            End::Suspended,
            "SUSPENDED SUSPENDED_EXPORTING_SNAPSHOT export-newest",
        ),
    ];
    for (request, asked, end, effect) in table {
        let mut coordinator = running();
        let actions = coordinator.step(Event::Requested(2, request));
        assert_eq!(words_of(&actions), asked, "{request:?}");
        let actions = coordinator.step(Event::Ended(1, end.clone()));
        assert_eq!(words_of(&actions), effect, "{request:?}, {end:?}");
    }
}

#[test]
fn an_export_ends_where_it_began_and_a_drop_follows_only_a_good_one() {
    let export = |request, outcome: Result<()>| {
        let mut coordinator = job_that_is("SUSPENDED");
        coordinator.step(Event::Requested(2, request));
        words_of(&coordinator.step(Event::Exported(2, outcome)))
    };
    let damaged = || Err(Error::Limit("damaged".to_owned()));
    assert_eq!(export(Request::Export, Ok(())), "SUSPENDED ok");
    assert_eq!(export(Request::Export, damaged()), "SUSPENDED damaged");
    assert_eq!(export(Request::DropExported, Ok(())), "SUSPENDED forget ok");
    assert_eq!(export(Request::DropExported, damaged()), "SUSPENDED damaged");
}

#[test]
fn a_job_whose_time_is_up_fails_in_every_state() {
    let late = || Error::User { code: "57014", message: "late".to_owned() };
    let effects = [
        ("NOT_RUNNING", "FAILED(57014)"),
        ("STARTING", "0:57014"),
        ("RUNNING", "cancel"),
        ("suspending", "1:57014 cancel"),
        ("SUSPENDED", "FAILED(57014)"),
        ("exporting", ""),
        ("FAILED", ""),
        ("COMPLETED", ""),
        ("dropped", ""),
    ];
    for (state, effect) in effects {
        let actions = job_that_is(state).step(Event::TimedOut(late()));
        assert_eq!(words_of(&actions), effect, "of a job that is {state}");
    }
    let mut starting = job_that_is("STARTING");
    starting.step(Event::TimedOut(late()));
    assert_eq!(words_of(&starting.step(Event::Started(1))), "RUNNING cancel");
    assert_eq!(words_of(&starting.step(Event::Ended(1, End::Cancelled))), "FAILED(57014)");
    let mut exporting = job_that_is("exporting");
    exporting.step(Event::TimedOut(late()));
    let actions = exporting.step(Event::Exported(1, Ok(())));
    assert_eq!(words_of(&actions), "SUSPENDED FAILED(57014) 1:ok");
}
