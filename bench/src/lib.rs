//! Workloads, peers beside us, reports.
