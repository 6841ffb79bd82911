//! What durable writes and restarts cost: upserts by key and COPY, each acknowledged when it is on disk,
//! beside PostgreSQL with `synchronous_commit = on`; starts on a data directory after SIGTERM and after
//! SIGKILL, until the first row is read by key and all are there.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use tidewater_bench::{
    Result, median, now, pgbench,
    postgres::Postgres,
    report::{self, Line, remark},
    setting,
    tidewater::Tidewater,
    wire::Wire,
};

/// Rounds of each side; interleaved.
const ROUNDS: u64 = 3;
const DDL: &str = "TABLE t (k BIGINT PRIMARY KEY, a BIGINT, b BIGINT, c DOUBLE PRECISION, v TEXT)";
/// What tells whether all rows are there.
const CHECK: &str = "SELECT count(*), sum(k), min(v), max(v) FROM t";

/// A folder that goes with its benchmark.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("tidewater-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Best effort: the benchmark is over.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn main() -> Result<()> {
    let folder = Folder::new()?;
    upserts(&folder)?;
    copies(&folder)?;
    report::head("start on a data directory, until the port is open");
    for rows in [100_000, 1_000_000, setting("ROWS", 5_000_000)] {
        restarts(&folder, rows)?;
    }
    Ok(())
}

fn upserts(folder: &Folder) -> Result<()> {
    let (rows, seconds) = (setting("KEYS", 1_000_000), setting("SECONDS", 4));
    let ours = Tidewater::start_on(Some(&folder.path("upserts")), Some(0), &["--workers", "1"])?;
    let peer = Postgres::start_durable(Some(0))?;
    for port in [ours.port, peer.port] {
        let wire = Wire::connect(port)?;
        wire.run("CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT)")?;
        let last = rows - 1;
        wire.run(&format!(
            "INSERT INTO t SELECT v, repeat('x', 84) FROM generate_series(0, {last}) AS g(v)"
        ))?;
        assert_eq!(wire.value("SELECT count(*) FROM t")?, rows.to_string());
    }
    let value = "y".repeat(84);
    let put = format!(
        "\\set k random(0, {})\nINSERT INTO t (k, v) VALUES (:k, '{value}') ON CONFLICT (k) DO UPDATE SET v = EXCLUDED.v;\n",
        rows - 1
    );
    report::head(&format!("durable upserts: {rows} keys, {ROUNDS} rounds of {seconds} s"));
    for clients in [1, 8, 64] {
        let run = |port| {
            let (script, mode, core) = (put.as_str(), "prepared", Some(1));
            pgbench::tps(&pgbench::Run { port, script, mode, clients, seconds, core })
        };
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        let cpu = ours.cpu_seconds()?;
        for _ in 0..ROUNDS {
            mine.push(run(ours.port)?);
            theirs.push(run(peer.port)?);
        }
        report::line(&Line {
            work: format!("upsert, {clients} connections"),
            ours: median(mine),
            peer: Some((median(theirs), "PostgreSQL, synchronous_commit = on".to_owned())),
            unit: "per second",
            is_less_better: false,
            cpu_seconds: ours.cpu_seconds()? - cpu,
            rss_bytes: ours.rss_bytes()?,
        });
    }
    Ok(())
}

