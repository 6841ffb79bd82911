//! `Progress`: how far one topic partition is read, and what time it has come to.
//!
//! The watermark of an instance is the least of its topic partitions' newest times − lag. One that
//! is silent is left out after a while, but only while silence means that there is nothing to
//! read: *connected*, *at its end*, and *not held back by us*. An outage therefore closes no
//! window, and neither does a slow sink.
//!
//! The last condition is not "our queue is empty", which a busy neighbour would never let it be.
//! Messages leave the queue in the order they came, so what waits in it now has been seen once as
//! many messages more are drained as wait now:
//! ```text
//!   at its end, last row read        timeout over: n messages wait      n more drained
//!   ────────────┼──────────── silent ────────────┼── none of them its ────┼── idle
//! ```

use super::link::TopicPartition;
use crate::time::{EventTime, EventTimePolicy};

/// One topic partition that an instance reads.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Its number.
    pub id: i32,
    /// Offset of the next record.
    pub next: i64,
    /// Reading ends before this offset.
    pub end: Option<i64>,
    /// Whether everything that was produced has been read, as far as the broker has told.
    pub is_at_end: bool,
    /// Newest event time of its rows, µs.
    newest: Option<EventTime>,
    /// Since when it is silent in the sense above, by the steady clock, µs.
    silent_since: Option<i64>,
    /// When so many messages are drained in all, those that waited at the timeout are seen.
    seen_at: Option<u64>,
}

/// How an instance stands to its broker at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Steady clock, µs.
    pub now: i64,
    /// Whether the broker answers.
    pub is_connected: bool,
    /// Messages and events drained so far.
    pub drained: u64,
    /// Those that wait in the queue.
    pub queued: u64,
}

impl Progress {
    /// At an offset of a topic partition.
    pub fn new(id: i32, next: i64, end: Option<i64>, high: i64) -> Self {
        let is_at_end = next >= high;
        Self { id, next, end, is_at_end, newest: None, silent_since: None, seen_at: None }
    }

    /// Whether it has been read to where reading ends.
    pub fn is_finished(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// After an outage its end is where the broker now says.
    pub fn reconnected(&mut self, found: &TopicPartition) {
        self.is_at_end = self.next >= found.high_now;
        self.speak();
    }

    /// Rows up to `time` were read.
    pub fn advance(&mut self, time: EventTime) {
        self.newest = Some(self.newest.map_or(time, |newest| newest.max(time)));
        self.speak();
    }

    /// Ends its silence.
    pub fn speak(&mut self) {
        self.silent_since = None;
        self.seen_at = None;
    }

    /// Whether it is silent for `timeout`, in the sense above.
    fn is_idle(&mut self, moment: Moment, timeout: i64) -> bool {
        if !moment.is_connected || !self.is_at_end {
            self.speak();
            return false;
        }
        let since = *self.silent_since.get_or_insert(moment.now);
        if moment.now.saturating_sub(since) < timeout {
            return false;
        }
        moment.drained >= *self.seen_at.get_or_insert(moment.drained + moment.queued)
    }

    fn time(&mut self, policy: &EventTimePolicy, moment: Moment) -> Time {
        if self.is_idle(moment, policy.idle_timeout) {
            return Time::Idle;
        }
        let reached = |newest: EventTime| Time::Reached(newest.saturating_sub(policy.lag));
        self.newest.map_or(Time::Unknown, reached)
    }
}

/// What topic partitions say of time: one, those of an instance, or those of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// Nothing yet: one of them has had no row and is not idle.
    Unknown,
    /// No row before this follows.
    Reached(EventTime),
    /// All of them are silent, or there are none.
    Idle,
}

impl Time {
    /// The time of both together.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Idle, time) | (time, Self::Idle) => time,
            (Self::Reached(one), Self::Reached(other)) => Self::Reached(one.min(other)),
        }
    }
}

