//! `sliding_window`: TUMBLE and HOP aggregation by key, final when the watermark passes.
//! Each row is taken in once, into one *pane*; windows are made of panes when they are due.
//!
//! ```text
//!   pane = gcd(size, slide)        size 10, slide 4 → pane 2
//!
//!   panes      │ 0 │ 1 │ 2 │ 3 │ 4 │ 5 │ 6 │ 7 │ 8 │
//!   window 0   ├───────────────────┤
//!   window 1           ├───────────────────┤
//!   window 2                   ├───────────────────┤
//!
//!   row ──▶ key id ──▶ pane's slot ──▶ columns[slot] += …         (process)
//!   total of window i+1 = total of window i − panes that left + panes that came   (watermark)
//! ```
//! What cannot be subtracted exactly (floats, min, max) is kept on two stacks instead; `total` says
//! which state goes which way, `two_stacks` how that works. A tumbling window is one pane and needs
//! no total. Keys whose panes are all gone are forgotten when they are half of all keys.
//!
//! A window that is closed goes through four steps, each in pieces so that no call takes long:
//! results are made, rows go out, the watermark passes, panes that no later window needs are taken
//! away (which delays nobody any more).
//!
//! Rules: windows come out in order of their end, each whole before the watermark that closed it
//! goes on; a window in which a key has no live row (weights add up to zero) has no row for it; a
//! row whose every window is closed is late, counted (`tidewater_late_rows_total`) and dropped; a
//! row without a time is counted (`tidewater_skipped_rows_total`) and dropped. When all input is
//! idle, every window that holds rows is closed.

mod alignment;
mod budget;
mod emission;
mod frozen;
mod groups;
mod keys;
mod pane;
mod panes;
mod snapshot;
mod spec;
mod split;
#[cfg(test)]
mod tests;
mod total;
mod two_stacks;
mod window;

pub use spec::{SlidingWindowSpec, sliding_window};
