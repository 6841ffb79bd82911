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

use tidewater_bench::{
    Result, now,
    raw::RawRows,
    report::{self, Line},
    setting,
    tidewater::Tidewater,
    wire::Wire,
};

/// Microseconds a day.
const DAY: i64 = 86_400_000_000;
/// 12 s of windows every 20 ms: until the first full window has passed.
const WARM_UP_WINDOWS: usize = 600;

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
    let sql = "SELECT window_end, k, count(*) AS n \
               FROM TABLE(HOP(TABLE ticks, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '20' MILLISECOND)) \
               GROUP BY k, window_start, window_end";
    let (mut delays, rows) = latencies(ours.port, sql, seconds)?;
    let cpu = ours.cpu_seconds()? - cpu;
    stop.store(true, Ordering::Relaxed);
    let gaps = hiccups.join().map_err(|_| "the clock reader failed")?;
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
        "{} windows, {rows} rows; the machine's own five longest gaps, ms: {gaps:.1?}",
        delays.len()
    ));
    Ok(())
}

/// Milliseconds from each window's end to the arrival of its last row, and rows received in all.
fn latencies(port: u16, sql: &str, seconds: u64) -> Result<(Vec<f64>, u64)> {
    let begin = now();
    let mut rows = RawRows::start(port, sql)?;
    let mut last_arrival: BTreeMap<i64, i64> = BTreeMap::new();
    let (mut total, mut text) = (0u64, Vec::new());
    while begin.elapsed().as_secs() < seconds {
        let mut ends = Vec::new();
        // The first row of a piece may go on with the window of the one before.
        text.clear();
        let is_open = rows.read(|window_end| {
            total += 1;
            if text != window_end {
                text.clear();
                text.extend_from_slice(window_end);
                ends.push(micros_of_day(window_end));
            }
        })?;
        let wall = wall_micros() % DAY;
        for end in ends {
            last_arrival.insert(end, wall);
        }
        if !is_open {
            return Err("the server closed the connection".into());
        }
    }
    // The last window may be cut off; the first ones ended before the query began.
    last_arrival.pop_last();
    let delays = last_arrival.into_iter().skip(WARM_UP_WINDOWS);
    let delays: Vec<f64> =
        delays.map(|(end, wall)| (wall - end).rem_euclid(DAY) as f64 / 1000.0).collect();
    if delays.is_empty() { Err("no window arrived".into()) } else { Ok((delays, total)) }
}

/// `2026-01-31 14:05:06.78` as microseconds since midnight.
fn micros_of_day(text: &[u8]) -> i64 {
    let digits = |from: usize, to: usize| {
        let digits = text.get(from..to).unwrap_or_default();
        digits.iter().fold(0i64, |number, digit| number * 10 + i64::from(digit - b'0'))
    };
    let mut micros = 0;
    for place in 0..6 {
        let digit = text.get(20 + place).map_or(0, |digit| i64::from(digit - b'0'));
        micros = micros * 10 + digit;
    }
    ((digits(11, 13) * 60 + digits(14, 16)) * 60 + digits(17, 19)) * 1_000_000 + micros
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
