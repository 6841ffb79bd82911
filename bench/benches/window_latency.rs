//! From a window's end on the wall clock to the last row of that window at a client on the wire:
//! 200 k events a second, 10⁴ keys, HOP 10 s / 20 ms, lag 0. Jet is not run: its figures are quoted.
//! The machine's own hiccups are printed beside: the longest gaps of a thread that only reads the clock.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use futures::TryStreamExt;
use tidewater_bench::{
    Result, now,
    report::{self, Line},
    setting,
    tidewater::Tidewater,
    wire::Wire,
};
use tokio_postgres::{NoTls, SimpleQueryMessage};

fn main() -> Result<()> {
    let seconds = setting("SECONDS", 60);
    let ours = Tidewater::start(None, &[])?;
    let wire = Wire::connect(ours.port)?;
    wire.run(
        "CREATE MAPPING ticks (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '0' SECOND) \
         TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '200000', 'keys' = '10000', 'seed' = '1')",
    )?;
    let stop = Arc::new(AtomicBool::new(false));
    let hiccups = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || longest_gaps(&stop)
    });
    let cpu = ours.cpu_seconds()?;
    // Only the largest key of each window is sent, so that the client is not what is measured; a
    // window's rows leave together, so that row stands for the last one.
    let sql = "SELECT (extract(epoch FROM window_end) * 1000000)::BIGINT AS e, count(*) AS n \
               FROM TABLE(HOP(TABLE ticks, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '20' MILLISECOND)) \
               GROUP BY k, window_start, window_end HAVING k = 9999";
    let mut delays = latencies(ours.port, sql, seconds)?;
    let cpu = ours.cpu_seconds()? - cpu;
    stop.store(true, Ordering::Relaxed);
    let gaps = hiccups.join().map_err(|_| "the clock reader failed")?;
    // The first seconds hold windows that ended before the query began.
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
    report::head(&format!(
        "window latency: 200 k events/s, 10^4 keys, HOP 10 s / 20 ms, {seconds} s"
    ));
    for (name, share, jet) in [("p50", 0.5, 2.0), ("p99", 0.99, 50.0), ("p99.9", 0.999, 127.0)] {
        report::line(&Line {
            work: format!("window end to last row, {name}"),
            ours: at(share),
            peer: Some((jet, "Jet, not run".to_owned())),
            unit: "ms",
            is_less_better: true,
            cpu_seconds: cpu,
            rss_bytes: ours.rss_bytes()?,
        });
    }
    report::remark(&format!(
        "{} windows; the machine's own five longest gaps, ms: {gaps:.1?}",
        delays.len()
    ));
    Ok(())
}

/// Milliseconds from each window's end to its row's arrival.
fn latencies(port: u16, sql: &str, seconds: u64) -> Result<Vec<f64>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let target = format!("host=127.0.0.1 port={port} user=bench dbname=bench");
        let (client, connection) = tokio_postgres::connect(&target, NoTls).await?;
        tokio::spawn(connection);
        let begin = now();
        let rows = client.simple_query_raw(sql).await?;
        let mut rows = std::pin::pin!(rows);
        let mut last: BTreeMap<i64, f64> = BTreeMap::new();
        while begin.elapsed().as_secs() < seconds {
            let Some(message) = rows.try_next().await? else { break };
            let SimpleQueryMessage::Row(row) = message else { continue };
            let end: i64 = row.get(0).ok_or("no window end")?.parse()?;
            let wall = wall_micros();
            if begin.elapsed().as_secs() >= 12 {
                last.insert(end, (wall - end) as f64 / 1000.0);
            }
        }
        let delays: Vec<f64> = last.into_values().collect();
        if delays.is_empty() { Err("no window arrived".into()) } else { Ok(delays) }
    })
}

#[expect(clippy::disallowed_methods, reason = "window ends are wall-clock times")]
fn wall_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// The five longest times, in ms, that this thread was not run.
fn longest_gaps(stop: &AtomicBool) -> Vec<f64> {
    let mut gaps = vec![0.0; 5];
    let mut last = now();
    while !stop.load(Ordering::Relaxed) {
        std::thread::park_timeout(std::time::Duration::from_millis(1));
        let gap = last.elapsed().as_secs_f64() * 1000.0 - 1.0;
        last = now();
        if gap > gaps[0] {
            gaps[0] = gap;
            gaps.sort_by(f64::total_cmp);
        }
    }
    gaps
}
