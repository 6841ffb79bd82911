//! What snapshots cost: windowed jobs with a snapshot every second beside the same jobs without a
//! guarantee, interleaved. Events a CPU-second of the whole server; the peer of a job is itself.
//! Then how long a snapshot takes, how long a call of a processor holds up its worker meanwhile, what
//! two kept snapshots take beside the live state, and how long nothing comes out when the execution
//! is lost. Jet loses 11 % at 10⁴ keys and 56 % at 10⁶
//! on a machine like this one (not run here).

use std::time::Duration;

use tidewater_bench::{
    Result, median, now,
    report::{self, Line},
    setting,
    tidewater::Tidewater,
    wire::Wire,
};

const ROUNDS: usize = 3;
const SEQUENCE: &str = "CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '0' SECOND) TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = 'max', 'count' = '{count}', 'event_rate' = '{event_rate}', 'keys' = '{keys}', 'seed' = '1')";
const HOP: &str = "INSERT INTO sink SELECT k, window_end, count(*) AS n FROM TABLE(HOP(TABLE seq, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '500' MILLISECOND)) GROUP BY k, window_start, window_end";

/// Keys, and events for some ten seconds.
const WORKS: [(&str, u64, u64); 2] = [
    ("HOP 10 s / 500 ms count, 10^4 keys", 10_000, 200_000_000),
    ("… 10^6 keys", 1_000_000, 50_000_000),
];
/// Keys of the runs whose pauses are compared.
const PAUSE_KEYS: [u64; 3] = [100_000, 1_000_000, 10_000_000];
/// So many events of event time a second, so that a window of 10 s sees most keys twice.
const EVENTS_PER_KEY_AND_SECOND: f64 = 0.2;
const EVENT_RATE: u64 = 100_000;
/// All keys of it stand in one window that never closes; then one in a hundred changes each second.
const FILL: &str = "CREATE MAPPING fill (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP) TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = 'max', 'count' = '5000000', 'keys' = '1000000', 'seed' = '1')";
const TOUCH: &str = "CREATE MAPPING touch (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP) TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '10000', 'event_rate' = '100000', 'keys' = '1000000', 'seed' = '2')";
const KEEP: &str = "CREATE JOB work OPTIONS ('processingGuarantee' = 'exactlyOnce') AS INSERT INTO sink \
     SELECT k, window_end, count(*) AS n FROM TABLE(TUMBLE(TABLE(IMPOSE_ORDER( \
     TABLE(SELECT k, ts FROM fill UNION ALL SELECT k, ts FROM touch), DESCRIPTOR(ts), INTERVAL '36500' DAY)), \
     DESCRIPTOR(ts), INTERVAL '36500' DAY)) GROUP BY k, window_start, window_end";
/// The snapshot after which an execution is lost.
const LOST_AFTER: u64 = 1;

/// One run of a job.
struct Run {
    events_per_cpu_second: f64,
    cpu_seconds: f64,
    rss_bytes: u64,
    snapshots: f64,
    seconds: f64,
    /// The longest call of a processor, ms.
    longest_call: f64,
    /// The longest that a snapshot held one up at a stretch, ms.
    longest_save: f64,
    /// Of the slowest snapshot seen: ms from barrier to commit, and its bytes.
    slowest: (f64, f64),
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
            without.push(run("none", keys, events, EVENT_RATE)?);
            with.push(run("exactlyOnce", keys, events, EVENT_RATE)?);
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
    for keys in PAUSE_KEYS {
        let events = 50_000_000 * share / 100;
        let event_rate = EVENT_RATE.max((keys as f64 * EVENTS_PER_KEY_AND_SECOND) as u64);
        let without = run("none", keys, events, event_rate)?;
        let with = run("exactlyOnce", keys, events, event_rate)?;
        let (millis, bytes) = with.slowest;
        report::remark(&format!(
            "{keys} keys: longest pause for a snapshot {:.2} ms; longest call {:.1} ms, without snapshots {:.1} ms; slowest snapshot {millis:.0} ms for {:.1} MB",
            with.longest_save,
            with.longest_call,
            without.longest_call,
            bytes / 1e6
        ));
    }
    kept_memory()?;
    lost_and_back()
}

/// What two kept snapshots take, with one key in a hundred changed between them.
fn kept_memory() -> Result<()> {
    const SNAPSHOTS: u64 = 5;
    let ours = Tidewater::start(None, &[])?;
    let wire = Wire::connect(ours.port)?;
    for sql in [FILL, TOUCH, "CREATE MAPPING sink TYPE Discard", KEEP] {
        wire.run(sql)?;
    }
    let rows_in = "SELECT coalesce(sum(rows_in), 0) > 5000000 FROM sys.job_vertices WHERE description LIKE '%(window%'";
    wire.until_true(rows_in, Duration::from_secs(60))?;
    let newest: u64 = wire.value("SELECT coalesce(max(id), 0) FROM sys.snapshots")?.parse()?;
    let (mut kept, mut changed) = (0.0_f64, 0.0);
    loop {
        let number = |sql: &str| -> Result<f64> { Ok(wire.value(sql)?.parse()?) };
        let id = number("SELECT coalesce(max(id), 0) FROM sys.snapshots")? as u64;
        let bytes = "SELECT value::BIGINT FROM sys.metrics WHERE name = 'tidewater_snapshot_bytes'";
        if id > newest + 1 {
            // The first one after the rows holds all of them.
            kept = kept.max(number(bytes)?);
            changed = number("SELECT max(bytes) FROM sys.snapshots")?;
        }
        if id > newest + SNAPSHOTS {
            break;
        }
        wire.pause(Duration::from_millis(100));
    }
    let live = "SELECT sum(state_bytes) FROM sys.job_vertices";
    report::line(&Line {
        work: "bytes of two kept snapshots, 1 % changed".to_owned(),
        ours: kept,
        peer: Some((wire.value(live)?.parse()?, "live state".to_owned())),
        unit: "B",
        is_less_better: true,
        cpu_seconds: ours.cpu_seconds()?,
        rss_bytes: ours.rss_bytes()?,
    });
    report::remark(&format!("a snapshot of {:.1} MB, the most at any time counted", changed / 1e6));
    Ok(())
}

