//! `Tasklet`: what a worker calls in a loop. It never blocks and never waits.

use super::progress::Progress;

/// A unit of cooperative work. Called by one worker thread at a time, at least every
/// [`crate::processor::TICK`] while it lives and whenever its signal was raised; a call returns
/// within about a millisecond. After [`Progress::Ended`] it is dropped.
pub trait Tasklet: Send {
    /// Does a slice of work.
    fn call(&mut self) -> Progress;
}
