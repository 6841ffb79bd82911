//! `Timeouts`: ends jobs whose time is up (`timeoutMillis`), counted from their creation whatever
//! their status. One thread for all of them, started with the first; it only tells, the coordinators
//! decide.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use storage::{cluster::control::ObjectId, env::Clock};

use super::{events::Event, shell::Job};
use crate::{Error, Result};

/// The clock is looked at again after this long, in case it was set.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The deadlines of all jobs. Dropping it ends its thread.
pub(super) struct Timeouts {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Notified when a deadline was set, or the thread is to end.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By job: µs since the epoch.
    deadlines: BTreeMap<ObjectId, (i64, Weak<Job>)>,
    has_thread: bool,
    is_closed: bool,
}

impl Timeouts {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self { shared: Arc::new(Shared { clock, state, changed }) }
    }

    /// Sets the deadline of a job as its options say, or takes it away.
    pub(super) fn set(&self, job: &Arc<Job>) -> Result<()> {
        let deadline = job.deadline();
        let mut state = self.shared.state.lock();
        match deadline {
            None => drop(state.deadlines.remove(&job.id)),
            Some(deadline) => drop(state.deadlines.insert(job.id, (deadline, Arc::downgrade(job)))),
        }
        if deadline.is_some() && !state.has_thread {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("tw-timeouts".to_owned());
            let spawned = thread.spawn(move || shared.run());
            let failed = |error| Error::Limit(format!("could not start a thread: {error}"));
            spawned.map_err(failed)?;
            state.has_thread = true;
        }
        self.shared.changed.notify_all();
        Ok(())
    }

    /// The job is gone.
    pub(super) fn forget(&self, job: ObjectId) {
        self.shared.state.lock().deadlines.remove(&job);
    }
}

impl Drop for Timeouts {
    fn drop(&mut self) {
        self.shared.state.lock().is_closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        while let Some(due) = self.wait_for_due() {
            due.into_iter().for_each(|job| job.time_out());
        }
    }

    /// The jobs whose time is up, once there are any; `None` when the thread is to end.
    fn wait_for_due(&self) -> Option<Vec<Arc<Job>>> {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return None;
            }
            let now = self.clock.now_micros();
            let is_due = |_: &ObjectId, (deadline, _): &mut (i64, Weak<Job>)| *deadline <= now;
            let due: Vec<_> = state.deadlines.extract_if(.., is_due).collect();
            if !due.is_empty() {
                return Some(due.iter().filter_map(|(_, (_, job))| job.upgrade()).collect());
            }
            let next = state.deadlines.values().map(|(deadline, _)| deadline - now).min();
            let wait = next.map_or(WAIT_MAX, |wait| Duration::from_micros(wait as u64));
            self.changed.wait_for(&mut state, wait.min(WAIT_MAX));
        }
    }
}

impl Job {
    /// When its time is up, µs since the epoch.
    fn deadline(&self) -> Option<i64> {
        let timeout = self.state.lock().options.timeout?;
        let created_at = self.record().ok()?.created_at;
        Some(created_at.saturating_add(timeout.as_micros() as i64))
    }

    /// Ends it, unless its time was prolonged meanwhile.
    fn time_out(self: &Arc<Self>) {
        if self.deadline().is_none_or(|deadline| deadline > self.site.now()) {
            return;
        }
        let timeout = self.state.lock().options.timeout.unwrap_or_default();
        let (name, millis) = (&self.name, timeout.as_millis());
        let message =
            format!("job \"{name}\" was canceled because its timeoutMillis, {millis}, are over");
        self.handle(Event::TimedOut(Error::User { code: "57014", message }));
    }
}
