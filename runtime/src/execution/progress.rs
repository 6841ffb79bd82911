//! `Progress`: what a tasklet's call came to, so that its worker knows whether to call it again.

/// What a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Something moved; call again soon.
    Made,
    /// Nothing could move; call when a signal says so.
    None,
    /// It has ended; never call again.
    Ended,
}
