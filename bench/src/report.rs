//! The lines a benchmark prints, in columns a person can read and a script can cut.

/// One measured workload.
#[derive(Debug, Clone)]
pub struct Line {
    /// What was done.
    pub work: String,
    /// Our figure.
    pub ours: f64,
    /// The peer's, and whose it is; `None` where nothing comparable exists.
    pub peer: Option<(f64, String)>,
    /// Unit of both.
    pub unit: &'static str,
    /// Whether less is better (times, bytes).
    pub is_less_better: bool,
    /// CPU-seconds of our whole server during it.
    pub cpu_seconds: f64,
    /// Resident bytes of our server after it.
    pub rss_bytes: u64,
}

/// Prints the column heads.
#[expect(clippy::print_stdout, reason = "a report is what a benchmark is for")]
pub fn head(title: &str) {
    println!("\n{title}");
    println!(
        "{:<44} {:>12} {:>12} {:>7}  {:<14} {:>8} {:>8}  peer",
        "work", "ours", "peer", "ratio", "unit", "cpu s", "rss MiB"
    );
}

/// Prints one line; the ratio is above 1 where we are better.
#[expect(clippy::print_stdout, reason = "a report is what a benchmark is for")]
pub fn line(line: &Line) {
    let number = |value: f64| match value.abs() {
        size if size >= 1_000_000.0 => format!("{:.2} M", value / 1e6),
        size if size >= 10_000.0 => format!("{:.1} k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    };
    let (peer, ratio, whose) = match &line.peer {
        Some((value, whose)) => {
            let ratio = if line.is_less_better { value / line.ours } else { line.ours / value };
            (number(*value), format!("{ratio:.2}"), whose.as_str())
        }
        None => ("-".to_owned(), "-".to_owned(), "none"),
    };
    println!(
        "{:<44} {:>12} {:>12} {:>7}  {:<14} {:>8.2} {:>8}  {whose}",
        line.work,
        number(line.ours),
        peer,
        ratio,
        line.unit,
        line.cpu_seconds,
        line.rss_bytes >> 20
    );
}

/// Prints a remark.
#[expect(clippy::print_stdout, reason = "a report is what a benchmark is for")]
pub fn remark(text: &str) {
    println!("  {text}");
}
