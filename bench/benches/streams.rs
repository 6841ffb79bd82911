//! Streams from a generator in process into `TYPE Discard`: windows and stateless Nexmark queries.
//! Events a CPU-second of the whole server, generator included. Jet and Flink are not run here: the
//! peer column quotes figures measured on a machine like this one. Before a query's time counts, a
//! job runs it on 10⁶ events into a table, and DuckDB on the same events must find the same rows.

use std::{path::PathBuf, time::Duration};

use tidewater_bench::{
    Result,
    python::{Engine, Peer},
    report::{self, Line},
    setting,
    tidewater::Tidewater,
    wire::Wire,
};

/// Events of the run whose answer is checked.
const CHECKED_EVENTS: u64 = 1_000_000;
/// Events a second of event time.
const EVENT_RATE: u64 = 100_000;

/// Event time in order of number; the bids' columns are fields of a struct.
const NEXMARK: &str = "CREATE MAPPING nexmark TYPE Generator OPTIONS ('kind' = 'nexmark', 'rate' = 'max', 'count' = '{count}', 'event_rate' = '{rate}', 'seed' = '1')";
/// 4-bigint events.
const SEQUENCE: &str = "CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '0' SECOND) TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = 'max', 'count' = '{count}', 'event_rate' = '{rate}', 'keys' = '{keys}', 'seed' = '1')";
/// The bids as flat rows for DuckDB's table `e`, and their types.
const BIDS: &str = "SELECT (bid).auction, (bid).bidder, (bid).price, (bid).channel, (bid).url, (bid).extra, date_time FROM nexmark WHERE event_type = 2";
const BID_COLUMNS: &str = "{'auction': 'BIGINT', 'bidder': 'BIGINT', 'price': 'BIGINT', 'channel': 'VARCHAR', 'url': 'VARCHAR', 'extra': 'VARCHAR', 'ts': 'TIMESTAMP'}";
const EVENTS: &str = "SELECT k, ts FROM seq";
const EVENT_COLUMNS: &str = "{'k': 'BIGINT', 'ts': 'TIMESTAMP'}";

