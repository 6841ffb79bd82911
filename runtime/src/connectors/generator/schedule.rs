//! `Schedule`: when event number n is due on the wall clock, and what its event time is. Both are
//! straight lines in n, so a watermark can name the time of the next event exactly.

use super::random::Stream;

const SECOND: u64 = 1_000_000;

/// Due times are rounded to this, µs: rows of one millisecond travel in one batch.
const QUANTUM: u64 = 1_000;

/// The time of event 0 unless event time follows the wall clock: 2015-07-15 00:00 UTC, Nexmark's.
pub const BASE_TIME: i64 = 1_436_918_400_000_000;

/// The two lines.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Events a second of wall clock; `None`: as fast as they can be made; 0: never.
    pub rate: Option<u64>,
    /// Events a second of event time, ≥ 1.
    pub event_rate: u64,
    /// Event time of event 0, µs; `None` until the first instance starts: the wall clock's then.
    pub base: Option<i64>,
    /// Wall clock at which event 0 was due, µs.
    pub start: i64,
    /// Each event is earlier than its turn by up to this, µs.
    pub lag: u64,
    /// Draws by how much.
    pub delay: Stream,
}

impl Schedule {
    /// How many events are due at wall clock `now`.
    pub fn due(&self, now: i64) -> u64 {
        let Some(rate) = self.rate else { return u64::MAX };
        if rate == 0 || now < self.start {
            return 0;
        }
        let elapsed = (now - self.start) as u64 / QUANTUM * QUANTUM;
        let events = u128::from(elapsed) * u128::from(rate) / u128::from(SECOND);
        u64::try_from(events).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// The wall clock at which event `n` becomes due; `None`: it never does, or always is.
    pub fn due_at(&self, n: u64) -> Option<i64> {
        let rate = self.rate.filter(|rate| *rate > 0)?;
        let micros = (u128::from(n) * u128::from(SECOND)).div_ceil(u128::from(rate));
        let rounded = micros.div_ceil(u128::from(QUANTUM)) * u128::from(QUANTUM);
        self.start.checked_add(i64::try_from(rounded).ok()?)
    }

    /// The event time of number `n`, before its delay: no later event is earlier than this − lag.
    pub fn time_of(&self, n: u64) -> i64 {
        let (seconds, rest) = (n / self.event_rate, n % self.event_rate);
        let micros = u128::from(rest) * u128::from(SECOND) / u128::from(self.event_rate);
        let offset = (seconds.wrapping_mul(SECOND)).wrapping_add(micros as u64);
        self.base.unwrap_or(self.start).wrapping_add(offset as i64)
    }

    /// The event times of `length` numbers from `first` on, into `times`.
    ///
    /// One division for all: quotient and remainder of n·10⁶/rate are carried along.
    pub fn times(&self, first: u64, length: usize, times: &mut Vec<i64>) {
        times.clear();
        times.reserve(length);
        let rate = self.event_rate;
        let (step, step_rest) = ((SECOND / rate) as i64, SECOND % rate);
        let mut time = self.time_of(first);
        let mut rest = (u128::from(first % rate) * u128::from(SECOND) % u128::from(rate)) as u64;
        for _ in 0..length {
            times.push(time);
            rest += step_rest;
            time += step + i64::from(rest >= rate);
            rest -= if rest >= rate { rate } else { 0 };
        }
        if self.lag > 0 {
            for (index, time) in times.iter_mut().enumerate() {
                *time -= self.delay.below(first + index as u64, self.lag + 1) as i64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: Option<u64>, event_rate: u64, lag: u64) -> Schedule {
        let delay = Stream::new(1, 0);
        Schedule { rate, event_rate, base: Some(BASE_TIME), start: 1_000_000, lag, delay }
    }

    #[test]
    fn times_carried_along_equal_times_computed() {
        for rate in [1, 3, 7, 1000, 999_983, 1_000_000, 30_000_001] {
            let schedule = schedule(None, rate, 0);
            for first in [0, 1, 12_345, 1 << 40] {
                let mut times = Vec::new();
                schedule.times(first, 1000, &mut times);
                for (index, time) in times.iter().enumerate() {
                    assert_eq!(*time, schedule.time_of(first + index as u64), "rate {rate}");
                }
            }
        }
    }

    #[test]
    fn delayed_times_stay_within_the_lag() {
        let schedule = schedule(None, 1000, 5_000);
        let mut times = Vec::new();
        schedule.times(0, 10_000, &mut times);
        let delays: Vec<i64> =
            times.iter().enumerate().map(|(n, time)| schedule.time_of(n as u64) - time).collect();
        assert!(delays.iter().all(|delay| (0..=5_000).contains(delay)));
        assert!(delays.iter().any(|delay| *delay > 4_900));
    }

    #[test]
    fn events_are_due_at_their_rate() {
        let schedule = schedule(Some(10), 10, 0);
        assert_eq!(schedule.due(0), 0);
        assert_eq!(schedule.due(1_000_000), 1);
        assert_eq!(schedule.due(1_099_000), 1);
        assert_eq!(schedule.due(1_100_000), 2);
        assert_eq!(schedule.due(11_000_000), 101);
        for rate in [3, 10, 999, 1_000, 123_457] {
            let schedule = self::schedule(Some(rate), 10, 0);
            for n in [0, 1, 2, 3, 1000, 99_999] {
                let due_at = schedule.due_at(n).unwrap();
                assert!(schedule.due(due_at) > n && schedule.due(due_at - 1) <= n, "{rate} {n}");
            }
        }
    }
}
