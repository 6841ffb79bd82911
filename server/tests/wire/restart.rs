//! The process is killed and started again on its data directory: what was acknowledged is there, what
//! was not is there whole or not at all. `TIDEWATER_KILL_ROUNDS` asks for more than a few rounds.

use std::{
    path::Path,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::process::Process;

/// Clients that write at the same time.
const WRITERS: usize = 6;

/// Rounds unless the environment says otherwise.
const ROUNDS: u64 = 5;

/// How far a client came.
#[derive(Default)]
struct Progress {
    /// The number it was told to be written last, and the one it asked for last.
    acknowledged: AtomicI64,
    asked: AtomicI64,
}

fn start(folder: &Path, more: &[&str]) -> Process {
    let folder = folder.to_str().unwrap();
    Process::start_with(&[&["--data-dir", folder], more].concat(), "warn")
}

async fn connect(address: &str) -> Result<Client, tokio_postgres::Error> {
    let port = address.rsplit(':').next().unwrap();
    let target = format!("host=127.0.0.1 port={port} user=test dbname=test");
    let (client, connection) = tokio_postgres::connect(&target, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The rows of a query, their values as text.
async fn rows(client: &Client, sql: &str) -> Vec<Vec<String>> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).unwrap_or("null").to_owned()).collect())
        }
        _ => None,
    });
    rows.collect()
}

/// Writes rising numbers to keys of its own, in every way there is, until the server is gone.
async fn write(address: String, number: usize, progress: &Progress) {
    let Ok(client) = connect(&address).await else { return };
    let (one, two) = (2 * number, 2 * number + 1);
    let mut next = progress.asked.load(Ordering::SeqCst) + 1;
    loop {
        let sql = match next % 4 {
            0 => format!(
                "INSERT INTO pairs VALUES ({one}, {next}), ({two}, {next}) \
                 ON CONFLICT (k) DO UPDATE SET v = excluded.v"
            ),
            1 => format!(
                "BEGIN; UPDATE pairs SET v = {next} WHERE k = {one}; \
                 UPDATE pairs SET v = {next} WHERE k = {two}; COMMIT"
            ),
            2 => format!("UPDATE pairs SET v = {next} WHERE k IN ({one}, {two})"),
            _ => format!(
                "BEGIN; DELETE FROM pairs WHERE k = {one}; INSERT INTO pairs VALUES ({one}, {next}); \
                 UPDATE pairs SET v = {next} WHERE k = {two}; COMMIT"
            ),
        };
        progress.asked.store(next, Ordering::SeqCst);
        if client.batch_execute(&sql).await.is_err() {
            return;
        }
        if client
            .batch_execute(&format!("INSERT INTO log VALUES ({number}, {next})"))
            .await
            .is_err()
        {
            return;
        }
        progress.acknowledged.store(next, Ordering::SeqCst);
        next += 1;
    }
}

/// Checks what is there against what the writers were told.
async fn check(client: &Client, all: &[Progress], round: u64) {
    let pairs = rows(client, "SELECT k, v FROM pairs ORDER BY k").await;
    assert_eq!(pairs.len(), 2 * WRITERS, "round {round}");
    for (number, progress) in all.iter().enumerate() {
        let value = |key: usize| pairs[key][1].parse::<i64>().unwrap();
        let (one, two) = (value(2 * number), value(2 * number + 1));
        assert_eq!(one, two, "round {round}: a statement of writer {number} is there in half");
        let acknowledged = progress.acknowledged.load(Ordering::SeqCst);
        let asked = progress.asked.load(Ordering::SeqCst);
        assert!((acknowledged..=asked).contains(&one), "round {round}: {one} of {acknowledged}");
        let sql =
            format!("SELECT count(*), count(DISTINCT v), max(v) FROM log WHERE writer = {number}");
        let counts: Vec<i64> =
            rows(client, &sql).await[0].iter().map(|text| text.parse().unwrap_or(0)).collect();
        let [count, distinct, newest] = counts[..] else { panic!("{counts:?}") };
        // Not every number comes to the log: what was asked for last may have been lost.
        assert_eq!(count, distinct, "round {round}: a row came twice");
        assert!((acknowledged..=asked).contains(&newest), "round {round}: {newest} in the log");
        assert!(count >= acknowledged - round as i64, "round {round}: rows of the log are lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let rounds = std::env::var("TIDEWATER_KILL_ROUNDS").ok().and_then(|text| text.parse().ok());
    let all: &'static [Progress; WRITERS] = Box::leak(Box::default());
    let mut process = start(folder.path(), &[]);
    let client = connect(&process.address).await.unwrap();
    let found = "CREATE TABLE pairs (k BIGINT PRIMARY KEY, v BIGINT); \
                 CREATE TABLE log (writer BIGINT, v BIGINT); \
                 CREATE VIEW newest AS SELECT max(v) AS v FROM log; \
                 INSERT INTO pairs SELECT i, 0 FROM generate_series(0, 11) AS s(i)";
    client.batch_execute(found).await.unwrap();
    static SEED: AtomicU64 = AtomicU64::new(0);
    for round in 0..rounds.unwrap_or(ROUNDS) {
        let address = process.address.clone();
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| tokio::spawn(write(address.clone(), number, &all[number])))
            .collect();
        // So many more statements and it is killed, with others under way.
        let count = || -> i64 { all.iter().map(|one| one.asked.load(Ordering::SeqCst)).sum() };
        let seed = SEED.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst);
        let enough = count() + 20 + (seed >> 33) as i64 % 300;
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            while count() < enough {
                tokio::task::yield_now().await;
            }
        });
        assert!(waited.await.is_ok(), "round {round}: the writers do not get on");
        process.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        process = start(folder.path(), &[]);
        let client = connect(&process.address).await.unwrap();
        check(&client, all, round).await;
        assert_eq!(rows(&client, "SELECT count(*) FROM newest").await, [["1"]]);
    }
}

