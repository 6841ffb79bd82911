//! Coalesces the watermarks of many inputs into one that never goes back.
//!
//! ```text
//!   input 0 ──── 10 ────── 30 ───────────        out = min of the inputs that take part:
//!   input 1 ─ 5 ──── 20 ───────── idle ──          5, 10, 20, then (1 is idle) 30
//!   input 2 ──────── done ──────────────         done inputs never hold time back,
//! ```
//! An input takes part from the start, so nothing comes out before every input has spoken. An idle
//! input is left out until its next watermark. All idle: `IDLE` comes out, once; the first
//! watermark after that comes out even if it repeats the last, so that downstream counts us again.

use crate::{
    item::{IDLE, Watermark, WatermarkKey},
    time::EventTime,
};

/// Where time stands at one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputTime {
    /// Nothing heard yet: holds everything back.
    Unknown,
    /// Its last watermark.
    At(EventTime),
    /// Left out until it speaks again.
    Idle,
    /// Left out for good.
    Done,
}

/// One time column's coalescer.
#[derive(Debug)]
struct Coalescer {
    inputs: Vec<InputTime>,
    /// The last time that came out.
    last: Option<EventTime>,
    /// Whether `IDLE` came out after it.
    is_idle: bool,
}

/// The coalescers of all time columns over the same inputs.
#[derive(Debug)]
pub struct Watermarks {
    input_count: usize,
    done: Vec<usize>,
    coalescers: Vec<(WatermarkKey, Coalescer)>,
}

impl Watermarks {
    /// Over so many inputs.
    pub fn new(input_count: usize) -> Self {
        Self { input_count, done: Vec::new(), coalescers: Vec::new() }
    }

    /// Input `input` sent a watermark; what comes out, if anything.
    pub fn observe(&mut self, input: usize, watermark: Watermark) -> Option<Watermark> {
        let Watermark { key, time } = watermark;
        let coalescer = self.coalescer(key);
        coalescer.inputs[input] = if time == IDLE { InputTime::Idle } else { InputTime::At(time) };
        coalescer.advance().map(|time| Watermark { key, time })
    }

    /// Input `input` has ended; what comes out for each time column.
    pub fn end(&mut self, input: usize) -> Vec<Watermark> {
        self.done.push(input);
        let advance = |(key, coalescer): &mut (WatermarkKey, Coalescer)| {
            coalescer.inputs[input] = InputTime::Done;
            coalescer.advance().map(|time| Watermark { key: *key, time })
        };
        self.coalescers.iter_mut().filter_map(advance).collect()
    }

    fn coalescer(&mut self, key: WatermarkKey) -> &mut Coalescer {
        let position = self.coalescers.iter().position(|(known, _)| *known == key);
        let position = position.unwrap_or_else(|| {
            let mut inputs = vec![InputTime::Unknown; self.input_count];
            self.done.iter().for_each(|input| inputs[*input] = InputTime::Done);
            self.coalescers.push((key, Coalescer { inputs, last: None, is_idle: false }));
            self.coalescers.len() - 1
        });
        &mut self.coalescers[position].1
    }
}

impl Coalescer {
    fn advance(&mut self) -> Option<EventTime> {
        let mut least = None;
        let mut has_live = false;
        for input in &self.inputs {
            match input {
                InputTime::Unknown => return None,
                InputTime::At(time) => least = Some(least.map_or(*time, |l: i64| l.min(*time))),
                InputTime::Idle | InputTime::Done => {}
            }
            has_live |= *input != InputTime::Done;
        }
        if !has_live {
            return None;
        }
        let Some(least) = least else {
            let is_news = !self.is_idle;
            self.is_idle = true;
            return is_news.then_some(IDLE);
        };
        let is_news = self.last.is_none_or(|last| least > last) || self.is_idle;
        if !is_news {
            return None;
        }
        self.is_idle = false;
        let time = self.last.map_or(least, |last| last.max(least));
        self.last = Some(time);
        Some(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: EventTime) -> Watermark {
        Watermark { key: 0, time }
    }

    #[test]
    fn the_slowest_input_holds_time_back() {
        let mut watermarks = Watermarks::new(2);
        assert_eq!(watermarks.observe(0, at(10)), None, "input 1 has not spoken");
        assert_eq!(watermarks.observe(1, at(5)), Some(at(5)));
        assert_eq!(watermarks.observe(1, at(20)), Some(at(10)));
        assert_eq!(watermarks.observe(1, at(30)), None);
        assert_eq!(watermarks.end(0), vec![at(30)], "an ended input holds nothing back");
        assert_eq!(watermarks.end(1), vec![], "the end of all is not a watermark");
    }

    #[test]
    fn an_idle_input_is_left_out_until_it_speaks_and_time_never_goes_back() {
        let mut watermarks = Watermarks::new(2);
        assert_eq!(watermarks.observe(0, at(IDLE)), None, "input 1 has not spoken");
        assert_eq!(watermarks.observe(1, at(7)), Some(at(7)));
        assert_eq!(watermarks.observe(0, at(3)), None, "back, but behind what came out");
        assert_eq!(watermarks.observe(1, at(9)), None, "input 0 holds time back again");
        assert_eq!(watermarks.observe(0, at(8)), Some(at(8)));
    }

    #[test]
    fn all_idle_is_passed_on_once_and_the_return_is_announced() {
        let mut watermarks = Watermarks::new(2);
        watermarks.observe(0, at(4));
        assert_eq!(watermarks.observe(1, at(4)), Some(at(4)));
        assert_eq!(watermarks.observe(0, at(IDLE)), None);
        assert_eq!(watermarks.observe(1, at(IDLE)), Some(at(IDLE)));
        assert_eq!(watermarks.observe(1, at(IDLE)), None);
        assert_eq!(watermarks.observe(1, at(4)), Some(at(4)), "downstream must count us again");
        assert_eq!(watermarks.observe(1, at(4)), None);
    }

    #[test]
    fn time_columns_do_not_mix_and_know_who_has_ended() {
        let mut watermarks = Watermarks::new(2);
        assert_eq!(watermarks.end(1), vec![]);
        assert_eq!(watermarks.observe(0, Watermark { key: 1, time: 2 }).map(|w| w.time), Some(2));
        assert_eq!(watermarks.observe(0, at(1)), Some(at(1)));
    }
}
