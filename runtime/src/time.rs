//! Event time: watermark policy of a source, lag, idleness, rows too far in the future.

/// µs since the Unix epoch.
pub type EventTime = i64;

/// How event time is drawn from rows: `WATERMARK FOR column AS column - lag` and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTimePolicy {
    /// Position of the time column in the rows the source emits.
    pub time_column: usize,
    /// How far behind the newest row the watermark stays, µs.
    pub lag: i64,
    /// A connected input at its end is left out after this silence, µs.
    pub idle_timeout: i64,
    /// A row further ahead of the wall clock than this does not advance time (treated as late), µs.
    pub max_future: Option<i64>,
}

/// Default of `idle_timeout`.
pub const IDLE_TIMEOUT_DEFAULT: i64 = 5_000_000;