#[test]
fn a_second_process_is_refused_with_the_first_ones_number() {
    let folder = tempfile::tempdir().unwrap();
    let process = start(folder.path(), &[]);
    let arguments = ["--data-dir", folder.path().to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let second = Process::command(&arguments).output().unwrap();
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success());
    assert!(text.contains(&format!("process {}", process.id())), "{text}");
}

#[tokio::test]
async fn a_job_goes_on_exactly_once_and_not_into_a_table_in_memory_unless_told_to() {
    /// What the stream comes to.
    const IDS: i64 = 12_000;
    let folder = tempfile::tempdir().unwrap();
    let mut process = start(folder.path(), &[]);
    let client = connect(&process.address).await.unwrap();
    let found = [
        "CREATE TABLE t (id BIGINT)".to_owned(),
        "CREATE TABLE m (id BIGINT) WITH (durability = 'memory')".to_owned(),
        format!(
            "CREATE MAPPING s (id BIGINT, k BIGINT, v BIGINT, ts BIGINT) TYPE Generator \
             OPTIONS ('kind' = 'sequence', 'rate' = '3000', 'count' = '{IDS}')"
        ),
    ];
    for statement in found {
        client.batch_execute(&statement).await.unwrap();
    }
    let job = |name: &str, options: &str, table: &str| {
        format!(
            "CREATE JOB {name} OPTIONS ('processingGuarantee' = 'exactlyOnce', \
             'snapshotIntervalMillis' = '50'{options}) AS INSERT INTO {table} SELECT id FROM s"
        )
    };
    let refused = client.batch_execute(&job("no", "", "m")).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "55000");
    client.batch_execute(&job("accepts", ", 'acceptMemoryTarget' = 'true'", "m")).await.unwrap();
    client.batch_execute(&job("keeps", "", "t")).await.unwrap();
    let refused = client.batch_execute("ALTER TABLE t SET (durability = 'memory')").await;
    assert_eq!(refused.unwrap_err().code().unwrap().code(), "55006");
    for enough in [1, IDS / 4, IDS / 2] {
        until(&process, &format!("SELECT count(*) >= {enough} FROM t")).await;
        process.kill();
        process = start(folder.path(), &[]);
    }
    until(&process, "SELECT status = 'COMPLETED' FROM sys.jobs WHERE name = 'keeps'").await;
    process.kill();
    process = start(folder.path(), &[]);
    let client = connect(&process.address).await.unwrap();
    let counts = rows(&client, "SELECT count(*), count(DISTINCT id), max(id) FROM t").await;
    assert_eq!(counts, [[IDS.to_string(), IDS.to_string(), (IDS - 1).to_string()]]);
}

/// Waits until a query, as durable readers see it, answers true.
async fn until(process: &Process, sql: &str) {
    let client = connect(&process.address).await.unwrap();
    client.batch_execute("SET read_mode = durable").await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while rows(&client, sql).await != [["t"]] {
            tokio::task::yield_now().await;
        }
    });
    assert!(waited.await.is_ok(), "{sql}");
}

#[tokio::test]
async fn what_is_kept_is_an_option_of_each_table() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = start(folder.path(), &[]);
    let client = connect(&process.address).await.unwrap();
    let statements = "CREATE TABLE a (k BIGINT PRIMARY KEY) WITH (durability = 'memory'); \
                      CREATE TABLE b (k BIGINT PRIMARY KEY) WITH (durability = 'memory'); \
                      CREATE TABLE c (k BIGINT PRIMARY KEY); \
                      CREATE TABLE \"d/../\u{1F30A}\" (k BIGINT PRIMARY KEY); \
                      INSERT INTO a VALUES (1); INSERT INTO b VALUES (1); INSERT INTO c VALUES (1); \
                      INSERT INTO \"d/../\u{1F30A}\" VALUES (1); \
                      ALTER TABLE b SET (durability = 'fsync'); INSERT INTO b VALUES (2); \
                      ALTER TABLE c SET (durability = 'memory'); INSERT INTO c VALUES (2)";
    for statement in statements.split(';') {
        client.batch_execute(statement).await.unwrap();
    }
    process.kill();
    process = start(folder.path(), &[]);
    let client = connect(&process.address).await.unwrap();
    let kept = rows(&client, "SELECT name, rows, durability FROM sys.tables ORDER BY 1").await;
    let expected = [
        ["a", "0", "memory"],
        ["b", "2", "fsync"],
        ["c", "0", "memory"],
        ["d/../\u{1F30A}", "1", "fsync"],
    ];
    assert_eq!(kept, expected);
    drop(process);
}
