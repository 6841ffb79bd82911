//! The whole of an exactly-once job in an order that a seed decides: its tasklets, its snapshots, its
//! starts, and what is said between them, on one thread and a simulated clock. Messages stay under way
//! for as long as the seed likes; executions are lost between any two steps, at any failpoint, and by
//! what a user asks, and so is the process with all that lives in its memory alone: engine, jobs and
//! what is said between them. Tables, snapshots and control state stay, as they do on a disk. After
//! every step hold
//!
//! 1. a good snapshot is whole, an exported one is until it is replaced, its id was given by the control state and is never given again;
//! 2. one snapshot is under way at a time, newer than every good one;
//! 3. a commit into the topic carries a good snapshot's id (asserted by the topic);
//! 4. what durable readers of the table see is a cut, nothing is in topic or files twice, and a window
//!    that is there counts what it should;
//!
//! and at the end every id is in all of them. One seed is one run: a failing one is printed.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use storage::{
    GridConfig,
    env::{Env, Killed, Rng, SimClock},
    table::ReadMode,
};

use super::{
    super::{
        backstage::Tell,
        execution_snapshots::{ExecutionSnapshots, Message, settle_writers},
    },
    test_job::{NAME, TestJob},
    *,
};
use crate::execution::{EngineConfig, SeededScheduler};

/// Ids of a run.
const IDS: i64 = 240;
const SEEDS_DEFAULT: u64 = 24;
/// Steps after which a run that does not end is stuck.
const STEPS_MAX: usize = 400_000;
/// Executions that are lost in a run at most, so that it ends; and processes.
const LOSSES_MAX: u64 = 6;
const KILLS_MAX: u64 = 12;

/// Processes that are lost, over all runs of the test that loses them at random.
const PROCESSES_LOST: u64 = 200;

type Task = Box<dyn FnOnce() + Send>;
type Messages = Arc<Mutex<VecDeque<Message>>>;

/// What is not done by tasklets, to be done in an order of the test's.
#[derive(Default)]
struct Simulated(Mutex<State>);

#[derive(Default)]
struct State {
    /// The snapshots of each execution, while they are not at work; and what they are told.
    snapshots: Vec<(Option<ExecutionSnapshots>, Messages)>,
    tasks: Vec<Task>,
}

impl Backstage for Arc<Simulated> {
    fn run_snapshots(&self, _name: String, snapshots: ExecutionSnapshots) -> Result<Tell> {
        let messages = Messages::default();
        self.0.lock().snapshots.push((Some(snapshots), Arc::clone(&messages)));
        Ok(Arc::new(move |message| messages.lock().push_back(message)))
    }

    fn run(&self, _name: String, task: Task) -> Result<()> {
        self.0.lock().tasks.push(task);
        Ok(())
    }
}

/// What is gone with the process.
struct Process {
    jobs: Arc<Jobs>,
    scheduler: SeededScheduler,
    backstage: Arc<Simulated>,
}

impl Process {
    fn start(grid: &Arc<Grid>, order: Rng) -> Self {
        let config = EngineConfig { worker_count: 2, queue_capacity: 2, ..EngineConfig::default() };
        let (engine, scheduler) = Engine::simulated(config, Arc::clone(grid), order).unwrap();
        let backstage = Arc::<Simulated>::default();
        let jobs = Jobs::open_on(Box::new(Arc::clone(&backstage)), Arc::clone(grid), engine);
        Self { jobs, scheduler, backstage }
    }
}

/// One run.
struct World {
    what: String,
    job: TestJob,
    process: Process,
    clock: Arc<SimClock>,
    rng: Rng,
    losses: u64,
    /// Processes that were lost, and how many may be.
    killed: u64,
    killed_max: u64,
    /// The newest snapshot that was good, and the newest id given.
    newest: (u64, u64),
    /// The newest exported snapshot that was seen.
    exported: u64,
}

impl World {
    fn new(what: String, seed: u64) -> Self {
        let world = Self::opened(what, seed);
        world.create();
        world
    }

    /// Without a job.
    fn opened(what: String, seed: u64) -> Self {
        let (env, clock) = Env::simulated(seed);
        let grid = Grid::open(GridConfig::default(), env).unwrap();
        let rng = Rng::seeded(seed);
        let process = Process::start(&grid, Rng::seeded(rng.next_u64()));
        let job = TestJob::new(&grid, IDS, rng.next_u64());
        job.topic.set_trouble(5 + rng.next_u64() % 30);
        let dag = job.dag();
        process.jobs.set_planner(Arc::new(move |_| Ok(dag.clone())));
        let (newest, exported) = ((0, 0), 0);
        let (losses, killed, killed_max) = (0, 0, 0);
        Self { what, job, process, clock, rng, losses, killed, killed_max, newest, exported }
    }

    fn create(&self) {
        self.process.jobs.create(self.job.request(), self.job.dag()).unwrap();
    }

