//! What statements of a session see of a job that has published rows and committed none of them,
//! through the front door: keyed or planned, in either read mode, in a block and outside.

use arrow::{
    array::{AsArray, Int64Array, RecordBatch},
    datatypes::Int64Type,
};
use futures::StreamExt;
use runtime::{
    connectors::{self, file::FileAccess},
    execution::{Engine, EngineConfig},
    job::Jobs,
};
use storage::{
    GridConfig, Table,
    cluster::control::ObjectId,
    data_log::JobRun,
    env::Env,
    table::{JobWriters, WriteMode, without_waiting},
};

use super::*;
use crate::{Plan, Planner, functions::testing::NoSessions, planner::PlannerParts};

const PROVISIONAL: ReadMode = ReadMode::Provisional;
const DURABLE: ReadMode = ReadMode::Durable;

/// A planner, a table `t` of one durable row `(1, 10)`, and a job that has published `(1, 11)` and
/// `(2, 20)`.
struct World {
    planner: Arc<Planner>,
    job: Arc<JobWriters>,
    table: Arc<Table>,
}

impl World {
    fn new() -> Self {
        let grid = Grid::open(GridConfig::default(), Env::real()).unwrap();
        let engine = Engine::start(EngineConfig::default(), Arc::clone(&grid)).unwrap();
        let files = FileAccess::new(grid.env(), None);
        let planner = Planner::new(PlannerParts {
            grid: Arc::clone(&grid),
            jobs: Jobs::open(Arc::clone(&grid), Arc::clone(&engine)),
            engine,
            connectors: connectors::built_in(files),
            lane_count: 2,
            directory: Arc::new(NoSessions),
            query_memory_max: 1 << 26,
        });
        let mut session = Session::default();
        let job = grid.job_writers("j", JobRun { job: ObjectId(1), execution: 1 });
        run(&planner, &mut session, "CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)").unwrap();
        run(&planner, &mut session, "CREATE TABLE u (k BIGINT PRIMARY KEY, v BIGINT)").unwrap();
        run(&planner, &mut session, "INSERT INTO t VALUES (1, 10)").unwrap();
        let state = grid.control().state();
        let found = state.relations.iter().find(|(name, _)| name.name == "t").unwrap();
        let table = grid.table(found.1.id()).unwrap();
        let world = Self { planner, job, table };
        world.publish(&[1, 2], &[11, 20]);
        world
    }

    fn publish(&self, keys: &[i64], values: &[i64]) {
        let columns = [keys, values].map(|column| Arc::new(Int64Array::from(column.to_vec())) as _);
        let schema = Arc::clone(self.table.schema());
        let batch = RecordBatch::try_new(schema, columns.to_vec()).unwrap();
        let writer = self.job.begin(0);
        self.table.write_batch(&writer, WriteMode::Upsert, &batch).unwrap();
        self.job.publish(writer).unwrap();
    }

    fn rows(&self, session: &mut Session, sql: &str) -> Vec<Vec<i64>> {
        run(&self.planner, session, sql).unwrap()
    }
}

fn session(read_mode: ReadMode) -> Session {
    Session { read_mode, ..Session::default() }
}

/// Runs one statement the way the server does; its rows must be integers.
fn run(planner: &Planner, session: &mut Session, sql: &str) -> Result<Vec<Vec<i64>>> {
    let statement = planner.parse(sql)?.remove(0);
    let prepared = planner.prepare(session, &statement, &[])?;
    if let Some(plan) = planner.keyed_plan(session, &prepared) {
        let rows = plan.run(session, &[])?.rows;
        let integer = |datum: &storage::Datum| match datum {
            storage::Datum::Int(value) => *value,
            other => panic!("{other:?}"),
        };
        return Ok(rows.iter().map(|row| row.iter().map(integer).collect()).collect());
    }
    // DataFusion spawns onto the runtime it is polled in.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match planner.bind(session, &prepared, &[])? {
        Plan::Query(plan) => {
            let batches = runtime.block_on(async {
                let batches: Vec<_> = plan.execute(session)?.collect().await;
                batches.into_iter().collect::<Result<Vec<_>>>()
            })?;
            let rows = batches.iter().flat_map(|batch| {
                let columns = batch.columns().iter().map(AsArray::as_primitive::<Int64Type>);
                let columns: Vec<_> = columns.collect();
                let row = move |row| columns.iter().map(|column| column.value(row)).collect();
                (0..batch.num_rows()).map(row).collect::<Vec<_>>()
            });
            Ok(rows.collect())
        }
        Plan::Modify(plan) => runtime.block_on(plan.execute(session)).map(|_| Vec::new()),
        Plan::Command(plan) => plan.run(session).map(|_| Vec::new()),
        _ => panic!("{sql} is planned otherwise"),
    }
}

