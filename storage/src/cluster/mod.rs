//! What all members agree on. With one member the control log has one voter; the seam is the one
//! through which several will agree.

pub mod control;
