//! Time as a value: the machine's clock, and a simulated twin that only moves when told.

use std::sync::atomic::{AtomicI64, Ordering};

/// Where time comes from.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Wall-clock time in µs since the Unix epoch.
    fn now_micros(&self) -> i64;
    /// A clock that never goes back, in ns since an arbitrary origin.
    fn monotonic_nanos(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: std::time::Instant,
}

/// A clock that stands still until [`SimClock::advance`] is called.
#[derive(Debug)]
pub struct SimClock {
    /// µs since the Unix epoch; written by the test, read by everybody.
    micros: AtomicI64,
}

impl Default for SystemClock {
    fn default() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the door the others must use")]
        Self { origin: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now_micros(&self) -> i64 {
        #[expect(clippy::disallowed_methods, reason = "this is the door the others must use")]
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        since.as_micros() as i64
    }

    fn monotonic_nanos(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

impl SimClock {
    /// A clock that shows `micros` since the Unix epoch.
    pub fn at(micros: i64) -> Self {
        Self { micros: AtomicI64::new(micros) }
    }

    /// Moves time forward.
    pub fn advance(&self, micros: i64) {
        self.micros.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now_micros(&self) -> i64 {
        self.micros.load(Ordering::SeqCst)
    }

    fn monotonic_nanos(&self) -> u64 {
        self.now_micros() as u64 * 1000
    }
}