fn start(keys: u64, events: u64, event_rate: u64, arguments: &[&str]) -> Result<(Tidewater, Wire)> {
    let ours = Tidewater::start(None, arguments)?;
    let wire = Wire::connect(ours.port)?;
    let mapping = SEQUENCE.replace("{count}", &events.to_string());
    let mapping = mapping.replace("{event_rate}", &event_rate.to_string());
    wire.run(&mapping.replace("{keys}", &keys.to_string()))?;
    wire.run("CREATE MAPPING sink TYPE Discard")?;
    Ok((ours, wire))
}

fn run(guarantee: &str, keys: u64, events: u64, event_rate: u64) -> Result<Run> {
    let (ours, wire) = start(keys, events, event_rate, &[])?;
    let before = ours.cpu_seconds()?;
    let begin = now();
    wire.run(&format!("CREATE JOB work OPTIONS ('processingGuarantee' = '{guarantee}') AS {HOP}"))?;
    let number = |sql: &str| -> Result<f64> { Ok(wire.value(sql)?.parse()?) };
    let (mut longest_call, mut longest_save, mut slowest) = (0.0_f64, 0.0_f64, (0.0, 0.0));
    while wire.value("SELECT status IN ('COMPLETED', 'FAILED') FROM sys.jobs")? != "t" {
        let longest = "SELECT coalesce(max(longest_call_ms), 0) FROM sys.job_vertices";
        longest_call = longest_call.max(number(longest)?);
        longest_save = longest_save.max(number(&longest.replace("call", "save"))?);
        let (rows, _) = wire.rows("SELECT extract(epoch FROM committed_at - started_at) * 1000, bytes FROM sys.snapshots ORDER BY 1 DESC LIMIT 1")?;
        if let Some([millis, bytes]) = rows.first().map(Vec::as_slice) {
            let (millis, bytes): (f64, f64) = (millis.parse()?, bytes.parse()?);
            slowest = if millis > slowest.0 { (millis, bytes) } else { slowest };
        }
        wire.pause(Duration::from_millis(200));
    }
    let seconds = begin.elapsed().as_secs_f64();
    let status = wire.value("SELECT status || ' ' || coalesce(last_error, '') FROM sys.jobs")?;
    if !status.starts_with("COMPLETED") {
        return Err(status.into());
    }
    let cpu_seconds = ours.cpu_seconds()? - before;
    Ok(Run {
        events_per_cpu_second: events as f64 / cpu_seconds,
        cpu_seconds,
        rss_bytes: ours.rss_bytes()?,
        snapshots: number("SELECT coalesce(last_snapshot_id, 0) FROM sys.jobs")?,
        seconds,
        longest_call,
        longest_save,
        slowest,
    })
}

/// The execution is lost after a snapshot; how long no row comes out then, beside how long none
/// comes before.
fn lost_and_back() -> Result<()> {
    let config = std::env::temp_dir().join(format!("tidewater-bench-{}.toml", std::process::id()));
    std::fs::write(&config, format!("failpoint = \"snapshot.told:{LOST_AFTER}\"\n"))?;
    let started =
        start(1_000_000, 50_000_000, EVENT_RATE, &["--config", &config.to_string_lossy()]);
    let removed = std::fs::remove_file(&config);
    let (ours, wire) = started?;
    removed?;
    wire.run(&format!("CREATE JOB work OPTIONS ('processingGuarantee' = 'exactlyOnce') AS {HOP}"))?;
    let rows_out = "SELECT coalesce(sum(value), 0)::BIGINT FROM sys.metrics WHERE name = 'tidewater_discard_rows_total'";
    let (mut last, mut changed_at) = (wire.value(rows_out)?, now());
    // The longest time without a row in executions 0 and 1.
    let mut gaps = [0.0_f64; 2];
    loop {
        let (rows, _) = wire.rows("SELECT restarts, status FROM sys.jobs")?;
        let [restarts, status] = rows.first().map(Vec::as_slice).ok_or("no job")? else {
            return Err("no job".into());
        };
        let restarts = restarts.parse::<usize>()?.min(1);
        let value = wire.value(rows_out)?;
        if value != last {
            if last != "0" {
                gaps[restarts] = gaps[restarts].max(changed_at.elapsed().as_secs_f64());
            }
            (last, changed_at) = (value, now());
        }
        if status == "COMPLETED" || status == "FAILED" {
            break;
        }
        wire.pause(Duration::from_millis(1));
    }
    if wire.value("SELECT restarts FROM sys.jobs")? == "0" {
        return Err("the execution was not lost".into());
    }
    report::line(&Line {
        work: "execution lost, 10^6 keys: seconds without a row".to_owned(),
        ours: gaps[1],
        peer: Some((6.0, "Flink tuned, not run".to_owned())),
        unit: "s",
        is_less_better: true,
        cpu_seconds: ours.cpu_seconds()?,
        rss_bytes: ours.rss_bytes()?,
    });
    report::remark(&format!("before the loss at most {:.3} s", gaps[0]));
    Ok(())
}