fn copies(folder: &Folder) -> Result<()> {
    let rows = setting("ROWS", 5_000_000);
    let text = Bytes::from(lines(rows));
    let durable = Tidewater::start_on(Some(&folder.path("copies")), None, &[])?;
    let memory = Tidewater::start(None, &[])?;
    let peer = Postgres::start_durable(None)?;
    let sides = [durable.port, memory.port, peer.port];
    let wires = sides.map(Wire::connect);
    let (mut rates, mut cpu) = ([const { Vec::new() }; 3], 0.0);
    for _ in 0..ROUNDS {
        for (wire, rates) in wires.iter().zip(&mut rates) {
            let wire = wire.as_ref().map_err(|error| error.to_string())?;
            wire.run(&format!("DROP TABLE IF EXISTS t; CREATE {DDL}"))?;
            let before = durable.cpu_seconds()?;
            let elapsed = wire.copy_in("COPY t FROM STDIN", &text)?;
            rates.push(rows as f64 / elapsed.as_secs_f64());
            cpu += durable.cpu_seconds()? - before;
        }
    }
    let answers =
        wires.iter().map(|wire| wire.as_ref().ok().and_then(|wire| wire.rows(CHECK).ok()));
    let answers: Vec<_> = answers.map(|answer| answer.map(|(rows, _)| rows)).collect();
    assert!(answers.iter().all(|answer| answer.is_some() && *answer == answers[0]), "{CHECK}");
    report::head(&format!("COPY FROM STDIN, durable: {rows} rows of 96 B"));
    let [mine, in_memory, theirs] = rates.map(median);
    for (peer, whose) in [(in_memory, "ours, --in-memory"), (theirs, "PostgreSQL, logged")] {
        report::line(&Line {
            work: "COPY FROM STDIN, text".to_owned(),
            ours: mine,
            peer: Some((peer, whose.to_owned())),
            unit: "rows a second",
            is_less_better: false,
            cpu_seconds: cpu / ROUNDS as f64,
            rss_bytes: durable.rss_bytes()?,
        });
    }
    Ok(())
}

/// Starts after SIGTERM and after SIGKILL, on a table of so many rows.
fn restarts(folder: &Folder, rows: u64) -> Result<()> {
    let path = folder.path(&format!("restarts-{rows}"));
    let server = Tidewater::start_on(Some(&path), None, &[])?;
    let wire = Wire::connect(server.port)?;
    wire.run(&format!("CREATE {DDL}"))?;
    wire.copy_in("COPY t FROM STDIN", &Bytes::from(lines(rows)))?;
    let expected = wire.rows(CHECK)?.0;
    let memory: f64 = wire.value("SELECT bytes FROM sys.tables WHERE name = 't'")?.parse()?;
    drop(wire);
    // Some changes that are in no checkpoint when it is killed.
    let killed = |server: Tidewater| -> Result<Tidewater> {
        let wire = Wire::connect(server.port)?;
        wire.run("UPDATE t SET a = a WHERE k < 1000")?;
        drop(server);
        Tidewater::start_on(Some(&path), None, &[])
    };
    let server = killed(server)?;
    say(&server, rows, "SIGKILL, right after COPY", &expected)?;
    let stopped = server.terminate()?;
    let on_disk = size_of(&path.join("tables"))? as f64;
    let server = Tidewater::start_on(Some(&path), None, &[])?;
    say(&server, rows, "SIGTERM", &expected)?;
    let server = killed(server)?;
    say(&server, rows, "SIGKILL, later", &expected)?;
    remark(&format!(
        "{rows} rows: {:.0} MB in memory, {:.2} times that on disk; SIGTERM took {:.2} s",
        memory / 1e6,
        on_disk / memory,
        stopped.as_secs_f64()
    ));
    drop(server);
    std::fs::remove_dir_all(&path)?;
    Ok(())
}

fn say(server: &Tidewater, rows: u64, after: &str, expected: &[Vec<String>]) -> Result<()> {
    let (begin, wire) = (now(), Wire::connect(server.port)?);
    wire.value("SELECT a FROM t WHERE k = 7")?;
    let first: Duration = server.ready_after + begin.elapsed();
    assert_eq!(wire.rows(CHECK)?.0, expected, "{rows} rows after {after}");
    report::line(&Line {
        work: format!("{rows} rows of 96 B, after {after}"),
        ours: server.ready_after.as_secs_f64(),
        peer: None,
        unit: "s",
        is_less_better: true,
        cpu_seconds: server.cpu_seconds()?,
        rss_bytes: server.rss_bytes()?,
    });
    remark(&format!(
        "first answer by key, connection included, after {:.3} s",
        first.as_secs_f64()
    ));
    Ok(())
}

/// Bytes of all files beneath a folder.
fn size_of(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { size_of(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}

/// PostgreSQL's text format: four numbers and 56 bytes of text, 88 B of Arrow data a row.
fn lines(rows: u64) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(rows as usize * 96);
    for k in 0..rows {
        let a = k.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let _ = writeln!(text, "{k}\t{a}\t{}\t{}.5\tvalue-{a:050}", k % 1000, k % 97);
    }
    text
}
