//! What comes back out of a data directory after crashes at every step of random histories, and of
//! the recoveries from them.

use rand::seq::IndexedRandom;

use super::*;
use crate::{
    cluster::control::{
        Command, Durability, JobRecord, JobSnapshots, JobStatus, ObjectName, SnapshotCommand,
        SnapshotRecord, state::Relation,
    },
    env::SimDisk,
};

const ROOT: &str = "/data";

/// What a history has written, and durable readers see: by table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    keyed: BTreeMap<i64, String>,
    keyless: Vec<i64>,
    of_job: BTreeMap<i64, String>,
}

/// A grid over a simulated disk.
struct Member {
    grid: Arc<Grid>,
    keyed: Arc<Table>,
    keyless: Arc<Table>,
    of_job: Arc<Table>,
    memory: Arc<Table>,
    job: ObjectId,
}

fn env(disk: &Arc<SimDisk>) -> Env {
    let (env, _) = Env::simulated(1);
    Env { disk: Arc::clone(disk) as _, ..env }
}

fn open(disk: &Arc<SimDisk>, owners: u16) -> crate::Result<Member> {
    let config = GridConfig {
        partition_count: 7,
        simulated_owners: owners,
        data_dir: Some(ROOT.into()),
        ..GridConfig::default()
    };
    let grid = Grid::open(config, env(disk))?;
    if grid.control().state().relations.is_empty() {
        found(&grid);
    }
    let state = grid.control().state();
    let table = |name: &str| {
        let found = state.relations.get(&ObjectName::public(name)).map(Relation::id);
        grid.table(found.unwrap()).unwrap()
    };
    let (keyed, keyless) = (table("keyed"), table("keyless"));
    let (of_job, memory) = (table("of_job"), table("memory"));
    let job = state.job("j").unwrap().id;
    Ok(Member { keyed, keyless, of_job, memory, job, grid })
}

/// The objects that all histories use.
fn found(grid: &Grid) {
    let submit = |command: Command| grid.control().submit(&command).unwrap();
    for (name, key) in [("keyed", &[0][..]), ("keyless", &[]), ("of_job", &[0]), ("memory", &[0])] {
        let mut record = TableRecord::new(name, schema(), key);
        if name == "memory" {
            let word = Durability::Memory.word().to_owned();
            record.options.insert(Durability::OPTION.to_owned(), word);
        }
        submit(Command::CreateTable(record));
    }
    let id = submit(Command::CreateJob(JobRecord {
        id: ObjectId(0),
        name: "j".to_owned(),
        sql: String::new(),
        options: BTreeMap::new(),
        settings: BTreeMap::new(),
        status: JobStatus::NotRunning,
        created_at: 0,
        started_at: None,
        restarts: 0,
        last_error: None,
        snapshot_table: ObjectId(0),
        snapshots: JobSnapshots::default(),
    }));
    submit(Command::Snapshot(id, SnapshotCommand::StartExecution));
}

impl Member {
    fn sync(&self) -> crate::Result<()> {
        self.grid.persistence().unwrap().log().sync()
    }

    /// What durable readers see.
    fn seen(&self) -> Model {
        let view = self.grid.read_view().in_mode(ReadMode::Durable);
        let mut model = Model {
            keyed: scan(&self.keyed, &view, 2),
            of_job: scan(&self.of_job, &view, 2),
            keyless: Vec::new(),
        };
        for lane in self.keyless.scan(&view, Some(&[0]), 1).unwrap() {
            for batch in lane {
                let batch = batch.unwrap();
                model.keyless.extend(batch.column(0).as_primitive::<Int64Type>().values());
            }
        }
        model.keyless.sort_unstable();
        model
    }

    /// The job's last execution and the last snapshot of it.
    fn run(&self) -> (JobRun, u64) {
        let state = self.grid.control().state();
        let snapshots = &state.jobs[&self.job].snapshots;
        let good = snapshots.newest().map_or(0, |newest| newest.id);
        (JobRun { job: self.job, execution: snapshots.execution_last }, good)
    }

