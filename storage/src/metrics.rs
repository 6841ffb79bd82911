//! Counters and gauges by name and labels, in Prometheus' naming; what `sys.metrics` shows.
//! Registration takes a lock, counting does not: keep the handle.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use parking_lot::Mutex;

/// A registered counter or gauge; cheap to clone, lock-free to change.
#[derive(Debug, Clone, Default)]
pub struct Metric(Arc<AtomicI64>);

impl Metric {
    /// Adds `n` (may be negative for a gauge).
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

type Labels = Vec<(String, String)>;

/// All metrics of one member.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Guards registration only.
    entries: Mutex<BTreeMap<(String, Labels), Metric>>,
}

impl Metrics {
    /// The metric of that name and labels, registered at zero if it is new.
    pub fn register(&self, name: &str, labels: &[(&str, &str)]) -> Metric {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.entries.lock().entry((name.to_owned(), labels)).or_default().clone()
    }

    /// Forgets every metric that carries the label `key = value` (a dropped job's, say).
    pub fn forget(&self, key: &str, value: &str) {
        self.entries
            .lock()
            .retain(|(_, labels), _| !labels.iter().any(|(k, v)| k == key && v == value));
    }

    /// `(name, labels as {k="v",…} or empty, value)` of all, sorted by name and labels.
    pub fn list(&self) -> Vec<(String, String, i64)> {
        let entries = self.entries.lock();
        entries
            .iter()
            .map(|((name, labels), metric)| {
                let text: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
                let text =
                    if text.is_empty() { String::new() } else { format!("{{{}}}", text.join(",")) };
                (name.clone(), text, metric.get())
            })
            .collect()
    }
}
