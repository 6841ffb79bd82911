//! `Alignment`: where panes and windows begin. All arithmetic rounds down, so that times before the
//! epoch fall into windows like any other; what does not fit into i64 µs is an error.

use crate::{Error, Result, time::EventTime};

/// Panes are numbered from `offset`: pane p is `[offset + p·pane, offset + (p+1)·pane)`; window i
/// is the panes `i·slide .. i·slide + size`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alignment {
    /// µs.
    pane: i64,
    /// µs.
    offset: i64,
    /// Panes a window has.
    pub(super) size: i64,
    /// Panes between the starts of two windows.
    slide: i64,
}

impl Alignment {
    pub(super) fn new(size: EventTime, slide: EventTime, offset: EventTime) -> Result<Self> {
        if size <= 0 || slide <= 0 {
            return Err(Error::Invalid {
                code: "22023",
                message: "window size and slide must be greater than zero".to_owned(),
            });
        }
        let pane = greatest_common_divisor(size, slide);
        Ok(Self { pane, offset: offset % slide, size: size / pane, slide: slide / pane })
    }

    /// Whether every window is one pane.
    pub(super) fn is_single_pane(&self) -> bool {
        self.size == 1
    }

    /// The pane of a time.
    pub(super) fn pane_of(&self, time: EventTime) -> Result<i64> {
        let since = time.checked_sub(self.offset).ok_or_else(out_of_range)?;
        Ok(since.div_euclid(self.pane))
    }

    /// First time of a pane.
    pub(super) fn pane_start(&self, pane: i64) -> Result<EventTime> {
        let since = pane.checked_mul(self.pane).ok_or_else(out_of_range)?;
        since.checked_add(self.offset).ok_or_else(out_of_range)
    }

    /// Start and end of a window.
    pub(super) fn bounds(&self, window: i64) -> Result<(EventTime, EventTime)> {
        let first = self.first_pane(window);
        let end = first.checked_add(self.size).ok_or_else(out_of_range)?;
        Ok((self.pane_start(first)?, self.pane_start(end)?))
    }

    /// First pane of a window.
    pub(super) fn first_pane(&self, window: i64) -> i64 {
        window.saturating_mul(self.slide)
    }

    /// First window that a pane belongs to; above [`Alignment::last_window`] if it is in none.
    pub(super) fn first_window(&self, pane: i64) -> i64 {
        pane.saturating_sub(self.size).div_euclid(self.slide) + 1
    }

    /// Last window that a pane belongs to.
    pub(super) fn last_window(&self, pane: i64) -> i64 {
        pane.div_euclid(self.slide)
    }

    /// The first window that ends after `watermark`: those before it are closed.
    pub(super) fn first_open_window(&self, watermark: EventTime) -> i64 {
        let since = watermark.saturating_sub(self.offset);
        since.div_euclid(self.pane).saturating_sub(self.size).div_euclid(self.slide) + 1
    }
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

fn out_of_range() -> Error {
    Error::User { code: "22008", message: "timestamp out of range".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_every_time_are_those_that_contain_it() {
        for (size, slide, offset) in [(10, 10, 0), (10, 4, 0), (10, 3, 1), (4, 10, 7), (6, 6, -5)] {
            let alignment = Alignment::new(size, slide, offset).unwrap();
            for time in -50..50 {
                let pane = alignment.pane_of(time).unwrap();
                let found = alignment.first_window(pane)..=alignment.last_window(pane);
                for window in -60..60 {
                    let (start, end) = alignment.bounds(window).unwrap();
                    assert_eq!(end - start, size);
                    assert_eq!((start - offset).rem_euclid(slide), 0);
                    let contains = start <= time && time < end;
                    assert_eq!(found.contains(&window), contains, "{time} in {start}..{end}");
                    let is_open = window >= alignment.first_open_window(time);
                    assert_eq!(is_open, end > time, "{start}..{end} at watermark {time}");
                }
            }
        }
    }

    #[test]
    fn the_last_times_are_refused_and_not_wrapped() {
        let alignment = Alignment::new(10, 3, -2).unwrap();
        assert!(alignment.pane_of(i64::MAX).is_err());
        let pane = Alignment::new(10, 3, 0).unwrap().pane_of(i64::MAX).unwrap();
        assert!(alignment.bounds(alignment.last_window(pane)).is_err());
    }
}
