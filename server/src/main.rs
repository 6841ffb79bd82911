//! The `tidewater` binary: start, wait for a signal, stop.

fn main() {}