    /// Takes a snapshot as far as the control state goes.
    fn snapshot(&self, run: JobRun) -> crate::Result<u64> {
        let submit = |command| self.grid.control().submit(&Command::Snapshot(self.job, command));
        submit(SnapshotCommand::Begin { execution: run.execution })?;
        let id = self.grid.control().state().jobs[&self.job].snapshots.id_last;
        submit(SnapshotCommand::Commit(SnapshotRecord {
            id,
            execution: run.execution,
            started_at: 0,
            committed_at: 0,
            chunks: 0,
            bytes: 0,
            digest: 0,
            commits: true,
        }))?;
        Ok(id)
    }
}

/// A job that runs.
struct Running {
    run: JobRun,
    writers: Arc<JobWriters>,
    after: u64,
    /// What it has published beyond the model.
    published: BTreeMap<i64, String>,
}

impl Running {
    fn start(member: &Member, model: &Model) -> crate::Result<Self> {
        let command = Command::Snapshot(member.job, SnapshotCommand::StartExecution);
        member.grid.control().submit(&command)?;
        let (run, after) = member.run();
        let writers = member.grid.job_writers("j", run);
        Ok(Self { run, writers, after, published: model.of_job.clone() })
    }
}

/// Writes at random until the disk stops, or for `steps` steps: all states there were since the last
/// that was known to be durable, which is the first.
fn live(member: &Member, rng: &mut SmallRng, from: Model, steps: usize) -> Vec<Model> {
    let mut models = vec![from];
    let Ok(mut job) = Running::start(member, &models[0]) else { return models };
    for step in 0..steps {
        let mut model = models.last().unwrap().clone();
        let text = format!("{step}");
        let done = match rng.random_range(0..14) {
            0..3 => {
                let key = rng.random_range(0..30);
                let mode = if rng.random() { WriteMode::Upsert } else { WriteMode::InsertIgnore };
                put(&member.keyed, mode, key, &text).map(|changed| {
                    if changed == 1 {
                        model.keyed.insert(key, text);
                    }
                })
            }
            3 => {
                let key = rng.random_range(0..30);
                delete(&member.keyed, key).map(|_| drop(model.keyed.remove(&key)))
            }
            4 | 5 => batch_statement(member, rng, &mut model, &text),
            6 => member
                .keyless
                .write(&KeyedWrite::Put { mode: WriteMode::Insert, row: row(7, "") })
                .map(|_| model.keyless.insert(0, 7)),
            7 => publish_some(member, rng, &mut job, &text),
            8 => snapshot_job(member, rng, &mut job, &mut model),
            9 if step % 7 == 0 => member.keyed.truncate().map(|()| model.keyed.clear()),
            9 => put(&member.memory, WriteMode::Upsert, 1, &text).map(drop),
            10 if step % 5 == 0 => {
                job.writers.abort();
                Running::start(member, &model).map(|next| job = next)
            }
            11 => member.grid.checkpoint_due(),
            12 if step % 3 == 0 => member.grid.checkpoint_all(),
            _ => match member.sync() {
                Ok(()) => {
                    models = vec![model.clone()];
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        model.keyless.sort_unstable();
        // What failed may have been done all the same.
        models.push(model);
        if done.is_err() {
            break;
        }
    }
    models
}

/// A statement of several rows, committed or not.
fn batch_statement(
    member: &Member,
    rng: &mut SmallRng,
    model: &mut Model,
    text: &str,
) -> crate::Result<()> {
    let writer = member.grid.begin();
    let mut next = model.clone();
    let rows = *[1, 3, 40, 700].choose(rng).unwrap();
    let rows: Vec<i64> = (0..rows).map(|_| rng.random_range(0..60)).collect();
    let rows: Vec<_> = rows.iter().map(|key| (*key, text)).collect();
    match rng.random_range(0..4) {
        0 => {
            member.keyed.write_batch(&writer, WriteMode::Upsert, &batch(&rows))?;
            next.keyed.extend(rows.iter().map(|(key, text)| (*key, (*text).to_owned())));
        }
        1 => {
            member.keyed.write_batch(&writer, WriteMode::InsertIgnore, &batch(&rows))?;
            for (key, text) in rows {
                next.keyed.entry(key).or_insert_with(|| text.to_owned());
            }
        }
        2 => {
            let mut gone: Vec<i64> = rows.iter().map(|(key, _)| *key).collect();
            gone.sort_unstable();
            gone.dedup();
            member.keyed.modify_batch(&writer, &writer.read_view(), &keys(&gone), None)?;
            next.keyed.retain(|key, _| !gone.contains(key));
        }
        _ => {
            member.keyless.write_batch(&writer, WriteMode::Insert, &batch(&rows))?;
            next.keyless.extend(rows.iter().map(|(key, _)| *key));
        }
    }
    if rng.random_range(0..4) == 0 {
        writer.abort();
        return Ok(());
    }
    writer.commit()?;
    *model = next;
    Ok(())
}

/// What a sink instance publishes, or gives up.
fn publish_some(
    member: &Member,
    rng: &mut SmallRng,
    job: &mut Running,
    text: &str,
) -> crate::Result<()> {
    let writer = job.writers.begin(job.after);
    let rows: Vec<_> = (0..rng.random_range(1..30)).map(|_| rng.random_range(0..20)).collect();
    let rows: Vec<(i64, &str)> = rows.into_iter().map(|key| (key, text)).collect();
    member.of_job.write_batch(&writer, WriteMode::Upsert, &batch(&rows))?;
    if rng.random_range(0..5) == 0 {
        return Ok(());
    }
    job.published.extend(rows.into_iter().map(|(key, text)| (key, text.to_owned())));
    job.writers.publish(writer)
}

/// A snapshot that covers what was published; the job may be lost between its two phases.
fn snapshot_job(
    member: &Member,
    rng: &mut SmallRng,
    job: &mut Running,
    model: &mut Model,
) -> crate::Result<()> {
    // It may be good even if nobody is told.
    model.of_job.clone_from(&job.published);
    let id = member.snapshot(job.run)?;
    job.after = id;
    if rng.random_range(0..4) == 0 {
        return Err(Error::Lost("between the phases".to_owned()));
    }
    job.writers.commit(id)
}

/// Checks that a member shows one of these states; which.
fn check(member: &Member, models: &[Model], name: &str) -> Model {
    let seen = member.seen();
    assert!(models.contains(&seen), "{name}: {seen:?}\nis none of {models:?}");
    assert_eq!(member.memory.stats().rows, 0, "{name}: memory is memory");
    seen
}

/// Crashes the histories of these seeds at their steps, and the recoveries from them
/// at random; every opening after a crash is a point.
fn crash_at_steps(seeds: std::ops::Range<u64>, points_min: usize) {
    let mut points = 0;
    for seed in seeds {
        let owners = if seed % 5 == 0 { 3 } else { 1 };
        let mut stop = 0;
        loop {
            stop += 1 + seed % 3;
            let disk = SimDisk::new(seed, ["/"]);
            let mut rng = SmallRng::seed_from_u64(seed);
            let member = open(&disk, owners).unwrap();
            let begun = disk.steps();
            disk.stop_at(begun + stop);
            let mut models = live(&member, &mut rng, Model::default(), 60);
            let is_over = disk.steps() < begun + stop;
            drop(member);
            // It crashes again while it recovers, and soon after.
            for round in 0..3 {
                disk.crash();
                let name = format!("seed {seed}, stop {stop}, round {round}");
                if rng.random() {
                    disk.stop_at(disk.steps() + rng.random_range(0..20));
                    drop(open(&disk, owners));
                    disk.crash();
                    points += 1;
                }
                let member = open(&disk, owners).unwrap_or_else(|error| panic!("{name}: {error}"));
                points += 1;
                let seen = check(&member, &models, &name);
                disk.stop_at(disk.steps() + 1 + rng.random_range(0..20));
                models = live(&member, &mut rng, seen, 20);
            }
            if is_over {
                break;
            }
        }
    }
    assert!(points >= points_min, "{points} crashes were tried");
}

#[test]
fn what_was_synced_comes_back_whole_and_in_order_after_a_crash_at_any_step_1() {
    crash_at_steps(0..7, 900);
}

#[test]
fn what_was_synced_comes_back_whole_and_in_order_after_a_crash_at_any_step_2() {
    crash_at_steps(7..14, 900);
}

#[test]
fn what_was_synced_comes_back_whole_and_in_order_after_a_crash_at_any_step_3() {
    crash_at_steps(14..21, 900);
}

#[test]
fn what_was_synced_comes_back_whole_and_in_order_after_a_crash_at_any_step_4() {
    crash_at_steps(21..28, 900);
}
