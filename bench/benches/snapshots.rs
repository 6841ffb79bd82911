//! What snapshots cost: windowed jobs with a snapshot every second beside the same jobs without a
//! guarantee, interleaved. Events a CPU-second of the whole server; the peer of a job is itself.
//! Jet loses 11 % at 10⁴ keys and 56 % at 10⁶ on a machine like this one (not run here).

use std::time::Duration;

use tidewater_bench::{
    Result, median,
    report::{self, Line},
    setting,
    tidewater::Tidewater,
    wire::Wire,
};

const ROUNDS: usize = 3;
const SEQUENCE: &str = "CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '0' SECOND) TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = 'max', 'count' = '{count}', 'event_rate' = '100000', 'keys' = '{keys}', 'seed' = '1')";
const HOP: &str = "INSERT INTO sink SELECT k, window_end, count(*) AS n FROM TABLE(HOP(TABLE seq, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '500' MILLISECOND)) GROUP BY k, window_start, window_end";

/// Keys, and events for some ten seconds.
const WORKS: [(&str, u64, u64); 2] = [
    ("HOP 10 s / 500 ms count, 10^4 keys", 10_000, 200_000_000),
    ("… 10^6 keys", 1_000_000, 50_000_000),
];

/// One run of a job.
struct Run {
    events_per_cpu_second: f64,
    cpu_seconds: f64,
    rss_bytes: u64,
    snapshots: f64,
    seconds: f64,
}

fn main() -> Result<()> {
    let share = setting("PERCENT", 100);
    report::head(
        "snapshots: a job with one every second beside the same without; peer is ours without",
    );
    for (name, keys, events) in WORKS {
        let events = events * share / 100;
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            without.push(run("none", keys, events)?);
            with.push(run("exactlyOnce", keys, events)?);
        }
        let middle =
            |runs: &[Run]| median(runs.iter().map(|run| run.events_per_cpu_second).collect());
        let (ours, plain) = (middle(&with), middle(&without));
        let last = &with[with.len() - 1];
        report::line(&Line {
            work: name.to_owned(),
            ours,
            peer: Some((plain, "ours, guarantee none".to_owned())),
            unit: "ev/cpu-s",
            is_less_better: false,
            cpu_seconds: last.cpu_seconds,
            rss_bytes: last.rss_bytes,
        });
        report::remark(&format!(
            "{:.1} % lost; {} snapshots in {:.1} s; rss without {} MiB",
            (1.0 - ours / plain) * 100.0,
            last.snapshots,
            last.seconds,
            without[0].rss_bytes >> 20
        ));
    }
    Ok(())
}

fn run(guarantee: &str, keys: u64, events: u64) -> Result<Run> {
    let ours = Tidewater::start(None, &[])?;
    let wire = Wire::connect(ours.port)?;
    let mapping = SEQUENCE.replace("{count}", &events.to_string());
    wire.run(&mapping.replace("{keys}", &keys.to_string()))?;
    wire.run("CREATE MAPPING sink TYPE Discard")?;
    let before = ours.cpu_seconds()?;
    wire.run(&format!("CREATE JOB work OPTIONS ('processingGuarantee' = '{guarantee}') AS {HOP}"))?;
    let done = "SELECT status IN ('COMPLETED', 'FAILED') FROM sys.jobs";
    let elapsed = wire.until_true(done, Duration::from_secs(300))?;
    let status = wire.value("SELECT status || ' ' || coalesce(last_error, '') FROM sys.jobs")?;
    if !status.starts_with("COMPLETED") {
        return Err(status.into());
    }
    let cpu_seconds = ours.cpu_seconds()? - before;
    let snapshots = wire.value("SELECT coalesce(last_snapshot_id, 0) FROM sys.jobs")?;
    Ok(Run {
        events_per_cpu_second: events as f64 / cpu_seconds,
        cpu_seconds,
        rss_bytes: ours.rss_bytes()?,
        snapshots: snapshots.parse()?,
        seconds: elapsed.as_secs_f64(),
    })
}