#[test]
fn selects_see_published_rows_unless_their_session_reads_durably() {
    let world = World::new();
    let reads = [
        ("SELECT v FROM t WHERE k = 1", [11], [10]),
        ("SELECT max(v) FROM t", [20], [10]),
        ("SELECT count(*) FROM t", [2], [1]),
        ("SELECT count(*) FROM t a JOIN t b ON a.v = b.v", [2], [1]),
    ];
    for (sql, provisional, durable) in &reads {
        assert_eq!(world.rows(&mut session(PROVISIONAL), sql), [*provisional], "{sql}");
        assert_eq!(world.rows(&mut session(DURABLE), sql), [*durable], "{sql}");
    }
    assert!(world.rows(&mut session(DURABLE), "SELECT v FROM t WHERE k = 2").is_empty());
    world.job.commit(1).unwrap();
    for (sql, committed, _) in &reads {
        for mode in [PROVISIONAL, DURABLE] {
            assert_eq!(world.rows(&mut session(mode), sql), [*committed], "{sql}");
        }
    }
}

#[test]
fn a_block_sees_its_own_changes_in_either_mode() {
    let world = World::new();
    let mut session = session(PROVISIONAL);
    session.in_transaction = true;
    world.rows(&mut session, "INSERT INTO t VALUES (3, 30)");
    assert!(session.writer.is_some());
    assert_eq!(world.rows(&mut session, "SELECT count(*), max(v) FROM t"), [[3, 30]]);
    assert_eq!(world.rows(&mut session, "SELECT v FROM t WHERE k = 1"), [[11]]);
    session.read_mode = DURABLE;
    assert_eq!(world.rows(&mut session, "SELECT count(*), max(v) FROM t"), [[2, 30]]);
    assert_eq!(world.rows(&mut session, "SELECT v FROM t WHERE k = 1"), [[10]]);
    assert_eq!(world.rows(&mut session, "SELECT v FROM t WHERE k = 3"), [[30]]);
}

#[test]
fn statements_that_write_read_durable_rows_and_respect_those_of_a_job() {
    let world = World::new();
    let mut session = session(PROVISIONAL);
    world.rows(&mut session, "INSERT INTO u SELECT k, v FROM t");
    world.rows(&mut session, "INSERT INTO u SELECT 100, count(*) FROM t");
    assert_eq!(world.rows(&mut session, "SELECT k, v FROM u ORDER BY k"), [[1, 10], [100, 1]]);
    world.rows(&mut session, "UPDATE u SET v = t.v + 1 FROM t WHERE u.k = t.k");
    world.rows(&mut session, "DELETE FROM u WHERE v IN (SELECT v FROM t WHERE v = 20)");
    assert_eq!(world.rows(&mut session, "SELECT v FROM u WHERE k = 1"), [[11]]);
    for sql in [
        "UPDATE t SET v = v + 1 WHERE k = 1",
        "UPDATE t SET v = v + 1",
        "DELETE FROM t WHERE k = 1",
        "DELETE FROM t WHERE v = 10",
        "INSERT INTO t VALUES (2, 1)",
        "INSERT INTO t VALUES (2, 1) ON CONFLICT (k) DO UPDATE SET v = 0",
        "TRUNCATE t",
    ] {
        let refused = without_waiting(|| run(&world.planner, &mut session, sql));
        assert_eq!(refused.unwrap_err().code, "40001", "{sql}");
    }
    assert_eq!(world.rows(&mut session, "UPDATE t SET v = 0 WHERE v = 20"), [[0; 0]; 0]);
    world.job.abort();
    assert_eq!(world.rows(&mut session, "SELECT k, v FROM t"), [[1, 10]]);
    world.rows(&mut session, "UPDATE t SET v = v + 1 WHERE k = 1");
    assert_eq!(world.rows(&mut session, "SELECT v FROM t WHERE k = 1"), [[11]]);
}

#[test]
fn an_update_waits_for_a_job_no_longer_than_two_snapshots_take() {
    let world = World::new();
    let clock = Env::real().clock;
    let began_at = clock.monotonic_nanos();
    let update = "UPDATE t SET v = v + 1 WHERE k = 1";
    let refused = run(&world.planner, &mut session(PROVISIONAL), update);
    assert_eq!(refused.unwrap_err().code, "40001");
    let seconds = (clock.monotonic_nanos() - began_at) / 1_000_000_000;
    // Two seconds, and as many again for a busy machine.
    assert!((1..5).contains(&seconds), "{seconds} s");
}