/// A workload.
struct Work {
    name: &'static str,
    mapping: &'static str,
    keys: u64,
    /// Events of the timed run.
    events: u64,
    /// What runs, in our SQL.
    query: &'static str,
    /// The table for the checked answer, and its columns in DuckDB's words.
    table: (&'static str, &'static str),
    /// The same answer in DuckDB's SQL over `e`.
    answer: &'static str,
    /// Events a CPU-second and whose they are.
    peer: (f64, &'static str),
}

const FLINK: &str = "Flink, not run";
const JET: &str = "Jet, not run";
const STATELESS: u64 = 100_000_000;
const WINDOWED: u64 = 20_000_000;

const WORKS: [Work; 10] = [
    hop("HOP 10 s / 500 ms count, 10^4 keys", 10_000, 5.8e6),
    hop("HOP 10 s / 500 ms count, 10^6 keys", 1_000_000, 0.39e6),
    bids(
        "q0",
        "SELECT (bid).auction, (bid).bidder, (bid).price, date_time FROM nexmark WHERE event_type = 2",
        (
            "auction BIGINT, bidder BIGINT, price BIGINT, ts TIMESTAMP",
            "{'auction': 'BIGINT', 'bidder': 'BIGINT', 'price': 'BIGINT', 'ts': 'TIMESTAMP'}",
        ),
        "SELECT auction, bidder, price, ts FROM e",
        1.15e6,
    ),
    bids(
        "q1",
        "SELECT (bid).auction, (bid).bidder, 0.908 * (bid).price AS price, date_time FROM nexmark WHERE event_type = 2",
        (
            "auction BIGINT, bidder BIGINT, price NUMERIC, ts TIMESTAMP",
            "{'auction': 'BIGINT', 'bidder': 'BIGINT', 'price': 'DECIMAL(30,3)', 'ts': 'TIMESTAMP'}",
        ),
        "SELECT auction, bidder, (0.908 * price)::DECIMAL(30,3) AS price, ts FROM e",
        1.11e6,
    ),
    bids(
        "q2",
        "SELECT (bid).auction, (bid).price FROM nexmark WHERE event_type = 2 AND (bid).auction % 123 = 0",
        ("auction BIGINT, price BIGINT", "{'auction': 'BIGINT', 'price': 'BIGINT'}"),
        "SELECT auction, price FROM e WHERE auction % 123 = 0",
        1.20e6,
    ),
    bids(
        "q14",
        "SELECT (bid).auction, (bid).bidder, 0.908 * (bid).price AS price, CASE WHEN extract(hour FROM date_time) BETWEEN 8 AND 18 THEN 'dayTime' WHEN extract(hour FROM date_time) <= 6 OR extract(hour FROM date_time) >= 20 THEN 'nightTime' ELSE 'otherTime' END AS bid_time_type, date_time, length((bid).extra) - length(replace((bid).extra, 'c', '')) AS c_counts FROM nexmark WHERE event_type = 2 AND 0.908 * (bid).price > 1000000 AND 0.908 * (bid).price < 50000000",
        (
            "auction BIGINT, bidder BIGINT, price NUMERIC, bid_time_type TEXT, ts TIMESTAMP, c_counts BIGINT",
            "{'auction': 'BIGINT', 'bidder': 'BIGINT', 'price': 'DECIMAL(30,3)', 'bid_time_type': 'VARCHAR', 'ts': 'TIMESTAMP', 'c_counts': 'BIGINT'}",
        ),
        "SELECT auction, bidder, (0.908 * price)::DECIMAL(30,3) AS price, CASE WHEN hour(ts) BETWEEN 8 AND 18 THEN 'dayTime' WHEN hour(ts) <= 6 OR hour(ts) >= 20 THEN 'nightTime' ELSE 'otherTime' END, ts, length(extra) - length(replace(extra, 'c', '')) FROM e WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000",
        1.06e6,
    ),
    bids(
        "q21",
        "SELECT (bid).auction, (bid).bidder, (bid).price, (bid).channel, CASE WHEN lower((bid).channel) = 'apple' THEN '0' WHEN lower((bid).channel) = 'google' THEN '1' WHEN lower((bid).channel) = 'facebook' THEN '2' WHEN lower((bid).channel) = 'baidu' THEN '3' ELSE (regexp_match((bid).url, '(&|^)channel_id=([^&]*)'))[2] END AS channel_id FROM nexmark WHERE event_type = 2",
        (
            "auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, channel_id TEXT",
            "{'auction': 'BIGINT', 'bidder': 'BIGINT', 'price': 'BIGINT', 'channel': 'VARCHAR', 'channel_id': 'VARCHAR'}",
        ),
        "SELECT auction, bidder, price, channel, CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3' ELSE nullif(regexp_extract(url, '(&|^)channel_id=([^&]*)', 2), '') END FROM e",
        0.42e6,
    ),
    bids(
        "q22",
        "SELECT (bid).auction, (bid).bidder, (bid).price, (bid).channel, split_part((bid).url, '/', 4) AS dir1, split_part((bid).url, '/', 5) AS dir2, split_part((bid).url, '/', 6) AS dir3 FROM nexmark WHERE event_type = 2",
        (
            "auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, dir1 TEXT, dir2 TEXT, dir3 TEXT",
            "{'auction': 'BIGINT', 'bidder': 'BIGINT', 'price': 'BIGINT', 'channel': 'VARCHAR', 'dir1': 'VARCHAR', 'dir2': 'VARCHAR', 'dir3': 'VARCHAR'}",
        ),
        "SELECT auction, bidder, price, channel, split_part(url, '/', 4), split_part(url, '/', 5), split_part(url, '/', 6) FROM e",
        0.78e6,
    ),
    windowed_bids(
        "bids: HOP 10 s / 2 s count per auction",
        "SELECT auction, window_end, count(*) AS n FROM TABLE(HOP((SELECT * FROM TABLE(IMPOSE_ORDER((SELECT (bid).auction AS auction, date_time FROM nexmark WHERE event_type = 2), DESCRIPTOR(date_time), INTERVAL '0' SECOND))), DESCRIPTOR(date_time), INTERVAL '10' SECOND, INTERVAL '2' SECOND)) GROUP BY auction, window_start, window_end",
        "SELECT auction, make_timestamp((epoch_us(ts) // 2000000 + step) * 2000000) AS window_end, count(*) AS n FROM e, range(1, 6) r(step) GROUP BY ALL",
        0.46e6,
    ),
    windowed_bids(
        "bids: TUMBLE 10 s count per bidder",
        "SELECT bidder, window_end, count(*) AS n FROM TABLE(TUMBLE((SELECT * FROM TABLE(IMPOSE_ORDER((SELECT (bid).bidder AS bidder, date_time FROM nexmark WHERE event_type = 2), DESCRIPTOR(date_time), INTERVAL '0' SECOND))), DESCRIPTOR(date_time), INTERVAL '10' SECOND)) GROUP BY bidder, window_start, window_end",
        "SELECT bidder, make_timestamp((epoch_us(ts) // 10000000 + 1) * 10000000) AS window_end, count(*) AS n FROM e GROUP BY ALL",
        0.64e6,
    ),
];

/// A counted window: key, end, count.
const COUNTS: (&str, &str) = (
    "k BIGINT, window_end TIMESTAMP, n BIGINT",
    "{'k': 'BIGINT', 'window_end': 'TIMESTAMP', 'n': 'BIGINT'}",
);

const fn hop(name: &'static str, keys: u64, jet: f64) -> Work {
    Work {
        name,
        mapping: SEQUENCE,
        keys,
        events: WINDOWED,
        query: "SELECT k, window_end, count(*) AS n FROM TABLE(HOP(TABLE seq, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '500' MILLISECOND)) GROUP BY k, window_start, window_end",
        table: COUNTS,
        answer: "SELECT k, make_timestamp((epoch_us(ts) // 500000 + step) * 500000) AS window_end, count(*) AS n FROM e, range(1, 21) r(step) GROUP BY ALL",
        peer: (jet, JET),
    }
}

const fn bids(
    name: &'static str,
    query: &'static str,
    table: (&'static str, &'static str),
    answer: &'static str,
    flink: f64,
) -> Work {
    let peer = (flink, FLINK);
    Work { name, mapping: NEXMARK, keys: 0, events: STATELESS, query, table, answer, peer }
}

const fn windowed_bids(
    name: &'static str,
    query: &'static str,
    answer: &'static str,
    flink: f64,
) -> Work {
    let peer = (flink, FLINK);
    Work { name, mapping: NEXMARK, keys: 0, events: WINDOWED, query, table: COUNTS, answer, peer }
}

impl Work {
    fn mapping(&self, count: u64) -> String {
        self.mapping
            .replace("{count}", &count.to_string())
            .replace("{rate}", &EVENT_RATE.to_string())
            .replace("{keys}", &self.keys.to_string())
    }
}

fn main() -> Result<()> {
    let only = std::env::var("TIDEWATER_BENCH_ONLY").unwrap_or_default();
    // A share of the events, in percent, for a quick look.
    let share = setting("PERCENT", 100);
    let mut judge = Peer::start(Engine::DuckDb)?;
    report::head(&format!(
        "streams: events from a generator in process into TYPE Discard; answers as DuckDB {}",
        judge.version
    ));
    for work in WORKS.iter().filter(|work| work.name.contains(&only)) {
        check(work, &mut judge).map_err(|error| format!("{}: {error}", work.name))?;
        measure(work, work.events * share / 100)?;
    }
    Ok(())
}

/// Runs the query as a job over 10⁶ events into a table and compares the table with DuckDB's answer.
fn check(work: &Work, judge: &mut Peer) -> Result<()> {
    let ours = Tidewater::start(None, &[])?;
    let wire = Wire::connect(ours.port)?;
    wire.run(&work.mapping(CHECKED_EVENTS))?;
    wire.run(&format!("CREATE TABLE answer ({})", work.table.0))?;
    finish_job(&wire, &format!("CREATE JOB work AS INSERT INTO answer {}", work.query))?;
    let (events, columns) = match work.mapping == NEXMARK {
        true => (BIDS, BID_COLUMNS),
        false => (EVENTS, EVENT_COLUMNS),
    };
    let (input, output) = (scratch("events.csv"), scratch("answer.csv"));
    wire.copy_out(&format!("COPY ({events}) TO STDOUT (FORMAT csv)"), &input)?;
    wire.copy_out("COPY (SELECT * FROM answer) TO STDOUT (FORMAT csv)", &output)?;
    judge.query("DROP TABLE IF EXISTS e")?;
    judge.query(&format!(
        "CREATE TABLE e AS FROM read_csv('{}', header = false, columns = {columns})",
        input.display()
    ))?;
    let same = judge.assert_same_rows(&output, work.table.1, work.answer);
    for file in [input, output] {
        std::fs::remove_file(file)?;
    }
    same
}

/// Runs the query into `TYPE Discard` and prints its line.
fn measure(work: &Work, events: u64) -> Result<()> {
    let ours = Tidewater::start(None, &[])?;
    let wire = Wire::connect(ours.port)?;
    wire.run(&work.mapping(events))?;
    wire.run("CREATE MAPPING sink TYPE Discard")?;
    let cpu = ours.cpu_seconds()?;
    let elapsed =
        finish_job(&wire, &format!("CREATE JOB work AS INSERT INTO sink {}", work.query))?;
    let cpu = ours.cpu_seconds()? - cpu;
    let rows = wire
        .value("SELECT sum(value) FROM sys.metrics WHERE name = 'tidewater_discard_rows_total'")?;
    report::line(&Line {
        work: work.name.to_owned(),
        ours: events as f64 / cpu,
        peer: Some((work.peer.0, work.peer.1.to_owned())),
        unit: "ev/cpu-s",
        is_less_better: false,
        cpu_seconds: cpu,
        rss_bytes: ours.rss_bytes()?,
    });
    report::remark(&format!(
        "{events} events in {:.2} s, {rows} rows out; 10^6 events checked",
        elapsed.as_secs_f64()
    ));
    Ok(())
}

/// Creates the job `work` and waits for its end.
fn finish_job(wire: &Wire, sql: &str) -> Result<Duration> {
    wire.run(sql)?;
    let done = "SELECT status IN ('COMPLETED', 'FAILED') FROM sys.jobs WHERE name = 'work'";
    let elapsed = wire.until_true(done, Duration::from_secs(600))?;
    let status = wire.value(
        "SELECT status || ' ' || coalesce(last_error, '') FROM sys.jobs WHERE name = 'work'",
    )?;
    if status.starts_with("COMPLETED") { Ok(elapsed) } else { Err(status.into()) }
}

/// A file of this run.
fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tidewater-bench-{}-{name}", std::process::id()))
}
