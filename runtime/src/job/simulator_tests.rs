//! The whole of an exactly-once job in an order that a seed decides: its tasklets, its snapshots, its
//! starts, and what is said between them, on one thread and a simulated clock. Messages stay under way
//! for as long as the seed likes; executions are lost between any two steps, at any failpoint, and by
//! what a user asks. After every step hold
//!
//! 1. a good snapshot is whole, an exported one is until it is replaced, its id was given by the control state and is never given again;
//! 2. one snapshot is under way at a time, newer than every good one;
//! 3. a commit into the topic carries a good snapshot's id (asserted by the topic);
//! 4. what durable readers of the table see is a cut, nothing is in topic or files twice, and a window
//!    that is there counts what it should;
//!
//! and at the end every id is in all of them. One seed is one run: a failing one is printed.

use std::collections::VecDeque;

use storage::{
    GridConfig,
    env::{Env, Rng, SimClock},
    table::ReadMode,
};

use super::{
    super::{
        backstage::Tell,
        execution_snapshots::{ExecutionSnapshots, Message},
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
/// Executions that are lost in a run at most, so that it ends.
const LOSSES_MAX: u64 = 6;

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

/// One run.
struct World {
    what: String,
    job: TestJob,
    jobs: Arc<Jobs>,
    clock: Arc<SimClock>,
    rng: Rng,
    scheduler: SeededScheduler,
    backstage: Arc<Simulated>,
    losses: u64,
    /// The newest snapshot that was good, and the newest id given.
    newest: (u64, u64),
    /// The newest exported snapshot that was seen.
    exported: u64,
}

impl World {
    fn new(what: String, seed: u64) -> Self {
        let (env, clock) = Env::simulated(seed);
        let grid = Grid::open(GridConfig::default(), env).unwrap();
        let config = EngineConfig { worker_count: 2, queue_capacity: 2, ..EngineConfig::default() };
        let rng = Rng::seeded(seed);
        let order = Rng::seeded(rng.next_u64());
        let (engine, scheduler) = Engine::simulated(config, Arc::clone(&grid), order).unwrap();
        let backstage = Arc::<Simulated>::default();
        let jobs = Jobs::open_on(Box::new(Arc::clone(&backstage)), Arc::clone(&grid), engine);
        let job = TestJob::new(&grid, IDS, rng.next_u64());
        job.topic.set_trouble(5 + rng.next_u64() % 30);
        let dag = job.dag();
        jobs.set_planner(Arc::new(move |_| Ok(dag.clone())));
        jobs.create(job.request(), job.dag()).unwrap();
        let (losses, newest, exported) = (0, (0, 0), 0);
        Self { what, job, jobs, clock, rng, scheduler, backstage, losses, newest, exported }
    }

    fn below(&self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    /// Runs until the job has completed.
    fn run(&mut self) {
        for step in 0..STEPS_MAX {
            match self.below(100) {
                0..70 => drop(self.scheduler.step()),
                70..85 => self.deliver(),
                85..95 => self.pass_time(),
                95..98 => self.start_something(),
                _ => self.ask(),
            }
            self.check(step);
            if self.job.record().status == JobStatus::Completed {
                self.job.assert_each_id_once(&self.what);
                return;
            }
        }
        panic!("{}: it does not end: {:?}", self.what, self.job.record());
    }

    /// One message reaches the snapshots of one execution.
    fn deliver(&mut self) {
        let mut state = self.backstage.0.lock();
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
        self.backstage.0.lock().snapshots[index].0 = place;
    }

    fn pass_time(&mut self) {
        self.clock.advance(self.below(3_000) as i64);
        let mut state = self.backstage.0.lock();
        for (snapshots, _) in &mut state.snapshots {
            if let Some(snapshots) = snapshots.as_mut().filter(|one| one.due_in() == Some(0)) {
                snapshots.tick();
            }
        }
    }

    fn start_something(&mut self) {
        let mut state = self.backstage.0.lock();
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
                self.losses += u64::from(self.jobs.lose(NAME));
                return;
            }
            1 => Request::Suspend,
            2 => Request::Restart,
            3 | 4 => Request::Export,
            _ if status == JobStatus::Suspended => Request::Resume,
            _ => return,
        };
        let job = self.jobs.jobs.lock().values().next().map(Arc::clone).unwrap();
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
        (world.scheduler.trace().to_vec(), world.job.record().snapshots.clone())
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