    fn below(&self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    /// Runs until the job has completed.
    fn run(&mut self) {
        for step in 0..STEPS_MAX {
            if self.is_killed(Self::step) {
                self.lose_process();
            }
            self.check(step);
            if self.job.record().status == JobStatus::Completed {
                self.job.assert_each_id_once(&self.what);
                return;
            }
        }
        panic!("{}: it does not end: {:?}", self.what, self.job.record());
    }

    fn step(&mut self) {
        match self.below(100) {
            0..70 => drop(self.process.scheduler.step()),
            70..85 => self.deliver(),
            85..95 => self.pass_time(),
            95..98 => self.start_something(),
            _ => self.ask(),
        }
    }

    /// Whether the process has come to a place where it is killed.
    fn is_killed(&mut self, act: impl FnOnce(&mut Self)) -> bool {
        match catch_unwind(AssertUnwindSafe(|| act(self))) {
            Ok(()) => false,
            Err(panic) if panic.is::<Killed>() => true,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// The process is gone, the next one is there. Of what it had written into tables stays what its
    /// newest good snapshot covers, as when their log is read again.
    fn lose_process(&mut self) {
        self.killed += 1;
        let before = self.job.record();
        for job in self.process.jobs.jobs.lock().values() {
            let writers = job.state.lock().writers.clone();
            writers.iter().for_each(|writers| settle_writers(writers, &before).unwrap());
        }
        let next = Process::start(&self.job.grid, Rng::seeded(self.rng.next_u64()));
        let gone = std::mem::replace(&mut self.process, next);
        let backstage = std::mem::take(&mut *gone.backstage.0.lock());
        match self.below(2) {
            // Nothing of it runs once more, destructors neither.
            0 => std::mem::forget((gone, backstage)),
            _ => drop((gone, backstage)),
        }
        let dag = self.job.dag();
        self.process.jobs.set_planner(Arc::new(move |_| Ok(dag.clone())));
        self.process.jobs.adopt().unwrap();
        let (after, what) = (self.job.record(), &self.what);
        let status = match before.status {
            JobStatus::NotRunning | JobStatus::Starting | JobStatus::Running => JobStatus::Starting,
            JobStatus::SuspendedExportingSnapshot => JobStatus::Suspended,
            JobStatus::Completing => JobStatus::Completed,
            same => same,
        };
        assert_eq!(after.status, status, "{what}: it was {before:?}");
        let is_again = status == JobStatus::Starting && before.started_at.is_some();
        assert_eq!(after.restarts, before.restarts + u64::from(is_again), "{what}: {before:?}");
    }

    /// One message reaches the snapshots of one execution.
    fn deliver(&mut self) {
        let mut state = self.process.backstage.0.lock();
        let count = state.snapshots.len() as u64;
        if count == 0 {
            return;
        }
        let index = self.below(count) as usize;
        let (at_work, messages) = &mut state.snapshots[index];
        let Some(message) = messages.lock().pop_front() else { return };
        let Some(mut snapshots) = at_work.take() else { return };
        drop(state);
        snapshots.receive(message);
        let place = (!snapshots.is_over()).then_some(snapshots);
        self.process.backstage.0.lock().snapshots[index].0 = place;
    }

    fn pass_time(&mut self) {
        self.clock.advance(self.below(3_000) as i64);
        let mut state = self.process.backstage.0.lock();
        for (snapshots, _) in &mut state.snapshots {
            if let Some(snapshots) = snapshots.as_mut().filter(|one| one.due_in() == Some(0)) {
                snapshots.tick();
            }
        }
    }

    fn start_something(&mut self) {
        let mut state = self.process.backstage.0.lock();
        let count = state.tasks.len() as u64;
        if count == 0 {
            return;
        }
        let task = state.tasks.swap_remove(self.below(count) as usize);
        drop(state);
        task();
    }

    /// A user asks for something, or the execution is lost.
    fn ask(&mut self) {
        let status = self.job.record().status;
        let request = match self.below(12) {
            0 if self.losses < LOSSES_MAX => {
                self.losses += u64::from(self.process.jobs.lose(NAME));
                return;
            }
            5 | 6 if self.killed < self.killed_max => return self.lose_process(),
            1 => Request::Suspend,
            2 => Request::Restart,
            3 | 4 => Request::Export,
            _ if status == JobStatus::Suspended => Request::Resume,
            _ => return,
        };
        let job = self.process.jobs.jobs.lock().values().next().map(Arc::clone).unwrap();
        let name = format!("s{}", self.below(2));
        let asked = Asked::Export(ExportName { name, replace: true });
        job.send(asked, |ticket| Event::Requested(ticket, request));
    }

    /// What holds after every step.
    fn check(&mut self, step: usize) {
        let record = self.job.record();
        let what = format!("{}, step {step}: {:?}", self.what, record.snapshots);
        assert!(record.status != JobStatus::Failed, "{what}: {:?}", record.last_error);
        let JobSnapshots { id_last, ongoing, good, .. } = &record.snapshots;
        assert!(good.is_sorted_by(|a, b| a.id < b.id), "{what}");
        let newest = good.last().map_or(0, |newest| newest.id);
        assert!(newest <= *id_last && ongoing.is_none_or(|id| id == *id_last), "{what}");
        assert!(ongoing.is_none_or(|id| id > newest), "{what}");
        assert!(newest >= self.newest.0 && *id_last >= self.newest.1, "{what}: older than before");
        let is_news = newest > self.newest.0;
        self.newest = (newest, *id_last);
        if is_news || step.is_multiple_of(97) {
            for snapshot in good {
                let read = self.job.grid.snapshots().read(&self.job.grid, &record, snapshot);
                assert!(read.is_ok(), "{what}: {:?}", read.err());
            }
            for export in self.job.grid.control().state().exports.values() {
                let read = self.job.grid.snapshots().read_export(&self.job.grid, export);
                assert!(read.is_ok(), "{what}: {export:?}: {:?}", read.err());
                self.exported = self.exported.max(export.id.0);
            }
            self.job.assert_cut(&self.job.in_table(ReadMode::Durable), &what);
            let in_topic = self.job.in_topic();
            assert!(in_topic.is_sorted_by(|a, b| a < b), "{what}: twice in the topic");
            let all = self.job.all_counts();
            let counts = self.job.in_counts(ReadMode::Durable);
            let is_right = |count| all.binary_search(count).is_ok();
            assert!(counts.iter().all(is_right), "{what}: windows {counts:?}");
            let in_files = self.job.in_files();
            assert!(in_files.is_sorted_by(|a, b| a < b), "{what}: twice in the files");
        }
    }
}

fn seeds() -> u64 {
    let seeds = std::env::var("TIDEWATER_SEEDS").ok().and_then(|text| text.parse().ok());
    seeds.unwrap_or(SEEDS_DEFAULT)
}

#[test]
fn in_whatever_order_things_happen_every_id_is_there_once() {
    let (mut losses, mut exported) = (0, 0);
    for seed in 0..seeds() {
        let mut world = World::new(format!("seed {seed}"), seed);
        world.run();
        losses += world.losses;
        exported += u64::from(world.exported > 0);
    }
    assert!(exported > seeds() / 2, "only {exported} runs exported something");
    assert!(losses > seeds() / 2, "only {losses} executions were lost");
}

#[test]
fn one_seed_is_one_run() {
    let run = |seed| {
        let mut world = World::new(format!("seed {seed}"), seed);
        world.run();
        (world.process.scheduler.trace().to_vec(), world.job.record().snapshots.clone())
    };
    assert!(run(7) == run(7));
    assert!(run(7) != run(8));
}

/// Where an execution can be lost, found by watching runs.
fn places() -> Vec<&'static str> {
    let mut places = std::collections::BTreeSet::new();
    for seed in 0..6 {
        let mut world = World::new(format!("watched, seed {seed}"), seed);
        world.job.grid.env().failpoints.watch();
        world.run();
        places.extend(world.job.grid.env().failpoints.passed().into_keys());
    }
    places.into_iter().collect()
}

#[test]
fn lost_at_any_failpoint_in_any_order_every_id_is_there_once() {
    let places = places();
    let known: Vec<&str> = include_str!("failpoints.txt").lines().collect();
    assert!(places == known, "failpoints.txt should list {places:#?}");
    assert!(places.len() >= 40, "{} places: {places:?}", places.len());
    let mut lost = 0;
    for place in &places {
        for seed in 0..seeds().div_ceil(60) {
            let mut world = World::new(format!("{place}, seed {seed}"), seed);
            let passes = world.below(if place.starts_with("start") { 3 } else { 30 });
            world.job.grid.env().failpoints.arm(place, passes);
            world.run();
            lost += usize::from(!world.job.grid.env().failpoints.is_armed());
        }
    }
    let runs = places.len() * seeds().div_ceil(60) as usize;
    assert!(lost * 3 >= runs * 2, "{lost} losses in {runs} runs");
}

#[test]
fn whenever_the_process_is_lost_the_next_one_goes_on_and_every_id_is_there_once() {
    let (mut killed, mut seed) = (0, 0);
    while killed < PROCESSES_LOST {
        let mut world = World::new(format!("seed {seed}"), seed);
        world.killed_max = KILLS_MAX;
        world.run();
        killed += world.killed;
        seed += 1;
    }
    assert!(killed >= seed, "{killed} processes were lost in {seed} runs");
}

#[test]
fn killed_at_any_failpoint_the_process_leaves_a_job_that_goes_on() {
    let places = places();
    let mut killed = 0;
    for (place, seed) in places.iter().zip(0..) {
        let mut world = World::new(format!("killed at {place}"), seed);
        let passes = world.below(if place.starts_with("start") { 2 } else { 20 });
        world.job.grid.env().failpoints.arm_kill(place, passes);
        world.run();
        killed += world.killed as usize;
    }
    assert!(killed * 3 >= places.len() * 2, "killed {killed} times in {} runs", places.len());
}

#[test]
fn killed_while_the_job_is_created_the_process_leaves_it_whole() {
    let places = ["start.settle", "start.execution", "start.read", "start.run"];
    for (place, seed) in places.into_iter().zip(0..) {
        let mut world = World::opened(format!("created, killed at {place}"), seed);
        world.job.grid.env().failpoints.arm_kill(place, 0);
        assert!(world.is_killed(|world| world.create()), "{place} was not reached");
        world.lose_process();
        world.run();
    }
}
