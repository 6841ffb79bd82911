//! `SourceTime`: the time of all instances of a source together. Each instance sends the least of
//! all their times, never its own alone, so all of them advance together and none is idle alone.
//!
//! What this is for is the end of a silence. Somebody starts a job, and later a producer that
//! fills all topic partitions at once. When the first rows of one are read, the others still count
//! as silent, and their rows would be late:
//! ```text
//!   partition 0 ─ silent ──────┤ 00:00 … 00:59 read       time = 00:59 without partition 1
//!   partition 1 ─ silent ─────────────┤ 00:00 … late
//! ```
//! So a silence of all ends for all: whoever was silent takes part again, and is left out again
//! only after the whole timeout. Until every instance has heard of it, and what they said
//! downstream has arrived, time stands still.

use parking_lot::Mutex;

use super::progress::Time;

/// Time stands still for so long after a silence, µs: the instances' word that they take part
/// again, sent within a tick, has reached the end of every chain of vertices by then, none of
/// which had anything to do before.
const STANDSTILL: i64 = 50_000;

/// Where one instance stands.
#[derive(Debug, Clone, Copy)]
struct Instance {
    time: Time,
    /// Ends of silence it has heard of.
    heard: u64,
}

#[derive(Debug)]
struct State {
    instances: Vec<Instance>,
    is_silent: bool,
    /// Silences of all that have ended.
    wakes: u64,
    /// When the last one ended, by the steady clock, µs.
    woken_at: Option<i64>,
}

/// What the instances of one execution tell each other about time.
#[derive(Debug)]
pub struct SourceTime {
    state: Mutex<State>,
}

impl SourceTime {
    /// Of so many instances, none of which has said anything.
    pub fn new(instance_count: usize) -> Self {
        let instances = vec![Instance { time: Time::Unknown, heard: 0 }; instance_count];
        let state = State { instances, is_silent: false, wakes: 0, woken_at: None };
        Self { state: Mutex::new(state) }
    }

    /// Silences that have ended. An instance that sees this grow lets its topic partitions take
    /// part again before it tells its next time.
    pub fn wakes(&self) -> u64 {
        self.state.lock().wakes
    }

    /// An instance stands at `time` and has heard of so many ends of silence; answers the time of
    /// all. Its rows up to that time are on their way.
    pub fn tell(&self, index: usize, time: Time, heard: u64, now: i64) -> Time {
        let mut state = self.state.lock();
        state.instances[index] = Instance { time, heard };
        if state.is_silent && time != Time::Idle {
            state.is_silent = false;
            state.wakes += 1;
            state.woken_at = Some(now);
        }
        let wakes = state.wakes;
        let all = state.instances.iter().map(|instance| match instance.heard < wakes {
            true => Time::Unknown,
            false => instance.time,
        });
        let together = all.reduce(Time::and).unwrap_or(Time::Idle);
        if together == Time::Idle {
            state.is_silent = true;
        }
        match state.woken_at {
            Some(at) if now.saturating_sub(at) < STANDSTILL => Time::Unknown,
            _ => together,
        }
    }

    /// An instance has read everything: nobody waits for it.
    pub fn leave(&self, index: usize) {
        self.state.lock().instances[index] = Instance { time: Time::Idle, heard: u64::MAX };
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Time::{Idle, Reached, Unknown},
        *,
    };

    #[test]
    fn all_instances_stand_at_the_time_of_the_slowest_that_is_not_idle() {
        let time = SourceTime::new(3);
        assert_eq!(time.tell(0, Reached(9), 0, 0), Unknown, "two have said nothing");
        assert_eq!(time.tell(1, Idle, 0, 0), Unknown);
        assert_eq!(time.tell(2, Reached(5), 0, 0), Reached(5));
        assert_eq!(time.tell(1, Idle, 0, 0), Reached(5), "one without rows says it too");
        assert_eq!(time.tell(2, Idle, 0, 0), Reached(9));
        assert_eq!(time.tell(0, Idle, 0, 0), Idle);
    }

    #[test]
    fn the_end_of_a_silence_is_everybodys() {
        let time = SourceTime::new(2);
        time.tell(0, Idle, 0, 0);
        assert_eq!(time.tell(1, Idle, 0, 0), Idle);
        assert_eq!(time.tell(0, Reached(7), 0, 10), Unknown, "nobody has heard of it");
        assert_eq!(time.wakes(), 1);
        let later = 10 + STANDSTILL;
        assert_eq!(time.tell(0, Reached(7), 1, later), Unknown, "the other has not heard of it");
        assert_eq!(time.tell(1, Reached(3), 1, later - 1), Unknown, "it may not have arrived");
        assert_eq!(time.tell(1, Reached(3), 1, later), Reached(3));
        assert_eq!(time.tell(1, Idle, 1, later), Reached(7), "only a silence of all counts");
        assert_eq!(time.wakes(), 1);
    }

    #[test]
    fn nobody_waits_for_one_that_has_ended() {
        let time = SourceTime::new(2);
        time.leave(0);
        assert_eq!(time.tell(1, Idle, 0, 0), Idle);
        time.tell(1, Reached(4), 0, 1);
        assert_eq!(time.tell(1, Reached(4), 1, 1 + STANDSTILL), Reached(4));
    }
}