/// The time of an instance at a moment, which also notes who is silent.
pub fn time(partitions: &mut [Progress], policy: &EventTimePolicy, moment: Moment) -> Time {
    let unfinished = partitions.iter_mut().filter(|partition| !partition.is_finished());
    unfinished.map(|partition| partition.time(policy, moment)).fold(Time::Idle, Time::and)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: EventTimePolicy =
        EventTimePolicy { time_column: 0, lag: 10, idle_timeout: 1000, max_future: None };

    fn at(now: i64) -> Moment {
        Moment { now, is_connected: true, drained: 0, queued: 0 }
    }

    #[test]
    fn the_slowest_topic_partition_decides_and_one_without_rows_holds_all() {
        let mut partitions = [Progress::new(0, 0, None, 5), Progress::new(1, 0, None, 5)];
        partitions[0].advance(100);
        assert_eq!(time(&mut partitions, &POLICY, at(0)), Time::Unknown);
        partitions[1].advance(70);
        partitions[1].advance(50);
        assert_eq!(time(&mut partitions, &POLICY, at(0)), Time::Reached(60));
    }

    #[test]
    fn only_silence_at_the_end_of_a_connected_one_makes_idle() {
        let mut partitions = [Progress::new(0, 0, None, 5), Progress::new(1, 5, None, 5)];
        partitions[0].advance(100);
        assert_eq!(time(&mut partitions, &POLICY, at(0)), Time::Unknown);
        assert_eq!(time(&mut partitions, &POLICY, at(999)), Time::Unknown);
        assert_eq!(time(&mut partitions, &POLICY, at(1000)), Time::Reached(90));
        // After an outage silence begins anew.
        let away = Moment { is_connected: false, ..at(1001) };
        assert_eq!(time(&mut partitions, &POLICY, away), Time::Unknown);
        assert_eq!(time(&mut partitions, &POLICY, at(5000)), Time::Unknown);
        assert_eq!(time(&mut partitions, &POLICY, at(6000)), Time::Reached(90));
        partitions[0].is_at_end = true;
        assert_eq!(time(&mut partitions, &POLICY, at(6001)), Time::Reached(90));
        assert_eq!(time(&mut partitions, &POLICY, at(7001)), Time::Idle);
        partitions[0].advance(200);
        assert_eq!(time(&mut partitions, &POLICY, at(7002)), Time::Reached(190));
    }

    #[test]
    fn what_waits_in_the_queue_is_seen_before_anybody_is_idle() {
        let mut partitions = [Progress::new(0, 5, None, 5)];
        let queued = |now, drained, queued| Moment { drained, queued, ..at(now) };
        assert_eq!(time(&mut partitions, &POLICY, queued(0, 100, 50)), Time::Unknown);
        assert_eq!(time(&mut partitions, &POLICY, queued(1000, 1000, 50)), Time::Unknown);
        assert_eq!(time(&mut partitions, &POLICY, queued(9000, 1000, 90)), Time::Unknown);
        assert_eq!(time(&mut partitions, &POLICY, queued(9001, 1049, 80)), Time::Unknown);
        assert_eq!(time(&mut partitions, &POLICY, queued(9002, 1050, 80)), Time::Idle);
    }

    #[test]
    fn what_is_read_to_its_end_offset_holds_nobody() {
        let mut partitions = [Progress::new(0, 0, Some(5), 9), Progress::new(1, 5, Some(5), 9)];
        partitions[0].advance(100);
        assert_eq!(time(&mut partitions, &POLICY, at(0)), Time::Reached(90));
        partitions[0].next = 5;
        assert_eq!(time(&mut partitions, &POLICY, at(0)), Time::Idle);
    }

    #[test]
    fn after_an_outage_the_end_is_the_brokers() {
        let mut partition = Progress::new(0, 5, None, 5);
        let mut found = TopicPartition { id: 0, low: 0, high: 5, high_now: 6, is_late: false };
        partition.reconnected(&found);
        assert!(!partition.is_at_end);
        found.high_now = 5;
        partition.reconnected(&found);
        assert!(partition.is_at_end);
    }
}
