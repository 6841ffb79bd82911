//! Workloads, peers beside us, reports. Every benchmark sends a user's SQL over the wire to the
//! release binary; no code exists in the server for benchmarks alone.
//!
//! ```text
//! cargo build --release && cargo bench --bench point_rows     one benchmark
//! ```
//! Each prints a line per workload: ours, the peer's, the ratio, CPU-seconds and memory of the whole
//! server. Where both run, they run interleaved in rounds and the median counts.

pub mod pgbench;
pub mod postgres;
pub mod process;
pub mod python;
pub mod raw;
pub mod report;
pub mod tidewater;
pub mod wire;

/// The machine's clock: benchmarks measure real time, from outside the server.
#[expect(clippy::disallowed_methods, reason = "benchmarks measure real time")]
pub fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// The result of a benchmark; any failure ends it with its text.
pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// The median of an odd number of rounds (the lower middle of an even one).
pub fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "a median needs rounds");
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

/// A whole number from the environment (`TIDEWATER_BENCH_ROWS=100000`), or the default.
pub fn setting(name: &str, default: u64) -> u64 {
    let key = format!("TIDEWATER_BENCH_{name}");
    std::env::var(key).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn median_of_rounds_ignores_the_outlier() {
        assert_eq!(median(vec![3.0, 100.0, 1.0]), 3.0);
    }
}
