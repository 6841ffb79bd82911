//! What all members agree on. With one member the control log is local; the seam is the one a
//! replicated log will fill.

pub mod control;
