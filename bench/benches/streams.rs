//! Streams from a generator in process into `TYPE Discard`: windows and stateless Nexmark queries.
//! Events a CPU-second of the whole server, generator included. Jet and Flink are not run here: the
//! peer column quotes figures measured on a machine like this one.

use std::time::Duration;

use tidewater_bench::{
    Result,
    report::{self, Line},
    setting,
    tidewater::Tidewater,
    wire::Wire,
};

const NEXMARK: &str = "CREATE MAPPING nexmark TYPE Generator OPTIONS ('kind' = 'nexmark', 'rate' = 'max', 'count' = '{count}', 'event_rate' = '{rate}', 'seed' = '1')";
/// 4-bigint events.
const SEQUENCE: &str = "CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '0' SECOND) TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = 'max', 'count' = '{count}', 'event_rate' = '{rate}', 'keys' = '{keys}', 'seed' = '1')";

/// A workload: name, mapping text, event rate, keys, query, peer's figure in events a CPU-second.
struct Work {
    name: &'static str,
    mapping: &'static str,
    event_rate: u64,
    keys: u64,
    query: &'static str,
    peer: (f64, &'static str),
}

const FLINK: &str = "Flink, not run";
const JET: &str = "Jet, not run";

const WORKS: [Work; 10] = [
    window("HOP 10 s / 500 ms count, 10^4 keys", 10_000, (5.8e6, JET)),
    window("HOP 10 s / 500 ms count, 10^6 keys", 1_000_000, (0.39e6, JET)),
    bids(
        "q0",
        "SELECT (bid).auction, (bid).bidder, (bid).price, date_time FROM nexmark WHERE event_type = 2",
        1.15e6,
    ),
    bids(
        "q1",
        "SELECT (bid).auction, (bid).bidder, 0.908 * (bid).price AS price, date_time FROM nexmark WHERE event_type = 2",
        1.11e6,
    ),
    bids(
        "q2",
        "SELECT (bid).auction, (bid).price FROM nexmark WHERE event_type = 2 AND (bid).auction % 123 = 0",
        1.20e6,
    ),
    bids(
        "q14",
        "SELECT (bid).auction, (bid).bidder, 0.908 * (bid).price AS price, CASE WHEN extract(hour FROM date_time) BETWEEN 8 AND 18 THEN 'dayTime' WHEN extract(hour FROM date_time) <= 6 OR extract(hour FROM date_time) >= 20 THEN 'nightTime' ELSE 'otherTime' END AS bid_time_type, date_time, length((bid).extra) - length(replace((bid).extra, 'c', '')) AS c_counts FROM nexmark WHERE event_type = 2 AND 0.908 * (bid).price > 1000000 AND 0.908 * (bid).price < 50000000",
        1.06e6,
    ),
    bids(
        "q21",
        "SELECT (bid).auction, (bid).bidder, (bid).price, (bid).channel, CASE WHEN lower((bid).channel) = 'apple' THEN '0' WHEN lower((bid).channel) = 'google' THEN '1' WHEN lower((bid).channel) = 'facebook' THEN '2' WHEN lower((bid).channel) = 'baidu' THEN '3' ELSE (regexp_match((bid).url, '(&|^)channel_id=([^&]*)'))[2] END AS channel_id FROM nexmark WHERE event_type = 2",
        0.42e6,
    ),
    bids(
        "q22",
        "SELECT (bid).auction, (bid).bidder, (bid).price, (bid).channel, split_part((bid).url, '/', 4) AS dir1, split_part((bid).url, '/', 5) AS dir2, split_part((bid).url, '/', 6) AS dir3 FROM nexmark WHERE event_type = 2",
        0.78e6,
    ),
    windowed_bids(
        "bids: HOP 10 s / 2 s count per auction",
        "SELECT auction, window_end, count(*) AS n FROM TABLE(HOP((SELECT * FROM TABLE(IMPOSE_ORDER((SELECT (bid).auction AS auction, date_time FROM nexmark WHERE event_type = 2), DESCRIPTOR(date_time), INTERVAL '0' SECOND))), DESCRIPTOR(date_time), INTERVAL '10' SECOND, INTERVAL '2' SECOND)) GROUP BY auction, window_start, window_end",
        0.46e6,
    ),
    windowed_bids(
        "bids: TUMBLE 10 s count per bidder",
        "SELECT bidder, window_end, count(*) AS n FROM TABLE(TUMBLE((SELECT * FROM TABLE(IMPOSE_ORDER((SELECT (bid).bidder AS bidder, date_time FROM nexmark WHERE event_type = 2), DESCRIPTOR(date_time), INTERVAL '0' SECOND))), DESCRIPTOR(date_time), INTERVAL '10' SECOND)) GROUP BY bidder, window_start, window_end",
        0.64e6,
    ),
];

const fn window(name: &'static str, keys: u64, peer: (f64, &'static str)) -> Work {
    let query = "SELECT k, window_end, count(*) AS n FROM TABLE(HOP(TABLE seq, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '500' MILLISECOND)) GROUP BY k, window_start, window_end";
    Work { name, mapping: SEQUENCE, event_rate: 1_000_000, keys, query, peer }
}

const fn bids(name: &'static str, query: &'static str, peer: f64) -> Work {
    Work { name, mapping: NEXMARK, event_rate: 100_000_000, keys: 0, query, peer: (peer, FLINK) }
}

const fn windowed_bids(name: &'static str, query: &'static str, peer: f64) -> Work {
    Work { name, mapping: NEXMARK, event_rate: 20_000_000, keys: 0, query, peer: (peer, FLINK) }
}

fn main() -> Result<()> {
    let count = setting("EVENTS", 50_000_000);
    report::head(&format!("streams: {count} events from a generator in process into TYPE Discard"));
    for work in &WORKS {
        run(work, count)?;
    }
    Ok(())
}

fn run(work: &Work, count: u64) -> Result<()> {
    let ours = Tidewater::start(None, &[])?;
    let wire = Wire::connect(ours.port)?;
    let mapping = work
        .mapping
        .replace("{count}", &count.to_string())
        .replace("{rate}", &work.event_rate.to_string())
        .replace("{keys}", &work.keys.to_string());
    wire.run(&mapping)?;
    let columns = wire.rows(&format!("EXPLAIN {}", work.query)).map(|(rows, _)| rows.len())?;
    assert!(columns > 0, "no plan for {}", work.name);
    wire.run("CREATE MAPPING sink TYPE Discard")?;
    let cpu = ours.cpu_seconds()?;
    wire.run(&format!("CREATE JOB work AS INSERT INTO sink {}", work.query))?;
    let done = "SELECT status = 'COMPLETED' FROM sys.jobs WHERE name = 'work'";
    wire.until_true(done, Duration::from_secs(300))?;
    let cpu = ours.cpu_seconds()? - cpu;
    let rows = wire
        .value("SELECT sum(value) FROM sys.metrics WHERE name = 'tidewater_discard_rows_total'")?;
    report::line(&Line {
        work: work.name.to_owned(),
        ours: count as f64 / cpu,
        peer: Some((work.peer.0, work.peer.1.to_owned())),
        unit: "ev/cpu-s",
        is_less_better: false,
        cpu_seconds: cpu,
        rss_bytes: ours.rss_bytes()?,
    });
    report::remark(&format!("{rows} rows out"));
    Ok(())
}
